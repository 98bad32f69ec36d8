"""Old records are compacted once, whatever is killed in between, and read with the new ones as if they never were."""

from __future__ import annotations

import fcntl
import os
import signal
import sqlite3
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from mainspring.core.errors import HomeDamaged, NotServed
from mainspring.store.compacted import UNLABELLED, Compacted
from mainspring.store.history import History, compact, compact_all
from mainspring.store.home import Home
from mainspring.store.labels import Labels
from mainspring.store.records import KINDS, FeedbackRecord, PredictionRecord, Records, event_label
from mainspring.store.tables import Table

AT = datetime(2013, 4, 1, 12, tzinfo=UTC)
ROW = {"delay": 1.5, "carrier": None, "text": 'é"\n', "n": 2**60, "ok": True, "whole": 1.0}


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home.open(tmp_path / "home")


def prediction(number: int, **fields: Any) -> PredictionRecord:
    made = {
        "id": f"p{number}", "at": AT + timedelta(hours=number), "key": number % 7,
        "time": f"2013-04-01T{number % 5:02}",
        "unit": "u", "version": 1, "revision": 3, "label": "yes", "probabilities": [0.25, 0.75], "latency_ms": 0.5,
        "loop": "late", "row": ROW,
    }  # fmt: skip
    return PredictionRecord(**{**made, **fields})


def label(number: int, value: Any = "yes", **fields: Any) -> FeedbackRecord:
    at = AT + timedelta(hours=number, minutes=5)
    return FeedbackRecord(**{"id": f"p{number}", "label": value, "at": at, "arrived": at, **fields})


def written(home: Home, predictions: int = 40, labels: int = 40) -> Records:
    """A writer that has filled several small segments, of predictions and of labels."""
    records = Records(home, "late", rotate_bytes=400)
    for number in range(predictions):
        error = {"label": None, "probabilities": None, "error": "it failed"} if number % 9 == 8 else {}
        records.append([prediction(number, **error)])
    for number in range(labels):
        records.append_feedback([label(number, propensity=0.5 if number % 2 else None)])
    records.sync()  # a file that is full is let go once it is durable
    return records


def left(home: Home, kind: str) -> int:
    return len(list((home.folder("records") / "late").glob(f"{kind}-*.seg")))


def test_a_position_that_was_taken_before_a_slower_writer_began_loses_none_of_its_records(home: Home) -> None:
    slow, quick = (Records(home, "late", rotate_bytes=400) for _ in range(2))
    slow.take_up()
    quick.append([prediction(0)])
    _, position = History(home, "late").predictions()
    slow.append([prediction(1)])
    for writer, numbers in ((quick, range(2, 8)), (slow, range(8, 14))):
        for number in numbers:
            writer.append([prediction(number)])
    slow.close()
    quick.close()
    assert compact(home, "late") > 4

    found = [record.id for record in History(home, "late").predictions(position)[0]]
    assert sorted(found) == sorted(f"p{number}" for number in range(1, 14))


def test_a_writer_that_falls_behind_leaves_its_file_to_be_compacted(home: Home) -> None:
    slow, quick = (Records(home, "late", rotate_bytes=400) for _ in range(2))
    slow.append([prediction(0)])
    for number in range(1, 12):
        quick.append([prediction(number)])
    quick.sync()  # a file that is full is let go once it is durable
    assert compact(home, "late") == 0
    slow.step_aside(2)
    assert compact(home, "late") > 1
    slow.append([prediction(12)])

    assert [record.id for record in History(home, "late").predictions()[0]] == [f"p{number}" for number in range(13)]


def test_what_is_compacted_reads_as_before(home: Home) -> None:
    written(home)
    before = Records(home, "late")
    predictions, feedback = before.predictions()[0], before.feedback()[0]
    assert left(home, "predictions") > 4 and left(home, "feedback") > 2

    assert compact(home, "late") > 6
    after = History(home, "late")

    assert after.predictions()[0] == predictions and after.feedback()[0] == feedback
    assert left(home, "predictions") == left(home, "feedback") == 1
    assert compact_all(home) == 0


