"""Features that are stable under changes of the scanner."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import FeatureUnion, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import estimator_checks

import hybridus
from hybridus import DeepFeatureExtractor, StableFeatures, explain, make_breast_phantoms
from hybridus.inputs.images import Images, as_images
from hybridus.inputs.scanner import ScannerChange, apply_changes

NARROW = {"weights": "bundled", "image_size": 32, "layers": ["block_3_expand_relu"]}
CHANGES = [ScannerChange("gain", 0.5), [ScannerChange("blur", 0.02), ScannerChange("gain", 1.5)]]


def narrow(**parameters):
    return DeepFeatureExtractor("mobilenet_v2_0.35", **NARROW | parameters)


@pytest.fixture(scope="module")
def phantoms():
    return make_breast_phantoms(40, image_size=48, random_state=0)


def changed(X, several):
    images = as_images(X)
    return Images(lambda i: apply_changes(several, images[i]), len(images))


@pytest.mark.parametrize("n_images", [6, 40])  # fewer and more moves than features
@pytest.mark.parametrize("strength", [0.0, 1.0, 30.0])
def test_the_map_is_the_inverse_root_of_one_plus_the_covariance_of_moves(
    phantoms, n_images, strength
):
    X = phantoms.images[:n_images]
    stable = StableFeatures(narrow(), changes=CHANGES, strength=strength).fit(X)
    rows = narrow().fit_transform(X).astype(float)
    scale = np.where(rows.std(0) > 1e-9 * np.maximum(np.abs(rows.mean(0)), 1), rows.std(0), 1)
    moves = [
        (narrow().fit(X).transform(changed(X, several)) - rows) / scale
        for several in (CHANGES[:1], CHANGES[1])
    ]
    moves = np.concatenate(moves)
    values, vectors = np.linalg.eigh(moves.T @ moves / len(moves))
    root = vectors / np.sqrt(1 + strength * np.maximum(values, 0)) @ vectors.T
    expected = (rows - rows.mean(0)) / scale @ root
    np.testing.assert_allclose(stable.transform(X), expected, atol=2e-4)
    if strength == 0:
        np.testing.assert_allclose(
            stable.transform(X), StandardScaler().fit_transform(rows), atol=1e-6
        )


def test_a_classifier_behind_it_loses_less_on_another_scanner(phantoms):
    X, y = phantoms.images, (phantoms.target == 0).astype(int)
    other = make_breast_phantoms(60, image_size=48, random_state=5)
    truth = (other.target == 0).astype(int)
    seen = changed(other.images, [ScannerChange("gain", 0.4), ScannerChange("blur", 0.01)])
    moved = {}
    for strength in (0.0, 10.0):
        pipe = make_pipeline(
            StableFeatures(narrow(), changes="medium", strength=strength),
            LogisticRegression(C=0.1),
        ).fit(X, y)
        here, there = (pipe.decision_function(given) for given in (other.images, seen))
        moved[strength] = np.abs(there - here).mean() / here.std()
        assert np.mean((here > 0) == truth) > 0.5
    assert moved[10.0] < 0.6 * moved[0.0]


def test_copies_and_files_answer_alike(phantoms, tmp_path):
    union = FeatureUnion([("a", narrow()), ("b", narrow(pooling="max"))])
    pipe = make_pipeline(StableFeatures(union, changes=CHANGES), LogisticRegression())
    pipe.fit(phantoms.images, phantoms.target)
    hybridus.save(pipe, tmp_path / "model.hybridus")
    read = hybridus.load(tmp_path / "model.hybridus")
    np.testing.assert_array_equal(
        read.predict_proba(phantoms.images[:4]), pipe.predict_proba(phantoms.images[:4])
    )
    names = pipe[0].get_feature_names_out()
    assert len(names) == pipe[0].transform(phantoms.images[:1]).shape[1]
    found = explain(pipe, phantoms.images[:2])
    total = np.stack([one.sum(axis=(1, 2)) for one in found.maps]) + found.offset
    np.testing.assert_allclose(total, pipe.decision_function(phantoms.images[:2]), atol=1e-4)
    np.testing.assert_allclose(found.offset[0], pipe[-1].intercept_, atol=1e-4)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ("weak", "changes='weak': expected one of mild, medium, strong"),
        ([], "expected one or more"),
        (["gain"], "expected one or more"),
        ([[ScannerChange("gain", 2.0), "blur"]], "expected one or more"),
    ],
)
def test_what_is_no_change_is_refused(phantoms, changes, message):
    stable = StableFeatures(narrow(), changes=changes)
    for call in (stable.fit, stable.preflight):
        with pytest.raises(ValueError, match=message):
            call(phantoms.images)
    assert not hasattr(stable, "mean_")


@pytest.mark.parametrize(
    "check",
    [
        "check_param_validation",
        "check_transformer_get_feature_names_out",
    ],
)
def test_checks_that_scikit_learn_leaves_out(check):
    stable = StableFeatures(narrow(value_range=(0, 19)), changes=CHANGES, value_range=(0, 19))
    getattr(estimator_checks, check)("StableFeatures", stable)
