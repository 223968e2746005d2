"""What segmenters that train a network share: targets, threshold, flips at prediction."""

import json
from abc import abstractmethod
from collections.abc import Hashable, Iterator
from functools import partial
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hybridus._sklearn import Interval, StrOptions, _check_sample_weight, _fit_context
from hybridus.encoders.weights import draw_variables
from hybridus.estimators.fitting import all_or_nothing
from hybridus.estimators.network import NetworkEstimator, plain_batches
from hybridus.estimators.segmenters.answers import (
    Postprocessing,
    SegmenterMixin,
    best_threshold,
    mirrored,
    resized_targets,
    resolve_mask_size,
)
from hybridus.inputs.augmentation import Augmentation
from hybridus.inputs.images import Images, validate_images
from hybridus.inputs.masks import as_masks
from hybridus.training.batches import PREDICTED_TOGETHER, Batches, PixelBatches, subset

POLICIES = {"float32": "float32", "bfloat16": "mixed_bfloat16"}

COMMON_CONSTRAINTS: dict[str, list[Any]] = {
    "loss": [StrOptions({"binary_crossentropy", "dice", "bce_dice", "focal", "tversky"})],
    "augmentation": [str, Augmentation, None],
    "image_shape": [None, tuple, list],
    "resize": [StrOptions({"stretch", "pad"})],
    "optimizer": [str, dict],
    "learning_rate": [Interval(Real, 0, None, closed="neither")],
    "lr_schedule": [StrOptions({"plateau", "cosine"}), None],
    "early_stopping": ["boolean"],
    "validation_fraction": [Interval(Real, 0, 1, closed="neither"), None],
    "patience": [Interval(Integral, 1, None, closed="left")],
    "batch_size": [Interval(Integral, 1, None, closed="left")],
    "max_epochs": [Interval(Integral, 1, None, closed="left")],
    "threshold": [Interval(Real, 0, 1, closed="both"), StrOptions({"auto"})],
    "postprocess": [Postprocessing, None],
    "tta": ["boolean"],
    "output_size": [StrOptions({"input", "network"})],
    "precision": [StrOptions(set(POLICIES))],
    "random_state": ["random_state"],
    "verbose": ["verbose"],
}


