"""The stages that need to know who is champion: they look it up in the home and hand it to the room that works."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mainspring.core.declarations import Gate
from mainspring.core.protocols import Clock, Model, Progress
from mainspring.core.values import Bundle, Candidate, Evaluation, Release, Split, Verdict
from mainspring.evaluation import evaluate as evaluation
from mainspring.evaluation import gate as gating
from mainspring.packaging import package as packaging
from mainspring.pipeline.reach import reach
from mainspring.serving import runtime
from mainspring.store.bundles import Bundles
from mainspring.store.deployments import Deployments
from mainspring.store.home import Home


def rival(home: Home, loop: str, digest: str) -> str | None:
    """The digest of the bundle that *digest* is, or was, judged against: the champion when it first came, if any."""
    deployments = Deployments(home)
    known = deployments.version_of(loop, digest)
    if known is not None:
        return known.champion_digest
    route = deployments.route(loop)
    if route is None or route.champion is None:
        return None
    return deployments.version(loop, route.champion).digest


def package(
    train: Candidate, *, features: tuple[Any, ...], models: Any, unit: str | None, loop: str, home: Home
) -> Bundle:
    """Pack the candidate with the user's code that its features and estimators reach."""
    lineage = {"dataset_version": train.dataset_version, "holdout": train.holdout_id, "train_rows": train.train_rows}
    code = reach([item if callable(item) and not isinstance(item, type) and hasattr(item, "__qualname__") else type(item)
                  for item in (*features, train.model)])  # fmt: skip
    return packaging.package(train, features=features, unit=unit, loop=loop, home=home, code=code, lineage=lineage)


def loader(home: Home) -> Callable[[str], Model]:
    """Loads a bundle by its digest with the runtime that serves it."""
    bundles = Bundles(home)
    return lambda digest: runtime.load(bundles.path(digest))


def evaluate(
    package: Bundle, split: Split, *, rule: Gate, seed: int, home: Home, progress: Progress | None = None
) -> Evaluation:
    """Judge the bundle and its rival on the same holdout."""
    return evaluation.evaluate(
        package,
        split,
        gate=rule,
        champion_digest=rival(home, package.loop, package.digest),
        load=loader(home),
        seed=seed,
        progress=progress,
    )


def gate(evaluate: Evaluation, *, rule: Gate, home: Home) -> Verdict:
    """The verdict; this use of the holdout is counted, once per bundle."""
    bundle = evaluate.bundle
    uses = Deployments(home).holdout_use(bundle.loop, evaluate.holdout_id, bundle.digest)
    return gating.gate(evaluate, rule=rule, uses=uses)


def release(
    gate: Verdict,
    train: Candidate,
    evaluate: Evaluation,
    *,
    strategy: Any,
    loop: str,
    home: Home,
    run: str,
    clock: Clock,
    mlflow: str | None = None,
) -> Release:
    """Register the version and give it its traffic; MLflow hears of it in the same transaction."""
    raise NotImplementedError
