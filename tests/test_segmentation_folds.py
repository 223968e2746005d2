"""Segmenters on the same folds: what the scores are, and that duplicates never cross a split."""

import warnings

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn.base import BaseEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, GroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from hybridus.estimators.segmenters import PixelSegmenter, pixel
from hybridus.exceptions import UngroupedWarning
from hybridus.inputs.images import as_images
from hybridus.inputs.masks import resize_mask
from hybridus.metrics import dice, false_positive_rate, hausdorff_95, iou, lesion_detection
from hybridus.protocol.model_selection import repeated_folds, summarize
from hybridus.protocol.segmentation_folds import lesion_folds, score_segmenters, segment_folds


class Bright(BaseEstimator):
    """What is brighter than a level is lesion; notes what it was fitted on."""

    __metadata_request__fit = {"groups": True}  # noqa: RUF012  scikit-learn's own spelling
    fits: list = []  # noqa: RUF012  of all instances, since they are cloned

    def __init__(self, level=100, shift=0):
        self.level = level
        self.shift = shift

    def fit(self, X, y, groups=None):
        self.fits.append((len(X), len(y), None if groups is None else list(groups)))
        self.fitted_ = True
        return self

    def predict(self, X):
        found = [np.roll(image > self.level, self.shift, axis=1) for image in as_images(X)]
        if len({mask.shape for mask in found}) == 1:
            return np.stack(found).astype(np.uint8)[..., np.newaxis]
        ragged = np.empty(len(found), dtype=object)
        ragged[:] = found
        return ragged

    def score(self, X, y):
        return float(dice(y, self.predict(X)))


@pytest.fixture(autouse=True)
def forgotten(monkeypatch):
    monkeypatch.setattr(Bright, "fits", [])


def scan(rng, size, lesion):
    image = rng.integers(0, 90, size, dtype=np.uint8)
    mask = np.zeros(size, dtype=bool)
    if lesion:
        top, left = rng.integers(2, size[0] - 12), rng.integers(2, size[1] - 14)
        mask[top : top + 8, left : left + 9] = True
        image[mask] = 200
    return image, mask


@pytest.fixture(scope="module")
def scans():
    """36 scans in three classes, the first without a lesion; two of each group."""
    rng = np.random.default_rng(0)
    y = np.repeat(np.arange(18) % 3, 2)
    images, masks = zip(*[scan(rng, (32, 40), label > 0) for label in y], strict=True)
    return np.stack(images), np.stack(masks), y, np.repeat(np.arange(18), 2)


def test_scores_are_those_of_the_metrics(scans):
    X, masks, y, groups = scans
    models = {"exact": Bright(), "shifted": Bright(shift=3), "all": Bright(level=-1)}
    table = score_segmenters(models, X, masks, y=y, groups=groups, n_splits=3)
    assert table.columns.tolist() == [
        *("model", "repeat", "fold", "n_train", "n_test", "test_set"),
        *("dice", "iou", "hausdorff_95", "detection_rate", "false_positive_rate", "dice_all"),
        *("fit_seconds", "score_seconds", "best_params"),
    ]
    assert table["model"].tolist() == ["exact"] * 3 + ["shifted"] * 3 + ["all"] * 3
    folds = repeated_folds(y, groups, n_splits=3)
    for name, model in models.items():
        rows = table[table["model"] == name].to_dict("records")
        for row, (train, test) in zip(rows, folds, strict=True):
            predicted, lesion = model.predict(X[test]), y[test] > 0
            assert (row["n_train"], row["n_test"]) == (len(train), len(test))
            pair = masks[test][lesion], predicted[lesion]
            assert row["dice"] == pytest.approx(dice(*pair))
            assert row["iou"] == pytest.approx(iou(*pair))
            assert row["hausdorff_95"] == pytest.approx(hausdorff_95(*pair))
            assert row["detection_rate"] == lesion_detection(*pair).detection_rate
            assert row["false_positive_rate"] == false_positive_rate(masks[test], predicted)
            assert row["dice_all"] == pytest.approx(dice(masks[test], predicted))
    by_model = table.groupby("model")[["dice", "hausdorff_95", "false_positive_rate"]].mean()
    assert by_model.loc["exact"].tolist() == [1, 0, 0]
    assert by_model.loc["shifted", "dice"] == pytest.approx(6 / 9)
    assert by_model.loc["all", "false_positive_rate"] == 1


def test_a_lesion_that_is_missed_counts_the_diagonal_and_no_detection(scans):
    X, masks, y, groups = scans
    table = score_segmenters({"none": Bright(level=255)}, X, masks, y=y, groups=groups, n_splits=2)
    assert table["dice"].tolist() == table["detection_rate"].tolist() == [0, 0]
    assert table["hausdorff_95"].tolist() == pytest.approx([np.hypot(32, 40)] * 2, abs=2)
    assert table["false_positive_rate"].tolist() == [0, 0]
    assert table["dice_all"].tolist() == pytest.approx([1 / 3] * 2)


