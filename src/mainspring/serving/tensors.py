"""The tensors of the Open Inference Protocol: JSON data, flat or nested, and Triton's binary data, as plain values."""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from types import NoneType
from typing import Any

import numpy as np

from mainspring.core.errors import InvalidRequest, InvalidRows

_WHOLE = {"INT8": "i1", "INT16": "<i2", "INT32": "<i4", "INT64": "<i8"}
_WHOLE |= {"UINT8": "u1", "UINT16": "<u2", "UINT32": "<u4", "UINT64": "<u8"}
_FLOATS = {"FP16": "<f2", "FP32": "<f4", "FP64": "<f8"}
_NUMPY = {"BOOL": "?", **_WHOLE, **_FLOATS}
_BRAIN_FLOAT = "BF16"
DATATYPES = (*_NUMPY, _BRAIN_FLOAT, "BYTES")
_JSON = {
    "BOOL": frozenset({bool, NoneType}),
    "BYTES": frozenset({str, NoneType}),
    **dict.fromkeys(_WHOLE, frozenset({int, NoneType})),
    **dict.fromkeys((*_FLOATS, _BRAIN_FLOAT), frozenset({int, float, NoneType})),
}
_LENGTH = struct.Struct("<I")


@dataclass(frozen=True, slots=True)
class Tensor:
    """A named array; *values* are flat, row by row. None is a missing value: null in JSON, NaN in binary."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    values: list[Any]


def from_json(name: str, datatype: str, shape: tuple[int, ...], data: Any) -> Tensor:
    """A tensor whose values stand in the JSON, flat or nested as its shape says."""
    if not isinstance(data, list):
        raise InvalidRequest(f"input {name!r}: data must be a list, not {str(data)[:40]!r}")
    values = _flat(name, data, shape)
    odd = set(map(type, values)) - _JSON[datatype]
    if odd:
        wrong = next(value for value in values if type(value) in odd)
        raise InvalidRequest(f"input {name!r}: {str(wrong)[:40]!r} is not of datatype {datatype}")
    if datatype in _WHOLE:
        _in_range(name, datatype, values)
    return Tensor(name, datatype, shape, values)


def from_binary(name: str, datatype: str, shape: tuple[int, ...], data: memoryview) -> Tensor:
    """A tensor whose values stand behind the JSON, little-endian; texts with their length before each."""
    count = math.prod(shape)
    if datatype == "BYTES":
        return Tensor(name, datatype, shape, _texts(name, data, count))
    dtype = np.dtype(_NUMPY.get(datatype, "<u2"))
    if len(data) != count * dtype.itemsize:
        need = f"shape {list(shape)} of {datatype} needs {count * dtype.itemsize}"
        raise InvalidRequest(f"input {name!r} has {len(data)} bytes of binary data, {need}")
    array = np.frombuffer(data, dtype)
    if datatype == _BRAIN_FLOAT:
        array = (array.astype("<u4") << 16).view("<f4")
    if datatype == "BOOL" and (np.frombuffer(data, "u1") > 1).any():
        raise InvalidRequest(f"input {name!r}: a BOOL is a byte of 0 or 1")
    values: list[Any] = array.tolist()
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        values = [_known(name, value) for value in values]
    return Tensor(name, datatype, shape, values)


def to_binary(datatype: str, values: Sequence[Any]) -> bytes:
    """*values*, flat, as binary data.

    >>> to_binary("BYTES", ["no"])
    b'\\x02\\x00\\x00\\x00no'
    """
    if datatype == "BYTES":
        texts = [value.encode() for value in values]
        return b"".join(chain.from_iterable((_LENGTH.pack(len(text)), text) for text in texts))
    return np.array(values, dtype=_NUMPY[datatype]).tobytes()


def _flat(name: str, data: list[Any], shape: tuple[int, ...]) -> list[Any]:
    """*data* without its nesting; both the flat form and that of the shape are right."""
    values = data
    if data and isinstance(data[0], list):
        for size in shape[1:]:
            if not all(isinstance(part, list) and len(part) == size for part in values):
                raise InvalidRequest(f"input {name!r}: data is not nested as shape {list(shape)} says")
            values = list(chain.from_iterable(values))
    if len(values) != math.prod(shape):
        raise InvalidRequest(f"input {name!r} has {len(values)} values, shape {list(shape)} needs {math.prod(shape)}")
    return values


def _in_range(name: str, datatype: str, values: list[Any]) -> None:
    bounds = np.iinfo(_WHOLE[datatype])
    for value in values:
        if value is not None and not bounds.min <= value <= bounds.max:
            raise InvalidRequest(f"input {name!r}: {str(value)[:40]} is beyond {datatype}")


def _texts(name: str, data: memoryview, count: int) -> list[Any]:
    values: list[Any] = []
    at = 0
    try:
        while at < len(data) and len(values) < count:
            start = at + _LENGTH.size
            at = start + _LENGTH.unpack_from(data, at)[0]
            if at > len(data):
                break
            values.append(str(data[start:at], "utf-8"))
    except struct.error:
        at = -1
    except UnicodeDecodeError as error:
        raise InvalidRows(f"input {name!r}, value {len(values)} is not UTF-8: {error.reason}") from None
    if at != len(data) or len(values) != count:
        raise InvalidRequest(f"input {name!r}: its {len(data)} bytes of binary data are not {count} texts with lengths")
    return values


def _known(name: str, value: float) -> float | None:
    if math.isinf(value):
        raise InvalidRows(f"input {name!r} holds {value}; a missing value is NaN")
    return None if math.isnan(value) else value