def test_the_table_can_be_read_by_anybody(home: Home) -> None:
    written(home)
    compact(home, "late")

    rows = Table(home, "late", "predictions").read()
    assert rows["id"].to_list()[:2] == ["p0", "p1"] and rows.schema["at"] == pl.Datetime("us")
    assert rows["row"].str.json_path_match("$.delay").unique().to_list() == ["1.5"]


@pytest.mark.parametrize("kind", ["predictions", "feedback"])
def test_a_reader_goes_on_where_it_was_before_the_compaction(home: Home, kind: Any) -> None:
    written(home, 20, 60)

    def read(after: Any = None) -> Any:
        records = History(home, "late")
        return records.predictions(after) if kind == "predictions" else records.feedback(after)

    everything, end = read()
    places: list[dict[str, int]] = []
    for frame in Records(home, "late").frames(kind):
        places.append({**(places[-1] if places else {}), frame.file: frame.end})
    compact(home, "late")

    for number, place in enumerate(places, 1):
        assert read(place)[0] == everything[number:]
    assert read(end)[0] == [] and read(read()[1])[0] == [] and read()[0] == everything
    assert read(Records(home, "late").end()[kind])[0] == [], "taken after the compaction: what is old is passed"


@pytest.mark.parametrize("step", ["append", "take_in", "unlink"])
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_kill_between_the_steps_neither_loses_nor_doubles(
    home: Home, monkeypatch: pytest.MonkeyPatch, step: str, when: str
) -> None:
    written(home)
    predictions = Records(home, "late").predictions()[0]
    where = {"append": Table, "take_in": Compacted, "unlink": Path}[step]
    real = getattr(where, step)
    calls = []

    def killed(*given: Any, **named: Any) -> Any:
        calls.append(given)
        if len(calls) != 2:
            return real(*given, **named)
        if when == "after":
            real(*given, **named)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(where, step, killed)
        with pytest.raises(KeyboardInterrupt):
            compact(home, "late")

    assert History(home, "late").predictions()[0] == predictions
    compact(home, "late")
    assert History(home, "late").predictions()[0] == predictions
    rows = Table(home, "late", "predictions").read()["id"]
    assert rows.is_unique().all() and left(home, "predictions") == 1


_COMPACT = """
import sys
from pathlib import Path
from mainspring.store.history import compact
from mainspring.store.home import Home
home = Home(Path(sys.argv[1]))
print("ready", flush=True)
compact(home, "late")
"""


@pytest.mark.parametrize("kills", [3, pytest.param(60, marks=(pytest.mark.soak, pytest.mark.timeout(1800)))])
def test_kill_9_of_the_compaction_while_the_loop_goes_on_writing(home: Home, kills: int) -> None:
    records = written(home, 60, 30)
    many = 60
    for kill in range(kills):
        compacting = subprocess.Popen([sys.executable, "-c", _COMPACT, str(home.path)], stdout=subprocess.PIPE)
        assert compacting.stdout is not None and compacting.stdout.readline()
        until = time.monotonic() + 0.02 + 0.05 * (kill % 5)
        while time.monotonic() < until:
            records.append([prediction(many)])
            many += 1
            time.sleep(0.02)
        compacting.send_signal(signal.SIGKILL)
        compacting.wait()
        compacting.stdout.close()
    compact(home, "late")

    found = [record.id for record in History(home, "late").predictions()[0]]
    assert found == [f"p{number}" for number in range(many)]


def test_a_segment_that_is_written_stays_and_so_does_all_behind_it(home: Home) -> None:
    written(home, 12).close()
    files = Records(home, "late").segments("predictions").files()
    held = os.open(files[2], os.O_RDONLY)
    fcntl.flock(held, fcntl.LOCK_EX)
    try:
        compact(home, "late")
        assert Records(home, "late").segments("predictions").files() == files[2:]
    finally:
        os.close(held)


