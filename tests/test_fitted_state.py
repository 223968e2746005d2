"""What a fit leaves: all of it or nothing, and plain data."""

import copy
import sys

import numpy as np
import pandas as pd
import pytest
import skops.io
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from tiny_images import discs
from tiny_networks import TINY, textures

import hybridus
from hybridus import (
    BorderCropper,
    ContrastEqualizer,
    DeepFeatureExtractor,
    DnCNNSegmenter,
    EncoderUNetSegmenter,
    FineTunedClassifier,
    LesionFeatures,
    PixelSegmenter,
    SpeckleFilter,
    StableFeatures,
    TextureFeatures,
    UNetSegmenter,
    VotingSegmenter,
)
from hybridus.inputs import images as images_module
from hybridus.training.loop import DivergedError, TrainableNetwork

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("enough_networks")]

ONCE = {"max_epochs": 1, "augmentation": None, "random_state": 0}
DECODER = {"decoder_filters": (2,), "decoder_stride": 2, "mask_size": 8, "batch_norm": False}
UNET = UNetSegmenter(
    1, 2, batch_norm=False, deep_supervision=False, image_size=8, tta=False, **ONCE
)
# Fitted already: `fit` is given no masks here.
KNOWN = FrozenEstimator(
    PixelSegmenter(LogisticRegression(), "basic", mask_size=8, sigma_max=2, random_state=0).fit(
        *discs(8, size=8)
    )
)
ALL = [
    DeepFeatureExtractor(TINY, weights="random"),
    LesionFeatures(KNOWN, DeepFeatureExtractor(TINY, weights="random")),
    StableFeatures(DeepFeatureExtractor(TINY, weights="random"), changes="mild"),
    ContrastEqualizer(),
    SpeckleFilter(),
    BorderCropper(),
    TextureFeatures(kinds=["lbp"]),
    FineTunedClassifier(TINY, weights="random", hidden_layer_sizes=(), **ONCE),
    UNET,
    DnCNNSegmenter(2, 2, image_size=8, **ONCE),
    EncoderUNetSegmenter(
        TINY, weights="random", layers=["relu1", "relu2"], image_size=8, **DECODER, **ONCE
    ),
    PixelSegmenter(LogisticRegression(), "basic", mask_size=8, sigma_max=2, random_state=0),
    VotingSegmenter([("first", UNET), ("second", clone(UNET))]),
]


def by_name(estimator):
    return type(estimator).__name__


