"""Networks that segment: layers, sizes and names, metrics, and decoders over a cut encoder."""

from functools import partial

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, f1_score, jaccard_score, precision_score, recall_score

from hybridus._keras import keras
from hybridus.encoders.frozen import freeze
from hybridus.encoders.partition import partitions
from hybridus.encoders.registry import EncoderSpec
from hybridus.inputs.images import as_images
from hybridus.metrics import dice
from hybridus.training.batches import open_batches
from hybridus.training.losses import LOSSES, make_loss
from hybridus.training.networks.segmentation import (
    DeeplySupervised,
    build_dncnn,
    build_encoder_unet,
    build_unet,
    compile_segmenter,
    segmentation_metrics,
    segmentation_scores,
)

pytestmark = pytest.mark.slow

COMPILED = {"loss": "binary_crossentropy", "optimizer": "adam", "policy": "float32"}
HALVINGS = ("half", "quarter", "eighth", "sixteenth")


def compiled(build, *arguments, **options):
    """Give the compiled network of a builder."""
    how = {name: options.pop(name, value) for name, value in COMPILED.items()}
    return compile_segmenter(partial(build, *arguments, **options), **how)


def unet(image_size=(16, 16), **changed):
    options = {
        "depth": 2,
        "base_filters": 4,
        "batch_norm": True,
        "dropout_rate": 0.0,
        "attention": False,
        "deep_supervision": False,
    }
    return compiled(build_unet, image_size, **{**options, **changed})


def four_halvings(input_shape):
    """An encoder of four convolutions, each of which halves the image and rounds up."""
    inputs = x = keras.Input(input_shape)
    for k, name in enumerate(HALVINGS):
        x = keras.layers.Conv2D(3 + k, 3, strides=2, padding="same", activation="relu", name=name)(
            x
        )
    return keras.Model(inputs, x)


HALVING = EncoderSpec("four_halvings", four_halvings, taps=HALVINGS)


def frozen_halvings(image_size=64, layers=HALVINGS):
    return freeze(
        HALVING,
        weights="random",
        layers=list(layers),
        pooling="flatten",
        image_size=image_size,
        resize="stretch",
        engine="keras",
        precision="float32",
    )


def encoder_unet(frozen, partition=None, **changed):
    options = {
        "mask_size": (32, 32),
        "decoder_filters": (4,),
        "decoder_stride": 2,
        "dropout_rate": 0.0,
        "batch_norm": True,
    }
    partition = partition or partitions(frozen, "none", cut=True)[0]
    return compiled(build_encoder_unet, frozen, partition, **{**options, **changed})


def noise(*shape, seed=0):
    return np.random.default_rng(seed).uniform(0, 255, shape).astype(np.float32)


