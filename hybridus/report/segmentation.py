"""Pictures of segmentations: outlines on the scans, and the Dice of every image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from sklearn.utils.validation import check_is_fitted

from hybridus.inputs.images import as_images, images_as_seen_by
from hybridus.inputs.masks import Masks, as_masks, resize_mask
from hybridus.metrics import dice
from hybridus.report.looks import BLUE, DARK, SKY_BLUE, VERMILION, YELLOW, make_plain

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_CASES = ("best", "median", "worst")

# The truth is the wider line, so that it shows under a prediction that follows it.
_TRUTH: dict[str, Any] = {"color": SKY_BLUE, "lw": 1.6}
_PREDICTION: dict[str, Any] = {"color": YELLOW, "lw": 1.1, "ls": (0, (4, 1.5))}

# The class of every image where none are given.
_ANY_CLASS = "all images"

# Width of an image with its margins, in inches, and widths of the names of the rows and of a class
# as parts of it.
_IMAGE_WIDTH = 1.9
_NAME_WIDTH, _CLASS_WIDTH = 0.1, 0.5


class SegmentationDisplay:
    """Outlines of true and predicted lesions on the scans, and Dice image by image.

    Make it with `from_predictions` or `from_estimator`. Shown are the best, the median and the
    worst cases by Dice among the images with a lesion, and Dice of every image by class. Dice is
    taken at the size of the true mask; a prediction of another size is stretched to it as
    `hybridus.inputs.masks.resize_mask` does.

    Parameters
    ----------
    images, masks_true, masks_pred, y, target_names
        See `from_predictions`.

    Attributes
    ----------
    table : DataFrame of shape (n_images, 3)
        Columns `index` (position of the image), `dice` and `class` (categorical, in the order of
        the classes; "all images" without `y`). Dice is NaN where neither the truth nor the
        prediction has a lesion, and 0 where only one of them has.
    figure_ : matplotlib Figure
    axes_ : ndarray of shape (3, n_columns) of matplotlib Axes or None
        The images: a row of the best (best first), of the median and of the worst (worst last).
        None where there are too few images with a lesion.
    shown_ : dict of str to list of int
        Positions of the images shown as "best", "median" and "worst".
    dice_ax_ : matplotlib Axes
        Dice by class.

    Raises
    ------
    ValueError
        If the numbers of images, masks and classes differ, shapes or values are not those of
        masks, or a class has no name in `target_names`.

    Examples
    --------
    >>> import numpy as np
    >>> from hybridus.report import SegmentationDisplay
    >>> masks = np.zeros((2, 32, 32), dtype=bool)
    >>> masks[:, 8:24, 8:24] = True
    >>> display = SegmentationDisplay.from_predictions(
    ...     masks, masks, np.roll(masks, 4, axis=1), y=["benign", "malignant"]
    ... )
    >>> display.table
       index  dice      class
    0      0  0.75     benign
    1      1  0.75  malignant
    """

    figure_: Figure
    axes_: NDArray
    shown_: dict[str, list[int]]
    dice_ax_: Axes

    def __init__(
        self,
        images: Any,
        masks_true: Any,
        masks_pred: Any,
        *,
        y: ArrayLike | None = None,
        target_names: Sequence[str] | None = None,
    ) -> None:
        self.images = as_images(images)
        self.masks_true = self._one_for_each_image(masks_true, "masks_true")
        self.masks_pred = self._one_for_each_image(masks_pred, "masks_pred")
        scores, self._with_lesion = _compare(self.masks_true, self.masks_pred)
        self.table = pd.DataFrame(
            {
                "index": np.arange(len(self.images)),
                "dice": scores,
                "class": _classes(y, target_names, len(self.images)),
            }
        )

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        images: Any,
        masks: Any,
        *,
        y: ArrayLike | None = None,
        target_names: Sequence[str] | None = None,
        n_images: int = 3,
        figure: Figure | None = None,
    ) -> SegmentationDisplay:
        """Draw what a fitted segmenter predicts.

        Parameters
        ----------
        estimator : fitted estimator
            Whose `predict` answers with masks; of the size of the images, if it pads them.
        images
            Images in the form that the estimator takes; they are shown as it sees them, by its
            ``value_range`` and ``image_shape``.
        masks
            True masks; see `from_predictions`.
        y, target_names, n_images, figure
            See `from_predictions`.

        Returns
        -------
        SegmentationDisplay

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.
        """
        check_is_fitted(estimator)
        return cls.from_predictions(
            images_as_seen_by(estimator, images),
            masks,
            estimator.predict(images),
            y=y,
            target_names=target_names,
            n_images=n_images,
            figure=figure,
        )

    @classmethod
    def from_predictions(
        cls,
        images: Any,
        masks_true: Any,
        masks_pred: Any,
        *,
        y: ArrayLike | None = None,
        target_names: Sequence[str] | None = None,
        n_images: int = 3,
        figure: Figure | None = None,
    ) -> SegmentationDisplay:
        """Draw masks that have been predicted.

        Parameters
        ----------
        images : n images in any form that `hybridus.inputs.images.as_images` takes
            Only those shown are read. `as_images` itself takes ``value_range`` and
            ``image_shape``, where there are any.
        masks_true, masks_pred : n masks in any form that `hybridus.inputs.masks.as_masks` takes
            Sizes may differ from those of the images.
        y : array-like of shape (n,), optional
            Class of each image.
        target_names : sequence of str, optional
            Name of class k, where `y` holds integers from 0.
        n_images, figure
            See `plot`.

        Returns
        -------
        SegmentationDisplay
        """
        display = cls(images, masks_true, masks_pred, y=y, target_names=target_names)
        return display.plot(figure, n_images=n_images)

    def plot(self, figure: Figure | None = None, *, n_images: int = 3) -> SegmentationDisplay:
        """Draw the images and the Dice of each.

        Parameters
        ----------
        figure : matplotlib Figure, optional
            An empty figure to draw in, which gets a constrained layout. None makes one.
        n_images : int, default=3
            Images in each of the three rows.

        Returns
        -------
        SegmentationDisplay
            This display.

        Raises
        ------
        ValueError
            If `n_images` is below 1, or no true mask has a lesion.
        """
        if n_images < 1:
            raise ValueError(f"n_images={n_images}: expected 1 or more")
        self.shown_ = self.choose(n_images)
        self._lay_out(figure)
        for row, case in enumerate(_CASES):
            for ax, i in zip(self.axes_[row], self.shown_[case], strict=False):
                self._draw_image(ax, i)
        self._draw_dice()
        self._draw_legend()
        return self

    def _one_for_each_image(self, masks: Any, name: str) -> Masks:
        masks = as_masks(masks, name=name)
        if len(masks) != len(self.images):
            raise ValueError(
                f"{name} has {len(masks)} masks, expected {len(self.images)}, one for each image"
            )
        return masks

    def choose(self, n_images: int) -> dict[str, list[int]]:
        """Positions of the best, median and worst images with a lesion, none of them twice."""
        if not self._with_lesion:
            raise ValueError("no mask of masks_true has a lesion: there is nothing to outline")
        scores = self.table["dice"][self._with_lesion]
        order = scores.sort_values(ascending=False, kind="stable").index.tolist()
        n_best, n_worst, n_median = (min(n_images, (len(order) + k) // 3) for k in (2, 1, 0))
        start = max(n_best, (len(order) - n_median) // 2)
        return {
            "best": order[:n_best],
            "median": order[start : start + n_median],
            "worst": order[len(order) - n_worst :],
        }

    def _lay_out(self, figure: Figure | None) -> None:
        """Make axes for the images shown, a name before each row, and axes for Dice at the right.

        The names stand in a column of their own, since images differ in width.
        """
        rows = [case for case in _CASES if self.shown_[case]]
        n_columns = len(self.shown_["best"])
        n_classes = len(self.table["class"].cat.categories)
        widths = [_NAME_WIDTH, *[1.0] * n_columns, _CLASS_WIDTH * max(2, n_classes)]
        if figure is None:
            import matplotlib.pyplot as plt

            figure = plt.figure(figsize=(_IMAGE_WIDTH * sum(widths), 1.75 * len(rows) + 0.8))
        figure.set_layout_engine("constrained")
        self.figure_ = figure
        grid = figure.add_gridspec(len(rows), len(widths), width_ratios=widths)
        self.axes_ = np.full((len(_CASES), n_columns), None, dtype=object)
        for row, case in enumerate(rows):
            _write_upright(figure.add_subplot(grid[row, 0]), case)
            for column in range(len(self.shown_[case])):
                ax = figure.add_subplot(grid[row, column + 1])
                self.axes_[_CASES.index(case), column] = ax
        self.dice_ax_ = figure.add_subplot(grid[:, -1])

    def _draw_image(self, ax: Axes, i: int) -> None:
        image, predicted = self.images[i], self.masks_pred[i]
        _show(ax, image)
        for mask, style in ((self.masks_true[i], _TRUTH), (predicted, _PREDICTION)):
            for x, y in outlines(mask, image.shape[:2]):
                ax.plot(x, y, **style)
        found = "" if predicted.any() else ", nothing found"
        ax.set_title(f"Dice {self.table['dice'][i]:.2f}{found}", fontsize="small", pad=3)
        name = self.table["class"][i]
        ax.set_xlabel(f"#{i}" if name == _ANY_CLASS else f"#{i} {name}", fontsize=7, labelpad=2)

    def _draw_dice(self) -> None:
        ax = self.dice_ax_
        labels = []
        for place, (name, of_class) in enumerate(self.table.groupby("class", observed=True)):
            scores = of_class["dice"].dropna().to_numpy()
            _draw_scores(ax, place, scores)
            total = "" if len(scores) == len(of_class) else f" of {len(of_class)}"
            labels.append(f"{name}\nn = {len(scores)}{total}")
        ax.set_xticks(range(len(labels)), labels, fontsize="small")
        ax.tick_params(axis="y", labelsize="small")
        n_left_out = self.table["dice"].isna().sum()
        if n_left_out:
            ax.set_xlabel(f"{n_left_out} not counted:\nno lesion and none found", fontsize=7)
        ax.set_xlim(-0.6, len(labels) - 0.4)
        ax.set_ylim(-0.03, 1.03)
        ax.set_title("Dice of each image", fontsize="small")
        make_plain(ax, grid="y")

    def _draw_legend(self) -> None:
        from matplotlib.lines import Line2D

        self.figure_.legend(
            [Line2D([], [], **_TRUTH), Line2D([], [], **_PREDICTION)],
            ["truth", "prediction"],
            loc="outside lower center",
            ncols=2,
            # Dark as scans are, so that the colours look the same.
            facecolor="0.2",
            framealpha=1,
            labelcolor="white",
            fontsize="small",
        )


def _compare(masks_true: Masks, masks_pred: Masks) -> tuple[list[float], list[int]]:
    """Dice of each image and the positions of those with a lesion, reading each mask once."""
    scores, with_lesion = [], []
    for i, (truth, predicted) in enumerate(zip(masks_true, masks_pred, strict=True)):
        at_size = resize_mask(predicted, truth.shape)
        scores.append(np.asarray(dice([truth], [at_size], average=None, empty="nan")).item())
        if truth.any():
            with_lesion.append(i)
    return scores, with_lesion


def _show(ax: Axes, image: NDArray) -> None:
    """Draw an image; what is drawn over it later leaves the limits alone."""
    if image.ndim == 2:
        ax.imshow(image, cmap="gray", vmin=0, vmax=255)
    else:
        ax.imshow(np.clip(image / 255, 0, 1))
    ax.autoscale(False)
    ax.set(xticks=[], yticks=[])


def outlines(mask: NDArray[np.bool_], size: tuple[int, ...]) -> list[tuple[NDArray, NDArray]]:
    """Outlines of a mask as x and y in the pixels of an image of another size."""
    from skimage.measure import find_contours

    # The frame of zeros closes the outline of a lesion at the border.
    contours = find_contours(np.pad(mask, 1).astype(float), 0.5)
    scale = np.array(size) / mask.shape
    # Pixel k reaches from k - 0.5 to k + 0.5.
    in_image = [(contour - 1 + 0.5) * scale - 0.5 for contour in contours]
    return [(points[:, 1], points[:, 0]) for points in in_image]


def _draw_scores(ax: Axes, place: int, scores: NDArray) -> None:
    """Draw a dot for each score, spread a little, and a box over them unless they are few."""
    spread = np.random.default_rng(place).uniform(-0.22, 0.22, len(scores))
    ax.plot(place + spread, scores, ls="", marker="o", ms=3.5, mew=0, color=BLUE, alpha=0.45)
    if len(scores) < 5:
        return
    dark = {"color": DARK}
    ax.boxplot(
        scores,
        positions=[place],
        widths=0.6,
        showfliers=False,
        medianprops={"color": VERMILION, "lw": 2},
        boxprops=dark,
        whiskerprops=dark,
        capprops=dark,
        zorder=3,
    )


def _classes(
    y: ArrayLike | None, target_names: Sequence[str] | None, n_images: int
) -> pd.Categorical[str]:
    """Name of the class of each image, the classes in the order of their labels."""
    if y is None:
        return pd.Categorical([_ANY_CLASS] * n_images)
    labels = np.asarray(y)
    if labels.shape != (n_images,):
        raise ValueError(f"y has shape {labels.shape}, expected ({n_images},), a class an image")
    values, codes = np.unique(labels, return_inverse=True)
    names = values.tolist() if target_names is None else _names(values.tolist(), target_names)
    return pd.Categorical.from_codes(codes, categories=pd.Index([str(name) for name in names]))


def _names(values: list[Any], target_names: Sequence[str]) -> list[str]:
    for value in values:
        if value not in range(len(target_names)):
            raise ValueError(
                f"y holds {value!r}, expected integers from 0 to {len(target_names) - 1}, one for "
                "each of target_names"
            )
    return [target_names[int(value)] for value in values]


def _write_upright(ax: Axes, text: str) -> None:
    ax.set_axis_off()
    ax.text(0.5, 0.5, text, rotation=90, ha="center", va="center", fontweight="bold")
