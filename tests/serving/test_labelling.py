"""`mainspring feedback NAME FILE` against a real endpoint: what is taken, what is refused, and again after a kill."""

from __future__ import annotations

import json
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import polars as pl
import pytest
import uvicorn
from answering import predicted, serving
from click.testing import CliRunner
from stand_in import Logistic, listening

from mainspring.app.cli import cli
from mainspring.store.records import latest

AT = datetime(2013, 3, 30, tzinfo=UTC)


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SimpleNamespace]:
    made, sock = serving(tmp_path, Logistic()), listening()
    made.url = f"http://127.0.0.1:{sock.getsockname()[1]}"
    made.endpoint.app._hosts = None
    server = uvicorn.Server(uvicorn.Config(made.endpoint.app, log_level="warning", lifespan="off", ws="none"))
    monkeypatch.setattr(server, "install_signal_handlers", lambda: None, raising=False)
    thread = threading.Thread(target=lambda: server.run(sockets=[sock]))
    monkeypatch.chdir(tmp_path)
    made.ids = [predicted(made, id=f"k{number}") for number in range(30)]
    thread.start()
    yield made
    server.should_exit = True
    thread.join()
    sock.close()


def given(world: SimpleNamespace, file: str, *more: str) -> dict[str, Any]:
    told = CliRunner().invoke(cli, ["feedback", "flights", file, "--url", world.url, "--json", *more])
    assert told.exit_code == 0, told.output
    answer: dict[str, Any] = json.loads(told.stdout)["labels"]
    return answer


@pytest.mark.parametrize("suffix", ["csv", "parquet", "jsonl", "delta", "db#told"])
def test_a_file_of_labels_is_taken_and_again_changes_nothing(world: SimpleNamespace, suffix: str) -> None:
    frame = pl.DataFrame({"id": world.ids, "label": ["yes", "no", "no"] * 10, "at": [AT.isoformat()] * 30, "note": "x"})
    file = f"labels.{suffix}"
    write: Any = {
        "csv": frame.write_csv, "parquet": frame.write_parquet, "jsonl": frame.write_ndjson, "delta": frame.write_delta,
    }.get(suffix)  # fmt: skip
    if write is None:
        file = f"sqlite:///{file}"
        with closing(sqlite3.connect("labels.db")) as database, database:
            database.execute("create table told (id text, label text, at text, note text)")
            database.executemany("insert into told values (?, ?, ?, ?)", frame.iter_rows())
    else:
        write(file)

    first, again = given(world, file), given(world, file)

    assert (first["rows"], first["new"], first["refused"]) == (30, 30, 0)
    assert (again["new"], again["known"], again["corrected"]) == (0, 30, 0)
    assert [(each.label, each.at) for each in world.feedback()][:2] == [("yes", AT), ("no", AT)]
    assert not Path("flights-refused.jsonl").exists()


def test_what_no_prediction_is_found_for_is_kept_and_may_be_given_again(world: SimpleNamespace) -> None:
    rows = [{"id": world.ids[0], "label": "yes"}, {"id": "later", "label": "no"}, {"id": world.ids[1], "label": "?"},
            {"key": "k2", "label": "yes", "at": "2031-01-01T00:00:00+00:00"}]  # fmt: skip
    Path("labels.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    told = given(world, "labels.jsonl")

    assert (told["new"], told["refused"], told["kept"]) == (1, 3, "flights-refused.jsonl")
    kept = [json.loads(line) for line in Path("flights-refused.jsonl").read_text().splitlines()]
    assert [row.get("id") for row in kept] == ["later", world.ids[1], None] and "still to come" in kept[2]["why"]
    assert "none of the classes" in kept[1]["why"]
    again = given(world, "flights-refused.jsonl", "--refused", "again.jsonl")
    assert again["refused"] == 3


def test_of_two_rows_for_one_prediction_the_later_corrects_the_first(world: SimpleNamespace) -> None:
    Path("labels.csv").write_text(f"id,label\n{world.ids[0]},yes\n{world.ids[1]},no\n{world.ids[0]},no\n")

    assert given(world, "labels.csv")["corrected"] == 1
    assert latest(world.feedback())[world.ids[0]].label == "no"


def test_a_column_of_events_is_taken_beside_labels_or_instead_of_them(world: SimpleNamespace) -> None:
    one, other = world.ids[:2]
    rows = f"{one},yes,complaint\n{other},,purchase\n{one},,purchase\n{one},no,\n{other},,\n{other},,pur chase\n"
    Path("events.csv").write_text(f"id,label,event\n{rows}")

    first, again = given(world, "events.csv"), given(world, "events.csv")

    assert (first["rows"], first["new"], first["corrected"], first["refused"]) == (6, 4, 1, 2)
    assert again["new"] == 0 and latest(world.feedback())[one].label == "no"
    assert set(latest(world.feedback(), "purchase")) == {one, other}


def test_labels_come_by_key_and_time(world: SimpleNamespace) -> None:
    when = datetime(2013, 4, 1, 5, 15)
    pl.DataFrame({"key": ["k3", "k4"], "time": [when] * 2, "label": ["yes", "no"]}).write_parquet("labels.parquet")

    assert given(world, "labels.parquet")["new"] == 2
    assert {each.id for each in world.feedback()} == {world.ids[3], world.ids[4]}


def test_a_killed_command_is_run_again(world: SimpleNamespace) -> None:
    frame = pl.DataFrame({"id": world.ids * 40, "label": ["no"] * 1200})
    frame.write_csv("labels.csv")
    command = [sys.executable, "-m", "mainspring", "feedback", "flights", "labels.csv", "--url", world.url]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    while not world.feedback() and process.poll() is None:
        threading.Event().wait(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()

    assert given(world, "labels.csv")["refused"] == 0
    assert sorted(each.id for each in world.feedback()) == sorted(world.ids)


def test_a_file_without_labels_and_an_endpoint_that_is_not_there_are_told(
    world: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("wrong.csv").write_text("name,label\na,yes\n")
    Path("labels.csv").write_text("id,label\na,yes\n")
    monkeypatch.setattr("mainspring.app.labelling._PATIENCE_SECONDS", 0.0)

    wrong = CliRunner().invoke(cli, ["feedback", "flights", "wrong.csv", "--url", world.url])
    away = CliRunner().invoke(cli, ["feedback", "flights", "labels.csv", "--url", "http://127.0.0.1:9"])

    assert "labels need id or key, and label" in str(wrong.exception)
    assert "took no more labels" in str(away.exception) and "run this again" in str(away.exception)
