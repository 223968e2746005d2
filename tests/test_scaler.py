"""The scaler between features and head."""

import numpy as np
import pandas as pd
import pytest
from sklearn.neural_network import MLPClassifier
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from hybridus import make_hybrid_classifier
from hybridus.estimators.scaler import FeatureScaler


@parametrize_with_checks([FeatureScaler()])
def test_scikit_learn_checks(estimator, check):
    check(estimator)


@pytest.fixture(scope="module")
def rows():
    return np.random.default_rng(0).normal(5, 3, (40, 6)).astype(np.float32)


@pytest.mark.parametrize("form", [np.asarray, pd.DataFrame], ids=["array", "data frame"])
def test_float32_rows_become_what_float64_rows_would(rows, form):
    found = FeatureScaler().fit_transform(form(rows))
    expected = StandardScaler().fit_transform(rows.astype(np.float64))
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)


def test_names_of_columns_stay(rows):
    table = pd.DataFrame(rows, columns=list("abcdef"))
    found = FeatureScaler().set_output(transform="pandas").fit_transform(table)
    assert list(found) == list("abcdef")
    assert (found.dtypes == np.float64).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_rows_of_the_caller_stay_as_they_are(rows, dtype):
    given = rows.astype(dtype)
    given.setflags(write=False)
    FeatureScaler().fit_transform(given)
    np.testing.assert_array_equal(given, rows)


@pytest.mark.parametrize("n_features", [6, 500])
def test_heads_answer_alike_in_any_order_and_company(n_features):
    """In float32 the same rows in another order differ in the eighth digit."""
    rng = np.random.default_rng(1)
    rows = rng.normal(size=(60, n_features)).astype(np.float32)
    pipe = make_hybrid_classifier(head=MLPClassifier((16,), max_iter=15, tol=1, random_state=0))[1:]
    pipe.fit(rows, np.arange(60) % 2)
    order = rng.permutation(60)
    expected = pipe.predict_proba(rows)
    assert expected.dtype == np.float64
    np.testing.assert_allclose(pipe.predict_proba(rows[order]), expected[order], rtol=1e-12)
    alone = np.concatenate([pipe.predict_proba(row[np.newaxis]) for row in rows])
    np.testing.assert_allclose(alone, expected, rtol=1e-12)
