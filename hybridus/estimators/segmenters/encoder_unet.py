"""`EncoderUNetSegmenter`: a pretrained encoder, frozen or not, with a decoder over its layers."""

import os
from collections.abc import Hashable, Mapping, Sequence
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from numpy.typing import NDArray

from hybridus._sklearn import Interval, Options, StrOptions
from hybridus.encoders.engine import EngineChoice, choose_engine
from hybridus.encoders.frozen import freeze
from hybridus.encoders.registry import EncoderSpec
from hybridus.encoders.weights import draw_variables
from hybridus.estimators.network import stored_bytes
from hybridus.estimators.segmenters.answers import (
    Postprocessing,
    check_aspect,
    resolve_mask_size,
)
from hybridus.estimators.segmenters.network import COMMON_CONSTRAINTS, NetworkSegmenter
from hybridus.inputs.augmentation import Augmentation
from hybridus.inputs.images import Images
from hybridus.inputs.resizing import Resize
from hybridus.training.batches import Batches, open_batches

if TYPE_CHECKING:
    from hybridus.encoders.partition import Partition
    from hybridus.training.loop import TrainableNetwork


class EncoderUNetSegmenter(NetworkSegmenter):
    """Segment lesions with a decoder over several layers of a pretrained encoder.

    With ``trainable="none"`` the encoder runs once for each image and view; its maps are kept in
    memory-mapped files and only the decoder is trained.

    Parameters
    ----------
    encoder : str or EncoderSpec, default="mobilenet_v2"
        See `DeepFeatureExtractor`.
    weights : {"imagenet", "bundled", "random"} or path, default="imagenet"
        See `DeepFeatureExtractor`.
    layers : "skips" or list of str, default="skips"
        Layers that the decoder sees; the encoder's default set of one a scale, or by name. Each
        must give a map (h, w, channels), none finer than ``image_size / decoder_stride``.
    trainable : str, default="none"
        Which layers of the encoder are trained; see `FineTunedClassifier`.
    decoder_filters : sequence of int, default=(48, 32, 24)
        Filters at the coarsest layer and after each doubling; the last holds for all that follow.
    decoder_stride : {1, 2, 4, 8}, default=4
        Where the decoder stops: 4 gives a map of a quarter of `image_size`, which bilinear
        interpolation brings to `mask_size`. 8 needs other layers than "skips".
    dropout_rate : float, default=0.2
        Share of the coarsest layer's channels that are dropped in training.
    batch_norm : bool, default=True
        Batch normalisation in the decoder.
    image_size : int or (int, int), default=256
        Height and width in pixels of the encoder's input.
    mask_size : int or (int, int), default=128
        Height and width of the masks that the network gives.
    n_views : int, default=4
        Where maps are stored, the number of fixed views of each image that augmentation draws
        from, the image itself among them.
    activation_dtype : {"float16", "float32"}, default="float16"
        How maps are kept: float16 takes half the room; masks differ in single pixels.
    engine : {"auto", "keras", "openvino"}, default="auto"
        What runs the frozen part, once for each image; see `FineTunedClassifier`.
    cache : bool, default=True
        Keep what the frozen part gives, up to ``HYBRIDUS_ACTIVATION_GIB`` (default 4; ResNet50 at
        256 pixels takes 3.5 MiB a view). False, or more than that, computes it in every step.
    image_shape, resize, loss, augmentation, optimizer, learning_rate, lr_schedule, \
    early_stopping, validation_fraction, patience, batch_size, max_epochs, threshold, postprocess, \
    tta, output_size, precision, random_state, verbose
        As those of `UNetSegmenter`; the default loss is "bce_dice".

    Attributes
    ----------
    frozen_ : FrozenEncoder
        Encoder, layers, input size and digest of the weights as plain data.
    history_, n_iter_, best_epoch_, threshold_, mask_size_, variables_, n_features_in_
        As those of `UNetSegmenter`; `variables_` holds what was trained.

    References
    ----------
    Ronneberger, Fischer and Brox 2015, arXiv:1505.04597, for the decoder; He, Zhang, Ren and Sun
    2016, arXiv:1512.03385, for ResNet50.

    Examples
    --------
    >>> from hybridus import make_breast_phantoms
    >>> from hybridus.estimators.segmenters import EncoderUNetSegmenter
    >>> phantoms = make_breast_phantoms(12, image_size=64, random_state=0)
    >>> net = EncoderUNetSegmenter("mobilenet_v2_0.35", weights="bundled", image_size=64,
    ...     mask_size=32, max_epochs=1, random_state=0)
    >>> net.fit(phantoms.images, phantoms.masks).predict(phantoms.images).shape
    (12, 64, 64, 1)
    """

    _parameter_constraints: ClassVar[dict] = {
        **COMMON_CONSTRAINTS,
        "encoder": [str, EncoderSpec],
        "weights": [str, os.PathLike],
        "layers": [StrOptions({"skips"}), list, tuple],
        "trainable": [str],
        "decoder_filters": [list, tuple],
        "decoder_stride": [Options(Integral, {1, 2, 4, 8})],
        "dropout_rate": [Interval(Real, 0, 1, closed="left")],
        "batch_norm": ["boolean"],
        "image_size": [Interval(Integral, 1, None, closed="left"), tuple, list],
        "mask_size": [Interval(Integral, 1, None, closed="left"), tuple, list],
        "n_views": [Interval(Integral, 1, None, closed="left")],
        "activation_dtype": [StrOptions({"float16", "float32"})],
        "engine": [StrOptions({"auto", "keras", "openvino"})],
        "cache": ["boolean"],
    }

    def __init__(
        self,
        encoder: str | EncoderSpec = "mobilenet_v2",
        *,
        weights: str | os.PathLike = "imagenet",
        layers: str | Sequence[str] = "skips",
        trainable: str = "none",
        decoder_filters: Sequence[int] = (48, 32, 24),
        decoder_stride: int = 4,
        dropout_rate: float = 0.2,
        batch_norm: bool = True,
        image_size: int | tuple[int, int] = 256,
        mask_size: int | tuple[int, int] = 128,
        n_views: int = 4,
        activation_dtype: Literal["float16", "float32"] = "float16",
        engine: EngineChoice = "auto",
        cache: bool = True,
        image_shape: tuple[int, ...] | None = None,
        resize: Resize = "stretch",
        loss: str = "bce_dice",
        augmentation: str | Augmentation | None = "light",
        optimizer: str | Mapping[str, Any] = "adam",
        learning_rate: float = 1e-3,
        lr_schedule: Literal["plateau", "cosine"] | None = "plateau",
        early_stopping: bool = True,
        validation_fraction: float | None = 0.15,
        patience: int = 10,
        batch_size: int = 16,
        max_epochs: int = 40,
        threshold: float | Literal["auto"] = 0.5,
        postprocess: Postprocessing | None = None,
        tta: bool = False,
        output_size: Literal["input", "network"] = "input",
        precision: Literal["float32", "bfloat16"] = "float32",
        random_state: Any = None,
        verbose: int = 0,
    ) -> None:
        self.encoder = encoder
        self.weights = weights
        self.layers = layers
        self.trainable = trainable
        self.decoder_filters = decoder_filters
        self.decoder_stride = decoder_stride
        self.dropout_rate = dropout_rate
        self.batch_norm = batch_norm
        self.image_size = image_size
        self.mask_size = mask_size
        self.n_views = n_views
        self.activation_dtype = activation_dtype
        self.engine = engine
        self.cache = cache
        self.image_shape = image_shape
        self.resize = resize
        self.loss = loss
        self.augmentation = augmentation
        self.optimizer = optimizer
        self.learning_rate = learning_rate
        self.lr_schedule = lr_schedule
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.patience = patience
        self.batch_size = batch_size
        self.max_epochs = max_epochs
        self.threshold = threshold
        self.postprocess = postprocess
        self.tta = tta
        self.output_size = output_size
        self.precision = precision
        self.random_state = random_state
        self.verbose = verbose

    def _settle(self) -> None:
        filters = self.decoder_filters
        if not filters or not all(isinstance(f, Integral) and f > 0 for f in filters):
            raise ValueError(
                f"decoder_filters={filters!r}: expected one or more numbers of filters, each 1 or "
                "more"
            )
        self.mask_size_ = resolve_mask_size(self.mask_size, "mask_size")
        self.frozen_ = freeze(
            self.encoder,
            weights=self.weights,
            layers=self.layers,
            pooling="flatten",
            image_size=self.image_size,
            resize=self.resize,
            engine=choose_engine(self.engine, "float32"),
            precision="float32",
        )
        check_aspect(self._input_size, self.mask_size_, self.resize)

    @property
    def _input_size(self) -> tuple[int, int]:
        return self.frozen_.image_size

    def _activation_bytes(self, partition: "Partition", n_images: int) -> float:
        return stored_bytes(self, partition, n_images, self.activation_dtype)

    def _partitions(self) -> list["Partition"]:
        from hybridus.encoders.partition import partitions

        return partitions(self.frozen_, self.trainable, cut=self.cache)

    def _open(
        self, images: Images, partition: "Partition", augmentation: Augmentation | None = None
    ) -> Batches | None:
        return open_batches(
            images,
            self.frozen_,
            partition,
            augmentation=augmentation,
            n_views=self.n_views,
            dtype=self.activation_dtype,
        )

    def _key(self, partition: "Partition") -> Hashable:
        about = self._architecture() | {"decoder_filters": tuple(self.decoder_filters)}
        fingerprint = self.frozen_.network_fingerprint
        return ("EncoderUNetSegmenter", fingerprint, partition, *about.items(), self._traced())

    def _build(self, partition: "Partition") -> "TrainableNetwork":
        from hybridus.training.networks.segmentation import build_encoder_unet

        return build_encoder_unet(
            self.frozen_, partition, **self._architecture(), **self._compiled()
        )

    def _architecture(self) -> dict[str, Any]:
        names = ("decoder_filters", "decoder_stride", "dropout_rate", "batch_norm")
        return {"mask_size": self.mask_size_} | {name: getattr(self, name) for name in names}

    def _new_weights(self, shapes: dict[str, tuple[int, ...]], seed: int) -> dict[str, NDArray]:
        decoder = ("narrow_", "decode_", "mask/")
        return draw_variables(
            {path: shape for path, shape in shapes.items() if path.startswith(decoder)}, seed
        )


