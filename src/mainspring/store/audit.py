"""What people did by hand: who, when, what and why, chained so that a change, a gap or a cut-off end shows."""

from __future__ import annotations

import json
import logging
import os
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from blake3 import blake3

from mainspring.store import durable
from mainspring.store.home import Home, legible
from mainspring.store.places import configuration

_log = logging.getLogger(__name__)
_TABLES = (
    """create table if not exists audit (
        number integer primary key, at text not null, person text not null, act text not null, loop text not null,
        version integer, reason text not null, words text not null, chain text not null)""",
    """create trigger if not exists audit_stays before update on audit
        begin select raise(abort, 'the audit log is append-only'); end""",
    """create trigger if not exists audit_is_kept before delete on audit
        begin select raise(abort, 'the audit log is append-only'); end""",
)
_UNREAD = {"number": -1, "chain": "unreadable"}
ERASE = "erase"
"""The act after which the words of entries before it may be gone."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One act. at: by the system's clock. by: the account that did it, or the control API."""

    number: int
    at: datetime
    by: str
    act: str
    loop: str
    version: int | None
    reason: str


class Audit:
    """The audit log of a home, in its database; each entry is written in the transaction of what it tells.

    Each holds a digest of the one before and of itself. How far the log goes is noted in the user's configuration
    folder too, after each act, so that an end that was cut off is missed.
    """

    def __init__(self, home: Home) -> None:
        self._home, self._database = home, home.database
        self._database.create(_TABLES)

    def add(self, act: str, loop: str, version: int | None, *, by: str, reason: str) -> None:
        """Write an act down, for good."""
        at, words = datetime.now(UTC).isoformat(), _digest(reason)
        with self._database.transaction() as connection:
            last = connection.execute("select number, chain from audit order by number desc limit 1").fetchone()
            number, before = (last["number"] + 1, last["chain"]) if last else (1, self._home.id)
            chain = _digest(before, number, at, by, act, loop, version, words)
            connection.execute(
                "insert into audit values (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (number, at, by, act, loop, version, reason, words, chain),
            )

    def entries(self) -> list[Entry]:
        """All acts, the oldest first."""
        return [_entry(row) for row in self._database.query("select * from audit order by number")]

    def witness(self) -> None:
        """Note outside of the home how far the log goes, once the act is committed; not where the log contradicts
        what is noted."""
        try:
            with self._database.transaction() as connection:  # one process at a time
                last = connection.execute("select number, chain from audit order by number desc limit 1").fetchone()
                noted = self._noted()
                if last is None or (noted is not None and self._chain(noted["number"]) != noted["chain"]):
                    return
                self.witnessed.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
                durable.write(self.witnessed, json.dumps(dict(last)).encode(), mode=0o600)
        except OSError as error:
            _log.warning("the end of the audit log can't be noted in %s: %s", self.witnessed, error)

    @property
    def witnessed(self) -> Path:
        """The file, outside of the home, that says how far the log goes."""
        place = _digest(os.path.realpath(self._home.path))[:16]
        return configuration() / "audit" / f"{self._home.id}-{place}.json"

    def faults(self) -> list[str]:
        """What shows that the log isn't as it was written; nothing where it is."""
        return list(self._faults())

    @property
    def is_witnessed(self) -> bool:
        """Whether this installation has noted how far the log goes."""
        return self._noted() is not None

    def _faults(self) -> Iterator[str]:
        rows, before, place = self._database.query("select * from audit order by number"), self._home.id, 0
        erased = max((row["number"] for row in rows if row["act"] == ERASE), default=0)
        for row in rows:
            place += 1
            if row["number"] != place:
                yield f"entries {place} to {row['number'] - 1} are gone"
                place = row["number"]
            told = (row["at"], row["person"], row["act"], row["loop"], row["version"], row["words"])
            if row["chain"] != _digest(before, row["number"], *told):
                yield f"entry {row['number']} was changed, or what stood before it"
            elif _digest(row["reason"]) != row["words"] and not (
                "(erased)" in row["reason"] and row["number"] < erased
            ):
                yield f"the reason of entry {row['number']} was changed"
            before = row["chain"]
        noted = self._noted()
        if noted == _UNREAD:
            yield f"how far it went when this installation last added to it can't be read; mend {self.witnessed}"
        elif noted is not None and self._chain(noted["number"]) != noted["chain"]:
            yield (
                f"it ended with entry {noted['number']} of another digest when this installation last added to it, and "
                f"has {len(rows)} now: its end was cut off or written anew; if you restored a backup, remove "
                f"{self.witnessed}, which says so"
            )

    def _noted(self) -> dict[str, Any] | None:
        try:
            noted = json.loads(self.witnessed.read_bytes())
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (OSError, ValueError):
            noted = None
        if isinstance(noted, dict) and isinstance(noted.get("number"), int) and isinstance(noted.get("chain"), str):
            return noted
        return _UNREAD

    def _chain(self, number: int) -> str | None:
        rows = self._database.query("select chain from audit where number = ?", (number,))
        return str(rows[0]["chain"]) if rows else None


def _digest(*parts: Any) -> str:
    return blake3(json.dumps(parts, ensure_ascii=False).encode("utf-8", "surrogatepass")).hexdigest()


@legible
def _entry(row: sqlite3.Row) -> Entry:
    at = datetime.fromisoformat(row["at"])
    return Entry(row["number"], at, row["person"], row["act"], row["loop"], row["version"], row["reason"])
