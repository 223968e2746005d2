"""``hybridus cache``."""

import numpy as np
import pytest
from typer.testing import CliRunner

from hybridus import FeatureStore
from hybridus.cli import app


@pytest.fixture
def filled(tmp_path):
    folder = tmp_path / "cache (1)"
    store = FeatureStore(folder)
    for name, count in (("aaaa-encoder", 3), ("abbb-encoder", 2)):
        keys = [f"{name}{i}".encode() for i in range(count)]
        store.write(name, keys, np.ones((count, 4), np.float32))
    (folder / "networks" / "f").mkdir(parents=True)
    (folder / "networks" / "f" / "network.npz").write_bytes(bytes(2048))
    return folder


def run(*arguments):
    return CliRunner().invoke(app, ["cache", *map(str, arguments)])


def test_info_says_what_is_kept_and_where(filled):
    shown = run("info", "--folder", filled).output
    assert "rows      5 in" in shown
    assert "networks  1 in 2 KiB" in shown
    assert "aaaa-encoder  3 rows of 4 values" in shown
    assert "cache (1)" in shown


def test_info_of_nothing_makes_nothing(tmp_path):
    done = run("info", "--folder", tmp_path / "none")
    assert (done.exit_code, "rows      0" in done.output) == (0, True)
    assert not (tmp_path / "none").exists()


def test_clear_deletes_rows_and_networks(filled):
    assert "5 rows and 2 KiB of networks deleted" in run("clear", "--folder", filled).output
    assert FeatureStore(filled).info()["rows"] == 0
    assert not (filled / "networks").exists()


def test_clear_of_one_fingerprint_leaves_the_others(filled):
    done = run("clear", "--fingerprint", "a", "--folder", filled)
    assert done.exit_code == 2
    assert "begins 2 fingerprints" in done.output
    assert "3 rows deleted" in run("clear", "--fingerprint", "aa", "--folder", filled).output
    assert FeatureStore(filled).info()["rows"] == 2


def test_verify_counts(filled):
    done = run("verify", "--folder", filled)
    assert (done.exit_code, done.output) == (0, "5 rows checked, 0 bad ones removed\n")
