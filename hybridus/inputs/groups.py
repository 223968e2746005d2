"""Groups of samples: which of them belong together (duplicates, one patient), one for each.

A sample without a group is an error everywhere: samples whose groups are missing are not alike.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

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
    if np.shape(groups) != (n_samples,):
        raise ValueError(f"groups has shape {np.shape(groups)}: {wanted}")
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
