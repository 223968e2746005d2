"""Evidence of a classifier over scans, with the outline of the lesion."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hybridus.inputs.images import Images, as_images, images_as_seen_by
from hybridus.inputs.masks import as_masks
from hybridus.inputs.resizing import to_grey
from hybridus.report.looks import YELLOW

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from hybridus.evidence.explain import Explanation

_COLUMNS = 4
_SIDE = 2.3  # inches of an image
_OPAQUE = 0.75  # of the strongest evidence


def colours_of(explanation: Explanation, labels: NDArray) -> list[NDArray[np.float64]]:
    """Colour the evidence for one class of each image, strongest at the same value for all.

    Returns
    -------
    list of arrays of shape (H, W, 4)
        Red, green, blue and opacity, 0 to 1.
    """
    import matplotlib

    maps = [explanation.of(i, label) for i, label in enumerate(labels)]
    # By the pixel, whatever the size of the image.
    maps = [one * one.size for one in maps]
    strongest = float(np.quantile(np.concatenate([np.abs(m).ravel() for m in maps]), 0.99))
    coloured = []
    for found in maps:
        strength = np.clip(found / max(strongest, 1e-12), -1, 1)
        colours = matplotlib.colormaps["PuOr_r"](0.5 + strength / 2)
        colours[..., 3] = _OPAQUE * np.sqrt(np.abs(strength))
        coloured.append(colours)
    return coloured


def tinted(image: NDArray, colours: NDArray) -> NDArray[np.uint8]:
    """Lay colours with their opacity over a canonical image in grey, (H, W, 3)."""
    grey = np.clip(to_grey(image), 0, 255)[..., np.newaxis]
    opacity = colours[..., 3:]
    return np.rint(grey * (1 - opacity) + 255 * colours[..., :3] * opacity).astype(np.uint8)


class EvidenceDisplay:
    """Evidence for a class over each scan: orange speaks for it, blue against it.

    Make it with `from_estimator` or `from_explanation`. Colours are strongest at the 99th
    percentile of all evidence shown, the same for all images; where there is none the scan is as it
    is. The lesion is outlined, and its share of the positive evidence, with its share of the image,
    stands above.

    Parameters
    ----------
    images : Images
    explanation : Explanation
    labels : array of shape (n_images,)
        The class whose evidence is shown.
    masks : list of arrays of shape (H, W), or None
    truth : array of shape (n_images,), or None

    Attributes
    ----------
    figure_ : matplotlib Figure
    axes_ : array of matplotlib Axes
    table_ : DataFrame or None
        `Explanation.on_lesion` of the classes shown, where masks are known.

    Examples
    --------
    >>> from hybridus import make_breast_phantoms, make_hybrid_classifier
    >>> from hybridus.report import EvidenceDisplay
    >>> phantoms = make_breast_phantoms(12, image_size=48, random_state=0)
    >>> pipe = make_hybrid_classifier("mobilenet_v2_0.35", "logreg", weights="bundled",
    ...     image_size=32).fit(phantoms.images, phantoms.target)
    >>> shown = EvidenceDisplay.from_estimator(pipe, phantoms.images[:2], masks=phantoms.masks[:2])
    >>> shown.table_.columns.tolist()
    ['label', 'share', 'area', 'ratio']
    """

    figure_: Figure
    axes_: NDArray

    def __init__(
        self,
        images: Images,
        explanation: Explanation,
        *,
        labels: NDArray,
        masks: Sequence[NDArray[np.bool_]] | None = None,
        truth: NDArray | None = None,
    ) -> None:
        self.images = images
        self.explanation = explanation
        self.labels = labels
        self.masks = masks
        self.truth = truth
        self.table_ = None if masks is None else explanation.on_lesion(masks, labels)

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        **shown: Any,
    ) -> EvidenceDisplay:
        """Draw where a fitted classifier finds its evidence.

        Parameters
        ----------
        estimator : fitted classifier
            See `hybridus.explain`.
        X : images
            A handful: each is drawn.
        **shown
            ``masks``, ``y``, ``label``, ``class_names`` and ``figure`` of `from_explanation`.

        Returns
        -------
        EvidenceDisplay
        """
        from hybridus.evidence.explain import explain

        return cls.from_explanation(images_as_seen_by(estimator, X), explain(estimator, X), **shown)

    @classmethod
    def from_explanation(
        cls,
        X: Any,
        explanation: Explanation,
        *,
        masks: Any = None,
        y: ArrayLike | None = None,
        label: Any = None,
        class_names: Sequence[str] | None = None,
        figure: Figure | None = None,
    ) -> EvidenceDisplay:
        """Draw what `hybridus.explain` returned for the same images.

        Parameters
        ----------
        X : images
        explanation : Explanation
        masks : n masks, default=None
            See `hybridus.inputs.masks.as_masks`.
        y : array-like of shape (n,), default=None
            True classes, for the titles.
        label : class, default=None
            Whose evidence is shown; None is the class that is predicted for each image.
        class_names : sequence of str, default=None
            Names of the classes 0, 1, ...; None shows the values of `y`.
        figure : matplotlib Figure, default=None
            An empty figure to draw in; None makes one.

        Returns
        -------
        EvidenceDisplay

        Raises
        ------
        ValueError
            Where numbers differ, or `label` is no class.
        """
        images = as_images(X)
        n_images = len(explanation.maps)
        truth = None if y is None else np.asarray(y)
        known = None if masks is None else list(as_masks(masks))
        for name, given in (("X", images), ("masks", known), ("y", truth)):
            if given is not None and len(given) != n_images:
                raise ValueError(
                    f"{name} holds {len(given)}, but the explanation is of {n_images} images"
                )
        labels = explanation.predicted
        if label is not None:
            explanation.of(0, label)  # refuses what is no class
            labels = np.full(n_images, label, dtype=explanation.classes.dtype)
        display = cls(images, explanation, labels=labels, masks=known, truth=truth)
        return display.plot(figure, class_names=class_names)

    def plot(
        self, figure: Figure | None = None, *, class_names: Sequence[str] | None = None
    ) -> EvidenceDisplay:
        """Draw the images, four in a row."""
        import matplotlib.pyplot as plt

        n_images = len(self.images)
        n_columns = min(_COLUMNS, n_images)
        n_rows = -(-n_images // n_columns)
        if figure is None:
            size = (_SIDE * n_columns, (_SIDE + 0.35) * n_rows)
            figure = plt.figure(figsize=size, layout="constrained")
        self.figure_ = figure
        self.axes_ = np.ravel(figure.subplots(n_rows, n_columns, squeeze=False))
        colours = colours_of(self.explanation, self.labels)
        for i, ax in enumerate(self.axes_):
            ax.set_axis_off()
            if i < n_images:
                self._draw(ax, i, colours[i], class_names)
        return self

    def _draw(self, ax: Any, i: int, colours: NDArray, class_names: Sequence[str] | None) -> None:
        ax.imshow(to_grey(self.images[i]), cmap="gray", vmin=0, vmax=255)
        ax.imshow(colours)
        if self.masks is not None and self.masks[i].any():
            mask = self.masks[i]
            height, width = colours.shape[:2]
            rows = (np.arange(mask.shape[0]) + 0.5) * height / mask.shape[0] - 0.5
            columns = (np.arange(mask.shape[1]) + 0.5) * width / mask.shape[1] - 0.5
            ax.contour(columns, rows, mask.astype(float), [0.5], colors=YELLOW, linewidths=1.2)
        ax.set_title(self._title(i, class_names), fontsize="x-small")

    def _title(self, i: int, class_names: Sequence[str] | None) -> str:
        def name(label: Any) -> str:
            return str(label) if class_names is None else str(class_names[int(label)])

        said = name(self.explanation.predicted[i])
        title = f"answer {said}"
        if self.truth is not None:
            title += f", truth {name(self.truth[i])}"
        if self.labels[i] != self.explanation.predicted[i]:
            title += f"\nevidence for {name(self.labels[i])}"
        if self.table_ is None:
            return title
        share, area = self.table_[["share", "area"]].to_numpy(dtype=float)[i]
        if np.isfinite(share):
            title += f"\n{100 * share:.0f} % on the lesion ({100 * area:.0f} % of the image)"
        return title
