"""Resampling: what scores out of folds would be on other groups, each score by weighted sums.

A draw takes as many groups as there are, with replacement: each group, and all its samples, has a
weight of 0, 1, 2, ... All models and scores see the same draws, so that differences are paired.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import binomtest, norm, t as student_t

from hybridus.protocol.run import FoldResult
from hybridus.protocol.statistics import LEVEL

N_DRAWS = 2000
_MOST_WEIGHTS = 4_000_000  # at a time: 32 MB

Key = TypeVar("Key", bound=Hashable)
Weights = NDArray[np.float64]


class Statistic(Protocol):
    """What is calculated of samples for each of many weightings."""

    def __call__(self, weights: Weights) -> NDArray[np.float64]:
        """Take weights of shape (n_draws, n_samples) and return n_draws values."""


@dataclass(frozen=True)
class Ratio:
    """Sum over samples by another sum: a mean, a share, an F1; of several, their mean.

    Attributes
    ----------
    part, whole : arrays of shape (n_samples,) or (n_samples, n_ratios)
        What each sample adds. A ratio whose whole is zero is left out of the mean.
    """

    part: ArrayLike
    whole: ArrayLike

    def __call__(self, weights: Weights) -> NDArray[np.float64]:
        """Mean of the ratios; NaN where all of them are left out."""
        part, whole = (
            weights @ np.asarray(sums, dtype=float).reshape(weights.shape[1], -1)
            for sums in (self.part, self.whole)
        )
        return _mean_of_known(
            np.divide(part, whole, out=np.full_like(part, np.nan), where=whole > 0)
        )


@dataclass(frozen=True)
class Area:
    """Area under the ROC curve; of several rankings, their mean.

    Attributes
    ----------
    positive : array of shape (n_samples,) or (n_samples, n_rankings), bool
    scores : array of the same shape
    """

    positive: ArrayLike
    scores: ArrayLike

    def __call__(self, weights: Weights) -> NDArray[np.float64]:
        """Mean of the areas; NaN where one of them lacks positives or negatives."""
        columns = (
            np.asarray(given).reshape(weights.shape[1], -1).T
            for given in (self.positive, self.scores)
        )
        return np.mean([_area(weights, *column) for column in zip(*columns, strict=True)], axis=0)


@dataclass(frozen=True)
class SensitivityOnCurve:
    """Highest share of positives that a threshold finds which leaves most negatives alone.

    The threshold is read off the ROC curve of these very samples, without interpolation.

    Attributes
    ----------
    positive : array of shape (n_samples,), bool
    scores : array of shape (n_samples,)
    specificity : float
        Share of the negatives that must be left alone.
    """

    positive: NDArray[np.bool_]
    scores: NDArray[np.float64]
    specificity: float

    def __call__(self, weights: Weights) -> NDArray[np.float64]:
        """Sensitivity; NaN where there are no positives or no negatives."""
        found, alarms = (
            np.cumsum(sums, axis=1) for sums in _by_threshold(weights, self.positive, self.scores)
        )
        n_positive, n_negative = found[:, -1], alarms[:, -1]
        allowed = alarms <= (1 - self.specificity) * n_negative[:, np.newaxis] + 1e-9
        most = np.where(allowed, found, 0).max(axis=1)
        defined = (n_positive > 0) & (n_negative > 0)
        return np.divide(most, n_positive, out=np.full(len(most), np.nan), where=defined)


def resample(
    parts: Mapping[Key, Sequence[tuple[NDArray[np.intp], Statistic]]],
    codes: NDArray[np.intp],
    *,
    n_draws: int = N_DRAWS,
    random_state: int = 0,
) -> dict[Key, NDArray[np.float64]]:
    """Draw groups again and again, and take the mean of each key's statistics over its parts.

    Parameters
    ----------
    parts : dict of sequences of (positions, statistic)
        Positions of the samples that the statistic is of: a fold, or all folds of a repeat.
    codes : array of shape (n_samples,), int
        Group of each sample, from `group_codes`.
    n_draws : int, default=2000
    random_state : int, default=0

    Returns
    -------
    dict of arrays of shape (n_draws,)
        A part in which a statistic is not defined is left out of the mean of the draw; NaN where
        nothing is left.

    Examples
    --------
    >>> import numpy as np
    >>> from hybridus.protocol.resampling import Ratio, resample
    >>> right = np.array([1, 1, 1, 0, 1, 1, 0, 1, 1, 1])
    >>> share = Ratio(right, np.ones(10))
    >>> draws = resample({"": [(np.arange(10), share)]}, np.arange(10))[""]
    >>> draws.shape, bool(abs(draws.std() - right.std() / 10**0.5) < 0.01)
    ((2000,), True)
    """
    n_groups = int(codes.max()) + 1
    drawn = np.random.default_rng(random_state)
    size = max(1, _MOST_WEIGHTS // max(n_groups, len(codes)))
    chunks: dict[Key, list[NDArray[np.float64]]] = {key: [] for key in parts}
    for start in range(0, n_draws, size):
        n_now = min(size, n_draws - start)
        weights = _weights(drawn, n_now, n_groups)
        for key, of_key in parts.items():
            values = [statistic(weights[:, codes[where]]) for where, statistic in of_key]
            chunks[key].append(_mean_of_known(np.reshape(values, (-1, n_now)).T))
    return {key: np.concatenate(of_key) for key, of_key in chunks.items()}


def _weights(drawn: np.random.Generator, n_draws: int, n_groups: int) -> Weights:
    """How often each draw holds each group."""
    groups = drawn.integers(n_groups, size=(n_draws, n_groups))
    groups += n_groups * np.arange(n_draws)[:, np.newaxis]
    counts = np.bincount(groups.ravel(), minlength=n_draws * n_groups)
    return counts.reshape(n_draws, n_groups).astype(float)


def group_codes(results: Iterable[FoldResult]) -> NDArray[np.intp]:
    """Give the number of each sample's group, -1 where no fold tested it."""
    tested = list(results)
    positions = np.concatenate([result.test for result in tested])
    names = np.concatenate(
        [result.test if result.groups is None else result.groups for result in tested]
    )
    codes = np.full(positions.max() + 1, -1, dtype=np.intp)
    codes[positions] = np.unique(names, return_inverse=True)[1]
    return codes


