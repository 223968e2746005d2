"""`PixelSegmenter`: any scikit-learn classifier on features of single pixels."""

import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import KW_ONLY
from numbers import Integral, Real
from typing import Any, ClassVar, Literal, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, clone, is_classifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import check_random_state
from sklearn.utils.validation import has_fit_parameter

from hybridus._environment import n_threads
from hybridus._sklearn import HasMethods, Interval, StrOptions, _check_sample_weight, _fit_context
from hybridus.encoders.engine import choose_engine
from hybridus.encoders.frozen import FrozenEncoder, freeze
from hybridus.encoders.registry import EncoderSpec
from hybridus.estimators.fitting import all_or_nothing
from hybridus.estimators.on_images import OnImages
from hybridus.estimators.parameters import with_parameters
from hybridus.estimators.segmenters.prediction import (
    CLEANING_CONSTRAINT,
    Cleaning,
    Paired,
    SegmenterMixin,
    best_threshold,
    check_aspect,
    resized_targets,
    resolve_mask_size,
)
from hybridus.inputs.groups import group_names
from hybridus.inputs.images import Images, validate_images
from hybridus.inputs.masks import as_masks
from hybridus.inputs.resizing import Resize, map_ahead, resize_image, to_grey
from hybridus.training.batches import (
    TOGETHER,
    decoded_parts,
    open_batches,
    subset,
)
from hybridus.training.held_out import split_validation

Places = NDArray[np.intp]  # pixels of one image, counted row by row


