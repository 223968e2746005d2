"""Groups of samples: which of them belong together (duplicates, one patient), one for each.

A sample without a group is an error everywhere: samples whose groups are missing are not alike.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray


def check_groups(groups: ArrayLike | str | None, n_samples: int) -> NDArray[np.intp] | None:
    """Give each group a number, in the order of their names.

    Parameters
    ----------
    groups : array-like of shape (n_samples,), "independent" or None
        Name of the group of each sample: numbers or text.
    n_samples : int

    Returns
    -------
    array of shape (n_samples,), int, or None
        From 0; None where each sample is its own group ("independent"), or nothing is known (None).

    Raises
    ------
    ValueError
        Where a group is missing (None, NaN, NaT, pandas.NA), or there is not one for each sample.

    Examples
    --------
    >>> from hybridus.inputs.groups import check_groups
    >>> check_groups(["scan b", "scan a", "scan b"], 3)
    array([1, 0, 1])
    """
    if groups is None or (isinstance(groups, str) and groups == "independent"):
        return None
    names = np.asarray(groups, dtype=object)  # as objects: a NaN among texts stays one
    if names.shape != (n_samples,):
        given = f"={groups!r}" if isinstance(groups, str) else f" has shape {names.shape}"
        raise ValueError(
            f"groups{given}, y ({n_samples},): expected a group for each sample or 'independent'"
        )
    codes, _ = pd.factorize(names, sort=True)
    if n_samples and codes.min() < 0:
        missing = int(codes.argmin())
        raise ValueError(
            f"groups[{missing}] is missing ({names[missing]!s}): a sample without duplicates is a "
            "group of its own and needs a name of its own"
        )
    return codes
