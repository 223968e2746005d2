"""The weights in the package: whole, small, described, and worth more than random ones."""

import hashlib
import re
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open
from sklearn.model_selection import StratifiedKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

import hybridus.encoders
from hybridus import DeepFeatureExtractor
from hybridus.datasets import make_breast_phantoms

pytestmark = pytest.mark.slow

ENCODER = "mobilenet_v2_0.35"
FILE = Path(hybridus.encoders.__file__).parent / f"{ENCODER}.safetensors"
CARD = FILE.with_suffix(".md")


@pytest.fixture(scope="module")
def arrays():
    with safe_open(FILE, framework="numpy") as file:
        return {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118


def features(weights, images):
    extractor = DeepFeatureExtractor(
        ENCODER, weights=weights, layers="last", image_size=128, engine="keras", cache=False
    )
    return extractor.fit_transform(images)


@pytest.fixture(scope="module")
def phantoms():
    return make_breast_phantoms(240, image_size=128, random_state=77)


@pytest.fixture(scope="module")
def bundled_rows(phantoms):
    return features(FILE, phantoms.images)


@pytest.fixture(scope="module")
def random_rows(phantoms):
    return features("random", phantoms.images)


def test_the_file_takes_one_megabyte_at_most():
    assert FILE.stat().st_size <= 1_000_000


def test_every_value_is_finite_and_no_variance_is_negative(arrays):
    assert all(np.isfinite(values).all() for values in arrays.values())
    variances = [v for key, v in arrays.items() if key.endswith("moving_variance")]
    assert len(variances) == 52
    assert all((v >= 0).all() and v.dtype == np.float32 for v in variances)
    others = {v.dtype for key, v in arrays.items() if not key.endswith("moving_variance")}
    assert others == {np.dtype(np.float16)}


def test_it_holds_each_variable_of_the_network_and_nothing_else(arrays):
    from hybridus._keras import keras

    network = keras.applications.MobileNetV2(
        input_shape=(128, 128, 3), alpha=0.35, include_top=False, weights=None
    )
    expected = {
        f"{layer.name}/{variable.name}": tuple(variable.shape)
        for layer in network.layers
        for variable in layer.weights
    }
    assert {key: values.shape for key, values in arrays.items()} == expected


def test_the_model_card_names_the_digest_of_the_file():
    digests = re.findall(r"\b[0-9a-f]{64}\b", CARD.read_text(encoding="utf-8"))
    assert digests == [hashlib.sha256(FILE.read_bytes()).hexdigest()]


def test_the_model_card_gives_what_a_user_must_know():
    card = CARD.read_text(encoding="utf-8")
    for word in ("CC BY 4.0", "van den Heuvel", "Licence", "Limits", "from scratch", "Seeds"):
        assert word in card


def test_they_are_not_the_imagenet_weights(arrays, real_weights, shared):
    with safe_open(shared / "weights" / f"{ENCODER}.safetensors", framework="numpy") as file:
        for key in ("Conv1/kernel", "block_6_expand/kernel", "Conv_1/kernel"):
            theirs, ours = file.get_tensor(key).ravel(), arrays[key].astype(np.float32).ravel()
            assert abs(np.corrcoef(theirs, ours)[0, 1]) < 0.2


def test_features_use_all_channels_and_stay_in_range(bundled_rows):
    assert bundled_rows.shape == (240, 1280)
    assert np.isfinite(bundled_rows).all()
    assert bundled_rows.min() >= 0
    assert bundled_rows.max() <= 6  # of ReLU6
    assert (bundled_rows.std(axis=0) > 1e-4).mean() > 0.9


def test_features_differ_from_those_of_random_weights(bundled_rows, random_rows):
    assert np.abs(bundled_rows - random_rows).mean() > 0.01


def test_bundled_features_tell_lesions_of_phantoms_better_than_random_ones(
    phantoms, bundled_rows, random_rows
):
    head = make_pipeline(StandardScaler(), SVC(C=10))
    folds = StratifiedKFold(5, shuffle=True, random_state=0)
    bundled, random = (
        cross_val_score(head, rows, phantoms.target, cv=folds).mean()
        for rows in (bundled_rows, random_rows)
    )
    assert bundled > random + 0.04
