"""Dask: a cluster encodes what is missing, each image once, and lazy collections stay lazy."""

import os

import joblib
import numpy as np
import pandas as pd
import pytest
from noting import notes_folder, notes_of, noting
from PIL import Image
from sklearn.base import clone
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from tiny_networks import textures

from hybridus import FeatureStore, compare

da = pytest.importorskip("dask.array")
dd = pytest.importorskip("dask.dataframe")
distributed = pytest.importorskip("distributed")


@pytest.fixture(scope="module")
def scans(tmp_path_factory):
    """40 files as paths, their pixels and labels."""
    folder = tmp_path_factory.mktemp("scans")
    pixels, y = textures(40, size=16)
    paths = [str(folder / f"scan ({i}).png") for i in range(40)]
    for path, image in zip(paths, pixels, strict=True):
        Image.fromarray(image).save(path)
    return paths, pixels, y


@pytest.fixture(scope="module")
def expected(scans):
    return noting(False).fit_transform(scans[1])


@pytest.fixture(scope="module")
def cluster():
    """Two workers of one thread, and a client of theirs."""
    options = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": ":0"}
    with distributed.LocalCluster(**options) as started, distributed.Client(started) as client:
        yield client


@pytest.fixture
def store(tmp_path):
    """Folder of a store, with one beside it in which processes note what they encode."""
    (tmp_path / "store-notes").mkdir()
    return tmp_path / "store"


@pytest.mark.slow
class TestCluster:
    def test_workers_encode_each_image_once_and_the_caller_none(
        self, cluster, scans, expected, store
    ):
        for X in scans[:2]:
            with joblib.parallel_config("dask"):
                rows = noting(store).fit_transform(X)
            np.testing.assert_array_equal(rows, expected)
            counts = notes_of(store)
            assert os.getpid() not in counts
            assert len(counts) == 2
            assert sum(counts.values()) == 40

    def test_a_search_encodes_each_image_once(self, cluster, scans, store):
        paths, _, y = scans
        steps = [noting(store), LogisticRegression(max_iter=200)]
        search = GridSearchCV(
            make_pipeline(*steps),
            {"logisticregression__C": [0.1, 1, 10]},
            cv=4,
            error_score="raise",
        )
        with joblib.parallel_config("dask"):
            search.fit(paths, y)
        assert sum(notes_of(store).values()) == 40
        scores = search.cv_results_["mean_test_score"]
        alone = clone(search).set_params(estimator__noting__cache=False).fit(paths, y)
        np.testing.assert_array_equal(alone.cv_results_["mean_test_score"], scores)

    def test_compare_runs_its_folds_there_and_goes_on_where_it_stopped(
        self, cluster, scans, store, tmp_path
    ):
        paths, _, y = scans
        models = {
            "frozen": make_pipeline(noting(store), LogisticRegression(max_iter=200)),
            "dummy": DummyClassifier(),
        }
        options = {"groups": "independent", "n_splits": 4, "study": tmp_path / "study"}
        with joblib.parallel_config("dask"):
            found = compare(models, paths, y, **options)
        assert os.getpid() not in notes_of(store)
        assert sum(notes_of(store).values()) == 40
        again = compare(models, paths, y, **options)
        pd.testing.assert_frame_equal(again.table, found.table)
        assert sum(notes_of(store).values()) == 40

    def test_an_unreadable_file_is_named(self, cluster, scans, store, tmp_path):
        paths = [*scans[0][:30], str(tmp_path / "none.png"), *scans[0][30:]]
        with (
            joblib.parallel_config("dask"),
            pytest.raises(ValueError, match=r"images\[30\]: .*none"),
        ):
            noting(store).fit_transform(paths)

    def test_a_worker_that_is_killed_loses_nothing(self, cluster, scans, expected, store):
        before = set(cluster.run(os.getpid).values())
        (notes_folder(store) / "victim").touch()
        with joblib.parallel_config("dask"):
            rows = noting(store).fit_transform(scans[0])
        np.testing.assert_array_equal(rows, expected)
        assert not (notes_folder(store) / "victim").exists()
        counts = notes_of(store)
        assert 40 <= sum(counts.values()) <= 45  # the chunk under way once more
        assert FeatureStore(store).info()["rows"] == 40
        assert not set(counts) <= before or len(counts) == 2


