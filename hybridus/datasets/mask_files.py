"""Mask files of a data set: read at the size of their images, and what is odd is said once."""

import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hybridus.datasets.listing import object_array
from hybridus.inputs.decoding import decoded_size
from hybridus.inputs.masks import inspect_mask


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
        lesion = np.zeros(decoded_size(root / image, name="image"), dtype=bool)
        for file in files:
            mask, doubt = inspect_mask(root / file)
            _check_size(image, lesion, file, mask, root)
            lesion |= mask
            if doubt:
                doubtful.setdefault(doubt, []).append(file)
        lesions.append(lesion)
    for doubt, found in doubtful.items():
        warnings.warn(
            f"{root}: {len(found)} mask(s) (first: {found[0]!r}): each is {doubt}",
            UserWarning,
            stacklevel=3,
        )
    return object_array(lesions)


def _check_size(image: str, lesion: NDArray, file: str, mask: NDArray, root: Path) -> None:
    if mask.shape == lesion.shape:
        return
    turned = mask.shape == lesion.shape[::-1]
    raise ValueError(
        f"{root}: {image!r} is {lesion.shape[1]} x {lesion.shape[0]} pixels (width x height), but "
        f"its mask {file!r} is {mask.shape[1]} x {mask.shape[0]}; they must be of one size"
        + (" (does one of them carry an EXIF orientation that the other lacks?)" if turned else "")
    )
