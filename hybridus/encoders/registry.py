"""Encoders that exist: one row of plain data each, and the names under which users find them."""

import fnmatch
import importlib
import json
import math
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from hybridus.encoders.catalog import CATALOG, CatalogRow
from hybridus.encoders.downloads import KERAS_SERVER, impatient
from hybridus.encoders.saved import SUFFIX, SavedNetwork, open_saved
from hybridus.inputs.names import did_you_mean
from hybridus.inputs.sizes import resolve_size


@dataclass(frozen=True)
class Preprocessing:
    """What an encoder expects: ``pixels[0..255] * scale + offset`` by channel, RGB or BGR.

    `scale` and `offset` are in the order of `channels`.

    Examples
    --------
    >>> from hybridus import Preprocessing
    >>> to_one = Preprocessing(scale=(1 / 127.5,) * 3, offset=(-1.0,) * 3)  # -1..1
    >>> to_one.channels
    'RGB'
    """

    scale: tuple[float, float, float] = (1.0, 1.0, 1.0)
    offset: tuple[float, float, float] = (0.0, 0.0, 0.0)
    channels: str = "RGB"

    def __post_init__(self) -> None:
        if self.channels not in ("RGB", "BGR"):
            raise ValueError(f"channels={self.channels!r}: expected 'RGB' or 'BGR'")
        for name in ("scale", "offset"):
            values = getattr(self, name)
            if len(values) != 3 or not all(math.isfinite(value) for value in values):
                raise ValueError(f"{name}={values!r}: expected three numbers, one a channel")


_APPLICATIONS = "keras.applications."
REGISTERED = "registered"  # in place of a builder, in model files: who opens one registers it
_TORCH_MEAN, _TORCH_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

# Keras puts one rescaling more behind EfficientNet's own normalisation where it loads ImageNet
# weights; the same before it.
_BEFORE_EFFICIENTNET = tuple(1 / math.sqrt(std) for std in _TORCH_STD)

# The modes of keras.applications; "none" is for networks that preprocess inside.
PREPROCESSING: Mapping[str, Preprocessing] = {
    "none": Preprocessing(),
    "tf": Preprocessing(scale=(1 / 127.5,) * 3, offset=(-1.0,) * 3),
    "caffe": Preprocessing(offset=(-103.939, -116.779, -123.68), channels="BGR"),
    "torch": Preprocessing(
        scale=tuple(1 / (255 * std) for std in _TORCH_STD),  # type: ignore[arg-type]
        offset=tuple(-m / s for m, s in zip(_TORCH_MEAN, _TORCH_STD, strict=True)),  # type: ignore[arg-type]
    ),
    "efficientnet": Preprocessing(
        scale=_BEFORE_EFFICIENTNET,  # type: ignore[arg-type]
        offset=tuple(  # type: ignore[arg-type]
            255 * mean * (1 - scale)
            for mean, scale in zip(_TORCH_MEAN, _BEFORE_EFFICIENTNET, strict=True)
        ),
    ),
}


