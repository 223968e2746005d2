"""Values of images: what is black and white, which values are refused, the canonical image."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

# A type wider than 8 bits says nothing of the scale (scanners write 8, 10, 12 or 14 bits into 16),
# so the values must: an image whose largest value lies below this share of full scale is refused.
_SHOWN = 1 / 4
# Interpolation may overshoot 0..1 a little, by this share.
_OVERSHOOT = 0.05
_BITS = (8, 10, 12, 14, 16)  # that scanners write

ValueRange = tuple[float, float]


def check_value_range(value_range: Sequence[float] | None) -> ValueRange | None:
    """Return a declared range as two floats.

    Raises
    ------
    ValueError
        Unless it is None or two finite numbers, the lower one first.
    """
    if value_range is None:
        return None
    try:
        low, high = (float(value) for value in value_range)
    except (TypeError, ValueError):
        low = high = math.nan
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise ValueError(
            f"value_range={value_range!r}: expected None or (low, high), the values of black and "
            "white, such as (0, 4095) for 12 bits"
        )
    return low, high


def check_scale(array: NDArray, name_of: Callable[[int], str], declared: ValueRange | None) -> None:
    """Raise for the first image of `array`, an array of images, whose values are on no scale."""
    dtype, kind = array.dtype, array.dtype.kind
    if kind == "c":
        raise ValueError(f"Complex data not supported: {name_of(0)} has type {dtype}")
    if kind not in "biuf":
        raise ValueError(f"{name_of(0)} has type {dtype}, expected bool, integers or floats")
    low, high = declared or _range_of(dtype)
    lowest, highest = _values_of(dtype)
    if (low, high) == (lowest, highest) and (declared or dtype.itemsize == 1):
        return
    axes = tuple(range(1, array.ndim))
    smallest, largest = array.min(axis=axes), array.max(axis=axes)
    if kind == "f":
        for i in np.flatnonzero(~(np.isfinite(smallest) & np.isfinite(largest)))[:1]:
            raise ValueError(f"{name_of(i)} contains NaN or infinity")
    slack = (high - low) * _OVERSHOOT if kind == "f" else 0
    for i in np.flatnonzero((smallest < low - slack) | (largest > high + slack))[:1]:
        raise ValueError(_beyond(name_of(i), dtype, smallest[i], largest[i], declared))
    if lowest > low or highest < high:
        raise ValueError(
            f"{name_of(0)} has type {dtype}, which holds {lowest}..{highest} and not "
            f"{_text(low, high)}, the values of black and white that "
            f"{'were declared' if declared else 'integers have'}; give the value_range that all "
            "of X has"
        )
    if declared is None and kind != "f":
        for i in np.flatnonzero((largest < high * _SHOWN) & (largest != 0))[:1]:
            raise ValueError(_too_dark(name_of(i), dtype, largest[i], int(largest.max())))


def canonical(pixels: NDArray, declared: ValueRange | None) -> NDArray:
    """Bring pixels that were checked to the canonical form."""
    if pixels.ndim == 3 and (
        pixels.shape[2] == 1
        or (
            np.array_equal(pixels[..., 0], pixels[..., 1])
            and np.array_equal(pixels[..., 0], pixels[..., 2])
        )
    ):
        pixels = pixels[..., 0]
    low, high = declared or _range_of(pixels.dtype)
    whole = pixels.dtype.kind != "f"
    if whole and (low, high) == (0, 255):
        return np.ascontiguousarray(pixels, dtype=np.uint8)
    values = pixels.astype(np.float64)
    if low:
        values -= low
    values *= 255.0
    if high - low != 1:
        values /= high - low
    rounded = np.rint(values)
    # Rounding errors of floats: relative to the value, and to what was subtracted.
    step = 0.0 if whole else 2.0 * float(np.finfo(pixels.dtype).eps)
    close = step * rounded
    if low:
        close += step * 255.0 * abs(low) / (high - low)
    off = values - rounded
    np.abs(off, out=off)
    if rounded.min() >= 0 and rounded.max() <= 255 and np.all(off <= close):
        return rounded.astype(np.uint8)
    return values.astype(np.float32)


def _values_of(dtype: np.dtype) -> ValueRange:
    """Smallest and largest value of a type."""
    if dtype.kind == "b":
        return 0, 1
    if dtype.kind == "f":
        return -math.inf, math.inf
    return np.iinfo(dtype).min, np.iinfo(dtype).max


def _range_of(dtype: np.dtype) -> ValueRange:
    """Black and white where no range is declared."""
    if dtype.kind in "bf":
        return 0, 1
    return (0, 65535) if dtype.kind == "u" and dtype.itemsize == 2 else (0, 255)


def _beyond(name: str, dtype: np.dtype, low: Any, high: Any, declared: ValueRange | None) -> str:
    """Say which values of an image lie outside its range, and what to do."""
    sign = "Negative values in data: " if low < 0 <= (declared or (0, 0))[0] else ""
    if declared:
        return (
            f"{sign}{name} has values {low:.6g}..{high:.6g}, outside the declared "
            f"value_range={_text(*declared)}; declare the values of black and white in all of X, "
            "or clip them with np.clip"
        )
    if dtype.kind != "f":
        return (
            f"{sign}{name} has {dtype} values {low}..{high}, expected 0..255. Use uint16 for "
            "16-bit scans (0..65535), floats in 0..1, or declare the values of black and white, "
            f"such as value_range={_text(min(low, 0), _likely_white(high))}"
        )
    if sign:
        return (
            f"{sign}{name} has {low:.6g}; float images lie in 0..1. Undo centring or "
            "standardisation and divide by the largest possible value, or declare the values of "
            "black and white: value_range=(low, high)"
        )
    return (
        f"{name} has values up to {high:.6g}, but float images lie in 0..1. Divide by 255 (8-bit) "
        "or 65535 (16-bit), pass the integers themselves, or declare the values of black and "
        "white: value_range=(low, high)"
    )


def _too_dark(name: str, dtype: np.dtype, high: Any, highest: int) -> str:
    """Say that an image would be nearly black, and what to do."""
    white = int(_range_of(dtype)[1])
    eight_bit = "" if white == 65535 else ", or pass uint8,"
    return (
        f"{name} has {dtype} values up to {high}, less than a quarter of {white} (largest of all "
        f"that were given: {highest}): it would be nearly black. Declare the values of black and "
        f"white, such as value_range={_text(0, _likely_white(highest))}; where it is that dark, "
        f"declare value_range=(0, {white}){eight_bit} or pass floats in 0..1"
    )


def _likely_white(highest: Any) -> int:
    """Full scale of the bits that values need; of values that no scan has, the largest."""
    if highest < 64:
        return max(int(highest), 1)
    return next((2**bits - 1 for bits in _BITS if highest < 2**bits), int(highest))


def _text(low: float, high: float) -> str:
    return f"({low:.10g}, {high:.10g})"
