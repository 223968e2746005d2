"""No wrong answer in silence from encoders, engines and what they keep."""

import dataclasses
import functools
import importlib.metadata
import os
import shutil
import time
import types
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image
from sklearn.base import clone
from tiny_networks import TINY, textures

from hybridus import (
    DeepFeatureExtractor,
    EncoderSpec,
    FeatureStore,
    FineTunedClassifier,
    register_encoder,
)
from hybridus._environment import cache_folder, make_private, others_may_write
from hybridus._keras import building, keras, leaves
from hybridus.encoders import engine, registry
from hybridus.encoders.architecture import architecture_of
from hybridus.encoders.engine import KerasEngine, OpenVINOEngine, engine_version
from hybridus.encoders.frozen import freeze
from hybridus.encoders.kept import keep, kept_networks, recall
from hybridus.encoders.partition import build_rest, divide
from hybridus.encoders.registry import PREPROCESSING, Preprocessing
from hybridus.encoders.weights import locate_weights
from hybridus.exceptions import CacheWarning, FeatureStoreWarning
from hybridus.inputs.files import FileStamp, KnownFiles, stamp_file
from hybridus.inputs.images import as_images
from hybridus.training.batches import content_keys

pytestmark = pytest.mark.slow


class TestEngines:
    def test_versions_are_told_also_of_an_engine_that_is_absent(self, monkeypatch):
        assert engine_version("keras") == importlib.metadata.version("keras")

        def absent(name):
            raise importlib.metadata.PackageNotFoundError(name)

        monkeypatch.setattr(importlib.metadata, "version", absent)
        assert engine_version("openvino") is None


def frozen_of(spec, **changes):
    options = {
        "weights": "random",
        "layers": "last",
        "pooling": "avg",
        "image_size": 8,
        "resize": "stretch",
        "engine": "openvino",
        "precision": "float32",
    }
    return freeze(spec, **{**options, **changes})


def rows_of(frozen, pixels):
    engine = KerasEngine if frozen.engine == "keras" else OpenVINOEngine
    return np.concatenate(list(engine(frozen, batch_size=4).run([pixels])))


def net(input_shape, *, activation="relu", operation=None, listed=False):
    """A network of which much can be changed; its last layer has no declared name."""
    from hybridus._keras import keras

    x = pixels = keras.Input(input_shape)
    for width in (4, 6):
        x = keras.layers.Conv2D(width, 3, padding="same", activation=activation)(x)
    if operation is not None:
        x = operation(x)
    return keras.Model(pixels, [x] if listed else x)


