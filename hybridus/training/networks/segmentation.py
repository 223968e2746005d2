"""Segmentation networks: from pixels, or activations of an encoder, to lesion probabilities.

Every builder gives the tensors of one architecture, input and probabilities: one map, float32
(n, h, w, 1), to which deep supervision adds a channel for each coarser scale.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hybridus._keras import building, keras
from hybridus.encoders.frozen import FrozenEncoder
from hybridus.encoders.partition import Partition, build_rest
from hybridus.training.loop import TrainableNetwork
from hybridus.training.losses import make_loss
from hybridus.training.networks.classifier import load_encoder
from hybridus.training.networks.counted import counted_metrics

layers, ops = keras.layers, keras.ops

_MOMENTUM = 0.9  # of batch normalisation; a training set of hundreds gives few steps


def compile_segmenter(
    build: Callable[[], tuple[Any, Any]], *, loss: str, optimizer: Any, policy: str
) -> TrainableNetwork:
    """Build a segmentation network under a dtype policy, and compile it.

    Parameters
    ----------
    build : callable
        Returns the tensors of input and probabilities; several channels of these are scales.
    loss : str
        See `hybridus.training.losses.make_loss`.
    optimizer : str or dict
        As `keras.optimizers.get` takes it.
    policy : str
        Such as "mixed_bfloat16".
    """
    with building(policy):
        inputs, output = build()
        of_image = make_loss(loss)
        n_scales = output.shape[-1]
        return TrainableNetwork(
            inputs,
            output,
            loss=of_image if n_scales == 1 else DeeplySupervised(of_image, n_scales),
            metrics=segmentation_metrics(),
            scores=segmentation_scores,
            optimizer=optimizer,
        )


def build_unet(
    image_size: tuple[int, int],
    *,
    depth: int,
    base_filters: int,
    batch_norm: bool,
    dropout_rate: float,
    attention: bool,
    deep_supervision: bool,
) -> tuple[Any, Any]:
    """Build the U-Net of Ronneberger et al. 2015 with "same" padding.

    Filters double with each of `depth` halvings; dropout acts at the bottom; attention gates are
    those of Oktay et al. 2018. The input is grey,
    float32 (n, H, W, 1), 0..255.
    """
    inputs = keras.Input((*image_size, 1), dtype="float32", name="grey")
    x, skips = inputs / 255.0, []
    for level in range(depth):
        x = _double_conv(x, base_filters * 2**level, batch_norm, f"down_{level}")
        skips.append(x)
        x = layers.MaxPooling2D()(x)
    x = _double_conv(x, base_filters * 2**depth, batch_norm, "bottom")
    if dropout_rate:
        x = layers.Dropout(dropout_rate)(x)
    scales = []
    for level in reversed(range(depth)):
        filters = base_filters * 2**level
        x = layers.Conv2DTranspose(filters, 2, strides=2, name=f"up_{level}_widen")(x)
        skip = skips[level]
        if attention:
            skip = _attend(skip, x, filters // 2, f"gate_{level}")
        x = layers.Concatenate()([skip, x])
        x = _double_conv(x, filters, batch_norm, f"up_{level}")
        scales.append((x, 2**level))
    return inputs, _heads(scales if deep_supervision else scales[-1:])


def build_encoder_unet(
    frozen: FrozenEncoder,
    partition: Partition,
    *,
    mask_size: tuple[int, int],
    decoder_filters: Sequence[int],
    decoder_stride: int,
    dropout_rate: float,
    batch_norm: bool,
) -> tuple[Any, Any]:
    """Build a decoder over the tapped maps of an encoder, from the coarsest to `decoder_stride`.

    Each map is first narrowed to the decoder's width by a 1x1 convolution; the probabilities are
    brought from the last stride to `mask_size` by bilinear interpolation. The input is what
    `build_rest` says.
    """
    pretrained = frozen.source().path is not None
    inputs, maps = build_rest(
        frozen.spec, frozen.image_size, frozen.taps, partition, pretrained=pretrained
    )
    encoder = keras.Model(inputs, maps)
    if encoder.weights:
        load_encoder(encoder, frozen)
    by_size: dict[tuple[int, int], list[Any]] = {}
    for tensor in maps:
        by_size.setdefault(tuple(tensor.shape[1:3]), []).append(tensor)
    x, level = None, 0
    size = min(by_size)
    while True:
        filters = decoder_filters[min(level, len(decoder_filters) - 1)]
        names = (f"narrow_{level}_{k}" for k in range(len(maps)))
        seen = [
            _conv(tensor, filters, 1, batch_norm, name)
            for tensor, name in zip(by_size.pop(size, []), names, strict=False)
        ]
        parts = seen if x is None else [*seen, _resized(x, size)]
        x = parts[0] if len(parts) == 1 else layers.Concatenate()(parts)
        if level == 0 and dropout_rate:
            x = layers.SpatialDropout2D(dropout_rate)(x)
        x = _double_conv(x, filters, batch_norm, f"decode_{level}")
        if frozen.image_size[0] <= size[0] * decoder_stride:
            break
        doubled = (2 * size[0], 2 * size[1])
        # Encoders round odd sizes up, so the next finer layer may be a pixel short of it.
        size = max((known for known in by_size if known[0] <= doubled[0]), default=doubled)
        level += 1
    if by_size:
        raise ValueError(
            f"layers with maps of {sorted(by_size)} pixels are finer than the decoder goes: "
            f"with decoder_stride={decoder_stride} it stops at {size}; lower decoder_stride or "
            "leave these layers out"
        )
    logits = layers.Conv2D(1, 1, name="mask")(x)
    return inputs, _probabilities(_resized(logits, mask_size))


def build_dncnn(image_size: tuple[int, int], *, n_layers: int, filters: int) -> tuple[Any, Any]:
    """Build the DnCNN of Zhang et al. 2017: convolutions at full resolution, here with a mask head.

    The first layer has no batch normalisation, and the last gives the map; the sigmoid stands
    where the original subtracts the noise it has found. The input is grey, as for `build_unet`.
    """
    inputs = keras.Input((*image_size, 1), dtype="float32", name="grey")
    x = layers.Conv2D(filters, 3, padding="same", activation="relu", name="conv_1")(inputs / 255.0)
    for k in range(2, n_layers):
        x = _conv(x, filters, 3, True, f"conv_{k}")
    logits = layers.Conv2D(1, 3, padding="same", name="mask")(x)
    return inputs, _probabilities(logits)


class DeeplySupervised(keras.losses.Loss):
    """A loss on every channel: the finest scale counts 1, each coarser one half of the next."""

    def __init__(self, loss: Any, n_scales: int) -> None:
        super().__init__(name="deeply_supervised")
        self._loss = loss
        self._weights = [0.5**k for k in range(n_scales)]

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Loss of each image."""
        parts = [
            weight * self._loss.call(y_true, y_pred[..., k : k + 1])
            for k, weight in enumerate(self._weights)
        ]
        return sum(parts) / sum(self._weights)


