"""Tables of the feature store, as statements on an open connection inside a transaction.

Knows the schema, the checksum of a row, and the order of reading that keeps a million rows fast.
"""

from __future__ import annotations

import os
import platform
import re
import sqlite3
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from typing import Any
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from hybridus.exceptions import DamagedFileError

SCHEMA_VERSION = 1
# Plain rowid tables: with WITHOUT ROWID rows of 5 KiB were two to four times slower to read.
SCHEMA = f"""
    CREATE TABLE fingerprint(
        id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, width INTEGER NOT NULL,
        last_use REAL NOT NULL);
    CREATE TABLE row(
        id INTEGER PRIMARY KEY, fingerprint INTEGER NOT NULL, key BLOB NOT NULL,
        crc INTEGER NOT NULL, vals BLOB NOT NULL);
    CREATE UNIQUE INDEX row_key ON row(fingerprint, key);
    CREATE TABLE segment(id INTEGER PRIMARY KEY, last_use REAL NOT NULL);
    CREATE TABLE file(id BLOB PRIMARY KEY, key BLOB NOT NULL, crc INTEGER NOT NULL) WITHOUT ROWID;
    CREATE TABLE lease(
        fingerprint TEXT NOT NULL, key BLOB NOT NULL, owner TEXT NOT NULL, expires REAL NOT NULL,
        PRIMARY KEY(fingerprint, key)) WITHOUT ROWID;
    PRAGMA user_version = {SCHEMA_VERSION};
"""
PAGE_SIZE = 16384  # three rows of 1280 float32 fill it to 94 %
SEGMENT_BITS = 8  # last use is kept per segment, 256 rows that were written one after another
SLICE = 128  # keys per query; 64 to 500 were about equally fast, 2000 a fifth slower
TOUCH_SECONDS = 60.0  # last use is written down at most this often

Record = tuple[bytes, int, bytes | memoryview]  # key, checksum, values
Scanned = tuple[int, str, Record | None]  # row id, fingerprint, None where the row is bad
# rows, found, keys of bad rows, segments whose last use is to be written down
Found = tuple[NDArray[np.float32], NDArray[np.bool_], list[bytes], list[int]]
Connection = sqlite3.Connection


def checksums(name: str, keys: Iterable[bytes], values: NDArray[np.float32]) -> list[int]:
    """Return for each row a number that ties its values to its key and fingerprint.

    The values, read as 32-bit integers, are multiplied by fixed odd 64-bit numbers and summed
    modulo 2**64, so a change within one value is always found, and wider damage but for one case in
    some thousand millions (multilinear hashing: Lemire and Kaser 2014, doi 10.1093/comjnl/bxt070).
    It takes two thirds of the time of zlib's CRC-32.
    """
    weights = _weights(values.shape[1] + 1)
    seed = crc32(name.encode())
    sums = np.fromiter((crc32(key, seed) for key in keys), "u8", len(values)) * weights[-1]
    # 32 bits each: of 64-bit integers two flipped topmost bits would cancel, for want of a carry.
    sums += np.einsum("ij,j->i", values.view("<u4"), weights[:-1], dtype="u8", casting="safe")
    return sums.view("i8").tolist()


@lru_cache(maxsize=16)
def _weights(count: int) -> NDArray[np.uint64]:
    return np.random.PCG64(20140501).random_raw(count) | np.uint64(1)


def slices(items: Sequence[bytes] | Sequence[int]) -> Iterator[tuple[str, list]]:
    """Yield the items in parts, each with the question marks for its IN clause."""
    for start in range(0, len(items), SLICE):
        part = list(items[start : start + SLICE])
        yield ",".join("?" * len(part)), part


def find_fingerprint(connection: Connection, name: str) -> tuple[int, int] | None:
    """Return the number and the row width of a fingerprint."""
    record = connection.execute("SELECT id, width FROM fingerprint WHERE name = ?", (name,))
    found = record.fetchone()
    if found and not (isinstance(found[1], int) and 0 < found[1] < 2**26):
        raise DamagedFileError(f"{found[1]!r} is no width of rows")
    return found


