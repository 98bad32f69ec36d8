"""The journal: runs, their steps, which output belongs to which fingerprint, and who is at work.

One row before a step, one transaction after it with its output and cache entry: `store/ledger.py` writes them. What
the journal doesn't name doesn't exist. A run is written by the process that holds its lease, with its fencing number,
and by nobody else.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from sqlite3 import Connection, Row
from sqlite3 import Error as DatabaseError
from typing import Any, Literal

from mainspring.core.errors import HomeDamaged, NotInStore, StoreError
from mainspring.store.catalog import Artifact
from mainspring.store.home import Home, legible
from mainspring.store.leases import Leases, myself

RunStatus = Literal["running", "done", "failed", "held", "interrupted", "cancelled"]
StepStatus = Literal["running", "done", "cached", "failed", "skipped", "interrupted"]

_EPOCH = datetime(2024, 1, 1, tzinfo=UTC).timestamp()
_DIGITS = "0123456789abcdefghjkmnpqrstvwxyz"
_ID_LENGTH = 6
_TABLES = (
    """create table if not exists runs (
        number integer primary key, id text not null unique, pipeline text not null, status text not null,
        parameters text not null, selection text not null, owner text not null, fence integer not null,
        cancel integer not null default 0, created text not null, ended text, error text)""",
    "create index if not exists runs_by_pipeline on runs (pipeline, number)",
    "create index if not exists runs_running on runs (number) where status = 'running'",
    """create table if not exists steps (
        run text not null references runs (id), name text not null, pipeline text not null, status text not null,
        attempt integer not null default 1, fingerprint text, parts text, output text, digest text, seconds real,
        started text, ended text, reason text, trace text, cached_from text, primary key (run, name))""",
    "create index if not exists steps_finished on steps (pipeline, name) where status in ('done', 'cached')",
    "create index if not exists steps_by_digest on steps (digest) where digest is not null",
    """create table if not exists cache (
        pipeline text not null, step text not null, fingerprint text not null, output text not null,
        run text not null, seconds real not null, created text not null, primary key (pipeline, step, fingerprint))""",
)


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to write a run: its id and this owner's fencing number. resumed: it was begun by an earlier owner."""

    run: str
    number: int
    pipeline: str
    fence: int
    resumed: bool = False


@dataclass(frozen=True, slots=True)
class RunRecord:
    """One run, as the journal has it. owner: the process that writes it, and the FILE that it was given."""

    id: str
    pipeline: str
    status: RunStatus
    created: datetime
    ended: datetime | None
    parameters: Any
    selection: Any
    owner: Mapping[str, Any]
    error: str | None


@dataclass(frozen=True, slots=True)
class StepRecord:
    """One step of a run. parts: what its fingerprint was made of; reason: why it ran, was skipped or failed."""

    run: str
    name: str
    status: StepStatus
    attempt: int
    fingerprint: str | None
    parts: Mapping[str, Any] | None
    output: Artifact | None
    seconds: float | None
    started: datetime | None
    ended: datetime | None
    reason: str | None
    trace: str | None
    cached_from: str | None


@dataclass(frozen=True, slots=True)
class Hit:
    """A cache entry: an output, the run that made it, and how long that took."""

    output: Artifact
    run: str
    seconds: float


