"""Presets: models with all their settings as rows of plain data, under names that users type.

They are the settings that the documentation's figures were measured with. `hybridus compare`, its
help and `hybridus models` are made from these rows; a new preset is one more row.
"""

from __future__ import annotations

import fnmatch
import importlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from hybridus.inputs.names import did_you_mean

if TYPE_CHECKING:
    from sklearn.base import BaseEstimator

Task = Literal["classify", "segment"]
Speed = Literal["seconds", "minutes", "tens of minutes"]
Compared = Literal["phantoms", "scans", "named"]
INNER_FOLDS = 3


@dataclass(frozen=True)
class Preset:
    """A model as data.

    Attributes
    ----------
    name : str
    task : {"classify", "segment"}
    estimator : str
        Public name in `hybridus` of what makes the model, or a dotted path to it.
    parameters : dict
        What it is made with. "postprocess" holds the fields of a `Postprocessing`, "estimators" the
        names of the presets that are averaged, "lesion" that of the segmenter of a
        hybrid that looks at lesions; "head__alpha" is set in a part.
    speed : {"seconds", "minutes", "tens of minutes"}
        What a fold of BUSI takes on two cores.
    note : str
        What the model is, for readers.
    search : dict
        What is tried for a hybrid's head, on inner folds of each training part.
    compared : {"phantoms", "scans", "named"}
        What the command compares it on where no model is named: simulated scans, real ones, or
        nothing.
    """

    name: str
    task: Task
    estimator: str
    parameters: Mapping[str, Any]
    speed: Speed
    note: str
    search: Mapping[str, Sequence[float]] = field(default_factory=dict)
    compared: Compared = "named"

    @property
    def encoders(self) -> tuple[str, ...]:
        """Names of the encoders that the model looks through, those of its members included."""
        given = self.parameters.get("encoder", ())
        own = (given,) if isinstance(given, str) else tuple(given)
        inner = [name for one in self.members for name in one.encoders]
        return tuple(dict.fromkeys([*own, *inner]))

    @property
    def members(self) -> tuple[Preset, ...]:
        """What is averaged, or finds lesions for a hybrid; nothing in most models."""
        lesion = self.parameters.get("lesion")
        named = self.parameters.get("estimators", () if lesion is None else (lesion,))
        return tuple(PRESETS[name] for name in named)

    @property
    def learns_lesions(self) -> bool:
        """Whether a classifier must be given masks of lesions in training."""
        return "lesion" in self.parameters or any(one.learns_lesions for one in self.members)

    @property
    def keeps_rows(self) -> bool:
        """Whether feature rows or activations are kept, which ``cache=False`` leaves out."""
        caching = ("make_hybrid_classifier", "FineTunedClassifier", "EncoderUNetSegmenter")
        return self.estimator in caching or any(one.keeps_rows for one in self.members)

    def input_size(self, image_size: int | None = None) -> tuple[int, int]:
        """Height and width of what the model looks at; of several networks, of the largest."""
        if "estimators" in self.parameters:
            return max(one.input_size(image_size) for one in self.members)
        size = image_size or self.parameters.get(self._sized_by)
        if size is None and not self.encoders:
            size = getattr(self.build(), self._sized_by)  # the default of the estimator
        if size is not None:
            return (size, size)
        from hybridus.encoders.registry import get_encoder

        return max(get_encoder(name).image_size for name in self.encoders)

    @property
    def _sized_by(self) -> str:
        """Parameter that decides what the model looks at; pixels alone are seen at mask size."""
        return "mask_size" if self.parameters.get("features") == "basic" else "image_size"

    def build(
        self,
        *,
        weights: str = "imagenet",
        image_size: int | None = None,
        cache: bool = True,
        grouped: bool = False,
        random_state: Any = None,
        value_range: tuple[float, float] | None = None,
    ) -> BaseEstimator:
        """Make the estimator; see `make_preset` for the parameters."""
        settings = dict(self.parameters)
        given: dict[str, Any] = {"weights": weights, "image_size": image_size, "cache": cache}
        given |= {"random_state": random_state, "value_range": value_range}
        built = [(one.name, one.build(grouped=grouped, **given)) for one in self.members]
        if "estimators" in settings:
            settings["estimators"] = built
        else:
            settings |= {"lesion": built[0][1]} if built else {}
            settings["random_state"] = random_state
            settings |= {"weights": weights} if self.encoders else {}
            settings |= {"cache": cache} if self.keeps_rows else {}
            settings |= {self._sized_by: image_size} if image_size is not None else {}
            settings |= {"value_range": value_range} if value_range is not None else {}
        if settings.get("postprocess"):
            from hybridus.estimators.segmenters import Postprocessing

            settings["postprocess"] = Postprocessing(**settings["postprocess"])
        in_parts = {name: settings.pop(name) for name in list(settings) if "__" in name}
        module, _, name = self.estimator.rpartition(".")
        made = getattr(importlib.import_module(module or "hybridus"), name)(**settings)
        made.set_params(**in_parts)
        if not self.search:
            return made
        from sklearn.model_selection import GridSearchCV, StratifiedGroupKFold, StratifiedKFold

        splitter = StratifiedGroupKFold if grouped else StratifiedKFold
        inner = splitter(INNER_FOLDS, shuffle=True, random_state=random_state)
        return GridSearchCV(made, dict(self.search), cv=inner)


