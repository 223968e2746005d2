"""The corrected resampled t-test: the published formula, and what happens at its edges."""

import numpy as np
import pytest
from scipy import stats

from hybridus.protocol.statistics import corrected_t_test


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
