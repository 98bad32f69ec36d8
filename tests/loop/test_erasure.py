"""A data subject erased: afterwards no file of the home has any of its bytes, and all else goes on."""

from __future__ import annotations

import io
import json
import shutil
import signal
import sqlite3
import subprocess
import sys
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from sklearn.tree import DecisionTreeClassifier

import mainspring as ms
from mainspring.core.errors import NotInStore
from mainspring.core.joins import Join
from mainspring.data.ingest import ingest
from mainspring.loop import champion
from mainspring.loop.erasure import erase
from mainspring.store.compacted import UNLABELLED, Compacted
from mainspring.store.deployments import Deployments
from mainspring.store.history import History, compact
from mainspring.store.home import Home
from mainspring.store.labelled import labelled
from mainspring.store.lookups import Lookups
from mainspring.store.records import FeedbackRecord, PredictionRecord, Records, event_label
from mainspring.store.shadows import ShadowBatch, ShadowRecord, Shadows
from mainspring.store.tables import Table

WRONG = "ruinous"
NOW = datetime(2015, 1, 1, tzinfo=UTC)
SUBJECT, NOTE, OTHER = "Qwzebra7xx", "unique-note-Jqzv7", "Qwzebra8xx"


def trips(rows: int = 120) -> pl.DataFrame:
    random = np.random.default_rng(1)
    age, fare = random.integers(18, 90, rows), random.normal(50, 20, rows).round(2)
    return pl.DataFrame({
        "trip": range(rows), "passenger": [f"Qwzebra{place % 40}xx" for place in range(rows)],
        "note": [f"unique-note-Jqzv{place}" if place in (7, 8) else f"seat {place % 5}" for place in range(rows)],
        "age": age, "fare": [{47: WRONG, 48: "dear"}.get(place, str(each)) for place, each in enumerate(fare)],
        "day": [date(2014, 1, 1) + timedelta(days=place) for place in range(rows)],
        "late": age / 50 + fare / 60 + random.normal(0, 0.2, rows) > 2,
    })  # fmt: skip


def loop(data: pl.DataFrame, **privacy: Any) -> ms.Loop:
    return ms.Loop(
        "trips", data=ms.frame(data), target="late", key="trip", time="day", release=ms.Immediate(),
        model=DecisionTreeClassifier(max_depth=3, random_state=0),
        privacy=ms.Privacy(subject="passenger", detect="off", **privacy),
    )  # fmt: skip


def predict(home: Home, row: dict[str, Any], label: bool | None) -> str:
    """A prediction on record, and its label and an event."""
    records, identity = Records(home, "trips"), f"trips-{row['trip']}"
    told = {name: str(value) if name == "day" else value for name, value in row.items() if name != "late"}
    records.append([PredictionRecord(id=identity, at=NOW, key=row["trip"], time=told["day"], unit=str(row["trip"]),
                                     version=1, label=True, probabilities=[0.25, 0.75], row=told)])  # fmt: skip
    if label is not None:
        told = (label, event_label("complaint"))
        records.append_feedback([FeedbackRecord(id=identity, label=each, at=NOW) for each in told])
    records.close()
    return identity


def events(records: Records) -> list[str]:
    """The predictions of which a complaint is known."""
    return [each.id for each in records.feedback()[0] if each.event is not None]


def traces(folder: Path, *texts: str) -> list[str]:
    """The files of *folder* that have one of *texts* among their bytes, or in the cells of a table."""
    return sorted({str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()
                   and any(text in content for text in texts for content in contents(path))})  # fmt: skip


def contents(path: Path) -> list[str]:
    content = path.read_bytes()
    found = [content.decode("utf-8", "replace")]
    if content[:4] == b"PAR1":
        found.append(pl.read_parquet(io.BytesIO(content)).write_json())
    elif content[:6] == b"ARROW1":
        found.append(pl.read_ipc(io.BytesIO(content)).write_json())
    return found


