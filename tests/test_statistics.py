"""Tests of differences: published formulas and other libraries' figures, and their edges."""

import itertools

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.power import TTestPower

from hybridus.protocol.statistics import (
    Estimate,
    bootstrap_p_value,
    corrected_t_test,
    delong_over_folds,
    delong_test,
    holm,
    mcnemar_test,
    spread_over_groups,
)


def test_it_is_the_formula_of_nadeau_and_bengio():
    differences = np.random.default_rng(3).normal(0.02, 0.03, 15)
    plain = stats.ttest_1samp(differences, 0)
    expected = 2 * stats.t.sf(abs(plain.statistic) / np.sqrt(1 + 15 * 0.25), df=14)
    found = corrected_t_test(differences, test_share=0.25)
    assert found == pytest.approx(expected, rel=1e-12)
    assert found > plain.pvalue
    assert corrected_t_test(differences, test_share=0) == pytest.approx(plain.pvalue, rel=1e-12)
    assert corrected_t_test(-differences, test_share=0.25) == pytest.approx(found, rel=1e-12)


def test_it_knows_constant_differences():
    assert corrected_t_test([0, 0, 0], test_share=0.5) == 1
    assert corrected_t_test([0.1, 0.1, 0.1], test_share=0.5) == pytest.approx(0, abs=1e-12)
    assert corrected_t_test([0.5, 0.5], test_share=0.5) == 0
    with pytest.raises(ValueError, match="two folds or more"):
        corrected_t_test([0.1], test_share=0.25)


def test_without_a_correction_the_test_over_groups_is_a_paired_t_test():
    rng = np.random.default_rng(0)
    differences = rng.choice([-1, 0, 0, 0, 1, 1], 120)
    draws = rng.choice(differences, (20_000, 120)).mean(axis=1)
    plain = stats.ttest_1samp(differences, 0)
    found = spread_over_groups(differences.mean(), draws, 120, test_share=0)
    assert found.error == pytest.approx(stats.sem(differences), rel=0.02)
    assert found.freedom == plain.df
    assert found.p_value == pytest.approx(plain.pvalue, rel=0.2)
    assert found.interval() == pytest.approx(plain.confidence_interval(), rel=0.03)
    corrected = spread_over_groups(differences.mean(), draws, 120, test_share=5 * 0.25)
    assert corrected.error == pytest.approx(1.5 * found.error)


@pytest.mark.parametrize("n", [20, 400])
def test_what_can_be_shown_is_shown_in_four_of_five_comparisons(n):
    error = 3 / np.sqrt(n)  # of a mean of n values that spread by 3
    detectable = Estimate(0, error, n - 1).detectable(0.01)
    power = TTestPower().power(detectable / 3, nobs=n, alpha=0.01)
    assert power == pytest.approx(0.8, abs=0.01)


def test_the_bootstrap_counts_draws_on_the_other_side():
    assert bootstrap_p_value(np.r_[np.full(990, 0.2), np.full(9, -0.1)]) == pytest.approx(0.02)
    assert bootstrap_p_value(np.r_[np.full(999, -0.2), np.nan]) == pytest.approx(0.002)
    assert bootstrap_p_value(np.zeros(99)) == 1


def test_mcnemar_is_that_of_statsmodels():
    differences = [1] * 14 + [-1] * 5 + [0] * 60
    expected = mcnemar([[40, 14], [5, 20]], exact=True).pvalue
    assert mcnemar_test(differences) == pytest.approx(expected, rel=1e-12)
    assert mcnemar_test(np.negative(differences)) == pytest.approx(expected, rel=1e-12)
    assert mcnemar_test([0, 0, 0]) == 1
    # What repeats of one third each leave of nothing is nothing.
    assert mcnemar_test([1 / 3 + 1 / 3 - 2 / 3 - 1e-16, 1.0]) == 1


def slow_delong(positive, one, other):
    """DeLong et al. (1988), equations 4 to 6, pair by pair."""

    def won(x, y):
        return float(x > y) + 0.5 * (x == y)

    areas, of_positives, of_negatives = [], [], []
    for scores in (one, other):
        x, y = scores[positive], scores[~positive]
        table = np.array([[won(i, j) for j in y] for i in x])
        areas.append(table.mean())
        of_positives.append(table.mean(axis=1))
        of_negatives.append(table.mean(axis=0))
    s10, s01 = np.cov(of_positives), np.cov(of_negatives)
    s = s10 / positive.sum() + s01 / (~positive).sum()
    return areas, s[0, 0] + s[1, 1] - 2 * s[0, 1]


