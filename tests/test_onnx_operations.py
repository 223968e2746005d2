"""Operations written as ONNX give what OpenVINO gives, or are refused."""

import numpy as np
import pytest

from hybridus.encoders.engine import load_openvino
from hybridus.exporting.onnx_file import to_onnx

onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnx")

RNG = np.random.default_rng(0)
X = RNG.normal(size=(2, 3, 6, 8)).astype(np.float32)


def op():
    return load_openvino().opset13


def const(values, dtype=np.float32):
    return op().constant(np.asarray(values, dtype))


def weights(*shape):
    return const(RNG.normal(size=shape))


def resized(x, mode, **options):
    o = op()
    size = const([12, 4], np.int64)
    settings = {"coordinate_transformation_mode": "half_pixel", "nearest_mode": "floor"} | options
    return load_openvino().opset11.interpolate(
        x, size, mode, "sizes", axes=o.constant(np.array([2, 3], np.int64)), **settings
    )


EQUAL = {
    "clamp": lambda x: op().clamp(x, -0.5, 0.7),
    "swish": lambda x: op().swish(x),
    "swish with a slope": lambda x: op().swish(x, const(1.7)),
    "squared difference": lambda x: op().squared_difference(x, weights(1, 3, 1, 1)),
    "gelu": lambda x: op().gelu(x, "erf"),
    "hard sigmoid": lambda x: op().hsigmoid(x),
    "elu": lambda x: op().elu(x, 0.7),
    "softmax": lambda x: op().softmax(x, 1),
    "matmul of the other way round": lambda x: op().matmul(x, weights(5, 8), False, True),
    "convolution, padded": lambda x: op().convolution(
        x, weights(4, 3, 3, 3), [2, 2], [0, 0], [0, 0], [1, 1], "same_upper"
    ),
    "convolution, dilated": lambda x: op().convolution(
        x, weights(4, 3, 3, 3), [1, 1], [1, 2], [2, 1], [2, 2]
    ),
    "convolution by channel": lambda x: op().group_convolution(
        x, weights(3, 1, 1, 3, 3), [1, 1], [1, 1], [1, 1], [1, 1]
    ),
    "transposed convolution": lambda x: op().convolution_backprop_data(
        x, weights(3, 2, 2, 2), [2, 2]
    ),
    "largest": lambda x: load_openvino().opset8.max_pool(
        x, [2, 2], [1, 1], [0, 0], [1, 1], [3, 3], "ceil"
    ),
    "average without margins": lambda x: op().avg_pool(x, [2, 2], [1, 1], [1, 1], [3, 3], True),
    "average with margins": lambda x: op().avg_pool(x, [2, 2], [1, 1], [1, 1], [3, 3], False),
    "colours reversed": lambda x: op().reverse_sequence(x, const([3, 3], np.int64), 0, 1),
    "margin of a number": lambda x: op().pad(
        x, const([0, 0, 1, 2], np.int64), const([0, 0, 2, 0], np.int64), "constant", const(0.5)
    ),
    "margin of the edge": lambda x: op().pad(
        x, const([0, 0, 1, 2], np.int64), const([0, 0, 2, 0], np.int64), "edge"
    ),
    "margin mirrored": lambda x: op().pad(
        x, const([0, 0, 1, 2], np.int64), const([0, 0, 2, 0], np.int64), "reflect"
    ),
    "larger, linear": lambda x: resized(x, "linear_onnx"),
    "larger, nearest": lambda x: resized(x, "nearest", coordinate_transformation_mode="asymmetric"),
    "every second, backwards": lambda x: op().strided_slice(
        x,
        const([0, 0, 0, 7], np.int64),
        const([2, 3, 6, 0], np.int64),
        const([1, 1, 2, -2], np.int64),
        [1, 1, 0, 0],
        [1, 1, 0, 1],
    ),
    "one channel": lambda x: op().strided_slice(
        x,
        const([0, 1, 0, 0], np.int64),
        const([2, 2, 6, 8], np.int64),
        const([1, 1, 1, 1], np.int64),
        [1, 0, 1, 1],
        [1, 0, 1, 1],
        None,
        [0, 1, 0, 0],
    ),
    "slice": lambda x: op().slice(
        x,
        const([1, 0], np.int64),
        const([3, 6], np.int64),
        const([1, 2], np.int64),
        const([1, 2], np.int64),
    ),
    "first half": lambda x: op().split(x, const(3, np.int64), 2).output(0),
    "an uneven part": lambda x: (
        op().variadic_split(x, const(3, np.int64), const([3, 5], np.int64)).output(1)
    ),
    "highest": lambda x: (
        op().topk(x, const(2, np.int64), 3, "max", "value", index_element_type="i64").output(0)
    ),
    "some rows": lambda x: op().gather(x, const([3, 1], np.int64), const(2, np.int64)),
    "spread": lambda x: op().broadcast(
        op().reduce_mean(x, const([2, 3], np.int64), True), const([2, 3, 6, 8], np.int64)
    ),
    "one axis more and less": lambda x: op().squeeze(
        op().unsqueeze(x, const([1], np.int64)), const([1], np.int64)
    ),
    "chosen": lambda x: op().select(op().greater(x, const(0.0)), x, op().exp(x)),
    "generalised mean": lambda x: op().power(
        op().reduce_mean(
            op().power(op().maximum(x, const(0.1)), const(3.0)), const([2, 3], np.int64), False
        ),
        const(1 / 3),
    ),
}

REFUSED = {
    "gelu": (lambda x: op().gelu(x, "tanh"), "approximation"),
    "pad": (
        lambda x: op().pad(
            x, const([0, 0, 1, 1], np.int64), const([0, 0, 1, 1], np.int64), "symmetric"
        ),
        "mode 'symmetric'",
    ),
    "interpolate": (lambda x: resized(x, "cubic"), "mode 'cubic'"),
    "strided slice": (
        lambda x: op().strided_slice(
            x,
            const([0, 0], np.int64),
            const([0, 2], np.int64),
            const([1, 1], np.int64),
            [1, 0],
            [1, 0],
            None,
            None,
            [1, 0],
        ),
        "ellipsis",
    ),
    "places": (
        lambda x: op().topk(x, const(2, np.int64), 3, "max", "value").output(1),
        "places of 32 bits",
    ),
    "reversed in part": (
        lambda x: op().reverse_sequence(x, const([2, 3], np.int64), 0, 1),
        "lengths of its own",
    ),
    "a type of its own": (lambda x: op().convert(x, "u4"), "type 'u4'"),
    "unknown": (lambda x: op().cum_sum(x, const(3, np.int64)), "operation 'CumSum'"),
}


def made(build):
    x = op().parameter(X.shape, np.float32, name="x")
    return load_openvino().Model([op().result(build(x))], [x])


@pytest.mark.parametrize("name", EQUAL)
def test_an_operation_gives_the_same_in_both(name):
    model = made(EQUAL[name])
    ov = load_openvino()
    options = {"INFERENCE_PRECISION_HINT": "f32"}
    expected = ov.Core().compile_model(model, "CPU", options)([X])[0]
    written = to_onnx(model, {"who": "hybridus"})
    session = onnxruntime.InferenceSession(written.SerializeToString())
    (found,) = session.run(None, {session.get_inputs()[0].name: X})
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", REFUSED)
def test_what_has_no_translation_is_refused_by_name(name):
    build, message = REFUSED[name]
    with pytest.raises(NotImplementedError, match=message):
        to_onnx(made(build), {})
