"""Scores of segmenters: those of the metrics, by one callable that scikit-learn takes too."""

import pickle
import warnings

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn.base import BaseEstimator
from sklearn.dummy import DummyClassifier
from sklearn.exceptions import UndefinedMetricWarning
from sklearn.model_selection import GridSearchCV, cross_validate
from tiny_images import boxed

from hybridus.inputs.images import as_images
from hybridus.inputs.masks import resize_mask
from hybridus.metrics import (
    dice,
    false_positive_rate,
    hausdorff_95,
    iou,
    lesion_detection,
    normalized_surface_dice,
)
from hybridus.protocol.folds import LesionGroupKFold
from hybridus.protocol.scoring import CLASS_SCORES, LesionScores, score_model, scorer_for


class Bright(BaseEstimator):
    """What is brighter than a level is lesion, `shift` pixels to the right."""

    def __init__(self, level=100, shift=0):
        self.level = level
        self.shift = shift

    def fit(self, X, y):
        self.fitted_ = True
        return self

    def predict(self, X):
        return boxed([np.roll(image > self.level, self.shift, axis=1) for image in as_images(X)])


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


@pytest.mark.parametrize("model", [Bright(), Bright(shift=3), Bright(level=-1)], ids=repr)
def test_scores_are_those_of_the_metrics(scans, model):
    X, masks, y, _ = scans
    scores = LesionScores()(model, X, masks)
    assert list(scores) == [
        *("dice", "iou", "hausdorff_95", "detection_rate", "false_positive_rate", "dice_all")
    ]
    predicted, lesion = model.predict(X), y > 0
    pair = masks[lesion], predicted[lesion]
    assert scores["dice"] == pytest.approx(dice(*pair))
    assert scores["iou"] == pytest.approx(iou(*pair))
    assert scores["hausdorff_95"] == pytest.approx(hausdorff_95(*pair))
    assert scores["detection_rate"] == lesion_detection(*pair).detection_rate
    assert scores["false_positive_rate"] == false_positive_rate(masks, predicted)
    assert scores["dice_all"] == pytest.approx(dice(masks, predicted))


@pytest.mark.parametrize("model", [Bright(), Bright(shift=3), Bright(level=-1)], ids=repr)
def test_each_image_adds_its_share_to_the_scores_of_any_part(scans, model):
    X, masks, y, _ = scans
    part = np.flatnonzero(np.arange(len(y)) % 3)
    predicted = model.predict(X)
    _, by_image = LesionScores().judge_images(masks, predicted)
    for name, value in LesionScores().judge(masks[part], predicted[part]).items():
        summed, counted = by_image[name][part].sum(axis=0)
        assert summed / counted == pytest.approx(value), name
    assert by_image["dice"][y == 0].tolist() == [[0, 0]] * (y == 0).sum()


def test_scikit_learn_gives_the_same_by_cross_validate(scans):
    X, masks, _, groups = scans
    folds = list(LesionGroupKFold(3).split(X, masks, groups))
    results = cross_validate(Bright(shift=3), X, masks, cv=folds, scoring=LesionScores())
    for number, (_, test) in enumerate(folds):
        expected = LesionScores().judge(masks[test], Bright(shift=3).predict(X[test]))
        for name, value in expected.items():
            assert results[f"test_{name}"][number] == value


def test_a_search_over_segmenters_chooses_by_dice_on_groups(scans):
    X, masks, _, groups = scans
    search = GridSearchCV(
        Bright(),
        {"level": [-1, 100]},
        cv=LesionGroupKFold(2),
        scoring=LesionScores(),
        refit="dice",
        error_score="raise",
    ).fit(X, masks, groups=groups)
    assert search.best_params_ == {"level": 100}
    assert search.best_score_ == 1
    assert search.cv_results_["mean_test_false_positive_rate"].tolist() == [1, 0]


def test_a_lesion_that_is_missed_counts_the_diagonal_and_no_detection(scans):
    X, masks, _, _ = scans
    scores = LesionScores()(Bright(level=255), X, masks)
    assert scores["dice"] == scores["detection_rate"] == scores["false_positive_rate"] == 0
    assert scores["hausdorff_95"] == pytest.approx(np.hypot(32, 40))
    assert scores["dice_all"] == pytest.approx(1 / 3)


def test_without_normals_there_is_no_false_positive_rate(scans):
    X, masks, y, _ = scans
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scores = LesionScores()(Bright(), X[y > 0], masks[y > 0])
    assert np.isnan(scores["false_positive_rate"])
    assert scores["dice_all"] == scores["dice"] == 1


def test_without_lesions_their_scores_are_undefined_and_it_is_said(scans):
    X, masks, y, _ = scans
    scorer = LesionScores(metrics={"nsd": normalized_surface_dice})
    with pytest.warns(UndefinedMetricWarning, match="none of the 12 images shows a lesion"):
        scores = scorer(Bright(), X[y == 0], masks[y == 0])
    undefined = [name for name, value in scores.items() if np.isnan(value)]
    assert undefined == ["dice", "iou", "hausdorff_95", "detection_rate", "nsd"]
    assert (scores["false_positive_rate"], scores["dice_all"]) == (0, 1)


