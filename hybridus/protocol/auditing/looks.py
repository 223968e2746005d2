"""Looks: what one pass over the images tells of each, beside its thumbnail.

Size, file, brightness, borders, and marks such as text and calipers: what a model should not need
to tell classes apart, and by which odd images are known.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import uniform_filter
from sklearn.utils.parallel import Parallel, delayed

from hybridus._environment import n_threads
from hybridus.estimators.spread import chunks_of, spreads
from hybridus.inputs.borders import without_border
from hybridus.inputs.dicom_paths import split_reading
from hybridus.inputs.images import Images
from hybridus.inputs.resizing import map_ahead
from hybridus.protocol.auditing.thumbnails import Thumbnail, grey, make_thumbnail

_LONGEST = 512  # pixels; larger images are looked at smaller
_STRIP, _CORNER = 0.04, 0.08  # shares of height and width
_COLOURED = 24  # levels between the channels of a coloured pixel
_STANDS_OUT = 0.25  # of full scale that a mark is brighter than what is around it
_AROUND = 15  # pixels
_BLACK = 0.1 * 255
_GRID = 3


@dataclass(frozen=True)
class Look:
    """What is known of one image.

    Attributes
    ----------
    error : str
        Why it cannot be read; empty where it can, and the rest is then known.
    thumbnail : Thumbnail or None
    shape : tuple of int
        Height and width in pixels.
    is_colour : bool
    traits : dict of str to dict of str to float
        What there is to tell classes apart by, in families: "size", "file" (of files only),
        "brightness", "borders" and "marks".
    """

    error: str = ""
    thumbnail: Thumbnail | None = None
    shape: tuple[int, int] = (0, 0)
    is_colour: bool = False
    traits: dict[str, dict[str, float]] | None = None


def look_at(images: Images, n_jobs: int | None = None) -> list[Look]:
    """Look at each image once; one that cannot be read does not end it.

    Parameters
    ----------
    images : Images
    n_jobs : int or None, default=None
        Workers of joblib's that share the images; threads of this process where there are none.
    """

    def look(i: int) -> Look:
        try:
            image = images[i]
        except ValueError as error:
            return Look(error=str(error))
        return _look(image, None if images.paths is None else images.paths[i])

    if not spreads(n_jobs):
        return list(map_ahead(look, range(len(images)), n_threads=n_threads()))
    chunks = chunks_of(range(len(images)), n_jobs)
    each = Parallel(n_jobs=n_jobs)(delayed(look_at)(images.take(chunk), 1) for chunk in chunks)
    looks = [found for part in each for found in part]
    return [look(i) if found.error else found for i, found in enumerate(looks)]  # said as here


def _look(image: NDArray, path: str | None) -> Look:
    height, width = image.shape[:2]
    plane = np.clip(grey(image), 0, 255).astype(np.float32)
    size = {"height": height, "width": width, "aspect": width / height}
    traits = {"size": size}
    if path is not None:
        file = split_reading(path).file
        n_bytes = os.path.getsize(file)
        suffix = os.path.splitext(file)[1].casefold()
        # A name as a number, the same in every process.
        kind = float(int.from_bytes(suffix.encode()[-6:], "big"))
        traits["file"] = {"bytes": n_bytes, "per_pixel": n_bytes / (height * width), "kind": kind}
    inside = without_border(plane)
    cut = {
        "border_rows": 1 - inside.shape[0] / height,
        "border_columns": 1 - inside.shape[1] / width,
    }
    small, colourful = _reduced(plane), _reduced(_colourfulness(image))
    traits["brightness"] = _brightness(small)
    traits["borders"] = _borders(small) | cut
    traits["marks"] = _marks(small, colourful)
    return Look("", make_thumbnail(image), (height, width), image.ndim == 3, traits)


def _colourfulness(image: NDArray) -> NDArray[np.float32]:
    """Levels between the highest and the lowest channel of each pixel."""
    if image.ndim == 2:
        return np.zeros(image.shape, np.float32)
    return (image.max(axis=2).astype(np.float32) - image.min(axis=2)).astype(np.float32)


def _reduced(plane: NDArray[np.float32]) -> NDArray[np.float32]:
    factor = -(-max(plane.shape) // _LONGEST)
    if factor == 1:
        return plane
    return np.asarray(Image.fromarray(plane).reduce(factor))


def _brightness(plane: NDArray) -> dict[str, float]:
    shares = (1, 25, 50, 75, 99)
    values = np.percentile(plane, shares)
    named = {f"percentile_{share}": float(v) for share, v in zip(shares, values, strict=True)}
    return {"mean": float(plane.mean()), "spread": float(plane.std())} | named


def _borders(plane: NDArray) -> dict[str, float]:
    """Describe strips along the sides, and corners, against the mean and spread of the whole."""
    mean, spread = plane.mean(), plane.std() + 1
    found = {}
    for name, part in _parts_at_the_border(plane).items():
        found[f"{name}_mean"] = float((part.mean() - mean) / spread)
        found[f"{name}_spread"] = float(part.std() / spread)
    return found


def _parts_at_the_border(plane: NDArray) -> dict[str, NDArray]:
    height, width = plane.shape
    rows, columns = (max(1, round(_STRIP * side)) for side in plane.shape)
    parts = {
        "top": plane[:rows],
        "bottom": plane[height - rows :],
        "left": plane[:, :columns],
        "right": plane[:, width - columns :],
    }
    rows, columns = (max(1, round(_CORNER * side)) for side in plane.shape)
    for vertical, of_rows in (("top", slice(rows)), ("bottom", slice(height - rows, height))):
        for across, of_columns in (
            ("left", slice(columns)),
            ("right", slice(width - columns, width)),
        ):
            parts[f"{vertical}_{across}"] = plane[of_rows, of_columns]
    return parts


def _marks(plane: NDArray, colourful: NDArray) -> dict[str, float]:
    """Shares, in parts of the image, of pixels as text and calipers have them.

    "drawn" are much brighter than what is around them, and so is a neighbour of the very same
    grey; "flat" are as bright as two neighbours, on each axis one, and not black.
    """
    around = uniform_filter(plane, _AROUND, mode="nearest")
    same_across = np.abs(np.diff(plane, axis=1, append=-999.0)) <= 1
    same_down = np.abs(np.diff(plane, axis=0, append=-999.0)) <= 1
    stands_out = plane - around > _STANDS_OUT * 255
    kinds = {
        "drawn": stands_out & (same_across | same_down),
        "flat": same_across & same_down & (plane > _BLACK),
    }
    found = {"coloured": _scaled((colourful > _COLOURED).mean())}
    for kind, pixels in kinds.items():
        for i, rows in enumerate(np.array_split(pixels, _GRID)):
            for j, part in enumerate(np.array_split(rows, _GRID, axis=1)):
                found[f"{kind}_{i}_{j}"] = _scaled(part.mean()) if part.size else 0.0
    return found


def _scaled(share: float) -> float:
    """Parts in ten thousand, as a logarithm: a little text counts."""
    return float(np.log1p(1e4 * share))