@pytest.fixture(scope="module")
def rankings():
    """60 samples, 25 of them positive, ranked twice, with ties."""
    rng = np.random.default_rng(5)
    positive = np.arange(60) < 25
    common = rng.normal(size=60) + positive
    return positive, *(np.round(common + rng.normal(size=60), 1) for _ in range(2))


def test_delong_is_the_published_formula(rankings):
    areas, variance = slow_delong(*rankings)
    found = delong_test(*rankings)
    assert found.areas == pytest.approx(areas, rel=1e-12)
    assert found.variance == pytest.approx(variance, rel=1e-12)
    z = (areas[0] - areas[1]) / np.sqrt(variance)
    assert found.p_value == pytest.approx(2 * stats.norm.sf(abs(z)), rel=1e-9)
    assert delong_test(rankings[0], *[rankings[1]] * 2).p_value == 1


def test_delong_agrees_with_permutations(rankings):
    """Swapping the two rankings of a sample changes nothing if they are equally good."""
    positive, *given = rankings
    ranked = np.array([stats.rankdata(scores) for scores in given])

    def area(ranks):
        n = positive.sum()
        below = stats.rankdata(ranks, axis=-1)[..., positive].sum(axis=-1) - n * (n + 1) / 2
        return below / (n * (~positive).sum())

    observed = np.subtract(*area(ranked))
    swap = np.random.default_rng(0).random((4000, 60)) < 0.5
    one, other = np.where(swap, *ranked), np.where(swap, *ranked[::-1])
    p = (np.abs(area(one) - area(other)) >= abs(observed) - 1e-12).mean()
    assert delong_test(positive, *ranked).p_value == pytest.approx(p, abs=0.04)


def test_copies_lend_delong_no_certainty(rankings):
    thrice = [np.repeat(values, 3) for values in rankings]
    alone = delong_test(*rankings)
    grouped = delong_test(*thrice, groups=np.repeat(np.arange(60), 3))
    assert grouped.areas == pytest.approx(alone.areas)
    assert grouped.variance == pytest.approx(alone.variance, rel=1e-9)
    assert delong_test(*thrice).variance < 0.4 * alone.variance


def test_a_group_of_both_classes_is_one_group(rankings):
    """Obuchowski (1997), pairs of a positive and a negative: sums over groups, term by term."""
    positive, *given = (values[10:50] for values in rankings)  # 15 positives, 25 negatives
    groups = np.r_[np.arange(15), np.arange(15), np.arange(15, 25)]
    deviations = []
    for scores in given:
        x, y = scores[positive], scores[~positive]
        table = np.array([[float(i > j) + 0.5 * (i == j) for j in y] for i in x])
        area = table.mean()
        of_x = np.array([sum(table.mean(1)[groups[positive] == g] - area) for g in range(25)])
        of_y = np.array([sum(table.mean(0)[groups[~positive] == g] - area) for g in range(25)])
        deviations.append((of_x, of_y))
    x, y = np.subtract(*deviations)
    expected = (
        15 / 14 * (x @ x) / 15**2 + 25 / 24 * (y @ y) / 25**2 + 2 * 25 / 24 * (x @ y) / (15 * 25)
    )
    found = delong_test(positive, *given, groups=groups)
    assert found.variance == pytest.approx(expected, rel=1e-9)


def test_delong_over_folds_adds_what_is_independent(rankings):
    positive, one, other = rankings
    halves = [np.arange(60) % 2 == side for side in (0, 1)]
    tests = [delong_test(positive[half], one[half], other[half]) for half in halves]
    mean = np.mean([np.subtract(*test.areas) for test in tests])
    z = mean / np.sqrt(sum(test.variance for test in tests) / 4)
    expected = 2 * stats.norm.sf(abs(z))
    assert delong_over_folds([tests]) == pytest.approx(expected)
    assert delong_over_folds([tests, tests]) == pytest.approx(expected)  # no better known


def test_delong_needs_both_classes_in_two_groups(rankings):
    positive, one, other = rankings
    with pytest.raises(ValueError, match="1 of 60 samples are positive: expected some in two"):
        delong_test(np.arange(60) == 3, one, other)
    with pytest.raises(ValueError, match="35 of 60 samples are negative"):
        delong_test(positive, one, other, groups=np.minimum(np.arange(60), 25))


def test_holm_is_the_step_down_procedure():
    p = np.array([0.04, 0.001, 0.03, np.nan, 0.5])
    expected = np.array([0.09, 0.004, 0.09, np.nan, 0.5])
    np.testing.assert_allclose(holm(p), expected)
    for order in itertools.islice(itertools.permutations(range(5)), 0, 120, 17):
        np.testing.assert_allclose(holm(p[list(order)]), expected[list(order)])
    assert holm([]).shape == (0,)
