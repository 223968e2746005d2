"""The registry, the weights, the networks and the engines of frozen encoders."""

import dataclasses
import pickle
import shutil

import h5py
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from tiny_networks import TINY

from hybridus import DeepFeatureExtractor, WeightsNotFoundError, list_encoders, register_encoder
from hybridus.encoders import engine, registry
from hybridus.encoders.engine import KerasEngine, OpenVINOEngine, choose_engine, open_engine
from hybridus.encoders.frozen import freeze
from hybridus.encoders.registry import PREPROCESSING, EncoderSpec, Preprocessing, get_encoder
from hybridus.encoders.weights import draw_weights, imagenet_file, locate_weights
from hybridus.exceptions import CacheWarning

pytestmark = pytest.mark.slow

SMALL = "mobilenet_v2_0.35"


def frozen_encoder(encoder=SMALL, **changes):
    options = {
        "weights": "random",
        "layers": "multi",
        "pooling": "avg",
        "image_size": 32,
        "resize": "stretch",
        "engine": "keras",
        "precision": "float32",
    }
    return freeze(encoder, **{**options, **changes})


@pytest.fixture(scope="module")
def pixels():
    return np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), dtype=np.uint8)


def rows_of(engine, pixels, batch_size=4):
    batches = [pixels[i : i + batch_size] for i in range(0, len(pixels), batch_size)]
    return np.concatenate(list(engine.run(batches)))


@pytest.fixture
def spare_registry(monkeypatch):
    monkeypatch.setattr(registry, "_REGISTRY", dict(registry._REGISTRY))


class TestRegistry:
    def test_names_match_shell_patterns(self):
        assert list_encoders("mobilenet_v2*")[:3] == [
            "mobilenet_v2",
            "mobilenet_v2_0.35",
            "mobilenet_v2_0.5",
        ]
        assert {"vgg16", "resnet50"} <= set(list_encoders())

    def test_any_network_of_keras_applications_can_be_registered(self, spare_registry, pixels):
        spec = register_encoder(
            "tiny_nas", "keras.applications.MobileNet", preprocessing="tf", options={"alpha": 0.25}
        )
        assert spec.options == {"include_top": False, "weights": None, "alpha": 0.25}
        engine = open_engine(frozen_encoder("tiny_nas", layers="last"), batch_size=4)
        assert rows_of(engine, pixels).shape == (5, 256)

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"name": "Big Net"}, "lower-case"),
            ({"name": "vgg16"}, "registered already"),
            ({"name": "x", "preprocessing": "keras"}, "preprocessing 'keras'"),
        ],
    )
    def test_malformed_registrations_are_refused(self, spare_registry, arguments, message):
        with pytest.raises(ValueError, match=message):
            register_encoder(**{"builder": "keras.applications.VGG19", **arguments})

    def test_an_unknown_name_lists_the_known_ones(self):
        with pytest.raises(ValueError, match="'vgg17' .did you mean vgg1[69].*list_encoders"):
            get_encoder("vgg17")

    @pytest.mark.parametrize(
        ("mode", "module"),
        [("tf", "mobilenet_v2"), ("caffe", "vgg16"), ("torch", "densenet")],
    )
    def test_preprocessing_is_that_of_keras(self, mode, module, pixels):
        from hybridus._keras import keras
        from hybridus.encoders.assembly import preprocess

        expected = getattr(keras.applications, module).preprocess_input(pixels.astype("float32"))
        ours = np.asarray(preprocess(pixels.astype("float32"), PREPROCESSING[mode]))
        np.testing.assert_allclose(ours, expected, atol=2e-5)


def net_of_numbered_layers(input_shape, normalised=True):
    """Layers without names of their own, one of them in a model inside."""
    from hybridus._keras import keras

    inputs = keras.Input(input_shape)
    x = keras.layers.Conv2D(4, 3, activation="relu")(inputs)
    inside = [keras.layers.Conv2D(4, 3), keras.layers.BatchNormalization()]
    x = keras.Sequential([*inside, keras.layers.Conv2D(5, 1)], name="inside")(x)
    x = keras.layers.BatchNormalization(name="norm")(x)
    return keras.Model(inputs, x)


