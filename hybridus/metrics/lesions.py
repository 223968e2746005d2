"""Lesions one by one: how many are found, and how many alarms are false.

A lesion is a connected component of a mask; pixels that touch by an edge or a corner are connected.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import UndefinedMetricWarning
from sklearn.utils import Bunch

from hybridus.metrics.pairs import MaskPairs


def lesion_detection(masks_true: Any, masks_pred: Any, *, min_iou: float = 0.0) -> Bunch:
    """Count the lesions that predictions find and the alarms that they raise elsewhere.

    A true lesion is detected where one predicted lesion overlaps it, by at least `min_iou`. A
    predicted lesion is a false positive where it touches no true lesion; one that overlaps by less
    than `min_iou` is neither.

    Parameters
    ----------
    masks_true, masks_pred : masks
        In any form that `hybridus.inputs.masks.as_masks` reads, one pair per image.
    min_iou : float, default=0.0
        Least intersection over union of a true and a predicted lesion, 0 to 1; with 0 a common
        pixel is enough.

    Returns
    -------
    sklearn.utils.Bunch
        - ``detection_rate`` : float, share of the true lesions that are detected; NaN where there
          are none.
        - ``false_positives_per_image`` : float, mean over all images.
        - ``false_positive_rate`` : float, see `false_positive_rate`; NaN where every image has a
          lesion.
        - ``n_lesions``, ``n_detected``, ``n_false_positives``, ``n_images``, ``n_normal`` : int,
          the counts behind them; normal images have no lesion.

    Raises
    ------
    ValueError
        If numbers or sizes of masks differ, or `min_iou` is not between 0 and 1.

    Examples
    --------
    >>> import numpy as np
    >>> from hybridus.metrics import lesion_detection
    >>> true, pred = np.zeros((2, 1, 8), int), np.zeros((2, 1, 8), int)
    >>> true[0, 0, :2] = true[0, 0, 4:6] = 1  # two lesions, the second image is normal
    >>> pred[0, 0, 1:3] = pred[1, 0, 7:] = 1
    >>> found = lesion_detection(true, pred)
    >>> found.detection_rate, found.false_positives_per_image, found.false_positive_rate
    (0.5, 0.5, 1.0)
    """
    check_min_iou(min_iou)
    counts = []
    n_normal = n_alarmed = 0
    for true, pred in MaskPairs(masks_true, masks_pred):
        counts.append(count_lesions(true, pred, min_iou))
        if not true.any():
            n_normal += 1
            n_alarmed += bool(pred.any())
    n_lesions, n_detected, n_false_positives = np.sum(counts, axis=0).tolist()
    return Bunch(
        detection_rate=_share(n_detected, n_lesions),
        false_positives_per_image=_share(n_false_positives, len(counts)),
        false_positive_rate=_share(n_alarmed, n_normal),
        n_lesions=n_lesions,
        n_detected=n_detected,
        n_false_positives=n_false_positives,
        n_images=len(counts),
        n_normal=n_normal,
    )


def false_positive_rate(masks_true: Any, masks_pred: Any) -> float:
    """Share of the images without lesion in which any pixel is predicted to be one.

    Parameters
    ----------
    masks_true, masks_pred : masks
        In any form that `hybridus.inputs.masks.as_masks` reads, one pair per image.

    Returns
    -------
    float
        Between 0 and 1; 0 is best. NaN where every image has a lesion.

    Raises
    ------
    ValueError
        If numbers or sizes of masks differ.

    Warns
    -----
    sklearn.exceptions.UndefinedMetricWarning
        If every image has a lesion.

    Examples
    --------
    >>> import numpy as np
    >>> from hybridus.metrics import false_positive_rate
    >>> true = np.zeros((3, 4, 4), dtype=bool)
    >>> pred = true.copy()
    >>> true[0, 1, 1] = pred[2, 0, 0] = True  # images 1 and 2 are normal
    >>> false_positive_rate(true, pred)
    0.5
    """
    alarms = [
        bool(pred.any()) for true, pred in MaskPairs(masks_true, masks_pred) if not true.any()
    ]
    if not alarms:
        warnings.warn(
            "every image has a lesion: the false positive rate is undefined",
            UndefinedMetricWarning,
            stacklevel=2,
        )
    return _share(sum(alarms), len(alarms))


def count_lesions(
    true: NDArray[np.bool_], pred: NDArray[np.bool_], min_iou: float
) -> tuple[int, int, int]:
    """Count the lesions of one image: true ones, detected ones and false positives."""
    from scipy.ndimage import label

    corners_connect = np.ones((3, 3), dtype=bool)
    true_labels, n_true = label(true, corners_connect, output=np.intp)
    pred_labels, n_pred = label(pred, corners_connect, output=np.intp)
    both = true & pred
    # Each overlapping pair of a true and a predicted lesion is coded as one number.
    codes, common = np.unique(
        true_labels[both] * (n_pred + 1) + pred_labels[both], return_counts=True
    )
    i, j = np.divmod(codes, n_pred + 1)
    union = np.bincount(true_labels.ravel())[i] + np.bincount(pred_labels.ravel())[j] - common
    detected = np.unique(i[common / union >= min_iou])
    return n_true, len(detected), n_pred - len(np.unique(j))


def check_min_iou(min_iou: float) -> None:
    """Raise `ValueError` unless `min_iou` is an intersection over union."""
    if not 0 <= min_iou <= 1:
        raise ValueError(f"min_iou={min_iou!r}: expected 0 to 1")


def _share(part: int, whole: int) -> float:
    return part / whole if whole else float("nan")
