"""Samples: what each model said of each while it was not trained on it, as one long table."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd

from hybridus.protocol.resampling import class_scores
from hybridus.protocol.run import FoldResult


def sample_table(results: Iterable[FoldResult], index: pd.Index | None) -> pd.DataFrame:
    """Table of `Comparison.samples`."""
    parts = []
    for result in results:
        labels = result.test if index is None else index[result.test]
        known = {"model": result.model, "repeat": result.repeat, "fold": result.fold}
        columns = {**known, "sample": labels, "group": result.groups}
        if result.truth is not None:
            columns |= {"truth": result.truth, "predicted": result.predictions}
            columns |= {"scored_by": result.decided_by}
            scores = class_scores(result)
            if scores is not None and result.classes is not None:
                given = zip(result.classes, scores.T, strict=True)
                columns |= {f"score_{label}": column for label, column in given}
        for name, shares in (result.by_sample or {}).items():
            counted = np.where(shares[:, 1] > 0, shares[:, 1], np.nan)
            columns[name] = shares[:, 0] / counted
        parts.append(pd.DataFrame(columns))
    return pd.concat(parts, ignore_index=True)
