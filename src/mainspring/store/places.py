"""The user's own folders outside of any home: configuration (keys) and cache (what can be made again)."""

from __future__ import annotations

import os
from pathlib import Path


def configuration() -> Path:
    """$XDG_CONFIG_HOME/mainspring or ~/.config/mainspring."""
    return _own("XDG_CONFIG_HOME", ".config")


def cache() -> Path:
    """$XDG_CACHE_HOME/mainspring or ~/.cache/mainspring."""
    return _own("XDG_CACHE_HOME", ".cache")


def _own(variable: str, folder: str) -> Path:
    base = os.environ.get(variable)
    return (Path(base) if base else Path.home() / folder) / "mainspring"
