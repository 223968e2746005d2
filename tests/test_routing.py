"""Groups inside estimators: every inner split heeds them, or is warned of by its name."""

import warnings
from typing import ClassVar

import numpy as np
import pytest
import sklearn
from sklearn.base import BaseEstimator, ClassifierMixin, TransformerMixin
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import (
    AdaBoostClassifier,
    HistGradientBoostingClassifier,
    StackingClassifier,
    VotingClassifier,
)
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.feature_selection import RFECV, SequentialFeatureSelector
from sklearn.linear_model import LogisticRegression, LogisticRegressionCV, RidgeClassifierCV
from sklearn.model_selection import (
    GridSearchCV,
    GroupKFold,
    HalvingGridSearchCV,
    StratifiedGroupKFold,
    StratifiedKFold,
    TunedThresholdClassifierCV,
)
from sklearn.multioutput import ClassifierChain
from sklearn.naive_bayes import GaussianNB
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC, LinearSVC

from hybridus import (
    FineTunedClassifier,
    PixelSegmenter,
    UNetSegmenter,
    VotingSegmenter,
    compare,
    make_hybrid_classifier,
)
from hybridus.estimators.calibration import WholeGroupsCalibration
from hybridus.exceptions import UngroupedWarning
from hybridus.inputs.groups import WholeGroupsKFold
from hybridus.protocol.folds import LesionGroupKFold
from hybridus.protocol.routing import fit_with_groups, inner_splits, metadata_for_fit
from hybridus.protocol.schedule import run_folds

