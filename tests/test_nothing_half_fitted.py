"""A fit that fails leaves every estimator as it was: fitted as before, or not fitted."""

import copy

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from tiny_images import discs
from tiny_networks import TINY, textures

import hybridus
from hybridus import (
    ContrastEqualizer,
    DeepFeatureExtractor,
    DnCNNSegmenter,
    EncoderUNetSegmenter,
    FineTunedClassifier,
    PixelSegmenter,
    SpeckleFilter,
    UNetSegmenter,
    VotingSegmenter,
)
from hybridus.training.loop import DivergedError, TrainableNetwork

ONCE = {"max_epochs": 1, "augmentation": None, "random_state": 0}
DECODER = {"decoder_filters": (2,), "decoder_stride": 2, "mask_size": 8, "batch_norm": False}
UNET = UNetSegmenter(1, 2, batch_norm=False, image_size=8, **ONCE)
ALL = [
    DeepFeatureExtractor(TINY, weights="random"),
    ContrastEqualizer(),
    SpeckleFilter(),
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


@pytest.mark.parametrize("original", ALL, ids=by_name)
def test_a_failed_fit_changes_nothing(original, data, monkeypatch):
    images, masks = data
    larger = np.zeros((8, 16, 16), np.uint8)
    y = target_of(original, images, masks)
    other = y if y is None or y.ndim > 1 else np.array(["c", "d"] * 4)
    larger_y = y if y is None or y.ndim == 1 else np.ones((8, 16, 16), bool)

    def fail(*_, **__):
        raise RuntimeError("the last step fails")

    def broken(estimator):
        """Refits that fail at once, and at the latest moment."""
        with pytest.raises(ValueError, match="Negative values"):
            estimator.fit(-np.ones((8, 16, 16)), y)
        if y is not None:
            with pytest.raises(ValueError, match=r"inconsistent|got 7|\[8, 7\]"):
                estimator.fit(larger, larger_y[:7])
        last = {"DeepFeatureExtractor": "choose_engine", "PixelSegmenter": "make_pipeline"}
        with monkeypatch.context() as patched:
            if by_name(estimator) in last:
                module = type(estimator).__module__
                patched.setattr(f"{module}.{last[by_name(estimator)]}", fail)
            elif y is None:
                patched.setattr("hybridus.estimators.preprocessing.validate_images", late)
            elif by_name(estimator) == "VotingSegmenter":
                patched.setattr(f"{type(estimator).__module__}.same_margins", fail)
            else:
                patched.setattr(TrainableNetwork, "values", after_training)
            with pytest.raises(RuntimeError, match="last step fails"):
                estimator.fit(images[::-1], other)

    def late(estimator, X, **_):
        estimator.n_features_in_ = 7
        fail()

    values = TrainableNetwork.values

    def after_training(network):
        """Fail once training has changed something; `values` is read when it is built, too."""
        if hasattr(network, "_initial_optimizer"):
            fail()
        return values(network)

    estimator = clone(original)
    broken(estimator)
    assert vars(estimator).keys() == vars(clone(original)).keys()
    if by_name(original) not in ("ContrastEqualizer", "SpeckleFilter"):  # they need no fit
        with pytest.raises(NotFittedError):
            list(answers(estimator, images))

    estimator.fit(images, y)
    learned = dict(vars(estimator))
    before = list(answers(estimator, images))
    broken(estimator)
    assert vars(estimator) is not learned
    assert vars(estimator).keys() == learned.keys()
    assert all(vars(estimator)[name] is value for name, value in learned.items())
    for was, now in zip(before, answers(estimator, images), strict=True):
        np.testing.assert_array_equal(now, was)


def test_a_diverging_refit_on_other_classes_does_not_rename_the_old_answers():
    images, y = textures(12)
    net = FineTunedClassifier(TINY, weights="random", hidden_layer_sizes=(), **ONCE)
    net.fit(images, np.array(["a", "b"])[y])
    before = net.predict(images)
    with pytest.raises(DivergedError):
        net.set_params(learning_rate=1e30).fit(images, np.array(["c", "d"])[y])
    assert net.classes_.tolist() == ["a", "b"]
    np.testing.assert_array_equal(net.predict(images), before)


def test_a_failed_first_partial_fit_may_be_tried_again():
    images, y = textures(12)
    net = FineTunedClassifier(TINY, weights="random", hidden_layer_sizes=(), batch_size=4, **ONCE)
    with pytest.raises(DivergedError):
        net.set_params(learning_rate=1e30).partial_fit(images, y, classes=[0, 1, 2])
    assert not hasattr(net, "classes_")
    net.set_params(learning_rate=1e-3).partial_fit(images, y, classes=[0, 1])
    assert net.classes_.tolist() == [0, 1]


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
