"""Comparison: the figures are those of scikit-learn on the same folds, for classes and masks."""

import warnings

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn.base import BaseEstimator
from sklearn.datasets import load_wine
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.model_selection import (
    GridSearchCV,
    KFold,
    LeaveOneGroupOut,
    RepeatedStratifiedKFold,
    StratifiedGroupKFold,
    cross_val_score,
)
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.svm import SVC
from tiny_images import discs

from hybridus.exceptions import UngroupedWarning
from hybridus.protocol.compare import Comparison, compare, plan_comparison
from hybridus.protocol.folds import LesionGroupKFold, repeated_folds
from hybridus.protocol.scoring import LesionScores
from hybridus.protocol.statistics import corrected_t_test


class Bright(BaseEstimator):
    """What is brighter than a level is lesion, `shift` pixels to the right; has no tag."""

    __metadata_request__fit = {"groups": True}  # noqa: RUF012  scikit-learn's own spelling

    def __init__(self, level=100, shift=0):
        self.level = level
        self.shift = shift

    def fit(self, X, y, groups=None):
        self.groups_ = groups
        return self

    def predict(self, X):
        return np.roll(self.level < X, self.shift, axis=2).astype(np.uint8)[..., np.newaxis]


class Segmenter(Bright):
    """The same with the tag of a segmenter."""

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.estimator_type = "segmenter"
        return tags

    def predict(self, X):
        return super().predict(np.stack([np.asarray(Image.open(x)) for x in X]))


@pytest.fixture(scope="module")
def wine():
    """178 samples of three classes, in 60 groups of two or three of one class."""
    X, y = load_wine(return_X_y=True)
    groups = np.array([f"{label}-{i // 3}" for i, label in enumerate(y)], dtype=object)
    return X, y, groups


@pytest.fixture(scope="module")
def scans():
    """36 scans in three classes, the first without a lesion; two of each group."""
    images, masks = discs(36, seed=3)
    y = np.repeat(np.arange(18) % 3, 2)
    masks[y == 0] = False
    return images, masks, y, np.array([f"p{i}" for i in np.repeat(np.arange(18), 2)], dtype=object)


def test_figures_of_classifiers_are_what_they_were(wine):
    """Pinned to what version 0.1 gave before one path was made for classes and masks."""
    X, y, groups = wine
    inner = StratifiedGroupKFold(3, shuffle=True, random_state=0)
    models = {
        "bayes": GaussianNB(),
        "svm": SVC(),
        "search": GridSearchCV(SVC(), {"C": [10, 100, 1000]}, cv=inner),
    }
    found = compare(models, X, y, groups=groups, n_splits=3, n_repeats=2, random_state=3)
    expected = {
        "accuracy_mean": [0.97466564254225574, 0.89008896149313499, 0.69056259241871143],
        "accuracy_std": [0.00939767353000761, 0.04981258058468392, 0.06132020164832629],
        "f1_macro_mean": [0.97576697501080067, 0.88660909354143957, 0.62887027704860510],
        "balanced_accuracy_mean": [0.97639559849704771, 0.88490955560968354, 0.64967337176416462],
        "macro_ovr_auc_mean": [0.99876102454623561, 0.95085732591159300, 0.88384560047833827],
        "behind_best": [0, 0.08457668104912074, 0.28410305012354437],
        "p_value": [np.nan, 0.06387164192262110, 0.00253787588777404],
    }
    pinned = pd.DataFrame(expected, index=pd.Index(["bayes", "search", "svm"], name="model"))
    pd.testing.assert_frame_equal(found.table[list(expected)], pinned, rtol=1e-10)
    tested = ["f861ec1c", "0d29c6c2", "f23256ef", "4094a671", "091f0c9d", "35ce6f70"]
    assert found.folds["test_set"].tolist() == tested * 3
    chosen = found.folds.loc[found.folds["model"] == "search", "best_params"]
    assert chosen.tolist() == ['{"C": 1000}'] * 6


