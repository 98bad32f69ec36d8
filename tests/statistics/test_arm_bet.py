"""The arm bet, rebuilt from the simulations of a canary that is looked at 1,440 times a day."""

import json
import math

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mainspring.statistics.arm_bet import (
    ArmBet,
    RateBet,
    SampleRatio,
    arm_log_factors,
    rate_log_factors,
    sample_ratio_log_e,
)

Floats = npt.NDArray[np.float64]
MINUTES = 1_440
shares = st.floats(0.001, 0.999)
events = st.integers(0, 50)


def e_values(x1: Floats, x0: Floats, share: Floats | float, bet: ArmBet | None = None) -> Floats:
    """The e-value at each minute of each run: runs x minutes."""
    bet = bet or ArmBet.worse()
    total = np.zeros(x1.shape)
    for ratio, weight in zip(bet.ratios, bet.log_factors, strict=True):
        won = arm_log_factors(x1, x0, np.broadcast_to(share, x1.shape), (ratio,), bet.tolerated)[..., 0]
        total += np.exp(np.minimum(np.cumsum(won, axis=1) + weight, 600))
    return total


def stops(x1: Floats, x0: Floats, share: Floats | float) -> Floats:
    """The minute at which each run stops; infinite where it never does."""
    acting = e_values(x1, x0, share) >= 20
    return np.where(acting.any(axis=1), acting.argmax(axis=1) + 1.0, np.inf)


def canary(runs: int, stable: float, ratio: float, seed: int, share: float = 0.05) -> tuple[Floats, Floats]:
    generator = np.random.default_rng(seed)
    return (
        generator.poisson(1000 * share * stable * ratio, (runs, MINUTES)).astype(float),
        generator.poisson(1000 * (1 - share) * stable, (runs, MINUTES)).astype(float),
    )


@given(shares, st.floats(0.2, 3.0), st.floats(0.05, 1.0))
def test_one_event_wins_nothing_in_the_mean_under_the_null(share: float, tolerated: float, below: float) -> None:
    """At the tolerated ratio the mean factor is 1, deeper in the null at most 1; so every look is valid (Ville)."""
    for bet, truth in (
        (ArmBet(tolerated, tuple(tolerated * np.geomspace(1.05, 20, 24)), (0.0,) * 24), tolerated * below),
        (ArmBet.not_worse_than(tolerated), tolerated / below),
    ):
        on_canary = np.exp(arm_log_factors(1, 0, share, bet.ratios, bet.tolerated))
        on_stable = np.exp(arm_log_factors(0, 1, share, bet.ratios, bet.tolerated))
        for ratio, bound in ((tolerated, pytest.approx(1.0)), (truth, None)):
            q = share * ratio / (share * ratio + 1 - share)
            mean = q * on_canary + (1 - q) * on_stable
            assert all(mean <= 1 + 1e-9) if bound is None else mean.tolist() == [bound] * 24


@given(events, events, shares)
def test_minutes_add_up_and_their_order_does_not_matter(x1: int, x0: int, share: float) -> None:
    one = ArmBet.worse().update(x1, x0, share).update(3, 2, 0.4)
    other = ArmBet.worse().update(3, 2, 0.4).update(x1, x0, share)

    assert one.log_factors == pytest.approx(other.log_factors)


@given(events, events, st.sampled_from([0.0, 1.0]))
def test_a_share_of_nothing_or_everything_tells_nothing(x1: int, x0: int, share: float) -> None:
    bet = ArmBet.not_worse_than(1.5)

    assert bet.update(x1, x0, share) == bet and bet.e_value == pytest.approx(1.0)


