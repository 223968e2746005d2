"""Model files: what is saved answers alike elsewhere, and says what it is."""

import json
import os
import subprocess
import sys
from dataclasses import replace

import joblib
import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import save_file
from sklearn.calibration import CalibratedClassifierCV
from sklearn.datasets import load_wine
from sklearn.ensemble import VotingClassifier
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.svm import SVC, LinearSVC
from tiny_networks import TINY, textures

import hybridus
from hybridus import DeepFeatureExtractor, ModelCard, load, make_hybrid_classifier, read_card, save
from hybridus.encoders import registry
from hybridus.exceptions import ModelFileError, WeightsNotFoundError

NAMES = np.array(["normal", "malignant", "benign"])
SMALL = {"weights": "bundled", "image_size": 32}


@pytest.fixture(scope="module")
def scans():
    return hybridus.make_breast_phantoms(24, image_size=32, random_state=0)


@pytest.fixture(scope="module")
def hybrid(scans):
    pipe = make_hybrid_classifier("mobilenet_v2_0.35", "svm", probability=True, **SMALL)
    return pipe.fit(scans.images, NAMES[scans.target])


@pytest.mark.parametrize(
    "head",
    [
        "mlp",
        "logreg",
        LinearSVC(),
        KNeighborsClassifier(3),
        CalibratedClassifierCV(LogisticRegression(), method="temperature", cv=3),
        make_pipeline(FunctionTransformer(), SVC()),
    ],
    ids=lambda head: head if isinstance(head, str) else type(head).__name__,
)
def test_heads_of_all_kinds_answer_to_the_bit(tmp_path, scans, head):
    pipe = make_hybrid_classifier("mobilenet_v2_0.35", head, **SMALL).fit(
        scans.images, scans.target
    )
    again = load(save(pipe, tmp_path / "a.hybridus"))
    method = "predict_proba" if hasattr(pipe, "predict_proba") else "decision_function"
    np.testing.assert_array_equal(
        getattr(again, method)(scans.images), getattr(pipe, method)(scans.images)
    )
    assert repr(again) == repr(pipe)


def test_of_a_search_the_best_is_kept_with_the_union_of_its_features(tmp_path, scans):
    fused = make_hybrid_classifier(
        [TINY, replace(TINY, name="other")], "logreg", weights="random", image_size=32
    )
    search = GridSearchCV(fused, {"head__C": [0.1, 1.0]}, cv=2).fit(scans.images, scans.target)
    again = load(save(search, tmp_path / "a.hybridus"))
    np.testing.assert_array_equal(
        again.predict_proba(scans.images), search.predict_proba(scans.images)
    )
    assert search.best_params_ == {"head__C": again[-1].C}


FRESH = """
import sys, json
import hybridus
model = hybridus.load(sys.argv[1])
said = model.predict_proba([sys.argv[2]])[0].tolist()
heavy = {"tensorflow", "keras", "matplotlib", "statsmodels"} & set(sys.modules)
print(json.dumps([model.predict([sys.argv[2]])[0], said, sorted(heavy)]))
"""


def fresh(*arguments, cache):
    known = {name: value for name, value in os.environ.items() if name != "HYBRIDUS_WEIGHTS"}
    return subprocess.run(
        [sys.executable, "-c", FRESH, *map(str, arguments)],
        capture_output=True,
        text=True,
        env={**known, "HYBRIDUS_CACHE": str(cache), "KERAS_HOME": str(cache)},
    )


def test_a_fresh_machine_answers_to_the_bit_without_weights_and_keras(tmp_path, scans, monkeypatch):
    monkeypatch.chdir(tmp_path)
    layers = {layer.name: layer.weights for layer in TINY.build((32, 32)).layers if layer.weights}
    drawn = {
        f"{name}/{one.name}": np.random.default_rng(0).normal(size=one.shape).astype(np.float32)
        for name, weights in layers.items()
        for one in weights
    }
    save_file(drawn, "mine.safetensors")
    pipe = make_hybrid_classifier(
        TINY, "svm", probability=True, image_size=32, weights="mine.safetensors"
    )
    pipe.fit(scans.images, NAMES[scans.target])
    Image.fromarray(scans.images[0]).save("one (1).png")
    save(pipe, "with.hybridus")
    save(pipe, "without.hybridus", include_weights=False)
    expected = pipe.predict_proba(["one (1).png"])[0]
    os.remove("mine.safetensors")
    done = fresh("with.hybridus", "one (1).png", cache=tmp_path / "empty")
    assert done.returncode == 0, done.stderr
    label, probabilities, heavy = json.loads(done.stdout)
    assert heavy == []
    assert label == pipe.classes_[np.argmax(expected)]
    np.testing.assert_array_equal(probabilities, expected)
    assert os.path.getsize("without.hybridus") < os.path.getsize("with.hybridus")
    assert not read_card("without.hybridus").weights[TINY.name]["included"]
    monkeypatch.setitem(registry._REGISTRY, TINY.name, TINY)  # or its builder would be missed
    with pytest.raises(WeightsNotFoundError, match=r"mine\.safetensors"):
        load("without.hybridus")[0].set_params(cache=str(tmp_path / "new")).transform(
            ["one (1).png"]
        )


