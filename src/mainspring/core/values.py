"""What flows from stage to stage. Frozen; tables are polars frames, arrays numpy (core itself imports neither)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from mainspring.core.declarations import Roles
from mainspring.core.schema import Schema

Task = Literal["binary", "multiclass", "regression"]
Decision = Literal["promote", "hold", "inconclusive"]


@dataclass(frozen=True, slots=True)
class Dataset:
    """One version of a loop's table: a Delta version, its contract and what came in with it."""

    loop: str
    version: int
    rows: int
    digest: str
    schema: Schema
    new_rows: int = 0
    labelled_rows: int = 0
    quarantined_rows: int = 0
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """Labelled rows, ready to be divided: raw input columns, target and roles.

    data: polars frame, rows x columns. inputs: the contract of the raw columns that a request must carry.
    classes: the target's classes in order (empty for regression); for binary the last is the positive one.
    quality: what all rows of the version are like, as plain JSON (`data.quality`).
    """

    data: Any
    roles: Roles
    task: Task
    classes: tuple[Any, ...]
    inputs: Schema
    dataset_version: int
    notes: tuple[str, ...] = ()
    quality: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Onset:
    """From where on, in the rows' own time, the champion's predictions are worse. since: as the time column holds it
    (polars' physical number); at: in words; rows: labelled predictions from then on."""

    since: int | float
    at: str
    rows: int


@dataclass(frozen=True, slots=True, eq=False)
class Split:
    """The training rows and the holdout that no fit has seen. holdout_id names the holdout, for its budget of uses.

    onset: where both sides are rows since the champion's predictions became worse only.
    """

    train: Frame
    holdout: Frame
    rule: str
    holdout_id: str
    onset: Onset | None = None


@dataclass(frozen=True, slots=True)
class Trial:
    """One set of parameters tried.

    score: mean over the folds it ran; greater is better whatever the metric, nan where it wasn't scored.
    """

    number: int
    estimator: str
    parameters: Mapping[str, Any]
    score: float
    fold_scores: tuple[float, ...]
    seconds: float
    stopped_early: bool = False
    error: str | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Candidate:
    """The refitted best model. model: a fitted scikit-learn estimator or pipeline over the encoded matrix;
    encoding: `store.encoding.Encoding`, how feature columns become that matrix. profile: the training rows' histograms
    (`store.profile.Profile`), against which drift and training support are judged. sample: some raw input rows.
    score (None: not cross-validated) and baseline are in the metric's own unit. For classes the model predicts indices
    in *classes*; its `classes_` lacks those that have no training row."""

    model: Any
    encoding: Any
    estimator: str
    parameters: Mapping[str, Any]
    task: Task
    classes: tuple[Any, ...]
    inputs: Schema
    roles: Roles
    metric: str
    score: float | None
    baseline: float
    trials: tuple[Trial, ...]
    profile: Any
    sample: Any
    train_rows: int
    dataset_version: int
    holdout_id: str
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Bundle:
    """A packaged candidate: one signed folder, named by its digest."""

    digest: str
    loop: str
    estimator: str
    runtime: Literal["onnx", "scikit-learn"]
    task: Task
    classes: tuple[Any, ...]
    metric: str
    size_bytes: int
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Slice:
    """The metric on the holdout rows where *column* is *value*; shown only (not judged) when rows are few."""

    column: str
    value: str
    rows: int
    score: float
    low: float
    high: float
    champion_score: float | None = None
    p_worse: float | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Evaluation:
    """What the bundle, run by the runtime that will serve it, does on the holdout.

    metrics: name -> (value, low, high). candidate and champion: `statistics.metrics.Predictions` on the same holdout
    rows (champion None: there is none yet); target: their labels, weight and clusters: arrays or None.
    baseline: the metric of a dummy model on the holdout. latency_ms: {"p50", "p95", "p99"} of one-row predictions.
    facts: what the card says beside the figures, as plain JSON (training rows, columns, parameters ...).
    """

    bundle: Bundle
    champion_digest: str | None
    metric: str
    metrics: Mapping[str, tuple[float, float, float]]
    champion_metrics: Mapping[str, tuple[float, float, float]]
    baseline: float
    slices: tuple[Slice, ...]
    calibration: Any
    importance: tuple[tuple[str, float], ...]
    latency_ms: Mapping[str, float]
    rows: int
    holdout_id: str
    target: Any
    weight: Any
    clusters: Any
    candidate: Any
    champion: Any
    card: str = ""
    notes: tuple[str, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Check:
    """One line of a verdict: what was asked, whether it holds, and the figures."""

    name: str
    passed: bool | None
    reason: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """The gate's decision with its reasons. next: what the release stage should do with the bundle;
    "ask": a person decides."""

    decision: Decision
    next: Literal["release", "canary", "hold", "ask"]
    reasons: tuple[str, ...]
    checks: tuple[Check, ...]
    bundle: Bundle
    champion_digest: str | None
    metrics: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Release:
    """Where a bundle stands now: its version number and the share of traffic it gets."""

    loop: str
    version: int
    bundle: Bundle
    state: Literal["champion", "canary", "shadow", "waiting", "held"]
    share: float
    reasons: tuple[str, ...]
