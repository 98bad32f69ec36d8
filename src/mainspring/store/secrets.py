"""What a reference to a secret stands for; messages name the reference, never the secret."""

from __future__ import annotations

import os
from pathlib import Path

from mainspring.core.errors import SourceNotFound


def secret(reference: str) -> str:
    """The text that "env:NAME" or "file:PATH" stands for."""
    kind, _, where = reference.partition(":")
    if kind == "env":
        found = os.environ.get(where, "").strip()
        if not found:
            raise SourceNotFound(f"environment variable {where!r} of {reference!r} isn't set; set it and run again")
        return found
    try:
        found = Path(where).expanduser().read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise SourceNotFound(f"{reference!r} can't be read ({type(error).__name__}); it must hold the secret") from None
    if not found:
        raise SourceNotFound(f"{reference!r} is empty; it must hold the secret")
    return found
