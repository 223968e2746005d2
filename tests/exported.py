"""Answers of exported files, by the runtimes that read them, without anything of ours."""

import numpy as np
import pytest


def openvino_answers(path, images):
    """Answers of an OpenVINO file, by their names."""
    from hybridus.encoders.engine import load_openvino  # keeps its telemetry out

    core = load_openvino().Core()
    options = {"INFERENCE_PRECISION_HINT": "f32"}
    compiled = core.compile_model(core.read_model(path), "CPU", options)
    found = compiled({"images": images})
    return {output.get_any_name(): found[output] for output in compiled.outputs}


def onnx_answers(path, images):
    """Answers of an ONNX file, by their names."""
    runtime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, {"images": images}), strict=True))


ANSWERS = {".xml": openvino_answers, ".onnx": onnx_answers}


def answers(path, images):
    """Answers of an exported file to images, grey or RGB."""
    images = np.asarray(images)
    if images.ndim == 3:
        images = np.repeat(images[..., None], 3, axis=-1)
    return ANSWERS[path.suffix](path, images)


def close(found, expected):
    """Equal to 1e-4 of the largest value."""
    expected = np.asarray(expected)
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4 * np.abs(expected).max())
