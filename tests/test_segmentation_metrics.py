"""Scores of masks against independent implementations, and where those disagree or give up."""

import pickle
import subprocess
import sys
from functools import partial

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given, settings, strategies as st
from hypothesis.extra import numpy as hnp
from scipy.spatial import cKDTree
from sklearn.base import BaseEstimator
from sklearn.exceptions import UndefinedMetricWarning
from sklearn.metrics import f1_score, jaccard_score, precision_score, recall_score
from sklearn.model_selection import GridSearchCV, GroupKFold, cross_validate

from hybridus.datasets import load_busi
from hybridus.metrics import (
    dice,
    dice_scorer,
    false_positive_rate,
    hausdorff_95,
    iou,
    iou_scorer,
    lesion_detection,
    neg_hausdorff_95_scorer,
    normalized_surface_dice,
    pixel_f1,
    pixel_precision,
    pixel_recall,
    segmentation_report,
)

OVERLAPS = {
    dice: f1_score,
    pixel_f1: f1_score,
    iou: jaccard_score,
    pixel_precision: precision_score,
    pixel_recall: recall_score,
}

pairs = (
    st.tuples(st.integers(1, 12), st.integers(1, 12))
    .flatmap(lambda size: hnp.arrays(bool, (2, *size)))
    .map(tuple)
)


def ellipse(shape, centre, radii):
    y, x = np.mgrid[: shape[0], : shape[1]]
    return ((y - centre[0]) / radii[0]) ** 2 + ((x - centre[1]) / radii[1]) ** 2 <= 1


@pytest.fixture(scope="module")
def lesions():
    """True and predicted ellipses, off by some pixels in place and size."""
    rng = np.random.default_rng(0)
    true, pred = np.zeros((2, 20, 96, 128), bool)
    for i in range(20):
        centre, radii = rng.uniform(35, 60, 2), rng.uniform(8, 30, 2)
        true[i] = ellipse((96, 128), centre, radii)
        pred[i] = ellipse((96, 128), centre + rng.normal(0, 4, 2), radii * rng.uniform(0.7, 1.3, 2))
    return true, pred


@pytest.fixture(scope="module")
def with_normals():
    """Six images: lesion hit, missed, half hit; normal quiet, alarmed; one of two lesions hit."""
    true, pred = np.zeros((2, 6, 24, 24), bool)
    true[:3, 4:12, 4:12] = True
    pred[0, 4:12, 4:12] = True
    pred[2, 4:12, 8:16] = True
    pred[4, 0:2, 0:2] = True
    true[5, 2:6, 2:6] = true[5, 12:20, 12:20] = True
    pred[5, 13:20, 13:20] = True
    return true, pred


def one(score, true, pred, **options):
    return score(true[None], pred[None], **options)


def outline(mask):
    """Pixels with a neighbour outside the mask, found one by one."""
    points = set(map(tuple, np.argwhere(mask)))
    return np.array(
        [
            (y, x)
            for y, x in points
            if any(p not in points for p in ((y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)))
        ]
    )


def brute_force_distances(true, pred, spacing):
    a, b = outline(true) * spacing, outline(pred) * spacing
    return cKDTree(b).query(a)[0], cKDTree(a).query(b)[0]


