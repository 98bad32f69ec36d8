"""The ledger: writes one run into the journal in groups, while the run goes on.

Rows gather in memory. A thread makes their objects durable, then commits the rows with their outputs, lineage and cache
entries in one transaction; what came meanwhile is the next group. So a step costs no wait for the disk, and what the
journal names is always there. A run that ends, or acts outside, waits by `settle` until all before is durable.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from sqlite3 import Connection
from typing import Any, Literal

import msgspec

from mainspring.core.errors import MainspringError, StoreError
from mainspring.store.catalog import Artifact
from mainspring.store.files import Files
from mainspring.store.home import Home
from mainspring.store.journal import Claim, Hit, owned

Durability = Literal["durable", "fast"]

_COLUMNS = (
    "run", "name", "pipeline", "status", "attempt", "fingerprint", "parts", "output", "digest", "seconds", "started",
    "ended", "reason", "trace", "cached_from",
)  # fmt: skip
_KEPT = ", ".join(f"{name} = excluded.{name}" for name in _COLUMNS[3:])
_STEPS = f"insert into steps ({', '.join(_COLUMNS)}) values {{}} on conflict (run, name) do update set {_KEPT}"
_CACHE = "insert or replace into cache (pipeline, step, fingerprint, output, run, seconds, created) values {}"
_encode = msgspec.json.Encoder(order="sorted").encode
_AT_ONCE = 50
"""Rows in one statement: the interpreter's lock changes hands once for them, not once a row."""


@dataclass(slots=True)
class _Group:
    """What one transaction writes. told: what is to be said once it is durable."""

    rows: dict[str, dict[str, Any]] = field(default_factory=dict)
    cache: list[list[Any]] = field(default_factory=list)
    objects: list[str] = field(default_factory=list)
    told: list[Callable[[], None]] = field(default_factory=list)

    @property
    def empty(self) -> bool:
        return not (self.rows or self.told)


