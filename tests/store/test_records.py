"""Records survive kills, torn tails and damage; every one is read once, and labels find their prediction."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mainspring.core.errors import NotServed, StoreError
from mainspring.core.schema import Column, Schema, Type
from mainspring.store.home import Home
from mainspring.store.labelled import labelled
from mainspring.store.labels import UNLABELLED, Labels
from mainspring.store.records import FeedbackRecord, PredictionRecord, Records, encoded, identifiers, latest
from mainspring.store.segments import Segments

AT = datetime(2013, 4, 1, 12, tzinfo=UTC)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home.open(tmp_path / "home")


def prediction(identity: str, key: Any = None, time: Any = None, **fields: Any) -> PredictionRecord:
    return PredictionRecord(id=identity, at=AT, key=key, time=time, version=1, loop="late", **fields)


def ids(records: Records) -> list[str]:
    return [record.id for record in records.predictions()[0]]


def test_records_come_back_whole_and_in_order(home: Home) -> None:
    row = {"delay": 1.5, "carrier": None, "day": "2013-04-01", "n": 2**63 - 1, "ok": True}
    record = prediction("a", key=7, time="2013-04-01T00:00:00", row=row, label="yes", probabilities=[0.25, 0.75])
    failed = prediction("b", error="ZeroDivisionError: ...")
    Records(home, "late").append([record, failed])

    assert Records(home, "late").predictions()[0] == [record, failed]


def test_a_reader_goes_on_where_it_was(home: Home) -> None:
    records = Records(home, "late", rotate_bytes=200)
    _, position = records.predictions()
    for number in range(20):
        records.append([prediction(f"p{number}")])
        new, position = Records(home, "late").predictions(position)
        assert [record.id for record in new] == [f"p{number}"]
    assert records.predictions(position)[0] == []
    assert len(os.listdir(home.folder("records") / "late")) > 3, "the files rotate"


def test_loops_and_kinds_are_apart(home: Home) -> None:
    Records(home, "late").append([prediction("a")])
    Records(home, "late").append_feedback([FeedbackRecord(id="a", label="yes", at=AT)])

    assert Records(home, "early").predictions()[0] == []
    assert [record.label for record in Records(home, "late").feedback()[0]] == ["yes"]


def test_a_new_writer_goes_on_in_the_last_file(home: Home) -> None:
    for name in "abc":
        records = Records(home, "late")
        records.append([prediction(name)])
        records.close()

    assert ids(Records(home, "late")) == ["a", "b", "c"]
    assert len(list((home.folder("records") / "late").glob("*.seg"))) == 1


def test_two_writers_at_once_never_share_a_file(home: Home) -> None:
    first, second = Records(home, "late"), Records(home, "late")
    for number in range(10):
        first.append([prediction(f"a{number}")])
        second.append([prediction(f"b{number}")])

    assert sorted(ids(Records(home, "late"))) == sorted([f"a{n}" for n in range(10)] + [f"b{n}" for n in range(10)])
    assert len(list((home.folder("records") / "late").glob("*.seg"))) == 2


def test_labels_of_several_writers_have_one_order_in_one_file(home: Home) -> None:
    writers = [Records(home, "late"), Records(home, "late")]
    for number in range(6):
        writers[number % 2].append_feedback([FeedbackRecord(id=f"p{number}", label=1, at=AT)])

    assert [record.id for record in Records(home, "late").feedback()[0]] == [f"p{number}" for number in range(6)]
    assert len(list((home.folder("records") / "late").glob("*.seg"))) == 1


def test_what_a_killed_writer_left_half_written_is_cut_off_by_the_next_ones_turn(home: Home) -> None:
    first, second = Records(home, "late"), Records(home, "late")
    first.append_feedback([FeedbackRecord(id="a", label=1, at=AT)])
    second.append_feedback([FeedbackRecord(id="b", label=1, at=AT)])
    (path,) = (home.folder("records") / "late").glob("feedback-*.seg")
    with path.open("ab") as file:
        file.write(path.read_bytes()[:20])
    first.append_feedback([FeedbackRecord(id="c", label=1, at=AT)])

    found = Records(home, "late")
    assert [record.id for record in found.feedback()[0]] == ["a", "b", "c"] and not found.damage


def test_labels_that_another_wrote_are_durable_before_they_are_told_to_be_known(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = Records(home, "late"), Records(home, "late")
    first.append_feedback([FeedbackRecord(id="a", label=1, at=AT)])
    second.append_feedback([FeedbackRecord(id="b", label=1, at=AT)])
    turn = first.feedback_turn()
    assert turn is not None and second.feedback_turn() is None
    first.write_feedback([FeedbackRecord(id="c", label=1, at=AT)])  # and is killed before it syncs
    turn.end()
    synced: list[int] = []
    monkeypatch.setattr("mainspring.store.segments.os.fdatasync", synced.append)
    turn = second.feedback_turn()
    assert turn is not None
    turn.end()
    second.sync_feedback()

    assert len(synced) == 1


@given(cut=st.integers(1, 400), data=st.data())
@settings(max_examples=40, deadline=None)
def test_a_torn_tail_costs_only_the_batch_that_was_torn(
    tmp_path_factory: pytest.TempPathFactory, cut: int, data: st.DataObject
) -> None:
    home = Home.open(tmp_path_factory.mktemp("torn"))
    records = Records(home, "late")
    frames = [records.append([prediction(f"p{number}", row={"text": "x" * 30})]) for number in range(5)]
    records.close()
    path = home.folder("records") / "late" / frames[0].file
    size = max(path.stat().st_size - cut, 0)
    garbage = data.draw(st.binary(max_size=40))
    path.write_bytes(path.read_bytes()[:size] + garbage)
    whole = [f"p{number}" for number, frame in enumerate(frames) if frame.end <= size]

    assert ids(Records(home, "late")) == whole
    again = Records(home, "late")
    again.append([prediction("new")])
    assert ids(again) == [*whole, "new"]


@pytest.mark.parametrize("offset", [0, 3, 5, 9, 14, 40])
def test_damage_in_the_middle_loses_one_batch_and_is_named(home: Home, offset: int) -> None:
    records = Records(home, "late")
    frames = [records.append([prediction(f"p{number}")]) for number in range(5)]
    records.close()
    path = home.folder("records") / "late" / frames[0].file
    content = bytearray(path.read_bytes())
    content[frames[2].start + offset] ^= 0xFF
    path.write_bytes(content)

    reader = Records(home, "late")
    assert ids(reader) == ["p0", "p1", "p3", "p4"]
    assert reader.damage == [f"{path}: bytes {frames[2].start} to {frames[2].end} are damaged; their records are lost"]
    writer = Records(home, "late")
    writer.append([prediction("new")])
    assert ids(writer) == ["p0", "p1", "p3", "p4", "new"], "what lies behind the damage isn't cut off"


def test_a_file_that_is_all_zeros_holds_nothing(home: Home) -> None:
    records = Records(home, "late")
    file = records.append([prediction("a")]).file
    records.close()
    path = home.folder("records") / "late" / file
    path.write_bytes(path.read_bytes() + bytes(4096))

    assert ids(Records(home, "late")) == ["a"]


def test_a_request_cannot_smuggle_in_a_record(tmp_path: Path) -> None:
    victim, other = Segments(tmp_path / "a", "predictions"), Segments(tmp_path / "b", "predictions")
    forged = other.append(b"forged")
    frame = (tmp_path / "b" / forged.file).read_bytes()
    written = victim.append(b"head " + frame + b" tail")
    path = tmp_path / "a" / written.file
    content = bytearray(path.read_bytes())
    content[0] ^= 0xFF
    path.write_bytes(content)

    assert list(Segments(tmp_path / "a", "predictions").frames()) == []


def test_a_full_disk_leaves_no_half_record(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    records = Records(home, "late")
    records.append([prediction("a")])
    real = os.write
    calls: list[int] = []

    def short(descriptor: int, data: bytes) -> int:
        calls.append(len(data))
        if len(calls) == 1:
            return real(descriptor, data[:10])
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("mainspring.store.segments.os.write", short)
        with pytest.raises(StoreError, match="can't be written \\(No space left on device\\); make room"):
            records.append([prediction("b")])
    records.append([prediction("c")])

    assert ids(Records(home, "late")) == ["a", "c"]


_WRITER = """
import sys
from datetime import UTC, datetime
from pathlib import Path
from mainspring.store.home import Home
from mainspring.store.records import FeedbackRecord, Records
records = Records(Home(Path(sys.argv[1])), "late")
number = len(records.feedback()[0])
while True:
    records.append_feedback([FeedbackRecord(id=f"p{number}", label="yes", at=datetime.now(UTC))])
    print(number, flush=True)
    number += 1
