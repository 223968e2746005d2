"""Distances between the outlines of predicted and true lesions.

An outline is the pixels of a mask that touch background by an edge or lie on the edge of the
image, as in MONAI; distances run from pixel centre to pixel centre.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hybridus.metrics.pairs import (
    Empty,
    MaskPairs,
    check_option,
    mean_over_images,
    score_of_empty,
)

Missing = Literal["nan", "diagonal"]

# Three pixels of 0.1 mm are 0.30000000000000004 mm, which a tolerance of 0.3 mm means to include.
_ROUNDING = 1e-9


def hausdorff_95(
    masks_true: Any,
    masks_pred: Any,
    *,
    spacing: float | ArrayLike = 1.0,
    missing: Missing = "diagonal",
    average: Literal["images"] | None = "images",
) -> float | NDArray[np.float64]:
    """95th percentile of the Hausdorff distance between true and predicted outlines.

    For each pixel of one outline the distance to the nearest pixel of the other is taken; of
    these the 95th percentile; of both directions the larger.

    Parameters
    ----------
    masks_true, masks_pred : masks
        In any form that `hybridus.inputs.masks.as_masks` reads, one pair per image.
    spacing : float, (row, column) or array-like of shape (n, 1) or (n, 2), default=1.0
        Height and width of a pixel, usually in mm; for all images or for each of them. With 1.0
        distances are in pixels.
    missing : {"diagonal", "nan"}, default="diagonal"
        What an image counts where an outline is missing. "diagonal" counts the diagonal of the
        image where one of the two is missing, and 0 where both are: the only definition that
        tables of this package call ``hausdorff_95``. "nan" leaves such images out of the mean, by
        which a model gains that predicts nothing where it is in doubt; count them with
        ``np.isnan(hausdorff_95(..., missing="nan", average=None)).sum()``.
    average : {"images"} or None, default="images"
        Mean over images, or None for one value per image.

    Returns
    -------
    float or ndarray of shape (n,)
        Distance in the unit of `spacing`; 0 is best.

    Raises
    ------
    ValueError
        If numbers or sizes of masks differ, or `spacing` is not positive or of another shape.

    Warns
    -----
    sklearn.exceptions.UndefinedMetricWarning
        If ``missing="nan"`` and no image has both outlines; the mean is NaN then.

    References
    ----------
    Huttenlocher, Klanderman and Rucklidge, "Comparing images using the Hausdorff distance", IEEE
    Transactions on Pattern Analysis and Machine Intelligence 15(9), 850-863, 1993.

    Examples
    --------
    >>> import numpy as np
    >>> from hybridus.metrics import hausdorff_95
    >>> true = np.zeros((1, 32, 32), dtype=bool)
    >>> true[0, 8:16, 8:16] = True
    >>> hausdorff_95(true, np.roll(true, 3, axis=2))
    3.0
    >>> hausdorff_95(true, np.roll(true, 3, axis=2), spacing=(0.1, 0.2)).__round__(3)
    0.6
    """
    check_option("missing", missing, ("nan", "diagonal"))
    check_option("average", average, ("images", None))
    pairs = MaskPairs(masks_true, masks_pred)
    distances = [
        percentile_95(boundary_distances(true, pred, size), true.shape, size, missing)
        for (true, pred), size in zip(pairs, pixel_sizes(spacing, len(pairs)), strict=True)
    ]
    return np.array(distances) if average is None else mean_over_images(distances)


def normalized_surface_dice(
    masks_true: Any,
    masks_pred: Any,
    *,
    tolerance: float = 2.0,
    spacing: float | ArrayLike = 1.0,
    empty: Empty = "one",
    average: Literal["images"] | None = "images",
) -> float | NDArray[np.float64]:
    """Share of the true and predicted outlines that lie within a tolerance of each other.

    Parameters
    ----------
    masks_true, masks_pred : masks
        In any form that `hybridus.inputs.masks.as_masks` reads, one pair per image.
    tolerance : float, default=2.0
        Distance up to which outlines agree, in the unit of `spacing`: what experts differ by.
    spacing : float, (row, column) or array-like of shape (n, 1) or (n, 2), default=1.0
        Height and width of a pixel, usually in mm; for all images or for each of them. With 1.0
        `tolerance` is in pixels.
    empty : {"one", "zero", "nan"}, default="one"
        What an image with neither lesion nor prediction counts; "nan" leaves it out of the mean.
        Where one of both is missing the score is 0.
    average : {"images"} or None, default="images"
        Mean over images, or None for one value per image.

    Returns
    -------
    float or ndarray of shape (n,)
        Between 0 and 1; 1 is best.

    Raises
    ------
    ValueError
        If numbers or sizes of masks differ, `tolerance` is negative or not finite, or `spacing`
        is not positive or of another shape.

    Warns
    -----
    sklearn.exceptions.UndefinedMetricWarning
        If ``empty="nan"`` leaves no image; the mean is NaN then.

    Notes
    -----
    Nikolov et al. weigh pieces of a surface by their length; here every pixel of an outline
    counts the same, as in MONAI.

    References
    ----------
    Nikolov et al., "Deep learning to achieve clinically applicable segmentation of head and neck
    anatomy for radiotherapy", 2018. arXiv:1809.04430

    Examples
    --------
    >>> import numpy as np
    >>> from hybridus.metrics import normalized_surface_dice
    >>> true = np.zeros((1, 32, 32), dtype=bool)
    >>> true[0, 8:16, 8:16] = True
    >>> normalized_surface_dice(true, np.roll(true, 2, axis=2))
    1.0
    >>> round(normalized_surface_dice(true, np.roll(true, 3, axis=2)), 3)
    0.643
    """
    check_option("average", average, ("images", None))
    neither = score_of_empty(empty)
    check_tolerance(tolerance)
    pairs = MaskPairs(masks_true, masks_pred)
    scores = [
        share_within(boundary_distances(true, pred, size), tolerance, neither)
        for (true, pred), size in zip(pairs, pixel_sizes(spacing, len(pairs)), strict=True)
    ]
    return np.array(scores) if average is None else mean_over_images(scores)


def boundary_distances(
    true: NDArray[np.bool_], pred: NDArray[np.bool_], pixel_size: tuple[float, float]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Distance of each pixel of one outline to the other outline, in both directions.

    Returns
    -------
    ndarray of shape (n_true,), ndarray of shape (n_pred,)
        A value for each pixel of the true and of the predicted outline; infinite where there is
        no other outline.
    """
    from scipy.ndimage import distance_transform_edt

    # Nothing outside the box around both lesions takes part.
    box = _box(true | pred)
    outlines = _outline(true[box]), _outline(pred[box])
    distances = []
    for outline, other in (outlines, outlines[::-1]):
        if other.any():
            to_other = distance_transform_edt(~other, sampling=pixel_size)
            distances.append(to_other[outline])
        else:
            distances.append(np.full(np.count_nonzero(outline), np.inf))
    return distances[0], distances[1]


