"""Which layers are trained, where the encoder is cut, and that both parts make up the whole."""

import dataclasses
import functools

import numpy as np
import pytest
from safetensors.numpy import save_file
from tiny_networks import TINY, UNNAMED

from hybridus._keras import building, keras
from hybridus.encoders.assembly import build_network, leaves
from hybridus.encoders.engine import KerasEngine
from hybridus.encoders.frozen import freeze
from hybridus.encoders.partition import build_rest, divide
from hybridus.encoders.registry import PREPROCESSING, EncoderSpec, get_encoder
from hybridus.encoders.weights import draw_weights
from hybridus.training.networks.classifier import load_encoder

pytestmark = pytest.mark.slow

MOBILENET, RESNET, VGG = "mobilenet_v2_0.35", "resnet50", "vgg16"
LAST = {
    MOBILENET: ("out_relu",),
    RESNET: ("conv4_block6_out",),
    VGG: ("block5_pool",),
}
SEVERAL = ("conv2_block3_out", "conv3_block4_out")


def cut(encoder, trainable, ends=None, size=64):
    return divide(get_encoder(encoder), (size, size), ends or LAST[encoder], trainable)


@pytest.fixture(scope="class")
def built_once():
    """Networks whose graphs alone are looked at are built once, which takes a second or two."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(EncoderSpec, "build", functools.cache(EncoderSpec.build))
        yield


@pytest.mark.usefixtures("built_once")
class TestCut:
    @pytest.mark.parametrize(
        ("encoder", "trainable", "n_trained", "taps"),
        [
            (MOBILENET, "none", 0, ("out_relu",)),
            (MOBILENET, "last:1", 1, ("Conv_1_bn",)),
            (MOBILENET, "last:20", 20, ("block_14_add",)),
            (MOBILENET, "block_16", 8, ("block_15_add",)),
            (MOBILENET, "block_1_", 9, ("expanded_conv_project_BN",)),
            (VGG, "last:4", 4, ("block4_pool",)),
            (VGG, "block5", 4, ("block4_pool",)),
            (VGG, "block3_conv2", 1, ("block3_conv1",)),
            (RESNET, "conv4_block6", 10, ("conv4_block5_out",)),
        ],
    )
    def test_is_as_deep_as_the_trained_layers_allow(self, encoder, trainable, n_trained, taps):
        partition = cut(encoder, trainable)
        assert len(partition.trained) == n_trained
        assert partition.taps == taps

    @pytest.mark.parametrize("encoder", [MOBILENET, VGG, RESNET])
    def test_is_at_the_pixels_where_the_first_layers_are_trained(self, encoder):
        for trainable in ("first:10", "all"):
            partition = cut(encoder, trainable)
            assert partition.taps == partition.shapes == ()
        assert len(cut(encoder, "first:10").trained) == 9  # the input is the tenth
        assert len(cut(encoder, "all").trained) > 17

    def test_has_a_tap_for_each_branch_that_crosses_it(self):
        """The skip connection of a residual block goes round the layers that are trained."""
        partition = cut(RESNET, "last:3")
        assert partition.taps == ("conv4_block5_out", "conv4_block6_3_conv")
        assert partition.shapes == ((4, 4, 1024), (4, 4, 1024))
        assert partition.trained == {"conv4_block6_3_bn", "conv4_block6_add", "conv4_block6_out"}
        partition = cut(MOBILENET, "block_15_add")
        assert partition.taps == ("block_14_add", "block_15_project_BN")

    def test_keeps_ends_that_lie_before_it(self):
        assert cut(RESNET, "last:3", SEVERAL).taps == (
            "conv2_block3_out",
            "conv3_block3_out",
            "conv3_block4_3_conv",
        )
        assert cut(RESNET, "none", SEVERAL).taps == SEVERAL
        assert cut(RESNET, "conv2_block3", SEVERAL).taps == ("conv2_block2_out",)

    def test_layers_are_counted_down_to_the_deepest_end(self):
        assert "conv3_block4_out" in cut(RESNET, "last:1", SEVERAL).trained
        assert len(cut(VGG, "all", ("block1_pool",)).trained) == 3

    def test_can_be_forced_to_the_pixels(self):
        spec = get_encoder(MOBILENET)
        partition = divide(spec, (64, 64), LAST[MOBILENET], "last:20", cut=False)
        assert partition.taps == ()
        assert partition.trained == cut(MOBILENET, "last:20").trained

    def test_shapes_follow_the_image_size(self):
        spec = get_encoder(MOBILENET)
        assert divide(spec, (64, 96), LAST[MOBILENET], "none").shapes == ((2, 3, 1280),)

    @pytest.mark.parametrize(
        "trainable", ["some", "first:0", "last:-1", "first:", "last:x", "", "None", "block_99"]
    )
    def test_what_names_no_layer_is_an_error_that_lists_layers(self, trainable):
        with pytest.raises(ValueError, match="trainable=.*'none', 'all', 'first:K'") as raised:
            cut(MOBILENET, trainable)
        assert f"trainable={trainable!r}" in str(raised.value)
        assert "which has Conv1, " in str(raised.value)
        assert str(raised.value).endswith("out_relu")

    def test_more_layers_than_there_are_is_all_of_them(self):
        assert cut(VGG, "last:999").trained == cut(VGG, "all").trained
        assert cut(VGG, "first:999").trained == cut(VGG, "all").trained


def frozen_encoder(encoder, size, ends, weights="random"):
    return freeze(
        encoder,
        weights=weights,
        layers=ends,
        pooling="flatten",
        image_size=size,
        resize="stretch",
        engine="keras",
        precision="float32",
    )


def build_loaded_rest(frozen, partition, **options):
    with building():
        inputs, outputs = build_rest(
            frozen.spec, frozen.image_size, frozen.taps, partition, **options
        )
        rest = keras.Model(inputs, outputs)
        load_encoder(rest, frozen)
    return rest


def listed(outputs):
    outputs = outputs if isinstance(outputs, list) else [outputs]
    return [np.asarray(output) for output in outputs]


class TestParts:
    @pytest.mark.parametrize(
        ("encoder", "ends", "size", "trainable"),
        [
            (MOBILENET, ("out_relu",), (32, 48), "last:20"),
            (MOBILENET, ("block_3_expand_relu",), (32, 32), "first:10"),
            (MOBILENET, ("block_1_expand_relu", "block_2_add"), (32, 32), "last:3"),
            (VGG, ("block3_conv3", "block4_conv3"), (32, 32), "block4"),
            (VGG, ("block3_pool",), (32, 32), "none"),
        ],
    )
    def test_together_are_the_whole(self, encoder, ends, size, trainable):
        frozen = frozen_encoder(encoder, size, ends)
        partition = divide(frozen.spec, size, ends, trainable)
        pixels = np.random.default_rng(0).integers(0, 256, (3, *size, 3), dtype=np.uint8)
        whole = listed(build_network(frozen).predict_on_batch(pixels.astype(np.float32)))
        crossing = pixels.astype(np.float32)
        if partition.taps:
            prefix = KerasEngine(dataclasses.replace(frozen, taps=partition.taps), batch_size=4)
            crossing = next(iter(prefix.run([pixels])))
            assert crossing.shape[1] == sum(map(np.prod, partition.shapes))
        outputs = listed(build_loaded_rest(frozen, partition).predict_on_batch(crossing))
        assert len(outputs) == len(whole) == len(ends)
        for output, expected in zip(outputs, whole, strict=True):
            assert output.ndim == 4
            scale = np.abs(expected).max()
            assert scale > 0
            assert np.abs(output.reshape(3, -1) - expected).max() < 1e-4 * scale

    def test_ends_that_all_lie_in_the_prefix_are_handed_on(self):
        frozen = frozen_encoder(TINY, None, ("relu1", "relu2"))
        partition = divide(TINY, (8, 8), ("relu2", "relu1"), "none")
        rest = build_loaded_rest(frozen, partition)
        rows = np.arange(2 * (128 + 64), dtype=np.float32).reshape(2, -1)
        relu1, relu2 = listed(rest.predict_on_batch(rows))
        assert not rest.weights
        np.testing.assert_array_equal(relu1.reshape(2, -1), rows[:, :128])
        np.testing.assert_array_equal(relu2.reshape(2, -1), rows[:, 128:])

    def test_only_trained_layers_are_trainable(self):
        frozen = frozen_encoder(MOBILENET, (32, 32), ("block_3_expand_relu",))
        partition = divide(frozen.spec, (32, 32), frozen.taps, "block_1_", cut=False)
        rest = build_loaded_rest(frozen, partition, pretrained=False)
        trainable = {layer.name for layer in leaves(rest) if layer.trainable_weights}
        assert trainable == {
            f"block_1_{part}"
            for part in (
                "expand",
                "expand_BN",
                "depthwise",
                "depthwise_BN",
                "project",
                "project_BN",
            )
        }


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory):
    """Weights of the tiny encoder in a file, with telling statistics of batch normalisation."""
    with building():
        network = TINY.build((8, 8))
    rng = np.random.default_rng(0)
    stored = {}
    for layer in network.layers:
        shapes = {v.name: tuple(v.shape) for v in layer.weights}
        for name, value in draw_weights(layer.name, shapes, seed=1).items():
            stored[f"{layer.name}/{name}"] = value
    stored["bn1/moving_mean"] = rng.normal(size=8).astype(np.float32)
    stored["bn1/moving_variance"] = rng.uniform(0.5, 2, 8).astype(np.float32)
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    save_file(stored, path)
    return path


class TestBatchNormalisation:
    @pytest.fixture
    def pixels(self):
        return np.random.default_rng(0).integers(0, 256, (16, 8, 8, 3)).astype(np.float32)

    def rest(self, weights, *, trainable="all", pretrained):
        frozen = frozen_encoder(TINY, None, ("relu2",), weights)
        partition = divide(TINY, (8, 8), ("relu2",), trainable, cut=False)
        return build_loaded_rest(frozen, partition, pretrained=pretrained)

    def test_of_pretrained_layers_infers_while_training(self, pretrained, pixels):
        rest = self.rest(pretrained, pretrained=True)
        before = rest.get_layer(index=-1).get_layer("bn1").get_weights()
        training, inference = (listed(rest(pixels, training=mode))[0] for mode in (True, False))
        np.testing.assert_array_equal(training, inference)
        after = rest.get_layer(index=-1).get_layer("bn1").get_weights()
        np.testing.assert_array_equal(np.stack(after), np.stack(before))
        names = {variable.path for variable in rest.trainable_variables}
        assert names == {"conv1/kernel", "conv1/bias", "conv2/kernel", "conv2/bias"}

    def test_of_random_layers_that_are_trained_takes_the_batch(self, pixels):
        rest = self.rest("random", pretrained=False)
        training, inference = (listed(rest(pixels, training=mode))[0] for mode in (True, False))
        assert np.abs(training - inference).max() > 0.1
        mean = rest.get_layer(index=-1).get_layer("bn1").moving_mean
        assert np.abs(np.asarray(mean)).max() > 0.001
        assert {"bn1/gamma", "bn1/beta"} <= {v.path for v in rest.trainable_variables}

    def test_of_random_layers_that_are_frozen_infers(self, pixels):
        rest = self.rest("random", trainable="last:2", pretrained=False)
        training, inference = (listed(rest(pixels, training=mode))[0] for mode in (True, False))
        np.testing.assert_array_equal(training, inference)


class TestNames:
    def test_that_keras_numbers_are_alike_in_every_build(self):
        """Else what `divide` chose would name no layer of the network that is trained."""
        spec = EncoderSpec("net", UNNAMED.builder, image_size=(8, 8))
        partitions = [divide(spec, (8, side), ("output",), "all") for side in (8, 12, 16)]
        assert partitions[0].trained == {"conv2d", "conv2d_1"}
        assert len({partition.trained for partition in partitions}) == 1
        frozen = frozen_encoder(spec, None, ("output",))
        rest = build_loaded_rest(frozen, partitions[0], pretrained=False)
        assert len(rest.trainable_variables) == 4

    def test_of_keras_applications_too(self):
        """DenseNet numbers its paddings, EfficientNet its normalisation."""
        spec = EncoderSpec(
            "efficient",
            "keras.applications.EfficientNetV2B0",
            options={"include_top": False, "weights": None},
            preprocessing=PREPROCESSING["none"],
        )
        names = []
        for _ in range(2):
            with building():
                names.append([layer.name for layer in spec.build((32, 32)).layers])
        assert names[0] == names[1]
        assert "normalization" in names[0]

    def test_of_the_users_own_networks_go_on_as_they_would(self):
        first = keras.layers.Dense(1).name
        with building():
            assert keras.layers.Dense(1).name == "dense"
        number = int(first.partition("_")[2] or 0)
        assert keras.layers.Dense(1).name == f"dense_{number + 1}"