class TestOverlap:
    @pytest.mark.parametrize(("ours", "theirs"), OVERLAPS.items())
    def test_equals_scikit_learn_image_by_image_and_pooled(
        self, lesions, with_normals, ours, theirs
    ):
        for true, pred in (lesions, with_normals):
            expected = [
                theirs(t.ravel(), p.ravel(), zero_division=1 if not (t | p).any() else 0)
                for t, p in zip(true, pred, strict=True)
            ]
            np.testing.assert_allclose(ours(true, pred, average=None), expected, rtol=1e-14)
            assert ours(true, pred) == pytest.approx(np.mean(expected), abs=1e-14)
            pooled = theirs(true.ravel(), pred.ravel())
            assert ours(true, pred, average="pooled") == pytest.approx(pooled, abs=1e-14)

    @given(pairs)
    @settings(max_examples=100, deadline=None)
    def test_dice_and_iou_are_symmetric_bounded_and_say_the_same(self, pair):
        true, pred = pair
        d, j = one(dice, true, pred), one(iou, true, pred)
        assert d == one(dice, pred, true)
        assert 0 <= j <= d <= 1
        assert d == pytest.approx(2 * j / (1 + j), abs=1e-14)
        assert (d == 1) == np.array_equal(true, pred)

    @given(pairs, st.integers(0, 5), st.integers(0, 5))
    @settings(max_examples=60, deadline=None)
    def test_scores_do_not_depend_on_the_place(self, pair, down, right):
        padded = [np.pad(mask, 6) for mask in pair]
        moved = [np.roll(mask, (down, right), (0, 1)) for mask in padded]
        for score in (dice, iou, pixel_precision, pixel_recall, normalized_surface_dice):
            assert one(score, *moved) == one(score, *padded)
        assert one(hausdorff_95, *moved, missing="diagonal") == one(
            hausdorff_95, *padded, missing="diagonal"
        )

    @pytest.mark.parametrize("score", [*OVERLAPS, normalized_surface_dice])
    def test_empty_says_what_neither_lesion_nor_prediction_counts(self, score):
        true, pred = np.zeros((2, 3, 8, 8), bool)
        true[0, 2:5, 2:5] = pred[0, 2:5, 2:5] = True
        pred[1, 0, 0] = True
        for empty, last, mean in (("one", 1, 2 / 3), ("zero", 0, 1 / 3), ("nan", np.nan, 1 / 2)):
            each = score(true, pred, empty=empty, average=None)
            np.testing.assert_array_equal(each, [1, 0, last])
            assert score(true, pred, empty=empty) == pytest.approx(mean)

    @pytest.mark.parametrize("score", [*OVERLAPS, normalized_surface_dice])
    def test_a_mean_of_nothing_is_nan_with_a_warning(self, score):
        nothing = np.zeros((2, 4, 4), bool)
        with pytest.warns(UndefinedMetricWarning, match="none of the 2 images has a score"):
            assert np.isnan(score(nothing, nothing, empty="nan"))
        assert score(nothing, nothing) == 1

    def test_pooled_counts_empty_only_where_all_is_empty(self, with_normals):
        true, pred = with_normals
        assert dice(true, pred, average="pooled", empty="zero") == dice(
            true, pred, average="pooled"
        )
        assert dice(true[3:4], pred[3:4], average="pooled", empty="zero") == 0

    def test_masks_come_in_every_form(self, lesions, tmp_path):
        from PIL import Image

        true, pred = lesions[0][:3], lesions[1][:3]
        expected = dice(true, pred)
        for i, mask in enumerate(true):
            Image.fromarray(mask).save(tmp_path / f"{i}_mask.png")
        ragged = np.empty(3, dtype=object)
        ragged[:] = [mask * np.uint8(255) for mask in true]
        for form in (true[..., None] * 1.0, list(true), ragged, sorted(tmp_path.glob("*.png"))):
            assert dice(form, pred[..., None]) == expected

    def test_images_of_different_sizes_count_the_same(self, lesions):
        true, pred = lesions
        crops = [(slice(0, 96 - i), slice(0, 128 - 2 * i)) for i in range(len(true))]
        cut = [[mask[crop] for mask, crop in zip(m, crops, strict=True)] for m in (true, pred)]
        expected = [one(dice, t, p) for t, p in zip(*cut, strict=True)]
        np.testing.assert_array_equal(dice(*cut, average=None), expected)


