"""Memory for many files: the peak of a process that extracts features of 5,000 and 20,000 paths.

``python -m benchmarks.memory [--counts 5000,20000]``: different PNG files of 256 x 256, MobileNetV2
at 224, bfloat16, with a store; each count in a process of its own.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks._report import ROOT, keep, show, use_real_weights
from hybridus import DeepFeatureExtractor, make_breast_phantoms


def write_files(folder: Path, count: int) -> None:
    """Different scans without simulating each: phantoms with their number in the first pixels."""
    phantoms = make_breast_phantoms(50, image_size=256, random_state=0).images
    for i in range(count):
        image = phantoms[i % len(phantoms)].copy()
        image[0, :4] = np.frombuffer(np.uint32(i).tobytes(), np.uint8)
        Image.fromarray(image).save(folder / f"{i:05d}.png", compress_level=1)


def extract(folder: str, count: int) -> None:
    """Run in a process of its own."""
    paths = [str(path) for path in sorted(Path(folder).glob("*.png"))[:count]]
    started = time.perf_counter()
    extractor = DeepFeatureExtractor(
        "mobilenet_v2", layers="last", precision="bfloat16", cache=f"{folder}/store-{count}"
    )
    rows = extractor.fit_transform(paths)
    assert len(rows) == count
    assert np.isfinite(rows).all()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(json.dumps({"seconds": time.perf_counter() - started, "peak_gib": peak}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--counts", default="5000,20000")
    parser.add_argument("--extract", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    use_real_weights()
    if arguments.extract:
        extract(arguments.extract[0], int(arguments.extract[1]))
        return
    counts = [int(count) for count in arguments.counts.split(",")]
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        write_files(Path(folder), max(counts))
        # The network is exported beforehand: that needs Keras and TensorFlow, once.
        DeepFeatureExtractor(
            "mobilenet_v2", layers="last", precision="bfloat16", cache=False
        ).fit_transform(np.zeros((9, 8, 8)))
        for count in counts:
            command = [sys.executable, "-m", "benchmarks.memory", "--extract", folder, str(count)]
            done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT)
            said = json.loads(done.stdout)
            rows.append(
                {
                    "paths": count,
                    "peak resident, GiB": said["peak_gib"],
                    "of which rows, GiB": count * 1280 * 4 / 2**30,
                    "images/s": count / said["seconds"],
                }
            )
    show(rows, "Peak memory of extraction from paths")
    print(keep("memory", rows, counts=counts).name)


if __name__ == "__main__":
    main()
