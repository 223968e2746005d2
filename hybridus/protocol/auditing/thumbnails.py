"""Thumbnails: every image decoded once and kept as a small grey picture that copies of it share.

Plain borders are cut off, the rest is stretched to a square and in its contrast, so that padding,
resizing and brightness leave about the same thumbnail.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from hybridus.inputs.borders import without_border
from hybridus.inputs.images import content_key

SIDE = 128  # pixels
_DARK, _BRIGHT = 0.5, 99.5  # percentiles that become black and white
_LEAST_CONTRAST = 4.0  # grey values between both, else the picture is blank


@dataclass(frozen=True)
class Thumbnail:
    """A canonical image as the search for duplicates sees it.

    Attributes
    ----------
    content : bytes
        Digest of the canonical pixels.
    pixels : array of shape (SIDE, SIDE), uint8, or None
        None where the image is blank: it shows next to nothing, and would match all its like.
    """

    content: bytes
    pixels: NDArray[np.uint8] | None


def make_thumbnail(image: NDArray) -> Thumbnail:
    """Make the thumbnail of a canonical image.

    Parameters
    ----------
    image : array of shape (H, W) or (H, W, 3), uint8 or float32 on the 0..255 scale

    Examples
    --------
    >>> import numpy as np
    >>> from hybridus.protocol.auditing.thumbnails import make_thumbnail
    >>> scan = np.random.default_rng(0).integers(40, 80, (60, 90)).astype("uint8")
    >>> make_thumbnail(scan).pixels.shape
    (128, 128)
    >>> make_thumbnail(np.full((60, 90), 7, "uint8")).pixels is None
    True
    """
    content = content_key(image)
    inside = without_border(grey(image))
    dark, bright = np.percentile(inside, [_DARK, _BRIGHT])
    if bright - dark < _LEAST_CONTRAST:
        return Thumbnail(content, None)
    small = np.asarray(
        Image.fromarray(inside).resize((SIDE, SIDE), Image.Resampling.BILINEAR), dtype=np.float32
    )
    stretched = np.clip((small - dark) * (255 / (bright - dark)), 0, 255)
    return Thumbnail(content, np.rint(stretched).astype(np.uint8))


def grey(image: NDArray) -> NDArray:
    """Return the brightness of a canonical image, (H, W), of the type it has."""
    if image.ndim == 2:
        return image
    if image.dtype == np.uint8:
        return np.asarray(Image.fromarray(image).convert("L"))
    return image.mean(axis=2, dtype=np.float32)
