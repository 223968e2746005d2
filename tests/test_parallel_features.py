"""Features of images that joblib's workers encode: the same rows, each image once."""

import os

import joblib
import numpy as np
import pandas as pd
import pytest
from joblib.externals.loky.process_executor import TerminatedWorkerError
from noting import notes_folder, notes_of, noting
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from tiny_networks import textures

from hybridus import FeatureStore, audit
from hybridus.inputs.heard import heard_by

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def scans(tmp_path_factory):
    """40 files, the last two of which are equal to the first two, as paths; their pixels."""
    folder = tmp_path_factory.mktemp("scans")
    pixels = np.random.default_rng(0).integers(0, 256, (40, 12, 16), dtype=np.uint8)
    pixels[38:] = pixels[:2]
    paths = [str(folder / f"scan ({i}).png") for i in range(40)]
    for path, image in zip(paths, pixels, strict=True):
        Image.fromarray(image).save(path)
    return paths, pixels


@pytest.fixture(scope="module")
def expected(scans):
    return noting(False).fit_transform(scans[1])


@pytest.fixture
def store(tmp_path):
    """Folder of a store, with one beside it in which processes note what they encode."""
    (tmp_path / "store-notes").mkdir()
    return tmp_path / "store"


class TestRows:
    def test_workers_share_files_and_each_image_is_encoded_once(self, scans, expected, store):
        paths, _ = scans
        noting(store).fit_transform(paths[:10])
        both = noting(store, n_jobs=2).fit(paths)
        np.testing.assert_array_equal(both.transform(paths), expected)
        counts = notes_of(store)
        assert counts.pop(os.getpid()) == 10
        assert len(counts) == 2
        assert sum(counts.values()) == 28  # 40 less 10, less two that are equal to kept ones
        np.testing.assert_array_equal(both.transform(paths), expected)
        assert sum(notes_of(store).values()) == 38

    def test_arrays_are_sent_where_their_rows_are_missing(self, scans, expected, store):
        paths, pixels = scans
        noting(store).fit_transform(pixels[:10])
        ragged = [*pixels[:39], np.repeat(pixels[39][..., None], 3, axis=-1)]
        for X in (pixels, pixels / 255, ragged, pixels.reshape(40, -1), paths):
            rows = noting(store, n_jobs=2, image_shape=(12, 16)).fit_transform(X)
            np.testing.assert_array_equal(rows, expected)
            assert sum(notes_of(store).values()) == 38

    def test_without_a_store_all_are_encoded_by_workers(self, scans, expected):
        for X in scans:
            rows = noting(False, n_jobs=2).fit_transform(X)
            np.testing.assert_array_equal(rows, expected)

    def test_rows_of_workers_with_another_disk_are_kept_by_the_caller(self, scans, expected, store):
        paths, _ = scans
        elsewhere = store.with_name("store-elsewhere")
        elsewhere.mkdir()
        (elsewhere / str(os.getpid())).touch()
        np.testing.assert_array_equal(noting(store, n_jobs=2).fit_transform(paths), expected)
        assert not list(notes_folder(store).iterdir())
        assert FeatureStore(store).info()["rows"] == FeatureStore(elsewhere).info()["rows"] == 38
        np.testing.assert_array_equal(noting(store).fit_transform(paths), expected)
        assert not list(notes_folder(store).iterdir())

    def test_the_network_is_exported_once_and_sent(self, scans, store, tmp_path):
        """Workers that find it nowhere need neither weights nor Keras."""
        rows = noting(False, n_jobs=2, layers=["relu1"]).fit(scans[0])
        with joblib.parallel_config("loky", n_jobs=2, initializer=_without_keras):
            found = rows.transform(scans[0])
        assert found.shape == (40, 8)

    def test_each_view_is_spread(self, scans, store):
        alone = noting(False, views=["mirror"]).fit_transform(scans[1])
        rows = noting(store, views=["mirror"], n_jobs=2).fit_transform(scans[0])
        np.testing.assert_allclose(rows, alone, rtol=1e-6)
        assert sum(notes_of(store).values()) == 2 * 38

    def test_relative_paths_lead_to_the_same_files(self, scans, expected, store, monkeypatch):
        paths, _ = scans
        monkeypatch.chdir(os.path.dirname(paths[0]))
        names = [os.path.basename(path) for path in paths]
        np.testing.assert_array_equal(noting(store, n_jobs=2).fit_transform(names), expected)

    def test_none_obeys_what_surrounds_the_call(self, scans, expected, store):
        fitted = noting(store).fit(scans[0])
        with joblib.parallel_config("loky", n_jobs=2):
            np.testing.assert_array_equal(fitted.transform(scans[0]), expected)
        assert os.getpid() not in notes_of(store)
        with joblib.parallel_config("threading", n_jobs=2):
            rows = noting(False).fit_transform(scans[0])
        np.testing.assert_array_equal(rows, expected)

    def test_a_pipeline_predicts_by_workers(self, scans, store):
        pixels, y = textures(24, size=16)
        alone = make_pipeline(noting(False), LogisticRegression()).fit(pixels, y)
        both = make_pipeline(noting(store, n_jobs=2), LogisticRegression()).fit(pixels, y)
        np.testing.assert_array_equal(both.predict_proba(pixels), alone.predict_proba(pixels))
        assert len(notes_of(store)) == 2

    def test_a_network_that_travels_with_the_model_reaches_the_workers(self, scans, tmp_path):
        alone = noting(False).fit(scans[0])
        alone.network_ = alone._carry()
        expected = alone.transform(scans[0])
        np.testing.assert_array_equal(alone.set_params(n_jobs=2).transform(scans[0]), expected)


