"""Mask files of a data set: read at the size of their images, and what is odd is said once."""

import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hybridus.datasets.listing import object_array
from hybridus.inputs.images import image_size
from hybridus.inputs.masks import Masks, inspect_mask


def read_mask_files(
    root: Path, images: Sequence[str], masks: Iterable[Sequence[str]]
) -> NDArray[np.object_]:
    """Read the masks of images that stand in files.

    Parameters
    ----------
    root : Path
        Folder below which the files lie.
    images : sequence of str
        The file of each image, relative to `root` (or absolute).
    masks : iterable of sequences of str
        The files of the masks of each image, which are OR-ed; none is an empty mask.

    Returns
    -------
    ndarray of shape (n_images,), dtype object
        Bool arrays (H, W), True in the lesion.

    Raises
    ------
    ValueError
        Where a file cannot be read, or a mask has not the size of its image.

    Warns
    -----
    UserWarning
        Once for each kind of doubt about masks, with their number and the first of them.
    """
    doubtful: dict[str, list[str]] = {}
    lesions = []
    for image, files in zip(images, masks, strict=True):
        lesion, doubts = _read_lesion(root, image, files)
        lesions.append(lesion)
        for file, doubt in doubts.items():
            doubtful.setdefault(doubt, []).append(file)
    for doubt, found in doubtful.items():
        warnings.warn(
            f"{root}: {len(found)} mask(s) (first: {found[0]!r}): each is {doubt}",
            UserWarning,
            stacklevel=3,
        )
    return object_array(lesions)


def open_mask_files(root: Path, images: Sequence[str], masks: Sequence[Sequence[str]]) -> Masks:
    """Do as `read_mask_files`, but read each mask when it is asked for, and raise only then."""
    return Masks(lambda i: _read_lesion(root, images[i], masks[i])[0], [None] * len(images))


def _read_lesion(
    root: Path, image: str, files: Sequence[str]
) -> tuple[NDArray[np.bool_], dict[str, str]]:
    """Mask of an image, and what is odd about files, by their names."""
    lesion = np.zeros(image_size(root / image, name="image"), dtype=bool)
    doubts = {}
    for file in files:
        mask, doubt = inspect_mask(root / file)
        _check_size(image, lesion, file, mask, root)
        lesion |= mask
        if doubt:
            doubts[file] = doubt
    return lesion, doubts


def _check_size(image: str, lesion: NDArray, file: str, mask: NDArray, root: Path) -> None:
    if mask.shape == lesion.shape:
        return
    turned = mask.shape == lesion.shape[::-1]
    raise ValueError(
        f"{root}: {image!r} is {lesion.shape[1]} x {lesion.shape[0]} pixels (width x height), but "
        f"its mask {file!r} is {mask.shape[1]} x {mask.shape[0]}; they must be of one size"
        + (" (does one of them carry an EXIF orientation that the other lacks?)" if turned else "")
    )
