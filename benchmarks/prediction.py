"""Prediction of many files: the command, and its peak of memory, beside bare extraction of rows.

``python -m benchmarks.prediction [--files 20000] [--model mobilenet_v2]``: different PNG files of
256 x 256; an SVM on frozen features, trained by `hybridus train` on 300 of them. Each way runs in a
process of its own, with a store that knows none of the files.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks._report import ROOT, keep, show, use_real_weights
from benchmarks.memory import write_files
from hybridus import DeepFeatureExtractor, make_breast_phantoms, make_hybrid_classifier, save


def extract(folder: str, encoder: str) -> None:
    """Make rows alone, as `benchmarks.extraction` takes them from files."""
    paths = [str(path) for path in sorted(Path(folder).glob("*.png"))]
    extractor = DeepFeatureExtractor(encoder, layers="last").fit(paths)
    extractor.transform(paths[:1])  # the network is open
    started = time.perf_counter()
    extractor.transform(paths)
    _tell(len(paths), time.perf_counter() - started)


def predict(folder: str, encoder: str) -> None:
    """Run the command, from reading the model to the table."""
    from hybridus.cli import app

    started = time.perf_counter()
    given = ["predict", f"{folder}/model.hybridus", folder, "--out", f"{folder}/answers"]
    app(given, standalone_mode=False)
    _tell(len(list(Path(folder).glob("*.png"))), time.perf_counter() - started)


def _tell(n_files: int, seconds: float) -> None:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(json.dumps({"files": n_files, "images/s": n_files / seconds, "peak GiB": peak}))


def main() -> None:
    """Print and keep the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--files", type=int, default=20_000)
    parser.add_argument("--encoder", default="mobilenet_v2")
    parser.add_argument("--part", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    use_real_weights()
    if arguments.part:
        {"extraction": extract, "hybridus predict": predict}[arguments.part[0]](
            arguments.part[1], arguments.encoder
        )
        return
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        write_files(Path(folder), arguments.files)
        scans = make_breast_phantoms(300, image_size=64, random_state=0)
        model = make_hybrid_classifier(arguments.encoder, probability=True, layers="last")
        save(model.fit(scans.images, scans.target), f"{folder}/model.hybridus")
        for part in ("extraction", "hybridus predict", "extraction", "hybridus predict"):
            command = [sys.executable, "-m", "benchmarks.prediction", "--part", part, folder]
            command += ["--encoder", arguments.encoder]
            cache = f"{folder}/cache-{len(rows)}"
            done = subprocess.run(
                command,
                check=True,
                capture_output=True,
                text=True,
                cwd=ROOT,
                env={**os.environ, "HYBRIDUS_CACHE": cache},
            )
            rows.append({"way": part, **json.loads(done.stdout.splitlines()[-1])})
    base = max(row["images/s"] for row in rows if row["way"] == "extraction")
    for row in rows:
        row["of extraction"] = row["images/s"] / base
    show(rows, f"{arguments.files} files, {arguments.encoder}, last layer, float32")
    print(keep("prediction", rows, files=arguments.files, encoder=arguments.encoder).name)


if __name__ == "__main__":
    main()
