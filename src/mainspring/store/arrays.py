"""numpy arrays and numbers as npy: never with a pickle inside."""

from __future__ import annotations

import io
from typing import Any

import numpy as np

_NUMBER = "number"


def write(value: Any) -> bytes:
    """*value* as npy, in row order."""
    buffer = io.BytesIO()
    np.save(buffer, np.ascontiguousarray(value).reshape(np.shape(value)), allow_pickle=False)
    return buffer.getvalue()


def read(format: str, content: bytes) -> Any:
    """The array, or number, of *content*."""
    array = np.load(io.BytesIO(content), allow_pickle=False)
    return array[()] if format == _NUMBER else array