class Ledger:
    """The rows of *claim*'s run. Every method but the thread's own is for the one thread that walks the run.

    durable: survives a loss of power; fast: survives the death of the process. A write that fails is raised by the next
    call; nothing is written after it.
    """

    def __init__(self, home: Home, claim: Claim, durability: Durability = "durable") -> None:
        self._home, self._files, self._claim, self._durability = home, Files(home), claim, durability
        self._running: dict[str, dict[str, Any]] = {}
        self._next = _Group()
        self._pushed = self._at_work = False
        self._lock = threading.Lock()
        self._wake = threading.Condition(self._lock)
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None
        self._closed = False
        self.cancelled = False
        """Whether somebody had asked the run to stop when the last group was written."""

    # ------------------------------------------------------------------------------------------------- what happened

    def started(self, name: str, fingerprint: str, parts: Mapping[str, Any], reason: str) -> None:
        row = {"status": "running", "fingerprint": fingerprint, "parts": _text(parts), "started": _now()}
        self._put(name, {**row, "attempt": 1, "reason": _clean(reason)})

    def finished(
        self,
        name: str,
        output: Artifact,
        *,
        seconds: float,
        attempt: int,
        keep_as: str | None,
        objects: list[str],
        parts: Mapping[str, Any] | None = None,
    ) -> None:
        """The step is over. keep_as: the step under whose name the cache finds the output; None: it doesn't. objects:
        what the output needs in the object store. parts: its own, where they aren't those that it was started with."""
        kept, now = _text(output.to_json()), _now()
        row = self._running.get(name, {})
        if parts is not None:
            row = {**row, "parts": _text(parts)}
        entry = [self._claim.pipeline, keep_as, row.get("fingerprint"), kept, self._claim.run, seconds, now]
        self._put(
            name,
            {**row, "status": "done", "output": kept, "digest": output.digest, "seconds": seconds, "attempt": attempt,
             "ended": now},
            objects,
            None if keep_as is None else entry,
        )  # fmt: skip

    def cached(self, name: str, fingerprint: str, parts: Mapping[str, Any], hit: Hit) -> None:
        kept = {"status": "cached", "attempt": 1, "fingerprint": fingerprint, "parts": _text(parts), "seconds": 0.0}
        output = {"output": _text(hit.output.to_json()), "digest": hit.output.digest}
        self._put(name, {**kept, **output, "ended": _now(), "cached_from": hit.run})

    def skipped(self, name: str, reason: str) -> None:
        self._put(name, {"status": "skipped", "attempt": 1, "ended": _now(), "reason": _clean(reason)})

    def failed(self, name: str, reason: str, trace: str, *, attempt: int, seconds: float) -> None:
        row = {"status": "failed", "reason": _clean(reason), "trace": _clean(trace), "attempt": attempt}
        self._put(name, {**self._running.get(name, {}), **row, "seconds": seconds, "ended": _now()})

    def tell(self, say: Callable[[], None]) -> None:
        """Have the thread call *say*, in order, once all that happened before is durable."""
        with self._lock:
            self._next.told.append(say)

    # ------------------------------------------------------------------------------------------------------- writing

    def push(self) -> None:
        """Have the thread write what has gathered, as soon as it has written the group before. Doesn't wait."""
        with self._lock:
            self._check()
            if not (self._pushed or self._next.empty):
                self._pushed = True
                if self._thread is None:
                    self._thread = threading.Thread(target=self._write, name="mainspring-ledger", daemon=True)
                    self._thread.start()
                if not self._at_work:
                    self._wake.notify_all()

    def settle(self) -> None:
        """Wait until all that has happened is durable."""
        self.push()
        with self._wake:
            while self._pushed or self._at_work:
                self._wake.wait()
            self._check()

    def close(self) -> None:
        """Give the thread back; what isn't settled is lost."""
        with self._wake:
            self._closed = True
            self._wake.notify_all()
        if self._thread is not None:
            self._thread.join()

    # ------------------------------------------------------------------------------------------------------- private

    def _put(self, name: str, row: dict[str, Any], objects: Sequence[str] = (), entry: list[Any] | None = None) -> None:
        row.update(run=self._claim.run, name=name, pipeline=self._claim.pipeline)
        with self._lock:
            self._next.rows[name] = row
            self._next.objects += objects
            if entry is not None:
                self._next.cache.append(entry)
        if row["status"] == "running":
            self._running[name] = row
        else:
            self._running.pop(name, None)

    def _check(self) -> None:
        if self._error is not None:
            raise self._error

    def _write(self) -> None:
        """The thread: one group after the other."""
        connection: Connection | None = None
        while (group := self._take()) is not None:
            try:
                if connection is None:
                    connection = self._home.database.connect(durable=self._durability == "durable")
                self._commit(connection, group)
            except BaseException as error:  # whatever it is, the run must not wait for this thread for ever
                self._fail(error)
                break
            try:
                for say in group.told:
                    say()
            except BaseException as error:
                self._stop(error)
                break
        if connection is not None:
            connection.close()

    def _take(self) -> _Group | None:
        """The next group, once there is one to write; None when the ledger is closed."""
        with self._wake:
            self._at_work = False
            if not self._pushed:
                self._wake.notify_all()
            while not (self._pushed or self._closed):
                self._wake.wait()
            if not self._pushed:
                return None
            group, self._next, self._pushed, self._at_work = self._next, _Group(), False, True
        return group

    def _commit(self, connection: Connection, group: _Group) -> None:
        if self._durability == "durable" and group.objects:
            self._files.sync(set(group.objects))
        if not group.rows:
            return
        with self._home.database.turn():
            connection.execute("begin immediate")
            try:
                self.cancelled = bool(owned(connection, self._claim)["cancel"])
                _insert(connection, _STEPS, [[row.get(name) for name in _COLUMNS] for row in group.rows.values()])
                _insert(connection, _CACHE, group.cache)
            except BaseException:
                connection.rollback()
                raise
            connection.commit()

    def _fail(self, error: BaseException) -> None:
        words = f"{self._home.database.path} can't be written ({error}); make room or mend it, then run again"
        self._stop(error if isinstance(error, MainspringError) else StoreError(words))

    def _stop(self, error: BaseException) -> None:
        with self._wake:
            self._error = error
            self._pushed = self._at_work = False
            self._wake.notify_all()


def _insert(connection: Connection, statement: str, rows: list[list[Any]]) -> None:
    for start in range(0, len(rows), _AT_ONCE):
        some = rows[start : start + _AT_ONCE]
        places = ", ".join([f"({', '.join('?' * len(some[0]))})"] * len(some))
        connection.execute(statement.format(places), [value for row in some for value in row])


def _now() -> str:
    return datetime.now(UTC).isoformat()


def _text(value: Any) -> str:
    try:
        return _encode(value).decode()
    except (UnicodeEncodeError, OverflowError):  # broken characters, whole numbers beyond 64 bits
        return json.dumps(value, separators=(",", ":"), sort_keys=True)


def _clean(text: str) -> str:
    """*text* as the database can hold it: a user's error may have NULs and broken characters."""
    return text.replace("\0", "\\0").encode("utf-8", "backslashreplace").decode()