def find_rows(connection: Connection, number: int, keys: Sequence[bytes]) -> dict[bytes, int]:
    """Return the row id of each stored key; only the index is read."""
    return {
        key: row_id
        for marks, part in slices(keys)
        for key, row_id in connection.execute(
            f"SELECT key, id FROM row WHERE fingerprint = ? AND key IN ({marks})", [number, *part]
        )
    }


def read_rows(connection: Connection, name: str, keys: list[bytes]) -> Found:
    """Return the rows of the keys, each key given once.

    All ids are found first, then the rows are read in the order in which they lie in the file.
    """
    number, width = find_fingerprint(connection, name) or (0, 0)
    values = np.empty((len(keys), width), "<f4")
    found = np.zeros(len(keys), bool)
    ids = find_rows(connection, number, keys) if width else {}
    place = {ids[key]: i for i, key in enumerate(keys) if key in ids}
    if len(place) < len(ids):
        raise DamagedFileError("the index leads from two keys to one row")
    bad: list[int] = []
    for marks, part in slices(sorted(place)):
        rows = connection.execute(
            f"SELECT id, crc, vals FROM row WHERE id IN ({marks})", part
        ).fetchall()
        if len(rows) < len(part):
            raise DamagedFileError("the index leads to rows that are not there")
        # Damage in the head of a record can turn the blob into a number or cut it short.
        whole = [row for row in rows if type(row[2]) is bytes and len(row[2]) == 4 * width]
        if len(whole) < len(rows):
            rest = [row for row in rows if row not in whole]
            if any(_is_sound(name, keys[place[i]], crc, blob) for i, crc, blob in rest):
                raise DamagedFileError("the width of a fingerprint is not that of its rows")
            bad += [place[row[0]] for row in rest]
        at = [place[row[0]] for row in whole]
        block = np.frombuffer(b"".join([row[2] for row in whole]), "<f4").reshape(-1, width)
        expected, stored = checksums(name, [keys[i] for i in at], block), [row[1] for row in whole]
        if stored != expected:
            bad += [i for i, one, other in zip(at, stored, expected, strict=True) if one != other]
        values[at] = block
        found[at] = True
    found[bad] = False
    values[~found] = np.nan
    return values, found, [keys[i] for i in bad], _worn_segments(connection, place)


def _worn_segments(connection: Connection, row_ids: Iterable[int]) -> list[int]:
    limit = time.time() - TOUCH_SECONDS
    return [
        segment
        for marks, part in slices(sorted({row_id >> SEGMENT_BITS for row_id in row_ids}))
        for (segment,) in connection.execute(
            f"SELECT id FROM segment WHERE id IN ({marks}) AND last_use < ?", [*part, limit]
        )
    ]


def touch(connection: Connection, name: str, segments: list[int]) -> None:
    """Write down that the segments, and the fingerprint, were used now."""
    now = time.time()
    connection.execute("UPDATE fingerprint SET last_use = ? WHERE name = ?", (now, name))
    connection.executemany(
        "UPDATE segment SET last_use = ? WHERE id = ?", ((now, segment) for segment in segments)
    )


def insert_rows(connection: Connection, name: str, width: int, records: list[Record]) -> None:
    """Add rows; those that are there already stay as they are."""
    now = time.time()
    connection.execute(
        "INSERT OR IGNORE INTO fingerprint(name, width, last_use) VALUES (?, ?, ?)",
        (name, width, now),
    )
    number, known = find_fingerprint(connection, name) or (0, 0)
    if known != width:
        raise ValueError(
            f"got rows of {width} values, but the store holds rows of {known} values under the "
            f"fingerprint {name!r}; one fingerprint stands for one encoder and one width"
        )
    before = _last_row(connection)
    connection.executemany(
        "INSERT OR IGNORE INTO row(fingerprint, key, crc, vals) VALUES (?, ?, ?, ?)",
        ((number, *record) for record in records),
    )
    after = _last_row(connection)
    if after > before:
        segments = range((before + 1) >> SEGMENT_BITS, (after >> SEGMENT_BITS) + 1)
        connection.executemany(
            "INSERT OR REPLACE INTO segment VALUES (?, ?)", ((s, now) for s in segments)
        )


