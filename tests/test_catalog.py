"""Every row of the catalogue: it builds, cuts, exports, agrees between engines and fine-tunes."""

import os

import numpy as np
import pytest

from hybridus import FineTunedClassifier, list_encoders
from hybridus._keras import building, keras
from hybridus.encoders import engine, registry
from hybridus.encoders.assembly import build_network, tap
from hybridus.encoders.catalog import CATALOG
from hybridus.encoders.frozen import freeze
from hybridus.encoders.registry import EncoderSpec, get_encoder

pytestmark = pytest.mark.slow

# HYBRIDUS_WHOLE_CATALOG=1 tries all 42, which takes some twenty minutes.
_TRIED = {"mobilenet_0.25", "mobilenet_v3_small", "efficientnet_b0"}
_TRAINED = {"mobilenet_v3_small"}
_WHOLE = bool(os.environ.get("HYBRIDUS_WHOLE_CATALOG"))
_SIDES = {"xception": 71, "inception_v3": 75, "inception_resnet_v2": 75}
ROWS = [row for row in CATALOG if _WHOLE or row.name in _TRIED]
TRAINED = [row for row in CATALOG if _WHOLE or row.name in _TRAINED]


def side_of(row):
    return _SIDES.get(row.name, 32)


@pytest.fixture
def built_once(monkeypatch):
    """Networks as Keras builds them with its own weights, of which only the name is looked at."""
    asked, built = [], {}
    module = keras.src.utils.file_utils
    monkeypatch.setattr(module, "get_file", lambda name, *_, **__: asked.append(name) or name)
    monkeypatch.setattr(keras.Model, "load_weights", lambda *_, **__: None)

    def build(spec, image_size):
        if (spec.name, image_size) not in built:
            with building():
                built[spec.name, image_size] = spec.function()(
                    **{**spec.options, "weights": "imagenet"}, input_shape=(*image_size, 3)
                )
        return built[spec.name, image_size]

    monkeypatch.setattr(EncoderSpec, "build", build)
    return asked


@pytest.mark.filterwarnings("ignore:`input_shape` is undefined or non-square")
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_a_row_says_what_keras_builds_and_both_engines_agree(row, built_once):
    side = side_of(row)
    spec = get_encoder(row.name)
    network = spec.build((side, side))
    assert built_once == [row.keras_file]
    assert network.count_params() == row.parameters
    shapes = {
        name: tap(network, name).shape for name in (*row.taps, *row.skips, row.last or "output")
    }
    assert all(len(shape) == 4 for shape in shapes.values())
    if row.skips:  # a map for each scale, from a quarter on
        scales = [side / shapes[name][1] for name in row.skips]
        np.testing.assert_allclose(scales, [4, 8, 16, 32], rtol=0.35)
    assert shapes[row.last or "output"] == network.output.shape

    frozen = freeze(
        row.name,
        weights="random",
        layers=list(dict.fromkeys([*row.taps, row.last or "output"])),
        pooling="avg",
        image_size=side,
        resize="stretch",
        engine="openvino",
        precision="float32",
    )
    pixels = np.random.default_rng(0).integers(0, 256, (2, side, side, 3)).astype(np.float32)
    ours = build_network(frozen)
    expected = np.concatenate(list(map(np.asarray, ours(pixels))), axis=1)
    assert np.isfinite(expected).all()
    contents = engine._converted(ours, (side, side, 3), len(frozen.taps))
    carried = engine.CarriedNetwork.of(contents)
    request = engine.compile_model(engine.read_network(carried)).create_infer_request()
    request.infer([pixels])
    found = np.concatenate([output.data for output in request.output_tensors], axis=1)
    np.testing.assert_allclose(found, expected, rtol=2e-4, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize("row", TRAINED, ids=lambda row: row.name)
def test_a_row_can_be_fine_tuned(row):
    images = np.random.default_rng(0).integers(0, 256, (4, 32, 32), dtype=np.uint8)
    net = FineTunedClassifier(
        row.name,
        weights="random",
        trainable="last:2",
        image_size=side_of(row),
        n_views=1,
        augmentation=None,
        max_epochs=1,
        validation_fraction=None,
        random_state=0,
    )
    assert net.fit(images, [0, 1, 0, 1]).predict(images).shape == (4,)


def test_names_are_many_and_each_its_own():
    names = [row.name for row in CATALOG]
    assert len(names) == len(set(names)) >= 40
    assert set(names) <= set(list_encoders())


def test_rows_become_specs_that_need_no_keras():
    for row in CATALOG:
        spec = registry.get_encoder(row.name)
        assert spec.is_application
        assert spec.describe() is not None
        assert spec.keras_file == row.keras_file