class TestBoundaries:
    @pytest.mark.parametrize("spacing", [(1.0, 1.0), (0.1, 0.25)])
    def test_equals_the_definition_by_brute_force(self, lesions, spacing):
        each = hausdorff_95(*lesions, spacing=spacing, average=None)
        near = normalized_surface_dice(*lesions, spacing=spacing, tolerance=0.4, average=None)
        for i, (true, pred) in enumerate(zip(*lesions, strict=True)):
            there, back = brute_force_distances(true, pred, spacing)
            expected = max(np.percentile(there, 95), np.percentile(back, 95))
            assert each[i] == pytest.approx(expected, abs=1e-12)
            both = np.concatenate([there, back])
            assert near[i] == pytest.approx(np.mean(both <= 0.4 + 1e-9), abs=1e-12)
        assert each.max() > 5 * min(spacing)

    @pytest.mark.filterwarnings("ignore::DeprecationWarning")
    @pytest.mark.parametrize("spacing", [(1.0, 1.0), (0.1, 0.1), (0.1, 0.25)])
    def test_distance_agrees_with_deepminds_within_a_pixel(self, lesions, spacing):
        # Theirs runs between corners of pixels and weighs them by the length of the outline there.
        theirs = pytest.importorskip("surface_distance")
        expected = [
            theirs.compute_robust_hausdorff(
                theirs.compute_surface_distances(true, pred, spacing), 95
            )
            for true, pred in zip(*lesions, strict=True)
        ]
        each = hausdorff_95(*lesions, spacing=spacing, average=None)
        np.testing.assert_allclose(each, expected, rtol=0, atol=max(spacing) + 1e-9)
        assert np.mean(each) == pytest.approx(np.mean(expected), abs=0.3 * max(spacing))

    @pytest.mark.filterwarnings("ignore::DeprecationWarning")
    @pytest.mark.parametrize("tolerance", [1, 2, 3, 5])
    def test_surface_dice_agrees_with_deepminds_within_half_a_pixel(self, lesions, tolerance):
        theirs = pytest.importorskip("surface_distance")
        found = [
            theirs.compute_surface_distances(true, pred, (1.0, 1.0))
            for true, pred in zip(*lesions, strict=True)
        ]
        stricter, same, laxer = (
            np.array([theirs.compute_surface_dice_at_tolerance(one, limit) for one in found])
            for limit in (tolerance - 0.5, tolerance, tolerance + 0.5)
        )
        each = normalized_surface_dice(*lesions, tolerance=tolerance, average=None)
        assert np.all((stricter <= each + 1e-9) & (each <= laxer + 1e-9))
        assert np.mean(each) == pytest.approx(np.mean(same), abs=0.03)

    @given(pairs, st.floats(0.01, 100))
    @settings(max_examples=80, deadline=None)
    def test_distance_is_symmetric_and_scales_with_spacing(self, pair, spacing):
        true, pred = pair
        assume(true.any() and pred.any())
        distance = one(hausdorff_95, true, pred)
        assert distance == one(hausdorff_95, pred, true)
        assert distance >= 0
        scaled = one(hausdorff_95, true, pred, spacing=spacing)
        assert scaled == pytest.approx(distance * spacing, rel=1e-9)
        assert one(hausdorff_95, true, true) == 0
        assert one(normalized_surface_dice, true, pred, tolerance=20) == 1
        near = one(normalized_surface_dice, true, pred, tolerance=0)
        assert near == one(normalized_surface_dice, pred, true, tolerance=0)

    def test_single_pixels_and_edges_of_the_image_have_outlines(self):
        true, pred = np.zeros((2, 1, 10, 10), bool)
        true[0, 0, 0] = pred[0, 3, 4] = True
        assert hausdorff_95(true, pred) == 5
        assert hausdorff_95(true, pred, spacing=(2, 1)) == pytest.approx(np.hypot(6, 4))
        assert normalized_surface_dice(true, pred, tolerance=4.9) == 0
        assert normalized_surface_dice(true, pred, tolerance=5) == 1
        whole = np.ones((1, 10, 10), bool)
        assert hausdorff_95(whole, whole) == 0
        assert hausdorff_95(np.ones((1, 1, 6)), np.eye(1, 6)[None]) == pytest.approx(4.75)

    def test_a_tolerance_in_mm_includes_whole_pixels_despite_rounding(self):
        true = np.zeros((1, 20, 20), bool)
        true[0, 5, 5] = True
        moved = np.roll(true, 3, axis=2)
        assert 3 * 0.1 > 0.3
        assert normalized_surface_dice(true, moved, spacing=0.1, tolerance=0.3) == 1
        assert normalized_surface_dice(true, moved, spacing=0.1, tolerance=0.299) == 0

    def test_a_missing_outline_is_left_out_or_costs_the_diagonal(self, with_normals):
        each = hausdorff_95(*with_normals, missing="nan", average=None)
        assert np.isnan(each).tolist() == [False, True, False, True, True, False]
        found = hausdorff_95(*with_normals, missing="nan")
        assert found == pytest.approx(np.mean(each[[0, 2, 5]]))
        full = hausdorff_95(*with_normals, spacing=(0.3, 0.4), average=None)
        np.testing.assert_allclose(full[[1, 3, 4]], [24 * 0.5, 0, 24 * 0.5])
        np.testing.assert_array_equal(
            segmentation_report(*with_normals, spacing=(0.3, 0.4))["hausdorff_95"], full
        )
        true, pred = with_normals
        with pytest.warns(UndefinedMetricWarning):
            assert np.isnan(hausdorff_95(true[3:5], pred[3:5], missing="nan"))

    def test_spacing_may_differ_from_image_to_image(self, lesions):
        plain = hausdorff_95(*lesions, average=None)
        sizes = np.linspace(0.05, 0.2, len(plain))
        each = hausdorff_95(*lesions, spacing=sizes[:, None], average=None)
        np.testing.assert_allclose(each, plain * sizes)
        both = np.repeat(sizes[:, None], 2, axis=1)
        np.testing.assert_array_equal(hausdorff_95(*lesions, spacing=both, average=None), each)


