"""Model card: what a model is, what it was fitted on, how good it is, and what it is not for.

After Mitchell et al. (2019), Model cards for model reporting, FAT*, doi:10.1145/3287560.3287596.
"""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
from sklearn.base import is_classifier

from hybridus._version import __version__
from hybridus.encoders.frozen import FrozenEncoder

LIMITS = (
    "For research; not a medical device. Scores are of images like those that it was fitted on: on "
    "scans of another hospital or scanner expect less, and measure before you rely on it."
)
_PACKAGES = ("scikit-learn", "numpy", "keras", "tensorflow", "openvino", "skops")
_SOURCES = {
    "bundled": "trained by hybridus on simulated and unlabelled scans; BSD-3-Clause, as hybridus",
    "imagenet": "ImageNet weights; see the terms of whoever gave you the file (those that Keras "
    "downloads are under the terms of keras.applications)",
    "random": "drawn at random, untrained",
}


@dataclass(frozen=True)
class ModelCard:
    """What is known of a model, as plain data that JSON holds.

    Attributes
    ----------
    model : str
        What it is made of.
    task : {"classify", "segment", "transform"}
    classes : tuple of str or None
        Names of the classes, in the order of `classes_`; None where there are none.
    input : dict
        ``size`` (height and width that it looks at, in pixels) and ``value_range``.
    data : dict
        What it was fitted on: ``name``, ``digest``, ``n_images``, ``n_groups``.
    scores : dict
        What a study measured on images that it was not trained on.
    referral : dict
        ``margin``, the difference of the two largest probabilities below which an image should go
        to a person, and ``share``, of how many that is so.
    weights : dict of str to dict
        Of each encoder ``digest``, ``source`` and whether they are ``included`` in the file.
    versions : dict of str to str
    limits : str
        What it is not for.
    created : str
        Date and time, ISO 8601, UTC.

    Examples
    --------
    >>> from hybridus import ModelCard
    >>> card = ModelCard(model="MobileNetV2 and an SVM", classes=("benign", "malignant"))
    >>> card.limits.split(";")[0]
    'For research'
    """

    model: str = ""
    task: str = ""
    classes: tuple[str, ...] | None = None
    input: Mapping[str, Any] = field(default_factory=dict)
    data: Mapping[str, Any] = field(default_factory=dict)
    scores: Mapping[str, Any] = field(default_factory=dict)
    referral: Mapping[str, Any] = field(default_factory=dict)
    weights: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, Any] = field(default_factory=dict)
    limits: str = LIMITS
    created: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Plain data, as JSON holds it."""
        return asdict(self)

    @classmethod
    def from_dict(cls, given: Mapping[str, Any]) -> ModelCard:
        """Make a card of plain data.

        Raises
        ------
        ValueError
            For entries that a card does not have, or of another kind.
        """
        unknown = sorted(set(given) - {one.name for one in fields(cls)})
        if unknown:
            raise ValueError(f"card: no entry {', '.join(map(repr, unknown))} in a ModelCard")
        card = cls(**given)
        if card.classes is not None:
            if isinstance(card.classes, str) or not isinstance(card.classes, list | tuple):
                raise ValueError(f"card: classes={card.classes!r}, expected names or None")
            card = replace(card, classes=tuple(map(str, card.classes)))
        for one in fields(cls):
            value = getattr(card, one.name)
            kind = str if one.type == "str" else Mapping
            if one.name != "classes" and not isinstance(value, kind):
                raise ValueError(f"card: {one.name} is {value!r:.80}, expected {kind.__name__}")
        return card


def describe(
    estimator: Any, given: ModelCard | Mapping[str, Any] | None, *, included: bool
) -> ModelCard:
    """Fill in what the estimator itself tells; what the caller says goes first.

    Raises
    ------
    ValueError
        Where the caller names other classes than the estimator has.
    """
    from hybridus.estimators.segmenters import is_segmenter

    said = given.as_dict() if isinstance(given, ModelCard) else dict(given or {})
    said = {name: value for name, value in said.items() if value or name == "limits"}
    known = getattr(estimator, "classes_", None) if is_classifier(estimator) else None
    classes = None if known is None else [str(one) for one in np.asarray(known).tolist()]
    named = said.get("classes")
    if named is not None and (classes is None or len(named) != len(classes)):
        raise ValueError(
            f"card: classes={list(named)!r}, but the model has "
            + ("none" if classes is None else f"{len(classes)}: {classes}")
        )
    parts = list(walk(estimator))
    encoders = [one for one in parts if isinstance(one, FrozenEncoder)]
    sizes = [one.image_size for one in encoders] + [
        one.mask_size_ for one in parts if hasattr(one, "mask_size_") and not encoders
    ]
    ranges = [one.value_range for one in parts if getattr(one, "value_range", None) is not None]
    task = (
        "segment" if is_segmenter(estimator) else "classify" if known is not None else "transform"
    )
    found = ModelCard(
        model=" ".join(repr(estimator).split()),
        task=task,
        classes=None if classes is None else tuple(classes),
        input={
            "size": list(max(sizes)) if sizes else None,
            "value_range": list(ranges[0]) if ranges else None,
        },
        weights={
            one.spec.name: {
                "digest": one.digest,
                "source": _SOURCES.get(one.weights, "a file of the user's"),
                "included": included,
            }
            for one in encoders
        },
        versions={
            "hybridus": __version__,
            "python": platform.python_version(),
            **{name: version for name in _PACKAGES if (version := _version(name))},
        },
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    return ModelCard.from_dict(found.as_dict() | said)


def walk(value: Any, seen: set[int] | None = None) -> Any:
    """Yield an estimator and all of ours and scikit-learn's that it holds, each once."""
    seen = set() if seen is None else seen
    if id(value) in seen:
        return
    seen.add(id(value))
    if isinstance(value, Mapping):
        inner = list(value.values())
    elif isinstance(value, list | tuple):
        inner = list(value)
    elif is_ours(value):
        yield value
        inner = list(vars(value).values())
    else:
        return
    for one in inner:
        yield from walk(one, seen)


def is_ours(value: Any) -> bool:
    """Whether a value is an object of hybridus or of scikit-learn that holds others."""
    module = type(value).__module__ or ""
    return (
        module.split(".")[0] in ("hybridus", "sklearn")
        and hasattr(value, "__dict__")
        and not isinstance(value, Mapping)
    )


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
