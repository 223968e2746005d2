"""Shortcuts: how well labels are told from what should not tell them, against chance."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.ensemble import ExtraTreesClassifier
from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict

from hybridus.protocol.statistics import holm

# Share of the way from chance to certainty from which on a shortcut is one.
_CLEAR = 0.25
SIGNIFICANT = 0.01
_N_PERMUTATIONS = 1999
_MOST_FOLDS = 5
_N_TREES = 40
COLUMNS = ["shortcut", "balanced_accuracy", "chance", "gain", "p_value", "is_clear", "n_groups"]


def find_shortcuts(
    families: dict[str, pd.DataFrame], y: NDArray, groups: NDArray, *, random_state: int = 0
) -> pd.DataFrame:
    """Tell labels by one family of traits at a time.

    A small forest is fitted on folds that keep groups whole and asked about the groups left out.
    Each group counts once, with its commonest label and the mean of its probabilities, since its
    members are not independent. Labels are then exchanged among the groups of a fold to learn what
    chance reaches; p values are corrected for the number of families by Holm's method.

    Parameters
    ----------
    families : dict of str to DataFrame of shape (n_samples, n_traits)
    y : array of shape (n_samples,)
    groups : array of shape (n_samples,)
    random_state : int, default=0

    Returns
    -------
    DataFrame
        A row for each family: ``shortcut``, ``balanced_accuracy`` of the groups left out,
        ``chance``, ``gain`` (share of the way from chance to certainty), ``p_value``, ``is_clear``
        (p at most 0.01, and a gain of a quarter or more) and ``n_groups``. No rows where a class
        has less than two groups.
    """
    folds = folds_that_fit(y, groups, random_state)
    if not folds:
        return pd.DataFrame(columns=COLUMNS)
    fold_of = np.empty(len(y), dtype=int)
    for number, (_, test) in enumerate(folds):
        fold_of[test] = number
    classes, codes = np.unique(y, return_inverse=True)
    rows = []
    for name, traits in families.items():
        forest = ExtraTreesClassifier(
            _N_TREES, min_samples_leaf=3, class_weight="balanced", random_state=random_state
        )
        told = cross_val_predict(forest, traits.to_numpy(), codes, cv=folds, method="predict_proba")
        label, answer, fold = _by_group(codes, told, fold_of, groups)
        reached = _balanced(label[None], answer, len(classes))[0]
        random = np.random.default_rng(random_state)
        exchanged = _exchange(label, fold, random)
        by_chance = _balanced(exchanged, answer, len(classes))
        p_value = (1 + (by_chance >= reached - 1e-12).sum()) / (1 + len(by_chance))
        chance = float(by_chance.mean())
        gain = (reached - chance) / (1 - chance)
        rows.append([name, reached, chance, gain, p_value, False, len(label)])
    table = pd.DataFrame(rows, columns=COLUMNS)
    table["p_value"] = holm(table["p_value"].to_numpy())
    table["is_clear"] = (table["p_value"] <= SIGNIFICANT) & (table["gain"] >= _CLEAR)
    return table.sort_values("balanced_accuracy", ascending=False, ignore_index=True)


def folds_that_fit(
    y: NDArray, groups: NDArray, random_state: int
) -> list[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    """Five folds, or as many as the rarest class has groups; none where one class is left."""
    of_class = pd.DataFrame({"y": y, "group": groups}).groupby("y")["group"].nunique()
    n_folds = min(_MOST_FOLDS, int(of_class.min())) if len(of_class) > 1 else 0
    if n_folds < 2:
        return []
    splitter = StratifiedGroupKFold(n_folds, shuffle=True, random_state=random_state)
    with warnings.catch_warnings():
        # Of a class with fewer groups than folds; there are as many folds as it has groups.
        warnings.simplefilter("ignore", UserWarning)
        folds = list(splitter.split(y, y, groups))
    # Groups of several classes can leave one class alone to learn from.
    return folds if all(len(np.unique(y[train])) > 1 for train, _ in folds) else []


def _by_group(
    codes: NDArray, told: NDArray, fold_of: NDArray, groups: NDArray
) -> tuple[NDArray, NDArray, NDArray]:
    """Label, answer and fold of each group."""
    of_samples = pd.DataFrame(told).assign(label=codes, fold=fold_of).groupby(groups)
    answer = of_samples[list(range(told.shape[1]))].mean().to_numpy().argmax(axis=1)
    label = of_samples["label"].agg(lambda labels: labels.mode()[0]).to_numpy()
    return label, answer, of_samples["fold"].first().to_numpy()


def _exchange(label: NDArray, fold: NDArray, random: np.random.Generator) -> NDArray:
    """Labels exchanged within folds, many times: shape (_N_PERMUTATIONS, n_groups)."""
    exchanged = np.tile(label, (_N_PERMUTATIONS, 1))
    for number in np.unique(fold):
        inside = fold == number
        exchanged[:, inside] = random.permuted(exchanged[:, inside], axis=1)
    return exchanged


def _balanced(labels: NDArray, answer: NDArray, n_classes: int) -> NDArray:
    """Balanced accuracy of one answer against many labels, shape (n, n_groups)."""
    right = labels == answer
    recalls = [
        (right & (labels == k)).sum(axis=1) / np.maximum((labels == k).sum(axis=1), 1)
        for k in range(n_classes)
    ]
    return np.mean(recalls, axis=0)
