"""`make_hybrid_classifier`."""

import subprocess
import sys

import joblib
import numpy as np
import pytest
from joblib.externals.loky import get_reusable_executor
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import Ridge
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline
from tiny_networks import HALVED, TINY

from hybridus import make_hybrid_classifier

SMALL = {"weights": "bundled", "layers": ["block_3_expand_relu"], "image_size": 32}


@pytest.fixture(scope="module")
def textures():
    """Two classes that differ in texture, not in brightness."""
    rng = np.random.default_rng(0)
    fine = rng.random((20, 32, 32))
    coarse = np.kron(rng.random((20, 8, 8)), np.ones((4, 4)))
    return np.concatenate([fine, coarse]), np.repeat(["fine", "coarse"], 20)


@pytest.mark.parametrize("head", ["svm", "mlp", "logreg", RandomForestClassifier(random_state=0)])
@pytest.mark.parametrize("probability", [False, True])
def test_every_head_learns_textures(textures, head, probability):
    X, y = textures
    pipe = make_hybrid_classifier(
        "mobilenet_v2_0.35", head, probability=probability, random_state=0, **SMALL
    )
    assert type(pipe) is Pipeline
    assert list(pipe.named_steps) == ["features", "scaler", "head"]
    pipe.fit(X[::2], y[::2])
    assert pipe.score(X[1::2], y[1::2]) > 0.9
    if probability:
        probabilities = pipe.predict_proba(X)
        np.testing.assert_allclose(probabilities.sum(axis=1), 1)
        assert list(pipe.classes_) == ["coarse", "fine"]


def test_defaults_suit_unbalanced_small_sets():
    assert make_hybrid_classifier()["head"].class_weight == "balanced"
    assert make_hybrid_classifier(head="logreg")["head"].class_weight == "balanced"
    assert make_hybrid_classifier(class_weight=None)["head"].class_weight is None
    assert make_hybrid_classifier(random_state=3)["head"].random_state == 3


def test_encoders_are_fused_side_by_side(textures):
    X, _ = textures
    pipe = make_hybrid_classifier([HALVED, TINY], weights="random", layers="multi", image_size=32)
    features = pipe["features"].fit(X[:3])
    rows = features.transform(X[:3])
    assert rows.shape == (3, 3 + 3 + 8 + 16)
    names = features.get_feature_names_out()
    assert names[0] == "halved_half_avg0"
    assert names[-1] == "tiny_relu2_avg15"
    assert pipe.get_params()["features__tiny__layers"] == "multi"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"head": "forest"},
            "head='forest': expected 'svm', 'mlp', 'logreg', 'sgd' or a classifier",
        ),
        ({"head": Ridge()}, "expected 'svm', 'mlp', 'logreg', 'sgd' or a classifier"),
        ({"encoder": []}, "one or more different encoders"),
        ({"encoder": ["vgg16", "vgg16"]}, "one or more different encoders"),
        ({"encoder": "vgg"}, "unknown encoder 'vgg'"),
    ],
)
def test_mistakes_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        make_hybrid_classifier(**arguments)


def test_unknown_options_are_refused():
    with pytest.raises(TypeError, match="colour"):
        make_hybrid_classifier(colour=True)


@pytest.mark.slow
def test_a_search_over_real_scans_in_two_workers_saves_a_model_that_travels(
    busi_folder, real_weights, tmp_path
):
    """Two sets of layers and two C with loky; the saved model predicts alike in another process."""
    get_reusable_executor().shutdown(wait=True)  # workers of earlier tests know no weights
    paths, y = [], []
    for label, kind in enumerate(["normal", "malignant", "benign"]):
        files = [busi_folder / kind / f"{kind} ({i}).png" for i in range(1, 13)]
        paths += [str(path) for path in files]
        y += [label] * len(files)
    paths, y = np.array(paths, dtype=object), np.array(y)
    search = GridSearchCV(
        make_hybrid_classifier("mobilenet_v2_0.35", "svm"),
        {"features__layers": ["last", "multi"], "head__C": [1, 10]},
        cv=3,
        n_jobs=2,
        error_score="raise",
    ).fit(paths, y)
    assert search.best_score_ > 0.4
    model, answer = tmp_path / "best (1).joblib", tmp_path / "answer.joblib"
    joblib.dump(search.best_estimator_, model)
    joblib.dump(paths, tmp_path / "paths.joblib")
    code = (
        "import joblib, sys; model, paths, answer = sys.argv[1:]; "
        "joblib.dump(joblib.load(model).predict(joblib.load(paths)), answer)"
    )
    subprocess.run(
        [sys.executable, "-c", code, model, tmp_path / "paths.joblib", answer], check=True
    )
    np.testing.assert_array_equal(joblib.load(answer), search.predict(paths))
