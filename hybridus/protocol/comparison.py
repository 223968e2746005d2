"""Comparison: what came of models on the same folds, as a table, fold by fold, and predicted."""

from __future__ import annotations

import html
import os
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from hybridus.inputs.files import replacing
from hybridus.protocol.run import FoldResult
from hybridus.protocol.schedule import FoldFailure
from hybridus.protocol.scoring import MEANINGS
from hybridus.protocol.statistics import corrected_t_test

_SAME_FOLD = ["repeat", "fold", "n_train", "n_test", "test_set"]


@dataclass(frozen=True, eq=False, repr=False)
class Comparison:
    """What a comparison found: a table of models, their scores fold by fold, their predictions.

    Parameters
    ----------
    results : iterable of FoldResult and FoldFailure
        Those of all models on the same folds, in any order; several runs may be put together. A
        model that failed on a fold is left out of everything but `failures`.
    split : str, default=""
        How samples were split, in words.
    index : pandas.Index, default=None
        Labels of the samples; None numbers them.

    Raises
    ------
    ValueError
        If no model is left, or models were not scored on the same folds by the same metrics.
    """

    results: tuple[FoldResult, ...]
    split: str = ""
    index: pd.Index | None = None
    failed: tuple[FoldFailure, ...] = ()

    def __init__(
        self,
        results: Iterable[FoldResult | FoldFailure],
        split: str = "",
        index: pd.Index | None = None,
    ) -> None:
        given = tuple(results)
        failed = tuple(one for one in given if isinstance(one, FoldFailure))
        names = {one.model for one in failed}
        # Only the constructor may set what is frozen.
        object.__setattr__(self, "results", tuple(one for one in given if one.model not in names))
        object.__setattr__(self, "failed", failed)
        object.__setattr__(self, "split", split)
        object.__setattr__(self, "index", index)
        if not self.results:
            raise ValueError(
                f"results holds failures of {', '.join(sorted(names))} alone"
                if failed
                else "results is empty: expected those of one fold or more"
            )
        for result in self.results:
            if list(result.scores) != self.metrics:
                raise ValueError(
                    f"model {result.model!r} was scored by {list(result.scores)} and model "
                    f"{self.results[0].model!r} by {self.metrics}: score all by the same"
                )
        counts = self.folds.groupby(_SAME_FOLD).size()
        if (counts != self.folds["model"].nunique()).any():
            raise ValueError(
                "expected one result for each model on each fold: score all models on the same "
                "folds, with the same y, groups, n_splits, n_repeats and random_state"
            )

    @property
    def metrics(self) -> list[str]:
        """Names of the scores; the first ranks."""
        return list(self.results[0].scores)

    @cached_property
    def folds(self) -> pd.DataFrame:
        """A row for each model and fold.

        Columns ``model``, ``repeat``, ``fold``, ``n_train``, ``n_test``, ``test_set`` (checksum of
        the tested positions), one for each metric, ``fit_seconds``, ``score_seconds`` and
        ``best_params`` (what a search chose in the fold, as JSON; empty for other models).
        """
        return pd.DataFrame([result.row() for result in self.results])

    @cached_property
    def table(self) -> pd.DataFrame:
        """A row for each model, best first.

        ``<metric>_mean`` and ``<metric>_std``, mean and standard deviation (n - 1) over all folds:
        how far one fold strays, not the error of the mean, which repeats of the same samples would
        make look too small. ``fit_seconds`` and ``score_seconds``, mean of a fold.
        ``behind_best``, the mean difference of the first metric to the best model, and its
        ``p_value`` by `corrected_t_test` (NaN for the best itself and where there is one fold;
        adjusted neither for the number of models nor for the best having been picked by these
        scores).
        """
        folds, metrics = self.folds, self.metrics
        by_model = folds.groupby("model")
        table = by_model[metrics].agg(["mean", "std"])
        table.columns = ["_".join(pair) for pair in table.columns]
        table = table.join(by_model[["fit_seconds", "score_seconds"]].mean())
        table = table.sort_values(f"{metrics[0]}_mean", ascending=False, kind="stable")
        # Not pivot_table, which leaves undefined scores out.
        scores = folds.pivot(index=_SAME_FOLD, columns="model", values=metrics[0])  # noqa: PD010
        behind = {name: scores[table.index[0]] - scores[name] for name in table.index}
        test_share = float((folds["n_test"] / folds["n_train"]).mean())
        table["behind_best"] = [difference.mean() for difference in behind.values()]
        table["p_value"] = [
            corrected_t_test(difference, test_share=test_share) if len(scores) > 1 else np.nan
            for difference in behind.values()
        ]
        table.iloc[0, -1] = np.nan
        return table

    @property
    def failures(self) -> pd.DataFrame:
        """A row for each fold that a model failed on: what was raised.

        Columns ``model``, ``repeat``, ``fold``, ``error`` (its type) and ``message``. Such models
        are in no other table.
        """
        columns = ["model", "repeat", "fold", "error", "message"]
        return pd.DataFrame([failure.row() for failure in self.failed], columns=columns)

    @cached_property
    def predictions(self) -> pd.DataFrame:
        """What each model said of each sample while it was not trained on it.

        Rows are those of `X`; columns have two levels, model and repeat: ``predictions["svm"][0]``
        are the classes of the first repeat, or the masks, one array in each cell. NaN where a
        sample was not tested.
        """
        index = self.index
        if index is None:
            last = max(
                part.max() for result in self.results for part in (result.train, result.test)
            )
            index = pd.RangeIndex(last + 1)
        columns: dict[tuple[str, int], NDArray[np.object_]] = {}
        for result in self.results:
            if result.predictions is None:
                raise ValueError(f"the predictions of model {result.model!r} were dropped")
            key = (result.model, result.repeat)
            column = columns.setdefault(key, np.full(len(index), np.nan, dtype=object))
            for position, answer in zip(result.test, result.predictions, strict=True):
                column[position] = answer
        table = pd.DataFrame(dict(enumerate(columns.values())), index=index).infer_objects()
        table.columns = pd.MultiIndex.from_tuples(list(columns), names=["model", "repeat"])
        return table

    def to_csv(self, file: str | os.PathLike) -> None:
        """Write `table` and how samples were split, whole or not at all."""
        with replacing(file) as temporary:
            self.table.assign(split=self.split).to_csv(temporary)

    def __repr__(self) -> str:
        return f"{self._title()}\n{self._shown().to_string()}\n{self._notes()}".rstrip()

    def _repr_html_(self) -> str:
        title, notes = html.escape(self._title()), html.escape(self._notes())
        return f"<p>{title}</p>{self._shown().to_html()}<p>{notes}</p>"

    def _title(self) -> str:
        n_models, n_folds = len(self.table), len(self.results) // len(self.table)
        several = "s" * (n_models > 1), "s" * (n_folds > 1)
        split = f" ({self.split})" * bool(self.split)
        return f"{n_models} model{several[0]} on {n_folds} fold{several[1]}{split}"

    def _shown(self) -> pd.DataFrame:
        """`table` as it is read: mean ± standard deviation."""
        table = self.table
        shown = pd.DataFrame(index=table.index)
        for name in self.metrics:
            shown[name] = [
                f"{mean:.3f}" if np.isnan(spread) else f"{mean:.3f} ± {spread:.3f}"
                for mean, spread in zip(table[f"{name}_mean"], table[f"{name}_std"], strict=True)
            ]
        shown["seconds"] = (table["fit_seconds"] + table["score_seconds"]).map("{:.1f}".format)
        shown["p"] = ["best", *table["p_value"].iloc[1:].map("{:.2g}".format)]
        return shown

    def _notes(self) -> str:
        notes = []
        for name, error in self.failures.groupby("model", sort=False)["error"].first().items():
            notes.append(f"{name} is left out, since it failed ({error}; see failures)")
        notes += ["mean ± standard deviation over folds", "seconds of a fold"]
        notes.append(f"p: corrected resampled t-test of {self.metrics[0]} against the best")
        return "; ".join(
            notes + [f"{name}: {MEANINGS[name]}" for name in self.metrics if name in MEANINGS]
        )
