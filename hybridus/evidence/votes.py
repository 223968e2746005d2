"""Votes: the evidence of classifiers whose probabilities are averaged, put together."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax
from sklearn.ensemble import VotingClassifier

from hybridus.exceptions import CannotExplainError

_AGREES = 1e-4  # of probabilities and what scores say of them


class Member(NamedTuple):
    """One classifier of a vote.

    Attributes
    ----------
    name : str
    model : fitted classifier
    share : float
        Of the mean; shares sum to 1.
    """

    name: str
    model: Any
    share: float


def members_of(vote: VotingClassifier) -> list[Member]:
    """List the classifiers of a vote that averages probabilities.

    Raises
    ------
    CannotExplainError
        For votes by majority, which have no slopes.
    """
    if vote.voting != "soft":
        raise CannotExplainError(
            "a vote by majority (voting='hard') cannot be explained: nothing changes until a vote "
            "tips; average probabilities with voting='soft'"
        )
    names = [name for name, model in vote.estimators if model != "drop"]
    weights = np.ones(len(names)) if vote.weights is None else np.asarray(vote.weights, float)
    if len(weights) > len(names):  # weights of those that were dropped
        weights = weights[[model != "drop" for _, model in vote.estimators]]
    shares = weights / weights.sum()
    return [
        Member(name, model, float(share))
        for name, model, share in zip(names, vote.estimators_, shares, strict=True)
    ]


def slopes_of_probabilities(
    name: str, scores: NDArray[np.float64], probabilities: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Tell how the probabilities of a classifier change with its scores.

    Parameters
    ----------
    name : str
        Of the classifier, for the message.
    scores, probabilities : arrays of shape (n_samples, n_classes)

    Returns
    -------
    array of shape (n_samples, n_classes, n_classes)
        Slope of each probability (second axis) by each score (third).

    Raises
    ------
    CannotExplainError
        Where probabilities are no softmax of the scores, times one number for all samples, as
        those of logistic regression, of networks and of models calibrated by a temperature are.

    Examples
    --------
    >>> import numpy as np
    >>> from hybridus.evidence.votes import slopes_of_probabilities
    >>> slopes_of_probabilities("flat", np.zeros((1, 2)), np.full((1, 2), 0.5)).tolist()
    [[[0.25, -0.25], [-0.25, 0.25]]]
    """
    centred = scores - scores.mean(axis=1, keepdims=True)
    logs = np.log(np.clip(probabilities, 1e-12, None))
    logs -= logs.mean(axis=1, keepdims=True)
    # Where a probability is next to nothing its logarithm says little: the others decide.
    weight = probabilities.min(axis=1, keepdims=True)
    total = float((weight * centred**2).sum())
    fitted = float((weight * centred * logs).sum()) / total if total > 0 else 1.0
    # Scores of two classes are the decision and its negative, hence a half.
    steepness = min((fitted, 1.0, 0.5), key=lambda one: _distance(one * centred, probabilities))
    if not _distance(steepness * centred, probabilities) <= _AGREES:
        raise CannotExplainError(
            f"the probabilities of {name} are no softmax of its scores, so that its share in the "
            "vote cannot be brought back to the image; expected logistic regression, a "
            "perceptron, a network, or a model calibrated by a temperature"
        )
    own = np.eye(scores.shape[1]) * probabilities[:, np.newaxis]
    return steepness * (own - probabilities[:, :, np.newaxis] * probabilities[:, np.newaxis])


def _distance(scores: NDArray[np.float64], probabilities: NDArray[np.float64]) -> float:
    return float(np.abs(softmax(scores, axis=1) - probabilities).max(initial=0))
