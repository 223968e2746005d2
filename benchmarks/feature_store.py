"""Rows a second out of the feature store, with 100,000 and a million rows in it, beside peers.

``python -m benchmarks.feature_store [--rows 100000,1000000] [--width 1280]``: rows of float32, read
with their checksums. One data set's 5,000 rows were written in chunks of 64, in turn with chunks of
others, in the middle of the store. Files are in the system's cache, as after a first fold. The
million takes 6 GB in ``--folder`` while it runs. Medians over rounds of wall time, and, since other
work on the machine moves that, rows per second of processor time.
"""

import argparse
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable
from hashlib import blake2b
from pathlib import Path
from zlib import crc32

import numpy as np

from benchmarks._report import keep, show
from hybridus import FeatureStore

DATA_SET, CHUNK, BULK = 5_000, 64, 20_000
FINGERPRINT = "benchmark"
Read = Callable[[], np.ndarray]


def key(i: int) -> bytes:
    return blake2b(str(i).encode(), digest_size=32).digest()


def fill(store: FeatureStore, n_rows: int, values: np.ndarray) -> dict[str, list[bytes]]:
    """Write the store and return which keys to read."""
    others = [key(i) for i in range(n_rows - DATA_SET)]
    ours = [key(-1 - i) for i in range(DATA_SET)]

    def write(keys: list[bytes]) -> None:
        for start in range(0, len(keys), len(values)):
            part = keys[start : start + len(values)]
            store.write(FINGERPRINT, part, values[: len(part)])

    middle = len(others) // 2
    write(others[:middle])
    for start in range(0, DATA_SET, CHUNK):
        write(ours[start : start + CHUNK])
        write(others[middle + start : middle + start + CHUNK])
    write(others[middle + DATA_SET + CHUNK :])

    rng = np.random.default_rng(0)
    anywhere = rng.permutation(middle)[:BULK]
    return {
        f"{BULK:,} in a sequence": others[:BULK],
        f"{BULK:,} from anywhere": [others[i] for i in anywhere],
        f"a data set's {DATA_SET:,}, shuffled": [ours[i] for i in rng.permutation(DATA_SET)],
        "780 of them": ours[:780],
    }


def reader(store: FeatureStore, keys: list[bytes]) -> Read:
    """Read as the extractor does; a missing row would be an error."""
    return lambda: store.rows(FINGERPRINT, keys, _never)


def measure(reads: dict[str, tuple[Read, int]], rounds: int) -> list[dict]:
    """Let the reads take turns; rows a second by wall and by processor."""
    wall: dict[str, list[float]] = {name: [] for name in reads}
    processor: dict[str, list[float]] = {name: [] for name in reads}
    for _ in range(rounds):
        for name, (read, n_rows) in reads.items():
            repeats = max(1, 5_000 // n_rows)
            started, used = time.perf_counter(), time.process_time()
            for _ in range(repeats):
                assert len(read()) == n_rows
            processor[name].append(repeats * n_rows / (time.process_time() - used))
            wall[name].append(repeats * n_rows / (time.perf_counter() - started))
    return [
        {
            "read": name,
            "rows/s": round(statistics.median(wall[name])),
            "best round": round(max(wall[name])),
            "per processor second": round(statistics.median(processor[name])),
        }
        for name in reads
    ]


def peers(folder: Path, store: FeatureStore, keys: list[bytes]) -> dict[str, tuple[Read, int]]:
    """Keep the same rows in what one would write in an afternoon, and in a bare matrix."""
    rows, found = store.lookup(FINGERPRINT, keys)
    assert found.all()
    width = rows.shape[1]
    database = sqlite3.connect(folder / "plain.sqlite")
    database.execute("CREATE TABLE row(key BLOB PRIMARY KEY, crc INTEGER, vals BLOB)")
    for name, row in zip(keys, rows, strict=True):
        np.save(folder / f"{name.hex()}.npy", row)
        database.execute("INSERT INTO row VALUES (?, ?, ?)", (name, crc32(row.data), row.data))
    database.commit()
    np.save(folder / "matrix.npy", rows)
    matrix = np.load(folder / "matrix.npy", mmap_mode="r")
    order = np.random.default_rng(0).permutation(len(keys))

    def one_by_one() -> np.ndarray:
        out = np.empty((len(keys), width), np.float32)
        for i, name in enumerate(keys):
            crc, values = database.execute(
                "SELECT crc, vals FROM row WHERE key = ?", (name,)
            ).fetchone()
            assert crc32(values) == crc
            out[i] = np.frombuffer(values, np.float32)
        return out

    reads: dict[str, Read] = {
        "ours": reader(store, keys),
        "SQLite, a query and a CRC-32 a row": one_by_one,
        "a .npy file a row": lambda: np.array([np.load(folder / f"{k.hex()}.npy") for k in keys]),
        "memory-mapped matrix, rows by number": lambda: matrix[order],
    }
    return {name: (read, len(keys)) for name, read in reads.items()}


def _never(indices: np.ndarray) -> np.ndarray:
    raise AssertionError(f"{len(indices)} stored rows were not found")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", default="100000,1000000")
    parser.add_argument("--width", type=int, default=1280)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--folder", help="where to write; default: the system's temporary folder")
    arguments = parser.parse_args()
    counts = [int(count) for count in arguments.rows.split(",")]
    values = np.random.default_rng(1).standard_normal((5_000, arguments.width), np.float32)
    table, beside = [], []
    for n_rows in counts:
        with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
            store = FeatureStore(Path(name) / "store", max_bytes=2**40)
            started = time.perf_counter()
            wanted = fill(store, n_rows, values)
            written = round(n_rows / (time.perf_counter() - started))
            reads = {what: (reader(store, keys), len(keys)) for what, keys in wanted.items()}
            table += [
                {"rows in the store": f"{n_rows:,}", **row}
                for row in measure(reads, arguments.rounds)
            ]
            size = store.info()["bytes"] / n_rows
            table.append(
                {"rows in the store": f"{n_rows:,}", "read": "(written)", "rows/s": written}
            )
            print(f"{n_rows:,} rows: {size:.0f} bytes a row on disk", flush=True)
            if n_rows == counts[0]:
                rows = peers(Path(name), store, list(wanted.values())[2])
                beside = measure(rows, arguments.rounds)
            store.close()
    for row in beside:
        row["ratio"] = row["rows/s"] / beside[0]["rows/s"]
    show(table, f"reads of {arguments.width} float32 with checksums")
    show(beside, f"{DATA_SET:,} rows, peers side by side")
    if len(counts) > 1:
        slower = [
            {"read": first["read"], "rate, largest over smallest": last["rows/s"] / first["rows/s"]}
            for first, last in zip(table[:4], table[-5:-1], strict=True)
        ]
        show(slower, f"from {counts[0]:,} to {counts[-1]:,} rows")
    file = keep(
        "feature_store",
        {"reads": table, "peers": beside},
        width=arguments.width,
        rounds=arguments.rounds,
        sqlite=sqlite3.sqlite_version,
    )
    print(f"\nwritten to {file}")


if __name__ == "__main__":
    main()
