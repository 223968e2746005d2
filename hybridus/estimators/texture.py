"""`TextureFeatures`: what was measured in images before networks were, as a transformer."""

import functools
import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import KW_ONLY
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy import fft, stats
from skimage.feature import hog
from skimage.filters import gabor_kernel
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from hybridus._sklearn import _check_feature_names_in, _fit_context
from hybridus.estimators.fitting import all_or_nothing
from hybridus.estimators.lesion.texture import measure_texture
from hybridus.estimators.on_images import OnImages
from hybridus.estimators.parameters import with_parameters
from hybridus.estimators.stored_rows import rows_of, stack
from hybridus.inputs.images import tag_images, validate_images
from hybridus.inputs.labels import check_any_labels
from hybridus.inputs.resizing import resize_image, to_grey
from hybridus.store.rows import FeatureStore, store_of

_VERSION = 1  # raised whenever a change of ours changes a row
_SIDE = 128  # pixels of the square that is measured
_CELL = 16  # pixels of a cell of gradients
_ORIENTATIONS = 9
_FREQUENCIES = (0.05, 0.1, 0.2, 0.35)  # cycles a pixel
_N_DIRECTIONS = 4
_PERCENTILES = (5, 25, 50, 75, 95)


@with_parameters
class TextureFeatures(OnImages, TransformerMixin, BaseEstimator):
    """Measure grey levels and texture of whole images, without a network.

    The measure of what a network adds: handcrafted features with the same heads, in the same
    folds. Images are brought to 128 x 128 grey pixels first.

    Parameters
    ----------
    kinds : list of {"intensity", "glcm", "lbp", "hog", "gabor"}, default=("intensity", "glcm", \
"lbp", "hog", "gabor")
        "intensity": mean, standard deviation, skewness, kurtosis, entropy and percentiles of the
        grey levels. "glcm": properties of the co-occurrence matrix of 16 levels at distances of 1
        and 4 pixels, mean over four directions (Haralick et al. 1973,
        doi:10.1109/TSMC.1973.4309314). "lbp": shares of uniform local binary patterns of 8 points
        at radii 1 and 3 (Ojala et al. 2002, doi:10.1109/TPAMI.2002.1017623). "hog": histograms of
        oriented gradients, 9 orientations in cells of 16 pixels, blocks of 2 x 2 cells (Dalal and
        Triggs 2005, doi:10.1109/CVPR.2005.177). "gabor": mean and deviation of the response to
        Gabor filters of 4 frequencies in 4 directions (Manjunath and Ma 1996,
        doi:10.1109/34.531803).
    cache : bool, path or FeatureStore, default=True
        Where rows are kept; see `DeepFeatureExtractor`.

    Attributes
    ----------
    kinds_ : tuple of str
        What is measured.

    Examples
    --------
    >>> from hybridus import TextureFeatures, make_breast_phantoms
    >>> phantoms = make_breast_phantoms(3, image_size=64, random_state=0)
    >>> TextureFeatures(kinds=["glcm", "lbp"], cache=False).fit_transform(phantoms.images).shape
    (3, 32)
    """

    _: KW_ONLY
    kinds: Sequence[str] = ("intensity", "glcm", "lbp", "hog", "gabor")
    cache: bool | str | os.PathLike | FeatureStore = True

    _parameter_constraints: ClassVar[dict] = {
        "kinds": [list, tuple],
        "cache": ["boolean", str, os.PathLike, FeatureStore],
    }

    @all_or_nothing
    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any = None) -> "TextureFeatures":
        """Check the images; nothing is learned from them.

        Parameters
        ----------
        X : images
            See `hybridus.inputs.images.as_images`. Files are not read yet.
        y : ignored
            But for labels of which some are missing or of another kind than the rest.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            For images on a wrong scale or of a wrong shape, and unknown kinds.
        """
        kinds = tuple(self.kinds)
        if not kinds or len(set(kinds)) < len(kinds) or not set(kinds) <= _MEASURES.keys():
            raise ValueError(
                f"kinds={self.kinds!r}: expected one or more different ones of "
                f"{', '.join(_MEASURES)}"
            )
        validate_images(self, X, reset=True, image_shape=self.image_shape)
        check_any_labels(y)
        self.kinds_ = kinds
        return self

    def transform(self, X: Any) -> NDArray[np.float32]:
        """Measure images.

        Parameters
        ----------
        X : images
            See `hybridus.inputs.images.as_images`; files are decoded in batches.

        Returns
        -------
        array of shape (n_images, n_features), float32
        """
        check_is_fitted(self, "kinds_")
        images = validate_images(self, X, reset=False, image_shape=self.image_shape)
        told = json.dumps(["texture", _VERSION, self.kinds_])

        def compute(planes: Iterable[NDArray]) -> Iterator[NDArray[np.float32]]:
            for plane in planes:
                yield np.array([list(self._measured(plane).values())], np.float32)

        parts = rows_of(
            images,
            range(len(images)),
            prepare=_plane,
            compute=compute,
            store=store_of(self.cache),
            fingerprint=hashlib.sha256(told.encode()).hexdigest(),
        )
        return stack(parts, len(images))

    def get_feature_names_out(self, input_features: Any = None) -> NDArray[np.object_]:
        """Names of the features: kind and number, or what is measured.

        Parameters
        ----------
        input_features : array of str, optional
            Checked against the names and the number of columns that `fit` saw, and not used.

        Returns
        -------
        array of str, shape (n_features,)
        """
        check_is_fitted(self, "kinds_")
        _check_feature_names_in(self, input_features, generate_names=False)
        blank = self._measured(np.zeros((_SIDE, _SIDE), np.float32))
        return np.asarray(list(blank), dtype=object)

    def _measured(self, plane: NDArray) -> dict[str, float]:
        found: dict[str, float] = {}
        for kind in self.kinds_:
            found |= _MEASURES[kind](plane / np.float32(255))
        return found

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tag_images(self, tags)
        tags.transformer_tags.preserves_dtype = ["float32"]
        return tags


