"""Pictures of segmentations: the Dice behind them, which images they show, and the outlines."""

from itertools import pairwise

import matplotlib
import numpy as np
import pytest
from PIL import Image
from sklearn.base import BaseEstimator
from sklearn.exceptions import NotFittedError

from hybridus.datasets import load_busi
from hybridus.metrics import dice
from hybridus.report import SegmentationDisplay

matplotlib.use("Agg")


@pytest.fixture(autouse=True)
def closed_figures():
    """Figures of one test do not reach the next."""
    import matplotlib.pyplot as plt

    yield
    plt.close("all")


class Segmenter(BaseEstimator):
    """A segmenter that finds every lesion a pixel too far to the right."""

    def fit(self, images, masks):
        self.masks_ = np.roll(masks, 1, axis=2)[..., np.newaxis].astype("uint8")
        return self

    def predict(self, images):
        return self.masks_


@pytest.fixture
def squares():
    """Ten images with a square lesion of 100 pixels, and predictions k pixels too far right."""
    truth = np.zeros((10, 40, 50), dtype=bool)
    truth[:, 10:20, 12:22] = True
    predicted = np.stack([np.roll(truth[k], k, axis=1) for k in range(10)])
    images = np.random.default_rng(0).integers(0, 256, truth.shape, dtype=np.uint8)
    return images, truth, predicted


def outline_boxes(ax):
    """x and y limits of truth and prediction."""
    return [
        (
            line.get_xdata().min(),
            line.get_xdata().max(),
            line.get_ydata().min(),
            line.get_ydata().max(),
        )
        for line in ax.lines
    ]


def test_table_holds_the_dice_of_each_image(squares):
    display = SegmentationDisplay.from_predictions(*squares, y=["b", "a"] * 5)
    assert list(display.table.columns) == ["index", "dice", "class"]
    assert display.table["index"].tolist() == list(range(10))
    np.testing.assert_allclose(display.table["dice"], 1 - np.arange(10) / 10)
    assert display.table["class"].tolist() == ["b", "a"] * 5


def test_empty_masks_count_nothing_where_both_are_and_zero_where_one_is(squares):
    images, truth, predicted = squares
    truth[0] = predicted[0] = predicted[1] = truth[2] = 0
    display = SegmentationDisplay.from_predictions(images, truth, predicted)
    np.testing.assert_equal(display.table["dice"][:3].tolist(), [np.nan, 0, 0])
    shown = [i for case in display.shown_.values() for i in case]
    assert {0, 2}.isdisjoint(shown)
    (label,) = display.dice_ax_.get_xticklabels()
    assert label.get_text() == "all images\nn = 9 of 10"
    assert display.dice_ax_.get_xlabel() == "1 not counted:\nno lesion and none found"
    (place,) = [k for k, i in enumerate(display.shown_["worst"]) if i == 1]
    assert display.axes_[2, place].get_title() == "Dice 0.00, nothing found"


@pytest.mark.parametrize(
    ("n", "n_images", "expected"),
    [
        (10, 1, ([0], [4], [9])),
        (10, 3, ([0, 1, 2], [3, 4, 5], [7, 8, 9])),
        (5, 3, ([0, 1], [2], [3, 4])),
        (4, 3, ([0, 1], [2], [3])),
        (8, 3, ([0, 1, 2], [3, 4], [5, 6, 7])),
        (2, 3, ([0], [], [1])),
        (1, 3, ([0], [], [])),
    ],
)
def test_shows_best_median_and_worst_and_none_twice(squares, n, n_images, expected):
    display = SegmentationDisplay.from_predictions(
        *(array[:n] for array in squares), n_images=n_images
    )
    assert tuple(display.shown_.values()) == expected
    for row, shown in zip(display.axes_, expected, strict=True):
        titles = [ax.get_title() for ax in row if ax is not None]
        assert titles == [f"Dice {1 - i / 10:.2f}" for i in shown]


