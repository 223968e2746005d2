"""One grid search, five ways: what it is worth that the network never changes.

``python -m benchmarks.grid_search``: 780 real scans, MobileNetV2 and an RBF-SVM, 24 candidates x 5
folds by duplicate group, given as files unless said otherwise. Encodes are counted in all
processes. The two ways that would take hours are run on a part and extrapolated, and say so.
"""

import os
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
from sklearn.model_selection import GridSearchCV, StratifiedGroupKFold
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from benchmarks._peers import CountedFeatures, KerasFeatures, count_encodes
from benchmarks._report import SHARED, keep, show, use_real_weights
from hybridus import DeepFeatureExtractor, load_busi
from hybridus.inputs.images import as_images, content_key

GRID = {
    "head__C": [0.1, 1.0, 3.0, 10.0, 30.0, 100.0],
    "head__gamma": ["scale", 1e-4, 3e-4, 1e-3],
}
N_CANDIDATES, N_FOLDS, ROUNDS = 24, 5, 2


def steps(features=None) -> list:
    classical = [("scaler", StandardScaler()), ("head", SVC(class_weight="balanced"))]
    return classical if features is None else [("features", features), *classical]


class Bench:
    """The data, the folds, and how a search is timed and its encodes counted."""

    def __init__(self, folder: str) -> None:
        self.folder = Path(folder)
        self.busi = load_busi(
            SHARED / "data" / "Dataset_BUSI_with_GT", curation=SHARED / "data" / "busi_curation.csv"
        )
        splitter = StratifiedGroupKFold(N_FOLDS, shuffle=True, random_state=0)
        self.folds = list(splitter.split(self.busi.images, self.busi.target, self.busi.groups))

    def search(self, pipeline, X, *, n_jobs=1, grid=None, folds=None, refit=True) -> tuple:
        """Seconds and encodes of one search."""
        features = pipeline.named_steps.get("features")
        if isinstance(features, CountedFeatures):
            notes = f"{features.cache}.encodes"
        else:
            notes = getattr(features, "notes", os.devnull)
        before = count_encodes(notes)
        search = GridSearchCV(
            pipeline,
            grid or GRID,
            cv=folds or self.folds,
            n_jobs=n_jobs,
            refit=refit,
            error_score="raise",
        )
        started = time.perf_counter()
        search.fit(X, self.busi.target)
        return time.perf_counter() - started, count_encodes(notes) - before, search


def warm_up(bench: Bench) -> None:
    """Start the workers, so that no way pays for them alone; compile the network."""
    matrix = np.random.default_rng(0).random((len(bench.busi.target), 8))
    bench.search(Pipeline(steps()), matrix, n_jobs=2)
    DeepFeatureExtractor("mobilenet_v2", layers="last", cache=False).fit_transform(
        bench.busi.images[:16]
    )


def main() -> None:
    use_real_weights()
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(folder)
        paths, n = bench.busi.images, len(bench.busi.target)
        warm_up(bench)
        rows = []

        extraction = []
        for _ in range(3):
            started = time.perf_counter()
            matrix = DeepFeatureExtractor("mobilenet_v2", layers="last", cache=False).fit_transform(
                paths
            )
            extraction.append(time.perf_counter() - started)
        once = statistics.median(extraction)
        rows.append({"way": "one extraction alone", "n_jobs": 1, "seconds": once, "encodes": n})

        precomputed, scores = {}, {}
        for n_jobs in (1, 2):
            runs = [bench.search(Pipeline(steps()), matrix, n_jobs=n_jobs) for _ in range(ROUNDS)]
            precomputed[n_jobs] = statistics.median(run[0] for run in runs)
            scores["precomputed"] = runs[0][2].cv_results_["mean_test_score"]
            rows.append(
                {
                    "way": "scikit-learn on the precomputed matrix",
                    "n_jobs": n_jobs,
                    "seconds": precomputed[n_jobs],
                    "encodes": 0,
                }
            )

        def measure_ours(kind: str, X, n_jobs: int) -> None:
            cold, warm = [], []
            for run in range(ROUNDS):
                store = bench.folder / f"store-{kind}-{n_jobs}-{run}"
                pipeline = Pipeline(steps(CountedFeatures("mobilenet_v2", cache=str(store))))
                cold.append(bench.search(pipeline, X, n_jobs=n_jobs))
                warm.append(bench.search(pipeline, X, n_jobs=n_jobs))
            for state, runs in (("cold", cold), ("warm", warm)):
                seconds = statistics.median(run[0] for run in runs)
                np.testing.assert_allclose(
                    runs[0][2].cv_results_["mean_test_score"], scores["precomputed"], atol=0.011
                )
                ideal = precomputed[n_jobs] + (once if state == "cold" else 0)
                rows.append(
                    {
                        "way": f"ours, {state}, {kind}",
                        "n_jobs": n_jobs,
                        "seconds": seconds,
                        "encodes": max(run[1] for run in runs),
                        "x ideal": seconds / ideal,
                    }
                )
                show(rows[-1:], "")

        measure_ours("files", paths, 1)
        measure_ours("files", paths, 2)
        decoded = as_images(paths)
        arrays = np.empty(n, dtype=object)
        arrays[:] = [decoded[i] for i in range(n)]
        measure_ours("arrays", arrays, 1)
        n_unique = len({content_key(image) for image in arrays})

        weights = os.environ["HYBRIDUS_WEIGHTS"] + "/mobilenet_v2.safetensors"
        few = {"head__C": [1.0, 10.0]}
        notes = str(bench.folder / "keras.encodes")
        keras = Pipeline(steps(KerasFeatures(weights, notes)))
        keras["features"].transform(paths[:32])  # builds and traces
        seconds, encodes, _ = bench.search(
            keras, paths, grid={"head__C": [1.0]}, folds=bench.folds[:2], refit=False
        )
        fits = N_CANDIDATES * N_FOLDS
        plain = seconds / 2 * fits + seconds / 2  # and the refit, at a fold's cost or more
        rows.append(
            {
                "way": "plain pipeline with Keras (extrapolated from 2 of 120 fits)",
                "n_jobs": 1,
                "seconds": plain,
                "encodes": encodes // 2 * fits + n,
            }
        )
        memory = Pipeline(steps(KerasFeatures(weights, notes)), memory=str(bench.folder / "memory"))
        seconds, encodes, _ = bench.search(memory, paths, grid=few, refit=False)
        # fit_transform of a fold is kept; its test part is encoded anew for every candidate.
        all_encodes = sum(len(a) for a, _ in bench.folds)
        all_encodes += N_CANDIDATES * sum(len(b) for _, b in bench.folds) + n
        rows.append(
            {
                "way": "Pipeline(memory=) with Keras (extrapolated from 2 of 24 candidates)",
                "n_jobs": 1,
                "seconds": seconds / encodes * all_encodes + precomputed[1],
                "encodes": all_encodes,
            }
        )
        ours = {row["way"]: row["seconds"] for row in rows if row["n_jobs"] == 1}
        for row in rows:
            row["plain Keras / this"] = plain / row["seconds"]
        show(rows, f"{n} scans ({n_unique} different), {N_CANDIDATES} candidates x {N_FOLDS} folds")
        print(f"plain Keras / ours cold: {plain / ours['ours, cold, files']:.0f}")
        print(keep("grid_search", rows, n_images=n, n_unique=n_unique, grid=GRID).name)


if __name__ == "__main__":
    main()
