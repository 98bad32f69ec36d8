"""numpy arrays and numbers as npy, arrays of plain Python objects as JSON: never with a pickle inside."""

from __future__ import annotations

import io
import json
from typing import Any

import numpy as np

_NUMBER, _OBJECTS = "number", "objects"


def write(format: str, value: Any) -> bytes:
    """*value* in row order."""
    if format == _OBJECTS:
        return json.dumps({"shape": value.shape, "items": value.ravel().tolist()}).encode()
    buffer = io.BytesIO()
    np.save(buffer, np.ascontiguousarray(value).reshape(np.shape(value)), allow_pickle=False)
    return buffer.getvalue()


def read(format: str, content: bytes) -> Any:
    """The array, or number, of *content*."""
    if format == _OBJECTS:
        kept = json.loads(content)
        array = np.empty(len(kept["items"]), dtype=object)
        array[:] = kept["items"]
        return array.reshape(kept["shape"])
    array = np.load(io.BytesIO(content), allow_pickle=False)
    return array[()] if format == _NUMBER else array
