"""Groups of samples: which of them belong together (duplicates, one patient), one for each.

A sample without a group is an error everywhere: samples whose groups are missing are not alike.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.model_selection import BaseCrossValidator, GroupKFold, StratifiedGroupKFold, check_cv

from hybridus._sklearn import _num_samples
from hybridus.inputs.columns import check_column


def group_names(groups: ArrayLike | str | None, n_samples: int) -> NDArray | None:
    """Return the name of the group of each sample, none of them missing.

    Parameters
    ----------
    groups : array-like of shape (n_samples,), "independent" or None
        Name of the group of each sample: numbers or text.
    n_samples : int

    Returns
    -------
    array of shape (n_samples,) or None
        None where each sample is its own group ("independent"), or nothing is known (None).

    Raises
    ------
    ValueError
        Where a group is missing (None, NaN, NaT, pandas.NA, or one of them as text), there is not
        one for each sample, or numbers stand beside texts (1 and "1" may be one group or two).
    """
    if groups is None or (isinstance(groups, str) and groups == "independent"):
        return None
    wanted = f"expected ({n_samples},), a group for each sample, or 'independent'"
    if isinstance(groups, str):
        raise ValueError(f"groups={groups!r}: {wanted}")
    shape = np.asarray(groups).shape
    if shape != (n_samples,):
        raise ValueError(f"groups has shape {shape}: {wanted}")
    return check_column(
        groups,
        "groups",
        "a sample without duplicates is a group of its own and needs a name of its own",
    )


def check_groups(groups: ArrayLike | str | None, n_samples: int) -> NDArray[np.intp] | None:
    """Give each group a number from 0, in the order of their names.

    Parameters and errors are those of `group_names`.

    Returns
    -------
    array of shape (n_samples,), int, or None

    Examples
    --------
    >>> from hybridus.inputs.groups import check_groups
    >>> check_groups(["scan b", "scan a", "scan b"], 3)
    array([1, 0, 1])
    """
    names = group_names(groups, n_samples)
    if names is None:
        return None
    return np.unique(names, return_inverse=True)[1].astype(np.intp)


class WholeGroupsKFold(BaseCrossValidator):
    """Folds that keep groups whole where groups are given, and are those of a number where not.

    What an inner `cv` may be when it cannot know whether there will be groups: with metadata
    routing it is handed them, if there are any.

    Parameters
    ----------
    n_splits : int, default=5
        Number of folds, two or more.
    stratify : bool, default=True
        Whether `y` are classes, which each fold holds in about equal shares.

    Examples
    --------
    >>> from hybridus.inputs.groups import WholeGroupsKFold
    >>> y, patients = [0, 0, 1, 1, 0, 0, 1, 1], [0, 1, 2, 3, 0, 1, 2, 3]
    >>> [test.tolist() for _, test in WholeGroupsKFold(2).split(y, y)]
    [[0, 1, 2, 3], [4, 5, 6, 7]]
    >>> [test.tolist() for _, test in WholeGroupsKFold(2).split(y, y, patients)]
    [[0, 2, 4, 6], [1, 3, 5, 7]]
    """

    # Under metadata routing they are handed on without being asked for.
    __metadata_request__split: ClassVar[dict] = {"groups": True}

    def __init__(self, n_splits: int = 5, *, stratify: bool = True) -> None:
        GroupKFold(n_splits)  # refuses what scikit-learn's splitters refuse
        self.n_splits = n_splits
        self.stratify = stratify

    def get_n_splits(self, X: Any = None, y: Any = None, groups: Any = None) -> int:
        """Return the number of folds; what is given is not looked at, as in scikit-learn."""
        return self.n_splits

    def split(
        self, X: Any, y: Any = None, groups: ArrayLike | str | None = None
    ) -> Iterator[tuple[NDArray[np.intp], NDArray[np.intp]]]:
        """Yield the training and the test part of each fold.

        Parameters
        ----------
        X : array-like of n_samples
            Only counted.
        y : array-like of shape (n_samples,), default=None
        groups : array-like of shape (n_samples,), "independent" or None, default=None

        Yields
        ------
        train, test : arrays of int
        """
        codes = check_groups(groups, _num_samples(X))
        if codes is None:
            yield from check_cv(self.n_splits, y, classifier=self.stratify).split(X, y)
        else:
            splitter = StratifiedGroupKFold if self.stratify else GroupKFold
            yield from splitter(self.n_splits).split(X, y, codes)
