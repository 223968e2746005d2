"""Exported models answer as they did in Python, in OpenVINO and in ONNX, on whole images."""

import importlib.util
import json
from dataclasses import replace

import numpy as np
import pytest
from exported import answers, close
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import Pipeline
from tiny_images import discs
from tiny_networks import HALVED, TINY, textures

import hybridus
from hybridus import (
    DeepFeatureExtractor,
    DnCNNSegmenter,
    EncoderUNetSegmenter,
    FineTunedClassifier,
    PixelSegmenter,
    SpeckleFilter,
    UNetSegmenter,
    VotingSegmenter,
    make_breast_phantoms,
    make_hybrid_classifier,
)
from hybridus.encoders.engine import load_openvino
from hybridus.encoders.registry import PREPROCESSING
from hybridus.estimators.scaler import FeatureScaler

SUFFIXES = pytest.mark.parametrize("suffix", [".xml", ".onnx"])


@pytest.fixture(scope="module")
def scans():
    """Phantoms of 8 bits, 48 x 48, grey."""
    phantoms = make_breast_phantoms(18, image_size=48, random_state=0)
    images = np.asarray(phantoms.images)
    if images.dtype != np.uint8:
        images = np.rint(255 * images).astype(np.uint8)
    phantoms.images = images.reshape(images.shape[:3])
    return phantoms


@pytest.fixture(scope="module")
def hybrid(scans):
    pipe = make_hybrid_classifier(
        "mobilenet_v2_0.35", "svm", weights="bundled", image_size=32, probability=True, cache=False
    )
    return pipe.fit(scans.images, scans.target)


@pytest.fixture(scope="module")
def tiny_hybrid():
    """Quick to export: a small encoder on textures of 8 x 8."""
    X, y = textures(12)
    pipe = make_hybrid_classifier(TINY, "logreg", weights="random", cache=False)
    return pipe.fit(X, y), X


@pytest.fixture(scope="module")
def unet():
    X, y = discs(8, size=24)
    net = UNetSegmenter(
        1, 2, attention=True, dropout_rate=0.2, image_size=16, max_epochs=1, random_state=0
    )
    return net.fit(X, y), X


def metadata(path):
    if path.suffix == ".onnx":
        onnx = pytest.importorskip("onnx")
        return {entry.key: entry.value for entry in onnx.load(path).metadata_props}
    model = load_openvino().Core().read_model(path)
    return dict(model.get_rt_info("hybridus").value.items())


class TestClassifiers:
    @SUFFIXES
    def test_a_hybrid_answers_to_phantoms_of_any_size(self, hybrid, scans, suffix, tmp_path):
        path = hybridus.export(hybrid, tmp_path / f"model{suffix}")
        for images in (scans.images, scans.images[:, 5:44, 3:30], scans.images[:, :32, :32]):
            found = answers(path, images)
            close(found["probabilities"], hybrid.predict_proba(images))
            assert np.array_equal(hybrid.classes_[found["label"]], hybrid.predict(images))

    @SUFFIXES
    def test_fused_encoders_with_all_poolings_and_colour_answer_alike(self, suffix, tmp_path):
        X, y = textures(12, size=16)
        X = np.stack([X, X[:, ::-1], X.transpose(0, 2, 1)], axis=-1)
        blue_first = replace(TINY, preprocessing=PREPROCESSING["caffe"])
        fused = make_hybrid_classifier([blue_first, HALVED], "svm", weights="random", cache=False)
        fused.set_params(
            features__tiny__pooling="avgmax",
            features__halved__pooling="gem",
            features__halved__image_size=12,
        )
        fused.fit(X, y)
        found = answers(hybridus.export(fused, tmp_path / f"model{suffix}"), X)
        close(found["scores"], fused.decision_function(X))

    @pytest.mark.slow
    def test_a_fine_tuned_network_answers_as_it_did(self, tmp_path):
        X, y = textures(12, size=16, n_classes=3)
        net = FineTunedClassifier(TINY, weights="random", max_epochs=2, random_state=0).fit(X, y)
        found = answers(hybridus.export(net, tmp_path / "model.onnx"), X)
        close(found["probabilities"], net.predict_proba(X))
        assert np.array_equal(found["label"], net.predict(X))
        assert net.cache is True
        assert net.precision == "float32"
        calibrated = CalibratedClassifierCV(
            FrozenEstimator(net), method="temperature", ensemble=False, cv=2
        ).fit(X, y)
        again = hybridus.load(hybridus.save(calibrated, tmp_path / "model.hybridus"))
        found = answers(hybridus.export(again, tmp_path / "calibrated.onnx"), X)
        close(found["probabilities"], calibrated.predict_proba(X))
        assert np.abs(calibrated.predict_proba(X) - net.predict_proba(X)).max() > 1e-3

    def test_the_best_of_a_search_is_exported(self, tiny_hybrid, tmp_path):
        pipe, X = tiny_hybrid
        search = GridSearchCV(pipe, {"head__C": [1e-6, 1.0]}, cv=2).fit(X, np.arange(12) % 2)
        found = answers(hybridus.export(search, tmp_path / "best.xml"), X)
        close(found["probabilities"], search.predict_proba(X))


