"""`mainspring init`: look at a table, write the Loop file that a person would have written."""

from __future__ import annotations

import json
import keyword
import re
import unicodedata
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

import polars as pl

from mainspring.app import dialect
from mainspring.core import declarations
from mainspring.core.declarations import CsvSource, ParquetSource, Roles
from mainspring.core.errors import SourceEmpty, TargetUnusable, UsageError
from mainspring.core.schema import Type
from mainspring.core.wording import count, listed
from mainspring.data import contract, sources, targets
from mainspring.data.casting import cast, plain

ENOUGH_ROWS = 50_000
_KEYS = re.compile(r"(?i:(^|[\W_])(id|key|uuid|guid|number|no)\W*$)|[a-z0-9](Id|ID|Key)$")
_NOT_WHEN = re.compile(r"(?i)birth|born|dob")
"""A time that says something about the entity, not when its row came to be."""
_SUFFIXES = re.compile(r"(?i)\.(csv|tsv|parquet|pq)(\.(gz|zip))?$")
_IN_ASCII = str.maketrans({"ß": "ss", "æ": "ae", "ø": "o", "ł": "l"})
"""Letters that are no letter with a mark."""


@dataclass(frozen=True, slots=True)
class Sketch:
    """What the table suggests: what the target holds, and the roles of other columns."""

    target: str
    holds: str
    key: str | None
    time: str | None


def write(data: str, *, target: str, output: str, overwrite: bool) -> Path:
    """Write *output* for the table *data*; refuses to replace a file unless told."""
    path = Path(output)
    if path.exists() and not overwrite:
        raise UsageError(f"{output} is there already; give another --output, or --overwrite")
    if path.suffix != ".py":
        raise UsageError(f"--output {output!r} must be a Python file, such as loop.py")
    if not path.parent.is_dir():
        raise UsageError(f"--output {output!r}: no folder {str(path.parent)!r}; make it first")
    source = _source(data)
    table = _read(source)
    if isinstance(source, CsvSource) and (said := dialect.told(source, table)) != source:
        source, table = said, _read(said)
    path.write_text(_text(source, sketch(table, target), output), encoding="utf-8")
    return path


def sketch(table: pl.DataFrame, target: str) -> Sketch:
    """The roles that *table*'s columns suggest. Raises TargetUnusable when *target* is no column to learn from."""
    if target not in table.columns:
        near = get_close_matches(target, table.columns, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise TargetUnusable(f"no column {target!r}; {hint}the columns are {listed(table.columns, most=30)}")
    schema, _ = contract.infer(table, Roles(target))
    known = cast(table[target], schema[target].type).drop_nulls()
    if known.n_unique() < 2:
        only = f"only the value {known[0]!r}" if len(known) else "no value"
        raise TargetUnusable(f"target {target!r} has {only} in {count(table.height, 'row')}; name another column")
    times = [
        column.name
        for column in schema
        if column.type in (Type.DATETIME, Type.DATE) and not column.nullable and not _NOT_WHEN.search(column.name)
    ]
    time = next((name for name in times if name != target), None)
    key = next((name for name in table.columns if name not in (target, time) and _is_key(table[name])), None)
    return Sketch(target, _holds(targets.target(known, "auto")), key, time)


def _source(data: str) -> CsvSource | ParquetSource:
    """The table *data* as a source, of a CSV file with the separator and the encoding that it has."""
    if not _SUFFIXES.search(data):
        raise UsageError(f"{data!r} is neither CSV (.csv, .tsv, .csv.gz, .csv.zip) nor Parquet (.parquet); give one")
    declared = declarations.source(data)
    return dialect.found(declared) if isinstance(declared, CsvSource) else ParquetSource(data)


def _read(source: CsvSource | ParquetSource) -> pl.DataFrame:
    frames: list[pl.DataFrame] = []
    for part, _ in sources.reader(source).read(None):
        frames.append(part)
        if sum(frame.height for frame in frames) >= ENOUGH_ROWS:
            break
    table = pl.concat(frames, how="diagonal_relaxed")
    if not table.height:
        raise SourceEmpty(
            f"{source.path} has no rows, only a header: {listed(table.columns, most=30)}; give a table with rows"
        )
    return plain(table)[0]


def _is_key(column: pl.Series) -> bool:
    if column.dtype.is_float() or column.null_count() or column.n_unique() < len(column):
        return False
    return bool(_KEYS.search(column.name))


def _holds(target: targets.Target) -> str:
    if target.task == "regression":
        return "numbers"
    if target.task == "binary":
        return f"2 classes; {target.classes[1]!r} is the positive one"
    return f"{len(target.classes)} classes"


def _text(source: CsvSource | ParquetSource, sketch: Sketch, output: str) -> str:
    data = source.path
    spelled = unicodedata.normalize("NFKD", _SUFFIXES.sub("", Path(data).name).lower().translate(_IN_ASCII))
    name = re.sub(r"[^a-z0-9]+", "-", spelled.encode("ascii", "ignore").decode())[:100].strip("-") or "loop"
    variable = name.replace("-", "_")
    if not variable.isidentifier() or keyword.iskeyword(variable) or variable == "ms":
        variable = "loop"
    arguments = [
        f"{_quoted(name)},",
        f"data={_call(source)},",
        f"target={_quoted(sketch.target)},  # {' '.join(sketch.holds.split())}",
    ]
    if sketch.key:
        arguments.append(f"key={_quoted(sketch.key)},  # it has a value of its own in each row")
    if sketch.time:
        arguments.append(f"time={_quoted(sketch.time)},  # the newest rows are the holdout")
    arguments += [
        'model="auto",  # a linear model, a forest, histogram boosting; or your own estimators',
        "search=ms.Search(trials=12, folds=4),",
        "# ignore=[...],  # columns that are not known yet when you predict",
        "# features=my_function,  # takes and returns a polars frame, row by row",
    ]
    body = "\n".join(f"    {argument}" for argument in arguments)
    head = f"Predicts {sketch.target} from {Path(data).name}. Try: mainspring plan {output}, run, up."
    return f"{_docstring(head)}\n\nimport mainspring as ms\n\n{variable} = ms.Loop(\n{body}\n)\n"


def _quoted(text: str) -> str:
    """*text* as a Python literal in double quotes."""
    return json.dumps(text, ensure_ascii=False)


def _docstring(text: str) -> str:
    escaped = " ".join(text.replace("\\", "\\\\").replace('"', '\\"').split())
    return f'"""{escaped}"""'


def _call(source: CsvSource | ParquetSource) -> str:
    """*source* as a person writes it."""
    if isinstance(source, ParquetSource):
        return f"ms.parquet({_quoted(source.path)})"
    usual = CsvSource(source.path)
    said = [
        f"{name}={_quoted(value)}"
        for name in ("separator", "encoding", "decimal", "thousands")
        if (value := getattr(source, name)) != getattr(usual, name)
    ]
    if source.dates:
        said.append(f"dates={json.dumps(dict(source.dates) if isinstance(source.dates, tuple) else source.dates)}")
    return f"ms.csv({', '.join([_quoted(source.path), *said])})"
