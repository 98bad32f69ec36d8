"""Which versions a loop has, who gets its traffic, and every decision with its reason. Nothing here decides."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Literal

import msgspec

from mainspring.core.errors import NotInStore, RouteChanged, StoreError
from mainspring.core.values import Bundle
from mainspring.store.home import Home, legible

VersionState = Literal[
    "registered", "champion", "canary", "shadow", "waiting", "held", "retired", "rolled back", "rejected"
]
Trial = Literal["canary", "shadow", "A/B test", "bandit"]
Kind = Literal["gate", "release", "retrain", "monitor", "erase"]
TRIAL = "trial"
"""The small state with what the running trial has come to, for `status`."""
MOST_LOOKS = 2_000
"""Of one version."""
DECLARED = "declared"
"""The small state with what a declaration says to the commands that know only its loop's name."""
ONSET = "onset"
"""The small state with the rows' time since when the champion's predictions are worse, as the last report found it."""

_TABLES = (
    """create table if not exists versions (
        loop text not null, number integer not null, digest text not null, bundle text not null, run text not null,
        champion_digest text, metrics text not null, state text not null, at text not null,
        primary key (loop, number), unique (loop, digest))""",
    """create table if not exists routes (
        loop text primary key, revision integer not null, champion integer, canary integer, previous integer,
        share real not null, step integer not null, step_started text not null, started text not null,
        salt text not null, holding integer not null)""",
    """create table if not exists trials (loop text primary key, strategy text not null, mirrored real not null)""",
    """create table if not exists looks (
        number integer primary key autoincrement, loop text not null, version integer not null, at text not null,
        strategy text not null, share real not null, data text not null)""",
    "create index if not exists looks_by_version on looks (loop, version, number)",
    """create table if not exists decisions (
        number integer primary key autoincrement, loop text not null, at text not null, kind text not null,
        decision text not null, version integer, reason text not null, data text not null)""",
    """create trigger if not exists decisions_stay before update on decisions
        begin select raise(abort, 'decisions are append-only'); end""",
    """create trigger if not exists decisions_are_kept before delete on decisions
        begin select raise(abort, 'decisions are append-only'); end""",
    """create table if not exists states (
        loop text not null, name text not null, value text not null, primary key (loop, name))""",
    """create table if not exists holdout_uses (
        loop text not null, holdout text not null, digest text not null, use integer not null,
        primary key (loop, holdout, digest), unique (loop, holdout, use))""",
    "create table if not exists clock (id integer primary key check (id = 1), now text not null)",
    "create index if not exists decisions_by_loop on decisions (loop, number)",
)

_ROUTES = "select routes.*, trials.strategy, trials.mirrored from routes left join trials using (loop)"


@dataclass(frozen=True, slots=True)
class Version:
    """One registered bundle of a loop. champion_digest: whom the gate judged it against."""

    loop: str
    number: int
    digest: str
    bundle: Bundle
    run: str
    champion_digest: str | None
    metrics: Mapping[str, float | None]
    state: VersionState
    at: datetime

    @property
    def name(self) -> str:
        return f"{self.loop}@{self.number}"


@dataclass(frozen=True, slots=True)
class Route:
    """Who gets a loop's traffic. *share*: of the units, to the canary, 0 to 1; *started*: when this release began.

    revision: counts the changes; a change names the revision it was made from. holding: a person, or a stage's
    deadline, has stopped the ramp; the share stays as it is. strategy: how the version in the canary's place is tried.
    mirrored: of the units, whose requests a shadow is shown.
    """

    loop: str
    revision: int
    champion: int | None
    canary: int | None
    previous: int | None
    share: float
    step: int
    step_started: datetime
    started: datetime
    salt: str
    holding: bool
    strategy: Trial = "canary"
    mirrored: float = 0.0


@dataclass(frozen=True, slots=True)
class Look:
    """What the evidence on a version on trial was at one time; *share*: of the units, to it."""

    version: int
    at: datetime
    strategy: Trial
    share: float
    data: Any


@dataclass(frozen=True, slots=True)
class DecisionRecord:
    """One decision as it was written down."""

    number: int
    loop: str
    at: datetime
    kind: Kind
    decision: str
    version: int | None
    reason: str
    data: Any