def test_figures_of_segmenters_are_what_they_were(scans):
    X, masks, y, groups = scans
    models = {"a": Bright(140), "b": Bright(120, 1)}
    settings = {"n_splits": 3, "n_repeats": 2, "random_state": 1}
    found = compare(models, X, masks, stratify=y, groups=groups, **settings)
    expected = {
        "dice_mean": [0.82300967915373013, 0.62495641594693330],
        "dice_std": [0.00926922375000587, 0.02714960742926909],
        "iou_mean": [0.70055222791441929, 0.45943770743753992],
        "hausdorff_95_mean": [3.46421792514027871, 15.74903520373080390],
        "detection_rate_mean": [1.0, 1.0],
        "false_positive_rate_mean": [1.0, 1.0],
        "dice_all_mean": [0.54867311943581998, 0.41663761063128885],
        "behind_best": [0, 0.19805326320679673],
        "p_value": [np.nan, 0.00004432955811378],
    }
    pinned = pd.DataFrame(expected, index=pd.Index(["a", "b"], name="model"))
    pd.testing.assert_frame_equal(found.table[list(expected)], pinned, rtol=1e-10)
    tested = ["23d4a944", "bd61551c", "906dc369", "cc974d10", "cafe80e5", "d2db018e"]
    assert found.folds["test_set"].tolist() == tested * 2

    settings = {"groups": "independent", "n_splits": 3, "scoring": LesionScores(24)}
    found = compare(models, X, masks, **settings)
    of_a = found.folds[found.folds["model"] == "a"]
    assert of_a["test_set"].tolist() == ["540324c8", "fb5cbaf1", "1cb5925a"]
    dice = [0.84739017750321843, 0.85260041876896975, 0.86256017271666008]
    assert of_a["dice"].tolist() == pytest.approx(dice, rel=1e-12)
    hausdorff = [2.11475596717980352, 2.54149512362627483, 2.12284460088951743]
    assert of_a["hausdorff_95"].tolist() == pytest.approx(hausdorff, rel=1e-12)


def test_the_table_has_the_scores_of_scikit_learn_on_its_folds(wine):
    X, y, groups = wine
    found = compare({"bayes": GaussianNB()}, X, y, groups=groups, n_splits=4, n_repeats=2)
    folds = repeated_folds(y, groups, n_splits=4, n_repeats=2)
    for metric in ("accuracy", "f1_macro", "balanced_accuracy"):
        scores = cross_val_score(GaussianNB(), X, y, cv=folds, scoring=metric)
        assert found.table.loc["bayes", f"{metric}_mean"] == pytest.approx(scores.mean())
        assert found.table.loc["bayes", f"{metric}_std"] == pytest.approx(scores.std(ddof=1))
    scores = cross_val_score(GaussianNB(), X, y, cv=folds, scoring="roc_auc_ovr")
    assert found.table.loc["bayes", "macro_ovr_auc_mean"] == pytest.approx(scores.mean())
    assert found.split == "StratifiedGroupKFold, groups kept whole"
    assert found.folds["repeat"].tolist() == [0] * 4 + [1] * 4
    assert found.folds["n_test"].sum() == 2 * len(y)


def test_the_first_metric_ranks_and_differences_to_the_best_are_tested(wine):
    X, y, groups = wine
    models = {"dummy": DummyClassifier(), "svm": SVC(), "bayes": GaussianNB()}
    found = compare(models, X, y, groups=groups, scoring=["f1_macro", "accuracy"])
    table = found.table
    assert table.index.tolist() == ["bayes", "svm", "dummy"]
    assert table.columns[0] == "f1_macro_mean"
    assert found.metrics == ["f1_macro", "accuracy"]
    assert np.isnan(table.loc["bayes", "p_value"])
    assert table.loc["bayes", "behind_best"] == 0
    scores = {name: part["f1_macro"].to_numpy() for name, part in found.folds.groupby("model")}
    behind = scores["bayes"] - scores["svm"]
    assert table.loc["svm", "behind_best"] == pytest.approx(behind.mean())
    share = (found.folds["n_test"] / found.folds["n_train"]).mean()
    expected = corrected_t_test(behind, test_share=share)
    assert table.loc["svm", "p_value"] == pytest.approx(expected)
    assert table.loc["dummy", "p_value"] < 1e-4


def test_a_score_that_is_undefined_for_a_model_stays_undefined(wine):
    X, y, _ = wine
    scoring = {"odd": lambda model, X, y: float("nan" if isinstance(model.estimator, SVC) else 1)}
    models = {"svm": SVC(), "bayes": GaussianNB()}
    found = compare(models, X, y, groups="independent", n_splits=2, scoring=scoring)
    assert found.table["odd_mean"].tolist() == pytest.approx([1, np.nan], nan_ok=True)
    assert np.isnan(found.table.loc["svm", "p_value"])


