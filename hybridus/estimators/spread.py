"""Spread: rows that are missing are computed by joblib's workers, on this machine or on others.

The caller looks up what is kept and sends only the rest, in chunks; workers open the files of their
chunk themselves, and keep its rows where they have the same folder. Rows come back in any case.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from joblib import effective_n_jobs
from joblib.parallel import get_active_backend
from numpy.typing import NDArray
from sklearn.utils.parallel import Parallel, delayed

from hybridus.estimators.lazy import runs_in_task
from hybridus.estimators.stored_rows import Rows, keys_in_memory
from hybridus.inputs.files import FileStamp
from hybridus.inputs.images import Images
from hybridus.store.rows import FeatureStore

# Images that are sent at a time: few enough that little is lost with a worker, and enough that
# sending costs nothing beside encoding.
_FEWEST, _MOST = 4, 64
_CHUNKS_EACH = 4  # so that no worker waits long for the last one

# Computes the rows of images in a worker: content keys, none where nothing is kept, and rows.
Compute = Callable[..., Iterator[tuple[list[bytes], Rows]]]


def spreads(n_jobs: int | None) -> bool:
    """Whether joblib has workers for this `n_jobs`, and not only the caller itself.

    Where None leaves it to what surrounds the call, a task of a worker does its work itself: what
    handed out the tasks has given the other workers theirs.
    """
    if n_jobs == 1 or (n_jobs is None and runs_in_task()):
        return False
    backend, _ = get_active_backend()
    elsewhere = type(backend).__module__ != "joblib._parallel_backends"  # even if in one process
    return elsewhere or effective_n_jobs(n_jobs) > 1


def spread_rows(
    images: Images,
    compute: Compute,
    *,
    network: Callable[[], Sequence[NDArray]],
    store: FeatureStore | None,
    fingerprint: str,
    n_jobs: int | None,
    encoded: Callable[[int], None],
    seen: Callable[[int], None],
) -> Rows:
    """Return the rows of images, of which those that are missing are computed by workers.

    Parameters
    ----------
    images : Images
    compute : callable
        ``compute(images, *network)`` in a worker.
    network : callable
        Makes, once and only where rows are missing, the arrays that every worker needs.
    store : FeatureStore or None
        The caller's.
    fingerprint : str
        Digest of all that decides a row but the image.
    n_jobs : int or None
        joblib's.
    encoded, seen : callable
        Told after each chunk how many images workers encoded, and how many have their rows.

    Raises
    ------
    ValueError
        Where a file cannot be read: what reading it here says, or if that works, what the worker
        said.
    """
    rows, missing, same, stamps = _look_up(images, store, fingerprint)
    seen(len(images) - len(missing))
    if not missing:
        return rows[same]
    arrays = network()
    chunks = chunks_of(missing, n_jobs)
    unread: tuple[int, str] | None = None

    def jobs() -> Iterator[Any]:
        for chunk in chunks:
            if unread is not None:
                return
            yield delayed(_compute_chunk)(compute, images.take(chunk), *arrays)

    outcomes = Parallel(n_jobs=n_jobs, return_as="generator")(jobs())
    for chunk, outcome in zip(chunks, outcomes, strict=False):
        if isinstance(outcome, _Unread):  # what is under way still counts
            unread = unread or (chunk[outcome.place], outcome.message)
            continue
        keys, found = outcome
        if rows.shape[1] == 0:
            rows = np.empty((len(images), found.shape[1]), np.float32)
        rows[chunk] = found
        if store is not None:
            _keep(store, fingerprint, keys, found, [stamps[i] for i in chunk])
        encoded(len(chunk))
        seen(len(chunk))
    if unread is not None:
        _raise_unread(images, *unread)
    return rows if np.array_equal(same, np.arange(len(images))) else rows[same]


def _look_up(
    images: Images, store: FeatureStore | None, fingerprint: str
) -> tuple[Rows, list[int], NDArray[np.intp], list[FileStamp | None]]:
    """Rows that are kept, images that are missing, the image of equal content for each, stamps."""
    n = len(images)
    same = np.arange(n)
    if store is None:
        return np.empty((n, 0), np.float32), list(range(n)), same, [None] * n
    stamps: list[FileStamp | None] = [None] * n
    if images.paths is None:
        keys: list[bytes | None] = list(keys_in_memory(images, range(n)))
    else:
        stamps = images.stamps
        noted = iter(store.recall_files([stamp for stamp in stamps if stamp]))
        keys = [next(noted) if stamp else None for stamp in stamps]
    first: dict[bytes, int] = {}
    for i, key in enumerate(keys):
        if key is not None:
            same[i] = first.setdefault(key, i)
    values, found = store.lookup(fingerprint, list(first))
    rows = np.empty((n, values.shape[1]), np.float32)
    places = np.fromiter(first.values(), np.intp, len(first))
    rows[places[found]] = values[found]
    lacking = set(places[~found].tolist())
    missing = [i for i, key in enumerate(keys) if key is None or i in lacking]
    return rows, missing, same, stamps


def chunks_of(items: Sequence[int], n_jobs: int | None) -> list[list[int]]:
    """Divide numbers of images into what a worker takes at a time, in order."""
    size = math.ceil(len(items) / (_CHUNKS_EACH * effective_n_jobs(n_jobs)))
    size = min(max(size, _FEWEST), _MOST)
    return [list(items[i : i + size]) for i in range(0, len(items), size)]


def _keep(
    store: FeatureStore,
    fingerprint: str,
    keys: list[bytes],
    rows: Rows,
    stamps: Sequence[FileStamp | None],
) -> None:
    """Keep what a worker that has another folder, or could not write to ours, has sent."""
    _, found = store.lookup(fingerprint, keys)
    if not found.all():
        lacking = np.flatnonzero(~found)
        store.write(fingerprint, [keys[i] for i in lacking], rows[lacking])
    known = [(stamp, key) for stamp, key in zip(stamps, keys, strict=True) if stamp]
    store.remember_files([stamp for stamp, _ in known], [key for _, key in known])


class _Unread(NamedTuple):
    """An image of a chunk that a worker could not read, as a value: it must not end the work."""

    place: int
    message: str


class _UnreadError(Exception):
    """An image that cannot be read, told apart from all else that raises `ValueError`."""


def _compute_chunk(
    compute: Compute, images: Images, *arrays: NDArray
) -> tuple[list[bytes], Rows] | _Unread:
    def read(i: int) -> NDArray:
        try:
            return images[i]
        except (ValueError, ImportError) as error:
            raise _UnreadError(i, str(error)) from error

    told = Images(read, len(images), paths=images.paths, value_range=images.value_range)
    try:
        parts = list(compute(told, *arrays))
    except _UnreadError as error:
        return _Unread(*error.args)
    return [key for keys, _ in parts for key in keys], np.concatenate([rows for _, rows in parts])


def _raise_unread(images: Images, i: int, message: str) -> None:
    _ = images[i]  # which says what is wrong with it, as if there were no workers
    raise ValueError(
        f"{message}. That is what a worker says, while this process can read it: workers must find "
        "files under the same paths"
    )
