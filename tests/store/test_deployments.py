"""Versions, routes and decisions are kept as they were given, and changed by one hand at a time."""

from __future__ import annotations

import sqlite3
import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest

from mainspring.core.errors import NotInStore, RouteChanged, StoreError
from mainspring.core.values import Bundle
from mainspring.store.deployments import Deployments, Route
from mainspring.store.home import Home

AT = datetime(2013, 4, 1, 12, tzinfo=UTC)
ROUTE = Route("late", 0, 1, None, None, 0.0, 0, AT, AT, "salt", False)


def bundle(digest: str = "aa") -> Bundle:
    return Bundle(digest, "late", "RandomForestClassifier", "onnx", "binary", (False, True), "roc_auc", 12, ("a note",))


@pytest.fixture
def deployments(tmp_path: Path) -> Deployments:
    return Deployments(Home.open(tmp_path / "home"))


def register(deployments: Deployments, digest: str, loop: str = "late") -> int:
    return deployments.register(loop, bundle(digest), run="r", champion_digest=None, metrics={"roc_auc": 0.9}, at=AT)


def test_a_bundle_keeps_the_number_it_got_first(deployments: Deployments) -> None:
    numbers = [register(deployments, digest) for digest in ("aa", "bb", "aa")]

    assert numbers == [1, 2, 1]
    assert [version.digest for version in deployments.versions("late")] == ["aa", "bb"]


def test_numbers_count_per_loop(deployments: Deployments) -> None:
    assert (register(deployments, "aa"), register(deployments, "aa", "other")) == (1, 1)
    assert deployments.loops() == ["late", "other"]


def test_a_version_comes_back_as_it_was_registered(deployments: Deployments) -> None:
    version = deployments.version("late", register(deployments, "aa"))

    assert version.bundle == bundle("aa")
    assert version.name == "late@1" and version.metrics == {"roc_auc": 0.9} and version.at == AT
    assert deployments.version_of("late", "aa") == version
    assert deployments.version_of("late", "zz") is None


def test_an_unknown_version_is_named(deployments: Deployments) -> None:
    with pytest.raises(NotInStore, match="late has no version 7; `mainspring models late`"):
        deployments.version("late", 7)


def test_a_route_is_changed_only_from_the_revision_it_was_read_at(deployments: Deployments) -> None:
    first = deployments.change_route(ROUTE, expected=0)
    second = deployments.change_route(replace(first, canary=2, share=0.05), expected=1)

    assert deployments.route("late") == second and second.revision == 2
    for stale in (0, 1, 3):
        with pytest.raises(RouteChanged, match=f"not at revision {stale} any more"):
            deployments.change_route(second, expected=stale)


def test_of_many_writers_at_one_revision_exactly_one_wins(tmp_path: Path) -> None:
    home = Home.open(tmp_path / "home")
    Deployments(home).change_route(ROUTE, expected=0)
    outcomes: list[str] = []

    def change(canary: int) -> None:
        try:
            Deployments(Home(home.path)).change_route(replace(ROUTE, canary=canary), expected=1)
            outcomes.append("won")
        except RouteChanged:
            outcomes.append("lost")

    threads = [threading.Thread(target=change, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(outcomes) == ["lost"] * 7 + ["won"]


def test_what_belongs_together_lands_together_or_not_at_all(deployments: Deployments) -> None:
    with pytest.raises(ZeroDivisionError), deployments.transaction():
        register(deployments, "aa")
        deployments.change_route(ROUTE, expected=0)
        deployments.decide("late", at=AT, kind="release", decision="promote", version=1, reason="first")
        deployments.save_state("late", "evidence", {"folds": 1})
        1 / 0

    assert deployments.versions("late") == [] and deployments.route("late") is None
    assert deployments.decisions("late") == [] and deployments.load_state("late", "evidence") is None


def test_decisions_are_read_in_order_with_their_data(deployments: Deployments) -> None:
    for word in ("hold", "promote"):
        deployments.decide(
            "late", at=AT, kind="gate", decision=word, version=None, reason=f"so {word}", data={"k": [1]}
        )

    first, second = deployments.decisions("late")
    assert (first.decision, first.reason, first.at, first.data) == ("hold", "so hold", AT, {"k": [1]})
    assert deployments.decisions("late", after=first.number) == [second]


@pytest.mark.parametrize("statement", ["update decisions set reason = 'other'", "delete from decisions"])
def test_a_decision_can_be_neither_changed_nor_deleted(deployments: Deployments, statement: str) -> None:
    deployments.decide("late", at=AT, kind="gate", decision="hold", version=None, reason="so")

    with (
        pytest.raises(sqlite3.IntegrityError, match="append-only"),
        deployments.home.database.transaction() as connection,
    ):
        connection.execute(statement)


def test_a_time_without_zone_is_refused(deployments: Deployments) -> None:
    with pytest.raises(StoreError, match="has no time zone"):
        deployments.decide("late", at=datetime(2013, 4, 1), kind="gate", decision="hold", version=None, reason="so")


def test_times_of_any_zone_come_back_as_the_same_moment_in_utc(deployments: Deployments) -> None:
    deployments.set_clock(datetime(2013, 4, 1, 14, tzinfo=timezone(timedelta(hours=2))))

    assert deployments.clock() == AT and str(deployments.clock()) == "2013-04-01 12:00:00+00:00"


def test_without_a_manual_clock_the_loops_live_by_the_systems(deployments: Deployments) -> None:
    assert deployments.clock() is None
    assert abs(deployments.now() - datetime.now(UTC)) < timedelta(seconds=5)
    deployments.set_clock(AT)
    assert deployments.now() == AT
    deployments.set_clock(None)
    assert deployments.clock() is None


def test_each_bundle_uses_a_holdout_once(deployments: Deployments) -> None:
    uses = [deployments.holdout_use("late", "h1", digest) for digest in ("aa", "bb", "aa", "cc")]

    assert uses == [1, 2, 1, 3]
    assert deployments.holdout_use("late", "h2", "aa") == 1 and deployments.holdout_use("other", "h1", "aa") == 1


def test_states_are_replaced(deployments: Deployments) -> None:
    deployments.save_state("late", "cursor", {"at": 1})
    deployments.save_state("late", "cursor", {"at": 2})

    assert deployments.load_state("late", "cursor") == {"at": 2}
    assert deployments.load_state("other", "cursor") is None
