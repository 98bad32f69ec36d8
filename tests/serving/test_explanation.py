"""Contributions add up to what the model says, for linear models and boosters; others say that they have none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import lightgbm
import numpy as np
import polars as pl
import pytest
import xgboost
from bundled import INPUTS, ROWS, bundled, flights, table
from scipy.special import expit, softmax
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LinearRegression, LogisticRegression, PoissonRegressor, Ridge
from stand_in import ROW, Process

from mainspring.core.errors import NotExplained
from mainspring.serving import runtime
from mainspring.serving.explanation import explainer
from mainspring.store.bundles import Bundles
from mainspring.store.deployments import Deployments
from mainspring.store.encoding import Encoding
from mainspring.store.lightgbm_text import LightgbmText
from mainspring.store.records import Records

__all__ = ["flights"]


def total(explanation: dict[str, Any]) -> float:
    return float(explanation["base"] + sum(explanation["contributions"].values()))


def test_the_endpoint_tells_what_each_column_adds(flights: Process) -> None:
    plain = httpx.post(f"{flights.url}/predict/flights", json={"rows": ROWS}).json()
    by_query = httpx.post(f"{flights.url}/predict/flights?explain=true", json={"rows": ROWS}, timeout=30).json()
    by_body = httpx.post(f"{flights.url}/predict/flights", json={"rows": ROWS, "explain": True}, timeout=30).json()

    assert "explanations" not in plain and by_query["explanations"] == by_body["explanations"]
    assert by_query["probabilities"] == plain["probabilities"]
    for explanation, shares in zip(by_query["explanations"], plain["probabilities"], strict=True):
        assert explanation["label"] == "yes" and explanation["contributions"].keys() <= set(INPUTS.names)
        assert expit(total(explanation)) == pytest.approx(shares[1], abs=1e-5)


@pytest.mark.parametrize(
    "model",
    [
        xgboost.XGBClassifier(n_estimators=20, max_depth=3),
        lightgbm.LGBMClassifier(n_estimators=20, min_child_samples=5, verbose=-1),
    ],
)
def test_a_boosters_bundle_is_explained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: Any) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    home = bundled(tmp_path, model, "ordered")
    loaded = runtime.load(Bundles(home).open(Deployments(home).version("flights", 1).digest).folder)
    rows = table(50)
    shares = loaded.predict(rows).probabilities
    assert shares is not None

    assert expit([total(each) for each in loaded.explain(rows)]) == pytest.approx(shares[:, 1], abs=1e-4)


@pytest.mark.parametrize("make", [LogisticRegression, xgboost.XGBClassifier])
def test_of_several_classes_the_predicted_one_is_explained(make: Any) -> None:
    rows = table(300)
    encoding = Encoding.fit(rows.drop("carrier"), "scaled")
    matrix = encoding.transform(rows)
    model = make().fit(matrix, np.digitize(rows["delay"].fill_null(0), [0, 20]))
    explained = explainer(model, encoding, ["early", "well", "late"]).explain(matrix[:40])

    places = model.predict(matrix[:40])
    assert [each["label"] for each in explained] == [["early", "well", "late"][place] for place in places]
    margins = explainer(model, encoding, "abc").contribute(matrix[:40]).sum(axis=2)
    assert softmax(margins, axis=1) == pytest.approx(model.predict_proba(matrix[:40]), abs=1e-4)


@pytest.mark.parametrize("make", [LinearRegression, Ridge, xgboost.XGBRegressor, lightgbm.LGBMRegressor])
def test_a_numbers_parts_add_up_to_it(make: Any) -> None:
    rows = table(300)
    encoding = Encoding.fit(rows, "scaled")
    matrix = encoding.transform(rows)
    options = {"verbose": -1} if make is lightgbm.LGBMRegressor else {}
    model = make(**options).fit(matrix, rows["distance"].fill_null(900).to_numpy())
    explained = explainer(model, encoding, ()).explain(matrix[:30])

    assert "label" not in explained[0]
    assert [total(each) for each in explained] == pytest.approx(model.predict(matrix[:30]), rel=1e-3)


@pytest.mark.parametrize("make", [xgboost.XGBRegressor, lightgbm.LGBMRegressor])
def test_a_booster_that_was_fitted_elsewhere_on_names_or_kept_as_text_is_explained(make: Any) -> None:
    rows = table(300)
    encoding = Encoding.fit(rows, "scaled")
    named = pl.DataFrame(encoding.transform(rows), [f"theirs{place}" for place in range(len(encoding.names))])
    model = make(verbosity=0).fit(named.to_pandas(), rows["distance"].fill_null(900).to_numpy())
    kept = LightgbmText(model.booster_.model_to_string()) if make is lightgbm.LGBMRegressor else model
    explained = explainer(kept, encoding, ()).explain(named[:30].to_numpy())

    assert [total(each) for each in explained] == pytest.approx(model.predict(named[:30].to_pandas()), rel=1e-3)


@pytest.mark.parametrize("model", [RandomForestClassifier(5), PoissonRegressor()])
def test_a_model_that_does_not_add_up_has_no_explanation(model: Any) -> None:
    rows = table(200)
    encoding = Encoding.fit(rows, "scaled")
    matrix = encoding.transform(rows)
    fitted = model.fit(matrix, (rows["delay"].fill_null(0) > 10).to_numpy().astype(int))

    with pytest.raises(NotExplained, match=type(model).__name__):
        explainer(fitted, encoding, ("no", "yes")).explain(matrix)


def test_a_refused_explanation_is_no_prediction(world: Any) -> None:
    answer = world.post("/predict/flights?explain=true", {"rows": [ROW]})

    assert (answer.status_code, answer.json()["error"]["code"]) == (422, "NotExplained")
    assert not Records(world.home, "flights").predictions()[0]