def test_outlines_go_round_the_lesions(squares):
    display = SegmentationDisplay.from_predictions(*squares, n_images=1)
    truth, predicted = outline_boxes(display.axes_[2, 0])
    assert truth == (11.5, 21.5, 9.5, 19.5)
    assert predicted == (20.5, 30.5, 9.5, 19.5)
    colours = {line.get_color() for line in display.axes_[2, 0].lines}
    assert len(colours) == 2


def test_masks_of_another_size_are_scaled_to_the_image(squares):
    images, truth, predicted = squares
    large = np.kron(predicted, np.ones((1, 2, 4)))[..., np.newaxis]
    display = SegmentationDisplay.from_predictions(images, truth, large, n_images=1)
    np.testing.assert_allclose(display.table["dice"], 1 - np.arange(10) / 10)
    x0, x1, y0, y1 = outline_boxes(display.axes_[2, 0])[1]
    assert (x0, x1) == pytest.approx((20.5, 30.5))
    assert (y0, y1) == pytest.approx((9.5, 19.5))
    ax = display.axes_[2, 0]
    assert (ax.get_xlim(), ax.get_ylim()) == ((-0.5, 49.5), (39.5, -0.5))


def test_a_small_prediction_is_brought_to_the_size_of_the_truth(squares):
    images, truth, predicted = squares
    small = predicted[:, ::2, ::2]
    display = SegmentationDisplay.from_predictions(images, truth, small)
    # The square of 10 pixels starts at an even place, so that even shifts lose nothing.
    np.testing.assert_allclose(display.table["dice"][::2], 1 - np.arange(0, 10, 2) / 10, atol=0.02)


def test_masks_in_files_and_several_of_one_image_are_read_as_everywhere(squares, tmp_path):
    images, truth, predicted = squares
    paths = [tmp_path / f"{i}.png" for i in range(10)]
    for path, mask in zip(paths, predicted, strict=True):
        Image.fromarray(mask.astype(np.uint8) * 255).save(path)
    halves = truth.copy(), truth.copy()
    halves[0][:, :15] = halves[1][:, 15:] = False
    parts = [list(pair) for pair in zip(*halves, strict=True)]
    display = SegmentationDisplay.from_predictions(images, parts, paths, n_images=1)
    assert display.table["dice"].tolist() == dice(truth, predicted, average=None).tolist()
    assert outline_boxes(display.axes_[2, 0]) == [
        (11.5, 21.5, 9.5, 19.5),
        (20.5, 30.5, 9.5, 19.5),
    ]


@pytest.mark.parametrize("n_classes", [1, 3, 8])
def test_names_of_classes_do_not_overlap(squares, n_classes):
    y = np.resize([f"malignant {k}" for k in range(n_classes)], 10)
    display = SegmentationDisplay.from_predictions(*squares, y=y)
    display.figure_.canvas.draw()
    boxes = [label.get_window_extent() for label in display.dice_ax_.get_xticklabels()]
    assert len(boxes) == n_classes
    assert all(left.x1 < right.x0 for left, right in pairwise(boxes))


def test_without_a_lesion_there_is_a_table_but_no_picture(squares):
    images, truth, predicted = squares
    display = SegmentationDisplay(images, np.zeros_like(truth), predicted)
    assert display.table["dice"].tolist() == [0] * 10
    with pytest.raises(ValueError, match="no mask of masks_true has a lesion"):
        display.plot()


def test_outline_at_the_border_is_closed():
    masks = np.zeros((1, 8, 8))
    masks[0, :3, :3] = 1
    display = SegmentationDisplay.from_predictions(masks, masks, masks)
    x, y = display.axes_[0, 0].lines[0].get_data()
    assert (x[0], y[0]) == (x[-1], y[-1])
    assert (x.min(), x.max(), y.min(), y.max()) == (-0.5, 2.5, -0.5, 2.5)