def test_predictions_are_out_of_fold_and_aligned_with_X(wine):
    X, y, _ = wine
    names = np.array(["one", "two", "three"])[y]
    frame = pd.DataFrame(X, index=[f"wine {i}" for i in range(len(y))])
    models = {"bayes": GaussianNB(), "dummy": DummyClassifier()}
    settings = {"groups": "independent", "n_splits": 3, "n_repeats": 2}
    found = compare(models, frame.rename(columns=str), names, **settings)
    predictions = found.predictions
    assert predictions.index.tolist() == frame.index.tolist()
    assert predictions.columns.tolist() == [(m, r) for m in ("bayes", "dummy") for r in (0, 1)]
    for repeat in range(2):
        assert set(predictions["dummy"][repeat]) == {"two"}
        accuracy = found.folds.query("model == 'bayes' and repeat == @repeat")
        right = (predictions["bayes"][repeat] == names).mean()
        assert right == pytest.approx(np.average(accuracy["accuracy"], weights=accuracy["n_test"]))


def test_predicted_masks_are_kept_too_and_samples_that_no_fold_tests_are_missing(scans):
    X, masks, y, groups = scans
    found = compare({"a": Bright(140)}, X, masks, stratify=y, groups=groups, n_splits=3)
    for image, mask in zip(X, found.predictions["a"][0], strict=True):
        np.testing.assert_array_equal(mask[..., 0], image > 140)
    part = compare({"a": Bright()}, X, masks, folds=[(range(8), range(8, 16))], groups=groups)
    assert part.predictions["a"][0].notna().tolist() == [8 <= i < 16 for i in range(36)]
    assert part.split == "folds as given, groups kept whole"
    assert np.isnan(part.table["p_value"].item())  # one fold has no spread
    classes = compare(
        {"a": GaussianNB()}, X[:, 0], y, folds=[(range(8), range(8, 16))], groups=groups
    )
    assert classes.predictions["a"][0].isna().sum() == 28
    dropped = Comparison([result.without_predictions() for result in found.results])
    pd.testing.assert_frame_equal(dropped.table, found.table)
    with pytest.raises(ValueError, match="the predictions of model 'a' were dropped"):
        dropped.predictions  # noqa: B018


def test_repeats_itself_and_depends_on_the_seed(wine):
    X, y, groups = wine
    scores = ["accuracy_mean", "accuracy_std", "macro_ovr_auc_mean"]
    first, again, other = (
        compare({"svm": SVC()}, X, y, groups=groups, random_state=seed).table[scores]
        for seed in (1, 1, 2)
    )
    pd.testing.assert_frame_equal(first, again, check_exact=True)
    assert (first["accuracy_std"] != other["accuracy_std"]).all()


def test_runs_on_the_same_folds_make_one_comparison(wine):
    X, y, groups = wine
    settings = {"groups": groups, "n_splits": 3, "n_repeats": 2, "random_state": 4}
    together = compare({"svm": SVC(), "bayes": GaussianNB()}, X, y, **settings)
    parts = [compare({"svm": SVC()}, X, y, **settings)]
    parts.append(compare({"bayes": GaussianNB()}, X, y, **settings))
    joined = Comparison([result for part in parts for result in part.results])
    seconds = ["fit_seconds", "score_seconds"]
    pd.testing.assert_frame_equal(
        joined.table.drop(columns=seconds), together.table.drop(columns=seconds)
    )


@pytest.mark.parametrize("other", [{"random_state": 5}, {"n_splits": 4}, {"n_repeats": 1}])
def test_models_on_other_folds_or_of_other_metrics_are_not_compared(wine, other):
    X, y, groups = wine
    settings = {"groups": groups, "n_splits": 3, "n_repeats": 2, "random_state": 4}
    one = compare({"a": DummyClassifier()}, X, y, **settings)
    two = compare({"b": DummyClassifier()}, X, y, **settings | other)
    with pytest.raises(ValueError, match="on the same folds"):
        Comparison([*one.results, *two.results])
    three = compare({"b": DummyClassifier()}, X, y, scoring="accuracy", **settings)
    with pytest.raises(ValueError, match=r"model 'b' was scored by \['accuracy'\]"):
        Comparison([*one.results, *three.results])
    with pytest.raises(ValueError, match="results is empty"):
        Comparison([])