"""


def test_no_acknowledged_feedback_is_lost_or_doubled_by_kills(home: Home) -> None:
    acknowledged: list[int] = []
    for stop_after in (1, 7, 23, 2, 40):
        writer = subprocess.Popen([sys.executable, "-c", _WRITER, str(home.path)], stdout=subprocess.PIPE, text=True)
        assert writer.stdout is not None
        for _ in range(stop_after):
            acknowledged.append(int(writer.stdout.readline()))
        writer.send_signal(signal.SIGKILL)
        acknowledged += [int(line) for line in writer.stdout.read().splitlines()]
        writer.stdout.close()
        writer.wait()

    kept = [record.id for record in Records(home, "late").feedback()[0]]
    assert len(set(kept)) == len(kept)
    assert {f"p{number}" for number in acknowledged} <= set(kept)


def test_callers_in_many_threads_share_fsyncs(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    records, syncs, real = Records(home, "late"), [], os.fdatasync
    records.take_up()

    def counted(descriptor: int) -> None:
        syncs.append(descriptor)
        threading.Event().wait(0.02)
        real(descriptor)

    monkeypatch.setattr("mainspring.store.segments.os.fdatasync", counted)
    feedback = [FeedbackRecord(id=f"p{number}", label=1, at=AT) for number in range(40)]
    threads = [threading.Thread(target=records.append_feedback, args=([each],)) for each in feedback]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(records.feedback()[0]) == 40
    assert len(syncs) < 20


class FailingDisk:
    """The kernel's pages of all files: an fsync that fails takes what it didn't write for written."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.fails, self._dirty, self._kept = 0, set[tuple[int, int]](), set[tuple[int, int]]()
        self._write, self._pwrite = os.write, os.pwrite
        for name in ("write", "pwrite", "fdatasync"):
            patch.setattr(f"mainspring.store.segments.os.{name}", getattr(self, name))

    def write(self, descriptor: int, content: bytes) -> int:
        start = os.fstat(descriptor).st_size
        self._note(descriptor, content, start)
        return self._write(descriptor, content)

    def pwrite(self, descriptor: int, content: bytes, start: int) -> int:
        self._note(descriptor, content, start)
        return self._pwrite(descriptor, content, start)

    def fdatasync(self, descriptor: int) -> None:
        file = os.fstat(descriptor).st_ino
        dirty = {each for each in self._dirty if each[0] == file}
        self._dirty -= dirty
        if self.fails:
            self.fails -= 1
            raise OSError(errno.EIO, "Input/output error")
        self._kept |= dirty

    def keeps(self, path: Path) -> bool:
        return all((path.stat().st_ino, place) in self._kept for place in range(path.stat().st_size))

    def _note(self, descriptor: int, content: bytes, start: int) -> None:
        file = os.fstat(descriptor).st_ino
        self._dirty |= {(file, place) for place in range(start, start + len(content))}


