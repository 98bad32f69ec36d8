"""Personal data on the way in: what a loop declares private is never written as it came, nowhere in the home."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import polars as pl
import pytest
from sklearn.tree import DecisionTreeClassifier

import mainspring as ms
from mainspring.core.errors import DeclarationError
from mainspring.loop import champion
from mainspring.serving.endpoint import Endpoint
from mainspring.serving.loaded import load, opener
from mainspring.serving.served import Routing, ServedLoop
from mainspring.store.deployments import Deployments
from mainspring.store.home import Home
from mainspring.store.records import Records, identifiers
from mainspring.store.tables import Table

PRIVACY = ms.Privacy(
    drop=["name"], mask={"email": "email"}, generalize={"age": 10, "postcode": "prefix:2"},
    pseudonymize=["passenger", "trip"], subject="passenger",
)  # fmt: skip


def trips(rows: int = 300) -> pl.DataFrame:
    random = np.random.default_rng(1)
    age, fare = random.integers(18, 90, rows), random.normal(50, 20, rows).round(2)
    return pl.DataFrame({
        "trip": [f"journey-{place}-qqx" for place in range(rows)],
        "passenger": [f"Zebra{place % 60}qqx" for place in range(rows)],
        "email": [f"zebra{place % 60}qqx@example.org" for place in range(rows)],
        "name": [f"Nom{place}qqx" for place in range(rows)],
        "age": age, "fare": fare, "postcode": [f"{place % 7}{place % 3}99qqx" for place in range(rows)],
        "day": [date(2014, 1, 1) + timedelta(days=place) for place in range(rows)],
        "late": age / 50 + fare / 60 + random.normal(0, 0.2, rows) > 2,
    })  # fmt: skip


def loop(data: pl.DataFrame, privacy: ms.Privacy | None = PRIVACY) -> ms.Loop:
    return ms.Loop(
        "trips", data=ms.frame(data), target="late", key="trip", time="day", privacy=privacy,
        model=DecisionTreeClassifier(max_depth=3, random_state=0), release=ms.Immediate(),
    )  # fmt: skip


def raw(folder: Path, *needles: str) -> list[str]:
    """The files whose bytes hold one of *needles*."""
    return sorted(
        str(path.relative_to(folder))
        for path in folder.rglob("*")
        if path.is_file() and any(needle.encode() in path.read_bytes() for needle in needles)
    )


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """A home whose loop was trained under PRIVACY."""
    home = Home.open(tmp_path_factory.mktemp("private") / ".mainspring")
    assert loop(trips()).run(home=home).model == "trips@1"
    return home


class Client:
    """The champion over HTTP, in this process."""

    def __init__(self, home: Home, threads: ThreadPoolExecutor) -> None:
        records, version = Records(home, "trips"), champion.current(home, "trips")
        served = ServedLoop(
            "trips", records, lambda: datetime.now(UTC), identifiers("trips", 1, records.take_up()), threads
        )
        route = Deployments(home).route("trips")
        assert route is not None
        served.routing = Routing(route, load(version, *opener(home)(version.digest)))
        served.labels.refresh()
        served.labels_ready = True
        self.app, self.records = Endpoint({"trips": served}, threads=threads).app, records

    def post(self, path: str, body: Any) -> httpx.Response:
        async def call() -> httpx.Response:
            async with httpx.AsyncClient(
                transport=httpx.ASGITransport(self.app), base_url="http://localhost"
            ) as client:
                return await client.post(path, json=body)

        return asyncio.run(call())


@pytest.fixture
def client(trained: Home) -> Iterator[Client]:
    with ThreadPoolExecutor(1) as threads:
        yield Client(trained, threads)


def row(place: int = 7) -> dict[str, Any]:
    return {**trips().row(place, named=True), "day": "2014-01-08"}


def test_what_is_private_is_in_no_file_of_the_home(trained: Home) -> None:
    rows = Table(trained, "trips", "rows").read()

    assert raw(trained.path, "qqx") == ["records/trips"] or raw(trained.path, "qqx") == []
    assert "name" not in rows.columns and rows["age"].dtype == pl.Int64
    assert (rows["age"] % 10 == 0).all() and set(rows["email"]) == {"***@example.org"}
    assert rows["passenger"].str.starts_with("ps-").all() and rows["passenger"].n_unique() == 60
    assert rows["postcode"].str.len_chars().max() == 2


def test_the_endpoint_does_the_same_to_a_request_and_feedback_finds_it_by_its_own_key(client: Client) -> None:
    kept = Table(Home(client.records._predictions.folder.parent.parent), "trips", "rows").read()
    asked = {name: value for name, value in row().items() if name != "late"}

    answer = client.post("/predict/trips", asked)
    told = client.post("/feedback/trips", {"key": "journey-7-qqx", "time": "2014-01-08", "label": True})

    assert answer.status_code == 200 and told.status_code == 200, (answer.text, told.text)
    assert told.json()["ids"] == answer.json()["ids"]
    record = client.records.predictions()[0][-1]
    of_source = kept.filter(pl.col("trip") == record.key).row(0, named=True)
    assert {name: record.row[name] for name in ("trip", "passenger", "email", "age", "postcode")} == {
        name: of_source[name] for name in ("trip", "passenger", "email", "age", "postcode")
    }
    assert record.unit == record.key and "qqx" not in repr(record)


def test_by_hand_it_answers_as_over_http(trained: Home, client: Client) -> None:
    asked = trips().drop("late").head(20)

    by_hand = champion.predict(trained, "trips", asked).tolist()
    over_http = client.post(
        "/predict/trips", {"rows": json.loads(asked.with_columns(pl.col("day").cast(str)).write_json())}
    )

    assert over_http.json()["predictions"] == by_hand


def test_the_rows_are_made_anew_where_the_rules_change_and_the_older_ones_are_gone(tmp_path: Path) -> None:
    home, data = Home.open(tmp_path / ".mainspring"), trips(120)
    loop(data, None).run(home=home)
    assert raw(home.path / "tables", "Zebra7qqx")

    run = loop(data).run(home=home)

    rows = Table(home, "trips", "rows").read()
    assert rows["passenger"].str.starts_with("ps-").all() and "name" not in rows.columns
    assert raw(home.path / "tables", "Zebra7qqx") == []
    assert any("other rules of privacy" in note for note in run.outputs["ingest"].notes)


def test_a_bad_row_goes_to_quarantine_without_what_is_private(tmp_path: Path) -> None:
    home, data = Home.open(tmp_path / ".mainspring"), trips(120).with_columns(fare=pl.col("fare").cast(pl.String))
    broken = data.with_columns(fare=pl.when(pl.int_range(pl.len()) == 50).then(pl.lit("dear")).otherwise("fare"))

    loop(broken).run(home=home)

    kept = json.loads(Table(home, "trips", "quarantine").read()["row"][0])
    assert kept["fare"] == "dear" and kept["passenger"].startswith("ps-") and "name" not in kept
    assert raw(home.path, "Zebra50qqx", "Nom50qqx") == []


@pytest.mark.parametrize(
    ("privacy", "message"),
    [
        (ms.Privacy(drop=["late"]), "would drop target='late'"),
        (ms.Privacy(mask=["trip"]), "would mask key='trip'.*pseudonymize it"),
        (ms.Privacy(pseudonymize=["day"]), "would pseudonymize time='day'"),
    ],
)
def test_what_a_loop_needs_is_not_taken_from_it(privacy: ms.Privacy, message: str) -> None:
    with pytest.raises(DeclarationError, match=message):
        loop(trips(10), privacy)