@with_parameters
class PixelSegmenter(OnImages, SegmenterMixin, BaseEstimator):
    """Segment lesions by classifying each pixel on its own: the "ANN" of the reported research.

    Features of a pixel are intensity, edges and texture at several scales
    (`skimage.feature.multiscale_basic_features`), or what several layers of a frozen encoder say
    at its place (a hypercolumn, Hariharan et al. 2015, arXiv:1411.5752), or both. The classifier is
    trained on a random sample of pixels, as many of lesions as of background where there are
    enough.

    Parameters
    ----------
    estimator : classifier with predict_proba, default=None
        None is a multi-layer perceptron with one hidden layer of 64 units. A clone is fitted,
        behind a `StandardScaler`.
    features : {"basic", "deep", "both"}, default="both"
    sigma_max : float, default=16.0
        Largest scale of the basic features, in pixels of `mask_size`, up to 256; from 1 on scales
        double.
    encoder, weights
        Of the deep features; see `EncoderUNetSegmenter`. The default is "mobilenet_v2".
    layers : "multi" or list of str, default="multi"
        Layers of the deep features; the encoder's default set of several, or by name.
    image_size : int or (int, int), default=224
        Height and width in pixels of the encoder's input.
    mask_size : int or (int, int), default=128
        Height and width at which pixels are classified.
    n_pixels : int, default=200
        Pixels of an image that are trained on.
    image_shape, value_range, resize, threshold, postprocess, output_size
        As those of `UNetSegmenter`; for ``threshold="auto"`` a part of the images is held out.
    validation_fraction : float, default=0.15
        Share of the images that ``threshold="auto"`` is chosen on.
    random_state : int, RandomState or None, default=None
        Decides the sample of pixels, and the classifier where its own `random_state` is None.

    Attributes
    ----------
    estimator_ : Pipeline
        The fitted scaler and classifier.
    n_pixel_features_ : int
    threshold_ : float
    mask_size_ : tuple of int

    Examples
    --------
    >>> from sklearn.linear_model import LogisticRegression
    >>> from hybridus import make_breast_phantoms
    >>> from hybridus.estimators.segmenters import PixelSegmenter
    >>> phantoms = make_breast_phantoms(12, image_size=32, random_state=0)
    >>> ann = PixelSegmenter(LogisticRegression(), features="basic", mask_size=32, random_state=0)
    >>> ann.fit(phantoms.images, phantoms.masks).predict(phantoms.images).shape
    (12, 32, 32, 1)
    """

    estimator: Any = None
    features: Literal["basic", "deep", "both"] = "both"
    _: KW_ONLY
    sigma_max: float = 16.0
    encoder: str | os.PathLike | EncoderSpec = "mobilenet_v2"
    weights: str | os.PathLike = "imagenet"
    layers: str | Sequence[str] = "multi"
    image_size: int | tuple[int, int] = 224
    mask_size: int | tuple[int, int] = 128
    n_pixels: int = 200
    resize: Resize = "stretch"
    threshold: float | Literal["auto"] = 0.5
    validation_fraction: float = 0.15
    postprocess: Cleaning = None
    output_size: Literal["input", "network"] = "input"
    random_state: Any = None

    _parameter_constraints: ClassVar[dict] = {
        "estimator": [HasMethods(["fit", "predict_proba"]), None],
        "features": [StrOptions({"basic", "deep", "both"})],
        "sigma_max": [Interval(Real, 1, 256, closed="both")],
        "encoder": [str, os.PathLike, EncoderSpec],
        "weights": [str, os.PathLike],
        "layers": [StrOptions({"multi"}), list, tuple],
        "image_size": [Interval(Integral, 1, None, closed="left"), tuple, list],
        "mask_size": [Interval(Integral, 1, None, closed="left"), tuple, list],
        "n_pixels": [Interval(Integral, 2, None, closed="left")],
        "resize": [StrOptions({"stretch", "pad"})],
        "threshold": [Interval(Real, 0, 1, closed="both"), StrOptions({"auto"})],
        "validation_fraction": [Interval(Real, 0, 1, closed="neither")],
        "postprocess": CLEANING_CONSTRAINT,
        "output_size": [StrOptions({"input", "network"})],
        "random_state": ["random_state"],
    }
    # `groups` reach the split for the threshold wherever metadata routing is on.
    __metadata_request__fit: ClassVar[dict] = {"groups": True}

    @all_or_nothing
    @_fit_context(prefer_skip_nested_validation=False)
    def fit(
        self,
        X: Any,
        y: Any,
        sample_weight: ArrayLike | None = None,
        groups: ArrayLike | None = None,
    ) -> "PixelSegmenter":
        """Train on a sample of the pixels of images and of their masks.

        Parameters
        ----------
        X : images
            See `hybridus.inputs.images.as_images`.
        y : masks
            See `hybridus.inputs.masks.as_masks`; nonzero is lesion.
        sample_weight : array-like of shape (n_samples,), optional
            Weights of images, which the classifier must know what to do with.
        groups : array-like of shape (n_samples,), optional
            Images of one group stay on one side of the split for ``threshold="auto"``.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            For images or masks of a wrong form, numbers or sizes that do not match, masks that are
            lesion everywhere or nowhere, and weights that the classifier does not take.
        MemoryError
            Where activations of 32 images exceed ``HYBRIDUS_ACTIVATION_GIB``.
        hybridus.exceptions.WeightsNotFoundError
            Where the weights of the encoder cannot be had.
        """
        images = Paired(validate_images(self, X, reset=True, image_shape=self.image_shape))
        if y is None:
            raise ValueError("requires y to be passed, but the target y is None")
        masks = as_masks(y, images, constant_ok=images.flattened)
        weights = _check_sample_weight(
            sample_weight, np.zeros(len(images)), dtype=np.float64, ensure_non_negative=True
        )
        names = group_names(groups, len(images))
        if sample_weight is not None and not has_fit_parameter(self._estimator, "sample_weight"):
            raise ValueError(
                f"{type(self._estimator).__name__} takes no sample_weight; choose another "
                "estimator or leave sample_weight out"
            )
        self._resolve()
        size = self.mask_size_
        targets = resized_targets(images, masks, size, self.resize_)
        random = check_random_state(self.random_state)
        seed = int(random.randint(np.iinfo(np.int32).max))
        train = counted = np.flatnonzero(weights)
        if self.threshold == "auto":
            has_lesion = np.array([targets[i].any() for i in counted], dtype=np.intp)
            given = None if names is None else names[counted]
            parts = split_validation(has_lesion, given, self.validation_fraction, seed)
            train, held_out = counted[parts[0]], counted[parts[1]]
        rng = np.random.default_rng(seed)
        places = [_balanced_places(targets[i].ravel(), self.n_pixels, rng) for i in train]
        rows = np.concatenate(list(self._features(subset(images, train), places)))
        labels = np.concatenate(
            [targets[i].ravel()[at] for i, at in zip(train, places, strict=True)]
        )
        if len(np.unique(labels)) < 2:
            raise ValueError(
                "the pixels of all masks belong to one class, so there is nothing to tell apart; "
                f"at {size[0]} x {size[1]} pixels they are all "
                + ("lesion" if labels[0] else "background")
            )
        self.n_pixel_features_ = rows.shape[1]
        self.estimator_ = self._fit_estimator(
            rows,
            labels,
            None
            if sample_weight is None
            else np.repeat(weights[train], [len(at) for at in places]),
            seed,
        )
        self.threshold_ = 0.5 if self.threshold == "auto" else float(self.threshold)
        if self.threshold == "auto":
            found = np.stack(list(self._probability_maps(subset(images, held_out))))
            self.threshold_ = best_threshold(targets[held_out], found[..., np.newaxis])
        images.check_rest()
        return self

    def preflight(self, X: Any) -> None:
        """Find out, without training, whether `fit` could begin; the segmenter stays as it is.

        Parameters
        ----------
        X : images
            See `hybridus.inputs.images.as_images`. Their form counts; files are not read.

        Raises
        ------
        ValueError
            For parameters, layers or sizes that cannot be, and images of a wrong form.
        WeightsNotFoundError
            Where the weights cannot be had.
        """
        draft = clone(self)
        draft._validate_params()
        validate_images(draft, X, reset=True, image_shape=self.image_shape)
        draft._resolve()
        if draft.frozen_ is not None:
            from hybridus.encoders.partition import divide

            divide(draft.frozen_.spec, draft.frozen_.image_size, draft.frozen_.taps, "none")

    @property
    def _looks_through_encoder(self) -> bool:
        return self.features != "basic"

    def _resolve(self) -> None:
        """Resolve sizes and what of an encoder is needed, before pixels are drawn."""
        if not is_classifier(self._estimator):
            raise ValueError(
                f"estimator={self.estimator!r}: expected a classifier of rows of numbers, such as "
                "LogisticRegression(); a segmenter stands for itself"
            )
        self.mask_size_ = resolve_mask_size(self.mask_size, "mask_size")
        self.resize_ = self.resize
        self.frozen_: FrozenEncoder | None = None if self.features == "basic" else self._freeze()
        # None where deep features alone are taken.
        self._sigma_max = None if self.features == "deep" else float(self.sigma_max)

    @property
    def _estimator(self) -> Any:
        if self.estimator is not None:
            return self.estimator
        # Pixels are many and noisy: a loss that falls by less than .001 has converged.
        return MLPClassifier((64,), tol=1e-3, n_iter_no_change=5)

    def _fit_estimator(
        self, rows: NDArray, labels: NDArray, weights: NDArray | None, seed: int
    ) -> Any:
        estimator = clone(self._estimator)
        if "random_state" in estimator.get_params() and estimator.random_state is None:
            estimator.set_params(random_state=seed)
        arguments = {} if weights is None else {"sample_weight": weights}
        scaler = StandardScaler()
        # Not by the pipeline, which hands weights on in another way where routing is enabled.
        estimator.fit(scaler.fit_transform(rows), labels, **arguments)
        return make_pipeline(scaler, estimator)

    def _probability_maps(self, images: Images) -> Iterator[NDArray[np.float32]]:
        """Yield the probabilities of each image, (h, w), at `mask_size`."""
        everywhere = [np.arange(math.prod(self.mask_size_))] * len(images)
        for rows in self._features(images, everywhere):
            lesion = self.estimator_.predict_proba(rows)[:, 1]
            yield lesion.reshape(self.mask_size_).astype(np.float32)

    def _features(self, images: Images, places: list[Places]) -> Iterator[NDArray[np.float32]]:
        """Yield the features of some pixels of each image, float32 (n_pixels, n_features)."""
        for start in range(0, len(images), TOGETHER):
            rows = range(start, min(len(images), start + TOGETHER))
            (part,) = decoded_parts(subset(images, rows))
            wanted = places[rows.start : rows.stop]
            kinds = []
            if self._sigma_max is not None:
                kinds.append(self._basic(part, wanted))
            if self.frozen_ is not None:
                kinds.append(self._deep(part, wanted))
            for parts in zip(*kinds, strict=True):
                yield np.concatenate(parts, axis=1)

    def _basic(self, images: Images, places: list[Places]) -> Iterator[NDArray[np.float32]]:
        from skimage.feature import multiscale_basic_features

        def compute(i: int) -> NDArray[np.float32]:
            image = to_grey(resize_image(images[i], self.mask_size_, resize=self.resize_))
            features = multiscale_basic_features(
                image.astype(np.float32) / 255, sigma_min=1, sigma_max=self._sigma_max, workers=1
            )
            return features.reshape(-1, features.shape[-1])[places[i]].astype(np.float32)

        return map_ahead(compute, range(len(images)), n_threads=n_threads())

    def _deep(self, images: Images, places: list[Places]) -> Iterator[NDArray[np.float32]]:
        """Hypercolumns: each layer's map, interpolated at the places."""
        from hybridus.encoders.partition import divide

        frozen = cast(FrozenEncoder, self.frozen_)
        partition = divide(frozen.spec, frozen.image_size, frozen.taps, "none")
        sizes = [math.prod(shape) for shape in partition.shapes]
        batches = open_batches(images, frozen, partition, dtype="float16")
        if batches is None:
            raise MemoryError(
                f"no room for the activations of {len(images)} images; raise "
                "HYBRIDUS_ACTIVATION_GIB, or take fewer layers or a smaller image_size"
            )
        for i, at in enumerate(places):
            values = batches.plain([i])[0].astype(np.float32)
            maps = np.split(values, np.cumsum(sizes)[:-1])
            yield np.concatenate(
                [
                    _interpolate(of_layer.reshape(shape), self.mask_size_, at)
                    for of_layer, shape in zip(maps, partition.shapes, strict=True)
                ],
                axis=1,
            )

    def _freeze(self) -> FrozenEncoder:
        frozen = freeze(
            self.encoder,
            weights=self.weights,
            layers=self.layers,
            pooling="flatten",
            image_size=self.image_size,
            resize=self.resize,
            engine=choose_engine("auto", "float32"),
            precision="float32",
        )
        check_aspect(frozen.image_size, self.mask_size_, self.resize)
        return frozen


