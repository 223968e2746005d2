"""Partition of an encoder: the layers that are trained, and the cut before which all runs once.

Layers that no trained layer precedes never change what they give for an image: they are the
frozen prefix. What crosses from it into the rest is the cut.
"""

import functools
import math
from dataclasses import dataclass, replace
from typing import Any

from hybridus._keras import building, keras, leaves
from hybridus.encoders.assembly import preprocess, tap
from hybridus.encoders.frozen import FrozenEncoder, Pooling
from hybridus.encoders.registry import EncoderSpec


@dataclass(frozen=True)
class Partition:
    """An encoder divided into a frozen prefix and the rest.

    Attributes
    ----------
    trained : frozenset of str
        Names of the layers that are trained.
    taps : tuple of str
        Layers whose outputs cross the cut; empty where the cut is at the pixels.
    poolings : tuple of str
        How each of them is pooled before it crosses: "avg" or, for whole maps, "flatten".
    shapes : tuple of tuple of int
        Shape of each of them, pooled or whole, without the batch.
    """

    trained: frozenset[str]
    taps: tuple[str, ...]
    poolings: tuple[Pooling, ...]
    shapes: tuple[tuple[int, ...], ...]

    @property
    def width(self) -> int:
        """Values that cross the cut for one image."""
        return sum(map(math.prod, self.shapes))


@functools.lru_cache(maxsize=32)
def divide(
    spec: EncoderSpec,
    image_size: tuple[int, int],
    ends: tuple[str, ...],
    trainable: str,
    *,
    cut: bool = True,
    pooled: bool = False,
) -> Partition:
    """Find the trained layers of an encoder and its cut.

    Parameters
    ----------
    spec : EncoderSpec
    image_size : tuple of int
        Height and width in pixels.
    ends : tuple of str
        Layers whose outputs are used, or "output".
    trainable : str
        "none", "all", "first:K", "last:K" (layers as Keras lists them down to the deepest of
        `ends`, the input included), or the beginning of layer names.
    cut : bool, default=True
        False cuts at the pixels, whatever is frozen.
    pooled : bool, default=False
        Whether all that is wanted of `ends` is their average over positions, so that those in the
        prefix which nothing else uses cross the cut as vectors.

    Raises
    ------
    ValueError
        Where `trainable` is none of these or names no layer.
    """
    with building():
        network = _cut_at(spec.build(image_size), ends)
    trained = frozenset(_chosen(network.layers, trainable, spec.name))
    frontier = _frontier(network, trained, ends) if cut else {}
    poolings: list[Pooling] = []
    shapes: list[tuple[int, ...]] = []
    for name, used in frontier.items():
        shape = tuple(_output(network, ends, name).shape[1:])
        whole = used or not pooled or len(shape) == 1
        poolings.append("flatten" if whole else "avg")
        shapes.append(shape if whole else shape[-1:])
    return Partition(trained, tuple(frontier), tuple(poolings), tuple(shapes))


def partitions(frozen: FrozenEncoder, trainable: str, *, cut: bool) -> list[Partition]:
    """Ways to divide an encoder into stored and computed, best first.

    At the deepest cut, unless `cut` is false; then at the pixels, for when there is no room.
    """
    about = (frozen.spec, frozen.image_size, frozen.taps, trainable)
    deepest = divide(*about, cut=cut, pooled=cut and frozen.pooling == "avg")
    at_pixels = replace(deepest, taps=(), poolings=(), shapes=())
    return [deepest, at_pixels] if deepest.taps else [at_pixels]