class Deployments:
    """Versions, routes, decisions, small states, uses of holdouts, the manual clock; all in the home's database.

    Every write joins the transaction that is open in this thread, so that what belongs together lands together.
    """

    def __init__(self, home: Home) -> None:
        self.home = home
        self._database = home.database
        self._database.create(_TABLES)

    def __reduce__(self) -> tuple[Any, ...]:
        """They travel to another process as their home."""
        return Deployments, (self.home,)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All writes of the block are durable together, or none is."""
        with self._database.transaction():
            yield

    # ------------------------------------------------------------------------------------------------- versions

    def register(
        self,
        loop: str,
        bundle: Bundle,
        *,
        run: str,
        champion_digest: str | None,
        metrics: Mapping[str, float],
        at: datetime,
    ) -> int:
        """The version number of *bundle*; the same bundle keeps the number it got first."""
        with self._database.transaction() as connection:
            known = self.version_of(loop, bundle.digest)
            if known is not None:
                return known.number
            row = connection.execute("select coalesce(max(number), 0) + 1 from versions where loop = ?", (loop,))
            number = int(row.fetchone()[0])
            connection.execute(
                "insert into versions values (?, ?, ?, ?, ?, ?, ?, 'registered', ?)",
                (loop, number, bundle.digest, _dump(bundle), run, champion_digest, _dump(dict(metrics)), _text(at)),
            )
            return number

    def versions(self, loop: str) -> list[Version]:
        """All versions, the oldest first."""
        return [
            _version(row)
            for row in self._database.query("select * from versions where loop = ? order by number", (loop,))
        ]

    def version(self, loop: str, number: int) -> Version:
        """Version *number*; raises NotInStore."""
        rows = self._database.query("select * from versions where loop = ? and number = ?", (loop, number))
        if not rows:
            raise NotInStore(f"{loop} has no version {number}; `mainspring models {loop}` lists them")
        return _version(rows[0])

    def version_of(self, loop: str, digest: str) -> Version | None:
        """The version that has this bundle."""
        rows = self._database.query("select * from versions where loop = ? and digest = ?", (loop, digest))
        return _version(rows[0]) if rows else None

    def set_state(self, loop: str, number: int, state: VersionState) -> None:
        with self._database.transaction() as connection:
            connection.execute("update versions set state = ? where loop = ? and number = ?", (state, loop, number))

    # --------------------------------------------------------------------------------------------------- routes

    def loops(self) -> list[str]:
        """The loops that have a version."""
        return [row["loop"] for row in self._database.query("select distinct loop from versions order by loop")]

    def route(self, loop: str) -> Route | None:
        """Who gets the traffic of *loop*; None before its first release."""
        rows = self._database.query(f"{_ROUTES} where loop = ?", (loop,))
        return _route(rows[0]) if rows else None

    def routes(self) -> dict[str, Route]:
        """The routes of all loops."""
        return {row["loop"]: _route(row) for row in self._database.query(f"{_ROUTES} order by loop")}

    def change_route(self, route: Route, *, expected: int) -> Route:
        """Write *route* as revision *expected* + 1 (0: there was none) and return it.

        Raises RouteChanged when the route isn't at *expected* any more: read it again and decide anew.
        """
        revision = expected + 1
        values = (
            revision, route.champion, route.canary, route.previous, route.share, route.step, _text(route.step_started),
            _text(route.started), route.salt, int(route.holding), route.loop,
        )  # fmt: skip
        with self._database.transaction() as connection:
            if expected == 0:
                changed = connection.execute(
                    "insert into routes (revision, champion, canary, previous, share, step, step_started, started,"
                    " salt, holding, loop) values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) on conflict (loop) do nothing",
                    values,
                ).rowcount
            else:
                changed = connection.execute(
                    "update routes set revision = ?, champion = ?, canary = ?, previous = ?, share = ?, step = ?,"
                    " step_started = ?, started = ?, salt = ?, holding = ? where loop = ? and revision = ?",
                    (*values, expected),
                ).rowcount
            if changed != 1:
                raise RouteChanged(
                    f"the route of {route.loop} is not at revision {expected} any more; read it and try again"
                )
            connection.execute(
                "insert into trials values (?, ?, ?) on conflict (loop) do update set strategy = excluded.strategy,"
                " mirrored = excluded.mirrored",
                (route.loop, route.strategy, route.mirrored),
            )
        return replace(route, revision=revision)

    # ------------------------------------------------------------------------------------------------ decisions

    def decide(
        self, loop: str, *, at: datetime, kind: Kind, decision: str, version: int | None, reason: str, data: Any = None
    ) -> int:
        """Write a decision down, for good; its number."""
        with self._database.transaction() as connection:
            cursor = connection.execute(
                "insert into decisions (loop, at, kind, decision, version, reason, data) values (?, ?, ?, ?, ?, ?, ?)",
                (loop, _text(at), kind, decision, version, reason, _dump(data)),
            )
            return int(cursor.lastrowid or 0)

    def decisions(self, loop: str, *, after: int = 0) -> list[DecisionRecord]:
        """The decisions of *loop* numbered above *after*, the oldest first."""
        rows = self._database.query(
            "select * from decisions where loop = ? and number > ? order by number", (loop, after)
        )
        return [_decision(row) for row in rows]

    # ---------------------------------------------------------------------------- states, holdouts, the manual clock

    def save_state(self, loop: str, name: str, value: Any) -> None:
        """Keep a small JSON *value* under *name*."""
        with self._database.transaction() as connection:
            connection.execute(
                "insert into states values (?, ?, ?) on conflict (loop, name) do update set value = excluded.value",
                (loop, name, _dump(value)),
            )

    def load_state(self, loop: str, name: str) -> Any:
        """What `save_state` kept; None when there is nothing."""
        rows = self._database.query("select value from states where loop = ? and name = ?", (loop, name))
        return json.loads(rows[0]["value"]) if rows else None

    def add_look(self, loop: str, look: Look) -> None:
        """Keep *look* for the release's page; of too many, every second one is forgotten."""
        with self._database.transaction() as connection:
            connection.execute(
                "insert into looks (loop, version, at, strategy, share, data) values (?, ?, ?, ?, ?, ?)",
                (loop, look.version, _text(look.at), look.strategy, look.share, _dump(look.data)),
            )
            named = (loop, look.version)
            row = connection.execute("select count(*) as many from looks where loop = ? and version = ?", named)
            if int(row.fetchone()["many"]) > MOST_LOOKS:
                connection.execute(
                    "delete from looks where number in (select number from (select number, row_number() over"
                    " (order by number) as place from looks where loop = ? and version = ?) as them"
                    " where place % 2 = 0)",
                    named,
                )

    def looks(self, loop: str, version: int) -> list[Look]:
        """The evidence on *version* over time, the oldest first."""
        rows = self._database.query(
            "select * from looks where loop = ? and version = ? order by number", (loop, version)
        )
        return [_look(row) for row in rows]

    def holdout_use(self, loop: str, holdout_id: str, digest: str) -> int:
        """How often this holdout has been used, this time included; the same bundle counts once."""
        with self._database.transaction() as connection:
            connection.execute(
                "insert into holdout_uses select ?, ?, ?, count(*) + 1 from holdout_uses where loop = ? and holdout = ?"
                " on conflict (loop, holdout, digest) do nothing",
                (loop, holdout_id, digest, loop, holdout_id),
            )
            row = connection.execute(
                "select use from holdout_uses where loop = ? and holdout = ? and digest = ?", (loop, holdout_id, digest)
            ).fetchone()
        return int(row["use"])

    def set_clock(self, now: datetime | None) -> None:
        """Move the manual clock to *now*; None gives the loops back to the system's clock."""
        with self._database.transaction() as connection:
            connection.execute("delete from clock")
            if now is not None:
                connection.execute("insert into clock values (1, ?)", (_text(now),))

    def clock(self) -> datetime | None:
        """The manual clock's time; None when loops live by the system's clock."""
        rows = self._database.query("select now from clock")
        return _time(rows[0]["now"]) if rows else None

    def now(self) -> datetime:
        """The time by which the loops live."""
        return self.clock() or datetime.now(UTC)


