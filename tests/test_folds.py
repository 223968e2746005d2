"""Folds: groups stay whole, classes are in every part, and what cannot be drawn is refused."""

import itertools
import warnings

import numpy as np
import pytest
from sklearn.datasets import load_wine
from sklearn.model_selection import (
    KFold,
    RepeatedKFold,
    ShuffleSplit,
    StratifiedGroupKFold,
    StratifiedKFold,
)

from hybridus.protocol.folds import (
    LesionGroupKFold,
    check_folds,
    number_folds,
    repeated_folds,
    repeated_lesion_folds,
)


@pytest.fixture(scope="module")
def wine():
    """Classes of 178 samples, in 60 groups of two or three of one class."""
    y = load_wine().target
    return y, np.array([f"{label}-{i // 3}" for i, label in enumerate(y)], dtype=object)


@pytest.fixture(scope="module")
def scans():
    """36 masks in three classes, the first without a lesion; two of each group."""
    y = np.repeat(np.arange(18) % 3, 2)
    masks = np.zeros((36, 8, 8), dtype=np.uint8)
    masks[y > 0, 2:5, 2:5] = 255
    return masks, y, np.repeat(np.arange(18), 2)


def test_groups_stay_whole_and_every_sample_is_tested_once_per_repeat(wine):
    y, groups = wine
    folds = repeated_folds(y, groups, n_splits=4, n_repeats=3, random_state=5)
    assert len(folds) == 12
    for train, test in folds:
        assert not set(groups[train]) & set(groups[test])
        assert len(train) + len(test) == len(y)
        assert set(y[test]) == {0, 1, 2}
    for repeat in range(3):
        tested = np.concatenate([test for _, test in folds[4 * repeat : 4 * repeat + 4]])
        np.testing.assert_array_equal(np.sort(tested), np.arange(len(y)))


def test_folds_are_those_of_scikit_learn_with_one_seed_per_repeat(wine):
    y, groups = wine
    folds = repeated_folds(y, groups, n_splits=3, n_repeats=2, random_state=7)
    expected = itertools.chain.from_iterable(
        StratifiedGroupKFold(3, shuffle=True, random_state=seed).split(y, y, groups)
        for seed in (7, 8)
    )
    for (train, test), (their_train, their_test) in zip(folds, expected, strict=True):
        np.testing.assert_array_equal(train, their_train)
        np.testing.assert_array_equal(test, their_test)


@pytest.mark.parametrize("groups", [None, "independent"])
def test_folds_without_groups_are_stratified_and_silent(wine, groups):
    y, _ = wine
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        folds = repeated_folds(y, groups, n_splits=5)
    expected = StratifiedKFold(5, shuffle=True, random_state=0).split(y, y)
    for (_, test), (_, their_test) in zip(folds, expected, strict=True):
        np.testing.assert_array_equal(test, their_test)


@pytest.mark.parametrize(
    ("y", "groups", "message"),
    [
        (
            ["a"] * 9 + ["b"] * 9,
            [*range(9), 9, 9, 9, 9, 9, 9, 9, 10, 10],
            "class b has only 2 groups, fewer than the 3 folds: take fewer folds",
        ),
        ([0] * 9 + [1] * 2, None, "class 1 has only 2 samples, fewer than the 3 folds"),
        ([0, 1] * 6, [0, 1, None] * 4, r"groups\[2\] is missing"),
        ([0, 1] * 6, [0, 1], r"groups has shape \(2,\)"),
        ([0, 1] * 6, "none", "'independent'"),
        ([[0, 1]] * 6, None, r"y has shape \(6, 2\)"),
    ],
)
def test_folds_that_cannot_be_drawn_say_why_and_what_to_do(y, groups, message):
    with pytest.raises(ValueError, match=message):
        repeated_folds(y, groups, n_splits=3)


def test_folds_that_would_test_no_sample_of_a_class_are_refused():
    # Each class has four groups, but they are of unequal size and two hold both classes.
    y, groups = [0, 0, 0, 0, 1, 1, 1, 1, 1, 1], [0, 1, 2, 3, 0, 0, 1, 1, 4, 5]
    with pytest.raises(ValueError, match=r"fold 2 tests no sample of class 1.*take fewer"):
        repeated_folds(y, groups, n_splits=4, random_state=0)
    for _, test in repeated_folds(y, groups, n_splits=2, random_state=0):
        assert set(np.asarray(y)[test]) == {0, 1}


