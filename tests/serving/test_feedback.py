"""Labels find their predictions, and what can't be is refused."""

from __future__ import annotations

import asyncio
import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from answering import World, predicted, serving
from stand_in import START, Logistic

from mainspring.core.errors import StoreError
from mainspring.store.records import latest


def test_a_label_finds_its_prediction_by_id(world: World) -> None:
    identity = predicted(world)
    answer = world.post("/feedback/flights", {"id": identity, "label": "yes", "at": "2013-04-01T02:04:00+02:00"})

    assert answer.json() == {"ids": [identity], "new": 1, "known": 0, "corrected": 0}
    (record,) = world.feedback()
    assert (record.id, record.label, record.at.isoformat()) == (identity, "yes", "2013-04-01T00:04:00+00:00")


def test_a_label_may_tell_how_likely_it_was_to_come(world: World) -> None:
    world.post("/feedback/flights", {"id": predicted(world), "label": "yes", "propensity": 0.05})

    assert world.feedback()[0].propensity == 0.05


def test_a_label_without_a_time_is_known_since_the_loops_now(world: World) -> None:
    world.post("/feedback/flights", {"id": predicted(world), "label": "no"})

    assert world.feedback()[0].at == START


def test_a_label_finds_its_prediction_by_key_and_time(world: World) -> None:
    early, late = predicted(world), predicted(world, scheduled="2013-04-02T05:15:00")
    by_row = world.post("/feedback/flights", {"key": "f1", "time": "2013-04-01T05:15:00", "label": "no"})
    by_key = world.post("/feedback/flights", {"key": "f1", "label": "yes"})

    assert by_row.json()["ids"] == [early] and by_key.json()["ids"] == [late]


def test_the_same_label_twice_is_taken_once_and_another_corrects_it(world: World) -> None:
    identity = predicted(world)
    said = ("yes", "yes", "no", "no")
    answers = [world.post("/feedback/flights", {"id": identity, "label": label}).json() for label in said]

    assert [(each["new"], each["known"], each["corrected"]) for each in answers] == [
        (1, 0, 0), (0, 1, 0), (0, 0, 1), (0, 1, 0)
    ]  # fmt: skip
    assert [(each.label, each.corrects, each.arrived) for each in world.feedback()] == [
        ("yes", False, START), ("no", True, START)
    ]  # fmt: skip
    assert latest(world.feedback())[identity].label == "no"
    assert 'mainspring_feedback_corrected_total{loop="flights"} 1' in world.get("/metrics").text


def test_labels_of_one_prediction_that_come_together_are_kept_in_the_order_of_their_coming(world: World) -> None:
    identity = predicted(world)
    said = ["yes", "no"] * 8

    async def all_at_once() -> list[int]:
        async with world.client() as client:
            asked = [client.post("/feedback/flights", json={"id": identity, "label": label}) for label in said]
            return [answer.status_code for answer in await asyncio.gather(*asked)]

    assert asyncio.run(all_at_once()) == [200] * 16
    kept = [each.label for each in world.feedback()]
    assert kept[0] == "yes" and all(one != other for one, other in pairwise(kept))
    assert world.served.labels.take(identity, kept[-1]) == kept[-1]