class TestFilesOfKeras:
    """Files in which layers have other names than here, since Keras numbers them by process."""

    @pytest.fixture
    def trained(self):
        from hybridus._keras import keras

        [keras.layers.Conv2D(1, 1) for _ in range(3)]  # what the other process made before
        net = net_of_numbered_layers((16, 16, 3))
        rng = np.random.default_rng(0)
        for variable in net.variables:
            if variable.dtype == "float32":
                variable.assign(rng.uniform(0.2, 1, variable.shape))
        return net

    def saved(self, net, path):
        if path.name.endswith(".weights.h5"):
            net.save_weights(path)
            return path
        from keras.src.legacy.saving import legacy_h5_format

        with h5py.File(path, "w") as file:
            legacy_h5_format.save_weights_to_hdf5_group(file, net)
        return path

    @pytest.mark.parametrize("name", ["net.h5", "net.weights.h5"])
    @pytest.mark.parametrize("top", [False, True])
    def test_are_read_by_the_order_of_layers_with_and_without_top(
        self, trained, tmp_path, pixels, name, top
    ):
        from hybridus._keras import keras

        whole = trained
        if top:
            x = keras.layers.GlobalAveragePooling2D()(trained.output)
            whole = keras.Model(trained.input, keras.layers.Dense(3)(x))
        path = self.saved(whole, tmp_path / name)
        spec = EncoderSpec("numbered", net_of_numbered_layers)
        frozen = frozen_encoder(spec, weights=path, layers=["inside", "norm"], image_size=16)
        found = rows_of(KerasEngine(frozen, batch_size=4), pixels[:, :16, :16])
        inside = keras.Model(trained.input, trained.layers[-1].input)
        batch = pixels[:, :16, :16].astype(np.float32)
        expected = [np.asarray(net(batch)).mean(axis=(1, 2)) for net in (inside, trained)]
        np.testing.assert_allclose(found, np.concatenate(expected, axis=1), rtol=1e-4)

    def test_of_another_network_are_refused(self, trained, tmp_path):
        path = self.saved(trained, tmp_path / "net.h5")
        frozen = frozen_encoder("vgg16", weights=path, layers="last")
        with pytest.raises(ValueError, match="has no weights for 13 layers"):
            KerasEngine(frozen, batch_size=1)
        damaged = tmp_path / "damaged.h5"
        damaged.write_bytes(path.read_bytes()[:200])
        with pytest.raises(ValueError, match="cannot be read as a weights file"):
            KerasEngine(frozen_encoder("vgg16", weights=damaged, layers="last"), batch_size=1)

    def test_are_found_under_the_names_that_keras_gives_them(self, tmp_path, monkeypatch):
        monkeypatch.setenv("HYBRIDUS_WEIGHTS", str(tmp_path))
        spec = get_encoder("efficientnet_b0")
        assert imagenet_file(spec) is None
        (tmp_path / "efficientnetb0.h5").touch()  # with its top
        assert imagenet_file(spec) == tmp_path / "efficientnetb0.h5"
        (tmp_path / "efficientnetb0_notop.h5").touch()
        assert imagenet_file(spec) == tmp_path / "efficientnetb0_notop.h5"


