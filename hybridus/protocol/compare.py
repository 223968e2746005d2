"""Comparison: any models on the same folds, classifiers or segmenters, and what came of it."""

from __future__ import annotations

import html
import os
import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import check_consistent_length

from hybridus.exceptions import UngroupedWarning
from hybridus.inputs.files import replacing
from hybridus.inputs.groups import check_groups, group_names
from hybridus.inputs.labels import check_labels
from hybridus.inputs.masks import as_masks
from hybridus.protocol.folds import (
    Fold,
    Folds,
    LesionGroupKFold,
    check_folds,
    repeated_folds,
    repeated_lesion_folds,
)
from hybridus.protocol.run import FoldResult, run_folds
from hybridus.protocol.scoring import CLASS_SCORES, MEANINGS, LesionScores, Scoring, scorer_for
from hybridus.protocol.statistics import corrected_t_test
from hybridus.protocol.tasks import Task, check_models, task_of

_SAME_FOLD = ["repeat", "fold", "n_train", "n_test", "test_set"]


def compare(
    models: Mapping[str, Any],
    X: Any,
    y: Any,
    *,
    stratify: ArrayLike | None = None,
    groups: ArrayLike | str | None = None,
    folds: Any = None,
    n_splits: int = 5,
    n_repeats: int = 1,
    scoring: Scoring = None,
    random_state: int = 0,
    n_jobs: int | None = None,
) -> Comparison:
    """Fit and score models on the same folds and test which differences hold.

    Parameters
    ----------
    models : dict of str to classifier, or of str to segmenter
        The rows of the table; a `Pipeline` or a search (`GridSearchCV`) too. Clones are fitted. A
        search is fitted anew within each training part, so its score does not profit from its
        choice.
    X : array, list or pandas object of n_samples images or paths
        Indexed by sample and handed on to the models as it is.
    y : array-like of n_samples classes, or n_samples masks
        What the models find. Which of both is told by the models' tag ``estimator_type``, and by
        `y` itself where they have none: one dimension of numbers or texts means classes.
    stratify : array-like of shape (n_samples,), default=None
        Classes that each fold holds in about equal shares. None takes `y`, and of masks whether
        they show a lesion.
    groups : array-like of shape (n_samples,), "independent" or None, default=None
        Which samples belong together (duplicates, one patient). Groups stay whole in the folds
        and reach everything in a model that asks for them: the splitter of a search or of a
        calibration, and a `fit` that requests ``groups`` by scikit-learn's metadata routing.
        ``"independent"`` states that no two belong together; None assumes so, with a warning.
    folds : splitter or list of (train, test), default=None
        A splitter of scikit-learn's kind, which is given `groups`, or pairs of index arrays. None
        draws stratified folds that keep groups whole, shuffled; of masks each part shows a lesion.
    n_splits, n_repeats : int, default=5 and 1
        Folds, and how often they are drawn anew; not with `folds`.
    scoring : str, list of str, dict of str to str or callable, callable or None, default=None
        Scikit-learn's names or scorers, higher is better; the first ranks the models. A callable
        ``(estimator, X, y)`` returns a number or a dict. None is accuracy, macro-F1, balanced
        accuracy and `macro_ovr_auc_scorer`, or `LesionScores()`, which ranks by Dice.
    random_state : int, default=0
        Decides the folds (see `repeated_folds`), unless `folds` are given; the models have their
        own.
    n_jobs : int or None, default=None
        Folds fitted at the same time, in processes of their own. A network that encodes images
        uses all cores by itself, so this pays for slow heads.

    Returns
    -------
    Comparison

    Raises
    ------
    TypeError
        If `models` is no dict of names to estimators, or `folds` neither splitter nor pairs.
    ValueError
        If models do different things, the folds cannot be made (see `repeated_folds` and
        `LesionGroupKFold`), or lengths differ. All of this before anything is fitted. Errors of a
        model are passed on, with a note of the fold; so is Ctrl-C.

    Warns
    -----
    hybridus.exceptions.UngroupedWarning
        If `groups` is None, or something inside a model splits without regard to the groups.

    Examples
    --------
    >>> from sklearn.datasets import load_wine
    >>> from sklearn.naive_bayes import GaussianNB
    >>> from sklearn.svm import SVC
    >>> from hybridus import compare
    >>> X, y = load_wine(return_X_y=True)
    >>> found = compare({"svm": SVC(), "bayes": GaussianNB()}, X, y, groups="independent")
    >>> found.table["accuracy_mean"].round(2).to_dict()
    {'bayes': 0.97, 'svm': 0.66}
    >>> found.split
    'StratifiedKFold, samples taken as independent'
    >>> bool(found.predictions["bayes"][0].eq(y).mean().round(2) == 0.97)
    True
    """
    plan = plan_comparison(
        models,
        X,
        y,
        stratify=stratify,
        groups=groups,
        folds=folds,
        n_splits=n_splits,
        n_repeats=n_repeats,
        scoring=scoring,
        random_state=random_state,
    )
    return Comparison(plan.run(n_jobs), split=plan.split, index=plan.index)


