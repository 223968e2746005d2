"""Networks of fitted estimators as OpenVINO models: features, classifiers and segmenters.

Knows which estimators have such a form, and what each of their networks sees.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from sklearn.base import is_classifier
from sklearn.calibration import CalibratedClassifierCV
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import FeatureUnion, Pipeline

from hybridus.encoders.engine import read_network
from hybridus.estimators.classifiers import FineTunedClassifier
from hybridus.estimators.features import DeepFeatureExtractor
from hybridus.estimators.segmenters import VotingSegmenter
from hybridus.estimators.segmenters.base import NetworkSegmenter
from hybridus.exporting.graph import (
    concat,
    constant,
    join,
    luminance,
    ops,
    resize_pixels,
    resize_plane,
    side,
    take,
    transpose,
)
from hybridus.exporting.heads import (
    Answer,
    append_calibration,
    append_head,
    append_transformer,
    first_of_largest,
)
from hybridus.inputs.resizing import Resize


class Seen(NamedTuple):
    """What a network sees of an image."""

    size: tuple[int, int]
    resize: Resize


class Pixels:
    """The input of a graph, 8-bit RGB, and the same at the sizes that networks see.

    Parameters
    ----------
    size : tuple of int or None
        Height and width of the input; None for any, which are resized.
    """

    def __init__(self, size: tuple[int, int] | None) -> None:
        height, width = size or (-1, -1)
        self.parameter = ops().parameter([-1, height, width, 3], np.uint8, name="images")
        self.parameter.output(0).set_names({"images"})
        self._planes = transpose(ops().convert(self.parameter, "f32"), (0, 3, 1, 2))
        self._fixed = size is not None
        self._sizes: dict[tuple[int, int], Any] = {} if size is None else {size: self._planes}

    def planes(self, size: tuple[int, int]) -> Any:
        """Pixels at a size, float32 (n, 3, H, W)."""
        if size not in self._sizes:
            self._sizes[size] = resize_pixels(self._planes, size)
        return self._sizes[size]

    def image_size(self) -> tuple[Any, Any] | None:
        """Height and width of the images, as operations; None where they are fixed."""
        return None if self._fixed else (side(self.parameter, 1), side(self.parameter, 2))


def what_is_seen(model: Any) -> list[Seen]:
    """Sizes of what the networks of a fitted estimator see, and how images are brought to them.

    Raises
    ------
    TypeError
        For an estimator that cannot be exported.
    """
    if (network := calibrated_network(model)) is not None:
        return what_is_seen(network)
    if isinstance(model, Pipeline):
        if not is_classifier(model):
            raise TypeError(
                f"a Pipeline that ends in {type(model.steps[-1][1]).__name__} cannot be exported; "
                "expected one that ends in a classifier"
            )
        return [seen for one in _extractors(_features(model)) for seen in what_is_seen(one)]
    if isinstance(model, DeepFeatureExtractor | FineTunedClassifier):
        return [Seen(model.frozen_.image_size, model.frozen_.resize)]
    if isinstance(model, NetworkSegmenter):
        return [Seen(model._input_size, model.resize_)]
    if isinstance(model, VotingSegmenter):
        return [seen for one in model.estimators_ for seen in what_is_seen(one)]
    raise TypeError(
        f"{type(model).__name__} cannot be exported; expected a pipeline of "
        "make_hybrid_classifier, FineTunedClassifier, UNetSegmenter, EncoderUNetSegmenter, "
        "ResNet50Segmenter, DnCNNSegmenter, or VotingSegmenter of these"
    )


def calibrated_network(model: Any) -> Any:
    """Return the network that was calibrated after it was fitted; None for all other models."""
    if not isinstance(model, CalibratedClassifierCV):
        return None
    (fitted, *others) = model.calibrated_classifiers_
    frozen = isinstance(fitted.estimator, FrozenEstimator) and not others
    return fitted.estimator.estimator if frozen else None


def build_classifier(model: Any, pixels: Pixels) -> Answer:
    """Put a fitted classifier behind pixels."""
    if (network := calibrated_network(model)) is not None:
        return append_calibration([build_classifier(network, pixels)], model)
    if isinstance(model, FineTunedClassifier):
        found = _trained(model, pixels)
        return Answer(None, found, first_of_largest(found))
    rows = _rows(_features(model), pixels)
    for name, step in model.steps[1:-1]:
        rows = append_transformer(rows, step, name)
    return append_head(rows, model.steps[-1][1])


def build_segmenter(model: Any, pixels: Pixels) -> tuple[Any, Any]:
    """Put a fitted segmenter behind pixels.

    Returns
    -------
    probabilities : operation
        Float32 (n, h, w), at the size of the images, or of the network's masks where images come
        at the size that the network sees.
    mask : operation
        Of the same shape, uint8: 1 where the probability is above the threshold.
    """
    found = _maps(model, pixels)
    size = pixels.image_size()
    if size is not None:
        found = resize_plane(found, *size)
    above = ops().greater(found, constant(model.threshold_))
    return found, ops().convert(above, "u8")


def _features(model: Pipeline) -> Any:
    """First step of a pipeline, which must make features."""
    name, features = model.steps[0]
    unusual = [one for one in _extractors(features) if not isinstance(one, DeepFeatureExtractor)]
    if unusual:
        raise TypeError(
            f"step {name!r} of the pipeline is or holds {type(unusual[0]).__name__}, which cannot "
            "be exported; expected DeepFeatureExtractor, or a FeatureUnion of several, as the "
            "first step"
        )
    if seen_again := [one for one in _extractors(features) if one.views]:
        raise TypeError(
            f"step {name!r} averages over views={seen_again[0].views!r}, which cannot be exported: "
            "fit a pipeline without views"
        )
    return features


def _extractors(features: Any) -> Sequence[Any]:
    if isinstance(features, FeatureUnion):
        return [one for _, one in features.transformer_list]
    return [features]


def _rows(features: Any, pixels: Pixels) -> Any:
    weights = getattr(features, "transformer_weights", None) or {}
    names = [name for name, _ in getattr(features, "transformer_list", [("", features)])]
    parts = []
    for name, extractor in zip(names, _extractors(features), strict=True):
        extractor._check_unchanged()
        seen = transpose(pixels.planes(extractor.frozen_.image_size), (0, 2, 3, 1))
        row = concat(join(read_network(extractor._carry()), seen))
        share = weights.get(name, 1)
        parts.append(row if share == 1 else ops().multiply(row, constant(share)))
    return concat(parts)


def _trained(model: Any, pixels: Pixels) -> Any:
    """Output of a network that was trained, in float32 whatever it was trained in."""
    ((size, _),) = what_is_seen(model)
    converted = read_network(model._carry())
    channels = converted.inputs[0].get_partial_shape()[3].get_length()
    seen = pixels.planes(size)
    seen = luminance(seen) if channels == 1 else seen
    o = ops()
    seen = transpose(seen, (0, 2, 3, 1))
    if not getattr(model, "tta", False):
        return join(converted, seen)[0]
    flipped = take(seen, range(size[1])[::-1], 2)
    both = join(converted, o.concat([seen, flipped], 0))[0]
    plain, turned = (o.split(both, constant(0, np.int64), 2).output(k) for k in range(2))
    width = both.get_partial_shape()[2].get_length()
    turned = take(turned, range(width)[::-1], 2)
    return o.multiply(o.add(plain, turned), constant(0.5))


def _maps(model: Any, pixels: Pixels) -> Any:
    """Probabilities of a segmenter at the size of its masks, (n, h, w)."""
    if isinstance(model, NetworkSegmenter):
        return take(_trained(model, pixels), 0, 3)
    total = None
    for one, share in zip(model.estimators_, model.weights_, strict=True):
        found = _maps(one, pixels)
        if one.mask_size_ != model.mask_size_:
            height, width = (constant(float(length)) for length in model.mask_size_)
            found = resize_plane(found, height, width)
        found = ops().multiply(found, constant(share))
        total = found if total is None else ops().add(total, found)
    return total