class TestLesions:
    def test_counts_lesions_found_and_false_alarms(self, with_normals):
        found = lesion_detection(*with_normals)
        assert found == {
            "detection_rate": 3 / 5,
            "false_positives_per_image": 1 / 6,
            "false_positive_rate": 1 / 2,
            "n_lesions": 5,
            "n_detected": 3,
            "n_false_positives": 1,
            "n_images": 6,
            "n_normal": 2,
        }
        assert false_positive_rate(*with_normals) == 1 / 2

    def test_min_iou_asks_for_more_than_a_common_pixel(self, with_normals):
        rates = [lesion_detection(*with_normals, min_iou=x).n_detected for x in (1 / 3, 0.34, 1)]
        assert rates == [3, 2, 1]  # the lesion that is half missed has 1/3, the last one 49/64
        assert lesion_detection(*with_normals, min_iou=1).n_false_positives == 1

    def test_corners_connect_and_one_prediction_may_find_two_lesions(self):
        true, pred = np.zeros((2, 1, 6, 6), bool)
        true[0, 0, 0] = true[0, 1, 1] = True  # one lesion
        true[0, 5, 5] = True  # another
        pred[0].flat[::7] = True
        found = lesion_detection(true, pred)
        assert (found.n_lesions, found.n_detected, found.n_false_positives) == (2, 2, 0)
        found = lesion_detection(pred, true)
        assert (found.n_lesions, found.n_detected, found.n_false_positives) == (1, 1, 0)

    @given(pairs)
    @settings(max_examples=60, deadline=None)
    def test_equals_counting_component_by_component(self, pair):
        from skimage.measure import label

        components = [
            [labels == k for k in range(1, labels.max() + 1)]
            for labels in (label(mask, connectivity=2) for mask in pair)
        ]
        true, pred = components
        for min_iou in (0.0, 0.2):
            found = lesion_detection(pair[0][None], pair[1][None], min_iou=min_iou)
            hit = [
                any((t & p).any() and (t & p).sum() / (t | p).sum() >= min_iou for p in pred)
                for t in true
            ]
            false = [not any((t & p).any() for t in true) for p in pred]
            assert found.n_lesions == len(true)
            assert found.n_detected == sum(hit)
            assert found.n_false_positives == sum(false)

    def test_rates_without_lesions_or_without_normals_are_nan(self, lesions):
        assert np.isnan(lesion_detection(*lesions).false_positive_rate)
        with pytest.warns(UndefinedMetricWarning, match="every image has a lesion"):
            assert np.isnan(false_positive_rate(*lesions))
        nothing = np.zeros((2, 4, 4), bool)
        assert np.isnan(lesion_detection(nothing, nothing).detection_rate)


