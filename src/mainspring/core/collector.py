"""Python's garbage collector, paused where much is made and none of it is garbage."""

from __future__ import annotations

import gc


class paused:
    """In the block nothing is looked through for garbage, nor soon after it what was made there: trees of code have no
    end of objects, which all stay."""

    __slots__ = ("_here",)

    def __enter__(self) -> None:
        self._here = gc.isenabled()
        gc.disable()

    def __exit__(self, *error: object) -> None:
        if self._here:
            _grow_old()
            gc.enable()


_collections = -1
"""How many full ones there had been when something last grew old at once."""


def _grow_old() -> None:
    """Count all there is among the oldest objects, which are seldom looked through; not where somebody keeps some apart
    by `gc.freeze`, nor twice without a full collection between, for else none would ever come and garbage stay."""
    global _collections
    collections = gc.get_stats()[-1]["collections"]
    if collections != _collections and not gc.get_freeze_count():
        _collections = collections
        gc.freeze()
        gc.unfreeze()
