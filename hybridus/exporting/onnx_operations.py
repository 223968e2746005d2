"""ONNX operations: what each operation that our networks come to is called in ONNX."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hybridus.exporting.onnx_writer import Writer, constant_of, needed, refuse

_RENAMED = {
    "Abs": "Abs",
    "Add": "Add",
    "Ceiling": "Ceil",
    "Divide": "Div",
    "Equal": "Equal",
    "Erf": "Erf",
    "Exp": "Exp",
    "Floor": "Floor",
    "Greater": "Greater",
    "GreaterEqual": "GreaterOrEqual",
    "HSwish": "HardSwish",
    "Less": "Less",
    "LessEqual": "LessOrEqual",
    "Log": "Log",
    "LogicalAnd": "And",
    "LogicalNot": "Not",
    "LogicalOr": "Or",
    "Maximum": "Max",
    "Minimum": "Min",
    "Multiply": "Mul",
    "Negative": "Neg",
    "Power": "Pow",
    "Range": "Range",
    "Relu": "Relu",
    "ReLU": "Relu",
    "Select": "Where",
    "Sigmoid": "Sigmoid",
    "SoftPlus": "Softplus",
    "Sqrt": "Sqrt",
    "Subtract": "Sub",
    "Tanh": "Tanh",
}
_REDUCED = {f"Reduce{how}": f"Reduce{how}" for how in ("Mean", "Max", "Min", "Sum", "Prod")}
_PADDED = {"same_upper": "SAME_UPPER", "same_lower": "SAME_LOWER", "valid": "VALID"}
_IMAGE_AXES = {0: "n", 1: "height", 2: "width"}


def _parameter(writer: Writer, node: Any) -> None:
    name = node.get_friendly_name()
    writer.inputs.append(writer.described(name, node.output(0), _IMAGE_AXES))
    writer.same(node, name)


def _result(writer: Writer, node: Any) -> None:
    name = node.get_friendly_name()
    writer.nodes.append(writer._helper.make_node("Identity", [writer.value(node, 0)], [name]))
    writer.outputs.append(writer.described(name, node.output(0), _IMAGE_AXES))


def _convert(writer: Writer, node: Any) -> None:
    writer.node(node, "Cast", writer.values(node), to=writer.type_of(node.output(0)))


def _clamp(writer: Writer, node: Any) -> None:
    limits = node.get_attributes()
    bounds = [writer.array(np.array(limits[end], np.float32)) for end in ("min", "max")]
    writer.node(node, "Clip", [writer.value(node, 0), *bounds])


def _swish(writer: Writer, node: Any) -> None:
    x = scaled = writer.value(node, 0)
    if node.get_input_size() > 1:
        scaled = writer.extra("Mul", [x, writer.value(node, 1)])
    writer.node(node, "Mul", [x, writer.extra("Sigmoid", [scaled])])


def _squared_difference(writer: Writer, node: Any) -> None:
    apart = writer.extra("Sub", writer.values(node))
    writer.node(node, "Mul", [apart, apart])


def _gelu(writer: Writer, node: Any) -> None:
    if node.get_attributes()["approximation_mode"].lower() != "erf":
        raise refuse(node, "an approximation")
    half, one = (writer.array(np.array(number, np.float32)) for number in (0.5, 1))
    x = writer.value(node, 0)
    scaled = writer.extra("Mul", [x, writer.array(np.array(0.5**0.5, np.float32))])
    ones = writer.extra("Add", [writer.extra("Erf", [scaled]), one])
    writer.node(node, "Mul", [writer.extra("Mul", [x, half]), ones])


def _hard_sigmoid(writer: Writer, node: Any) -> None:
    writer.node(node, "HardSigmoid", writer.values(node), alpha=1 / 6, beta=0.5)


def _elu(writer: Writer, node: Any) -> None:
    writer.node(node, "Elu", writer.values(node), alpha=float(node.get_attributes()["alpha"]))


def _softmax(writer: Writer, node: Any) -> None:
    writer.node(node, "Softmax", writer.values(node), axis=int(node.get_attributes()["axis"]))


def _matmul(writer: Writer, node: Any) -> None:
    turned = node.get_attributes()
    inputs = []
    for k, which in enumerate(("transpose_a", "transpose_b")):
        name = writer.value(node, k)
        if turned[which]:
            order = list(range(len(node.input_value(k).get_partial_shape())))
            order[-2:] = order[:-3:-1]
            name = writer.extra("Transpose", [name], perm=order)
        inputs.append(name)
    writer.node(node, "MatMul", inputs)


def _padding(node: Any) -> dict[str, Any]:
    known = node.get_attributes()
    if known.get("auto_pad", "explicit") in _PADDED:
        return {"auto_pad": _PADDED[known["auto_pad"]]}
    return {"pads": [*map(int, known["pads_begin"]), *map(int, known["pads_end"])]}


def _convolution(writer: Writer, node: Any) -> None:
    known = node.get_attributes()
    groups = 1
    if node.get_type_name() == "GroupConvolution":
        weights = needed(node, 1)
        groups = len(weights)
        whole = writer.array(weights.reshape(-1, *weights.shape[2:]))
        inputs = [writer.value(node, 0), whole]
    else:
        inputs = writer.values(node)
    writer.node(
        node,
        "Conv",
        inputs,
        group=groups,
        strides=list(map(int, known["strides"])),
        dilations=list(map(int, known["dilations"])),
        **_padding(node),
    )


def _transposed_convolution(writer: Writer, node: Any) -> None:
    known = node.get_attributes()
    strides = list(map(int, known["strides"]))
    shapes = [node.input_value(0), node.output(0)]
    before, after = (list(port.get_partial_shape())[2:] for port in shapes)
    kernel = node.input_value(1).get_partial_shape().to_shape()[2:]
    for k, stride in enumerate(strides):
        known_size = not (before[k].is_dynamic or after[k].is_dynamic)
        whole = known_size and (before[k].get_length() - 1) * stride + kernel[k]
        if not known_size or whole != after[k].get_length() or known["dilations"][k] != 1:
            raise refuse(node, "padding or dilation")
    writer.node(node, "ConvTranspose", writer.values(node, 2), strides=strides)


def _pool(writer: Writer, node: Any) -> None:
    known = node.get_attributes()
    options = {
        "kernel_shape": list(map(int, known["kernel"])),
        "strides": list(map(int, known["strides"])),
        "ceil_mode": int(known["rounding_type"].startswith("ceil")),
        **_padding(node),
    }
    if node.get_type_name() == "MaxPool":
        options["dilations"] = list(map(int, known.get("dilations", [1, 1])))
    else:
        excluded = known.get("exclude-pad", known.get("exclude_pad", True))
        options["count_include_pad"] = int(not excluded)
    name = writer.extra(
        node.get_type_name().replace("Avg", "Average"), writer.values(node), **options
    )
    writer.same(node, name)


def _transpose(writer: Writer, node: Any) -> None:
    order = list(map(int, needed(node, 1)))
    writer.node(node, "Transpose", [writer.value(node, 0)], perm=order)


def _reshape(writer: Writer, node: Any) -> None:
    zero_means_none = int(not node.get_attributes()["special_zero"])
    inputs = [writer.value(node, 0), writer.whole(node, 1)]
    writer.node(node, "Reshape", inputs, allowzero=zero_means_none)


def _with_axes(writer: Writer, node: Any) -> None:
    inputs = [writer.value(node, 0)]
    if node.get_input_size() > 1:
        inputs.append(writer.whole(node, 1))
    writer.node(node, node.get_type_name(), inputs)


def _concat(writer: Writer, node: Any) -> None:
    writer.node(node, "Concat", writer.values(node), axis=int(node.get_attributes()["axis"]))


def _gather(writer: Writer, node: Any) -> None:
    if node.get_attributes().get("batch_dims"):
        raise refuse(node, "batch_dims")
    axis = int(needed(node, 2).item())
    writer.node(node, "Gather", writer.values(node, 2), axis=axis)


def _shape_of(writer: Writer, node: Any) -> None:
    name = writer.extra("Shape", writer.values(node))
    writer.node(node, "Cast", [name], to=writer.type_of(node.output(0)))


def _broadcast(writer: Writer, node: Any) -> None:
    if node.get_attributes()["mode"] not in ("numpy", "bidirectional"):
        raise refuse(node, f"mode {node.get_attributes()['mode']!r}")
    writer.node(node, "Expand", [writer.value(node, 0), writer.whole(node, 1)])


def _reverse(writer: Writer, node: Any) -> None:
    """Reverse whole axes, as that of colours; what is reversed in part has no translation."""
    axis = int(node.get_attributes()["seq_axis"])
    length = node.output(0).get_partial_shape()[axis]
    lengths = _known(node.input_value(1).get_node())
    if lengths is None or length.is_dynamic or not (lengths == length.get_length()).all():
        raise refuse(node, "lengths of its own")
    places = writer.array(np.arange(length.get_length())[::-1].astype(np.int64))
    writer.node(node, "Gather", [writer.value(node, 0), places], axis=axis)


def _known(node: Any) -> NDArray | None:
    """Find numbers that are known before the network runs, though the graph computes them."""
    kind = node.get_type_name()
    if kind == "Constant":
        return np.array(node.data)
    if kind == "Broadcast":
        return _known(node.input_value(0).get_node())
    if kind == "Gather" and node.input_value(0).get_node().get_type_name() == "ShapeOf":
        shape = node.input_value(0).get_node().get_input_partial_shape(0)
        places = constant_of(node, 1)
        lengths = [] if places is None else [shape[int(place)] for place in places.ravel()]
        if lengths and not any(length.is_dynamic for length in lengths):
            return np.array([length.get_length() for length in lengths])
    return None


def _pad(writer: Writer, node: Any) -> None:
    mode = node.get_attributes()["pad_mode"]
    if mode not in ("constant", "edge", "reflect"):
        raise refuse(node, f"mode {mode!r}")
    pads = np.concatenate([needed(node, 1), needed(node, 2)]).astype(np.int64)
    inputs = [writer.value(node, 0), writer.array(pads)]
    if mode == "constant" and node.get_input_size() > 3:
        inputs.append(writer.value(node, 3))
    writer.node(node, "Pad", inputs, mode=mode)


def _interpolate(writer: Writer, node: Any) -> None:
    known = node.get_attributes()
    mode = known["mode"].replace("linear_onnx", "linear")
    if mode not in ("linear", "nearest") or known["antialias"]:
        raise refuse(node, f"mode {known['mode']!r}")
    if known["shape_calculation_mode"] != "sizes" or any(
        [*known["pads_begin"], *known["pads_end"]]
    ):
        raise refuse(node, "scales or padding")
    shapes = [port.get_partial_shape() for port in (node.input_value(0), node.output(0))]
    scales = [
        1.0 if old == new else _scale(node, old, new) for old, new in zip(*shapes, strict=True)
    ]
    options = {"nearest_mode": known["nearest_mode"]} if mode == "nearest" else {}
    # Scales of all axes, channels first: what every runtime resizes.
    last = scales[-1] == 1 and len(scales) == 4
    name = writer.value(node, 0)
    if last:
        name = writer.extra("Transpose", [name], perm=[0, 3, 1, 2])
        scales = [scales[0], scales[3], scales[1], scales[2]]
    inputs = [name, "", writer.array(np.array(scales, np.float32))]
    name = writer.extra(
        "Resize",
        inputs,
        mode=mode,
        coordinate_transformation_mode=known["coordinate_transformation_mode"],
        **options,
    )
    writer.same(node, writer.extra("Transpose", [name], perm=[0, 2, 3, 1]) if last else name)


def _scale(node: Any, old: Any, new: Any) -> np.float32:
    """Scale from one length to another, of which ONNX takes the product's whole part."""
    if old.is_dynamic or new.is_dynamic:
        raise refuse(node, "sizes that are not known before it runs")
    before, after = old.get_length(), new.get_length()
    scale = np.float32(after / before)
    while int(np.float32(before) * scale) < after or int(before * float(scale)) < after:
        scale = np.nextafter(scale, np.float32(np.inf))
    return scale


