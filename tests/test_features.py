"""`DeepFeatureExtractor` as a transformer."""

import os
import pickle
import subprocess
import sys
import time
from collections import Counter

import joblib
import numpy as np
import pytest
from PIL import Image
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.utils._param_validation import InvalidParameterError
from tiny_networks import HALVED, TINY

from hybridus import DeepFeatureExtractor, FeatureStore, WeightsNotFoundError
from hybridus.inputs.scanner import ScannerChange

pytestmark = pytest.mark.slow


def extractor(**changes):
    options = {
        "encoder": "mobilenet_v2_0.35",
        "weights": "bundled",
        "layers": ["block_3_expand_relu", "block_1_project_BN"],
        "image_size": 32,
        "cache": False,
    }
    return DeepFeatureExtractor(**{**options, **changes})


def tiny_extractor(**changes):
    """One of a network that is built and exported in a moment."""
    tiny = {"encoder": TINY, "weights": "random", "layers": "last", "image_size": 8}
    return extractor(**{**tiny, **changes})


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).integers(0, 256, (6, 40, 56), dtype=np.uint8)


class TestRows:
    def test_every_form_of_the_images_gives_the_same_rows(self, images, tmp_path):
        expected = extractor().fit_transform(images)
        assert expected.shape == (6, 48 + 8)
        assert expected.dtype == np.float32
        paths = [tmp_path / f"scan ({i}).png" for i in range(6)]
        for path, image in zip(paths, images, strict=True):
            Image.fromarray(image).save(path)
        flat = images.reshape(6, -1)
        for X, changes in (
            (paths, {}),
            (images / 255, {}),
            (list(images), {}),
            (images[..., None], {}),
            (np.repeat(images[..., None], 3, axis=-1), {}),
            (flat, {"image_shape": (40, 56)}),
        ):
            rows = extractor(**changes).fit_transform(X)
            np.testing.assert_array_equal(rows, expected)

    def test_rows_do_not_depend_on_order_or_batch(self, images):
        expected = extractor().fit_transform(images)
        order = np.array([3, 1, 1, 5, 0])
        for batch_size in (1, 4, 64):
            rows = extractor(batch_size=batch_size).fit_transform(images[order])
            np.testing.assert_allclose(rows, expected[order], rtol=1e-4, atol=1e-8)

    def test_ragged_and_float_images_mix(self, images):
        mixed = [images[0], images[1][:30, :30], images[2] / 300]
        rows = extractor().fit_transform(mixed)
        alone = np.vstack([extractor().fit_transform([image]) for image in mixed])
        np.testing.assert_allclose(rows, alone, rtol=1e-4, atol=1e-8)

    def test_read_only_memory_maps_are_left_alone(self, images, tmp_path):
        joblib.dump(images, tmp_path / "images.joblib")
        mapped = joblib.load(tmp_path / "images.joblib", mmap_mode="r")
        rows = extractor().fit_transform(mapped)
        np.testing.assert_array_equal(rows, extractor().fit_transform(images))

    def test_padding_differs_from_stretching(self, images):
        stretched, padded = (
            extractor(resize=resize).fit_transform(images) for resize in ("stretch", "pad")
        )
        assert np.abs(stretched - padded).max() > 0.2 * np.abs(padded).max()

    def test_real_scans_with_real_weights_equal_plain_keras(self, busi_folder, real_weights):
        from hybridus._keras import keras

        paths = sorted(busi_folder.glob("normal/normal (1?).png"))[:3]
        rows = DeepFeatureExtractor("mobilenet_v2", layers="last").fit_transform(paths)
        model = keras.applications.MobileNetV2(
            include_top=False, weights=None, pooling="avg", input_shape=(224, 224, 3)
        )
        from safetensors.numpy import load_file

        stored = load_file(real_weights / "mobilenet_v2.safetensors")
        for layer in model.layers:
            for weight in layer.weights:
                weight.assign(stored[f"{layer.name}/{weight.name}"])
        pixels = [Image.open(p).convert("RGB").resize((224, 224), Image.BILINEAR) for p in paths]
        expected = model(np.stack(pixels).astype("float32") / 127.5 - 1).numpy()
        assert np.abs(rows - expected).max() < 1e-4 * np.abs(expected).max()