class TestSegmenters:
    @SUFFIXES
    def test_a_unet_gives_masks_at_the_size_of_the_images(self, unet, suffix, tmp_path):
        net, X = unet
        path = hybridus.export(net, tmp_path / f"model{suffix}")
        for images in (X, X[:, :20, 2:]):
            found = answers(path, images)
            expected = net.predict_proba(images)[..., 0]
            close(found["probabilities"], expected)
            assert found["mask"].dtype == np.uint8
            sure = np.abs(expected - net.threshold_) > 1e-4
            assert np.array_equal(found["mask"][sure], (expected > net.threshold_)[sure])

    def test_at_the_size_of_the_network_nothing_is_resized(self, unet, tmp_path):
        net, X = unet
        path = hybridus.export(net, tmp_path / "model.onnx", input_size="network")
        found = answers(path, X[:, 4:20, 4:20])
        close(found["probabilities"], net.predict_proba(X[:, 4:20, 4:20])[..., 0])

    @pytest.mark.slow
    @pytest.mark.parametrize(
        "net",
        [
            EncoderUNetSegmenter(
                HALVED,
                weights="random",
                layers=["half", "quarter"],
                decoder_filters=(4,),
                decoder_stride=2,
                image_size=(16, 12),
                mask_size=(24, 18),
                activation_dtype="float32",
                resize="pad",
            ),
            VotingSegmenter(
                [
                    ("a", DnCNNSegmenter(3, 2, image_size=16, max_epochs=1, tta=False)),
                    ("b", DnCNNSegmenter(2, 2, image_size=(12, 16), max_epochs=1)),
                ],
                weights=[1, 3],
            ),
        ],
        ids=lambda net: type(net).__name__,
    )
    def test_other_segmenters_answer_as_they_did(self, net, tmp_path):
        X, y = discs(8, size=16, width=12)
        if "max_epochs" in net.get_params():
            net.set_params(max_epochs=1, random_state=0, batch_size=4)
        net.set_params(output_size="input").fit(X, y)
        padded = getattr(net, "resize", "") == "pad"
        found = answers(hybridus.export(net, tmp_path / "model.onnx"), X)
        net.set_params(output_size="network" if padded else "input")
        close(found["probabilities"], net.predict_proba(X)[..., 0])


