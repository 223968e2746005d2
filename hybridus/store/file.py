"""SQLite file under the feature store: how it is opened, shared, replaced and kept small.

Knows where write-ahead logging is unsafe, that no connection may cross a fork, what to do with a
file that is damaged, full or out of reach. Who may encode which row is ``feature_store``'s affair.
"""

from __future__ import annotations

import atexit
import os
import re
import sqlite3
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Literal, TypeVar

from hybridus._environment import make_private
from hybridus.exceptions import DamagedFileError, FeatureStoreWarning
from hybridus.store.tables import (
    PAGE_SIZE,
    SCHEMA,
    SCHEMA_VERSION,
)

T = TypeVar("T")
Work = Callable[[sqlite3.Connection], T]
Mode = Literal["read", "write", "vacuum"]

# The schema's version is in the name: an older or newer library never reads this file.
FILE_NAME = re.compile(rf"features-v{SCHEMA_VERSION}-(\d+)\.sqlite")
SUFFIXES = ("", "-wal", "-shm", "-journal")
BUSY_SECONDS = 30.0
REST_SECONDS = 60.0  # after a failure, the time until the next attempt
# No mmap_size: lookups were no faster with it (6.4 against 6.7 microseconds for a row in sequence,
# 11.3 against 9.8 at random), and a mapped file that is truncated kills the process.
SETTINGS = """
    PRAGMA cell_size_check = ON;
    PRAGMA secure_delete = FAST;
    PRAGMA temp_store = MEMORY;
    PRAGMA cache_size = -16384;
    PRAGMA journal_size_limit = 67108864
"""
# What the file's place does to us; any other error of SQLite's means that the file is damaged.
OUT_OF_REACH = {
    sqlite3.SQLITE_ABORT,
    sqlite3.SQLITE_AUTH,
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_INTERRUPT,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_NOLFS,
    sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_PROTOCOL,
    sqlite3.SQLITE_READONLY,
}
NETWORK_FILESYSTEMS = re.compile(
    r"nfs\d?|cifs|smb\w*|ncpfs|afs|coda|9p|virtiofs|vboxsf|prl_fs|fuse(\..*)?|davfs|lustre|ceph"
    r"|gpfs|beegfs\w*|gfs2?|ocfs2|glusterfs|orangefs|pvfs2|panfs|wekafs|acfs"
)


def filesystem_type(folder: Path) -> str | None:
    """Return the type of the file system that holds the folder, None where that is not told."""
    try:
        mounts = Path("/proc/self/mountinfo").read_text(errors="surrogateescape")
    except OSError:
        return None
    inside = os.path.join(os.path.realpath(folder), "")
    longest, kind = "", None
    for line in mounts.splitlines():
        mount, _, source = line.partition(" - ")
        point = re.sub(r"\\([0-7]{3})", lambda code: chr(int(code[1], 8)), mount.split()[4])
        point = os.path.join(point, "")
        if inside.startswith(point) and len(point) >= len(longest):  # a later mount hides a former
            longest, kind = point, source.split()[0]
    return kind


def wal_is_safe(folder: Path) -> bool:
    """Say whether processes can share memory through the folder, as write-ahead logging needs."""
    kind = filesystem_type(folder)
    network_share = str(folder).startswith("\\\\")  # Windows
    return not network_share and (kind is None or not NETWORK_FILESYSTEMS.fullmatch(kind))


def is_damage(error: Exception) -> bool:
    """Say whether the error means a damaged file, rather than one out of reach or a mistake."""
    if not isinstance(error, sqlite3.DatabaseError):
        return False
    if isinstance(error, sqlite3.ProgrammingError):
        return False
    code = getattr(error, "sqlite_errorcode", None)
    if code is None:
        return not isinstance(error, sqlite3.OperationalError)
    return code == sqlite3.SQLITE_IOERR_SHORT_READ or code & 0xFF not in OUT_OF_REACH


