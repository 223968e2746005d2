"""Echo of a region: grey levels inside, at the rim and behind, and how sharp its margin is.

Grey levels are taken as ranks within the surroundings, so that gain and any other curve of the
scanner change nothing; distances are shares of the region's radius.
"""

import math

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, stats

from hybridus.estimators.lesion.region import Region, cut, square_around
from hybridus.inputs.resizing import resize_image

SIDE = 128  # pixels of the square that is looked at
CONTEXT = 2.5  # its side, in longer sides of the region's bounding box
_N_SECTORS = 16
_N_BINS = 16
_SMALL = 1e-6


def look_closer(region: Region) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray]:
    """Cut the surroundings of a region at a size that depends on the region alone.

    Returns
    -------
    ranks : array of shape (128, 128), float32
        Ranks of the grey levels, 0 to 1.
    weights : array of shape (128, 128), float32
        Probability of lesion inside the region, 0 outside.
    depth : array of shape (128, 128), float64
        Distance to the outline in radii: positive inside, negative outside.
    """
    size = (SIDE, SIDE)
    # Ranks first: whatever is interpolated before depends on the curve of the scanner.
    ranks = _ranked(cut(region.grey, *square_around(region, CONTEXT, region.grey.shape)))
    place = square_around(region, CONTEXT, region.mask.shape)
    inside = _outlined(region.mask, place)
    likely = resize_image(cut(region.probabilities, *place), size)
    radius = math.sqrt(max(inside.sum(), 1) / math.pi)
    depth = ndimage.distance_transform_edt(inside) - ndimage.distance_transform_edt(~inside)
    weights = np.where(inside, np.maximum(likely, 0.05), 0).astype(np.float32)
    return resize_image(ranks, size), weights, depth / radius


def _ranked(grey: NDArray) -> NDArray[np.float32]:
    """Ranks of grey levels, 0 to 1, equal ones sharing theirs."""
    ranks = (stats.rankdata(grey.ravel()) - 0.5) / grey.size
    return ranks.reshape(grey.shape).astype(np.float32)


def _outlined(mask: NDArray[np.bool_], place: tuple[int, ...]) -> NDArray[np.bool_]:
    """Region at the size that is looked at; beyond the image's border there is none."""
    top, left, side = place
    padded = np.zeros((side, side), np.uint8)
    height, width = mask.shape
    rows = slice(max(top, 0), min(top + side, height))
    columns = slice(max(left, 0), min(left + side, width))
    padded[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left] = mask[
        rows, columns
    ] * np.uint8(255)
    inside = resize_image(padded, (SIDE, SIDE)) >= 128
    return inside if inside.any() else resize_image(padded, (SIDE, SIDE)) > 0


def measure_echo(
    ranks: NDArray[np.float32], weights: NDArray[np.float32], depth: NDArray
) -> dict[str, float]:
    """Measure grey levels inside, at the rim and around, and the margin between them.

    Parameters
    ----------
    ranks, weights, depth : arrays of shape (H, W)
        See `look_closer`. Pixels inside count by their probability.

    Returns
    -------
    dict of str to float
        ``echo_Inside``, ``echo_Rim``, ``echo_Around``: mean ranks; ``echo_Contrast``, around minus
        inside; ``echo_CoreContrast``, rim minus core; ``echo_Patches``, deviation of the smoothed
        ranks inside. ``firstorder_*`` inside, as pyradiomics defines them, with 16 bins.
        ``margin_*`` over 16 sectors: step of the rank across the outline, its mean, least value and
        deviation, the share of sectors without a step, and ``margin_Gradient``, how much of the
        step lies within a tenth of the radius.
    """
    inside, core = weights > 0, depth > 0.4
    rim = np.abs(depth) < 0.12
    around = (depth < -0.12) & (depth > -0.7)
    counts = weights[inside].astype(np.float64)
    values = ranks[inside].astype(np.float64)
    mean = float(np.average(values, weights=counts))
    smooth = ndimage.gaussian_filter(ranks, 3)
    outside = _mean(ranks, around, mean)
    found = {
        "echo_Inside": mean,
        "echo_Rim": _mean(ranks, rim, mean),
        "echo_Around": outside,
        "echo_Contrast": outside - mean,
        "echo_CoreContrast": _mean(ranks, rim, mean) - _mean(ranks, core, mean),
        "echo_Patches": float(np.sqrt(np.average((smooth[inside] - mean) ** 2, weights=counts))),
    }
    return found | _first_order(values, counts, mean) | _margin(ranks, depth)


