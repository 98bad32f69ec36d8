"""What a loop's records and lookups need between its turns: read on, compacted, and no older than they may be."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime

from mainspring.core.declarations import Declaration
from mainspring.core.errors import MainspringError
from mainspring.core.joins import Join
from mainspring.data import ingest, retention
from mainspring.release import shadowing
from mainspring.serving import push
from mainspring.store.deployments import Deployments
from mainspring.store.history import compact
from mainspring.store.home import Home

LOOK_UP_SECONDS = 60.0
"""So often the right side of a join is read on for the endpoint."""
RETAINED = "retained"
"""The state of a loop that says for which day its retention was enforced last."""


class Upkeep:
    """Keeps the data of the loops of *home*; all of it may be done again at any time."""

    def __init__(self, home: Home, *, say: Callable[[str], None]) -> None:
        self._home = home
        self._say = say
        self._deployments = Deployments(home)
        self._looked: dict[str, float] = {}

    def look_up(self, declared: Declaration, *, at_once: bool) -> None:
        """Keep what a join's right side has told since, for the endpoint: once a minute, or *at_once*."""
        now = time.monotonic()
        if not isinstance(declared.source, Join):
            return
        if not at_once and now - self._looked.get(declared.name, -LOOK_UP_SECONDS) < LOOK_UP_SECONDS:
            return
        self._looked[declared.name] = now
        try:
            if ingest.refresh(declared.source, self._home, declared.name, declared.privacy):
                push.notify(self._home)
        except MainspringError as error:  # what is kept goes on being served
            self._say(f"{declared.name}: what its join looks up can't be read on: {error}")

    def compact(self, loop: str) -> None:
        try:
            compact(self._home, loop)
            shadowing.forget(self._deployments, loop)
        except (MainspringError, OSError) as error:  # the records are there and are read as they are
            self._say(f"{loop}: its records can't be compacted: {error}")

    def retain(self, declared: Declaration, now: datetime) -> None:
        """Once a day what is older than the loop's Privacy lets it be goes."""
        loop, today = declared.name, now.date().isoformat()
        if declared.privacy is None or declared.privacy.retention is None:
            return
        if self._deployments.load_state(loop, RETAINED) == today:
            return
        said = retention.enforce(self._home, loop, declared.privacy, declared.roles.time)
        with self._deployments.transaction():
            self._deployments.save_state(loop, RETAINED, today)
            if said:
                self._deployments.decide(loop, at=now, kind="erase", decision="retention", version=None, reason=said)
        if said:
            self._say(f"{loop}: {said}")
