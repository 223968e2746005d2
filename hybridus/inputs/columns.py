"""Columns: one value for each sample (its class, its group), none missing, all of one kind.

NumPy makes the text "nan" of a missing value that stands among texts, and "1" of a number; both
would be a class or a group that nobody meant.
"""

from __future__ import annotations

from numbers import Number
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

# What missing values become when they are made text.
_MISSING_AS_TEXT = ("", "nan", "NaN", "NaT", "None", "<NA>")


def check_column(values: Any, name: str, remedy: str) -> NDArray:
    """Return values as an array, none of them missing and all of one kind.

    Parameters
    ----------
    values : array-like
    name : str
        What error messages call the values.
    remedy : str
        What to do about a sample without a value.

    Returns
    -------
    array
        Of the shape of `values`; numbers in a list or among objects become an array of numbers.

    Raises
    ------
    ValueError
        Where a value is missing (None, NaN, NaT, pandas.NA, masked) or is the text that a missing
        value becomes; texts stand beside numbers; or two texts differ by spaces around them only.

    Examples
    --------
    >>> from hybridus.inputs.columns import check_column
    >>> check_column(["benign", "malignant"], "y", "leave it out").tolist()
    ['benign', 'malignant']
    >>> check_column(["benign", None], "y", "leave it out")
    Traceback (most recent call last):
    ...
    ValueError: y[1] is missing (None): leave it out
    """
    # As objects, since a NaN stays one there, and a number beside a text.
    objects = np.asarray(values) if _is_plain(values) else np.asarray(values, dtype=object)
    masked = np.ma.is_masked(values)
    missing = np.ma.getmaskarray(values) if masked else pd.isna(objects)
    if missing.any():
        first = np.argwhere(missing)[0]
        shown = "masked" if masked else objects[tuple(first)]
        raise ValueError(f"{name}[{first[0]}] is missing ({shown}): {remedy}")
    kind = "text" if objects.dtype.kind == "U" else "number"
    if objects.dtype.kind == "O":
        kind = _one_kind(objects.ravel(), name)
        if kind == "number":
            return np.array(objects.tolist())
    if kind == "text":
        _check_texts(objects.ravel().tolist(), name, remedy)
    return np.asarray(values)


def _is_plain(values: Any) -> bool:
    return isinstance(getattr(values, "dtype", None), np.dtype) and values.dtype.kind != "O"


def _one_kind(objects: NDArray, name: str) -> str:
    """Say of what kind all values are: "number", "text" or the name of their type."""
    first_of: dict[str, int] = {}
    for i, value in enumerate(objects):
        if isinstance(value, str):
            kind = "text"
        else:
            kind = "number" if isinstance(value, Number | np.bool_) else type(value).__name__
        first_of.setdefault(kind, i)
    if len(first_of) > 1:
        one, other = sorted(first_of.values())[:2]
        raise ValueError(
            f"{name}[{one}] is {objects[one]!r} and {name}[{other}] is {objects[other]!r}: "
            "expected values of one kind, all numbers or all text"
        )
    return next(iter(first_of), "number")


def _check_texts(texts: list[str], name: str, remedy: str) -> None:
    spelling: dict[str, str] = {}
    for text in dict.fromkeys(texts):
        bare = text.strip()
        if bare in _MISSING_AS_TEXT:
            raise ValueError(
                f"{name}[{texts.index(text)}] is the text {text!r}, which stands for a missing "
                f"value: {remedy}"
            )
        if spelling.setdefault(bare, text) != text:
            raise ValueError(
                f"{name} has both {spelling[bare]!r} and {text!r}, which differ by spaces around "
                "them only: write both alike"
            )
