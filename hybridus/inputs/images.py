"""What an image is: the one module that knows every form in which callers hand over images.

Everything else sees `Images`, a sequence of canonical images: uint8 where the values are k/255 of
full scale, else unclipped float32 on the 0..255 scale; (H, W) when grey, (H, W, 3) when colour.
"""

import hashlib
import math
import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from hybridus.inputs.decoding import decode, upright

# A float image may overshoot 1 a little (bicubic resizing, contrast enhancement); far above it the
# values are on another scale.
_LARGEST_FLOAT = 20.0
_LONGEST_FREE_ROW = 1024


class Images(Sequence[NDArray]):
    """Images of any accepted form, read one at a time as canonical arrays.

    Build it with `as_images`. ``images[i]`` decodes image i; nothing is kept, so memory does not
    grow with the number of files.

    Attributes
    ----------
    shape : tuple of int or None
        The declared shape of every image, ``(H, W)``, ``(H, W, 1)`` or ``(H, W, 3)``; None for
        files and for images of different shapes.
    paths : list of str or None
        The files behind the images, None for images in memory.
    flattened : bool
        Whether the images came as flattened rows.
    """

    def __init__(
        self,
        read: Callable[[int], NDArray],
        n_images: int,
        *,
        shape: tuple[int, ...] | None = None,
        paths: list[str] | None = None,
        flattened: bool = False,
    ) -> None:
        self._read = read
        self._n_images = n_images
        self.shape = shape
        self.paths = paths
        self.flattened = flattened

    def __len__(self) -> int:
        return self._n_images

    def __getitem__(self, index):
        if isinstance(index, slice):
            return [self._read(i) for i in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(f"image {index} of {len(self)}")
        return self._read(index % len(self))

    @property
    def n_features(self) -> int | None:
        """Values in one image, None where images differ in shape."""
        return None if self.shape is None else math.prod(self.shape)


def as_images(X: Any, *, image_shape: tuple[int, ...] | None = None) -> Images:
    """Read any accepted form of images.

    Parameters
    ----------
    X : array of shape (n, H, W), (n, H, W, 1), (n, H, W, 3) or (n, n_values); or list of images; \
            or sequence of paths
        bool is 0/1, uint8 0..255, uint16 0..65535, other integers 0..255 and floats 0..1. Rows are
        flattened images: a square number of values is a grey image, three times a square a colour
        image, and any other number up to 1024 a grey image of height 1. Paths may be str or Path,
        in a list, an array or a pandas Series.
    image_shape : tuple of int, optional
        Shape of the images whose flattened rows are given: (H, W), (H, W, 1) or (H, W, 3).

    Returns
    -------
    Images
        A sequence of canonical images. Arrays are checked here, files when they are read.

    Raises
    ------
    ValueError
        Where values are not finite, negative or on another scale, where shapes are not those of
        images, and where a file cannot be read; the message names the index or the path.

    Examples
    --------
    >>> import numpy as np
    >>> images = as_images(np.zeros((5, 48, 64, 3), dtype="uint8"))
    >>> len(images), images.shape, images[0].shape  # equal channels are grey
    (5, (48, 64, 3), (48, 64))
    """
    if isinstance(X, Images):
        return X
    X = _unwrap(X)
    if isinstance(X, str | bytes | os.PathLike):
        raise ValueError(
            f"expected several images, got the single path {os.fspath(X)!r}; pass a list of paths "
            "(load_image_folder lists a folder)"
        )
    if _holds_paths(X):
        return _images_from_paths(X)
    if _holds_images(X):
        return _images_from_list(X)
    array = np.asarray(X)
    if array.ndim == 2:
        return _images_from_rows(array, image_shape)
    return _images_from_array(array)


def validate_images(
    estimator: Any, X: Any, *, reset: bool, image_shape: tuple[int, ...] | None = None
) -> Images:
    """Read the images that an estimator was given and keep its ``n_features_in_``.

    ``n_features_in_`` is the number of values of an image where that is fixed, otherwise the
    attribute is absent. Flattened rows go through `sklearn.utils.validation.validate_data`, with
    scikit-learn's own errors and feature names; images in their own shape may change size between
    `fit` and `predict`.
    """
    from sklearn.utils.validation import validate_data

    X = _unwrap(X)
    if _holds_rows(X):
        X = validate_data(estimator, X, reset=reset, ensure_all_finite=False)
        return as_images(X, image_shape=image_shape)
    images = as_images(X, image_shape=image_shape)
    if reset:
        for name in ("feature_names_in_", "n_features_in_"):
            if hasattr(estimator, name):
                delattr(estimator, name)
        if images.n_features is not None:
            estimator.n_features_in_ = images.n_features
    return images


def read_image(path: str | os.PathLike, *, name: str = "image") -> NDArray:
    """Decode one file into a canonical image.

    Colour, grey, 1-bit, palette, 16-bit and float files are read; transparent pixels are laid on
    black; a photograph is turned upright by its EXIF orientation.

    Raises
    ------
    ValueError
        Where the file is absent, cannot be decoded or holds several frames.
    """
    picture = decode(path, name=name).picture
    return _canonical(_pixels(picture), f"{name}: {os.fspath(path)!r}")


def content_key(image: NDArray) -> bytes:
    """Digest of a canonical image, 16 bytes: equal for equal pixels of equal type and shape."""
    digest = hashlib.sha256(repr((image.dtype.str, image.shape)).encode())
    digest.update(np.ascontiguousarray(image).data)
    return digest.digest()[:16]


def _unwrap(X: Any) -> Any:
    """Turn a pandas Series or Index, or a one-column DataFrame of paths, into an array."""
    if hasattr(X, "iloc"):
        if X.ndim == 1:
            return X.to_numpy()
        if X.shape[1] == 1 and _is_path(_first(X.iloc[:, 0].to_numpy())):
            return X.iloc[:, 0].to_numpy()
        return X
    if hasattr(X, "to_numpy") and getattr(X, "ndim", None) == 1:
        return X.to_numpy()
    if isinstance(X, np.ndarray) and X.ndim == 2 and X.shape[1] == 1 and _is_path(_first(X[:, 0])):
        return X[:, 0]
    return X


def _first(X: Any) -> Any:
    return X[0] if len(X) else None


def _is_path(value: Any) -> bool:
    return isinstance(value, str | bytes | os.PathLike)


def _is_listing(X: Any) -> bool:
    return isinstance(X, list | tuple) or (isinstance(X, np.ndarray) and X.ndim == 1)


def _holds_paths(X: Any) -> bool:
    return _is_listing(X) and _is_path(_first(X))


def _holds_images(X: Any) -> bool:
    if not _is_listing(X):
        return False
    first = _first(X)
    return isinstance(first, Image.Image) or getattr(first, "ndim", 0) >= 2


def _holds_rows(X: Any) -> bool:
    """Whether X is what scikit-learn calls data: everything that is not images or paths."""
    if isinstance(X, Images) or _is_path(X) or _holds_paths(X) or _holds_images(X):
        return False
    return (X.ndim if hasattr(X, "ndim") else np.asarray(X).ndim) <= 2


def _images_from_paths(X: Any) -> Images:
    for i, path in enumerate(X):
        if not _is_path(path):
            raise ValueError(f"images[{i}] is {type(path).__name__} {path!r}, expected a path")
    paths = [os.fsdecode(path) for path in X]
    return Images(
        lambda i: read_image(paths[i], name=f"images[{i}]"), len(paths), paths=list(paths)
    )


def _images_from_list(X: Any) -> Images:
    pixels = [_pixels(upright(x)) if isinstance(x, Image.Image) else np.asarray(x) for x in X]
    for i, image in enumerate(pixels):
        _check_shape(image, f"images[{i}]")
        _check_values(image[None], i)
    shapes = {image.shape for image in pixels}
    return Images(
        lambda i: _canonical(pixels[i], f"images[{i}]", checked=True),
        len(pixels),
        shape=shapes.pop() if len(shapes) == 1 else None,
    )


def _images_from_rows(rows: NDArray, image_shape: tuple[int, ...] | None) -> Images:
    if rows.dtype == object:
        rows = np.asarray(rows.tolist())
    if rows.size == 0:
        raise ValueError(f"expected at least one image with one value, got shape {rows.shape}")
    shape = _shape_of_row(rows.shape[1], image_shape)
    _check_values(rows, 0)
    return Images(
        lambda i: _canonical(rows[i].reshape(shape), f"images[{i}]", checked=True),
        len(rows),
        shape=shape,
        flattened=True,
    )


def _images_from_array(array: NDArray) -> Images:
    if array.dtype == object:
        array = np.asarray(array.tolist())
    if array.ndim == 3 and array.shape[-1] == 3:
        raise ValueError(
            f"an array of shape {array.shape} looks like a single colour image; pass image[None] "
            "for one image, or images of shape (n, H, W), (n, H, W, 1) or (n, H, W, 3)"
        )
    if array.ndim not in (3, 4):
        raise ValueError(
            f"expected images of shape (n, H, W), (n, H, W, 1) or (n, H, W, 3), flattened rows, a "
            f"list of images or paths; got an array of shape {array.shape}. Reshape your data: "
            "pass a list of images where there is one image a row"
        )
    if array.size == 0:
        raise ValueError(f"expected at least one image with one pixel, got shape {array.shape}")
    _check_shape(array[0], "images[0]")
    _check_values(array, 0)
    return Images(
        lambda i: _canonical(array[i], f"images[{i}]", checked=True),
        len(array),
        shape=array.shape[1:],
    )


def _shape_of_row(n_values: int, image_shape: tuple[int, ...] | None) -> tuple[int, ...]:
    if image_shape is not None:
        shape = tuple(int(side) for side in image_shape)
        if (
            len(shape) not in (2, 3)
            or min(shape) < 1
            or (len(shape) == 3 and shape[2] not in (1, 3))
        ):
            raise ValueError(
                f"image_shape={image_shape!r}: expected (H, W), (H, W, 1) or (H, W, 3)"
            )
        if math.prod(shape) != n_values:
            raise ValueError(
                f"image_shape={image_shape!r} means {math.prod(shape)} values a row, got {n_values}"
            )
        return shape
    side = math.isqrt(n_values)
    if side * side == n_values:
        return (side, side)
    side = math.isqrt(n_values // 3)
    if 3 * side * side == n_values:
        return (side, side, 3)
    if n_values <= _LONGEST_FREE_ROW:
        return (1, n_values)
    raise ValueError(
        f"rows of {n_values} values are neither square images nor square colour images; give "
        "image_shape=(H, W) or (H, W, 3)"
    )


def _check_shape(image: NDArray, name: str) -> None:
    if image.ndim not in (2, 3) or (image.ndim == 3 and image.shape[2] not in (1, 3)):
        hint = (
            "; drop the alpha channel with image[..., :3]"
            if image.ndim == 3 and image.shape[2] == 4
            else ""
        )
        raise ValueError(
            f"{name} has shape {image.shape}, expected (H, W), (H, W, 1) or (H, W, 3){hint}"
        )
    if image.size == 0:
        raise ValueError(f"{name} is empty: shape {image.shape}")


def _check_values(array: NDArray, first: int) -> None:
    """Raise for the first image of `array`, an array of images, whose values are on no scale."""
    kind = array.dtype.kind
    if kind == "b" or (kind == "u" and array.dtype.itemsize <= 2):
        return
    if kind == "c":
        raise ValueError(f"Complex data not supported: images have type {array.dtype}")
    if kind not in "iuf":
        raise ValueError(f"images have type {array.dtype}, expected bool, integers or floats")
    axes = tuple(range(1, array.ndim))
    low, high = array.min(axis=axes), array.max(axis=axes)
    if kind == "f":
        for i in np.flatnonzero(~(np.isfinite(low) & np.isfinite(high)))[:1]:
            raise ValueError(f"images[{first + i}] contains NaN or infinity")
        for i in np.flatnonzero(low < 0)[:1]:
            raise ValueError(
                f"Negative values in data: images[{first + i}] has {low[i]:.6g}; float images lie "
                "in 0..1. Undo centring or standardisation and divide by the largest possible value"
            )
        for i in np.flatnonzero(high > _LARGEST_FLOAT)[:1]:
            raise ValueError(
                f"images[{first + i}] has values up to {high[i]:.6g}, but float images lie in "
                "0..1. Divide by 255 (8-bit) or 65535 (16-bit), or pass the integers themselves"
            )
        return
    for i in np.flatnonzero((low < 0) | (high > 255))[:1]:
        sign = "Negative values in data: " if low[i] < 0 else ""
        raise ValueError(
            f"{sign}images[{first + i}] has {array.dtype} values {low[i]}..{high[i]}, expected "
            "0..255. Use uint16 for 16-bit scans (0..65535), or floats in 0..1"
        )


def _canonical(pixels: NDArray, name: str, *, checked: bool = False) -> NDArray:
    """Bring pixels of any accepted type and shape to the canonical form."""
    if not checked:
        _check_shape(pixels, name)
        try:
            _check_values(pixels[None], 0)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None
    if pixels.ndim == 3 and (
        pixels.shape[2] == 1
        or (
            np.array_equal(pixels[..., 0], pixels[..., 1])
            and np.array_equal(pixels[..., 0], pixels[..., 2])
        )
    ):
        pixels = pixels[..., 0]
    kind, itemsize = pixels.dtype.kind, pixels.dtype.itemsize
    if kind == "b":
        return pixels.astype(np.uint8) * np.uint8(255)
    if kind == "u" and itemsize == 2:
        return _scaled(pixels / 257.0, 0.0)
    if kind in "iu":
        return np.ascontiguousarray(pixels, dtype=np.uint8)
    return _scaled(pixels.astype(np.float64) * 255.0, 2.0 * float(np.finfo(pixels.dtype).eps))


def _scaled(values: NDArray, tolerance: float) -> NDArray:
    """Values on the 0..255 scale: as uint8 where all are whole within rounding, else as float32."""
    whole = np.rint(values)
    if whole.max() <= 255 and np.all(np.abs(values - whole) <= tolerance * whole):
        return whole.astype(np.uint8)
    return values.astype(np.float32)


def _pixels(picture: Image.Image) -> NDArray:
    """Pixels of an upright picture, with palettes looked up and transparency laid on black."""
    if picture.mode.startswith("I"):
        pixels = np.asarray(picture)
        if pixels.dtype.itemsize > 2 and pixels.min() >= 0 and pixels.max() <= 65535:
            pixels = pixels.astype(np.uint16)
        return pixels
    if picture.mode in ("L", "F") and "transparency" not in picture.info:
        return np.asarray(picture)
    if picture.mode == "1":
        return np.asarray(picture.convert("L"))
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        black = Image.new("RGBA", picture.size, (0, 0, 0, 255))
        picture = Image.alpha_composite(black, picture)
    return np.asarray(picture.convert("RGB"))