def target_of(estimator, images, masks):
    if isinstance(estimator, FineTunedClassifier):
        return np.array(["a", "b"] * (len(images) // 2))
    return masks if hasattr(estimator, "predict_proba") else None


def answers(estimator, images):
    for method in ("predict_proba", "predict", "transform"):
        if hasattr(estimator, method):
            yield getattr(estimator, method)(images)


@pytest.fixture(scope="module")
def data():
    return discs(8, size=8)


def test_every_public_estimator_is_here():
    public = {name for name in hybridus.__all__ if hasattr(getattr(hybridus, name), "fit")}
    # ResNet50Segmenter is an EncoderUNetSegmenter with another encoder.
    assert {by_name(estimator) for estimator in ALL} == public - {"ResNet50Segmenter"}


def fail(*_, **__):
    raise RuntimeError("the last step fails")


def fail_at_once_and_at_last(estimator, images, masks, monkeypatch):
    """Two or three fits that fail, the last one when all is done but for the answer."""
    y = target_of(estimator, images, masks)
    with pytest.raises(ValueError, match="Negative values"):
        estimator.fit(-np.ones((8, 16, 16)), y)
    if y is not None:
        larger_masks = y if y.ndim == 1 else np.ones((8, 16, 16), bool)
        with pytest.raises(ValueError, match=r"inconsistent|got 7|\[8, 7\]"):
            estimator.fit(np.zeros((8, 16, 16), np.uint8), larger_masks[:7])
        y = np.array(["c", "d"] * 4) if y.ndim == 1 else y
    validate, values = images_module.validate_images, TrainableNetwork.values

    def after_looking(*arguments, **options):
        validate(*arguments, **options)
        fail()

    def after_training(network):
        if hasattr(network, "_initial_optimizer"):  # `values` is read when it is built, too
            fail()
        return values(network)

    last = {
        "DeepFeatureExtractor": ("choose_engine", fail),
        "ContrastEqualizer": ("validate_images", after_looking),
        "SpeckleFilter": ("validate_images", after_looking),
        "BorderCropper": ("validate_images", after_looking),
        "TextureFeatures": ("check_any_labels", fail),
        "LesionFeatures": ("clone", fail),
        "StableFeatures": ("_directions", fail),
        "PixelSegmenter": ("make_pipeline", fail),
        "VotingSegmenter": ("same_margins", fail),
    }
    with monkeypatch.context() as patched:
        if by_name(estimator) in last:
            name, replacement = last[by_name(estimator)]
            patched.setattr(f"{type(estimator).__module__}.{name}", replacement)
        else:
            patched.setattr(TrainableNetwork, "values", after_training)
        with pytest.raises(RuntimeError, match="last step fails"):
            estimator.fit(images[::-1], y)


@pytest.fixture(scope="module", params=ALL, ids=by_name)
def fitted(request, data):
    images, masks = data
    estimator = clone(request.param)
    return estimator.fit(images, target_of(estimator, images, masks))


def test_a_failed_fit_changes_nothing(fitted, data, monkeypatch):
    learned = dict(vars(fitted))
    before = list(answers(fitted, data[0]))
    fail_at_once_and_at_last(fitted, *data, monkeypatch)
    assert vars(fitted).keys() == learned.keys()
    assert all(vars(fitted)[name] is value for name, value in learned.items())
    for was, now in zip(before, answers(fitted, data[0]), strict=True):
        np.testing.assert_array_equal(now, was)


def test_a_failed_first_fit_leaves_nothing(fitted, data, monkeypatch):
    new = clone(fitted)
    fail_at_once_and_at_last(new, *data, monkeypatch)
    assert vars(new).keys() == vars(clone(fitted)).keys()
    if by_name(new) not in ("ContrastEqualizer", "SpeckleFilter", "BorderCropper"):  # need no fit
        with pytest.raises(NotFittedError):
            list(answers(new, data[0]))


def test_fitted_state_is_plain_data(fitted, data):
    """skops writes plain data alone, and names whatever else a file would need to be trusted."""
    written = skops.io.dumps(fitted)
    unknown = skops.io.get_untrusted_types(data=written)
    of_others = {name for name in unknown if not name.startswith("hybridus.")}
    assert of_others <= {"sklearn.utils._bunch.Bunch", "tiny_networks.build_tiny"}
    again = skops.io.loads(written, trusted=unknown)
    for was, now in zip(answers(fitted, data[0]), answers(again, data[0]), strict=True):
        np.testing.assert_array_equal(now, was)
    if hasattr(fitted, "history_"):
        pd.testing.assert_frame_equal(again.history_, fitted.history_)


def test_a_model_file_answers_alike_without_the_weights(fitted, data, tmp_path, monkeypatch):
    path = hybridus.save(fitted, tmp_path / "model.hybridus")
    again = hybridus.load(path)
    with monkeypatch.context() as patched:
        for name in ("hybridus._keras", "hybridus.training.loop"):  # which start TensorFlow
            patched.setitem(sys.modules, name, None)
        patched.setattr("hybridus.encoders.frozen.locate_weights", fail)
        answered = list(answers(again, data[0]))
    for was, now in zip(answers(fitted, data[0]), answered, strict=True):
        if np.asarray(was).dtype.kind == "f":
            np.testing.assert_allclose(now, was, atol=1e-5)
        else:
            np.testing.assert_array_equal(now, was)
    assert hybridus.read_card(path).model.startswith(by_name(fitted))


def test_a_history_is_made_of_plain_numbers(fitted):
    if not hasattr(fitted, "variables_"):
        pytest.skip("trains no network")
    assert list(fitted.history_.index) == [1]
    table = fitted.history_
    table["loss"] = -1.0  # the caller's own
    assert fitted.history_["loss"].item() > 0
    assert not hasattr(clone(fitted), "history_")


def test_a_diverging_refit_on_other_classes_does_not_rename_the_old_answers():
    images, y = textures(12)
    net = FineTunedClassifier(TINY, weights="random", hidden_layer_sizes=(), **ONCE)
    net.fit(images, np.array(["a", "b"])[y])
    before = net.predict(images)
    with pytest.raises(DivergedError):
        net.set_params(learning_rate=1e39).fit(images, np.array(["c", "d"])[y])
    assert net.classes_.tolist() == ["a", "b"]
    np.testing.assert_array_equal(net.predict(images), before)


def test_a_failed_first_partial_fit_may_be_tried_again():
    images, y = textures(12)
    net = FineTunedClassifier(TINY, weights="random", hidden_layer_sizes=(), batch_size=4, **ONCE)
    with pytest.raises(DivergedError):
        net.set_params(learning_rate=1e39).partial_fit(images, y, classes=[0, 1, 2])
    assert not hasattr(net, "classes_")
    net.set_params(learning_rate=1e-3).partial_fit(images, y, classes=[0, 1])
    assert net.classes_.tolist() == [0, 1]
    assert skops.io.dumps(net)  # with the state of its optimizer


def test_pixels_are_judged_by_the_features_of_the_fit(data):
    """Another `sigma_max` gives as many features, but other ones."""
    images, masks = data
    pixels = clone(ALL[-2]).fit(images, masks)
    before = pixels.predict_proba(images)
    pixels.set_params(sigma_max=3, features="both")
    np.testing.assert_array_equal(pixels.predict_proba(images), before)
    assert np.abs(clone(pixels).set_params(features="basic").fit(images, masks).predict_proba(
        images) - before).max() > 0  # fmt: skip


def test_a_copy_is_not_the_estimator(data):
    """What a fit learns replaces what was learned; nothing that was handed out is changed."""
    images, masks = data
    unet = clone(UNET).fit(images, masks)
    kept = copy.copy(unet)
    before = kept.predict_proba(images)
    unet.set_params(random_state=1).fit(images[::-1], masks[::-1])
    np.testing.assert_array_equal(kept.predict_proba(images), before)
    assert np.abs(unet.predict_proba(images) - before).max() > 0