def _strided_slice(writer: Writer, node: Any) -> None:
    known = node.get_attributes()
    if any(known["ellipsis_mask"]) or any(known["new_axis_mask"]):
        raise refuse(node, "an ellipsis or new axes")
    begins, ends = (needed(node, k).astype(np.int64) for k in (1, 2))
    steps = np.ones_like(begins) if node.get_input_size() < 4 else needed(node, 3)
    dropped = [k for k, one in enumerate(known["shrink_axis_mask"]) if one]
    for k in range(len(begins)):
        forward = steps[k] > 0
        if k in dropped:
            ends[k] = begins[k] + 1 or np.iinfo(np.int64).max
            continue
        if k < len(known["begin_mask"]) and known["begin_mask"][k]:
            begins[k] = 0 if forward else np.iinfo(np.int64).max
        if k < len(known["end_mask"]) and known["end_mask"][k]:
            ends[k] = np.iinfo(np.int64).max if forward else np.iinfo(np.int64).min
    axes = np.arange(len(begins))
    numbers = [writer.array(part.astype(np.int64)) for part in (begins, ends, axes, steps)]
    inputs = [writer.value(node, 0), *numbers]
    if not dropped:
        writer.node(node, "Slice", inputs)
        return
    whole = writer.extra("Slice", inputs)
    writer.node(node, "Squeeze", [whole, writer.array(np.array(dropped, np.int64))])


