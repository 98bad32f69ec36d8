"""The plainest body of the Open Inference Protocol, a JSON tensor for each column and no more, read at once.

What it reads is what `open_inference` would; of all that isn't as plain, or is wrong, it says nothing.
"""

from __future__ import annotations

from functools import reduce
from operator import or_
from typing import Annotated, Any

import msgspec

from mainspring.core.schema import Schema, Type
from mainspring.serving import bodies
from mainspring.serving.rows import Row


def _input(datatype: str, value: Any) -> Any:
    """An input of *datatype*, whose data are *value*s or missing."""
    fields = [("name", str), ("shape", list[int]), ("data", list[value | None])]
    return msgspec.defstruct(datatype, fields, gc=False, forbid_unknown_fields=True, tag_field="datatype", tag=datatype)


def _whole(bits: int) -> Any:
    return Annotated[int, msgspec.Meta(ge=-(2 ** (bits - 1)), le=2 ** (bits - 1) - 1)]


_FLOATS = [_input(datatype, float | _whole(64)) for datatype in ("FP64", "FP32")]
_WHOLE = [_input(f"INT{bits}", _whole(bits)) for bits in (64, 32)]
_NUMBERS = frozenset((*_FLOATS, *_WHOLE))
_INPUTS = (*_FLOATS, *_WHOLE, _input("BOOL", bool), _input("BYTES", str))
_Inputs: Any = reduce(or_, _INPUTS)


class _Body(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    inputs: list[_Inputs]
    id: str | None = None


_decode = msgspec.json.Decoder(_Body).decode


def read(content: bytes, inputs: Schema) -> tuple[list[Row], str | None] | None:
    """The rows of *content* and the request's own id; None where it must be looked at closely.

    >>> from mainspring.core.schema import Column
    >>> ages = b'{"inputs": [{"name": "age", "shape": [2], "datatype": "INT64", "data": [41, null]}]}'
    >>> read(ages, Schema((Column("age", Type.INTEGER),)))
    ([{'age': 41}, {'age': None}], None)
    """
    try:
        body = _decode(content)
    except (msgspec.DecodeError, ValueError, RecursionError):
        return None
    given = body.inputs
    rows = len(given[0].data) if given else 0
    names = [each.name for each in given]
    shape = [rows]
    if not rows or len(set(names)) < len(names) or any(each.shape != shape or len(each.data) != rows for each in given):
        return None
    truths = {column.name for column in inputs if column.type is Type.BOOLEAN}
    if truths and any(each.name in truths and type(each) in _NUMBERS for each in given):  # a number may stand for one
        return None
    if not bodies.once(content, 1 + 4 * len(given) + (body.id is not None)):
        return None
    return [dict(zip(names, row, strict=True)) for row in zip(*(each.data for each in given), strict=True)], body.id
