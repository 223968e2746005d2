"""The door to Keras: a quiet start, other backends, and what is said where it cannot be used."""

import os

import numpy as np
import pytest
from tiny_networks import TINY

from hybridus import _keras
from hybridus.encoders import engine
from hybridus.encoders.architecture import architecture_of
from hybridus.encoders.assembly import build_network
from hybridus.encoders.frozen import freeze
from hybridus.encoders.registry import EncoderSpec


def test_what_was_kept_quiet_is_shown_where_the_start_fails(capfd):
    with _keras._quiet():
        os.write(2, b"a greeting")
    assert capfd.readouterr().err == ""

    def failing():
        with _keras._quiet():
            os.write(2, b"what went wrong")
            raise RuntimeError("no start")

    with pytest.raises(RuntimeError, match="no start"):
        failing()
    assert capfd.readouterr().err == "what went wrong"


def test_a_process_without_standard_error_starts_too(monkeypatch):
    def closed(descriptor):
        raise OSError

    monkeypatch.setattr(os, "dup", closed)
    with _keras._quiet():
        pass


def test_a_gpu_is_seen_on_other_backends_by_its_name(monkeypatch):
    monkeypatch.setattr(_keras.keras.backend, "backend", lambda: "torch")
    for devices, seen in ((["cpu:0"], False), (["cpu:0", "cuda:0"], True)):
        monkeypatch.setattr(_keras.keras.distribution, "list_devices", lambda found=devices: found)
        assert _keras.accelerated() is seen


def test_a_gpu_is_looked_for_only_where_the_machine_has_one(monkeypatch):
    monkeypatch.setattr(engine.Path, "glob", lambda *_: iter(["/dev/nvidia0"]))
    monkeypatch.setattr(_keras, "accelerated", lambda: True)
    assert engine.choose_engine("auto", "float32") == "keras"


def frozen_tiny(layers):
    return freeze(
        TINY,
        weights="random",
        layers=layers,
        pooling="avg",
        image_size=8,
        resize="stretch",
        engine="openvino",
        precision="float32",
    )


def test_networks_of_other_backends_are_exported_by_keras_itself(monkeypatch):
    network = build_network(frozen_tiny("last"))
    pixels = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 3)).astype(np.float32)
    monkeypatch.setattr(_keras, "inference_of", lambda *_: None)
    carried = engine.carry_network(network, (8, 8, 3))
    (found,) = engine.run_carried(carried, [pixels])
    expected = np.asarray(network(pixels))
    np.testing.assert_allclose(found, expected.reshape(found.shape), rtol=1e-4, atol=1e-5)


def test_outputs_that_cannot_be_told_apart_are_refused():
    ov = engine.load_openvino()
    x = ov.opset13.parameter([2], np.float32)  # outputs without the names that TensorFlow gives
    model = ov.Model([ov.opset13.relu(x), ov.opset13.sigmoid(x)], [x])
    assert engine._with_outputs(model, len(model.outputs)) is model
    with pytest.raises(RuntimeError, match="Keras exported 2 outputs for 3 layers"):
        engine._with_outputs(model, 3)


def test_an_engine_takes_no_other_network_than_its_encoder_names():
    frozen = frozen_tiny("last")
    with pytest.raises(ValueError, match="another one"):
        engine.OpenVINOEngine(frozen, batch_size=1, carried=engine.carry_frozen(frozen))


def test_functions_inside_a_network_count_by_what_they_do():
    def builder(factor):
        def build(input_shape):
            keras = _keras.keras

            def doubled(x):
                import tensorflow as tf

                return tf.function(lambda value: value * factor)(x)

            inputs = keras.Input(input_shape)
            return keras.Model(inputs, keras.layers.Lambda(doubled, name="doubled")(inputs))

        return build

    two, again, three = (
        architecture_of(EncoderSpec("own", builder(by)), (8, 8)) for by in (2.0, 2.0, 3.0)
    )
    assert two == again != three


def test_a_child_that_was_forked_is_refused(monkeypatch):
    from hybridus._environment import ForkGuard

    guard = ForkGuard("a network")
    guard.check()
    parent = os.getpid()
    monkeypatch.setattr(os, "getpid", lambda: parent + 1)
    with pytest.raises(RuntimeError, match="forked after a network had started"):
        guard.check()