def percentiles(draws: NDArray[np.float64], n_groups: int) -> tuple[float, float]:
    """Give the ends of the 95 % interval of what was resampled, wider where groups are few.

    Where all draws are 1 (or 0), nothing went wrong (or right) in `n_groups` groups: resampling
    would claim certainty, and the exact binomial interval is given instead.

    Parameters
    ----------
    draws : array of shape (n_draws,)
    n_groups : int
        How many groups count.

    References
    ----------
    Hesterberg, T. C. (2015). What teachers should know about the bootstrap. The American
    Statistician 69, 371-386: the expanded percentile interval.

    Examples
    --------
    >>> import numpy as np
    >>> from hybridus.protocol.resampling import percentiles
    >>> [round(end, 3) for end in percentiles(np.ones(2000), 20)]
    [0.832, 1.0]
    """
    known = draws[np.isfinite(draws)]
    if n_groups < 2 or not len(known):
        return math.nan, math.nan
    first = float(known[0])
    if first in (0, 1) and np.allclose(known, first):
        ends = binomtest(round(first * n_groups), n_groups).proportion_ci(1 - LEVEL)
        return float(ends.low), float(ends.high)
    reach = math.sqrt(n_groups / (n_groups - 1)) * student_t.isf(LEVEL / 2, n_groups - 1)
    tail = float(norm.sf(reach))
    low, high = np.quantile(known, [tail, 1 - tail])
    return float(low), float(high)


def score_statistic(result: FoldResult, metric: str) -> Statistic | None:
    """How a score of a fold is made of its samples; None where that is not known.

    What has the name of a known score but another value is a score of the caller's own.
    """
    if metric in (result.by_sample or {}):
        statistic: Statistic = Ratio(*result.by_sample[metric].T)  # type: ignore[index]
    elif metric in _OF_CLASSES and result.truth is not None and result.predictions is not None:
        made = _OF_CLASSES[metric](result)
        if made is None:
            return None
        statistic = made
    else:
        return None
    value = float(statistic(np.ones((1, len(result.test))))[0])
    same = np.isclose(value, result.scores[metric], rtol=0, atol=1e-6, equal_nan=True)
    return statistic if same else None


