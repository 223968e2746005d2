"""Masks: the door through which every form in which callers hand them over comes in.

Everything else sees `Masks`, a sequence of bool arrays (H, W), True in the lesion; and only this
module brings a mask to the size of a network and a network's answer back to that of the image.
"""

import os
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from hybridus.inputs.images import Images
from hybridus.inputs.mask_forms import (
    Masks,
    Size,
    array_of,
    depth,
    inspect_mask,
    masks_from_array,
    masks_from_list,
    plane_of,
    read_mask,
    unwrap,
    warn_of,
)
from hybridus.inputs.resizing import Resize, resize_image

__all__ = [
    "Masks",
    "as_masks",
    "check_pair",
    "check_pairs",
    "inspect_mask",
    "read_mask",
    "resize_mask",
    "restore_mask",
]


def as_masks(
    masks: Any, images: Images | None = None, *, constant_ok: bool = False, name: str = "masks"
) -> Masks:
    """Read any accepted form of masks.

    Parameters
    ----------
    masks : array of shape (n, H, W) or (n, H, W, 1); list of masks; or sequence of paths
        Of any type, nonzero is lesion, so several lesions may be numbered. The items of a list (or
        of an object array or pandas Series) are arrays of shape (H, W) or (H, W, 1), paths, Pillow
        pictures, or lists of these: several masks of one image, which are OR-ed. Where `images`
        have a known shape, masks may also be flattened rows, (n, H * W). Files: see `read_mask`.
    images : Images, optional
        The images that the masks belong to; checked by `check_pairs`.
    constant_ok : bool, default=False
        Whether a 1-D array of numbers means one constant mask for each of `images`, which is what
        scikit-learn's own checks send with flattened rows. Otherwise labels are an error.
    name : str, default="masks"
        What error messages call the masks.

    Returns
    -------
    Masks
        A sequence of bool arrays (H, W). Arrays are checked here, files when they are read.

    Raises
    ------
    ValueError
        Where labels are given instead of masks, where numbers or sizes do not match, and where
        shapes or values are not those of masks: NaN, negative, fractions (probabilities), several
        values but no zero (1 for background and 2 for lesion), 255 beside 1 (pixels to ignore),
        or grey levels that make edges or pictures and not areas (left by smoothing or resizing,
        which would swell the lesion). The message names the index.

    Warns
    -----
    UserWarning
        Where masks of `images` that are not bool are lesion in every pixel, or along their whole
        border but not inside. (Masks alone may be predictions, which are what they are.)
    sklearn.exceptions.DataConversionWarning
        Where constant masks come as a column of shape (n, 1).

    Examples
    --------
    >>> import numpy as np
    >>> masks = as_masks(np.array([[[0, 1], [2, 0]], [[0, 0], [0, 255]]]))
    >>> len(masks), masks.shape
    (2, (2, 2))
    >>> masks[0]
    array([[False,  True],
           [ True, False]])
    >>> as_masks([[np.eye(2), np.fliplr(np.eye(2))]])[0].all()  # two masks of one image
    np.True_
    """
    if not isinstance(masks, Masks):
        masks = unwrap(masks)
        if isinstance(masks, str | bytes | os.PathLike | Image.Image):
            raise ValueError(f"expected several {name}, got the single {masks!r}; pass a list")
        if isinstance(masks, list | tuple) and any(depth(mask) >= 2 for mask in masks):
            masks = masks_from_list(masks, name)
        else:
            array = array_of(masks, name)
            if array.ndim == 0:
                raise ValueError(
                    f"expected {name} as an array of shape (n, H, W), a list or paths, got "
                    f"{type(masks).__name__} {masks!r:.60}; what can be gone through but once, or "
                    "in no order, make a list"
                )
            masks = masks_from_array(array, images, constant_ok, name)
    if images is not None:
        check_pairs(images, masks, name=name)
        if masks.doubts:
            first, doubt = min(masks.doubts.items())
            warn_of(
                f"{name}[{first}] is {doubt} ({len(masks.doubts)} of {len(masks)} {name} look odd; "
                "bool masks are not questioned)"
            )
    return masks