def build_rest(
    spec: EncoderSpec,
    image_size: tuple[int, int],
    ends: tuple[str, ...],
    partition: Partition,
    *,
    pretrained: bool = True,
) -> tuple[Any, list[Any]]:
    """Build what comes after the cut, without weights.

    Parameters
    ----------
    spec, image_size, ends, partition
        As `divide` takes and gives them.
    pretrained : bool, default=True
        Leave all batch normalisation frozen, in inference mode, among trained layers too:
        statistics of small batches would throw away what the encoder has learned. A network that
        starts from random weights needs them.

    Returns
    -------
    inputs : Keras tensor
        Pixels, float32 (n, H, W, 3), RGB, 0..255, where the cut is there, else flat rows
        (n, values) of what crosses the cut, as an engine gives them.
    outputs : list of Keras tensors
        The map (n, h, w, channels) or vector of each of `ends`, pooled where it crosses pooled.
        Layers outside ``partition.trained`` are not trainable, and their batch normalisation
        infers in any case.
    """
    network = _cut_at(spec.build(image_size), ends)
    for layer in network.layers:
        is_norm = isinstance(layer, keras.layers.BatchNormalization)
        layer.trainable = layer.name in partition.trained and not (pretrained and is_norm)
        if pretrained and isinstance(layer, keras.Model):
            for inner in leaves(layer):
                if isinstance(inner, keras.layers.BatchNormalization):
                    inner.trainable = False
    if not partition.taps:
        pixels = keras.Input((*image_size, 3), dtype="float32", name="pixels")
        return pixels, _listed(network(preprocess(pixels, spec.preprocessing)))
    rows = keras.Input((partition.width,), dtype="float32", name="activations")
    crossing, start = {}, 0
    for name, shape in zip(partition.taps, partition.shapes, strict=True):
        crossing[name] = keras.layers.Reshape(shape)(rows[:, start : start + math.prod(shape)])
        start += math.prod(shape)
    computed = [name for name in ends if name not in crossing]
    if computed:
        how = zip(partition.taps, partition.poolings, strict=True)
        whole = [name for name, pooling in how if pooling == "flatten"]
        frontier = [_output(network, ends, name) for name in whole]
        rest = keras.Model(frontier, [_output(network, ends, name) for name in computed])
        outputs = _listed(rest([crossing[name] for name in whole]))
        crossing |= dict(zip(computed, outputs, strict=True))
    return rows, [crossing[name] for name in ends]


def _cut_at(base: Any, ends: tuple[str, ...]) -> Any:
    return keras.Model(base.inputs, [tap(base, name) for name in ends])


def _output(network: Any, ends: tuple[str, ...], name: str) -> Any:
    """Output of a layer, or one of `ends`: "output" is not that of a network with several ends."""
    return network.outputs[ends.index(name)] if name in ends else tap(network, name)


def _listed(outputs: Any) -> list[Any]:
    return list(outputs) if isinstance(outputs, list | tuple) else [outputs]


def _chosen(layers: list[Any], trainable: str, encoder: str) -> list[str]:
    kind, _, count = trainable.partition(":")
    if trainable in ("none", "all"):
        chosen = layers if trainable == "all" else []
    elif kind in ("first", "last") and count.isdigit() and int(count) > 0:
        chosen = layers[: int(count)] if kind == "first" else layers[-int(count) :]
    else:
        chosen = [layer for layer in layers if trainable and layer.name.startswith(trainable)]
        if not chosen:
            names = [layer.name for layer in layers[1:]]
            raise ValueError(
                f"trainable={trainable!r}: expected 'none', 'all', 'first:K', 'last:K' or the "
                f"beginning of layer names of {encoder!r}, which has {', '.join(names[:6])}, ..., "
                f"{', '.join(names[-6:])}"
            )
    # Keras numbers the names of inputs in each process.
    return [layer.name for layer in chosen if not isinstance(layer, keras.layers.InputLayer)]


def _frontier(network: Any, trained: frozenset[str], ends: tuple[str, ...]) -> dict[str, bool]:
    """Layers of the frozen prefix whose outputs are used beyond it, in the network's order.

    The value says whether the rest of the network uses the output, or it is an end alone.

    Only layers can be tapped; an operation on the border that is none belongs to the rest. A rest
    that uses the input itself puts the cut at the pixels.
    """
    operations = network.operations  # sources before what uses them
    maker = {id(tensor): op.name for op in operations for tensor in keras.tree.flatten(op.output)}
    inputs = {op.name for op in operations if isinstance(op, keras.layers.InputLayer)}
    sources: dict[str, list[str]] = {}
    prefix: set[str] = set()
    for op in operations:
        tensors = [] if op.name in inputs else keras.tree.flatten(op.input)
        sources[op.name] = [maker[id(tensor)] for tensor in tensors]
        if op.name not in trained and prefix.issuperset(sources[op.name]):
            prefix.add(op.name)
    end_of = {maker[id(tensor)]: name for tensor, name in zip(network.outputs, ends, strict=True)}
    layers = {layer.name for layer in network.layers}
    while True:
        used = {name for op in sources if op not in prefix for name in sources[op]}
        border = (used | set(end_of)) & prefix
        if border <= layers:
            break
        prefix -= border - layers
    if border & inputs:
        return {}
    return {end_of.get(name, name): name in used for name in sources if name in border}