def is_right(result: FoldResult) -> NDArray[np.bool_]:
    """Whether each predicted class is the true one."""
    return np.asarray(result.truth == result.predictions)


def class_scores(result: FoldResult) -> NDArray[np.float64] | None:
    """Decisions with a column for each class; None where there are none."""
    if result.decisions is None or result.classes is None:
        return None
    scores = np.asarray(result.decisions, dtype=float)
    if scores.ndim == 1 and len(result.classes) == 2:
        # Ranking for the second class, read backwards, is the ranking for the first.
        scores = np.column_stack([-scores, scores])
    return scores if scores.shape == (len(result.test), len(result.classes)) else None


def _accuracy(result: FoldResult) -> Statistic:
    return Ratio(is_right(result), np.ones(len(result.test)))


def _of_each_class(result: FoldResult) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    labels = np.unique(np.concatenate([result.truth, result.predictions]))  # type: ignore[list-item]
    is_true, is_predicted = (
        np.asarray(given)[:, np.newaxis] == labels for given in (result.truth, result.predictions)
    )
    return is_true, is_predicted


def _balanced_accuracy(result: FoldResult) -> Statistic:
    is_true, is_predicted = _of_each_class(result)
    return Ratio(is_true & is_predicted, is_true)


def _f1_macro(result: FoldResult) -> Statistic:
    is_true, is_predicted = _of_each_class(result)
    return Ratio(2 * (is_true & is_predicted), is_true.astype(int) + is_predicted)


def _macro_ovr_auc(result: FoldResult) -> Statistic | None:
    scores = class_scores(result)
    if scores is None:
        return None
    # Of the classes that are there: a score of all is not defined where one is missing.
    there = np.isin(result.classes, result.truth)  # type: ignore[arg-type]
    if there.sum() > 1:
        scores, classes = scores[:, there], result.classes[there]  # type: ignore[index]
    else:
        classes = result.classes  # type: ignore[assignment]
    return Area(result.truth[:, np.newaxis] == classes, scores)  # type: ignore[index]


_OF_CLASSES: dict[str, Callable[[FoldResult], Statistic | None]] = {
    "accuracy": _accuracy,
    "balanced_accuracy": _balanced_accuracy,
    "f1_macro": _f1_macro,
    "macro_ovr_auc": _macro_ovr_auc,
    "roc_auc": _macro_ovr_auc,
    "roc_auc_ovr": _macro_ovr_auc,
}


def _by_threshold(
    weights: Weights, positive: NDArray, scores: NDArray
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Weights of positives and of negatives at each score, the highest first."""
    order = np.argsort(-scores, kind="stable")
    starts = np.flatnonzero(np.diff(scores[order], prepend=np.nan))
    ordered, is_positive = weights[:, order], np.asarray(positive)[order].astype(float)
    positives = np.add.reduceat(ordered * is_positive, starts, axis=1)
    negatives = np.add.reduceat(ordered * (1 - is_positive), starts, axis=1)
    return positives, negatives


def _area(weights: Weights, positive: NDArray, scores: NDArray) -> NDArray[np.float64]:
    positives, negatives = _by_threshold(weights, positive, scores)
    n_positives, n_negatives = positives.sum(axis=1), negatives.sum(axis=1)
    below = n_negatives[:, np.newaxis] - np.cumsum(negatives, axis=1)
    won = (positives * (below + negatives / 2)).sum(axis=1)
    pairs = n_positives * n_negatives
    return np.divide(won, pairs, out=np.full(len(won), np.nan), where=pairs > 0)


def _mean_of_known(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean of each row without what is NaN, in silence where all of it is."""
    known = np.isfinite(values)
    n_known = known.sum(axis=1)
    total = np.where(known, values, 0).sum(axis=1)
    return np.divide(total, n_known, out=np.full(len(total), np.nan), where=n_known > 0)