def check_pairs(images: Images, masks: Masks, *, name: str = "masks") -> None:
    """Check that every image has one mask of its size, as far as that is known without decoding.

    Files have no known size yet: call `check_pair` once image and mask are read.

    Raises
    ------
    ValueError
        If numbers differ, or the size of a mask from that of its image; the message names the
        index and both sizes.
    """
    if len(images) != len(masks):
        raise ValueError(
            f"got {len(masks)} {name} for {len(images)} images; expected one for each (an image "
            "without lesion has an empty mask)"
        )
    if images.paths is not None:
        return
    for i, size in enumerate(masks.sizes):
        if size is not None:
            shape = images.shape if images.shape is not None else images[i].shape
            _check_size(i, shape, size, name)


def check_pair(index: int, image: NDArray, mask: NDArray, *, name: str = "masks") -> None:
    """Check that a mask has the size of its image, both decoded.

    Raises
    ------
    ValueError
        If the sizes differ; the message names `index` and both sizes.
    """
    _check_size(index, image.shape, mask.shape, name)


def resize_mask(
    mask: NDArray[np.bool_], size: Size, *, resize: Resize = "stretch"
) -> NDArray[np.bool_]:
    """Resize a mask as `hybridus.inputs.resizing.resize_image` resizes its image.

    Each new pixel is lesion where at least half of what Pillow's antialiased bilinear filter sees
    there is lesion. A lesion much smaller than a new pixel vanishes.

    Parameters
    ----------
    mask : array of shape (H, W), bool
    size : tuple of int
        Height and width in pixels.
    resize : {"stretch", "pad"}
        "stretch" fills the size; "pad" keeps the aspect ratio and centres the mask on background.

    Returns
    -------
    array of shape `size`, bool

    Examples
    --------
    >>> import numpy as np
    >>> mask = np.zeros((8, 4), dtype=bool)
    >>> mask[:4] = True
    >>> resize_mask(mask, (4, 4), resize="pad").astype(int)
    array([[0, 1, 1, 0],
           [0, 1, 1, 0],
           [0, 0, 0, 0],
           [0, 0, 0, 0]])
    """
    mask = plane_of(mask, "mask")
    grey = (mask != 0).astype(np.uint8) * np.uint8(255)
    return resize_image(grey, size, resize=resize) >= 128


def restore_mask(
    probabilities: ArrayLike, original_size: Size, *, resize: Resize = "stretch"
) -> NDArray[np.float32]:
    """Bring a network's probabilities back to the size of the image: the inverse of `resize_mask`.

    Parameters
    ----------
    probabilities : array of shape (h, w), float
        At the size of the network.
    original_size : tuple of int
        Height and width of the image in pixels.
    resize : {"stretch", "pad"}
        How the image was brought to (h, w); with "pad" the margin is cut off first.

    Returns
    -------
    array of shape `original_size`, float32
        Interpolated by Pillow's antialiased bilinear filter; threshold it for a mask.

    Examples
    --------
    >>> import numpy as np
    >>> restore_mask(np.array([[0.0, 1.0], [0.0, 1.0]]), (2, 4)).round(2).tolist()
    [[0.0, 0.25, 0.75, 1.0], [0.0, 0.25, 0.75, 1.0]]
    """
    plane = plane_of(probabilities, "probabilities").astype(np.float32)
    size = (int(original_size[0]), int(original_size[1]))
    if resize == "pad":
        # The margin is read off resize_image itself, so that the two cannot disagree.
        inside = resize_image(np.full(size, 255, np.uint8), plane.shape, resize="pad") != 0
        rows, columns = inside.any(axis=1), inside.any(axis=0)
        plane = np.ascontiguousarray(plane[rows][:, columns])
    return resize_image(plane, size)


def _check_size(index: int, image: tuple[int, ...], mask: tuple[int, ...], name: str) -> None:
    if image[:2] != mask[:2]:
        raise ValueError(
            f"{name}[{index}] is {mask[1]} x {mask[0]} pixels (width x height), but "
            f"images[{index}] is {image[1]} x {image[0]}; a mask has the size of its image"
        )
