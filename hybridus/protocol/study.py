"""Study: finished folds on disk, so that a comparison goes on where it stopped.

Knows the files of a study's folder: of each fold a JSON file and the arrays beside it, under a key
that tells all that decides the fold, and who is at work on it. What a fold is, it does not know.
"""

from __future__ import annotations

import json
import os
import time
import traceback
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from hashlib import file_digest, sha256
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import NDArray

from hybridus.exceptions import CacheWarning
from hybridus.inputs.files import replacing

Fields = dict[str, Any]

_NOTED_EVERY = 0.5  # seconds
_UNREADABLE = (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile)


class Study:
    """A folder of finished folds, which several processes may fill together.

    Each fold is written whole or not at all, so it outlives whatever ends the process; it is found
    again by its key and by nothing else. Predictions are kept beside the scores, and are as
    confidential as the images.

    Parameters
    ----------
    folder : str or path-like
        Made where it is missing. ``KEY.json`` holds what is plain (the scores among it),
        ``KEY.npz`` the arrays, ``KEY.error.json`` why a fold failed, ``claims/KEY.lock`` is locked
        while a process is at work on the fold, and ``claims/KEY.json`` says how far it is. Nothing
        in it runs code when it is read.

    Attributes
    ----------
    n_found : int
        Folds that were found in it so far, by this process.

    Raises
    ------
    OSError
        If the folder cannot be made or written to.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> from hybridus.protocol.study import Study
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     Study(folder).keep("some-key", {"scores": {"dice": 0.5}, "test": np.arange(3)})
    ...     Study(folder).recall("some-key")
    {'scores': {'dice': 0.5}, 'test': array([0, 1, 2])}
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder)
        self.n_found = 0
        self._begun = time.time()
        self._noted: dict[str, float] = {}  # when each fold under way here was begun
        self._told = False
        self._claims.mkdir(parents=True, exist_ok=True)
        if not os.access(self.folder, os.W_OK | os.X_OK):
            raise PermissionError(f"study={str(folder)!r}: cannot be written to; give another")

    @property
    def _claims(self) -> Path:
        return self.folder / "claims"

    def recall(self, key: str) -> Fields | None:
        """Read what was kept under a key; None where there is nothing, or nothing that is whole.

        Warns
        -----
        CacheWarning
            Where a file is there that is not what was written; once a study and process.
        """
        file = self._file(key)
        try:
            kept = json.loads(file.read_text(encoding="utf-8"))
            if kept["digest"] != _digest(key, kept["plain"], kept["arrays"]):
                raise ValueError("it does not hold what was written")
            found = kept["plain"] | _read_arrays(self._arrays(key), kept["arrays"])
        except (FileNotFoundError, NotADirectoryError) as error:
            if error.filename == os.fspath(file):
                return None
            self._warn_of_damage(file, error)
        except _UNREADABLE as error:
            self._warn_of_damage(file, error)
        else:
            self.n_found += 1
            return found
        return None

    def keep(self, key: str, fields: Mapping[str, Any]) -> None:
        """Write what a finished fold gave; without room or right for it, go on without.

        Parameters
        ----------
        key : str
        fields : dict
            Arrays (of arrays and of texts too), dicts of arrays, and what JSON knows; nothing else
            can be kept.

        Warns
        -----
        CacheWarning
            Where it cannot be written.
        """
        arrays = {name: value for name, value in fields.items() if _holds_arrays(value)}
        try:
            plain = json.loads(json.dumps({k: v for k, v in fields.items() if k not in arrays}))
            with replacing(self._arrays(key)) as temporary:
                np.savez_compressed(temporary, allow_pickle=False, **_packed(arrays))
                with temporary.open("rb") as file:
                    of_arrays = file_digest(file, "sha256").hexdigest()
            about = {"digest": _digest(key, plain, of_arrays), "plain": plain, "arrays": of_arrays}
            _write_json(self._file(key), about)  # last: what it names is there
            self._error_file(key).unlink(missing_ok=True)
        except (OSError, TypeError, ValueError) as error:
            warnings.warn(
                f"a finished fold could not be kept in {str(self.folder)!r} ({error}): it will be "
                "computed again when the study goes on",
                CacheWarning,
                stacklevel=2,
            )

    def keep_error(self, key: str, error: Exception, fields: Mapping[str, Any]) -> None:
        """Write why a fold failed. It is tried again by whoever comes next."""
        about = {**fields, "error": type(error).__name__, "message": str(error)}
        about["traceback"] = "".join(traceback.format_exception(error))
        with suppress(OSError):  # told to the caller anyway
            _write_json(self._error_file(key), about)

    @contextmanager
    def claim(self, key: str) -> Iterator[bool]:
        """Whether the fold is ours to compute; False while another process or thread is at it.

        The system gives up the claim of a process that ends, however it ends.
        """
        lock = FileLock(self._claims / f"{key}.lock")
        try:
            lock.acquire(blocking=False)
        except Timeout:
            yield False
            return
        except (OSError, NotImplementedError):
            # A file system without locks: a fold may be computed twice, and is right both times.
            yield True
            return
        try:
            for left in self.folder.glob(f".*-{key}.*"):  # by one that was killed while it wrote
                left.unlink(missing_ok=True)
            self._noted[key] = time.time()
            yield True
        finally:
            with suppress(OSError):
                self._progress_file(key).unlink(missing_ok=True)
            lock.release()

    def note(self, key: str, label: Mapping[str, Any], what: str, done: int, of: int) -> None:
        """Write how far a fold is that this process has claimed, for `under_way` of any process.

        At most twice a second, but for the first and the last of what is counted.
        """
        now = time.time()
        begun = self._noted.setdefault(key, now)
        file = self._progress_file(key)
        with suppress(OSError):  # it is for the reader alone
            if 0 < done < of and file.exists() and now - file.stat().st_mtime < _NOTED_EVERY:
                return
            about = {**label, "what": what, "done": done, "of": of, "seconds": now - begun}
            part = file.with_suffix(f".{os.getpid()}")
            part.write_text(json.dumps(about), encoding="utf-8")
            os.replace(part, file)

    def under_way(self) -> list[Fields]:
        """Tell how far the folds are that processes are at work on.

        Returns
        -------
        list of dict
            ``model``, ``repeat`` and ``fold``; ``what`` is counted ("epoch", "image"), ``done`` of
            at most ``of``; ``seconds`` since the fold was begun. Those of processes that were
            killed before this one began are left out.
        """
        found = []
        for file in self._claims.glob("*.json"):
            with suppress(OSError, ValueError):
                if file.stat().st_mtime >= self._begun:
                    found.append(json.loads(file.read_text(encoding="utf-8")))
        return found

    def _file(self, key: str) -> Path:
        return self.folder / f"{key}.json"

    def _arrays(self, key: str) -> Path:
        return self.folder / f"{key}.npz"

    def _progress_file(self, key: str) -> Path:
        return self._claims / f"{key}.json"

    def _error_file(self, key: str) -> Path:
        return self.folder / f"{key}.error.json"

    def _warn_of_damage(self, file: Path, error: Exception) -> None:
        if self._told:
            return
        self._told = True
        warnings.warn(
            f"{file.name} in the study {str(self.folder)!r} is damaged ({error}); the fold is "
            "computed again, and so is any other that is. Check the disk if this comes back",
            CacheWarning,
            stacklevel=3,
        )


def _write_json(file: Path, content: Fields) -> None:
    written = {"time": datetime.now(UTC).isoformat(timespec="seconds"), **content}
    with replacing(file) as temporary:
        temporary.write_text(json.dumps(written, indent=1) + "\n", encoding="utf-8")


def _digest(key: str, plain: Fields, arrays: str) -> str:
    return sha256(json.dumps([key, plain, arrays], sort_keys=True).encode()).hexdigest()


def _holds_arrays(value: Any) -> bool:
    values = value.values() if isinstance(value, dict) and value else [value]
    return all(isinstance(one, np.ndarray) for one in values)


def _packed(fields: Mapping[str, Any]) -> dict[str, NDArray]:
    """Arrays as NumPy's files take them, which know no objects.

    Texts become JSON, and arrays in an array or in a dict have its name before their own.
    """
    packed: dict[str, NDArray] = {}
    for name, value in fields.items():
        if isinstance(value, dict):
            packed |= {f"{name}/:{key}": array for key, array in value.items()}
        elif not value.dtype.hasobject:
            packed[name] = value
        elif any(isinstance(item, np.ndarray) for item in value):
            packed |= {f"{name}/{i}": np.asarray(item) for i, item in enumerate(value)}
        else:
            values = [getattr(item, "item", lambda item=item: item)() for item in value]
            packed[f"{name}/json"] = np.frombuffer(json.dumps(values).encode(), np.uint8)
    return packed


def _read_arrays(file: Path, digest: str) -> Fields:
    # Opened here, since np.load leaves a file open that is no archive.
    with file.open("rb") as opened:
        if file_digest(opened, "sha256").hexdigest() != digest:
            raise ValueError(f"{file.name} does not hold what was written")
        opened.seek(0)
        with np.load(opened, allow_pickle=False) as stored:
            return _unpacked({name: stored[name] for name in stored})


def _unpacked(packed: Mapping[str, NDArray]) -> Fields:
    found: Fields = {}
    parts: dict[str, list[NDArray]] = {}
    for name, value in packed.items():
        whole, _, part = name.partition("/")
        if not part:
            found[whole] = value
        elif part.startswith(":"):
            found.setdefault(whole, {})[part[1:]] = value
        elif part == "json":
            found[whole] = _objects(json.loads(value.tobytes()))
        else:
            parts.setdefault(whole, []).append(value)
    return found | {name: _objects(values) for name, values in parts.items()}


def _objects(values: list[Any]) -> NDArray[np.object_]:
    array = np.empty(len(values), dtype=object)
    for place, value in enumerate(values):  # all at once, arrays of one shape would be one array
        array[place] = value
    return array
