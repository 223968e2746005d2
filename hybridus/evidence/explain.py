"""`explain`: where in an image the decision of a classifier comes from, the lesion or elsewhere."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from sklearn.base import is_classifier
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import VotingClassifier
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import Pipeline
from sklearn.utils import check_consistent_length
from sklearn.utils.validation import check_is_fitted

from hybridus.encoders.maps import pooled_maps
from hybridus.estimators.classifiers import FineTunedClassifier
from hybridus.estimators.trained import plain_batches
from hybridus.evidence.heads import head_slopes, layered_slopes, through_step
from hybridus.evidence.places import Placed, check_places, on_image, place_features, place_maps
from hybridus.evidence.votes import members_of, slopes_of_probabilities
from hybridus.exceptions import CannotExplainError
from hybridus.inputs.images import Images, images_as_seen_by
from hybridus.inputs.masks import as_masks, resize_mask
from hybridus.training.batches import subset

_TOGETHER = 16  # images that are explained at a time


@dataclass(frozen=True, eq=False)
class Explanation:
    """Where the scores of a classifier come from.

    For each image and class ``maps[i][k].sum() + elsewhere[i, k] + offset[i, k]`` is
    ``scores[i, k]``.

    Attributes
    ----------
    maps : list of arrays of shape (n_classes, H, W), float32
        Evidence by position, at the size of each image: positive speaks for the class.
    scores : array of shape (n_samples, n_classes)
        What the classifier decides by, before probabilities; see
        `hybridus.evidence.heads.head_slopes`. Of votes the mean probability.
    offset : array of shape (n_samples, n_classes)
        The score where every feature has its mean in training. Of linear heads the same for all
        images; of others what the slopes leave unexplained is in it.
    elsewhere : array of shape (n_samples, n_classes)
        Evidence that has no place in the image: vectors of a network, margins of padding.
    classes : array of shape (n_classes,)
    predicted : array of shape (n_samples,)
        What `predict` says.
    by_feature : DataFrame or None
        Evidence of features that have names of their own, such as the shape of the lesion: a row
        for each feature, columns (sample, class). It is in the maps too, on the region.

    Examples
    --------
    >>> from hybridus import explain, make_breast_phantoms, make_hybrid_classifier
    >>> phantoms = make_breast_phantoms(12, image_size=48, random_state=0)
    >>> pipe = make_hybrid_classifier("mobilenet_v2_0.35", "logreg", weights="bundled",
    ...     image_size=32).fit(phantoms.images, phantoms.target)
    >>> found = explain(pipe, phantoms.images[:2])
    >>> found.of(0, 1).shape, found.scores.shape
    ((48, 48), (2, 3))
    >>> found.on_lesion(phantoms.masks[:2]).columns.tolist()
    ['label', 'share', 'area', 'ratio']
    """

    maps: list[NDArray[np.float32]]
    scores: NDArray[np.float64]
    offset: NDArray[np.float64]
    elsewhere: NDArray[np.float64]
    classes: NDArray
    predicted: NDArray
    by_feature: pd.DataFrame | None

    def of(self, i: int, label: Any = None) -> NDArray[np.float32]:
        """Map of one image for a class; by default for the class that was predicted.

        Raises
        ------
        ValueError
            For a class that is none.
        """
        label = self.predicted[i] if label is None else label
        places = np.flatnonzero(self.classes == label)
        if not len(places):
            raise ValueError(f"class {label!r}: expected one of {self.classes.tolist()}")
        return self.maps[i][places[0]]

    def on_lesion(self, masks: Any, labels: ArrayLike | None = None) -> pd.DataFrame:
        """Tell how much of the evidence for a class falls on the lesion.

        Parameters
        ----------
        masks : n_samples masks
            See `hybridus.inputs.masks.as_masks`.
        labels : array-like of shape (n_samples,), default=None
            The class of each image whose evidence counts; None is the one that was predicted.

        Returns
        -------
        DataFrame
            A row for each image: ``label``; ``share``, of the positive evidence that has a place,
            what lies on the mask; ``area``, the mask's share of the image, which evidence spread
            evenly would have; ``ratio`` of both, which small lesions make large. NaN for images
            without lesion or without positive evidence, and for a class that the model does not
            know. The last layers of a network see an image in 7 x 7 fields: small lesions cannot
            hold all evidence.
        """
        labels = self.predicted if labels is None else np.asarray(labels)
        drawn = as_masks(masks)
        for name, given in (("masks", drawn), ("labels", labels)):
            if len(given) != len(self.maps):
                raise ValueError(
                    f"{name} holds {len(given)}, but the explanation is of {len(self.maps)} images"
                )
        rows: list[tuple[Any, float, float, float]] = []
        for i, mask in enumerate(drawn):
            if labels[i] not in self.classes:
                rows.append((labels[i], np.nan, np.nan, np.nan))
                continue
            found = np.maximum(self.of(i, labels[i]), 0)
            if mask.shape != found.shape:
                mask = resize_mask(mask, found.shape)
            total, area = float(found.sum()), float(mask.mean())
            known = mask.any() and total > 0
            share = float(found[mask].sum()) / total if known else np.nan
            area = area if mask.any() else np.nan
            rows.append((labels[i], share, area, share / area if known else np.nan))
        return pd.DataFrame(rows, columns=["label", "share", "area", "ratio"])


def explain(estimator: Any, X: Any) -> Explanation:
    """Tell where in images the decision of a classifier comes from.

    Parameters
    ----------
    estimator : fitted classifier
        A pipeline of `DeepFeatureExtractor`, `LesionFeatures` or a `FeatureUnion` of these, scalers
        and a head; a `FineTunedClassifier`; a `sklearn.ensemble.VotingClassifier` of these that
        averages probabilities (``voting="soft"``, as the preset ``lesion-fusion``); a search over
        one of them, or one of them with calibrated probabilities.
    X : images
        See `hybridus.inputs.images.as_images`.

    Returns
    -------
    Explanation

    Raises
    ------
    hybridus.exceptions.CannotExplainError
        For estimators of another kind; the message says what is expected.

    Notes
    -----
    A feature that is an average over positions is a sum of what the positions add; so is the
    score of a linear head, exactly. Of each feature what counts is its difference from the mean in
    training. Of kernels and perceptrons the slopes of the score at the features of this image stand
    for the weights. Of a fine-tuned network that is Grad-CAM without its rectification. Of a vote
    the evidence of each member counts by the slope of the mean probability at its scores: a member
    that is sure of itself moves little.

    References
    ----------
    Zhou, Khosla, Lapedriza, Oliva and Torralba 2016, Learning deep features for discriminative
    localization, CVPR. Selvaraju et al. 2017, Grad-CAM, arXiv:1610.02391.

    Examples
    --------
    >>> import numpy as np
    >>> from hybridus import explain, make_breast_phantoms, make_hybrid_classifier
    >>> phantoms = make_breast_phantoms(12, image_size=48, random_state=0)
    >>> pipe = make_hybrid_classifier("mobilenet_v2_0.35", "logreg", weights="bundled",
    ...     image_size=32).fit(phantoms.images, phantoms.target)
    >>> found = explain(pipe, phantoms.images[:2])
    >>> found.maps[0].shape
    (3, 48, 48)
    >>> total = found.maps[0].sum(axis=(1, 2)) + found.offset[0]
    >>> np.allclose(total, pipe.decision_function(phantoms.images[:1])[0], atol=1e-4)
    True
    """
    model = _plain(estimator)
    check_is_fitted(model)
    check_explainable(model)
    if isinstance(model, VotingClassifier):
        return _of_vote(model, estimator, X)
    images = images_as_seen_by(model, X)
    parts = []
    for start in range(0, len(images), _TOGETHER):
        rows = range(start, min(start + _TOGETHER, len(images)))
        held = [images[i] for i in rows]
        part = Images(held.__getitem__, len(held))
        if isinstance(model, FineTunedClassifier):
            parts.append(_of_network(model, part))
        elif isinstance(model, Pipeline):
            parts.append(_of_pipeline(model, part))
    scores = np.concatenate([scores for scores, _ in parts])
    placed = [one for _, found in parts for one in found]
    maps = [one.map.astype(np.float32) for one in placed]
    elsewhere = np.stack([one.elsewhere for one in placed])
    told = np.stack([one.map.sum(axis=(1, 2)) for one in placed]) + elsewhere
    classes = np.asarray(estimator.classes_)
    named = None
    if placed[0].by_feature:
        columns = pd.MultiIndex.from_product(
            [range(len(placed)), classes], names=["sample", "class"]
        )
        values = {
            name: np.concatenate([one.by_feature[name] for one in placed])
            for name in placed[0].by_feature
        }
        named = pd.DataFrame.from_dict(values, orient="index", columns=columns)
    return Explanation(
        maps=maps,
        scores=scores,
        offset=scores - told,
        elsewhere=elsewhere,
        classes=classes,
        predicted=np.asarray(estimator.predict(X)),
        by_feature=named,
    )


def check_explainable(estimator: Any) -> None:
    """Find out, without images, whether `explain` knows a fitted estimator of this kind.

    Raises
    ------
    hybridus.exceptions.CannotExplainError
        Where it does not.
    """
    model = _plain(estimator)
    if isinstance(model, FineTunedClassifier):
        return
    if isinstance(model, VotingClassifier):
        for member in members_of(model):
            check_explainable(member.model)
        return
    check_places(model.steps[0][1])
    head = model.steps[-1][1]
    width = getattr(head, "n_features_in_", None)
    if width is None:
        raise CannotExplainError(
            f"the head {type(head).__name__} cannot be explained: it does not say how many "
            "features it was fitted on (n_features_in_)"
        )
    head_slopes(head, np.zeros((1, width)))
    for _, step in reversed(model.steps[1:-1]):
        before = getattr(step, "n_features_in_", width)
        through_step(step, np.zeros((1, 1, width)), before)
        width = before


def _plain(estimator: Any) -> Any:
    """Find the network or the pipeline inside searches and calibrations."""
    model = estimator
    while True:
        if hasattr(model, "best_estimator_"):
            model = model.best_estimator_
        elif isinstance(model, FrozenEstimator):
            model = model.estimator
        elif isinstance(model, CalibratedClassifierCV) and len(model.calibrated_classifiers_) == 1:
            model = model.calibrated_classifiers_[0].estimator
        else:
            break
    if isinstance(model, FineTunedClassifier | VotingClassifier):
        return model
    if isinstance(model, Pipeline) and is_classifier(model) and len(model.steps) > 1:
        return model
    raise CannotExplainError(
        f"{type(model).__name__} cannot be explained: expected a pipeline of features and a "
        "classifier, as make_hybrid_classifier makes them, a FineTunedClassifier, or a "
        "VotingClassifier of these"
    )


def _of_vote(vote: VotingClassifier, estimator: Any, X: Any) -> Explanation:
    """Put the evidence of the members together, by what each moves of the mean probability."""
    members = members_of(vote)
    found, slopes = [], []
    said: Any = 0.0
    for member in members:
        one = explain(member.model, X)
        probabilities = np.asarray(member.model.predict_proba(X), np.float64)
        by_score = slopes_of_probabilities(member.name, one.scores, probabilities)
        found.append(one)
        slopes.append(member.share * by_score)
        said = said + member.share * probabilities
    pairs = list(zip(found, slopes, strict=True))
    maps = [
        np.sum([np.tensordot(slope[i], one.maps[i], axes=1) for one, slope in pairs], axis=0)
        for i in range(len(found[0].maps))
    ]
    elsewhere = np.sum([np.einsum("skm,sm->sk", s, one.elsewhere) for one, s in pairs], axis=0)
    classes = np.asarray(estimator.classes_)
    named = [
        _moved(one.by_feature, slope, member.name, classes)
        for one, slope, member in zip(found, slopes, members, strict=True)
        if one.by_feature is not None
    ]
    return Explanation(
        maps=[one.astype(np.float32) for one in maps],
        scores=said,
        offset=said - np.stack([one.sum(axis=(1, 2)) for one in maps]) - elsewhere,
        elsewhere=elsewhere,
        classes=classes,
        predicted=np.asarray(estimator.predict(X)),
        by_feature=pd.concat(named) if named else None,
    )


def _moved(table: pd.DataFrame, slopes: NDArray, name: str, classes: NDArray) -> pd.DataFrame:
    """Turn the evidence of named features of one member into what it moves of the mean."""
    values = table.to_numpy().reshape(len(table), *slopes.shape[:2])
    moved = np.einsum("skm,fsm->fsk", slopes, values).reshape(len(table), -1)
    columns = pd.MultiIndex.from_product([range(len(slopes)), classes], names=["sample", "class"])
    return pd.DataFrame(moved, [f"{name}__{row}" for row in table.index], columns)


def _of_pipeline(model: Pipeline, images: Images) -> tuple[NDArray, list[Placed]]:
    features, steps, head = model.steps[0][1], model.steps[1:-1], model.steps[-1][1]
    rows = np.asarray(features.transform(images), dtype=np.float64)
    behind, widths = rows, []
    for _, step in steps:
        widths.append(behind.shape[1])
        if step not in (None, "passthrough"):
            behind = np.asarray(step.transform(behind), dtype=np.float64)
    scores, weights = head_slopes(head, behind)
    for (_, step), width in zip(reversed(steps), reversed(widths), strict=True):
        weights = through_step(step, weights, width)
    baseline = np.zeros(rows.shape[1])
    for _, step in steps[:1]:
        mean = getattr(step, "mean_", None)
        if mean is not None and len(mean) == len(baseline):
            baseline = np.asarray(mean, dtype=np.float64)
    return scores, list(place_features(features, images, rows, weights, baseline))


def _of_network(model: FineTunedClassifier, images: Images) -> tuple[NDArray, list[Placed]]:
    layers, mean = _head_layers(model)
    batches = model._open_pixels(images)
    pixels = np.concatenate(list(plain_batches(batches, len(images))))
    (outputs,) = pooled_maps(model._carry(), [pixels], by_output=False)
    maps = outputs[0]
    pooled = np.concatenate([one.maps.astype(np.float64).mean(axis=(1, 2)) for one in maps], axis=1)
    if pooled.shape[1] != len(mean):
        raise CannotExplainError(
            f"layers={model.layers!r} of this network hold vectors, which have no place in the "
            "image: explain networks whose layers are all maps"
        )
    scores, weights = layered_slopes(pooled, layers, "relu")
    placed = []
    for i in range(len(images)):
        of_image = [type(one)(one.kind, one.maps[i]) for one in maps]
        grids, elsewhere = place_maps(of_image, weights[i], mean, pooled[i])
        size = images[i].shape[:2]
        frozen = model.frozen_
        found, margin = on_image(grids, frozen.image_size, frozen.resize, size, len(weights[i]))
        placed.append(Placed(found, elsewhere + margin, {}))
    return scores, placed


def _head_layers(model: FineTunedClassifier) -> tuple[list[tuple[NDArray, NDArray]], NDArray]:
    """Dense layers behind the pooling, the scaler taken into the first, and its mean."""
    values = {name: np.asarray(value, np.float64) for name, value in model.variables_.items()}
    mean, variance = values["scaler/moving_mean"], values["scaler/moving_variance"]
    names = [f"hidden_{k}" for k in range(1, len(model.hidden_layer_sizes) + 1)] + ["softmax"]
    layers = [(values[f"{name}/kernel"], values[f"{name}/bias"]) for name in names]
    slope = 1 / np.sqrt(variance + 1e-3)  # Keras's epsilon
    kernel, bias = layers[0]
    layers[0] = slope[:, np.newaxis] * kernel, bias - (mean * slope) @ kernel
    return layers, mean


def evidence_on_lesion(estimator: Any, X: Any, y: ArrayLike, masks: Any) -> pd.DataFrame:
    """Tell how much of a classifier's evidence for the true class falls on the lesion.

    Parameters
    ----------
    estimator : fitted classifier
        See `explain`.
    X : images
    y : array-like of shape (n_samples,)
        True classes.
    masks : n_samples masks
        Images without lesion do not count.

    Returns
    -------
    DataFrame
        A row for each class that has lesions, and ``all``: means of ``share``, ``area`` and
        ``ratio`` (see `Explanation.on_lesion`), and ``n``, how many images count.

    Examples
    --------
    >>> from hybridus import evidence_on_lesion, make_breast_phantoms, make_hybrid_classifier
    >>> phantoms = make_breast_phantoms(12, image_size=48, random_state=0)
    >>> pipe = make_hybrid_classifier("mobilenet_v2_0.35", "logreg", weights="bundled",
    ...     image_size=32).fit(phantoms.images, phantoms.target)
    >>> evidence_on_lesion(pipe, phantoms.images, phantoms.target, phantoms.masks)["n"].to_dict()
    {1: 5, 2: 4, 'all': 9}
    """
    found = lesion_shares(estimator, X, y, masks).dropna()
    rows: dict[Any, pd.DataFrame] = dict(iter(found.groupby("label", sort=True)))
    rows["all"] = found
    table = pd.DataFrame(
        {name: part[["share", "area", "ratio"]].mean() for name, part in rows.items()}
    ).T
    return table.assign(n=[len(part) for part in rows.values()])


def lesion_shares(estimator: Any, X: Any, y: ArrayLike, masks: Any) -> pd.DataFrame:
    """`Explanation.on_lesion` for the true classes, of a few images at a time."""
    check_explainable(estimator)
    labels, truth = np.asarray(y), as_masks(masks)
    check_consistent_length(labels, range(len(truth)), X)
    images = images_as_seen_by(_plain(estimator), X)
    parts = []
    for start in range(0, len(images), 4 * _TOGETHER):
        rows = np.arange(start, min(start + 4 * _TOGETHER, len(images)))
        part = explain(estimator, subset(images, rows))
        parts.append(part.on_lesion([truth[i] for i in rows], labels[rows]))
    return pd.concat(parts, ignore_index=True)
