"""Estimators that look at brightness only, for tests of what stands around them."""

import numpy as np
from PIL import Image
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.svm import SVC

from hybridus.inputs.images import as_images


class Recorder(BaseEstimator):
    """Notes what it is fitted on, and can fail or be interrupted once some fits are done."""

    __metadata_request__fit = {"groups": True}  # noqa: RUF012  scikit-learn's own spelling
    fits: list = []  # noqa: RUF012  of all instances, since they are cloned

    def __init__(
        self,
        kind="",
        image_size=64,
        fails=None,
        error=ValueError,
        level=100,
        random_state=None,
        value_range=None,
    ):
        self.kind = kind
        self.image_size = image_size
        self.level = level
        self.fails = fails
        self.error = error
        self.random_state = random_state
        self.value_range = value_range

    def seen(self, X):
        return as_images(X, value_range=self.value_range)

    def fit(self, X, y, groups=None):
        self.fits.append((self.kind, len(X), None if groups is None else list(groups)))
        if len(self.fits) - 1 == self.fails:
            raise self.error("a mistake in the program")
        return self.learn(X, y)


class BrightClassifier(ClassifierMixin, Recorder):
    """SVM on the mean and spread of each image."""

    def learn(self, X, y):
        self.inner_ = SVC(C=10, random_state=self.random_state).fit(brightness(self.seen(X)), y)
        self.classes_ = self.inner_.classes_
        self.best_epoch_, self.n_iter_, self.validation_fraction = 7, 17, 0.15
        return self

    def predict(self, X):
        return self.inner_.predict(brightness(self.seen(X)))

    def predict_proba(self, X):
        return np.eye(len(self.classes_))[np.searchsorted(self.classes_, self.predict(X))]


class BrightSegmenter(Recorder):
    """What is brighter than a level is lesion."""

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.estimator_type = "segmenter"
        return tags

    def learn(self, X, y):
        self.threshold_ = 0.35
        return self

    def predict(self, X):
        found = np.empty(len(X), dtype=object)
        found[:] = [(image > self.level).astype(np.uint8)[..., None] for image in self.seen(X)]
        return found


def brightness(X):
    return np.array([[image.mean(), image.std()] for image in as_images(X)])


def thumbnails(X):
    """Images of 16 x 16 as rows."""
    small = [
        Image.fromarray(image).resize((16, 16), Image.Resampling.BOX) for image in as_images(X)
    ]
    return np.stack([np.asarray(image).ravel() for image in small]) / 255
