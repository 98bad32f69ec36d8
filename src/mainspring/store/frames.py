"""Polars frames and series in Parquet: the same bytes for equal frames, whatever their chunks and hidden slots."""

from __future__ import annotations

import io
from typing import Any

import polars as pl

_SERIES = "series"


def write(format: str, value: pl.DataFrame | pl.Series) -> bytes:
    """*value* as Parquet, lightly compressed."""
    frame = value.to_frame() if isinstance(value, pl.Series) else value
    buffer = io.BytesIO()
    frame.rechunk().write_parquet(buffer, compression="lz4")
    return buffer.getvalue()


def read(format: str, content: bytes) -> Any:
    """The frame, or series, of *content*."""
    frame = pl.read_parquet(io.BytesIO(content))
    return frame.to_series() if format == _SERIES else frame
