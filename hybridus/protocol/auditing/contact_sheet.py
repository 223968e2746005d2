"""Contact sheet: pairs of images side by side in one picture, each with a line of text."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from hybridus.protocol.auditing.thumbnails import grey

_SIDE = 150  # pixels of each image
_ROW = _SIDE + 22
_GAP = 10
_FONT_SIZE = 11


class PairToDraw(NamedTuple):
    """Two images, what to write above them, and whether the line is to warn."""

    first: int
    second: int
    title: str
    warns: bool = False


def draw_pairs(
    images: Sequence[NDArray], pairs: Iterable[PairToDraw], columns: int = 3
) -> Image.Image:
    """Draw pairs of images.

    Parameters
    ----------
    images : sequence of canonical images
        Only those of the pairs are read.
    pairs : iterable of PairToDraw
        One or more.
    columns : int, default=3
        Pairs beside one another.

    Returns
    -------
    PIL.Image.Image
    """
    pairs = list(pairs)
    n_rows = -(-len(pairs) // columns)
    columns = min(columns, len(pairs))
    sheet = Image.new("RGB", (columns * (2 * _SIDE + _GAP) + _GAP, n_rows * _ROW + _GAP), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(_FONT_SIZE)
    for number, pair in enumerate(pairs):
        row, column = divmod(number, columns)
        left, top = _GAP + column * (2 * _SIDE + _GAP), row * _ROW + 4
        title = pair.title
        while draw.textlength(title, font) > 2 * _SIDE and len(title) > 4:
            title = f"{title[:-4]}..."
        draw.text((left, top), title, "#D55E00" if pair.warns else "black", font)
        for place, index in enumerate((pair.first, pair.second)):
            picture = Image.fromarray(np.clip(grey(images[index]), 0, 255).astype(np.uint8))
            picture.thumbnail((_SIDE - 2, _SIDE))
            sheet.paste(picture, (left + place * _SIDE, top + 16))
    return sheet
