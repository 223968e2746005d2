"""ONNX writer: nodes, constants, names and types, as ONNX wants them, written one by one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

_TYPES = {
    "f32": "FLOAT",
    "f64": "DOUBLE",
    "i64": "INT64",
    "i32": "INT32",
    "u8": "UINT8",
    "boolean": "BOOL",
}


class Writer:
    """Nodes, constants, inputs and outputs written so far."""

    def __init__(self) -> None:
        from onnx import TensorProto, helper, numpy_helper

        self._helper, self._tensor = helper, numpy_helper.from_array
        self._types = {name: getattr(TensorProto, code) for name, code in _TYPES.items()}
        self._names: dict[tuple[str, int], str] = {}
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        self.inputs: list[Any] = []
        self.outputs: list[Any] = []

    def node(self, node: Any, kind: str, inputs: list[str], **attributes: Any) -> None:
        """Write a node that gives all that `node` does."""
        names = [f"{node.get_name()}_{k}" for k in range(node.get_output_size())]
        self.nodes.append(
            self._helper.make_node(kind, inputs, names, name=node.get_name(), **attributes)
        )
        for k, name in enumerate(names):
            self._names[node.get_name(), k] = name

    def extra(self, kind: str, inputs: list[str], **attributes: Any) -> str:
        """Write a node of which there is none in the graph; return the name of what it gives."""
        name = f"extra_{len(self.nodes)}"
        self.nodes.append(self._helper.make_node(kind, inputs, [name], name=name, **attributes))
        return name

    def array(self, values: NDArray) -> str:
        """Write a constant; return its name."""
        name = f"constant_{len(self.constants)}"
        self.constants.append(self._tensor(np.array(values, order="C"), name))
        return name

    def same(self, node: Any, name: str) -> None:
        """Say that a node gives what has a name already."""
        self._names[node.get_name(), 0] = name

    def values(self, node: Any, count: int | None = None) -> list[str]:
        """Names of all that a node takes, or of the first of it."""
        return [self.value(node, k) for k in range(count or node.get_input_size())]

    def value(self, node: Any, k: int) -> str:
        """Name of what a node takes at place k."""
        source = node.input_value(k)
        key = source.get_node().get_name(), source.get_index()
        if key not in self._names:  # a constant, written when it is first needed as it is
            self._names[key] = self.array(source.get_node().data)
        return self._names[key]

    def whole(self, node: Any, k: int) -> str:
        """As `value`, of whole numbers, which ONNX wants as int64, in one axis."""
        known = constant_of(node, k)
        if known is not None:
            return self.array(np.atleast_1d(known).astype(np.int64))
        name = self.value(node, k)
        if node.input_value(k).get_element_type().get_type_name() == "i64":
            return name
        return self.extra("Cast", [name], to=self._types["i64"])

    def described(self, name: str, port: Any, names: Mapping[int, str]) -> Any:
        """Type and shape of an input or output; `names` are those of axes of any length."""
        shape = [
            names.get(axis, f"axis_{axis}") if length.is_dynamic else length.get_length()
            for axis, length in enumerate(port.get_partial_shape())
        ]
        return self._helper.make_tensor_value_info(name, self.type_of(port), shape)

    def type_of(self, port: Any) -> int:
        """ONNX's code of a type."""
        name = port.get_element_type().get_type_name()
        if name not in self._types:
            raise NotImplementedError(f"values of type {name!r} are not written as ONNX")
        return self._types[name]


def constant_of(node: Any, k: int) -> NDArray | None:
    """Return what a node takes at place k where it is a constant."""
    source = node.input_value(k).get_node()
    return np.array(source.data) if source.get_type_name() == "Constant" else None


def needed(node: Any, k: int) -> NDArray:
    """Return the constant that a node takes at place k, or raise."""
    known = constant_of(node, k)
    if known is None:
        raise NotImplementedError(
            f"{node.get_type_name()} ({node.get_friendly_name()!r}) takes what is not known before "
            "it runs, which is not written as ONNX; export it to OpenVINO (.xml)"
        )
    return known


def refuse(node: Any, what: str) -> NotImplementedError:
    """Say that a node is not written as ONNX, for what it has."""
    return NotImplementedError(
        f"{node.get_type_name()} ({node.get_friendly_name()!r}) with {what} is not written as "
        "ONNX; export it to OpenVINO (.xml)"
    )
