"""Image filters as transformers: `ContrastEqualizer`, `SpeckleFilter` and `BorderCropper`.

Knows how grey levels are changed before an estimator sees them, and that what goes out has the
form of what came in, so that the filters stand anywhere before an estimator in a Pipeline.
"""

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import KW_ONLY
from numbers import Integral, Real
from typing import Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from hybridus._environment import n_threads
from hybridus._sklearn import (
    Interval,
    Options,
    StrOptions,
    _check_feature_names_in,
    _fit_context,
    _wrap_data_with_container,
)
from hybridus.estimators.fitting import all_or_nothing
from hybridus.estimators.on_images import OnImages
from hybridus.estimators.parameters import with_parameters
from hybridus.inputs.borders import inside_border
from hybridus.inputs.images import tag_images, validate_images
from hybridus.inputs.resizing import map_ahead, resize_image, to_grey

_SMALLEST_TILE = 8  # pixels a side: the grey levels of a smaller tile make no histogram
_SIXTEEN_BIT_STEP = 1 / 65535
_FLAT = 1e-10  # variance below one step of a 16-bit image: nothing but rounding


class _ImageFilter(OnImages, TransformerMixin, BaseEstimator, auto_wrap_output_keys=None):  # type: ignore[call-arg]
    """Apply ``_filter`` to images one by one and hand them back in the form they came in.

    scikit-learn does not wrap `transform` here: rows become DataFrames where `set_output` asks for
    it, images, for which a DataFrame has no place, stay arrays.
    """

    @abstractmethod
    def _filter(self, image: NDArray[np.float32]) -> NDArray:
        """Filter one image in 0..1, (H, W) or (H, W, 3)."""

    @all_or_nothing
    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any = None) -> Self:
        """Check parameters and images; nothing is learned from them.

        Parameters
        ----------
        X : images
            See `hybridus.inputs.images.as_images`. Files are not read yet.
        y : ignored

        Returns
        -------
        self

        Raises
        ------
        ValueError
            For images on a wrong scale or of a wrong shape.
        """
        images = validate_images(self, X, reset=True, image_shape=self.image_shape)
        self.image_shape_ = images.shape
        return self

    def transform(self, X: Any) -> Any:
        """Filter images.

        Parameters
        ----------
        X : images
            See `hybridus.inputs.images.as_images`. They need no `fit` before.

        Returns
        -------
        array of float32 in 0..1
            Of the shape of the images: (n, H, W), (n, H, W, 1), (n, H, W, 3), or flattened rows
            (n, n_values) for flattened rows. Files and images of different sizes give an object
            array of shape (n,) that holds an image, (H, W) or (H, W, 3), in each place: 4 bytes a
            value, all in memory.

        Raises
        ------
        ValueError
            For images on a wrong scale or of a wrong shape, and files that cannot be decoded.
        """
        self._validate_params()
        images = validate_images(self, X, reset=False, image_shape=self.image_shape)

        def filtered(i: int) -> NDArray[np.float32]:
            image = np.clip(images[i] / np.float32(255), 0, 1)
            return np.clip(self._filter(image), 0, 1).astype(np.float32, copy=False)

        results = map_ahead(filtered, range(len(images)), n_threads=n_threads())
        if images.shape is None:
            return _listed(results, len(images))
        batch = np.empty((len(images), *images.shape), np.float32)
        for place, image in zip(batch, results, strict=True):
            place[...] = image if image.ndim == place.ndim else image[..., None]
        if not images.flattened:
            return batch
        return _wrap_data_with_container("transform", batch.reshape(len(batch), -1), X, self)

    def fit_transform(self, X: Any, y: Any = None) -> Any:
        """Check parameters and images, and filter the images; see `transform`."""
        return self.fit(X, y).transform(X)

    def get_feature_names_out(self, input_features: Any = None) -> NDArray[np.object_] | None:
        """Names of the values of an image: those that `fit` saw, else x0, x1 and so on.

        Parameters
        ----------
        input_features : array of str, optional
            Checked against the names and the number of values that `fit` saw.

        Returns
        -------
        array of str, shape (n_values,), or None
            None where `fit` saw files or images of different sizes.

        Raises
        ------
        NotFittedError
            Before `fit`.
        """
        check_is_fitted(self, "image_shape_")
        return None if self.image_shape_ is None else _check_feature_names_in(self, input_features)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tag_images(self, tags)
        tags.transformer_tags.preserves_dtype = ["float32"]
        tags.requires_fit = False
        return tags


