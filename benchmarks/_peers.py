"""What people write today: a transformer around Keras's `predict`, for benchmarks beside ours."""

import os
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.base import BaseEstimator, TransformerMixin

from hybridus import DeepFeatureExtractor

_network = None


def count_encodes(file: str | os.PathLike) -> int:
    """Images that went through a network in any process, as noted in `file`."""
    path = Path(file)
    return sum(map(int, path.read_text().split())) if path.exists() else 0


def note_encodes(file: str, n_images: int) -> None:
    """Append to a file; safe for several processes."""
    with open(file, "a") as notes:
        notes.write(f"{n_images}\n")


class KerasFeatures(TransformerMixin, BaseEstimator):
    """MobileNetV2 by Keras's `predict`, on image files; nothing is kept between calls."""

    def __init__(self, weights: str = "", notes: str = os.devnull):
        self.weights = weights
        self.notes = notes

    def fit(self, X, y=None):
        return self

    def __sklearn_is_fitted__(self):
        return True

    def transform(self, X):
        global _network
        if _network is None:
            from safetensors.numpy import load_file

            from hybridus._keras import keras

            _network = keras.applications.MobileNetV2(
                include_top=False, weights=None, pooling="avg", input_shape=(224, 224, 3)
            )
            stored = load_file(self.weights)
            for layer in _network.layers:
                for variable in layer.weights:
                    variable.assign(stored[f"{layer.name}/{variable.name}"])
        note_encodes(self.notes, len(X))
        pixels = np.empty((len(X), 224, 224, 3), np.float32)
        for row, path in zip(pixels, X, strict=True):
            picture = Image.open(path).convert("RGB").resize((224, 224), Image.Resampling.BILINEAR)
            row[...] = np.asarray(picture) / np.float32(127.5) - 1
        return _network.predict(pixels, batch_size=32, verbose=0)


class _Counting:
    def __init__(self, engine, notes):
        self._engine = engine
        self._notes = notes
        self.batch_size = engine.batch_size

    def run(self, batches):
        for rows in self._engine.run(batches):
            note_encodes(self._notes, len(rows))
            yield rows


class CountedFeatures(DeepFeatureExtractor):
    """`DeepFeatureExtractor` that notes beside its store how many images it encodes."""

    def _open(self):
        return _Counting(super()._open(), f"{self.cache}.encodes")