class TestPoolings:
    @pytest.fixture(scope="class")
    @classmethod
    def maps(cls):
        return np.random.default_rng(0).normal(size=(3, 5, 4, 6)).astype(np.float32)

    def pooled(self, maps, how):
        from hybridus.encoders.assembly import _pool

        return np.asarray(_pool(maps, how))

    def test_deviation(self, maps):
        np.testing.assert_allclose(
            self.pooled(maps, "std"), maps.std(axis=(1, 2)), rtol=1e-5, atol=1e-6
        )

    def test_pyramid_has_the_whole_and_overlapping_quarters(self, maps):
        halves = [(slice(0, 3), slice(2, 5)), (slice(0, 2), slice(2, 4))]
        parts = [maps, *(maps[:, r, c] for r in halves[0] for c in halves[1])]
        expected = np.concatenate([part.mean(axis=(1, 2)) for part in parts], axis=1)
        np.testing.assert_allclose(self.pooled(maps, "pyramid"), expected, rtol=1e-4, atol=1e-6)

    def test_gram_has_the_upper_half_of_the_mean_products(self, maps):
        products = np.einsum("nhwc,nhwd->ncd", maps, maps) / 20
        upper = products[:, *np.triu_indices(6)]
        expected = np.sign(upper) * np.sqrt(np.abs(upper))
        np.testing.assert_allclose(self.pooled(maps, "gram"), expected, rtol=1e-3, atol=1e-4)
        wide = np.random.default_rng(0).normal(size=(1, 3, 3, 100)).astype(np.float32)
        assert self.pooled(wide, "gram").shape == (1, 64 * 65 // 2)

    def test_several_stand_side_by_side(self, maps):
        several = self.pooled(maps, "avg+max+std")
        apart = [self.pooled(maps, how) for how in ("avgmax", "std")]
        np.testing.assert_array_equal(several, np.concatenate(apart, axis=1))

    def test_both_engines_know_them(self, pixels):
        how = ["gem", "std", "gram", "pyramid"]
        frozen = frozen_encoder(layers=["block_6_project_BN"], pooling=how, engine="openvino")
        keras_engine = KerasEngine(dataclasses.replace(frozen, engine="keras"), batch_size=4)
        expected = rows_of(keras_engine, pixels)
        assert expected.shape == (5, 24 + 24 + 24 * 25 // 2 + 5 * 24)
        found = rows_of(open_engine(frozen, batch_size=4), pixels)
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())

    @pytest.mark.parametrize("how", ["mean", [], ["avg", "avg"], ["avg", "median"]])
    def test_others_are_refused(self, how):
        with pytest.raises(ValueError, match="expected one of avg, max, avgmax"):
            frozen_encoder(pooling=how)


class TestFingerprint:
    def test_everything_that_decides_a_row_changes_it(self, spare_registry):
        base = frozen_encoder()
        spec = dataclasses.replace(base.spec, preprocessing=Preprocessing())
        others = [
            frozen_encoder(layers="last"),
            frozen_encoder(layers=["out_relu", "block_6_project_BN"]),
            frozen_encoder(pooling="max"),
            frozen_encoder(image_size=(32, 48)),
            frozen_encoder(image_size=(48, 32)),
            frozen_encoder(resize="pad"),
            frozen_encoder(engine="openvino"),
            frozen_encoder(engine="openvino", precision="bfloat16"),
            frozen_encoder("mobilenet_v2"),
            frozen_encoder(spec),
            dataclasses.replace(base, digest="sha256:0"),
        ]
        assert len({other.fingerprint for other in [base, *others]}) == len(others) + 1
        assert frozen_encoder().fingerprint == base.fingerprint

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"layers": "block_6_project_BN"}, r"layers=.*as \['block_6_project_BN'\]"),
            ({"layers": []}, "one or more different layer names"),
            ({"layers": ["out_relu", "out_relu"]}, "one or more different layer names"),
            ({"image_size": (32, 32, 3)}, "image_size="),
            ({"weights": 3}, "weights=3"),
        ],
    )
    def test_what_cannot_be_resolved_is_refused(self, changes, message):
        with pytest.raises(ValueError, match=message):
            frozen_encoder(**changes)

    def test_an_unknown_layer_is_named(self):
        with pytest.raises(ValueError, match="layer 'conv99' is not in this encoder"):
            KerasEngine(frozen_encoder(layers=["conv99"]), batch_size=1)


