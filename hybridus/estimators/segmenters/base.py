"""`NetworkSegmenter`, base of segmenters that train a network: targets, threshold, flips."""

import json
from collections.abc import Hashable, Iterator
from dataclasses import KW_ONLY
from functools import partial
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hybridus._sklearn import Interval, StrOptions, _check_sample_weight, _fit_context
from hybridus.encoders.weights import draw_variables
from hybridus.estimators.fitting import all_or_nothing
from hybridus.estimators.on_encoder import OnEncoder
from hybridus.estimators.parameters import parameter_names, with_parameters
from hybridus.estimators.segmenters.prediction import (
    CLEANING_CONSTRAINT,
    Cleaning,
    Paired,
    SegmenterMixin,
    best_threshold,
    mirrored,
    resized_targets,
    resolve_mask_size,
)
from hybridus.estimators.trained import POLICIES, NetworkEstimator, plain_batches
from hybridus.inputs.augmentation import Augmentation
from hybridus.inputs.images import Images, validate_images
from hybridus.inputs.masks import as_masks
from hybridus.training.batches import TOGETHER, Batches, PixelBatches, subset

if TYPE_CHECKING:
    from hybridus.training.loop import TrainableNetwork


@with_parameters
class NetworkSegmenter(SegmenterMixin, NetworkEstimator):
    """Base of segmenters that train a network: on grey pixels, and from scratch.

    A subclass adds an architecture: its fields, with their constraints, and `build` are all that it
    needs. Its docstring describes its own parameters; those of the bases are added::

        @with_parameters
        class TwoLayers(NetworkSegmenter):
            filters: int = 8
            _parameter_constraints: ClassVar[dict] = {"filters": [int]}

            def build(self, size, *, filters):
                x = inputs = keras.Input((*size, 1))
                x = keras.layers.Conv2D(filters, 3, padding="same", name="first")(x / 255.0)
                x = keras.layers.Conv2D(1, 3, padding="same", name="second")(x)
                return inputs, keras.layers.Activation("sigmoid", dtype="float32")(x)

    Parameters
    ----------
    image_size : int or (int, int), default=128
        Height and width in pixels of network input and masks.
    loss : {"binary_crossentropy", "dice", "bce_dice", "focal", "tversky"}, default="bce_dice"
        See `hybridus.training.losses.make_loss`.
    threshold : float or "auto", default="auto"
        Probability above which a pixel is lesion; "auto" takes the one with the best mean Dice on
        the validation part (on the training part where there is none), of probabilities as the
        network gives them: before `tta` and `postprocess`.
    postprocess : "clean", Postprocessing or None, default="clean"
        How predicted masks are cleaned; "clean" fills holes and drops components below 0.2 % of
        the image.
    tta : bool, default=True
        Average predictions of the image and its mirror image.
    output_size : {"input", "network"}, default="input"
        Whether `predict` answers at the size of each image or of the network.

    Attributes
    ----------
    history_ : DataFrame
        A row an epoch: ``loss, dice`` (mean over images), ``iou, accuracy, precision, recall, f1``
        (of all pixels together) while training, the same with ``val_`` for the validation part,
        ``learning_rate`` and ``seconds``.
    threshold_ : float
    mask_size_ : tuple of int
        Height and width of the masks that the network gives.
    """

    _: KW_ONLY
    image_size: int | tuple[int, int] = 128
    loss: str = "bce_dice"
    augmentation: str | Augmentation | None = "strong"
    lr_schedule: Literal["plateau", "cosine"] | None = "cosine"
    batch_size: int = 16
    threshold: float | Literal["auto"] = "auto"
    postprocess: Cleaning = "clean"
    tta: bool = True
    output_size: Literal["input", "network"] = "input"

    _parameter_constraints: ClassVar[dict] = {
        "image_size": [Interval(Integral, 1, None, closed="left"), tuple, list],
        "loss": [StrOptions({"binary_crossentropy", "dice", "bce_dice", "focal", "tversky"})],
        "threshold": [Interval(Real, 0, 1, closed="both"), StrOptions({"auto"})],
        "postprocess": CLEANING_CONSTRAINT,
        "tta": ["boolean"],
        "output_size": [StrOptions({"input", "network"})],
    }

    def build(self, size: tuple[int, int], **architecture: Any) -> tuple[Any, Any]:
        """Build the network; called where Keras has started.

        Parameters
        ----------
        size : tuple of int
            Height and width of images and masks.
        **architecture
            The parameters that the subclass has beside those of this class, which must decide the
            network together with `size`. Layers with weights need names.

        Returns
        -------
        inputs, probabilities : Keras tensors
            From grey pixels, float32 (n, height, width, 1) in 0..255, to float32 (n, height, width,
            n_scales): the first channel is the answer, others are trained too (deep supervision).
        """
        raise NotImplementedError(f"{type(self).__name__} has no build")

    def _architecture(self) -> dict[str, Any]:
        """Parameters that decide the network, as its builder takes them."""
        shared = {*parameter_names(NetworkSegmenter), *parameter_names(OnEncoder)}
        names = [name for name in parameter_names(type(self)) if name not in shared]
        return {name: getattr(self, name) for name in names}

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

        images = Paired(validate_images(self, X, reset=True, image_shape=self.image_shape))
        if y is None:
            raise ValueError("requires y to be passed, but the target y is None")
        masks = as_masks(y, images, constant_ok=images.flattened)
        weights = _check_sample_weight(
            sample_weight, np.zeros(len(images)), dtype=np.float64, ensure_non_negative=True
        )
        self.resize_ = self.resize
        self._resolve()
        targets = resized_targets(images, masks, self.mask_size_, self.resize_)
        seed = self._seed()
        counted = np.flatnonzero(weights > 0)
        has_lesion = np.array([mask.any() for mask in targets], dtype=np.intp)
        train, held_out = self._hold_out(has_lesion, counted, groups, seed)
        scaled = (weights / weights[train].mean()).astype(np.float32)
        partition, batches, held_batches = self._open_parts(images, train, held_out)
        images.check_rest()

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

    def _resolve(self) -> None:
        self.mask_size_ = resolve_mask_size(self.image_size, "image_size")

    @property
    def _input_size(self) -> tuple[int, int]:
        """Height and width of the images that the network takes."""
        return self.mask_size_

    def _partitions(self) -> list[Any]:
        return [None]

    def _open(
        self,
        images: Images,
        partition: Any,
        augmentation: Augmentation | None = None,
        *,
        passing: bool = False,
    ) -> Batches | None:
        return PixelBatches(
            images, self.mask_size_, resize=self.resize_, channels=1, augmentation=augmentation
        )

    def _open_pixels(self, images: Images) -> Batches:
        return PixelBatches(images, self.mask_size_, resize=self.resize_, channels=1)

    def _key(self, partition: Any) -> Hashable:
        # The class itself: two of one name may build different networks.
        return (type(self), self._built_from(partition), self._traced())

    def _built_from(self, partition: Any) -> Hashable:
        return self.mask_size_

    def _traced(self) -> str:
        traced = {**self._architecture(), "loss": self.loss, "optimizer": self.optimizer}
        return json.dumps(traced | {"precision": self.precision}, sort_keys=True, default=_item)

    def _build(self, partition: Any) -> "TrainableNetwork":
        from hybridus.training.networks.segmentation import compile_segmenter

        return compile_segmenter(
            partial(self._tensors, partition),
            loss=self.loss,
            optimizer=self.optimizer,
            policy=POLICIES[self.precision],
        )

    def _tensors(self, partition: Any) -> tuple[Any, Any]:
        return self.build(self.mask_size_, **self._architecture())

    def _new_weights(self, shapes: dict[str, tuple[int, ...]], seed: int) -> dict[str, NDArray]:
        """Draw values for all layers that do not come from an encoder."""
        return draw_variables(shapes, seed)

    def _probability_maps(self, images: Images) -> Iterator[NDArray[np.float32]]:
        """Yield the probabilities of each image, (h, w), at the size of the network.

        With ``tta`` they are means over the image and its mirror image.
        """
        for start in range(0, len(images), TOGETHER):
            part = subset(images, range(start, min(len(images), start + TOGETHER)))
            (found,) = self._outputs(part)
            if self.tta:
                (turned,) = self._outputs(mirrored(part, self._input_size, self.resize_))
                found = (found + turned[:, :, ::-1]) / np.float32(2)
            yield from found[..., 0]


def _item(value: Any) -> Any:
    """Give the number that NumPy holds, as a grid may have it."""
    return value.item()