def test_of_a_damaged_segment_what_can_be_read_is_kept_and_so_are_its_bytes(home: Home) -> None:
    written(home, 12)
    first = Records(home, "late").segments("predictions").files()[0]
    content = bytearray(first.read_bytes())
    content[20] ^= 0xFF
    first.write_bytes(content)
    compact(home, "late")

    assert [record.id for record in History(home, "late").predictions()[0]] == [f"p{n}" for n in range(1, 12)]
    assert first.with_suffix(".damaged").read_bytes() == bytes(content)


def test_old_segments_are_not_read_for_a_report_on_new_ones(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    written(home)
    compact(home, "late")
    since = AT + timedelta(hours=39)
    monkeypatch.setattr(Table, "parts", lambda self: pytest.fail("the table was read"))

    batches = History(home, "late").prediction_batches(since=since)
    assert [f"p{n}" for n in range(39, 40)] == [each.id for _, batch in batches for each in batch if each.at >= since]


# --------------------------------------------------------------------------------------------------------- labels


def labels_of(home: Home) -> Labels:
    made = Labels(Records(home, "late"), Compacted(home, "late"))
    made.refresh()
    return made


def test_who_starts_reads_back_only_what_is_not_compacted_and_knows_all(home: Home) -> None:
    written(home, 60, 30)
    whole = labels_of(home)
    compact(home, "late")
    found = labels_of(home)

    assert len(whole) == 60 and len(found) < 20
    for key in range(7):
        assert found.find(key) == whole.find(key)
        assert found.find(key, "2013-04-01T03:00:00+00:00") == whole.find(key, "2013-04-01T03:00:00+00:00")
    assert found.take("p3", "yes") == "yes" and found.take("p55", "no") is UNLABELLED
    assert found.take("p3", "no") == "yes" and found.take("p3", "no") == "no"
    for unknown in ("p60", "x"):
        with pytest.raises(NotServed):
            found.take(unknown, "yes")
    with pytest.raises(NotServed):
        found.find(8)


def test_a_key_is_matched_across_old_and_new_as_it_was_written(home: Home) -> None:
    records = Records(home, "late", rotate_bytes=1)
    for number, key in enumerate(["1", 1, 1.5, True, None, "last"]):
        records.append([prediction(number, key=key)])
    records.sync()
    whole = labels_of(home)
    compact(home, "late")

    found = labels_of(home)
    assert [found.find(key) for key in ("1", 1, 1.0, 1.5)] == [whole.find(key) for key in ("1", 1, 1.0, 1.5)]
    assert found.find("1") == "p0" and found.find(1) == "p3"


def test_a_label_for_an_old_prediction_turns_feedback_by_key_to_the_next(home: Home) -> None:
    written(home, 40, 0)
    compact(home, "late")
    found = labels_of(home)
    seen = []
    for _ in range(3):
        seen.append(found.find(3))
        found.take(seen[-1], "yes")

    assert seen == ["p38", "p31", "p24"]
    found.put_back("p31", UNLABELLED)
    assert found.find(3) == "p31"


def test_memory_is_let_go_as_the_loop_goes_on(home: Home) -> None:
    """Predictions, labels and events that are compacted leave the memory of who has been serving all along."""
    records = Records(home, "late", rotate_bytes=6_000)
    labels = Labels(records, Compacted(home, "late"))
    most = 0
    for number in range(600):
        batch = [prediction(number)]
        labels.add(batch, records.append(batch))
        if number >= 50:
            for value in ("yes", *([event_label("complaint")] if number % 2 else [])):
                assert labels.take(f"p{number - 50}", value) is UNLABELLED
                records.append_feedback([label(number - 50, value)])
        if number % 40 == 0:
            compact(home, "late")
        most = max(most, len(labels))

    assert most < 300
    assert all(labels.take(f"p{number}", "yes") == "yes" for number in range(550))
    complaint = event_label("complaint")
    for index in (labels, labels_of(home)):  # who serves, and who starts anew
        known = [index.take(f"p{number}", complaint) for number in range(550)]
        assert known == [complaint if number % 2 else UNLABELLED for number in range(550)]


def test_a_correction_of_a_compacted_label_is_compacted_too(home: Home) -> None:
    records = written(home)
    records.append_feedback([label(3, "no", arrived=AT + timedelta(days=30), corrects=True)])
    for number in range(20, 30):
        records.append_feedback([label(number)])
    records.sync_feedback()
    compact(home, "late")

    assert labels_of(home).take("p3", "no") == "no"


@pytest.mark.parametrize("compacted_before", [False, True])
@pytest.mark.parametrize(("left_of_it", "index_too"), [(0, False), (200, False), (200, True)])
def test_a_commit_that_a_loss_of_power_tore_is_withdrawn(
    home: Home, monkeypatch: pytest.MonkeyPatch, compacted_before: bool, left_of_it: int, index_too: bool
) -> None:
    records = written(home, 20, 0)
    if compacted_before:
        compact(home, "late")
        for number in range(20, 40):
            records.append([prediction(number)])
        records.sync()
    everything = History(home, "late").predictions()[0]

    def lost(*_: Any) -> None:
        log = max((home.folder("tables") / "late" / "predictions" / "_delta_log").glob("*.json"))
        log.write_bytes(log.read_bytes()[:left_of_it])
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Compacted, "take_in", lost)
        with pytest.raises(KeyboardInterrupt):
            compact(home, "late")
    if index_too:
        for part in (home.folder("records") / "late").glob("compacted.db*"):
            part.unlink()
    compact(home, "late")

    assert History(home, "late").predictions()[0] == everything
    assert Table(home, "late", "predictions").read()["id"].is_unique().all()