def test_without_normals_there_is_no_false_positive_rate(scans):
    X, masks, y, groups = scans
    kept = y > 0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        table = score_segmenters(
            {"exact": Bright()}, X[kept], masks[kept], y=y[kept], groups=groups[kept], n_splits=2
        )
    assert table["false_positive_rate"].isna().all()
    assert table["dice_all"].tolist() == table["dice"].tolist()


def test_groups_stay_whole_and_reach_the_fit_of_every_model(scans):
    X, masks, y, groups = scans
    models = {"alone": Bright(), "piped": make_pipeline(FunctionTransformer(), Bright())}
    folds = list(segment_folds(models, X, masks, y=y, groups=groups, n_splits=3, n_repeats=2))
    numbers = [(repeat, fold) for repeat in range(2) for fold in range(3)]
    assert [(fold.repeat, fold.fold) for fold in folds] == numbers * 2
    for fold, fit in zip(folds, Bright.fits, strict=True):
        assert not set(groups[fold.train]) & set(groups[fold.test])
        assert fit == (len(fold.train), len(fold.train), list(groups[fold.train]))
        assert len(fold.predicted) == len(fold.test)
    assert [fold.test.tolist() for fold in folds[:6]] == [fold.test.tolist() for fold in folds[6:]]
    assert folds[0].test.tolist() != folds[3].test.tolist()


def test_it_is_said_how_images_were_split(scans):
    X, masks, y, groups = scans
    parts = {"n_splits": 2, "y": y}
    with pytest.warns(UngroupedWarning, match="no groups given"):
        table = score_segmenters({"a": Bright()}, X, masks, **parts)
    assert table.attrs["split"] == "StratifiedKFold, groups unknown"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        table = score_segmenters({"a": Bright()}, X, masks, groups="independent", **parts)
        assert table.attrs["split"] == "StratifiedKFold, samples taken as independent"
        table = score_segmenters({"a": Bright()}, X, masks, groups=groups, **parts)
    assert table.attrs["split"] == "StratifiedGroupKFold, groups kept whole"
    assert [known for _, _, known in Bright.fits[:4]] == [None] * 4


def test_folds_hold_lesions_in_equal_shares_where_no_classes_are_given(scans):
    _, masks, _, groups = scans
    for train, test in lesion_folds(masks, groups=groups, n_splits=3):
        assert masks[train].any(axis=(1, 2)).sum() == 16
        assert masks[test].any(axis=(1, 2)).sum() == 8


def test_summarize_ranks_by_dice_and_tests_the_differences(scans):
    X, masks, y, groups = scans
    models = {"shifted": Bright(shift=3), "exact": Bright()}
    table = summarize(score_segmenters(models, X, masks, y=y, groups=groups, n_splits=3))
    assert table.index.tolist() == ["exact", "shifted"]
    assert table["dice_mean"].tolist() == pytest.approx([1, 6 / 9])
    assert table.loc["shifted", "behind_best"] == pytest.approx(3 / 9)
    assert table.loc["shifted", "p_value"] < 0.01


@pytest.mark.parametrize(
    ("given", "size"), [(None, None), (64, (64, 64)), ((48, 64), (48, 64))], ids=str
)
def test_images_of_different_sizes_are_judged_at_one_size_if_asked(given, size):
    rng = np.random.default_rng(1)
    sizes = [(30 + 4 * i, 60 - 3 * i) for i in range(8)]
    images, masks = (list(part) for part in zip(*[scan(rng, s, True) for s in sizes], strict=True))
    shifted = {"shifted": Bright(shift=4)}
    options = {"groups": "independent", "n_splits": 2, "mask_size": given}
    for fold in segment_folds(shifted, images, masks, **options):
        pairs = [(masks[i], found) for i, found in zip(fold.test, fold.predicted, strict=True)]
        if size is not None:
            pairs = [tuple(resize_mask(mask, size) for mask in pair) for pair in pairs]
        for name, metric in {"dice": dice, "hausdorff_95": hausdorff_95}.items():
            expected = np.mean([metric([true], [found]) for true, found in pairs])
            assert fold.scores[name] == pytest.approx(expected)


def test_a_lesion_that_is_lost_at_a_small_size_makes_no_normal():
    X = np.full((8, 40, 40), 200, np.uint8)
    masks = np.zeros(X.shape, dtype=bool)
    masks[:, 5, 5] = True
    masks[::2, :20] = True
    table = score_segmenters(
        {"all": Bright()}, X, masks, y=masks[:, 0, 0], groups="independent", n_splits=2, mask_size=4
    )
    assert table["false_positive_rate"].isna().all()
    assert table["dice"].tolist() == pytest.approx([2 / 3, 2 / 3])