def test_a_correction_that_can_not_be_written_leaves_the_label_that_was_there(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    identity = predicted(world)
    world.post("/feedback/flights", {"id": identity, "label": "yes"})

    def full(*_: object) -> None:
        raise StoreError("no room")

    with monkeypatch.context() as patch:
        patch.setattr(world.served.records, "write_feedback", full)
        assert world.post("/feedback/flights", {"id": identity, "label": "no"}).status_code == 503

    assert world.post("/feedback/flights", {"id": identity, "label": "yes"}).json()["known"] == 1
    assert world.post("/feedback/flights", {"id": identity, "label": "no"}).json()["corrected"] == 1


def test_a_label_that_can_not_be_made_durable_is_refused_by_all_until_it_is_and_is_kept_once(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other, label = serving(tmp_path, Logistic()), {"id": predicted(world), "label": "yes"}
    other.served.labels.refresh()

    def failing(_: int) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr("mainspring.store.segments.os.fdatasync", failing)
        refused = [each.post("/feedback/flights", label) for each in (world, world, other)]
    known = [each.post("/feedback/flights", label).json()["known"] for each in (other, world)]

    assert [each.status_code for each in refused] == [503] * 3 and known == [1, 1]
    assert refused[0].json()["error"]["message"].startswith("the label can't be kept now")
    assert [each.label for each in world.feedback()] == ["yes"]
    other.pool.shutdown()


def test_an_event_counts_once_beside_a_label_or_instead_of_it_and_survives_a_restart(
    world: World, tmp_path: Path
) -> None:
    early, late = predicted(world), predicted(world, scheduled="2013-04-02T05:15:00")
    both = {"id": early, "label": "yes", "event": "complaint", "at": "2013-04-01T01:00:00+02:00"}
    by_key = [{"key": "f1", "event": "purchase"}, {"key": "f1", "time": "2013-04-01T05:15:00", "event": "purchase"}]
    told = [world.post("/feedback/flights", body).json() for body in (both, both, by_key, by_key)]

    assert [(each["ids"], each["new"], each["known"]) for each in told] == [
        ([early], 2, 0), ([early], 0, 2), ([late, early], 2, 0), ([late, early], 0, 2)
    ]  # fmt: skip
    assert world.post("/feedback/flights", {"id": "unknown", "event": "complaint"}).status_code == 404
    unfit = {"id": late, "event": "complaint", "propensity": 0.5}
    assert world.post("/feedback/flights", unfit).status_code == 422

    again = serving(tmp_path, Logistic())
    assert again.post("/feedback/flights", [both, *by_key]).json()["known"] == 4
    assert again.post("/feedback/flights", {"id": late, "event": "complaint"}).json()["new"] == 1
    assert again.post("/feedback/flights", {"key": "f1", "label": "no"}).json()["ids"] == [late]
    assert [(each.id, each.event) for each in again.feedback()] == [
        (early, None), (early, "complaint"), (late, "purchase"), (early, "purchase"), (late, "complaint"), (late, None)
    ]  # fmt: skip
    assert {identity: each.label for identity, each in latest(again.feedback()).items()} == {early: "yes", late: "no"}
    again.pool.shutdown()


def test_a_list_is_taken_whole_or_not_at_all(world: World) -> None:
    ids = [predicted(world) for _ in range(3)]
    refused = world.post("/feedback/flights", [{"id": each, "label": "no"} for each in [*ids, "unknown"]])
    assert refused.status_code == 404 and world.feedback() == []

    taken = world.post("/feedback/flights", [{"id": each, "label": "yes"} for each in ids])
    assert taken.json()["new"] == 3 and len(world.feedback()) == 3


@pytest.mark.parametrize(
    ("change", "status", "message"),
    [
        ({"label": "perhaps"}, 422, 'label "perhaps" is none of the classes "no", "yes"'),
        ({"label": None}, 422, "label null is none of the classes"),
        ({"label": ["yes"]}, 422, "is none of the classes"),
        ({"label": True}, 422, "is none of the classes"),
        ({"id": "flights-unknown"}, 404, "no prediction has the id 'flights-unknown'"),
        ({"id": 7}, 422, "id '7' is not text"),
        ({"at": "yesterday"}, 422, "at 'yesterday' is not a time"),
        ({"at": "2013-04-01T00:00:00"}, 422, "has no time zone; add \\+00:00"),
        ({"at": "0001-01-01T00:00:00+10:00"}, 422, "is not a time"),
        ({"at": "2013-04-01T00:06:00+00:00"}, 422, "is still to come: it is 2013-04-01T00:00:00"),
        ({"at": "9999-12-31T23:59:59-12:00", "event": "complaint"}, 422, "is"),
        ({"propensity": 0}, 422, "propensity '0' is not a chance above 0 and up to 1"),
        ({"propensity": True}, 422, "is not a chance"),
        ({"note": "x"}, 400, "the unknown field 'note'"),
        ({"key": "f1"}, 400, "must be"),
        ({"event": "a complaint"}, 422, "event 'a complaint' is no name \\(a letter, then letters"),
        ({"event": None}, 422, "event 'None' is no name"),
    ],
)
def test_feedback_that_cannot_be_is_refused(world: World, change: dict[str, Any], status: int, message: str) -> None:
    answer = world.post("/feedback/flights", {"id": predicted(world), "label": "yes", **change})

    assert answer.status_code == status, answer.text
    assert re.search(message, answer.json()["error"]["message"])
    assert world.feedback() == []


@pytest.mark.parametrize("body", [b"[]", b"[1]", b"3", b'{"label": "yes"}', b'{"key": null, "label": "yes"}', b"{"])
def test_malformed_feedback_is_refused(world: World, body: bytes) -> None:
    assert world.post("/feedback/flights", content=body).status_code in (400, 422)


def test_a_regression_takes_numbers(tmp_path: Path) -> None:
    made = serving(tmp_path, Logistic(task="regression", classes=()))
    identity = predicted(made)

    assert made.post("/feedback/flights", {"id": identity, "label": "late"}).status_code == 422
    assert made.post("/feedback/flights", {"id": identity, "label": True}).status_code == 422
    assert made.post("/feedback/flights", {"id": identity, "label": 10**400}).status_code in (400, 422)
    assert made.post("/feedback/flights", {"id": identity, "label": 3}).json()["new"] == 1


def test_two_labels_for_one_prediction_in_a_batch_are_refused_and_neither_is_taken(world: World) -> None:
    identity = predicted(world)

    answer = world.post("/feedback/flights", [{"id": identity, "label": label} for label in ("yes", "no")])

    assert answer.status_code == 422 and world.feedback() == []
    assert answer.json()["error"]["message"].endswith('is given two labels, "yes" and "no"')


def test_boolean_classes_take_booleans_only(tmp_path: Path) -> None:
    made = serving(tmp_path, Logistic(classes=(False, True)))
    identity = predicted(made)

    assert made.post("/feedback/flights", {"id": identity, "label": 1}).status_code == 422
    assert made.post("/feedback/flights", {"id": identity, "label": True}).status_code == 200


def test_feedback_waits_until_the_records_are_read_back(world: World) -> None:
    identity = predicted(world)
    world.served.labels_ready = False

    answer = world.post("/feedback/flights", {"id": identity, "label": "yes"})
    assert answer.status_code == 503 and answer.headers["retry-after"] == "1"
