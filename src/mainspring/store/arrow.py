"""pyarrow tables and pandas frames as Arrow: kept so only if that gives them back exactly as they were.

Of a pandas frame that means values, dtypes, index, columns, their names and `attrs`; what Arrow can't hold (an object
column of mixed types, a period with another type in it) is left to a pickle, with the reason.
"""

from __future__ import annotations

import io
import json
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from mainspring.core.quiet import heard
from mainspring.store.formats import Buffer, Unfit

_OURS = b"mainspring"
_PANDAS = b"pandas"


def write(format: str, value: Any) -> bytes:
    """*value* as an Arrow file. Raises Unfit when it wouldn't come back as it is."""
    try:
        table = _from_pandas(format, value) if format.startswith("pandas") else _from_arrow(value)
        sink = io.BytesIO()
        with pa.ipc.new_file(sink, table.schema) as writer:
            writer.write_table(table, max_chunksize=max(1, table.num_rows))
        content = sink.getvalue()
        same = _same(format, read(format, content), value)
    except (pa.ArrowException, TypeError, ValueError, KeyError, AttributeError, NotImplementedError) as error:
        raise Unfit(f"Arrow can't hold it ({str(error).strip().partition(chr(10))[0][:120]})") from error
    if not same:
        raise Unfit("Arrow wouldn't give it back as it is")
    return content


def read(format: str, content: Buffer) -> Any:
    """The table or frame of *content*; a mapped table stays in its file."""
    table = pa.ipc.open_file(pa.py_buffer(content)).read_all()
    if format == "arrow-table":
        return table
    if format == "arrow-batch":
        batches = table.to_batches()
        return batches[0] if batches else pa.RecordBatch.from_pylist([], schema=table.schema)
    return _to_pandas(format, table)


def _from_arrow(value: Any) -> pa.Table:
    return _canonical(value if isinstance(value, pa.Table) else pa.Table.from_batches([value]))


def _canonical(table: pa.Table) -> pa.Table:
    """One chunk a column, and nothing in the slots of nulls."""
    columns = []
    for column in table.columns:
        whole = pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)
        if whole.null_count and not pa.types.is_nested(whole.type) and not pa.types.is_null(whole.type):
            try:
                emptied = pc.fill_null(whole, pa.scalar(_empty(whole.type), whole.type))
                whole = pc.if_else(pc.is_valid(whole), emptied, pa.scalar(None, whole.type))
            except (pa.ArrowException, TypeError):
                pass  # a rarer type keeps what is there: at worst an equal table counts as another
        columns.append(whole)
    return pa.Table.from_arrays(columns, schema=table.schema)


def _empty(kind: pa.DataType) -> Any:
    text = pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
    return "" if text else b"" if pa.types.is_binary(kind) or pa.types.is_large_binary(kind) else 0


def _from_pandas(format: str, value: Any) -> pa.Table:
    own: dict[str, Any] = {"attrs": value.attrs, "freq": getattr(value.index, "freqstr", None)}
    if format == "pandas-series":
        own["name"] = value.name
        value = value.to_frame("values")
    own["objects"] = [place for place, dtype in enumerate(value.dtypes) if dtype.kind == "O" and dtype.name == "object"]
    if type(value.columns).__name__ == "RangeIndex":
        own["columns"] = [value.columns.start, value.columns.stop, value.columns.step, value.columns.name]
    with heard():  # pyarrow's calls of pandas that pandas deprecates
        table = _canonical(pa.Table.from_pandas(value, preserve_index=None))
    known = json.loads(table.schema.metadata[_PANDAS])
    known = {**known, "creator": {"library": "pyarrow", "version": ""}, "pandas_version": ""}
    metadata = {_PANDAS: json.dumps(known).encode(), _OURS: json.dumps(own).encode()}
    return table.replace_schema_metadata(metadata)


def _to_pandas(format: str, table: pa.Table) -> Any:
    import pandas as pd  # 0.6 s that pyarrow's own tables don't need

    own = json.loads(table.schema.metadata[_OURS])
    with heard():
        frame = table.to_pandas()
    if "columns" in own:
        start, stop, step, name = own["columns"]
        frame.columns = pd.RangeIndex(start, stop, step, name=name)
    for place in own["objects"]:
        column = frame.iloc[:, place].astype(object)
        frame.isetitem(place, column.where(column.notna(), None))
    if own["freq"] is not None:
        frame.index.freq = own["freq"]
    if format == "pandas-series":
        frame = frame.iloc[:, 0].rename(own["name"])
    frame.attrs = own["attrs"]
    return frame


def _same(format: str, back: Any, value: Any) -> bool:
    if format == "arrow-table" or format == "arrow-batch":
        return bool(back.equals(value, check_metadata=True))
    if type(back) is not type(value) or back.attrs != value.attrs or not _same_index(back.index, value.index):
        return False
    if format == "pandas-series":
        return bool(back.dtype == value.dtype and type(back.name) is type(value.name) and back.equals(value)
                    and back.name == value.name)  # fmt: skip
    return bool(
        _same_index(back.columns, value.columns) and list(back.dtypes) == list(value.dtypes) and back.equals(value)
    )


def _same_index(back: Any, index: Any) -> bool:
    return bool(
        type(back) is type(index)
        and back.dtype == index.dtype
        and list(back.names) == list(index.names)
        and getattr(back, "freq", None) == getattr(index, "freq", None)
        and back.equals(index)
    )