class TestUNet:
    def test_filters_double_with_each_halving_and_meet_again_at_the_skip_connections(self):
        shapes = unet().shapes
        kernels = {path: shape for path, shape in shapes.items() if path.endswith("kernel")}
        assert kernels == {
            "down_0_1/kernel": (3, 3, 1, 4),
            "down_0_2/kernel": (3, 3, 4, 4),
            "down_1_1/kernel": (3, 3, 4, 8),
            "down_1_2/kernel": (3, 3, 8, 8),
            "bottom_1/kernel": (3, 3, 8, 16),
            "bottom_2/kernel": (3, 3, 16, 16),
            "up_1_widen/kernel": (2, 2, 8, 16),
            "up_1_1/kernel": (3, 3, 8 + 8, 8),
            "up_1_2/kernel": (3, 3, 8, 8),
            "up_0_widen/kernel": (2, 2, 4, 8),
            "up_0_1/kernel": (3, 3, 4 + 4, 4),
            "up_0_2/kernel": (3, 3, 4, 4),
            "mask/kernel": (1, 1, 4, 1),
        }
        assert shapes["down_0_1_norm/gamma"] == (4,)
        assert "down_0_1/bias" not in shapes

    def test_without_batch_normalisation_convolutions_have_a_bias(self):
        shapes = unet(batch_norm=False).shapes
        assert shapes["down_0_1/bias"] == (4,)
        assert not any("norm" in path for path in shapes)

    def test_the_default_of_the_segmenter_has_1_9_million_weights(self):
        network = unet((128, 128), depth=4, base_filters=16, dropout_rate=0.2)
        assert network.model.output_shape == (None, 128, 128, 1)
        assert sum(map(np.prod, network.shapes.values())) == pytest.approx(1.9e6, rel=0.03)

    def test_open_gates_are_a_plain_unet_and_closed_gates_hide_the_skip_connections(self):
        gated, plain = unet(attention=True), unet()
        images = noise(3, 16, 16, 1)
        values = gated.values()
        plain.assign({path: values[path] for path in plain.shapes})
        gates = [path for path in values if path.endswith("_weight/bias")]
        assert sorted(gates) == ["gate_0_weight/bias", "gate_1_weight/bias"]

        gated.assign(values | {path: np.full(1, 100.0) for path in gates})
        np.testing.assert_allclose(gated.predict([images]), plain.predict([images]), atol=1e-6)

        values |= {path: np.full(1, -100.0) for path in gates}
        gated.assign(values)
        closed = gated.predict([images])
        kernel = values["up_0_1/kernel"].copy()
        kernel[:, :, :4] = 7  # what is made of the skip connection
        gated.assign(values | {"up_0_1/kernel": kernel})
        np.testing.assert_allclose(gated.predict([images]), closed, atol=1e-6)

    def test_deep_supervision_gives_a_channel_a_scale_and_the_same_mask(self):
        deep, plain = unet(deep_supervision=True), unet()
        assert deep.model.output_shape == (None, 16, 16, 2)
        assert set(deep.shapes) - set(plain.shapes) == {"mask_1/kernel", "mask_1/bias"}
        images = noise(3, 16, 16, 1)
        values = deep.values()
        plain.assign({path: values[path] for path in plain.shapes})
        maps = deep.predict([images])
        np.testing.assert_allclose(maps[..., :1], plain.predict([images]), atol=1e-6)
        assert not np.allclose(maps[..., 0], maps[..., 1])

    def test_half_precision_computes_but_neither_keeps_nor_answers(self):
        network = unet(policy="mixed_bfloat16")
        assert {variable.dtype for variable in network.model.weights} == {"float32"}
        images = noise(2, 16, 16, 1)
        halves = network.predict([images])
        assert halves.dtype == np.float32
        plain = unet()
        plain.assign(network.values())
        singles = plain.predict([images])
        assert 0 < np.abs(halves - singles).max() < 0.02


class TestDnCNN:
    def test_only_the_layers_between_the_first_and_the_last_are_normalised(self):
        shapes = compiled(build_dncnn, (9, 9), n_layers=4, filters=3).shapes
        kernels = {path: shape for path, shape in shapes.items() if path.endswith("kernel")}
        assert kernels == {
            "conv_1/kernel": (3, 3, 1, 3),
            "conv_2/kernel": (3, 3, 3, 3),
            "conv_3/kernel": (3, 3, 3, 3),
            "mask/kernel": (3, 3, 3, 1),
        }
        assert {path for path in shapes if path.endswith("bias")} == {"conv_1/bias", "mask/bias"}
        assert {path.split("/")[0] for path in shapes if "norm" in path} == {
            "conv_2_norm",
            "conv_3_norm",
        }

    def test_a_pixel_is_judged_by_a_window_of_twice_the_layers_and_one(self):
        network = compiled(build_dncnn, (15, 21), n_layers=3, filters=8)
        images = noise(2, 15, 21, 1)
        images[1] = images[0]
        images[1, 7, 10] += 100
        first, second = network.predict([images])[..., 0]
        rows, columns = np.nonzero(first != second)
        assert (rows.min(), rows.max()) == (7 - 3, 7 + 3)
        assert (columns.min(), columns.max()) == (10 - 3, 10 + 3)


class TestDeepSupervision:
    @pytest.mark.parametrize("name", LOSSES)
    def test_each_coarser_scale_counts_half_of_the_next(self, name):
        truth = (noise(4, 8, 8, 1) > 128).astype(np.float32)
        maps = noise(4, 8, 8, 3, seed=1) / 255
        single = make_loss(name)
        each = [float(single(truth, maps[..., k : k + 1])) for k in range(3)]
        expected = (each[0] + each[1] / 2 + each[2] / 4) / 1.75
        assert float(DeeplySupervised(single, 3)(truth, maps)) == pytest.approx(expected, 1e-5)

    def test_sample_weights_weigh_images(self):
        truth = (noise(2, 8, 8, 1) > 128).astype(np.float32)
        maps = noise(2, 8, 8, 2, seed=1) / 255
        loss = DeeplySupervised(make_loss("dice"), 2)
        first = float(loss(truth[:1], maps[:1]))
        weighted = loss(truth, maps, sample_weight=np.array([3.0, 0.0], np.float32))
        assert float(weighted) == pytest.approx(3 * first / 2, 1e-5)