@dataclass(frozen=True, eq=False)
class Plan:
    """A comparison that can be done: all was checked, the folds are drawn, nothing is fitted.

    Attributes
    ----------
    models : dict of str to estimator
    X, y
        As they were given; classes as an array.
    task : {"classify", "segment"}
    folds : list of (train, test)
    split : str
        How samples are split, in words.
    groups : array of shape (n_samples,) or None
        What is handed on to the fits: numbers, or with masks the names of the groups. Both keep
        samples together alike; but networks draw their validation part in the order of what they
        are given, read as text, and figures that were measured with either stay what they are.
    scoring
        As it was given.
    """

    models: dict[str, Any]
    X: Any
    y: Any
    task: Task
    folds: Folds
    split: str
    groups: NDArray | None
    scoring: Scoring

    @property
    def index(self) -> pd.Index:
        """Labels of the samples: those of a pandas `X`, else their positions."""
        return self.X.index if hasattr(self.X, "iloc") else pd.RangeIndex(len(self.y))

    def run(self, n_jobs: int | None = None) -> Iterator[FoldResult]:
        """Fit and score; yield each fold as soon as it is done. See `run_folds`."""
        return run_folds(
            self.models,
            self.X,
            self.y,
            self.folds,
            scoring=self.scoring,
            groups=self.groups,
            n_jobs=n_jobs,
        )


def plan_comparison(
    models: Mapping[str, Any],
    X: Any,
    y: Any,
    *,
    stratify: ArrayLike | None = None,
    groups: ArrayLike | str | None = None,
    folds: Any = None,
    n_splits: int = 5,
    n_repeats: int = 1,
    scoring: Scoring = None,
    random_state: int = 0,
) -> Plan:
    """Check what `compare` is given and draw its folds, for callers who want each fold as it comes.

    Parameters, errors and warnings are those of `compare`.

    Examples
    --------
    >>> from sklearn.datasets import load_wine
    >>> from sklearn.naive_bayes import GaussianNB
    >>> from hybridus.protocol.compare import Comparison, plan_comparison
    >>> X, y = load_wine(return_X_y=True)
    >>> plan = plan_comparison({"bayes": GaussianNB()}, X, y, groups="independent", n_splits=2)
    >>> results = []
    >>> for result in plan.run():
    ...     results.append(result)
    ...     print(f"{len(results)} of {len(plan.folds)} folds: {result.scores['accuracy']:.2f}")
    1 of 2 folds: 0.96
    2 of 2 folds: 0.98
    >>> Comparison(results, split=plan.split).table["accuracy_mean"].round(3).to_dict()
    {'bayes': 0.966}
    """
    known = check_models(models)
    task = task_of(known, y)
    check_consistent_length(X, y)
    y = check_labels(y) if task == "classify" else y
    if stratify is not None:
        stratify = check_labels(stratify)
        check_consistent_length(y, stratify)
    for model in known.values():
        default = CLASS_SCORES if task == "classify" else LesionScores()
        scorer_for(model, scoring, default=default)
    codes = check_groups(groups, len(y))
    settings = {"n_splits": n_splits, "n_repeats": n_repeats, "random_state": random_state}
    if folds is not None:
        if settings != {"n_splits": 5, "n_repeats": 1, "random_state": 0}:
            raise ValueError(
                "n_splits, n_repeats and random_state draw folds: leave them out, or "
                "leave folds= out, which are drawn already"
            )
        drawn, name = _given_folds(folds, X, y, task, stratify, codes)
    elif task == "classify":
        drawn = repeated_folds(y if stratify is None else stratify, groups, **settings)
        name = "StratifiedKFold" if codes is None else "StratifiedGroupKFold"
        _check_tested(drawn, y)
    else:
        drawn = repeated_lesion_folds(y, groups, stratify=stratify, **settings)
        name = "LesionGroupKFold"
    return Plan(
        models=known,
        X=X,
        y=y,
        task=task,
        folds=drawn,
        split=f"{name}, {_say_groups(groups)}",
        groups=codes if task == "classify" else group_names(groups, len(y)),
        scoring=scoring,
    )


