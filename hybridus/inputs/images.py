"""Images: the one module that knows every form in which callers hand over images.

Everything else sees `Images`, a sequence of canonical images: uint8 where the values are k/255 of
full scale, else unclipped float32 on the 0..255 scale; (H, W) when grey, (H, W, 3) when colour.
"""

import hashlib
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence, Set, ValuesView
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from hybridus.inputs.decoding import as_seen, decode, decoded_size
from hybridus.inputs.dicom import dicom_size, read_dicom
from hybridus.inputs.dicom_paths import DICOM_SUFFIXES, Reading, is_dicom, split_reading
from hybridus.inputs.files import FileStamp, stamp_file
from hybridus.inputs.values import ValueRange, canonical, check_scale, check_value_range

# Counts up when the pixels of some file are read otherwise than before, so that nothing that was
# learned from the old ones is found again.
_READING = 2
_LONGEST_FREE_ROW = 1024
_FORMS = (
    "expected images of shape (n, H, W), (n, H, W, 1) or (n, H, W, 3), flattened rows, a list of "
    "images or paths"
)


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
    value_range : tuple of float or None
        The values of black and white that were declared.
    """

    def __init__(
        self,
        read: Callable[[int], NDArray],
        n_images: int,
        *,
        shape: tuple[int, ...] | None = None,
        paths: list[str] | None = None,
        flattened: bool = False,
        value_range: ValueRange | None = None,
    ) -> None:
        self._read = read
        self._n_images = n_images
        self.shape = shape
        self.paths = paths
        self.flattened = flattened
        self.value_range = value_range

    def __len__(self) -> int:
        return self._n_images

    def __getitem__(self, index):
        if isinstance(index, slice):
            return [self._read(i) for i in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(f"image {index} of {len(self)}")
        return self._read(index % len(self))

    @property
    def stamps(self) -> list[FileStamp | None]:
        """Stamp of each file as it is now and as it is read here; None for those that are absent.

        Files with equal stamps have equal canonical images.
        """
        reading = f"{_READING}/{self.value_range}"
        readings = [split_reading(path) for path in self.paths or ()]
        return [stamp_file(each.file, f"{reading}/{each.options}") for each in readings]

    @property
    def n_features(self) -> int | None:
        """Values in one image, None where images differ in shape."""
        return None if self.shape is None else math.prod(self.shape)


def as_images(
    X: Any,
    *,
    image_shape: tuple[int, ...] | None = None,
    value_range: Sequence[float] | None = None,
) -> Images:
    """Read any accepted form of images.

    Parameters
    ----------
    X : array of shape (n, H, W), (n, H, W, 1), (n, H, W, 3) or (n, n_values); or list of images; \
            or sequence of paths
        Rows are flattened images: a square number of values is a grey image, three times a square a
        colour image, and any other number up to 1024 a grey image of height 1. Images of a list may
        differ in size and may be Pillow pictures. Paths may be str or Path, in a list, an array or
        a pandas Series. `Images` are handed on as they are.
    image_shape : tuple of int, optional
        Shape of the images whose flattened rows are given: (H, W), (H, W, 1) or (H, W, 3).
    value_range : (low, high), optional
        The values of black and white, in arrays and in files; (0, 4095) for 12 bits. By default
        bool is 0/1, uint8 0..255, uint16 0..65535, other integers 0..255 and floats 0..1. Where
        neither the type nor the values show that scale, the image is refused: see Raises. Of DICOM
        files it takes the place of the window: what lies beyond is black or white.

    Returns
    -------
    Images
        A sequence of canonical images. Arrays are checked here, files when they are read.

    Raises
    ------
    ValueError
        Where X has none of these forms, or shapes are not those of images; where values are not
        finite or lie outside their range (floats may overshoot it by 5 %); where no `value_range`
        is declared and the largest value of an image of integers, of more than 8 bits, lies below
        a quarter of full scale, but not at zero: 8 to 14 bits in uint16 would become a black
        picture; where a file cannot be read. The message names the index or the path.

    Examples
    --------
    >>> import numpy as np
    >>> images = as_images(np.zeros((5, 48, 64, 3), dtype="uint8"))
    >>> len(images), images.shape, images[0].shape  # equal channels are grey
    (5, (48, 64, 3), (48, 64))
    >>> twelve_bits = np.array([[[0, 1365, 2730, 4095]]], dtype="uint16")
    >>> as_images(twelve_bits, value_range=(0, 4095))[0].tolist()
    [[0, 85, 170, 255]]
    """
    if isinstance(X, Images):
        return X
    return _read_form(_unwrap(X), image_shape, check_value_range(value_range))


def validate_images(
    estimator: Any,
    X: Any,
    *,
    reset: bool,
    image_shape: tuple[int, ...] | None = None,
) -> Images:
    """Read the images that an estimator was given and keep its ``n_features_in_``.

    The estimator's parameter ``value_range``, if it has one, says what is black and white.
    ``n_features_in_`` is the number of values of an image where that is fixed, otherwise the
    attribute is absent. Flattened rows go through `sklearn.utils.validation.validate_data`, with
    scikit-learn's own errors and feature names; images in their own shape may change size between
    `fit` and `predict`.
    """
    from sklearn.utils.validation import validate_data

    X = _unwrap(X)
    value_range = getattr(estimator, "value_range", None)
    if _holds_rows(X):
        X = validate_data(estimator, X, reset=reset, ensure_all_finite=False)
        return as_images(X, image_shape=image_shape, value_range=value_range)
    images = as_images(X, image_shape=image_shape, value_range=value_range)
    if reset:
        for name in ("feature_names_in_", "n_features_in_"):
            if hasattr(estimator, name):
                delattr(estimator, name)
        if images.n_features is not None:
            estimator.n_features_in_ = images.n_features
    return images


def images_as_seen_by(estimator: Any, X: Any) -> Images:
    """Read images as an estimator does, by its ``image_shape`` and ``value_range``.

    Parameters
    ----------
    estimator : estimator
        Of a search, the one that it fits counts, of a pipeline the first step; without either
        parameter images are read as `as_images` reads them.
    X : images

    Returns
    -------
    Images

    Raises
    ------
    ValueError
        See `as_images`.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.pipeline import make_pipeline
    >>> from hybridus import SpeckleFilter, UNetSegmenter
    >>> from hybridus.inputs.images import images_as_seen_by
    >>> model = make_pipeline(SpeckleFilter(value_range=(0, 4095)), UNetSegmenter())
    >>> images_as_seen_by(model, np.full((1, 8, 8), 1365, "uint16"))[0].max().item()
    85
    """
    while True:
        if getattr(estimator, "steps", None):
            kept = [step for _, step in estimator.steps if step not in (None, "passthrough")]
            estimator = kept[0] if kept else None
        elif hasattr(estimator, "value_range") or not hasattr(estimator, "estimator"):
            break
        else:
            estimator = getattr(estimator, "best_estimator_", estimator.estimator)
    return as_images(
        X,
        image_shape=getattr(estimator, "image_shape", None),
        value_range=getattr(estimator, "value_range", None),
    )


def tag_images(estimator: Any, tags: Any) -> None:
    """Tell scikit-learn what an estimator takes that reads its X with `validate_images`.

    Parameters
    ----------
    estimator : estimator
        Whose ``value_range`` decides whether values may be negative.
    tags : sklearn.utils.Tags
        Changed in place.
    """
    low = (getattr(estimator, "value_range", None) or (0,))[0]
    tags.input_tags.positive_only = not (isinstance(low, Real) and low < 0)
    tags.input_tags.three_d_array = True


def read_image(
    path: str | os.PathLike, *, name: str = "image", value_range: Sequence[float] | None = None
) -> NDArray:
    """Decode one file into a canonical image.

    Colour, grey, 1-bit, palette, 16-bit and float files are read; transparent pixels are laid on
    black; a photograph is turned upright by its EXIF orientation. Values are those of `as_images`.
    DICOM files are known by their bytes; see `hybridus.inputs.dicom.read_dicom`.

    Raises
    ------
    ImportError
        For a DICOM file where pydicom is not installed.
    ValueError
        Where the file is absent, cannot be decoded, holds several frames, or its values lie on
        another scale.
    """
    declared = check_value_range(value_range)
    reading = _dicom_reading(path, name)
    if reading is not None:
        return read_dicom(reading, name=name, declared=declared)
    picture = decode(path, name=name).picture
    name = f"{name}: {os.fspath(path)!r}"
    pixels = _pixels(picture)
    _check_image(pixels, name, declared)
    return canonical(pixels, declared)


def image_size(path: str | os.PathLike, *, name: str = "image") -> tuple[int, int]:
    """Read height and width of what `read_image` gives, from the header of the file.

    Raises
    ------
    ImportError
        For a DICOM file where pydicom is not installed.
    ValueError
        Where the file is absent or no picture; the message begins with `name` and the path.
    """
    reading = _dicom_reading(path, name)
    return decoded_size(path, name=name) if reading is None else dicom_size(reading, name=name)


def _dicom_reading(path: str | os.PathLike, name: str) -> Reading | None:
    """Say what is to be read of a DICOM file; None for all other files."""
    reading = split_reading(path)
    if is_dicom(reading.file) or (
        os.path.splitext(reading.file)[1].lower() in DICOM_SUFFIXES and os.path.isfile(reading.file)
    ):
        return reading
    if reading.options and os.path.exists(reading.file):
        raise ValueError(
            f"{name}: {reading.file!r} is no DICOM file, of which alone {reading.options!r} can be "
            "read"
        )
    return None


def content_key(image: NDArray) -> bytes:
    """Digest of a canonical image, 16 bytes: equal for equal pixels of equal type and shape."""
    digest = hashlib.sha256(repr((image.dtype.str, image.shape)).encode())
    digest.update(np.ascontiguousarray(image).data)
    return digest.digest()[:16]


def _unwrap(X: Any) -> Any:
    """Turn pandas and polars columns into arrays, and raise for what holds no images at all."""
    if hasattr(X, "iloc"):
        X = X.to_numpy() if X.ndim == 1 or X.shape[1] == 1 else X
    elif hasattr(X, "to_numpy") and getattr(X, "ndim", None) == 1:
        X = X.to_numpy()
    elif _is_other_sequence(X):
        X = list(X)
    if isinstance(X, np.ndarray) and X.ndim == 2 and X.shape[1] == 1 and _listed(X[:, 0]):
        return X[:, 0]
    if problem := _what_is_wrong(X):
        raise ValueError(f"{_FORMS}; got {problem}")
    _check_unmasked(X, "images")
    return X


def _is_other_sequence(X: Any) -> bool:
    return isinstance(X, Sequence) and not isinstance(
        X, Images | list | tuple | str | bytes | bytearray | memoryview
    )


def _what_is_wrong(X: Any) -> str | None:
    """Say what X is and what to do, where it is nothing that could hold images."""
    if isinstance(X, str | os.PathLike):
        return (
            f"the single path {os.fspath(X)!r}; pass a list of paths (load_image_folder lists a "
            "folder)"
        )
    if isinstance(X, bytes | bytearray) or hasattr(X, "read"):
        return (
            f"{type(X).__name__}, a file's content; pass a list of pictures: "
            "[PIL.Image.open(file), ...]"
        )
    if isinstance(X, Image.Image):
        return "a single picture; pass a list of pictures"
    if hasattr(X, "toarray"):
        return f"sparse {type(X).__name__}; images are dense: pass X.toarray()"
    if isinstance(X, Mapping):
        return f"{type(X).__name__} with {len(X)} entries; pass the images in it as a list"
    if isinstance(X, set | frozenset):
        return f"{type(X).__name__}, which has no order; pass a list, such as sorted(X)"
    if isinstance(X, Iterator | Set | ValuesView):
        return f"{type(X).__name__}, which cannot be read by index; pass list(X)"
    if isinstance(X, list | tuple) and not X:
        return f"an empty {type(X).__name__}"
    if X is None or isinstance(X, bool | int | float | complex):
        return repr(X)
    return None


def _check_unmasked(array: Any, name: str) -> None:
    if np.ma.is_masked(array):
        raise ValueError(
            f"{name}: got a masked array with {np.ma.count_masked(array)} masked values, and an "
            "image has none; fill them with filled(0)"
        )


def _is_path(value: Any) -> bool:
    return isinstance(value, str | bytes | os.PathLike)


def _is_image(value: Any) -> bool:
    return isinstance(value, Image.Image) or getattr(value, "ndim", 0) >= 2


def _listed(X: Any) -> str | None:
    """Say whether X lists "paths" or "images"; None where it does neither."""
    if not (
        isinstance(X, list | tuple)
        or (isinstance(X, np.ndarray) and X.ndim == 1 and X.dtype.kind in "OUST")
    ):
        return None
    if any(_is_path(item) for item in X):
        return "paths"
    return "images" if any(_is_image(item) for item in X) else None


def _holds_rows(X: Any) -> bool:
    """Whether X is what scikit-learn calls data: everything that is not images or paths."""
    if isinstance(X, Images) or _listed(X):
        return False
    return (X.ndim if hasattr(X, "ndim") else _array(X).ndim) <= 2


def _array(X: Any, name: str = "images") -> NDArray:
    try:
        return np.asarray(X)
    except Exception as error:  # ragged lists, and what tensors of other libraries raise
        raise ValueError(f"{name} cannot be read as an array ({error}); {_FORMS}") from error


def _read_form(X: Any, image_shape: tuple[int, ...] | None, declared: ValueRange | None) -> Images:
    listed = _listed(X)
    if listed == "paths":
        return _images_from_paths(X, declared)
    if listed == "images":
        return _images_from_list(X, declared)
    array = _array(X)
    if array.dtype == object:
        array = _array(array.tolist())
    if array.ndim == 2:
        return _images_from_rows(array, image_shape, declared)
    return _images_from_array(array, declared)


def _images_from_paths(X: Any, declared: ValueRange | None) -> Images:
    for i, path in enumerate(X):
        if not _is_path(path):
            raise ValueError(f"images[{i}] is {_what(path)}, expected a path, as others are")
        if isinstance(path, bytes) and b"\0" in path:
            raise ValueError(
                f"images[{i}] is {len(path)} bytes of a file's content, expected a path; pass "
                "PIL.Image.open(io.BytesIO(content))"
            )
    paths = [os.fsdecode(path) for path in X]
    return Images(
        lambda i: read_image(paths[i], name=f"images[{i}]", value_range=declared),
        len(paths),
        paths=list(paths),
        value_range=declared,
    )


def _images_from_list(X: Any, declared: ValueRange | None) -> Images:
    pixels = []
    for i, item in enumerate(X):
        name = f"images[{i}]"
        if isinstance(item, Image.Image):
            image = _pixels(as_seen(item, name=name).picture)
        elif hasattr(item, "__array__") or isinstance(item, list | tuple):
            _check_unmasked(item, name)
            image = _array(item, name)
        else:
            raise ValueError(f"{name} is {_what(item)}, expected an array or a picture")
        _check_image(image, name, declared)
        pixels.append(image)
    shapes = {image.shape for image in pixels}
    return Images(
        lambda i: canonical(pixels[i], declared),
        len(pixels),
        shape=shapes.pop() if len(shapes) == 1 else None,
        value_range=declared,
    )


def _what(item: Any) -> str:
    if hasattr(item, "shape"):
        return f"an array of shape {tuple(item.shape)}"
    return f"{type(item).__name__} {item!r:.60}"


def _images_from_rows(
    rows: NDArray, image_shape: tuple[int, ...] | None, declared: ValueRange | None
) -> Images:
    if rows.size == 0:
        raise ValueError(f"expected at least one image with one value, got shape {rows.shape}")
    shape = _shape_of_row(rows.shape[1], image_shape)
    check_scale(rows, lambda i: f"images[{i}]", declared)
    return Images(
        lambda i: canonical(rows[i].reshape(shape), declared),
        len(rows),
        shape=shape,
        flattened=True,
        value_range=declared,
    )


def _images_from_array(array: NDArray, declared: ValueRange | None) -> Images:
    if array.ndim == 3 and array.shape[-1] in (1, 3):
        raise ValueError(
            f"an array of shape {array.shape} looks like a single "
            f"{'colour' if array.shape[-1] == 3 else 'grey'} image; pass image[None] "
            "for one image, or images of shape (n, H, W), (n, H, W, 1) or (n, H, W, 3)"
        )
    if array.ndim not in (3, 4):
        raise ValueError(
            f"{_FORMS}; got an array of shape {array.shape} and type {array.dtype}. Reshape your "
            "data: pass a list of images where there is one image a row"
        )
    if array.size == 0:
        raise ValueError(f"expected at least one image with one pixel, got shape {array.shape}")
    _check_shape(array[0], "images[0]")
    check_scale(array, lambda i: f"images[{i}]", declared)
    return Images(
        lambda i: canonical(array[i], declared),
        len(array),
        shape=array.shape[1:],
        value_range=declared,
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
        hint = ""
        if image.ndim == 3 and image.shape[2] == 4:
            hint = "; drop the alpha channel with image[..., :3]"
        elif image.ndim == 3 and image.shape[0] in (1, 3):
            hint = "; bring channels to the end with np.moveaxis(image, 0, -1)"
        raise ValueError(
            f"{name} has shape {image.shape}, expected (H, W), (H, W, 1) or (H, W, 3){hint}"
        )
    if image.size == 0:
        raise ValueError(f"{name} is empty: shape {image.shape}")


def _check_image(image: NDArray, name: str, declared: ValueRange | None) -> None:
    _check_shape(image, name)
    check_scale(image[None], lambda _: name, declared)


def _pixels(picture: Image.Image) -> NDArray:
    """Pixels of an upright picture, with palettes looked up and transparency laid on black."""
    if picture.mode.startswith(("I", "F")) or (
        picture.mode == "L" and "transparency" not in picture.info
    ):
        return np.asarray(picture)
    if picture.mode == "1":
        return np.asarray(picture.convert("L"))
    if picture.mode == "La":  # Pillow knows no way from it to RGBA
        picture = picture.convert("LA")
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        black = Image.new("RGBA", picture.size, (0, 0, 0, 255))
        picture = Image.alpha_composite(black, picture)
    return np.asarray(picture.convert("RGB"))