class TestMetrics:
    def test_batches_add_up_to_what_scikit_learn_says_of_all_pixels(self):
        truth = (noise(6, 8, 8, 1) > 170).astype(np.float32)
        maps = noise(6, 8, 8, 2, seed=1) / 255
        truth[0] = 0  # neither lesion
        maps[0, ..., 0] = 0.2  # nor prediction
        truth[1] = 0
        maps[2, ..., 0] = 0.2
        maps[3, :4, :, 0] = 0.5  # exactly: not lesion, as in `predict`
        metrics = {metric.name: metric for metric in segmentation_metrics()}
        for metric in metrics.values():
            for rows in (slice(0, 4), slice(4, 6)):
                metric.update_state(truth[rows], maps[rows])
        found = maps[..., :1] > 0.5
        pixels = truth.ravel().astype(int), found.ravel().astype(int)
        expected = {
            "dice": dice(truth, found, empty="one"),
            "iou": jaccard_score(*pixels),
            "accuracy": accuracy_score(*pixels),
            "precision": precision_score(*pixels),
            "recall": recall_score(*pixels),
            "f1": f1_score(*pixels),
        }
        assert list(metrics) == list(expected)
        assert {name: float(metric.result()) for name, metric in metrics.items()} == pytest.approx(
            expected, rel=1e-5
        )
        for metric in metrics.values():
            metric.reset_state()
            assert float(metric.result()) == 0