@pytest.mark.parametrize("size", ["128", 0, (8, 8, 8), -4])
def test_an_impossible_mask_size_is_refused_before_anything_is_fitted(scans, size):
    X, masks, _, groups = scans
    with pytest.raises(ValueError, match="mask_size=.*: expected a number of pixels"):
        segment_folds({"exact": Bright()}, X, masks, groups=groups, mask_size=size)
    assert not Bright.fits


def test_a_search_is_fitted_anew_in_every_fold_and_its_choice_is_kept(scans):
    X, masks, y, groups = scans
    search = GridSearchCV(Bright(), {"level": [-1, 100]}, cv=GroupKFold(2))
    table = score_segmenters({"search": search}, X, masks, y=y, groups=groups, n_splits=2)
    assert table["best_params"].tolist() == ['{"level": 100}'] * 2
    assert table["dice"].tolist() == [1, 1]
    assert not hasattr(search, "best_params_")


def test_a_real_segmenter_chooses_its_threshold_by_group(scans, monkeypatch):
    seen, split = [], pixel.split_validation
    monkeypatch.setattr(
        pixel, "split_validation", lambda *args: seen.append(list(args[1])) or split(*args)
    )
    X, masks, y, groups = scans
    model = PixelSegmenter(
        LogisticRegression(), "basic", mask_size=32, sigma_max=2, threshold="auto", random_state=0
    )
    table = score_segmenters({"pixels": model}, X, masks, y=y, groups=groups, n_splits=2)
    assert (table["dice"] > 0.7).all()
    assert seen == [list(groups[train]) for train, _ in repeated_folds(y, groups, n_splits=2)]


def test_images_and_masks_may_be_files(scans, tmp_path):
    X, masks, y, groups = scans
    paths, mask_paths = [], []
    for i, (image, mask) in enumerate(zip(X, masks, strict=True)):
        paths.append(tmp_path / f"{i}.png")
        mask_paths.append(tmp_path / f"{i}_mask.png")
        Image.fromarray(image).save(paths[-1])
        Image.fromarray(mask).save(mask_paths[-1])
    options = {"y": y, "groups": groups, "n_splits": 2}
    columns = ["test_set", "dice", "hausdorff_95", "false_positive_rate"]
    from_files = score_segmenters({"a": Bright(shift=2)}, pd.Series(paths), mask_paths, **options)
    from_arrays = score_segmenters({"a": Bright(shift=2)}, X, masks, **options)
    pd.testing.assert_frame_equal(from_files[columns], from_arrays[columns])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"models": {}}, "models is empty: give at least one, such as {'unet'"),
        ({"masks": slice(30)}, "inconsistent numbers of samples: \\[36, 30\\]"),
        ({"y": slice(30)}, "inconsistent numbers of samples: \\[36, 30\\]"),
        ({"groups": slice(30)}, "groups has shape \\(30,\\), y \\(36,\\)"),
        ({"n_splits": 7}, "class 0 has only 6 groups, fewer than the 7 folds"),
    ],
    ids=["models", "masks", "y", "groups", "n_splits"],
)
def test_what_cannot_be_done_is_told_before_anything_is_fitted(scans, change, message):
    X, masks, y, groups = scans
    given = {"models": {"a": Bright()}, "masks": masks, "y": y, "groups": groups, "n_splits": 2}
    for name, value in change.items():
        given[name] = given[name][value] if isinstance(value, slice) else value
    models, masks = given.pop("models"), given.pop("masks")
    with pytest.raises(ValueError, match=message):
        segment_folds(models, X, masks, **given)  # not iterated over
    assert Bright.fits == []


def test_a_part_without_lesion_is_refused():
    masks = np.zeros((12, 16, 16), dtype=bool)
    with pytest.raises(ValueError, match="none of the 12 masks has a lesion"):
        lesion_folds(masks, n_splits=2)
    masks[0, 4:8, 4:8] = True
    with pytest.raises(ValueError, match=r"fold \d of repeat 0 (trains on|tests) no image with a"):
        lesion_folds(masks, np.arange(12) % 2, n_splits=2)
    with pytest.raises(ValueError, match="class 1 has only 1 samples, fewer than the 2 folds"):
        lesion_folds(masks, n_splits=2)


@pytest.mark.parametrize("size", [None, 32])
def test_masks_of_another_size_than_the_image_are_refused(scans, size):
    class Small(Bright):
        def predict(self, X):
            return super().predict(X)[:, ::2, ::2]

    X, masks, y, groups = scans
    options = {"y": y, "groups": groups, "n_splits": 2, "mask_size": size}
    with pytest.raises(ValueError, match="Predict at the size of the images"):
        score_segmenters({"a": Small()}, X, masks, **options)


def test_errors_of_a_model_are_passed_on(scans):
    class Broken(Bright):
        def fit(self, X, y, groups=None):
            raise RuntimeError("a mistake in the model")

    X, masks, y, groups = scans
    with pytest.raises(RuntimeError, match="a mistake in the model"):
        score_segmenters({"a": Broken()}, X, masks, y=y, groups=groups, n_splits=2)
