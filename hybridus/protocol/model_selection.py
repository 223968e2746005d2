"""How models are compared: the same folds for all, duplicates never on both sides of a split.

Data flows one way: `repeated_folds` gives indices, `score_folds` one row of scores for each model
and fold, `summarize` one row for each model; `compare` is the three in one call.
"""

from __future__ import annotations

import json
import warnings
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from sklearn import config_context
from sklearn.base import BaseEstimator
from sklearn.model_selection import (
    cross_validate,
)
from sklearn.utils import check_consistent_length

from hybridus._sklearn import BaseSearchCV
from hybridus.exceptions import UngroupedWarning
from hybridus.inputs.groups import check_groups
from hybridus.inputs.labels import check_labels
from hybridus.protocol.folds import repeated_folds
from hybridus.protocol.routing import groups_for_fit
from hybridus.protocol.scoring import CLASS_SCORES
from hybridus.protocol.statistics import corrected_t_test

DEFAULT_SCORING = CLASS_SCORES

# Columns of `score_folds` that are no scores.
_BEFORE_SCORES = ("model", "repeat", "fold", "n_train", "n_test", "test_set")
_AFTER_SCORES = ("fit_seconds", "score_seconds", "best_params")

Scoring = str | Sequence[str] | Mapping[str, str | Callable[..., float]] | None


def score_folds(
    models: Mapping[str, BaseEstimator],
    X: Any,
    y: ArrayLike,
    *,
    groups: ArrayLike | str | None = None,
    n_splits: int = 5,
    n_repeats: int = 1,
    scoring: Scoring = None,
    random_state: int = 0,
    n_jobs: int | None = None,
) -> pd.DataFrame:
    """Fit and score every model on the same folds; one row for each model and fold.

    Models can be scored in several calls and their rows put together: the folds depend on `y`,
    `groups` and `random_state` only. The parameters are those of `compare`.

    Returns
    -------
    pandas.DataFrame
        Columns ``model``, ``repeat``, ``fold``, ``n_train``, ``n_test``, ``test_set`` (checksum of
        the tested indices), one for each metric, ``fit_seconds``, ``score_seconds`` and
        ``best_params`` (what a search chose in the fold, as JSON; empty for other models).

    Examples
    --------
    >>> from sklearn.datasets import load_wine
    >>> from sklearn.tree import DecisionTreeClassifier
    >>> from hybridus.protocol.model_selection import score_folds
    >>> X, y = load_wine(return_X_y=True)
    >>> models = {"tree": DecisionTreeClassifier(random_state=0)}
    >>> folds = score_folds(models, X, y, groups="independent", n_splits=3)
    >>> folds[["model", "fold", "n_test", "accuracy"]].round(3).values.tolist()
    [['tree', 0, 60, 0.867], ['tree', 1, 59, 0.949], ['tree', 2, 59, 0.949]]
    """
    if not models:
        raise ValueError("models is empty: give at least one, such as {'svm': SVC()}")
    check_consistent_length(X, y)
    split = _say_split(groups)
    settings = {"n_splits": n_splits, "n_repeats": n_repeats, "random_state": random_state}
    folds = repeated_folds(y, groups, **settings)
    target = check_labels(y)
    codes = check_groups(groups, len(target))
    scorers = _named_scorers(scoring)
    tables = []
    for name, model in models.items():
        model, routing, params = groups_for_fit(model, codes)
        # scikit-learn hands its configuration on to the workers.
        with config_context(enable_metadata_routing=routing):
            results = cross_validate(
                model,
                X,
                target,
                cv=folds,
                scoring=scorers,
                params=params,
                n_jobs=n_jobs,
                return_estimator=isinstance(model, BaseSearchCV),
                error_score="raise",
            )
        columns: dict[str, Any] = {
            "model": name,
            "repeat": np.repeat(np.arange(n_repeats), n_splits),
            "fold": np.tile(np.arange(n_splits), n_repeats),
            "n_train": [len(train) for train, _ in folds],
            "n_test": [len(test) for _, test in folds],
            "test_set": [f"{zlib.crc32(test.tobytes()):08x}" for _, test in folds],
        }
        columns |= {metric: results[f"test_{metric}"] for metric in scorers}
        columns["fit_seconds"] = results["fit_time"]
        columns["score_seconds"] = results["score_time"]
        columns["best_params"] = [
            json.dumps(search.best_params_, default=str) for search in results.get("estimator", [])
        ] or ""
        tables.append(pd.DataFrame(columns))
    table = pd.concat(tables, ignore_index=True)
    table.attrs["split"] = split
    return table


def summarize(folds: pd.DataFrame) -> pd.DataFrame:
    """One row for each model, best first, from the rows of `score_folds`.

    The table is the one that `compare` describes; `folds` may be several results of `score_folds`
    put together. Models that were not scored on the same folds are a ValueError.

    Examples
    --------
    >>> from sklearn.dummy import DummyClassifier
    >>> from hybridus.protocol.model_selection import score_folds, summarize
    >>> X, y = [[0]] * 9, [0, 0, 0, 0, 0, 0, 1, 1, 1]
    >>> folds = score_folds({"most": DummyClassifier()}, X, y, groups="independent", n_splits=3)
    >>> summarize(folds)[["accuracy_mean", "accuracy_std"]].round(3).values.tolist()
    [[0.667, 0.0]]
    """
    metrics = [name for name in folds.columns if name not in _BEFORE_SCORES + _AFTER_SCORES]
    same_fold = ["repeat", "fold", "n_train", "n_test", "test_set"]
    if (folds.groupby(same_fold).size() != folds["model"].nunique()).any():
        raise ValueError(
            "expected one row for each model on each fold: score all models on the same folds, "
            "with the same y, groups, n_splits, n_repeats and random_state"
        )
    by_model = folds.groupby("model")
    table = by_model[metrics].agg(["mean", "std"])
    table.columns = ["_".join(pair) for pair in table.columns]
    table = table.join(by_model[["fit_seconds", "score_seconds"]].mean())
    table = table.sort_values(f"{metrics[0]}_mean", ascending=False, kind="stable")
    scores = folds.pivot_table(metrics[0], index=same_fold, columns="model")
    behind = {name: scores[table.index[0]] - scores[name] for name in table.index}
    test_share = float((folds["n_test"] / folds["n_train"]).mean())
    table["behind_best"] = [difference.mean() for difference in behind.values()]
    table["p_value"] = [
        corrected_t_test(difference, test_share=test_share) for difference in behind.values()
    ]
    table.iloc[0, -1] = np.nan
    table.attrs.update(folds.attrs)
    return table