def _dump(value: Any) -> str:
    return msgspec.json.encode(value).decode()


def _text(at: datetime) -> str:
    if at.tzinfo is None:
        raise StoreError(f"the time {at.isoformat()} has no time zone; give one, such as datetime.now(UTC)")
    return at.astimezone(UTC).isoformat()


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)


@legible
def _version(row: sqlite3.Row) -> Version:
    return Version(
        row["loop"], row["number"], row["digest"], msgspec.json.decode(row["bundle"], type=Bundle), row["run"],
        row["champion_digest"], json.loads(row["metrics"]), row["state"], _time(row["at"]),
    )  # fmt: skip


@legible
def _route(row: sqlite3.Row) -> Route:
    return Route(
        row["loop"], row["revision"], row["champion"], row["canary"], row["previous"], row["share"], row["step"],
        _time(row["step_started"]), _time(row["started"]), row["salt"], bool(row["holding"]),
        row["strategy"] or "canary", row["mirrored"] or 0.0,
    )  # fmt: skip


@legible
def _look(row: sqlite3.Row) -> Look:
    return Look(row["version"], _time(row["at"]), row["strategy"], row["share"], json.loads(row["data"]))


@legible
def _decision(row: sqlite3.Row) -> DecisionRecord:
    return DecisionRecord(
        row["number"], row["loop"], _time(row["at"]), row["kind"], row["decision"], row["version"], row["reason"],
        json.loads(row["data"]),
    )  # fmt: skip
