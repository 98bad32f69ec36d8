"""Watching a loop's champion: gathers what a report needs from the home, and keeps the evidence between reports."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import msgspec
import polars as pl

from mainspring.core.declarations import Declaration, Monitor, Privacy, Retrain
from mainspring.core.errors import NotInStore
from mainspring.core.schema import Column
from mainspring.core.wording import count, listed, number
from mainspring.data import ingest
from mainspring.data.casting import cast
from mainspring.loop.turn import DECLARED
from mainspring.monitoring import page as paging
from mainspring.monitoring import report as reporting
from mainspring.monitoring.report import Report, Standing, Watched
from mainspring.monitoring.served import Served
from mainspring.store.bundles import Bundles
from mainspring.store.deployments import Deployments
from mainspring.store.history import History
from mainspring.store.home import Home
from mainspring.store.profile import Profile
from mainspring.store.records import PredictionRecord

EVIDENCE, TRAINED = "monitor", "trained"


@dataclass(frozen=True, slots=True)
class Watch:
    """One loop under observation; the monitor and retrain rules are those that were declared last."""

    home: Home
    loop: str
    monitor: Monitor = field(default_factory=Monitor)
    retrain: Retrain | None = field(default_factory=Retrain)
    source: Any = None
    privacy: Privacy | None = None

    @classmethod
    def of(cls, home: Home, declaration: Declaration) -> Watch:
        told = declaration
        return cls(home, told.name, told.monitor, told.retrain, told.source, told.privacy)

    @classmethod
    def last(cls, home: Home, loop: str) -> Watch:
        """By the rules that the loop's last run declared: for who has only its name."""
        kept = Deployments(home).load_state(loop, DECLARED) or {}
        monitor = msgspec.convert(kept["monitor"], Monitor) if "monitor" in kept else Monitor()
        retrain = msgspec.convert(kept["retrain"], Retrain) if kept.get("retrain") else None
        return cls(home, loop, monitor, retrain)

    def report(self, at: datetime) -> tuple[Report, dict[str, Any]]:
        """The report on the window that ends *at*, and the evidence to keep. Raises NotInStore without a champion."""
        deployments = Deployments(self.home)
        watched = self._watched(deployments)
        evidence = deployments.load_state(self.loop, EVIDENCE)
        start = reporting.window_start(at, self.monitor, evidence)
        return reporting.build(
            watched,
            self._served(watched, min(start, watched.released_at), at),
            self._standing(deployments),
            at=at,
            monitor=self.monitor,
            retrain=self.retrain,
            state=evidence,
        )

    def page(self, report: Report) -> str:
        """*report* and its history as a standalone HTML page."""
        decisions = Deployments(self.home).decisions(self.loop)
        past = [Report.from_json(record.data) for record in decisions if record.kind == "monitor" and record.data]
        told = [(each.at, each.decision, each.reason) for each in decisions if each.kind == "retrain"]
        return paging.page([*(each for each in past if each.at < report.at), report], told)

    def _watched(self, deployments: Deployments) -> Watched:
        route = deployments.route(self.loop)
        if route is None or route.champion is None:
            raise NotInStore(f"{self.loop} has no champion yet, so nothing is served; `mainspring run FILE` makes one")
        version = deployments.version(self.loop, route.champion)
        bundle = Bundles(self.home).open(version.digest)
        metric = bundle.manifest.metric
        value, low, high = (version.metrics.get(f"{metric}{bound}") for bound in ("", "_low", "_high"))
        return Watched(
            loop=self.loop,
            version=version.number,
            released_at=_released(deployments, self.loop, version.number, version.at),
            profile=Profile.from_json(msgspec.json.decode(bundle.read("profile.json"))),
            task=bundle.manifest.task,
            classes=bundle.manifest.classes,
            metric=metric,
            reference=None if value is None or low is None or high is None else (value, low, high),
            columns=bundle.manifest.inputs.names,
            time=next((each for each in bundle.manifest.inputs if each.name == bundle.manifest.roles.time), None),
        )

    def _served(self, watched: Watched, since: datetime, until: datetime) -> Served:
        records = History(self.home, self.loop)
        batches = records.prediction_batches(since=since)
        predictions = [record for _, batch in batches for record in batch if since <= record.at <= until]
        feedback = [record for record in records.feedback(since=since)[0] if record.at <= until]
        return Served.of(
            predictions,
            feedback,
            profile=watched.profile,
            task=watched.task,
            classes=watched.classes,
            known=watched.columns,
            times=None if watched.time is None else _times(predictions, watched.time),
        )

    def _standing(self, deployments: Deployments) -> Standing:
        trained: Mapping[str, Any] = deployments.load_state(self.loop, TRAINED) or {}
        route = deployments.route(self.loop)
        return Standing(
            trained_at=datetime.fromisoformat(trained["at"]) if trained else None,
            new_rows=0 if self.source is None else ingest.new_rows(self.source, self.home, self.loop, self.privacy),
            new_labels=labels(self.home, self.loop) - int(trained.get("labels", 0)),
            release_running=route is not None and route.canary is not None,
        )


def headline(report: Report) -> str:
    """The report in a sentence."""
    performance, service = report.performance, report.service
    said = [f"{count(service.predictions, 'prediction')}, {count(service.failed, 'error')}"]
    measured = performance.of("window", report.version)
    if measured is not None and measured.value is not None:
        said.append(f"{performance.metric} {number(measured.value)} on {count(measured.rows, 'matured label')}")
    if report.drift.alarm:
        said.append(f"drift in {listed(report.drift.drifted, most=4)}")
    said += [fault.reason for fault in report.faults]
    return "; ".join(said)


def mark_trained(home: Home, loop: str, at: datetime) -> int:
    """A training begins *at*: what came before it is no news any more; how many labels were known to the one before.

    Joins the open transaction. A training that is marked already, as it was asked for, stays as it is: the labels that
    came since weren't there to be learnt from.
    """
    deployments = Deployments(home)
    kept: Mapping[str, Any] = deployments.load_state(loop, TRAINED) or {}
    if kept.get("at") != at.isoformat():
        deployments.save_state(loop, TRAINED, {"at": at.isoformat(), "labels": labels(home, loop)})
    return int(kept.get("labels", 0))


def unmark_trained(home: Home, loop: str, labels: int) -> None:
    """The latest training failed: only *labels* of the labels have been learnt from. Its time still counts."""
    deployments = Deployments(home)
    kept: Mapping[str, Any] = deployments.load_state(loop, TRAINED) or {}
    deployments.save_state(loop, TRAINED, {**kept, "labels": labels})


def labels(home: Home, loop: str) -> int:
    """How many predictions of *loop* have their label."""
    return len({record.id for record in History(home, loop).feedback()[0] if record.event is None})


def _times(predictions: Sequence[PredictionRecord], time: Column) -> pl.Series:
    """The rows' own times, of the contract's type; null where a request told none."""
    said = [None if (told := each.row.get(time.name)) is None else str(told) for each in predictions]
    return cast(pl.Series(time.name, said, dtype=pl.String), time.type)


def _released(deployments: Deployments, loop: str, number: int, otherwise: datetime) -> datetime:
    """When version *number* became champion."""
    promoted = [
        record.at
        for record in deployments.decisions(loop)
        if record.kind == "release" and record.version == number and record.decision in ("promote", "champion")
    ]
    return promoted[-1] if promoted else otherwise
