"""The model card: what a bundle predicts, from what, how well, where it is weak. Its contents, and them as Markdown."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mainspring.core.values import Evaluation, Slice
from mainspring.core.wording import count, listed, number, percent
from mainspring.evaluation.slices import JUDGED_ROWS
from mainspring.statistics.metrics import metric

CLASSES_SHOWN = 12
COLUMNS_SHOWN = 20
FEW_ROWS = 1_000


@dataclass(frozen=True, slots=True)
class Heading:
    """The heading of a section."""

    words: str


@dataclass(frozen=True, slots=True)
class Text:
    """A paragraph."""

    sentence: str


@dataclass(frozen=True, slots=True)
class Bullets:
    """A list of short sentences."""

    sentences: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Facts:
    """Key figures: label, value, note."""

    figures: tuple[tuple[str, str, str], ...]


@dataclass(frozen=True, slots=True)
class Table:
    """Headers and rows; a cell is text or a number."""

    headers: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]
    caption: str = ""


@dataclass(frozen=True, slots=True)
class Plots:
    """Plots by their names in `plots`; a reader of Markdown has the tables."""

    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Columns:
    """A line per column of the data (`Frame.quality`)."""

    quality: Mapping[str, Any]


Part = Heading | Text | Bullets | Facts | Table | Plots | Columns


def card(evaluation: Evaluation) -> str:
    """The model card as Markdown."""
    return "\n\n".join([f"# {title(evaluation)}", *filter(None, map(_markdown, contents(evaluation)))]) + "\n"


def title(evaluation: Evaluation) -> str:
    """The card's first line."""
    return f"Model card: {evaluation.bundle.loop}"


def contents(evaluation: Evaluation) -> list[Part]:
    """The card's parts in their order."""
    return [
        _figures(evaluation),
        *_purpose(evaluation),
        *_quality(evaluation),
        *_slices(evaluation),
        *_importance(evaluation),
        *_data(evaluation),
        *_limits(evaluation),
    ]


def _figures(evaluation: Evaluation) -> Facts:
    value, low, high = evaluation.metrics[evaluation.metric]
    champion = evaluation.champion_metrics.get(evaluation.metric)
    figures = [(evaluation.metric, number(value, 4), _between(low, high))]
    if champion is not None:
        figures.append(("champion", number(champion[0], 4), _between(*champion[1:])))
    figures.append(("dummy", number(evaluation.baseline, 4), "knows the target only"))
    if "train_rows" in evaluation.facts:
        figures.append(("training rows", f"{evaluation.facts['train_rows']:,}", f"{evaluation.rows:,} held out"))
    figures.append(
        (
            "one prediction",
            f"{number(evaluation.latency_ms['p50'], 2)} ms",
            f"p95 {number(evaluation.latency_ms['p95'], 2)} ms",
        )
    )
    figures.append(("size", f"{number(evaluation.bundle.size_bytes / 1e6, 2)} MB", evaluation.bundle.runtime))
    return Facts(tuple(figures))


def _between(low: float, high: float) -> str:
    return "" if math.isnan(low) or math.isnan(high) else f"{number(low, 4)} to {number(high, 4)}"


# ------------------------------------------------------------------------------------------------------- what it is


def _purpose(evaluation: Evaluation) -> list[Part]:
    bundle, facts = evaluation.bundle, evaluation.facts
    names = [column["name"] for column in facts.get("inputs", ())]
    sentences = [
        f"The model predicts {_question(evaluation)}.",
        f"A row to predict has {count(len(names), 'column')}: {listed(names, COLUMNS_SHOWN)}.",
        f"It is a {bundle.estimator}{_parameters(facts.get('parameters', {}))}, run by {bundle.runtime}.",
    ]
    if facts.get("features"):
        sentences.append("The user's features are part of the bundle, so training and serving compute them alike.")
    if "train_rows" in facts:
        sentences.append(
            f"It was trained on {count(facts['train_rows'], 'row')} of dataset version {facts['dataset_version']}"
            f"{_period(facts.get('train_period'))}, and measured on {count(evaluation.rows, 'row')} that no fit saw"
            f"{_period(facts.get('holdout_period'))}; they were kept apart by {facts['split']}."
        )
    return [Heading("What it is"), Text(" ".join(sentences)), Text(f"Bundle {bundle.digest}.")]


