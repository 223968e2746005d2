"""Labels: the class of each sample, a number or a text."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray


def check_labels(y: ArrayLike) -> NDArray:
    """Return labels as an array of one dimension.

    Parameters
    ----------
    y : array-like of shape (n_samples,)

    Returns
    -------
    array of shape (n_samples,)

    Raises
    ------
    ValueError
        Where there is not one label for each sample.

    Examples
    --------
    >>> from hybridus.inputs.labels import check_labels
    >>> check_labels(["benign", "malignant"]).shape
    (2,)
    """
    labels = np.asarray(y)
    if labels.ndim != 1:
        raise ValueError(f"y has shape {labels.shape}: expected one class per sample, 1-D")
    return labels
