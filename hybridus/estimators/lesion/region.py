"""Region: the lesion that a probability map shows, and square crops around it.

There is always a region: where no pixel reaches the threshold, it is where the map is highest.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from hybridus.inputs.resizing import resize_image, to_grey

WORKING_SIDE = 256  # pixels of the longer side at which regions are measured
_LEAST_PIXELS = 16  # of a region, at that size: fewer have no outline
# Pixels: outlines of coarse maps have steps, which would count as roughness.
_SMOOTHED = 2.0
_NEIGHBOURS = np.ones((3, 3))


@dataclass(frozen=True, eq=False)
class Region:
    """A lesion in an image.

    Attributes
    ----------
    grey : array of shape (H, W), uint8 or float32
        The image, 0..255.
    probabilities : array of shape (h, w), float32
        Of lesion; the longer side has 256 pixels, whatever the size of the image.
    mask : array of shape (h, w), bool
        The region, at that size: one component, without holes.
    found : bool
        Whether any pixel reached the threshold.
    n_components : int
        How many regions reached it; 0 where none did.
    """

    grey: NDArray
    probabilities: NDArray[np.float32]
    mask: NDArray[np.bool_]
    found: bool
    n_components: int

    @cached_property
    def box(self) -> tuple[float, float, float, float]:
        """Top, left, bottom and right of the region as shares of the height and the width."""
        rows, columns = np.flatnonzero(self.mask.any(1)), np.flatnonzero(self.mask.any(0))
        height, width = self.mask.shape
        return (
            rows[0] / height,
            columns[0] / width,
            (rows[-1] + 1) / height,
            (columns[-1] + 1) / width,
        )


def find_region(image: NDArray, probabilities: NDArray[np.float32], threshold: float) -> Region:
    """Find the lesion in an image: the component with the most probability in it.

    Parameters
    ----------
    image : array of shape (H, W) or (H, W, 3)
        Canonical, 0..255.
    probabilities : array of shape (h, w)
        Of lesion, over the whole image, at any size.
    threshold : float
        Probability above which a pixel is lesion.

    Returns
    -------
    Region
        Where nothing lies above the threshold, what lies above half of the largest probability; of
        a map that is flat, or nowhere above zero, an ellipse in the middle.
    """
    height, width = image.shape[:2]
    scale = WORKING_SIDE / max(height, width)
    size = (max(2, round(height * scale)), max(2, round(width * scale)))
    coarse = resize_image(np.ascontiguousarray(probabilities, np.float32), size)
    spread = ndimage.gaussian_filter(coarse, _SMOOTHED)
    mask, n_components = _largest(spread > threshold, spread)
    found = n_components > 0
    if not found:
        mask, _ = _largest(spread > spread.max() / 2, spread)
        if not mask.any() or mask.all():
            mask = _ellipse(size)
    return Region(to_grey(image), spread, mask, found, n_components)


def square_around(region: Region, context: float, size: tuple[int, ...]) -> tuple[int, int, int]:
    """Place of a square around a region in an image of a size: top, left and side in pixels.

    Parameters
    ----------
    region : Region
    context : float
        Side of the square, as a multiple of the longer side of the region's bounding box.
    size : tuple of int
        Height and width of the image.
    """
    height, width = size
    top, left, bottom, right = region.box
    longer = max((bottom - top) * height, (right - left) * width)
    side = max(2, round(context * longer))
    middle = (top + bottom) / 2 * height, (left + right) / 2 * width
    return round(middle[0] - side / 2), round(middle[1] - side / 2), side


def cut(image: NDArray, top: int, left: int, side: int) -> NDArray:
    """Cut a square from an image; what lies beyond its border is its mirror image.

    Parameters
    ----------
    image : array of shape (H, W) or (H, W, 3)
    top, left, side : int
        See `square_around`.
    """
    rows, columns = places_in(top, left, side, image.shape[:2])
    return np.ascontiguousarray(image[rows[:, None], columns[None, :]])


def places_in(
    top: int, left: int, side: int, size: tuple[int, ...]
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Rows and columns of an image that a square shows, mirrored beyond the border."""
    return (
        _mirrored(np.arange(top, top + side), size[0]),
        _mirrored(np.arange(left, left + side), size[1]),
    )


def _mirrored(places: NDArray[np.intp], length: int) -> NDArray[np.intp]:
    if length == 1:
        return np.zeros_like(places)
    turned = np.abs(places) % (2 * length - 2)
    return np.minimum(turned, 2 * length - 2 - turned)


def _largest(
    mask: NDArray[np.bool_], probabilities: NDArray[np.float32]
) -> tuple[NDArray[np.bool_], int]:
    """Keep the component that holds the most probability, with its holes filled."""
    labels, count = ndimage.label(mask, structure=_NEIGHBOURS)
    areas = np.bincount(labels.ravel(), minlength=count + 1)
    held = np.bincount(labels.ravel(), weights=probabilities.ravel(), minlength=count + 1)
    enough = areas >= _LEAST_PIXELS
    enough[0] = False
    if not enough.any():
        return np.zeros_like(mask), 0
    best = int(np.argmax(np.where(enough, held, -1)))
    return ndimage.binary_fill_holes(labels == best), int(enough.sum())


def _ellipse(size: tuple[int, int]) -> NDArray[np.bool_]:
    rows, columns = np.ogrid[: size[0], : size[1]]
    away = ((rows + 0.5) / size[0] - 0.5) ** 2 + ((columns + 0.5) / size[1] - 0.5) ** 2
    inside = away <= 0.25**2
    return inside if inside.any() else np.ones(size, bool)
