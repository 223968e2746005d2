"""Metrics of one count: what several scores need is summed once a batch, and each reads its share.

Keras's own metrics count the same pixels anew for each score; of a small network, tracing them took
as long as tracing the network.
"""

from collections.abc import Callable, Mapping
from typing import Any

from hybridus._keras import keras


def counted_metrics(
    shape: tuple[int, ...],
    count: Callable[[Any, Any], Any],
    scores: Mapping[str, Callable[[Any], Any]],
) -> list[Any]:
    """Return one Keras metric a score; the first counts for all, so it must be updated as well.

    Parameters
    ----------
    shape : tuple of int
        Of what is summed over batches.
    count : callable
        Gives what is summed of truth and predictions of a batch, float32.
    scores : mapping of str to callable
        What each score makes of the sums, in the order of the metrics.

    Examples
    --------
    >>> import numpy as np
    >>> from hybridus.training.networks.counted import counted_metrics
    >>> ups_and_all = lambda truth, found: np.array([found.sum(), found.size], np.float32)
    >>> share, number = counted_metrics(
    ...     (2,), ups_and_all, {"share": lambda s: s[0] / s[1], "number": lambda s: s[1]}
    ... )
    >>> share.update_state(None, np.array([1, 0, 0, 1]))
    >>> float(share.result()), float(number.result())
    (0.5, 4.0)
    """
    (first, score), *others = scores.items()
    counting = _Counting(first, shape, count, score)
    return [counting, *(_Reading(name, counting, score) for name, score in others)]


class _Counting(keras.metrics.Metric):
    """A score that counts for others too."""

    def __init__(
        self,
        name: str,
        shape: tuple[int, ...],
        count: Callable[[Any, Any], Any],
        score: Callable[[Any], Any],
    ) -> None:
        super().__init__(name=name)
        self._count, self._score = count, score
        self.sums = self.add_variable(shape, initializer="zeros", name="sums")

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Add a batch."""
        self.sums.assign_add(self._count(y_true, y_pred))

    def result(self) -> Any:
        """Read the score off the sums."""
        return self._score(self.sums.value)


class _Reading(keras.metrics.Metric):
    """A score that reads what another has counted."""

    def __init__(self, name: str, counting: _Counting, score: Callable[[Any], Any]) -> None:
        super().__init__(name=name)
        # Keras would list the variables of a metric that is an attribute a second time.
        self._read = lambda: score(counting.sums.value)

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Do nothing: the first metric has counted the batch."""

    def result(self) -> Any:
        """Read the score off the sums."""
        return self._read()
