"""Rows of images: looked up by the content of the images, computed where they are missing, kept."""

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from hybridus._environment import n_threads
from hybridus.inputs.images import Images, content_key
from hybridus.inputs.resizing import map_ahead
from hybridus.store.rows import FeatureStore

_CHUNK = 512  # images that are looked up, and held as prepared pixels, at a time
_CLAIM = 128  # images that one of several processes takes upon itself at first
_FEWEST_SHARED = 16  # images in memory from which on threads share the digests

Rows = NDArray[np.float32]


def rows_of(
    images: Images,
    indices: Iterable[int],
    *,
    prepare: Callable[[NDArray], NDArray],
    compute: Callable[[Iterable[NDArray]], Iterator[Rows]],
    store: FeatureStore | None,
    fingerprint: str,
) -> Iterator[Rows]:
    """Yield the rows of images, several at a time.

    A file that has not changed since its key was noted is not even read. Files are decoded ahead
    of what computes; only their prepared pixels are kept meanwhile, so memory does not grow.

    Parameters
    ----------
    images : Images
    indices : iterable of int
        Which of them, in the order of the rows.
    prepare : callable
        From a canonical image to the pixels that are computed on, such as by resizing.
    compute : callable
        From prepared pixels to their rows, several at a time.
    store : FeatureStore or None
        None keeps nothing.
    fingerprint : str
        Digest of all that decides a row but the image: of `prepare` and `compute`.
    """
    found = keyed_rows_of(
        images, indices, prepare=prepare, compute=compute, store=store, fingerprint=fingerprint
    )
    for _, rows in found:
        yield rows


def keyed_rows_of(
    images: Images,
    indices: Iterable[int],
    *,
    prepare: Callable[[NDArray], NDArray],
    compute: Callable[[Iterable[NDArray]], Iterator[Rows]],
    store: FeatureStore | None,
    fingerprint: str,
) -> Iterator[tuple[list[bytes], Rows]]:
    """`rows_of`, with the content keys of the images; none of them where nothing is kept."""
    if store is None:
        prepared = map_ahead(lambda i: prepare(images[i]), indices, n_threads=n_threads())
        yield from (([], rows) for rows in compute(prepared))
        return
    paths = images.paths
    stamps = images.stamps
    noted = store.recall_files([stamp for stamp in stamps if stamp])
    known = dict(zip((i for i, stamp in enumerate(stamps) if stamp), noted, strict=True))

    def load(i: int) -> tuple[int, bytes, NDArray | None]:
        if (key := known.get(i)) is not None:
            return i, key, None
        image = images[i]
        return i, content_key(image), prepare(image)

    loaded: Iterator[tuple[int, bytes, NDArray | None]]
    if paths is None:
        loaded = ((i, key, None) for i, key in _with_keys(images, indices))
    else:
        # Threads are for decoding: they cost more than a key that is known.
        threads = n_threads() if None in known.values() else 1
        loaded = map_ahead(load, indices, n_threads=threads, ahead=_CHUNK)
    while chunk := list(itertools.islice(loaded, _CHUNK)):
        fresh = [(stamps[i], key) for i, key, pixels in chunk if pixels is not None and stamps[i]]
        store.remember_files([stamp for stamp, _ in fresh if stamp], [key for _, key in fresh])

        def compute_missing(
            places: NDArray[np.intp], chunk: list[tuple[int, bytes, NDArray | None]] = chunk
        ) -> Rows:
            missing = [chunk[place] for place in places]
            prepared = map_ahead(
                lambda item: prepare(images[item[0]]) if item[2] is None else item[2],
                missing,
                n_threads=n_threads() if any(item[2] is None for item in missing) else 1,
            )
            return stack(compute(prepared), len(missing))

        keys = [key for _, key, _ in chunk]
        yield keys, store.rows(fingerprint, keys, compute_missing, chunk_size=_CLAIM)


def _with_keys(images: Images, indices: Iterable[int]) -> Iterator[tuple[int, bytes]]:
    """Yield images in memory by number with their content keys."""
    indices = iter(indices)
    while chunk := list(itertools.islice(indices, _CHUNK)):
        yield from zip(chunk, keys_in_memory(images, chunk), strict=True)


def keys_in_memory(images: Images, indices: Sequence[int]) -> list[bytes]:
    """Content keys of images in memory, digested anew each time: they may have been changed.

    A digest of one image costs less than to hand it to a thread, so each thread has a share.
    """
    threads = n_threads() if len(indices) >= _FEWEST_SHARED else 1
    shares = [indices[start::threads] for start in range(threads)]

    def digest(share: Sequence[int]) -> list[bytes]:
        return [content_key(images[i]) for i in share]

    keys: list[bytes] = [b""] * len(indices)
    for start, found in enumerate(map_ahead(digest, shares, n_threads=threads)):
        keys[start::threads] = found
    return keys


def stack(parts: Iterable[Rows], n_rows: int) -> Rows:
    """Put rows under one another, in one array from the start: they may be many."""
    stacked, done = np.empty((0, 0), np.float32), 0
    for part in parts:
        if not done:
            stacked = np.empty((n_rows, part.shape[1]), np.float32)
        stacked[done : done + len(part)] = part
        done += len(part)
    return stacked


def with_progress(indices: Iterable[int], total: int, what: str) -> Iterator[int]:
    """Show a progress bar on standard error."""
    from rich.console import Console
    from rich.progress import track

    return iter(track(indices, what, total=total, console=Console(stderr=True)))