class StoreFile:
    """One process's door to the database in a folder; its threads take turns.

    The file is ``features-v<schema>-<generation>.sqlite``. A damaged one is never renamed or
    overwritten, since other processes may have it open and SQLite would then remove the journal
    of its successor: the successor is the next generation.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.lock = threading.RLock()
        self._connection: sqlite3.Connection | None = None
        self._path = folder
        self._identity = (0, 0)
        self._rests_until: dict[Mode, float] = {}
        self._told: set[str] = set()

    def run(self, mode: Mode, work: Work[T]) -> T:
        """Return ``work(connection)``, run in one transaction, or in none to vacuum.

        A damaged file is replaced and the work run once more, so work must bear repetition.
        """
        with self.lock:
            try:
                with self._transaction(mode) as connection:
                    return work(connection)
            except sqlite3.DatabaseError as error:
                if not is_damage(error):
                    raise
                self.replace_damaged(error)
            with self._transaction(mode) as connection:
                return work(connection)

    def attempt(self, mode: Mode, work: Work[T], otherwise: T) -> T:
        """As ``run``, but where the file is out of reach warn once and return ``otherwise``."""
        if time.monotonic() < self._rests_until.get(mode, 0.0):
            return otherwise
        try:
            return self.run(mode, work)
        except (OSError, sqlite3.DatabaseError) as error:
            if isinstance(error, sqlite3.ProgrammingError):
                raise
            # Without a rest, a full disk or a process that hangs would cost a wait for each chunk.
            self._rests_until[mode] = time.monotonic() + REST_SECONDS
            self.warn(
                "reach",
                f"the feature store in {str(self.folder)!r} cannot be {self._failed(mode)} "
                f"({error}); work goes on without it. Free space there, or choose another folder "
                "with cache= or HYBRIDUS_CACHE",
            )
            return otherwise

    def _failed(self, mode: Mode) -> str:
        """Say what could not be done."""
        try:
            exists = bool(self.files())
        except OSError:
            exists = True
        if not exists:
            return "made"
        return {"read": "read", "write": "written to", "vacuum": "made smaller"}[mode]

    def warn(self, kind: str, message: str) -> None:
        """Warn, but only once of a kind while the process lives."""
        with self.lock:
            if kind in self._told:
                return
            self._told.add(kind)
        warnings.warn(message, FeatureStoreWarning, stacklevel=2)

    def files(self) -> list[Path]:
        """Return the database files of this schema in the folder, the current one last."""
        names = os.listdir(self.folder) if self.folder.is_dir() else []
        own = filter(None, map(FILE_NAME.fullmatch, names))
        return [self.folder / match[0] for match in sorted(own, key=lambda match: int(match[1]))]

    def size(self) -> int:
        """Return the bytes on disk, journals and damaged files included."""
        size = 0
        for path in self.files():
            for suffix in SUFFIXES:
                with suppress(FileNotFoundError):
                    size += os.stat(f"{path}{suffix}").st_size
        return size

    def close(self) -> None:
        """Close this process's connection; the next use opens another."""
        with self.lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    @contextmanager
    def _transaction(self, mode: Mode) -> Iterator[sqlite3.Connection]:
        connection = self._open()
        if mode != "vacuum":
            connection.execute("BEGIN IMMEDIATE" if mode == "write" else "BEGIN")
        try:
            yield connection
            if connection.in_transaction:
                connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:  # SQLite has rolled back by itself after some errors
                connection.execute("ROLLBACK")
            raise

    def _open(self) -> sqlite3.Connection:
        if self._connection is not None:
            if _identity(self._path) == self._identity:
                return self._connection
            self.close()  # deleted, or replaced by another process
        make_private(self.folder)
        deadline = time.monotonic() + BUSY_SECONDS
        while self._connection is None:
            existing = self.files()
            self._path = existing[-1] if existing else self._generation(0)
            if not existing:
                _create(self._path)
            self._identity = _identity(self._path)
            try:
                self._connection = _connect(self._path)
            except sqlite3.OperationalError as error:
                # SQLite does not wait by itself while another process sets up the same new file;
                # and where one has replaced the file since it was listed, it must not come back.
                passing = "locked" in str(error) or not self._path.exists()
                if not passing or time.monotonic() > deadline:
                    raise
                time.sleep(0.01)
        return self._connection

    def _generation(self, number: int) -> Path:
        return self.folder / f"features-v{SCHEMA_VERSION}-{number}.sqlite"

    def replace_damaged(self, error: Exception) -> None:
        """Start the next generation of the file, empty: what was lost can be computed again."""
        with self.lock:
            self.close()
            damaged = self._path
            match = FILE_NAME.fullmatch(damaged.name)
            if match is None or damaged not in self.files():
                return  # another process has replaced it
            self.warn(
                "damage",
                f"the feature store {str(damaged)!r} was damaged ({error}); a new one was begun, "
                "and its rows are computed again. Check the disk if this comes back",
            )
            if _create(self._generation(int(match[1]) + 1)):
                remove_database(damaged)


