"""Intervals that hold however often they are read: by simulation, seeded."""

from __future__ import annotations

import numpy as np
import pytest

from mainspring.statistics.mean_sequence import Difference, MeanSequence
from mainspring.statistics.ratio_sequence import RatioSequence


def ratio_run(seed: int, rates: tuple[float, float], looks: int = 300, units: int = 200) -> tuple[int | None, float]:
    """The look at which equal rates were refuted, and the interval's lower end then; a look a minute."""
    draw = np.random.default_rng(seed)
    found = RatioSequence.start()
    for look in range(looks):
        candidate = int(draw.binomial(units, 0.5))
        x1, x0 = int(draw.binomial(candidate, rates[1])), int(draw.binomial(units - candidate, rates[0]))
        found = found.update(x1, x0, candidate / units)
        low, high = found.interval(0.05)
        if low >= 1 or high <= 1:
            return look, low
    return None, 1.0


@pytest.mark.parametrize("rate", [0.02, 0.5])
def test_equal_rates_are_seldom_told_apart_over_hundreds_of_looks(rate: float) -> None:
    false = sum(ratio_run(seed, (rate, rate))[0] is not None for seed in range(60))

    assert false <= 6, "alpha is 5 %: 3 are expected at most"


@pytest.mark.soak
@pytest.mark.parametrize("rate", [0.02, 0.2, 0.5])
def test_equal_rates_are_told_apart_in_at_most_5_percent_of_a_thousand_histories(rate: float) -> None:
    false = sum(ratio_run(seed, (rate, rate), looks=1440)[0] is not None for seed in range(1000))

    assert false <= 50


def test_a_better_rate_is_found() -> None:
    found = [ratio_run(seed, (0.10, 0.13)) for seed in range(30)]

    assert sum(look is not None and low >= 1 for look, low in found) >= 28


def test_the_ratios_interval_covers_the_true_ratio_at_every_look() -> None:
    missed = 0
    for seed in range(60):
        draw, found = np.random.default_rng(seed), RatioSequence.start()
        for _ in range(200):
            x1, x0 = int(draw.binomial(60, 0.30)), int(draw.binomial(140, 0.20))
            found = found.update(x1, x0, 0.3)
            low, high = found.interval(0.05)
            if not low <= 1.5 <= high:
                missed += 1
                break

    assert missed <= 6


def test_equal_means_are_seldom_told_apart_while_shares_follow_the_rewards() -> None:
    false = 0
    for seed in range(100):
        draw, found, share = np.random.default_rng(seed), Difference.start(tuned=1000), 0.5
        for look in range(150):
            wave = 1 + 0.5 * np.sin(look / 20)  # a base rate that moves, which pooled means would take for an effect
            arms = (draw.random(40) < share).astype(int)
            rewards = draw.exponential(wave, 40)
            found = found.update(arms, rewards, np.where(arms == 1, share, 1 - share))
            if min(found.counts) >= 100:
                low, high = found.interval(0.05)
                if low > 0 or high < 0:
                    false += 1
                    break
                share = min(max(found.chance_above(), 0.05), 0.95)

    assert false <= 8, "alpha is 5 %; by the scores' own variance alone it was 11"


def test_a_difference_by_propensity_is_unbiased_where_plain_means_are_not() -> None:
    draw, found = np.random.default_rng(0), Difference.start(tuned=1000)
    for look in range(200):
        share, base = (0.05, 1.0) if look < 100 else (0.95, 3.0)  # the candidate gets its units when all do well
        arms = (draw.random(100) < share).astype(int)
        rewards = base + 0.2 * arms + draw.normal(0, 0.5, 100)
        found = found.update(arms, rewards, np.where(arms == 1, share, 1 - share))

    assert found.mean(1) - found.mean(0) > 1.5
    low, high = found.interval(0.05)
    assert low <= 0.2 <= high and abs(found.estimate - 0.2) < 0.15


def test_sequences_survive_their_lists() -> None:
    difference = Difference.start(100).update([0, 1], [1.0, 2.0], [0.5, 0.5])
    ratio = RatioSequence.start().update(3, 1, 0.4)

    assert Difference.from_list(difference.to_list()) == difference
    assert RatioSequence.from_list(ratio.to_list()) == ratio
    assert MeanSequence.start(10).interval(0.05) == (-np.inf, np.inf)