class TestEncoderUNet:
    @pytest.mark.parametrize(("stride", "side"), [(1, 64), (2, 32), (4, 16), (8, 8)])
    def test_the_decoder_stops_at_its_stride(self, stride, side):
        frozen = frozen_halvings(layers=("eighth", "sixteenth"))
        network = encoder_unet(frozen, decoder_stride=stride, decoder_filters=(6, 5))
        assert network.model.get_layer("mask").output.shape[1:3] == (side, side)
        assert network.model.output_shape == (None, 32, 32, 1)
        levels = {path.split("_")[1] for path in network.shapes if path.startswith("decode_")}
        assert len(levels) == {1: 5, 2: 4, 4: 3, 8: 2}[stride]
        widths = [network.shapes[f"decode_{level}_2/kernel"][-1] for level in sorted(levels)]
        assert widths == [6, *[5] * (len(levels) - 1)]

    @pytest.mark.parametrize(
        ("image_size", "sides"),
        [
            ((100, 100), [(7, 7), (13, 13), (25, 25), (50, 50)]),
            ((36, 52), [(3, 4), (5, 7), (9, 13), (18, 26)]),
            ((33, 65), [(3, 5), (5, 9), (9, 17), (17, 33)]),
        ],
    )
    def test_odd_sizes_that_the_encoder_rounds_up_are_met(self, image_size, sides):
        network = encoder_unet(frozen_halvings(image_size), mask_size=(20, 30))
        seen = [network.model.get_layer(f"decode_{k}_2").output.shape[1:3] for k in range(4)]
        assert seen == sides
        assert network.model.output_shape == (None, 20, 30, 1)

    def test_layers_may_be_left_out_in_between(self):
        frozen = frozen_halvings(100, layers=("quarter", "sixteenth"))
        network = encoder_unet(frozen, decoder_stride=1)
        seen = [network.model.get_layer(f"decode_{k}_2").output.shape[1] for k in range(5)]
        assert seen == [7, 14, 25, 50, 100]

    def test_maps_of_one_size_are_joined(self):
        def two_maps(input_shape):
            inputs = keras.Input(input_shape)
            left = keras.layers.Conv2D(3, 3, strides=4, padding="same", name="left")(inputs)
            right = keras.layers.Conv2D(5, 3, padding="same", name="right")(left)
            return keras.Model(inputs, right)

        frozen = freeze(
            EncoderSpec("two_maps", two_maps),
            weights="random",
            layers=["right", "left"],
            pooling="flatten",
            image_size=32,
            resize="stretch",
            engine="keras",
            precision="float32",
        )
        shapes = encoder_unet(frozen, decoder_stride=4).shapes
        assert shapes["narrow_0_0/kernel"] == (1, 1, 5, 4)
        assert shapes["narrow_0_1/kernel"] == (1, 1, 3, 4)
        assert shapes["decode_0_1/kernel"] == (3, 3, 8, 4)

    def test_layers_finer_than_the_decoder_goes_are_an_error(self):
        message = (
            r"layers with maps of \[\(32, 32\)\] pixels are finer than the decoder goes: with "
            r"decoder_stride=4 it stops at \(16, 16\)"
        )
        with pytest.raises(ValueError, match=message):
            encoder_unet(frozen_halvings(), decoder_stride=4)

    def test_a_frozen_encoder_has_no_part_in_what_is_trained(self):
        frozen = frozen_halvings()
        network = encoder_unet(frozen)
        assert all(path.startswith(("narrow_", "decode_", "mask/")) for path in network.shapes)
        width = sum((64 // 2**k) ** 2 * (2 + k) for k in (1, 2, 3, 4))
        assert network.model.input_shape == (None, width)

    @pytest.mark.parametrize(
        ("trainable", "crossing", "trained"),
        [
            ("none", HALVINGS, set()),
            ("sixteenth", ("half", "quarter", "eighth"), {"sixteenth"}),
            ("last:2", ("half", "quarter"), {"eighth", "sixteenth"}),
            ("quarter", ("half",), {"quarter"}),
            ("all", (), set(HALVINGS)),
        ],
    )
    def test_what_crosses_the_cut_gives_the_network_that_pixels_give(
        self, trainable, crossing, trained
    ):
        frozen = frozen_halvings(32)
        options = partitions(frozen, trainable, cut=True)
        assert options[0].taps == crossing
        assert options[-1].taps == ()
        images = as_images(noise(5, 32, 32).round().astype(np.uint8))
        predicted, values = [], None
        for partition in options:
            network = encoder_unet(frozen, partition)
            in_encoder = {path.split("/")[0] for path in network.shapes} & set(HALVINGS)
            assert in_encoder == trained
            values = values or network.values()
            network.assign(values)
            batches = open_batches(images, frozen, partition)
            predicted.append(network.predict([batches.plain(range(5))]))
        np.testing.assert_allclose(predicted[0], predicted[-1], atol=1e-5)
        assert np.ptp(predicted[0]) > 0.01

    def test_dropout_takes_whole_channels_of_the_coarsest_layer(self):
        network = encoder_unet(frozen_halvings(), dropout_rate=0.5)
        kinds = [type(layer).__name__ for layer in network.model.layers]
        assert kinds.count("SpatialDropout2D") == 1
        assert "SpatialDropout2D" not in [
            type(layer).__name__ for layer in encoder_unet(frozen_halvings()).model.layers
        ]


@pytest.mark.parametrize(
    "build",
    [
        lambda: unet(attention=True, deep_supervision=True, dropout_rate=0.2),
        lambda: compiled(build_dncnn, (8, 8), n_layers=4, filters=3),
        lambda: encoder_unet(frozen_halvings(), dropout_rate=0.2),
    ],
    ids=["unet", "dncnn", "encoder unet"],
)
def test_weights_have_the_same_names_whenever_a_network_is_built(build):
    assert build().shapes == build().shapes


@pytest.mark.parametrize("kind", ["lesions", "no lesion", "nothing found", "neither"])
def test_scores_of_the_held_out_part_are_those_of_training(kind):
    rng = np.random.default_rng(0)
    truth = (rng.random((5, 8, 8, 1)) < 0.3).astype(np.float32)
    probabilities = rng.random((5, 8, 8, 2)).astype(np.float32)
    truth[0], probabilities[0] = 0, 0.5  # an image of neither; one half is none
    if kind in ("no lesion", "neither"):
        truth[:] = 0
    if kind in ("nothing found", "neither"):
        probabilities[:] = 0.1
    scores = segmentation_scores(truth, probabilities)
    for metric in segmentation_metrics():
        metric.update_state(truth, probabilities)
        assert scores.pop(metric.name) == pytest.approx(float(metric.result()), rel=1e-6), kind
    assert not scores
