"""What MLflow is told: everything, once, in order, and never in the way."""

from __future__ import annotations

import os
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mainspring.core.errors import StoreError
from mainspring.store import mlflow_database
from mainspring.store.home import Home
from mainspring.store.outbox import Outbox
from mainspring.store.registry import DIGEST, KEY, PARENT, VERSION, MovedAlias, Registry

TRIALS = [
    {
        "number": number,
        "estimator": "RandomForestClassifier",
        "parameters": {"max_depth": number, "criterion": "gini"},
        "score": 0.7 + number / 100,
        "fold_scores": [0.7, 0.8],
        "seconds": 1.5,
        "stopped_early": number == 2,
    }
    for number in range(3)
]
RUN = {
    "loop": "late-flights",
    "run": "r1",
    "status": "done",
    "started": "2013-04-01T00:00:00+00:00",
    "ended": "2013-04-01T00:01:00+00:00",
    "params": {"trees": 100, "long": "x" * 9_000},
    "metrics": {"roc_auc": 0.8, "gap": float("nan")},
    "tags": {"verdict": "promote"},
    "trials": TRIALS,
    "artifacts": {"card.md": "# Late flights"},
}
VERSION_1 = {"loop": "late-flights", "version": 1, "digest": "d1", "run": "r1", "tags": {"estimator": "forest"}}
CHAMPION = {"loop": "late-flights", "alias": "champion", "version": 1}


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def home(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    monkeypatch.chdir(tmp_path)
    made = Home.open(tmp_path / "home")
    bundle = made.folder("bundles") / "d1"
    bundle.mkdir()
    (bundle / "MLmodel").write_text("flavors: {}\n")
    return made


@pytest.fixture
def registry(home: Home) -> Registry:
    return Registry(home)


def client(registry: Registry) -> Any:
    return registry._client()


def runs(registry: Registry) -> list[Any]:
    experiment = client(registry).get_experiment_by_name("late-flights").experiment_id
    return list(client(registry).search_runs([experiment], max_results=100))


def told(registry: Registry) -> None:
    registry.enqueue("run", "run/r1", RUN)
    registry.enqueue("version", "version/1", VERSION_1)
    registry.enqueue("alias", "alias/champion/1", CHAMPION)
    assert registry.drain(120) == 0, registry.pending()


def test_run_trials_version_and_alias_stand_in_mlflow(registry: Registry, tmp_path: Path) -> None:
    told(registry)

    found = {run.data.tags[KEY]: run for run in runs(registry)}
    parent = found["run/r1"]
    assert parent.data.metrics == {"roc_auc": 0.8} and parent.data.params["trees"] == "100"
    assert parent.data.tags["verdict"] == "promote" and parent.info.status == "FINISHED"
    assert parent.info.end_time - parent.info.start_time == 60_000
    children = [run for run in found.values() if PARENT in run.data.tags]
    assert len(children) == 3 and {run.data.tags["mlflow.parentRunId"] for run in children} == {parent.info.run_id}
    assert {run.data.metrics["score"] for run in children} == {0.7, 0.71, 0.72}
    assert {run.info.status for run in children} == {"FINISHED", "KILLED"}
    version = client(registry).get_model_version_by_alias("late-flights", "champion")
    assert version.tags[VERSION] == "1" and version.tags[DIGEST] == "d1" and version.run_id == parent.info.run_id
    assert {file.path for file in client(registry).list_artifacts(parent.info.run_id)} == {"bundle", "card.md"}
    assert not list(tmp_path.glob("mlruns")) and not list(tmp_path.glob("*.db"))
    assert registry.moved_aliases() == []


def test_a_crash_before_our_mark_doubles_nothing(home: Home, registry: Registry) -> None:
    told(registry)
    with home.database.transaction() as connection:
        connection.execute("update outbox set delivered = null")

    assert registry.drain(120) == 0

    assert len(runs(registry)) == 4
    assert len(client(registry).search_model_versions("name = 'late-flights'")) == 1


def test_a_crash_between_trials_is_gone_on_from(home: Home, registry: Registry) -> None:
    registry.enqueue("run", "run/r1", {**RUN, "trials": TRIALS[:1]})
    assert registry.drain(120) == 0
    with home.database.transaction() as connection:
        connection.execute("delete from outbox")
    registry.enqueue("run", "run/r1", RUN)

    assert registry.drain(120) == 0

    assert len(runs(registry)) == 4


def test_a_key_is_said_once(registry: Registry) -> None:
    for _ in range(3):
        registry.enqueue("run", "run/r1", RUN)

    assert len(registry.pending()) == 1


def test_what_is_rolled_back_is_never_said(home: Home, registry: Registry) -> None:
    with pytest.raises(ZeroDivisionError), home.database.transaction():
        registry.enqueue("run", "run/r1", RUN)
        raise ZeroDivisionError

    assert registry.pending() == [] and registry.drain(0) == 0


def test_a_message_that_mlflow_refuses_holds_up_only_what_needs_it(registry: Registry) -> None:
    registry.enqueue("version", "version/9", {**VERSION_1, "version": 9, "run": "unknown"})
    registry.enqueue("alias", "alias/9", {**CHAMPION, "version": 9})
    registry.enqueue("run", "run/r1", RUN)

    assert registry.drain(120) == 2

    errors = {message.key: message.error for message in registry.pending()}
    assert "doesn't have run unknown" in str(errors["version/9"]) and "late-flights@9" in str(errors["alias/9"])


def test_an_alias_moved_by_hand_is_reported(registry: Registry) -> None:
    told(registry)
    registry.enqueue("version", "version/2", {**VERSION_1, "version": 2})
    registry.enqueue("alias", "alias/candidate/2", {**CHAMPION, "alias": "candidate", "version": 2})
    assert registry.drain(120) == 0
    second = client(registry).get_model_version_by_alias("late-flights", "candidate").version

    client(registry).set_registered_model_alias("late-flights", "champion", second)
    assert registry.moved_aliases() == [MovedAlias("late-flights", "champion", 1, 2)]

    client(registry).delete_registered_model_alias("late-flights", "champion")
    assert registry.moved_aliases() == [MovedAlias("late-flights", "champion", 1, None)]


def test_an_alias_can_be_taken_away(registry: Registry) -> None:
    told(registry)
    registry.enqueue("alias", "alias/champion/0", {**CHAMPION, "version": None})

    assert registry.drain(120) == 0 and registry.moved_aliases() == []

    assert client(registry).get_registered_model("late-flights").aliases == {}


@pytest.fixture
def silent_server() -> Iterator[str]:
    """A server that takes connections and never answers."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(8)
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


def test_a_server_that_never_answers_costs_the_time_given_and_loses_nothing(home: Home, silent_server: str) -> None:
    registry = Registry(home, silent_server)
    registry.enqueue("run", "run/r1", RUN)
    registry._client()

    started = time.monotonic()
    left = registry.drain(1.0)

    assert left == 1 and time.monotonic() - started < 3
    assert Registry(home).drain(0) >= 0 and [message.key for message in registry.pending()] == ["run/r1"]


def test_a_server_that_is_not_there_is_named(home: Home) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        gone = f"http://127.0.0.1:{free.getsockname()[1]}"
    registry = Registry(home, gone)
    registry.enqueue("alias", "alias/1", CHAMPION)

    assert registry.drain(60) == 1
    assert gone.removeprefix("http://").rpartition(":")[2] in str(registry.pending()[0].error)
    with home.database.transaction() as connection:
        connection.execute("update outbox set delivered = 1")
    with pytest.raises(StoreError, match="doesn't answer"):
        registry.moved_aliases()


def test_nothing_to_say_needs_no_mlflow(home: Home) -> None:
    code = (
        "import sys; from pathlib import Path; from mainspring.store.home import Home\n"
        "from mainspring.store.registry import Registry\n"
        "registry = Registry(Home(Path(sys.argv[1])))\n"
        "print(registry.drain(), registry.moved_aliases(), 'mlflow' in sys.modules, 'sqlalchemy' in sys.modules)"
    )

    run = subprocess.run([sys.executable, "-c", code, str(home.path)], capture_output=True, text=True, check=True)

    assert run.stdout.strip() == "0 [] False False"


def test_threads_that_drain_at_once_double_nothing(registry: Registry) -> None:
    registry.enqueue("run", "run/r1", RUN)
    threads = [threading.Thread(target=registry.drain, args=(120,)) for _ in range(4)]
    other = Registry(registry.home)
    threads += [threading.Thread(target=other.drain, args=(120,)) for _ in range(2)]

    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert registry.pending() == [] and len(runs(registry)) == 4


@pytest.mark.filterwarnings("ignore")
def test_the_template_gives_the_schema_without_a_migration(tmp_path: Path, cache: Path) -> None:
    folder = cache / "mainspring"
    mlflow_database.prepare(tmp_path / "first.db", folder)
    (template,) = folder.glob("mlflow-*.db")
    before = template.read_bytes()

    mlflow_database.prepare(tmp_path / "second.db", folder)

    assert (tmp_path / "second.db").read_bytes() == before == template.read_bytes()
    connection = sqlite3.connect(tmp_path / "second.db")
    assert connection.execute("select count(*) from experiments").fetchone() == (0,)
    connection.close()
    mlflow_database.prepare(tmp_path / "second.db", tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_a_cache_that_cannot_be_written_is_done_without(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    mlflow_database.prepare(tmp_path / "mlflow.db", tmp_path / "file" / "cache")

    assert not (tmp_path / "mlflow.db").exists()


def test_messages_keep_their_order_and_their_errors(home: Home) -> None:
    outbox = Outbox(home, now=lambda: 5.0)
    for number in range(3):
        outbox.enqueue("run", f"run/{number}", {"number": number})
    first, second, third = outbox.pending()

    outbox.deliver(second)
    outbox.fail(first, "no")

    assert [message.key for message in outbox.pending()] == ["run/0", "run/2"]
    assert outbox.pending()[0].error == "no" and outbox.pending()[0].attempts == 1
    assert [message.key for message in outbox.of_kind("run")] == ["run/0", "run/1", "run/2"] and third.written == 5.0


def test_the_environment_is_left_to_the_user_where_they_set_it(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "3")

    Registry(home)._client()

    assert os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] == "3" and os.environ["MLFLOW_DISABLE_TELEMETRY"] == "true"
