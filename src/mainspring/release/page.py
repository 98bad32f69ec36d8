"""A release as one standalone HTML page: its traffic, its e-values with their thresholds over time, its decisions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from matplotlib.axes import Axes
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter, date2num

from mainspring.core.wording import evidence, number, percent
from mainspring.store import pages
from mainspring.store.deployments import TRIAL, DecisionRecord, Deployments, Look
from mainspring.store.pages import BLUE, GREEN, MUTED, RED, Html

_LEAST, _MOST = 0.01, 1e6
_SLICES = 20
_ENDS = {"promote": GREEN, "rollback": RED, "reject": RED, "hold": MUTED}
_BETS = {
    "worse": ("Is it worse?", "One bet for each guardrail that the candidate is worse; it is rolled back at the line."),
    "cleared": (
        "May the step be left?",
        "The stronger of two proofs for each guardrail: not worse than the tolerated ratio, or healthy by itself. Each "
        "step of the ramp begins anew.",
    ),
    "hard_stop": ("Does it fail outright?", "The bet that more than a fifth of the candidate's units fail."),
    "healthy": ("Is it healthy?", "The bet that the candidate's failures are rarer than the objective."),
    "sample_ratio": (
        "Do units come as planned?",
        "The bet that units don't meet the arms by the planned shares; at the line nothing is decided any more.",
    ),
}


def page(deployments: Deployments, loop: str, version: int | None = None) -> str:
    """The page on the trial of *version* (None: the newest that was tried) of *loop*."""
    written = [each for each in deployments.decisions(loop) if each.kind in ("gate", "release")]
    route = deployments.route(loop)
    on_trial = None if route is None else route.canary
    if version is None:
        tried = [each.version for each in written if each.kind == "release" and each.version is not None]
        version = on_trial or (max(tried) if tried else None)
    if version is None:
        return pages.page(f"Release of {loop}", [pages.text("No version has been released yet.")])
    about = [each for each in written if each.version == version]
    looks = deployments.looks(loop, version)
    shown = [_unseen(loop, version, version == on_trial)]
    if looks:
        first = _disagreement if looks[-1].strategy == "shadow" else _traffic
        shown = [_tiles(looks), first(looks, about), *_outcome(looks), *_bets(looks, about)]
    parts = [*shown, *_slices(deployments, loop, version), *_decisions(about)]
    strategy = looks[-1].strategy if looks else "no trial"
    if route is not None and version == on_trial:
        told = f"{route.strategy}, under way"
    else:
        told = f"{strategy}, {deployments.version(loop, version).state}"
    return pages.page(f"Release of {loop}@{version}", parts, subtitle=told)


def _unseen(loop: str, version: int, on_trial: bool) -> Html:
    seen = "nothing has been seen of it yet" if on_trial else "it was not on trial"
    return pages.text(f"{loop}@{version}: {seen}.")


def _tiles(looks: Sequence[Look]) -> Html:
    last = looks[-1]
    shadow = last.strategy == "shadow"
    tiles: list[tuple[Any, ...]] = [] if shadow else [("share of the units", percent(last.share))]
    if "units" in last.data:
        told = "shown to the candidate" if shadow else "of the candidate, this step"
        tiles.append(("units", last.data["units"], told))
    if last.data.get("disagreement") is not None:
        shown = last.data["disagreement"]
        tiles.append(("disagreement", number(shown), f"{last.data['rows']:,} rows, {last.data['dropped']:,} dropped"))
        tiles.append(
            ("latency", f"{number(last.data['latency_ms'])} ms", f"a row; {last.data['errors']:,} rows failed")
        )
    for name, (value, bar) in _strongest(last.data).items():
        tiles.append((name.replace("_", " "), evidence(value), f"e-value; {number(bar)} acts"))
    return pages.facts(tiles)


def _strongest(data: Mapping[str, Any]) -> dict[str, tuple[float, float]]:
    """Of each kind of bet the e-value that is nearest to acting, and where it acts."""
    found = {}
    for kind in _BETS:
        values = [each for each in _values(data, kind).values() if each is not None]
        if values and kind in data["thresholds"]:
            nearest = min(values) if kind == "cleared" else max(values)
            found[kind] = (nearest, data["thresholds"][kind])
    return found


def _values(data: Mapping[str, Any], kind: str) -> dict[str, float]:
    """The e-values of one kind of bet, by guardrail where there are several."""
    guardrails = data.get("guardrails", {})
    if kind == "worse":
        return {name: each["worse"] for name, each in guardrails.items()}
    if kind == "cleared":
        return {name: max(each["not_worse"], each["healthy"]) for name, each in guardrails.items()}
    return {kind.replace("_", " "): data[kind]} if data.get(kind) is not None else {}


def _traffic(looks: Sequence[Look], about: Sequence[DecisionRecord]) -> Html:
    alt = f"The candidate's share of the units over time: now {percent(looks[-1].share)}"
    caption = "The candidate's share of the units; upright lines are decisions."
    return pages.figure(partial(_draw_traffic, looks=looks, about=about), alt=alt, height=2.2, caption=caption)


def _draw_traffic(axes: Axes, looks: Sequence[Look], about: Sequence[DecisionRecord]) -> None:
    days = [float(date2num(each.at)) for each in looks]
    axes.step(days, [100 * each.share for each in looks], where="post")
    axes.fill_between(days, [100 * each.share for each in looks], step="post", alpha=0.15, color=BLUE, lw=0)
    axes.set_ylim(0, max(5.0, 115 * max(each.share for each in looks)))
    axes.set_ylabel("% of the units")
    _ends(axes, looks, about)
    _dates(axes)


def _disagreement(looks: Sequence[Look], about: Sequence[DecisionRecord]) -> Html:
    alt = f"The shadow's disagreement with the champion over time: now {number(looks[-1].data['disagreement'])}"
    caption = "The disagreement with the champion, of all rows until then; upright lines are decisions."
    return pages.figure(partial(_draw_disagreement, looks=looks, about=about), alt=alt, height=2.2, caption=caption)


def _draw_disagreement(axes: Axes, looks: Sequence[Look], about: Sequence[DecisionRecord]) -> None:
    told = [look for look in looks if look.data["disagreement"] is not None]
    axes.plot([float(date2num(each.at)) for each in told], [each.data["disagreement"] for each in told])
    axes.set_ylim(0, 1.15 * max([1e-6, *(each.data["disagreement"] for each in told)]))
    axes.set_ylabel("disagreement")
    axes.grid(axis="y")
    _ends(axes, looks, about)
    _dates(axes)


def _bets(looks: Sequence[Look], about: Sequence[DecisionRecord]) -> list[Html]:
    """A plot for each kind of bet, on a logarithmic axis, with the line at which it acts."""
    parts = [pages.heading("Evidence")]
    parts.append(
        pages.text(
            "An e-value is what a bet has made of 1 by now. If what it bets on isn't so, it ever reaches 20 with a "
            "chance of at most 5 %, and 100 with one of at most 1 %, however often it is read."
        )
    )
    for kind, (title, caption) in _BETS.items():
        drawn = [look for look in looks if _values(look.data, kind) and kind in look.data["thresholds"]]
        if drawn:
            last = _strongest(drawn[-1].data)[kind]
            alt = f"{title} e-value {evidence(last[0])} now, {number(last[1])} acts"
            draw: Callable[[Axes], None] = partial(_draw_bets, looks=drawn, about=about, kind=kind, title=title)
            parts.append(pages.figure(draw, alt=alt, height=2.6, caption=caption))
    return parts


def _draw_bets(axes: Axes, looks: Sequence[Look], about: Sequence[DecisionRecord], kind: str, title: str) -> None:
    days = [float(date2num(each.at)) for each in looks]
    for name in sorted({name for look in looks for name in _values(look.data, kind)}):
        values = [_values(look.data, kind).get(name, 1.0) for look in looks]
        axes.semilogy(days, [min(max(value, _LEAST), _MOST) for value in values], label=name)
    bars = [look.data["thresholds"][kind] for look in looks]
    colour = GREEN if kind in ("cleared", "healthy") else RED
    axes.step(days, bars, where="post", color=colour, lw=1.2, ls="--", label=f"acts at {number(bars[-1])}")
    low, high = axes.get_ylim()
    axes.set_ylim(min(low, 0.1), max(high, 3 * max(bars)))
    axes.set_title(title)
    axes.set_ylabel("e-value")
    axes.grid(axis="y")
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    _ends(axes, looks, about)
    _dates(axes)


def _outcome(looks: Sequence[Look]) -> list[Html]:
    """The interval for what the trial is about: an experiment's outcome, or whom a shadow's labels bear out."""
    told = [(look, found) for look in looks if (found := _interval(look)) is not None]
    if not told:
        return []
    (look, (low, middle, high, neutral, words)) = told[-1]
    alt = f"{words}: {number(middle)}, interval {number(low)} to {number(high)}"
    ends = {"bandit": "a bandit earns and doesn't decide by it", "shadow": f"the margin is at {number(neutral)}"}
    decides = ends.get(look.strategy, f"decided when it leaves {number(neutral)}")
    caption = f"{words}, with an interval that holds at all looks together; {decides}."
    return [pages.heading("Outcome"), pages.figure(partial(_draw_outcome, told=told), alt=alt, caption=caption)]


_Interval = tuple[float, float | None, float, float, str]


def _interval(look: Look) -> _Interval | None:
    """Low, estimate, high, the value that decides, and what they are of."""
    outcome = look.data.get("outcome", look.data)
    if outcome.get("low") is None:
        return None
    if "ratio" in outcome:
        return outcome["low"], outcome["ratio"], outcome["high"], 1.0, "Ratio of the rates, candidate to champion"
    if "difference" in outcome:
        words = "Difference of the means, candidate less champion"
        return outcome["low"], outcome["difference"], outcome["high"], 0.0, words
    words = "How much better the labels say the candidate is"
    return outcome["low"], outcome["better_by"], outcome["high"], -look.data["thresholds"]["margin"], words


def _draw_outcome(axes: Axes, told: Sequence[tuple[Look, _Interval]]) -> None:
    days = [float(date2num(look.at)) for look, _ in told]
    axes.fill_between(days, [each[0] for _, each in told], [each[2] for _, each in told], alpha=0.2, color=BLUE, lw=0)
    axes.plot(days, [float("nan") if each[1] is None else each[1] for _, each in told])
    axes.step(days, [each[3] for _, each in told], where="post", color=MUTED, lw=1.2, ls="--")
    if told[-1][1][4].startswith("Ratio"):
        axes.set_yscale("log")
        axes.set_ylabel("ratio")
    else:
        axes.set_ylabel("difference")
    axes.grid(axis="y")
    _dates(axes)


def _slices(deployments: Deployments, loop: str, version: int) -> list[Html]:
    """Where a shadow disagrees with the champion, the most first."""
    from_decisions = [each.data.get("evidence") or {} for each in deployments.decisions(loop)
                      if each.version == version and isinstance(each.data, dict)]  # fmt: skip
    state = deployments.load_state(loop, TRIAL) or {}
    running = [state.get("evidence") or {}] if state.get("version") == version else []
    told = [each["slices"] for each in (*from_decisions, *running) if each.get("slices")]
    if not told:
        return []
    rows = [
        (column, value, each["rows"], each["disagreement"])
        for column, values in told[-1].items() for value, each in values.items()
    ]  # fmt: skip
    most = sorted(rows, key=lambda row: -row[3])[:_SLICES]
    return [pages.heading("Where the shadow disagrees"), pages.table(["column", "value", "rows", "disagreement"], most)]


def _decisions(about: Sequence[DecisionRecord]) -> list[Html]:
    rows = [
        (
            f"{each.at:%Y-%m-%d %H:%M}",
            f"{'gate: ' if each.kind == 'gate' else ''}{each.decision}",
            (each.data or {}).get("by") or "mainspring",
            each.reason,
        )
        for each in reversed(about)
    ]
    return [pages.heading("Decisions"), pages.table(["when", "decision", "by", "why"], rows)]


def _ends(axes: Axes, looks: Sequence[Look], about: Sequence[DecisionRecord]) -> None:
    """The decisions of the trial as upright lines."""
    for each in about:
        if each.kind == "release" and looks[0].at <= each.at <= looks[-1].at:
            axes.axvline(float(date2num(each.at)), color=_ENDS.get(each.decision, MUTED), lw=0.9, ls=":", zorder=0)


def _dates(axes: Axes) -> None:
    axes.xaxis_date()
    locator = AutoDateLocator(minticks=3, maxticks=8)
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))