def _question(evaluation: Evaluation) -> str:
    target, classes = evaluation.facts.get("target", "the target"), evaluation.bundle.classes
    if evaluation.bundle.task == "regression":
        return f"the number {target}"
    if evaluation.bundle.task == "binary":
        share = float(np.mean(evaluation.candidate.codes(evaluation.target) == 1))
        return f"whether {target} is {classes[-1]} (true for {percent(share)} of the holdout)"
    return f"which of {len(classes)} classes {target} is ({listed([str(name) for name in classes])})"


def _parameters(parameters: dict[str, Any]) -> str:
    set_by_hand = [f"{name} = {value}" for name, value in parameters.items() if value is not None]
    return f" with {listed(set_by_hand, 12)}" if set_by_hand else ""


def _period(ends: Sequence[str] | None) -> str:
    return f" ({ends[0]} to {ends[1]})" if ends else ""


# ------------------------------------------------------------------------------------------------------ how good


def _quality(evaluation: Evaluation) -> list[Part]:
    parts: list[Part] = [Heading("How good it is"), Text(_in_words(evaluation)), _metrics(evaluation)]
    task = evaluation.bundle.task
    if task == "regression":
        return [*parts, Plots(("predicted", "residuals")), _residuals(evaluation)]
    plots = ["roc"] if task == "binary" and evaluation.candidate.probabilities is not None else []
    plots += ["calibration"] if evaluation.calibration is not None else []
    if evaluation.calibration is not None:
        whose = "the positive class" if task == "binary" else "the class it finds likeliest"
        parts.append(
            Text(
                f"Its probabilities of {whose} are on average {percent(evaluation.calibration.ece, 2)} away from the "
                "observed rates (expected calibration error)."
            )
        )
    parts.append(Plots(tuple(plots)))
    return [*parts, *_confusion(evaluation)]


def _in_words(evaluation: Evaluation) -> str:
    name, (value, low, high) = evaluation.metric, evaluation.metrics[evaluation.metric]
    if math.isnan(value):
        return f"{name} is undefined on this holdout."
    better = "higher" if metric(name, evaluation.bundle.task).greater_is_better else "lower"
    said = f"{name} ({better} is better) is {number(value, 4)}"
    said += f", with 95 % confidence between {number(low, 4)} and {number(high, 4)}." if _between(low, high) else "."
    said += f" A dummy that knows only the training target has {number(evaluation.baseline, 4)}."
    champion = evaluation.champion_metrics.get(name)
    if champion is not None:
        return f"{said} The champion has {number(champion[0], 4)} on the same rows."
    return said + (" There was no champion yet." if evaluation.champion_digest is None else "")


def _metrics(evaluation: Evaluation) -> Table:
    champion = evaluation.champion_metrics
    rows = [
        (name, number(value, 4), number(low, 4), number(high, 4))
        + ((number(champion[name][0], 4) if name in champion else "–",) if champion else ())
        for name, (value, low, high) in evaluation.metrics.items()
    ]
    headers = ("metric", "value", "low", "high", *(("champion",) if champion else ()))
    return Table(headers, tuple(rows), f"On {count(evaluation.rows, 'holdout row')}; low and high are 95 % bounds.")


def _confusion(evaluation: Evaluation) -> list[Part]:
    classes = evaluation.bundle.classes
    if len(classes) > CLASSES_SHOWN:
        return []
    counts = confusion(evaluation)
    rows = tuple((str(name), *map(int, line)) for name, line in zip(classes, counts, strict=True))
    headers = ("true class", *(f"said {name}" for name in classes))
    return [Table(headers, rows, "Holdout rows by true class and by what the model said."), Plots(("confusion",))]


