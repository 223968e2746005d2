"""Scaler between features and head: float32 rows in, float64 rows out."""

from typing import Any

import numpy as np
from sklearn.preprocessing import StandardScaler


class FeatureScaler(StandardScaler):
    """`StandardScaler` whose answers are float64, whatever float type the rows have.

    Feature rows are float32, and scikit-learn computes in the type it is given: a head on float32
    rows answers differently, in the eighth digit, when the same rows come in another order, on
    another processor or beside other rows. In float64 such differences are far below what a
    decision depends on. Parameters and learned attributes are those of `StandardScaler`.

    Examples
    --------
    >>> import numpy as np
    >>> from hybridus.estimators.scaler import FeatureScaler
    >>> rows = np.array([[1, 10], [3, 30]], dtype=np.float32)
    >>> FeatureScaler().fit_transform(rows)
    array([[-1., -1.],
           [ 1.,  1.]])
    """

    def transform(self, X: Any, copy: bool | None = None) -> Any:
        """Centre and scale rows.

        Parameters
        ----------
        X : array or DataFrame of shape (n_samples, n_features)
        copy : bool, default=None
            Keep `X` as it is; None is what the constructor said. Rows of another type than float64
            are always kept.

        Returns
        -------
        array of shape (n_samples, n_features), float64
        """
        dtype = X.dtype if hasattr(X, "dtype") else np.asarray(X).dtype
        if dtype == np.float32 and hasattr(X, "astype"):
            X, copy = X.astype(np.float64), False
        return super().transform(X, copy=copy)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64"]
        return tags
