"""The only door to MLflow: runs, trials, model versions and aliases, written through the outbox, each exactly once."""

from __future__ import annotations

import fcntl
import logging
import os
import re
import sqlite3
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from mainspring.core.errors import NotInStore, StoreError
from mainspring.core.quiet import heard
from mainspring.store import mlflow_database
from mainspring.store.home import Home
from mainspring.store.outbox import Message, Outbox

Kind = Literal["run", "version", "alias"]

KEY, PARENT, VERSION, DIGEST, RUN = (f"mainspring.{name}" for name in ("key", "parent", "version", "digest", "run"))
"""The tags by which what stands in MLflow is recognised again."""
BUNDLE = "bundle"
"""Where a version's bundle lies among its run's artifacts."""
_ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
}
"""What MLflow reads from the environment, where the user hasn't said otherwise."""
_LONGEST_VALUE = 5_000


@dataclass(frozen=True, slots=True)
class MovedAlias:
    """An alias that somebody moved in MLflow. ours and theirs: mainspring's version numbers; None: no such alias, or a
    version that mainspring didn't make."""

    loop: str
    alias: str
    ours: int | None
    theirs: int | None


class Registry:
    """MLflow's tracking server and registry, as the journal wants them to be.

    tracking_uri: of the server; a SQLite database in the home unless told. Messages:
    "run" {loop, run, status, started, ended, params, metrics, tags, trials: [{number, estimator, parameters, score,
    fold_scores, seconds, stopped_early}], artifacts: {name: text}}, "version" {loop, version, digest, run, tags} and
    "alias" {loop, alias, version (None takes it away)}.
    """

    def __init__(self, home: Home, tracking_uri: str | None = None) -> None:
        self.home = home
        self.tracking_uri = tracking_uri or f"sqlite:///{home.path.resolve() / 'mlflow.db'}"
        self._own = tracking_uri is None
        self._outbox = Outbox(home)
        self._lock = threading.Lock()
        self._worker: threading.Thread | None = None
        self._connecting = threading.Lock()
        self._connected: Any = None

    def enqueue(self, kind: Kind, key: str, payload: Mapping[str, Any]) -> None:
        """Say *payload* to MLflow later; joins the current transaction, and the same key is said once."""
        self._outbox.enqueue(kind, key, payload)

    def drain(self, timeout_seconds: float = 10.0) -> int:
        """Deliver what is pending, for *timeout_seconds* at most; the number of messages that still are.

        The rest goes on in the background while this process lives, and otherwise with the next `drain`.
        """
        if not self._outbox.count():
            return 0
        with self._lock:
            if self._worker is None or not self._worker.is_alive():
                self._worker = threading.Thread(target=self._deliver_all, name="mainspring-registry", daemon=True)
                self._worker.start()
            worker = self._worker
        worker.join(timeout_seconds)
        return self._outbox.count()

    def pending(self) -> list[Message]:
        """What MLflow hasn't been told yet, with the last error."""
        return self._outbox.pending()

    def moved_aliases(self) -> list[MovedAlias]:
        """The aliases that aren't in MLflow where the journal says. Raises StoreError when MLflow doesn't answer."""
        said = {(m.payload["loop"], m.payload["alias"]): m for m in self._outbox.of_kind("alias")}
        waiting = {message.number for message in self._outbox.pending()}
        settled = [message.payload for message in said.values() if message.number not in waiting]
        if not settled:
            return []
        try:
            client = self._client()
            found = [(payload, _Models(client, payload["loop"]).at(payload["alias"])) for payload in settled]
        except Exception as error:  # whatever MLflow raises: it couldn't be asked
            raise StoreError(
                f"MLflow at {self.tracking_uri} doesn't answer ({_line(error)}); check MLFLOW_TRACKING_URI"
            ) from error
        return [
            MovedAlias(payload["loop"], payload["alias"], payload["version"], theirs)
            for payload, theirs in found
            if theirs != payload["version"]
        ]

    def fetch(self, uri: str, folder: Path) -> Path:
        """The files of a model, "models:/name/3", "models:/name@alias" or "runs:/id/path", copied into *folder*; a
        model's folder on this machine stays where it is. Raises NotInStore for what isn't there."""
        if Path(uri.removeprefix("file://")).is_dir():
            return Path(uri.removeprefix("file://"))
        match = re.fullmatch(r"models:/([^/@]+)(?:/(\d+)|@([^/@]+))|runs:/.+", uri)
        if match is None:
            raise NotInStore(f"{uri!r} is no model; give models:/NAME/3, models:/NAME@ALIAS, runs:/ID/PATH or a folder")
        name, version, alias = match.groups()
        folder.mkdir(parents=True)
        try:
            client = self._client()
            version = client.get_model_version_by_alias(name, alias).version if alias else version
            found = client.get_model_version_download_uri(name, str(version)) if name else uri
            return self._downloaded(found, folder)
        except Exception as error:  # whatever MLflow raises: it hasn't the model, or doesn't answer
            raise NotInStore(f"MLflow at {self.tracking_uri} doesn't give {uri}: {_line(error)}") from error

    def _downloaded(self, uri: str, folder: Path) -> Path:
        from mlflow.artifacts import download_artifacts

        with heard():
            where = {"tracking_uri": self.tracking_uri, "registry_uri": self.tracking_uri}
            return Path(download_artifacts(uri, dst_path=str(folder), **where))

    def warm(self) -> None:
        """Load MLflow (seconds) in the background, to have it at hand when there is something to tell it."""

        def load() -> None:
            with suppress(Exception):  # `drain` meets it again, and tells it
                self._client()

        threading.Thread(target=load, name="mainspring-registry-warm", daemon=True).start()

    def _client(self) -> Any:
        with self._connecting:
            if self._connected is None:
                self._connected = _client(self.tracking_uri)
            return self._connected

    def _deliver_all(self) -> None:
        """In order, by one process at a time. An MLflow that isn't there ends it, a message that it refuses doesn't."""
        try:
            with _alone(self.home.folder("run") / "outbox"):
                self._deliver_pending()
        except (OSError, sqlite3.Error, StoreError) as error:  # the home is gone or full: nothing was delivered
            logging.getLogger(__name__).warning("MLflow is told nothing: %s", _line(error))
        finally:
            self.home.database.close()

    def _deliver_pending(self) -> None:
        pending = self._outbox.pending()
        try:
            deliver = _Delivery(self)
        except Exception as error:  # MLflow's import, or its database, in any state
            self._outbox.fail(pending[0], _line(error))
            return
        for message in pending:
            try:
                deliver(message)
            except Exception as error:  # an edge: what MLflow raises is reported by `pending`, nothing is lost
                self._outbox.fail(message, _line(error))
                if not deliver.refused(error):
                    return
            else:
                self._outbox.deliver(message)


