"""`make_hybrid_classifier`: good defaults for frozen features and a classical head."""

import os
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from sklearn.base import BaseEstimator, clone, is_classifier
from sklearn.linear_model import LogisticRegression, SGDClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import FeatureUnion, Pipeline
from sklearn.svm import SVC

from hybridus.encoders.registry import EncoderSpec, get_encoder
from hybridus.estimators.calibration import WholeGroupsCalibration
from hybridus.estimators.features import DeepFeatureExtractor
from hybridus.estimators.lesion.features import LesionFeatures
from hybridus.estimators.scaler import FeatureScaler
from hybridus.inputs.groups import WholeGroupsKFold


def make_hybrid_classifier(
    encoder: str | os.PathLike | EncoderSpec | Sequence[Any] = "mobilenet_v2",
    head: Literal["svm", "mlp", "logreg", "sgd"] | BaseEstimator = "svm",
    *,
    lesion: Any = None,
    whole_image: bool = True,
    class_weight: dict | str | None = "balanced",
    probability: bool = False,
    random_state: Any = None,
    weights: str | os.PathLike = "imagenet",
    layers: str | Sequence[str] = "multi",
    **extractor: Any,
) -> Pipeline:
    """Make a pipeline of frozen features, a scaler and a classical head.

    Parameters
    ----------
    encoder : str, path, EncoderSpec or a sequence of them, default="mobilenet_v2"
        Several encoders are fused: their features stand side by side, in a `FeatureUnion` whose
        parts bear the encoders' names.
    head : {"svm", "mlp", "logreg", "sgd"} or classifier, default="svm"
        "svm" is an RBF support vector machine with C = 10, "mlp" one hidden layer of 128 units
        with weight decay 0.01, "logreg" logistic regression with C = 0.01, which suits thousands
        of features on hundreds of images, and "sgd" the same by averaged stochastic gradient
        descent with alpha = 0.1, which `hybridus.fit_out_of_core` teaches part by part. A
        classifier is taken as it is.
    lesion : segmenter or None, default=None
        With one, the features of `LesionFeatures`, measurements of the lesion and what the encoders
        see of its crops, stand beside those of the whole image, as the part ``lesion``. It is
        trained on the masks that `fit` is given (see `LesionFeatures`); a fitted one in a
        `sklearn.frozen.FrozenEstimator` is used as it is.
    whole_image : bool, default=True
        False leaves out the features of the whole image, where there is `lesion`.
    class_weight : dict, "balanced" or None, default="balanced"
        For the heads "svm", "logreg" and "sgd"; `MLPClassifier` has none.
    probability : bool, default=False
        Make sure of `predict_proba`: a head without one is calibrated (Platt 1999) by
        cross-validation on the training data; its parameters are then ``head__estimator__...``.
        Groups stay whole in its folds where `fit` is given any: by `compare`, by
        ``pipe.fit(X, y, head__groups=groups)``, or by metadata routing.
    random_state : int, RandomState or None, default=None
        Seed of the head.
    weights, layers, **extractor
        Parameters of every `DeepFeatureExtractor`.

    Returns
    -------
    sklearn.pipeline.Pipeline
        Steps ``features``, ``scaler`` and ``head``. Features are float32; the scaler hands them to
        the head as float64, so that its answers do not depend on the order of the images.

    Raises
    ------
    ValueError
        For an unknown encoder or head, the same encoder twice, or nothing to look at.

    Examples
    --------
    >>> from hybridus import make_hybrid_classifier
    >>> pipe = make_hybrid_classifier(["vgg16", "mobilenet_v2"], head="logreg", layers="multi")
    >>> list(pipe.named_steps)
    ['features', 'scaler', 'head']
    >>> pipe.get_params()["features__vgg16__layers"]
    'multi'
    """
    extractor = {"weights": weights, "layers": layers, **extractor}
    features = _frozen_features(encoder, extractor)
    if lesion is None and not whole_image:
        raise ValueError("whole_image=False leaves nothing to look at: give lesion=, a segmenter")
    if lesion is not None:
        # Features of crops are looked up by the crops, so the segmenter is trained but once.
        of_lesion = LesionFeatures(lesion, clone(features), cache=extractor.get("cache", True))
        if not whole_image:
            features = of_lesion
        elif isinstance(features, FeatureUnion):
            features.transformer_list.append(("lesion", of_lesion))
        else:
            parts = [(get_encoder(features.encoder).name, features), ("lesion", of_lesion)]
            features = FeatureUnion(parts, verbose_feature_names_out=False)
    classifier = make_head(head, class_weight, random_state)
    if probability and not hasattr(classifier, "predict_proba"):
        # Its folds keep groups whole where metadata routing hands them on; see `compare`.
        classifier = WholeGroupsCalibration(classifier, ensemble=False, cv=WholeGroupsKFold(5))
    return Pipeline([("features", features), ("scaler", FeatureScaler()), ("head", classifier)])


def _frozen_features(encoder: Any, extractor: Mapping[str, Any]) -> Any:
    if isinstance(encoder, str | os.PathLike | EncoderSpec):
        get_encoder(encoder)
        return DeepFeatureExtractor(encoder, **extractor)
    names = [get_encoder(one).name for one in encoder]
    if not names or len(set(names)) < len(names):
        raise ValueError(f"encoder={encoder!r}: expected one or more different encoders")
    parts = [
        (name, DeepFeatureExtractor(one, **extractor))
        for name, one in zip(names, encoder, strict=True)
    ]
    return FeatureUnion(parts, verbose_feature_names_out=False)


def make_head(head: Any, class_weight: Any, random_state: Any) -> BaseEstimator:
    """Make the head that a name stands for; see `make_hybrid_classifier`.

    Raises
    ------
    ValueError
        For an unknown name, and what is no classifier.
    """
    if head == "svm":
        return SVC(C=10.0, class_weight=class_weight, random_state=random_state)
    if head == "mlp":
        return MLPClassifier((128,), alpha=0.01, max_iter=500, random_state=random_state)
    if head == "logreg":
        return LogisticRegression(
            C=0.01, class_weight=class_weight, max_iter=2000, random_state=random_state
        )
    if head == "sgd":
        return SGDClassifier(
            loss="log_loss",
            alpha=0.1,
            average=True,
            class_weight=class_weight,
            random_state=random_state,
        )
    if not isinstance(head, str) and hasattr(head, "get_params") and is_classifier(head):
        return head
    raise ValueError(f"head={head!r}: expected 'svm', 'mlp', 'logreg', 'sgd' or a classifier")