class Journal:
    """The journal of one home."""

    def __init__(self, home: Home, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._database = home.database
        self._clock = clock
        self._leases = Leases(home.folder("run") / "leases")
        self._database.create(_TABLES)

    # ------------------------------------------------------------------------------------------------ owning a run

    def begin(self, pipeline: str, parameters: Any, selection: Any = None, file: str = "") -> Claim:
        """A new run of *pipeline*, owned by this process. file: the FILE that declares it, for who goes on with it."""
        with self._transaction() as connection:
            self._mark_dead(connection)
            last = connection.execute("select max(number) from runs").fetchone()[0] or 0
            number = max(last + 1, int(self._clock().timestamp() - _EPOCH))
            claim = Claim(_id(number), number, pipeline, 1)
            connection.execute(
                "insert into runs (number, id, pipeline, status, parameters, selection, owner, fence, created) "
                "values (?, ?, ?, 'running', ?, ?, ?, 1, ?)",
                (number, claim.run, pipeline, _text(parameters), _text(selection), _owner(file), self._now()),
            )
            self._leases.take(number)
        return claim

    def resume(self, pipeline: str, parameters: Any, selection: Any = None, file: str = "") -> Claim | None:
        """The last run of *pipeline*, if it was interrupted and asked for the same; owned by this process now."""
        with self._transaction() as connection:
            self._mark_dead(connection)
            row = connection.execute(
                "select * from runs where pipeline = ? order by number desc limit 1", (pipeline,)
            ).fetchone()
            asked = (_text(parameters), _text(selection))
            if row is None or row["status"] != "interrupted" or (row["parameters"], row["selection"]) != asked:
                return None
            if not self._leases.take(row["number"]):
                return None
            connection.execute(
                "update runs set status = 'running', owner = ?, fence = fence + 1, cancel = 0, ended = null, "
                "error = null where number = ?",
                (_owner(file), row["number"]),
            )
        return Claim(row["id"], row["number"], pipeline, row["fence"] + 1, resumed=True)

    def end(self, claim: Claim, status: RunStatus, error: str | None = None) -> None:
        """The run is over; all that its `Ledger` holds must be settled before."""
        with self._transaction() as connection:
            owned(connection, claim)
            connection.execute(
                "update runs set status = ?, ended = ?, error = ? where id = ?", (status, self._now(), error, claim.run)
            )
            _interrupt_steps(connection, claim.run)
        self.release(claim)

    def release(self, claim: Claim) -> None:
        """Give the lease back; a run that wasn't ended shows as interrupted at the next look."""
        self._leases.release(claim.number)

    def cancel(self, run: str) -> None:
        """Ask the owner of *run*, in whatever process, to stop."""
        with self._transaction() as connection:
            self._mark_dead(connection)
            changed = connection.execute(
                "update runs set cancel = 1 where id = ? and status = 'running'", (run,)
            ).rowcount
        if not changed:
            raise StoreError(f"run {run} is {self.run(run).status}, not running; there is nothing to cancel")

    def cancelled(self, claim: Claim) -> bool:
        """Whether somebody has asked this run to stop."""
        return bool(self._query("select cancel from runs where number = ?", (claim.number,))[0][0])

    # ------------------------------------------------------------------------------------------------------ reading

    def hit(self, pipeline: str, step: str, fingerprint: str) -> Hit | None:
        """The output that *step* had with this fingerprint, if it ever had."""
        rows = self._query(
            "select output, run, seconds from cache where pipeline = ? and step = ? and fingerprint = ?",
            (pipeline, step, fingerprint),
        )
        return Hit(_artifact(rows[0]["output"]), rows[0]["run"], rows[0]["seconds"]) if rows else None

    def finished(self, run: str) -> dict[str, tuple[str, Hit]]:
        """The steps that *run* has finished so far: name -> fingerprint, output."""
        rows = self._query(
            "select name, fingerprint, output, cached_from, seconds from steps "
            "where run = ? and status in ('done', 'cached') and output is not null",
            (run,),
        )
        return {
            row["name"]: (row["fingerprint"], Hit(_artifact(row["output"]), row["cached_from"] or run, row["seconds"]))
            for row in rows
        }

    def parts(self, run: str, holding: str) -> dict[str, Mapping[str, Any]]:
        """The parts of those steps that *run* has finished so far in which *holding* stands."""
        rows = self._query(
            "select name, parts from steps where run = ? and status in ('done', 'cached') and instr(parts, ?)",
            (run, holding),
        )
        return {row["name"]: json.loads(row["parts"]) for row in rows}

    def latest(self, pipeline: str) -> dict[str, StepRecord]:
        """The last finished row of each step of *pipeline*."""
        rows = self._query(
            "select * from steps where rowid in (select max(rowid) from steps "
            "where pipeline = ? and status in ('done', 'cached') group by name)",
            (pipeline,),
        )
        return {row["name"]: _step(row) for row in rows}

    def pipelines(self) -> list[str]:
        """The pipelines that have runs."""
        return [row["pipeline"] for row in self._query("select distinct pipeline from runs order by pipeline")]

    def expected_seconds(self, pipeline: str) -> dict[str, float]:
        """How long each step took when it last ran."""
        rows = self._query(
            "select step, seconds, max(created) from cache where pipeline = ? group by step", (pipeline,)
        )
        return {row["step"]: row["seconds"] for row in rows}

    def runs(self, pipeline: str | None = None, limit: int = 50) -> list[RunRecord]:
        """The last runs, newest first; one whose process is gone shows as interrupted."""
        self.look()
        where, values = ("where pipeline = ?", [pipeline]) if pipeline else ("", [])
        rows = self._query(f"select * from runs {where} order by number desc limit ?", [*values, limit])
        return [_run(row) for row in rows]

    def run(self, run: str) -> RunRecord:
        """One run, by its id."""
        self.look()
        rows = self._query("select * from runs where id = ?", (run,))
        if not rows:
            raise NotInStore(f"no run {run!r} in this home; list them with `mainspring runs`")
        return _run(rows[0])

    def steps(self, run: str) -> list[StepRecord]:
        """The steps of *run*, in the order in which they were first written."""
        return [_step(row) for row in self._query("select * from steps where run = ? order by rowid", (run,))]

    def made(self, digest: str) -> list[StepRecord]:
        """The steps that gave the artifact *digest*; their parts name the digests of their inputs: lineage."""
        return [_step(row) for row in self._query("select * from steps where digest = ? order by rowid", (digest,))]

    def look(self) -> None:
        """Mark runs whose process is gone as interrupted."""
        running = self._query("select number from runs where status = 'running'")
        if any(self._leases.free(row["number"]) for row in running):
            with self._transaction() as connection:
                self._mark_dead(connection)

    # ------------------------------------------------------------------------------------------------------ private

    def _mark_dead(self, connection: Connection) -> None:
        """In a write transaction: an owner takes its lease before it commits, and ends its run before it lets go."""
        for row in connection.execute("select number, id from runs where status = 'running'").fetchall():
            if self._leases.free(row["number"]):
                connection.execute(
                    "update runs set status = 'interrupted', ended = ?, error = 'its process ended without a word' "
                    "where number = ?",
                    (self._now(), row["number"]),
                )
                _interrupt_steps(connection, row["id"])

    @contextmanager
    def _transaction(self) -> Iterator[Connection]:
        try:
            with self._database.transaction() as connection:
                yield connection
        except DatabaseError as error:
            raise StoreError(
                f"{self._database.path} can't be written ({error}); make room or mend it, then run again"
            ) from error

    def _query(self, sql: str, values: Sequence[Any] = ()) -> list[Row]:
        try:
            return self._database.query(sql, values)
        except DatabaseError as error:
            raise HomeDamaged(f"{self._database.path} can't be read ({error}); see `mainspring doctor`") from error

    def _now(self) -> str:
        return self._clock().astimezone(UTC).isoformat()


def owned(connection: Connection, claim: Claim) -> Row:
    """The row of *claim*'s run, within a write transaction; raises StoreError when somebody else has it by now."""
    row: Row | None = connection.execute(
        "select fence, status, cancel from runs where number = ?", (claim.number,)
    ).fetchone()
    if row is None or row["fence"] != claim.fence or row["status"] != "running":
        raise StoreError(f"run {claim.run} belongs to another process now; this one stops, see `mainspring runs`")
    return row


def _interrupt_steps(connection: Connection, run: str) -> None:
    connection.execute("update steps set status = 'interrupted' where run = ? and status = 'running'", (run,))


def _id(number: int) -> str:
    """*number* in base 32 without look-alikes: short, and sorted as the numbers are."""
    digits = ""
    while number:
        number, digit = divmod(number, 32)
        digits = _DIGITS[digit] + digits
    return digits.rjust(_ID_LENGTH, "0")


@legible
def _run(row: Row) -> RunRecord:
    return RunRecord(
        row["id"],
        row["pipeline"],
        row["status"],
        datetime.fromisoformat(row["created"]),
        _moment(row["ended"]),
        json.loads(row["parameters"]),
        json.loads(row["selection"]),
        json.loads(row["owner"]),
        row["error"],
    )


@legible
def _step(row: Row) -> StepRecord:
    return StepRecord(
        row["run"],
        row["name"],
        row["status"],
        row["attempt"],
        row["fingerprint"],
        None if row["parts"] is None else json.loads(row["parts"]),
        None if row["output"] is None else _artifact(row["output"]),
        row["seconds"],
        _moment(row["started"]),
        _moment(row["ended"]),
        row["reason"],
        row["trace"],
        row["cached_from"],
    )


def _owner(file: str) -> str:
    return _text({**myself(), "file": file} if file else myself())


@legible
def _artifact(text: str) -> Artifact:
    return Artifact.from_json(json.loads(text))


def _moment(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)


def _text(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), sort_keys=True)