def test_classes_are_named_and_stand_in_the_order_of_their_labels(squares):
    names = ["normal", "malignant", "benign"]
    y = np.array([2, 1] * 5)
    display = SegmentationDisplay.from_predictions(*squares, y=y, target_names=names)
    assert display.table["class"].tolist() == ["benign", "malignant"] * 5
    labels = [label.get_text() for label in display.dice_ax_.get_xticklabels()]
    assert labels == ["malignant\nn = 5", "benign\nn = 5"]
    dots = [line for line in display.dice_ax_.lines if line.get_marker() == "o"]
    for place, line in enumerate(dots):
        assert abs(line.get_xdata() - place).max() < 0.3
        expected = display.table.loc[display.table["class"] == names[place + 1], "dice"]
        assert line.get_ydata().tolist() == expected.tolist()
    assert display.axes_[0, 0].get_xlabel() == "#0 benign"


def test_colour_and_float_images_and_lists_of_sizes():
    rng = np.random.default_rng(0)
    images = [rng.random((20, 30, 3)), rng.random((16, 16))]
    masks = [np.ones((20, 30)), np.eye(16, dtype=int)[..., np.newaxis]]
    display = SegmentationDisplay.from_predictions(images, masks, masks)
    shapes = [ax.images[0].get_array().shape for ax in display.axes_[[0, 2], 0]]
    assert shapes == [(20, 30, 3), (16, 16)]
    assert display.table["dice"].tolist() == [1, 1]


def test_draws_in_a_given_figure():
    import matplotlib.pyplot as plt
    from matplotlib.figure import Figure

    masks = np.zeros((3, 16, 16))
    masks[:, 4:9, 4:9] = 1
    figure = Figure()
    display = SegmentationDisplay.from_predictions(masks, masks, masks, figure=figure)
    assert display.figure_ is figure
    assert plt.get_fignums() == []
    figure.canvas.draw()


def test_from_estimator_draws_what_it_predicts(squares):
    images, truth, _ = squares
    with pytest.raises(NotFittedError):
        SegmentationDisplay.from_estimator(Segmenter(), images, truth)
    display = SegmentationDisplay.from_estimator(Segmenter().fit(images, truth), images, truth)
    np.testing.assert_allclose(display.table["dice"], 0.9)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"masks_pred": np.ones((9, 40, 50))}, "masks_pred has 9 masks, expected 10"),
        ({"masks_true": np.ones((10, 40, 50, 2))}, r"masks_true have shape \(10, 40, 50, 2\)"),
        ({"masks_pred": np.full((10, 40, 50), 0.4)}, r"masks_pred\[0\] .* Threshold first"),
        ({"masks_true": np.zeros((10, 40, 50))}, "no mask of masks_true has a lesion"),
        ({"y": [0, 1]}, r"y has shape \(2,\), expected \(10,\)"),
        ({"y": [0, 3] * 5, "target_names": ["a", "b"]}, "y holds 3, expected integers from 0 to 1"),
        ({"n_images": 0}, "n_images=0: expected 1 or more"),
    ],
)
def test_segmentation_errors_say_what_was_given_and_expected(squares, change, message):
    images, truth, predicted = squares
    given = {"images": images, "masks_true": truth, "masks_pred": predicted, **change}
    with pytest.raises(ValueError, match=message):
        SegmentationDisplay.from_predictions(**given)


def test_real_scans_given_as_paths(busi_folder, busi_curation):
    busi = load_busi(busi_folder, curation=busi_curation)
    some = np.flatnonzero(busi.target == 1)[:9]
    masks = [busi.masks[i] for i in some]
    halved = [mask[::2, ::2] for mask in masks]
    display = SegmentationDisplay.from_predictions(
        [busi.images[i] for i in some],
        masks,
        halved,
        y=busi.target[some],
        target_names=busi.target_names,
    )
    assert display.table["dice"].between(0.97, 1).all()
    assert sorted(i for shown in display.shown_.values() for i in shown) == list(range(9))
    for row, case in zip(display.axes_, display.shown_.values(), strict=True):
        for ax, i in zip(row, case, strict=True):
            assert ax.images[0].get_array().shape[:2] == masks[i].shape
            truth, predicted = outline_boxes(ax)[0], outline_boxes(ax)[-1]
            assert predicted == pytest.approx(truth, abs=3)
    display.figure_.canvas.draw()