class NetworkSegmenter(SegmenterMixin, NetworkEstimator):
    """Base of segmenters that train a network."""

    _parameter_constraints: ClassVar[dict] = COMMON_CONSTRAINTS

    @all_or_nothing
    @_fit_context(prefer_skip_nested_validation=True)
    def fit(
        self,
        X: Any,
        y: Any,
        sample_weight: ArrayLike | None = None,
        groups: ArrayLike | None = None,
    ) -> "NetworkSegmenter":
        """Train on images and the masks of their lesions.

        Parameters
        ----------
        X : images
            See `hybridus.inputs.images.as_images`.
        y : masks
            See `hybridus.inputs.masks.as_masks`; nonzero is lesion.
        sample_weight : array-like of shape (n_samples,), optional
            Weights of images; those of weight 0 are left out.
        groups : array-like of shape (n_samples,), optional
            Images of one group (duplicates, one patient) stay on one side of the validation split.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            For images or masks of a wrong form, numbers or sizes that do not match, labels in
            place of masks, or nothing to hold out.
        hybridus.exceptions.WeightsNotFoundError
            Where the weights of an encoder cannot be had.
        hybridus.exceptions.DivergedError
            Where the loss or a weight becomes NaN or infinite.

        Warns
        -----
        UserWarning
            Where no mask has a lesion, and where Ctrl-C ended training early.
        """
        from hybridus.training.loop import HeldOut, Samples, lease

        images = validate_images(self, X, reset=True, image_shape=self.image_shape)
        if y is None:
            raise ValueError("requires y to be passed, but the target y is None")
        masks = as_masks(y, images, constant_ok=images.flattened)
        weights = _check_sample_weight(
            sample_weight, np.zeros(len(images)), dtype=np.float64, ensure_non_negative=True
        )
        self.resize_ = self.resize
        self._settle()
        targets = resized_targets(images, masks, self.mask_size_, self.resize_)
        seed = self._seed()
        counted = np.flatnonzero(weights > 0)
        has_lesion = np.array([mask.any() for mask in targets], dtype=np.intp)
        train, held_out = self._hold_out(has_lesion, counted, groups, seed)
        scaled = (weights / weights[train].mean()).astype(np.float32)
        partition, batches, held_batches = self._open_parts(images, train, held_out)

        def draw(rows: NDArray[np.intp], rng: np.random.Generator) -> tuple[NDArray, NDArray]:
            x, transforms = batches.drawn(rows, rng)
            truth = targets[train[rows]]
            return x, (truth if transforms is None else transforms.masks(truth)).astype(np.float32)

        held = None
        if held_batches is not None:
            held = HeldOut(
                lambda: plain_batches(held_batches, len(held_out)),
                targets[held_out].astype(np.float32),
                scaled[held_out],
            )
        metadata = {} if sample_weight is None else {"sample_weight": sample_weight}
        self.threshold_ = 0.5 if self.threshold == "auto" else float(self.threshold)
        with lease(self._key(partition), partial(self._build, partition)) as network:
            network.reset(
                self._new_weights(network.shapes, seed), seed, learning_rate=self.learning_rate
            )
            self._train(
                network, Samples(scaled[train], draw), held, seed, X=X, y=y, metadata=metadata
            )
            if self.threshold == "auto":
                judged, judged_batches = (
                    (train, batches) if held_batches is None else (held_out, held_batches)
                )
                found = network.predict(plain_batches(judged_batches, len(judged)))
                self.threshold_ = best_threshold(targets[judged], found[..., :1])
        return self

    def _check_buildable(self, partition: Any) -> None:
        from hybridus.training.loop import lease

        with lease(self._key(partition), partial(self._build, partition)):
            pass

    @abstractmethod
    def _architecture(self) -> dict[str, Any]:
        """Parameters that decide the network, as its builder takes them."""

    def _compiled(self) -> dict[str, Any]:
        """Give what a builder needs beside the architecture."""
        policy = POLICIES[self.precision]
        return {"loss": self.loss, "optimizer": self.optimizer, "policy": policy}

    def _traced(self) -> str:
        return json.dumps(self._compiled(), sort_keys=True)

    @property
    @abstractmethod
    def _input_size(self) -> tuple[int, int]:
        """Height and width of the images that the network takes."""

    def _new_weights(self, shapes: dict[str, tuple[int, ...]], seed: int) -> dict[str, NDArray]:
        """Draw values for all layers that do not come from an encoder."""
        return draw_variables(shapes, seed)

    def _probability_maps(self, images: Images) -> Iterator[NDArray[np.float32]]:
        """Yield the probabilities of each image, (h, w), at the size of the network.

        With ``tta`` they are means over the image and its mirror image.
        """
        for start in range(0, len(images), PREDICTED_TOGETHER):
            part = subset(images, range(start, min(len(images), start + PREDICTED_TOGETHER)))
            (found,) = self._outputs(part)
            if self.tta:
                (turned,) = self._outputs(mirrored(part, self._input_size, self.resize_))
                found = (found + turned[:, :, ::-1]) / np.float32(2)
            yield from found[..., 0]


class GreySegmenter(NetworkSegmenter):
    """Base of segmenters that see grey pixels and are trained from scratch."""

    def _settle(self) -> None:
        self.mask_size_ = resolve_mask_size(self.image_size, "image_size")

    @property
    def _input_size(self) -> tuple[int, int]:
        return self.mask_size_

    def _partitions(self) -> list[Any]:
        return [None]

    def _open(
        self, images: Images, partition: None, augmentation: Augmentation | None = None
    ) -> Batches:
        return PixelBatches(
            images, self.mask_size_, resize=self.resize_, channels=1, augmentation=augmentation
        )

    def _key(self, partition: None) -> Hashable:
        return (type(self).__name__, self.mask_size_, *self._architecture().items(), self._traced())
