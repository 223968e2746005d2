"""Assembly of a frozen encoder: the network is built, cut at the taps, given weights and pooled."""

import math
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from hybridus._keras import building, default_name, keras, leaves
from hybridus.encoders.registry import Preprocessing
from hybridus.encoders.saved import SUFFIX
from hybridus.encoders.weights import LayerPlan, draw_weights, read_in_order, read_weights

ops = keras.ops

_GEM_POWER = 3.0
_GEM_FLOOR = 1e-6
_GRAM_CHANNELS = 64  # 2,080 products


def build_network(frozen: Any) -> keras.Model:
    """Build the network of a `FrozenEncoder`: pixels 0..255 in, one pooled vector a tap out.

    The network is cut at the deepest tap, and only the weights of what is left are loaded.

    Returns
    -------
    keras.Model
        From float32 (n, H, W, 3), RGB, 0..255 to a list of float32 (n, width), one a tap.

    Raises
    ------
    ValueError
        Where a tap is no layer, or the weights file lacks a layer or has one of another shape.
    """
    with building():
        base = frozen.spec.build(frozen.image_size)
        cut = keras.Model(base.inputs, [tap(base, name) for name in frozen.taps])
        load_weights(cut, frozen)
        cut.trainable = False
        pixels = keras.Input((*frozen.image_size, 3), dtype="float32", name="pixels")
        maps = cut(preprocess(pixels, frozen.spec.preprocessing), training=False)
        maps = maps if isinstance(maps, list) else [maps]
        one = isinstance(frozen.pooling, str)
        poolings = [frozen.pooling] * len(maps) if one else frozen.pooling
        return keras.Model(pixels, [_pool(x, how) for x, how in zip(maps, poolings, strict=True)])


def tap(base: keras.Model, name: str) -> Any:
    """Output of a layer by its name; "output" is that of the network, if it has one."""
    layers = [layer.name for layer in base.layers]
    if name in layers:
        layer = base.get_layer(name)
        # A model in the network has an output of its own, which this network does not compute.
        nested = isinstance(layer, keras.Model)
        return keras.Operation.output.fget(layer) if nested else layer.output
    if name != "output":
        raise ValueError(
            f"layer {name!r} is not in this encoder; it has {', '.join(layers[1:9])}, ..., "
            f"{', '.join(layers[-8:])}, or 'output'"
        )
    if len(base.outputs) != 1:
        raise ValueError(
            f"the network of this encoder has {len(base.outputs)} outputs: name layers instead, "
            f"such as {layers[-1]!r}"
        )
    return base.outputs[0]


def preprocess(pixels: Any, preprocessing: Preprocessing) -> Any:
    """Scale pixels 0..255, RGB, as an encoder expects them."""
    if preprocessing.channels == "BGR":
        pixels = ops.flip(pixels, axis=-1)
    return pixels * ops.convert_to_tensor(preprocessing.scale, "float32") + ops.convert_to_tensor(
        preprocessing.offset, "float32"
    )


def _pool(x: Any, pooling: str) -> Any:
    if len(x.shape) == 2:  # the tap is a vector already
        return x
    pooled = [_POOLS[how](x) for how in pooling.replace("avgmax", "avg+max").split("+")]
    return pooled[0] if len(pooled) == 1 else ops.concatenate(pooled, axis=-1)


def _places(x: Any) -> tuple[int, ...]:
    return tuple(range(1, len(x.shape) - 1))


def _generalised_mean(x: Any) -> Any:
    powered = ops.power(ops.maximum(x, _GEM_FLOOR), _GEM_POWER)
    return ops.power(ops.mean(powered, axis=_places(x)), 1.0 / _GEM_POWER)


def _deviation(x: Any) -> Any:
    apart = x - ops.mean(x, axis=_places(x), keepdims=True)
    return ops.sqrt(ops.mean(apart * apart, axis=_places(x)))


def _gram(x: Any) -> Any:
    """Signed roots of the mean products of channels, of `_GRAM_CHANNELS` random mixtures of many.

    Gatys et al. 2015, arXiv:1505.07376; Lin et al. 2015, arXiv:1504.07889 (roots).
    """
    channels = int(x.shape[-1])
    rows = ops.reshape(x, (-1, math.prod(x.shape[1:-1]), channels))
    if channels > _GRAM_CHANNELS:
        mixing = np.random.default_rng(0).standard_normal((channels, _GRAM_CHANNELS))
        rows = ops.matmul(rows, (mixing / math.sqrt(_GRAM_CHANNELS)).astype(np.float32))
        channels = _GRAM_CHANNELS
    products = ops.matmul(ops.transpose(rows, (0, 2, 1)), rows) / rows.shape[1]
    upper = np.ravel_multi_index(np.triu_indices(channels), (channels, channels))
    products = ops.take(ops.reshape(products, (-1, channels * channels)), upper, axis=1)
    return ops.sign(products) * ops.sqrt(ops.abs(products))


