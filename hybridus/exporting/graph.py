"""Graphs of OpenVINO: the operations that are put around a network, and our resizing as one.

Knows how Pillow's fixed-point resizing is written in float32 without losing a bit.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from hybridus.encoders.engine import load_openvino

_HALF_BITS = 2.0**11  # Pillow keeps weights in 22 bits; here as two numbers of 11


def ops() -> Any:
    """OpenVINO's operations."""
    return load_openvino().opset13


def constant(values: ArrayLike, dtype: Any = np.float32) -> Any:
    """Numbers as an operation."""
    return ops().constant(np.asarray(values, dtype=dtype))


def take(x: Any, places: int | Sequence[int], axis: int) -> Any:
    """Elements along an axis; a single place drops the axis."""
    return ops().gather(x, constant(places, np.int64), constant(axis, np.int64))


def transpose(x: Any, order: Sequence[int]) -> Any:
    """Axes in another order."""
    return ops().transpose(x, constant(order, np.int64))


def side(x: Any, axis: int) -> Any:
    """Length of an axis, a float32 number."""
    return ops().convert(take(ops().shape_of(x), axis, 0), "f32")


def affine(x: Any, matrix: NDArray, offset: NDArray | None = None) -> Any:
    """Rows times a matrix, plus an offset."""
    product = ops().matmul(x, constant(matrix), False, False)
    return product if offset is None else ops().add(product, constant(offset))


def concat(parts: Sequence[Any], axis: int = 1) -> Any:
    """Parts side by side."""
    return parts[0] if len(parts) == 1 else ops().concat(list(parts), axis)


def join(model: Any, source: Any) -> list[Any]:
    """Put a network of one input behind an operation; return the sources of its outputs.

    The model is used up.
    """
    (parameter,) = model.get_parameters()
    for target in parameter.output(0).get_target_inputs():
        target.replace_source_output(source.output(0) if hasattr(source, "output") else source)
    return [result.input_value(0) for result in model.get_results()]


def resize_pixels(pixels: Any, size: tuple[int, int]) -> Any:
    """Resize 8-bit images as Pillow does, to the bit.

    Pillow multiplies rows, then columns, with weights of 22 bits and rounds each time. Here the
    weights are kept as two numbers of 11 bits, so that every product and sum is a whole number
    that float32 holds: up to reductions to a sixteenth, of images of less than 4096 pixels a side.

    Parameters
    ----------
    pixels : operation
        Whole numbers 0..255, float32 of shape (n, channels, H, W).
    size : tuple of int
        Height and width.
    """
    height, width = size
    rows_first = _resize_axis(_resize_axis(pixels, width, axis=3), height, axis=2)
    if not _columns_may_come_first():
        return rows_first
    o = ops()
    columns_first = _resize_axis(_resize_axis(pixels, height, axis=2), width, axis=3)
    lower = o.subtract(side(pixels, 2), constant(height))
    narrower = o.subtract(side(pixels, 3), constant(width))
    turned = o.logical_and(
        o.greater(lower, constant(0.0)), o.greater(lower, o.multiply(narrower, constant(2.0)))
    )
    return o.select(turned, columns_first, rows_first)


@functools.cache
def _columns_may_come_first() -> bool:
    """Whether Pillow resizes columns first where the height shrinks by far more than the width.

    Pillow 13 does, older ones did not; each pass rounds, so that the order shows.
    """
    rng = np.random.default_rng(0)
    image = Image.fromarray(rng.integers(0, 256, (60, 12), dtype=np.uint8))
    how = Image.Resampling.BILINEAR
    rows_first = image.resize((10, 60), how).resize((10, 10), how)
    at_once = image.resize((10, 10), how)
    return not np.array_equal(np.asarray(at_once), np.asarray(rows_first))


def _resize_axis(x: Any, length: int, axis: int) -> Any:
    o, half = ops(), constant(_HALF_BITS)
    shares = _triangles(side(x, axis), constant(length), constant(np.arange(length)))
    total = o.reduce_sum(shares, constant([1], np.int64), True)
    scaled = o.multiply(shares, half)
    upper = o.floor(o.divide(scaled, total))
    rest = o.multiply(o.subtract(scaled, o.multiply(upper, total)), half)
    lower = o.floor(o.add(o.divide(rest, total), constant(0.5)))
    high, low = (_along(x, weights, axis) for weights in (upper, lower))
    # Half of the whole, 2 ** 21, for rounding; what is below 2 ** 11 decides nothing any more.
    carried = o.floor(o.divide(o.add(low, constant(2.0**21)), half))
    return o.floor(o.divide(o.add(high, carried), half))


def resize_plane(plane: Any, height: Any, width: Any) -> Any:
    """Resize float32 maps of shape (n, h, w) to lengths that are operations, as Pillow does."""
    o = ops()
    for length, axis in ((width, 2), (height, 1)):
        index = o.range(constant(0.0), length, constant(1.0), "f32")
        shares = _triangles(side(plane, axis), length, index)
        total = o.reduce_sum(shares, constant([1], np.int64), True)
        plane = _along(plane, o.divide(shares, total), axis)
    return plane


def _triangles(before: Any, after: Any, index: Any) -> Any:
    """Weights of Pillow's bilinear filter but for their sum, whole numbers, (after, before)."""
    o = ops()
    one, two = constant(1.0), constant(2.0)
    places = o.range(constant(0.0), before, one, "f32")
    old = o.multiply(o.add(o.multiply(places, two), one), after)
    new = o.multiply(o.add(o.multiply(index, two), one), before)
    apart = o.abs(o.subtract(old, o.unsqueeze(new, constant(1, np.int64))))
    return o.relu(o.subtract(o.multiply(o.maximum(before, after), two), apart))


def _along(x: Any, weights: Any, axis: int) -> Any:
    """Sum over one of the two last axes, weighed by (after, before)."""
    n_axes = len(x.get_output_partial_shape(0))
    if axis == n_axes - 1:
        return ops().matmul(x, weights, False, True)
    return ops().matmul(weights, x, False, False)


def luminance(pixels: Any) -> Any:
    """Grey (n, 1, H, W) of whole RGB pixels (n, 3, H, W), as networks on grey pixels see it."""
    o = ops()
    weighed = o.multiply(pixels, constant(np.reshape([299, 587, 114], (1, 3, 1, 1))))
    total = o.reduce_sum(weighed, constant([1], np.int64), True)
    return o.floor(o.divide(o.add(total, constant(500)), constant(1000)))
