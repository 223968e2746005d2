"""`StableFeatures`: features whose changes with the scanner count less."""

from collections.abc import Sequence
from dataclasses import KW_ONLY
from numbers import Real
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, TransformerMixin, clone
from sklearn.utils.validation import check_is_fitted

from hybridus._sklearn import HasMethods, Interval, _check_feature_names_in, _fit_context
from hybridus.estimators.fitting import all_or_nothing
from hybridus.estimators.on_images import OnImages
from hybridus.estimators.parameters import with_parameters
from hybridus.estimators.preflight import preflight
from hybridus.inputs.images import Images, tag_images, validate_images
from hybridus.inputs.labels import check_any_labels
from hybridus.inputs.scanner import SCANNER_CHANGES, ScannerChange, apply_changes

Changes = Sequence[ScannerChange | Sequence[ScannerChange]]
_LEVELS = tuple(SCANNER_CHANGES)


@with_parameters
class StableFeatures(OnImages, TransformerMixin, BaseEstimator):
    """Standardise features of images, and shrink the directions in which the scanner moves them.

    The training images are changed as other scanners, or other settings, would change them, and
    the features of the changed images compared with those of the images themselves. Directions in
    which they differ much, whatever the image shows, then count little: a linear head behind it is
    nearly one that was trained on endlessly many changed copies. No labels are used. Put the head
    right behind: another scaler would blow up again what was shrunk.

    Parameters
    ----------
    features : transformer of images
        Such as `DeepFeatureExtractor`, or a `FeatureUnion` of several; a clone is fitted.
    changes : {"mild", "medium", "strong"} or list of ScannerChange, default="medium"
        Each gives one changed copy of every training image; an item that is a list of changes is
        applied one after another. The names stand for those of
        `hybridus.inputs.scanner.SCANNER_CHANGES`.
    strength : float, default=1.0
        How strongly directions are shrunk: one in which a standardised feature moves with variance
        v keeps 1 / sqrt(1 + strength * v) of its size. 0 standardises only.

    Attributes
    ----------
    features_ : fitted transformer
    mean_, scale_ : arrays of shape (n_features,)
        Of the training images as they are.
    directions_ : array of shape (n_directions, n_features)
        Orthonormal directions in which features move.
    shrinkage_ : array of shape (n_directions,)
        What is taken off each, 0 to 1.

    Notes
    -----
    Rows of changed images are kept by the store of the extractor, as those of any image: they are
    computed once, however many folds and candidates ask for them.

    References
    ----------
    Hatch, Kajarekar and Stolcke 2006, Within-class covariance normalization for SVM-based speaker
    recognition, Interspeech. Bishop 1995, Training with noise is equivalent to Tikhonov
    regularization, Neural Computation 7:108.

    Examples
    --------
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.pipeline import make_pipeline
    >>> from hybridus import DeepFeatureExtractor, StableFeatures, make_breast_phantoms
    >>> phantoms = make_breast_phantoms(12, image_size=48, random_state=0)
    >>> narrow = DeepFeatureExtractor("mobilenet_v2_0.35", weights="bundled", image_size=32)
    >>> pipe = make_pipeline(StableFeatures(narrow, changes="mild"), LogisticRegression())
    >>> pipe.fit(phantoms.images, phantoms.target).predict(phantoms.images).shape
    (12,)
    """

    features: Any
    _: KW_ONLY
    changes: str | Changes = "medium"
    strength: float = 1.0

    _parameter_constraints: ClassVar[dict] = {
        "features": [HasMethods(["fit", "transform"])],
        "changes": [str, list, tuple],
        "strength": [Interval(Real, 0, None, closed="left")],
    }

    @all_or_nothing
    @_fit_context(prefer_skip_nested_validation=False)
    def fit(self, X: Any, y: Any = None) -> "StableFeatures":
        """Learn which directions move with the scanner.

        Parameters
        ----------
        X : images
            See `hybridus.inputs.images.as_images`.
        y : ignored

        Returns
        -------
        self

        Raises
        ------
        ValueError
            For changes that are none, and what the features raise.
        """
        changes = self._resolved()
        images = validate_images(self, X, reset=True, image_shape=self.image_shape)
        check_any_labels(y)
        self.features_ = clone(self.features).fit(images)
        rows = np.asarray(self.features_.transform(images), dtype=np.float64)
        self.mean_, scale = rows.mean(axis=0), rows.std(axis=0)
        self.scale_ = np.where(scale > 1e-9 * np.maximum(np.abs(self.mean_), 1), scale, 1.0)
        moves = []
        for several in changes:
            changed = _changed(images, several)
            found = np.asarray(self.features_.transform(changed), dtype=np.float64)
            moves.append((found - rows) / self.scale_)
        # Of the mean over images and changes, squares of singular values are variances.
        moved = np.concatenate(moves) / np.sqrt(len(moves) * len(rows))
        self.directions_, variances = _directions(moved)
        self.shrinkage_ = 1 - 1 / np.sqrt(1 + self.strength * variances)
        return self

    def preflight(self, X: Any) -> None:
        """Find out, without encoding images, whether `fit` could do its work.

        Parameters
        ----------
        X : images
            See `hybridus.inputs.images.as_images`. Files are not read.
        """
        self._validate_params()
        self._resolved()
        preflight(self.features, X)

    def transform(self, X: Any) -> NDArray[np.float64]:
        """Compute standardised features, without most of what the scanner does to them.

        Parameters
        ----------
        X : images
            See `hybridus.inputs.images.as_images`.

        Returns
        -------
        array of shape (n_images, n_features), float64
        """
        check_is_fitted(self, "features_")
        images = validate_images(self, X, reset=False, image_shape=self.image_shape)
        rows = np.asarray(self.features_.transform(images), dtype=np.float64)
        return self.shrink((rows - self.mean_) / self.scale_)

    def shrink(self, rows: NDArray[np.float64]) -> NDArray[np.float64]:
        """Shrink directions of standardised rows, or of slopes by them: the map is symmetric."""
        along = rows @ self.directions_.T
        return rows - (along * self.shrinkage_) @ self.directions_

    def get_feature_names_out(self, input_features: Any = None) -> NDArray[np.object_]:
        """Names of the features, those that `features` gives.

        Parameters
        ----------
        input_features : array of str, optional
            Checked against the names and the number of columns that `fit` saw, and not used.

        Returns
        -------
        array of str, shape (n_features,)
        """
        check_is_fitted(self, "features_")
        _check_feature_names_in(self, input_features, generate_names=False)
        return np.asarray(self.features_.get_feature_names_out(), dtype=object)

    def _resolved(self) -> list[Sequence[ScannerChange]]:
        if isinstance(self.changes, str):
            if self.changes not in SCANNER_CHANGES:
                raise ValueError(
                    f"changes={self.changes!r}: expected one of {', '.join(_LEVELS)}, or a list of "
                    "ScannerChange"
                )
            return list(SCANNER_CHANGES[self.changes].values())
        several = [(one,) if isinstance(one, ScannerChange) else one for one in self.changes]
        right = all(
            isinstance(part, list | tuple) and all(isinstance(one, ScannerChange) for one in part)
            for part in several
        )
        if not several or not right:
            raise ValueError(
                f"changes={self.changes!r:.80}: expected one or more ScannerChange, or lists of "
                "them"
            )
        return several

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tag_images(self, tags)
        tags.transformer_tags.preserves_dtype = ["float64"]
        return tags


def _changed(images: Images, changes: Sequence[ScannerChange]) -> Images:
    return Images(lambda i: apply_changes(changes, images[i]), len(images))


def _directions(moved: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Orthonormal directions of rows and the sums of their squares, by the smaller Gram matrix."""
    if moved.shape[0] < moved.shape[1]:
        _, sizes, directions = np.linalg.svd(moved, full_matrices=False)
        variances = sizes**2
    else:
        variances, columns = np.linalg.eigh(moved.T @ moved)
        directions = columns.T
    kept = variances > 1e-10 * max(float(variances.max()), 1e-30)
    return np.ascontiguousarray(directions[kept]), np.asarray(variances[kept])
