"""How the validation part is chosen inside `fit`."""

import warnings

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings, strategies as st

from hybridus.training.held_out import split_validation


def shares(strata, part):
    return np.bincount(strata[part], minlength=strata.max() + 1) / len(part)


class TestSplit:
    def test_is_stratified_and_of_the_size_asked_for(self):
        strata = np.repeat([0, 1, 2], [133, 210, 437])
        for fraction, folds in ((0.1, 10), (0.15, 7), (0.2, 5), (0.5, 2)):
            train, held_out = split_validation(strata, None, fraction, seed=0)
            assert abs(len(held_out) - 780 / folds) <= 1
            np.testing.assert_allclose(shares(strata, held_out), shares(strata, train), atol=0.01)

    def test_more_than_half_is_never_held_out(self):
        train, held_out = split_validation(np.repeat([0, 1], 20), None, 0.9, seed=0)
        assert (len(train), len(held_out)) == (20, 20)

    def test_depends_on_the_seed_alone(self):
        strata = np.repeat([0, 1], 30)
        one, again, other = (split_validation(strata, None, 0.15, seed)[1] for seed in (0, 0, 1))
        np.testing.assert_array_equal(one, again)
        assert not np.array_equal(one, other)

    def test_says_nothing_unless_asked(self):
        """scikit-learn warns of rare classes and of groups that a splitter leaves unused."""
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            split_validation(np.array([0] * 9 + [1]), None, 0.15, seed=0)
            split_validation(np.array([0] * 9 + [1]), np.arange(10) // 2, 0.15, seed=0)

    def test_a_class_of_one_sample_is_trained_on(self):
        strata = np.array([0] * 20 + [1] * 20 + [2])
        for seed in range(10):
            train, held_out = split_validation(strata, None, 0.15, seed)
            assert 40 in train
            assert 4 <= len(held_out) <= 7


class TestGroups:
    def test_stand_on_one_side(self):
        rng = np.random.default_rng(0)
        strata, groups = rng.integers(0, 3, 200), rng.integers(0, 70, 200)
        train, held_out = split_validation(strata, groups, 0.15, seed=0)
        assert not set(groups[train]) & set(groups[held_out])
        assert 20 <= len(held_out) <= 40
        np.testing.assert_allclose(shares(strata, held_out), shares(strata, train), atol=0.1)

    @pytest.mark.parametrize(
        "name", [str, lambda g: f"scan {g}", float, lambda g: pd.Timestamp(2026, 1, 1 + g)]
    )
    def test_may_be_named_by_anything(self, name):
        strata, numbers = np.arange(60) % 2, np.arange(60) // 3
        named = [name(int(group)) for group in numbers]
        train, held_out = split_validation(strata, named, 0.2, seed=0)
        assert not set(numbers[train]) & set(numbers[held_out])
        assert len(held_out) == 12

    def test_of_one_sample_each_are_no_hindrance(self):
        strata = np.repeat([0, 1, 2], 2)
        train, held_out = split_validation(strata, np.arange(6), 0.15, seed=0)
        assert sorted(strata[train]) == sorted(strata[held_out]) == [0, 1, 2]

    def test_a_class_that_is_one_group_is_trained_on_and_others_are_held_out(self):
        strata, groups = np.repeat([0, 0, 1], [4, 4, 2]), np.repeat([0, 1, 2], [4, 4, 2])
        for seed in range(5):
            train, held_out = split_validation(strata, groups, 0.15, seed)
            assert set(train) >= {8, 9}
            assert len(held_out) == 4


@given(
    st.integers(0, 2**31),
    st.integers(2, 60),
    st.integers(1, 4),
    st.one_of(st.none(), st.integers(1, 20)),
    st.sampled_from([0.05, 0.15, 0.3, 0.5, 0.99]),
)
@settings(max_examples=150, deadline=None)
def test_every_split_trains_on_all_classes_and_divides_no_group(
    seed, n_samples, n_classes, n_groups, fraction
):
    rng = np.random.default_rng(seed)
    strata = rng.integers(0, n_classes, n_samples)
    groups = None if n_groups is None else rng.integers(0, n_groups, n_samples)
    units = np.arange(n_samples) if groups is None else groups
    try:
        train, held_out = split_validation(strata, groups, fraction, seed)
    except ValueError:  # only where it is so: without any one unit, some class is gone
        assert all(set(strata[units != unit]) < set(strata) for unit in set(units))
        return
    assert sorted([*train, *held_out]) == list(range(n_samples))
    assert len(held_out)
    assert set(strata[train]) == set(strata)
    assert not set(units[train]) & set(units[held_out])


@pytest.mark.parametrize(
    ("strata", "groups", "message"),
    [
        ([0], None, "n_samples = 1: nothing to hold out"),
        ([0, 1, 2], None, "no class has two samples"),
        ([0, 1, 0, 1], [7, 7, 7, 7], "only one group"),
        ([0, 0, 1, 1], [1, 1, 2, 2], "no split for validation leaves every class a sample"),
    ],
)
def test_where_nothing_can_be_held_out_the_error_says_how_to_go_on(strata, groups, message):
    with pytest.raises(ValueError, match=message) as raised:
        split_validation(np.array(strata), groups, 0.15, seed=0)
    assert "validation_fraction=None trains on all samples, without validation" in str(raised.value)


def test_groups_of_another_length_are_refused():
    with pytest.raises(ValueError, match=r"groups has shape \(3,\): expected \(4,\)"):
        split_validation(np.array([0, 0, 1, 1]), [1, 2, 3], 0.15, seed=0)