def list_presets(pattern: str = "*", task: Task | None = None) -> list[str]:
    """Names of the presets that match a shell pattern, of one task or of both.

    Examples
    --------
    >>> from hybridus.presets import list_presets
    >>> list_presets("*reported*")
    ['unet-reported']
    """
    names = fnmatch.filter(PRESETS, pattern)
    return [name for name in names if task in (None, PRESETS[name].task)]


def get_preset(name: str) -> Preset:
    """Look a preset up by its name.

    Raises
    ------
    ValueError
        For a name that is not there.
    """
    if name not in PRESETS:
        near = did_you_mean(name, PRESETS)
        raise ValueError(f"no preset {name!r}{near}; known are {', '.join(PRESETS)}")
    return PRESETS[name]


def make_preset(
    name: str,
    *,
    weights: str = "imagenet",
    image_size: int | None = None,
    cache: bool = True,
    grouped: bool = False,
    random_state: Any = None,
    value_range: tuple[float, float] | None = None,
) -> BaseEstimator:
    """Make the model that a preset stands for, not fitted.

    Parameters
    ----------
    name : str
        See `list_presets`, or ``hybridus models``.
    weights : {"imagenet", "bundled", "random"} or path, default="imagenet"
        Of the encoders, where there are any.
    image_size : int, default=None
        Height and width of what the model looks at in pixels; None is that of the preset.
    cache : bool, default=True
        Whether feature rows and activations are kept, where the model has any.
    grouped : bool, default=False
        Whether `fit` will get groups, which the inner folds of a search then keep whole.
    random_state : int or None, default=None
        Seed of folds, heads and training.
    value_range : (float, float), default=None
        The values of black and white in the images, such as (0, 4095) for 12 bits; None is that of
        their type, as `hybridus.inputs.images.as_images` says.

    Returns
    -------
    classifier or segmenter

    Raises
    ------
    ValueError
        For a name that is not there.

    Examples
    --------
    >>> from hybridus.presets import make_preset
    >>> make_preset("unet-reported", random_state=0).loss
    'binary_crossentropy'
    """
    return get_preset(name).build(
        weights=weights,
        image_size=image_size,
        cache=cache,
        grouped=grouped,
        random_state=random_state,
        value_range=value_range,
    )


