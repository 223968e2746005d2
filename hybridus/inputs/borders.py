"""Borders: rows and columns of one grey value around an image, as padding and screens leave."""

import numpy as np
from numpy.typing import NDArray

_BORDER = 12  # a row with a smaller range of grey values is border: JPEG leaves some noise
_LEAST_INSIDE = 0.3  # of height and width; what is smaller is a mark on an empty picture


def inside_border(plane: NDArray) -> tuple[slice, slice]:
    """Tell which rows and columns lie inside a plain border; all where little would be left.

    Parameters
    ----------
    plane : array of shape (H, W), 0..255

    Examples
    --------
    >>> import numpy as np
    >>> from hybridus.inputs.borders import inside_border
    >>> scan = np.zeros((60, 90), np.uint8)
    >>> scan[10:50, 20:80] = 100 + np.arange(60)
    >>> inside_border(scan)
    (slice(10, 50, None), slice(20, 80, None))
    """
    inside = []
    for axis in (1, 0):
        spread = plane.max(axis=axis).astype(float) - plane.min(axis=axis)
        varied = np.flatnonzero(spread > _BORDER)
        if not len(varied) or varied[-1] + 1 - varied[0] < _LEAST_INSIDE * len(spread):
            return slice(0, plane.shape[0]), slice(0, plane.shape[1])
        inside.append(slice(int(varied[0]), int(varied[-1]) + 1))
    return inside[0], inside[1]


def without_border(plane: NDArray) -> NDArray:
    """Cut a plain border off a grey image, as a view; see `inside_border`."""
    return plane[inside_border(plane)]