def measure_behind(region: Region) -> dict[str, float]:
    """Measure shadow or enhancement: what lies below the region against what lies beside that.

    Returns
    -------
    dict of str to float
        ``behind_Enhancement``: mean rank below the middle of the region minus that at the same
        depth beside it; negative in a shadow. ``behind_EdgeShadow``: mean below the middle minus
        mean below the two edges. ``behind_Reach``: how much of the strip, as high as the region,
        lies in the image; the others are 0 where that is nothing.
    """
    rows_in, columns_in = region.grey.shape
    top, left, bottom, right = region.box
    height, width = max(1.0, (bottom - top) * rows_in), max(1.0, (right - left) * columns_in)
    start = min(round(bottom * rows_in + max(1.0, 0.1 * height)), rows_in)
    stop = min(round(start + height), rows_in)
    reach = (stop - start) / max(1, round(height))
    names = ("behind_Enhancement", "behind_EdgeShadow", "behind_Reach")
    if stop - start < 2:
        return dict.fromkeys(names, 0.0)
    profile = _ranked(region.grey[start:stop]).mean(axis=0)
    middle = (left + right) / 2 * columns_in
    away = np.abs(np.arange(columns_in) + 0.5 - middle) / (width / 2)
    below, edges = away < 0.6, (away >= 0.75) & (away < 1.1)
    beside = (away >= 1.3) & (away < 2.5)
    centre = _mean(profile, below, 0.5)
    enhancement = centre - _mean(profile, beside, centre)
    return dict(
        zip(names, (enhancement, centre - _mean(profile, edges, centre), reach), strict=True)
    )


def _first_order(values: NDArray, counts: NDArray, mean: float) -> dict[str, float]:
    histogram, _ = np.histogram(values, bins=_N_BINS, range=(0, 1), weights=counts)
    share = histogram / histogram.sum()
    low, lower, upper, high = np.quantile(values, [0.1, 0.25, 0.75, 0.9])
    spread = math.sqrt(float(np.average((values - mean) ** 2, weights=counts))) + _SMALL
    centred = (values - mean) / spread
    robust = values[(values >= low) & (values <= high)]
    return {
        "firstorder_10Percentile": float(low),
        "firstorder_90Percentile": float(high),
        "firstorder_InterquartileRange": float(upper - lower),
        "firstorder_RobustMeanAbsoluteDeviation": float(np.abs(robust - robust.mean()).mean()),
        "firstorder_Entropy": float(-(share * np.log2(share + 1e-16)).sum()),
        "firstorder_Uniformity": float((share**2).sum()),
        "firstorder_Skewness": float(np.average(centred**3, weights=counts)),
        "firstorder_Kurtosis": float(np.average(centred**4, weights=counts)),
    }


def _margin(ranks: NDArray[np.float32], depth: NDArray) -> dict[str, float]:
    rows, columns = np.nonzero(np.abs(depth) < 0.4)
    middle = np.argwhere(depth > 0).mean(axis=0)
    angles = np.arctan2(rows - middle[0], columns - middle[1])
    sector = ((angles + np.pi) / (2 * np.pi) * _N_SECTORS).astype(int) % _N_SECTORS
    here, level = depth[rows, columns], ranks[rows, columns].astype(np.float64)

    def step(low: float, high: float) -> NDArray[np.float64]:
        """Mean rank outside minus mean rank inside, by sector; NaN where a side is missing."""
        sides = [(here < -low) & (here > -high), (here > low) & (here < high)]
        sums = [np.bincount(sector[s], level[s], _N_SECTORS) for s in sides]
        numbers = [np.bincount(sector[s], minlength=_N_SECTORS) for s in sides]
        outer, inner = (
            np.where(n > 0, total / np.maximum(n, 1), np.nan)
            for total, n in zip(sums, numbers, strict=True)
        )
        return np.asarray(outer - inner)

    wide, near = step(0.1, 0.4), step(0.0, 0.1)
    wide = wide[np.isfinite(wide)] if np.isfinite(wide).any() else np.zeros(1)
    near = near[np.isfinite(near)] if np.isfinite(near).any() else np.zeros(1)
    return {
        "margin_Step": float(wide.mean()),
        "margin_LeastStep": float(wide.min()),
        "margin_StepDeviation": float(wide.std()),
        "margin_ShareWithoutStep": float((wide < 0.1).mean()),
        "margin_Gradient": float(near.mean()),
    }


def _mean(values: NDArray, where: NDArray, otherwise: float) -> float:
    return float(values[where].mean()) if where.any() else otherwise