def markdown_table(presets: Iterable[Preset]) -> str:
    """Table of presets as the documentation shows it."""
    rows = [
        "| preset | what it is | a fold takes | compared unless models are named |",
        "|---|---|---|---|",
    ]
    where = {"phantoms": "on phantoms", "scans": "on scans", "named": ""}
    rows += [f"| `{p.name}` | {p.note} | {p.speed} | {where[p.compared]} |" for p in presets]
    return "\n".join(rows)


# What the inner search tries for each head.
_SEARCHES: dict[str, dict[str, list[float]]] = {
    "svm": {"head__C": [1, 10, 100]},
    "mlp": {"head__alpha": [1e-4, 1e-2, 1]},
    "logreg": {"head__C": [0.001, 0.003, 0.01, 0.1]},
    "sgd": {"head__alpha": [0.03, 0.1, 0.3, 1]},
}


def _hybrid(
    name: str,
    note: str,
    encoder: str | list[str],
    head: str,
    *,
    layers: str = "last",
    pooling: str = "avg",
    search: Mapping[str, Sequence[float]] | None = None,
    compared: Compared = "scans",
    speed: Speed = "seconds",
    **settings: Any,
) -> Preset:
    """Frozen encoder, or several, and a head that is searched, unless what is tried is empty."""
    parameters = {"encoder": encoder, "head": head, "layers": layers, "pooling": pooling}
    parameters |= settings
    search = _SEARCHES[head] if search is None else search
    maker = "make_hybrid_classifier"
    return Preset(name, "classify", maker, parameters, speed, note, search, compared)


def _fine_tuned(
    name: str,
    note: str,
    speed: Speed,
    encoder: str,
    trainable: str,
    *,
    compared: Compared = "named",
    **settings: Any,
) -> Preset:
    """Network of which a part is trained; at 128 pixels, since 224 would take an hour for some."""
    common = {"layers": "last", "image_size": 128, "learning_rate": 3e-4, "n_views": 8}
    common |= {"class_weight": "balanced", "augmentation": "light", "max_epochs": 30}
    parameters = {"encoder": encoder, "trainable": trainable, **common, **settings}
    return Preset(
        name, "classify", "FineTunedClassifier", parameters, speed, note, compared=compared
    )


_CLEANED: dict[str, Any] = {
    "threshold": "auto",
    "postprocess": {"fill_holes": True, "min_area": 0.002},
}
_BEST: dict[str, Any] = {"augmentation": "strong", "lr_schedule": "cosine", "tta": True, **_CLEANED}
_REPORTED: dict[str, Any] = {
    "loss": "binary_crossentropy",
    "augmentation": "light",
    "lr_schedule": "plateau",
    "batch_size": 16,
    "patience": 15,
    "threshold": 0.5,
    "postprocess": None,
    "tta": False,
}
_ON_FROZEN: dict[str, Any] = {
    "image_size": 256,
    "loss": "bce_dice",
    "batch_size": 16,
    "dropout_rate": 0.5,
    "max_epochs": 30,
    "patience": 10,
    **_BEST,
}
# Of those that learn from a hundred phantoms in seconds: small batches, so that there are steps.
_SMALL: dict[str, Any] = {
    "loss": "bce_dice",
    "augmentation": "light",
    "lr_schedule": "plateau",
    "batch_size": 8,
    "patience": 15,
    "tta": True,
    **_CLEANED,
}

_FUSION = ["vgg16", "mobilenet_v2", "resnet50"]
_NARROW = "mobilenet_v2_0.35"
# One network and one set of rows for all heads on phantoms: exporting it takes longer than they do.
_SEVERAL: dict[str, Any] = {"layers": "multi", "pooling": "avgmax", "compared": "phantoms"}

