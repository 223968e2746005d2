"""Comparison: what came of models on the same folds, as a table, fold by fold, and predicted."""

from __future__ import annotations

import html
import importlib
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from hybridus.inputs.files import replacing
from hybridus.protocol.calibration import calibration_table, referral_table, reliability_table
from hybridus.protocol.diagnosis import one_against_rest
from hybridus.protocol.differences import difference_table, say_differences
from hybridus.protocol.intervals import ScoresOverGroups, score_intervals
from hybridus.protocol.run import FoldResult
from hybridus.protocol.samples import sample_table
from hybridus.protocol.schedule import FoldFailure
from hybridus.protocol.scoring import MEANINGS
from hybridus.protocol.statistics import corrected_t_test

_SAME_FOLD = ["repeat", "fold", "n_train", "n_test", "test_set"]


@dataclass(frozen=True, eq=False, repr=False)
class Comparison:
    """What a comparison found: a table of models, their scores fold by fold, their predictions.

    Whether a difference holds is in `differences`, and in words in `conclusions`; how far a score
    may be off in `intervals`; what classifiers mean for readers of scans in `one_against_rest`,
    `calibration`, `reliability` and `referral`.

    Parameters
    ----------
    results : iterable of FoldResult and FoldFailure
        Those of all models on the same folds, in any order; several runs may be put together. A
        model that failed on a fold is left out of everything but `failures`.
    split : str, default=""
        How samples were split, in words.
    index : pandas.Index, default=None
        Labels of the samples; None numbers them.
    external : dict of str to Comparison, default=None
        What came of models that were fitted on all samples, on sets that they never saw, by name:
        each of one fold, with all tables of its own.

    Raises
    ------
    ValueError
        If no model is left, or models were not scored on the same folds by the same metrics.

    Examples
    --------
    >>> from sklearn.datasets import load_wine
    >>> from sklearn.naive_bayes import GaussianNB
    >>> from sklearn.svm import SVC
    >>> from hybridus import compare
    >>> X, y = load_wine(return_X_y=True)
    >>> found = compare({"svm": SVC(), "bayes": GaussianNB()}, X, y, groups="independent")
    >>> found.metrics
    ['accuracy', 'f1_macro', 'balanced_accuracy', 'macro_ovr_auc']
    >>> found.folds.groupby("model").size().to_dict()
    {'bayes': 5, 'svm': 5}
    >>> found.differences["verdict"].tolist()
    ['settled']
    """

    results: tuple[FoldResult, ...]
    split: str = ""
    index: pd.Index | None = None
    external: Mapping[str, Comparison] = field(default_factory=dict)
    failed: tuple[FoldFailure, ...] = ()

    def __init__(
        self,
        results: Iterable[FoldResult | FoldFailure],
        split: str = "",
        index: pd.Index | None = None,
        external: Mapping[str, Comparison] | None = None,
    ) -> None:
        given = tuple(results)
        failed = tuple(one for one in given if isinstance(one, FoldFailure))
        names = {one.model for one in failed}
        # Only the constructor may set what is frozen.
        object.__setattr__(self, "results", tuple(one for one in given if one.model not in names))
        object.__setattr__(self, "failed", failed)
        object.__setattr__(self, "split", split)
        object.__setattr__(self, "index", index)
        object.__setattr__(self, "external", dict(external or {}))
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
        scores: `differences` has the test that decides).
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

    @property
    def samples(self) -> pd.DataFrame:
        """A row for each model, repeat and tested sample: what was said of it out of its fold.

        Columns ``model``, ``repeat``, ``fold``, ``sample`` (its label), ``group``. Of classes
        ``truth``, ``predicted``, a ``score_<class>`` for each, and ``scored_by``: only
        "predict_proba" means probabilities, others rank. Of masks the scores of the image, NaN
        where it does not count for one (Dice of an image without lesion).
        """
        return sample_table(self.results, self.index)

    @cached_property
    def histories(self) -> pd.DataFrame:
        """A row for each epoch of each network that was trained: how its training went.

        Index levels ``model``, ``repeat``, ``fold`` and ``epoch``; columns those of ``history_``,
        such as ``loss`` and ``val_loss``, NaN where a model has no such column, and ``restored``,
        whether the weights of this epoch were kept. Without rows where nothing was trained by
        epochs, and for folds that a study of an older version kept.
        """
        parts = {}
        for result in self.results:
            if result.history is not None:
                table = pd.DataFrame(result.history).set_index("epoch")
                table["restored"] = table.index == result.best_epoch
                parts[result.model, result.repeat, result.fold] = table
        names = ["model", "repeat", "fold", "epoch"]
        if not parts:
            index = pd.MultiIndex.from_arrays([[]] * len(names), names=names)
            return pd.DataFrame({"restored": np.array([], dtype=bool)}, index=index)
        return pd.concat(parts, names=names)

    @cached_property
    def _over_groups(self) -> ScoresOverGroups:
        return ScoresOverGroups(self.results)

    @cached_property
    def intervals(self) -> pd.DataFrame:
        """A row for each model and score: what the score may be on other groups of this kind.

        ``mean`` and ``std`` as in `table`; ``low`` and ``high``, ends of a 95 % interval. It is
        that of a bootstrap over groups (column ``over``: "groups"), in which duplicates and repeats
        do not count as more data: groups are drawn, and scores taken of what was predicted out of
        folds. It is about models fitted as these were; other training samples would add to it: of
        models fitted anew it held the accuracy in 86 to 95 of 100 trials, not in 95
        (`benchmarks.false_alarms`).
        Scores that cannot be taken of a part of the predictions (the caller's own), and those of
        classifiers whose predictions were dropped, have the t interval over folds, with the
        correction of `corrected_t_test` ("folds"; NaN where there is one fold).
        """
        return score_intervals(self._over_groups)

    @cached_property
    def differences(self) -> pd.DataFrame:
        """`differences_in` the score that ranks."""
        return self.differences_in(self.metrics[0])

    def differences_in(self, metric: str) -> pd.DataFrame:
        """Test the difference of each pair of models in a score.

        Parameters
        ----------
        metric : str
            One of `metrics`.

        Returns
        -------
        DataFrame
            A row for each pair, ``model`` above ``other`` in `table`. ``difference``, of the means
            over folds; ``low`` and ``high``, its 95 % interval (NaN where the two never differed);
            ``p``, by the test that decides, and ``p_holm``, the same after Holm's correction over
            all pairs; ``verdict``, "settled" where that is below 0.05, else "open".
            ``detectable``, the smallest true difference that these data would settle in 80 % of
            such comparisons, whatever the other pairs are; ``more_groups``, how many more groups
            would make an open one detectable if it stays as large, roughly, since the observed
            difference is only near the true one. ``over``, what interval and test are taken over:
            "groups", by `hybridus.protocol.statistics.spread_over_groups`, or "folds", by
            `corrected_t_test`, where `intervals` says so.

            Other tests, not corrected for the number of pairs: ``p_folds``, `corrected_t_test`;
            ``p_bootstrap``, paired bootstrap over groups; ``p_mcnemar``, exact, a vote for each
            group (accuracy); ``p_delong``, DeLong's, or Obuchowski's of groups (areas of two
            classes). The last three are about the models as they were fitted, and err more often
            than they say about models fitted anew. NaN where a test does not apply.

        Raises
        ------
        ValueError
            For a score that is not there.

        Examples
        --------
        >>> from sklearn.datasets import load_wine
        >>> from sklearn.naive_bayes import GaussianNB
        >>> from sklearn.svm import SVC
        >>> from hybridus import compare
        >>> X, y = load_wine(return_X_y=True)
        >>> found = compare({"svm": SVC(), "bayes": GaussianNB()}, X, y, groups="independent")
        >>> row = found.differences_in("f1_macro").loc[("bayes", "svm")]
        >>> row["difference"].round(2), row["verdict"]
        (np.float64(0.39), 'settled')
        """
        if metric not in self.metrics:
            raise ValueError(f"metric={metric!r}: expected one of {self.metrics}")
        return difference_table(self._over_groups, metric, self.table.index.tolist())

    @property
    def conclusions(self) -> list[str]:
        """What is settled by the score that ranks, what is open, and what could be seen: prose."""
        return say_differences(self.differences, self.metrics[0], self._over_groups)

    def one_against_rest(self, positive: Any, *, specificity: float = 0.9) -> pd.DataFrame:
        """Read classifiers as tests for one class, with 95 % bootstrap intervals over groups.

        Parameters
        ----------
        positive : class
            What is looked for, such as ``"malignant"``: one of the classes of `y`.
        specificity : float, default=0.9
            Share of the other samples that a threshold must leave alone.

        Returns
        -------
        DataFrame
            A row for each model and measure, with ``value``, ``low`` and ``high``:
            ``sensitivity`` and ``specificity`` as the model decides, over all samples;
            ``auc``, mean over folds;
            ``sensitivity_at_90`` and ``specificity_at_90``, what comes of a threshold that leaves
            90 % of the negatives of the *other* folds alone, so that no sample is judged by a
            threshold that it helped to choose; the specificity reached is not exactly 90 %;
            ``sensitivity_on_curve_at_90``, read off the ROC curve of each fold, without
            interpolation, as is often reported: there the threshold was chosen on the samples that
            it judges. Measures that need a ranking are NaN for models that only decide. Thresholds
            that were chosen on other folds stay as they are in the bootstrap.

        Raises
        ------
        ValueError
            Where `positive` is no class, `specificity` no share, or models find masks.
        """
        return one_against_rest(self._over_groups, positive, specificity)

    @cached_property
    def calibration(self) -> pd.DataFrame:
        """A row for each classifier: whether its probabilities mean what they say.

        ``brier``, mean squared distance of the probabilities of all classes from the truth (0 to
        2); ``calibration_error``, expected calibration error of the most probable class in 10 bins
        of equal width; both with ``_low`` and ``_high``, 95 % by the bootstrap over groups.
        ``error_if_calibrated``, what the error would come to by chance, with as many samples, if
        the probabilities were right: an error near it is no evidence. ``confidence`` and
        ``accuracy``, means: the first above the second means that the model is too sure.
        ``probabilities`` is False for models without `predict_proba`, whose figures are NaN.

        References
        ----------
        Brier, G. W. (1950). Verification of forecasts expressed in terms of probability. Monthly
        Weather Review 78, 1-3.

        Guo, C., Pleiss, G., Sun, Y. and Weinberger, K. Q. (2017). On calibration of modern neural
        networks. ICML.
        """
        self._over_groups.truth  # noqa: B018  refuses masks
        return calibration_table(self._over_groups)

    def reliability(self, positive: Any = None) -> pd.DataFrame:
        """Compare probabilities with how often they come true, in 10 bins of equal width.

        Parameters
        ----------
        positive : class, default=None
            The class whose probability is meant; None means the most probable one of each sample.

        Returns
        -------
        DataFrame
            A row for each model that gives probabilities and bin that holds samples, with index
            levels ``model``, ``from`` and ``to``. ``probability``, mean of what was said;
            ``share``, how often it came true, with ``low`` and ``high``, 95 % by the bootstrap over
            groups; ``n`` samples (mean over repeats) and ``n_groups``.
        """
        self._over_groups.truth  # noqa: B018  refuses masks
        return reliability_table(self._over_groups, positive)

    @cached_property
    def referral(self) -> pd.DataFrame:
        """Accuracy on what is left where the samples that a model is least sure of go to a person.

        A row for each model and share ``referred``, 0 to 0.5, of each fold, those with the smallest
        margin between the first and the second class: ``referred_share`` as it came out;
        ``accuracy`` on the others, with ``low`` and ``high``, 95 % by the bootstrap over groups;
        ``errors_caught``, share of the model's errors among the referred. Models that neither give
        probabilities nor a decision function for each class are left out.
        """
        self._over_groups.truth  # noqa: B018  refuses masks
        return referral_table(self._over_groups)

    def report(self, path: str | os.PathLike, **about: Any) -> Path:
        """Write everything as one HTML page, which needs no network and no other file.

        Parameters
        ----------
        path : str or path-like
        **about
            What is known beside the scores; see `hybridus.report.page.write_report`: ``images``,
            ``masks`` (of segmenters), ``class_names``, ``names``, ``audit``, ``features``, ... With
            ``classification`` or ``segmentation``, the comparison of the other task, on one page.

        Returns
        -------
        Path

        Examples
        --------
        >>> import tempfile
        >>> from sklearn.datasets import load_wine
        >>> from sklearn.naive_bayes import GaussianNB
        >>> from hybridus import compare
        >>> X, y = load_wine(return_X_y=True)
        >>> found = compare({"bayes": GaussianNB()}, X, y, groups="independent")
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     found.report(f"{folder}/report.html").name
        'report.html'
        """
        task = "classification" if self.results[0].truth is not None else "segmentation"
        # By its name: the page lies floors above, and is made of comparisons.
        page = importlib.import_module("hybridus.report.page")
        return page.write_report(path, **{task: self}, **about)

    def to_csv(self, file: str | os.PathLike) -> None:
        """Write `table` and how samples were split, whole or not at all."""
        with replacing(file) as temporary:
            self.table.assign(split=self.split).to_csv(temporary)

    def __repr__(self) -> str:
        lines = [self._title(), self._shown().to_string(), self._notes(), *self.conclusions]
        for other in self.external.values():
            lines += ["", other._title(), self._against(other).to_string(), *other.conclusions]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        title, notes = html.escape(self._title()), html.escape(self._notes())
        said = "".join(f"<li>{html.escape(line, quote=False)}</li>" for line in self.conclusions)
        page = f"<p>{title}</p>{self._shown().to_html()}<p>{notes}</p><ul>{said}</ul>"
        for other in self.external.values():
            page += f"<p>{html.escape(other._title())}</p>{self._against(other).to_html()}"
        return page

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
        behind = self.differences["p_holm"].iloc[: len(table) - 1]
        shown["p"] = ["best", *behind.map("{:.2g}".format)]
        return shown

    def _against(self, other: Comparison) -> pd.DataFrame:
        """Scores on an external set, and what they lose against those of the folds."""
        shown = other._shown().drop(columns=["seconds", "p"])
        first = f"{self.metrics[0]}_mean"
        lost = (self.table[first] - other.table[first]).reindex(shown.index)
        return shown.assign(**{f"{self.metrics[0]} lost": lost.map("{:.3f}".format)})

    def _notes(self) -> str:
        notes = []
        for name, error in self.failures.groupby("model", sort=False)["error"].first().items():
            notes.append(f"{name} is left out, since it failed ({error}; see failures)")
        notes += ["mean ± standard deviation over folds", "seconds of a fold"]
        if len(self.table) > 1:
            notes.append(f"p: of the difference in {self.metrics[0]} to the best, see differences")
        return "; ".join(
            notes + [f"{name}: {MEANINGS[name]}" for name in self.metrics if name in MEANINGS]
        )