def compare(
    models: Mapping[str, BaseEstimator],
    X: Any,
    y: ArrayLike,
    *,
    groups: ArrayLike | str | None = None,
    n_splits: int = 5,
    n_repeats: int = 1,
    scoring: Scoring = None,
    random_state: int = 0,
    n_jobs: int | None = None,
) -> pd.DataFrame:
    """Score classifiers on the same folds and test which differences hold.

    Parameters
    ----------
    models : dict of str to classifier
        The rows of the table. A search (`GridSearchCV`) is fitted anew within each training part,
        so its score does not profit from its choice.
    X : array, list or pandas object of n_samples images or paths
        Indexed by sample and handed on to the models as it is.
    y : array-like of shape (n_samples,)
        Classes.
    groups : array-like of shape (n_samples,), "independent" or None, default=None
        Which samples belong together (duplicates, one patient). Groups stay whole in the folds
        and reach everything in a model that asks for them: the splitter of a search or of a
        calibration, and a `fit` that requests ``groups`` by scikit-learn's metadata routing.
        ``"independent"`` states that no two belong together; None assumes so, with a warning.
    n_splits, n_repeats : int, default=5 and 1
        Folds, and how often they are drawn anew.
    scoring : str, list of str, dict of str to str or callable, or None, default=None
        Scikit-learn's names or scorers, higher is better; the first ranks the models. None is
        accuracy, macro-F1, balanced accuracy and `macro_ovr_auc_scorer`.
    random_state : int, default=0
        Decides the folds (see `repeated_folds`); the models have their own.
    n_jobs : int or None, default=None
        Folds fitted at the same time, in processes of their own. A network that encodes images
        uses all cores by itself, so this pays for slow heads.

    Returns
    -------
    pandas.DataFrame
        Indexed by model, best first. ``<metric>_mean`` and ``<metric>_std``, mean and standard
        deviation (n - 1) over all ``n_splits * n_repeats`` folds: how far one fold strays, not
        the error of the mean, which repeats of the same samples would make look too small.
        ``fit_seconds`` and ``score_seconds``, mean of a fold. ``behind_best``, the mean
        difference of the first metric to the best model, and its ``p_value`` by
        `corrected_t_test` (NaN for the best itself; adjusted neither for the number of models
        nor for the best having been picked by these scores). ``attrs["split"]`` says how samples
        were split; ``pd.DataFrame(table.attrs["folds"])`` are the rows of `score_folds`.

    Raises
    ------
    ValueError
        If the folds cannot be made (see `repeated_folds`). Errors of a model are passed on.

    Warns
    -----
    UngroupedWarning
        If `groups` is None, or a search splits without regard to the groups.

    Examples
    --------
    >>> from sklearn.datasets import load_wine
    >>> from sklearn.naive_bayes import GaussianNB
    >>> from sklearn.svm import SVC
    >>> from hybridus.protocol.model_selection import compare
    >>> X, y = load_wine(return_X_y=True)
    >>> table = compare({"svm": SVC(), "bayes": GaussianNB()}, X, y, groups="independent")
    >>> table["accuracy_mean"].round(2).to_dict()
    {'bayes': 0.97, 'svm': 0.66}
    >>> table.attrs["split"]
    'StratifiedKFold, samples taken as independent'
    """
    split: dict[str, Any] = {"n_splits": n_splits, "n_repeats": n_repeats, "groups": groups}
    split["random_state"] = random_state
    folds = score_folds(models, X, y, scoring=scoring, n_jobs=n_jobs, **split)
    table = summarize(folds)
    # Plain records: pandas copies and compares attrs, which data frames do not survive.
    table.attrs["folds"] = folds.to_dict("records")
    return table


def _say_split(groups: ArrayLike | str | None) -> str:
    """Say how samples are split, with a warning where nobody thought of groups."""
    if isinstance(groups, str):
        return "StratifiedKFold, samples taken as independent"
    if groups is not None:
        return "StratifiedGroupKFold, groups kept whole"
    message = (
        "no groups given: duplicates, or samples of one patient, may stand on both sides of a "
        "split and flatter every score. Give groups, or 'independent' if no two belong together"
    )
    warnings.warn(message, UngroupedWarning, stacklevel=3)
    return "StratifiedKFold, groups unknown"


def _named_scorers(scoring: Scoring) -> dict[str, str | Callable[..., float]]:
    """Metric name to scorer, first the one that ranks."""
    if not scoring:
        return DEFAULT_SCORING
    if isinstance(scoring, Mapping):
        return dict(scoring)
    return {name: name for name in ([scoring] if isinstance(scoring, str) else scoring)}