def segmentation_metrics() -> list[Any]:
    """Mean Dice of an image; IoU, accuracy, precision, recall and F1 of all pixels together.

    A pixel is lesion where its probability at the finest scale is above one half. The Dice of an
    image without lesion and without prediction is 1.
    """
    share = ops.divide_no_nan
    return counted_metrics(
        (6,),
        _count_pixels,
        {
            "dice": lambda sums: share(sums[0], sums[1]),
            "iou": lambda sums: share(sums[2], sums[3] + sums[4] - sums[2]),
            "accuracy": lambda sums: share(sums[5] - sums[3] - sums[4] + 2 * sums[2], sums[5]),
            "precision": lambda sums: share(sums[2], sums[4]),
            "recall": lambda sums: share(sums[2], sums[3]),
            "f1": lambda sums: share(2 * sums[2], sums[3] + sums[4]),
        },
    )


def _count_pixels(y_true: Any, y_pred: Any) -> Any:
    """Sum Dice coefficients, images, and pixels: of both, of the truth, found, and all."""
    truth = ops.cast(y_true, "float32")
    found = ops.cast(y_pred[..., :1] > 0.5, "float32")
    common, true, n_found = (
        ops.sum(values, axis=(1, 2, 3)) for values in (truth * found, truth, found)
    )
    areas = true + n_found
    dice = ops.where(areas > 0, 2 * common / ops.maximum(areas, 1), 1.0)
    sums = [dice, ops.ones_like(dice), common, true, n_found]
    n_pixels = ops.sum(ops.ones_like(truth))
    return ops.stack([*(ops.sum(values) for values in sums), n_pixels])


