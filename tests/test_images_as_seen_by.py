"""Images as an estimator sees them: on its scale and in its shape, also in pictures of masks."""

import numpy as np
import pytest
from matplotlib.figure import Figure
from sklearn.base import BaseEstimator
from sklearn.ensemble import VotingClassifier
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import FeatureUnion, make_pipeline
from sklearn.svm import SVC

from hybridus import DeepFeatureExtractor, SpeckleFilter, UNetSegmenter, VotingSegmenter
from hybridus.inputs.images import as_images, images_as_seen_by
from hybridus.report import SegmentationDisplay


class Threshold(BaseEstimator):
    """What is white is lesion."""

    def __init__(self, value_range=None, image_shape=None):
        self.value_range = value_range
        self.image_shape = image_shape

    def fit(self, X, y):
        self.fitted_ = True
        return self

    def predict(self, X):
        images = as_images(X, image_shape=self.image_shape, value_range=self.value_range)
        return np.stack([image == 255 for image in images])


def twelve_bits(shape):
    images = np.full((2, *shape), 1365, np.uint16)
    images[:, 2:6, 2:6] = 4095
    return images, images == 4095


@pytest.mark.parametrize("flat", [False, True])
def test_displays_show_what_the_segmenter_saw(flat):
    images, masks = twelve_bits((16, 48))  # 768 values, which would be 16 x 16 in colour
    X = images.reshape(2, -1) if flat else images
    model = Threshold((0, 4095), (16, 48) if flat else None)
    figure = Figure()
    display = SegmentationDisplay.from_estimator(model.fit(X, masks), X, masks, figure=figure)
    assert display.table["dice"].tolist() == [1, 1]
    shown = display.axes_[0, 0].get_images()[0].get_array()
    np.testing.assert_array_equal(shown, np.where(masks[0], 255, 85))


def test_displays_of_a_segmenter_without_a_range_refuse_another_scale():
    images, masks = twelve_bits((8, 8))
    with pytest.raises(ValueError, match=r"such as value_range=\(0, 4095\)"):
        SegmentationDisplay.from_estimator(Threshold().fit(images, masks), images, masks)


@pytest.mark.parametrize(
    "model",
    [
        UNetSegmenter(value_range=(0, 4095)),
        VotingSegmenter([("a", UNetSegmenter(value_range=(0, 4095)))]),
        make_pipeline(SpeckleFilter(value_range=(0, 4095)), UNetSegmenter()),
        make_pipeline("passthrough", UNetSegmenter(value_range=(0, 4095))),
        GridSearchCV(UNetSegmenter(value_range=(0, 4095)), {}),
        GridSearchCV(make_pipeline(UNetSegmenter(value_range=(0, 4095))), {}),
        make_pipeline(
            FeatureUnion([("none", "drop"), ("a", DeepFeatureExtractor(value_range=(0, 4095)))]),
            SVC(),
        ),
        VotingClassifier(
            [("a", make_pipeline(DeepFeatureExtractor(value_range=(0, 4095)), SVC()))]
        ),
    ],
    ids=[
        "plain",
        "average",
        "pipeline",
        "passed through",
        "search",
        "its pipeline",
        "union",
        "vote",
    ],
)
def test_the_range_is_that_of_what_reads_the_images(model):
    images, masks = twelve_bits((8, 8))
    seen = images_as_seen_by(model, images)
    assert seen.value_range == (0, 4095)
    np.testing.assert_array_equal(seen[0], np.where(masks[0], 255, 85))


def test_a_search_reads_as_its_best_estimator_does():
    search = GridSearchCV(Threshold(), {})
    search.best_estimator_ = Threshold((0, 4095))
    assert images_as_seen_by(search, twelve_bits((8, 8))[0]).value_range == (0, 4095)


def test_without_either_parameter_images_are_read_as_ever():
    assert images_as_seen_by(BaseEstimator(), np.ones((1, 8, 8)))[0].max() == 255
