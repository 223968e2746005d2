"""Which segmenters `hybridus compare` knows: rows of plain data, and what they stand for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sklearn.base import BaseEstimator

MASK_SIZE = 128  # pixels; masks are judged at this size, since images differ in theirs


@dataclass(frozen=True)
class Recipe:
    """A segmenter class, the frozen encoder that it looks through, and settings."""

    segmenter: str
    encoder: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    sized_by: str = "image_size"  # the parameter that --image-size sets
    note: str = ""  # what the reader is told that a model "has"


# Of those that learn from a hundred phantoms in seconds: small batches, so that there are steps.
SMALL: dict[str, Any] = {"loss": "bce_dice", "batch_size": 8}

# Of decoders on a frozen encoder. Two views: those of all scans of BUSI lie within the 4 GiB that
# activations may take (ResNet50 at 224 pixels); beyond that, the encoder would run in every epoch.
ON_FROZEN: dict[str, Any] = {
    "augmentation": "strong",
    "n_views": 2,
    "dropout_rate": 0.5,
    "lr_schedule": "cosine",
    "max_epochs": 30,
}

# `hybridus compare --help` names them too.
RECIPES: dict[str, Recipe] = {
    "unet": Recipe(
        "UNetSegmenter",
        settings={
            "loss": "bce_dice",
            "augmentation": "strong",
            "deep_supervision": True,
            "batch_size": 8,
            "lr_schedule": "cosine",
            "max_epochs": 70,
            "patience": 70,
        },
    ),
    "mobilenet_v2-unet": Recipe("EncoderUNetSegmenter", "mobilenet_v2", ON_FROZEN),
    "resnet50-unet": Recipe("EncoderUNetSegmenter", "resnet50", {"image_size": 224, **ON_FROZEN}),
    "dncnn": Recipe(
        "DnCNNSegmenter",
        settings={"filters": 24, "max_epochs": 12},
        note="24 filters a layer (64 in its paper, seven times the work) and 12 epochs",
    ),
    "pixel-ann": Recipe("PixelSegmenter", "mobilenet_v2", {"features": "both"}),
    "unet-small": Recipe(
        "UNetSegmenter",
        settings={"depth": 3, "base_filters": 8, "image_size": 64, "max_epochs": 12, **SMALL},
    ),
    "mobilenet_v2_0.35-unet": Recipe(
        "EncoderUNetSegmenter",
        "mobilenet_v2_0.35",
        {"image_size": 128, "n_views": 2, "max_epochs": 8, **SMALL},
    ),
    "dncnn-small": Recipe(
        "DnCNNSegmenter",
        settings={
            "n_layers": 8,
            "filters": 8,
            "image_size": 64,
            "max_epochs": 8,
            **SMALL,
            "batch_size": 4,
            "learning_rate": 3e-3,
        },
    ),
    "pixel-ann-basic": Recipe(
        "PixelSegmenter", settings={"features": "basic", "mask_size": 64}, sized_by="mask_size"
    ),
}

# Of all recipes.
ANSWERS: dict[str, Any] = {"threshold": "auto"}
CLEANING: dict[str, Any] = {"fill_holes": True, "min_area": 0.002}
# Of those that train a network.
FLIPPED: dict[str, Any] = {"tta": True}

# Trained from scratch at full resolution: minutes to tens of minutes for each fold on two cores.
SLOW_MODELS = ["unet", "dncnn"]

# Compared unless models are named: on phantoms small ones whose weights ship with hybridus, on
# images all others but the slow.
OFFLINE_MODELS = ["unet-small", "mobilenet_v2_0.35-unet", "dncnn-small", "pixel-ann-basic"]
DEFAULT_MODELS = ["mobilenet_v2-unet", "resnet50-unet", "pixel-ann"]


def build(
    recipe: Recipe, *, weights: str, image_size: int | None, cache: bool, seed: int
) -> BaseEstimator:
    """Make the segmenter of a recipe; what it does not have is not set."""
    import hybridus.estimators.segmenters as segmenters

    of_class = getattr(segmenters, recipe.segmenter)
    settings = {**ANSWERS, **recipe.settings, "random_state": seed}
    settings["postprocess"] = segmenters.Postprocessing(**CLEANING)
    if recipe.encoder is not None:
        settings |= {"encoder": recipe.encoder, "weights": weights}
    if keeps_activations(recipe):
        settings["cache"] = cache
    if trains_network(recipe):
        settings |= FLIPPED
    if image_size is not None:
        settings[recipe.sized_by] = image_size
    return of_class(**settings)


def trains_network(recipe: Recipe) -> bool:
    """Whether the segmenter is a network, and not a classifier of pixels."""
    return recipe.segmenter != "PixelSegmenter"


def keeps_activations(recipe: Recipe) -> bool:
    """Whether what a frozen encoder says is kept while a decoder is trained."""
    return recipe.segmenter == "EncoderUNetSegmenter"


def input_size(recipe: Recipe, model: Any) -> tuple[int, int]:
    """Height and width of what a segmenter that was built looks at."""
    size = getattr(model, recipe.sized_by)
    return (size, size)


def check(recipe: Recipe, model: Any, images: Any) -> str | None:
    """Find out, without training, whether weights are at hand and the input size will do.

    Returns a warning where activations of the images would not find room.

    Raises
    ------
    ValueError
        Where the network cannot take the input size.
    WeightsNotFoundError
        Where the weights cannot be had.
    """
    from sklearn.base import clone

    if not trains_network(recipe):
        if recipe.encoder is not None:
            from hybridus.estimators.features import DeepFeatureExtractor

            weights, size = model.weights, model.image_size
            DeepFeatureExtractor(recipe.encoder, weights=weights, image_size=size).fit(images[:1])
        return None
    settled = clone(model)
    settled._settle()
    if not (keeps_activations(recipe) and model.cache):
        return None
    return _lack_of_room(model, settled._partitions()[0].shapes, len(images))


def _lack_of_room(model: Any, shapes: tuple[tuple[int, ...], ...], n_images: int) -> str | None:
    """Say so where the activations of all images but those held out are more than are kept."""
    import math

    import numpy as np

    from hybridus.store.activations import most_bytes

    a_view = sum(map(math.prod, shapes)) * np.dtype(model.activation_dtype).itemsize
    gib = a_view * model.n_views * n_images * (1 - model.validation_fraction) / 2**30
    if gib * 2**30 <= most_bytes():
        return None
    return (
        f"activations of {n_images} images take {gib:.2g} GiB, more than HYBRIDUS_ACTIVATION_GIB "
        f"allows ({most_bytes() / 2**30:g}): the encoder would run in every epoch, which takes "
        f"many times as long. Set it to {math.ceil(gib)} where the disk has room."
    )


def refuse_idle_options(chosen: list[str], weights: str | None, cache: bool) -> None:
    """Refuse what none of the models has a use for.

    Raises
    ------
    ValueError
    """
    rows = [RECIPES[name] for name in chosen]
    if weights is not None and not any(row.encoder for row in rows):
        raise ValueError(f"--weights {weights}: no encoder in {', '.join(chosen)}")
    if not cache and not any(map(keeps_activations, rows)):
        raise ValueError(f"--no-cache: {', '.join(chosen)} keep nothing that could be left out")