@pytest.mark.parametrize(
    ("given", "size"), [(None, None), (64, (64, 64)), ((48, 64), (48, 64))], ids=str
)
def test_images_of_different_sizes_are_judged_at_one_size_if_asked(given, size):
    rng = np.random.default_rng(1)
    sizes = [(30 + 4 * i, 60 - 3 * i) for i in range(8)]
    images, masks = (list(part) for part in zip(*[scan(rng, s, True) for s in sizes], strict=True))
    scores = LesionScores(given)(Bright(shift=4), images, masks)
    pairs = list(zip(masks, Bright(shift=4).predict(images), strict=True))
    if size is not None:
        pairs = [tuple(resize_mask(mask, size) for mask in pair) for pair in pairs]
    for name, metric in {"dice": dice, "hausdorff_95": hausdorff_95}.items():
        expected = np.mean([metric([true], [found]) for true, found in pairs])
        assert scores[name] == pytest.approx(expected)


def test_a_lesion_that_is_lost_at_a_small_size_makes_no_normal():
    X = np.full((8, 40, 40), 200, np.uint8)
    masks = np.zeros(X.shape, dtype=bool)
    masks[:, 5, 5] = True
    masks[::2, :20] = True
    scores = LesionScores(4)(Bright(), X, masks)
    assert np.isnan(scores["false_positive_rate"])
    assert scores["dice"] == pytest.approx(2 / 3)


@pytest.mark.parametrize("size", ["128", 0, (8, 8, 8), -4])
def test_an_impossible_mask_size_is_refused_at_once(size):
    with pytest.raises(ValueError, match="mask_size=.*: expected"):
        LesionScores(size)


def test_a_metric_is_one_function_more(scans):
    X, masks, y, _ = scans
    scorer = LesionScores(metrics={"nsd": normalized_surface_dice})
    scores = scorer(Bright(shift=3), X, masks)
    assert list(scores)[-1] == "nsd"
    predicted = Bright(shift=3).predict(X)
    assert scores["nsd"] == normalized_surface_dice(masks[y > 0], predicted[y > 0])
    assert pickle.loads(pickle.dumps(scorer)) == scorer
    with pytest.raises(ValueError, match=r"metrics\['dice'\]: this name is one of LesionScores'"):
        LesionScores(metrics={"dice": dice})


def test_images_and_masks_may_be_files(scans, tmp_path):
    X, masks, _, _ = scans
    paths, mask_paths = [], []
    for i, (image, mask) in enumerate(zip(X[:6], masks[:6], strict=True)):
        paths.append(tmp_path / f"{i}.png")
        mask_paths.append(tmp_path / f"{i}_mask.png")
        Image.fromarray(image).save(paths[-1])
        Image.fromarray(mask).save(mask_paths[-1])
    from_files = LesionScores()(Bright(shift=2), pd.Series(paths), mask_paths)
    assert from_files == LesionScores()(Bright(shift=2), X[:6], masks[:6])


@pytest.mark.parametrize("size", [None, 32])
def test_masks_of_another_size_than_the_image_are_refused(scans, size):
    masks = scans[1]
    small = [mask[::2, ::2] for mask in masks]
    with pytest.raises(ValueError, match="Predict at the size of the images"):
        LesionScores(size).judge(masks, small)


class TestScorers:
    X, y = np.zeros((6, 1)), np.array([0, 0, 0, 0, 1, 1])

    def score(self, scoring):
        model = DummyClassifier().fit(self.X, self.y)
        scorer = scorer_for(model, scoring, default=CLASS_SCORES)
        return score_model(scorer, model, self.X, self.y)

    def test_names_lists_dicts_and_callables_are_taken(self):
        def half(estimator, X, y):
            return 0.5

        accuracy = pytest.approx(4 / 6)
        assert self.score("accuracy") == {"accuracy": accuracy}
        assert list(self.score(["f1_macro", "accuracy"])) == ["f1_macro", "accuracy"]
        assert self.score({"half": half, "acc": "accuracy"}) == {"half": 0.5, "acc": accuracy}
        assert self.score(half) == {"score": 0.5}
        assert self.score(lambda e, X, y: {"a": np.float32(0.25)}) == {"a": 0.25}
        assert list(self.score(None)) == [*CLASS_SCORES]

    def test_what_is_no_score_is_refused(self):
        with pytest.raises(ValueError, match="'no_such_score'"):
            self.score("no_such_score")
        with pytest.raises(ValueError, match=r"scoring=\[\] names no score"):
            self.score([])
        with pytest.raises(TypeError, match="scoring=3: expected a name or names of scikit"):
            self.score(3)
        with pytest.raises(ValueError, match="scoring: 'a' is 'good', expected a number"):
            self.score(lambda e, X, y: {"a": "good"})
        with pytest.raises(ValueError, match="returned no score"):
            self.score(lambda e, X, y: {})
