"""Maps: what a network gives at every position, before it is pooled, read from its graph.

A frozen encoder, and a network that was trained on one, is the same here: a graph of OpenVINO's
whose pooling nodes are found again. So a model from a file needs no Keras for it either.
"""

from collections import OrderedDict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from hybridus.encoders.carried import CarriedNetwork
from hybridus.encoders.engine import compile_model, load_openvino, read_network

Kind = Literal["ReduceMean", "ReduceMax", "Reshape"]
_POOLS = ("ReduceMean", "ReduceMax")


@dataclass(frozen=True, eq=False)
class PooledMap:
    """What one pooling node sees of a batch.

    Attributes
    ----------
    kind : {"ReduceMean", "ReduceMax", "Reshape"}
        Average, maximum, or every position by itself.
    maps : array of shape (n, h, w, channels), float32
    """

    kind: Kind
    maps: NDArray[np.float32]


def pooled_maps(
    carried: CarriedNetwork, batches: Iterable[NDArray], *, by_output: bool = True
) -> Iterator[list[list[PooledMap]]]:
    """Yield what stands before the pooling nodes of a network, for each batch of pixels.

    Parameters
    ----------
    carried : CarriedNetwork
    batches : iterable of arrays of shape (n, H, W, 3), float32, 0..255
    by_output : bool, default=True
        Whether each output is a pooled layer, as in a frozen encoder; otherwise all pooling nodes
        before the first output count, as in a network with a head.

    Yields
    ------
    list of lists of PooledMap
        Of each output: the maps that are pooled into it, in the order of its columns; an output
        that is a vector in the network itself has none.
    """
    compiled, places = _opened(carried, by_output)
    request = compiled.create_infer_request()  # its own: threads may ask at the same time
    n_outputs = len(places)
    for batch in batches:
        request.infer([np.ascontiguousarray(batch, np.float32)])
        found = iter(request.output_tensors)
        yield [
            [_in_place(kind, next(found).data, channel) for kind, channel in places[k]]
            for k in range(n_outputs)
        ]


def _in_place(kind: Kind, data: NDArray, channel: int) -> PooledMap:
    return PooledMap(kind, np.ascontiguousarray(np.moveaxis(data, channel, -1)))


_kept: OrderedDict[tuple[str, bool], Any] = OrderedDict()
_MOST_KEPT = 4


def _opened(carried: CarriedNetwork, by_output: bool) -> tuple[Any, list[list[tuple[Kind, int]]]]:
    """Compile a graph that ends in the maps, or take one of a few that were compiled before."""
    key = (carried.digest, by_output)
    if key not in _kept:
        _kept[key] = _compiled(carried, by_output)
    _kept.move_to_end(key)
    while len(_kept) > _MOST_KEPT:
        _kept.popitem(last=False)
    return _kept[key]


def _compiled(carried: CarriedNetwork, by_output: bool) -> tuple[Any, list[list[tuple[Kind, int]]]]:
    """Compile a graph that ends in the maps, and say of each what pools it and where channels lie.

    Nodes that pool over two of four axes are looked for upstream of each output; none behind
    another counts, such as those of squeeze-and-excitation blocks.
    """
    model = read_network(carried)
    sources: list[Any] = []
    places: list[list[tuple[Kind, int]]] = []
    for output in model.outputs if by_output else model.outputs[:1]:
        of_output: list[tuple[Kind, int]] = []
        for node in _pools_before(output.node):
            if node.get_type_name() == "Reshape":
                kind, channel = "Reshape", 3
            else:
                axes = {int(axis) % 4 for axis in node.input_value(1).get_node().data.ravel()}
                kind, (channel,) = node.get_type_name(), tuple({1, 2, 3} - axes)
            of_output.append((kind, channel))  # type: ignore[arg-type]
            sources.append(node.input_value(0))
        places.append(of_output)
    if not sources:
        raise ValueError("this network pools nothing over positions: no place can be told")
    ov = load_openvino()
    results = [ov.opset13.result(source) for source in sources]
    compiled = compile_model(ov.Model(results, model.get_parameters()))
    return compiled, places


def _pools_before(node: Any) -> list[Any]:
    """Nodes nearest to an output that pool maps, in the order in which they are joined."""
    found: list[Any] = []
    seen: set[str] = set()

    def walk(node: Any) -> None:
        if node.get_friendly_name() in seen:
            return
        seen.add(node.get_friendly_name())
        kind = node.get_type_name()
        if kind in (*_POOLS, "Reshape") and _rank(node.input_value(0)) == 4:
            flat = kind == "Reshape" and _rank(node.output(0)) == 2
            if flat or (kind in _POOLS and node.input_value(1).get_node().data.size == 2):
                found.append(node)
                return
        for source in node.input_values():
            walk(source.get_node())

    walk(node)
    return found


def _rank(output: Any) -> int:
    shape = output.get_partial_shape()
    return int(shape.rank.get_length()) if shape.rank.is_static else -1
