"""The version that answers: the same by hand as over HTTP, and moved by hand with a reason."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from living import START, loop, table

import mainspring as ms
from mainspring.core.errors import InvalidRows, NotInStore, SourceNotFound, UsageError
from mainspring.loop import champion, turn
from mainspring.serving.loaded import load, opener
from mainspring.store.deployments import Deployments
from mainspring.store.home import Home
from mainspring.store.registry import Registry

ROWS = table().drop("late").head(5)
ROW = ROWS.row(0, named=True)


def two_versions(home: Home) -> Deployments:
    """The champion, and a second version of the same bundle's bytes under another name."""
    deployments = Deployments(home)
    first = deployments.version("late", 1)
    deployments.register(
        "late", replace(first.bundle, digest="e" * 64), run="r2", champion_digest=first.digest, metrics={}, at=START
    )
    return deployments


# ------------------------------------------------------------------------------------------------------------- answers


def test_a_frame_of_any_library_gets_the_same_answers(home: Home) -> None:
    said = [
        champion.predict(home, "late", rows)
        for rows in (ROWS, ROWS.lazy(), ROWS.to_pandas(), ROWS.to_arrow(), ROWS.to_dicts())
    ]

    assert all(isinstance(each, np.ndarray) and (each == said[0]).all() for each in said)
    assert isinstance(ROWS.to_pandas(), pd.DataFrame) and isinstance(ROWS.to_arrow(), pa.Table)


def test_by_hand_it_answers_as_over_http(home: Home) -> None:
    version = champion.current(home, "late")
    served = load(version, *opener(home)(version.digest))
    rows = [*ROWS.to_dicts(), {**ROW, "city": None, "delay": None}]

    answer = champion.answer(home, "late", json.dumps({"rows": rows}))
    said = served.say(served.columns.read(rows).typed)

    assert answer["model"] == "late@1" and answer["classes"] == [False, True]
    assert answer["predictions"] == said.labels and np.allclose(answer["probabilities"], said.probabilities or [])


def test_rows_come_as_json_a_file_or_standard_input(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ROWS.write_csv(tmp_path / "rows.csv")
    ROWS.write_parquet(tmp_path / "rows.parquet")
    (tmp_path / "rows.json").write_text(json.dumps(ROWS.to_dicts()))
    monkeypatch.setattr("sys.stdin", io.StringIO(json.dumps({"rows": ROWS.to_dicts()})))

    ways = [str(tmp_path / f"rows.{suffix}") for suffix in ("csv", "parquet", "json")]
    answers = [champion.answer(home, "late", way) for way in (*ways, "-", json.dumps(ROWS.to_dicts()))]

    assert all(answer == answers[0] for answer in answers) and len(answers[0]["predictions"]) == 5
    assert champion.answer(home, "late", json.dumps(ROW))["predictions"] == answers[0]["predictions"][:1]


def test_the_key_may_be_left_out_and_other_columns_are_no_error(home: Home) -> None:
    bare = ROWS.drop("train").with_columns(noise=pl.lit("x"))

    assert (champion.predict(home, "late", bare) == champion.predict(home, "late", ROWS)).all()
    (said,) = champion.answer(home, "late", bare.head(1).write_json())["predictions"]
    assert said == champion.predict(home, "late", ROWS)[0]


@pytest.mark.parametrize(
    ("rows", "error", "said"),
    [
        ("{", InvalidRows, "the rows are not valid JSON"),
        ('{"delay": 1, "delay": 2}', InvalidRows, "key 'delay' stands twice"),
        ("[]", InvalidRows, "give one row as an object"),
        ("[3]", InvalidRows, "give one row as an object"),
        ('{"train": 1}', InvalidRows, "row 0 lacks columns 'city', 'delay' and 'load'"),
        (json.dumps({**ROW, "delay": "long"}), InvalidRows, "column 'delay', row 0: 'long' is not a number"),
        ("nothing", UsageError, "'nothing' is neither JSON rows nor a file"),
        ("nothing.csv", SourceNotFound, "no such file: 'nothing.csv'"),
    ],
)
def test_rows_that_can_not_be_are_named(home: Home, rows: str, error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        champion.answer(home, "late", rows)


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (ROWS.drop("delay"), "the rows lack 'delay'"),
        (ROWS.with_columns(delay=pl.lit("long")), "column 'delay' holds String, such as 'long'"),
    ],
)
def test_a_frame_that_does_not_fit_is_named(home: Home, rows: pl.DataFrame, said: str) -> None:
    with pytest.raises(InvalidRows, match=said):
        champion.predict(home, "late", rows)