class TestFingerprints:
    def digest(self, **options):
        """That of a builder whose name is always the same."""

        def builder(input_shape):
            return net(input_shape, **options)

        return frozen_of(EncoderSpec("net", builder, image_size=(8, 8))).fingerprint

    def test_follow_what_is_built_and_not_its_name(self):
        from hybridus._keras import keras

        class Own(keras.layers.Layer):
            factor = 2.0

            def call(self, x):
                return x * self.factor

        class Other(Own):
            factor = 3.0

        Other.__name__, Other.__qualname__ = Own.__name__, Own.__qualname__
        networks = [
            {},
            {"activation": "tanh"},
            {"activation": "silu"},
            {"activation": lambda x: x * 2.0},
            {"activation": lambda x: x * 3.0},
            {"operation": lambda x: x + np.float32(1)},
            {"operation": lambda x: x + np.float32(2)},
            {"operation": keras.layers.Lambda(lambda x: x / 2, name="own")},
            {"operation": keras.layers.Lambda(lambda x: x / 3, name="own")},
            {"operation": Own(name="own")},
            {"operation": Other(name="own")},
        ]
        digests = [self.digest(**options) for options in networks]
        assert len(set(digests)) == len(digests)
        for k in (0, 2, 5):
            assert self.digest(**networks[k]) == digests[k]

    def test_an_edited_builder_under_the_same_name_gives_its_own_rows(self, monkeypatch, tmp_path):
        monkeypatch.setattr(registry, "_REGISTRY", {})
        X, _ = textures(3)

        def rows(activation, cache):
            def builder(input_shape):
                return net(input_shape, activation=activation)

            register_encoder("net", builder, image_size=8, overwrite=True)
            extractor = DeepFeatureExtractor("net", weights="random", cache=cache)
            return extractor.fit_transform(X)

        for cache in (tmp_path, False):
            relu, tanh = rows("relu", cache), rows("tanh", cache)
            assert np.abs(relu - tanh).max() > 0.1
            np.testing.assert_array_equal(rows("relu", cache), relu)

    def test_partial_and_lambda_builders_work(self):
        X, _ = textures(3)
        builders = [
            functools.partial(net, activation="tanh"),
            lambda input_shape: net(input_shape, activation="tanh"),
        ]
        rows = []
        for builder in builders:
            spec = EncoderSpec("net", builder, image_size=(8, 8))
            extractor = DeepFeatureExtractor(spec, weights="random", cache=False)
            rows.append(clone(extractor).fit(X).transform(X))
        np.testing.assert_array_equal(*rows)
        first, second = (frozen_of(EncoderSpec("net", b)).fingerprint for b in builders)
        assert first == second

    @pytest.mark.parametrize("table", [np.zeros(5000), np.zeros((3, 3))])
    def test_options_that_do_not_show_all_of_themselves_are_told_apart(self, table):
        def scaled(input_shape, table):
            return net(input_shape, operation=lambda x: x * np.float32(1 + table.sum()))

        other = table.copy()
        other.flat[table.size // 2] = 1
        one, another, again = (
            frozen_of(EncoderSpec("net", scaled, options={"table": t})).fingerprint
            for t in (table, other, table.copy())
        )
        assert one == again != another

    def test_other_size_other_preprocessing_other_fingerprint_but_not_another_name(self):
        spec = EncoderSpec("net", net)
        base = frozen_of(spec).fingerprint
        assert frozen_of(dataclasses.replace(spec, name="other")).fingerprint == base
        assert frozen_of(spec, image_size=16).fingerprint != base
        scaled = dataclasses.replace(spec, preprocessing=PREPROCESSING["tf"])
        assert frozen_of(scaled).fingerprint != base

    def test_builders_of_keras_applications_need_no_keras(self):
        spec = register_encoder("dense", "keras.applications.DenseNet121", overwrite=True)
        try:
            assert architecture_of(spec, (32, 32)) == spec.describe()
        finally:
            registry._REGISTRY.pop("dense")

    def test_a_network_is_built_once_a_process_for_its_digest(self):
        built = []

        def builder(input_shape):
            built.append(input_shape)
            return net(input_shape)

        spec = EncoderSpec("net", builder)
        for _ in range(3):
            frozen_of(clone(DeepFeatureExtractor(spec)).encoder)
        assert built == [(8, 8, 3)]

    def test_what_was_fitted_with_another_network_is_refused(self):
        activation = ["relu"]

        def builder(input_shape):
            return net(input_shape, activation=activation[0])

        frozen = frozen_of(EncoderSpec("net", builder))

        def edited(input_shape):
            return net(input_shape, activation="tanh")

        reopened = dataclasses.replace(frozen, spec=EncoderSpec("net", edited))
        with pytest.raises(ValueError, match="the builder of 'net' makes another network"):
            KerasEngine(reopened, batch_size=1)
        old = frozen.architecture.replace("keras ", "keras 2.9+")
        with pytest.warns(UserWarning, match=r"fitted under keras 2\.9\+.*runs under keras 3"):
            KerasEngine(dataclasses.replace(frozen, architecture=old), batch_size=1)

    def test_without_tensorflow_the_configuration_tells_or_it_is_refused(self):
        from hybridus._keras import _configured, building, keras

        def told(**options):
            with building():
                return _configured(net((8, 8, 3), **options))

        assert told() == told()
        assert told() != told(activation="tanh")
        with pytest.raises(ValueError, match="which is not Keras's own"):
            told(operation=keras.layers.Lambda(lambda x: x))
        with pytest.raises(ValueError, match="which is not Keras's own"):
            told(activation=lambda x: x * 2)


class TestNetworksOfAnyForm:
    """No declared last layer, SiLU, an output in a list, models in models."""

    @pytest.mark.parametrize("listed", [False, True])
    @pytest.mark.parametrize("activation", ["relu", "silu"])
    def test_engines_agree(self, activation, listed):
        pixels = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 3), dtype=np.uint8)
        spec = EncoderSpec("net", functools.partial(net, activation=activation, listed=listed))
        layers = ["conv2d", "output"]
        expected = rows_of(frozen_of(spec, layers=layers, engine="keras"), pixels)
        rows = rows_of(frozen_of(spec, layers=layers), pixels)
        assert expected.shape == (3, 10)
        assert np.abs(rows - expected).max() < 1e-4 * np.abs(expected).max()

    def test_a_layer_may_be_asked_for_by_both_of_its_names(self):
        pixels = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 3), dtype=np.uint8)
        frozen = frozen_of(EncoderSpec("net", net), layers=["conv2d_1", "output"])
        rows = rows_of(frozen, pixels)
        np.testing.assert_array_equal(rows[:, :6], rows[:, 6:])

    @pytest.mark.parametrize(
        ("trainable", "listed"), [("none", True), ("last:1", False), ("conv2d_1", True)]
    )
    def test_can_be_fine_tuned(self, trainable, listed):
        X, y = textures(8)
        spec = EncoderSpec("net", functools.partial(net, listed=listed), image_size=(8, 8))
        classifier = FineTunedClassifier(
            spec,
            weights="random",
            trainable=trainable,
            max_epochs=1,
            validation_fraction=None,
            early_stopping=False,
            augmentation=None,
            random_state=0,
        )
        probabilities = classifier.fit(X, y).predict_proba(X)
        trained = [name for name in classifier.variables_ if name.startswith("conv")]
        assert len(trained) == {"none": 0, "last:1": 2, "conv2d_1": 2}[trainable]
        np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-6)

    def test_several_ends_of_which_one_is_the_output(self):
        spec = EncoderSpec("net", net)
        partition = divide(spec, (8, 8), ("conv2d", "output"), "none")
        assert partition.taps == ("conv2d", "output")
        assert partition.shapes == ((8, 8, 4), (8, 8, 6))
        with building():
            _inputs, outputs = build_rest(spec, (8, 8), ("conv2d", "output"), partition)
        assert [tuple(output.shape) for output in outputs] == [(None, 8, 8, 4), (None, 8, 8, 6)]

    def test_several_outputs_must_be_named(self):
        def two(input_shape):
            inner = net(input_shape)
            return type(inner)(inner.inputs, [layer.output for layer in inner.layers[1:]])

        spec = EncoderSpec("two", two)
        with pytest.raises(ValueError, match="has 2 outputs: name layers instead, such as 'conv2d"):
            KerasEngine(frozen_of(spec, engine="keras"), batch_size=1)
        assert KerasEngine(frozen_of(spec, layers=["conv2d"]), batch_size=1).widths == [4]

    @pytest.mark.parametrize("returned", [None, 3, "layer"])
    def test_a_builder_that_returns_no_network_is_refused(self, returned):
        def builder(input_shape):
            from hybridus._keras import keras

            return keras.layers.Dense(3) if returned == "layer" else returned

        with pytest.raises(ValueError, match="builder of encoder 'net' returned .*expected a func"):
            frozen_of(EncoderSpec("net", builder))

    def test_layers_of_one_name_in_nested_models_are_refused(self):
        def nested(input_shape):
            from hybridus._keras import keras

            pixels = keras.Input(input_shape)
            x = pixels
            for name in ("first", "second"):
                inner = keras.Input(x.shape[1:])
                y = keras.layers.Conv2D(3, 1, name="conv")(inner)
                x = keras.Model(inner, y, name=name)(x)
            return keras.Model(pixels, x)

        with pytest.raises(ValueError, match="layers of 'nested' share the name 'conv'"):
            KerasEngine(frozen_of(EncoderSpec("nested", nested), engine="keras"), batch_size=1)

    def test_batch_normalisation_in_a_nested_model_stays_frozen(self):
        def nested(input_shape):
            from hybridus._keras import keras

            pixels = keras.Input(input_shape)
            inner = TINY.build(input_shape[:2])
            inner.name = "inner"
            return keras.Model(pixels, inner(pixels))

        spec = EncoderSpec("nested", nested)
        partition = divide(spec, (8, 8), ("output",), "all", cut=False)
        with building():
            inputs, outputs = build_rest(spec, (8, 8), ("output",), partition)
        trained = {
            layer.name for layer in leaves(keras.Model(inputs, outputs)) if layer.trainable_weights
        }
        assert trained == {"conv1", "conv2"}

    def test_efficientnet_with_imagenet_weights_needs_the_rescaling_that_keras_adds(self):
        """(x / 255 - mean) / std, once more divided by the root of std, as Keras's own network."""
        pixels = np.random.default_rng(0).uniform(0, 255, (5, 3))
        mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
        mode = PREPROCESSING["efficientnet"]
        inside = ((pixels * mode.scale + mode.offset) / 255 - mean) / std
        np.testing.assert_allclose(inside, (pixels / 255 - mean) / std / np.sqrt(std), rtol=1e-12)
        spec = EncoderSpec("b0", "keras.applications.EfficientNetB0")
        with pytest.raises(ValueError, match="needs preprocessing='efficientnet'"):
            frozen_of(spec, weights="imagenet")

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"channels": "bgr"}, "channels='bgr': expected 'RGB' or 'BGR'"),
            ({"scale": (1.0, 2.0)}, r"scale=\(1.0, 2.0\): expected three numbers"),
            ({"offset": (0.0, 0.0, float("nan"))}, "offset=.*expected three numbers"),
        ],
    )
    def test_preprocessing_that_means_nothing_is_refused(self, changes, message):
        with pytest.raises(ValueError, match=message):
            Preprocessing(**changes)


