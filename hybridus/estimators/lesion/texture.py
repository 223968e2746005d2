"""Texture of a region: co-occurrence of grey levels and local binary patterns, of ranks."""

import numpy as np
from numpy.typing import NDArray
from skimage.feature import graycomatrix, graycoprops, local_binary_pattern

N_LEVELS = 16
_DISTANCES = (1, 4)  # pixels of the square that `look_closer` gives
_ANGLES = (0, np.pi / 4, np.pi / 2, 3 * np.pi / 4)
_PATTERNS = ((8, 1), (8, 3))  # points on a circle, radius in pixels

# pyradiomics's names of what scikit-image computes.
_PROPERTIES = {
    "Contrast": "contrast",
    "DifferenceAverage": "dissimilarity",
    "Idm": "homogeneity",
    "JointEnergy": "ASM",
    "Correlation": "correlation",
    "JointEntropy": "entropy",
}


def measure_texture(ranks: NDArray[np.float32], inside: NDArray[np.bool_]) -> dict[str, float]:
    """Measure the texture inside a region.

    Parameters
    ----------
    ranks : array of shape (H, W), float32, 0..1
    inside : array of shape (H, W), bool

    Returns
    -------
    dict of str to float
        ``glcm_NAME_DISTANCE``: properties of the grey level co-occurrence matrix of 16 levels, by
        pyradiomics's names and definitions, mean over four directions, of pairs of which both lie
        inside; ``lbp_RADIUS_PATTERN``: shares of the ten uniform local binary patterns of 8 points.

    References
    ----------
    Haralick, Shanmugam and Dinstein 1973, IEEE Transactions on Systems, Man and Cybernetics 3:610;
    Ojala, Pietikainen and Maenpaa 2002, IEEE Transactions on Pattern Analysis 24:971.
    """
    levels = np.minimum((ranks * N_LEVELS).astype(np.uint8), N_LEVELS - 1) + 1
    levels[~inside] = 0
    counts = graycomatrix(levels, _DISTANCES, _ANGLES, levels=N_LEVELS + 1, symmetric=True)
    counts = counts[1:, 1:].astype(np.float64)
    counts += counts.sum(axis=(0, 1), keepdims=True) == 0  # no pair: all alike
    shares = counts / counts.sum(axis=(0, 1), keepdims=True)
    found = {}
    for name, prop in _PROPERTIES.items():
        by_distance = graycoprops(shares, prop).mean(axis=1)
        for distance, value in zip(_DISTANCES, by_distance, strict=True):
            found[f"glcm_{name}_{distance}"] = float(value)
    eight_bit = (ranks * 255).astype(np.uint8)
    for points, radius in _PATTERNS:
        patterns = local_binary_pattern(eight_bit, points, radius, method="uniform")
        bins = np.bincount(patterns[inside].astype(int), minlength=points + 2)
        for k, share in enumerate(bins / max(bins.sum(), 1)):
            found[f"lbp_{radius}_{k}"] = float(share)
    return found
