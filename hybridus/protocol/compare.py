"""Comparing: any models on the same folds, classifiers or segmenters, in one call."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import check_consistent_length

from hybridus.exceptions import UngroupedWarning
from hybridus.inputs.groups import check_groups, group_names
from hybridus.inputs.labels import check_labels
from hybridus.inputs.masks import as_masks
from hybridus.protocol.comparison import Comparison
from hybridus.protocol.external import ExternalSet, check_external, run_external
from hybridus.protocol.folds import (
    Fold,
    Folds,
    LesionGroupKFold,
    check_folds,
    repeated_folds,
    repeated_lesion_folds,
)
from hybridus.protocol.run import FoldResult
from hybridus.protocol.schedule import FoldFailure, run_folds
from hybridus.protocol.scoring import CLASS_SCORES, LesionScores, Scoring, scorer_for
from hybridus.protocol.study import Study
from hybridus.protocol.tasks import Task, check_models, task_of


def compare(
    models: Mapping[str, Any],
    X: Any,
    y: Any,
    *,
    stratify: ArrayLike | None = None,
    groups: ArrayLike | str | None = None,
    masks: Any = None,
    external: Mapping[str, tuple[Any, ...]] | None = None,
    folds: Any = None,
    n_splits: int = 5,
    n_repeats: int = 1,
    scoring: Scoring = None,
    random_state: int = 0,
    n_jobs: int | None = None,
    study: str | os.PathLike[str] | None = None,
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
    masks : n_samples masks, default=None
        Of the lesions. Those of the training part are handed on to classifiers that learn where
        they are, such as `LesionFeatures` in a Pipeline. By those of the test part the score
        ``evidence_on_lesion`` is added: `hybridus.evidence_on_lesion` for the true class, NaN for
        models that cannot be explained. It takes one more pass of the networks over the images.
    external : dict of str to (X, y) or (X, y, groups), default=None
        Sets of samples that nothing is fitted on, such as scans of another hospital, by name. Each
        model is fitted once more, on all of `X`, and judged on each of them: see
        ``Comparison.external``. A set may lack classes; the area under the ROC curve is then over
        those that it has.
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
    study : str or path-like, default=None
        Folder in which each finished fold is kept, with what was predicted. The same call goes on
        where an earlier one ended, however it ended, and processes that are given one folder share
        the work. A fold is found again by the content of the samples, the model with all its
        parameters, weights and code, the scoring, the fold and the versions of what computes it
        (`hybridus.protocol.digests.digest_of`), never by a name. Its seconds are those it took
        when it was computed; a model without `random_state` is not drawn anew. None keeps nothing.

    Returns
    -------
    Comparison
        Its ``table`` ranks the models; ``differences`` and, in words, ``conclusions`` say which
        of them are told apart by these data. A model that raises an error is left out of it, and
        stands in ``failures``; the others go on. With a study it is tried again by the next call.

    Raises
    ------
    TypeError
        If `models` is no dict of names to estimators, or `folds` neither splitter nor pairs.
    ValueError
        If a sample of an external set is among `X` too, pixel by pixel, or of a class that `y`
        lacks.
        If models do different things, the folds cannot be made (see `repeated_folds` and
        `LesionGroupKFold`), lengths differ, or `study` is given and a model cannot be told by its
        content. All of this before anything is fitted.
    OSError
        If the folder `study` cannot be made or written to.
    Exception
        What the first model raised, with a note of the fold, if every model raised; `MemoryError`
        and Ctrl-C at once.

    Warns
    -----
    hybridus.exceptions.UngroupedWarning
        If `groups` is None, or something inside a model splits without regard to the groups.
    sklearn.exceptions.FitFailedWarning
        If a model raises.
    hybridus.exceptions.CacheWarning
        If files in `study` are damaged, or cannot be written: folds are computed again.

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
        masks=masks,
        external=external,
        folds=folds,
        n_splits=n_splits,
        n_repeats=n_repeats,
        scoring=scoring,
        random_state=random_state,
    )
    kept = None if study is None else Study(study)
    results = list(plan.run(n_jobs, kept))
    return plan.gather(results, plan.run_external(n_jobs, kept))


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
    scoring, masks
        As they were given.
    external : list of ExternalSet
    """

    models: dict[str, Any]
    X: Any
    y: Any
    task: Task
    folds: Folds
    split: str
    groups: NDArray | None
    scoring: Scoring
    masks: Any = None
    external: Sequence[ExternalSet] = ()

    @property
    def index(self) -> pd.Index:
        """Labels of the samples: those of a pandas `X`, else their positions."""
        return self.X.index if hasattr(self.X, "iloc") else pd.RangeIndex(len(self.y))

    def run(
        self, n_jobs: int | None = None, study: Study | None = None
    ) -> Iterator[FoldResult | FoldFailure]:
        """Fit and score; yield each fold as soon as it is done. See `run_folds`."""
        return run_folds(
            self.models,
            self.X,
            self.y,
            self.folds,
            scoring=self.scoring,
            groups=self.groups,
            masks=self.masks,
            n_jobs=n_jobs,
            study=study,
        )

    def run_external(
        self, n_jobs: int | None = None, study: Study | None = None
    ) -> Iterator[tuple[str, FoldResult | FoldFailure]]:
        """Fit on all samples and score on the external sets. See `run_external`."""
        if not self.external:
            return iter(())
        return run_external(
            self.models,
            self.X,
            self.y,
            self.external,
            task=self.task,
            scoring=self.scoring,
            groups=self.groups,
            masks=self.masks,
            n_jobs=n_jobs,
            study=study,
        )

    def gather(
        self,
        results: Iterable[FoldResult | FoldFailure],
        external: Iterable[tuple[str, FoldResult | FoldFailure]] = (),
    ) -> Comparison:
        """Put what `run` and `run_external` yield together, in the order of models and folds."""
        place = {name: number for number, name in enumerate(self.models)}
        ordered = sorted(results, key=lambda one: (place[one.model], one.repeat, one.fold))
        by_set: dict[str, list[FoldResult | FoldFailure]] = {}
        for name, outcome in external:
            by_set.setdefault(name, []).append(outcome)
        found = {}
        for one in self.external:
            outcomes = sorted(by_set.get(one.name, []), key=lambda result: place[result.model])
            if any(isinstance(outcome, FoldResult) for outcome in outcomes):
                split = f"fitted on all {len(self.y)} samples, tested on {one.name}"
                index = one.X.index if hasattr(one.X, "iloc") else pd.RangeIndex(len(one.y))
                found[one.name] = Comparison(outcomes, split=split, index=index)
        return Comparison(ordered, split=self.split, index=self.index, external=found)


