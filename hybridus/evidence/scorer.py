"""Scorer: how much of the evidence lies on the lesion, for scikit-learn's own tools."""

from __future__ import annotations

from typing import Any, ClassVar

from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator

from hybridus._sklearn import DocsLink
from hybridus.evidence.explain import lesion_shares


class EvidenceScorer(DocsLink, BaseEstimator):
    """Score classifiers by the share of their evidence for the true class that lies on the lesion.

    For ``scoring`` of `cross_validate`, `GridSearchCV` and the like. Masks reach it by
    scikit-learn's metadata routing, which must be on: ``cross_validate(..., params={"masks":
    masks})``. `hybridus.compare` needs no scorer: it takes ``masks=``.

    Notes
    -----
    The mean of ``share`` of `Explanation.on_lesion` over images with a lesion; NaN where there are
    none. What explains itself is what `explain` knows.

    Examples
    --------
    >>> import sklearn
    >>> from sklearn.model_selection import cross_validate
    >>> from hybridus import EvidenceScorer, make_breast_phantoms, make_hybrid_classifier
    >>> phantoms = make_breast_phantoms(20, image_size=48, random_state=0)
    >>> pipe = make_hybrid_classifier("mobilenet_v2_0.35", "logreg", weights="bundled",
    ...     image_size=32)
    >>> scoring = {"accuracy": "accuracy", "evidence": EvidenceScorer()}
    >>> with sklearn.config_context(enable_metadata_routing=True):
    ...     found = cross_validate(pipe, phantoms.images, phantoms.target, cv=2, scoring=scoring,
    ...         params={"masks": phantoms.masks})
    >>> bool((found["test_evidence"] > 0).all() and (found["test_evidence"] < 1).all())
    True
    """

    # Masks reach `score` wherever metadata routing is on; it stands for calling the scorer.
    __metadata_request__score: ClassVar[dict] = {"masks": True}

    def score(self, estimator: Any, X: Any, y: ArrayLike, masks: Any = None) -> float:
        """Score a fitted classifier.

        Parameters
        ----------
        estimator : fitted classifier
            See `explain`.
        X : images
        y : array-like of shape (n_samples,)
            True classes.
        masks : n_samples masks
            See `hybridus.inputs.masks.as_masks`.

        Returns
        -------
        float
            0 to 1, or NaN.

        Raises
        ------
        ValueError
            Where masks are missing.
        hybridus.exceptions.CannotExplainError
            For classifiers of another kind.
        """
        if masks is None:
            raise ValueError(
                "EvidenceScorer was given no masks: switch metadata routing on "
                "(sklearn.set_config(enable_metadata_routing=True)) and give them as params="
                "{'masks': masks} of cross_validate, or as masks= of a search's fit"
            )
        return float(lesion_shares(estimator, X, y, masks)["share"].mean())

    def __call__(self, estimator: Any, X: Any, y: ArrayLike, masks: Any = None) -> float:
        """Score a fitted classifier; see `score`."""
        return self.score(estimator, X, y, masks)
