"""`LesionFeatures`: from images to features of the lesion that a segmenter finds in them."""

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from copy import deepcopy
from dataclasses import KW_ONLY
from numbers import Integral, Real
from typing import Any, ClassVar

import joblib
import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, TransformerMixin, clone
from sklearn.frozen import FrozenEstimator
from sklearn.utils import get_tags
from sklearn.utils.validation import check_is_fitted

from hybridus._environment import n_threads
from hybridus._sklearn import (
    DocsLink,
    HasMethods,
    Interval,
    _check_feature_names_in,
    _fit_context,
    _num_samples,
    _safe_indexing,
)
from hybridus.estimators.fitting import all_or_nothing
from hybridus.estimators.lesion.measurements import measure, measurement_names
from hybridus.estimators.lesion.region import Region, cut, find_region, square_around
from hybridus.estimators.parameters import with_parameters
from hybridus.estimators.preflight import preflight
from hybridus.inputs.groups import WholeGroupsKFold
from hybridus.inputs.images import Images, content_key, tag_images, validate_images
from hybridus.inputs.labels import check_any_labels
from hybridus.inputs.masks import as_masks
from hybridus.inputs.resizing import map_ahead
from hybridus.store.rows import FeatureStore, store_of
from hybridus.training.batches import TOGETHER, subset

# Raised whenever a change of ours changes regions or what is measured of them.
_VERSION = 1
_LEVEL = 0.5  # of all maps, once they are levelled