class _Delivery:
    """One connection to MLflow, telling it messages; whatever is there already isn't made again."""

    def __init__(self, registry: Registry) -> None:
        self.home = registry.home
        self.client = registry._client()
        self.artifacts = (registry.home.path.resolve() / "mlartifacts").as_uri() if registry._own else None
        self.bundles = registry.home.folder("bundles")
        self._experiments: dict[str, str] = {}

    def __call__(self, message: Message) -> None:
        {"run": self._run, "version": self._version, "alias": self._alias}[message.kind](message)

    def refused(self, error: Exception) -> bool:
        """Whether MLflow is there but wouldn't take this message (others may still go through)."""
        code = str(getattr(error, "error_code", ""))
        return isinstance(error, _NotYet | KeyError | OSError) or code.startswith(
            ("INVALID", "RESOURCE", "BAD_REQUEST")
        )

    # ------------------------------------------------------------------------------------------------------------ runs

    def _run(self, message: Message) -> None:
        payload = message.payload
        experiment = self._experiment(payload["loop"])
        found = self._tagged(experiment, KEY, message.key)
        started, ended = (
            _milliseconds(payload.get("started"), message.written),
            _milliseconds(payload.get("ended"), message.written),
        )
        if found:
            run = found[0].info.run_id
        else:
            tags = {KEY: message.key, RUN: str(payload["run"]), **_texts(payload.get("tags", {}))}
            run = self.client.create_run(
                experiment, start_time=started, tags=tags, run_name=str(payload["run"])
            ).info.run_id
        self._log(run, payload.get("params", {}), payload.get("metrics", {}), ended)
        self._trials(experiment, run, message.key, payload.get("trials", ()), started)
        for name, text in payload.get("artifacts", {}).items():
            self.client.log_text(run, text, name)
        self.client.set_terminated(run, "FAILED" if payload.get("status") == "failed" else "FINISHED", end_time=ended)

    def _trials(self, experiment: str, run: str, key: str, trials: Any, started: int) -> None:
        there = {found.data.tags[KEY]: found for found in self._tagged(experiment, PARENT, key)} if trials else {}
        for trial in trials:
            name = f"{key}/trial/{trial['number']}"
            found = there.get(name)
            if found is not None and found.info.end_time:
                continue
            child = found.info.run_id if found is not None else self._child(experiment, run, key, name, trial, started)
            ended = started + int(1000 * float(trial.get("seconds") or 0))
            scores = {f"fold_{index}": score for index, score in enumerate(trial.get("fold_scores", ()))}
            self._log(
                child, trial["parameters"], {"score": trial["score"], "seconds": trial.get("seconds"), **scores}, ended
            )
            self.client.set_terminated(child, "KILLED" if trial.get("stopped_early") else "FINISHED", end_time=ended)

    def _child(self, experiment: str, run: str, key: str, name: str, trial: Mapping[str, Any], started: int) -> str:
        tags = {"mlflow.parentRunId": run, KEY: name, PARENT: key, "mainspring.estimator": str(trial["estimator"])}
        title = f"trial {trial['number']}: {trial['estimator']}"
        child: str = self.client.create_run(experiment, start_time=started, tags=tags, run_name=title).info.run_id
        return child

    def _log(self, run: str, params: Mapping[str, Any], metrics: Mapping[str, Any], at: int) -> None:
        from mlflow.entities import Metric, Param

        numbers = [Metric(name, float(value), at, 0) for name, value in metrics.items() if _is_number(value)]
        texts = [Param(name, str(value)[:_LONGEST_VALUE]) for name, value in params.items()]
        for first in range(0, max(len(numbers), len(texts), 1), 90):
            self.client.log_batch(run, numbers[first : first + 90], texts[first : first + 90])

    # -------------------------------------------------------------------------------------------- versions and aliases

    def _version(self, message: Message) -> None:
        payload = message.payload
        models = _Models(self.client, payload["loop"])
        if models.number(payload["version"]) is not None:
            return
        run = self._run_of(payload["loop"], payload["run"])
        self.client.log_artifacts(run.info.run_id, str(self.bundles / payload["digest"]), BUNDLE)
        tags = {VERSION: str(payload["version"]), DIGEST: payload["digest"], **_texts(payload.get("tags", {}))}
        models.create(f"{run.info.artifact_uri}/{BUNDLE}", run.info.run_id, tags)

    def _alias(self, message: Message) -> None:
        payload = message.payload
        models = _Models(self.client, payload["loop"])
        if payload["version"] is None:
            models.remove(payload["alias"])
            return
        number = models.number(payload["version"])
        if number is None:
            raise _NotYet(f"MLflow doesn't have {payload['loop']}@{payload['version']} yet")
        self.client.set_registered_model_alias(payload["loop"], payload["alias"], number)

    def _run_of(self, loop: str, run: str) -> Any:
        found = self._tagged(self._experiment(loop), RUN, run)
        if not found:
            raise _NotYet(f"MLflow doesn't have run {run} of {loop} yet")
        return found[0]

    def _experiment(self, loop: str) -> str:
        if loop not in self._experiments:
            known = self.client.get_experiment_by_name(loop)
            place = None if self.artifacts is None else f"{self.artifacts}/{loop}"
            made = known.experiment_id if known is not None else self.client.create_experiment(loop, place)
            self._experiments[loop] = made
        return self._experiments[loop]

    def _tagged(self, experiment: str, tag: str, value: str) -> list[Any]:
        quoted = value.replace("'", "")
        return list(self.client.search_runs([experiment], f"tags.`{tag}` = '{quoted}'", max_results=5_000))