@pytest.fixture(scope="module")
def lived(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home after two ingests and a run, with predictions, labels and quarantined rows of several subjects."""
    home, data = Home.open(tmp_path_factory.mktemp("erasing") / ".mainspring"), trips()
    declared = loop(data).declaration
    ingest(source=ms.frame(data.head(100)), roles=declared.roles, home=home, loop="trips", privacy=declared.privacy)
    loop(data).run(home=home)
    for place in (207, 208, 209):
        row = {**data.row(place % 40, named=True), "trip": place, "fare": 12.5}
        row |= {"when": datetime.now(UTC).date().isoformat(), "how": "done"} if place == 207 else {}
        predict(home, row, True)
    other_doors(home)
    assert traces(home.path, SUBJECT, NOTE) and traces(home.path, WRONG)
    home.database.close()
    return home.path


def other_doors(home: Home) -> None:
    """The subject, and another, in what a trial, a join, people and faults leave in a home."""
    deployments, shadows, records = Deployments(home), Shadows(home, "trips"), home.path / "records" / "trips"
    told = [
        ShadowRecord(id=f"trips-{place}", at=NOW, unit=who, label=True, error=f"no {who}", row={"passenger": who})
        for place, who in ((207, SUBJECT), (208, OTHER))
    ]
    shadows.append(ShadowBatch(version=2, revision=1, dropped=0, records=told))
    shadows.close()
    (segment,) = records.glob("shadows-*.seg")
    shutil.copyfile(segment, records / "predictions-0000000000-00000000.damaged")
    with segment.open("ab") as file:
        file.write(segment.read_bytes()[:-9])  # the kernel had written so much of a batch
    people = pl.DataFrame({"passenger": [SUBJECT, OTHER], "phone": [f"{NOTE}-phone", "unique-note-Jqzv8-phone"]})
    Lookups(home, "trips").keep(Join(None, None, ("passenger",)), people, {"cursor": None})
    log = home.path / "tables" / "trips" / "rows"
    (log / "_delta_log" / "00000000000000000009.torn").write_text(f'{{"add": "{SUBJECT[:-1]}')
    people.write_parquet(log / "of-a-killed-writer.parquet")
    deployments.save_state("trips", "release_evidence", {"slices": {"passenger": {SUBJECT: [1, 0.0], OTHER: [1, 0.0]}}})
    deployments.decide("trips", at=NOW, kind="release", decision="held", version=1, reason=f"{SUBJECT} and {OTHER} ask")
    (home.path / "refused.csv").write_text(f"id,label\n{SUBJECT},1\n{OTHER},1\n")


@pytest.fixture
def home(lived: Path, tmp_path: Path) -> Home:
    shutil.copytree(lived, tmp_path / ".mainspring")
    return Home.open(tmp_path / ".mainspring")


def test_no_byte_of_the_subject_is_left_in_the_home_and_the_others_are(home: Home) -> None:
    before = Table(home, "trips", "rows").read()

    (done,) = erase(home, SUBJECT, None, NOW)

    after = Table(home, "trips", "rows").read()
    assert traces(home.path, SUBJECT, NOTE, WRONG) == [] and done.left == ()
    assert done.tables["rows"] == 2 and done.tables["quarantine"] == 1 and (done.predictions, done.labels) == (1, 2)
    assert done.models == ("trips@1",) and done.shadows == 1
    assert after.height == before.filter(pl.col("passenger") != SUBJECT).height
    others = " ".join(traces(home.path, OTHER, "unique-note-Jqzv8"))
    assert all(
        door in others for door in ("shadows-", "lookup-", "quarantine/", "rows/", "mainspring.db", "refused.csv")
    )
    (batch,) = [batch for _, batch in Shadows(home, "trips").batches()]
    assert [(record.row, record.unit.strip()) for record in batch.records] == [({}, ""), ({"passenger": OTHER}, OTHER)]
    assert Deployments(home).decisions("trips")[-2].reason == f"(erased) and {OTHER} ask"


def test_decisions_stay_append_only_after_one_was_cleared(home: Home) -> None:
    erase(home, SUBJECT, None, NOW)

    with pytest.raises(sqlite3.IntegrityError, match="append-only"), home.database.transaction() as connection:
        connection.execute("update decisions set reason = ''")


def test_every_prediction_still_counts_and_others_keep_their_labels(home: Home) -> None:
    erase(home, SUBJECT, "trips", NOW)

    records = Records(home, "trips")
    predictions = records.predictions()[0]
    assert [record.id for record in predictions] == ["trips-207", "trips-208", "trips-209"]
    assert predictions[0].row == {} and predictions[0].key is None and not predictions[0].unit.strip()
    assert labelled(records, "late")["mainspring_id"].to_list() == ["trips-208", "trips-209"]
    assert events(records) == ["trips-208", "trips-209"]
    assert records.damage == []


def test_the_loop_goes_on_without_the_subject_although_the_source_gives_it_again(home: Home) -> None:
    erase(home, SUBJECT, None, NOW)

    run = loop(trips().with_columns(age=pl.col("age") + 1)).run(home=home)

    assert run.model == "trips@2" and traces(home.path, SUBJECT, NOTE) == []
    assert champion.predict(home, "trips", trips().drop("late").head(3).with_columns(fare=pl.lit(10.0))).shape == (3,)


def test_records_that_were_compacted_forget_the_subject_too(home: Home) -> None:
    records = Records(home, "trips", rotate_bytes=1)
    for place in (227, 228):
        row = {**trips().row(place % 40, named=True), "trip": place, "fare": 9.5}
        told = {name: str(value) if name == "day" else value for name, value in row.items()}
        subject = SUBJECT if place == 227 else OTHER
        records.append([PredictionRecord(id=f"old-{place}", at=NOW, key=place, unit=str(place), label=True,
                                         row={**told, "passenger": subject})])  # fmt: skip
        for label in (True, event_label("complaint")):
            records.append_feedback([FeedbackRecord(id=f"old-{place}", label=label, at=NOW)])
    records.append([PredictionRecord(id="last", at=NOW, key=1, unit="1", label=True, row={"trip": 1})])
    records.append_feedback([FeedbackRecord(id="last", label=True, at=NOW)])
    records.close()
    assert compact(home, "trips") >= 2

    (done,) = erase(home, SUBJECT, None, NOW)

    history = History(home, "trips")
    assert traces(home.path, SUBJECT, NOTE) == [] and (done.predictions, done.labels) == (2, 4)
    assert {"old-227", "old-228", "last"} <= {record.id for record in history.predictions()[0]}
    assert [each for each in labelled(history, "late")["mainspring_id"] if each.startswith("old")] == ["old-228"]
    assert sorted(events(history)) == ["old-228", "trips-208", "trips-209"]
    index = Compacted(home, "trips")
    assert [index.event((f"old-{place}", "complaint")) for place in (227, 228)] == [
        UNLABELLED, event_label("complaint")
    ]  # fmt: skip


def test_what_was_done_is_among_the_decisions_without_the_subject(home: Home) -> None:
    erase(home, SUBJECT, None, NOW)

    told = Deployments(home).decisions("trips")[-1]
    assert (told.kind, told.decision) == ("erase", "erased") and "trained on them: trips@1" in told.reason
    assert len(told.data["subject"]) == 1 and SUBJECT not in json.dumps(told.data)


def test_a_model_of_data_that_an_erasure_made_unreadable_is_named_for_the_next_person(home: Home) -> None:
    erase(home, SUBJECT, None, NOW)

    (other,) = erase(home, OTHER, None, NOW)
    (nobody,) = erase(home, "nobody", None, NOW)

    assert other.models == () and other.perhaps == ("trips@1",) and "perhaps on them: trips@1" in other.sentence
    assert nobody.perhaps == ()


def test_a_pseudonymised_subject_is_found_by_its_own_name(tmp_path: Path) -> None:
    home = Home.open(tmp_path / ".mainspring")
    loop(trips(120), pseudonymize=["passenger"]).run(home=home)
    (name,) = set(Table(home, "trips", "rows").read().filter(pl.col("trip") == 7)["passenger"])
    assert traces(home.path, name) and traces(home.path, SUBJECT) == []

    (done,) = erase(home, SUBJECT, None, NOW)

    assert done.tables["rows"] == 2 and traces(home.path, name, SUBJECT, NOTE) == []


_ERASE = """
import os, signal, sys
from datetime import UTC, datetime
from pathlib import Path
from mainspring.loop import erasure
from mainspring.store.history import History, compact
from mainspring.store.home import Home

module, _, name = sys.argv[3].rpartition(".")
target = getattr(erasure, module)
original = getattr(target, name)

def dies(*given, **named):
    if sys.argv[4] == "after":
        original(*given, **named)
    os.kill(os.getpid(), signal.SIGKILL)

setattr(target, name, dies)
erasure.erase(Home.open(Path(sys.argv[1])), sys.argv[2], None, datetime.now(UTC))
"""


@pytest.mark.parametrize(
    ("where", "when"),
    [("traces.erase_traces", "after"), ("erasing.erase_rows", "after")],
)
def test_an_erasure_that_was_killed_is_finished_by_the_next(home: Home, where: str, when: str) -> None:
    home.database.close()
    died = subprocess.run([sys.executable, "-c", _ERASE, str(home.path), SUBJECT, where, when], timeout=60, check=False)
    assert died.returncode == -signal.SIGKILL

    (done,) = erase(Home.open(home.path), SUBJECT, None, NOW)

    assert traces(home.path, SUBJECT, NOTE) == [] and done.models == ("trips@1",) and done.left == ()
    assert labelled(Records(home, "trips"), "late")["mainspring_id"].to_list() == ["trips-208", "trips-209"]


def test_without_a_subject_column_it_says_what_to_write(tmp_path: Path) -> None:
    home = Home.open(tmp_path / ".mainspring")

    with pytest.raises(NotInStore, match=r"no loop says whom a row is about; write privacy=ms.Privacy\(subject="):
        erase(home, SUBJECT, None, NOW)