N = 48
GROUPS = np.tile(np.arange(N // 2), 2)  # pairs that folds by a number divide
Y = GROUPS % 2
X = np.random.default_rng(0).normal(size=(N, 3)) + Y[:, np.newaxis]


class Recorder(ClassifierMixin, BaseEstimator):
    """Classifier that keeps the rows it is fitted on, in a list that clones share."""

    def __init__(self, seen=None, strength=1):
        self.seen = seen
        self.strength = strength

    def fit(self, X, y):
        self.seen.rows.append(np.asarray(X)[:, 0])
        self.classes_ = np.unique(y)
        return self

    def predict(self, X):
        return np.where(np.asarray(X)[:, 1] > 0.5, *self.classes_[::-1])

    def decision_function(self, X):
        return np.asarray(X)[:, 1] - 0.5


class Seen:
    def __init__(self):
        self.rows = []

    def __deepcopy__(self, memo):
        return self


def calibrated(**parameters):
    return CalibratedClassifierCV(LinearSVC(), **parameters)


def told(record):
    return [str(one.message) for one in record if issubclass(one.category, UngroupedWarning)]


FOLDS_BY_NUMBER = {
    "search": lambda r: GridSearchCV(r, {"strength": [1, 2]}, cv=3),
    "search by default": lambda r: GridSearchCV(r, {"strength": [1, 2]}),
    "search in a pipeline": lambda r: make_pipeline(
        "passthrough", GridSearchCV(r, {"strength": [1, 2]}, cv=3)
    ),
    "calibration": lambda r: CalibratedClassifierCV(r),
    "calibration of one": lambda r: WholeGroupsCalibration(r, ensemble=False),
    "calibration in a search": lambda r: GridSearchCV(
        WholeGroupsCalibration(r, ensemble=False, cv=2), {"method": ["sigmoid", "isotonic"]}, cv=3
    ),
    "calibration in a vote": lambda r: VotingClassifier(
        [("a", CalibratedClassifierCV(r, cv=3)), ("b", LogisticRegression())]
    ),
    "threshold": lambda r: TunedThresholdClassifierCV(r, cv=3, thresholds=3),
}


@pytest.mark.parametrize("name", FOLDS_BY_NUMBER)
def test_folds_that_are_given_by_a_number_keep_groups_whole(name):
    seen = Seen()
    model = FOLDS_BY_NUMBER[name](Recorder(seen))
    before = str(model.get_params())
    rows = np.column_stack([np.arange(N), X[:, 0]])
    with warnings.catch_warnings():
        warnings.simplefilter("error", UngroupedWarning)
        fitted = fit_with_groups(model, rows, Y, GROUPS)
    assert fitted is model
    assert str(model.get_params()) == before, "parameters are what they were"
    assert len(seen.rows) > 2
    for fitted_on in seen.rows:
        groups, counts = np.unique(GROUPS[fitted_on.astype(int)], return_counts=True)
        assert set(counts) == {2}, f"{groups[counts == 1]} stood on both sides"
    # The same model without groups divides them, so the check above can fail.
    seen.rows.clear()
    model.fit(rows, Y)
    counts = [np.unique(GROUPS[part.astype(int)], return_counts=True)[1] for part in seen.rows]
    assert any(1 in count for count in counts)


def test_a_calibrated_hybrid_keeps_groups_whole():
    pipe = make_hybrid_classifier(probability=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model, routing, params = metadata_for_fit(pipe, GROUPS)
    assert (routing, list(params)) == (True, ["groups"])
    assert model is pipe
    # Without groups its folds are those of scikit-learn's default.
    theirs = calibrated(ensemble=False).fit(X, Y).predict_proba(X)
    head = pipe["head"].set_params(estimator=LinearSVC())
    np.testing.assert_array_equal(head.fit(X, Y).predict_proba(X), theirs)
    # With groups they are those of the folds that keep groups whole.
    folds = list(StratifiedGroupKFold(5).split(X, Y, GROUPS))
    theirs = calibrated(ensemble=False, cv=folds).fit(X, Y).predict_proba(X)
    np.testing.assert_array_equal(head.fit(X, Y, groups=GROUPS).predict_proba(X), theirs)
    assert isinstance(head.cv, WholeGroupsKFold)


def test_in_a_comparison_too_and_the_model_given_stays_as_it_was():
    seen, rows = Seen(), np.column_stack([np.arange(N), X[:, 0]])
    search = GridSearchCV(Recorder(seen), {"strength": [1, 2]}, cv=3)
    folds = list(StratifiedGroupKFold(2).split(X, Y, GROUPS))
    with warnings.catch_warnings():
        warnings.simplefilter("error", UngroupedWarning)
        results = list(run_folds({"search": search}, rows, Y, folds, groups=GROUPS))
    assert [result.best_params["strength"] for result in results] == [1, 1]
    assert search.cv == 3
    for part in seen.rows:
        assert set(np.unique(GROUPS[part.astype(int)], return_counts=True)[1]) == {2}


IGNORING = {
    "a splitter that takes none": (
        GridSearchCV(SVC(), {"C": [1]}, cv=StratifiedKFold(3)),
        r"inner folds of GridSearchCV ignore the groups \(cv=StratifiedKFold\(n_splits=3.*"
        r"give it cv=StratifiedGroupKFold\(3\)",
    ),
    "the same inside a pipeline": (
        Pipeline([("s", StandardScaler()), ("h", calibrated(cv=StratifiedKFold(4)))]),
        r"CalibratedClassifierCV ignore the groups \(h__cv=Strat.*StratifiedGroupKFold\(4\)",
    ),
    "stacking": (
        StackingClassifier([("a", SVC()), ("b", LinearSVC())], cv=3),
        r"StackingClassifier ignore the groups \(cv=3\)",
    ),
    "calibration of one": (
        make_pipeline(StandardScaler(), calibrated(ensemble=False)),
        r"ensemble=False gives its folds no groups \(calibratedclassifiercv__cv=None\).*"
        r"take hybridus\.estimators\.calibration\.WholeGroupsCalibration",
    ),
    "a share": (TunedThresholdClassifierCV(SVC(), cv=0.3), r"\(cv=0.3\)"),
    "ridge by leaving one out": (RidgeClassifierCV(), r"RidgeClassifierCV ignore.*\(cv=None\)"),
    "a network of scikit-learn": (
        make_pipeline(StandardScaler(), MLPClassifier(early_stopping=True)),
        r"MLPClassifier holds out by itself \(mlpclassifier__validation_fraction=0.1\) ignores",
    ),
    "boosting": (HistGradientBoostingClassifier(early_stopping=True), "HistGradientBoosting"),
    "probabilities": (SVC(probability=True), r"SVC holds out by itself \(probability=True\)"),
    "a candidate": (
        GridSearchCV(
            Pipeline([("h", SVC())]), {"h": [SVC(), calibrated()]}, cv=StratifiedGroupKFold(3)
        ),
        r"inner folds of CalibratedClassifierCV, a candidate \(param_grid=None\)",
    ),
    "a wrapper that knows no routing": (
        AdaBoostClassifier(calibrated(cv=StratifiedGroupKFold(3))),
        r"\(estimator__cv=StratifiedGroupKFold",
    ),
    "a selection of features": (
        SequentialFeatureSelector(SVC(), cv=StratifiedKFold(2)),
        r"SequentialFeatureSelector ignore the groups",
    ),
    "the same in a pipeline, which tells no transformer": (
        make_pipeline(RFECV(LogisticRegression(), cv=3), SVC()),
        r"RFECV ignore the groups \(rfecv__cv=3\)",
    ),
    "pixels of a segmenter": (
        PixelSegmenter(MLPClassifier(early_stopping=True)),
        r"MLPClassifier holds out by itself \(estimator__validation_fraction=0.1\)",
    ),
    "folds that are none": (
        StackingClassifier([("a", SVC())], cv=[("a", "b")]),
        "StackingClassifier ignore the groups",
    ),
    "pairs of indices that divide groups": (
        StackingClassifier([("a", SVC())], cv=list(StratifiedKFold(3).split(X, Y))),
        "StackingClassifier ignore the groups",
    ),
}


@pytest.mark.parametrize("name", IGNORING)
def test_a_split_that_ignores_groups_is_told_of(name):
    model, message = IGNORING[name]
    with pytest.warns(UngroupedWarning, match=message) as record:
        metadata_for_fit(model, GROUPS)
    assert len(told(record)) == 1


HEEDING = {
    "halving": HalvingGridSearchCV(SVC(), {"C": [1]}, cv=3),
    "a search": GridSearchCV(SVC(), {"C": [1]}, cv=GroupKFold(3)),
    "a search over what knows no routing": GridSearchCV(
        AdaBoostClassifier(), {"n_estimators": [2]}, cv=3
    ),
    "a selection of features": RFECV(LogisticRegression(), cv=3),
    "pairs of indices that keep groups whole": StackingClassifier(
        [("a", SVC())], cv=list(StratifiedGroupKFold(3).split(X, Y, GROUPS))
    ),
    "a fine-tuned network": make_pipeline("passthrough", FineTunedClassifier()),
    "segmenters that vote": VotingSegmenter([("a", UNetSegmenter()), ("b", UNetSegmenter())]),
    "pixels": PixelSegmenter(threshold="auto"),
    "a chain without folds": ClassifierChain(SVC()),
    "nothing inside": make_pipeline(StandardScaler(), SVC()),
    "a step called cv": Pipeline([("cv", StandardScaler()), ("head", SVC())]),
    "boosting of few": HistGradientBoostingClassifier(),
}


@pytest.mark.parametrize("name", HEEDING)
def test_a_split_that_heeds_groups_is_not_told_of(name):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        metadata_for_fit(HEEDING[name], GROUPS)


class SplitSpy(StratifiedGroupKFold):
    """Splitter that insists on groups."""

    def split(self, X, y=None, groups=None):
        assert groups is not None
        return super().split(X, y, groups)


@pytest.mark.parametrize(
    "model",
    [
        RFECV(LogisticRegression(), cv=SplitSpy(3)),
        SequentialFeatureSelector(LogisticRegression(), cv=SplitSpy(3)),
        LogisticRegressionCV(
            cv=SplitSpy(3), Cs=2, use_legacy_attributes=False, l1_ratios=(0,), scoring="accuracy"
        ),
        RidgeClassifierCV(cv=SplitSpy(3)),
        HalvingGridSearchCV(SVC(), {"C": [1, 2]}, cv=SplitSpy(3), min_resources=24),
        TunedThresholdClassifierCV(LogisticRegression(), cv=SplitSpy(3), thresholds=3),
    ],
    ids=lambda model: type(model).__name__,
)
def test_scikit_learn_hands_groups_to_the_folds_that_it_says_it_does(model):
    with warnings.catch_warnings():
        warnings.simplefilter("error", UngroupedWarning)
        fit_with_groups(model, X, Y, GROUPS)


def test_many_samples_make_boosting_hold_some_out():
    boosting = HistGradientBoostingClassifier()
    assert inner_splits(boosting, 10_000) == []
    assert [split.path for split in inner_splits(boosting, 10_001)] == ["validation_fraction"]


def test_segmenters_are_searched_by_folds_that_show_lesions():
    search = GridSearchCV(UNetSegmenter(), {"depth": [2, 3]}, cv=3)
    model, routing, _ = metadata_for_fit(search, GROUPS)
    assert isinstance(model.cv, LesionGroupKFold)
    assert (model.cv.n_splits, routing) == (3, True)


def test_without_groups_nothing_is_changed():
    search = GridSearchCV(SVC(), {"C": [1]}, cv=3)
    for groups in (None, "independent"):
        assert metadata_for_fit(search, groups) == (search, False, {})
    with pytest.raises(ValueError, match=r"groups has shape \(2,\): expected \(48,\)"):
        fit_with_groups(search, X, Y, [1, 2])


class TestWholeGroups:
    def test_are_those_of_a_number_without_groups(self):
        for n, stratify, theirs in ((3, True, StratifiedKFold(3)), (4, False, None)):
            theirs = theirs or sklearn.model_selection.KFold(n)
            ours = WholeGroupsKFold(n, stratify=stratify)
            for (_, one), (_, other) in zip(ours.split(X, Y), theirs.split(X, Y), strict=True):
                np.testing.assert_array_equal(one, other)

    def test_are_those_of_scikit_learn_with_groups(self):
        for stratify, theirs in ((True, StratifiedGroupKFold(3)), (False, GroupKFold(3))):
            ours = WholeGroupsKFold(3, stratify=stratify).split(X, Y, GROUPS)
            for (_, one), (_, other) in zip(ours, theirs.split(X, Y, GROUPS), strict=True):
                np.testing.assert_array_equal(one, other)

    def test_refuse_one_fold(self):
        with pytest.raises(ValueError, match="at least one train/test split"):
            WholeGroupsKFold(1)


class MaskRecorder(TransformerMixin, BaseEstimator):
    """Transformer that keeps the masks it is fitted with, in a list that clones share."""

    __metadata_request__fit: ClassVar[dict] = {"masks": True}

    def __init__(self, seen=None):
        self.seen = seen

    def fit(self, X, y=None, masks=None):
        self.seen.rows.append(masks)
        return self

    def transform(self, X):
        return X


@pytest.mark.parametrize("groups", [None, GROUPS])
@pytest.mark.parametrize("form", [np.asarray, list])
def test_masks_of_the_training_part_alone_reach_what_asks_for_them(groups, form):
    seen = Seen()
    masks = np.arange(N)[:, None, None] * np.ones((1, 2, 2), int)
    pipe = make_pipeline(MaskRecorder(seen), GaussianNB())
    grid = {"gaussiannb__var_smoothing": [0.1]}
    models = {"asks": pipe, "searched": GridSearchCV(pipe, grid, cv=2), "does not": GaussianNB()}
    trained_on = np.flatnonzero(GROUPS >= 6)
    folds = [(trained_on, np.flatnonzero(GROUPS < 6))]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UngroupedWarning)
        found = compare(models, X, Y, groups=groups, masks=form(masks), folds=folds)
    assert len(found.table) == 3
    sizes = [len(part) for part in seen.rows]
    assert max(sizes) == len(trained_on)
    assert len(sizes) == 4
    for part in seen.rows:
        assert {int(mask[0][0]) for mask in part} <= set(trained_on)
    seen.rows.clear()
    fit_with_groups(pipe, X, Y, groups, masks)
    np.testing.assert_array_equal(seen.rows[0], masks)


def test_masks_are_no_metadata_of_segmenters():
    masks = np.zeros((4, 8, 8), bool)
    masks[:, 2:4, 2:4] = True
    with pytest.raises(ValueError, match="the masks of segmenters are y"):
        compare({"unet": UNetSegmenter()}, np.zeros((4, 8, 8)), masks, masks=masks)
