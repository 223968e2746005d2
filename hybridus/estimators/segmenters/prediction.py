"""Answers of segmenters: probabilities at the size of the image, then masks, then a score."""

import warnings
from abc import abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from numbers import Real
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import get_tags
from sklearn.utils.validation import check_is_fitted

from hybridus._environment import n_threads
from hybridus._sklearn import StrOptions, _check_sample_weight
from hybridus.inputs.images import Images, tag_images, validate_images
from hybridus.inputs.masks import Masks, as_masks, check_pair, resize_mask, restore_mask
from hybridus.inputs.resizing import Resize, map_ahead, resize_image
from hybridus.inputs.sizes import resolve_size
from hybridus.metrics import dice
from hybridus.store.activations import scratch_array
from hybridus.training.batches import decoded_parts


@dataclass(frozen=True)
class Postprocessing:
    """What is done to a predicted mask.

    Holes are filled first, so that areas count what a lesion encloses. Components are what touches
    at sides or corners.

    Parameters
    ----------
    largest : bool, default=False
        Keep the largest connected component alone: right where an image shows one lesion at most.
    fill_holes : bool, default=False
        Count what a lesion encloses as lesion.
    min_area : float, default=0.0
        Components smaller than this share of the image are dropped; 0.002 is 33 pixels of 128x128.

    Examples
    --------
    >>> import numpy as np
    >>> from hybridus.estimators.segmenters import Postprocessing
    >>> mask = np.zeros((6, 6), dtype=bool)
    >>> mask[:3, :3], mask[1, 1], mask[5, 5] = True, False, True
    >>> int(Postprocessing(largest=True, fill_holes=True)(mask).sum())
    9
    """

    largest: bool = False
    fill_holes: bool = False
    min_area: float = 0.0

    def __post_init__(self) -> None:
        for name in ("largest", "fill_holes"):
            if not isinstance(getattr(self, name), bool | np.bool_):
                raise ValueError(f"{name}={getattr(self, name)!r}: expected True or False")
        if not (isinstance(self.min_area, Real) and 0 <= self.min_area < 1):
            raise ValueError(
                f"min_area={self.min_area!r}: expected a share of the image, 0 or more and below 1"
            )

    def __call__(self, mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Return the cleaned mask, bool (H, W)."""
        from scipy import ndimage

        if self.fill_holes:
            mask = ndimage.binary_fill_holes(mask)
        if not (self.largest or self.min_area):
            return mask
        labels, n_components = ndimage.label(mask, structure=np.ones((3, 3)))
        areas = np.bincount(labels.ravel(), minlength=n_components + 1)
        areas[0] = 0
        kept = areas >= max(1, self.min_area * mask.size)
        if self.largest and n_components:
            kept &= np.arange(len(areas)) == areas.argmax()
        return kept[labels]


# What the masks of the README's best rows were cleaned by: holes filled, specks dropped.
CLEAN = Postprocessing(fill_holes=True, min_area=0.002)
Cleaning = Postprocessing | Literal["clean"] | None
CLEANING_CONSTRAINT = [Postprocessing, StrOptions({"clean"}), None]


class SegmenterMixin:
    """Answers of a segmenter that gives probabilities at the size of its network.

    A subclass has `_probability_maps`, the parameters ``image_shape``, ``value_range``,
    ``output_size`` and ``postprocess``, and the fitted `mask_size_`, `resize_` and `threshold_`.
    """

    image_shape: tuple[int, ...] | None
    value_range: tuple[float, float] | None
    output_size: Literal["input", "network"]
    postprocess: Cleaning
    mask_size_: tuple[int, int]
    resize_: Resize  # as it was when the segmenter was fitted
    threshold_: float

    def predict_proba(self, X: Any) -> NDArray:
        """Probability of lesion for each pixel.

        Parameters
        ----------
        X : images
            See `hybridus.inputs.images.as_images`.

        Returns
        -------
        array of shape (n_samples, H, W, 1), float32
            At the size of the images, or of the network with ``output_size="network"``. Images that
            come one by one (paths, or the items of a list or an object array) may differ in size:
            for them a 1-D object array of arrays (H, W, 1), even where their sizes are equal, so
            that the answers of all folds have one form.
        """
        images = self._images(X)
        return self._joined(X, images, self._restored(images))

    def predict(self, X: Any) -> NDArray:
        """Lesion masks: 1 where the probability is above `threshold_`, cleaned by `postprocess`.

        Parameters
        ----------
        X : images
            See `hybridus.inputs.images.as_images`.

        Returns
        -------
        array of shape (n_samples, H, W, 1), uint8
            Of the form that `predict_proba` gives.
        """
        images = self._images(X)
        masks = (
            self._cleaned(probabilities[..., 0] > self.threshold_)[..., np.newaxis]
            for probabilities in self._restored(images)
        )
        return self._joined(X, images, masks)

    def score(self, X: Any, y: Any, sample_weight: ArrayLike | None = None) -> float:
        """Mean Dice coefficient of the predicted masks.

        Parameters
        ----------
        X : images
        y : masks
            See `hybridus.inputs.masks.as_masks`.
        sample_weight : array-like of shape (n_samples,), optional

        Returns
        -------
        float
            Between 0 and 1. An image without lesion counts 1 where none is predicted, else 0.
        """
        images = self._images(X)
        masks = as_masks(y, images, constant_ok=images.flattened)
        if self.output_size == "network":
            size = self.mask_size_
            if images.paths is not None or masks.paths is not None:
                for i, (image, mask) in enumerate(zip(images, masks, strict=True)):
                    check_pair(i, image, mask)
            masks = as_masks([resize_mask(mask, size, resize=self.resize_) for mask in masks])
        scores = np.asarray(dice(masks, self.predict(X), empty="one", average=None))
        return float(np.average(scores, weights=_check_sample_weight(sample_weight, scores)))

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()  # type: ignore[misc]
        tags.estimator_type = "segmenter"
        tag_images(self, tags)
        tags.target_tags.required = True
        return tags

    def _restored(self, images: Images) -> Iterator[NDArray[np.float32]]:
        for part in decoded_parts(images):
            for i, probabilities in enumerate(self._probability_maps(part)):
                if self.output_size == "input":
                    height, width = (part.shape or part[i].shape)[:2]
                    size = (height, width)
                    probabilities = restore_mask(probabilities, size, resize=self.resize_)
                yield probabilities[..., np.newaxis]

    def _images(self, X: Any) -> Images:
        check_is_fitted(self, "mask_size_")
        return validate_images(self, X, reset=False, image_shape=self.image_shape)

    def _joined(self, X: Any, images: Images, parts: Iterator[NDArray]) -> NDArray:
        """Join what is said of each image, in a form that depends on that of X alone."""
        if self.output_size == "network" or not _come_one_by_one(X, images):
            first = next(parts)
            joined = np.empty((len(images), *first.shape), first.dtype)  # once: they may be many
            joined[0] = first
            for i, part in enumerate(parts, start=1):
                joined[i] = part
            return joined
        return _boxed(parts)

    def _cleaned(self, mask: NDArray[np.bool_]) -> NDArray[np.uint8]:
        cleaning = CLEAN if self.postprocess == "clean" else self.postprocess
        cleaned = mask if cleaning is None else cleaning(mask)
        return cleaned.astype(np.uint8)

    @abstractmethod
    def _probability_maps(self, images: Images) -> Iterator[NDArray[np.float32]]:
        """Yield the probabilities of each image, (h, w), at the size of the network."""


def is_segmenter(estimator: Any) -> bool:
    """Whether an estimator, or what a Pipeline or a search ends in, gives masks.

    Examples
    --------
    >>> from hybridus.estimators.segmenters import UNetSegmenter, is_segmenter
    >>> from sklearn.svm import SVC
    >>> is_segmenter(UNetSegmenter()), is_segmenter(SVC())
    (True, False)
    """
    return get_tags(estimator).estimator_type == "segmenter"


def best_threshold(truth: NDArray, probabilities: NDArray[np.float32]) -> float:
    """Threshold with the highest mean Dice among 0.1, 0.15, ..., 0.9; nearest to 0.5 of equals.

    Parameters
    ----------
    truth : array of shape (n, h, w, 1), 0 or 1
    probabilities : array of shape (n, h, w, 1)
    """
    candidates = sorted(np.linspace(0.1, 0.9, 17).round(2), key=lambda level: abs(level - 0.5))
    scores = [float(np.mean(dice(truth, probabilities > level))) for level in candidates]
    return float(candidates[int(np.argmax(scores))])


def mirrored(images: Images, size: tuple[int, int], resize: Resize) -> Images:
    """Return the images as a network of `size` sees them, flipped from left to right.

    They are resized first, since margins of "pad" may be a pixel wider on one side.
    """

    def read(i: int) -> NDArray:
        return np.ascontiguousarray(resize_image(images[i], size, resize=resize)[:, ::-1])

    return Images(read, len(images))


def same_margins(size: tuple[int, int], other: tuple[int, int], resize: Resize) -> bool:
    """Whether an image has the same share of margin at both sizes."""
    return resize == "stretch" or size[0] * other[1] == size[1] * other[0]


def check_aspect(image_size: tuple[int, int], mask_size: tuple[int, int], resize: Resize) -> None:
    """Raise where "pad" would give images and their masks different margins.

    Raises
    ------
    ValueError
    """
    if not same_margins(image_size, mask_size, resize):
        raise ValueError(
            f"image_size={image_size} and mask_size={mask_size}: with resize='pad' both need one "
            "ratio of height to width, or masks would not lie where their lesions do"
        )


def _come_one_by_one(X: Any, images: Images) -> bool:
    """Whether images are paths or items of a list, which may differ in size."""
    if hasattr(X, "ndim"):
        return X.ndim == 1 or images.paths is not None  # a DataFrame of one column of paths
    nested = isinstance(X, list | tuple) and isinstance(X[0], list | tuple)
    return not (images.flattened or nested)


def _boxed(parts: Iterable[NDArray]) -> NDArray[np.object_]:
    parts = list(parts)
    boxed = np.empty(len(parts), dtype=object)
    for i, part in enumerate(parts):
        boxed[i] = part
    return boxed


def resolve_mask_size(given: Any, name: str) -> tuple[int, int]:
    """Read a number of pixels, or (height, width), of the masks that a segmenter gives.

    Raises
    ------
    ValueError
        For anything else, and for a single pixel, which shows no outline.
    """
    size = resolve_size(given, name)
    if min(size) < 2:
        raise ValueError(f"{name}={given!r}: expected masks of 2 pixels or more a side")
    return size


class Paired(Images):
    """Images that are checked, when they are read, to have the size of their masks."""

    def __init__(self, images: Images) -> None:
        self.mask_sizes: dict[int, tuple[int, ...]] = {}
        self._unchecked = set(range(len(images)))

        def read(i: int) -> NDArray:
            image = images[i]
            if i in self.mask_sizes:
                check_pair(i, image, np.broadcast_to(False, self.mask_sizes[i]))
                self._unchecked.discard(i)
            return image

        super().__init__(
            read, len(images), shape=images.shape, paths=images.paths, flattened=images.flattened
        )

    def check_rest(self) -> None:
        """Read and check those images that nobody has needed."""
        for i in sorted(self._unchecked & set(self.mask_sizes)):
            _ = self[i]


def resized_targets(
    images: Paired, masks: Masks, size: tuple[int, int], resize: Resize
) -> NDArray[np.uint8]:
    """Bring masks to the size of a network: 0 or 1, of shape (n, h, w, 1).

    Where images or masks stand in files, sizes of the masks are noted, for images to be checked.

    Warns
    -----
    UserWarning
        Where no mask has a lesion.
    """
    targets = scratch_array((len(masks), *size, 1), np.uint8)

    def read(i: int) -> NDArray[np.bool_]:
        mask = masks[i]
        if images.paths is not None or masks.sizes[i] is None:
            images.mask_sizes[i] = mask.shape
        return resize_mask(mask, size, resize=resize)

    for i, mask in enumerate(map_ahead(read, range(len(masks)), n_threads=n_threads())):
        targets[i, ..., 0] = mask
    if not targets.any():
        warnings.warn(
            f"none of the {len(masks)} masks has a lesion at {size[0]} x {size[1]} pixels: the "
            "segmenter learns to find nothing",
            stacklevel=5,
        )
    return targets
