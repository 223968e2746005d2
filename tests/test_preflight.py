"""Preflight: what would stop a fit is found before anything is trained."""

import numpy as np
import pytest
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import FeatureUnion, Pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from tiny_networks import TINY

from hybridus import (
    DeepFeatureExtractor,
    DnCNNSegmenter,
    EncoderUNetSegmenter,
    FineTunedClassifier,
    PixelSegmenter,
    SpeckleFilter,
    UNetSegmenter,
    VotingSegmenter,
    WeightsNotFoundError,
)
from hybridus.estimators.preflight import preflight
from hybridus.estimators.segmenters import is_segmenter
from hybridus.training.loop import TrainableNetwork

IMAGES = np.zeros((20, 16, 16))
ON_TINY = {"weights": "random", "layers": ["relu1", "relu2"]}
DECODER = {
    **ON_TINY,
    "image_size": 16,
    "mask_size": 8,
    "decoder_filters": (2,),
    "decoder_stride": 2,
}
ALL = [
    DeepFeatureExtractor(TINY, weights="random"),
    FineTunedClassifier(TINY, weights="random", trainable="none"),
    UNetSegmenter(1, 2, image_size=8),
    DnCNNSegmenter(2, 2, image_size=8),
    EncoderUNetSegmenter(TINY, **DECODER),
    PixelSegmenter(features="deep", encoder=TINY, image_size=16, mask_size=8, **ON_TINY),
    VotingSegmenter([("a", UNetSegmenter(1, 2, image_size=8))]),
]


@pytest.fixture(autouse=True)
def no_training(monkeypatch):
    def train(*_):
        raise AssertionError("preflight trains nothing")

    monkeypatch.setattr(TrainableNetwork, "step", train)


@pytest.mark.parametrize("estimator", ALL, ids=lambda each: type(each).__name__)
def test_what_can_be_fitted_passes_and_is_left_as_it_was(estimator):
    before = dict(vars(estimator))
    estimator.preflight(IMAGES)
    assert vars(estimator) == before
    with pytest.raises(ValueError, match="Negative values"):
        estimator.preflight(IMAGES - 1)


@pytest.mark.parametrize(
    "estimator",
    [
        DeepFeatureExtractor("vgg16"),
        FineTunedClassifier("vgg16"),
        EncoderUNetSegmenter("vgg16"),
        PixelSegmenter(encoder="vgg16"),
        VotingSegmenter([("a", EncoderUNetSegmenter("vgg16"))]),
    ],
    ids=lambda each: type(each).__name__,
)
def test_missing_weights(estimator, no_weights):
    with pytest.raises(WeightsNotFoundError, match="vgg16"):
        estimator.preflight(IMAGES)


@pytest.mark.parametrize(
    "estimator",
    [
        DeepFeatureExtractor(TINY, weights="random", layers=["relu9"]),
        FineTunedClassifier(TINY, weights="random", layers=["relu9"]),
        EncoderUNetSegmenter(TINY, **{**DECODER, "layers": ["relu9"]}),
        PixelSegmenter(features="deep", encoder=TINY, weights="random", layers=["relu9"]),
    ],
    ids=lambda each: type(each).__name__,
)
def test_layers_that_are_not_there(estimator):
    with pytest.raises(ValueError, match="relu9"):
        estimator.preflight(IMAGES)


@pytest.mark.parametrize(
    ("estimator", "message"),
    [
        (FineTunedClassifier(TINY, weights="random", trainable="conv9"), "trainable='conv9'"),
        (FineTunedClassifier(TINY, weights="random", hidden_layer_sizes=(0,)), "hidden_layer"),
        (FineTunedClassifier(TINY, weights="random", augmentation="wild"), "wild"),
        (UNetSegmenter(4, image_size=24), "depth=4"),
        (EncoderUNetSegmenter(TINY, **{**DECODER, "decoder_filters": ()}), "decoder_filters"),
        (EncoderUNetSegmenter(TINY, **{**DECODER, "decoder_stride": 4}), "finer"),
        (UNetSegmenter(threshold=3), "'threshold' parameter"),
    ],
)
def test_parameters_that_cannot_be(estimator, message):
    with pytest.raises(ValueError, match=message):
        estimator.preflight(IMAGES)


def test_activations_without_room(monkeypatch):
    # 4 * 4 * 8 + 2 * 2 * 16 values of 2 bytes, 4 views, 85 % of 20 images: 26112 bytes
    decoder = EncoderUNetSegmenter(TINY, **{**DECODER, "image_size": 8})
    classifier = FineTunedClassifier(TINY, weights="random", trainable="none", n_views=24)
    # 16 pooled values of 4 bytes, 24 views, 17 images: the same
    for estimator in (decoder, classifier):
        monkeypatch.setenv("HYBRIDUS_ACTIVATION_GIB", str(26113 / 2**30))
        estimator.preflight(IMAGES)
        monkeypatch.setenv("HYBRIDUS_ACTIVATION_GIB", str(26111 / 2**30))
        with pytest.warns(UserWarning, match="activations of 20 images take 2.4e-05 GiB, more"):
            estimator.preflight(IMAGES)
        estimator.set_params(cache=False).preflight(IMAGES)


def test_segmenters_are_told_by_their_tag():
    found = [is_segmenter(Pipeline([("filter", SpeckleFilter()), ("last", each)])) for each in ALL]
    assert found == [False, False, True, True, True, True, True]
    assert is_segmenter(GridSearchCV(ALL[2], {"depth": [1, 2]}))


def test_every_part_of_a_model_is_asked():
    broken = DeepFeatureExtractor(TINY, weights="random", layers=["relu9"])
    union = FeatureUnion([("good", ALL[0]), ("broken", broken)])
    pipe = Pipeline([("features", union), ("scaler", StandardScaler()), ("head", SVC())])
    search = GridSearchCV(pipe, {"head__C": [1, 10]})
    with pytest.raises(ValueError, match="relu9"):
        preflight(search, IMAGES)
    preflight(search.set_params(estimator__features__broken__layers=["relu1"]), IMAGES)