class TestWeights:
    def test_random_weights_are_alike_however_deep_the_cut(self, pixels):
        shallow = open_engine(frozen_encoder(layers=["block_6_project_BN"]), batch_size=4)
        deep = open_engine(frozen_encoder(layers="multi"), batch_size=4)
        np.testing.assert_allclose(
            rows_of(shallow, pixels), rows_of(deep, pixels)[:, :24], rtol=1e-4, atol=1e-5
        )

    def test_random_kernels_are_drawn_as_keras_draws_them(self):
        from hybridus._keras import keras

        shapes = {"kernel": (3, 3, 64, 128), "depthwise/kernel": (3, 3, 512, 1), "bias": (128,)}
        drawn = draw_weights("conv", shapes)
        for name in ("kernel", "depthwise/kernel"):
            theirs = np.asarray(keras.initializers.GlorotUniform(seed=0)(shapes[name]))
            assert abs(np.abs(drawn[name]).max() / np.abs(theirs).max() - 1) < 0.01
            assert abs(drawn[name].std() / theirs.std() - 1) < 0.05
        assert not drawn["bias"].any()
        assert (draw_weights("bn", {"gamma": (5,)})["gamma"] == 1).all()

    def test_every_file_format_gives_keras_own_features(self, tmp_path, pixels):
        from hybridus._keras import building, keras

        with building():
            model = keras.applications.MobileNetV2(
                include_top=False, weights=None, alpha=0.35, input_shape=(32, 32, 3)
            )
        rng = np.random.default_rng(0)
        for layer in model.layers:
            for variable in layer.weights:  # batch norm's too, or order mistakes stay unseen
                variable.assign(np.abs(rng.normal(0.5, 0.2, variable.shape)).astype("float32"))
        model.get_layer("Conv1").kernel.assign(model.get_layer("Conv1").kernel - 0.5)
        tap = keras.Model(model.inputs[0], model.get_layer("block_6_project_BN").output)
        expected = np.asarray(tap(pixels / 127.5 - 1)).mean(axis=(1, 2))

        arrays = {f"{w.path.split('/')[-2]}/{w.name}": np.asarray(w) for w in model.weights}
        save_file(arrays, tmp_path / "net (1).safetensors")
        model.save_weights(tmp_path / "net.weights.h5")
        with h5py.File(tmp_path / "net.h5", "w") as file:  # as Keras 2 wrote them
            layers = [layer for layer in model.layers if layer.weights]
            file.attrs["layer_names"] = [layer.name.encode() for layer in layers]
            for layer in layers:
                group = file.create_group(layer.name)
                names = [f"{layer.name}/{w.name}:0" for w in layer.weights]
                group.attrs["weight_names"] = [name.encode() for name in names]
                for name, weight in zip(names, layer.weights, strict=True):
                    group[name] = np.asarray(weight)
        for name in ("net (1).safetensors", "net.weights.h5", "net.h5"):
            frozen = frozen_encoder(layers=["block_6_project_BN"], weights=tmp_path / name)
            rows = rows_of(open_engine(frozen, batch_size=4), pixels)
            np.testing.assert_allclose(rows, expected, rtol=2e-4, err_msg=name)

    def test_a_file_that_ends_at_the_cut_is_enough(self, real_weights, tmp_path):
        arrays = load_file(real_weights / f"{SMALL}.safetensors")
        kept = {
            k: v
            for k, v in arrays.items()
            if k.startswith(("Conv1", "bn_", "expanded", "block_1_"))
        }
        save_file(kept, tmp_path / "top.safetensors")
        frozen = frozen_encoder(layers=["block_1_project_BN"], weights=tmp_path / "top.safetensors")
        assert KerasEngine(frozen, batch_size=1).widths == [8]
        deeper = frozen_encoder(layers=["block_2_add"], weights=tmp_path / "top.safetensors")
        with pytest.raises(
            ValueError, match=r"no weights for \d+ layers .*from 'block_2_expand' on"
        ):
            KerasEngine(deeper, batch_size=1)

    def test_resnet50_without_its_last_stage_serves_multi_only(self, real_weights):
        frozen = frozen_encoder("resnet50", weights="imagenet", layers="last")
        with pytest.raises(ValueError, match="'conv5_block1_1_conv' on; the deepest .*'conv4"):
            KerasEngine(frozen, batch_size=1)

    def test_a_file_of_another_architecture_is_refused(self, real_weights, tmp_path):
        frozen = frozen_encoder("mobilenet_v2", weights=real_weights / f"{SMALL}.safetensors")
        with pytest.raises(ValueError, match=r"Conv1/kernel .*belongs to another architecture"):
            KerasEngine(frozen, batch_size=1)
        for name in ("broken.safetensors", "broken.h5"):
            (tmp_path / name).write_bytes(b"no weights at all")
            with pytest.raises(ValueError, match=f"{name}' cannot be read as a weights file"):
                KerasEngine(frozen_encoder(weights=tmp_path / name), batch_size=1)
        (tmp_path / "net.pt").touch()
        with pytest.raises(ValueError, match="expected one of .safetensors"):
            frozen_encoder(weights=tmp_path / "net.pt")

    def test_missing_imagenet_weights_list_places_and_ways_out(
        self, no_weights, monkeypatch, tmp_path
    ):
        monkeypatch.setenv("HYBRIDUS_WEIGHTS", f"{tmp_path}/a:{tmp_path}/b")
        with pytest.raises(WeightsNotFoundError) as caught:
            locate_weights(get_encoder("vgg16"), "imagenet")
        message = str(caught.value)
        for part in (
            f"{tmp_path}/a, {tmp_path}/b",
            "vgg16.safetensors",
            str(no_weights / "models" / "vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5"),
            "URL fetch failure",
            "weights=PATH",
            "weights='random'",
        ):
            assert part in message

    def test_kerass_cache_is_searched_after_our_folders(self, no_weights, monkeypatch, tmp_path):
        cached = no_weights / "models" / "vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5"
        cached.parent.mkdir(parents=True)
        cached.write_bytes(b"from keras")
        assert locate_weights(get_encoder("vgg16"), "imagenet").path == cached
        folder = tmp_path / "weights"
        folder.mkdir()
        (folder / "vgg16.safetensors").write_bytes(b"ours")
        monkeypatch.setenv("HYBRIDUS_WEIGHTS", str(folder))
        assert locate_weights(get_encoder("vgg16"), "imagenet").path.parent == folder

    def test_a_download_by_keras_is_found_afterwards(self, no_weights, monkeypatch):
        cached = no_weights / "models" / "vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5"

        def download(self):
            cached.parent.mkdir(parents=True)
            cached.write_bytes(b"downloaded")

        monkeypatch.setattr(registry.EncoderSpec, "download", download)
        assert locate_weights(get_encoder("vgg16"), "imagenet").path == cached

    def test_bundled_weights_need_nothing_else_and_are_checked(self, no_weights, monkeypatch):
        source = locate_weights(get_encoder(SMALL), "bundled")
        assert source.digest == get_encoder(SMALL).bundled
        with pytest.raises(WeightsNotFoundError, match="weights='bundled' ships with hybridus"):
            locate_weights(get_encoder(SMALL), "imagenet")
        other = dataclasses.replace(get_encoder(SMALL), bundled="sha256:other")
        with pytest.raises(ValueError, match="is damaged: it has digest"):
            locate_weights(other, "bundled")

    @pytest.mark.parametrize("weights", ["imagnet", "weights/none.h5"])
    def test_a_path_that_does_not_exist_is_an_error(self, weights):
        with pytest.raises(WeightsNotFoundError, match="no such file exists"):
            locate_weights(get_encoder(SMALL), weights)

    def test_other_weights_under_the_same_name_are_an_error(self, real_weights, tmp_path):
        file = tmp_path / "w.safetensors"
        shutil.copy(real_weights / f"{SMALL}.safetensors", file)
        frozen = frozen_encoder(weights=file)
        KerasEngine(frozen, batch_size=1)
        arrays = load_file(file)
        save_file({**arrays, "Conv1/kernel": arrays["Conv1/kernel"] * 2}, file)
        with pytest.raises(ValueError, match="but the extractor was fitted with sha256:"):
            KerasEngine(frozen, batch_size=1)


