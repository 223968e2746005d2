"""Differences: of every pair of models, whether it is settled, and what it would take to settle it.

One test decides: that over groups, corrected for what other training samples would have changed
(`spread_over_groups`). The others stand beside it.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from hybridus.protocol.intervals import ScoresOverGroups
from hybridus.protocol.resampling import class_scores, is_right
from hybridus.protocol.run import FoldResult
from hybridus.protocol.statistics import (
    LEVEL,
    POWER,
    Estimate,
    bootstrap_p_value,
    corrected_t_test,
    delong_over_folds,
    delong_test,
    holm,
    mcnemar_test,
    spread_over_groups,
)

_AREAS = ("roc_auc", "macro_ovr_auc")


def difference_table(scores: ScoresOverGroups, metric: str, ranked: Sequence[str]) -> pd.DataFrame:
    """Table of `Comparison.differences`, pairs in the order of the models."""
    pairs = list(itertools.combinations(ranked, 2))
    found = [_estimate(scores, metric, *pair) for pair in pairs]
    table = pd.DataFrame(
        {
            "difference": [one.value for one, _ in found],
            "low": [_interval(one)[0] for one, _ in found],
            "high": [_interval(one)[1] for one, _ in found],
            "p": [one.p_value for one, _ in found],
        },
        index=pd.MultiIndex.from_tuples(pairs, names=["model", "other"]),
        dtype=float,
    )
    table["p_holm"] = holm(table["p"])
    table["verdict"] = np.where(table["p_holm"] < LEVEL, "settled", "open")
    first_step = LEVEL / max(1, len(pairs))
    table["detectable"] = [
        one.detectable(first_step) if one.error else math.nan for one, _ in found
    ]
    factor = (table["detectable"] / table["difference"].abs()) ** 2
    more = np.ceil(scores.n_groups * (factor - 1))
    table["more_groups"] = more.where(table["verdict"] == "open")
    table["over"] = [over for _, over in found]
    table["p_folds"] = [_p_folds(scores, metric, *pair) for pair in pairs]
    table["p_bootstrap"] = [
        bootstrap_p_value(scores.draws(metric)[first] - scores.draws(metric)[second])
        if over == "groups"
        else math.nan
        for (first, second), (_, over) in zip(pairs, found, strict=True)
    ]
    table["p_mcnemar"] = [_p_mcnemar(scores, metric, *pair) for pair in pairs]
    table["p_delong"] = [_p_delong(scores, metric, *pair) for pair in pairs]
    return table


def say_differences(table: pd.DataFrame, metric: str, scores: ScoresOverGroups) -> list[str]:
    """Say in plain words what is settled of the differences in the score that ranks.

    Returns
    -------
    list of str
        A line for each pair of a model with the best, one for all others, and one for the smallest
        difference that could have been seen.
    """
    if table.empty:
        return []
    best = table.index[0][0]
    with_best = table.loc[best]
    lines = [
        _say(best, str(other), row, metric, scores)
        for other, row in zip(with_best.index, with_best.to_dict("records"), strict=True)
    ]
    others = table["verdict"].iloc[len(with_best) :]
    if len(others):
        n_settled = (others == "settled").sum()
        lines.append(f"pairs without {best}: {n_settled} of {len(others)} settled")
    seen = table["detectable"].dropna()
    if len(seen):
        low, high = f"{seen.min():.3f}", f"{seen.max():.3f}"
        size = low if low == high else f"{low} to {high}, depending on the pair"
        corrected = f", after Holm's correction over {len(table)} pairs" * (len(table) > 1)
        lines.append(
            f"smallest difference in {metric} that {scores.n_groups} {scores.units} show with a "
            f"power of {100 * POWER:.0f} %{corrected}: {size}"
        )
    return lines


def _say(
    first: str, second: str, row: dict[Any, Any], metric: str, scores: ScoresOverGroups
) -> str:
    if not np.isfinite(row["difference"]):
        return f"open: {metric} of {first} or {second} is not defined"
    known = f"by {row['difference']:.3f}"
    if np.isfinite(row["low"]):
        known += f" (95 % interval {row['low']:.3f} to {row['high']:.3f})"
    if row["verdict"] == "settled":
        return f"settled: {first} has a higher {metric} than {second}, {known}"
    more = row["more_groups"]
    if not np.isfinite(more):
        needed = ""
    elif more > 20 * scores.n_groups:
        needed = f"; so little would take some {_rounded(more)} more {scores.units} to settle"
    else:
        needed = f"; some {_rounded(more)} more {scores.units} would, if it stays as large"
    corrected = ", after Holm's correction" * bool(row["low"] > 0)
    return f"open: {first} and {second} differ {known}, which settles nothing{corrected}{needed}"


def _rounded(number: float) -> str:
    """Write a number with two digits, which are more than is known."""
    size = 10 ** max(0, math.floor(math.log10(max(1, number))) - 1)
    return f"{math.ceil(number / size) * size:,}"


def _estimate(
    scores: ScoresOverGroups, metric: str, first: str, second: str
) -> tuple[Estimate, str]:
    """Difference with its error, over groups where the score can be resampled, else over folds."""
    of_folds = scores.of_folds(first, metric) - scores.of_folds(second, metric)
    draws = [scores.draws(metric).get(model) for model in (first, second)]
    if draws[0] is None or draws[1] is None or scores.n_groups < 2:
        return scores.over_folds(of_folds), "folds"
    estimate = spread_over_groups(
        float(pd.Series(of_folds).mean()),
        draws[0] - draws[1],
        scores.n_groups,
        test_share=float(scores.test_shares.sum() / scores.n_repeats),
    )
    return estimate, "groups"


def _interval(estimate: Estimate) -> tuple[float, float]:
    """Nothing where models never differed: their data say that it is rare, not how rare."""
    return estimate.interval() if estimate.error else (math.nan, math.nan)


def _p_folds(scores: ScoresOverGroups, metric: str, first: str, second: str) -> float:
    difference = scores.of_folds(first, metric) - scores.of_folds(second, metric)
    if len(difference) < 2:
        return math.nan
    return corrected_t_test(difference, test_share=float(scores.test_shares.mean()))


def _p_mcnemar(scores: ScoresOverGroups, metric: str, first: str, second: str) -> float:
    """Of classifiers that are ranked by accuracy, which is what this test is about."""
    if metric != "accuracy" or first not in scores.draws(metric):
        return math.nan
    votes = np.zeros(scores.n_groups)
    for one, other in _both(scores, first, second):
        differ = is_right(one).astype(float) - is_right(other)
        votes += np.bincount(scores.codes[one.test], differ, scores.n_groups)
    return mcnemar_test(votes)


def _p_delong(scores: ScoresOverGroups, metric: str, first: str, second: str) -> float:
    """Of two classes that are ranked."""
    if metric not in _AREAS or first not in scores.draws(metric):
        return math.nan
    tests: dict[int, list] = {}
    for one, other in _both(scores, first, second):
        rankings = [_ranking(one), _ranking(other)]
        if rankings[0] is None or rankings[1] is None or one.classes is None:
            return math.nan
        codes, positive = scores.codes[one.test], one.truth == one.classes[1]
        if min(len(np.unique(codes[side])) for side in (positive, ~positive)) < 2:
            return math.nan
        found = delong_test(positive, rankings[0], rankings[1], codes)
        tests.setdefault(one.repeat, []).append(found)
    return delong_over_folds(list(tests.values()))


def _ranking(result: FoldResult) -> NDArray[np.float64] | None:
    scores = class_scores(result)
    return scores[:, 1] if scores is not None and scores.shape[1] == 2 else None


def _both(
    scores: ScoresOverGroups, first: str, second: str
) -> Iterator[tuple[FoldResult, FoldResult]]:
    return zip(scores.by_model[first], scores.by_model[second], strict=True)
