"""Growth of extraction: time, memory and disk of 1,000 to 100,000 files, and a million rows."""

import json
import os
import resource
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks._report import in_process
from hybridus import DeepFeatureExtractor, FeatureStore, extract, make_breast_phantoms

COUNTS = (1_000, 10_000, 100_000)
MILLION = 1_000_000
_PART = 4096


def write_files(folder: Path, count: int, image_size: int) -> None:
    """Different scans without simulating each: phantoms with their number in the first pixels."""
    phantoms = make_breast_phantoms(64, image_size=image_size, random_state=0)
    for i in range(count):
        image = phantoms.images[i % 64].copy()
        image[0, :4] = np.frombuffer(np.uint32(i).tobytes(), np.uint8)
        Image.fromarray(image).save(folder / f"{i % 64:02d}-{i:06d}.png", compress_level=1)


def files_in(folder: Path, count: int) -> list[str]:
    """List the files of the first so many numbers."""
    listed = sorted(os.listdir(folder), key=lambda name: name[3:])
    return [str(folder / name) for name in listed[:count]]


def peak_gib() -> float:
    """Peak of the memory of this process so far, in GiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def measure_extraction(argument: str) -> dict[str, Any]:
    """Extract from so many files; runs in a process of its own."""
    asked = json.loads(argument)
    files = files_in(Path(asked["folder"]), asked["count"])
    kept = FeatureStore(read_only=True)
    extractor = DeepFeatureExtractor(cache=kept, **asked["extractor"])
    extractor.fit(files[:1]).transform(files[:8])  # the network is opened
    labels = [Path(file).name[:2] < "32" for file in files]
    started, used = time.perf_counter(), time.process_time()
    done = extract(files, asked["out"], extractor=extractor, labels=labels)
    seconds = time.perf_counter() - started
    assert done.n_rows == asked["count"]
    size = sum(file.stat().st_size for file in done.path.iterdir())
    return {
        "images": asked["count"],
        "input": extractor.frozen_.image_size[0],
        "features": done.n_features,
        "seconds": seconds,
        "images/s": done.n_rows / seconds,
        "processor s": time.process_time() - used,
        "peak GiB": peak_gib(),
        "KB a row on disk": size / done.n_rows / 1000,
        "hours a million": seconds / done.n_rows * MILLION / 3600,
        "GB a million": size / done.n_rows * MILLION / 1e9,
    }


def measure_million(argument: str) -> dict[str, Any]:
    """Search a million rows: one image by its key, and the ten nearest to an image among all."""
    import pyarrow.compute as pc
    import pyarrow.dataset as ds

    folder = Path(argument)
    rows = ds.dataset(folder)
    n_rows = rows.count_rows()
    key = rows.head(1, columns=["key"]).column("key")[0].as_py()
    names = rows.schema.names[4:]
    started = time.perf_counter()
    found = rows.to_table(columns=["file"], filter=pc.field("key") == key).num_rows
    by_key = time.perf_counter() - started
    assert found >= 1
    query = rows.head(1, columns=names).to_batches()[0].to_tensor().to_numpy()[0]
    nearest = np.full(10, np.inf, np.float32)
    started = time.perf_counter()
    for batch in rows.to_batches(columns=names, batch_size=_PART, fragment_readahead=1):
        X = batch.to_tensor(row_major=True).to_numpy()
        distances = np.sqrt(np.maximum((X * X).sum(1) - 2 * X @ query + query @ query, 0))
        nearest = np.sort(np.concatenate([nearest, distances]))[:10]
    nearest_of_all = time.perf_counter() - started
    assert nearest[0] < 0.1
    return {
        "rows": n_rows,
        "features": len(names),
        "by key, s": by_key,
        "ten nearest, s": nearest_of_all,
        "rows/s": n_rows / nearest_of_all,
        "peak GiB": peak_gib(),
    }


def link_million(rows: Path, out: Path) -> None:
    """Make a data set of a million rows and more of one of fewer, by links."""
    out.mkdir()
    own = sorted(rows.iterdir())
    copies = -(-MILLION // COUNTS[-1])
    for i in range(copies * len(own)):
        os.link(own[i % len(own)], out / f"part-{i:05d}.parquet")


def growth(work: Path, counts: tuple[int, ...] = COUNTS) -> dict[str, list[dict[str, Any]]]:
    """Measure in processes of their own; `work` is a folder for files and rows."""
    small = {"encoder": "mobilenet_v2_0.35", "weights": "bundled", "image_size": 64}
    usual = {"encoder": "mobilenet_v2", "weights": "imagenet"}
    folders = {"small": work / "small", "usual": work / "usual"}
    for folder in folders.values():
        folder.mkdir(parents=True)
    write_files(folders["small"], counts[-1], 64)
    write_files(folders["usual"], counts[0], 256)
    asked = [("small", small, count) for count in counts] + [("usual", usual, counts[0])]
    extraction = []
    for name, extractor, count in asked:
        out = work / f"rows-{name}-{count}.parquet"
        told = {"folder": str(folders[name]), "count": count, "out": str(out)}
        argument = json.dumps({**told, "extractor": extractor})
        extraction.append(in_process("scale", "extraction", argument))
        print(extraction[-1], flush=True)
    rows = work / f"rows-small-{counts[-1]}.parquet"
    link_million(rows, work / "million.parquet")
    million = [in_process("scale", "million", str(work / "million.parquet"))]
    shutil.rmtree(work / "million.parquet")
    return {"extraction": extraction, "million": million}