def test_the_state_survives_a_restart_and_extreme_evidence() -> None:
    worse, rate = ArmBet.worse().update(10_000, 3, 0.05), RateBet.below(0.01).update(50_000, 50_000)
    ratio = SampleRatio.start((0.1, 0.9)).update((40, 300)).update((7, 5))

    assert ArmBet.from_list(json.loads(json.dumps(worse.to_list(), allow_nan=False))) == worse
    assert RateBet.from_list(json.loads(json.dumps(rate.to_list(), allow_nan=False))) == rate
    assert SampleRatio.from_list(json.loads(json.dumps(ratio.to_list(), allow_nan=False))) == ratio
    assert worse.e_value == pytest.approx(1e300, rel=10) and rate.e_value == 0.0


def test_a_healthy_canary_is_rarely_stopped_in_1440_looks_and_a_z_test_stops_half() -> None:
    x1, x0 = canary(600, 0.01, 1.0, seed=1)
    seen1, seen0 = 50 * np.arange(1, MINUTES + 1), 950 * np.arange(1, MINUTES + 1)
    bad1, bad0 = x1.cumsum(axis=1), x0.cumsum(axis=1)
    pooled = (bad1 + bad0) / (seen1 + seen0)
    z = (bad1 / seen1 - bad0 / seen0) / np.sqrt(np.maximum(pooled * (1 - pooled), 1e-9) * (1 / seen1 + 1 / seen0))

    assert np.isfinite(stops(x1, x0, 0.05)).mean() <= 0.05
    assert (z > 1.645).any(axis=1).mean() > 0.4


def test_a_doubled_error_rate_is_stopped_in_about_twenty_minutes() -> None:
    minutes = stops(*canary(400, 0.01, 2.0, seed=2), 0.05)

    assert 15 <= np.median(minutes) <= 30 and np.quantile(minutes, 0.9) <= 75


def test_ten_times_the_errors_are_stopped_within_five_minutes() -> None:
    minutes = stops(*(each[:, :30] for each in canary(300, 0.01, 10.0, seed=5)), 0.05)

    assert np.median(minutes) <= 5 and np.isfinite(minutes).all()


def test_a_third_more_errors_are_stopped_within_hours() -> None:
    minutes = stops(*canary(300, 0.01, 1.3, seed=3), 0.05)

    assert 150 <= np.median(minutes) <= 320 and np.quantile(minutes, 0.9) <= 800