class TestTold:
    def test_an_unreadable_file_is_named_as_without_workers(self, scans, store, tmp_path):
        paths = list(scans[0])
        for i in (30, 35):
            paths[i] = str(tmp_path / f"broken {i}.png")
            (tmp_path / f"broken {i}.png").write_bytes(b"nothing")
        said = []
        for n_jobs in (None, 2):
            with pytest.raises(ValueError, match=r"images\[30\]: '.*broken 30.png'") as raised:
                noting(store, n_jobs=n_jobs).fit_transform(paths)
            said.append(str(raised.value))
        assert said[0] == said[1]

    def test_a_file_that_only_workers_cannot_read_is_told_apart(self, scans, monkeypatch):
        paths = [os.path.basename(path) for path in scans[0]]
        monkeypatch.chdir(os.path.dirname(scans[0][0]))
        monkeypatch.setattr("os.getcwd", lambda: "/no/such/place")
        with pytest.raises(ValueError, match="workers must find files under the same paths"):
            noting(False, n_jobs=2).fit_transform(paths)

    def test_progress_is_heard_and_shown(self, scans, store, capsys):
        heard = []
        noting(store).fit_transform(scans[0][:10])
        with heard_by(lambda *told: heard.append(told)):
            noting(store, n_jobs=2, verbose=1).fit_transform(scans[0])
        assert heard[-1] == ("image", 30, 40)
        assert "tiny features" in capsys.readouterr().err

    def test_no_workers_are_an_error_of_joblib(self, scans):
        with pytest.raises(ValueError, match="n_jobs == 0"):
            noting(False, n_jobs=0).fit_transform(scans[0])


def test_an_audit_by_workers_finds_the_same(scans, tmp_path, monkeypatch):
    monkeypatch.chdir(os.path.dirname(scans[0][0]))
    paths = [os.path.basename(path) for path in scans[0]]
    paths[7] = "none.png"
    alone, both = (audit(paths, model=None, n_jobs=n_jobs) for n_jobs in (None, 2))
    pd.testing.assert_frame_equal(both.samples, alone.samples)
    pd.testing.assert_frame_equal(both.findings, alone.findings)
    assert both.samples["error"][7] == "images[7]: 'none.png' does not exist"


def test_a_worker_that_is_killed_loses_only_what_it_was_at(scans, expected, store):
    paths, _ = scans
    fitted = noting(store, n_jobs=2).fit(paths)
    fitted.transform(paths[:8])
    kept = FeatureStore(store).info()["rows"]
    (notes_folder(store) / "victim").touch()
    with pytest.raises(TerminatedWorkerError):
        fitted.transform(paths)
    assert not (notes_folder(store) / "victim").exists()
    assert kept <= FeatureStore(store).info()["rows"] < 38
    np.testing.assert_array_equal(fitted.transform(paths), expected)
    assert 38 <= sum(notes_of(store).values()) <= 38 + 2 * 8
    np.testing.assert_array_equal(noting(store).fit_transform(paths), expected)


def _without_keras():
    import sys

    sys.modules["tensorflow"] = sys.modules["keras"] = None
