"""`EncoderUNetSegmenter`: a pretrained encoder, frozen or not, with a decoder over its layers."""

from collections.abc import Hashable, Sequence
from dataclasses import KW_ONLY, field
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from numpy.typing import NDArray

from hybridus._sklearn import Interval, Options, StrOptions
from hybridus.encoders.registry import EncoderSpec
from hybridus.encoders.weights import draw_variables
from hybridus.estimators.on_encoder import OnEncoder
from hybridus.estimators.parameters import with_parameters
from hybridus.estimators.segmenters.base import NetworkSegmenter
from hybridus.estimators.segmenters.prediction import check_aspect, resolve_mask_size

if TYPE_CHECKING:
    from hybridus.encoders.partition import Partition


@with_parameters
class EncoderUNetSegmenter(OnEncoder, NetworkSegmenter):
    """Segment lesions with a decoder over several layers of a pretrained encoder.

    With ``trainable="none"`` the encoder runs once for each image and view; its maps are kept in
    memory-mapped files and only the decoder is trained.

    Parameters
    ----------
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
    dropout_rate : float, default=0.5
        Share of the coarsest layer's channels that are dropped in training.
    batch_norm : bool, default=True
        Batch normalisation in the decoder.
    image_size : int or (int, int), default=256
        Height and width in pixels of the encoder's input.
    mask_size : int or (int, int), default=128
        Height and width of the masks that the network gives.
    activation_dtype : {"float16", "float32"}, default="float16"
        How maps are kept: float16 takes half the room; masks differ in single pixels.
    cache : bool, default=True
        Keep what the frozen part gives, up to ``HYBRIDUS_ACTIVATION_GIB`` (default 4; ResNet50 at
        256 pixels takes 3.5 MiB a view). False, or more than that, computes it in every step.

    Notes
    -----
    The defaults are the best of `benchmarks.busi_segmentation` on breast ultrasound: Dice on
    lesions over five folds by duplicate group is .728 with MobileNetV2 (and ``n_views=6``), .712
    with ResNet50, and .737 for the mean of both (`VotingSegmenter`).

    References
    ----------
    Ronneberger, Fischer and Brox 2015, arXiv:1505.04597, for the decoder; He, Zhang, Ren and Sun
    2016, arXiv:1512.03385, for ResNet50.

    Examples
    --------
    >>> from hybridus import make_breast_phantoms
    >>> from hybridus.estimators.segmenters import EncoderUNetSegmenter
    >>> phantoms = make_breast_phantoms(12, image_size=32, random_state=0)
    >>> net = EncoderUNetSegmenter("mobilenet_v2_0.35", weights="bundled", image_size=32,
    ...     layers=["block_1_expand_relu", "block_3_expand_relu"], mask_size=32, decoder_stride=2,
    ...     max_epochs=1, random_state=0)
    >>> net.fit(phantoms.images, phantoms.masks).predict(phantoms.images).shape
    (12, 32, 32, 1)
    """

    _: KW_ONLY
    layers: str | Sequence[str] = "skips"
    trainable: str = "none"
    decoder_filters: Sequence[int] = (48, 32, 24)
    decoder_stride: int = 4
    dropout_rate: float = 0.5
    batch_norm: bool = True
    image_size: int | tuple[int, int] = 256
    mask_size: int | tuple[int, int] = 128
    n_views: int = 4
    activation_dtype: Literal["float16", "float32"] = "float16"
    max_epochs: int = 30

    _parameter_constraints: ClassVar[dict] = {
        "layers": [StrOptions({"skips"}), list, tuple],
        "decoder_filters": [list, tuple],
        "decoder_stride": [Options(Integral, {1, 2, 4, 8})],
        "dropout_rate": [Interval(Real, 0, 1, closed="left")],
        "batch_norm": ["boolean"],
        "image_size": [Interval(Integral, 1, None, closed="left"), tuple, list],
        "mask_size": [Interval(Integral, 1, None, closed="left"), tuple, list],
        "activation_dtype": [StrOptions({"float16", "float32"})],
    }

    _pooling = "flatten"

    def _resolve(self) -> None:
        filters = self.decoder_filters
        if not filters or not all(isinstance(f, Integral) and f > 0 for f in filters):
            raise ValueError(
                f"decoder_filters={filters!r}: expected one or more numbers of filters, each 1 or "
                "more"
            )
        self.mask_size_ = resolve_mask_size(self.mask_size, "mask_size")
        self.frozen_ = self._freeze()
        check_aspect(self._input_size, self.mask_size_, self.resize)

    def _kept_as(self) -> str:
        return self.activation_dtype

    def _built_from(self, partition: "Partition") -> Hashable:
        return (self.frozen_.network_fingerprint, partition)

    def _architecture(self) -> dict[str, Any]:
        names = ("decoder_filters", "decoder_stride", "dropout_rate", "batch_norm")
        return {"mask_size": self.mask_size_} | {name: getattr(self, name) for name in names}

    def _tensors(self, partition: "Partition") -> tuple[Any, Any]:
        from hybridus.training.networks.segmentation import build_encoder_unet

        return build_encoder_unet(self.frozen_, partition, **self._architecture())

    def _new_weights(self, shapes: dict[str, tuple[int, ...]], seed: int) -> dict[str, NDArray]:
        decoder = ("narrow_", "decode_", "mask/")
        return draw_variables(
            {path: shape for path, shape in shapes.items() if path.startswith(decoder)}, seed
        )


@with_parameters
class ResNet50Segmenter(EncoderUNetSegmenter):
    """`EncoderUNetSegmenter` with ResNet50, of which layers conv2 to conv4 are used.

    Examples
    --------
    >>> from hybridus.estimators.segmenters import ResNet50Segmenter
    >>> ResNet50Segmenter(trainable="conv4").encoder
    'resnet50'
    """

    encoder: str | EncoderSpec = field(default="resnet50", init=False)