class TestFiles:
    @SUFFIXES
    def test_classes_and_settings_stand_in_the_metadata(self, tiny_hybrid, unet, suffix, tmp_path):
        pipe, _ = tiny_hybrid
        path = tmp_path / f"model{suffix}"
        told = metadata(hybridus.export(pipe, path, class_names=["benign", "maligne, sûr"]))
        assert json.loads(told["classes"]) == ["benign", "maligne, sûr"]
        assert told["task"] == "classification"
        assert "any size" in told["input"]
        told = metadata(hybridus.export(unet[0], path))
        assert float(told["threshold"]) == unet[0].threshold_
        assert (told["task"], told["postprocess"]) == ("segmentation", "clean")
        assert told["hybridus_version"] == hybridus.__version__

    def test_nothing_but_the_file_is_left_also_if_writing_fails(
        self, tiny_hybrid, tmp_path, monkeypatch
    ):
        pipe, _ = tiny_hybrid
        hybridus.export(pipe, tmp_path / "model.xml")
        before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
        assert sorted(before) == ["model.bin", "model.xml"]

        def fail(model, path, **_):
            path.with_suffix(".bin").write_bytes(b"half")
            raise OSError("disk full")

        monkeypatch.setattr(load_openvino(), "save_model", fail)
        with pytest.raises(OSError, match="disk full"):
            hybridus.export(pipe, tmp_path / "model.xml")
        assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before

    def test_padded_images_come_at_the_size_of_the_network(self, tmp_path):
        X, y = textures(12, size=8)
        pipe = make_hybrid_classifier(
            TINY, "logreg", weights="random", cache=False, resize="pad", image_size=8
        ).fit(X, y)
        path = hybridus.export(pipe, tmp_path / "model.xml")
        assert "of 8 x 8 pixels" in metadata(path)["input"]
        close(answers(path, X)["probabilities"], pipe.predict_proba(X))
        with pytest.raises(ValueError, match="input_size='any' is for resize='stretch'"):
            hybridus.export(pipe, path, input_size="any")

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"path": "model.pt"}, r"'model.pt': expected a name that ends in '.xml' or '.onnx'"),
            ({"path": "model.xml", "format": "onnx"}, "expected a name that ends in '.onnx'"),
            ({"path": "model.xml", "format": "tflite"}, "format='tflite': expected 'openvino'"),
            ({"path": "model.xml", "input_size": "all"}, "input_size='all': expected 'any'"),
            ({"path": "model.xml", "class_names": ["one"]}, "expected 2 names"),
        ],
    )
    def test_mistakes_are_named(self, tiny_hybrid, arguments, message):
        with pytest.raises(ValueError, match=message):
            hybridus.export(tiny_hybrid[0], **arguments)

    def test_what_cannot_be_exported_is_said(self, tiny_hybrid, tmp_path):
        pipe, X = tiny_hybrid
        y = np.arange(12) % 2
        steps = [("filter", SpeckleFilter()), *pipe.steps]
        with pytest.raises(TypeError, match="step 'filter' .* is or holds SpeckleFilter"):
            hybridus.export(Pipeline(steps).fit(X, y), tmp_path / "model.xml")
        several = clone(pipe).set_params(features__views=["mirror"]).fit(X, y)
        with pytest.raises(TypeError, match=r"averages over views=\['mirror'\]"):
            hybridus.export(several, tmp_path / "model.xml")
        features = DeepFeatureExtractor(TINY, weights="random", cache=False)
        neighbours = Pipeline([("features", features), ("head", KNeighborsClassifier())])
        with pytest.raises(TypeError, match="the head is KNeighborsClassifier"):
            hybridus.export(neighbours.fit(X, y), tmp_path / "model.xml")
        unfinished = Pipeline([("features", features), ("scaler", FeatureScaler())]).fit(X, y)
        with pytest.raises(TypeError, match="Pipeline that ends in FeatureScaler"):
            hybridus.export(unfinished, tmp_path / "model.xml")
        pixels = PixelSegmenter()
        pixels.mask_size_ = (8, 8)  # as if fitted
        with pytest.raises(TypeError, match="PixelSegmenter cannot be exported"):
            hybridus.export(pixels, tmp_path / "model.xml")
        with pytest.raises(NotFittedError):
            hybridus.export(UNetSegmenter(), tmp_path / "model.xml")
        assert not list(tmp_path.iterdir())

    def test_without_onnx_the_error_says_what_to_install(self, tiny_hybrid, tmp_path, monkeypatch):
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
        with pytest.raises(ImportError, match=r"pip install 'hybridus\[export\]'"):
            hybridus.export(tiny_hybrid[0], tmp_path / "model.onnx")


class TestSizes:
    def test_networks_of_two_sizes_have_no_one_input(self, tmp_path):
        X, y = textures(12, size=16)
        fused = make_hybrid_classifier([TINY, HALVED], "logreg", weights="random", cache=False)
        fused.set_params(features__halved__image_size=12).fit(X, y)
        with pytest.raises(ValueError, match="see images of .* pixels, which one input cannot be"):
            hybridus.export(fused, tmp_path / "model.xml", input_size="network")
        assert not (tmp_path / "model.xml").exists()

    def test_a_pipeline_of_one_step_is_that_step_and_masks_have_no_classes(self, unet, tmp_path):
        net, X = unet
        path = hybridus.export(Pipeline([("only", net)]), tmp_path / "model.xml")
        close(answers(path, X)["probabilities"], net.predict_proba(X)[..., 0])
        with pytest.raises(ValueError, match="UNetSegmenter has no classes"):
            hybridus.export(net, tmp_path / "other.xml", class_names=["a"])
