"""Registration: how one thumbnail lies on another, and how alike both are where they overlap.

Shift and scale on each axis, and mirroring: what saving, resizing, cropping and stretching do.
Found by Gauss-Newton steps that raise the correlation (Evangelidis and Psarakis 2008, IEEE PAMI
30(10), 1858-1865), from small to larger pictures, for many pairs at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hybridus._environment import n_threads
from hybridus.inputs.resizing import map_ahead
from hybridus.protocol.auditing.candidates import blurring
from hybridus.protocol.auditing.thumbnails import SIDE


class _Level(NamedTuple):
    """One size at which pairs are registered."""

    cells: int  # sampled on each axis of the first
    side: int  # of the thumbnails that are sampled
    steps: int
    radius: float  # of the local contrast, in cells
    least: float  # correlation of a pair that is looked at in the next level


_LEVELS = (
    _Level(16, 32, 5, 3.0, 0.58),
    _Level(32, 64, 5, 4.0, 0.52),
    _Level(64, 128, 2, 5.0, -1.0),
)
_AT_ONCE = 64  # pairs
_LONGEST_STEP = 0.08
_SMALLEST, _LARGEST = 0.45, 2.2  # scale
_MOST_STRETCHED = 2.0  # scale of one axis by that of the other
_LEAST_OVERLAP = 0.25  # of the area of the first
_BLOCK = 8  # cells on each axis that are correlated by themselves
_FLAT = 0.15  # mean square of local contrast below which a block shows nothing
_ENOUGH_BLOCKS = 32  # half of all; where fewer show something, likeness counts for less


class Registered(NamedTuple):
    """Pairs that were laid on one another.

    Attributes
    ----------
    placement : array of shape (n, 4)
        See `hybridus.protocol.auditing.candidates.Candidates`.
    similarity : array of shape (n,)
        -1 to 1, see `register`.
    overlap : array of shape (n,)
        Share of the first that lies on the second.
    """

    placement: NDArray[np.float64]
    similarity: NDArray[np.float64]
    overlap: NDArray[np.float64]


def register(
    thumbnails: NDArray[np.uint8],
    first: NDArray[np.intp],
    second: NDArray[np.intp],
    placement: NDArray[np.float64],
    *,
    give_up: bool = True,
) -> Registered:
    """Lay each first thumbnail on its second one, beginning with a rough placement.

    The similarity is the median over blocks of 8 x 8 cells, of 64 x 64 on the first thumbnail, of
    the correlation of local contrast. Marks drawn into a minority of blocks leave it as it is,
    and so does what brightness and gamma do; blocks in which neither shows anything do not count.
    It is lowered in proportion to the square root of the number of blocks where those that show
    something on both are less than half of all.

    Parameters
    ----------
    thumbnails : array of shape (n_thumbnails, SIDE, SIDE), uint8
    first, second : array of shape (n,), int
    placement : array of shape (n, 4)
    give_up : bool, default=True
        Whether pairs that are hopeless at a small size are let alone; their similarity is then 0.

    Returns
    -------
    Registered
    """
    placement = placement.copy()
    similarity, overlap = np.zeros(len(first)), np.zeros(len(first))
    levels = _pyramid(thumbnails)
    alive = np.arange(len(first))
    for level in _LEVELS:
        pixels = levels[level.side]

        def refine(part: NDArray, pixels: NDArray = pixels, level: _Level = level) -> tuple:
            return _refine(pixels[first[part]], pixels[second[part]], placement[part], level)

        correlation = np.empty(len(first))
        for part, refined in _in_threads(refine, alive):
            placement[part], correlation[part] = refined
        if give_up:
            alive = alive[correlation[alive] > level.least]

    def compare(part: NDArray) -> tuple[NDArray, NDArray]:
        return _compare(thumbnails[first[part]], thumbnails[second[part]], placement[part])

    for part, compared in _in_threads(compare, alive):
        similarity[part], overlap[part] = compared
    return Registered(placement, similarity, overlap)


def _in_threads(
    function: Callable[[NDArray], tuple], pairs: NDArray[np.intp]
) -> Iterator[tuple[NDArray, tuple]]:
    """Yield parts of the pairs and what a function makes of each."""
    parts = [pairs[start : start + _AT_ONCE] for start in range(0, len(pairs), _AT_ONCE)]
    yield from zip(parts, map_ahead(function, parts, n_threads=n_threads(), ahead=8), strict=True)


def invert(placement: NDArray) -> NDArray:
    """Placements of the second in the first."""
    shift, scale = placement[..., :2], placement[..., 2:]
    return np.concatenate([-shift / scale, 1 / scale], axis=-1)


def compose(one: NDArray, then: NDArray) -> NDArray:
    """Placements of the first in the third, from those in the second and of that in the third."""
    shift = then[..., :2] + then[..., 2:] * one[..., :2]
    return np.concatenate([shift, then[..., 2:] * one[..., 2:]], axis=-1)


def _pyramid(thumbnails: NDArray[np.uint8]) -> dict[int, NDArray[np.uint8]]:
    """Thumbnails of each side."""
    levels = {SIDE: thumbnails}
    for side in (SIDE // 2, SIDE // 4):
        large = levels[2 * side]
        small = np.empty((len(large), side, side), np.uint8)
        for start in range(0, len(large), 256):  # averages are wider than what they are of
            part = large[start : start + 256].reshape(-1, side, 2, side, 2)
            small[start : start + 256] = np.rint(part.mean(axis=(2, 4), dtype=np.float32))
        levels[side] = small
    return levels


def _refine(
    first: NDArray, second: NDArray, placement: NDArray, level: _Level
) -> tuple[NDArray, NDArray]:
    """Take some steps; return the best placement met on the way and its correlation."""
    second = second.astype(np.float32)
    whole = _sample_whole(first, level.cells)
    blur = blurring(level.cells, level.radius)
    place = ((np.arange(level.cells) + 0.5) / level.cells).astype(np.float32)
    placement = placement.copy()
    best, best_correlation = placement.copy(), np.full(len(first), -1.0)
    for step in range(level.steps + 1):
        sampled, inside = _sample(second, placement, level.cells)
        wanted = _unit(_local_contrast(whole, inside, blur))
        seen = _unit(_local_contrast(sampled, inside, blur))
        correlation = (wanted * seen).sum(axis=(1, 2))
        allowed = _is_allowed(placement) & (inside.mean(axis=(1, 2)) >= _LEAST_OVERLAP)
        better = allowed & (correlation > best_correlation)
        best[better], best_correlation[better] = placement[better], correlation[better]
        if step == level.steps:
            break
        # How the seen changes with shift and scale, but for its brightness.
        dy, dx = (slope * inside * level.cells for slope in np.gradient(seen, axis=(1, 2)))
        dy /= placement[:, 2, None, None].astype(np.float32)
        dx /= placement[:, 3, None, None].astype(np.float32)
        slopes = np.stack([dy, dx, dy * place[:, None], dx * place], axis=1)
        slopes = slopes.reshape(len(first), 4, -1)
        seen = seen.reshape(len(first), -1, 1)
        slopes -= (slopes @ seen) * seen[:, None, :, 0]
        left = wanted.reshape(len(first), -1, 1) / np.maximum(correlation, 0.2)[:, None, None]
        left -= seen
        normal = (slopes @ slopes.swapaxes(1, 2)).astype(np.float64)
        damping = 1e-3 * normal.trace(axis1=1, axis2=2) + 1e-9
        normal += damping[:, None, None] * np.eye(4)
        change = np.linalg.solve(normal, (slopes @ left).astype(np.float64))[..., 0]
        placement += np.clip(change, -_LONGEST_STEP, _LONGEST_STEP)
        scale = placement[:, 2:]
        scale[...] = np.copysign(np.clip(np.abs(scale), _SMALLEST, _LARGEST), scale)
    return best, best_correlation


def _compare(first: NDArray, second: NDArray, placement: NDArray) -> tuple[NDArray, NDArray]:
    """Return similarity and overlap of pairs that lie as they should."""
    cells = _LEVELS[-1].cells
    blur = blurring(cells, _BLOCK / 2)
    sampled, inside = _sample(second.astype(np.float32), placement, cells)
    one = _local_contrast(_sample_whole(first, cells), inside, blur)
    other = _local_contrast(sampled, inside, blur)
    square = _blocks(one * one), _blocks(other * other)
    correlation = _blocks(one * other) / np.sqrt(square[0] * square[1] + 1e-6)
    shows = (np.maximum(*square) > _FLAT) & (_blocks(inside) > 0.5)
    correlation[~shows] = np.nan
    n_shown = shows.sum(axis=1)
    similarity = np.zeros(len(first))
    some = n_shown > 0
    similarity[some] = np.nanmedian(correlation[some], axis=1)
    similarity *= np.sqrt(np.minimum(n_shown / _ENOUGH_BLOCKS, 1))
    return similarity, inside.mean(axis=(1, 2))


def _is_allowed(placement: NDArray) -> NDArray:
    scale = np.abs(placement[:, 2:])
    stretched = scale.max(axis=1) / scale.min(axis=1)
    return (stretched <= _MOST_STRETCHED) & (scale < _LARGEST).all(1) & (scale > _SMALLEST).all(1)


def _sample_whole(pixels: NDArray, cells: int) -> NDArray[np.float32]:
    """Average whole thumbnails into cells."""
    each = pixels.shape[1] // cells
    parts = pixels.reshape(len(pixels), cells, each, cells, each)
    return parts.mean(axis=(2, 4), dtype=np.float32)


def _sample(
    pixels: NDArray[np.float32], placement: NDArray, cells: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Sample thumbnails where the cells of the first lie on them, and say which lie inside (1)."""
    side = pixels.shape[1]
    place = (np.arange(cells) + 0.5) / cells
    weights, inside = [], []
    for axis in (0, 1):
        scale = placement[:, 2 + axis, None]
        at = (placement[:, axis, None] + scale * place) * side - 0.5
        width = np.maximum(np.abs(scale) * side / cells, 1)[..., None]
        near = np.clip(1 - np.abs(at[..., None] - np.arange(side)) / width, 0, None)
        is_inside = (at > -0.5) & (at < side - 0.5)
        near *= is_inside[..., None] / np.maximum(near.sum(axis=2, keepdims=True), 1e-6)
        weights.append(near.astype(np.float32))
        inside.append(is_inside.astype(np.float32))
    sampled = weights[0] @ pixels @ weights[1].swapaxes(1, 2)
    return sampled, inside[0][:, :, None] * inside[1][:, None, :]


def _local_contrast(cells: NDArray, inside: NDArray, blur: NDArray) -> NDArray[np.float32]:
    """Subtract the mean around each cell and divide by the spread around it, inside alone."""
    weight = np.maximum(blur @ inside @ blur.T, 1e-3)
    detail = (cells - blur @ (cells * inside) @ blur.T / weight) * inside
    variance = blur @ (detail * detail) @ blur.T / weight
    mean = (variance * inside).sum(axis=(1, 2)) / np.maximum(inside.sum(axis=(1, 2)), 1)
    return detail / np.sqrt(variance + 0.1 * mean[:, None, None] + 4)


def _unit(cells: NDArray) -> NDArray:
    return cells / (np.sqrt((cells * cells).sum(axis=(1, 2), keepdims=True)) + 1e-6)


def _blocks(cells: NDArray) -> NDArray:
    """Means over blocks, shape (n, n_blocks)."""
    n, side = len(cells), cells.shape[1] // _BLOCK
    return cells.reshape(n, side, _BLOCK, side, _BLOCK).mean(axis=(2, 4)).reshape(n, -1)
