"""``hybridus cache``."""

import numpy as np
import pytest
from typer.testing import CliRunner

from hybridus import FeatureStore
from hybridus.cli import app
from hybridus.encoders.kept import keep


@pytest.fixture
def filled(tmp_path):
    folder = tmp_path / "cache (1)"
    store = FeatureStore(folder)
    for name, count in (("aaaa-encoder", 3), ("abbb-encoder", 2)):
        keys = [f"{name}{i}".encode() for i in range(count)]
        store.write(name, keys, np.ones((count, 4), np.float32))
    keep(folder, "f" * 64, "network", {"xml": bytes(2048), "bin": b""})
    keep(folder, "e" * 64, "compiled-0123456789abcdef", {"blob": bytes(1024)})
    return folder


def run(*arguments):
    return CliRunner().invoke(app, ["cache", *map(str, arguments)])


def test_info_says_what_is_kept_and_where(filled):
    shown = run("info", "--folder", filled).output
    assert "rows      5 in" in shown
    assert "networks  2 in 4 KiB" in shown
    assert "aaaa-encoder  3 rows of 4 values" in shown
    assert "cache (1)" in shown


def test_info_of_nothing_makes_nothing(tmp_path):
    done = run("info", "--folder", tmp_path / "none")
    assert (done.exit_code, "rows      0" in done.output) == (0, True)
    assert not (tmp_path / "none").exists()


def test_clear_deletes_rows_and_networks(filled):
    said = run("clear", "--folder", filled).output
    assert said == f"5 rows and 2 networks of 4 KiB deleted in {filled}\n"
    assert FeatureStore(filled).info()["rows"] == 0
    assert not (filled / "networks").exists()


def test_clear_deletes_nothing_that_is_not_ours(filled):
    networks = filled / "networks"
    theirs = [
        networks / "thesis.keras",
        networks / "mine" / "network.npz",
        networks / ("f" * 64) / "notes.txt",
        filled / "data" / "scan.png",
    ]
    for path in theirs:
        path.parent.mkdir(exist_ok=True)
        path.write_text("theirs")
    said = run("clear", "--folder", filled).output
    assert "5 rows and 2 networks" in said
    for path in (networks / "mine", networks / "thesis.keras", networks / ("f" * 64)):
        assert f"left, since it is not ours: {path}\n" in said
    assert all(path.read_text() == "theirs" for path in theirs)
    assert not (networks / ("f" * 64) / "network.npz").exists()


def test_clear_leaves_a_folder_that_has_our_names_but_not_our_mark(tmp_path):
    file = tmp_path / "networks" / ("f" * 64) / "network.npz"
    file.parent.mkdir(parents=True)
    file.write_text("theirs")
    assert "0 rows and 0 networks" in run("clear", "--folder", tmp_path).output
    assert file.read_text() == "theirs"
    assert "networks  0 in 0 B" in run("info", "--folder", tmp_path).output


def test_clear_of_one_fingerprint_leaves_the_others(filled):
    done = run("clear", "--fingerprint", "a", "--folder", filled)
    assert done.exit_code == 2
    assert "begins 2 fingerprints" in done.output
    assert "3 rows deleted" in run("clear", "--fingerprint", "aa", "--folder", filled).output
    assert FeatureStore(filled).info()["rows"] == 2


def test_verify_counts(filled):
    done = run("verify", "--folder", filled)
    assert (done.exit_code, done.output) == (0, "5 rows checked, 0 bad ones removed\n")