@pytest.fixture
def cache(monkeypatch, tmp_path):
    folder = tmp_path / "cache"
    monkeypatch.setenv("HYBRIDUS_CACHE", str(folder))
    return folder


class TestWhatIsKept:
    """What is read back is what was written, or is made again, and said once."""

    def files(self, cache, frozen):
        return sorted((cache / "networks" / frozen.network_fingerprint).glob("*.npz"))

    @pytest.mark.parametrize(
        ("how", "what"),
        [
            ("a key is missing", "compiled"),
            ("garbage", "network"),
            ("other weights", "network"),
            ("other weights", "compiled"),
            ("moved", "network"),
        ],
    )
    def test_a_whole_file_that_is_not_what_it_should_be_is_made_again(self, cache, how, what):
        pixels = np.random.default_rng(0).integers(0, 256, (4, 8, 8, 3), dtype=np.uint8)
        frozen = frozen_of(EncoderSpec("net", net))
        expected = rows_of(frozen, pixels)
        compiled, network = self.files(cache, frozen)
        if what == "network":
            compiled.unlink()
        file = network if what == "network" else compiled
        with np.load(file) as stored:
            contents = {key: stored[key].copy() for key in stored}
        first = next(iter(contents))
        last = "bin" if what == "network" else "blob"
        if how == "a key is missing":
            del contents[first]
        elif how == "garbage":
            contents[first] = np.frombuffer(b"no network at all", np.uint8)
        elif how == "other weights":
            contents[last][len(contents[last]) // 2 :] ^= 1
        if how == "moved":  # a whole file of ours, but of another network
            other = frozen_of(EncoderSpec("net", functools.partial(net, activation="tanh")))
            rows_of(other, pixels)
            shutil.copy(self.files(cache, other)[0 if what == "compiled" else 1], file)
        else:
            np.savez(file, **contents)
        with pytest.warns(CacheWarning, match="cache folder .* is damaged .*made again") as told:
            np.testing.assert_array_equal(rows_of(frozen, pixels), expected)
        assert len(told) == 1
        keys = {"xml", "bin"} if what == "network" else {"blob"}
        assert recall(cache, frozen.network_fingerprint, file.stem, keys) is not None
        np.testing.assert_array_equal(rows_of(frozen, pixels), expected)

    def test_of_many_that_want_a_network_one_makes_it(self, cache, monkeypatch):
        frozen, made, export = frozen_of(EncoderSpec("net", net)), [], engine._export

        def slowly(frozen):
            made.append(frozen)
            time.sleep(0.3)
            return export(frozen)

        monkeypatch.setattr(engine, "_export", slowly)
        with ThreadPoolExecutor(4) as pool:
            found = list(pool.map(lambda _: engine.exported(frozen, cache), range(4)))
        assert len(made) == 1
        assert all(dict(one) == dict(found[0]) for one in found)
        assert [file.name for file in self.files(cache, frozen)] == ["network.npz"]

    def test_a_network_that_was_handed_over_is_used_where_nothing_can_be_kept(
        self, cache, monkeypatch, tmp_path
    ):
        pixels = np.random.default_rng(0).integers(0, 256, (4, 8, 8, 3), dtype=np.uint8)
        frozen = frozen_of(EncoderSpec("net", net))
        expected, network = rows_of(frozen, pixels), engine.carry_frozen(frozen)
        monkeypatch.setattr(engine, "_export", None)
        (tmp_path / "file").touch()
        monkeypatch.setenv("HYBRIDUS_CACHE", str(tmp_path / "file" / "cache"))
        monkeypatch.setattr(engine, "_handed", {})
        engine.hand_over(frozen, network)
        np.testing.assert_array_equal(rows_of(frozen, pixels), expected)
        monkeypatch.setenv("HYBRIDUS_CACHE", str(tmp_path / "other"))
        monkeypatch.setattr(engine, "_handed", {})
        engine.hand_over(frozen, network)
        assert recall(tmp_path / "other", frozen.network_fingerprint, "network", {"xml", "bin"})

    def test_a_network_that_openvino_cannot_read_is_made_again(self, cache):
        pixels = np.random.default_rng(0).integers(0, 256, (4, 8, 8, 3), dtype=np.uint8)
        frozen = frozen_of(EncoderSpec("net", net))
        expected = rows_of(frozen, pixels)
        self.files(cache, frozen)[0].unlink()
        keep(cache, frozen.network_fingerprint, "network", {"xml": b"<net/>", "bin": b""})
        with pytest.warns(CacheWarning, match="is damaged"):
            np.testing.assert_array_equal(rows_of(frozen, pixels), expected)

    def test_networks_lie_where_the_rows_do(self, cache, tmp_path):
        X, _ = textures(3)
        spec = EncoderSpec("net", net, image_size=(8, 8))
        chosen = tmp_path / "chosen"
        extractor = DeepFeatureExtractor(spec, weights="random", engine="openvino", cache=chosen)
        extractor.fit_transform(X)
        assert not cache.exists()
        count, n_bytes = kept_networks(chosen)
        assert count == 1
        assert n_bytes > 1000
        tag = chosen / "networks" / "CACHEDIR.TAG"
        assert tag.read_text().startswith("Signature: 8a477f597d28d172789f06886806bc55")

    def test_there_is_one_cache_folder(self, monkeypatch, tmp_path):
        for setting in (None, str(tmp_path / "there"), str(tmp_path / "up" / ".." / "here")):
            if setting is None:
                monkeypatch.delenv("HYBRIDUS_CACHE", raising=False)
            else:
                monkeypatch.setenv("HYBRIDUS_CACHE", setting)
            assert FeatureStore().location == cache_folder()
        import platformdirs

        asked = []
        monkeypatch.delenv("HYBRIDUS_CACHE")
        monkeypatch.setattr(
            platformdirs, "user_cache_dir", lambda *args, **kwargs: asked.append(kwargs) or "/c"
        )
        assert str(cache_folder()) == "/c"
        assert asked == [{"appauthor": False}]  # else Windows has hybridus\\hybridus

    @pytest.mark.skipif(not hasattr(os, "getuid"), reason="the system has no modes")
    def test_a_folder_that_others_may_write_to_is_warned_of_once(self, tmp_path):
        folder = tmp_path / "open to all"
        folder.mkdir()
        folder.chmod(0o777)
        store = FeatureStore(folder)
        with pytest.warns(CacheWarning, match="others may write .*open to all.*chmod go-w") as told:
            store.write("a", [b"k"], [[1.0]])
        make_private(folder)
        assert len(told) == 1
        mine = tmp_path / "mine"
        mine.mkdir(mode=0o755)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            make_private(mine)
        assert not others_may_write(mine)

    @pytest.mark.skipif(not hasattr(os, "getuid"), reason="the system has no modes")
    def test_a_folder_of_another_user_or_group_is_open_to_others(self, tmp_path, monkeypatch):
        import grp
        import pwd

        tmp_path.chmod(0o770)
        own = types.SimpleNamespace(gr_name="mary", gr_mem=[])
        monkeypatch.setattr(pwd, "getpwuid", lambda _: types.SimpleNamespace(pw_name="mary"))
        monkeypatch.setattr(grp, "getgrgid", lambda _: own)
        assert not others_may_write(tmp_path)
        own.gr_mem = ["mary", "paul"]
        assert others_may_write(tmp_path)

        def unknown(_):
            raise KeyError

        monkeypatch.setattr(grp, "getgrgid", unknown)
        assert others_may_write(tmp_path)
        tmp_path.chmod(0o700)
        assert not others_may_write(tmp_path)
        stranger = os.getuid() + 1
        monkeypatch.setattr(os, "getuid", lambda: stranger)
        status = types.SimpleNamespace(st_uid=stranger + 1, st_mode=0o700, st_gid=0)
        assert others_may_write(types.SimpleNamespace(stat=lambda: status))
        monkeypatch.delattr(os, "getuid")
        assert not others_may_write(tmp_path)

    def test_where_no_store_can_be_made_the_warning_says_so(self, tmp_path):
        (tmp_path / "file").touch()
        store = FeatureStore(tmp_path / "file" / "cache")
        with pytest.warns(FeatureStoreWarning, match=r"cache' cannot be made \(.*; work goes on"):
            store.lookup("a", [b"k"])


class TestKnownFiles:
    def test_a_file_that_changed_just_now_is_read_again(self, tmp_path):
        path = tmp_path / "w.bin"
        path.write_bytes(b"one")
        known = KnownFiles(10)
        stamp = stamp_file(path)
        known.remember([stamp], ["one"])
        assert known.recall([stamp, None]) == [None, None]
        settled = stamp._replace(mtime_ns=1, ctime_ns=1)
        known.remember([settled], ["one"])
        assert known.recall([settled]) == ["one"]
        assert known.recall([settled._replace(ctime_ns=2)]) == [None]
        assert stamp_file(tmp_path / "none") is None

    def test_the_number_of_files_is_bounded(self):
        known = KnownFiles(10)
        stamps = [FileStamp(str(i), 1, 1, 1) for i in range(11)]
        for i, stamp in enumerate(stamps):
            known.remember([stamp], [i])
        assert known.recall(stamps) == [None] * 10 + [10]

    def test_weights_replaced_at_the_same_size_and_time_are_other_weights(self, tmp_path):
        path = tmp_path / "w.safetensors"
        digests = []
        for content in (b"one", b"two"):
            path.write_bytes(content)
            os.utime(path, ns=(10**18, 10**18))
            digests.append(locate_weights(TINY, path).digest)
        assert digests[0] != digests[1]

    def test_an_image_replaced_at_the_same_size_and_time_is_another_image(self, tmp_path):
        path = tmp_path / "scan.png"
        keys = []
        for value in (10, 20):
            Image.fromarray(np.full((8, 8), value, np.uint8)).save(path)
            os.utime(path, ns=(10**18, 10**18))
            keys += content_keys(as_images([path]))
        assert keys[0] != keys[1]