@pytest.fixture
def encoded(monkeypatch):
    """Number of images that went through a network, by fingerprint."""
    from hybridus.encoders import engine

    counts = Counter()
    for engine_class in (engine.KerasEngine, engine.OpenVINOEngine):
        run = engine_class.run

        def counting(self, batches, run=run):
            for rows in run(self, batches):
                counts["images"] += len(rows)
                yield rows

        monkeypatch.setattr(engine_class, "run", counting)
    return counts


def _transform_counted(asked, X):
    """Rows, and how many images this process encoded for them."""
    from hybridus.encoders.engine import OpenVINOEngine

    counts, run = Counter(), OpenVINOEngine.run

    def counting(self, batches):
        for rows in run(self, batches):
            counts["images"] += len(rows)
            yield rows

    OpenVINOEngine.run = counting
    try:
        return asked.transform(X), counts["images"]
    finally:
        OpenVINOEngine.run = run


class TestViews:
    def test_features_are_the_mean_over_the_image_and_its_views(self, images):
        gain = ScannerChange("gain", 0.5)
        given = [tiny_extractor().fit_transform(x) for x in (images, images[:, :, ::-1])]
        found = tiny_extractor(views=["mirror"]).fit_transform(images)
        np.testing.assert_allclose(found, np.mean(given, axis=0), rtol=1e-5)
        given.append(tiny_extractor().fit_transform(np.stack([gain(image) for image in images])))
        found = tiny_extractor(views=["mirror", gain]).fit_transform(images)
        np.testing.assert_allclose(found, np.mean(given, axis=0), rtol=1e-5)

    def test_each_view_is_kept_by_itself(self, images, tmp_path, monkeypatch):
        cache = str(tmp_path)
        both = tiny_extractor(views=["mirror"], cache=cache)
        rows = both.fit_transform(images)
        plain = tiny_extractor(cache=cache).fit(images)
        monkeypatch.setattr(DeepFeatureExtractor, "_open", None)
        np.testing.assert_array_equal(both.transform(images), rows)
        assert np.abs(plain.transform(images) - rows).max() > 0
        with pytest.raises(NotFittedError, match="views of this .* changed since fit"):
            both.set_params(views=[]).transform(images)

    def test_a_bar_is_shown_for_each(self, images, capfd):
        tiny_extractor(views=["mirror"], verbose=1).fit_transform(images)
        shown = capfd.readouterr().err
        assert "features, mirror" in shown

    @pytest.mark.parametrize("views", [["flip"], [3]])
    def test_others_are_refused(self, images, views):
        with pytest.raises(ValueError, match=r"kind='flip'|expected a list of 'mirror'"):
            tiny_extractor(views=views).fit(images)


