"""Map of images: those that a network sees alike lie close to each other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hybridus.report.confusion import class_name
from hybridus.report.looks import DARK, LINES, given_or_new

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MOST_BY_NEIGHBOURS = 5000  # images: a minute; more are laid out by principal components
_STEPS = 500  # half of the usual, from principal components on: near images are together by then


def lay_out(features: ArrayLike, *, random_state: int = 0) -> NDArray[np.float64]:
    """Place images in two dimensions by their features.

    Parameters
    ----------
    features : array-like of shape (n_images, n_features)
    random_state : int, default=0

    Returns
    -------
    array of shape (n_images, 2)
        By t-SNE of the first 50 principal components of the scaled features; of fewer than 10
        images, or more than 5000, the first two components.

    References
    ----------
    van der Maaten, L. and Hinton, G. (2008). Visualizing data using t-SNE. Journal of Machine
    Learning Research 9, 2579-2605.

    Examples
    --------
    >>> import numpy as np
    >>> from hybridus.report.feature_map import lay_out
    >>> lay_out(np.random.default_rng(0).normal(size=(20, 5))).shape
    (20, 2)
    """
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE
    from sklearn.preprocessing import StandardScaler
    from threadpoolctl import threadpool_limits

    scaled = StandardScaler().fit_transform(np.asarray(features, dtype=np.float64))
    n, width = scaled.shape
    n_kept = min(50, n, width)
    with threadpool_limits(1):  # more threads wait for one another on so little
        kept = PCA(n_kept, svd_solver="randomized", random_state=random_state).fit_transform(scaled)
        if n < 10 or n > _MOST_BY_NEIGHBOURS:
            return np.column_stack([kept, np.zeros((n, 2))])[:, :2]
        perplexity = min(30.0, (n - 1) / 3)
        settings = {"init": "pca", "max_iter": _STEPS, "random_state": random_state, "n_jobs": 1}
        return TSNE(perplexity=perplexity, **settings).fit_transform(kept).astype(np.float64)


class FeatureMapDisplay:
    """Dot of each image, coloured by class, where its features put it.

    Make it with `from_features`. Errors of a model are ringed and duplicates joined by a line.
    Distances between far groups of dots mean nothing, and nor do the axes.

    Parameters
    ----------
    positions : array of shape (n_images, 2)
    y : array-like of shape (n_images,)
        Classes.
    errors : array-like of int, default=()
        Positions of images that a model got wrong.
    pairs : array-like of shape (n_pairs, 2), default=()
        Positions of duplicates.
    class_names : sequence of str, default=None
        Names of the classes 0, 1, ...; None shows the values of `y`.

    Attributes
    ----------
    figure_ : matplotlib Figure
    ax_ : matplotlib Axes

    Examples
    --------
    >>> import numpy as np
    >>> from hybridus.report import FeatureMapDisplay
    >>> features = np.repeat(np.eye(2), 10, axis=0)
    >>> display = FeatureMapDisplay.from_features(features, ["benign"] * 10 + ["normal"] * 10)
    >>> [text.get_text() for text in display.ax_.get_legend().get_texts()]
    ['benign', 'normal']
    """

    figure_: Figure
    ax_: Axes

    def __init__(
        self,
        positions: NDArray[np.float64],
        y: ArrayLike,
        *,
        errors: ArrayLike = (),
        pairs: ArrayLike = (),
        class_names: Sequence[str] | None = None,
    ) -> None:
        self.positions = np.asarray(positions, dtype=float)
        self.y = np.asarray(y)
        if self.y.shape != self.positions.shape[:1]:
            raise ValueError(
                f"y has shape {self.y.shape}, expected ({len(self.positions)},), a class an image"
            )
        self.errors = np.asarray(errors, dtype=np.intp)
        self.pairs = np.asarray(pairs, dtype=np.intp).reshape(-1, 2)
        self.class_names = class_names

    @classmethod
    def from_features(
        cls,
        features: ArrayLike,
        y: ArrayLike,
        *,
        errors: ArrayLike = (),
        pairs: ArrayLike = (),
        class_names: Sequence[str] | None = None,
        random_state: int = 0,
        ax: Axes | None = None,
    ) -> FeatureMapDisplay:
        """Draw images by their features.

        Parameters
        ----------
        features : array-like of shape (n_images, n_features)
            Such as `DeepFeatureExtractor` gives. See `hybridus.report.feature_map.lay_out`.
        y, errors, pairs, class_names
            See `FeatureMapDisplay`.
        random_state : int, default=0
        ax : matplotlib Axes, default=None
            None makes a figure.

        Returns
        -------
        FeatureMapDisplay
        """
        positions = lay_out(features, random_state=random_state)
        display = cls(positions, y, errors=errors, pairs=pairs, class_names=class_names)
        return display.plot(ax)

    def plot(self, ax: Axes | None = None) -> FeatureMapDisplay:
        """Draw the map, in a figure of its own unless axes are given."""
        ax = given_or_new(ax, (6.0, 5.2))
        for first, second in self.pairs:
            ax.plot(*self.positions[[first, second]].T, color=DARK, lw=0.7, zorder=1)
        for number, label in enumerate(np.unique(self.y)):
            look: dict[str, Any] = LINES[number % len(LINES)]
            ax.plot(
                *self.positions[self.y == label].T,
                ls="",
                color=look["color"],
                marker=look["marker"],
                ms=4,
                alpha=0.8,
                label=class_name(label, self.class_names),
            )
        if len(self.errors):
            ring: dict[str, Any] = {"ls": "", "marker": "o", "ms": 9, "mfc": "none", "mew": 1.1}
            ax.plot(*self.positions[self.errors].T, color=DARK, label="got wrong", **ring)
        ax.set(xticks=[], yticks=[])
        ax.legend(fontsize="small", frameon=False)
        self.ax_, self.figure_ = ax, ax.figure  # type: ignore[assignment]
        return self
