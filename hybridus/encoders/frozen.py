"""What decides a feature row: the frozen encoder as a value, with its fingerprint."""

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any, Literal

from hybridus.encoders.registry import EncoderSpec, get_encoder
from hybridus.encoders.weights import WeightsSource, locate_weights
from hybridus.inputs.resizing import Resize

Pooling = Literal["avg", "max", "avgmax", "gem", "flatten"]

# Raised whenever a change of ours changes rows: decoding, resizing, preprocessing or pooling.
CODE_VERSION = 1


@dataclass(frozen=True)
class FrozenEncoder:
    """Architecture, cut, pooling, input and weights: all that decides the row of an image."""

    spec: EncoderSpec
    taps: tuple[str, ...]
    pooling: Pooling | tuple[Pooling, ...]  # of all taps, or of each
    image_size: tuple[int, int]
    resize: Resize
    weights: str
    digest: str
    engine: Literal["keras", "openvino"]
    precision: Literal["float32", "bfloat16"]

    @property
    def network_fingerprint(self) -> str:
        """Digest of all that decides the network alone."""
        return _digest(
            {
                "code": CODE_VERSION,
                "architecture": self.spec.describe(),
                "taps": self.taps,
                "pooling": self.pooling,
                "image_size": self.image_size,
                "weights": self.digest,
            }
        )

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


def freeze(
    encoder: str | EncoderSpec,
    *,
    weights: str | os.PathLike,
    layers: str | Sequence[str],
    pooling: Pooling,
    image_size: int | tuple[int, int] | None,
    resize: Resize,
    engine: Literal["keras", "openvino"],
    precision: Literal["float32", "bfloat16"],
) -> FrozenEncoder:
    """Resolve what a user asked for into a `FrozenEncoder`.

    Raises
    ------
    ValueError
        For an unknown encoder, for layers that cannot be resolved or an impossible image size.
    WeightsNotFoundError
        Where the weights cannot be had.
    """
    spec = get_encoder(encoder)
    digest = locate_weights(spec, weights).digest
    return FrozenEncoder(
        spec=spec,
        taps=_resolve_taps(spec, layers),
        pooling=pooling,
        image_size=spec.image_size if image_size is None else resolve_size(image_size),
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
        several = spec.taps if layers == "multi" else spec.skips or spec.taps
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


def resolve_size(given: Any, name: str = "image_size") -> tuple[int, int]:
    """Read a number of pixels, or (height, width); `name` is that of the parameter.

    Raises
    ------
    ValueError
        For anything else.
    """
    size = (given, given) if not isinstance(given, Sequence) else tuple(given)
    numbers = all(isinstance(side, Real) for side in size)
    if len(size) != 2 or not numbers or not all(int(side) == side and side > 0 for side in size):
        raise ValueError(f"{name}={given!r}: expected a number of pixels or (height, width)")
    return (int(size[0]), int(size[1]))


def _digest(data: Any) -> str:
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()