class TestStore:
    def test_each_image_is_encoded_once_however_it_is_given(self, images, tmp_path, encoded):
        paths = [tmp_path / f"scan ({i}).png" for i in range(6)]
        for path, image in zip(paths, images, strict=True):
            Image.fromarray(image).save(path)
        store = tmp_path / "the store"
        expected = extractor().fit_transform(images)
        encoded.clear()
        rows = extractor(cache=store).fit_transform(images[[0, 1, 1, 2]])
        np.testing.assert_allclose(rows, expected[[0, 1, 1, 2]], rtol=1e-4, atol=1e-8)
        assert encoded["images"] == 3
        for X in (paths, list(images), images / 255, np.repeat(images[..., None], 3, axis=-1)):
            rows = extractor(cache=FeatureStore(store), batch_size=2).fit_transform(X)
            np.testing.assert_allclose(rows, expected, rtol=1e-4, atol=1e-8)
            assert encoded["images"] == 6

    def test_other_settings_are_other_rows(self, images, tmp_path, encoded):
        first = tiny_extractor(cache=tmp_path).fit_transform(images)
        for changes in ({"resize": "pad"}, {"image_size": 12}, {"pooling": "max"}):
            encoded.clear()
            assert np.abs(
                tiny_extractor(cache=tmp_path, **changes).fit_transform(images) - first
            ).max()
            assert encoded["images"] == 6

    def test_unchanged_files_are_not_read_again_and_changed_ones_are(
        self, images, tmp_path, monkeypatch
    ):
        path = tmp_path / "scan.png"
        Image.fromarray(images[0]).save(path)
        os.utime(path, (1_000_000_000, 1_000_000_000))
        now = time.time_ns  # what changed just now is not trusted
        monkeypatch.setattr("hybridus.inputs.files.time.time_ns", lambda: now() + 10**10)
        store = tmp_path / "store"
        before = extractor(cache=store).fit_transform([path])
        monkeypatch.setattr("PIL.Image.open", None)
        np.testing.assert_array_equal(extractor(cache=store).fit_transform([path]), before)
        with pytest.raises((TypeError, ValueError), match="NoneType"):
            extractor(cache=FeatureStore(store, file_entries=False)).fit_transform([path])
        monkeypatch.undo()
        Image.fromarray(images[1]).save(path)
        after = extractor(cache=store).fit_transform([path])
        np.testing.assert_array_equal(after, extractor().fit_transform(images[1:2]))

    def test_a_grid_search_encodes_each_image_once(self, images, tmp_path, encoded):
        X = np.concatenate([images, images[:, ::-1], 255 - images])
        y = np.repeat([0, 0, 1], 6)
        search = GridSearchCV(
            make_pipeline(tiny_extractor(cache=tmp_path), LogisticRegression(max_iter=200)),
            {
                "logisticregression__C": [0.1, 1, 10],
                "deepfeatureextractor__pooling": ["avg", "max"],
            },
            cv=3,
            error_score="raise",
        ).fit(X, y)
        assert search.best_score_ > 0.5
        assert encoded["images"] == 2 * 18

    def test_two_cold_workers_share_the_work(self, images, tmp_path):
        """Both want all rows; the store counts what was written, and nothing is written twice."""
        from joblib import Parallel, delayed

        X = np.concatenate([images + np.uint8(i) for i in range(30)])
        asked = extractor(cache=tmp_path / "store", image_size=96).fit(X)
        both = Parallel(n_jobs=2)(delayed(_transform_counted)(asked, X) for _ in range(2))
        np.testing.assert_array_equal(both[0][0], both[1][0])
        assert both[0][1] + both[1][1] == len(np.unique(X, axis=0))

    def test_a_missing_file_is_named(self, tmp_path):
        with pytest.raises(ValueError, match=r"images\[0\]: '.*none.png' does not exist"):
            extractor(cache=tmp_path).fit_transform([tmp_path / "none.png"])

    def test_warm_rows_need_no_network_at_all(self, images, tmp_path):
        """A fresh process, a saved model, rows in the store: no Keras, TensorFlow or OpenVINO."""
        fitted = extractor(cache=tmp_path / "store").fit(images)
        expected = fitted.transform(images)
        joblib.dump((fitted, images), tmp_path / "model.joblib")
        code = (
            "import joblib, sys; fitted, images = joblib.load(sys.argv[1]); "
            "rows = fitted.transform(images); joblib.dump(rows, sys.argv[2]); "
            "print(sorted({'tensorflow', 'keras', 'openvino'} & set(sys.modules)))"
        )
        arguments = [tmp_path / "model.joblib", tmp_path / "rows.joblib"]
        done = subprocess.run(
            [sys.executable, "-c", code, *arguments], check=True, capture_output=True, text=True
        )
        assert done.stdout == "[]\n"
        np.testing.assert_array_equal(joblib.load(tmp_path / "rows.joblib"), expected)

    def test_with_the_compiled_network_on_disk_no_keras_is_started(self, images, tmp_path):
        fitted = extractor(engine="openvino").fit(images)
        fitted.transform(images)
        joblib.dump((fitted, 255 - images), tmp_path / "model.joblib")
        code = (
            "import joblib, sys; fitted, images = joblib.load(sys.argv[1]); "
            "fitted.transform(images); "
            "print(sorted({'tensorflow', 'keras', 'openvino'} & set(sys.modules)))"
        )
        done = subprocess.run(
            [sys.executable, "-c", code, tmp_path / "model.joblib"],
            check=True,
            capture_output=True,
            text=True,
        )
        assert done.stdout == "['openvino']\n"


