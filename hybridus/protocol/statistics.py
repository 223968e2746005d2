"""Statistics: whether the difference of two models holds, and what data of this size can show."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import binomtest, norm, rankdata, t as student_t

LEVEL = 0.05  # a difference this unlikely by chance is settled; intervals hold 95 %
POWER = 0.8  # how often a difference that can be shown is shown


def corrected_t_test(differences: ArrayLike, *, test_share: float) -> float:
    """Two-sided p value that the mean difference of two models over folds is not zero.

    The corrected resampled t-test: the training parts of J folds overlap, so the variance of the
    mean is ``1/J + n_test/n_train`` times that of the differences, not ``1/J`` times.

    Parameters
    ----------
    differences : array-like of shape (n_folds,)
        Score of one model less that of the other, fold by fold; two folds or more.
    test_share : float
        ``n_test / n_train`` of a fold: 0.25 for five folds.

    Returns
    -------
    float
        Between 0 and 1; 1 where all differences are zero.

    Raises
    ------
    ValueError
        For fewer than two differences.

    References
    ----------
    Nadeau, C. and Bengio, Y. (2003). Inference for the generalization error. Machine Learning
    52, 239-281.

    Examples
    --------
    >>> from hybridus.protocol.statistics import corrected_t_test
    >>> round(corrected_t_test([0.02, 0.05, 0.01, 0.04, 0.03], test_share=0.25), 3)
    0.047
    """
    return spread_over_folds(differences, test_share=test_share).p_value


class Estimate(NamedTuple):
    """A difference or a score, how far it may be off, and how well that is known.

    Attributes
    ----------
    value : float
    error : float
        Standard error.
    freedom : float
        Degrees of freedom of the error.
    """

    value: float
    error: float
    freedom: float

    @property
    def p_value(self) -> float:
        """Two-sided p value that the true value is not zero; NaN where it is not known."""
        if self.error == 0:
            return float(self.value == 0)
        return float(2 * student_t.sf(abs(self.value) / self.error, df=self.freedom))

    def interval(self, level: float = LEVEL) -> tuple[float, float]:
        """Give the ends of what holds the true value but for a share `level` of the cases."""
        reach = float(student_t.isf(level / 2, self.freedom)) * self.error
        return self.value - reach, self.value + reach

    def detectable(self, level: float = LEVEL, power: float = POWER) -> float:
        """Smallest true value that is told from zero at `level` in a share `power` of the cases.

        Examples
        --------
        Of a standard error of 1 point with plenty of degrees of freedom:

        >>> from hybridus.protocol.statistics import Estimate
        >>> round(Estimate(0.0, 1.0, 10_000).detectable(), 2)
        2.8
        """
        reach = student_t.isf(level / 2, self.freedom) + student_t.ppf(power, self.freedom)
        return float(reach * self.error)


def spread_over_folds(values: ArrayLike, *, test_share: float) -> Estimate:
    """Mean over folds and its standard error by the correction of `corrected_t_test`."""
    values = np.asarray(values, dtype=float)
    n_folds = len(values)
    if n_folds < 2:
        raise ValueError(f"{n_folds} differences given: expected those of two folds or more")
    error = np.sqrt((1 / n_folds + test_share) * values.var(ddof=1))
    # Folds that agree have a mean that rounding moves.
    value = values[0] if error == 0 else values.mean()
    return Estimate(float(value), float(error), n_folds - 1)


def spread_over_groups(
    value: float, draws: ArrayLike, n_groups: int, *, test_share: float
) -> Estimate:
    """Take the standard error of a difference over groups, corrected as that over folds is.

    Groups of samples are what is independent, not samples (duplicates) nor folds (which share
    their training parts), so the spread is that over resampled groups, with one degree of freedom
    less than there are groups. It does not see that models fitted on other samples would differ.
    Nadeau and Bengio give the variance between trainings as ``n_test/n_train`` times the variance
    of one fold, which adds the sum of ``n_test/n_train`` over the folds that test each sample once:
    5/4 for five folds, so that the error is 1.5 times that for models as they stand.

    Parameters
    ----------
    value : float
        Mean difference.
    draws : array-like of shape (n_draws,)
        What it is over resampled groups; NaN where it is not defined.
    n_groups : int
        Two or more.
    test_share : float
        Sum of ``n_test / n_train`` over the folds of one repeat.

    Returns
    -------
    Estimate
    """
    known = np.asarray(draws, dtype=float)
    known = known[np.isfinite(known)]
    spread = known.std() if len(known) else math.nan
    # The bootstrap divides by the number of groups where a variance has one less.
    error = spread * math.sqrt(n_groups / (n_groups - 1)) * math.sqrt(1 + test_share)
    return Estimate(float(value), float(error), n_groups - 1)


def bootstrap_p_value(draws: ArrayLike) -> float:
    """Two-sided p value that what was resampled is not zero, from the draws on its other side.

    Draws that are NaN are left out; NaN where all are.

    Examples
    --------
    >>> from hybridus.protocol.statistics import bootstrap_p_value
    >>> bootstrap_p_value([0.3, 0.1, 0.2, -0.1, 0.2, 0.4, 0.1, 0.3, 0.2])
    0.4
    """
    known = np.asarray(draws, dtype=float)
    known = known[np.isfinite(known)]
    if not len(known):
        return math.nan
    beyond = min((known <= 0).sum(), (known >= 0).sum())
    return float(min(1.0, 2 * (1 + beyond) / (1 + len(known))))


def mcnemar_test(differences: ArrayLike) -> float:
    """Exact McNemar test: whether one of two classifiers is right more often where they differ.

    Parameters
    ----------
    differences : array-like of shape (n_samples,) or (n_groups,)
        How often one is right less how often the other is, sample by sample; where samples belong
        together, summed over each group, which then has one vote: its samples are not independent.

    Returns
    -------
    float
        Two-sided p value; 1 where they never differ.

    References
    ----------
    McNemar, Q. (1947). Note on the sampling error of the difference between correlated proportions
    or percentages. Psychometrika 12, 153-157.

    Examples
    --------
    >>> from hybridus.protocol.statistics import mcnemar_test
    >>> round(mcnemar_test([1] * 9 + [-1] * 2 + [0] * 89), 3)
    0.065
    """
    signs = np.sign(np.round(np.asarray(differences, dtype=float), 9))
    n_decided = int(np.abs(signs).sum())
    return 1.0 if n_decided == 0 else float(binomtest(int((signs > 0).sum()), n_decided).pvalue)


class DeLong(NamedTuple):
    """Areas under the ROC curves of two rankings of the same samples.

    Attributes
    ----------
    areas : (float, float)
    variance : float
        Of their difference.
    p_value : float
        Two-sided.
    """

    areas: tuple[float, float]
    variance: float
    p_value: float


def delong_test(
    is_positive: ArrayLike,
    scores: ArrayLike,
    other_scores: ArrayLike,
    groups: ArrayLike | None = None,
) -> DeLong:
    """Test whether two rankings of the same samples have different areas under the ROC curve.

    Parameters
    ----------
    is_positive : array-like of shape (n_samples,), bool
    scores, other_scores : array-like of shape (n_samples,)
        Higher means positive.
    groups : array-like of shape (n_samples,), default=None
        Which samples belong together; None takes each for itself, which is DeLong's test. With
        groups it is Obuchowski's, whose variance is that over groups.

    Returns
    -------
    DeLong

    Raises
    ------
    ValueError
        Unless there are positives and negatives in two groups or more each.

    References
    ----------
    DeLong, E. R., DeLong, D. M. and Clarke-Pearson, D. L. (1988). Comparing the areas under two or
    more correlated receiver operating characteristic curves. Biometrics 44, 837-845.

    Obuchowski, N. A. (1997). Nonparametric analysis of clustered ROC curve data. Biometrics 53,
    567-578.

    Examples
    --------
    >>> from hybridus.protocol.statistics import delong_test
    >>> y = [0, 0, 0, 0, 1, 1, 1, 1]
    >>> found = delong_test(y, [1, 2, 3, 6, 4, 5, 7, 8], [3, 1, 5, 7, 2, 8, 4, 6])
    >>> found.areas, round(found.p_value, 2)
    ((0.875, 0.625), 0.22)
    """
    positive = np.asarray(is_positive, dtype=bool)
    names = np.arange(len(positive)) if groups is None else np.asarray(groups)
    _, codes = np.unique(names, return_inverse=True)
    n_groups = int(codes.max()) + 1
    counts, sums, areas = [], [], []
    rankings = [np.asarray(given, dtype=float) for given in (scores, other_scores)]
    for side in (positive, ~positive):
        counts.append(np.bincount(codes[side], minlength=n_groups))
        if (counts[-1] > 0).sum() < 2:
            raise ValueError(
                f"{int(side.sum())} of {len(side)} samples are "
                f"{'positive' if side is positive else 'negative'}: expected some in two groups or "
                "more"
            )
    for ranking in rankings:
        placements = _placements(positive, ranking)
        areas.append(float(placements[positive].mean()))
        sums.append(
            [
                np.bincount(codes[side], placements[side], n_groups) - counted * areas[-1]
                for side, counted in zip((positive, ~positive), counts, strict=True)
            ]
        )
    of_positives, of_negatives = (
        (first - second) / counted.sum()
        for first, second, counted in zip(*sums, counts, strict=True)
    )
    variance = 2 * n_groups / (n_groups - 1) * float(of_positives @ of_negatives)
    for deviations, counted in ((of_positives, counts[0]), (of_negatives, counts[1])):
        n_with = int((counted > 0).sum())
        variance += n_with / (n_with - 1) * float(deviations @ deviations)
    return DeLong((areas[0], areas[1]), variance, _normal_p(areas[0] - areas[1], variance))


def delong_over_folds(tests: Sequence[Sequence[DeLong]]) -> float:
    """P value of the mean difference of areas over folds, given the tests of each repeat's folds.

    Areas are taken within folds, since scores of different fits need not be on one scale. Folds of
    one repeat test other groups each; repeats test the same ones again, so that their mean is taken
    to be no better known than one of them.
    """
    difference = np.mean([np.mean([np.subtract(*test.areas) for test in one]) for one in tests])
    variance = np.mean([sum(test.variance for test in one) / len(one) ** 2 for one in tests])
    return _normal_p(float(difference), float(variance))


def holm(p_values: ArrayLike) -> NDArray[np.float64]:
    """Adjust p values of several tests, so that all together err once in twenty; NaN stays NaN.

    References
    ----------
    Holm, S. (1979). A simple sequentially rejective multiple test procedure. Scandinavian Journal
    of Statistics 6, 65-70.

    Examples
    --------
    >>> from hybridus.protocol.statistics import holm
    >>> holm([0.01, 0.04, 0.03]).tolist()
    [0.03, 0.06, 0.06]
    """
    adjusted = np.array(p_values, dtype=float)
    known = np.isfinite(adjusted)
    if known.sum() > 1:
        # Not at the top, since it takes a second, which one p value need not wait for.
        from statsmodels.stats.multitest import multipletests

        adjusted[known] = multipletests(adjusted[known], method="holm")[1]
    return adjusted


def _placements(positive: NDArray[np.bool_], scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of each sample the share of the other class that it is ranked rightly against; ties half."""
    placements = np.empty(len(scores))
    ranks = rankdata(scores)
    for side, sign in ((positive, 1), (~positive, -1)):
        # Ranks among all less ranks among one's own class count the others below.
        below = ranks[side] - rankdata(scores[side])
        n_others = len(scores) - side.sum()
        placements[side] = (below if sign > 0 else n_others - below) / n_others
    return placements


def _normal_p(difference: float, variance: float) -> float:
    if variance <= 0:
        return float(difference == 0)
    return float(2 * norm.sf(abs(difference) / math.sqrt(variance)))
