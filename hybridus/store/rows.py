"""Feature rows kept on disk, so that an image is encoded once and not once per fold.

Knows how rows are found by content key and fingerprint, which process may encode a missing one, and
which rows are dropped when space runs out; it knows nothing of images, encoders or Keras.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import KW_ONLY, dataclass
from functools import partial
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hybridus._environment import cache_folder
from hybridus.inputs.files import FileStamp
from hybridus.store import tables as tables
from hybridus.store.file import StoreFile, remove_database, store_file

__all__ = ["FeatureStore", "store_of"]

Floats = NDArray[np.float32]

WRITE_SLICE = 1024  # rows per transaction
EVICT_TO = 0.95  # share of max_bytes that is left after an eviction


@dataclass(frozen=True, repr=False)
class FeatureStore:
    """Rows of float32 features on disk, found by content key under an encoder's fingerprint.

    Threads, processes and runs may use one folder at the same time. The object holds nothing but
    its parameters: the database is opened at the first use and never copied or pickled along, so
    the store can be a parameter of an estimator. No fault of the disk stops the caller: a row with
    a wrong checksum counts as missing, a damaged file is replaced by an empty one, and where the
    folder cannot be used rows are computed without it. Each of these is told once,
    as `FeatureStoreWarning`.

    Rows derive from users' images. They stay in `folder`, which is created with mode 0700; neither
    images nor file names are kept there. Checksums defend against damage, of rows as of networks
    that are kept beside them, and not against someone who can write to the folder and means harm: a
    folder that others may write to is warned of.

    Parameters
    ----------
    folder : str or path, default=None
        Where the database lies. None means the environment variable ``HYBRIDUS_CACHE``, and where
        that is not set the user's cache folder (``~/.cache/hybridus`` on Linux).
    max_bytes : int, default=10 * 2**30
        Size limit of the database. Beyond it, the rows used least recently go, 256 neighbours at a
        time. The write-ahead log may take up to 64 MiB more, for moments.
    lease_seconds : float, default=300
        How long the rows that one process has claimed stay reserved for it. The claims of a process
        that died on this computer end at once.
    file_entries : bool, default=True
        Whether to remember which content key belonged to a file, by its path, size and times of
        change, so that an unchanged file need not be read again. Switch it off where a file system
        does not keep these times.
    read_only : bool, default=False
        Use the rows that are kept and keep no others: where rows go elsewhere, as those of
        `hybridus.extract`, they would take twice the space.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> from hybridus.store.rows import FeatureStore
    >>> store = FeatureStore(tempfile.mkdtemp())
    >>> def encode(indices):
    ...     print("encoding", indices)
    ...     return np.ones((len(indices), 3), np.float32)
    >>> store.rows("encoder-1", [b"cat", b"dog", b"cat"], encode).shape
    encoding [0 1]
    (3, 3)
    >>> store.rows("encoder-1", [b"dog"], encode)
    array([[1., 1., 1.]], dtype=float32)
    >>> store.clear()
    2
    """

    folder: str | os.PathLike[str] | None = None
    _: KW_ONLY
    max_bytes: int = 10 * 2**30
    lease_seconds: float = 300.0
    file_entries: bool = True
    read_only: bool = False

    def __post_init__(self) -> None:
        if self.max_bytes <= 0 or self.lease_seconds <= 0:
            raise ValueError(
                f"max_bytes={self.max_bytes!r}, lease_seconds={self.lease_seconds!r}: both must be "
                "positive; to go without a store, pass cache=False to the extractor"
            )

    def __repr__(self) -> str:
        return f"FeatureStore({str(self.location)!r})"

    @property
    def location(self) -> Path:
        """Folder that is used now."""
        return cache_folder(self.folder)

    @property
    def _file(self) -> StoreFile:
        return store_file(self.location)

    def rows(
        self,
        fingerprint: str,
        keys: Sequence[bytes],
        encode: Callable[[NDArray[np.intp]], ArrayLike],
        *,
        chunk_size: int = 64,
    ) -> Floats:
        """Return the rows of all keys; those that nobody has encoded yet are encoded and kept.

        Of processes and threads that ask for the same missing rows at the same time, each encodes
        a share, chunk by chunk, and waits for the others' at the end.

        Parameters
        ----------
        fingerprint : str
            The encoder, with all that its rows depend on.
        keys : sequence of n bytes
            The content of each image; duplicates are encoded once.
        encode : callable
            ``encode(indices)`` returns the rows of ``keys[i] for i in indices``, shape
            (len(indices), width). What it raises is raised here, after its claims are released.
        chunk_size : int, default=64
            How many images are claimed at first; doubled up to 16-fold while a chunk takes less
            than a second.

        Returns
        -------
        rows : ndarray of shape (n, width), float32
            In the order of `keys`. The width is 0 where `keys` is empty and the fingerprint new.
        """
        unique, inverse = _without_duplicates(keys)
        first = np.unique(inverse, return_index=True)[1]
        values, found = self._lookup(fingerprint, unique)
        pending = np.flatnonzero(~found)
        size, pause, progress = chunk_size, 0.01, time.monotonic()
        while len(pending):
            # No claim outlives this, so whatever the reason, it is time to stop waiting for others.
            late = time.monotonic() - progress > self.lease_seconds
            refused, start = [], 0
            while start < len(pending):
                chunk = pending[start : start + size]
                start += size
                mine = self.claim(fingerprint, [unique[i] for i in chunk]) | late
                refused.append(chunk[~mine])
                if not (chunk := chunk[mine]).size:
                    continue
                began = time.monotonic()
                rows = self._encode(fingerprint, [unique[i] for i in chunk], encode, first[chunk])
                values = _at_width(values, rows.shape[1])
                values[chunk] = rows
                pause, progress = 0.01, time.monotonic()
                if progress - began < 1:
                    size = min(2 * size, 16 * chunk_size)
            pending = np.concatenate(refused)
            rows, found = self._lookup(fingerprint, [unique[i] for i in pending])
            if found.any():
                values = _at_width(values, rows.shape[1])
                values[pending[found]] = rows[found]
                pending, progress = pending[~found], time.monotonic()
            elif len(pending):
                time.sleep(pause)
                pause = min(2 * pause, 0.25)
        return values if len(unique) == len(keys) else values[inverse]

    def _encode(
        self,
        fingerprint: str,
        keys: list[bytes],
        encode: Callable[[NDArray[np.intp]], ArrayLike],
        indices: NDArray[np.intp],
    ) -> Floats:
        try:
            rows = np.asarray(encode(indices), dtype=np.float32)
            self.write(fingerprint, keys, rows)
        except BaseException:
            self.release(fingerprint, keys)
            raise
        return rows

    def lookup(self, fingerprint: str, keys: Sequence[bytes]) -> tuple[Floats, NDArray[np.bool_]]:
        """Return the rows that are stored.

        Parameters
        ----------
        fingerprint : str
            The encoder, with all that its rows depend on.
        keys : sequence of n bytes
            Any number, duplicates allowed.

        Returns
        -------
        rows : ndarray of shape (n, width), float32
            In the order of `keys`, NaN where a row is not found; width 0 under a new fingerprint.
        found : ndarray of shape (n,), bool
        """
        unique, inverse = _without_duplicates(keys)
        values, found = self._lookup(fingerprint, unique)
        if len(unique) == len(keys):
            return values, found
        return values[inverse], found[inverse]

    def _lookup(self, fingerprint: str, keys: list[bytes]) -> tuple[Floats, NDArray[np.bool_]]:
        nothing: tables.Found = np.empty((len(keys), 0), "f4"), np.zeros(len(keys), bool), [], []
        if not keys or self._is_absent():
            return nothing[:2]
        values, found, bad, worn = self._file.attempt(
            "read", lambda db: tables.read_rows(db, fingerprint, keys), nothing
        )
        if bad:
            self._warn_of_bad_rows(len(bad), removed=not self.read_only)
        if self.read_only:
            return values, found
        if bad:
            self._file.attempt(
                "write", lambda db: tables.delete_bad_rows(db, fingerprint, bad), None
            )
        if worn:
            self._file.attempt("write", lambda db: tables.touch(db, fingerprint, worn), None)
        return values, found

    def _is_absent(self) -> bool:
        """Whether there is nothing to read, and nothing is to be made."""
        return self.read_only and not self._file.files()

    def _warn_of_bad_rows(self, count: int, *, removed: bool = True) -> None:
        self._file.warn(
            "row",
            f"{count} feature rows in {str(self.location)!r} failed their checksum; they "
            f"{'were removed and ' * removed}are computed again. Check the disk if this comes back",
        )

    def write(self, fingerprint: str, keys: Sequence[bytes], rows: ArrayLike) -> None:
        """Store rows and end the caller's claims to them; rows already stored stay as they are.

        Parameters
        ----------
        fingerprint : str
            The encoder, with all that its rows depend on.
        keys : sequence of n bytes
            The content of each image.
        rows : array-like of shape (n, width), float32
            The first rows written under a fingerprint fix the width.

        Raises
        ------
        ValueError
            If `rows` has another shape, or another width than rows stored before.
        """
        values = np.ascontiguousarray(rows, dtype="<f4")
        if values.ndim != 2 or len(values) != len(keys) or values.shape[1] == 0:
            raise ValueError(
                f"got rows of shape {values.shape} for {len(keys)} keys, expected "
                f"({len(keys)}, width) with one row per key"
            )
        if self.read_only:
            return
        for start in range(0, len(keys), WRITE_SLICE):
            part = slice(start, start + WRITE_SLICE)
            self._write_slice(fingerprint, keys[part], values[part])

    def _write_slice(self, fingerprint: str, keys: Sequence[bytes], values: Floats) -> None:
        checksums = tables.checksums(fingerprint, keys, values)
        blobs = [row.data for row in values]
        records: list[tables.Record] = list(zip(keys, checksums, blobs, strict=True))

        def insert(db: tables.Connection) -> bool:
            tables.insert_rows(db, fingerprint, values.shape[1], records)
            tables.end_leases(db, fingerprint, keys)
            return tables.used_bytes(db) > self.max_bytes

        if self._file.attempt("write", insert, False):
            self._evict()

    def _evict(self) -> None:
        goal = EVICT_TO * self.max_bytes
        while not self._file.attempt("write", lambda db: tables.evict(db, goal), True):
            pass  # transactions are kept short, others can write in between
        if self._file.attempt("read", tables.file_bytes, 0) > 1.1 * self.max_bytes:
            self._file.attempt("vacuum", tables.shrink, None)  # the limit was higher before

    def width(self, fingerprint: str) -> int | None:
        """Return how many values a row has under the fingerprint, None where none is stored."""
        record = self._file.attempt(
            "read", lambda db: tables.find_fingerprint(db, fingerprint), None
        )
        return None if record is None else record[1]

    def claim(self, fingerprint: str, keys: Sequence[bytes]) -> NDArray[np.bool_]:
        """Reserve missing rows for the calling thread, which is to encode and write them.

        Parameters
        ----------
        fingerprint : str
            The encoder, with all that its rows depend on.
        keys : sequence of n bytes
            The content of each image, without duplicates.

        Returns
        -------
        mine : ndarray of shape (n,), bool
            False where the row is stored, or another process or thread holds the claim. All True
            where the store is out of reach, or is only read.
        """
        if self.read_only:
            return np.ones(len(keys), bool)
        return self._file.attempt(
            "write",
            lambda db: tables.claim(db, fingerprint, keys, self.lease_seconds),
            np.ones(len(keys), bool),
        )

    def release(self, fingerprint: str, keys: Sequence[bytes]) -> None:
        """Give up the calling thread's claims, so that others may encode these rows."""
        if self.read_only:
            return
        self._file.attempt("write", lambda db: tables.end_leases(db, fingerprint, keys), None)

    def recall_files(self, files: Sequence[FileStamp]) -> list[bytes | None]:
        """Return the content key of each unchanged file, None where it is not known.

        Parameters
        ----------
        files : sequence of n FileStamp
            As `hybridus.inputs.files.stamp_file` gives them.

        Returns
        -------
        keys : list of n bytes or None
        """
        if not self.file_entries or not files or self._is_absent():
            return [None] * len(files)
        stamps = [_digest(file) for file in files]
        known: dict[bytes, bytes] = self._file.attempt(
            "read", lambda db: tables.recall_files(db, stamps), {}
        )
        return [known.get(stamp) for stamp in stamps]

    def remember_files(self, files: Sequence[FileStamp], keys: Sequence[bytes]) -> None:
        """Note the content key of each file, under a digest of its path, size and times.

        Files changed within the last two seconds are left out: they could change once more without
        it showing.
        """
        if self.read_only or not self.file_entries:
            return
        entries = [
            (_digest(file), key) for file, key in zip(files, keys, strict=True) if file.is_settled
        ]
        if entries:
            self._file.attempt("write", lambda db: tables.remember_files(db, entries), None)

    def info(self) -> dict[str, Any]:
        """Return what the store holds: folder, bytes on disk, limit, rows, files, fingerprints.

        ``info()["fingerprints"]`` is a list of dicts (fingerprint, rows, width, last_use in seconds
        since 1970), the latest used first. Nothing is created where there is no store yet.
        """
        about: dict[str, Any] = {
            "folder": str(self.location),
            "bytes": self._file.size(),
            "max_bytes": self.max_bytes,
        }
        if not self._file.files():
            return about | {"rows": 0, "files": 0, "fingerprints": []}
        return about | self._file.run("read", tables.contents)

    def clear(self, fingerprint: str | None = None) -> int:
        """Delete the rows of one fingerprint, or all that is stored; return the number of rows.

        Raises
        ------
        OSError, sqlite3.OperationalError
            If the folder cannot be written.
        """
        if not self._file.files():
            return 0
        count = self._file.run("write", lambda db: tables.clear(db, fingerprint))
        self._file.run("vacuum", tables.shrink)
        if fingerprint is None:
            for path in self._file.files()[:-1]:  # left where Windows kept one open
                remove_database(path)
        return count

    def verify(self) -> dict[str, int]:
        """Check the file and every row; bad rows are removed and will be computed again.

        Returns
        -------
        report : dict
            ``rows``, how many rows were read, and ``bad``, how many of them were removed. A file
            whose structure is damaged is replaced first; rows it lost are not among them.
        """
        report = {"rows": 0, "bad": 0}
        if not self._file.files():
            return report
        self._file.run("read", tables.verify_structure)
        last, rows = 0, 1
        while rows:
            work = partial(tables.verify_slice, after=last)
            last, rows, bad = self._file.run("write", work)
            report["rows"] += rows
            report["bad"] += bad
        if report["bad"]:
            self._warn_of_bad_rows(report["bad"])
        return report

    def close(self) -> None:
        """Close this process's connection to the folder; the next use opens it again."""
        self._file.close()