def confusion(evaluation: Evaluation) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Holdout rows by true class (down) and predicted class (across), without classes that the model doesn't know."""
    classes, said = len(evaluation.bundle.classes), evaluation.candidate
    true, predicted = said.codes(evaluation.target), said.predicted()
    known = (true < classes) & (predicted < classes)
    pairs = true[known] * classes + predicted[known]
    return np.bincount(pairs, minlength=classes**2).reshape(classes, classes)


def _residuals(evaluation: Evaluation) -> Table:
    errors = evaluation.candidate.values - evaluation.target
    shares = (0.05, 0.25, 0.5, 0.75, 0.95)
    rows = tuple((percent(share), number(float(np.quantile(errors, share)), 4)) for share in shares)
    return Table(("share of rows", "predicted minus actual, at most"), rows, "Residuals on the holdout.")


# -------------------------------------------------------------------------------------------- slices, columns, limits


def _slices(evaluation: Evaluation) -> list[Part]:
    if not evaluation.slices:
        return []
    champion = evaluation.champion is not None
    headers = ("slice", "rows", evaluation.metric, "low", "high", *(("champion", "p (worse)") if champion else ()))
    table = Table(headers, tuple(_slice(part, champion) for part in evaluation.slices))
    return [Heading("Where it is weak"), Text(_weakest(evaluation)), Plots(("slices",)), table]


def _slice(part: Slice, champion: bool) -> tuple[Any, ...]:
    p_worse = "–" if part.p_worse is None else number(part.p_worse, 2)
    beside = (number(part.champion_score, 4), p_worse) if champion else ()
    figures = (number(part.score, 4), number(part.low, 4), number(part.high, 4))
    return (f"{part.column} = {part.value}", part.rows, *figures, *beside)


def _weakest(evaluation: Evaluation) -> str:
    judged = [part for part in evaluation.slices if part.rows >= JUDGED_ROWS and not math.isnan(part.score)]
    if not judged:
        return (
            f"No slice has {JUDGED_ROWS} rows on which {evaluation.metric} is defined: too few to say where it is weak."
        )
    greater = metric(evaluation.metric, evaluation.bundle.task).greater_is_better
    weakest = min(judged, key=lambda part: part.score if greater else -part.score)
    return (
        f"Of {count(len(judged), 'slice')} with at least {JUDGED_ROWS} rows, it is weakest where {weakest.column} is "
        f"{weakest.value}: {evaluation.metric} {number(weakest.score, 4)} ({_between(weakest.low, weakest.high)}) on "
        f"{count(weakest.rows, 'row')}, against {number(evaluation.metrics[evaluation.metric][0], 4)} overall."
    )


def _importance(evaluation: Evaluation) -> list[Part]:
    if not evaluation.importance:
        return []
    shown = evaluation.importance[:COLUMNS_SHOWN]
    sentence = (
        f"How much worse {evaluation.metric} gets when one raw column is shuffled; columns that say the same share it."
    )
    table = Table(("column", "loss"), tuple((name, number(drop, 2)) for name, drop in shown))
    more = len(evaluation.importance) - len(shown)
    after: list[Part] = (
        [Text(f"{count(more, 'further column matters', 'further columns matter')} less.")] if more else []
    )
    return [Heading("What it looks at"), Text(sentence), Plots(("importance",)), table, *after]