def test_what_was_loaded_can_be_pickled_saved_exported_and_fitted_anew(tmp_path, scans, hybrid):
    again = load(save(hybrid, tmp_path / "a.hybridus"))
    before = hybrid.predict_proba(scans.images)
    joblib.dump(again, tmp_path / "a.joblib")
    twice = load(save(joblib.load(tmp_path / "a.joblib"), tmp_path / "b.hybridus"))
    np.testing.assert_array_equal(twice.predict_proba(scans.images), before)
    assert hybridus.export(twice, tmp_path / "a.xml").exists()
    twice.fit(scans.images, scans.target)
    assert twice[0].network_ is None
    assert twice.classes_.tolist() == [0, 1, 2]


def test_an_encoder_of_the_users_own_needs_no_builder_to_answer(tmp_path):
    images, _ = textures(12)
    extractor = DeepFeatureExtractor(TINY, weights="random").fit(images)
    path = save(extractor, tmp_path / "a.hybridus")
    again = load(path)
    np.testing.assert_array_equal(again.transform(images), extractor.transform(images))
    with pytest.raises(ValueError, match="call register_encoder with it"):
        again.frozen_.spec.function()


def test_paths_and_stores_of_a_machine_stay_there(tmp_path, scans):
    for cache in (
        str(tmp_path / "secret"),
        tmp_path / "secret",
        hybridus.FeatureStore(tmp_path / "secret"),
    ):
        extractor = DeepFeatureExtractor("mobilenet_v2_0.35", cache=cache, **SMALL).fit(
            scans.images
        )
        path = save(extractor, tmp_path / "a.hybridus")
        assert b"secret" not in path.read_bytes()
        assert load(path).cache is True
        assert extractor.cache is cache


def test_the_card_says_what_the_model_knows_and_what_it_is_told(tmp_path, hybrid):
    path = save(hybrid, tmp_path / "a.hybridus", card={"data": {"name": "BUSI", "n_images": 761}})
    card = read_card(path)
    assert card.task == "classify"
    assert card.classes == ("benign", "malignant", "normal")
    assert card.input == {"size": [32, 32], "value_range": None}
    assert card.data == {"name": "BUSI", "n_images": 761}
    assert card.weights["mobilenet_v2_0.35"]["digest"].startswith("sha256:")
    assert card.versions["hybridus"] == hybridus.__version__
    assert "not a medical device" in card.limits
    renamed = ModelCard(classes=("b", "m", "n"), scores={"accuracy": {"mean": 0.8}})
    assert read_card(save(hybrid, path, card=renamed)).classes == ("b", "m", "n")
    for wrong in ({"classes": ["a", "b"]}, {"class": ["a"]}, {"scores": 3}):
        with pytest.raises(ValueError, match="card: "):
            save(hybrid, path, card=wrong)
    assert read_card(path).classes == ("b", "m", "n")


def test_a_file_appears_whole_or_not_at_all(tmp_path, hybrid, monkeypatch):
    path = save(hybrid, tmp_path / "models (new)" / "a.hybridus")
    before = path.read_bytes()
    monkeypatch.setattr("hybridus.persistence.model_file.json.dumps", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        save(hybrid, path)
    assert path.read_bytes() == before
    assert os.listdir(path.parent) == ["a.hybridus"]


def test_what_cannot_be_saved_or_loaded_says_so(tmp_path):
    with pytest.raises(NotFittedError):
        save(DeepFeatureExtractor(), tmp_path / "a.hybridus")
    with pytest.raises(FileNotFoundError, match="no such file"):
        load(tmp_path / "absent.hybridus")
    with pytest.raises(ModelFileError):
        load(tmp_path)


def test_a_search_inside_another_estimator_goes_as_its_best(tmp_path):
    X, y = load_wine(return_X_y=True)
    search = GridSearchCV(LogisticRegression(max_iter=5000), {"C": [0.1, 1.0]}, cv=2)
    vote = VotingClassifier([("search", search), ("bayes", GaussianNB())], voting="soft").fit(X, y)
    hybridus.save(vote, tmp_path / "model.hybridus")
    read = hybridus.load(tmp_path / "model.hybridus")
    np.testing.assert_array_equal(read.predict_proba(X), vote.predict_proba(X))
    assert hasattr(vote.estimators_[0], "cv_results_")  # what was given stays as it is