def store_of(cache: bool | str | os.PathLike[str] | FeatureStore) -> FeatureStore | None:
    """Open what an estimator's parameter ``cache`` stands for; None where nothing is kept.

    Parameters
    ----------
    cache : bool, path or FeatureStore
        True is the default folder, a path another one.

    Raises
    ------
    ValueError
        For the texts "True", "False" and "None", which would become folders of that name.
    """
    if isinstance(cache, FeatureStore):
        return cache
    if isinstance(cache, str) and cache in ("True", "False", "None"):
        raise ValueError(
            f"cache={cache!r} is text and would be a folder of that name; expected True, False, a "
            "path or a FeatureStore"
        )
    if isinstance(cache, str | os.PathLike):
        return FeatureStore(cache)
    return FeatureStore() if cache else None


def _without_duplicates(keys: Sequence[bytes]) -> tuple[list[bytes], NDArray[np.intp]]:
    """Return the keys, each once, and for every key given its place among them."""
    place: dict[bytes, int] = {}
    inverse = np.fromiter((place.setdefault(key, len(place)) for key in keys), np.intp, len(keys))
    return list(place), inverse


def _at_width(values: Floats, width: int) -> Floats:
    """Return the rows, whose width was unknown until now, at the width that rows turned out."""
    if values.shape[1] == 0:
        return np.full((len(values), width), np.nan, np.float32)
    if values.shape[1] != width:
        raise ValueError(
            f"encode returned rows of {width} values, but other rows under this fingerprint have "
            f"{values.shape[1]}; one fingerprint stands for one encoder and one width"
        )
    return values


def _digest(file: FileStamp) -> bytes:
    """Digest a stamp, since file names can name patients."""
    path, *numbers = file
    return blake2b(repr(numbers).encode() + os.fsencode(path), digest_size=16).digest()