def plan_comparison(
    models: Mapping[str, Any],
    X: Any,
    y: Any,
    *,
    stratify: ArrayLike | None = None,
    groups: ArrayLike | str | None = None,
    masks: Any = None,
    external: Mapping[str, tuple[Any, ...]] | None = None,
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
    >>> from hybridus.protocol.compare import plan_comparison
    >>> X, y = load_wine(return_X_y=True)
    >>> plan = plan_comparison({"bayes": GaussianNB()}, X, y, groups="independent", n_splits=2)
    >>> results = []
    >>> for result in plan.run():
    ...     results.append(result)
    ...     print(f"{len(results)} of {len(plan.folds)} folds: {result.scores['accuracy']:.2f}")
    1 of 2 folds: 0.96
    2 of 2 folds: 0.98
    >>> plan.gather(results).table["accuracy_mean"].round(3).to_dict()
    {'bayes': 0.966}
    """
    known = check_models(models)
    for name, value in (("X", X), ("y", y)):
        if value is None:
            raise ValueError(f"{name} is None: expected images, and their classes or masks")
    check_consistent_length(X, y)
    task = task_of(known, y)
    if masks is not None:
        if task == "segment":
            raise ValueError("masks= is for classifiers: the masks of segmenters are y")
        check_consistent_length(X, masks)
    if task == "classify":
        y = check_labels(y)
        if len(np.unique(y)) < 2:
            raise ValueError(f"y holds the class {y[0]!s} alone: expected two classes or more")
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
        masks=masks,
        external=() if external is None else check_external(external, X, y, task, known),
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