def test_it_shows_itself_and_is_written_whole(wine, tmp_path):
    X, y, groups = wine
    models = {"bayes": GaussianNB(), "<dummy>": DummyClassifier()}
    found = compare(models, X, y, groups=groups, n_splits=3)
    text = repr(found).splitlines()
    assert text[0] == "2 models on 3 folds (StratifiedGroupKFold, groups kept whole)"
    assert text[1].split() == [*found.metrics, "seconds", "p"]
    mean, spread = found.table.loc["bayes", ["accuracy_mean", "accuracy_std"]]
    assert text[3].startswith(f"bayes    {mean:.3f} ± {spread:.3f}")
    assert text[3].endswith("best")
    page = found._repr_html_()
    assert "&lt;dummy&gt;" in page
    assert "<dummy>" not in page
    found.to_csv(tmp_path / "table.csv")
    assert [path.name for path in tmp_path.iterdir()] == ["table.csv"]
    read = pd.read_csv(tmp_path / "table.csv", index_col="model")
    pd.testing.assert_frame_equal(read.drop(columns="split"), found.table)
    assert set(read["split"]) == {found.split}


def test_tables_say_how_outlines_that_are_missing_count(scans):
    X, masks, _, groups = scans
    found = compare({"a": Bright()}, X, masks, groups=groups, n_splits=2)
    assert "hausdorff_95: 95th percentile" in repr(found)
    assert "the diagonal of the image where nothing is predicted" in found._repr_html_()


def test_no_groups_is_a_warning_unless_samples_are_said_to_be_independent(wine, scans):
    X, y, _ = wine
    with pytest.warns(UngroupedWarning, match="no groups given: duplicates") as told:
        unknown = compare({"svm": SVC()}, X, y, n_splits=3)
    assert told[0].filename == __file__
    assert unknown.split == "StratifiedKFold, groups unknown"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        stated = compare({"svm": SVC()}, X, y, groups="independent", n_splits=3)
    assert stated.split == "StratifiedKFold, samples taken as independent"
    assert stated.table["accuracy_mean"].tolist() == unknown.table["accuracy_mean"].tolist()
    with pytest.raises(ValueError, match="'independent'"):
        compare({"svm": SVC()}, X, y, groups="none")
    images, masks, _, _ = scans
    with pytest.warns(UngroupedWarning, match="no groups given: duplicates"):
        segmented = compare({"a": Bright()}, images, masks, n_splits=2)
    assert segmented.split == "LesionGroupKFold, groups unknown"


def test_duplicates_flatter_random_folds_and_not_grouped_ones():
    rng = np.random.default_rng(0)
    X = np.repeat(rng.normal(size=(60, 5)), 2, axis=0)
    y = np.repeat(rng.integers(0, 2, 60), 2)  # labels that nothing in X tells
    memory = {"memory": SVC(C=1000, gamma=10)}
    random = compare(memory, X, y, groups="independent", n_repeats=3)
    grouped = compare(memory, X, y, groups=np.repeat(np.arange(60), 2), n_repeats=3)
    assert random.table.loc["memory", "accuracy_mean"] > 0.85
    assert grouped.table.loc["memory", "accuracy_mean"] < 0.65


