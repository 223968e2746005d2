"""Calibration of a classical head, by folds that keep groups whole."""

from __future__ import annotations

from typing import Any

from numpy.typing import ArrayLike
from sklearn.calibration import CalibratedClassifierCV
from sklearn.model_selection import check_cv

from hybridus._sklearn import asks_for


class WholeGroupsCalibration(CalibratedClassifierCV):
    """`CalibratedClassifierCV` that gives groups to its folds with ``ensemble=False`` too.

    scikit-learn's routes groups to its splitter and, with ``ensemble=False``, leaves them there, so
    duplicates stand on both sides of the folds that probabilities are calibrated by. All
    parameters and methods are those of `sklearn.calibration.CalibratedClassifierCV`.

    Examples
    --------
    >>> from hybridus.estimators.calibration import WholeGroupsCalibration
    >>> from hybridus.inputs.groups import WholeGroupsKFold
    >>> from sklearn.svm import LinearSVC
    >>> X, y, groups = [[0.0], [0.1], [1.0], [1.1]] * 2, [0, 0, 1, 1] * 2, [0, 1, 2, 3] * 2
    >>> head = WholeGroupsCalibration(LinearSVC(), ensemble=False, cv=WholeGroupsKFold(2))
    >>> head.fit(X, y, groups=groups).predict([[0.05], [1.05]]).tolist()
    [0, 1]
    """

    def fit(
        self, X: Any, y: ArrayLike, sample_weight: ArrayLike | None = None, **fit_params: Any
    ) -> WholeGroupsCalibration:
        """Fit the classifier and calibrate it.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
        y : array-like of shape (n_samples,)
        sample_weight : array-like of shape (n_samples,), optional
        **fit_params : dict
            ``groups`` of shape (n_samples,) for the folds; the rest is for `fit` of the classifier.

        Returns
        -------
        self
        """
        groups = fit_params.get("groups")
        if groups is None or self.ensemble is not False:
            return super().fit(X, y, sample_weight, **fit_params)
        if not asks_for(self._get_estimator(), "fit", "groups"):
            del fit_params["groups"]
        given = self.get_params(deep=False)["cv"]
        folds = list(check_cv(given, y, classifier=True).split(X, y, groups))
        try:
            self.set_params(cv=folds)
            return super().fit(X, y, sample_weight, **fit_params)
        finally:
            self.set_params(cv=given)
