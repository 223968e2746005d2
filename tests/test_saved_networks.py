"""Networks that someone saved with Keras: encoders by their path, in every process."""

import shutil

import numpy as np
import pytest
from sklearn.model_selection import GridSearchCV

from hybridus import (
    DeepFeatureExtractor,
    FineTunedClassifier,
    WeightsNotFoundError,
    load,
    make_hybrid_classifier,
    register_encoder,
    save,
)
from hybridus._keras import keras
from hybridus.encoders import registry
from hybridus.encoders.registry import get_encoder

pytestmark = pytest.mark.slow

X = np.random.default_rng(0).integers(0, 256, (12, 20, 24), dtype=np.uint8)
Y = np.tile([0, 1], 6)


def network(size=(None, None), channels=3, seed=0):
    layers = keras.layers
    inputs = keras.Input((*size, channels))
    x = layers.Rescaling(1 / 255)(inputs)
    start = keras.initializers.GlorotUniform(seed=seed)
    x = layers.Conv2D(4, 3, strides=2, activation="relu", kernel_initializer=start, name="a")(x)
    x = layers.BatchNormalization()(x)
    return keras.Model(inputs, layers.Conv2D(6, 3, kernel_initializer=start, name="b")(x))


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Two networks of one architecture, of any size, and one that takes 16 x 18 pixels alone."""
    folder = tmp_path_factory.mktemp("my networks (1)")
    for name, net in (
        ("My net.keras", network()),
        ("other.keras", network(seed=1)),
        ("fixed.keras", network((16, 18))),
    ):
        net.save(folder / name)
    return folder


def test_a_path_is_an_encoder_that_comes_with_its_weights(saved):
    features = DeepFeatureExtractor(saved / "My net.keras", image_size=16, cache=False)
    found = features.fit_transform(X)
    opened = keras.models.load_model(saved / "My net.keras")
    from hybridus.inputs.resizing import resize_image, widen

    pixels = widen([resize_image(image, (16, 16)) for image in X]).astype(np.float32)
    expected = np.asarray(opened(pixels)).mean(axis=(1, 2))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)
    assert features.get_feature_names_out()[0] == "my_net_output_avg0"
    drawn = features.set_params(weights="random").fit_transform(X)
    assert np.abs(drawn - expected).max() > 0.01


def test_its_size_is_read_without_keras(saved):
    assert get_encoder(saved / "fixed.keras").image_size == (16, 18)
    assert get_encoder(str(saved / "My net.keras")).image_size == (224, 224)
    found = DeepFeatureExtractor(str(saved / "fixed.keras")).fit_transform(X)
    assert found.shape == (12, 6)
    with pytest.raises(ValueError, match=r"holds a network of inputs \(None, 16, 18, 3\)"):
        DeepFeatureExtractor(str(saved / "fixed.keras"), image_size=32).fit_transform(X)


def test_workers_model_files_and_training_take_it_too(saved, tmp_path):
    pipe = make_hybrid_classifier(saved / "fixed.keras", "logreg")
    search = GridSearchCV(pipe, {"head__C": [0.1, 1]}, cv=2, n_jobs=2).fit(X, Y)
    file = save(search.best_estimator_, tmp_path / "m.hybridus")
    assert (load(file).predict(X) == search.predict(X)).all()
    net = FineTunedClassifier(
        saved / "fixed.keras", trainable="b", max_epochs=1, n_views=1, random_state=0
    )
    net.fit(X, Y)
    assert {name.split("/")[0] for name in net.variables_} >= {"b", "softmax"}
    assert not any(name.startswith("a/") for name in net.variables_)


def test_another_file_under_its_name_is_another_network(saved, tmp_path):
    path = tmp_path / "net.keras"
    shutil.copy(saved / "My net.keras", path)
    features = DeepFeatureExtractor(str(path), image_size=16).fit(X)
    before = features.transform(X)
    shutil.copy(saved / "other.keras", path)
    kept_nowhere = features.set_params(cache=False, engine="keras")
    with pytest.raises(ValueError, match="holds another network than when it was first used"):
        kept_nowhere.transform(X)
    after = DeepFeatureExtractor(str(path), image_size=16).fit_transform(X)
    assert np.abs(after - before).max() > 1e-3


def test_registered_it_may_be_preprocessed_and_tapped(saved, monkeypatch):
    monkeypatch.setattr(registry, "_REGISTRY", dict(registry._REGISTRY))
    spec = register_encoder("mine", saved / "fixed.keras", taps=["a", "b"], preprocessing="tf")
    assert spec.image_size == (16, 18)
    assert DeepFeatureExtractor("mine", layers="multi").fit_transform(X).shape == (12, 10)
    with pytest.raises(ValueError, match="save it, model.save"):
        register_encoder("live", network())


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"nothing", "no network that Keras 3 saved"), (None, "no such file exists")],
)
def test_what_is_no_such_file_is_refused(tmp_path, content, message):
    path = tmp_path / "x.keras"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises((ValueError, WeightsNotFoundError), match=message):
        DeepFeatureExtractor(str(path)).fit(X)


def test_one_channel_and_unknown_layers_are_refused(tmp_path):
    network((16, 16), channels=1).save(tmp_path / "grey.keras")
    with pytest.raises(ValueError, match=r"expected images of \(height"):
        DeepFeatureExtractor(str(tmp_path / "grey.keras")).fit_transform(X)

    class Own(keras.layers.Layer):
        def call(self, x):
            return x

    inputs = keras.Input((16, 16, 3))
    keras.Model(inputs, Own()(inputs)).save(tmp_path / "own.keras")
    with pytest.raises(ValueError, match=r"Keras cannot open .*Your own layers must be registered"):
        DeepFeatureExtractor(str(tmp_path / "own.keras")).fit_transform(X)