def percentile_95(
    distances: tuple[NDArray[np.float64], NDArray[np.float64]],
    shape: tuple[int, ...],
    pixel_size: tuple[float, float],
    missing: Missing,
) -> float:
    """`hausdorff_95` of one image from its `boundary_distances`."""
    n_true, n_pred = map(len, distances)
    if n_true and n_pred:
        return float(max(np.percentile(direction, 95) for direction in distances))
    if missing == "nan":
        return float("nan")
    one_missing = n_true or n_pred
    return float(np.hypot(shape[0] * pixel_size[0], shape[1] * pixel_size[1])) * bool(one_missing)


def share_within(
    distances: tuple[NDArray[np.float64], NDArray[np.float64]], tolerance: float, neither: float
) -> float:
    """`normalized_surface_dice` of one image from its `boundary_distances`."""
    both = np.concatenate(distances)
    if len(both) == 0:
        return neither
    return float(np.mean(both <= tolerance * (1 + _ROUNDING)))


def check_tolerance(tolerance: float) -> None:
    """Raise `ValueError` unless `tolerance` is a distance."""
    if not (np.isfinite(tolerance) and tolerance >= 0):
        raise ValueError(f"tolerance={tolerance!r}: expected a distance, 0 or more")


def pixel_sizes(spacing: float | ArrayLike, n_images: int) -> list[tuple[float, float]]:
    """(row, column) size of the pixels of each image."""
    sizes = np.asarray(spacing, dtype=float)
    if not np.all(np.isfinite(sizes) & (sizes > 0)):
        raise ValueError(f"spacing={spacing!r}: expected positive sizes of pixels")
    if sizes.shape not in ((), (2,), (n_images, 1), (n_images, 2)):
        hint = " (spacing[:, None] for one size an image)" if sizes.ndim == 1 else ""
        raise ValueError(
            f"spacing has shape {sizes.shape}: expected a number, (row, column), or an array of "
            f"shape ({n_images}, 1) or ({n_images}, 2) for {n_images} images{hint}"
        )
    rows = np.broadcast_to(sizes, (n_images, 2))
    return [(float(row), float(column)) for row, column in rows]


def _outline(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    from scipy.ndimage import binary_erosion

    return mask & ~binary_erosion(mask)


def _box(mask: NDArray[np.bool_]) -> tuple[slice, slice]:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if len(rows) == 0:
        return slice(0), slice(0)
    return slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