def segmentation_scores(truth: NDArray, probabilities: NDArray) -> dict[str, float]:
    """Compute what `segmentation_metrics` does, of all images at once and without a graph."""
    true, found = truth[..., 0] > 0.5, probabilities[..., 0] > 0.5
    common = (true & found).sum(axis=(1, 2))
    areas = true.sum(axis=(1, 2)) + found.sum(axis=(1, 2))
    dice = np.divide(2 * common, areas, out=np.ones(len(true)), where=areas > 0)
    both, n_true, n_found = common.sum(), true.sum(), found.sum()

    def share(of: Any) -> float:
        return float(both / of) if of else 0.0

    return {
        "dice": float(dice.mean()),
        "iou": share(n_true + n_found - both),
        "accuracy": float(np.mean(true == found)),
        "precision": share(n_found),
        "recall": share(n_true),
        "f1": share((n_true + n_found) / 2),
    }


def _double_conv(x: Any, filters: int, batch_norm: bool, name: str) -> Any:
    x = _conv(x, filters, 3, batch_norm, f"{name}_1")
    return _conv(x, filters, 3, batch_norm, f"{name}_2")


def _conv(x: Any, filters: int, kernel_size: int, batch_norm: bool, name: str) -> Any:
    """Convolution, batch normalisation if wanted, ReLU.

    Layers that have weights are named: Keras would number them anew in each process, and weights
    are kept by these names.
    """
    x = layers.Conv2D(filters, kernel_size, padding="same", use_bias=not batch_norm, name=name)(x)
    if batch_norm:
        x = layers.BatchNormalization(momentum=_MOMENTUM, name=f"{name}_norm")(x)
    return layers.ReLU()(x)


def _attend(skip: Any, gate: Any, filters: int, name: str) -> Any:
    """Weigh the places of a skip connection by what the coarser scale says of them."""
    seen = layers.Conv2D(max(filters, 1), 1, name=f"{name}_skip")(skip)
    asked = layers.Conv2D(max(filters, 1), 1, name=f"{name}_gate")(gate)
    weights = layers.Conv2D(1, 1, activation="sigmoid", name=f"{name}_weight")(
        layers.ReLU()(layers.Add()([seen, asked]))
    )
    return layers.Multiply()([skip, weights])


def _heads(scales: Sequence[tuple[Any, int]]) -> Any:
    """Give a map of probabilities for each (features, factor to full size), the finest first."""
    maps = []
    for k, (x, factor) in enumerate(reversed(scales)):
        logits = layers.Conv2D(1, 1, name=f"mask_{k}" if k else "mask")(x)
        if factor > 1:
            logits = layers.UpSampling2D(factor, interpolation="bilinear")(logits)
        maps.append(_probabilities(logits))
    return maps[0] if len(maps) == 1 else layers.Concatenate(dtype="float32")(maps)


def _probabilities(logits: Any) -> Any:
    return layers.Activation("sigmoid", dtype="float32")(logits)


def _resized(x: Any, size: tuple[int, int]) -> Any:
    if tuple(x.shape[1:3]) == tuple(size):
        return x
    return ops.image.resize(x, size, interpolation="bilinear")