def _data(evaluation: Evaluation) -> list[Part]:
    quality = evaluation.facts.get("quality")
    if not quality:
        return []
    gaps = [column for column in quality["columns"] if column["missing"] > 0]
    said = [f"Version {quality['version']} of the data has {count(quality['rows'], 'row')}."]
    have = "has" if len(gaps) == 1 else "have"
    said.append(f"{count(len(gaps), 'column')} of {len(quality['columns'])} {have} missing values.")
    if since := quality["since"]:
        far = max(since["moved"].items(), key=lambda pair: pair[1], default=None)
        said.append(f"Since version {since['version']} {_most_moved(far)}.")
    if quality["left_out"]:
        said.append(f"{count(quality['left_out'], 'further column')} are not shown.")
    plots = ("correlations",) if len(quality["correlations"]["names"]) > 2 else ()
    return [Heading("The data"), Text(" ".join(said)), Columns(quality), *([Plots(plots)] if plots else [])]


def _most_moved(far: tuple[str, float] | None) -> str:
    if far is None or far[1] < 0.005:
        return "no column has moved"
    return f"{far[0]} has moved most: {percent(far[1], 2)} of the rows would have to change to be as before"


def _limits(evaluation: Evaluation) -> list[Part]:
    facts, limits = evaluation.facts, [_sentence(note) for note in (*evaluation.notes, *evaluation.bundle.notes)]
    if evaluation.rows < FEW_ROWS:
        limits.append(f"The holdout has {count(evaluation.rows, 'row')} only: the intervals are wide.")
    if not evaluation.slices:
        limits.append("No slices were declared, so it isn't known which groups it serves badly: give the gate slices.")
    small = [part for part in evaluation.slices if part.rows < JUDGED_ROWS]
    if small:
        limits.append(f"{count(len(small), 'slice')} with fewer than {JUDGED_ROWS} rows are shown but not judged.")
    if evaluation.candidate.probabilities is None and evaluation.bundle.task != "regression":
        limits.append("It gives no probabilities, so there is no calibration and no threshold to move.")
    if facts.get("ignored"):
        limits.append(f"It never sees the ignored columns: {listed(facts['ignored'])}.")
    limits.append("All figures are about rows like the holdout's; what changes later, mainspring monitor tells.")
    return [Heading("Limits"), Bullets(tuple(limits))]


def _sentence(note: str) -> str:
    return note[:1].upper() + note[1:] + ("" if note.endswith((".", "!", "?")) else ".")


# ------------------------------------------------------------------------------------------------------- Markdown


def _markdown(part: Part) -> str:
    match part:
        case Heading(words):
            return f"## {_plain(words)}"
        case Text(sentence):
            return _plain(sentence)
        case Bullets(sentences):
            return "\n".join(f"- {_plain(sentence)}" for sentence in sentences)
        case Facts(figures):
            return "\n".join(f"- {_plain(label)}: **{_plain(value)}**{_note(note)}" for label, value, note in figures)
        case Table(headers, rows, caption):
            lines = [_line(headers), _line(["---"] * len(headers), as_it_is=True), *map(_line, rows)]
            return "\n".join([*([_plain(caption), ""] if caption else []), *lines])
        case Plots():
            return ""
        case Columns(quality):
            return _markdown(_columns(quality))


def _columns(quality: Mapping[str, Any]) -> Table:
    since = quality["since"]
    moved = {} if since is None else {name: percent(far, 2) for name, far in since["moved"].items()}
    rows = [
        (column["name"], column["distinct"], percent(column["missing"], 2),
         *(() if since is None else (moved.get(column["name"], "–"),)))
        for column in quality["columns"]
    ]  # fmt: skip
    last = () if since is None else (f"moved since version {since['version']}",)
    return Table(("column", "distinct", "missing", *last), tuple(rows))


def _note(note: str) -> str:
    return f" ({_plain(note)})" if note else ""


def _line(cells: Sequence[Any], as_it_is: bool = False) -> str:
    shown = [f"{cell:,}" if isinstance(cell, int) else str(cell) for cell in cells]
    return "| " + " | ".join(shown if as_it_is else map(_plain, shown)) + " |"


def _plain(words: str) -> str:
    """*words* with what Markdown would take for markup made literal, on one line."""
    return re.sub(r"([\\`*|<>\[\]]|(?<!\w)_|_(?!\w))", r"\\\1", " ".join(words.split()))