class TestLazy:
    def test_arrays_become_arrays(self, scans, expected, store):
        _, pixels, _ = scans
        lazy = da.from_array(pixels, chunks=(16, 8, 16))
        extractor = noting(store).fit(lazy)
        assert extractor.n_features_in_ == 256
        found = extractor.transform(lazy)
        assert not list(notes_folder(store).iterdir())
        assert (found.shape, found.dtype, found.chunks) == (
            (40, 16),
            np.float32,
            ((16, 16, 8), (16,)),
        )
        np.testing.assert_array_equal(found.compute(scheduler="sync"), expected)
        assert sum(notes_of(store).values()) == 40

    def test_colour_and_flattened_rows_too(self, scans, expected):
        _, pixels, _ = scans
        colour = np.repeat(pixels[..., None], 3, axis=-1)
        for X in (pixels[..., None], colour, pixels.reshape(40, -1), pixels / 255):
            lazy = da.from_array(X, chunks=(30, *[-1] * (X.ndim - 1)))
            found = noting(False).fit_transform(lazy)
            np.testing.assert_array_equal(found.compute(scheduler="sync"), expected)

    def test_paths_become_tables_with_their_index(self, scans, expected):
        column = pd.Series(scans[0], index=np.arange(100, 140), name="file")
        names = noting(False).fit(scans[0]).get_feature_names_out()
        table = pd.DataFrame(expected, columns=names, index=column.index)
        for X in (column, column.to_frame()):
            lazy = dd.from_pandas(X, npartitions=3)
            found = noting(False).fit_transform(lazy)
            assert list(found.columns) == list(names)
            assert set(found.dtypes) == {np.dtype("float32")}
            pd.testing.assert_frame_equal(found.compute(scheduler="sync"), table)
        lazy = da.from_array(np.array(scans[0], dtype=object), chunks=15)
        found = noting(False).fit_transform(lazy)
        np.testing.assert_array_equal(found.compute(scheduler="sync"), expected)

    def test_an_empty_partition_has_no_rows(self, scans):
        lazy = dd.from_pandas(pd.Series(scans[0]), npartitions=2)
        found = noting(False).fit_transform(lazy[lazy.str.contains("(3)", regex=False)])
        assert found.compute(scheduler="sync").shape == (1, 16)

    def test_errors_say_which_block_they_came_from(self, scans):
        pixels = scans[1].astype(float) / 255
        pixels[25] *= 300
        lazy = da.from_array(pixels, chunks=(10, -1, -1))
        found = noting(False).fit_transform(lazy)
        with pytest.raises(ValueError, match=r"images\[5\] has values up to") as raised:
            found.compute(scheduler="sync")
        assert raised.value.__notes__ == ["in block 2 of the Dask array, which begins at image 20"]
        paths = dd.from_pandas(pd.Series(["/none.png", *scans[0]]), npartitions=2)
        with pytest.raises(ValueError, match="none.png") as raised:
            noting(False).fit_transform(paths).compute(scheduler="sync")
        assert raised.value.__notes__ == ["in partition 0 of the Dask collection"]

    def test_what_holds_no_images_is_refused_before_anything_is_computed(self, scans):
        pixels = scans[1]
        numbers = dd.from_pandas(pd.DataFrame({"a": [1.0], "b": [2.0]}), npartitions=1)
        for X, said in (
            (numbers, "2 columns"),
            (numbers["a"], "a Dask Series of float64"),
            (da.from_array(pixels[0, 0]), "a Dask array of shape"),
            (da.from_array(pixels).to_delayed().ravel()[0], "a Delayed of Dask"),
        ):
            with pytest.raises(ValueError, match=said):
                noting(False).fit(X)
        asked = noting(False).set_output(transform="pandas")
        with pytest.raises(ValueError, match="set_output asks for a table in memory"):
            asked.fit_transform(da.from_array(pixels))
