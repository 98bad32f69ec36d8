"""numpy arrays and numbers as npy, arrays of plain Python objects as JSON: never with a pickle inside.

The digest is that of dtype, shape and values in row order. A big array is mapped into memory instead of read; what a
step writes into it stays its own.
"""

from __future__ import annotations

import io
import json
from typing import Any

import numpy as np

from mainspring.store.formats import Buffer, Unfit

_NUMBER, _OBJECTS = "number", "objects"


def write(format: str, value: Any) -> bytes:
    """*value* in row order."""
    if format == _OBJECTS:
        return json.dumps({"shape": value.shape, "items": value.ravel().tolist()}).encode()
    if _annotated(value.dtype):
        raise Unfit("its dtype carries metadata, which npy drops")
    buffer = io.BytesIO()
    np.save(buffer, np.ascontiguousarray(value).reshape(np.shape(value)), allow_pickle=False)
    return buffer.getvalue()


def read(format: str, content: Buffer) -> Any:
    """The array, or number, of *content*."""
    if format == _OBJECTS:
        kept = json.loads(bytes(content))
        array = np.empty(len(kept["items"]), dtype=object)
        array[:] = kept["items"]
        return array.reshape(kept["shape"])
    if isinstance(content, memoryview):
        return _mapped(content)
    array = np.load(io.BytesIO(content), allow_pickle=False)
    return array[()] if format == _NUMBER else array


def _mapped(content: memoryview) -> Any:
    """The array that lies in *content*, behind its header."""
    head = io.BytesIO(content[:65_536])
    version = np.lib.format.read_magic(head)
    header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran, dtype = header(head)
    whole = content.nbytes - head.tell() == dtype.itemsize * int(np.prod(shape))
    if dtype.hasobject or fortran or not whole:
        return np.load(io.BytesIO(content), allow_pickle=False)
    return np.frombuffer(content, dtype=dtype, offset=head.tell()).reshape(shape)


def _annotated(dtype: Any) -> bool:
    fields = dtype.fields or {}
    return bool(dtype.metadata) or any(_annotated(field[0]) for field in fields.values())