class _Models:
    """The registered model of one loop."""

    def __init__(self, client: Any, loop: str) -> None:
        self.client = client
        self.loop = loop

    def create(self, source: str, run: str, tags: Mapping[str, str]) -> None:
        from mlflow.exceptions import MlflowException

        try:
            self.client.create_registered_model(self.loop, {"mainspring": "loop"})
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        self.client.create_model_version(self.loop, source, run, tags=dict(tags), await_creation_for=None)

    def number(self, version: int) -> str | None:
        """MLflow's number of mainspring's *version*, which it carries as a tag."""
        found = self.client.search_model_versions(f"name = '{self.loop}' and tags.`{VERSION}` = '{version}'")
        return str(found[0].version) if found else None

    def at(self, alias: str) -> int | None:
        """Mainspring's number of the version to which *alias* points."""
        from mlflow.exceptions import MlflowException

        try:
            tags = self.client.get_model_version_by_alias(self.loop, alias).tags
        except MlflowException as error:
            if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                return None
            raise
        return int(tags[VERSION]) if str(tags.get(VERSION, "")).isdigit() else None

    def remove(self, alias: str) -> None:
        if self.at(alias) is not None:
            self.client.delete_registered_model_alias(self.loop, alias)


class _NotYet(Exception):
    """Something that must come first isn't in MLflow."""


def settle() -> None:
    """Before MLflow is imported: no telemetry, no endless retries, where the user hasn't said otherwise."""
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)


def _client(tracking_uri: str) -> Any:
    """MLflow's client, its database from a template where it is new; no telemetry, no noise, no endless retries."""
    settle()
    imported_by_user = "mlflow" in sys.modules
    with heard():  # of MLflow about its own libraries
        from mlflow import MlflowClient

        if not imported_by_user:
            for name in ("mlflow", "alembic"):
                logging.getLogger(name).setLevel(logging.ERROR)
        if tracking_uri.startswith("sqlite:///"):
            mlflow_database.prepare(Path(tracking_uri.removeprefix("sqlite:///")))
        return MlflowClient(tracking_uri, tracking_uri)


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Hold the kernel's lock on *path*, so that two processes never tell MLflow the same message."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _milliseconds(moment: Any, otherwise: float) -> int:
    if isinstance(moment, str):
        return int(1000 * datetime.fromisoformat(moment).timestamp())
    return int(1000 * (otherwise if moment is None else float(moment)))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value == value


def _texts(tags: Mapping[str, Any]) -> dict[str, str]:
    return {str(name): str(value)[:_LONGEST_VALUE] for name, value in tags.items()}


def _line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:300]}" if lines else type(error).__name__
