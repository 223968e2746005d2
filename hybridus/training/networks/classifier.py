"""The network of a fine-tuned classifier: what is left of an encoder after the cut, and a head."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import precision_recall_fscore_support

from hybridus._keras import building, keras, leaves
from hybridus.encoders.assembly import load_weights
from hybridus.encoders.frozen import FrozenEncoder
from hybridus.encoders.partition import Partition, build_rest
from hybridus.training.loop import TrainableNetwork
from hybridus.training.networks.counted import counted_metrics

layers, ops = keras.layers, keras.ops

# keras.applications' 0.99 to 0.999 suit millions of steps: after a few hundred steps from random
# weights, moving averages would still describe the network before it was trained.
_MOMENTUM = 0.9


def build_classifier(
    frozen: FrozenEncoder,
    partition: Partition,
    *,
    n_classes: int,
    hidden_layer_sizes: Sequence[int],
    dropout_rate: float,
    label_smoothing: float,
    optimizer: Any,
    policy: str,
) -> TrainableNetwork:
    """Build and compile encoder, average pooling, hidden layers with dropout, and a softmax.

    The input is what `build_rest` says; where the whole encoder is frozen, its pooled features.
    """
    with building(policy):
        inputs, maps = build_rest(
            frozen.spec,
            frozen.image_size,
            frozen.taps,
            partition,
            pretrained=frozen.source().path is not None,
        )
        load_encoder(keras.Model(inputs, maps), frozen)
        pooled = [layers.GlobalAveragePooling2D()(x) if len(x.shape) == 4 else x for x in maps]
        x = pooled[0] if len(pooled) == 1 else layers.Concatenate()(pooled)
        # Features of different layers and channels differ in scale, as a StandardScaler would see.
        x = layers.BatchNormalization(momentum=_MOMENTUM, center=False, scale=False, name="scaler")(
            x
        )
        for k, width in enumerate(hidden_layer_sizes, start=1):
            x = layers.Dense(int(width), activation="relu", name=f"hidden_{k}")(x)
            if dropout_rate:
                x = layers.Dropout(dropout_rate, name=f"dropout_{k}")(x)
        output = layers.Dense(n_classes, activation="softmax", name="softmax", dtype="float32")(x)
        return TrainableNetwork(
            inputs,
            output,
            loss=keras.losses.CategoricalCrossentropy(label_smoothing=label_smoothing),
            metrics=classification_metrics(n_classes),
            scores=classification_scores,
            optimizer=optimizer,
        )


def load_encoder(rest: Any, frozen: FrozenEncoder) -> None:
    """Give what is left of an encoder its weights; let its trained batch normalisation follow."""
    load_weights(rest, frozen)
    for layer in leaves(rest):
        if isinstance(layer, layers.BatchNormalization) and layer.trainable:
            layer.momentum = min(layer.momentum, _MOMENTUM)


def classification_metrics(n_classes: int) -> list[Any]:
    """Accuracy, and precision, recall and F1 as means over the classes.

    A class that is never predicted has a precision of 0, one that never occurs a recall of 0.
    """

    def count(y_true: Any, y_pred: Any) -> Any:
        true, found = (ops.one_hot(ops.argmax(y, axis=-1), n_classes) for y in (y_true, y_pred))
        return ops.stack([ops.sum(values, axis=0) for values in (true * found, true, found)])

    return counted_metrics(
        (3, n_classes),
        count,
        {
            "accuracy": lambda sums: ops.divide_no_nan(ops.sum(sums[0]), ops.sum(sums[1])),
            "precision": lambda sums: ops.mean(ops.divide_no_nan(sums[0], sums[2])),
            "recall": lambda sums: ops.mean(ops.divide_no_nan(sums[0], sums[1])),
            "f1": lambda sums: ops.mean(ops.divide_no_nan(2 * sums[0], sums[1] + sums[2])),
        },
    )


def classification_scores(truth: NDArray, probabilities: NDArray) -> dict[str, float]:
    """Compute what `classification_metrics` does, of all samples at once and without a graph."""
    true, found = truth.argmax(axis=1), probabilities.argmax(axis=1)
    options: dict[str, Any] = {"labels": range(truth.shape[1]), "average": "macro"}
    precision, recall, f1, _ = precision_recall_fscore_support(
        true, found, zero_division=0, **options
    )
    scores = {"accuracy": np.mean(true == found), "precision": precision}
    return {name: float(value) for name, value in {**scores, "recall": recall, "f1": f1}.items()}
