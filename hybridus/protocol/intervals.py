"""Intervals: what each score of each model may be on other groups of the same kind."""

from __future__ import annotations

import math
from collections.abc import Iterable
from functools import cached_property

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from hybridus.protocol.resampling import group_codes, percentiles, resample, score_statistic
from hybridus.protocol.run import FoldResult
from hybridus.protocol.statistics import Estimate, spread_over_folds


class ScoresOverGroups:
    """Scores of models over resampled groups, the same for all models and scores.

    Parameters
    ----------
    results : iterable of FoldResult
        Those of all models on the same folds.

    Attributes
    ----------
    by_model : dict of str to list of FoldResult
    metrics : list of str
    codes : array of shape (n_samples,), int
        Group of each sample, -1 where no fold tested it.
    n_groups : int
        Groups that were tested.
    units : {"groups", "samples"}
        What they are called: samples where each stands for itself.
    n_repeats : int
    test_shares : array of shape (n_folds,)
        ``n_test / n_train`` of each fold.
    """

    def __init__(self, results: Iterable[FoldResult]) -> None:
        self.by_model: dict[str, list[FoldResult]] = {}
        for result in results:
            self.by_model.setdefault(result.model, []).append(result)
        for of_model in self.by_model.values():
            of_model.sort(key=lambda result: (result.repeat, result.fold))
        one = next(iter(self.by_model.values()))
        self.metrics = list(one[0].scores)
        self.codes = group_codes(one)
        self.n_groups = int(self.codes.max()) + 1
        self.units = "groups" if (self.codes >= 0).sum() > self.n_groups else "samples"
        self.n_repeats = len({result.repeat for result in one})
        self._draws: dict[str, dict[str, NDArray[np.float64]]] = {}
        self.test_shares = np.array([len(result.test) / len(result.train) for result in one])

    @cached_property
    def truth(self) -> NDArray:
        """True class of each sample; an arbitrary one where no fold tested it.

        Raises
        ------
        ValueError
            Where the models find masks, or predictions were dropped.
        """
        for model, of_model in self.by_model.items():
            if of_model[0].truth is None or of_model[0].predictions is None:
                raise ValueError(
                    f"model {model!r} has no predicted classes: expected results of classifiers "
                    "that still have their predictions"
                )
        one = next(iter(self.by_model.values()))
        truth = np.concatenate([result.truth for result in one])  # type: ignore[misc]
        by_position = np.full(len(self.codes), truth[0], dtype=truth.dtype)
        by_position[np.concatenate([result.test for result in one])] = truth
        return by_position

    def draws(self, metric: str) -> dict[str, NDArray[np.float64]]:
        """Means over folds of a score for each draw, by model, where it can be resampled."""
        if metric not in self._draws:
            parts = {}
            for model, of_model in self.by_model.items():
                found = [(result.test, score_statistic(result, metric)) for result in of_model]
                known = [(test, statistic) for test, statistic in found if statistic is not None]
                if len(known) == len(found):
                    parts[model] = known
            self._draws[metric] = resample(parts, self.codes)
        return self._draws[metric]

    def of_folds(self, model: str, metric: str) -> NDArray[np.float64]:
        """Score of each fold."""
        return np.array([result.scores[metric] for result in self.by_model[model]])

    def over_folds(self, values: ArrayLike) -> Estimate:
        """Mean of values of folds, and how far it may be off by the spread over folds."""
        if len(self.test_shares) < 2:
            return Estimate(float(np.asarray(values, dtype=float).mean()), math.nan, math.nan)
        return spread_over_folds(values, test_share=float(self.test_shares.mean()))


def score_intervals(scores: ScoresOverGroups) -> pd.DataFrame:
    """Table of `Comparison.intervals`."""
    rows = []
    for model in scores.by_model:
        for metric in scores.metrics:
            of_folds = pd.Series(scores.of_folds(model, metric))
            draws = scores.draws(metric).get(model)
            if draws is None:
                low, high = scores.over_folds(of_folds).interval()
            else:
                low, high = percentiles(draws, scores.n_groups)
            over = "folds" if draws is None else "groups"
            rows.append((model, metric, of_folds.mean(), of_folds.std(), low, high, over))
    columns = ["model", "metric", "mean", "std", "low", "high", "over"]
    return pd.DataFrame(rows, columns=columns).set_index(["model", "metric"])
