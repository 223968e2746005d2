"""Files appear whole or not at all."""

import gzip
import os

import joblib
import numpy as np
import pytest

from hybridus.inputs.files import dump_atomically, replacing


class Unpicklable:
    def __reduce__(self):
        raise RuntimeError("half way")


def test_a_dump_loads_again_and_leaves_nothing_else(tmp_path):
    path = dump_atomically({"coef": np.arange(5)}, tmp_path / "a" / "b" / "model.joblib")
    assert path == tmp_path / "a" / "b" / "model.joblib"
    np.testing.assert_array_equal(joblib.load(path)["coef"], np.arange(5))
    assert os.listdir(path.parent) == ["model.joblib"]


def test_a_dump_that_fails_leaves_the_old_file_and_nothing_else(tmp_path):
    path = dump_atomically("old", tmp_path / "model.joblib")
    with pytest.raises(RuntimeError, match="half way"):
        dump_atomically([np.zeros(10_000), Unpicklable()], path)
    assert joblib.load(path) == "old"
    assert os.listdir(tmp_path) == ["model.joblib"]


def test_readers_see_the_old_file_until_the_new_one_is_whole(tmp_path):
    path = tmp_path / "scores.csv"
    path.write_text("old", encoding="utf-8")
    with replacing(path) as temporary:
        temporary.write_text("new", encoding="utf-8")
        assert path.read_text(encoding="utf-8") == "old"
        assert temporary.parent == path.parent
    assert path.read_text(encoding="utf-8") == "new"
    assert os.listdir(tmp_path) == ["scores.csv"]


def test_the_ending_decides_the_compression(tmp_path):
    path = dump_atomically(list(range(1000)), tmp_path / "model.joblib.gz")
    with gzip.open(path) as file:
        assert len(file.read()) > path.stat().st_size
    assert joblib.load(path) == list(range(1000))


def test_new_files_have_the_mode_that_the_user_gives_files(tmp_path):
    plain = tmp_path / "plain"
    plain.write_text("x", encoding="utf-8")
    path = dump_atomically("x", tmp_path / "model.joblib")
    assert path.stat().st_mode == plain.stat().st_mode