def test_after_a_failed_fsync_the_next_one_is_believed_only_for_what_was_written_again(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk, records, other = FailingDisk(monkeypatch), Records(home, "late"), Records(home, "late")
    file = records.segments("feedback").files
    disk.fails = 1
    records.append_feedback([FeedbackRecord(id="a", label=1, at=AT)])
    assert disk.keeps(file()[0]), "it was written again at once"

    disk.fails = 2
    with pytest.raises(StoreError, match="can't be made durable"):
        records.append_feedback([FeedbackRecord(id="b", label=1, at=AT)])
    assert not disk.keeps(file()[0])
    records.sync_feedback()
    assert disk.keeps(file()[0])

    disk.fails = 2
    with pytest.raises(StoreError, match="can't be made durable"):
        records.append_feedback([FeedbackRecord(id="c", label=1, at=AT)])
    turn = other.feedback_turn(wait=True)  # another process, which has read the label and would tell it to be known
    assert turn is not None
    turn.end()
    other.sync_feedback()
    assert disk.keeps(file()[0])
    assert [record.id for record in Records(home, "late").feedback()[0]] == ["a", "b", "c"]


def test_a_writer_that_begins_writes_again_what_a_killed_one_could_not_make_durable(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk, killed = FailingDisk(monkeypatch), Records(home, "late")
    killed.segments("predictions").append(encoded([prediction("a")]))
    disk.fails = 2
    with pytest.raises(StoreError, match="can't be made durable"):
        killed.sync()
    (path,) = killed.segments("predictions").files()
    os.close(killed.segments("predictions")._descriptor)
    Records(home, "late").take_up()

    assert disk.keeps(path) and ids(Records(home, "late")) == ["a"]


def test_predictions_are_made_durable_soon(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    synced = threading.Event()
    monkeypatch.setattr("mainspring.store.segments.os.fdatasync", lambda descriptor: synced.set())
    Records(home, "late").append([prediction("a")])

    assert synced.wait(1.0)


def test_who_appends_waits_for_no_disk_when_a_file_is_full(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    records, here = Records(home, "late", rotate_bytes=1), threading.current_thread().name
    records.append([prediction("a")])
    synced: list[tuple[int, str]] = []
    folders: list[tuple[Path, str]] = []

    def noted(descriptor: int) -> None:
        synced.append((os.fstat(descriptor).st_ino, threading.current_thread().name))

    monkeypatch.setattr("mainspring.store.segments.os.fdatasync", noted)
    monkeypatch.setattr(
        "mainspring.store.segments.durable.sync",
        lambda folder: folders.append((folder, threading.current_thread().name)),
    )
    for identity in "bcd":
        records.append([prediction(identity)])
    waited = [by for _, by in synced + folders if by == here]
    records.sync()

    files = records.segments("predictions").files()
    assert not waited and len(files) == 4 and ids(records) == ["a", "b", "c", "d"]
    assert {each.stat().st_ino for each in files} <= {file for file, _ in synced} and folders
    records.close()


def test_ids_are_unique_and_repeat_only_from_the_same_seed_and_place() -> None:
    new = identifiers("late-flights")
    drawn = [identity for _ in range(100) for identity in new(10)]
    assert len(set(drawn)) == 1000 and all(identity.startswith("late-flights-") for identity in drawn)

    place = ("predictions-0000000001-abcdef01.seg", 0)
    same_place_elsewhere = ("predictions-0000000001-12345678.seg", 0)
    assert identifiers("late", 1, place)(5) == identifiers("late", 1, same_place_elsewhere)(5)
    assert identifiers("late", 1, place)(5) != identifiers("late", 2, place)(5)
    assert not set(identifiers("late", 1, place)(5)) & set(identifiers("late", 1, (place[0], 100))(5))


INPUTS = Schema(
    (
        Column("delay", Type.FLOAT),
        Column("carrier", Type.TEXT),
        Column("scheduled", Type.DATETIME),
        Column("day", Type.DATE),
        Column("freight", Type.BOOLEAN),
    )
)
ROWS: list[dict[str, Any]] = [
    {"delay": 3, "carrier": "AA", "scheduled": "2013-04-01T05:00:00+02:00", "day": "2013-04-01", "freight": True},
    {"delay": None, "carrier": None, "scheduled": None, "day": None, "freight": None},
    {"delay": 1.5, "carrier": "UA", "scheduled": " 2013-04-01 08:30 +0200", "day": "2013-04-02", "freight": False},
]


def test_labelled_rows_come_typed_with_the_label_that_arrived_last(home: Home) -> None:
    records = Records(home, "late")
    records.append([prediction(f"p{number}", row=row) for number, row in enumerate(ROWS)])
    later = AT + timedelta(hours=1)
    records.append_feedback([FeedbackRecord(id="p2", label=1, at=AT), FeedbackRecord(id="p0", label=1, at=later)])
    corrected = FeedbackRecord(id="p0", label=0, at=later + timedelta(days=1), corrects=True)
    records.append_feedback([corrected, FeedbackRecord(id="nobody", label=1, at=AT)])

    frame = labelled(records, "late", INPUTS)

    assert frame["mainspring_id"].to_list() == ["p0", "p2"]
    assert frame["late"].to_list() == [0, 1]
    assert frame["mainspring_at"].to_list() == [later, AT]
    assert frame["scheduled"].to_list() == [datetime(2013, 4, 1, 3), datetime(2013, 4, 1, 6, 30)]
    assert (
        frame.schema["delay"] == pl.Float64 and frame.schema["day"] == pl.Date and frame.schema["freight"] == pl.Boolean
    )


def test_a_loop_without_labels_gives_an_empty_frame_of_the_right_columns(home: Home) -> None:
    frame = labelled(Records(home, "late"), "late", INPUTS)

    assert frame.height == 0 and frame.columns == [*INPUTS.names, "late", "mainspring_id", "mainspring_at"]


# --------------------------------------------------------------------------------------------------------- labels


@pytest.fixture
def labels(home: Home) -> Labels:
    records = Records(home, "late")
    records.append([prediction("a", "JFK", "2013-04-01T10:00:00"), prediction("b", "JFK", "2013-04-01T11:00:00")])
    records.append([prediction("c", "JFK", "2013-04-01T11:00:00"), prediction("d", 7), prediction("e")])
    made = Labels(records)
    made.refresh()
    return made


def test_a_key_means_its_latest_unlabelled_prediction(labels: Labels) -> None:
    assert labels.find("JFK") == "c"
    labels.take("c", "yes")
    assert labels.find("JFK") == "b"


def test_key_and_time_mean_exactly_that_row(labels: Labels) -> None:
    assert labels.find("JFK", "2013-04-01T10:00:00") == "a"
    assert labels.find("JFK", "2013-04-01T13:00:00+02:00") == "c"
    with pytest.raises(NotServed, match="no prediction for key 'JFK' at '2013-04-01T12:00:00'"):
        labels.find("JFK", "2013-04-01T12:00:00")


def test_a_key_whose_predictions_are_all_labelled_means_the_last(labels: Labels) -> None:
    assert labels.take(labels.find(7), "yes") is UNLABELLED
    assert labels.take(labels.find(7), "yes") == "yes"


def test_unknown_ids_and_keys_are_named(labels: Labels) -> None:
    with pytest.raises(NotServed, match="no prediction has the id 'x'"):
        labels.take("x", "yes")
    with pytest.raises(NotServed, match="no prediction for key 'LGA'; give the id"):
        labels.find("LGA")


def test_what_was_known_of_a_prediction_is_told_and_can_be_put_back(labels: Labels) -> None:
    assert labels.take("a", "yes") is UNLABELLED
    assert labels.take("a", "no") == "yes"
    labels.put_back("a", "yes")
    assert labels.take("a", "yes") == "yes"
    labels.put_back("a", UNLABELLED)
    assert labels.take("a", "no") is UNLABELLED


def test_of_two_labels_the_one_that_arrived_last_counts_whatever_the_order_of_the_files() -> None:
    first = FeedbackRecord(id="a", label=0, at=AT, arrived=AT)
    second = FeedbackRecord(id="a", label=1, at=AT + timedelta(days=9), arrived=AT + timedelta(days=1), corrects=True)

    assert latest([first, second])["a"].label == latest([second, first])["a"].label == 1
    assert latest([first, second])["a"].at == AT, "it is known since the first label was"


def test_the_index_takes_in_its_own_and_other_processes_writing_once(home: Home, labels: Labels) -> None:
    mine, other = Records(home, "late"), Records(home, "late")
    batch = [prediction("f", "LGA")]
    labels.add(batch, mine.append(batch))
    other.append([prediction("g", "LGA")])
    other.append_feedback([FeedbackRecord(id="g", label="yes", at=AT)])
    labels.refresh()

    assert len(labels) == 7
    assert labels.find("LGA") == "f"
    assert labels.take("g", "yes") == "yes"


def test_the_write_path_imports_neither_polars_nor_numpy() -> None:
    code = "import sys, mainspring.store.records, mainspring.store.labels, mainspring.store.deployments; "
    code += "print([name for name in ('polars', 'numpy', 'sklearn', 'mlflow', 'sqlalchemy') if name in sys.modules])"

    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said.strip() == "[]"