def _last_row(connection: Connection) -> int:
    return connection.execute("SELECT coalesce(max(id), 0) FROM row").fetchone()[0]


def scan_rows(connection: Connection, after: int) -> Iterator[list[Scanned]]:
    """Yield slices of the table, read without the index, which may have lost rows."""
    names = dict(connection.execute("SELECT id, name FROM fingerprint").fetchall())
    cursor = connection.execute(
        "SELECT id, fingerprint, key, crc, vals FROM row NOT INDEXED WHERE id > ? ORDER BY id",
        (after,),
    )
    scanned: list[Scanned] = []
    for row_id, number, key, crc, blob in cursor:
        name = names.get(number, b"").decode(errors="replace")
        sound = _is_sound(name, key, crc, blob)
        scanned.append((row_id, name, (key, crc, blob) if sound else None))
        if len(scanned) == SLICE:
            yield scanned
            scanned = []
    if scanned:
        yield scanned


def _is_sound(name: str, key: Any, crc: Any, blob: Any) -> bool:
    if not (isinstance(key, bytes) and isinstance(blob, bytes)) or not blob or len(blob) % 4:
        return False
    return checksums(name, [key], np.frombuffer(blob, "<f4")[None]) == [crc]


def delete_bad_rows(connection: Connection, name: str, keys: list[bytes]) -> None:
    """Delete those of the rows that are still bad: another process may have replaced them."""
    number, _ = find_fingerprint(connection, name) or (0, 0)
    for key, row_id in find_rows(connection, number, keys).items():
        found_id, owner, record = next(scan_rows(connection, row_id - 1), [(0, "", None)])[0]
        if found_id != row_id or (record is not None and (owner, record[0]) != (name, key)):
            raise DamagedFileError("the index leads to another row")
        if record is None:
            connection.execute("DELETE FROM row WHERE id = ?", (row_id,))


def verify_slice(connection: Connection, after: int) -> tuple[int, int, int]:
    """Delete the bad ones of the next rows; return (last id, rows read, rows deleted)."""
    rows = next(scan_rows(connection, after), [])
    bad = [(row_id,) for row_id, _, record in rows if record is None]
    connection.executemany("DELETE FROM row WHERE id = ?", bad)
    return (rows[-1][0] if rows else after), len(rows), len(bad)


def verify_structure(connection: Connection) -> None:
    """Raise where table and index contradict each other."""
    (verdict,) = connection.execute("PRAGMA integrity_check(1)").fetchone()
    if verdict != b"ok":
        raise DamagedFileError(verdict.decode(errors="replace"))


def used_bytes(connection: Connection) -> int:
    """Return the bytes in use; freed pages are filled again before the file grows."""
    (free,) = connection.execute("PRAGMA freelist_count").fetchone()
    return file_bytes(connection) - free * PAGE_SIZE


def file_bytes(connection: Connection) -> int:
    """Return the size of the file, without its journal."""
    return connection.execute("PRAGMA page_count").fetchone()[0] * PAGE_SIZE


def shrink(connection: Connection) -> None:
    """Give the file's free pages back to the disk; not inside a transaction."""
    # In this mode a transaction ends with a vacuum; page by page would take far longer.
    connection.execute("PRAGMA auto_vacuum = FULL")
    connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()


def evict(connection: Connection, goal: float) -> bool:
    """Delete up to 16 segments used least recently; say whether the goal, in bytes, is reached."""
    oldest = connection.execute("SELECT id FROM segment ORDER BY last_use, id LIMIT 16").fetchall()
    for (segment,) in oldest:
        first = segment << SEGMENT_BITS
        connection.execute(
            "DELETE FROM row WHERE id BETWEEN ? AND ?", (first, first + (1 << SEGMENT_BITS) - 1)
        )
        connection.execute("DELETE FROM segment WHERE id = ?", (segment,))
        if used_bytes(connection) <= goal:
            return True
    if not oldest:
        connection.execute("DELETE FROM file")
    return not oldest


