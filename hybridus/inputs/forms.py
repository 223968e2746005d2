"""Forms of images: what callers may hand over, told apart, and what is wrong with all else."""

import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence, Set, ValuesView
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from hybridus.inputs.decoding import as_seen
from hybridus.inputs.dicom_paths import split_reading
from hybridus.inputs.files import FileStamp, stamp_file
from hybridus.inputs.image_files import check_image, check_shape, pixels_of, read_image
from hybridus.inputs.values import ValueRange, canonical, check_scale

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

    def take(self, indices: Sequence[int]) -> "Images":
        """Return some of the images as what pickles: files by their paths, others by pixels.

        Relative paths become absolute, for processes that work in another folder.
        """
        files = self._read
        if not isinstance(files, _Files):
            return Images(_Listed([self[i] for i in indices]), len(indices))
        paths = [os.path.join(os.getcwd(), files.paths[i]) for i in indices]
        numbers = [files.numbers[i] for i in indices]
        return Images(
            _Files(paths, numbers, self.value_range),
            len(paths),
            paths=paths,
            value_range=self.value_range,
        )

    @property
    def n_features(self) -> int | None:
        """Values in one image, None where images differ in shape."""
        return None if self.shape is None else math.prod(self.shape)


@dataclass(frozen=True)
class _Listed:
    """Canonical images in memory, read by their places."""

    pixels: Sequence[NDArray]

    def __call__(self, i: int) -> NDArray:
        return self.pixels[i]


@dataclass(frozen=True)
class _Files:
    """Files read by their places; errors call them by the `numbers` that they have elsewhere."""

    paths: Sequence[str]
    numbers: Sequence[int]
    declared: ValueRange | None

    def __call__(self, i: int) -> NDArray:
        name = f"images[{self.numbers[i]}]"
        return read_image(self.paths[i], name=name, value_range=self.declared)


def unwrap(X: Any) -> Any:
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


def holds_rows(X: Any) -> bool:
    """Whether X is what scikit-learn calls data: everything that is not images or paths."""
    if isinstance(X, Images) or _listed(X):
        return False
    return (X.ndim if hasattr(X, "ndim") else _array(X).ndim) <= 2


def _array(X: Any, name: str = "images") -> NDArray:
    try:
        return np.asarray(X)
    except Exception as error:  # ragged lists, and what tensors of other libraries raise
        raise ValueError(f"{name} cannot be read as an array ({error}); {_FORMS}") from error


def read_form(X: Any, image_shape: tuple[int, ...] | None, declared: ValueRange | None) -> Images:
    """Read what `unwrap` gave as images, whatever form it has."""
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
        _Files(paths, range(len(paths)), declared),
        len(paths),
        paths=list(paths),
        value_range=declared,
    )


def _images_from_list(X: Any, declared: ValueRange | None) -> Images:
    pixels = []
    for i, item in enumerate(X):
        name = f"images[{i}]"
        if isinstance(item, Image.Image):
            image = pixels_of(as_seen(item, name=name).picture)
        elif hasattr(item, "__array__") or isinstance(item, list | tuple):
            _check_unmasked(item, name)
            image = _array(item, name)
        else:
            raise ValueError(f"{name} is {_what(item)}, expected an array or a picture")
        check_image(image, name, declared)
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
    check_shape(array[0], "images[0]")
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
