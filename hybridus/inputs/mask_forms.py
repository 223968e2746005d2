"""Forms of masks: what callers may hand over, told apart, and what is wrong with all else."""

import os
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from hybridus.inputs.decoding import as_seen, decode
from hybridus.inputs.images import Images
from hybridus.inputs.lesion_pixels import Lesion, check_values, doubt_of, lesion_in

_READ_AS_THEY_ARE = (list, tuple, str, bytes, bytearray, memoryview)

Size = tuple[int, int]


class Masks(Sequence[NDArray[np.bool_]]):
    """Masks of any accepted form, read one at a time as bool arrays (H, W), True in the lesion.

    Build it with `as_masks`. ``masks[i]`` decodes mask i into a new array; nothing is kept, so
    memory does not grow with the number of files.

    Attributes
    ----------
    sizes : list of (H, W) or None
        Size of each mask in pixels, None for those in files.
    paths : list of str or None
        The files behind the masks; None for masks in memory, and where an image has several files.
    doubts : dict of int to str
        What is odd about the outline of masks in memory that are not bool, by their index.
    """

    def __init__(
        self,
        read: Callable[[int], NDArray[np.bool_]],
        sizes: Sequence[Size | None],
        *,
        paths: list[str] | None = None,
        doubts: Mapping[int, str] | None = None,
    ) -> None:
        self._read = read
        self.sizes = list(sizes)
        self.paths = paths
        self.doubts = dict(doubts or {})

    def __len__(self) -> int:
        return len(self.sizes)

    def __getitem__(self, index):
        if isinstance(index, slice):
            return [self._read(i) for i in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(f"mask {index} of {len(self)}")
        return self._read(index % len(self))

    @property
    def shape(self) -> Size | None:
        """Common shape (H, W) of all masks, None where they differ or stand in files."""
        sizes = set(self.sizes)
        return sizes.pop() if len(sizes) == 1 else None


def read_mask(path: str | os.PathLike, *, name: str = "mask") -> NDArray[np.bool_]:
    """Decode one file into a mask.

    A pixel is lesion where it is not zero; in a colour file where any colour is not zero, alpha
    does not count. Where compression has changed the values (JPEG, lossy WebP) it is lesion from
    128 of 255 upwards. A file with an EXIF orientation is turned upright, as images are.

    Returns
    -------
    array of shape (H, W), bool

    Raises
    ------
    ValueError
        Where the file is absent, cannot be decoded or holds several frames, and where nonzero
        would not be the lesion: see `as_masks`; in files also where only alpha carries a shape,
        a palette is incomplete, no pixel is black, or a lossy file is dark or grey. The message
        names the file, what was seen and the way out.

    Warns
    -----
    UserWarning
        Where the mask is lesion in every pixel, or along its whole border but not inside, and
        where the colours of a palette say another thing than its numbers (colours count).
    """
    mask, doubt = inspect_mask(path, name=name)
    warn_of(doubt and f"{name}: {os.fspath(path)!r} is {doubt}")
    return mask


def inspect_mask(path: str | os.PathLike, *, name: str = "mask") -> Lesion:
    """Do as `read_mask`, but return what it would warn of, for readers of many files.

    Returns
    -------
    Lesion
        The mask and the doubt about it, a text that goes on after "this file is "; often empty.
    """
    return lesion_in(decode(path, name=name, kind="a mask"), f"{name}: {os.fspath(path)!r}")


def warn_of(doubt: str) -> None:
    """Warn of a doubt, where there is one."""
    if doubt:
        warnings.warn(doubt, UserWarning, stacklevel=3)


def unwrap(masks: Any) -> Any:
    """Turn pandas objects into arrays and arrays of objects or paths into lists."""
    if hasattr(masks, "iloc") or (hasattr(masks, "to_numpy") and getattr(masks, "ndim", 0) == 1):
        masks = masks.to_numpy()
    elif isinstance(masks, Sequence) and not isinstance(masks, _READ_AS_THEY_ARE):
        masks = list(masks)
    if isinstance(masks, np.ndarray) and masks.dtype.kind in "OUS":
        return masks[:, 0].tolist() if masks.ndim == 2 and masks.shape[1] == 1 else masks.tolist()
    return masks


def depth(item: Any) -> int:
    """Count the dimensions of `item`; a path and a picture are planes."""
    if isinstance(item, str | bytes | os.PathLike | Image.Image):
        return 2
    if isinstance(item, list | tuple):
        return 1 + (depth(item[0]) if len(item) else 0)
    return getattr(item, "ndim", 0)


def _is_plane(item: Any) -> bool:
    """Whether `item` is a mask by itself; nested lists of numbers are left to NumPy."""
    return not isinstance(item, list | tuple) and depth(item) >= 2


def masks_from_list(items: Sequence[Any], name: str) -> Masks:
    """Read a list of masks: arrays, pictures, paths, or lists of those of one image."""
    parts, sizes = [], []
    for i, item in enumerate(items):
        several = isinstance(item, list | tuple) and len(item) > 0 and _is_plane(item[0])
        parts.append(
            [_source(part, f"{name}[{i}][{j}]") for j, part in enumerate(item)]
            if several
            else [_source(item, f"{name}[{i}]")]
        )
        sizes.append(_common_size(parts[i], f"{name}[{i}]"))

    def read(i: int) -> NDArray[np.bool_]:
        mask = _decoded(parts[i][0], f"{name}[{i}]")
        for part in parts[i][1:]:
            other = _decoded(part, f"{name}[{i}]")
            _check_same_size(mask.shape, other.shape, f"{name}[{i}]")
            mask |= other
        return mask

    paths = [part for one in parts for part in one if isinstance(part, str)]
    single = len(paths) == len(parts) and all(len(one) == 1 for one in parts)
    return Masks(read, sizes, paths=paths if single else None, doubts=_doubts(parts))


def _source(item: Any, name: str) -> str | NDArray:
    """Return the path of a mask that stands in a file, else its checked pixels."""
    if isinstance(item, str | bytes | os.PathLike):
        return os.fsdecode(item)
    if isinstance(item, Image.Image):
        return _opened_mask(item, name)
    if depth(item) < 2:
        raise ValueError(
            f"{name} is {type(item).__name__} {item!r:.60}, expected an array of shape (H, W), a "
            "path, or a list of masks of one image (np.zeros((H, W)) where there is no lesion)"
        )
    pixels = plane_of(item, name)
    check_values(pixels, name)
    return pixels


def _opened_mask(picture: Image.Image, name: str) -> NDArray[np.bool_]:
    mask, doubt = lesion_in(as_seen(picture, name=name, kind="a mask"), name)
    warn_of(doubt and f"{name} is {doubt}")
    return mask


def _decoded(source: str | NDArray, name: str) -> NDArray[np.bool_]:
    return read_mask(source, name=name) if isinstance(source, str) else source != 0


def _common_size(parts: list[str | NDArray], name: str) -> Size | None:
    shapes = [part.shape for part in parts if isinstance(part, np.ndarray)]
    for shape in shapes[1:]:
        _check_same_size(shapes[0], shape, name)
    return shapes[0] if shapes else None


def _doubts(parts: Iterable[Sequence[str | NDArray]]) -> dict[int, str]:
    """Find arrays of an odd outline. What is bool says itself what is lesion."""
    return {
        i: doubt
        for i, one in enumerate(parts)
        for part in one
        if isinstance(part, np.ndarray) and part.dtype != bool and (doubt := doubt_of(part))
    }


def masks_from_array(array: NDArray, images: Images | None, constant_ok: bool, name: str) -> Masks:
    """Read an array of masks, flattened rows of masks, or numbers that mean constant masks."""
    if array.size == 0:
        raise ValueError(f"expected at least one mask with one pixel, got shape {array.shape}")
    rows = None if images is None or images.paths is not None else images.shape
    if array.ndim <= 2:
        if constant_ok and rows is not None and _is_column(array, rows):
            return _constant_masks(array, rows, name)
        array = _masks_from_rows(array, rows, name)
    if array.ndim == 4 and array.shape[3] == 1:
        array = array[..., 0]
    if array.ndim != 3:
        hint = (
            ". Of colour masks take masks.max(axis=-1), of one-hot classes masks[..., k]"
            if array.ndim == 4
            else ""
        )
        raise ValueError(
            f"{name} have shape {array.shape}, expected (n, H, W) or (n, H, W, 1), a list of masks "
            f"or paths{hint}"
        )
    for i, mask in enumerate(array):
        check_values(mask, f"{name}[{i}]")
    sizes = [array.shape[1:]] * len(array)
    return Masks(lambda i: array[i] != 0, sizes, doubts=_doubts([mask] for mask in array))


def _masks_from_rows(array: NDArray, shape: tuple[int, ...] | None, name: str) -> NDArray:
    if array.ndim < 2:
        raise ValueError(
            f"masks expected, got labels: {name} have shape {array.shape} with values such as "
            f"{array.ravel()[:3].tolist()}; give an array of shape (n, H, W), a list of masks or "
            "paths"
        )
    if shape is None:
        raise ValueError(
            f"{name} have shape {array.shape}, expected (n, H, W) or (n, H, W, 1), a list of masks "
            "or paths; pass mask[None] for one mask"
        )
    if array.shape[1] != shape[0] * shape[1]:
        raise ValueError(
            f"{name} have shape {array.shape}: rows of {array.shape[1]} values, but images of "
            f"{shape[1]} x {shape[0]} pixels (width x height) need {shape[0] * shape[1]}"
        )
    return array.reshape(len(array), *shape[:2])


def _is_column(array: NDArray, shape: tuple[int, ...]) -> bool:
    one_pixel = shape[0] * shape[1] == 1
    return array.ndim == 1 or (array.ndim == 2 and array.shape[1] == 1 and not one_pixel)


def _constant_masks(values: NDArray, shape: tuple[int, ...], name: str) -> Masks:
    from sklearn.utils.validation import column_or_1d

    values = column_or_1d(values, warn=True)
    if values.dtype.kind not in "biuf" or not np.isfinite(values).all():
        raise ValueError(
            f"{name} hold NaN, infinity or no numbers; expected one number an image, nonzero where "
            "all of it is lesion"
        )
    size = (shape[0], shape[1])
    return Masks(lambda i: np.full(size, values[i] != 0), [size] * len(values))


def array_of(item: Any, name: str) -> NDArray:
    """Return `item` as an array of which nothing is masked."""
    if np.ma.is_masked(item):
        raise ValueError(
            f"{name} is a masked array with masked values, which are neither lesion nor none; fill "
            "them first: masks.filled(0)"
        )
    try:
        return np.asarray(item)
    except ValueError as error:
        raise ValueError(f"{name} cannot be read as an array ({error})") from None


def plane_of(item: Any, name: str) -> NDArray:
    """Return `item` as an array (H, W)."""
    array = array_of(item, name)
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[..., 0]
    if array.ndim != 2:
        hint = (
            ". Of a colour mask take mask.max(axis=-1); several masks of one image are a list"
            if array.ndim == 3
            else ""
        )
        raise ValueError(f"{name} has shape {array.shape}, expected (H, W) or (H, W, 1){hint}")
    if array.size == 0:
        raise ValueError(f"{name} is empty: shape {array.shape}")
    return array


def _check_same_size(first: tuple[int, ...], other: tuple[int, ...], name: str) -> None:
    if first != other:
        raise ValueError(
            f"{name} is a list of masks of different sizes, {first[1]} x {first[0]} and "
            f"{other[1]} x {other[0]} pixels (width x height); several masks of one image must "
            "be of one size"
        )
