"""Training: what the loop costs, what fits in a row cost, what a stored prefix saves.

``python -m benchmarks.training [--parts loop,fits,prefix]``; parts that are not run stay in the
results as they are. Each peer runs in a process of its
own; the loop's peers take turns in one. scikeras and keras.wrappers are left out where absent.
"""

import os
import statistics
import tempfile
import time
from typing import Any

import numpy as np

from benchmarks._report import Part, in_process, load_real_busi, run_parts
from benchmarks._training import fits_in_a_row, images_a_second, seconds_of_keras
from hybridus import FineTunedClassifier, make_breast_phantoms
from hybridus.encoders.registry import EncoderSpec

N_FITS, N_EPOCHS = 20, 5


# The loop: images a second beside plain Keras, the same network and batches


def loop(_: str, image_size: int = 128, n_images: int = 320) -> dict[str, float]:
    """Time epochs of MobileNetV2, all layers trained, ours and `keras.Model.fit` in turn."""
    from hybridus._keras import keras
    from hybridus.training.networks.classifier import classification_metrics

    busi = load_real_busi()
    chosen = np.random.default_rng(0).choice(len(busi.target), n_images, replace=False)
    X, y = list(busi.images[chosen]), busi.target[chosen]
    settings = {"trainable": "all", "image_size": image_size, "augmentation": None}
    settings |= {"validation_fraction": None, "early_stopping": False, "learning_rate": 1e-4}
    ours = FineTunedClassifier(max_epochs=2, random_state=0, **settings).fit(X, y)
    plain_network = ours._build(ours._partitions()[0]).model  # the same layers, not leased
    plain = keras.Model(plain_network.inputs, plain_network.outputs)
    plain.compile(
        keras.optimizers.Adam(1e-4),
        keras.losses.CategoricalCrossentropy(),
        metrics=classification_metrics(3),
        jit_compile=False,
    )
    from hybridus.inputs.images import as_images
    from hybridus.training.batches import PixelBatches

    pixels = PixelBatches(as_images(X), (image_size, image_size)).plain(range(n_images))
    targets = np.eye(3, dtype=np.float32)[y]
    for _ in range(2):
        seconds_of_keras(plain, pixels, targets, batch_size=32)

    def ours_again() -> list[float]:
        net = FineTunedClassifier(max_epochs=3, random_state=0, **settings).fit(X, y)
        return list(net.history_["seconds"])

    def keras_again() -> list[float]:
        return [seconds_of_keras(plain, pixels, targets, batch_size=32) for _ in range(3)]

    return images_a_second({"hybridus": ours_again, "keras": keras_again}, n_images)


# Fits in a row: seconds and memory


def small_encoder(input_shape: tuple[int, int, int]) -> Any:
    """Two convolutions, as an encoder."""
    from hybridus._keras import keras

    layers = keras.layers
    pixels = keras.Input(input_shape)
    x = layers.Conv2D(8, 3, strides=2, activation="relu", name="conv_1")(pixels)
    x = layers.Conv2D(16, 3, strides=2, activation="relu", name="conv_2")(x)
    return keras.Model(pixels, x)


SMALL = EncoderSpec(name="small", builder=small_encoder, image_size=(32, 32), last="conv_2")


def small_classifier() -> Any:
    """Build the same network as one model, compiled, as wrappers want it."""
    from hybridus._keras import keras

    layers = keras.layers
    encoder = small_encoder((32, 32, 3))
    x = layers.GlobalAveragePooling2D()(encoder.output)
    x = layers.Dropout(0.3)(layers.Dense(32, activation="relu")(x))
    model = keras.Model(encoder.input, layers.Dense(3, activation="softmax")(x))
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def estimator_of(peer: str) -> Any:
    """One unfitted estimator of a peer."""
    if peer == "hybridus":
        return FineTunedClassifier(
            SMALL,
            weights="random",
            trainable="all",
            hidden_layer_sizes=(32,),
            augmentation=None,
            validation_fraction=None,
            early_stopping=False,
            lr_schedule=None,
            max_epochs=N_EPOCHS,
            random_state=0,
        )
    if peer == "scikeras":
        from scikeras.wrappers import KerasClassifier

        return KerasClassifier(model=small_classifier, epochs=N_EPOCHS, batch_size=32, verbose=0)
    from hybridus._keras import keras

    return keras.wrappers.SKLearnClassifier(
        model=_wrapped, fit_kwargs={"epochs": N_EPOCHS, "batch_size": 32, "verbose": 0}
    )