class TestFolds:
    def test_any_splitter_of_scikit_learn_is_taken(self, wine):
        X, y, _ = wine
        repeated = RepeatedStratifiedKFold(n_splits=3, n_repeats=2, random_state=0)
        models = {"bayes": GaussianNB()}
        found = compare(models, X, y, groups="independent", folds=repeated, scoring="accuracy")
        expected = cross_val_score(GaussianNB(), X, y, cv=repeated)
        assert found.folds["accuracy"].tolist() == expected.tolist()
        assert found.folds["repeat"].tolist() == [0, 0, 0, 1, 1, 1]
        assert found.split == "RepeatedStratifiedKFold, samples taken as independent"
        centres = np.arange(len(y)) % 4
        by_centre = compare(models, X, y, groups=centres, folds=LeaveOneGroupOut())
        assert len(by_centre.folds) == 4

    def test_splitters_of_classes_serve_masks_by_lesion_or_by_given_classes(self, scans):
        X, masks, y, groups = scans
        lesion = masks.any(axis=(1, 2)).astype(int)
        theirs = StratifiedGroupKFold(3)
        for strata, given in ((lesion, None), (y, y)):
            found = compare({"a": Bright()}, X, masks, stratify=given, groups=groups, folds=theirs)
            for result, (_, test) in zip(
                found.results, theirs.split(X, strata, groups), strict=True
            ):
                np.testing.assert_array_equal(result.test, test)
        ours = compare({"a": Bright()}, X, masks, groups=groups, folds=LesionGroupKFold(3))
        assert ours.split == "LesionGroupKFold, groups kept whole"
        assert len(ours.results) == 3

    def test_stratify_draws_the_folds_of_classes(self, wine):
        X, y, _ = wine
        strata = np.array([f"{label}{i % 2}" for i, label in enumerate(y)])
        plan = plan_comparison(
            {"bayes": GaussianNB()}, X, y, stratify=strata, groups="independent", n_splits=3
        )
        for (_, test), (_, same) in zip(
            plan.folds, repeated_folds(strata, n_splits=3), strict=True
        ):
            np.testing.assert_array_equal(test, same)
        with pytest.raises(ValueError, match=r"fold \d tests no sample of class 1"):
            compare(
                {"bayes": GaussianNB()},
                X[:12],
                [1, 1, *[0] * 10],
                stratify=[0, 1] * 6,
                groups="independent",
                n_splits=4,
            )

    @pytest.mark.filterwarnings("ignore:The groups parameter is ignored")
    def test_folds_that_do_not_keep_groups_whole_are_refused(self, wine):
        X, y, groups = wine
        with pytest.raises(ValueError, match=r"folds\[2\] has the group of sample 132 on both"):
            compare({"a": GaussianNB()}, X, y, groups=groups, folds=KFold(4))

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"folds": KFold(3), "n_splits": 4}, "n_splits, n_repeats and random_state draw folds"),
            ({"folds": [([0], [1])], "stratify": [0] * 178}, "stratify draws folds: leave it out"),
            ({"folds": LesionGroupKFold(3)}, "splits by masks, but the models find classes"),
            ({"stratify": [0] * 3}, r"inconsistent numbers of samples: \[178, 3\]"),
        ],
    )
    def test_what_would_be_ignored_is_refused(self, wine, options, message):
        X, y, _ = wine
        with pytest.raises(ValueError, match=message):
            compare({"a": GaussianNB()}, X, y, groups="independent", **options)