def test_a_ramp_during_a_daily_wave_stops_no_healthy_canary() -> None:
    generator = np.random.default_rng(4)
    share = np.repeat([0.01, 0.05, 0.25, 0.5], MINUTES // 4)
    rate = 0.01 * (1 + 0.8 * np.sin(np.arange(MINUTES) / MINUTES * 2 * math.pi))
    x1 = generator.poisson(1000 * share * rate, (500, MINUTES)).astype(float)
    x0 = generator.poisson(1000 * (1 - share) * rate, (500, MINUTES)).astype(float)
    bad1, bad0 = x1.sum(axis=1), x0.sum(axis=1)
    pooled_z = (bad1 / (1000 * share).sum() - bad0 / (1000 * (1 - share)).sum()) / (
        0.01 / math.sqrt(200 * MINUTES * 0.01)
    )

    assert np.isfinite(stops(x1, x0, share)).mean() <= 0.05
    assert (np.abs(pooled_z) > 1.96).mean() > 0.95


def test_an_outage_that_hits_both_arms_stops_no_canary() -> None:
    generator = np.random.default_rng(5)
    rate = np.full(MINUTES, 0.01)
    rate[600:630] = 0.4
    x1 = generator.poisson(50 * rate, (500, MINUTES)).astype(float)
    x0 = generator.poisson(950 * rate, (500, MINUTES)).astype(float)

    assert np.isfinite(stops(x1, x0, 0.05)).mean() <= 0.05


def test_counting_requests_of_users_who_err_in_bursts_is_wrong_and_counting_users_is_right() -> None:
    generator = np.random.default_rng(6)
    users1, users0 = generator.poisson(0.1, (300, MINUTES)), generator.poisson(1.9, (300, MINUTES))
    requests1, requests0 = (users + generator.poisson(9 * users) for users in (users1, users0))

    assert np.isfinite(stops(users1.astype(float), users0.astype(float), 0.05)).mean() <= 0.05
    assert np.isfinite(stops(requests1.astype(float), requests0.astype(float), 0.05)).mean() > 0.4


def test_not_worse_is_shown_for_a_healthy_canary_and_hardly_ever_for_one_at_the_margin() -> None:
    healthy = e_values(*canary(200, 0.02, 1.0, seed=7, share=0.25), 0.25, ArmBet.not_worse_than(1.5))
    at_margin = e_values(*canary(400, 0.02, 1.5, seed=8, share=0.25), 0.25, ArmBet.not_worse_than(1.5))

    assert np.median((healthy >= 20).argmax(axis=1) + 1) < 30 and (healthy >= 20).any(axis=1).all()
    assert (at_margin >= 20).any(axis=1).mean() <= 0.05


def test_about_330_clean_units_show_a_rate_below_one_percent() -> None:
    needed = next(n for n in range(1_000) if RateBet.below(0.01).update(0, n).e_value >= 20)

    assert 300 <= needed <= 340
    assert RateBet.below(0.01).update(bad=1, units=750).e_value >= 20


@pytest.mark.parametrize("bet", [RateBet.below(0.01), RateBet.above(0.05)])
def test_a_rate_on_its_bound_is_hardly_ever_called_off_it_however_often_one_looks(bet: RateBet) -> None:
    generator = np.random.default_rng(9)
    bad = generator.binomial(20, bet.bound, (1_000, 400)).astype(float)
    e = np.zeros(bad.shape)
    for rate, weight in zip(bet.rates, bet.log_factors, strict=True):
        e += np.exp(np.cumsum(rate_log_factors(bad, 20, (rate,), bet.bound)[..., 0], axis=1) + weight)

    assert (e >= 20).any(axis=1).mean() <= 0.05


@given(st.floats(0.001, 0.5), st.floats(0.0, 1.0))
def test_one_unit_wins_nothing_in_the_mean_on_its_side_of_the_bound(bound: float, part: float) -> None:
    for bet, truth in ((RateBet.below(bound), bound + part * (1 - bound)), (RateBet.above(bound), bound * part)):
        hit, clean = (np.exp(rate_log_factors(bad, 1, bet.rates, bound)) for bad in (1, 0))
        assert all(truth * hit + (1 - truth) * clean <= 1 + 1e-9)


def test_an_hour_of_crashes_is_a_hard_stop_within_twenty_units() -> None:
    bet = RateBet.above(0.05)

    assert bet.update(bad=10, units=20).e_value > 1_000 and bet.update(bad=1, units=20).e_value < 20


def test_sound_assignment_is_hardly_ever_called_broken_in_1440_looks() -> None:
    generator = np.random.default_rng(10)
    arrived = generator.poisson(100, (1_500, MINUTES))
    canary_units = generator.binomial(arrived, 0.1).cumsum(axis=1)
    both = np.stack([canary_units, arrived.cumsum(axis=1) - canary_units], axis=-1)
    log_e = sample_ratio_log_e(both, shares=(0.1, 0.9))
    z = (canary_units - 0.1 * both.sum(axis=-1)) / np.sqrt(0.09 * both.sum(axis=-1))

    assert (log_e >= math.log(100)).any(axis=1).mean() <= 0.01
    assert (np.abs(z) > 2.576).any(axis=1).mean() > 0.1


def test_a_broken_assignment_is_found() -> None:
    assert SampleRatio.start((0.1, 0.9)).update((1_030, 8_970)).e_value < 1
    assert SampleRatio.start((0.1, 0.9)).update((1_300, 8_700)).e_value > 100


def test_a_unit_in_an_arm_without_a_share_is_proof_of_a_mismatch() -> None:
    assert SampleRatio.start((0.0, 1.0)).update((1, 50)).e_value > 1e299
    assert SampleRatio.start((0.0, 1.0)).update((0, 50)).e_value == pytest.approx(1.0)
