"""Curves over all thresholds: ROC, and precision by recall, mean over folds."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import (
    average_precision_score,
    precision_recall_curve,
    roc_auc_score,
    roc_curve,
)

from hybridus.protocol.resampling import class_scores
from hybridus.report.looks import DARK, LINES, given_or_new, make_plain

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    from hybridus.protocol.comparison import Comparison
    from hybridus.protocol.run import FoldResult

_GRID = np.linspace(0, 1, 201)


class _CurveDisplay:
    """Curve of each model of one kind; the subclass says of which.

    Parameters
    ----------
    curves : dict of str to array of shape (201,)
        Mean over folds at 0, 0.005, ..., 1.
    areas : dict of str to float
        Mean over folds of the area under the curve.
    share : float
        Share of the positive samples.

    Attributes
    ----------
    figure_ : matplotlib Figure
    ax_ : matplotlib Axes
    lines_ : dict of str to matplotlib Line2D
    """

    figure_: Figure
    ax_: Axes
    lines_: dict[str, Line2D]

    _axes: ClassVar[tuple[str, str]]
    _area: ClassVar[str]
    _of: ClassVar[Callable[..., tuple[NDArray, float]]]

    def __init__(
        self, curves: dict[str, NDArray[np.float64]], areas: dict[str, float], share: float
    ) -> None:
        if not curves:
            raise ValueError("no model ranks samples: nothing to draw")
        self.curves = curves
        self.areas = areas
        self.share = share

    @classmethod
    def from_comparison(
        cls, comparison: Comparison, *, positive: Any = None, ax: Axes | None = None
    ) -> Self:
        """Draw the classifiers of a comparison that rank samples.

        Each test part of each fold has a curve, of models that did not see it; their mean is
        drawn, taken at the same place on the horizontal axis. Scores of different folds come from
        different models and are never pooled. Folds without a sample of either side are left out.

        Parameters
        ----------
        comparison : Comparison
        positive : class, default=None
            What is looked for among all others. None is the second of two classes; of more, each
            against the rest, and their mean (macro).
        ax : matplotlib Axes, default=None
            None makes a figure.

        Returns
        -------
        display

        Raises
        ------
        ValueError
            If `positive` is no class, or no model ranks samples.
        """
        folds: dict[str, list[FoldResult]] = {}
        for result in comparison.results:
            if result.truth is not None:
                folds.setdefault(result.model, []).append(result)
        if not folds:
            raise ValueError("models that find masks rank no samples: nothing to draw")
        truth = np.concatenate([one.truth for one in next(iter(folds.values()))])  # type: ignore[misc]
        classes = np.unique(truth).tolist()
        if positive is not None and positive not in classes:
            raise ValueError(f"positive={positive!r}: expected one of the classes {classes}")
        wanted = (
            [positive] if positive is not None else classes[1:] if len(classes) == 2 else classes
        )
        curves, areas = {}, {}
        for model in comparison.table.index:
            found = list(_one_against_rest(folds[model], wanted, cls._of))
            if found:
                curves[str(model)] = np.mean([curve for curve, _ in found], axis=0)
                areas[str(model)] = float(np.mean([area for _, area in found]))
        share = np.mean([np.mean(truth == label) for label in wanted])
        return cls(curves, areas, float(share)).plot(ax)

    def plot(self, ax: Axes | None = None) -> Self:
        """Draw the curves, in a figure of their own unless axes are given."""
        ax = given_or_new(ax, (4.6, 4.4))
        self._draw_chance(ax)
        self.lines_ = {}
        for number, (model, curve) in enumerate(self.curves.items()):
            look = {**LINES[number % len(LINES)], "marker": "", "lw": 1.8}
            label = f"{model} ({self._area} {self.areas[model]:.3f})"
            (self.lines_[model],) = ax.plot(_GRID, curve, label=label, **look)
        ax.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal")
        ax.set(xlabel=self._axes[0], ylabel=self._axes[1])
        ax.legend(fontsize="small", frameon=False, loc="lower right")
        make_plain(ax)
        self.ax_, self.figure_ = ax, ax.figure  # type: ignore[assignment]
        return self

    def _draw_chance(self, ax: Axes) -> None:
        raise NotImplementedError


def _one_against_rest(
    folds: list[FoldResult], wanted: list[Any], of: Callable[..., tuple[NDArray, float]]
) -> Iterator[tuple[NDArray, float]]:
    """Curve and area of each fold and class; nothing of a model that does not rank."""
    for result in folds:
        scores = class_scores(result)
        if scores is None or result.classes is None:
            return
        known = result.classes.tolist()
        for label in wanted:
            positive = np.asarray(result.truth == label)
            if label in known and 0 < positive.sum() < len(positive):
                yield of(positive, scores[:, known.index(label)])


def _roc(positive: NDArray[np.bool_], scores: NDArray) -> tuple[NDArray, float]:
    alarms, found, _ = roc_curve(positive, scores)
    curve = np.interp(_GRID, alarms, found)
    curve[0] = 0.0
    return curve, float(roc_auc_score(positive, scores))


def _precision(positive: NDArray[np.bool_], scores: NDArray) -> tuple[NDArray, float]:
    """Precision where so many are found: steps, since between thresholds lies no straight line."""
    precision, recall, _ = precision_recall_curve(positive, scores)
    # From the highest threshold on; the last point is none of a threshold.
    precision, recall = precision[-2::-1], recall[-2::-1]
    reached = np.searchsorted(recall, np.maximum(_GRID, _GRID[1] / 2) - 1e-12)
    return precision[reached], float(average_precision_score(positive, scores))


class RocDisplay(_CurveDisplay):
    """Sensitivity against false alarms, over all thresholds: mean ROC curve over folds.

    Make it with `from_comparison`. The area in the legend is the mean of the areas of the folds,
    as in `Comparison.one_against_rest`.

    Parameters
    ----------
    curves : dict of str to array of shape (201,)
        Sensitivity at false-alarm rates of 0, 0.005, ..., 1.
    areas : dict of str to float
    share : float
        Share of the positive samples.

    Attributes
    ----------
    figure_ : matplotlib Figure
    ax_ : matplotlib Axes
    lines_ : dict of str to matplotlib Line2D

    Raises
    ------
    ValueError
        If no model ranks samples.

    Examples
    --------
    >>> from sklearn.datasets import load_wine
    >>> from sklearn.naive_bayes import GaussianNB
    >>> from hybridus import compare
    >>> from hybridus.report import RocDisplay
    >>> X, y = load_wine(return_X_y=True)
    >>> found = compare({"bayes": GaussianNB()}, X[:, :3], y, groups="independent")
    >>> round(RocDisplay.from_comparison(found, positive=0).areas["bayes"], 3)
    0.929
    """

    _axes = ("share of the others that raise an alarm", "sensitivity")
    _area = "AUC"
    _of = staticmethod(_roc)

    def _draw_chance(self, ax: Axes) -> None:
        ax.plot([0, 1], [0, 1], color=DARK, lw=0.9, ls="--")


class PrecisionRecallDisplay(_CurveDisplay):
    """Precision where so many are found, over all thresholds: mean over folds.

    Make it with `from_comparison`. The dashed line is what chance gives, the share of the class;
    the figure in the legend is average precision, mean over folds.

    Parameters
    ----------
    curves : dict of str to array of shape (201,)
        Precision at a recall of 0 (just above it), 0.005, ..., 1.
    areas : dict of str to float
    share : float
        Share of the positive samples.

    Attributes
    ----------
    figure_ : matplotlib Figure
    ax_ : matplotlib Axes
    lines_ : dict of str to matplotlib Line2D

    Raises
    ------
    ValueError
        If no model ranks samples.

    Examples
    --------
    >>> from sklearn.datasets import load_wine
    >>> from sklearn.naive_bayes import GaussianNB
    >>> from hybridus import compare
    >>> from hybridus.report import PrecisionRecallDisplay
    >>> X, y = load_wine(return_X_y=True)
    >>> found = compare({"bayes": GaussianNB()}, X[:, :3], y, groups="independent")
    >>> round(PrecisionRecallDisplay.from_comparison(found, positive=0).areas["bayes"], 3)
    0.851
    """

    _axes = ("recall (share of them that is found)", "precision")
    _area = "AP"
    _of = staticmethod(_precision)

    def _draw_chance(self, ax: Axes) -> None:
        ax.axhline(self.share, color=DARK, lw=0.9, ls="--")
