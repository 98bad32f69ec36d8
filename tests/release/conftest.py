"""A home with a champion, and records of units that meet it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mainspring.core.values import Bundle, Verdict
from mainspring.statistics.assignment import assigned
from mainspring.store.deployments import Deployments
from mainspring.store.home import Home
from mainspring.store.records import FeedbackRecord, PredictionRecord, Records

START = datetime(2013, 4, 1, tzinfo=UTC)


def verdict(digest: str, next: str = "release") -> Verdict:
    bundle = Bundle(digest, "late", "RandomForestClassifier", "onnx", "binary", ("no", "yes"), "roc_auc", 1)
    decision: Any = {"release": "promote", "canary": "inconclusive", "hold": "hold"}[next]
    return Verdict(decision, next, (f"{digest} is judged",), (), bundle, None, {"roc_auc": 0.9})  # type: ignore[arg-type]


@pytest.fixture
def world(tmp_path: Path) -> SimpleNamespace:
    home = Home.open(tmp_path / "home")
    deployments, records = Deployments(home), Records(home, "late")

    def serve(
        units: Iterable[int], at: datetime, *, fails: Callable[[str, int], bool] = lambda arm, unit: False,
        right: Callable[[str, int], bool] | None = None, latency_ms: float = 2.0,
    ) -> None:  # fmt: skip
        """Each unit asks once at *at*, by the route of the moment; with *right* its label comes at once."""
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
                )
            )  # fmt: skip
            if right is not None and not failed:
                feedback.append(FeedbackRecord(id=identity, label="yes" if right(arm, unit) else "no", at=at))
        records.append(batch)
        if feedback:
            records.append_feedback(feedback)

    return SimpleNamespace(
        home=home, deployments=deployments, records=records, serve=serve, verdict=verdict, start=START
    )
