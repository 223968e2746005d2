"""ONNX: an OpenVINO graph written down in its operations.

Knows how each operation that our networks come to is called in ONNX. There is no converter for
this way round, and those from TensorFlow lag behind the versions of it that we run on.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from typing import Any

from hybridus.exporting.onnx_operations import write
from hybridus.exporting.onnx_writer import Writer

OPSET = 18


def check_onnx() -> None:
    """Raise where the package onnx is not installed."""
    if importlib.util.find_spec("onnx") is None:
        raise ImportError("files of ONNX need the package onnx: pip install 'hybridus[export]'")


def to_onnx(model: Any, metadata: Mapping[str, str]) -> Any:
    """Write an OpenVINO model as one of ONNX.

    Parameters
    ----------
    model : openvino.Model
    metadata : mapping of str to str

    Returns
    -------
    onnx.ModelProto
        Checked by `onnx.checker`, with shapes inferred.

    Raises
    ------
    NotImplementedError
        For an operation that has no translation; the message names it.
    """
    check_onnx()
    import onnx
    from onnx import helper

    writer = Writer()
    for node in model.get_ordered_ops():
        if node.get_type_name() != "Constant":
            write(writer, node)
    graph = helper.make_graph(
        writer.nodes, "hybridus", writer.inputs, writer.outputs, writer.constants
    )
    written = helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid("", OPSET)],
        producer_name="hybridus",
        # What ONNX 1.13 of 2022 brought, so that runtimes of some years read it.
        ir_version=8,
    )
    helper.set_model_props(written, dict(metadata))
    onnx.checker.check_model(written, full_check=True)
    return written
