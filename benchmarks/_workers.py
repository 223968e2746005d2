"""Workers, for the benchmark of scale: what they are worth, and what they must not cost.

780 real scans, MobileNetV2 at 224 pixels. Times are medians of three; what else the machine does
falsifies them, most of all those of two workers on two cores, so the load is kept beside them.
"""

import os
import statistics
import tempfile
import time
from typing import Any

import joblib
import numpy as np
from sklearn.model_selection import GridSearchCV, StratifiedGroupKFold
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from benchmarks._peers import CountedFeatures, count_encodes
from benchmarks._report import SHARED, in_process
from hybridus import DeepFeatureExtractor, load_busi
from hybridus.inputs.images import as_images, content_key

GRID = {"head__C": [0.1, 3.0, 100.0], "head__gamma": ["scale", 1e-4, 3e-4, 1e-3]}
ROUNDS = 3


def load() -> Any:
    return load_busi(
        SHARED / "data" / "Dataset_BUSI_with_GT", curation=SHARED / "data" / "busi_curation.csv"
    )


def features(cache: Any) -> CountedFeatures:
    return CountedFeatures("mobilenet_v2", layers="last", cache=cache)


def timed_search(busi: Any, X: Any, extractor: Any = None, n_jobs: int | None = None) -> float:
    """Seconds of a search of 12 candidates on 5 folds by duplicate group, and a refit."""
    steps = [("scaler", StandardScaler()), ("head", SVC(class_weight="balanced"))]
    if extractor is not None:
        steps.insert(0, ("features", extractor))
    splitter = StratifiedGroupKFold(5, shuffle=True, random_state=0)
    search = GridSearchCV(Pipeline(steps), GRID, cv=splitter, n_jobs=n_jobs, error_score="raise")
    started = time.perf_counter()
    search.fit(X, busi.target, groups=busi.groups)
    return time.perf_counter() - started


def timed_extraction(X: Any, extractor: Any) -> float:
    started = time.perf_counter()
    extractor.fit(X).transform(X)
    return time.perf_counter() - started


def local_cluster(n_workers: int) -> Any:
    from distributed import LocalCluster

    return LocalCluster(n_workers=n_workers, threads_per_worker=1, dashboard_address=":0")


def measure_cluster(argument: str) -> dict[str, Any]:
    """Extract by workers of one thread; nothing is kept, and the network is compiled before."""
    from distributed import Client

    busi = load()
    extractor = DeepFeatureExtractor("mobilenet_v2", layers="last", cache=False)
    with (
        local_cluster(int(argument)) as cluster,
        Client(cluster),
        joblib.parallel_config("dask"),
    ):
        extractor.fit_transform(busi.images[:64])
        return {"seconds": [timed_extraction(busi.images, extractor) for _ in range(ROUNDS)]}


def cluster_rows() -> list[dict[str, Any]]:
    medians, loads = {}, {}
    for n_workers in (1, 2):
        loads[n_workers] = os.getloadavg()[0]
        found = in_process("scale", "cluster", str(n_workers))
        medians[n_workers] = statistics.median(found["seconds"])
    return [
        {
            "processes of one thread": n_workers,
            "seconds": median,
            "images/s": 780 / median,
            "x one": medians[1] / median,
            "load before": loads[n_workers],
        }
        for n_workers, median in medians.items()
    ]


def measure_search(_: str) -> dict[str, Any]:
    """Search under Dask; encodes are counted in all processes."""
    from distributed import Client

    busi = load()
    images = as_images(busi.images)
    different = len({content_key(images[i]) for i in range(len(images))})
    with tempfile.TemporaryDirectory() as folder, local_cluster(2) as cluster, Client(cluster):
        extractor = features(f"{folder}/store")
        with joblib.parallel_config("dask"):
            cold = timed_search(busi, busi.images, extractor)
            warm = timed_search(busi, busi.images, extractor)
        encodes = count_encodes(f"{folder}/store.encodes")
    return {
        "images": len(images),
        "different": different,
        "encodes": encodes,
        "seconds cold": cold,
        "seconds warm": warm,
    }


def search_rows() -> list[dict[str, Any]]:
    return [in_process("scale", "search", "all")]


def measure_arrays(_: str) -> dict[str, Any]:
    """Search on arrays in memory and on files, warm, and on the precomputed matrix."""
    busi = load()
    decoded = as_images(busi.images)
    arrays = np.empty(len(decoded), dtype=object)
    arrays[:] = [decoded[i] for i in range(len(decoded))]
    with tempfile.TemporaryDirectory() as folder:
        extractor = features(f"{folder}/store")
        matrix = extractor.fit_transform(arrays)
        extractor.transform(busi.images)
        seconds: dict[str, list[float]] = {"precomputed": [], "files": [], "arrays": []}
        for _ in range(ROUNDS):
            seconds["precomputed"].append(timed_search(busi, matrix))
            seconds["files"].append(timed_search(busi, busi.images, extractor))
            seconds["arrays"].append(timed_search(busi, arrays, extractor))
    return {way: statistics.median(found) for way, found in seconds.items()}


def array_rows() -> list[dict[str, Any]]:
    found = in_process("scale", "arrays", "all")
    return [
        {"X": way, "seconds": median, "x precomputed": median / found["precomputed"]}
        for way, median in found.items()
    ]


def measure_cold(way: str) -> dict[str, Any]:
    """Measure the extraction with the opening of the network, the search alone, or both."""
    busi = load()
    matrix = np.random.default_rng(0).random((len(busi.target), 8))
    timed_search(busi, matrix, n_jobs=2)  # starts the workers
    with tempfile.TemporaryDirectory() as folder:
        if way == "extraction":
            return {"seconds": timed_extraction(busi.images, features(f"{folder}/store"))}
        if way == "search":
            matrix = features(f"{folder}/store").fit_transform(busi.images)
            return {"seconds": timed_search(busi, matrix, n_jobs=2)}
        return {"seconds": timed_search(busi, busi.images, features(f"{folder}/store"), n_jobs=2)}


def cold_rows() -> list[dict[str, Any]]:
    ways = ("extraction", "search", "cold search on files")
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(ROUNDS):
        for way, found in seconds.items():
            found.append(in_process("scale", "cold", way)["seconds"])
    medians = {way: statistics.median(found) for way, found in seconds.items()}
    ideal = medians["extraction"] + medians["search"]
    return [
        {"way, 2 processes": way, "seconds": median, "x extraction and search": median / ideal}
        for way, median in medians.items()
    ]