@dataclass(frozen=True)
class EncoderSpec:
    """An encoder as data; see `register_encoder` for the fields.

    `bundled` is the digest of the weights that ship with hybridus, None where there are none.

    Examples
    --------
    >>> from hybridus import EncoderSpec
    >>> spec = EncoderSpec("vgg16_small", "keras.applications.VGG16", image_size=(64, 64))
    >>> spec.options["include_top"], spec.is_application
    (False, True)
    """

    name: str
    builder: str | Callable[..., Any]
    options: Mapping[str, Any] = field(default_factory=dict)
    preprocessing: Preprocessing = PREPROCESSING["none"]
    image_size: tuple[int, int] = (224, 224)
    taps: tuple[str, ...] = ()
    last: str | None = None
    skips: tuple[str, ...] = ()
    keras_file: str | None = None
    bundled: str | None = None

    def __post_init__(self) -> None:
        if self.is_application:
            # Left to itself, the builder would download weights, and want its own input size.
            options = {"include_top": False, "weights": None, **self.options}
            object.__setattr__(self, "options", options)

    def __hash__(self) -> int:
        return hash(self.name)

    @property
    def is_application(self) -> bool:
        """Whether keras.applications builds it."""
        return isinstance(self.builder, str) and self.builder.startswith(_APPLICATIONS)

    def build(self, image_size: tuple[int, int]) -> Any:
        """Build the network, a `keras.Model` on images of shape (height, width, 3).

        Raises
        ------
        ValueError
            Where the builder refuses the size or its options, or returns anything else.
        """
        build = self.function()
        try:
            network = build(input_shape=(*image_size, 3), **self.options)
        except ValueError as error:
            if isinstance(self.builder, SavedNetwork):
                raise  # it says what is wrong with the file
            raise ValueError(
                f"encoder {self.name!r} cannot be built for image_size={image_size}: "
                f"{str(error).rstrip('.')}. Give an image_size that its builder takes, such as "
                f"its default {self.image_size}, or register it with other options"
            ) from error
        from hybridus._keras import keras

        if not isinstance(network, keras.Model) or len(getattr(network, "inputs", None) or ()) != 1:
            raise ValueError(
                f"the builder of encoder {self.name!r} returned {network!r}, expected a functional "
                "keras.Model with one input, images of shape (height, width, 3)"
            )
        return network

    def download(self) -> Any:
        """Let Keras fetch the ImageNet weights into its cache; return the network with them.

        Raises
        ------
        OSError
            Where Keras's server does not answer in a few seconds.
        """
        with impatient(KERAS_SERVER if self.is_application else None):
            return self.function()(
                **{**self.options, "weights": "imagenet"}, input_shape=(*self.image_size, 3)
            )

    @property
    def downloadable(self) -> bool:
        """Whether the builder takes ``weights="imagenet"``, as those of keras.applications do."""
        return "weights" in self.options

    def describe(self) -> str | None:
        """Tell builder and options where they decide the network: keras.applications', saved ones.

        None where only the built network can tell: a name does not say what a function does, nor
        the text of an object what is in it.
        """
        if isinstance(self.builder, SavedNetwork) and not self.options:
            return json.dumps(["saved", self.builder.digest])
        if not self.is_application:
            return None
        try:
            return json.dumps([self.builder, dict(self.options)], sort_keys=True)
        except TypeError:
            return None

    def function(self) -> Callable[..., Any]:
        """Return the builder; a dotted path is imported."""
        if not isinstance(self.builder, str):
            return self.builder
        if self.builder == REGISTERED:
            raise ValueError(
                f"encoder {self.name!r} comes from a model file, which does not hold its builder: "
                "call register_encoder with it before the file is loaded"
            )
        module, _, name = self.builder.rpartition(".")
        if module == "keras.applications":
            from hybridus._keras import keras

            return getattr(keras.applications, name)
        return getattr(importlib.import_module(module), name)


def register_encoder(
    name: str,
    builder: str | os.PathLike[str] | Callable[..., Any],
    *,
    preprocessing: str | Preprocessing = "none",
    image_size: int | tuple[int, int] | None = None,
    taps: tuple[str, ...] | list[str] = (),
    last: str | None = None,
    skips: tuple[str, ...] | list[str] = (),
    options: Mapping[str, Any] | None = None,
    keras_file: str | None = None,
    overwrite: bool = False,
) -> EncoderSpec:
    """Make a network known as an encoder.

    A registration lives in one process. Workers and other processes that open a saved model need
    none: a fitted `DeepFeatureExtractor` carries the row itself. Pass the returned `EncoderSpec`
    as `encoder` where unfitted estimators go to workers, as in a grid search with ``n_jobs=2``.

    Parameters
    ----------
    name : str
        Lower-case letters, digits, ``_``, ``.`` and ``-``.
    builder : str, path or callable
        Path of a network that Keras saved, ``"model.keras"``; it comes with its weights, which
        ``weights="imagenet"`` then means, and is usable in workers by its path alone. Or a dotted
        path, or a function, called as ``builder(input_shape=(H, W, 3), **options)``; returns
        a functional `keras.Model` on RGB images after preprocessing, the same one whenever it is
        called with the same arguments. `functools.partial` and a lambda will do, but pickles need
        an importable function. Any network of keras.applications will do:
        ``"keras.applications.EfficientNetV2M"``. Rows of other builders are found again by a digest
        of the network that they build, so an edited builder never gives features of the former one;
        such an encoder starts Keras in every process that fits with it.
    preprocessing : {"none", "tf", "caffe", "torch", "efficientnet"} or Preprocessing, \
default="none"
        keras.applications' modes: "tf" scales to -1..1, "caffe" subtracts the ImageNet mean in
        BGR, "torch" standardises by ImageNet's mean and deviation, "none" keeps 0..255, for
        networks that preprocess inside; "efficientnet" is for EfficientNetB0 to B7 with ImageNet
        weights, which need more than they do inside.
    image_size : int or (int, int), default=None
        Default height and width in pixels; None is that of a saved network, else 224.
    taps : sequence of str
        Layers that ``layers="multi"`` uses.
    last : str, optional
        Layer that ``layers="last"`` uses; by default the network's output.
    skips : sequence of str
        Layers that ``layers="skips"`` of `EncoderUNetSegmenter` uses: one map for each scale, from
        a quarter of the image's size on; by default `taps`.
    options : mapping, optional
        Arguments for `builder`; for keras.applications ``include_top=False, weights=None`` unless
        given.
    keras_file : str, optional
        Name of the ImageNet weights in Keras's cache; without it they are looked for only under
        the encoder's own name.
    overwrite : bool, default=False
        Whether a known name may be given another meaning.

    Returns
    -------
    EncoderSpec

    Raises
    ------
    ValueError
        For a malformed or known name, or an unknown preprocessing mode.

    Examples
    --------
    >>> from hybridus import register_encoder, list_encoders
    >>> spec = register_encoder("efficientnet_v2_m", "keras.applications.EfficientNetV2M",
    ...     image_size=480, overwrite=True,
    ...     taps=["block4a_expand_activation", "block6a_expand_activation", "top_activation"])
    >>> list_encoders("efficientnet_v2_[ms]")
    ['efficientnet_v2_m', 'efficientnet_v2_s']
    """
    if not re.fullmatch(r"[a-z0-9][a-z0-9_.\-]*", name):
        raise ValueError(
            f"encoder name {name!r}: expected lower-case letters, digits, '_', '.' and '-'"
        )
    if name in _REGISTRY and not overwrite:
        raise ValueError(f"encoder {name!r} is registered already; overwrite=True replaces it")
    if isinstance(preprocessing, str):
        if preprocessing not in PREPROCESSING:
            raise ValueError(
                f"preprocessing {preprocessing!r}: expected one of {sorted(PREPROCESSING)} or a "
                "Preprocessing"
            )
        preprocessing = PREPROCESSING[preprocessing]
    found = None
    if _is_saved(builder):
        builder, _, found = open_saved(builder)  # type: ignore[arg-type]
    elif not isinstance(builder, str) and hasattr(builder, "save"):
        raise ValueError(
            f"builder={builder!r} is a network, which no other process could build again: save it, "
            "model.save('model.keras'), and give that path, or give a function that builds it"
        )
    image_size = image_size or found or 224
    spec = EncoderSpec(
        name=name,
        builder=builder,  # type: ignore[arg-type]
        options=options or {},
        preprocessing=preprocessing,
        image_size=resolve_size(image_size),
        taps=tuple(taps),
        last=last,
        skips=tuple(skips),
        keras_file=keras_file,
    )
    _REGISTRY[name] = spec
    return spec


