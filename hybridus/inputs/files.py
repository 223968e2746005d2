"""Files: written whole or not at all, and known again for as long as they do not change.

They are written under another name, then renamed: a reader sees the old file or the new one, never
half of one, also if the writer is killed.
"""

from __future__ import annotations

import hashlib
import os
import time
import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

import joblib

V = TypeVar("V")

_UNSURE_NS = 2 * 10**9  # what changed so recently may change again within one tick of its times


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a fresh name beside `path`, and move what was written there to `path` at the end.

    If the body raises, what it wrote is removed and the old file stays as it was.

    Parameters
    ----------
    path : str or path-like
        The file to replace or make. Missing folders are made.

    Yields
    ------
    pathlib.Path
        A name in the same folder that does not exist yet and ends as `path` does.

    Examples
    --------
    >>> import tempfile
    >>> from hybridus.inputs.files import replacing
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with replacing(f"{folder}/scores.csv") as temporary:
    ...         _ = temporary.write_text("accuracy,0.84", encoding="utf-8")
    ...     [file.name for file in Path(folder).iterdir()]
    ['scores.csv']
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    # The ending is kept: joblib and pandas choose the compression by it.
    temporary = target.with_name(f".{uuid.uuid4().hex[:8]}-{target.name}")
    try:
        yield temporary
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)


def dump_atomically(obj: Any, path: str | os.PathLike[str]) -> Path:
    """`joblib.dump` that leaves either the whole file or the old one.

    Parameters
    ----------
    obj : object
        Anything joblib can pickle, such as a fitted pipeline.
    path : str or path-like
        Where the file lies afterwards. Missing folders are made. An ending that joblib knows,
        such as ``.joblib.gz``, compresses.

    Returns
    -------
    pathlib.Path
        `path`.

    Raises
    ------
    OSError
        If the folder or the file cannot be written.

    Notes
    -----
    Loading a joblib file runs code from it: open only files you trust.

    Examples
    --------
    >>> import joblib, tempfile
    >>> from hybridus.inputs.files import dump_atomically
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     joblib.load(dump_atomically({"C": 10}, f"{folder}/models/svm.joblib"))
    {'C': 10}
    """
    with replacing(path) as temporary:
        joblib.dump(obj, temporary)
    return Path(path)


class FileStamp(NamedTuple):
    """What changes when a file does; the time of the last change of its status cannot be set.

    `reading` tells apart what is read from one file in several ways.
    """

    path: str
    size: int
    mtime_ns: int
    ctime_ns: int
    reading: str = ""

    @property
    def is_settled(self) -> bool:
        """Whether the next change of the file will show: not within two seconds of the last."""
        return max(self.mtime_ns, self.ctime_ns) < time.time_ns() - _UNSURE_NS


def stamp_file(path: str | os.PathLike[str], reading: str = "") -> FileStamp | None:
    """Stamp a file; None where it is not there: reading it will say so."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return FileStamp(
        os.path.abspath(path), status.st_size, status.st_mtime_ns, status.st_ctime_ns, reading
    )


class KnownFiles(Generic[V]):
    """What was once found out about files, for as long as they do not change and the process lives.

    Parameters
    ----------
    most : int
        Files that are known at a time; when there are more, all are forgotten.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._known: dict[FileStamp, V] = {}

    def recall(self, stamps: Iterable[FileStamp | None]) -> list[V | None]:
        """Return what is known of each file, None where it is nothing."""
        return [None if stamp is None else self._known.get(stamp) for stamp in stamps]

    def remember(self, stamps: Sequence[FileStamp | None], values: Sequence[V]) -> None:
        """Note something about each file, but for those that changed just now."""
        if len(self._known) + len(stamps) > self._most:
            self._known.clear()
        for stamp, value in zip(stamps, values, strict=True):
            if stamp is not None and stamp.is_settled:
                self._known[stamp] = value


def digest_file(path: str | os.PathLike[str]) -> str:
    """SHA-256 of a file, ``sha256:...``; of one that has not changed it is computed once."""
    stamp = stamp_file(path)
    (digest,) = _digests.recall([stamp])
    if digest is None:
        with open(path, "rb") as file:
            digest = "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()
        _digests.remember([stamp], [digest])
    return digest


_digests: KnownFiles[str] = KnownFiles(64)
