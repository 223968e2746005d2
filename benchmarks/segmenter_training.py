"""Training of segmenters: stored activations, the loop, what fits in a row leave behind.

``python -m benchmarks.segmenter_training [--parts stored,loop,fits]``: real scans for the first
two, ResNet50 at 256 pixels and a U-Net at 128; parts that are not run stay in the results as they
are. Each measurement runs in a process of its own; the peers of the loop take turns in one.
"""

import argparse
import gc
import json
import os
import statistics
import tempfile
import time
import warnings
from typing import Any

import numpy as np

from benchmarks._report import RESULTS, in_process, keep, load_real_busi, show, use_real_weights
from hybridus import EncoderUNetSegmenter, ResNet50Segmenter, UNetSegmenter, make_breast_phantoms

NAME = "segmenter_training"
ROUNDS = 3
N_FITS = 10
ONLY_TRAIN = {
    "augmentation": None,
    "validation_fraction": None,
    "early_stopping": False,
    "lr_schedule": None,
    "random_state": 0,
}


def some_lesions(n_images: int) -> tuple[list[Any], list[Any]]:
    """Real scans with a lesion, and their masks."""
    busi = load_real_busi()
    lesions = np.flatnonzero(busi.target > 0)
    chosen = np.random.default_rng(0).choice(lesions, n_images, replace=False)
    return [busi.images[i] for i in chosen], [busi.masks[i] for i in chosen]


def stored(way: str, n_images: int = 64) -> dict[str, float]:
    """Train a decoder on a frozen ResNet50; ``way`` is "STRIDE stored" or "STRIDE computed"."""
    stride, how = way.split()
    net = ResNet50Segmenter(
        decoder_stride=int(stride), cache=how == "stored", max_epochs=4, **ONLY_TRAIN
    )
    net.fit(*some_lesions(n_images))
    seconds = list(net.history_["seconds"])
    return {
        "images/s": n_images / statistics.median(seconds[1:]),
        "loss": float(net.history_["loss"].iloc[-1]),
    }


def loop(n_images: int = 160) -> dict[str, float]:
    """Time epochs of a U-Net, ours and `keras.Model.fit` in turn."""
    from hybridus._keras import keras
    from hybridus.batches import PixelBatches
    from hybridus.images import as_images
    from hybridus.masks import resize_mask
    from hybridus.networks.segmentation import segmentation_metrics

    X, masks = some_lesions(n_images)
    ours = UNetSegmenter(max_epochs=2, **ONLY_TRAIN).fit(X, masks)
    same = ours._build(None).model  # the same layers, not leased
    plain = keras.Model(same.inputs, same.outputs)
    plain.compile(
        keras.optimizers.Adam(1e-3),
        keras.losses.BinaryCrossentropy(),
        metrics=segmentation_metrics(),
        jit_compile=False,
    )
    pixels = PixelBatches(as_images(X), (128, 128), channels=1).plain(range(n_images))
    targets = np.stack([resize_mask(mask, (128, 128)) for mask in masks]).astype(np.float32)
    targets = targets.reshape(n_images, 128, 128, 1)
    one_epoch = {"batch_size": 16, "epochs": 1, "verbose": 0}
    plain.fit(pixels, targets, **one_epoch)
    seconds: dict[str, list[float]] = {"hybridus": [], "keras": []}
    for _ in range(ROUNDS):
        fitted = UNetSegmenter(max_epochs=2, **ONLY_TRAIN).fit(X, masks)
        seconds["hybridus"] += list(fitted.history_["seconds"])
        for _ in range(2):
            clock = time.perf_counter()
            plain.fit(pixels, targets, **one_epoch)
            seconds["keras"].append(time.perf_counter() - clock)
    return {name: n_images / statistics.median(times) for name, times in seconds.items()}


def fits(name: str) -> dict[str, float]:
    """Fit a small segmenter N_FITS times in this process, after three that start the backend."""
    import psutil
    from sklearn.base import clone

    phantoms = make_breast_phantoms(64, image_size=64, random_state=0)
    if name == "U-Net":
        net: Any = UNetSegmenter(
            depth=3, base_filters=8, image_size=64, max_epochs=3, random_state=0
        )
    else:
        net = EncoderUNetSegmenter(
            "mobilenet_v2_0.35",
            weights="bundled",
            image_size=64,
            mask_size=32,
            decoder_stride=8,
            max_epochs=3,
            random_state=0,
        )
    process, resident = psutil.Process(), []
    for _ in range(N_FITS + 3):
        clone(net).fit(phantoms.images, phantoms.masks)
        gc.collect()
        resident.append(process.memory_info().rss / 2**20)
    growth = np.diff(resident[2:])
    slope = np.polyfit(np.arange(N_FITS), resident[3:], 1)[0]
    return {"MiB a fit": float(slope), "largest step, MiB": float(growth.max())}


def measure_stored() -> list[dict[str, Any]]:
    rows = []
    for stride in (4, 1):
        ways = {
            how: in_process(NAME, "stored", f"{stride} {how}") for how in ("stored", "computed")
        }
        rate = ways["computed"]["images/s"]
        rows += [
            {
                "decoder stride": stride,
                "activations": how,
                **row,
                "x computed": row["images/s"] / rate,
            }
            for how, row in ways.items()
        ]
    return rows


def measure_loop() -> list[dict[str, Any]]:
    rates = in_process(NAME, "loop", "")
    return [
        {"peer": name, "images/s": rate, "x Keras": rate / rates["keras"]}
        for name, rate in rates.items()
    ]


def measure_fits() -> list[dict[str, Any]]:
    names = ("U-Net", "encoder U-Net")
    return [{"segmenter": name, **in_process(NAME, "fits", name)} for name in names]


PARTS = {
    "stored": (stored, measure_stored, "Decoder on a frozen ResNet50, 256 px"),
    "loop": (loop, measure_loop, "U-Net, 128 px, batches of 16"),
    "fits": (fits, measure_fits, f"{N_FITS} fits of a small segmenter in a row"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--parts", default=",".join(PARTS))
    parser.add_argument("--measure", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    use_real_weights()
    if arguments.measure:
        part, argument = arguments.measure
        warnings.simplefilter("ignore")
        print(json.dumps(PARTS[part][0](*[argument][: bool(argument)])))
        return
    file = RESULTS / f"{NAME}.json"
    results = json.loads(file.read_text())["results"] if file.exists() else {}
    with tempfile.TemporaryDirectory() as folder:
        os.environ.setdefault("HYBRIDUS_CACHE", folder)
        for part in arguments.parts.split(","):
            _, measure, title = PARTS[part]
            results[part] = measure()
            show(results[part], title)
            keep(NAME, results)


if __name__ == "__main__":
    main()
