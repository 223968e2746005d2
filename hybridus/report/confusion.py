"""Confusion matrix: which classes a model takes for which."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd

from hybridus.inputs.names import as_text
from hybridus.report.looks import given_or_new

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from hybridus.protocol.comparison import Comparison


class ConfusionDisplay:
    """What one model said of the samples of each class, while it was not trained on them.

    Make it with `from_comparison`. A row is a true class, and its colours are shares of that row.

    Parameters
    ----------
    matrix : DataFrame of shape (n_classes, n_classes)
        Samples by true class (rows) and answer (columns).
    model : str

    Attributes
    ----------
    figure_ : matplotlib Figure
    ax_ : matplotlib Axes

    Examples
    --------
    >>> from sklearn.datasets import load_wine
    >>> from sklearn.naive_bayes import GaussianNB
    >>> from hybridus import compare
    >>> from hybridus.report import ConfusionDisplay
    >>> X, y = load_wine(return_X_y=True)
    >>> found = compare({"bayes": GaussianNB()}, X, y, groups="independent")
    >>> ConfusionDisplay.from_comparison(found).matrix.to_numpy().tolist()
    [[57.0, 2.0, 0.0], [1.0, 68.0, 2.0], [0.0, 0.0, 48.0]]
    """

    figure_: Figure
    ax_: Axes

    def __init__(self, matrix: pd.DataFrame, model: str) -> None:
        self.matrix = matrix
        self.model = model

    @classmethod
    def from_comparison(
        cls,
        comparison: Comparison,
        model: str | None = None,
        *,
        class_names: Sequence[str] | None = None,
        ax: Axes | None = None,
    ) -> ConfusionDisplay:
        """Draw one classifier of a comparison.

        Parameters
        ----------
        comparison : Comparison
            Of repeats the mean is shown, so that each sample counts once.
        model : str, default=None
            None is the best.
        class_names : sequence of str, default=None
            Names of the classes 0, 1, ...; None shows the values of `y`.
        ax : matplotlib Axes, default=None
            None makes a figure.

        Returns
        -------
        ConfusionDisplay

        Raises
        ------
        ValueError
            If the model is not there, or answers with masks.
        """
        model = comparison.table.index[0] if model is None else model
        said = [one for one in comparison.results if one.model == model]
        if not said or said[0].truth is None or said[0].predictions is None:
            raise ValueError(
                f"model={model!r}: expected a classifier of this comparison, of "
                f"{comparison.table.index.tolist()}"
            )
        truth, answers = (
            pd.Series([value for one in said for value in values(one)], dtype=object)
            for values in (lambda one: one.truth, lambda one: one.predictions)
        )
        counts = pd.crosstab(truth, answers) / len({one.repeat for one in said})
        classes: list[Any] = sorted({*counts.index, *counts.columns})
        matrix = counts.reindex(index=classes, columns=classes, fill_value=0.0)
        names = [class_name(label, class_names) for label in classes]
        named = matrix.set_axis(names, axis=0).set_axis(names, axis=1)
        return cls(named, str(model)).plot(ax)

    def plot(self, ax: Axes | None = None) -> ConfusionDisplay:
        """Draw the matrix, in a figure of its own unless axes are given."""
        from sklearn.metrics import ConfusionMatrixDisplay

        n = len(self.matrix)
        ax = given_or_new(ax, (1.4 + 0.75 * n, 1.2 + 0.75 * n))
        shares = self.matrix.div(self.matrix.sum(axis=1), axis=0).fillna(0).to_numpy()
        drawn = ConfusionMatrixDisplay(shares, display_labels=self.matrix.columns.tolist())
        drawn.plot(ax=ax, cmap="Blues", colorbar=False, im_kw={"vmin": 0, "vmax": 1})
        counts = self.matrix.to_numpy()
        for place, text in enumerate(drawn.text_.ravel()):
            count, share = counts.ravel()[place], shares.ravel()[place]
            text.set_text(f"{count:.0f}\n{100 * share:.0f} %")
        ax.set_title(self.model, fontsize="medium")
        ax.set_xlabel("answer", fontstyle="italic")
        ax.set_ylabel("truth", fontstyle="italic", labelpad=8)
        ax.tick_params(axis="y", rotation=90)
        for label in ax.get_yticklabels():
            label.set_verticalalignment("center")
        self.ax_, self.figure_ = ax, ax.figure  # type: ignore[assignment]
        return self


def class_name(label: Any, class_names: Sequence[str] | None) -> str:
    """Name of a class, where there are names for the numbers of classes.

    Names of folders need not be text: what is none is written by its code, which can be drawn.

    Raises
    ------
    ValueError
        If the class is no number that has a name.
    """
    if class_names is None:
        return as_text(label)
    if label not in range(len(class_names)):
        raise ValueError(
            f"class_names has {len(class_names)} names, for the classes 0 to "
            f"{len(class_names) - 1}; got the class {label!r}"
        )
    return as_text(class_names[int(label)])