class ResNet50Segmenter(EncoderUNetSegmenter):
    """`EncoderUNetSegmenter` with ResNet50, of which layers conv2 to conv4 are used.

    Parameters and attributes are those of `EncoderUNetSegmenter`, without `encoder`.

    Examples
    --------
    >>> from hybridus.estimators.segmenters import ResNet50Segmenter
    >>> ResNet50Segmenter(trainable="conv4").encoder
    'resnet50'
    """

    _parameter_constraints: ClassVar[dict] = {
        name: allowed
        for name, allowed in EncoderUNetSegmenter._parameter_constraints.items()
        if name != "encoder"
    }

    def __init__(
        self,
        *,
        weights: str | os.PathLike = "imagenet",
        layers: str | Sequence[str] = "skips",
        trainable: str = "none",
        decoder_filters: Sequence[int] = (48, 32, 24),
        decoder_stride: int = 4,
        dropout_rate: float = 0.2,
        batch_norm: bool = True,
        image_size: int | tuple[int, int] = 256,
        mask_size: int | tuple[int, int] = 128,
        n_views: int = 4,
        activation_dtype: Literal["float16", "float32"] = "float16",
        engine: EngineChoice = "auto",
        cache: bool = True,
        image_shape: tuple[int, ...] | None = None,
        resize: Resize = "stretch",
        loss: str = "bce_dice",
        augmentation: str | Augmentation | None = "light",
        optimizer: str | Mapping[str, Any] = "adam",
        learning_rate: float = 1e-3,
        lr_schedule: Literal["plateau", "cosine"] | None = "plateau",
        early_stopping: bool = True,
        validation_fraction: float | None = 0.15,
        patience: int = 10,
        batch_size: int = 16,
        max_epochs: int = 40,
        threshold: float | Literal["auto"] = 0.5,
        postprocess: Postprocessing | None = None,
        tta: bool = False,
        output_size: Literal["input", "network"] = "input",
        precision: Literal["float32", "bfloat16"] = "float32",
        random_state: Any = None,
        verbose: int = 0,
    ) -> None:
        super().__init__(
            "resnet50",
            weights=weights,
            layers=layers,
            trainable=trainable,
            decoder_filters=decoder_filters,
            decoder_stride=decoder_stride,
            dropout_rate=dropout_rate,
            batch_norm=batch_norm,
            image_size=image_size,
            mask_size=mask_size,
            n_views=n_views,
            activation_dtype=activation_dtype,
            engine=engine,
            cache=cache,
            image_shape=image_shape,
            resize=resize,
            loss=loss,
            augmentation=augmentation,
            optimizer=optimizer,
            learning_rate=learning_rate,
            lr_schedule=lr_schedule,
            early_stopping=early_stopping,
            validation_fraction=validation_fraction,
            patience=patience,
            batch_size=batch_size,
            max_epochs=max_epochs,
            threshold=threshold,
            postprocess=postprocess,
            tta=tta,
            output_size=output_size,
            precision=precision,
            random_state=random_state,
            verbose=verbose,
        )