def _balanced_places(mask: NDArray, n_pixels: int, rng: np.random.Generator) -> Places:
    """Draw pixels of an image, half of them lesion, or as many as there are."""
    lesion, background = np.flatnonzero(mask), np.flatnonzero(mask == 0)
    n_lesion = min(len(lesion), max(n_pixels // 2, n_pixels - len(background)))
    n_background = min(len(background), n_pixels - n_lesion)
    return np.concatenate(
        [
            rng.choice(lesion, n_lesion, replace=False),
            rng.choice(background, n_background, replace=False),
        ]
    )


def _interpolate(
    values: NDArray[np.float32], size: tuple[int, int], places: Places
) -> NDArray[np.float32]:
    """Bilinear values of a map (h, w, channels) at pixels of a grid of another size."""
    corners, shares = [], []
    for axis, at in enumerate(np.unravel_index(places, size)):
        position = (at + 0.5) * values.shape[axis] / size[axis] - 0.5
        position = position.clip(0, values.shape[axis] - 1)
        low = np.floor(position).astype(np.intp)
        corners.append((low, np.minimum(low + 1, values.shape[axis] - 1)))
        shares.append((position - low).astype(np.float32)[:, np.newaxis])
    (top, bottom), (left, right) = corners
    down, across = shares
    upper = values[top, left] * (1 - across) + values[top, right] * across
    lower = values[bottom, left] * (1 - across) + values[bottom, right] * across
    return upper * (1 - down) + lower * down
