"""Frozen encoders as values: all that decides a feature row, with its fingerprint."""

import hashlib
import json
import os
import re
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from hybridus.encoders.architecture import architecture_of, versions_in
from hybridus.encoders.registry import PREPROCESSING, EncoderSpec, get_encoder
from hybridus.encoders.weights import WeightsSource, locate_weights
from hybridus.inputs.resizing import Resize
from hybridus.inputs.sizes import resolve_size

Pooling = str  # one of these, or several, joined by "+"
POOLINGS = ("avg", "max", "avgmax", "gem", "std", "gram", "pyramid", "flatten")

# Raised whenever a change of ours changes rows or what stands in their fingerprint: decoding,
# resizing, preprocessing or pooling.
CODE_VERSION = 2


@dataclass(frozen=True)
class FrozenEncoder:
    """Architecture, cut, pooling, input and weights: all that decides the row of an image."""

    spec: EncoderSpec
    architecture: str  # as `architecture_of` tells it
    taps: tuple[str, ...]
    pooling: Pooling | tuple[Pooling, ...]  # of all taps, or of each
    image_size: tuple[int, int]
    resize: Resize
    weights: str
    digest: str
    engine: Literal["keras", "openvino"]
    precision: Literal["float32", "bfloat16"]
    carried: str = ""  # digest of the network that travels with it, in place of one built here

    @property
    def network_fingerprint(self) -> str:
        """Digest of all that decides the network alone."""
        told = {
            "code": CODE_VERSION,
            "architecture": self.architecture,
            "preprocessing": asdict(self.spec.preprocessing),
            "taps": self.taps,
            "pooling": self.pooling,
            "image_size": self.image_size,
            "weights": self.digest,
        }
        return _digest(told | ({"carried": self.carried} if self.carried else {}))

    @property
    def fingerprint(self) -> str:
        """Digest of all that decides a row, known without starting Keras."""
        return _digest(
            {
                "network": self.network_fingerprint,
                "resize": (self.resize, "antialiased bilinear"),
                "engine": self.engine,
                "precision": self.precision,
            }
        )

    def source(self) -> WeightsSource:
        """Find the weights again, and make sure that they are the same.

        Raises
        ------
        WeightsNotFoundError
            Where they are no longer there.
        ValueError
            Where other weights stand under that name now.
        """
        source = locate_weights(self.spec, self.weights)
        if source.digest != self.digest:
            raise ValueError(
                f"weights={self.weights!r} of {self.spec.name!r} lead to {str(source.path)!r}, "
                f"which has digest {source.digest}, but the extractor was fitted with "
                f"{self.digest}. Bring the former weights back, or call fit again"
            )
        return source

    def check_architecture(self) -> None:
        """Make sure that the builder still makes the network that this encoder stands for.

        Raises
        ------
        ValueError
            Where it makes another one.

        Warns
        -----
        UserWarning
            Where that cannot be told, since other versions of Keras or its backend are at work.
        """
        now = architecture_of(self.spec, self.image_size)
        if now == self.architecture:
            return
        if versions_in(now) == versions_in(self.architecture):
            raise ValueError(
                f"the builder of {self.spec.name!r} makes another network than the one that the "
                "extractor was fitted with. Bring the former builder back, or call fit again"
            )
        warnings.warn(
            f"encoder {self.spec.name!r} was fitted under {versions_in(self.architecture)} and "
            f"runs under {versions_in(now)}: whether its builder still makes the same network "
            "cannot be told. Call fit again to be sure",
            stacklevel=2,
        )


def freeze(
    encoder: str | os.PathLike | EncoderSpec,
    *,
    weights: str | os.PathLike,
    layers: str | Sequence[str],
    pooling: Pooling | Sequence[Pooling],
    image_size: int | tuple[int, int] | None,
    resize: Resize,
    engine: Literal["keras", "openvino"],
    precision: Literal["float32", "bfloat16"],
) -> FrozenEncoder:
    """Resolve what a user asked for into a `FrozenEncoder`.

    Raises
    ------
    ValueError
        For an unknown encoder, for layers or poolings that cannot be resolved or an impossible
        image size.
    WeightsNotFoundError
        Where the weights cannot be had.
    """
    spec = get_encoder(encoder)
    _check_preprocessing(spec, weights)
    digest = locate_weights(spec, weights).digest
    taps = _resolve_taps(spec, layers)
    size = spec.image_size if image_size is None else resolve_size(image_size)
    return FrozenEncoder(
        spec=spec,
        architecture=architecture_of(spec, size),
        taps=taps,
        pooling=resolve_pooling(pooling),
        image_size=size,
        resize=resize,
        weights=os.fspath(weights),
        digest=digest,
        engine=engine,
        precision=precision,
    )


def _resolve_taps(spec: EncoderSpec, layers: str | Sequence[str]) -> tuple[str, ...]:
    if layers == "last":
        return (spec.last or "output",)
    if layers in ("multi", "skips"):
        last = (spec.last or "output",)
        several = spec.taps or last if layers == "multi" else spec.skips or spec.taps
        if not several:
            raise ValueError(
                f"encoder {spec.name!r} names no layers for layers={layers!r}; give a list of names"
            )
        return several
    if isinstance(layers, str):
        raise ValueError(
            f"layers={layers!r}: expected 'last', 'multi' or a list of layer names, as [{layers!r}]"
        )
    taps = tuple(layers)
    if not taps or len(set(taps)) < len(taps) or not all(isinstance(t, str) for t in taps):
        raise ValueError(f"layers={layers!r}: expected one or more different layer names")
    return taps


def resolve_pooling(pooling: Pooling | Sequence[Pooling]) -> Pooling:
    """Name of one pooling or several.

    Raises
    ------
    ValueError
        Where one of them is none.
    """
    several = [pooling] if isinstance(pooling, str) else list(pooling)
    if not several or len(set(several)) < len(several) or not set(several) <= set(POOLINGS):
        raise ValueError(
            f"pooling={pooling!r}: expected one of {', '.join(POOLINGS)}, or a list of different "
            "ones"
        )
    return "+".join(several)


def _check_preprocessing(spec: EncoderSpec, weights: str | os.PathLike) -> None:
    """Refuse ImageNet weights of EfficientNet without the rescaling that Keras gives them."""
    if weights != "imagenet" or not isinstance(spec.builder, str):
        return
    if not re.fullmatch(r"keras\.applications\.(\w+\.)?EfficientNetB\d", spec.builder):
        return
    if spec.preprocessing != PREPROCESSING["efficientnet"]:
        raise ValueError(
            f"encoder {spec.name!r}: with ImageNet weights {spec.builder} needs "
            "preprocessing='efficientnet', since Keras puts one rescaling more into the network "
            "where it loads these weights itself; register it so"
        )


def _digest(data: Any) -> str:
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()