class TestReport:
    def test_has_the_scores_of_each_image(self, with_normals):
        report = segmentation_report(*with_normals, spacing=0.5, tolerance=1.0, min_iou=0.5)
        assert list(report) == [
            *("dice", "iou", "precision", "recall", "hausdorff_95", "nsd"),
            *("n_true", "n_detected", "n_false_positive"),
        ]
        expected = pd.DataFrame(
            {
                "dice": dice(*with_normals, average=None),
                "iou": iou(*with_normals, average=None),
                "precision": pixel_precision(*with_normals, average=None),
                "recall": pixel_recall(*with_normals, average=None),
                "hausdorff_95": hausdorff_95(*with_normals, spacing=0.5, average=None),
                "nsd": normalized_surface_dice(
                    *with_normals, spacing=0.5, tolerance=1.0, average=None
                ),
                "n_true": [1, 1, 1, 0, 0, 2],
                "n_detected": [1, 0, 0, 0, 0, 1],
                "n_false_positive": [0, 0, 0, 0, 1, 0],
            }
        )
        pd.testing.assert_frame_equal(report, expected)

    def test_passes_its_choices_on(self, with_normals):
        report = segmentation_report(*with_normals, empty="nan", missing="nan")
        assert report["dice"].isna().tolist() == [False, False, False, True, False, False]
        assert report["dice"].mean() == dice(*with_normals, empty="nan")
        assert report["hausdorff_95"].mean() == hausdorff_95(*with_normals, missing="nan")

    def test_real_masks_of_busi(self, busi_folder):
        busi = load_busi(busi_folder)
        chosen = np.arange(0, len(busi.masks), 15)
        masks = busi.masks[chosen]
        moved = [np.roll(mask, 2, axis=1) for mask in masks]
        report = segmentation_report(masks, moved)
        normal = busi.target[chosen] == 0
        assert normal.sum() == 9
        assert (report["n_true"] == 0).tolist() == normal.tolist()
        assert report["dice"].between(0.5, 1).all()
        assert (report.loc[normal, ["dice", "nsd"]] == 1).all(axis=None)
        assert (report["hausdorff_95"] == 0).tolist() == normal.tolist()
        # A lesion at the right edge comes in at the left one.
        inside = np.array([not normal[i] and not m[:, -2:].any() for i, m in enumerate(masks)])
        assert inside.sum() >= 40
        assert report.loc[inside, "hausdorff_95"].between(1, 2).all()
        assert (report.loc[inside, "nsd"] == 1).all()
        assert (report.loc[inside, "n_false_positive"] == 0).all()
        assert hausdorff_95(masks, masks) == 0


class Threshold(BaseEstimator):
    """Segments what is brighter than `level`."""

    def __init__(self, level=0.5):
        self.level = level

    def fit(self, X, masks):
        return self

    def predict(self, X):
        if isinstance(X, np.ndarray) and X.dtype != object:
            return X[..., None] > self.level
        predicted = np.empty(len(X), dtype=object)
        predicted[:] = [image > self.level for image in X]
        return predicted


