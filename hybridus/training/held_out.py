"""The validation part of a training set: stratified, and with groups kept whole."""

import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

from hybridus.inputs.groups import group_names

Indices = NDArray[np.intp]


def split_validation(
    strata: NDArray[np.intp], groups: Any, fraction: float, seed: int
) -> tuple[Indices, Indices]:
    """Choose the samples that a fit holds out for validation.

    Parameters
    ----------
    strata : array of shape (n_samples,), int
        Class of each sample; both parts hold the classes in about equal shares, and every class is
        trained on.
    groups : array-like of shape (n_samples,) or None
        Samples of one group stay together.
    fraction : float
        Share that is held out, as nearly as one of ``round(1 / fraction)`` folds can be.
    seed : int

    Returns
    -------
    train, held_out : arrays of int

    Raises
    ------
    ValueError
        Where there is nothing to hold out: one sample, one group, or no class twice.
    """
    n_samples = len(strata)
    way_out = "validation_fraction=None trains on all samples, without validation"
    if n_samples < 2:
        raise ValueError(f"n_samples = {n_samples}: nothing to hold out for validation; {way_out}")
    names = group_names(groups, n_samples)
    codes, given = np.arange(n_samples), None
    if names is not None:
        # In the order of their text, so that numbers and the same numbers as text are held out
        # alike.
        codes = given = np.unique(names.astype(str), return_inverse=True)[1]
    n_groups, most_of_a_class = int(codes.max()) + 1, int(np.bincount(strata).max())
    n_folds = min(max(2, round(1 / fraction)), n_groups, most_of_a_class)
    if n_folds < 2:
        raise ValueError(
            "nothing to hold out for validation: "
            + ("only one group" if n_groups < 2 else "no class has two samples")
            + f"; {way_out}"
        )
    splitter = StratifiedKFold if names is None else StratifiedGroupKFold
    folds = splitter(n_folds, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        # A class with fewer samples than folds is in some of them only, which will do.
        warnings.filterwarnings("ignore", message="The least populated class")
        tests = [test for _, test in folds.split(strata, strata, given)]
    parts = [part for test in tests if len(part := _keep_classes(test, strata, codes))]
    if not parts:
        raise ValueError(
            f"no split for validation leaves every class a sample to train on; {way_out}"
        )
    held_out = min(parts, key=lambda part: abs(len(part) - n_samples * fraction))
    return np.setdiff1d(np.arange(n_samples), held_out), held_out


def _keep_classes(held_out: Indices, strata: NDArray[np.intp], codes: Indices) -> Indices:
    """Hold out only groups that leave every class a sample to train on."""
    classes = np.unique(strata)
    if np.isin(classes, np.delete(strata, held_out)).all():
        return held_out
    left = np.bincount(strata)
    kept = np.zeros(len(held_out), bool)
    for code in np.unique(codes[held_out]):
        group = codes[held_out] == code
        after = left - np.bincount(strata[held_out[group]], minlength=len(left))
        if after[classes].all():
            left, kept = after, kept | group
    return held_out[kept]
