"""Activations of a frozen prefix, and where they lie while networks are trained on them.

Rows are kept by content, for the whole process and up to a size; the oldest go first. Many that are
encoded together lie in a memory-mapped file that has no name, few of them in memory. Nothing of
them outlives the process, even if it is killed.
"""

import os
import tempfile
import threading
import warnings
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence

import numpy as np
from numpy.typing import DTypeLike, NDArray

from hybridus._environment import cache_folder, make_private

Key = tuple[bytes, str]  # content of an image, name of its view
_IN_MEMORY = 2**24  # smaller arrays are not worth a file


def most_bytes() -> int:
    """Bytes of activations that a process keeps: ``HYBRIDUS_ACTIVATION_GIB``, by default 4 GiB."""
    given = os.environ.get("HYBRIDUS_ACTIVATION_GIB", "4")
    try:
        limit = float(given)
    except ValueError:
        limit = -1.0
    if not limit >= 0:
        raise ValueError(f"HYBRIDUS_ACTIVATION_GIB={given!r}: expected a number of GiB, 0 or more")
    return int(limit * 2**30)


def scratch_array(shape: tuple[int, ...], dtype: DTypeLike) -> NDArray:
    """Array that the system may write to disk; its file has no name and goes with the array.

    Raises
    ------
    OSError
        Where the disk has no room for it.
    """
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    if size < _IN_MEMORY:
        return np.empty(shape, dtype)
    folder = cache_folder() / "scratch"
    make_private(folder)
    with tempfile.TemporaryFile(dir=folder) as file:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, size)  # a full disk is an error now, not a signal
        else:
            file.truncate(size)
        return np.memmap(file, dtype, "r+", shape=shape)


def _check_range(part: NDArray, dtype: np.dtype) -> None:
    if dtype != np.float16:
        return
    most = max(float(np.max(part)), -float(np.min(part)))
    if most > float(np.finfo(np.float16).max):  # NumPy would compare in float16
        raise ValueError(
            f"the encoder gives values up to {most:.3g}, more than float16 holds (65504): take "
            "activation_dtype='float32' where there is that parameter, or other layers"
        )


class Rows:
    """Rows of one length that lie in several arrays, taken by index."""

    def __init__(self, places: Sequence[tuple[NDArray, int]]) -> None:
        self._places = places

    def __len__(self) -> int:
        return len(self._places)

    def take(self, indices: Iterable[int]) -> NDArray:
        """Copy rows into a new array of shape (n, width), of the type that they are kept in."""
        places = [self._places[i] for i in indices]
        block = self._places[0][0]
        taken = np.empty((len(places), block.shape[1]), block.dtype)
        for row, (block, place) in zip(taken, places, strict=True):
            row[...] = block[place]
        return taken


class _Block:
    """Rows that were encoded together, under one fingerprint."""

    def __init__(self, rows: NDArray, names: list[tuple[str, Key]]) -> None:
        self.rows = rows
        self.names = names


class ActivationStore:
    """Rows of one process, by fingerprint of what made them and content of what they show."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._blocks: OrderedDict[int, _Block] = OrderedDict()  # the latest used last
        self._where: dict[tuple[str, Key], tuple[_Block, int]] = {}
        self._bytes = 0

    def rows(
        self,
        fingerprint: str,
        keys: Sequence[Key],
        width: int,
        encode: Callable[[list[int]], Iterable[NDArray]],
        *,
        dtype: DTypeLike = np.float32,
        passing: bool = False,
    ) -> Rows | None:
        """Return the rows of all keys; those that are not kept yet are encoded.

        Parameters
        ----------
        fingerprint : str
            The frozen network, with all that its activations depend on.
        keys : sequence of n (bytes, str)
            Content of each image and name of its view.
        width : int
            Values in a row.
        encode : callable
            ``encode(indices)`` yields arrays of rows, in the order of `indices` into `keys`.
        dtype : dtype, default=float32
            How rows are kept; part of what the fingerprint must hold.
        passing : bool, default=False
            Whether these images may never come again, as those of a prediction: then what is
            encoded now is kept only while three quarters of the room stay free.

        Returns
        -------
        Rows or None
            None where all these rows together exceed `most_bytes`, or the disk has no room.
        """
        row_bytes = width * np.dtype(dtype).itemsize
        unique = list(dict.fromkeys(keys))
        if len(unique) * row_bytes > most_bytes():
            return None
        with self._lock:
            found = {key: self._use((fingerprint, key)) for key in unique}
        first = {key: i for i, key in reversed(list(enumerate(keys)))}
        missing = [key for key in unique if found[key] is None]
        if missing:
            try:
                rows = scratch_array((len(missing), width), dtype)
            except OSError as error:
                warnings.warn(
                    f"no room for {len(missing) * row_bytes / 2**30:.1f} GiB of activations in "
                    f"{str(cache_folder())!r} ({error}); they are computed again in every epoch. "
                    "Free the disk, or set HYBRIDUS_CACHE to a folder on another",
                    stacklevel=3,
                )
                return None
            done = 0
            for part in encode([first[key] for key in missing]):
                _check_range(part, rows.dtype)
                rows[done : done + len(part)] = part
                done += len(part)
            block = _Block(rows, [(fingerprint, key) for key in missing])
            with self._lock:
                if not passing or 4 * (self._bytes + rows.nbytes) <= most_bytes():
                    self._add(block)
            found |= {key: (block, place) for place, key in enumerate(missing)}
        places = [found[key] for key in keys]
        return Rows([(place[0].rows, place[1]) for place in places if place is not None])

    def clear(self) -> None:
        """Forget all rows; their memory is free once nobody trains on them."""
        with self._lock:
            self._blocks.clear()
            self._where.clear()
            self._bytes = 0

    @property
    def n_bytes(self) -> int:
        """Bytes of the rows that are kept."""
        return self._bytes

    def _use(self, name: tuple[str, Key]) -> tuple[_Block, int] | None:
        place = self._where.get(name)
        if place is not None:
            self._blocks.move_to_end(id(place[0]))
        return place

    def _add(self, block: _Block) -> None:
        self._blocks[id(block)] = block
        self._bytes += block.rows.nbytes
        self._where |= {name: (block, place) for place, name in enumerate(block.names)}
        while self._bytes > most_bytes():
            # Who trains on these rows holds them until it has done.
            _, oldest = self._blocks.popitem(last=False)
            self._bytes -= oldest.rows.nbytes
            for name in oldest.names:
                if self._where.get(name, (None,))[0] is oldest:
                    del self._where[name]


ACTIVATIONS = ActivationStore()
