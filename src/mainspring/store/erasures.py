"""Who was erased: keyed digests, so that rows which a source gives again are left out and nobody can be read here."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from mainspring.store.deployments import Deployments
from mainspring.store.home import Home
from mainspring.store.protection import erased_digest

ERASED, ERASING, _TIMES = "erased", "erasing", "erasures"


class Erasures:
    """The erasures of one loop: those that were made, and one that may have been interrupted."""

    def __init__(self, home: Home, loop: str) -> None:
        self._deployments, self._loop = Deployments(home), loop

    def known(self) -> frozenset[str]:
        """The digests of the erased."""
        return frozenset(self._deployments.load_state(self._loop, ERASED) or ())

    def begin(self, forms: Iterable[str], told: dict[str, Any]) -> dict[str, Any]:
        """Note, before anything goes, whose rows are left out from now on and what an interrupted erasure has *told*;
        with what an earlier try of the same had."""
        digests = sorted(erased_digest(form) for form in forms)
        before = self._deployments.load_state(self._loop, ERASING) or {}
        if before.get("digests") == digests:
            told = {name: sorted({*before["told"].get(name, ()), *value}) for name, value in told.items()}
        with self._deployments.transaction():
            self._deployments.save_state(self._loop, ERASED, sorted(self.known() | set(digests)))
            self._deployments.save_state(self._loop, ERASING, {"digests": digests, "told": told})
        return told

    def end(self) -> None:
        """The erasure is done."""
        with self._deployments.transaction():
            self._deployments.save_state(self._loop, ERASING, None)
            self._deployments.save_state(self._loop, _TIMES, self.times() + 1)

    def times(self) -> int:
        """How many were done: who keeps keys in memory reads them anew when this changes."""
        return int(self._deployments.load_state(self._loop, _TIMES) or 0)