@dataclass(frozen=True, eq=False, repr=False)
class Comparison:
    """What a comparison found: a table of models, their scores fold by fold, their predictions.

    Parameters
    ----------
    results : iterable of FoldResult
        Those of all models on the same folds, in any order; several runs may be put together.
    split : str, default=""
        How samples were split, in words.
    index : pandas.Index, default=None
        Labels of the samples; None numbers them.

    Raises
    ------
    ValueError
        If there is no result, or models were not scored on the same folds by the same metrics.
    """

    results: tuple[FoldResult, ...]
    split: str = ""
    index: pd.Index | None = None

    def __init__(
        self, results: Iterable[FoldResult], split: str = "", index: pd.Index | None = None
    ) -> None:
        # Only the constructor may set what is frozen.
        object.__setattr__(self, "results", tuple(results))
        object.__setattr__(self, "split", split)
        object.__setattr__(self, "index", index)
        if not self.results:
            raise ValueError("results is empty: expected those of one fold or more")
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
        notes = ["mean ± standard deviation over folds", "seconds of a fold"]
        notes.append(f"p: corrected resampled t-test of {self.metrics[0]} against the best")
        return "; ".join(
            notes + [f"{name}: {MEANINGS[name]}" for name in self.metrics if name in MEANINGS]
        )


def _given_folds(
    folds: Any, X: Any, y: Any, task: Task, stratify: NDArray | None, codes: NDArray | None
) -> tuple[Folds, str]:
    """Read the folds that a caller gave, and say what they are."""
    if not hasattr(folds, "split"):
        if stratify is not None:
            raise ValueError("stratify draws folds: leave it out where folds are pairs of indices")
        return check_folds(folds, len(y), codes), "folds as given"
    if isinstance(folds, LesionGroupKFold):
        if task == "classify":
            raise ValueError("folds=LesionGroupKFold splits by masks, but the models find classes")
        pairs = folds.split(X, y, codes, stratify)
    else:
        strata = stratify
        if strata is None:
            strata = (
                y if task == "classify" else np.array([m.any() for m in as_masks(y)], dtype=int)
            )
        pairs = folds.split(X, strata, codes)
    return check_folds(pairs, len(y), codes), type(folds).__name__


def _check_tested(folds: Iterable[Fold], y: NDArray) -> None:
    """Raise where a fold would test no sample of a class."""
    for number, (_, test) in enumerate(folds):
        absent = np.setdiff1d(y, y[test])
        if len(absent):
            raise ValueError(
                f"fold {number} tests no sample of class {absent[0]!s}: stratify by classes that "
                "tell it apart, or take fewer folds"
            )


def _say_groups(groups: ArrayLike | str | None) -> str:
    """Say what became of groups, with a warning where nobody thought of them."""
    if isinstance(groups, str):
        return "samples taken as independent"
    if groups is not None:
        return "groups kept whole"
    message = (
        "no groups given: duplicates, or samples of one patient, may stand on both sides of a "
        "split and flatter every score. Give groups, or 'independent' if no two belong together"
    )
    warnings.warn(message, UngroupedWarning, stacklevel=4)
    return "groups unknown"
