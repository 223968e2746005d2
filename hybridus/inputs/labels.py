"""Labels: the class of each sample, a number or a text."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.utils.multiclass import check_classification_targets

from hybridus._sklearn import _check_y
from hybridus.inputs.columns import check_column

_REMEDY = "each sample needs a class; leave out those without one"


def check_labels(y: Any) -> NDArray:
    """Return labels as an array of one dimension.

    Parameters
    ----------
    y : array-like of shape (n_samples,) or (n_samples, 1)

    Returns
    -------
    array of shape (n_samples,)

    Raises
    ------
    ValueError
        Where a label is missing (None, NaN, pandas.NA, or one of them as text), numbers stand
        beside texts, there is more than one label for a sample, or values are measured and no
        classes.

    Warns
    -----
    sklearn.exceptions.DataConversionWarning
        Of a column vector.

    Examples
    --------
    >>> from hybridus.inputs.labels import check_labels
    >>> check_labels(["benign", "malignant"]).tolist()
    ['benign', 'malignant']
    >>> check_labels([0, "1"])
    Traceback (most recent call last):
    ...
    ValueError: y[0] is 0 and y[1] is '1': expected values of one kind, all numbers or all text
    """
    if y is None:
        raise ValueError("requires y to be passed, but the target y is None")
    shape = np.asarray(y).shape
    if len(shape) != 1 and shape[1:] != (1,):
        raise ValueError(f"y has shape {shape}: expected one class per sample, 1-D")
    labels = _check_y(check_column(y, "y", _REMEDY))
    check_classification_targets(labels)
    return labels


def check_any_labels(y: Any) -> None:
    """Refuse labels that are missing or of mixed kind, where `y` may be something else as well.

    What needs no target looks at it all the same, since NumPy makes a class "nan" of a missing
    label among texts before the classifier that follows sees it. Numbers are left alone.

    Parameters
    ----------
    y : anything
        None, labels, measured values, masks.

    Raises
    ------
    ValueError
        As `check_labels` does, for texts and what stands among them.
    """
    values = y.to_numpy(dtype=object).ravel() if isinstance(y, pd.DataFrame | pd.Series) else y
    if isinstance(values, list | tuple | np.ndarray) and any(isinstance(v, str) for v in values):
        check_column(values, "y", _REMEDY)
