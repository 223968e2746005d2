"""`VotingSegmenter`: the averaged probabilities of several segmenters."""

from collections.abc import Iterator
from numbers import Real
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import clone
from sklearn.utils import Bunch

from hybridus._sklearn import DocsLink, Interval, StrOptions, _BaseComposition, _fit_context
from hybridus.estimators.fitting import all_or_nothing
from hybridus.estimators.segmenters.prediction import (
    CLEANING_CONSTRAINT,
    Cleaning,
    SegmenterMixin,
    same_margins,
)
from hybridus.inputs.images import Images, validate_images
from hybridus.inputs.masks import restore_mask


class VotingSegmenter(DocsLink, SegmenterMixin, _BaseComposition):
    """Segment lesions by the mean probability that several segmenters give.

    What `sklearn.ensemble.VotingClassifier` with ``voting="soft"`` is to classifiers. Networks of
    one kind with different `random_state` differ in their weights, order and validation part, and
    their mean is often better than each. On stored activations of one frozen encoder the encoder
    runs once for all of them.

    Parameters
    ----------
    estimators : list of (str, segmenter)
        Names and segmenters of this package, which are cloned; give each a `random_state` of its
        own, since equal networks are no better than one. All must have the same `resize`,
        `image_shape` and `value_range`; their own `threshold` counts with ``threshold="auto"``
        alone, their `postprocess` and `output_size` not at all.
    weights : array-like of shape (n_estimators,), default=None
        How much each counts in the mean; None counts all alike.
    threshold : float or "auto", default="auto"
        Mean probability above which a pixel is lesion; "auto" takes the weighted mean of the
        `threshold_` of the segmenters.
    postprocess : "clean", Postprocessing or None, default="clean"
        How predicted masks are cleaned; see `UNetSegmenter`.
    output_size : {"input", "network"}, default="input"
        Whether `predict` answers at the size of each image or of the first segmenter's network.

    Attributes
    ----------
    estimators_ : list of fitted segmenters
    named_estimators_ : Bunch
        The same by name.
    weights_ : array of shape (n_estimators,)
        Shares in the mean; they sum to 1.
    threshold_ : float
    mask_size_ : tuple of int
        Height and width of the first segmenter's masks; probabilities of another size are
        interpolated.
    n_features_in_ : int
        Values in one image, where all images had one shape.

    References
    ----------
    Lakshminarayanan, Pritzel and Blundell 2017, Deep ensembles, arXiv:1612.01474.

    Examples
    --------
    >>> from hybridus import make_breast_phantoms
    >>> from hybridus.estimators.segmenters import UNetSegmenter, VotingSegmenter
    >>> phantoms = make_breast_phantoms(12, image_size=32, random_state=0)
    >>> unets = [
    ...     (f"unet_{k}", UNetSegmenter(1, 4, image_size=32, max_epochs=2, random_state=k))
    ...     for k in range(2)
    ... ]
    >>> mean = VotingSegmenter(unets).fit(phantoms.images, phantoms.masks)
    >>> mean.predict(phantoms.images).shape
    (12, 32, 32, 1)
    """

    # `groups` reach the inner validation splits wherever metadata routing is on.
    __metadata_request__fit: ClassVar[dict] = {"groups": True}

    _parameter_constraints: ClassVar[dict] = {
        "estimators": [list],
        "weights": ["array-like", None],
        "threshold": [Interval(Real, 0, 1, closed="both"), StrOptions({"auto"})],
        "postprocess": CLEANING_CONSTRAINT,
        "output_size": [StrOptions({"input", "network"})],
    }

    def __init__(
        self,
        estimators: list[tuple[str, Any]],
        *,
        weights: ArrayLike | None = None,
        threshold: float | Literal["auto"] = "auto",
        postprocess: Cleaning = "clean",
        output_size: Literal["input", "network"] = "input",
    ) -> None:
        self.estimators = estimators
        self.weights = weights
        self.threshold = threshold
        self.postprocess = postprocess
        self.output_size = output_size

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Parameters, with those of the segmenters as ``NAME__PARAMETER``."""
        return self._get_params("estimators", deep=deep)

    def set_params(self, **params: Any) -> "VotingSegmenter":
        """Set parameters, a segmenter by its name, or one of its parameters."""
        return self._set_params("estimators", **params)

    @property
    def image_shape(self) -> tuple[int, ...] | None:  # type: ignore[override]
        """Shape of images that are given as flattened rows."""
        return self.estimators[0][1].image_shape

    @property
    def value_range(self) -> tuple[float, float] | None:  # type: ignore[override]
        """The values of black and white in the images."""
        return self.estimators[0][1].value_range if self.estimators else None

    @all_or_nothing
    @_fit_context(prefer_skip_nested_validation=False)
    def fit(
        self,
        X: Any,
        y: Any,
        sample_weight: ArrayLike | None = None,
        groups: ArrayLike | None = None,
    ) -> "VotingSegmenter":
        """Train every segmenter on the images and masks.

        Parameters
        ----------
        X : images
            See `hybridus.inputs.images.as_images`.
        y : masks
            See `hybridus.inputs.masks.as_masks`; nonzero is lesion.
        sample_weight : array-like of shape (n_samples,), optional
            Weights of images.
        groups : array-like of shape (n_samples,), optional
            Images of one group stay on one side of each validation split.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            For no or other estimators than segmenters, repeated names, parameters that differ
            where they may not, weights that do not match; and what the segmenters raise.
        """
        weights = self._check_members()
        self.weights_ = weights / weights.sum()
        validate_images(self, X, reset=True, image_shape=self.image_shape)
        self.estimators_ = [
            clone(segmenter).fit(X, y, sample_weight=sample_weight, groups=groups)
            for _, segmenter in self.estimators
        ]
        self.named_estimators_ = Bunch(**dict(zip(self._names(), self.estimators_, strict=True)))
        self.mask_size_ = self.estimators_[0].mask_size_
        self.resize_ = self.estimators_[0].resize_
        for name, segmenter in zip(self._names(), self.estimators_, strict=True):
            if not same_margins(segmenter.mask_size_, self.mask_size_, self.resize_):
                raise ValueError(
                    f"{name!r} gives masks of {segmenter.mask_size_} and {self._names()[0]!r} of "
                    f"{self.mask_size_}: with resize='pad' all need one ratio of height to width"
                )
        thresholds = [segmenter.threshold_ for segmenter in self.estimators_]
        self.threshold_ = (
            float(np.dot(thresholds, self.weights_))
            if self.threshold == "auto"
            else float(self.threshold)
        )
        return self

    def preflight(self, X: Any) -> None:
        """Find out, without training, whether `fit` could begin; see `UNetSegmenter.preflight`.

        Parameters
        ----------
        X : images
            See `hybridus.inputs.images.as_images`. Files are not read.
        """
        self._validate_params()
        self._check_members()
        for _, segmenter in self.estimators:
            segmenter.preflight(X)

    def _names(self) -> list[str]:
        return [name for name, _ in self.estimators]

    def _check_members(self) -> NDArray[np.float64]:
        """Check the segmenters before any of them is trained; return their weights."""
        if not self.estimators or not all(
            isinstance(item, tuple) and len(item) == 2 and isinstance(item[0], str)
            for item in self.estimators
        ):
            raise ValueError(
                f"estimators={self.estimators!r}: expected one or more (name, segmenter)"
            )
        for item in self.estimators:
            if not isinstance(item[1], SegmenterMixin):
                raise ValueError(
                    f"{item[0]!r} is {item[1]!r}: expected a segmenter such as UNetSegmenter()"
                )
        self._validate_names(self._names())
        for name, segmenter in self.estimators:
            for parameter in ("resize", "image_shape", "value_range"):
                given = getattr(segmenter, parameter, None)
                first = getattr(self.estimators[0][1], parameter, None)
                if given != first:
                    raise ValueError(
                        f"{name!r} has {parameter}={given!r} and {self._names()[0]!r} has "
                        f"{first!r}: all segmenters need the same"
                    )
        weights = np.ones(len(self.estimators))
        if self.weights is not None:
            weights = np.asarray(self.weights, dtype=np.float64)
        if (
            weights.shape != (len(self.estimators),)
            or not (np.isfinite(weights).all() and (weights >= 0).all())
            or not weights.any()
        ):
            raise ValueError(
                f"weights={self.weights!r}: expected {len(self.estimators)} numbers, 0 or more and "
                "not all 0"
            )
        return weights

    def _probability_maps(self, images: Images) -> Iterator[NDArray[np.float32]]:
        of_segmenters = [segmenter._probability_maps(images) for segmenter in self.estimators_]
        for maps in zip(*of_segmenters, strict=True):
            yield sum(
                share * self._at_mask_size(probabilities)
                for share, probabilities in zip(self.weights_, maps, strict=True)
            ).astype(np.float32)

    def _at_mask_size(self, probabilities: NDArray[np.float32]) -> NDArray[np.float32]:
        if probabilities.shape == self.mask_size_:
            return probabilities
        return restore_mask(probabilities, self.mask_size_)
