"""Exported heads and resizing say what scikit-learn and Pillow say, to the bit where they can."""

import numpy as np
import pytest
from exported import close, onnx_answers, openvino_answers
from hypothesis import given, settings, strategies as st
from sklearn.calibration import CalibratedClassifierCV
from sklearn.datasets import load_iris
from sklearn.decomposition import PCA
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression, RidgeClassifier, SGDClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.preprocessing import MinMaxScaler, StandardScaler
from sklearn.svm import SVC, LinearSVC

from hybridus.encoders.engine import load_openvino
from hybridus.estimators.scaler import FeatureScaler
from hybridus.exporting.graph import constant, ops, resize_pixels, resize_plane, transpose
from hybridus.exporting.heads import append_head, append_transformer
from hybridus.exporting.onnx_file import to_onnx
from hybridus.inputs.resizing import resize_image

HEADS = [
    SVC(C=3),
    SVC(kernel="linear", break_ties=True),
    SVC(kernel="poly", degree=2, coef0=1, decision_function_shape="ovo"),
    SVC(kernel="sigmoid", gamma=0.05),
    LinearSVC(),
    LogisticRegression(),
    RidgeClassifier(),
    SGDClassifier(random_state=0),
    MLPClassifier((8,), max_iter=60, random_state=0),
    MLPClassifier((5, 4), activation="tanh", max_iter=60, random_state=0),
    CalibratedClassifierCV(SVC(), ensemble=False, cv=3),
    CalibratedClassifierCV(LogisticRegression(), ensemble=True, cv=3),
    CalibratedClassifierCV(MLPClassifier((4,), max_iter=60, random_state=0), cv=3),
    CalibratedClassifierCV(SVC(), method="temperature", ensemble=False, cv=3),
    CalibratedClassifierCV(
        MLPClassifier((4,), max_iter=60, random_state=0), method="temperature", cv=3
    ),
]


@pytest.fixture(scope="module", params=[2, 3], ids=["two classes", "three classes"])
def iris(request):
    X, y = load_iris(return_X_y=True)
    # Two classes that overlap, so that scores of either sign occur on both sides.
    kept = y >= 3 - request.param
    X = X[kept] + np.random.default_rng(0).normal(0, 0.4, X[kept].shape)
    return X.astype(np.float32), np.array(["a", "b", "c"])[y[kept]]


def row_model(width, build):
    """Model of the outputs that `build` puts behind rows."""
    o = ops()
    rows = o.parameter([-1, width], np.float32, name="images")
    rows.output(0).set_names({"images"})
    return finished(rows, build(rows))


def finished(parameter, outputs):
    results = []
    for name, source in outputs.items():
        results.append(ops().result(source))
        results[-1].output(0).set_names({name})
        results[-1].set_friendly_name(name)
    return load_openvino().Model(results, [parameter])


def both(model, tmp_path, images):
    """Answers of both runtimes."""
    xml, onnx = tmp_path / "model.xml", tmp_path / "model.onnx"
    onnx.write_bytes(to_onnx(model, {}).SerializeToString())
    load_openvino().save_model(model, xml, compress_to_fp16=False)
    return [openvino_answers(xml, images), onnx_answers(onnx, images)]


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("head", HEADS, ids=lambda head: type(head).__name__)
def test_a_head_answers_as_in_scikit_learn(head, iris, tmp_path):
    X, y = iris
    head.fit(X, y)

    def build(rows):
        answer = append_head(rows, head)
        scores = {"scores": answer.scores, "probabilities": answer.probabilities}
        return {"label": answer.label, **{k: v for k, v in scores.items() if v is not None}}

    asked = {"scores": "decision_function", "probabilities": "predict_proba"}
    for found in both(row_model(X.shape[1], build), tmp_path, X):
        assert np.array_equal(head.classes_[found.pop("label")], head.predict(X))
        assert found
        for name, values in found.items():
            close(values, getattr(head, asked[name])(X))


@pytest.mark.parametrize(
    "step",
    [
        FeatureScaler(),
        StandardScaler(with_mean=False),
        StandardScaler(with_std=False),
        PCA(2),
        PCA(2, whiten=True),
    ],
    ids=str,
)
def test_a_step_between_features_and_head_does_what_it_did(step, iris, tmp_path):
    X = iris[0]
    expected = step.fit(X).transform(X)
    model = row_model(X.shape[1], lambda rows: {"y": append_transformer(rows, step, "step")})
    for found in both(model, tmp_path, X):
        close(found["y"], expected)


@pytest.mark.parametrize(
    ("head", "message"),
    [
        (RandomForestClassifier(2), "the head is RandomForestClassifier, which cannot be exported"),
        (SVC(kernel=lambda a, b: a @ b.T), "the head is SVC with kernel=<function"),
        (CalibratedClassifierCV(SVC(), method="isotonic", cv=3), "with method='isotonic', which"),
    ],
)
def test_heads_without_such_a_form_are_refused(head, message, iris):
    with pytest.raises(TypeError, match=message):
        row_model(4, lambda rows: {"label": append_head(rows, head.fit(*iris)).label})


def test_other_steps_are_left_out_or_refused_with_their_name():
    assert append_transformer("rows", None, "pca") == "rows"
    assert append_transformer("rows", "passthrough", "pca") == "rows"
    with pytest.raises(TypeError, match="step 'scaler' is MinMaxScaler, which cannot be exported"):
        append_transformer(None, MinMaxScaler(), "scaler")


@pytest.fixture(scope="module")
def resizers():
    """Both runtimes' functions that bring pixels to 30 x 22."""
    runtime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    o = ops()
    images = o.parameter([-1, -1, -1, 3], np.uint8, name="images")
    images.output(0).set_names({"images"})
    planes = transpose(o.convert(images, "f32"), (0, 3, 1, 2))
    model = finished(images, {"y": transpose(resize_pixels(planes, (30, 22)), (0, 2, 3, 1))})
    session = runtime.InferenceSession(to_onnx(model, {}).SerializeToString())
    compiled = load_openvino().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return [
        lambda pixels: compiled(pixels)[0],
        lambda pixels: session.run(None, {"images": pixels})[0],
    ]


@given(st.integers(1, 200), st.integers(1, 200), st.integers(0, 99))
@settings(max_examples=25)
def test_pixels_are_resized_to_the_bit_as_pillow_resizes_them(resizers, height, width, seed):
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 256, (2, height, width, 3), dtype=np.uint8)
    expected = np.stack([resize_image(image, (30, 22)) for image in pixels])
    for resize in resizers:
        np.testing.assert_array_equal(resize(pixels), expected)


@pytest.mark.parametrize("size", [(40, 9), (12, 70), (24, 32)])
def test_maps_of_probabilities_are_resized_as_pillow_resizes_them(size, tmp_path):
    maps = np.random.default_rng(0).random((2, 24, 32), dtype=np.float32)
    plane = ops().parameter([-1, 24, 32], np.float32, name="images")
    plane.output(0).set_names({"images"})
    lengths = [constant(float(length)) for length in size]
    model = finished(plane, {"y": resize_plane(plane, *lengths)})
    for found in both(model, tmp_path, maps):
        close(found["y"], np.stack([resize_image(one, size) for one in maps]))
