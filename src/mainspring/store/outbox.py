"""What is still to be told to the world outside: written in the transaction of the decision, delivered later, once."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from mainspring.store.home import Home

_TABLE = """create table if not exists outbox (
    number integer primary key autoincrement,
    kind text not null,
    key text not null unique,
    payload text not null,
    written real not null,
    delivered real,
    attempts integer not null default 0,
    error text
)"""
_INDEX = "create index if not exists outbox_pending on outbox (number) where delivered is null"


@dataclass(frozen=True, slots=True)
class Message:
    """One thing to tell. written: when, in seconds of the epoch. error: why the last attempt failed."""

    number: int
    kind: str
    key: str
    payload: Mapping[str, Any]
    written: float
    attempts: int = 0
    error: str | None = None


class Outbox:
    """The outbox of a home.

    >>> outbox = Outbox(home)                                                                   # doctest: +SKIP
    >>> outbox.enqueue("alias", "late-flights:champion:7", {"version": 3})                      # doctest: +SKIP
    """

    def __init__(self, home: Home, now: Callable[[], float] = time.time) -> None:
        self._database = home.database
        self._now = now
        self._database.create([_TABLE, _INDEX])

    def enqueue(self, kind: str, key: str, payload: Mapping[str, Any]) -> None:
        """Write one message in the current transaction; a key that is already there is not written twice."""
        with self._database.transaction() as connection:
            connection.execute(
                "insert or ignore into outbox (kind, key, payload, written) values (?, ?, ?, ?)",
                (kind, key, json.dumps(payload, sort_keys=True, default=str), self._now()),
            )

    def pending(self) -> list[Message]:
        """What isn't delivered, in the order in which it was written."""
        return self._select("where delivered is null order by number")

    def count(self) -> int:
        """How many messages aren't delivered."""
        return int(self._database.query("select count(*) from outbox where delivered is null")[0][0])

    def of_kind(self, kind: str) -> list[Message]:
        """Every message of *kind*, delivered ones too, in order."""
        return self._select("where kind = ? order by number", kind)

    def deliver(self, message: Message) -> None:
        """Mark *message* as delivered."""
        with self._database.transaction() as connection:
            connection.execute(
                "update outbox set delivered = ?, error = null, attempts = attempts + 1 where number = ?",
                (self._now(), message.number),
            )

    def fail(self, message: Message, error: str) -> None:
        """Note why *message* couldn't be delivered; it stays pending."""
        with self._database.transaction() as connection:
            connection.execute(
                "update outbox set error = ?, attempts = attempts + 1 where number = ?", (error[:500], message.number)
            )

    def _select(self, condition: str, *parameters: Any) -> list[Message]:
        sql = f"select number, kind, key, payload, written, attempts, error from outbox {condition}"
        return [
            Message(
                row["number"],
                row["kind"],
                row["key"],
                json.loads(row["payload"]),
                row["written"],
                row["attempts"],
                row["error"],
            )
            for row in self._database.query(sql, parameters)
        ]