def _pyramid(x: Any) -> Any:
    """Averages of the whole map and of its four quarters; Lazebnik et al. 2006, CVPR."""
    halves = [
        (slice(0, -(-size // 2)), slice(size // 2, size)) for size in (x.shape[1], x.shape[2])
    ]
    quarters = [x[:, rows, columns] for rows in halves[0] for columns in halves[1]]
    return ops.concatenate([ops.mean(part, axis=_places(x)) for part in [x, *quarters]], axis=-1)


_POOLS: dict[str, Callable[[Any], Any]] = {
    "avg": lambda x: ops.mean(x, axis=_places(x)),
    "max": lambda x: ops.max(x, axis=_places(x)),
    "gem": _generalised_mean,
    "std": _deviation,
    "gram": _gram,
    "pyramid": _pyramid,
    "flatten": lambda x: keras.layers.Flatten()(x),
}


def load_weights(cut: keras.Model, frozen: Any) -> None:
    """Give the layers of a network the weights of a `FrozenEncoder`.

    Raises
    ------
    ValueError
        Where the builder makes another network than before, where two layers share a name, and
        where the weights file lacks a layer or has one of another shape.
    """
    frozen.check_architecture()
    layers = [layer for layer in leaves(cut) if layer.weights]
    names = [layer.name for layer in layers]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(
            f"layers of {frozen.spec.name!r} share the name {twice[0]!r}; weights are found by the "
            "names of layers: give each its own"
        )
    source = frozen.source()
    if source.path is None:
        for layer in layers:
            drawn = draw_weights(layer.name, {v.name: tuple(v.shape) for v in layer.weights})
            for variable in layer.weights:
                variable.assign(drawn[variable.name].astype(variable.dtype))
        return
    if source.path.suffix == SUFFIX:
        return  # a saved network comes with its weights
    stored = read_weights(source.path, [layer.name for layer in layers])
    if source.path.suffix == ".h5" and not stored.keys() >= set(names):
        # Keras numbers layers without a name of their own by process: theirs may have other names.
        stored = read_in_order(source.path, _plans(frozen)) or stored
    missing = [layer.name for layer in layers if layer.name not in stored]
    if missing:
        held = [layer.name for layer in layers if layer.name in stored]
        raise ValueError(
            f"{str(source.path)!r} has no weights for {len(missing)} layers that "
            f"{', '.join(frozen.taps)} of {frozen.spec.name!r} need, from {missing[0]!r} on; "
            f"the deepest layer in it is {held[-1] if held else 'none'!r}. Ask for layers above "
            "it (layers='multi' may do), or pass a file that holds all"
        )
    for layer in layers:
        values = stored[layer.name]
        names = [variable.name for variable in layer.weights]
        if isinstance(values, list):
            values = dict(zip(names, values, strict=False))
        for variable in layer.weights:
            value = values.get(variable.name)
            if value is None or value.shape != tuple(variable.shape):
                given = "nothing" if value is None else f"shape {value.shape}"
                raise ValueError(
                    f"{str(source.path)!r} has {given} for {layer.name}/{variable.name} of "
                    f"{frozen.spec.name!r}, expected shape {tuple(variable.shape)}: the file "
                    "belongs to another architecture"
                )
            variable.assign(value.astype(variable.dtype))


def _plans(frozen: Any) -> list[list[LayerPlan]]:
    """Layers of the whole network that have weights, as a file of Keras's holds them."""
    with building():  # numbered anew, as what is to be loaded was
        whole = frozen.spec.build(frozen.image_size)
    planned = [list(_planned(layer, path)) for layer, path in _with_paths(whole)]
    return [plans for plans in planned if plans]


def _planned(layer: Any, path: str) -> Iterator[LayerPlan]:
    if isinstance(layer, keras.Model):
        for inner, below in _with_paths(layer):
            yield from _planned(inner, f"{path}/layers/{below}")
    elif layer.weights:
        trained = {id(variable) for variable in layer.trainable_weights}
        yield LayerPlan(
            layer.name,
            path,
            tuple((v.name, tuple(v.shape), id(v) in trained) for v in layer.weights),
        )


def _with_paths(model: Any) -> Iterator[tuple[Any, str]]:
    counts: Counter[str] = Counter()
    for layer in model.layers:
        kind = default_name(layer)
        yield layer, kind + (f"_{counts[kind]}" if counts[kind] else "")
        counts[kind] += 1
