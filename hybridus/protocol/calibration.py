"""Calibration: whether probabilities mean what they say, and whom to ask where they say little."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from hybridus.protocol.intervals import ScoresOverGroups
from hybridus.protocol.resampling import (
    Ratio,
    Statistic,
    Weights,
    class_scores,
    is_right,
    percentiles,
    resample,
)
from hybridus.protocol.run import FoldResult

N_BINS = 10
REFERRED = tuple(number / 20 for number in range(11))  # none to half of the scans
Parts = list[tuple[NDArray[np.intp], Statistic]]


class CalibrationError:
    """Expected calibration error: mean gap of confidence and share right, over bins.

    Parameters
    ----------
    confidence : array of shape (n_samples,)
    right : array of shape (n_samples,)
    """

    def __init__(self, confidence: NDArray[np.float64], right: NDArray) -> None:
        self.gap = right.astype(float) - confidence
        self.in_bin = _bins(confidence)[:, np.newaxis] == np.arange(N_BINS)

    def __call__(self, weights: Weights) -> NDArray[np.float64]:
        """Error for each weighting."""
        gaps = np.abs(weights @ (self.gap[:, np.newaxis] * self.in_bin)).sum(axis=1)
        return np.asarray(gaps / weights.sum(axis=1))


def calibration_table(scores: ScoresOverGroups) -> pd.DataFrame:
    """Table of `Comparison.calibration`."""
    parts: dict[tuple[str, str], Parts] = {}
    rows: dict[str, dict[str, Any]] = {}
    for model in scores.by_model:
        pooled = _pooled(scores, model)
        rows[model] = {"probabilities": pooled is not None}
        if pooled is None:
            continue
        squares, ones = pooled["squares"].to_numpy(), np.ones(len(pooled))
        confidence, right = pooled["confidence"].to_numpy(), pooled["right"].to_numpy()
        where = pooled["test"].to_numpy()
        error = CalibrationError(confidence, right)
        parts[model, "brier"] = [(where, Ratio(squares, ones))]
        parts[model, "calibration_error"] = [(where, error)]
        rows[model] |= {"confidence": confidence.mean(), "accuracy": right.mean()}
        rows[model]["error_if_calibrated"] = _error_by_chance(pooled)
    draws = resample(parts, scores.codes)
    for (model, measure), ((where, statistic),) in parts.items():
        rows[model][measure] = statistic(np.ones((1, len(where))))[0]
        ends = percentiles(draws[model, measure], scores.n_groups)
        rows[model][f"{measure}_low"], rows[model][f"{measure}_high"] = ends
    columns = ["brier", "brier_low", "brier_high", "calibration_error", "calibration_error_low"]
    columns += ["calibration_error_high", "error_if_calibrated", "confidence", "accuracy"]
    table = pd.DataFrame.from_dict(rows, orient="index").reindex(
        columns=[*columns, "probabilities"]
    )
    return table.rename_axis("model")


def reliability_table(scores: ScoresOverGroups, positive: Any = None) -> pd.DataFrame:
    """Table of `Comparison.reliability`."""
    parts: dict[tuple[str, int], Parts] = {}
    rows = []
    for model in scores.by_model:
        pooled = _pooled(scores, model, positive)
        if pooled is None:
            continue
        said = pooled["confidence"].to_numpy()
        for number in np.unique(_bins(said)):
            inside = _bins(said) == number
            where, right = pooled["test"].to_numpy()[inside], pooled["right"].to_numpy()[inside]
            parts[model, number] = [(where, Ratio(right, np.ones(len(right))))]
            n_groups = len(np.unique(scores.codes[where]))
            edges = number / N_BINS, (number + 1) / N_BINS
            n = len(right) / scores.n_repeats
            rows.append((model, *edges, said[inside].mean(), right.mean(), n, n_groups))
    columns = ["model", "from", "to", "probability", "share", "n", "n_groups"]
    table = pd.DataFrame(rows, columns=columns)
    draws = resample(parts, scores.codes)
    ends = [
        percentiles(of_bin, n) for of_bin, n in zip(draws.values(), table["n_groups"], strict=True)
    ]
    table[["low", "high"]] = np.array(ends, dtype=float).reshape(-1, 2)
    return table.set_index(["model", "from", "to"])


def referral_table(scores: ScoresOverGroups) -> pd.DataFrame:
    """Table of `Comparison.referral`."""
    parts: dict[tuple[str, float], Parts] = {}
    rows = []
    for model, of_model in scores.by_model.items():
        margins = [_margin(result) for result in of_model]
        if any(margin is None for margin in margins):
            continue
        # By rank within the fold, since decisions of different fits need not be on one scale.
        rank = np.concatenate([_share_below(margin) for margin in margins])  # type: ignore[arg-type]
        where = np.concatenate([result.test for result in of_model])
        right = np.concatenate([is_right(result) for result in of_model])
        for referred in REFERRED:
            kept = rank >= referred - 1e-9
            parts[model, referred] = [(where[kept], Ratio(right[kept], np.ones(kept.sum())))]
            caught = (~right & ~kept).sum() / (~right).sum() if not right.all() else math.nan
            rows.append((model, referred, (~kept).mean(), right[kept].mean(), caught))
    columns = ["model", "referred", "referred_share", "accuracy", "errors_caught"]
    table = pd.DataFrame(rows, columns=columns)
    draws = resample(parts, scores.codes)
    ends = [
        percentiles(of_share, len(np.unique(scores.codes[part[0][0]])))
        for of_share, part in zip(draws.values(), parts.values(), strict=True)
    ]
    table[["low", "high"]] = np.array(ends, dtype=float).reshape(-1, 2)
    return table.set_index(["model", "referred"])


def probabilities(result: FoldResult) -> NDArray[np.float64] | None:
    """Give what the model says of each class; None where it gives no probabilities."""
    return class_scores(result) if result.decided_by == "predict_proba" else None


def _pooled(scores: ScoresOverGroups, model: str, positive: Any = None) -> pd.DataFrame | None:
    """Give a row for each tested sample of each repeat: what was said, and whether it was right.

    Said is the probability of the class that is most probable, or of `positive`.
    """
    parts = []
    for result in scores.by_model[model]:
        given = probabilities(result)
        if given is None or result.classes is None or result.truth is None:
            return None
        is_true = result.truth[:, np.newaxis] == result.classes
        # A class that the training part lacked has the probability 0.
        squares = ((given - is_true) ** 2).sum(axis=1) + ~is_true.any(axis=1)
        column = given.argmax(axis=1)
        if positive is not None:
            if positive not in result.classes.tolist():
                raise ValueError(
                    f"positive={positive!r}: expected one of {result.classes.tolist()}"
                )
            column = np.full(len(given), result.classes.tolist().index(positive))
        rows = np.arange(len(given))
        part = {"test": result.test, "squares": squares}
        part |= {"confidence": given[rows, column], "right": is_true[rows, column]}
        parts.append(pd.DataFrame(part))
    return pd.concat(parts, ignore_index=True)


def _bins(probability: NDArray[np.float64]) -> NDArray[np.intp]:
    """Bins of equal width, each without its lower end, but for the first."""
    return np.clip(np.ceil(probability * N_BINS - 1e-9).astype(np.intp) - 1, 0, N_BINS - 1)


def _error_by_chance(pooled: pd.DataFrame) -> float:
    """Give the error that chance leaves if each confidence is right as often as it says."""
    drawn = np.random.default_rng(0)
    one = pooled.groupby("test", sort=False)["confidence"].mean().to_numpy()
    errors = [
        CalibrationError(one, drawn.random(len(one)) < one)(np.ones((1, len(one))))[0]
        for _ in range(200)
    ]
    return float(np.mean(errors))


def _margin(result: FoldResult) -> NDArray[np.float64] | None:
    """How far the first class is ahead of the second: little means unsure."""
    decisions = class_scores(result)
    if decisions is None:
        return None
    first_two = np.sort(decisions, axis=1)[:, -2:]
    return np.asarray(first_two[:, 1] - first_two[:, 0])


def _share_below(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Share of the fold that is less sure; in a tie those that come first."""
    return np.argsort(np.argsort(values, kind="stable"), kind="stable") / len(values)