class TestLesionGroupKFold:
    def test_lesions_are_in_equal_shares_and_groups_whole(self, scans):
        masks, _, groups = scans
        splitter = LesionGroupKFold(3)
        assert splitter.get_n_splits(masks) == 3
        for train, test in splitter.split(masks, masks, groups):
            assert masks[train].any(axis=(1, 2)).sum() == 16
            assert masks[test].any(axis=(1, 2)).sum() == 8
            assert not set(groups[train]) & set(groups[test])

    def test_masks_may_be_of_different_sizes(self, scans):
        masks, _, groups = scans
        ragged = [mask[: 5 + i % 3] for i, mask in enumerate(masks)]
        for (_, test), (_, same) in zip(
            LesionGroupKFold(3).split(range(36), ragged, groups),
            LesionGroupKFold(3).split(range(36), masks, groups),
            strict=True,
        ):
            np.testing.assert_array_equal(test, same)

    def test_folds_are_those_of_scikit_learn_by_class_or_lesion(self, scans):
        masks, y, groups = scans
        lesion = masks.any(axis=(1, 2)).astype(int)
        for strata, given in ((y, y), (lesion, None)):
            ours = LesionGroupKFold(3, shuffle=True, random_state=4)
            theirs = StratifiedGroupKFold(3, shuffle=True, random_state=4)
            pairs = zip(
                ours.split(masks, masks, groups, given),
                theirs.split(strata, strata, groups),
                strict=True,
            )
            for (_, test), (_, expected) in pairs:
                np.testing.assert_array_equal(test, expected)

    def test_repeats_have_one_seed_each(self, scans):
        masks, y, groups = scans
        folds = repeated_lesion_folds(
            masks, groups, stratify=y, n_splits=3, n_repeats=2, random_state=5
        )
        expected = repeated_folds(y, groups, n_splits=3, n_repeats=2, random_state=5)
        for (_, test), (_, same) in zip(folds, expected, strict=True):
            np.testing.assert_array_equal(test, same)

    def test_it_says_what_it_is_and_asks_for_groups(self):
        splitter = LesionGroupKFold(3, shuffle=True, random_state=1)
        assert repr(splitter) == "LesionGroupKFold(n_splits=3, random_state=1, shuffle=True)"
        assert splitter.get_metadata_routing().split.requests == {
            "groups": True,
            "stratify": True,
        }

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"n_splits": 1}, "n_splits=1"),
            ({"n_splits": 2.5}, "Integral"),
            ({"random_state": 0}, "shuffle"),
        ],
    )
    def test_impossible_settings_are_refused_as_by_scikit_learn(self, options, message):
        with pytest.raises(ValueError, match=message):
            LesionGroupKFold(**options)

    def test_parts_without_a_lesion_are_refused(self):
        masks = np.zeros((12, 4, 4), dtype=bool)
        with pytest.raises(ValueError, match="none of the 12 masks has a lesion"):
            list(LesionGroupKFold(2).split(masks, masks))
        masks[0, 1, 1] = True
        with pytest.raises(ValueError, match=r"fold \d (trains on|tests) no image with a lesion"):
            list(LesionGroupKFold(2).split(masks, masks, stratify=np.arange(12) % 2))
        with pytest.raises(ValueError, match="class 'lesion' has only 1 samples, fewer than"):
            list(LesionGroupKFold(2).split(masks, masks))

    def test_what_does_not_fit_together_is_refused(self, scans):
        masks, y, groups = scans
        with pytest.raises(ValueError, match=r"inconsistent numbers of samples: \[36, 30\]"):
            list(LesionGroupKFold(2).split(masks, masks[:30]))
        with pytest.raises(ValueError, match=r"inconsistent numbers of samples: \[36, 30\]"):
            list(LesionGroupKFold(2).split(masks, masks, groups, y[:30]))
        with pytest.raises(ValueError, match="y is None: LesionGroupKFold splits by masks"):
            list(LesionGroupKFold(2).split(masks))
        with pytest.raises(ValueError, match="masks expected, got labels"):
            list(LesionGroupKFold(2).split(masks, y))


class TestFoldsThatWereDrawnElsewhere:
    def test_pairs_are_read_as_positions(self):
        folds = check_folds([([0, 1], [2]), (np.array([1, 2]), (0,))], 3, None)
        assert [(train.tolist(), test.tolist()) for train, test in folds] == [
            ([0, 1], [2]),
            ([1, 2], [0]),
        ]

    @pytest.mark.parametrize(
        ("folds", "message"),
        [
            (5, "folds=5: expected a splitter, such as .*the number of folds is n_splits"),
            ("group", "folds='group': expected a splitter"),
            ([[0, 1, 2]], r"folds\[0\] is \[0, 1, 2\]: expected a pair \(train, test\)"),
            ([([True, False, True], [1])], r"folds\[0\]: the training part is of type bool"),
            ([([[0]], [1])], r"the training part .* shape \(1, 1\): expected positions"),
        ],
    )
    def test_other_things_are_refused(self, folds, message):
        with pytest.raises(TypeError, match=message):
            check_folds(folds, 3, None)

    @pytest.mark.parametrize(
        ("folds", "message"),
        [
            ([], "folds is empty"),
            ([([0, 1], [])], r"folds\[0\]: the test part is empty"),
            ([([0, 1], [3])], r"the test part holds positions from 3 to 3: expected 0 to 2"),
            ([([0, -1], [1])], r"the training part holds positions from -1 to 0"),
            ([([2], [1]), ([0, 1], [1, 2])], r"folds\[1\] trains on sample 1 and tests it"),
            ([([0], [2, 1])], r"folds\[0\] has the group of sample 0 on both sides"),
        ],
    )
    def test_folds_that_would_leak_or_are_of_other_samples_are_refused(self, folds, message):
        with pytest.raises(ValueError, match=message):
            check_folds(folds, 3, np.array([0, 0, 1]))

    def test_a_repeat_ends_where_a_sample_is_tested_again(self):
        X = np.zeros((12, 1))
        folds = list(RepeatedKFold(n_splits=3, n_repeats=2, random_state=0).split(X))
        assert number_folds(folds) == [(r, f) for r in range(2) for f in range(3)]
        assert number_folds(list(KFold(4).split(X))) == [(0, f) for f in range(4)]
        half = list(ShuffleSplit(3, test_size=0.6, random_state=0).split(X))
        assert number_folds(half) == [(0, 0), (1, 0), (2, 0)]