class TestPooling:
    def test_poolings_follow_their_formulas(self, pixels):
        def rows(pooling):
            frozen = frozen_encoder(TINY, layers=["relu1"], pooling=pooling)
            return rows_of(open_engine(frozen, batch_size=4), pixels)

        flat = rows("flatten").reshape(5, -1, 8)
        np.testing.assert_allclose(rows("avg"), flat.mean(axis=1), rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(rows("max"), flat.max(axis=1), rtol=1e-5)
        np.testing.assert_allclose(rows("avgmax"), np.hstack([rows("avg"), rows("max")]), rtol=1e-5)
        gem = (np.maximum(flat, 1e-6) ** 3).mean(axis=1) ** (1 / 3)
        np.testing.assert_allclose(rows("gem"), gem, rtol=1e-3, atol=1e-5)


class TestEngines:
    # Branches that meet again, and a plain row of layers; others differ in width and number.
    @pytest.mark.parametrize("encoder", [SMALL, "vgg16"])
    def test_openvino_equals_keras_for_every_graph(self, encoder, pixels):
        keras_rows, openvino_rows = (
            rows_of(open_engine(frozen_encoder(encoder, engine=engine), batch_size=4), pixels)
            for engine in ("keras", "openvino")
        )
        scale = np.abs(keras_rows).max()
        assert np.abs(keras_rows - openvino_rows).max() < 1e-4 * scale

    def test_rows_do_not_depend_on_the_batch(self, pixels):
        for engine_class in (KerasEngine, OpenVINOEngine):
            name = "keras" if engine_class is KerasEngine else "openvino"
            engine = engine_class(frozen_encoder(TINY, engine=name), batch_size=4)
            together = rows_of(engine, pixels)
            assert np.isfinite(together).all()
            alone = np.concatenate([rows_of(engine, pixels[i : i + 1]) for i in range(5)])
            np.testing.assert_allclose(together, alone, rtol=1e-5, atol=1e-6)

    def test_float_pixels_go_through_unrounded(self, pixels):
        for name in ("keras", "openvino"):
            engine = open_engine(frozen_encoder(TINY, engine=name), batch_size=4)
            rows = rows_of(engine, pixels)
            scale = np.abs(rows).max()
            same = rows_of(engine, pixels.astype(np.float32))
            assert np.abs(same - rows).max() < 1e-5 * scale
            shifted = rows_of(engine, pixels.astype(np.float32) + np.float32(0.4))
            assert np.abs(shifted - same).max() > 1e-3 * scale

    def test_bfloat16_is_close_and_never_the_default(self, pixels):
        exact, coarse = (
            rows_of(
                open_engine(frozen_encoder(engine="openvino", precision=p), batch_size=4), pixels
            )
            for p in ("float32", "bfloat16")
        )
        assert 0 <= np.abs(exact - coarse).max() < 0.05 * np.abs(exact).max()

    def test_the_choice_is_honoured_or_refused(self, monkeypatch):
        assert choose_engine("keras", "float32") == "keras"
        assert choose_engine("auto", "bfloat16") == "openvino"
        with pytest.raises(ValueError, match="needs engine='openvino'"):
            choose_engine("keras", "bfloat16")
        monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
        assert choose_engine("auto", "float32") == "keras"
        with pytest.raises(ImportError, match="needs the package openvino"):
            choose_engine("openvino", "float32")

    def test_auto_takes_bfloat16_where_the_processor_has_it_and_keeps_to_it(
        self, pixels, monkeypatch
    ):
        asked = {"weights": "random", "layers": "last", "image_size": 8, "cache": False}
        for has_it, expected in ((False, "float32"), (True, "bfloat16")):
            monkeypatch.setattr(engine, "has_bfloat16", lambda has_it=has_it: has_it)
            assert engine.resolve_precision("auto", "openvino") == expected
            assert engine.resolve_precision("auto", "keras") == "float32"
            fitted = DeepFeatureExtractor(TINY, precision="auto", **asked).fit(pixels)
            assert fitted.frozen_.precision == expected
            plain = DeepFeatureExtractor(TINY, precision=expected, **asked).fit(pixels)
            assert plain.frozen_.fingerprint == fitted.frozen_.fingerprint
            monkeypatch.setattr(engine, "has_bfloat16", lambda has_it=has_it: not has_it)
            rows = pickle.loads(pickle.dumps(fitted)).transform(pixels)  # on another machine
            np.testing.assert_array_equal(rows, plain.transform(pixels))

    def test_bfloat16_is_warned_of_once_where_the_processor_lacks_it(self, pixels, monkeypatch):
        monkeypatch.setattr(engine, "_told", [])
        monkeypatch.setattr(engine, "has_bfloat16", lambda: False)
        half = DeepFeatureExtractor(TINY, weights="random", precision="bfloat16", cache=False)
        with pytest.warns(UserWarning, match="costs accuracy and is no faster") as told:
            half.fit(pixels)
        half.fit(pixels)
        assert len(told) == 1
        assert told[0].filename == __file__
        assert half.frozen_.precision == "bfloat16"
        monkeypatch.setattr(engine, "_told", [])
        monkeypatch.setattr(engine, "has_bfloat16", lambda: True)
        half.fit(pixels)

    def test_the_processor_is_asked_for_bfloat16(self, monkeypatch):
        class Core:
            def get_property(self, device, name):
                return self.said

        for Core.said, flags, expected in (
            (["FP32", "BF16"], "flags : fpu avx512f avx512_bf16", True),
            (["FP32", "BF16"], "flags\t: fpu avx512f", False),
            (["FP32", "BF16"], "Features : asimd bf16", True),
            (["FP32", "INT8"], "flags : amx_bf16", False),
        ):
            monkeypatch.setattr(engine, "_core", Core)
            monkeypatch.setattr(engine.Path, "read_text", lambda path, flags=flags: flags)
            assert engine.has_bfloat16.__wrapped__() is expected

    @pytest.mark.parametrize("damaged", ["network", "compiled"])
    @pytest.mark.parametrize("truncated", [True, False])
    def test_a_damaged_network_on_disk_is_made_again(
        self, pixels, damaged, truncated, monkeypatch, tmp_path
    ):
        monkeypatch.setenv("HYBRIDUS_CACHE", str(tmp_path / "cache (1)"))
        frozen = frozen_encoder(engine="openvino", layers=["block_1_project_BN"])
        expected = rows_of(OpenVINOEngine(frozen, batch_size=4), pixels)
        folder = tmp_path / "cache (1)" / "networks" / frozen.network_fingerprint
        assert folder.parent.stat().st_mode & 0o77 == 0
        assert len(list(folder.glob("*"))) == 3  # compiled for batches and for a single image
        if damaged == "network":
            for file in folder.glob("compiled*.npz"):
                file.unlink()
        for file in folder.glob(f"{damaged}*.npz"):
            content = bytearray(file.read_bytes())
            assert content
            file.chmod(0o600)
            if truncated:
                del content[len(content) // 2 :]
            else:
                content[len(content) // 2] ^= 0x55
            file.write_bytes(content)
        with pytest.warns(CacheWarning, match="is damaged .*it is made again"):
            again = rows_of(OpenVINOEngine(frozen, batch_size=4), pixels)
        np.testing.assert_allclose(again, expected, rtol=1e-6)

    def test_a_folder_that_cannot_be_written_is_done_without(self, pixels, monkeypatch, tmp_path):
        (tmp_path / "file").touch()
        frozen = frozen_encoder(engine="openvino", layers=["block_1_project_BN"])
        expected = rows_of(OpenVINOEngine(frozen, batch_size=4), pixels)
        monkeypatch.setenv("HYBRIDUS_CACHE", str(tmp_path / "file" / "cache"))
        rows = rows_of(OpenVINOEngine(frozen, batch_size=4), pixels)
        np.testing.assert_array_equal(rows, expected)

    def test_the_pool_of_open_networks_is_bounded(self):
        from hybridus.encoders import engine

        for size in range(32, 32 + 8 * 4, 4):
            frozen = frozen_encoder(TINY, layers=["relu1"], image_size=size)
            open_engine(frozen, batch_size=1)
        assert len(engine._pool) == engine._MOST_ENGINES


def test_a_row_of_keras_applications_downloads_nothing_and_takes_any_size():
    row = EncoderSpec("small", "keras.applications.MobileNetV3Small", options={"alpha": 0.75})
    assert row.options == {"include_top": False, "weights": None, "alpha": 0.75}
    assert EncoderSpec("own", "tiny_networks.build_tiny").options == {}