class TestEstimator:
    def test_feature_names_say_layer_and_pooling(self, images):
        names = extractor(pooling="max").fit(images).get_feature_names_out()
        assert len(names) == 56
        assert names[0] == "mobilenet_v2_0.35_block_3_expand_relu_max0"
        assert names[-1] == "mobilenet_v2_0.35_block_1_project_BN_max7"
        frame = extractor().set_output(transform="pandas").fit_transform(images)
        assert frame.shape == (6, 56)
        assert frame.columns[48] == "mobilenet_v2_0.35_block_1_project_BN_avg0"

    def test_changed_parameters_never_meet_a_stale_network(self, images):
        fitted = extractor(weights="random").fit(images)
        fitted.set_params(encoder=TINY, layers="last")
        with pytest.raises(NotFittedError, match="encoder, layers of this .*call fit again"):
            fitted.transform(images)
        assert fitted.fit_transform(images).shape == (6, 16)
        fitted.set_params(batch_size=2, verbose=0)
        assert fitted.transform(images).shape == (6, 16)

    def test_pickles_are_small_plain_and_stable(self, images):
        fitted = extractor().fit(images)
        expected = fitted.transform(images)
        assert len(pickle.dumps(fitted)) < 3000
        assert joblib.hash(fitted) == joblib.hash(extractor().fit(images))
        np.testing.assert_array_equal(
            pickle.loads(pickle.dumps(fitted)).transform(images), expected
        )
        np.testing.assert_array_equal(clone(fitted).fit_transform(images), expected)

    def test_another_process_computes_the_same_rows(self, images, tmp_path):
        model, data, rows = (tmp_path / f"the {name}.joblib" for name in ("model", "data", "rows"))
        fitted = extractor().fit(images)
        joblib.dump(fitted, model)
        joblib.dump(images, data)
        code = (
            "import joblib, sys; model, data, rows = sys.argv[1:]; "
            "joblib.dump(joblib.load(model).transform(joblib.load(data)), rows)"
        )
        subprocess.run([sys.executable, "-c", code, model, data, rows], check=True)
        np.testing.assert_array_equal(joblib.load(rows), fitted.transform(images))

    def test_unfitted_is_said_so(self, images):
        with pytest.raises(NotFittedError):
            extractor().transform(images)

    @pytest.mark.parametrize(
        ("changes", "error", "message"),
        [
            ({"encoder": "resnet51"}, ValueError, "unknown encoder 'resnet51'"),
            ({"layers": "all"}, InvalidParameterError, "layers"),
            ({"layers": ["no_such"]}, ValueError, "layer 'no_such' is not in this encoder"),
            ({"pooling": "mean"}, InvalidParameterError, "pooling"),
            ({"image_size": 0}, InvalidParameterError, "image_size"),
            ({"batch_size": 0}, InvalidParameterError, "batch_size"),
            (
                {"encoder": "vgg16", "weights": "bundled"},
                WeightsNotFoundError,
                "no weights for 'vgg16' ship with hybridus, only for mobilenet_v2_0.35",
            ),
            ({"weights": "/no/such/file.h5"}, WeightsNotFoundError, "no such file"),
        ],
    )
    def test_bad_parameters_are_refused_in_fit(self, images, changes, error, message):
        with pytest.raises(error, match=message):
            extractor(**changes).fit(images)

    def test_no_weights_without_network_names_the_ways_out(self, images, no_weights):
        with pytest.raises(WeightsNotFoundError, match="Ways out: .*HYBRIDUS_WEIGHTS"):
            DeepFeatureExtractor("vgg16").fit(images)

    def test_a_progress_bar_is_shown_on_standard_error_when_asked_for(self, images, capsys):
        extractor(verbose=1).fit_transform(images)
        shown = capsys.readouterr()
        assert "features" in shown.err
        assert shown.out == ""
        extractor().fit_transform(images)
        assert capsys.readouterr().err == ""

    def test_grid_search_runs_over_everything(self, images):
        X = np.concatenate([images, images[::-1], 255 - images])
        y = np.repeat([0, 0, 1], 6)
        search = GridSearchCV(
            make_pipeline(tiny_extractor(), LogisticRegression(max_iter=200)),
            [
                {
                    "deepfeatureextractor__encoder": [TINY, HALVED],
                    "deepfeatureextractor__layers": ["last", "multi"],
                },
                {
                    "deepfeatureextractor__pooling": ["avg", "gem"],
                    "deepfeatureextractor__image_size": [8, (8, 12)],
                },
            ],
            cv=2,
            error_score="raise",
        ).fit(X, y)
        assert len(search.cv_results_["params"]) == 8
        assert np.isfinite(search.cv_results_["mean_test_score"]).all()
        assert search.predict(X[:2]).shape == (2,)
