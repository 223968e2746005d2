"""Resizing: canonical images become a batch, resized, widened to RGB last and read ahead."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Resize = Literal["stretch", "pad"]


def resize_image(image: NDArray, size: tuple[int, int], *, resize: Resize = "stretch") -> NDArray:
    """Resize a canonical image by Pillow's antialiased bilinear filter.

    Parameters
    ----------
    image : array of shape (H, W) or (H, W, 3), uint8 or float32
    size : tuple of int
        Height and width in pixels.
    resize : {"stretch", "pad"}
        "stretch" fills the size; "pad" keeps the aspect ratio and centres the image on black.

    Returns
    -------
    array of the same type, shape (height, width) or (height, width, 3)
    """
    height, width = image.shape[:2]
    if (height, width) == tuple(size):
        return image
    if resize == "stretch":
        return _stretch(image, size)
    scale = min(size[0] / height, size[1] / width)
    inner = (
        min(size[0], max(1, round(height * scale))),
        min(size[1], max(1, round(width * scale))),
    )
    padded = np.zeros((*size, *image.shape[2:]), dtype=image.dtype)
    top, left = (size[0] - inner[0]) // 2, (size[1] - inner[1]) // 2
    padded[top : top + inner[0], left : left + inner[1]] = _stretch(image, inner)
    return padded


def widen(images: Sequence[NDArray]) -> NDArray:
    """Stack canonical images of one size into an RGB batch.

    Returns
    -------
    array of shape (n, H, W, 3)
        uint8 where all images are, else float32; grey images are repeated over the channels.
    """
    dtype = np.uint8 if all(image.dtype == np.uint8 for image in images) else np.float32
    batch = np.empty((len(images), *images[0].shape[:2], 3), dtype=dtype)
    for row, image in zip(batch, images, strict=True):
        if image.ndim == 3:
            row[...] = image
            continue
        for channel in range(3):  # five times faster than one broadcast assignment
            row[..., channel] = image
    return batch


def to_grey(image: NDArray) -> NDArray:
    """Luminance of a canonical image by ITU-R BT.601, as Pillow weighs it."""
    if image.ndim == 2:
        return image
    grey = image @ np.array([0.299, 0.587, 0.114])
    return np.rint(grey).astype(np.uint8) if image.dtype == np.uint8 else grey.astype(np.float32)


def map_ahead(
    function: Callable[[Any], Any], items: Iterable[Any], *, n_threads: int, ahead: int = 64
) -> Iterator[Any]:
    """Yield ``function(item)`` in order, computed by threads up to `ahead` items in advance.

    Decoding and resizing release the interpreter lock, so they overlap with whatever the caller
    does with the results. One thread means none: everything runs in the caller.
    """
    if n_threads <= 1:
        yield from map(function, items)
        return
    with ThreadPoolExecutor(n_threads, thread_name_prefix="hybridus-images") as pool:
        pending: deque = deque()
        try:
            for item in items:
                pending.append(pool.submit(function, item))
                if len(pending) >= ahead:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()


def _stretch(image: NDArray, size: tuple[int, int]) -> NDArray:
    target = (size[1], size[0])
    if image.dtype == np.uint8 or image.ndim == 2:
        return np.asarray(Image.fromarray(image).resize(target, Image.Resampling.BILINEAR))
    planes = [_stretch(np.ascontiguousarray(image[..., c]), size) for c in range(3)]
    return np.stack(planes, axis=-1)
