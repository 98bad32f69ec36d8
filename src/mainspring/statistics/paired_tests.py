"""Is the candidate better than the champion on the same rows, or worse by less than a margin? One look at a fixed set.

Differences are signed so that positive means the candidate is better, whatever the metric's direction. Decisions that
are looked at again and again belong to `arm_bet`; a holdout that is used again spends its alpha by `spent_alpha`.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import bdtrc, betaincinv, ndtr, ndtri, stdtr, stdtrit

from mainspring.statistics.intervals import RESAMPLES, placements
from mainspring.statistics.metrics import Column, Metric, Predictions
from mainspring.statistics.weighted import Array, Truth


@dataclass(frozen=True, slots=True)
class Difference:
    """Candidate minus champion, positive where the candidate is better, in the metric's unit.

    *low* is the bound that the true difference exceeds with confidence 1 - alpha (one-sided); *n* the rows, clusters or
    splits behind it; *p_worse* the one-sided p-value against "the candidate is not worse". All are nan where the metric
    is undefined.
    """

    estimate: float
    standard_error: float
    low: float
    method: str
    n: int
    p_worse: float

    def non_inferior(self, margin: float) -> bool:
        """Whether the rows show that the candidate is worse by less than *margin*; with margin 0, that it is better."""
        return self.low > -margin


def paired_difference(
    metric: Metric,
    y: Column,
    champion: Predictions,
    candidate: Predictions,
    alpha: float,
    clusters: Column | None = None,
    seed: int = 0,
    superiority: bool = False,
) -> Difference:
    """The difference in *metric* by the method that suits it.

    DeLong for ROC AUC, Tango's score bound for accuracy (exact McNemar where *superiority* is asked), else a paired
    bootstrap over rows; with *clusters* (an entity per row, where rows repeat one) a bootstrap over whole clusters.

    >>> from mainspring.statistics.metrics import metric
    >>> y = np.array([0, 1] * 50)
    >>> old = Predictions(np.array([0, 1] * 40 + [1, 0] * 10), classes=(0, 1))
    >>> new = Predictions(np.array([0, 1] * 45 + [0, 0] * 5), classes=(0, 1))
    >>> found = paired_difference(metric("accuracy", "binary"), y, old, new, alpha=0.05)
    >>> found.method, round(found.estimate, 2), round(found.low, 3)
    ('tango', 0.15, 0.101)
    """
    if _same(champion, candidate) and not math.isnan(metric.function(y, champion)):
        return Difference(0.0, 0.0, 0.0, "identical predictions", len(y), 1.0)
    if clusters is None and metric.name == "roc_auc":
        return delong(candidate.codes(y) == 1, champion.scores(), candidate.scores(), alpha)
    if clusters is None and metric.name == "accuracy" and len(y):
        right, was_right = candidate.codes(y) == candidate.predicted(), champion.codes(y) == champion.predicted()
        gains, losses = int((right & ~was_right).sum()), int((was_right & ~right).sum())
        return (mcnemar if superiority else tango)(gains, losses, len(y), alpha)
    return paired_bootstrap(metric, y, champion, candidate, alpha, clusters, seed)


def delong(y: npt.ArrayLike, p_champion: Array, p_candidate: Array, alpha: float = 0.05) -> Difference:
    """The paired difference of two areas under the ROC curve on the rows *y* (true where positive).

    DeLong et al., Biometrics 1988, in O(n log n) by Sun & Xu 2014; nan with fewer than two rows of a class.

    >>> found = delong([0, 0, 1, 1], np.array([0.1, 0.6, 0.5, 0.9]), np.array([0.1, 0.2, 0.5, 0.9]))
    >>> found.estimate, round(found.standard_error, 2)
    (0.25, 0.35)
    """
    truth: Truth = np.asarray(y).astype(bool)
    above, below = placements(truth, np.asarray(p_candidate, dtype=float))
    was_above, was_below = placements(truth, np.asarray(p_champion, dtype=float))
    if min(len(above), len(below)) < 2:
        return Difference(math.nan, math.nan, math.nan, "delong", len(truth), math.nan)
    gain, loss = above - was_above, below - was_below
    variance = gain.var(ddof=1) / len(gain) + loss.var(ddof=1) / len(loss)
    return _normal(float(gain.mean()), math.sqrt(variance), alpha, "delong", len(truth))


def tango(gains: int, losses: int, n: int, alpha: float = 0.05) -> Difference:
    """The difference of two paired proportions with Tango's score bound (Statistics in Medicine 1998).

    Of *n* rows, *gains* are right only by the candidate and *losses* only by the champion. The bound stays honest where
    few rows disagree; with none at all it is -z^2 / (n + z^2).

    >>> found = tango(gains=1, losses=7, n=21, alpha=0.025)
    >>> round(found.estimate, 3), round(found.low, 3)
    (-0.286, -0.517)
    """
    if n < 1:
        return Difference(math.nan, math.nan, math.nan, "tango", 0, math.nan)
    estimate = (gains - losses) / n
    error = math.sqrt(max(gains + losses - n * estimate**2, 0.0)) / n
    below, above = -1.0, estimate
    target = float(ndtri(1 - alpha))
    for _ in range(60):  # bisection: the score falls as the assumed difference rises
        middle = (below + above) / 2
        below, above = (middle, above) if _tango_score(middle, gains, losses, n) > target else (below, middle)
    p_worse = float(ndtr(_tango_score(0.0, gains, losses, n)))
    return Difference(estimate, error, below, "tango", n, p_worse)


def mcnemar(gains: int, losses: int, n: int, alpha: float = 0.05) -> Difference:
    """Exact one-sided McNemar test that the candidate is better: more differing rows are gains than chance gives.

    *low* is above 0 exactly when the binomial p-value is below *alpha*: the Clopper-Pearson bound of the share of
    gains, in points of all *n* rows.

    >>> round(mcnemar(gains=15, losses=5, n=100).low, 4), round(mcnemar_p(15, 5), 4)
    (0.0178, 0.0207)
    """
    if n < 1:
        return Difference(math.nan, math.nan, math.nan, "mcnemar", 0, math.nan)
    differing = gains + losses
    estimate = (gains - losses) / n
    share = float(betaincinv(gains, losses + 1, alpha)) if gains else 0.0
    error = math.sqrt(max(differing - n * estimate**2, 0.0)) / n
    return Difference(estimate, error, (2 * share - 1) * differing / n, "mcnemar", n, mcnemar_p(losses, gains))


def mcnemar_p(gains: int, losses: int) -> float:
    """The chance of at least *gains* among gains + losses fair coins; 1 where no row differs."""
    return float(bdtrc(gains - 1, gains + losses, 0.5)) if gains else 1.0


def paired_bootstrap(
    metric: Metric,
    y: Column,
    champion: Predictions,
    candidate: Predictions,
    alpha: float,
    clusters: Column | None = None,
    seed: int = 0,
) -> Difference:
    """The difference of any metric; both models are measured on the same resampled rows, or whole clusters.

    The bound is normal (Student's t over clusters) with the bootstrap's standard error: percentiles of 400 resamples
    say nothing about an alpha of 0.0005, which the tenth use of a holdout has.
    """
    sign = 1.0 if metric.greater_is_better else -1.0
    estimate = sign * (metric.function(y, candidate) - metric.function(y, champion))
    n = len(y) if clusters is None else len(np.unique(clusters))
    method = "paired bootstrap" if clusters is None else "cluster bootstrap"
    new = metric.resample(y, candidate, RESAMPLES, seed, clusters)
    values = new - metric.resample(y, champion, RESAMPLES, seed, clusters)
    values = values[~np.isnan(values)]
    if math.isnan(estimate) or n < 2 or len(values) < RESAMPLES / 2:
        return Difference(estimate, math.nan, math.nan, method, n, math.nan)
    return _normal(estimate, float(values.std(ddof=1)), alpha, method, n, None if clusters is None else n - 1)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's (1979) adjusted p-values, in the given order; nan (nothing to test) stays nan and doesn't count.

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    adjusted = [math.nan] * len(p_values)
    tested = sorted((p, place) for place, p in enumerate(p_values) if not math.isnan(p))
    largest = 0.0
    for done, (p, place) in enumerate(tested):
        largest = max(largest, min(1.0, p * (len(tested) - done)))
        adjusted[place] = largest
    return adjusted


def spent_alpha(alpha: float, k: int) -> float:
    """What the *k*-th evaluation on the same holdout may spend (k from 1): alpha / (k (k + 1)), together at most alpha.

    >>> spent_alpha(0.05, 1), round(sum(spent_alpha(0.05, k) for k in range(1, 10_000)), 4)
    (0.025, 0.05)
    """
    return alpha / (k * (k + 1))


def smallest_margin(standard_error: float, alpha: float, power: float = 0.8) -> float:
    """The smallest margin that rows with this standard error can show for an equally good candidate, at this power.

    >>> round(smallest_margin(0.0012, 0.025), 4)
    0.0034
    """
    return float(ndtri(1 - alpha) + ndtri(power)) * standard_error


def _same(champion: Predictions, candidate: Predictions) -> bool:
    """Whether two models said exactly the same, in everything they said."""
    pairs = [
        (champion.labels, candidate.labels),
        (champion.probabilities, candidate.probabilities),
        (champion.values, candidate.values),
    ]
    return champion.classes == candidate.classes and all(
        old is new if old is None or new is None else np.array_equal(old, new) for old, new in pairs
    )


def _normal(estimate: float, error: float, alpha: float, method: str, n: int, freedom: int | None = None) -> Difference:
    """A difference with a normal bound, or a Student bound with *freedom*; certain where the error is 0."""
    if error == 0:
        return Difference(estimate, 0.0, estimate, method, n, 0.0 if estimate < 0 else 1.0)
    quantile = float(ndtri(1 - alpha) if freedom is None else stdtrit(freedom, 1 - alpha))
    score = estimate / error
    p_worse = float(ndtr(score) if freedom is None else stdtr(freedom, score))
    return Difference(estimate, error, estimate - quantile * error, method, n, p_worse)


def _tango_score(difference: float, gains: int, losses: int, n: int) -> float:
    """How many standard deviations the gains are above what *difference* implies, its variance fitted under it."""
    b = -gains - losses + (2 * n - gains + losses) * difference
    c = -losses * difference * (1 - difference)
    fitted = (math.sqrt(max(b * b - 8 * n * c, 0.0)) - b) / (4 * n)
    variance = n * max(2 * fitted + difference * (1 - difference), 0.0)
    excess = gains - losses - n * difference
    return excess / math.sqrt(variance) if variance > 0 else math.copysign(math.inf, excess) if excess else 0.0
