"""A home with a champion, and records of units that meet it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mainspring.core.values import Bundle, Verdict
from mainspring.statistics.assignment import assigned
from mainspring.store.deployments import Deployments
from mainspring.store.home import Home
from mainspring.store.records import FeedbackRecord, PredictionRecord, Records, event_label
from mainspring.store.shadows import ShadowBatch, ShadowRecord, Shadows

START = datetime(2013, 4, 1, tzinfo=UTC)


def verdict(digest: str, next: str = "release") -> Verdict:
    bundle = Bundle(digest, "late", "RandomForestClassifier", "onnx", "binary", ("no", "yes"), "roc_auc", 1)
    decision: Any = {"release": "promote", "canary": "inconclusive", "hold": "hold", "ask": "promote"}[next]
    return Verdict(decision, next, (f"{digest} is judged",), (), bundle, None, {"roc_auc": 0.9})  # type: ignore[arg-type]


@pytest.fixture
def world(tmp_path: Path) -> SimpleNamespace:
    home = Home.open(tmp_path / "home")
    deployments, records = Deployments(home), Records(home, "late")

    def mirror(
        units: Iterable[int], at: datetime, *, says: Callable[[int], str] = lambda unit: "yes",
        fails: Callable[[int], bool] = lambda unit: False, true: Callable[[int], str] | None = None, dropped: int = 0,
    ) -> None:  # fmt: skip
        """The champion says "yes" to each unit, the shadow what it *says*; with *true* the label comes at once."""
        route = deployments.route("late")
        assert route is not None and route.canary is not None
        shown = [
            ShadowRecord(
                id=f"s{unit}-{at.isoformat()}", at=at, unit=str(unit), label="yes", latency_ms=3.0,
                said=None if fails(unit) else says(unit), error="it failed" if fails(unit) else None,
                row={"carrier": "UA" if unit % 4 == 0 else "AA"},
            )
            for unit in units
        ]  # fmt: skip
        batch = ShadowBatch(version=route.canary, revision=route.revision, dropped=dropped, records=shown)
        Shadows(home, "late").append(batch)
        if true is not None:
            labels = [FeedbackRecord(id=each.id, label=true(int(each.unit)), at=at) for each in shown]
            records.append_feedback(labels)

    def serve(
        units: Iterable[int], at: datetime, *, fails: Callable[[str, int], bool] = lambda arm, unit: False,
        right: Callable[[str, int], bool] | None = None, latency_ms: float = 2.0,
        complains: Callable[[str, int], bool] = lambda arm, unit: False, after: timedelta = timedelta(),
        told: timedelta = timedelta(),
    ) -> None:  # fmt: skip
        """Each unit asks once at *at*, by the route of the moment; with *right* its label comes at once, and tells a
        time that is *told* later; who *complains* does so *after* a while."""
        route = deployments.route("late")
        assert route is not None
        batch, feedback = [], []
        for unit in units:
            canary = route.canary is not None and assigned(route.salt, str(unit), route.share)
            arm: Any = "canary" if canary else "champion"
            failed = fails(arm, unit)
            identity = f"late-{records.end()['predictions']}-{unit}-{at.isoformat()}"
            batch.append(
                PredictionRecord(
                    id=identity, at=at, unit=str(unit), arm=arm, revision=route.revision, latency_ms=latency_ms,
                    version=(route.canary if canary else route.champion) or 0,
                    label=None if failed else "yes", error="it failed" if failed else None, loop="late",
                    propensity=1.0 if route.canary is None else route.share if canary else 1.0 - route.share,
                )
            )  # fmt: skip
            if right is not None and not failed:
                label = "yes" if right(arm, unit) else "no"
                feedback.append(FeedbackRecord(id=identity, label=label, at=at + told, arrived=at))
            if complains(arm, unit):
                came = at + after
                feedback.append(FeedbackRecord(id=identity, label=event_label("complaint"), at=came, arrived=came))
        records.append(batch)
        if feedback:
            records.append_feedback(feedback)

    return SimpleNamespace(
        home=home, deployments=deployments, records=records, serve=serve, mirror=mirror, verdict=verdict, start=START
    )
