"""Pairs of true and predicted masks, image by image, and means of their scores."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.exceptions import UndefinedMetricWarning

Empty = Literal["one", "zero", "nan"]

_SCORE_OF_EMPTY = {"one": 1.0, "zero": 0.0, "nan": np.nan}


class MaskPairs:
    """True and predicted masks in any form of `hybridus.inputs.masks.as_masks`, pair by pair.

    Iterating reads the masks one pair at a time, so memory does not grow with their number.

    Raises
    ------
    ValueError
        If the numbers of masks differ; while iterating, if the sizes of a pair do.
    """

    def __init__(self, masks_true: Any, masks_pred: Any) -> None:
        # Scores of classes need no reader of image files.
        from hybridus.inputs.masks import as_masks

        self._true = as_masks(masks_true, name="masks_true")
        self._pred = as_masks(masks_pred, name="masks_pred")
        if len(self._true) != len(self._pred):
            raise ValueError(
                f"got {len(self._true)} masks_true and {len(self._pred)} masks_pred; expected one "
                "prediction for each mask"
            )

    def __len__(self) -> int:
        return len(self._true)

    def __iter__(self) -> Iterator[tuple[NDArray[np.bool_], NDArray[np.bool_]]]:
        for i, (true, pred) in enumerate(zip(self._true, self._pred, strict=True)):
            if true.shape != pred.shape:
                raise ValueError(
                    f"masks_pred[{i}] is {pred.shape[1]} x {pred.shape[0]} pixels (width x "
                    f"height), but masks_true[{i}] is {true.shape[1]} x {true.shape[0]}. Predict "
                    'at the size of the images, with output_size="input"'
                )
            yield true, pred


def score_of_empty(empty: str) -> float:
    """Score of an image with neither lesion nor prediction."""
    check_option("empty", empty, tuple(_SCORE_OF_EMPTY))
    return _SCORE_OF_EMPTY[empty]


def check_option(name: str, value: object, options: tuple[object, ...]) -> None:
    """Raise `ValueError` unless `value` is one of `options`."""
    if value not in options:
        raise ValueError(f"{name}={value!r}: expected one of {', '.join(map(repr, options))}")


def mean_over_images(scores: ArrayLike) -> float:
    """Mean of the scores that are not NaN; NaN, with a warning, where there is none."""
    scores = np.asarray(scores, dtype=float)
    defined = scores[~np.isnan(scores)]
    if len(defined) == 0:
        warnings.warn(
            f"none of the {len(scores)} images has a score: the mean is undefined",
            UndefinedMetricWarning,
            stacklevel=3,
        )
        return float("nan")
    return float(defined.mean())
