"""A fresh process: import, load a saved model, predict one image. Ours beside a Keras pipeline.

``python -m benchmarks.cold_start [--rounds 5]``: MobileNetV2 and an SVM, saved with joblib; each
round starts one process for each way, in turn; medians.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import joblib
import numpy as np
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from benchmarks._peers import KerasFeatures
from benchmarks._report import ROOT, keep, load_real_busi, show, use_real_weights
from hybridus import DeepFeatureExtractor

CODE = """
import json, sys, time
started = time.perf_counter()
import joblib
model = joblib.load(sys.argv[1])
loaded = time.perf_counter()
label = int(model.predict([sys.argv[2]])[0])
done = time.perf_counter()
started_keras = any(name in sys.modules for name in ("tensorflow", "keras"))
print(json.dumps({"load": loaded - started, "predict": done - loaded, "label": label,
                  "keras": started_keras, "openvino": "openvino" in sys.modules}))
"""


def run(model: Path, image: str) -> dict:
    """One fresh process, timed from outside as well."""
    started = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", CODE, str(model), image],
        check=True,
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    return {"total": time.perf_counter() - started, **json.loads(done.stdout)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    use_real_weights()
    busi = load_real_busi()
    rng = np.random.default_rng(0)
    some = rng.choice(len(busi.target), 60, replace=False)
    known, new = str(busi.images[some[0]]), str(busi.images[np.setdiff1d(np.arange(99), some)[0]])
    with tempfile.TemporaryDirectory() as folder:
        weights = os.environ["HYBRIDUS_WEIGHTS"] + "/mobilenet_v2.safetensors"
        features = {
            "ours": DeepFeatureExtractor("mobilenet_v2", layers="last", cache=f"{folder}/store"),
            "ours, no store": DeepFeatureExtractor("mobilenet_v2", layers="last", cache=False),
            "bundled": DeepFeatureExtractor(
                "mobilenet_v2_0.35", weights="bundled", layers="last", cache=False
            ),
            "keras": KerasFeatures(weights),
        }
        files = {}
        for name, extractor in features.items():
            steps = [("features", extractor), ("scaler", StandardScaler()), ("head", SVC())]
            pipeline = Pipeline(steps).fit(busi.images[some], busi.target[some])
            files[name] = Path(folder) / f"{name}.joblib"
            joblib.dump(pipeline, files[name])
        ways = {
            "ours, row in the store": ("ours", known),
            "ours, network on disk": ("ours, no store", new),
            "ours, bundled encoder, network on disk": ("bundled", new),
            "joblib pipeline with Keras": ("keras", known),
        }
        for name, image in ways.values():
            run(files[name], image)  # files in the page cache for all; our network on disk
        runs = {way: [] for way in ways}
        for _ in range(arguments.rounds):
            for way, (name, image) in ways.items():
                runs[way].append(run(files[name], image))
    rows = []
    base = statistics.median(one["total"] for one in runs["joblib pipeline with Keras"])
    for way, ones in runs.items():
        total = statistics.median(one["total"] for one in ones)
        rows.append(
            {
                "way": way,
                "import + load": statistics.median(one["load"] for one in ones),
                "predict": statistics.median(one["predict"] for one in ones),
                "process, seconds": total,
                "times faster": base / total,
                "Keras or TensorFlow imported": ones[0]["keras"],
                "OpenVINO imported": ones[0]["openvino"],
            }
        )
    assert (
        runs["ours, row in the store"][0]["label"] == runs["joblib pipeline with Keras"][0]["label"]
    )
    show(rows, "A fresh process predicts one image")
    print(keep("cold_start", rows, rounds=arguments.rounds).name)


if __name__ == "__main__":
    main()