def test_a_loop_that_is_damaged_keeps_no_other_from_being_compacted(home: Home) -> None:
    written(home)
    compact(home, "late")
    for part in (home.folder("tables") / "late" / "predictions").glob("*.parquet"):
        part.unlink()
    (home.folder("records") / "late" / "compacted.db").unlink()
    later = Records(home, "later", rotate_bytes=600)
    for number in range(20):
        later.append([prediction(number)])
    later.sync()
    assert len(later.segments("predictions").files()) > 2

    with pytest.raises(HomeDamaged):
        compact_all(home)

    assert len(later.segments("predictions").files()) == 1


def _cut(path: Path) -> None:
    path.write_bytes(b"no database" + path.read_bytes()[11:])


def _blur(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * (path.stat().st_size - 4096))


def _by_up(home: Home) -> int:
    return compact(home, "late")


def _by_gc(home: Home) -> int:
    return compact_all(home, checked=True)


@pytest.mark.parametrize(("damage", "by"), [(_cut, _by_up), (_blur, _by_gc), (Path.unlink, _by_up)])
def test_an_index_that_is_damaged_or_gone_is_made_anew(home: Home, damage: Any, by: Any) -> None:
    records = written(home)
    records.append_feedback([label(3, "no", arrived=AT + timedelta(days=9)), label(4, event_label("complaint"))])
    for number in range(40, 60):
        records.append_feedback([label(number % 20)])
    compact(home, "late")
    told, place = History(home, "late").feedback()[0], History(home, "late").predictions()[1]
    index = Compacted(home, "late")
    known = [index.segments(kind) for kind in KINDS], index.latest(3), index.event(("p4", "complaint"))
    with sqlite3.connect(home.folder("records") / "late" / "compacted.db") as database:
        database.execute("pragma wal_checkpoint(truncate)")
    database.close()
    damage(home.folder("records") / "late" / "compacted.db")

    with pytest.raises(HomeDamaged, match="`mainspring gc` makes it anew"):
        for identity in range(20):
            labels_of(home).take(f"p{identity}", "yes")
            Compacted(home, "late").latest(identity, "2013-04-01T03")
    by(home)

    assert ([index.segments(kind) for kind in KINDS], index.latest(3), index.event(("p4", "complaint"))) == known
    assert index.label("p3") == "no" and index.label("p30") == "yes" and index.is_sound()
    assert History(home, "late").feedback()[0] == told and History(home, "late").predictions(place)[0] == []