def _slice(writer: Writer, node: Any) -> None:
    start, stop, step, *axes = (writer.whole(node, k) for k in range(1, node.get_input_size()))
    axes = axes or [writer.array(np.arange(len(needed(node, 1)), dtype=np.int64))]
    writer.node(node, "Slice", [writer.value(node, 0), start, stop, axes[0], step])


def _split(writer: Writer, node: Any) -> None:
    axis = int(needed(node, 1).item())
    if node.get_type_name() == "VariadicSplit":
        writer.node(node, "Split", [writer.value(node, 0), writer.whole(node, 2)], axis=axis)
        return
    parts = node.get_output_size()
    writer.node(node, "Split", [writer.value(node, 0)], axis=axis, num_outputs=parts)


def _top(writer: Writer, node: Any) -> None:
    known = node.get_attributes()
    inputs = [writer.value(node, 0), writer.whole(node, 1)]
    largest = int(known["mode"] == "max")
    if node.output(1).get_element_type().get_type_name() != "i64":
        raise refuse(node, "places of 32 bits")
    writer.node(node, "TopK", inputs, axis=int(known["axis"]), largest=largest)


_WRITERS: dict[str, Callable[[Writer, Any], None]] = {
    "AvgPool": _pool,
    "Broadcast": _broadcast,
    "Clamp": _clamp,
    "Concat": _concat,
    "Convert": _convert,
    "Convolution": _convolution,
    "ConvolutionBackpropData": _transposed_convolution,
    "Elu": _elu,
    "Gather": _gather,
    "GroupConvolution": _convolution,
    "Gelu": _gelu,
    "HSigmoid": _hard_sigmoid,
    "Interpolate": _interpolate,
    "MatMul": _matmul,
    "MaxPool": _pool,
    "Pad": _pad,
    "Parameter": _parameter,
    "Reshape": _reshape,
    "Result": _result,
    "ReverseSequence": _reverse,
    "ShapeOf": _shape_of,
    "Slice": _slice,
    "SoftMax": _softmax,
    "Softmax": _softmax,
    "Split": _split,
    "Squeeze": _with_axes,
    "SquaredDifference": _squared_difference,
    "StridedSlice": _strided_slice,
    "Swish": _swish,
    "TopK": _top,
    "Transpose": _transpose,
    "Unsqueeze": _with_axes,
    "VariadicSplit": _split,
}


def write(writer: Writer, node: Any) -> None:
    """Write one node; those that it takes from were written before."""
    kind = node.get_type_name()
    if kind in _RENAMED:
        writer.node(node, _RENAMED[kind], writer.values(node))
    elif kind in _REDUCED:
        keeps = int(node.get_attributes()["keep_dims"])
        writer.node(node, kind, [writer.value(node, 0), writer.whole(node, 1)], keepdims=keeps)
    elif kind in _WRITERS:
        _WRITERS[kind](writer, node)
    else:
        raise NotImplementedError(
            f"the network has the operation {kind!r} ({node.get_friendly_name()!r}), which is "
            "not written as ONNX; export it to OpenVINO (.xml)"
        )
