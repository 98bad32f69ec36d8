"""A person's decisions from the command line, `hold`, `approve`, `reject`: written down with who made them and why."""

from __future__ import annotations

from mainspring.app.person import person
from mainspring.app.running import Surroundings
from mainspring.loop import turn
from mainspring.store.home import Home


def decide(store: Home, verb: str, loop: str, version: int | None, reason: str) -> str:
    """Do *verb* to a version of *loop* (None: the one on trial, else the newest that waits); what was done."""
    told: dict[str, str | None] = {"reason": reason, "by": person()}
    if verb != "hold":
        told["mlflow"] = Surroundings.of(store).mlflow
    done: str = turn.call(f"mainspring.loop.champion:{verb}", store, loop, version, **told)
    return done