def _wrapped(X: Any, y: Any) -> Any:
    from hybridus._keras import keras

    layers = keras.layers
    encoder = small_encoder((32, 32, 3))
    flat = keras.Input((32 * 32 * 3,))  # keras.wrappers refuses images in their own shape
    x = encoder(layers.Reshape((32, 32, 3))(flat))
    x = layers.GlobalAveragePooling2D()(x)
    x = layers.Dropout(0.3)(layers.Dense(32, activation="relu")(x))
    model = keras.Model(flat, layers.Dense(3, activation="softmax")(x))
    model.compile("adam", "categorical_crossentropy", metrics=["accuracy"])
    return model


def fits(peer: str) -> dict[str, float]:
    """Fit the small network N_FITS times in this process."""
    from sklearn.base import clone

    phantoms = make_breast_phantoms(256, image_size=32, random_state=0)
    X = np.repeat(phantoms.images[..., np.newaxis], 3, axis=-1)
    if peer != "hybridus":
        X = X.astype(np.float32) / 255
    if peer == "keras.wrappers":
        X = X.reshape(len(X), -1)
    estimator = estimator_of(peer)
    return fits_in_a_row(lambda: clone(estimator).fit(X, phantoms.target), N_FITS)


# A stored prefix: seconds an epoch


def prefix(way: str, image_size: int = 224, n_images: int = 160) -> dict[str, Any]:
    """Train the last 20 layers with or without stored activations, or all layers."""
    busi = load_real_busi()
    chosen = np.random.default_rng(0).choice(len(busi.target), n_images, replace=False)
    net = FineTunedClassifier(
        trainable="all" if way == "all layers" else "last:20",
        cache="stored" in way,
        engine="keras" if way.endswith("Keras") else "auto",
        image_size=image_size,
        augmentation=None,
        validation_fraction=None,
        early_stopping=False,
        lr_schedule=None,
        learning_rate=1e-4,
        max_epochs=4,
        random_state=0,
    )
    started = time.perf_counter()
    net.fit(list(busi.images[chosen]), busi.target[chosen])
    total = time.perf_counter() - started
    seconds = list(net.history_["seconds"])
    trained = [path for path in sorted(net.variables_) if "moving_" not in path]
    weights = np.concatenate([net.variables_[path].ravel() for path in trained])
    file = os.environ.get("HYBRIDUS_BENCHMARK_WEIGHTS")
    if file:
        np.save(file, weights)
    epoch = statistics.median(seconds[1:])
    return {
        "seconds an epoch": epoch,
        "seconds besides": total - sum(seconds),
        "loss": float(net.history_["loss"].iloc[-1]),
    }


def measured(part: str, argument: str, **environment: str) -> Any:
    """Run one measurement in a process of its own; None where its package is absent."""
    return in_process("training", part, argument, **environment)


def measure_loop() -> list[dict[str, Any]]:
    rates = measured("loop", "")
    return [
        {"peer": name, "images/s": rate, "x Keras": rate / rates["keras"]}
        for name, rate in rates.items()
    ]


def measure_fits() -> list[dict[str, Any]]:
    found = {peer: measured("fits", peer) for peer in ("hybridus", "scikeras", "keras.wrappers")}
    ours = found["hybridus"]["seconds a fit"]
    return [
        {"peer": peer, **row, "x hybridus": row["seconds a fit"] / ours}
        for peer, row in found.items()
        if row is not None
    ]


def measure_prefix() -> list[dict[str, Any]]:
    rows, weights = [], {}
    ways = ("last:20, stored", "last:20, stored by Keras", "last:20, computed", "all layers")
    with tempfile.TemporaryDirectory() as folder:
        for way in ways:
            file = f"{folder}/{way}.npy"
            rows.append({"way": way, **measured("prefix", way, HYBRIDUS_BENCHMARK_WEIGHTS=file)})
            weights[way] = np.load(file)
    stored = rows[0]["seconds an epoch"]
    for row in rows:
        row["x stored"] = row["seconds an epoch"] / stored
    for row in rows[:2]:
        difference = np.abs(weights[row["way"]] - weights["last:20, computed"]).max()
        row["largest difference of a weight"] = float(difference)
    return rows


PARTS = {
    "loop": Part("MobileNetV2, all layers, 128 px, batches of 32", loop, measure_loop),
    "fits": Part(f"{N_FITS} fits of a small network, {N_EPOCHS} epochs each", fits, measure_fits),
    "prefix": Part(
        "MobileNetV2, last 20 layers, 224 px, without augmentation", prefix, measure_prefix
    ),
}


if __name__ == "__main__":
    run_parts("training", __doc__.splitlines()[0], PARTS)
