"""Candidates: which thumbnails may show the same picture, found without comparing all pixels.

A thumbnail as a whole is looked for in windows of all others, so that a crop finds what it was cut
from. A window is described by the low frequencies of its local contrast, which survive resizing,
brightness, gamma, and what is drawn into a few places.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import grey_opening

from hybridus._environment import n_threads
from hybridus.inputs.resizing import map_ahead
from hybridus.protocol.auditing.thumbnails import SIDE

# Sizes of windows, as shares of the side, and at how many places on each axis; about what a
# description tolerates (8 % of the side) lies between neighbours.
_WINDOWS = ((1.0, 1), (0.85, 2), (0.7, 3), (0.58, 4))
_CELLS = 16  # averages of a window, on each axis
_CONTRAST_RADIUS = 4.0  # cells
_N_FREQUENCIES = 64
_WHITENING = 0.25  # power of 1 + frequency squared that frequencies are weighted by
_THIN = 7  # pixels of a thumbnail; what is brighter and narrower is left out, as text is
_AT_ONCE = 64  # thumbnails


class Candidates(NamedTuple):
    """Pairs that may be duplicates and how the first lies in the second.

    Attributes
    ----------
    first, second : array of shape (n,), int
        Positions of the thumbnails.
    placement : array of shape (n, 4), float
        ``ty, tx, sy, sx``: what lies at ``(y, x)`` in the first, in shares of its height and width,
        lies at ``(ty + sy * y, tx + sx * x)`` in the second. ``sx`` is negative where it is
        mirrored.
    """

    first: NDArray[np.intp]
    second: NDArray[np.intp]
    placement: NDArray[np.float64]


def find_candidates(thumbnails: NDArray[np.uint8], n_nearest: int = 10) -> Candidates:
    """Find for each thumbnail those that resemble it most, as a whole or in a window.

    Parameters
    ----------
    thumbnails : array of shape (n, SIDE, SIDE), uint8
    n_nearest : int, default=10
        Thumbnails that are looked up for each.

    Returns
    -------
    Candidates
        Each pair once in each direction that it was found in, never an image with itself.
    """
    n = len(thumbnails)
    windows = _windows()
    described = np.empty((n, len(windows), _N_FREQUENCIES), np.float32)
    for start, part in _parts(thumbnails):
        described[start : start + len(part)] = _describe_windows(part)
    n_nearest = min(n_nearest, n - 1)
    if n_nearest < 1:
        return Candidates(np.zeros(0, np.intp), np.zeros(0, np.intp), np.zeros((0, 4)))

    def nearest(begun: tuple[int, NDArray]) -> Candidates:
        start, part = begun
        upright = described[start : start + len(part), 0]
        mirrored = _describe_windows(part[:, :, ::-1], whole_only=True)[:, 0]
        return _nearest(start, upright, mirrored, described, windows, n_nearest)

    found = list(map_ahead(nearest, _parts(thumbnails), n_threads=n_threads(), ahead=4))
    return Candidates(*(np.concatenate(column) for column in zip(*found, strict=True)))


def _parts(thumbnails: NDArray) -> Iterator[tuple[int, NDArray]]:
    """Yield thumbnails without what is drawn into them, some at a time."""
    for start in range(0, len(thumbnails), _AT_ONCE):
        part = thumbnails[start : start + _AT_ONCE]
        yield start, grey_opening(part, size=(1, _THIN, _THIN))


def _nearest(
    start: int,
    upright: NDArray,
    mirrored: NDArray,
    described: NDArray,
    windows: NDArray,
    n_nearest: int,
) -> Candidates:
    """Look up a part of the thumbnails in the windows of all."""
    n_part, n = len(upright), len(described)
    likeness = np.empty((2, n_part, n), np.float32)
    window = np.empty((2, n_part, n), np.intp)
    asked = np.concatenate([upright, mirrored])
    for begin in range(0, n, _AT_ONCE):
        some = described[begin : begin + _AT_ONCE]
        cosines = asked @ some.reshape(-1, some.shape[-1]).T
        cosines = cosines.reshape(2, n_part, len(some), len(windows))
        best = cosines.argmax(axis=3)
        window[:, :, begin : begin + _AT_ONCE] = best
        likeness[:, :, begin : begin + _AT_ONCE] = np.take_along_axis(
            cosines, best[..., None], axis=3
        )[..., 0]
    is_mirrored = likeness.argmax(axis=0)
    likeness = likeness.max(axis=0)
    own = np.arange(n_part)
    likeness[own, start + own] = -np.inf
    second = np.argpartition(-likeness, n_nearest - 1, axis=1)[:, :n_nearest].ravel()
    first = np.repeat(own, n_nearest)
    turned = is_mirrored[first, second] == 1
    placement = windows[window[turned.astype(int), first, second]].copy()
    placement[turned, 1] += placement[turned, 3]
    placement[turned, 3] *= -1
    return Candidates(start + first, second.astype(np.intp), placement)


def _places() -> list[tuple[float, float]]:
    """Start and size of the windows on one axis, the whole first."""
    return [(start, size) for size, count in _WINDOWS for start in np.linspace(0, 1 - size, count)]


def _windows() -> NDArray:
    """Placements of the whole in each window, the whole itself first."""
    places = _places()
    return np.array([[ty, tx, sy, sx] for ty, sy in places for tx, sx in places])


def _describe_windows(thumbnails: NDArray, *, whole_only: bool = False) -> NDArray:
    """Describe windows of thumbnails by unit vectors, shape (n, n_windows, _N_FREQUENCIES)."""
    places = _places()[:1] if whole_only else _places()
    averaging = np.concatenate([_averages(start, size) for start, size in places])
    cells = averaging @ thumbnails.astype(np.float32) @ averaging.T
    n, n_places = len(thumbnails), len(places)
    cells = cells.reshape(n, n_places, _CELLS, n_places, _CELLS).swapaxes(2, 3)
    blur = blurring(_CELLS, _CONTRAST_RADIUS)
    detail = cells - blur @ cells @ blur.T
    spread = np.sqrt(blur @ (detail * detail) @ blur.T)
    detail /= spread + 0.3 * spread.mean(axis=(-1, -2), keepdims=True) + 1
    rows = detail.reshape(n, n_places**2, _CELLS**2) @ _FREQUENCIES
    return rows / np.maximum(np.linalg.norm(rows, axis=-1, keepdims=True), 1e-6)


def _averages(start: float, size: float) -> NDArray[np.float32]:
    """Matrix that averages the pixels of a window on one axis into cells."""
    edges = (start + size * np.linspace(0, 1, _CELLS + 1)) * SIDE
    pixel = np.arange(SIDE)
    shared = np.minimum(edges[1:, None], pixel + 1) - np.maximum(edges[:-1, None], pixel)
    shared = np.clip(shared, 0, None)
    return (shared / shared.sum(axis=1, keepdims=True)).astype(np.float32)


def blurring(n: int, radius: float) -> NDArray[np.float32]:
    """Matrix of a Gaussian blur of n values; at the ends it averages what there is."""
    place = np.arange(n)
    weights = np.exp(-0.5 * ((place[:, None] - place) / radius) ** 2)
    return (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)


def _low_frequencies() -> NDArray[np.float32]:
    """Cosines of the lowest frequencies but the mean, as columns."""
    place = np.arange(_CELLS)
    cosines = np.cos(np.pi * (place[:, None] + 0.5) * place / _CELLS)
    cosines /= np.linalg.norm(cosines, axis=0)
    squared = np.add.outer(place**2, place**2).ravel()
    lowest = np.argsort(squared, kind="stable")[1 : _N_FREQUENCIES + 1]
    columns = [np.outer(cosines[:, k // _CELLS], cosines[:, k % _CELLS]).ravel() for k in lowest]
    weights = (1 + squared[lowest]) ** _WHITENING
    return (np.stack(columns, axis=1) * weights).astype(np.float32)


_FREQUENCIES = _low_frequencies()
