"""Each metric as a function of row weights, so that one pass over the rows serves hundreds of bootstrap resamples.

scikit-learn computes one value a call; 400 calls on 60,000 rows take many seconds. Here the rows are sorted or summed
once, and a matrix of weights (resamples x rows) gives all values together. The tests hold each to scikit-learn's value.
What is undefined (no rows, one class) is nan and never an error.
"""

from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Codes = npt.NDArray[np.int64]
Truth = npt.NDArray[np.bool_]
Weighted = Callable[[Array], Array]
"""From weights (resamples x rows) to one value per resample."""

_WEIGHTS_AT_ONCE = 1_500_000  # 12 MB of float64: memory stays flat however many rows there are


def resampled_weights(
    rows: int, resamples: int, seed: int, clusters: npt.NDArray[np.generic] | None
) -> Iterator[Array]:
    """Bootstrap weights in blocks (some resamples x rows): how often each row, or each row's cluster, was drawn.

    >>> [block.sum(axis=1).tolist() for block in resampled_weights(rows=5, resamples=2, seed=0, clusters=None)]
    [[5.0, 5.0]]
    """
    generator = np.random.default_rng(seed)
    members = np.arange(rows) if clusters is None else np.unique(clusters, return_inverse=True)[1].reshape(-1)
    drawn = int(members.max(initial=-1)) + 1
    block = max(1, _WEIGHTS_AT_ONCE // max(rows, 1))
    for start in range(0, resamples, block):
        count = min(block, resamples - start)
        weights = np.empty((count, rows))
        for row in weights:
            times = np.bincount(generator.integers(0, drawn, drawn), minlength=drawn) if drawn else np.empty(0)
            row[:] = times if clusters is None else times[members]
        yield weights


def mean(terms: Array) -> Weighted:
    """The weighted mean of one number a row: accuracy, log loss, Brier score, absolute error."""
    return lambda weights: ratio(weights @ terms, weights.sum(axis=1))


def root_mean(terms: Array) -> Weighted:
    """The root of the weighted mean of one number a row."""
    inner = mean(terms)
    return lambda weights: np.sqrt(inner(weights))


def r_squared(truth: Array, values: Array) -> Weighted:
    """The share of the target's variance that is explained; nan where the target does not vary."""
    centred = truth - (truth.mean() if len(truth) else 0.0)
    errors = (truth - values) ** 2

    def of(weights: Array) -> Array:
        total, sums, squares = weights.sum(axis=1), weights @ centred, weights @ centred**2
        spread = squares - ratio(sums**2, total)
        floor = 1e-28 * (weights @ truth**2)  # below it, the spread is rounding
        return 1.0 - ratio(weights @ errors, np.where(spread > floor, spread, 0.0))

    return of


def median(terms: Array) -> Weighted:
    """The weighted median of one number a row; the middle of the two where the weight splits exactly."""
    order = np.argsort(terms, kind="stable")
    ordered = terms[order]

    def of(weights: Array) -> Array:
        if not len(ordered):
            return np.full(len(weights), np.nan)
        cumulated = np.cumsum(np.take(weights, order, axis=1), axis=1)
        half = cumulated[:, -1:] / 2
        last = len(ordered) - 1
        below = np.minimum((cumulated < half).sum(axis=1), last)
        above = np.minimum((cumulated <= half).sum(axis=1), last)
        return np.where(half[:, 0] > 0, (ordered[below] + ordered[above]) / 2, np.nan)

    return of


def recall(truth: Truth, predicted: Truth) -> Weighted:
    """The share of the positives that is predicted; nan without positives."""
    found, positives = (truth & predicted).astype(float), truth.astype(float)
    return lambda weights: ratio(weights @ found, weights @ positives)


def precision(truth: Truth, predicted: Truth) -> Weighted:
    """The share of the predicted positives that is positive; 0 where none is predicted though positives exist."""
    found, claimed, positives = (truth & predicted).astype(float), predicted.astype(float), truth.astype(float)

    def of(weights: Array) -> Array:
        nothing_claimed = np.where(weights @ positives > 0, 0.0, np.nan)
        return np.where(weights @ claimed > 0, ratio(weights @ found, weights @ claimed), nothing_claimed)

    return of


def f1(truth: Truth, predicted: Truth) -> Weighted:
    """Twice the hits over positives plus predicted positives; nan where there are neither."""
    found, either = (truth & predicted).astype(float), truth.astype(float) + predicted.astype(float)
    return lambda weights: ratio(2 * (weights @ found), weights @ either)


def balanced_accuracy(truth: Codes, predicted: Codes, classes: int) -> Weighted:
    """The mean recall of the classes that occur."""

    def of(weights: Array) -> Array:
        real = _per_class(weights, truth, classes)
        caught = _per_class(weights * (truth == predicted), truth, classes)
        return _mean_defined(ratio(caught, real))

    return of


def f1_macro(truth: Codes, predicted: Codes, classes: int) -> Weighted:
    """The mean F1 of the classes that occur or are predicted."""

    def of(weights: Array) -> Array:
        either = _per_class(weights, truth, classes) + _per_class(weights, predicted, classes)
        caught = _per_class(weights * (truth == predicted), truth, classes)
        return _mean_defined(ratio(2 * caught, either))

    return of


def area_under_roc(truth: Truth, scores: Array) -> Weighted:
    """The chance that a positive scores above a negative, ties counting half; nan with one class only."""
    order, starts = _groups(scores)
    positive = truth[order].astype(float)

    def of(weights: Array) -> Array:
        if not len(order):
            return np.full(len(weights), np.nan)
        ordered = np.take(weights, order, axis=1)
        good = _sums(ordered * positive, starts)
        bad = _sums(ordered, starts) - good
        wins = good * (np.cumsum(bad, axis=1) - bad / 2)
        return ratio(wins.sum(axis=1), good.sum(axis=1) * bad.sum(axis=1))

    return of


def area_under_roc_one_vs_rest(truth: Codes, probabilities: Array) -> Weighted:
    """The mean over classes of each class's area against all others; nan where a class is absent."""
    areas = [area_under_roc(truth == code, probabilities[:, code]) for code in range(probabilities.shape[1])]
    return lambda weights: np.mean([area(weights) for area in areas], axis=0)


def average_precision(truth: Truth, scores: Array) -> Weighted:
    """The precision at each threshold, weighted by the gain in recall; nan without positives."""
    order, starts = _groups(-scores)
    positive = truth[order].astype(float)

    def of(weights: Array) -> Array:
        if not len(order):
            return np.full(len(weights), np.nan)
        ordered = np.take(weights, order, axis=1)
        good = _sums(ordered * positive, starts)
        everything = np.cumsum(_sums(ordered, starts), axis=1)
        precision = np.divide(np.cumsum(good, axis=1), everything, out=np.zeros_like(good), where=everything > 0)
        return ratio((good * precision).sum(axis=1), good.sum(axis=1))

    return of


def ratio(above: Array, below: Array) -> Array:
    """Division that gives nan, silently, where the divisor is not positive."""
    result = np.full(np.shape(below), np.nan)
    np.divide(above, below, out=result, where=below > 0)
    return result


def _groups(scores: Array) -> tuple[Codes, Codes]:
    """The ascending order of *scores* and where each run of equal scores begins in it."""
    order = np.argsort(scores, kind="stable")
    starts = np.flatnonzero(np.diff(scores[order], prepend=np.nan) != 0)
    return order, starts


def _sums(ordered: Array, starts: Codes) -> Array:
    """The sum of each run; without ties that is the array itself."""
    if len(starts) == ordered.shape[1]:
        return ordered
    return np.add.reduceat(ordered, starts, axis=1)


def _per_class(weights: Array, codes: Codes, classes: int) -> Array:
    """Weight per class, resamples x classes; a label that the model doesn't know is a class of its own."""
    return np.stack([np.bincount(codes, row, minlength=classes + 2) for row in weights])


def _mean_defined(values: Array) -> Array:
    defined = ~np.isnan(values)
    return ratio(np.where(defined, values, 0.0).sum(axis=1), defined.sum(axis=1).astype(float))
