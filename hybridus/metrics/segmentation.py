"""Overlap of predicted and true lesions, pixel by pixel; the report and the scorers.

Scores are means over images unless told otherwise, so that a large lesion counts as one image.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hybridus.metrics.boundaries import (
    Missing,
    boundary_distances,
    check_tolerance,
    hausdorff_95,
    percentile_95,
    pixel_sizes,
    share_within,
)
from hybridus.metrics.lesions import check_min_iou, count_lesions
from hybridus.metrics.pairs import (
    Empty,
    MaskPairs,
    check_option,
    mean_over_images,
    score_of_empty,
)

if TYPE_CHECKING:
    import pandas as pd

Average = Literal["images", "pooled"] | None


def dice(
    masks_true: Any, masks_pred: Any, *, empty: Empty = "one", average: Average = "images"
) -> float | NDArray[np.float64]:
    """Dice coefficient: twice the common area over the sum of both areas.

    Parameters
    ----------
    masks_true, masks_pred : masks
        In any form that `hybridus.inputs.masks.as_masks` reads, one pair per image.
    empty : {"one", "zero", "nan"}, default="one"
        What an image with neither lesion nor prediction counts; "nan" leaves it out of the mean.
        Where one of both is missing the score is 0.
    average : {"images", "pooled"} or None, default="images"
        Mean over images, one score over the pixels of all images, or None for one per image.

    Returns
    -------
    float or ndarray of shape (n,)
        Between 0 and 1; 1 is best.

    Raises
    ------
    ValueError
        If numbers or sizes of masks differ, or values are not those of masks (probabilities).

    Warns
    -----
    sklearn.exceptions.UndefinedMetricWarning
        If ``empty="nan"`` leaves no image; the mean is NaN then.

    References
    ----------
    Dice, L. R., "Measures of the amount of ecologic association between species", Ecology 26(3),
    297-302, 1945.

    Examples
    --------
    >>> from hybridus.metrics import dice
    >>> true = [[[1, 1], [0, 0]], [[0, 0], [0, 0]]]  # the second image is normal
    >>> pred = [[[1, 0], [1, 0]], [[0, 0], [0, 0]]]
    >>> dice(true, pred), dice(true, pred, empty="zero"), dice(true, pred, empty="nan")
    (0.75, 0.25, 0.5)
    >>> dice(true, pred, average=None)
    array([0.5, 1. ])
    """
    return _score(_dice, masks_true, masks_pred, empty, average)


def iou(
    masks_true: Any, masks_pred: Any, *, empty: Empty = "one", average: Average = "images"
) -> float | NDArray[np.float64]:
    """Intersection over union (Jaccard index): the common area over the area of either.

    Parameters, returns and errors are those of `dice`; ``dice = 2 iou / (1 + iou)`` per image.

    References
    ----------
    Jaccard, P., "The distribution of the flora in the alpine zone", New Phytologist 11(2), 37-50,
    1912.

    Examples
    --------
    >>> from hybridus.metrics import iou
    >>> round(iou([[[1, 1], [0, 0]]], [[[1, 0], [1, 0]]]), 3)
    0.333
    """
    return _score(_iou, masks_true, masks_pred, empty, average)


def pixel_precision(
    masks_true: Any, masks_pred: Any, *, empty: Empty = "one", average: Average = "images"
) -> float | NDArray[np.float64]:
    """Share of the predicted area that is lesion.

    Parameters, returns and errors are those of `dice`. Where nothing is predicted but there is a
    lesion, 0/0 counts 0, as in scikit-learn; ``average="pooled"`` is free of that choice.

    Examples
    --------
    >>> from hybridus.metrics import pixel_precision
    >>> pixel_precision([[[1, 1], [1, 0]]], [[[1, 0], [0, 1]]])
    0.5
    """
    return _score(_precision, masks_true, masks_pred, empty, average)


def pixel_recall(
    masks_true: Any, masks_pred: Any, *, empty: Empty = "one", average: Average = "images"
) -> float | NDArray[np.float64]:
    """Share of the lesion's area that is predicted: sensitivity.

    Parameters, returns and errors are those of `dice`. Where there is no lesion but a prediction,
    0/0 counts 0, as in scikit-learn; ``average="pooled"`` is free of that choice.

    Examples
    --------
    >>> from hybridus.metrics import pixel_recall
    >>> round(pixel_recall([[[1, 1], [1, 0]]], [[[1, 0], [0, 1]]]), 3)
    0.333
    """
    return _score(_recall, masks_true, masks_pred, empty, average)


def pixel_f1(
    masks_true: Any, masks_pred: Any, *, empty: Empty = "one", average: Average = "images"
) -> float | NDArray[np.float64]:
    """Harmonic mean of precision and recall: the same number as `dice`, under its other name.

    Parameters, returns and errors are those of `dice`.

    Examples
    --------
    >>> from hybridus.metrics import pixel_f1
    >>> pixel_f1([[[1, 1], [1, 0]]], [[[1, 0], [0, 1]]], average="pooled")
    0.4
    """
    return _score(_dice, masks_true, masks_pred, empty, average)


def segmentation_report(
    masks_true: Any,
    masks_pred: Any,
    *,
    empty: Empty = "one",
    missing: Missing = "diagonal",
    spacing: float | ArrayLike = 1.0,
    tolerance: float = 2.0,
    min_iou: float = 0.0,
) -> pd.DataFrame:
    """All scores of every image, in one pass over the masks.

    Parameters
    ----------
    masks_true, masks_pred : masks
        In any form that `hybridus.inputs.masks.as_masks` reads, one pair per image.
    empty : {"one", "zero", "nan"}, default="one"
        What an image with neither lesion nor prediction counts; see `dice`.
    missing : {"diagonal", "nan"}, default="diagonal"
        What a missing outline counts; see `hausdorff_95`.
    spacing : float, (row, column) or array-like of shape (n, 1) or (n, 2), default=1.0
        Height and width of a pixel, usually in mm.
    tolerance : float, default=2.0
        Distance up to which outlines agree, in the unit of `spacing`.
    min_iou : float, default=0.0
        Overlap from which a lesion counts as detected; see `lesion_detection`.

    Returns
    -------
    pandas.DataFrame of n rows
        Columns ``dice``, ``iou``, ``precision``, ``recall``, ``hausdorff_95``, ``nsd`` (normalized
        surface Dice), ``n_true``, ``n_detected`` and ``n_false_positive`` (lesions). Its ``mean()``
        leaves NaN out.

    Raises
    ------
    ValueError
        If numbers or sizes of masks differ, or a parameter is out of range.

    Examples
    --------
    >>> import numpy as np
    >>> from hybridus.metrics import segmentation_report
    >>> true = np.zeros((2, 16, 16), dtype=bool)
    >>> true[:, 4:12, 4:12] = True
    >>> pred = true.copy()
    >>> pred[0, :, :8], pred[1] = False, False
    >>> segmentation_report(true, pred)[["dice", "recall", "hausdorff_95", "n_detected"]].round(2)
       dice  recall  hausdorff_95  n_detected
    0  0.67     0.5          4.00           1
    1  0.00     0.0         22.63           0
    """
    import pandas as pd

    check_option("missing", missing, ("nan", "diagonal"))
    check_tolerance(tolerance)
    check_min_iou(min_iou)
    neither = score_of_empty(empty)
    pairs = MaskPairs(masks_true, masks_pred)
    rows = []
    for (true, pred), size in zip(pairs, pixel_sizes(spacing, len(pairs)), strict=True):
        areas = _areas(true, pred)
        distances = boundary_distances(true, pred, size)
        rows.append(
            [
                *(
                    _scores(ratio, areas, neither)[0]
                    for ratio in (_dice, _iou, _precision, _recall)
                ),
                percentile_95(distances, true.shape, size, missing),
                share_within(distances, tolerance, neither),
                *count_lesions(true, pred, min_iou),
            ]
        )
    scores = ["dice", "iou", "precision", "recall", "hausdorff_95", "nsd"]
    counts = ["n_true", "n_detected", "n_false_positive"]
    return pd.DataFrame(rows, columns=scores + counts)


def dice_scorer(estimator: Any, X: Any, masks: Any, *, empty: Empty = "one") -> float:
    """Mean `dice` of a fitted segmenter; usable as ``scoring`` throughout scikit-learn.

    Parameters
    ----------
    estimator : fitted segmenter
        Its `predict` gives masks of the size of the images (``output_size="input"``).
    X : images
        In the form that `estimator` takes.
    masks : masks
        True masks in any form that `hybridus.inputs.masks.as_masks` reads.
    empty : {"one", "zero", "nan"}, default="one"
        See `dice`; choose another by ``functools.partial(dice_scorer, empty="nan")``.

    Returns
    -------
    float
        Higher is better.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.base import BaseEstimator
    >>> from sklearn.model_selection import GridSearchCV
    >>> from hybridus.metrics import dice_scorer
    >>> class Threshold(BaseEstimator):
    ...     def __init__(self, level=0.5):
    ...         self.level = level
    ...     def fit(self, X, masks):
    ...         return self
    ...     def predict(self, X):
    ...         return X > self.level
    >>> images = np.random.default_rng(0).random((10, 16, 16))
    >>> search = GridSearchCV(Threshold(), {"level": [0.5, 0.7, 0.9]}, scoring=dice_scorer)
    >>> search.fit(images, images > 0.7).best_params_
    {'level': 0.7}
    """
    return float(dice(masks, estimator.predict(X), empty=empty))


def iou_scorer(estimator: Any, X: Any, masks: Any, *, empty: Empty = "one") -> float:
    """Mean `iou` of a fitted segmenter; parameters are those of `dice_scorer`.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.base import BaseEstimator
    >>> from hybridus.metrics import iou_scorer
    >>> class Bright(BaseEstimator):
    ...     def predict(self, X):
    ...         return X > 0.7
    >>> images = np.random.default_rng(0).random((10, 16, 16))
    >>> iou_scorer(Bright(), images, images > 0.7)
    1.0
    """
    return float(iou(masks, estimator.predict(X), empty=empty))


def neg_hausdorff_95_scorer(
    estimator: Any,
    X: Any,
    masks: Any,
    *,
    spacing: float | tuple[float, float] = 1.0,
    missing: Missing = "diagonal",
) -> float:
    """Mean `hausdorff_95` of a fitted segmenter, negated, so that higher is better.

    Parameters are those of `dice_scorer` and `hausdorff_95`.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.base import BaseEstimator
    >>> from hybridus.metrics import neg_hausdorff_95_scorer
    >>> class Bright(BaseEstimator):
    ...     def predict(self, X):
    ...         return X > 0.7
    >>> images = np.random.default_rng(0).random((10, 16, 16))
    >>> neg_hausdorff_95_scorer(Bright(), images, images > 0.7)
    -0.0
    """
    return -float(hausdorff_95(masks, estimator.predict(X), spacing=spacing, missing=missing))


Ratio = Callable[[NDArray, NDArray, NDArray], NDArray]


def _score(
    ratio: Ratio, masks_true: Any, masks_pred: Any, empty: Empty, average: Average
) -> float | NDArray[np.float64]:
    neither = score_of_empty(empty)
    check_option("average", average, ("images", "pooled", None))
    areas = np.concatenate([_areas(*pair) for pair in MaskPairs(masks_true, masks_pred)])
    if average == "pooled":
        areas = areas.sum(axis=0, keepdims=True)
    scores = _scores(ratio, areas, neither)
    return scores if average is None else mean_over_images(scores)


def _areas(true: NDArray[np.bool_], pred: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Pixels of both, of the lesion and of the prediction, in a row."""
    return np.array([[np.count_nonzero(area) for area in (true & pred, true, pred)]])


def _scores(ratio: Ratio, areas: NDArray[np.int64], neither: float) -> NDArray[np.float64]:
    common, true, pred = areas.T
    return np.where(true + pred == 0, neither, ratio(common, true, pred))


def _dice(common: NDArray, true: NDArray, pred: NDArray) -> NDArray:
    return _divide(2 * common, true + pred)


def _iou(common: NDArray, true: NDArray, pred: NDArray) -> NDArray:
    return _divide(common, true + pred - common)


def _precision(common: NDArray, true: NDArray, pred: NDArray) -> NDArray:
    return _divide(common, pred)


def _recall(common: NDArray, true: NDArray, pred: NDArray) -> NDArray:
    return _divide(common, true)


def _divide(part: NDArray, whole: NDArray) -> NDArray:
    return np.divide(part, whole, out=np.zeros(len(part)), where=whole > 0)
