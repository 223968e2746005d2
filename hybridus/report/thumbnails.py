"""Thumbnails of a page: small pictures of images, inside the page itself."""

from __future__ import annotations

import base64
import io
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from hybridus._environment import n_threads
from hybridus.inputs.images import Images
from hybridus.inputs.resizing import map_ahead

_MOST_PIXELS = 3_000_000  # of all on one sheet: some 600 kB
_MAY_BE_PNG = 128 * 128  # pixels: of more it takes seconds, and scans are never smaller so
_SIDES = (24, 64)  # pixels of one on the sheet, least and most


def small_picture(image: NDArray, side: int) -> Image.Image:
    """Make a picture of an image, no side of it longer than so many pixels."""
    pixels = np.clip(np.rint(np.asarray(image, dtype=np.float32)), 0, 255).astype(np.uint8)
    picture = Image.fromarray(pixels.squeeze())
    picture.thumbnail((side, side), Image.Resampling.LANCZOS)
    return picture


def data_uri(picture: Image.Image, quality: int = 80) -> str:
    """Write a picture into text, in the smaller of two formats that every browser reads."""
    written = []
    options: dict[str, dict[str, Any]] = {"jpeg": {"quality": quality}, "png": {}}
    for kind in options if picture.width * picture.height <= _MAY_BE_PNG else ("jpeg",):
        file = io.BytesIO()
        picture.save(file, kind, **options[kind])
        written.append((len(file.getvalue()), kind, file.getvalue()))
    _, kind, content = min(written)
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


@dataclass(frozen=True)
class Sheet:
    """Thumbnails of many images in one picture, row by row.

    Attributes
    ----------
    uri : str
    side : int
        Pixels of each.
    columns : int
        Thumbnails in a row.
    rows : int
    """

    uri: str
    side: int
    columns: int
    rows: int


def make_sheet(images: Images, shown: NDArray[np.intp]) -> Sheet | None:
    """Put images on one sheet; None where they are too many to be seen."""
    side = min(_SIDES[1], math.isqrt(_MOST_PIXELS // max(1, len(shown))))
    if side < _SIDES[0]:
        return None
    columns = math.ceil(math.sqrt(len(shown)))
    rows = math.ceil(len(shown) / columns)
    sheet = Image.new("RGB", (columns * side, rows * side))
    pictures = map_ahead(
        lambda place: small_picture(images[int(shown[place])], side),
        range(len(shown)),
        n_threads=n_threads(),
    )
    in_colour = False
    for place, picture in enumerate(pictures):
        in_colour |= picture.mode == "RGB"
        left, top = (side - length for length in picture.size)
        corner = place % columns * side + left // 2, place // columns * side + top // 2
        sheet.paste(picture, corner)
    return Sheet(data_uri(sheet if in_colour else sheet.convert("L"), 70), side, columns, rows)
