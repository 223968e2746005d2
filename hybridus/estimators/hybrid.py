"""`make_hybrid_classifier`: good defaults for frozen features and a classical head."""

import os
from collections.abc import Sequence
from typing import Any, Literal

from sklearn.base import BaseEstimator, is_classifier
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import FeatureUnion, Pipeline
from sklearn.svm import SVC

from hybridus.encoders.registry import EncoderSpec, get_encoder
from hybridus.estimators.calibration import WholeGroupsCalibration
from hybridus.estimators.features import DeepFeatureExtractor
from hybridus.estimators.scaler import FeatureScaler
from hybridus.inputs.groups import WholeGroupsKFold


def make_hybrid_classifier(
    encoder: str | EncoderSpec | Sequence[str | EncoderSpec] = "mobilenet_v2",
    head: Literal["svm", "mlp", "logreg"] | BaseEstimator = "svm",
    *,
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
    encoder : str, EncoderSpec or a sequence of them, default="mobilenet_v2"
        Several encoders are fused: their features stand side by side, in a `FeatureUnion` whose
        parts bear the encoders' names.
    head : {"svm", "mlp", "logreg"} or classifier, default="svm"
        "svm" is an RBF support vector machine with C = 10, "mlp" one hidden layer of 128 units
        with weight decay 0.01, "logreg" logistic regression with C = 0.01, which suits thousands
        of features on hundreds of images. A classifier is taken as it is.
    class_weight : dict, "balanced" or None, default="balanced"
        For the heads "svm" and "logreg"; `MLPClassifier` has none.
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
        For an unknown encoder or head, or the same encoder twice.

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
    features: BaseEstimator
    if isinstance(encoder, str | EncoderSpec):
        get_encoder(encoder)
        features = DeepFeatureExtractor(encoder, **extractor)
    else:
        names = [get_encoder(one).name for one in encoder]
        if not names or len(set(names)) < len(names):
            raise ValueError(f"encoder={encoder!r}: expected one or more different encoders")
        features = FeatureUnion(
            [
                (name, DeepFeatureExtractor(one, **extractor))
                for name, one in zip(names, encoder, strict=True)
            ],
            verbose_feature_names_out=False,
        )
    classifier = _head(head, class_weight, random_state)
    if probability and not hasattr(classifier, "predict_proba"):
        # Its folds keep groups whole where metadata routing hands them on; see `compare`.
        classifier = WholeGroupsCalibration(classifier, ensemble=False, cv=WholeGroupsKFold(5))
    return Pipeline([("features", features), ("scaler", FeatureScaler()), ("head", classifier)])


def _head(head: Any, class_weight: Any, random_state: Any) -> BaseEstimator:
    if head == "svm":
        return SVC(C=10.0, class_weight=class_weight, random_state=random_state)
    if head == "mlp":
        return MLPClassifier((128,), alpha=0.01, max_iter=500, random_state=random_state)
    if head == "logreg":
        return LogisticRegression(
            C=0.01, class_weight=class_weight, max_iter=2000, random_state=random_state
        )
    if not isinstance(head, str) and hasattr(head, "get_params") and is_classifier(head):
        return head
    raise ValueError(f"head={head!r}: expected 'svm', 'mlp', 'logreg' or a classifier")
