"""Numbers of a page: tables of scores, written out with their intervals."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from hybridus.protocol.scoring import MEANINGS
from hybridus.report.answer import heading, say_answer, say_limits

if TYPE_CHECKING:
    from hybridus.protocol.comparison import Comparison

_LOWER_IS_BETTER = ("hausdorff_95", "false_positive_rate")


def score_table(key: str, compared: Comparison) -> dict[str, Any]:
    """Say everything of one task in words and numbers."""
    table, intervals = compared.table, compared.intervals.to_dict("index")
    metrics = [name for name in compared.metrics if table[f"{name}_mean"].notna().any()]
    behind = {}
    if len(table) > 1:
        behind = pd.DataFrame(compared.differences.loc[table.index[0]]).to_dict("index")
    rows = []
    for model, row in zip(table.index, table.to_dict("records"), strict=True):
        cells = [
            {
                "score": _score(row[f"{name}_mean"], row[f"{name}_std"], name),
                "interval": _interval(intervals[model, name], name),
            }
            for name in metrics
        ]
        known = behind.get(model)
        rows.append(
            {
                "model": str(model),
                "cells": cells,
                "seconds": f"{row['fit_seconds'] + row['score_seconds']:.1f}",
                "p": "" if known is None else _p(known["p_holm"]),
                "verdict": "best" if known is None else known["verdict"],
            }
        )
    n_folds = len(compared.results) // len(table)
    meanings = "".join(
        f" {heading(name)}: {MEANINGS[name]}." for name in metrics if name in MEANINGS
    )
    tested = f" p: of the difference in {heading(metrics[0])} to the best, after Holm's correction."
    return {
        "key": key,
        "title": key.capitalize(),
        "answer": say_answer(compared),
        "limits": say_limits(compared),
        "subtitle": f"{len(table)} model{'s' * (len(table) > 1)} on the same {n_folds} folds.",
        "headings": [heading(name) + " ↓" * (name in _LOWER_IS_BETTER) for name in metrics],
        "rows": rows,
        "note": "Mean ± standard deviation over folds, and below it the 95 % interval of the mean "
        f"on other groups of this kind. Seconds: fit and score, of a fold.{meanings}"
        + " ↓: lower is better." * any(name in _LOWER_IS_BETTER for name in metrics)
        + tested * (len(table) > 1),
        "conclusions": compared.conclusions,
        "elsewhere": [
            external_table(compared, name, there) for name, there in compared.external.items()
        ],
    }


def external_table(compared: Comparison, name: str, there: Comparison) -> dict[str, Any]:
    """Say what models are worth on a set that none was fitted on, and what they lose there."""
    table, intervals = there.table, there.intervals.to_dict("index")
    metrics = [one for one in there.metrics if table[f"{one}_mean"].notna().any()]
    ranked = compared.metrics[0]
    lost = (compared.table[f"{ranked}_mean"] - table[f"{ranked}_mean"]).to_dict()
    rows = [
        {
            "model": str(model),
            "cells": [
                {
                    "score": _score(row[f"{one}_mean"], np.nan, one),
                    "interval": _interval(intervals[model, one], one),
                }
                for one in metrics
            ],
            "lost": _score(lost[model], np.nan, ranked),
        }
        for model, row in zip(table.index, table.to_dict("records"), strict=True)
    ]
    return {
        "name": name,
        "said": there.split,
        "headings": [heading(one) + " ↓" * (one in _LOWER_IS_BETTER) for one in metrics],
        "rows": rows,
        "ranked": heading(ranked),
        "conclusions": there.conclusions,
    }


def diagnosis_table(compared: Comparison, positive: Any) -> list[dict[str, Any]]:
    """Row of each model: how well it tells one class from the rest, with intervals."""
    found = compared.one_against_rest(positive).to_dict("index")
    return [
        {
            "model": model,
            "cells": [
                {
                    "score": _score(row["value"], np.nan, measure),
                    "interval": _interval(row, measure),
                }
                for measure in ("sensitivity", "specificity", "auc", "sensitivity_at_90")
                for row in [found[model, measure]]
            ],
        }
        for model in compared.table.index
    ]


def _p(value: float) -> str:
    return "<0.001" if value < 0.001 else f"{value:.2g}"


def _score(mean: float, spread: float, metric: str) -> str:
    if not np.isfinite(mean):
        return "not defined"
    digits = 1 if metric.startswith("hausdorff") else 3
    return f"{mean:.{digits}f}" + (f" ± {spread:.{digits}f}" if np.isfinite(spread) else "")


def _interval(row: Mapping[Any, float], metric: str) -> str:
    digits = 1 if metric.startswith("hausdorff") else 3
    return (
        f"{row['low']:.{digits}f} to {row['high']:.{digits}f}" if row["low"] == row["low"] else ""
    )
