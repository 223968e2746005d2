"""Statistics: whether the difference of two models over the same folds holds."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import t as student_t


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
    values = np.asarray(differences, dtype=float)
    n_folds = len(values)
    if n_folds < 2:
        raise ValueError(f"{n_folds} differences given: expected those of two folds or more")
    error = np.sqrt((1 / n_folds + test_share) * values.var(ddof=1))
    if error == 0:
        return float(values[0] == 0)
    return float(2 * student_t.sf(abs(values.mean()) / error, df=n_folds - 1))
