"""Intervals: what each score of each model may be on other groups of the same kind."""

from __future__ import annotations

import math
from collections.abc import Iterable
from functools import cached_property

import numpy as np
import pandas as pd
from numpy.typing import NDArray

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

    @cached_property
    def draws(self) -> dict[tuple[str, str], NDArray[np.float64]]:
        """Means over folds for each draw, by model and score, where a score can be resampled."""
        parts = {}
        for model, of_model in self.by_model.items():
            for metric in self.metrics:
                found = [(result.test, score_statistic(result, metric)) for result in of_model]
                known = [(test, one) for test, one in found if one is not None]
                if len(known) == len(found):
                    parts[model, metric] = known
        return resample(parts, self.codes)

    def of_folds(self, model: str, metric: str) -> NDArray[np.float64]:
        """Score of each fold."""
        return np.array([result.scores[metric] for result in self.by_model[model]])

    def over_folds(self, values: NDArray[np.float64]) -> Estimate:
        """Mean of values of folds, and how far it may be off by the spread over folds."""
        if len(values) < 2:
            return Estimate(float(values.mean()), math.nan, math.nan)
        return spread_over_folds(values, test_share=float(self.test_shares.mean()))


def score_intervals(scores: ScoresOverGroups) -> pd.DataFrame:
    """Table of `Comparison.intervals`."""
    rows = []
    for model in scores.by_model:
        for metric in scores.metrics:
            of_folds = scores.of_folds(model, metric)
            over = "groups" if (model, metric) in scores.draws else "folds"
            if over == "groups":
                low, high = percentiles(scores.draws[model, metric], scores.n_groups)
            else:
                low, high = scores.over_folds(of_folds).interval()
            spread = np.std(of_folds, ddof=1) if len(of_folds) > 1 else math.nan
            rows.append((model, metric, pd.Series(of_folds).mean(), spread, low, high, over))
    columns = ["model", "metric", "mean", "std", "low", "high", "over"]
    return pd.DataFrame(rows, columns=columns).set_index(["model", "metric"])
