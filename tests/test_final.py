"""The final model: fitted on all data, with probabilities that mean what they say."""

import numpy as np
import pytest
from sklearn.calibration import CalibratedClassifierCV
from sklearn.datasets import load_wine
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from tiny_images import discs
from tiny_networks import TINY, textures

from hybridus import FineTunedClassifier, PixelSegmenter
from hybridus.protocol.final import fit_final, margins

X, Y = load_wine(return_X_y=True)


@pytest.mark.parametrize("head", [SVC(), GaussianNB(), LogisticRegression()], ids=str)
@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("grouped", [False, True])
def test_a_head_answers_as_before_with_probabilities_of_samples_it_did_not_see(
    head, n_classes, grouped
):
    kept = n_classes > Y
    groups = np.arange(kept.sum()) // 2 if grouped else None
    final = fit_final(make_pipeline(StandardScaler(), head), X[kept], Y[kept], groups)
    said = final.estimator.predict_proba(X[kept])
    np.testing.assert_allclose(said.sum(axis=1), 1)
    agree = final.estimator.predict(X[kept]) == final.fitted.predict(X[kept])
    assert agree.mean() > 0.97
    assert "calibrated by one temperature, on 5 inner folds" in final.referral["probabilities"]
    assert ("keep groups whole" in final.referral["probabilities"]) == grouped
    assert 0 < final.referral["margin"] < 1


def test_a_network_is_calibrated_by_the_part_that_it_held_out():
    images, y = textures(40)
    net = FineTunedClassifier(
        TINY, weights="random", max_epochs=2, validation_fraction=0.5, random_state=0
    )
    final = fit_final(net, images, y)
    assert final.referral["probabilities"].endswith("on the 20 images held out to stop in time")
    said = final.estimator.predict_proba(images)
    np.testing.assert_allclose(said.sum(axis=1), 1)
    assert (said.argmax(axis=1) == final.fitted.predict_proba(images).argmax(axis=1)).all()
    held_out = margins(said[final.fitted.held_out_])
    assert final.referral["margin"] == pytest.approx(np.quantile(held_out, 0.2))
    few = fit_final(net.set_params(validation_fraction=0.06), images, y)
    assert few.estimator is few.fitted
    assert few.referral == {"probabilities": "as the network gives them"}


def test_what_is_calibrated_already_or_has_no_folds_stays_as_it_is():
    calibrated = make_pipeline(StandardScaler(), CalibratedClassifierCV(SVC(), ensemble=False))
    for model, rows in (
        (calibrated, slice(None)),
        (make_pipeline(StandardScaler(), SVC()), [0, 99]),
    ):
        final = fit_final(model, X[rows], Y[rows])
        assert final.estimator is final.fitted
        assert final.referral == {"probabilities": "as the model gives them"}
    alone = fit_final(GaussianNB(), X, Y)
    assert alone.referral == {"probabilities": "as the model gives them"}


def test_a_segmenter_has_no_probabilities_to_calibrate():
    images, masks = discs(8, size=16)
    pixels = PixelSegmenter(LogisticRegression(), "basic", mask_size=16, random_state=0)
    final = fit_final(pixels, images, masks)
    assert final.estimator is final.fitted
    assert final.referral == {}
