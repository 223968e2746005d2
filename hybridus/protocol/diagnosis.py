"""Diagnosis: one class against the rest, in the measures that medicine reads."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from hybridus.protocol.intervals import ScoresOverGroups
from hybridus.protocol.resampling import (
    Area,
    Ratio,
    SensitivityOnCurve,
    Statistic,
    class_scores,
    percentiles,
    resample,
)
from hybridus.protocol.run import FoldResult

Parts = list[tuple[NDArray[np.intp], Statistic]]


def one_against_rest(scores: ScoresOverGroups, positive: Any, specificity: float) -> pd.DataFrame:
    """Table of `Comparison.one_against_rest`."""
    if not 0 < specificity < 1:
        raise ValueError(f"specificity={specificity!r}: expected a share, such as 0.9")
    truth = scores.truth
    classes = np.unique(truth[scores.codes >= 0])
    if positive not in classes.tolist() or len(classes) < 2:
        raise ValueError(f"positive={positive!r}: expected one of the classes {classes.tolist()}")
    n_positive, n_negative = (
        len(np.unique(scores.codes[(scores.codes >= 0) & side]))
        for side in (truth == positive, truth != positive)
    )
    parts: dict[tuple[str, str], Parts] = {}
    for model, of_model in scores.by_model.items():
        folds = [_Fold.of(result, positive) for result in of_model]
        for measure, of_measure in _measures(folds, specificity).items():
            parts[model, measure] = of_measure
    draws = resample(parts, scores.codes)
    rows = []
    for (model, measure), of_measure in parts.items():
        values = [statistic(np.ones((1, len(where))))[0] for where, statistic in of_measure]
        counted = n_negative if measure.startswith("specificity") else n_positive
        counted = min(n_positive, n_negative) if measure == "auc" else counted
        ends = percentiles(draws[model, measure], counted)
        rows.append((model, measure, pd.Series(values, dtype=float).mean(), *ends))
    columns = ["model", "measure", "value", "low", "high"]
    return pd.DataFrame(rows, columns=columns).set_index(["model", "measure"])


def threshold_at(negatives: NDArray[np.float64], specificity: float) -> float:
    """Find the score that no more than the allowed share of negatives lies above.

    Examples
    --------
    >>> import numpy as np
    >>> from hybridus.protocol.diagnosis import threshold_at
    >>> threshold_at(np.arange(10.0), 0.8)
    7.0
    """
    n_above = math.floor((1 - specificity) * len(negatives) + 1e-9)
    return float(np.sort(negatives)[len(negatives) - 1 - n_above])


@dataclass(frozen=True)
class _Fold:
    """A test part: which samples are positive, which were said to be, and how they are ranked."""

    repeat: int
    test: NDArray[np.intp]
    positive: NDArray[np.bool_]
    said: NDArray[np.bool_]
    ranking: NDArray[np.float64] | None

    @classmethod
    def of(cls, result: FoldResult, positive: Any) -> _Fold:
        ranking, columns = None, class_scores(result)
        if columns is not None and result.classes is not None and positive in result.classes:
            ranking = columns[:, result.classes.tolist().index(positive)]
        is_positive, said = (
            np.asarray(given == positive) for given in (result.truth, result.predictions)
        )
        return cls(result.repeat, result.test, is_positive, said, ranking)


def _measures(folds: Sequence[_Fold], specificity: float) -> dict[str, Parts]:
    """Say what each measure is the mean of: counts over a repeat, curves over its folds."""
    at = f"_at_{100 * specificity:g}"
    names = ("sensitivity", "specificity", "auc", f"sensitivity{at}", f"specificity{at}")
    found: dict[str, Parts] = {name: [] for name in (*names, f"sensitivity_on_curve{at}")}
    for _, of_repeat in itertools.groupby(folds, lambda fold: fold.repeat):
        tested = list(of_repeat)
        _count(found, "", tested, [fold.said for fold in tested])
        above = []
        for fold in tested:
            if fold.ranking is None:
                continue
            found["auc"].append((fold.test, Area(fold.positive, fold.ranking)))
            curve = SensitivityOnCurve(fold.positive, fold.ranking, specificity)
            found[f"sensitivity_on_curve{at}"].append((fold.test, curve))
            elsewhere = [
                other.ranking[~other.positive]
                for other in tested
                if other is not fold and other.ranking is not None
            ]
            if any(len(negatives) for negatives in elsewhere):
                threshold = threshold_at(np.concatenate(elsewhere), specificity)
                above.append(fold.ranking > threshold)
        if len(above) == len(tested):
            _count(found, at, tested, above)
    return found


def _count(
    found: dict[str, Parts], at: str, folds: Sequence[_Fold], said: Sequence[NDArray[np.bool_]]
) -> None:
    """Add sensitivity and specificity over the folds of a repeat."""
    where = np.concatenate([fold.test for fold in folds])
    positive = np.concatenate([fold.positive for fold in folds])
    called = np.concatenate(said)
    found[f"sensitivity{at}"].append((where, Ratio(positive & called, positive)))
    found[f"specificity{at}"].append((where, Ratio(~positive & ~called, ~positive)))