def list_encoders(pattern: str = "*") -> list[str]:
    """Names of the known encoders that match a shell pattern, sorted.

    Examples
    --------
    >>> from hybridus import list_encoders
    >>> list_encoders("resnet*")
    ['resnet101', 'resnet101_v2', 'resnet152', 'resnet152_v2', 'resnet50', 'resnet50_v2']
    """
    return sorted(fnmatch.filter(_REGISTRY, pattern))


def get_encoder(encoder: str | os.PathLike[str] | EncoderSpec) -> EncoderSpec:
    """Look an encoder up by name, or by the path of a saved network.

    An `EncoderSpec` is returned as it is.

    Raises
    ------
    ValueError
        For a name that is not registered in this process, and a file that is no saved network.
    WeightsNotFoundError
        For a path where there is no file.
    """
    if isinstance(encoder, EncoderSpec):
        return encoder
    if _is_saved(encoder):
        network, name, image_size = open_saved(encoder)
        return EncoderSpec(name, network, image_size=image_size or (224, 224))
    if not isinstance(encoder, str) or encoder not in _REGISTRY:
        known = list_encoders()
        raise ValueError(
            f"unknown encoder {encoder!r}{did_you_mean(str(encoder), known)}; {len(known)} are "
            "known, and list_encoders() and the command 'hybridus encoders' list them. "
            "register_encoder adds one, in this process alone: for workers pass the EncoderSpec "
            "that it returns. A network that Keras saved is known by its path, 'model.keras'"
        )
    return _REGISTRY[encoder]


def _is_saved(builder: Any) -> bool:
    """Whether something is the path of a saved network."""
    return isinstance(builder, str | os.PathLike) and os.fspath(builder).endswith(SUFFIX)


def _of_catalog(row: CatalogRow) -> EncoderSpec:
    return EncoderSpec(
        name=row.name,
        builder=_APPLICATIONS + row.builder,
        options=row.options,
        preprocessing=PREPROCESSING[row.preprocessing],
        image_size=(row.image_size, row.image_size),
        taps=row.taps,
        last=row.last,
        skips=row.skips,
        keras_file=row.keras_file,
        bundled=_BUNDLED.get(row.name),
    )


# Digest of NAME.safetensors beside this file, which benchmarks.train_bundled_weights made.
_BUNDLED = {
    "mobilenet_v2_0.35": "sha256:15a9466f26040dbb34655635d4a01fdf5b6a1cf83bb1a2e04a254616a6147821"
}
_REGISTRY: dict[str, EncoderSpec] = {row.name: _of_catalog(row) for row in CATALOG}