_ROWS = (
    _hybrid(
        "mobilenet_v2-svm",
        "frozen MobileNetV2, last layer; SVM, as reported",
        "mobilenet_v2",
        "svm",
    ),
    _hybrid(
        "mobilenet_v2-mlp",
        "frozen MobileNetV2, last layer; MLP, as reported",
        "mobilenet_v2",
        "mlp",
    ),
    _hybrid(
        "mobilenet_v2-sgd",
        "frozen MobileNetV2, several layers; logistic regression by stochastic gradient descent, "
        "the head that learns from more rows than memory holds",
        "mobilenet_v2",
        "sgd",
        layers="multi",
        compared="named",
    ),
    _hybrid("vgg16-svm", "frozen VGG16, last layer; SVM, as reported", "vgg16", "svm"),
    _hybrid("vgg16-mlp", "frozen VGG16, last layer; MLP, as reported", "vgg16", "mlp"),
    _hybrid(
        "resnet50-svm",
        "frozen ResNet50, several layers, average and maximum; SVM",
        "resnet50",
        "svm",
        layers="multi",
        pooling="avgmax",
    ),
    _hybrid(
        "fusion-logreg",
        "frozen VGG16, MobileNetV2 and ResNet50, several layers; logistic regression",
        _FUSION,
        "logreg",
        layers="multi",
        search={"head__C": [0.003, 0.01, 0.03]},
    ),
    _hybrid(
        "lesion-logreg",
        "shape, margin, echo and texture of the lesion that a decoder on MobileNetV2 finds, with "
        "MobileNetV2 of its crops; logistic regression",
        "mobilenet_v2",
        "logreg",
        layers="multi",
        search={},
        lesion="mobilenet_v2-unet",
        whole_image=False,
        head__C=0.003,
        compared="named",
        speed="tens of minutes",
    ),
    Preset(
        "lesion-fusion",
        "classify",
        "sklearn.ensemble.VotingClassifier",
        {"estimators": ["fusion-logreg", "lesion-logreg"], "voting": "soft"},
        "tens of minutes",
        "mean probability of fusion-logreg, which sees the whole image, and of lesion-logreg",
    ),
    _fine_tuned(
        "mobilenet_v2-softmax-last",
        "MobileNetV2, last 20 layers fine-tuned",
        "minutes",
        "mobilenet_v2",
        "last:20",
        image_size=224,
        compared="scans",
    ),
    _fine_tuned(
        "resnet50-softmax-last",
        "ResNet50, several layers, conv4_block6 fine-tuned",
        "tens of minutes",
        "resnet50",
        "conv4_block6",
        layers="multi",
        image_size=224,
        n_views=4,
        learning_rate=1e-4,
    ),
    _fine_tuned(
        "mobilenet_v2-softmax",
        "MobileNetV2, first 10 layers fine-tuned, as reported, at 128 pixels",
        "minutes",
        "mobilenet_v2",
        "first:10",
        learning_rate=1e-3,
        max_epochs=15,
    ),
    _fine_tuned(
        "vgg16-softmax",
        "VGG16, first 10 layers fine-tuned, as reported, at 128 pixels",
        "tens of minutes",
        "vgg16",
        "first:10",
        max_epochs=15,
    ),
    _hybrid(
        "mobilenet_v2_0.35-svm",
        "frozen narrow MobileNetV2, several layers, average and maximum; SVM",
        _NARROW,
        "svm",
        **_SEVERAL,
    ),
    _hybrid(
        "mobilenet_v2_0.35-mlp",
        "the same features; MLP of 32 units, not searched",
        _NARROW,
        "mlp",
        search={},
        head__alpha=1.0,
        head__hidden_layer_sizes=(32,),
        **_SEVERAL,
    ),
    _hybrid(
        "mobilenet_v2_0.35-logreg",
        "the same features; logistic regression",
        _NARROW,
        "logreg",
        **_SEVERAL,
    ),
    _fine_tuned(
        "mobilenet_v2_0.35-softmax-last",
        "narrow MobileNetV2, last 20 layers fine-tuned, 15 epochs",
        "seconds",
        _NARROW,
        "last:20",
        n_views=4,
        learning_rate=1e-3,
        max_epochs=15,
        compared="phantoms",
    ),
    Preset(
        "unet",
        "segment",
        "UNetSegmenter",
        {"image_size": 128, "loss": "bce_dice", "deep_supervision": True, "batch_size": 8}
        | {"max_epochs": 70, "patience": 70, **_BEST},
        "tens of minutes",
        "U-Net from scratch, deep supervision, strong augmentation, 70 epochs",
    ),
    Preset(
        "unet-reported",
        "segment",
        "UNetSegmenter",
        {"image_size": 128, "deep_supervision": False, "max_epochs": 60, **_REPORTED},
        "tens of minutes",
        "U-Net from scratch, as reported: cross-entropy, light augmentation",
    ),
    Preset(
        "mobilenet_v2-unet",
        "segment",
        "EncoderUNetSegmenter",
        {"encoder": "mobilenet_v2", "n_views": 6, **_ON_FROZEN},
        "minutes",
        "decoder on a frozen MobileNetV2",
        compared="scans",
    ),
    Preset(
        "resnet50-unet",
        "segment",
        "EncoderUNetSegmenter",
        {"encoder": "resnet50", "n_views": 4, **_ON_FROZEN},
        "minutes",
        "decoder on a frozen ResNet50",
        compared="scans",
    ),
    Preset(
        "averaged-unet",
        "segment",
        "VotingSegmenter",
        {"estimators": ["mobilenet_v2-unet", "resnet50-unet"], **_CLEANED},
        "minutes",
        "decoders on frozen MobileNetV2 and ResNet50, averaged",
    ),
    Preset(
        "dncnn",
        "segment",
        "DnCNNSegmenter",
        {"image_size": 128, "filters": 24, "max_epochs": 12, **_REPORTED},
        "tens of minutes",
        "DnCNN, 24 filters a layer (64 in its paper, seven times the work), 12 epochs",
    ),
    Preset(
        "pixel-ann",
        "segment",
        "PixelSegmenter",
        {"features": "both", "encoder": "mobilenet_v2", "image_size": 224, "mask_size": 128}
        | {"threshold": 0.5},
        "minutes",
        "multi-layer perceptron that judges each pixel, by texture and MobileNetV2, as reported",
        compared="scans",
    ),
    Preset(
        "unet-small",
        "segment",
        "UNetSegmenter",
        {"image_size": 48, "depth": 3, "base_filters": 8, "deep_supervision": False}
        | {"max_epochs": 8, **_SMALL, "learning_rate": 2e-3},
        "seconds",
        "U-Net, 3 halvings, 8 filters, 48 pixels, 8 epochs",
        compared="phantoms",
    ),
    Preset(
        "mobilenet_v2_0.35-unet",
        "segment",
        "EncoderUNetSegmenter",
        {"encoder": _NARROW, "image_size": 128, "n_views": 2, "dropout_rate": 0.2}
        | {"max_epochs": 6, **_SMALL},
        "seconds",
        "decoder on a frozen narrow MobileNetV2, 128 pixels, 6 epochs",
        compared="phantoms",
    ),
    Preset(
        "dncnn-small",
        "segment",
        "DnCNNSegmenter",
        {"image_size": 64, "n_layers": 8, "filters": 8, "max_epochs": 8}
        | {**_SMALL, "batch_size": 4, "learning_rate": 3e-3},
        "seconds",
        "DnCNN, 8 layers of 8 filters, 64 pixels, 8 epochs",
    ),
    Preset(
        "pixel-ann-basic",
        "segment",
        "PixelSegmenter",
        {"features": "basic", "mask_size": 64, "n_pixels": 60, **_CLEANED},
        "seconds",
        "multi-layer perceptron that judges each pixel by its texture, 64 pixels",
        compared="phantoms",
    ),
)

PRESETS: Mapping[str, Preset] = {row.name: row for row in _ROWS}