@with_parameters
class ContrastEqualizer(_ImageFilter):
    """Even out contrast over an image: contrast-limited adaptive histogram equalization (CLAHE).

    Grey levels are spread over 0..1 by the histogram of the tile around each pixel, so that weak
    structures show in dark and in bright regions. Colour images keep hue and saturation: their
    value (the largest channel) is equalized.

    Parameters
    ----------
    clip_limit : float, default=0.01
        Largest share of a tile's pixels, in (0, 1], that may count for one of 256 grey levels:
        what is above is spread over the other levels. Larger values give more contrast and more
        noise; 1 is no limit.
    tile_grid : int or (int, int), default=(8, 8)
        Tiles down and across an image. Tiles are at least 8 pixels high and wide, or as the image
        where that is smaller, so small images have fewer.

    Attributes
    ----------
    image_shape_ : tuple of int or None
        Shape of every image that `fit` saw; None for files and images of different sizes.

    Notes
    -----
    scikit-image's `equalize_adapthist` (Zuiderveld 1994, Graphics Gems IV) does the work; it
    stretches every image to the full range 0..1. An image of a single grey level is left alone.

    A Pipeline filters anew in every fold and candidate. Nothing is learned from the images, so
    filtering them once before a search leaks nothing and saves that time.

    Examples
    --------
    >>> import numpy as np
    >>> from hybridus.estimators.preprocessing import ContrastEqualizer
    >>> dim = np.random.default_rng(0).uniform(0.4, 0.5, (2, 64, 64))
    >>> equalized = ContrastEqualizer().fit_transform(dim)
    >>> equalized.shape, float(equalized.min()), float(equalized.max())
    ((2, 64, 64), 0.0, 1.0)
    """

    clip_limit: float = 0.01
    _: KW_ONLY
    tile_grid: int | tuple[int, int] = (8, 8)

    _parameter_constraints: ClassVar[dict] = {
        "clip_limit": [Interval(Real, 0, 1, closed="right")],
        "tile_grid": [Interval(Integral, 1, None, closed="left"), tuple, list],
    }

    def _validate_params(self) -> None:
        super()._validate_params()
        self._tiles()

    def _tiles(self) -> tuple[int, int]:
        grid: Any = self.tile_grid
        if isinstance(grid, Integral):
            return int(grid), int(grid)
        if len(grid) != 2 or not all(isinstance(n, Integral) and int(n) >= 1 for n in grid):
            raise ValueError(
                f"tile_grid={grid!r}: expected a whole number of tiles, 1 or more, or two of them, "
                "down and across"
            )
        return int(grid[0]), int(grid[1])

    def _filter(self, image: NDArray[np.float32]) -> NDArray:
        from skimage.exposure import equalize_adapthist

        value = image if image.ndim == 2 else image.max(axis=-1)
        if np.ptp(value) < _SIXTEEN_BIT_STEP:  # scikit-image would make it white
            return image
        tile = tuple(
            min(side, max(_SMALLEST_TILE, -(-side // n_tiles)))
            for side, n_tiles in zip(value.shape, self._tiles(), strict=True)
        )
        return equalize_adapthist(image, kernel_size=tile, clip_limit=self.clip_limit)


@with_parameters
class SpeckleFilter(_ImageFilter):
    """Smooth the speckle of coherent imaging (ultrasound, radar) and keep edges.

    How strong the speckle of an image is, is measured in the image itself: the median over all
    windows of the local standard deviation, most of an ultrasound scan being speckle. So every
    method has the same two parameters. Channels of a colour image are filtered one by one.

    Parameters
    ----------
    method : {"lee", "median", "bilateral", "tv"}, default="lee"
        "lee" moves a pixel towards the mean of its window, all the way where the window varies no
        more than speckle does, relative to its mean, and less where it holds an edge (Lee 1980,
        doi:10.1109/TPAMI.1980.4766994, multiplicative noise); "median" takes the median of the
        window; "bilateral" averages over the window's pixels of like brightness, within about
        twice the speckle's standard deviation (Tomasi and Manduchi 1998,
        doi:10.1109/ICCV.1998.710815); "tv" minimises total variation (Chambolle 2004,
        doi:10.1023/B:JMIV.0000011325.36760.1e) so that spots of the speckle's contrast vanish
        where they are smaller than the window.
    size : int, default=5
        Height and width of the window in pixels, odd, 3 to 31; about twice the size of a speckle.
        Larger windows smooth more.

    Attributes
    ----------
    image_shape_ : tuple of int or None
        Shape of every image that `fit` saw; None for files and images of different sizes.

    Notes
    -----
    Time grows with `size` for "median" and "bilateral", hardly for the others. On a scan of
    384 x 288 pixels with size 5 and one thread: "lee" 6 ms, "tv" 20, "bilateral" 20, "median" 35.

    A Pipeline filters anew in every fold and candidate. Nothing is learned from the images, so
    filtering them once before a search leaks nothing and saves that time.

    Examples
    --------
    >>> import numpy as np
    >>> from hybridus.estimators.preprocessing import SpeckleFilter
    >>> speckled = 0.4 * np.random.default_rng(0).rayleigh(0.5, (1, 64, 64))
    >>> smooth = SpeckleFilter("lee", size=5).fit_transform(speckled)
    >>> bool(smooth.std() < 0.5 * speckled.std())
    True
    """

    method: Literal["lee", "median", "bilateral", "tv"] = "lee"
    _: KW_ONLY
    size: int = 5

    _parameter_constraints: ClassVar[dict] = {
        "method": [StrOptions({"lee", "median", "bilateral", "tv"})],
        "size": [Options(Integral, set(range(3, 32, 2)))],
    }

    def _filter(self, image: NDArray[np.float32]) -> NDArray:
        smooth = _METHODS[self.method]
        if image.ndim == 2:
            return smooth(image, self.size)
        return np.stack([smooth(image[..., c], self.size) for c in range(3)], axis=-1)


@with_parameters
class BorderCropper(_ImageFilter):
    """Cut plain borders off images: rows and columns of one grey value, as screens leave them.

    Where a border is, and how wide, tells the scanner and not the patient. What lies inside is
    stretched to the size that the image had, so that the form of the data stays what it is; a
    border on one side alone so changes the aspect by as much.

    Parameters
    ----------
    margin : float, default=0.0
        Share of height and width that is cut off further on each side, 0 to 0.4, against text and
        marks at the edge.

    Attributes
    ----------
    image_shape_ : tuple of int or None
        Shape of every image that `fit` saw; None for files and images of different sizes.

    Notes
    -----
    A row or column is border where its grey values differ by 12 of 255 or less, up to the first
    that does not. Where less than 30 % of the height or width would be left, nothing is cut.

    Examples
    --------
    >>> import numpy as np
    >>> from hybridus.estimators.preprocessing import BorderCropper
    >>> scan = np.zeros((1, 60, 60), np.uint8)
    >>> scan[0, 15:45, 15:45] = np.arange(0, 240, 8)
    >>> float(BorderCropper().fit_transform(scan)[0, 0].max())
    0.9098039269447327
    """

    margin: float = 0.0

    _parameter_constraints: ClassVar[dict] = {"margin": [Interval(Real, 0, 0.4, closed="both")]}

    def _filter(self, image: NDArray[np.float32]) -> NDArray:
        size = image.shape[:2]
        inside = image[inside_border(to_grey(image) * np.float32(255))]
        cut = [int(self.margin * length) for length in inside.shape[:2]]
        rows, columns = (slice(k, n - k) for k, n in zip(cut, inside.shape[:2], strict=True))
        inside = inside[rows, columns]
        return image if inside.shape == image.shape else resize_image(inside, size)


def _lee(image: NDArray, size: int) -> NDArray:
    mean, variance = _local_moments(image, size)
    varied = variance > _FLAT
    relative = np.divide(variance, mean**2, out=np.zeros_like(mean), where=varied)
    speckle = _median_of(relative[varied])
    # The share of the window's variance that is not speckle.
    signal = 1 - np.divide(speckle, relative, out=np.ones_like(mean), where=varied)
    return mean + np.maximum(signal, 0) * (image - mean)


def _median(image: NDArray, size: int) -> NDArray:
    return ndimage.median_filter(image, size)


def _bilateral(image: NDArray, size: int) -> NDArray:
    from skimage.restoration import denoise_bilateral

    if not (noise := _noise(image, size)):
        return image
    smoothed = denoise_bilateral(
        image, win_size=size, sigma_color=2 * noise, sigma_spatial=size / 4, mode="symmetric"
    )
    return smoothed.reshape(image.shape)  # it drops axes of length 1


def _total_variation(image: NDArray, size: int) -> NDArray:
    from skimage.restoration import denoise_tv_chambolle

    if not (noise := _noise(image, size)):
        return image
    # A disc vanishes where the weight is half its contrast times its radius.
    return denoise_tv_chambolle(image, weight=noise * size / 4)


_METHODS: dict[str, Callable[[NDArray, int], NDArray]] = {
    "lee": _lee,
    "median": _median,
    "bilateral": _bilateral,
    "tv": _total_variation,
}


def _noise(image: NDArray, size: int) -> float:
    """Estimate the standard deviation of an image's speckle; 0 for a flat image."""
    variance = _local_moments(image, size)[1]
    return float(np.sqrt(_median_of(variance[variance > _FLAT])))


def _local_moments(image: NDArray, size: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and variance of the window around each pixel; running sums need double precision."""
    pixels = image.astype(np.float64)
    mean = ndimage.uniform_filter(pixels, size)
    return mean, ndimage.uniform_filter(pixels**2, size) - mean**2


def _median_of(values: NDArray) -> float:
    return float(np.median(values)) if values.size else 0.0


def _listed(images: Any, n_images: int) -> NDArray[np.object_]:
    listed = np.empty(n_images, dtype=object)
    for i, image in enumerate(images):
        listed[i] = image
    return listed