def test_without_a_champion_the_mend_is_named(home: Home) -> None:
    with pytest.raises(NotInStore, match=r"early has no champion in .*loops there: late\); `mainspring run FILE`"):
        champion.predict(home, "early", ROWS)


# ------------------------------------------------------------------------------------------------------------- by hand


def test_promote_gives_a_version_all_traffic_and_rollback_gives_it_back(home: Home) -> None:
    deployments = two_versions(home)

    assert champion.promote(home, "late", 2, reason="better", mlflow=None, now=START) == "late@2 has all traffic"
    assert champion.current(home, "late").number == 2
    assert champion.rollback(home, "late", reason="worse", mlflow=None, now=START) == "late@1 has all traffic again"

    route = deployments.route("late")
    assert route is not None and (route.champion, route.canary, route.previous) == (1, None, None)
    assert [(each.decision, each.version, each.reason) for each in deployments.decisions("late")[-2:]] == [
        ("promote", 2, "better"),
        ("rollback", 2, "worse"),
    ]
    with pytest.raises(NotInStore, match="neither a canary nor a previous champion"):
        champion.rollback(home, "late", reason="again", mlflow=None)


def test_what_waits_is_approved_by_the_strategy_of_its_file_with_who_and_why(home: Home) -> None:
    deployments = two_versions(home)
    then = ms.Canary(steps=[30, 100])
    turn.declare(home, loop(release=ms.Shadow(share=0.5, promote="health", then=then)).declaration)

    said = champion.approve(home, "late", 2, reason="seen", by="ada", mlflow=None, now=START)

    route = deployments.route("late")
    assert said == "version 2 shadows version 1: it sees each request and answers none"
    assert route is not None and (route.strategy, route.canary, route.mirrored) == ("shadow", 2, 0.5)
    assert deployments.decisions("late")[-1].data["by"] == "ada"
    strategy, _ = champion.declared_strategy(deployments, "late")
    assert isinstance(strategy, ms.Shadow) and strategy.then is not None and strategy.then.steps == [30, 100]
    champion.hold(home, "late", None, reason="a holiday", by="ada", now=START)
    assert "rejected" in champion.reject(home, "late", None, reason="no", by="ada", mlflow=None, now=START)


def test_promoting_the_champion_again_decides_nothing(home: Home) -> None:
    before = Deployments(home).decisions("late")

    champion.promote(home, "late", 1, reason="to be sure", mlflow=None)

    assert Deployments(home).decisions("late") == before


def test_a_version_that_is_not_there_is_named(home: Home) -> None:
    with pytest.raises(NotInStore, match=r"late has no version 7; `mainspring models late`"):
        champion.promote(home, "late", 7, reason="x", mlflow=None)
    with pytest.raises(NotInStore, match="no canary and no waiting version"):
        champion.promote(home, "late", None, reason="x", mlflow=None)


def test_mlflow_learns_of_a_move_in_the_transaction_that_makes_it(home: Home) -> None:
    deployments = two_versions(home)
    registry = Registry(home, "http://127.0.0.1:9")
    announce: Any = champion.announcer(registry)

    with pytest.raises(RuntimeError), deployments.transaction():
        announce("champion", deployments.version("late", 2))
        raise RuntimeError("killed here")
    assert registry.pending() == []

    with deployments.transaction():
        announce("champion", deployments.version("late", 2))
    told = [(message.kind, message.payload["version"]) for message in registry.pending()]
    assert told == [("version", 2), ("alias", 2)]
