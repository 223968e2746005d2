"""Shape of a region: outline and place, by names of pyradiomics where it has them."""

import math

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.measure import perimeter_crofton, regionprops

from hybridus.estimators.lesion.region import Region

_N_ANGLES = 128
_LOBES = slice(3, 9)  # waves around the outline: lobulation
_SPIKES = slice(9, 33)  # spiculation


def measure_shape(region: Region) -> dict[str, float]:
    """Measure how large, round, upright and rough a region is, and how deep it lies.

    Lengths are shares of the image or of the region itself, so that nothing changes with
    resolution.

    Returns
    -------
    dict of str to float
        ``shape2D_Sphericity`` and ``shape2D_Elongation`` are those of pyradiomics (square root of
        the ratio of axes; 1 is a circle). ``shape_Area`` is the logarithm of the share of the
        image; ``shape_Solidity`` and ``shape_Extent`` the shares of convex hull and bounding box;
        ``shape_TallerThanWide`` the logarithm of height over width; ``shape_Upright`` the
        elongation along the depth, -1 (lies flat) to 1; ``shape_Roughness`` outline over that of
        the convex hull; ``shape_FractalDimension`` of the outline, by counting boxes;
        ``shape_RadialDeviation``, ``shape_Lobulation`` and ``shape_Spiculation`` the deviation of
        the radius from its mean, altogether and in waves of 3 to 8 and of 9 to 32 around the
        outline; ``shape_Depth`` the middle's share of the height; ``shape_Centred`` its distance
        from the middle column.

    References
    ----------
    van Griethuysen et al. 2017, Computational radiomics system to decode the radiographic
    phenotype, Cancer Research 77:e104-e107 (pyradiomics).

    Stavros et al. 1995, Solid breast nodules: use of sonography to distinguish between benign and
    malignant lesions, Radiology 196:123-134, for what radiologists look at.
    """
    mask = region.mask
    (props,) = regionprops(mask.astype(np.uint8))
    height, width = mask.shape
    top, left, bottom, right = props.bbox
    padded = np.pad(mask, 2)
    perimeter = max(perimeter_crofton(padded, directions=4), 1.0)
    hull = np.pad(props.image_convex, 2)
    around_hull = max(perimeter_crofton(hull, directions=4), 1.0)
    minor, major = props.axis_minor_length, max(props.axis_major_length, 1e-6)
    elongation = min(1.0, minor / major)
    row, column = props.centroid
    radii = _radii(padded, (row + 2, column + 2))
    waves = np.abs(np.fft.rfft(radii / max(radii.mean(), 1e-6))) / _N_ANGLES
    return {
        "shape2D_Sphericity": min(1.0, 2 * math.sqrt(math.pi * props.area) / perimeter),
        "shape2D_Elongation": elongation,
        "shape_Area": math.log(props.area / mask.size),
        "shape_Solidity": props.solidity,
        "shape_Extent": props.extent,
        "shape_TallerThanWide": math.log((bottom - top) / (right - left)),
        "shape_Upright": (1 - elongation) * math.cos(2 * props.orientation),
        "shape_Roughness": perimeter / around_hull,
        "shape_FractalDimension": _fractal_dimension(padded),
        "shape_RadialDeviation": float(np.std(radii) / max(radii.mean(), 1e-6)),
        "shape_Lobulation": float(np.sqrt(2 * (waves[_LOBES] ** 2).sum())),
        "shape_Spiculation": float(np.sqrt(2 * (waves[_SPIKES] ** 2).sum())),
        "shape_Depth": row / height,
        "shape_Centred": abs(column / width - 0.5),
    }


def _radii(mask: NDArray[np.bool_], middle: tuple[float, float]) -> NDArray[np.float64]:
    """Distance from the middle to the farthest pixel of the region, in equal steps of the angle."""
    rows, columns = np.nonzero(mask ^ ndimage.binary_erosion(mask))
    away = np.hypot(rows - middle[0], columns - middle[1])
    angles = np.arctan2(rows - middle[0], columns - middle[1])
    order = np.argsort(angles, kind="stable")
    wanted = (np.arange(_N_ANGLES) + 0.5) / _N_ANGLES * 2 * np.pi - np.pi
    return np.interp(wanted, angles[order], away[order], period=2 * np.pi)


def _fractal_dimension(mask: NDArray[np.bool_]) -> float:
    """Slope of the number of boxes that the outline enters over the fineness of the boxes."""
    outline = mask ^ ndimage.binary_erosion(mask)
    rows, columns = np.nonzero(outline)
    extent = max(np.ptp(rows), np.ptp(columns)) + 1
    sides = [side for side in (2, 3, 4, 6, 8, 12, 16) if side * 4 <= extent]
    if len(sides) < 2:
        return 1.0
    counts = [len(np.unique(rows // side * 10_000 + columns // side)) for side in sides]
    return float(-np.polyfit(np.log(sides), np.log(counts), 1)[0])
