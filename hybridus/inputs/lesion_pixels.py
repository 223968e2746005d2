"""Lesion pixels: which values and which pictures may be read as a mask, nonzero for lesion.

Wherever that would mark what nobody marked (grey edges, probabilities, a background that is not
zero, a shape that only transparency carries) it is an error that names the way out. What may be
meant, but rarely is, is a doubt: a text for a warning.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from hybridus.inputs.decoding import Decoded

# Several lesions may be numbered, several kinds of tissue may have a grey level each; smoothed
# or compressed edges have many levels, and "nonzero is lesion" would swell the lesion by them.
_MOST_LEVELS = 8
_LEAST_SIDE = 16  # of a mask whose outline says something: smaller ones are toys
_BLACKEST = 4  # of 255: what lossy compression may leave of black
_GREY_MODES = ("1", "L", "I", "I;16", "I;16B", "I;16L", "I;16N", "F")

EVERYWHERE = "lesion in every pixel; if that is the background, set it to 0 (False)"
INVERTED = (
    "lesion along the whole border but not inside, as inverted masks are; if 0 is the lesion, "
    "invert: masks == 0"
)
AGAINST_PALETTE = (
    "stored with a palette whose colours say another thing than its numbers: a colour other than "
    "black was read as lesion. If the number 0 is the background, save the numbers: "
    "Image.fromarray(np.asarray(Image.open(path)))"
)
NEARLY_BLACK = (
    f"lossily compressed and nearly black (at most {_BLACKEST} of 255), and was read as empty; if "
    "1 is the lesion, save masks as PNG"
)


class Lesion(NamedTuple):
    """What a picture shows.

    Attributes
    ----------
    mask : array of shape (H, W), bool
    doubt : str
        What makes it doubtful that this is what was meant; empty where nothing does.
    """

    mask: NDArray[np.bool_]
    doubt: str


def check_values(mask: NDArray, name: str) -> None:
    """Raise unless nonzero may be read as lesion.

    Parameters
    ----------
    mask : array of shape (H, W)
    name : str
        What error messages call it.

    Raises
    ------
    ValueError
        Where values are not finite, negative, fractions, several without a zero among them, 255
        beside the first few numbers (pixels to ignore), or levels of grey that make edges or
        pictures and not areas.
    """
    kind = mask.dtype.kind
    if kind == "b":
        return
    if kind == "c":
        raise ValueError(f"Complex data not supported: {name} has type {mask.dtype}")
    if kind not in "iuf":
        raise ValueError(f"{name} has type {mask.dtype}, expected bool, integers or floats")
    low, high = mask.min(), mask.max()
    if not (np.isfinite(low) and np.isfinite(high)):
        raise ValueError(f"{name} contains NaN or infinity")
    if low < 0:
        raise ValueError(
            f"{name} has negative values (down to {low:.6g}); a mask is zero outside the lesion "
            "and positive in it. Of logits take masks > 0; pixels to ignore (-1) set to 0"
        )
    fractions = kind == "f" and bool((mask != np.rint(mask)).any())
    if not fractions and bool(((mask == 0) | (mask == high)).all()):
        return
    values = np.unique(mask[mask != 0])
    if not fractions and low > 0:
        raise ValueError(
            f"{name} has no zero: it holds {len(values)} distinct values, {low:.6g} to "
            f"{high:.6g}, but nonzero means lesion. If {low:.6g} is the background, pass masks > "
            f"{low:.6g}"
        )
    seen = (
        f"{name} holds {len(values)} distinct values beside zero, {values[0]:.6g} to "
        f"{values[-1]:.6g}"
    )
    half = 0.5 if high <= 1 else int(high) // 2
    if fractions:
        raise ValueError(
            f"{seen} (fractions, as probabilities are), but nonzero means lesion. Threshold first: "
            f"masks > {half}"
        )
    numbered = len(values) == high < 255
    if numbered and len(values) <= _MOST_LEVELS:
        return
    if high >= 255 and float(values[0]) * 8 < high and len(values) <= _MOST_LEVELS:
        raise ValueError(
            f"{seen} ({high:.6g} beside {values[0]:.6g}, as pixels to ignore are, or the noise of "
            f"compression), but nonzero means lesion. Set what is to be ignored to 0 (masks == "
            f"{values[0]:.6g}), or threshold: masks > {half}"
        )
    if (numbered or len(values) <= _MOST_LEVELS) and not _is_soft(mask):
        return
    raise ValueError(
        f"{seen} (as grey edges and pictures do), but nonzero means lesion. Threshold first: masks "
        f"> {half} (masks > 0 if every level is lesion)"
    )


def _is_soft(mask: NDArray) -> bool:
    """Whether the levels between zero and the highest are edges and noise, not areas.

    On an edge, and in a picture, most pixels have both a darker and a brighter neighbour; in an
    area of three pixels or more across, most have neighbours like themselves.
    """
    _, level = np.unique(mask, return_inverse=True)  # ranks: no type is too small or too exact
    level = level.reshape(mask.shape).astype(np.int32)
    between = (mask != 0) & (level < level.max())
    darker = ndimage.minimum_filter(level, 3) < level
    brighter = ndimage.maximum_filter(level, 3) > level
    return bool((darker & brighter)[between].mean() > 0.5)


def doubt_of(mask: NDArray) -> str:
    """Say what is odd in the outline of a mask: empty where nothing is.

    Examples
    --------
    >>> mask = np.zeros((20, 20))
    >>> doubt_of(mask), doubt_of(mask == 0)[:21]
    ('', 'lesion in every pixel')
    """
    sides = mask[0], mask[-1], mask[:, 0], mask[:, -1]
    if min(mask.shape) < _LEAST_SIDE or not all(side.all() for side in sides):
        return ""
    return EVERYWHERE if mask.all() else INVERTED


def lesion_in(decoded: Decoded, name: str) -> Lesion:
    """Read a picture as a mask.

    A pixel is lesion where any colour is not zero; alpha does not count. Where compression has
    changed the values, it is lesion from half of the range upwards.

    Raises
    ------
    ValueError
        Where this would not be what the picture shows; the message begins with `name`.
    """
    picture, lossy = decoded
    try:
        channels, alpha = _channels(picture)
    except ValueError as error:
        raise ValueError(f"{name}: cannot be read as a mask ({error})") from error
    if picture.mode in ("P", "PA"):
        _check_palette(picture, name)
    one_colour = not any(_varies(plane) for plane in channels)
    if one_colour and alpha is not None and _varies(alpha):
        raise ValueError(
            f"{name} has one colour everywhere: only its transparency (alpha) carries a shape, "
            "which does not count. Save alpha as a grey picture: "
            "Image.open(path).convert('RGBA').getchannel('A')"
        )
    mask, doubt = _bright_half(channels, name) if lossy else _not_black(channels, name)
    if alpha is not None and mask.any() and _varies(alpha[mask]):
        raise ValueError(
            f"{name} has a lesion of which a part is transparent, and transparency (alpha) does "
            "not count. Save what is seen, without alpha: Image.alpha_composite(Image.new('RGBA', "
            "picture.size, 'black'), picture.convert('RGBA')).convert('L')"
        )
    if picture.mode in ("P", "PA") and ((_numbers(picture) != 0) != mask).any():
        return Lesion(mask, AGAINST_PALETTE)
    return Lesion(mask, doubt or doubt_of(mask))


def _not_black(channels: list[NDArray], name: str) -> Lesion:
    mask = np.logical_or.reduce([plane != 0 for plane in channels])
    if mask.all() and len(channels) > 1 and any(_varies(plane) for plane in channels):
        corner = tuple(int(plane[0, 0]) for plane in channels)
        raise ValueError(
            f"{name} has no black pixel, but every other colour means lesion; the colour of its "
            f"corner is {corner}. Save it with black as background"
        )
    for plane in channels:
        check_values(plane, name)
    return Lesion(mask, "")


def _bright_half(channels: list[NDArray], name: str) -> Lesion:
    """Lesion in a lossy file, which holds dark, bright and a narrow rim between them."""
    grey = np.maximum.reduce(channels)
    high = int(grey.max())
    if _BLACKEST < high < 128:
        raise ValueError(
            f"{name} is lossily compressed and dark, its values lie in 0..{high}: what is lesion "
            "cannot be told from noise. Save masks as PNG, with 0 and 255"
        )
    between = np.count_nonzero((grey >= 48) & (grey < 208))
    if between > max(np.count_nonzero(grey >= 208) / 2, grey.size / 100):
        raise ValueError(
            f"{name} is lossily compressed and {between / grey.size:.0%} of its pixels are grey "
            "(48 to 207 of 255), as in a picture, not a mask. Give the mask; of probabilities save "
            "(probabilities > 0.5) as PNG"
        )
    return Lesion(grey >= 128, NEARLY_BLACK if 0 < high < 128 else "")


def _varies(values: NDArray) -> bool:
    return bool(values.min() != values.max())


def _channels(picture: Image.Image) -> tuple[list[NDArray], NDArray | None]:
    """Planes (H, W) of the colours, one where they are grey, and alpha where there is one."""
    if picture.mode in _GREY_MODES:
        return [np.asarray(picture)], None
    # The conversion looks palettes up and leaves colours below transparent pixels as they are.
    mode = "RGBA" if picture.has_transparency_data else "RGB"
    red, green, blue, *alpha = np.moveaxis(np.asarray(picture.convert(mode)), 2, 0)
    grey = np.array_equal(red, green) and np.array_equal(red, blue)
    return [red] if grey else [red, green, blue], alpha[0] if alpha else None


def _numbers(picture: Image.Image) -> NDArray:
    """Numbers of the palette's entries, (H, W)."""
    numbers = np.asarray(picture)
    return numbers[..., 0] if numbers.ndim == 3 else numbers


def _check_palette(picture: Image.Image, name: str) -> None:
    n_colours = len(picture.getpalette("RGB") or ()) // 3
    highest = int(_numbers(picture).max())
    if highest >= n_colours:
        raise ValueError(
            f"{name} is a palette picture with numbers up to {highest}, but its palette has "
            f"{n_colours} colours: nobody knows which of them are black. Save the numbers: "
            "Image.fromarray(np.asarray(Image.open(path)))"
        )
