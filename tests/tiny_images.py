"""Images and masks small enough for tests that train."""

import numpy as np


def discs(n_images, size=32, seed=0, width=None):
    """Bright discs on noise, 8-bit, and their masks."""
    rng = np.random.default_rng(seed)
    shape = (size, width or size)
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    centres = rng.uniform(0.25, 0.75, (n_images, 2)) * shape
    radii = rng.uniform(0.12, 0.25, n_images) * size
    masks = (
        np.hypot(rows - centres[:, :1, None], columns - centres[:, 1:, None])
        < (radii[:, None, None])
    )
    images = rng.uniform(0, 0.5, masks.shape) + 0.4 * masks
    return np.rint(255 * images).astype(np.uint8), masks


def boxed(items):
    """Put items into an array of objects."""
    array = np.empty(len(items), dtype=object)
    array[:] = items
    return array