def clear(connection: Connection, name: str | None) -> int:
    """Delete what is stored under a fingerprint, or everything; return the number of rows."""
    if name is None:
        (count,) = connection.execute("SELECT count(*) FROM row").fetchone()
        for table in ("row", "segment", "lease", "file", "fingerprint"):
            connection.execute(f"DELETE FROM {table}")
        return count
    number, _ = find_fingerprint(connection, name) or (0, 0)
    count = connection.execute("DELETE FROM row WHERE fingerprint = ?", (number,)).rowcount
    connection.execute("DELETE FROM fingerprint WHERE name = ?", (name,))
    connection.execute("DELETE FROM lease WHERE fingerprint = ?", (name,))
    return count


def contents(connection: Connection) -> dict[str, Any]:
    """Return the numbers of rows and files, and a list of fingerprints, the latest used first."""
    columns = ("fingerprint", "width", "last_use", "rows")
    fingerprints = [
        dict(zip(columns, (name.decode(errors="replace"), *rest), strict=True))
        for name, *rest in connection.execute(
            "SELECT name, width, last_use, (SELECT count(*) FROM row WHERE fingerprint = f.id) "
            "FROM fingerprint f ORDER BY last_use DESC, id"
        )
    ]
    (files,) = connection.execute("SELECT count(*) FROM file").fetchone()
    rows = sum(fingerprint["rows"] for fingerprint in fingerprints)
    return {"rows": rows, "files": files, "fingerprints": fingerprints}


def claim(
    connection: Connection, name: str, keys: Sequence[bytes], seconds: float
) -> NDArray[np.bool_]:
    """Lease the keys that have no row and no other holder; say which of them are ours now."""
    now, owner = time.time(), _owner()
    for (other,) in connection.execute("SELECT DISTINCT owner FROM lease").fetchall():
        if _is_dead(other):
            connection.execute("DELETE FROM lease WHERE owner = CAST(? AS TEXT)", (other,))
    connection.execute("DELETE FROM lease WHERE expires <= ?", (now,))
    number, _ = find_fingerprint(connection, name) or (0, 0)
    stored = find_rows(connection, number, keys)
    connection.executemany(
        "INSERT INTO lease VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE "
        "SET expires = excluded.expires WHERE owner = excluded.owner",
        ((name, key, owner, now + seconds) for key in keys if key not in stored),
    )
    held = {
        key
        for marks, part in slices(keys)
        for (key,) in connection.execute(
            f"SELECT key FROM lease WHERE fingerprint = ? AND owner = ? AND key IN ({marks})",
            [name, owner, *part],
        )
    }
    return np.fromiter((key in held for key in keys), bool, len(keys))


def end_leases(connection: Connection, name: str, keys: Sequence[bytes]) -> None:
    """Delete the calling thread's leases of the keys."""
    owner = _owner()
    connection.executemany(
        "DELETE FROM lease WHERE fingerprint = ? AND key = ? AND owner = ?",
        ((name, key, owner) for key in keys),
    )


def _owner() -> str:
    return f"{os.getpid()}:{threading.get_ident()}:{platform.node()}"


def _is_dead(owner: bytes) -> bool:
    """Say whether the owner was a process of this computer that has ended."""
    parts = re.fullmatch(rb"(\d{1,9}):\d+:(.*)", owner) if isinstance(owner, bytes) else None
    if parts is None:
        raise DamagedFileError(f"{owner!r} has claimed rows")
    # Other computers' processes cannot be asked; on Windows os.kill would end the process.
    if parts[2].decode(errors="replace") != platform.node() or sys.platform == "win32":
        return False
    try:
        os.kill(int(parts[1]), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False


def recall_files(connection: Connection, stamps: list[bytes]) -> dict[bytes, bytes]:
    """Return the content keys of the files that are known."""
    return {
        stamp: key
        for marks, part in slices(stamps)
        for stamp, key, crc in connection.execute(
            f"SELECT id, key, crc FROM file WHERE id IN ({marks})", part
        )
        if isinstance(key, bytes) and crc32(key, crc32(stamp)) == crc
    }


def remember_files(connection: Connection, entries: Iterable[tuple[bytes, bytes]]) -> None:
    """Keep (digest of path, size and time; content key)."""
    connection.executemany(
        "INSERT OR REPLACE INTO file VALUES (?, ?, ?)",
        ((stamp, key, crc32(key, crc32(stamp))) for stamp, key in entries),
    )
