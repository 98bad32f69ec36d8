"""`mainspring init`: look at a table, write the Loop file that a person would have written."""

from __future__ import annotations

import keyword
import re
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

import polars as pl

from mainspring.core import declarations
from mainspring.core.errors import SourceError, TargetUnusable, UsageError
from mainspring.data import sources
from mainspring.data.casting import plain

SAMPLE_ROWS = 50_000
_KEYS = re.compile(r"(?i)(^|_)(id|key|uuid|guid|number|no)$")


@dataclass(frozen=True, slots=True)
class Sketch:
    """What the table suggests: the roles of its columns, and why."""

    target: str
    key: str | None
    time: str | None
    rows: int
    classes: int | None
    comments: tuple[str, ...]


def write(data: str, *, target: str, output: str, overwrite: bool) -> Path:
    """Write *output* for the table *data*; refuses to replace a file unless told."""
    path = Path(output)
    if path.exists() and not overwrite:
        raise UsageError(f"{output} is there already; give another --output, or --overwrite")
    if path.suffix != ".py":
        raise UsageError(f"--output {output!r} must be a Python file, such as loop.py")
    table = _read(data)
    path.write_text(_text(data, sketch(table, target)), encoding="utf-8")
    return path


def sketch(table: pl.DataFrame, target: str) -> Sketch:
    """The roles that *table*'s columns suggest. Raises TargetUnusable when *target* is not a column."""
    if target not in table.columns:
        near = get_close_matches(target, table.columns, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise TargetUnusable(f"no column {target!r}{hint} The columns are {', '.join(table.columns)}")
    time = next((name for name in table.columns if name != target and table[name].dtype.is_temporal()), None)
    key = next((name for name in table.columns if name not in (target, time) and _is_key(table[name])), None)
    values = table[target].drop_nulls()
    classes = values.n_unique() if _is_classes(values) else None
    comments = []
    if key:
        comments.append(f"{key} has a value of its own in each row")
    if time:
        comments.append("a time column: the newest rows are the holdout")
    return Sketch(target, key, time, table.height, classes, tuple(comments))


def _read(data: str) -> pl.DataFrame:
    frames: list[pl.DataFrame] = []
    for part, _ in sources.reader(declarations.source(data)).read(None):
        frames.append(part)
        if sum(frame.height for frame in frames) >= SAMPLE_ROWS:
            break
    if not frames:
        raise SourceError(f"{data} has no rows; give a table with rows")
    table = pl.concat(frames, how="vertical_relaxed").head(SAMPLE_ROWS)
    return plain(table)[0]


def _is_key(column: pl.Series) -> bool:
    if column.dtype.is_float() or column.null_count() or column.n_unique() < len(column):
        return False
    return bool(_KEYS.search(column.name))


def _is_classes(values: pl.Series) -> bool:
    if values.dtype.is_float():
        return False
    return not values.dtype.is_integer() or values.n_unique() <= 20


def _text(data: str, sketch: Sketch) -> str:
    name = re.sub(r"[^a-z0-9]+", "-", Path(data).stem.lower()).strip("-") or "loop"
    variable = name.replace("-", "_")
    if not variable.isidentifier() or keyword.iskeyword(variable):
        variable = "loop"
    kind = "numbers" if sketch.classes is None else f"{sketch.classes} classes"
    arguments = [f'"{name}",', f"data=ms.{_source(data)}({data!r}),", f"target={sketch.target!r},  # {kind}"]
    if sketch.key:
        arguments.append(f"key={sketch.key!r},  # {sketch.comments[0]}")
    if sketch.time:
        arguments.append(f"time={sketch.time!r},  # {sketch.comments[-1]}")
    arguments += [
        'model="auto",  # a linear model, a forest, histogram boosting; or your own estimators',
        "search=ms.Search(trials=12, folds=4),",
        "# ignore=[...],  # columns that are not known yet when you predict",
        "# features=my_function,  # takes and returns a polars frame, row by row",
    ]
    body = "\n".join(f"    {argument}" for argument in arguments)
    head = f'"""Predicts {sketch.target} from {Path(data).name}. Try: mainspring plan {{file}}, run, up."""'
    return f"{head}\n\nimport mainspring as ms\n\n{variable} = ms.Loop(\n{body}\n)\n".replace("{file}", "loop.py")


def _source(data: str) -> str:
    return "parquet" if data.lower().endswith((".parquet", ".pq")) else "csv"
