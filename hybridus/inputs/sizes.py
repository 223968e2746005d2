"""Sizes of images and masks: a number of pixels, or height and width."""

from collections.abc import Sequence
from numbers import Real
from typing import Any


def resolve_size(given: Any, name: str = "image_size") -> tuple[int, int]:
    """Read a number of pixels, or (height, width); `name` is that of the parameter.

    Raises
    ------
    ValueError
        For anything else.

    Examples
    --------
    >>> from hybridus.inputs.sizes import resolve_size
    >>> resolve_size(224), resolve_size([96, 128])
    ((224, 224), (96, 128))
    """
    size = tuple(given) if isinstance(given, Sequence) else (given, given)
    if len(size) != 2 or not all(_is_side(side) for side in size):
        raise ValueError(
            f"{name}={given!r}: expected a number of pixels or (height, width), each 1 or more"
        )
    return (int(size[0]), int(size[1]))


def _is_side(side: Any) -> bool:
    if not isinstance(side, Real) or isinstance(side, bool):
        return False
    return float(side) >= 1 and float(side).is_integer()
