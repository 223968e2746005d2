"""Networks on a pretrained encoder: its parameters, and the division into stored and trained."""

import os
from collections.abc import Sequence
from dataclasses import KW_ONLY
from numbers import Integral
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from hybridus._sklearn import Interval, StrOptions
from hybridus.encoders.engine import EngineChoice, choose_engine
from hybridus.encoders.frozen import FrozenEncoder, Pooling, freeze
from hybridus.encoders.registry import EncoderSpec
from hybridus.estimators.parameters import with_parameters
from hybridus.inputs.augmentation import Augmentation
from hybridus.inputs.images import Images
from hybridus.training.batches import Batches, PixelBatches, open_batches

if TYPE_CHECKING:
    from hybridus.encoders.partition import Partition


@with_parameters
class OnEncoder:
    """Mixin of a `NetworkEstimator` whose network begins with a pretrained encoder.

    Parameters
    ----------
    encoder : str, path or EncoderSpec, default="mobilenet_v2"
        Name of an encoder (`list_encoders`), its row (`register_encoder`), or the path of a network
        that Keras saved, ``"model.keras"``.
    weights : {"imagenet", "bundled", "random"} or path, default="imagenet"
        Where training starts; see `DeepFeatureExtractor`.
    layers : str or list of str, default="last"
        Layers whose outputs are used; see `DeepFeatureExtractor`.
    trainable : str, default="last:20"
        Which layers of the encoder are trained: "none", "all", "first:10" (as Keras lists them,
        the input layer counted), "last:20", or the beginning of layer names, such as "block_16".
        Batch normalisation is never trained and stays in inference mode, since statistics of small
        batches throw away what was learned; only with ``weights="random"`` does that of trained
        layers take the statistics of each batch.
    image_size : int or (int, int), default=None
        Height and width in pixels to which images are resized; None is the encoder's own.
    n_views : int, default=8
        Where activations are stored, the number of fixed views of each image that augmentation
        draws from, the image itself among them. Otherwise each batch is augmented anew.
    engine : {"auto", "keras", "openvino"}, default="auto"
        What runs the frozen part, once for each image; see `DeepFeatureExtractor`. With "keras"
        training is the same to the bit as without stored activations; OpenVINO is up to three
        times faster, and its differences of 1e-6 grow in training.
    cache : bool, default=True
        Keep activations of the frozen part in memory-mapped files of this process, up to
        ``HYBRIDUS_ACTIVATION_GIB`` (default 4). False computes them in every step, as does a part
        that is larger.

    Attributes
    ----------
    frozen_ : FrozenEncoder
        Encoder, layers, input size and digest of the weights as plain data.
    variables_ : dict of str to array
        Values of all variables that were trained, by their path; the others are those of the
        weights file.
    """

    encoder: str | os.PathLike | EncoderSpec = "mobilenet_v2"
    _: KW_ONLY
    weights: str | os.PathLike = "imagenet"
    layers: str | Sequence[str] = "last"
    trainable: str = "last:20"
    image_size: int | tuple[int, int] | None = None
    n_views: int = 8
    engine: EngineChoice = "auto"
    cache: bool = True

    _parameter_constraints: ClassVar[dict] = {
        "encoder": [str, os.PathLike, EncoderSpec],
        "weights": [str, os.PathLike],
        "layers": [StrOptions({"last", "multi"}), list, tuple],
        "trainable": [str],
        "image_size": [None, Interval(Integral, 1, None, closed="left"), tuple, list],
        "n_views": [Interval(Integral, 1, None, closed="left")],
        "engine": [StrOptions({"auto", "keras", "openvino"})],
        "cache": ["boolean"],
    }

    _pooling: ClassVar[Pooling]  # how what crosses into a head is pooled

    def _freeze(self: Any) -> FrozenEncoder:
        return freeze(
            self.encoder,
            weights=self.weights,
            layers=self.layers,
            pooling=self._pooling,
            image_size=self.image_size,
            resize=self.resize,
            engine=choose_engine(self.engine, "float32"),
            precision="float32",
        )

    @property
    def _input_size(self: Any) -> tuple[int, int]:
        return self.frozen_.image_size

    def _open_pixels(self: Any, images: Images) -> Batches:
        return PixelBatches(images, self.frozen_.image_size, resize=self.frozen_.resize)

    def _partitions(self: Any) -> list["Partition"]:
        from hybridus.encoders.partition import partitions

        return partitions(self.frozen_, self.trainable, cut=self.cache)

    def _open(
        self: Any,
        images: Images,
        partition: "Partition",
        augmentation: Augmentation | None = None,
        *,
        passing: bool = False,
    ) -> Batches | None:
        return open_batches(
            images,
            self.frozen_,
            partition,
            augmentation=augmentation,
            n_views=self.n_views,
            dtype=self._kept_as(),
            passing=passing,
        )

    def _kept_as(self) -> str:
        """Type in which activations are kept."""
        return "float32"

    def _activation_bytes(self: Any, partition: "Partition", n_images: int) -> float:
        n_views = 1 if self.augmentation is None else self.n_views
        trained_on = n_images * (1 - (self.validation_fraction or 0.0))
        return partition.width * np.dtype(self._kept_as()).itemsize * n_views * trained_on
