"""Defaults are the best that was measured; what was reported is reached by saying so."""

import numpy as np
from tiny_images import discs
from tiny_networks import TINY, UNNAMED

from hybridus import (
    DeepFeatureExtractor,
    EncoderUNetSegmenter,
    Postprocessing,
    UNetSegmenter,
    VotingSegmenter,
    make_hybrid_classifier,
)
from hybridus.presets import PRESETS


def measured(preset, model):
    """Parameters of a preset, which say what a row of the README was measured with."""
    built = PRESETS[preset].build().get_params()
    given = {name: model.get_params()[name] for name in PRESETS[preset].parameters}
    expected = {name: built[name] for name in given}
    clean = Postprocessing(fill_holes=True, min_area=0.002)
    assert expected.pop("postprocess") == clean
    assert given.pop("postprocess") == "clean"
    return given, expected


def test_those_of_segmenters_are_those_of_the_best_rows():
    given, expected = measured("unet", UNetSegmenter())
    assert given == expected
    given, expected = measured("mobilenet_v2-unet", EncoderUNetSegmenter())
    assert (given.pop("n_views"), expected.pop("n_views")) == (4, 6)  # room for ResNet50's maps
    assert given == expected
    voting = VotingSegmenter([("unet", UNetSegmenter())])
    assert (voting.threshold, voting.postprocess) == ("auto", "clean")


def test_clean_masks_have_no_holes_and_no_specks():
    net = UNetSegmenter()
    mask = np.zeros((32, 32), bool)
    mask[4:20, 4:20], mask[10, 10], mask[30, 30] = True, False, True
    whole = np.zeros_like(mask)
    whole[4:20, 4:20] = True
    np.testing.assert_array_equal(net._cleaned(mask), whole)
    np.testing.assert_array_equal(net.set_params(postprocess=None)._cleaned(mask), mask)


def test_features_are_those_of_several_layers():
    assert make_hybrid_classifier()["features"].layers == "multi"
    images = discs(2, size=8)[0]
    extractor = DeepFeatureExtractor(TINY, weights="random").fit(images)
    assert extractor.frozen_.taps == ("relu1", "relu2")
    assert extractor.transform(images).shape == (2, 8 + 16)
    last = DeepFeatureExtractor(TINY, weights="random", layers="last").fit_transform(images)
    np.testing.assert_array_equal(extractor.transform(images)[:, 8:], last)


def test_an_encoder_that_names_no_layers_has_its_last():
    images = discs(2, size=8)[0]
    several = DeepFeatureExtractor(UNNAMED, weights="random").fit_transform(images)
    last = DeepFeatureExtractor(UNNAMED, weights="random", layers="last").fit_transform(images)
    np.testing.assert_array_equal(several, last)