class TestTasks:
    def test_the_tag_tells_paths_of_masks_from_names_of_classes(self, scans, tmp_path):
        X, masks, _, groups = scans
        paths, mask_paths = [], []
        for i, (image, mask) in enumerate(zip(X[:8], masks[:8], strict=True)):
            for pixels, kept, name in ((image, paths, i), (mask, mask_paths, f"{i}_mask")):
                kept.append(str(tmp_path / f"{name}.png"))
                Image.fromarray(pixels).save(kept[-1])
        mask_paths = np.array(mask_paths, dtype=object)
        piped = make_pipeline(FunctionTransformer(), Segmenter(140))
        settings = {"groups": groups[:8], "n_splits": 2}
        found = compare({"plain": Segmenter(140), "piped": piped}, paths, mask_paths, **settings)
        expected = compare({"plain": Bright(140)}, X[:8], masks[:8], **settings)
        assert found.folds["dice"].tolist() == expected.folds["dice"].tolist() * 2

    @pytest.mark.parametrize(
        ("models", "error", "message"),
        [
            ([SVC()], TypeError, r"models is list \[SVC\(\)\]: expected a dict of names to est"),
            (SVC(), TypeError, "models is SVC SVC.*: expected a dict"),
            ({}, ValueError, "models is empty: give at least one"),
            ({"svm": SVC}, TypeError, r"models\['svm'\] is the class SVC: give SVC\(\)"),
            ({"svm": "svm"}, TypeError, r"models\['svm'\] is str 'svm': expected an estimator"),
            ({1: SVC()}, TypeError, "models has the name 1: expected text"),
            ({"a": DummyRegressor()}, ValueError, r"models\['a'\] is a regressor"),
            (
                {"svm": SVC(), "unet": Segmenter()},
                ValueError,
                r"models\['svm'\] is a classifier and models\['unet'\] a segmenter: compare those",
            ),
        ],
    )
    def test_models_that_cannot_be_compared_are_named(self, wine, models, error, message):
        X, y, _ = wine
        with pytest.raises(error, match=message):
            compare(models, X, y, groups="independent")

    def test_classifiers_do_not_get_masks_nor_segmenters_classes(self, scans):
        X, masks, y, _ = scans
        for given in (masks, list(masks), [mask[: 20 + i % 3] for i, mask in enumerate(masks)]):
            with pytest.raises(
                ValueError, match=r"models\['svm'\] is a classifier, but y looks lik"
            ):
                compare({"svm": SVC()}, X, given, groups="independent")
        with pytest.raises(ValueError, match="masks expected, got labels"):
            compare({"unet": Segmenter()}, X, y, groups="independent")

    def test_lengths_and_scores_are_checked_before_anything_is_fitted(self, wine, scans):
        class Never(GaussianNB):
            def fit(self, X, y):
                raise AssertionError("fitted")

        X, y, groups = wine
        for bad, message in [
            ({"y": None}, "y is None: expected images, and their classes or masks"),
            ({"X": None}, "X is None: expected images"),
            ({"y": y * 0}, "y holds the class 0 alone: expected two classes or more"),
            ({"n_repeats": 0}, "n_repeats=0: expected an integer, 1 or more"),
            ({"n_splits": "3"}, "n_splits='3': expected an integer, 2 or more"),
            ({"n_splits": 1}, "n_splits=1: expected an integer, 2 or more"),
            ({"random_state": None}, "random_state=None: expected an integer, 0 or more"),
            ({"y": y[:-1]}, "inconsistent numbers of samples"),
            ({"scoring": "no_such_score"}, "no_such_score"),
            ({"groups": groups[:-1]}, r"groups has shape \(177,\)"),
            ({"n_splits": 60}, "class 0 has only 20 groups, fewer than the 60 folds"),
        ]:
            given = {"X": X, "y": y, "groups": groups} | bad
            with pytest.raises(ValueError, match=message):
                compare({"never": Never()}, **given)
        images, masks, _, _ = scans
        with pytest.raises(ValueError, match="none of the 36 masks has a lesion"):
            compare({"a": Segmenter()}, images, np.zeros_like(masks), groups="independent")


def test_groups_reach_segmenters_by_name_and_classifiers_by_number(wine, scans):
    """Networks draw their validation part in the order of these; see `Plan.groups`."""
    X, masks, _, names = scans
    plan = plan_comparison({"a": Bright()}, X, masks, groups=names, n_splits=2)
    assert plan.groups.tolist() == names.tolist()
    X, y, names = wine
    plan = plan_comparison({"a": GaussianNB()}, X, y, groups=names, n_splits=2)
    assert plan.groups.tolist() == pd.factorize(names, sort=True)[0].tolist()


@pytest.mark.parametrize("form", ["list of ragged images", "stack", "object array", "paths"])
def test_images_come_in_any_form_that_can_be_indexed(form):
    y = np.repeat([0, 1], 12)
    ragged = [np.full((4 + i % 3, 5), label, dtype=np.uint8) for i, label in enumerate(y)]
    X, features = ragged, first_value
    if form == "stack":
        X = np.stack([image[:4] for image in ragged])
    elif form == "object array":
        X = np.empty(len(ragged), dtype=object)
        X[:] = ragged
    elif form == "paths":
        X = np.array(["a/b.png" if label else "c.png" for label in y], dtype=object)
        features = length
    model = make_pipeline(FunctionTransformer(features), GaussianNB())
    found = compare({"model": model}, X, list(y), groups=list(range(24)), n_splits=3)
    assert found.table.loc["model", "accuracy_mean"] == 1


def first_value(X):
    return np.array([[np.asarray(image).ravel()[0]] for image in X], dtype=float)


def length(X):
    return np.array([[len(path)] for path in X])


def test_callers_arrays_stay_as_they_were(wine, scans):
    for X, y, groups in (wine, (scans[0], scans[1], scans[3])):
        copies = [array.copy() for array in (X, y, groups)]
        for array in copies:
            array.flags.writeable = False
        model = GaussianNB() if y.ndim == 1 else Bright()
        compare({"model": model}, copies[0], copies[1], groups=copies[2], n_splits=3)