class TestScorers:
    @pytest.fixture
    def images(self):
        rng = np.random.default_rng(1)
        images = np.stack(
            [ellipse((24, 32), rng.uniform(8, 16, 2), (6, 8)) * 0.6 for _ in range(12)]
        )
        return images + rng.random(images.shape) * 0.3, images > 0

    def test_work_in_cross_validate_and_grid_search(self, images):
        X, masks = images
        scoring = {
            "dice": dice_scorer,
            "iou": iou_scorer,
            "hd95": neg_hausdorff_95_scorer,
            "lesions": partial(dice_scorer, empty="nan"),
        }
        for truth, n_jobs in ((masks, 2), (masks[..., None], 1), (list(masks), 1)):
            done = cross_validate(Threshold(0.5), X, truth, cv=3, scoring=scoring, n_jobs=n_jobs)
            np.testing.assert_array_equal(done["test_dice"], 1)
            np.testing.assert_array_equal(done["test_iou"], 1)
            np.testing.assert_array_equal(done["test_hd95"], 0)
        groups = np.arange(12) // 2
        for scorer in scoring.values():
            search = GridSearchCV(
                Threshold(), {"level": [0.2, 0.5, 5.0]}, scoring=scorer, cv=GroupKFold(3)
            ).fit(X, masks, groups=groups)
            assert search.best_params_ == {"level": 0.5}
            assert np.isfinite(search.cv_results_["mean_test_score"]).all()

    def test_take_images_of_different_sizes(self, images):
        X, masks = (
            [array[: 24 - i, : 32 - 2 * i] for i, array in enumerate(stack)] for stack in images
        )
        done = cross_validate(Threshold(0.5), X, masks, cv=3, scoring=dice_scorer)
        np.testing.assert_array_equal(done["test_score"], 1)
        boxed = np.empty(len(masks), dtype=object)
        boxed[:] = masks
        assert dice_scorer(Threshold(0.2), X, boxed) == dice(masks, [x > 0.2 for x in X])

    def test_predicting_nothing_costs_the_diagonal(self, images):
        X, masks = images
        assert neg_hausdorff_95_scorer(Threshold(5), X, masks) == -40
        assert neg_hausdorff_95_scorer(Threshold(5), X, masks, spacing=0.1) == pytest.approx(-4)

    def test_survive_pickling(self):
        for scorer in (dice_scorer, iou_scorer, neg_hausdorff_95_scorer):
            assert pickle.loads(pickle.dumps(scorer)) is scorer

    def test_another_size_is_refused_with_the_way_out(self, images):
        X, masks = images
        message = r'masks_pred\[0\] is 16 x 12 pixels .* is 32 x 24.* output_size="input"'
        with pytest.raises(ValueError, match=message):
            dice_scorer(Threshold(), X[:, ::2, ::2], masks)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda t: dice(t, t, empty="two"), "empty='two': expected one of 'one', 'zero', 'nan'"),
        (lambda t: dice(t, t, average="macro"), "average='macro': expected one of 'images', 'pool"),
        (lambda t: hausdorff_95(t, t, average="pooled"), "average='pooled': expected one of"),
        (lambda t: hausdorff_95(t, t, missing="inf"), "missing='inf': expected one of 'nan'"),
        (lambda t: segmentation_report(t, t, missing="inf"), "missing='inf'"),
        (lambda t: hausdorff_95(t, t, spacing=0), "spacing=0: expected positive"),
        (lambda t: hausdorff_95(t, t, spacing=np.ones(3)), r"\(3,\).*spacing\[:, None\]"),
        (lambda t: hausdorff_95(t, t, spacing=np.ones((2, 2))), r"shape \(2, 2\): expected a num"),
        (lambda t: normalized_surface_dice(t, t, tolerance=-1), "tolerance=-1"),
        (lambda t: lesion_detection(t, t, min_iou=1.5), "min_iou=1.5: expected 0 to 1"),
        (lambda t: iou(t, t[:2]), "got 3 masks_true and 2 masks_pred"),
        (lambda t: dice(t, [1, 0, 1]), "masks expected, got labels: masks_pred"),
        (lambda t: dice(t, t * 0.3), r"masks_pred\[0\] holds .*fractions.*Threshold first"),
    ],
)
def test_errors_say_what_was_given_and_expected(call, message):
    with pytest.raises(ValueError, match=message):
        call(np.ones((3, 4, 4)))


def test_scores_of_classes_need_no_reader_of_images():
    code = (
        "import sys, hybridus.metrics; print({'PIL', 'hybridus.inputs.masks'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