def remove_database(path: Path) -> None:
    """Delete a database file and its journals, except where another process's use forbids it."""
    for suffix in SUFFIXES:
        with suppress(FileNotFoundError, PermissionError):  # Windows keeps open files
            os.unlink(f"{path}{suffix}")


def _identity(path: Path) -> tuple[int, int]:
    try:
        stat = os.stat(path)
    except FileNotFoundError:
        return (0, 0)
    return (stat.st_dev, stat.st_ino)


def _create(path: Path) -> bool:
    """Create an empty file that only its owner can read (journals inherit that), if absent."""
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
    except FileExistsError:
        return False
    return True


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode=rw",  # never creates what is not there
        uri=True,
        timeout=BUSY_SECONDS,
        isolation_level=None,
        check_same_thread=False,
    )
    connection.text_factory = bytes  # damage can turn a blob into text that is no UTF-8
    try:
        for statement in SETTINGS.split(";"):
            connection.execute(statement)
        if connection.execute("PRAGMA auto_vacuum").fetchone()[0] != 2:  # a new file
            connection.execute(f"PRAGMA page_size = {PAGE_SIZE}")
            connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
        journal = "WAL" if wal_is_safe(path.parent) else "DELETE"
        (mode,) = connection.execute(f"PRAGMA journal_mode = {journal}").fetchone()
        # In a log, NORMAL can lose the last transactions to a power cut, but never the file.
        connection.execute(f"PRAGMA synchronous = {'NORMAL' if mode == b'wal' else 'FULL'}")
        if _version(connection) == 0:
            connection.execute("BEGIN IMMEDIATE")
            if _version(connection) == 0:  # no other process was faster
                for statement in SCHEMA.split(";"):
                    connection.execute(statement)
            connection.execute("COMMIT")
        if _version(connection) != SCHEMA_VERSION:
            raise DamagedFileError(f"its schema version is {_version(connection)}")
    except BaseException:
        connection.close()
        raise
    return connection


def _version(connection: sqlite3.Connection) -> int:
    return connection.execute("PRAGMA user_version").fetchone()[0]


_files: dict[Path, StoreFile] = {}
_files_lock = threading.RLock()


def store_file(folder: Path) -> StoreFile:
    """Return the process's one door to the folder; stores with equal folders share it."""
    with _files_lock:
        return _files.setdefault(folder, StoreFile(folder))


def _close_all() -> None:
    for file in list(_files.values()):
        file.close()


# SQLite keeps file locks in the process's memory, which a forked child would inherit without
# holding them. So connections are closed before a fork and opened again, lazily, on both sides.
def _before_fork() -> None:
    _files_lock.acquire()
    for file in _files.values():
        file.lock.acquire()
        file.close()


def _after_fork() -> None:
    for file in _files.values():
        file.lock.release()
    _files_lock.release()


atexit.register(_close_all)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_before_fork, after_in_parent=_after_fork, after_in_child=_after_fork
    )
