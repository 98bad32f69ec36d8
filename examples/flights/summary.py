"""What the half year brought: the timeline as table, JSON and picture, the months with and without retraining."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from matplotlib.dates import DateFormatter
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table
from sklearn.metrics import roc_auc_score

from mainspring.serving import runtime
from mainspring.store.bundles import Bundles
from mainspring.store.deployments import Deployments
from mainspring.store.home import Home
from mainspring.store.lookups import Lookups

LOOP = "late-flights"
WEATHER = ("wind_speed", "precip", "visib")
TOLD = ("gate", "release", "retrain")
COLOURS = ("#4269d0", "#efb118", "#ff725c", "#6cc5b0", "#3ca951", "#ff8ab7", "#a463f2")


def write(folder: Path, decisions: list[dict[str, Any]], served: pl.DataFrame, flights: pl.DataFrame) -> None:
    """Write timeline.json, timeline.png and months.json into *folder*, and say on the terminal what they hold."""
    timeline = [{name: entry[name] for name in ("at", "kind", "decision", "version", "reason")} for entry in decisions]
    (folder / "timeline.json").write_text(json.dumps(timeline, indent=1), encoding="utf-8")
    months = by_month(served, _first_champion(folder, flights))
    (folder / "months.json").write_text(json.dumps(months, indent=1), encoding="utf-8")
    _draw(folder / "timeline.png", timeline, served)
    _print_timeline(timeline)
    _print_months(months)
    _print_paths(folder)


def by_month(served: pl.DataFrame, without: np.ndarray[Any, Any]) -> list[dict[str, Any]]:
    """Per month: AUC, and mean predicted against observed share, as served and as the first champion would have."""
    known = served.with_columns(without=pl.Series(without), month=pl.col("scheduled").dt.strftime("%Y-%m"))
    known = known.filter(pl.col("late").is_not_null())
    rows = []
    for (month,), part in known.group_by("month", maintain_order=True):
        late = part["late"].to_numpy()
        row: dict[str, Any] = {"month": month, "flights": part.height, "late": round(float(late.mean()), 4)}
        for name, column in (("with", "probability"), ("without", "without")):
            row[f"auc_{name}_retraining"] = round(float(roc_auc_score(late, part[column].to_numpy())), 4)
            row[f"predicted_{name}_retraining"] = round(float(part[column].mean()), 4)  # type: ignore[arg-type]
        rows.append(row)
    return rows


def _first_champion(folder: Path, flights: pl.DataFrame) -> np.ndarray[Any, Any]:
    """What version 1 says of all flights: the loop without retraining."""
    home = Home.open(folder / ".mainspring")
    model = runtime.load(Bundles(home).path(Deployments(home).version(LOOP, 1).digest))
    known = flights.drop("late", "dep_time", "arr_time", "arr_delay", "air_time")
    rows = Lookups(home, LOOP).complete(known.to_dicts(), WEATHER)
    probabilities = model.predict(pl.DataFrame(rows, infer_schema_length=None)).probabilities
    return np.asarray(probabilities)[:, -1]


def _print_timeline(timeline: list[dict[str, Any]]) -> None:
    table = Table("when", "what", "decision", "version", "reason", title="Timeline", title_justify="left")
    for entry in timeline:
        if entry["kind"] in TOLD and entry["decision"] != "wait":
            version = "" if entry["version"] is None else f"@{entry['version']}"
            table.add_row(entry["at"][:10], entry["kind"], entry["decision"], version, entry["reason"])
    waits = sum(entry["decision"] == "wait" for entry in timeline)
    Console(width=150).print(table, f"(and {waits} decisions to wait, each with its reason: mainspring why {LOOP})")


def _print_months(months: list[dict[str, Any]]) -> None:
    table = Table("month", "flights", "late", title="With and without retraining", title_justify="left")
    for name in ("AUC with", "without", "predicted late with", "without"):
        table.add_column(name, justify="right")
    for row in months:
        figures = [
            row["auc_with_retraining"], row["auc_without_retraining"],
            row["predicted_with_retraining"], row["predicted_without_retraining"],
        ]  # fmt: skip
        table.add_row(
            row["month"], f"{row['flights']:,}", f"{row['late']:.3f}", *(f"{figure:.3f}" for figure in figures)
        )
    Console(width=150).print(table)


def _print_paths(folder: Path) -> None:
    home = folder / ".mainspring"
    cards = sorted((home / "cards").glob("*.html"))
    print(f"timeline       {folder / 'timeline.png'}, {folder / 'timeline.json'}")
    for card in cards:
        print(f"model card     file://{card}")
    print(f"reasons        mainspring --home {home} why {LOOP}")
    print(f"report         mainspring --home {home} monitor {LOOP} --html report.html")
    print("The service has been stopped with the demo; the line below starts it again, with the champion of the end:")
    print(f"serve          mainspring --home {home} serve        then http://127.0.0.1:8700/readyz and /openapi.json")
    print(f"MLflow         mlflow ui --backend-store-uri sqlite:///{home / 'mlflow.db'}    (needs the extra mlflow-ui)")


def _draw(path: Path, timeline: list[dict[str, Any]], served: pl.DataFrame) -> None:
    """Weekly traffic per version above, weekly AUC below, decisions as lines."""
    weeks = served.with_columns(week=pl.col("scheduled").dt.truncate("1w")).sort("scheduled")
    versions = sorted(weeks["model"].unique().to_list(), key=lambda name: int(name.split("@")[1]))
    figure = Figure(figsize=(10, 5.6), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True)
    starts = weeks["week"].unique(maintain_order=True)
    total = np.array([weeks.filter(pl.col("week") == week).height for week in starts])
    bottom = np.zeros(len(starts))
    for version, colour in zip(versions, COLOURS, strict=False):
        mine = weeks.filter(pl.col("model") == version)
        share = np.array([mine.filter(pl.col("week") == week).height for week in starts]) / total
        above.bar(starts.to_list(), share, width=6.2, align="edge", bottom=bottom, color=colour, label=version)
        bottom = bottom + share
    above.set_ylabel("share of predictions")
    above.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False)
    below.plot(
        starts.to_list(), [_auc(weeks.filter(pl.col("week") == week)) for week in starts], color=COLOURS[0], marker="o"
    )
    below.set_ylabel("AUC of the week")
    for entry in timeline:
        if entry["kind"] == "retrain" and entry["decision"] == "retrain":
            for axes in (above, below):
                axes.axvline(np.datetime64(entry["at"][:10]), color="#555", linestyle=":", linewidth=1)
            below.annotate("retrain", (np.datetime64(entry["at"][:10]), below.get_ylim()[0]), fontsize=8, color="#555",
                           xytext=(3, 4), textcoords="offset points")  # fmt: skip
    below.xaxis.set_major_formatter(DateFormatter("%d %b"))
    for axes in (above, below):
        axes.spines[["top", "right"]].set_visible(False)
    figure.suptitle("late-flights, lived through April to September 2013", x=0.01, ha="left")
    figure.savefig(path, dpi=110)


def _auc(part: pl.DataFrame) -> float:
    known = part.filter(pl.col("late").is_not_null())
    if known["late"].n_unique() < 2:
        return float("nan")
    return float(roc_auc_score(known["late"].to_numpy(), known["probability"].to_numpy()))
