"""Comparison: the figures are those of scikit-learn on the same folds, for classes and masks."""

import numpy as np
import pandas as pd
import pytest
from sklearn.base import BaseEstimator
from sklearn.datasets import load_wine
from sklearn.model_selection import GridSearchCV, StratifiedGroupKFold
from sklearn.naive_bayes import GaussianNB
from sklearn.svm import SVC
from tiny_images import discs

from hybridus.protocol.compare import compare
from hybridus.protocol.scoring import LesionScores


class Bright(BaseEstimator):
    """What is brighter than a level is lesion, `shift` pixels to the right."""

    __metadata_request__fit = {"groups": True}  # noqa: RUF012  scikit-learn's own spelling

    def __init__(self, level=100, shift=0):
        self.level = level
        self.shift = shift

    def fit(self, X, y, groups=None):
        self.groups_ = groups
        return self

    def predict(self, X):
        return np.roll(self.level < X, self.shift, axis=2).astype(np.uint8)[..., np.newaxis]


@pytest.fixture(scope="module")
def wine():
    """178 samples of three classes, in 60 groups of two or three of one class."""
    X, y = load_wine(return_X_y=True)
    groups = np.array([f"{label}-{i // 3}" for i, label in enumerate(y)], dtype=object)
    return X, y, groups


@pytest.fixture(scope="module")
def scans():
    """36 scans in three classes, the first without a lesion; two of each group."""
    images, masks = discs(36, seed=3)
    y = np.repeat(np.arange(18) % 3, 2)
    masks[y == 0] = False
    return images, masks, y, np.array([f"p{i}" for i in np.repeat(np.arange(18), 2)], dtype=object)


def test_figures_of_classifiers_are_what_they_were(wine):
    """Pinned to what version 0.1 gave before one path was made for classes and masks."""
    X, y, groups = wine
    inner = StratifiedGroupKFold(3, shuffle=True, random_state=0)
    models = {
        "bayes": GaussianNB(),
        "svm": SVC(),
        "search": GridSearchCV(SVC(), {"C": [10, 100, 1000]}, cv=inner),
    }
    found = compare(models, X, y, groups=groups, n_splits=3, n_repeats=2, random_state=3)
    expected = {
        "accuracy_mean": [0.97466564254225574, 0.89008896149313499, 0.69056259241871143],
        "accuracy_std": [0.00939767353000761, 0.04981258058468392, 0.06132020164832629],
        "f1_macro_mean": [0.97576697501080067, 0.88660909354143957, 0.62887027704860510],
        "balanced_accuracy_mean": [0.97639559849704771, 0.88490955560968354, 0.64967337176416462],
        "macro_ovr_auc_mean": [0.99876102454623561, 0.95085732591159300, 0.88384560047833827],
        "behind_best": [0, 0.08457668104912074, 0.28410305012354437],
        "p_value": [np.nan, 0.06387164192262110, 0.00253787588777404],
    }
    pinned = pd.DataFrame(expected, index=pd.Index(["bayes", "search", "svm"], name="model"))
    pd.testing.assert_frame_equal(found.table[list(expected)], pinned, rtol=1e-10)
    tested = ["f861ec1c", "0d29c6c2", "f23256ef", "4094a671", "091f0c9d", "35ce6f70"]
    assert found.folds["test_set"].tolist() == tested * 3
    chosen = found.folds.loc[found.folds["model"] == "search", "best_params"]
    assert chosen.tolist() == ['{"C": 1000}'] * 6


def test_figures_of_segmenters_are_what_they_were(scans):
    X, masks, y, groups = scans
    models = {"a": Bright(140), "b": Bright(120, 1)}
    settings = {"n_splits": 3, "n_repeats": 2, "random_state": 1}
    found = compare(models, X, masks, stratify=y, groups=groups, **settings)
    expected = {
        "dice_mean": [0.82300967915373013, 0.62495641594693330],
        "dice_std": [0.00926922375000587, 0.02714960742926909],
        "iou_mean": [0.70055222791441929, 0.45943770743753992],
        "hausdorff_95_mean": [3.46421792514027871, 15.74903520373080390],
        "detection_rate_mean": [1.0, 1.0],
        "false_positive_rate_mean": [1.0, 1.0],
        "dice_all_mean": [0.54867311943581998, 0.41663761063128885],
        "behind_best": [0, 0.19805326320679673],
        "p_value": [np.nan, 0.00004432955811378],
    }
    pinned = pd.DataFrame(expected, index=pd.Index(["a", "b"], name="model"))
    pd.testing.assert_frame_equal(found.table[list(expected)], pinned, rtol=1e-10)
    tested = ["23d4a944", "bd61551c", "906dc369", "cc974d10", "cafe80e5", "d2db018e"]
    assert found.folds["test_set"].tolist() == tested * 2

    settings = {"groups": "independent", "n_splits": 3, "scoring": LesionScores(24)}
    found = compare(models, X, masks, **settings)
    of_a = found.folds[found.folds["model"] == "a"]
    assert of_a["test_set"].tolist() == ["540324c8", "fb5cbaf1", "1cb5925a"]
    dice = [0.84739017750321843, 0.85260041876896975, 0.86256017271666008]
    assert of_a["dice"].tolist() == pytest.approx(dice, rel=1e-12)
    hausdorff = [2.11475596717980352, 2.54149512362627483, 2.12284460088951743]
    assert of_a["hausdorff_95"].tolist() == pytest.approx(hausdorff, rel=1e-12)
