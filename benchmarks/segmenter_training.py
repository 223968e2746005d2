"""Training of segmenters: stored activations, the loop, what fits in a row leave behind.

``python -m benchmarks.segmenter_training [--parts stored,loop,fits]``: real scans for the first
two, ResNet50 at 256 pixels and a U-Net at 128; parts that are not run stay in the results as they
are. Each measurement runs in a process of its own; the peers of the loop take turns in one.
"""

import statistics
from typing import Any

import numpy as np

from benchmarks._report import Part, in_process, load_real_busi, run_parts
from benchmarks._training import fits_in_a_row, images_a_second, seconds_of_keras
from hybridus import EncoderUNetSegmenter, ResNet50Segmenter, UNetSegmenter, make_breast_phantoms

NAME = "segmenter_training"
N_FITS = 10
ONLY_TRAIN = {
    "augmentation": None,
    "validation_fraction": None,
    "early_stopping": False,
    "lr_schedule": None,
    "batch_size": 16,
    "threshold": 0.5,
    "postprocess": None,
    "tta": False,
    "random_state": 0,
}
REPORTED = {
    "augmentation": "light",
    "lr_schedule": "plateau",
    "batch_size": 16,
    "threshold": 0.5,
    "postprocess": None,
    "tta": False,
    "random_state": 0,
}
PLAIN_UNET = {"loss": "binary_crossentropy", "deep_supervision": False}


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
        decoder_stride=int(stride),
        cache=how == "stored",
        dropout_rate=0.2,
        max_epochs=4,
        **ONLY_TRAIN,
    )
    net.fit(*some_lesions(n_images))
    seconds = list(net.history_["seconds"])
    return {
        "images/s": n_images / statistics.median(seconds[1:]),
        "loss": float(net.history_["loss"].iloc[-1]),
    }


def loop(_: str, n_images: int = 160) -> dict[str, float]:
    """Time epochs of a U-Net, ours and `keras.Model.fit` in turn."""
    from hybridus._keras import keras
    from hybridus.inputs.images import as_images
    from hybridus.inputs.masks import resize_mask
    from hybridus.training.batches import PixelBatches
    from hybridus.training.networks.segmentation import segmentation_metrics

    X, masks = some_lesions(n_images)
    ours = UNetSegmenter(max_epochs=2, **PLAIN_UNET, **ONLY_TRAIN).fit(X, masks)
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
    seconds_of_keras(plain, pixels, targets, batch_size=16)

    def ours_again() -> list[float]:
        return list(
            UNetSegmenter(max_epochs=2, **PLAIN_UNET, **ONLY_TRAIN)
            .fit(X, masks)
            .history_["seconds"]
        )

    def keras_again() -> list[float]:
        return [seconds_of_keras(plain, pixels, targets, batch_size=16) for _ in range(2)]

    return images_a_second({"hybridus": ours_again, "keras": keras_again}, n_images)


def fits(name: str) -> dict[str, float]:
    """Fit a small segmenter N_FITS times in this process, after three that start the backend."""
    from sklearn.base import clone

    phantoms = make_breast_phantoms(64, image_size=64, random_state=0)
    if name == "U-Net":
        net: Any = UNetSegmenter(
            depth=3,
            base_filters=8,
            image_size=64,
            max_epochs=3,
            **PLAIN_UNET,
            **REPORTED,
        )
    else:
        net = EncoderUNetSegmenter(
            "mobilenet_v2_0.35",
            weights="bundled",
            image_size=64,
            mask_size=32,
            max_epochs=3,
            dropout_rate=0.2,
            **REPORTED,
        )
    return fits_in_a_row(lambda: clone(net).fit(phantoms.images, phantoms.masks), N_FITS)


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
    "stored": Part("Decoder on a frozen ResNet50, 256 px", stored, measure_stored),
    "loop": Part("U-Net, 128 px, batches of 16", loop, measure_loop),
    "fits": Part(f"{N_FITS} fits of a small segmenter in a row", fits, measure_fits),
}


if __name__ == "__main__":
    run_parts(NAME, __doc__.splitlines()[0], PARTS)
