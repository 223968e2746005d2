"""Which models `hybridus compare` knows: rows of plain data, and the estimators they stand for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sklearn.base import BaseEstimator

INNER_FOLDS = 3


@dataclass(frozen=True)
class Hybrid:
    """Frozen encoders (several are fused), layers tapped, and a head whose setting is searched."""

    encoders: tuple[str, ...]
    head: str
    layers: str = "last"


@dataclass(frozen=True)
class FineTuned:
    """A network with new last layers, trained with them in part; no setting is searched."""

    encoder: str
    trainable: str
    settings: Mapping[str, Any] = field(default_factory=dict)  # other than those of FINE_TUNING


Recipe = Hybrid | FineTuned

# `hybridus compare --help` names them too.
RECIPES: dict[str, Recipe] = {
    "mobilenet_v2-svm": Hybrid(("mobilenet_v2",), "svm"),
    "mobilenet_v2-mlp": Hybrid(("mobilenet_v2",), "mlp"),
    "vgg16-svm": Hybrid(("vgg16",), "svm"),
    "vgg16-mlp": Hybrid(("vgg16",), "mlp"),
    "fusion-logreg": Hybrid(("vgg16", "mobilenet_v2", "resnet50"), "logreg", "multi"),
    "mobilenet_v2-softmax-last": FineTuned("mobilenet_v2", "last:20", {"image_size": 224}),
    "mobilenet_v2-softmax": FineTuned("mobilenet_v2", "first:10", {"learning_rate": 1e-3}),
    "vgg16-softmax": FineTuned("vgg16", "first:10"),
    "mobilenet_v2_0.35-svm": Hybrid(("mobilenet_v2_0.35",), "svm"),
    "mobilenet_v2_0.35-mlp": Hybrid(("mobilenet_v2_0.35",), "mlp"),
    "mobilenet_v2_0.35-logreg": Hybrid(("mobilenet_v2_0.35",), "logreg", "multi"),
    "mobilenet_v2_0.35-softmax-last": FineTuned("mobilenet_v2_0.35", "last:20"),
}

# What the inner search tries for each head.
GRIDS: dict[str, dict[str, list[float]]] = {
    "svm": {"head__C": [1, 10, 100]},
    "mlp": {"head__alpha": [1e-4, 1e-2, 1]},
    "logreg": {"head__C": [0.001, 0.003, 0.01, 0.1]},
}

# How networks are trained: parameters of `FineTunedClassifier`. 128 pixels, since those trained
# through all their layers would take an hour at 224.
FINE_TUNING: dict[str, Any] = {
    "image_size": 128,
    "learning_rate": 3e-4,
    "class_weight": "balanced",
    "augmentation": "light",
    "max_epochs": 30,
}

# Trained through the whole network, since their first layers are: minutes for each fold.
SLOW_MODELS = ["mobilenet_v2-softmax", "vgg16-softmax"]

# Compared unless models are named: on phantoms those whose weights ship with hybridus, on images
# the hybrids of the reported research, their fusion, and a network that trains quickly.
OFFLINE_MODELS = [name for name in RECIPES if name.startswith("mobilenet_v2_0.35")]
DEFAULT_MODELS = [name for name in RECIPES if name not in OFFLINE_MODELS + SLOW_MODELS]


def choose(given: list[str], known: Mapping[str, Any]) -> list[str]:
    """Split names at commas, drop repetitions and refuse those that are not among the known."""
    names = [name.strip() for text in given for name in text.split(",")]
    chosen = list(dict.fromkeys(name for name in names if name))
    unknown = [name for name in chosen if name not in known]
    if unknown or not chosen:
        raise ValueError(
            f"--models {', '.join(unknown) or repr('')}: no such model; choose of "
            f"{', '.join(known)}"
        )
    return chosen


def build(
    recipe: Recipe,
    *,
    grouped: bool,
    weights: str,
    image_size: int | None,
    cache: bool,
    seed: int,
) -> BaseEstimator:
    """Make the estimator of a recipe: a grid search over its head, or a network.

    Where samples have groups, the inner folds of a search keep them whole; a network asks for them
    in `fit` and does so with the part that it holds out.
    """
    frozen: dict[str, Any] = {"weights": weights, "image_size": image_size, "cache": cache}
    if isinstance(recipe, FineTuned):
        from hybridus.estimators.classifiers import FineTunedClassifier

        settings = {**FINE_TUNING, **recipe.settings}
        frozen["image_size"] = image_size or settings["image_size"]
        return FineTunedClassifier(
            recipe.encoder, trainable=recipe.trainable, random_state=seed, **(settings | frozen)
        )
    from sklearn.model_selection import GridSearchCV, StratifiedGroupKFold, StratifiedKFold

    from hybridus.estimators.hybrid import make_hybrid_classifier

    pipeline = make_hybrid_classifier(
        recipe.encoders[0] if len(recipe.encoders) == 1 else list(recipe.encoders),
        recipe.head,
        layers=recipe.layers,
        random_state=seed,
        **frozen,
    )
    splitter = StratifiedGroupKFold if grouped else StratifiedKFold
    inner = splitter(INNER_FOLDS, shuffle=True, random_state=seed)
    return GridSearchCV(pipeline, GRIDS[recipe.head], cv=inner)


def is_search(model: Any) -> bool:
    """Whether a model that was built is a hybrid, whose head is searched."""
    return hasattr(model, "param_grid")


def input_size(recipe: Recipe, image_size: int | None) -> tuple[int, int]:
    """Height and width of what the network takes; of fused ones, of the largest."""
    if isinstance(recipe, FineTuned):
        image_size = image_size or {**FINE_TUNING, **recipe.settings}["image_size"]
        return (image_size, image_size)
    if image_size is not None:
        return (image_size, image_size)
    from hybridus.encoders.registry import get_encoder

    return max(get_encoder(name).image_size for name in recipe.encoders)


def check(model: Any, images: Any) -> None:
    """Find out, without training, whether weights are at hand and layers are in the network.

    Raises
    ------
    ValueError
        Where the network cannot take the input size, or has no such layers.
    WeightsNotFoundError
        Where the weights cannot be had.
    """
    from sklearn.base import clone

    from hybridus.estimators.features import DeepFeatureExtractor

    if is_search(model):
        clone(model.estimator.steps[0][1]).fit(images)
        return
    from hybridus.encoders.partition import divide

    start = DeepFeatureExtractor(model.encoder, weights=model.weights, image_size=model.image_size)
    frozen = start.fit(images).frozen_
    divide(frozen.spec, frozen.image_size, frozen.taps, model.trainable)