def _plane(image: NDArray) -> NDArray:
    return np.clip(to_grey(resize_image(image, (_SIDE, _SIDE))), 0, 255)


def _intensity(plane: NDArray) -> dict[str, float]:
    flat = plane.ravel().astype(np.float64)
    mean, deviation = flat.mean(), flat.std()
    centred = (flat - mean) / max(deviation, 1e-6)
    shares = np.bincount((flat * 31).astype(int), minlength=32) / flat.size
    found = {
        "intensity_mean": mean,
        "intensity_deviation": deviation,
        "intensity_skewness": (centred**3).mean(),
        "intensity_kurtosis": (centred**4).mean(),
        "intensity_entropy": stats.entropy(shares, base=2),
    }
    found |= {
        f"intensity_percentile_{k}": value
        for k, value in zip(_PERCENTILES, np.percentile(flat, _PERCENTILES), strict=True)
    }
    return {name: float(value) for name, value in found.items()}


def _glcm(plane: NDArray) -> dict[str, float]:
    return _starting_with("glcm", plane)


def _lbp(plane: NDArray) -> dict[str, float]:
    return _starting_with("lbp", plane)


def _starting_with(kind: str, plane: NDArray) -> dict[str, float]:
    found = measure_texture(plane, np.ones(plane.shape, bool))
    return {name: value for name, value in found.items() if name.startswith(kind)}


def _hog(plane: NDArray) -> dict[str, float]:
    values = hog(plane, _ORIENTATIONS, (_CELL, _CELL), (2, 2), block_norm="L2-Hys")
    return {f"hog_{k}": float(value) for k, value in enumerate(values)}


def _gabor(plane: NDArray) -> dict[str, float]:
    # Mirrored beyond the border by half a side, as far as the widest filter reaches.
    mirrored = np.pad(plane.astype(np.float64), _SIDE // 2, mode="symmetric")
    spectrum = fft.fft2(mirrored - mirrored.mean())
    found = {}
    for frequency in _FREQUENCIES:
        for k in range(_N_DIRECTIONS):
            kernel, (height, width) = _gabor_spectrum(frequency, k)
            response = fft.ifft2(spectrum * kernel)
            top, left = (_SIDE // 2 + size // 2 for size in (height, width))
            strength = np.abs(response[top : top + _SIDE, left : left + _SIDE])
            name = f"gabor_{frequency:g}_{180 * k // _N_DIRECTIONS}"
            found[f"{name}_mean"] = float(strength.mean())
            found[f"{name}_deviation"] = float(strength.std())
    return found


@functools.cache
def _gabor_spectrum(frequency: float, direction: int) -> tuple[NDArray, tuple[int, int]]:
    kernel = gabor_kernel(frequency, theta=direction * np.pi / _N_DIRECTIONS)
    return fft.fft2(kernel, (2 * _SIDE, 2 * _SIDE)), kernel.shape


_MEASURES: dict[str, Callable[[NDArray], dict[str, float]]] = {
    "intensity": _intensity,
    "glcm": _glcm,
    "lbp": _lbp,
    "hog": _hog,
    "gabor": _gabor,
}