@with_parameters
class LesionFeatures(DocsLink, TransformerMixin, BaseEstimator):
    """Turn images into features of the lesion that a segmenter finds in them.

    Two kinds of features: measurements of the lesion by name (shape, margin, echo inside, at the
    rim and behind it, texture), which depend little on gain, resolution and speckle; and features
    of a frozen network from square crops around it. Use it alone or beside whole-image features:
    ``make_hybrid_classifier(lesion=segmenter)``.

    The segmenter is trained in `fit`, on the images that `fit` sees and on no others. Images that
    it was trained on are never judged by the mask that it gives them then, which would be better
    than that of any new image: their masks come from segmenters trained on the other parts of the
    training images, and are remembered. So ``fit(X).transform(X)`` is honest, and the head behind
    it learns from masks as good as those that it will meet.

    Parameters
    ----------
    segmenter : segmenter
        Of this package, such as `EncoderUNetSegmenter`; clones of it are trained on the masks that
        `fit` is given. A fitted one in a `sklearn.frozen.FrozenEstimator` is used as it is, and
        needs no masks: it must not have been trained on images that models are judged by.
    extractor : transformer or None, default=None
        What sees the crops, a `DeepFeatureExtractor` or a `FeatureUnion` of several; a clone is
        fitted. None leaves measurements alone.
    contexts : sequence of float, default=(1.3, 2.5)
        Sides of the crops, in longer sides of the lesion's bounding box. What lies beyond the
        image is its mirror image.
    mirrored : bool, default=True
        Average the features of each crop and of its mirror image.
    stretched : bool, default=True
        Bring the 1st and 99th percentile of each crop to black and white, so that gain and dynamic
        range of a scanner matter less.
    measurements : bool, default=True
        Whether measurements are among the features.
    n_splits : int, default=3
        Parts of the training images, for their own masks; the segmenter is trained once more often
        than this.
    cache : bool, path or FeatureStore, default=True
        Where masks and measurements are kept, by image and segmenter; see `DeepFeatureExtractor`,
        which keeps the rows of crops by itself.

    Attributes
    ----------
    segmenter_ : fitted segmenter
    extractor_ : fitted transformer or None
    trained_keys_ : array of shape (n_trained, 16), uint8
        Digests of the images that the segmenter was trained on.
    trained_maps_ : array of shape (n_trained, h, w), uint8
        Their maps by segmenters that had not seen them, times 255.
    n_features_in_ : int
        Values in one image, where all images had one shape.

    Notes
    -----
    Probabilities are levelled by the threshold of the segmenter that gave them, which becomes 0.5:
    segmenters of the parts may be more or less sure than that of the whole.

    Where no pixel reaches the threshold, the region is where the probability is highest, above half
    of its largest value, and ``found_Lesion`` is 0; where the map is flat, an ellipse in the middle
    of the image. No feature is ever missing.

    Masks reach `fit` by scikit-learn's metadata routing: they are asked for by default, with
    ``groups``. `hybridus.compare` takes ``masks=``.

    References
    ----------
    van Griethuysen et al. 2017, Cancer Research 77:e104-e107 (pyradiomics), for names and
    definitions of measurements.

    Examples
    --------
    >>> from sklearn.linear_model import LogisticRegression
    >>> from hybridus import LesionFeatures, make_breast_phantoms
    >>> from hybridus.estimators.segmenters import PixelSegmenter
    >>> phantoms = make_breast_phantoms(12, image_size=48, random_state=0)
    >>> pixels = PixelSegmenter(LogisticRegression(), "basic", mask_size=32, random_state=0)
    >>> lesions = LesionFeatures(pixels, n_splits=2)
    >>> rows = lesions.fit(phantoms.images, masks=phantoms.masks).transform(phantoms.images)
    >>> rows.shape, lesions.get_feature_names_out()[6]
    ((12, 74), 'shape2D_Sphericity')
    """

    segmenter: Any
    extractor: Any = None
    _: KW_ONLY
    contexts: Sequence[float] = (1.3, 2.5)
    mirrored: bool = True
    stretched: bool = True
    measurements: bool = True
    n_splits: int = 3
    cache: bool | str | os.PathLike | FeatureStore = True

    _parameter_constraints: ClassVar[dict] = {
        "segmenter": [HasMethods(["fit", "predict"])],
        "extractor": [HasMethods(["fit", "transform"]), None],
        "contexts": [list, tuple],
        "mirrored": ["boolean"],
        "stretched": ["boolean"],
        "measurements": ["boolean"],
        "n_splits": [Interval(Integral, 2, None, closed="left")],
        "cache": ["boolean", str, os.PathLike, FeatureStore],
    }

    # Masks and groups reach `fit` wherever metadata routing is on.
    __metadata_request__fit: ClassVar[dict] = {"masks": True, "groups": True}

    @property
    def image_shape(self) -> tuple[int, ...] | None:
        """Shape of images that are given as flattened rows: that of the segmenter."""
        return getattr(_inner(self.segmenter), "image_shape", None)

    @property
    def value_range(self) -> tuple[float, float] | None:
        """The values of black and white in the images: those of the segmenter."""
        return getattr(_inner(self.segmenter), "value_range", None)

    @all_or_nothing
    @_fit_context(prefer_skip_nested_validation=False)
    def fit(
        self, X: Any, y: Any = None, masks: Any = None, groups: ArrayLike | None = None
    ) -> "LesionFeatures":
        """Train the segmenter, and find the lesions of the training images out of fold.

        Parameters
        ----------
        X : images
            See `hybridus.inputs.images.as_images`.
        y : array-like of shape (n_samples,), default=None
            Classes, which the parts hold in about equal shares; not used otherwise.
        masks : n_samples masks
            See `hybridus.inputs.masks.as_masks`. Not used with a segmenter that is frozen.
        groups : array-like of shape (n_samples,), default=None
            Images of one group (duplicates, one patient) stay in one part.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            Where masks are missing, for other segmenters than ours, contexts that are no sizes,
            nothing to compute; and what segmenter and extractor raise.
        """
        images = validate_images(self, X, reset=True, image_shape=self.image_shape)
        check_any_labels(y)
        self._check()
        if isinstance(self.segmenter, FrozenEstimator):
            self.segmenter_ = self.segmenter.estimator
            check_is_fitted(self.segmenter_, "mask_size_")
            maps = np.empty((0, *self.segmenter_.mask_size_), np.uint8)
            self.trained_keys_ = np.empty((0, 16), np.uint8)
        else:
            if masks is None:
                raise ValueError(
                    "LesionFeatures trains its segmenter and needs masks: fit(X, y, masks=masks), "
                    "compare(..., masks=masks), or, in scikit-learn's own tools, metadata routing "
                    "(sklearn.set_config(enable_metadata_routing=True)). A fitted segmenter needs "
                    "none: LesionFeatures(FrozenEstimator(segmenter))"
                )
            maps = self._out_of_fold(X, y, masks, groups, images)
            self.segmenter_ = clone(self.segmenter).fit(X, masks, groups=groups)
            keys = [content_key(image) for image in images]
            self.trained_keys_ = np.frombuffer(b"".join(keys), np.uint8).reshape(len(keys), 16)
        self.trained_maps_ = maps
        self.extractor_ = None
        if self.extractor is not None:
            blank = Images(lambda i: np.zeros((32, 32), np.uint8), 1, shape=(32, 32))
            self.extractor_ = clone(self.extractor).fit(blank)
        return self

    def preflight(self, X: Any) -> None:
        """Find out, without training, whether `fit` could begin.

        Parameters
        ----------
        X : images
            See `hybridus.inputs.images.as_images`. Files are not read.
        """
        self._validate_params()
        self._check()
        for part in (_inner(self.segmenter), self.extractor):
            if part is not None:
                preflight(part, X)

    def transform(self, X: Any) -> NDArray[np.float32]:
        """Compute the features of the lesions in images.

        Parameters
        ----------
        X : images
            See `hybridus.inputs.images.as_images`.

        Returns
        -------
        array of shape (n_images, n_features), float32
            Measurements, then the features of the crops, from the closest on.
        """
        return np.concatenate([self._rows(*part) for part in self._parts(X)])

    def get_feature_names_out(self, input_features: Any = None) -> NDArray[np.object_]:
        """Names of the features: those of measurements, then of crops, with their context.

        Parameters
        ----------
        input_features : array of str, optional
            Checked against the names and the number of columns that `fit` saw, and not used.

        Returns
        -------
        array of str, shape (n_features,)
        """
        check_is_fitted(self, "segmenter_")
        _check_feature_names_in(self, input_features, generate_names=False)
        names = list(measurement_names()) if self.measurements else []
        if self.extractor_ is not None:
            deep = self.extractor_.get_feature_names_out()
            names += [f"crop{context:g}_{name}" for context in self.contexts for name in deep]
        return np.asarray(names, dtype=object)

    def regions(self, X: Any) -> Iterator[Region]:
        """Yield the region of each image that features are taken of.

        Parameters
        ----------
        X : images
            See `hybridus.inputs.images.as_images`.
        """
        for _, _, regions in self._parts(X):
            yield from regions

    def _check(self) -> None:
        segmenter = _inner(self.segmenter)
        if get_tags(segmenter).estimator_type != "segmenter" or not hasattr(
            segmenter, "_probability_maps"
        ):
            raise ValueError(
                f"segmenter={segmenter!r:.80}: expected a segmenter of hybridus, such as "
                "EncoderUNetSegmenter()"
            )
        if not self.contexts or not all(
            isinstance(context, Real) and 0.5 <= context <= 100 for context in self.contexts
        ):
            raise ValueError(
                f"contexts={self.contexts!r}: expected one or more sides of crops, in sides of the "
                "lesion's box, 0.5 to 100"
            )
        if self.extractor is None and not self.measurements:
            raise ValueError(
                "measurements=False and extractor=None leave no feature: give an extractor, such "
                "as DeepFeatureExtractor(), or keep measurements"
            )

    def _out_of_fold(
        self, X: Any, y: Any, masks: Any, groups: Any, images: Images
    ) -> NDArray[np.uint8]:
        """Probabilities of lesion in each image by a segmenter that saw none of its group."""
        if y is None:
            y = [int(mask.any()) for mask in as_masks(masks, images)]
        strata = np.unique(np.asarray(y, dtype=object).astype(str), return_inverse=True)[1]
        maps = None
        for train, test in WholeGroupsKFold(self.n_splits).split(X, strata, groups):
            part = None if groups is None else _safe_indexing(groups, train)
            segmenter = clone(self.segmenter).fit(
                _safe_indexing(X, train), _safe_indexing(masks, train), groups=part
            )
            if maps is None:
                maps = np.empty((_num_samples(X), *segmenter.mask_size_), np.uint8)
            maps[test] = list(_levelled(segmenter, subset(images, test)))
        assert maps is not None
        return maps

    def _parts(self, X: Any) -> Iterator[tuple[list[NDArray], list[NDArray], list[Region]]]:
        """Yield a few images at a time, decoded, with their maps and regions."""
        check_is_fitted(self, "segmenter_")
        images = validate_images(self, X, reset=False, image_shape=self.image_shape)
        for start in range(0, len(images), TOGETHER):
            rows = range(start, min(start + TOGETHER, len(images)))
            held = list(map_ahead(images.__getitem__, rows, n_threads=n_threads()))
            maps = self._maps(held)
            regions = [find_region(*pair, _LEVEL) for pair in zip(held, maps, strict=True)]
            yield held, maps, regions

    def _rows(
        self, held: list[NDArray], maps: list[NDArray], regions: list[Region]
    ) -> NDArray[np.float32]:
        columns = []
        if self.measurements:
            columns.append(self._measured(held, maps, regions))
        if self.extractor_ is not None:
            columns += [self._seen(held, regions, context) for context in self.contexts]
        return np.concatenate(columns, axis=1)

    def _maps(self, held: Sequence[NDArray]) -> list[NDArray[np.float32]]:
        """Probabilities of lesion in images: those remembered, those kept, and new ones."""
        keys = [content_key(image) for image in held]
        known = {key.tobytes(): place for place, key in enumerate(self.trained_keys_)}
        places = [known.get(key, -1) for key in keys]
        new = [i for i, place in enumerate(places) if place < 0]
        size = self.segmenter_.mask_size_
        fresh = self._kept(
            # Of a copy: joblib tells apart estimators that share texts and those that do not.
            "map " + joblib.hash(deepcopy(self.segmenter_)),
            [keys[i] for i in new],
            lambda chosen: self._predicted([held[new[k]] for k in chosen]),
        )
        found = {i: row.reshape(size) for i, row in zip(new, fresh, strict=True)}
        return [
            found[i] if place < 0 else self.trained_maps_[place] / np.float32(255)
            for i, place in enumerate(places)
        ]

    def _predicted(self, held: Sequence[NDArray]) -> NDArray[np.float32]:
        found = _levelled(self.segmenter_, Images(held.__getitem__, len(held)))
        return np.stack([one.ravel() / np.float32(255) for one in found])

    def _measured(
        self, held: Sequence[NDArray], maps: Sequence[NDArray], regions: Sequence[Region]
    ) -> NDArray[np.float32]:
        def rows(chosen: Sequence[int]) -> NDArray[np.float32]:
            measured = map_ahead(measure, [regions[i] for i in chosen], n_threads=n_threads())
            return np.array([list(one.values()) for one in measured], np.float32)

        about = f"measurements {_VERSION}"
        keys = [
            hashlib.sha256(content_key(image) + content_key(found)).digest()[:16]
            for image, found in zip(held, maps, strict=True)
        ]
        return self._kept(about, keys, rows)

    def _kept(self, about: str, keys: Sequence[bytes], compute: Any) -> NDArray[np.float32]:
        if not keys:
            return np.empty((0, 0), np.float32)
        store = store_of(self.cache)
        if store is None:
            return compute(range(len(keys)))
        told = hashlib.sha256(json.dumps(["lesion", _VERSION, about]).encode())
        return store.rows(told.hexdigest(), keys, compute)

    def _seen(
        self, held: Sequence[NDArray], regions: Sequence[Region], context: float
    ) -> NDArray[np.float32]:
        """Features of crops, which the extractor keeps by their content."""
        views = (False, True) if self.mirrored else (False,)
        seen = []
        for mirrored in views:
            crops = [
                self.crop(image, region, context, mirrored=mirrored)
                for image, region in zip(held, regions, strict=True)
            ]
            assert self.extractor_ is not None
            seen.append(self.extractor_.transform(Images(crops.__getitem__, len(crops))))
        return np.asarray(np.mean(seen, axis=0), np.float32)

    def crop(
        self, image: NDArray, region: Region, context: float, *, mirrored: bool = False
    ) -> NDArray:
        """Cut what the extractor sees of a region.

        Parameters
        ----------
        image : array of shape (H, W) or (H, W, 3)
            Canonical, 0..255.
        region : Region
            One of those that `regions` yields.
        context : float
            Side of the crop, in longer sides of the region's box.
        mirrored : bool, default=False

        Returns
        -------
        array of shape (side, side) or (side, side, 3), of the type of the image
        """
        height, width = image.shape[:2]
        crop = cut(image, *square_around(region, context, (height, width)))
        crop = _stretched(crop) if self.stretched else crop
        return np.ascontiguousarray(crop[:, ::-1]) if mirrored else crop

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tag_images(self, tags)
        tags.transformer_tags.preserves_dtype = ["float32"]
        return tags


def _inner(segmenter: Any) -> Any:
    return segmenter.estimator if isinstance(segmenter, FrozenEstimator) else segmenter


def _levelled(segmenter: Any, images: Images) -> Iterator[NDArray[np.uint8]]:
    """Yield maps in which the segmenter's threshold is half of 255, linear below and above it."""
    threshold = float(segmenter.threshold_)
    for found in segmenter._probability_maps(images):
        likely = np.interp(found, [0, threshold, 1], [0, _LEVEL, 1])
        yield np.floor(likely * 255).astype(np.uint8)


def _stretched(crop: NDArray) -> NDArray:
    """Bring the 1st and 99th percentile to 0 and 255, in the type that it had."""
    low, high = np.percentile(crop, [1, 99])
    if high - low < 1:
        return crop
    wide = np.clip((crop.astype(np.float32) - low) * np.float32(255 / (high - low)), 0, 255)
    return np.rint(wide).astype(np.uint8) if crop.dtype == np.uint8 else wide
