"""Growth of extraction: time, memory and disk of 1,000 to 100,000 files, and of a million rows."""

import os
import resource
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks._report import in_process
from hybridus import (
    DeepFeatureExtractor,
    FeatureStore,
    extract,
    fit_out_of_core,
    make_breast_phantoms,
)

COUNTS = (1_000, 10_000, 100_000)
MILLION = 1_000_000
_SMALL = {"encoder": "mobilenet_v2_0.35", "weights": "bundled", "image_size": 64}
_USUAL = {"encoder": "mobilenet_v2", "weights": "imagenet"}
# Files are written, and rows extracted, once for both parts.
WORK = Path(os.environ.get("HYBRIDUS_SCALE", Path(tempfile.gettempdir(), "hybridus-scale")))


def write_files(folder: Path, count: int, image_size: int) -> None:
    """Different scans without simulating each: phantoms with their number in the first pixels."""
    if folder.exists() and len(os.listdir(folder)) == count:
        return
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    phantoms = make_breast_phantoms(64, image_size=image_size, random_state=0)
    for i in range(count):
        image = phantoms.images[i % 64].copy()
        image[0, :4] = np.frombuffer(np.uint32(i).tobytes(), np.uint8)
        name = f"{i:06d}-{phantoms.target[i % 64]}.png"
        Image.fromarray(image).save(folder / name, compress_level=1)


def peak_gib() -> float:
    """Peak of the memory of this process so far, in GiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def rows_of(name: str, count: int) -> Path:
    """Where the rows of so many files lie."""
    return WORK / f"rows-{name}-{count}.parquet"


def measure_growth(argument: str) -> dict[str, Any]:
    """Extract from so many files; runs in a process of its own."""
    name, count = argument.split(",")
    files = sorted(str(file) for file in (WORK / name).iterdir())[: int(count)]
    labels = [file.rpartition("-")[2][0] for file in files]
    settings: dict[str, Any] = _SMALL if name == "small" else _USUAL
    extractor = DeepFeatureExtractor(cache=FeatureStore(read_only=True), **settings)
    extractor.fit(files[:1]).transform(files[:8])  # the network is opened
    started, used = time.perf_counter(), time.process_time()
    done = extract(
        files, rows_of(name, int(count)), extractor=extractor, labels=labels, overwrite=True
    )
    seconds, used = time.perf_counter() - started, time.process_time() - used
    assert done.n_new == len(files)
    size = sum(file.stat().st_size for file in done.path.iterdir()) / len(files)
    return {
        "images": len(files),
        "encoder": f"{settings['encoder']}, {extractor.frozen_.image_size[0]} px",
        "features": done.n_features,
        "seconds": seconds,
        "images/s": len(files) / seconds,
        "ms of processor an image": 1000 * used / len(files),
        "peak, GiB": peak_gib(),
        "bytes a row on disk": size,
        "hours for a million": seconds / len(files) * MILLION / 3600,
        "GB for a million": size * MILLION / 1e9,
    }


def growth_rows() -> list[dict[str, Any]]:
    """Extract from more and more files, and from some at the usual size."""
    write_files(WORK / "small", COUNTS[-1], 64)
    write_files(WORK / "usual", COUNTS[0], 256)
    asked = [f"small,{count}" for count in COUNTS] + [f"usual,{COUNTS[0]}"]
    return [in_process("scale", "growth", argument) for argument in asked]


def measure_million(argument: str) -> dict[str, Any]:
    """Search a data set of rows, or learn from it; runs in a process of its own."""
    what, folder = argument.split(",")
    started = time.perf_counter()
    n_rows = {"key": _find_key, "nearest": _find_nearest, "fit": _fit}[what](folder)
    seconds = time.perf_counter() - started
    return {
        "what": what,
        "rows": n_rows,
        "seconds": seconds,
        "rows/s": n_rows / seconds,
        "peak, GiB": peak_gib(),
    }


def _find_key(folder: str) -> int:
    """Find the file of an image by the key of its pixels."""
    import pyarrow.compute as pc
    import pyarrow.dataset as ds

    rows = ds.dataset(folder)
    key = rows.head(1, columns=["key"]).column("key")[0].as_py()
    assert rows.to_table(columns=["file"], filter=pc.field("key") == key).num_rows
    return rows.count_rows()


def _find_nearest(folder: str) -> int:
    """Find the ten rows nearest to one, by looking at all."""
    import pyarrow.parquet as pq

    n_rows, nearest, query = 0, np.full(10, np.inf), None
    for path in sorted(Path(folder).iterdir()):
        file = pq.ParquetFile(path)
        names = file.schema_arrow.names[4:]
        (batch,) = file.read(names).combine_chunks().to_batches()
        X = batch.to_tensor(row_major=True).to_numpy()
        query = X[0].copy() if query is None else query
        squares = np.einsum("ij,ij->i", X, X) - 2 * X @ query + query @ query
        nearest = np.sort(np.concatenate([nearest, squares]))[:10]
        n_rows += len(X)
    assert nearest[0] < 0.01
    return n_rows


def _fit(folder: str) -> int:
    """Teach a scaler and a head, one epoch."""
    fitted = fit_out_of_core(folder, epochs=1, random_state=0)
    print(fitted.scores)
    return fitted.n_rows + len(fitted.held_out)


def million_rows() -> list[dict[str, Any]]:
    """Measure on the rows of all files, and on a million: the same parts again and again."""
    rows = rows_of("small", COUNTS[-1])
    million = WORK / "million.parquet"
    shutil.rmtree(million, ignore_errors=True)
    million.mkdir()
    own = sorted(rows.iterdir())
    for i in range(MILLION // COUNTS[-1] * len(own)):
        os.link(own[i % len(own)], million / f"part-{i:05d}.parquet")
    asked = [f"key,{million}", f"nearest,{million}"]
    asked += [f"fit,{rows_of('small', count)}" for count in COUNTS[1:]]
    try:
        return [in_process("scale", "million", argument) for argument in asked]
    finally:
        shutil.rmtree(million)
