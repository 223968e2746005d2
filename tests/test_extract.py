"""`extract` and `hybridus extract`: features of image files as a Parquet data set."""

import json
import os
import shutil
import signal
import subprocess
import sys

import joblib
import numpy as np
import pandas as pd
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from PIL import Image
from sklearn.pipeline import Pipeline, make_union
from sklearn.preprocessing import StandardScaler
from typer.testing import CliRunner

from hybridus import (
    DeepFeatureExtractor,
    FeatureStore,
    SpeckleFilter,
    TextureFeatures,
    extract,
    make_breast_phantoms,
)
from hybridus.cli import app
from hybridus.extraction.parts import part_files, read_note
from hybridus.extraction.recipe import digest_of_rows
from hybridus.inputs.heard import heard_by
from hybridus.inputs.images import as_images, content_key

N = 14
NAMES = ("normal", "malignant", "benign")


def small(**settings):
    settings = {"weights": "bundled", "image_size": 32, "cache": False, **settings}
    return DeepFeatureExtractor("mobilenet_v2_0.35", **settings)


def run(*arguments):
    return CliRunner().invoke(app, list(map(str, arguments)))


@pytest.fixture(scope="module")
def scans(tmp_path_factory):
    """Class folders whose names have spaces and parentheses."""
    root = tmp_path_factory.mktemp("many scans (1)")
    phantoms = make_breast_phantoms(N, image_size=32, random_state=0)
    for i, (image, label) in enumerate(zip(phantoms.images, phantoms.target, strict=True)):
        folder = root / NAMES[label]
        folder.mkdir(exist_ok=True)
        Image.fromarray(image).save(folder / f"{NAMES[label]} ({i}).png")
    return root


@pytest.fixture(scope="module")
def files(scans):
    return [str(file) for file in sorted(scans.glob("*/*.png"))]


@pytest.fixture
def textures():
    return TextureFeatures(kinds=["intensity"], cache=False)


def contents(folder):
    return {file.name: pq.read_table(file) for file in part_files(folder)}


def test_rows_are_those_of_transform_in_their_order(files, tmp_path):
    labels = [os.path.basename(os.path.dirname(file)) for file in files]
    extractor = small().fit(files)
    done = extract(
        files, tmp_path / "rows.parquet", extractor=extractor, labels=labels, part_size=5
    )
    table = pd.read_parquet(done.path)
    names = list(extractor.get_feature_names_out())
    assert list(table.columns) == ["file", "key", "digest", "label", *names]
    assert (table.dtypes[names] == np.float32).all()
    np.testing.assert_array_equal(table[names].to_numpy(), extractor.transform(files))
    assert table["file"].tolist() == files
    assert table["label"].tolist() == labels
    assert table["key"].tolist() == [content_key(image).hex() for image in as_images(files)]
    assert set(table["digest"]) == {extractor.frozen_.fingerprint} == {done.digest}
    assert (done.n_rows, done.n_new, done.n_features) == (N, N, len(names))
    assert sorted(os.listdir(done.path)) == [f"part-0000{i}.parquet" for i in range(3)]


@pytest.mark.filterwarnings("ignore:The inplace keyword:DeprecationWarning")  # Dask's own
def test_arrow_and_dask_read_it_as_one_table(files, textures, tmp_path):
    dd = pytest.importorskip("dask.dataframe")
    done = extract(files, tmp_path / "rows.parquet", extractor=textures, part_size=4)
    assert ds.dataset(done.path).count_rows() == N
    assert pq.read_table(done.path, columns=["file"]).column("file").to_pylist() == files
    lazy = dd.read_parquet(done.path)
    assert lazy.npartitions == 4
    assert lazy["file"].compute(scheduler="sync").tolist() == files


@pytest.mark.slow
def test_killed_and_called_again_it_ends_with_the_same_parts(files, textures, tmp_path):
    extract(files, tmp_path / "whole.parquet", extractor=textures, part_size=2)
    out = tmp_path / "killed.parquet"
    program = (
        "import json, os, signal, sys\n"
        "import hybridus.extraction.extract as e\n"
        "from hybridus import TextureFeatures\n"
        "write, written = e.parts.write_part, []\n"
        "def dying(file, table, note):\n"
        "    if len(written) == 3:\n"
        "        (file.parent / '.0123abcd-part-00003.parquet').write_bytes(b'half')\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "    written.append(write(file, table, note))\n"
        "e.parts.write_part = dying\n"
        "files, out = json.loads(sys.argv[1])\n"
        "e.extract(files, out, extractor=TextureFeatures(kinds=['intensity'], cache=False), "
        "part_size=2)\n"
    )
    killed = subprocess.run([sys.executable, "-c", program, json.dumps([files, str(out)])])
    assert killed.returncode == -signal.SIGKILL
    assert len(part_files(out)) == 3
    done = extract(files, out, extractor=textures, part_size=2)
    assert done.n_new == N - 6
    assert contents(out) == contents(tmp_path / "whole.parquet")
    assert sorted(os.listdir(out)) == sorted(contents(out))


def test_only_parts_of_changed_or_damaged_files_are_made_again(scans, textures, tmp_path):
    files = []
    for i in range(6):
        files.append(str(tmp_path / f"{i}.png"))
        Image.new("L", (32, 32), 40 * i).save(files[-1])
    out = tmp_path / "rows.parquet"
    assert extract(files, out, extractor=textures, part_size=2).n_new == 6
    assert extract(files, out, extractor=textures, part_size=2).n_new == 0
    Image.new("L", (32, 32), 255).save(files[3])
    os.utime(files[3], ns=(1, 1))
    part_files(out)[2].write_bytes(b"damaged")
    assert extract(files, out, extractor=textures, part_size=2).n_new == 4
    means = pd.read_parquet(out)["intensity_mean"] * 255
    np.testing.assert_allclose(means, [0, 40, 80, 255, 160, 200], atol=1e-3)


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"extractor": TextureFeatures(kinds=["lbp"], cache=False)}, "another encoder"),
        ({"part_size": 3}, "another size of parts"),
        ({"labels": ["a"] * N}, "other labels or columns"),
        ({"paths": "fewer"}, "another list of files"),
        (
            {"extractor": TextureFeatures(kinds=["intensity"], cache=False, value_range=(0, 255))},
            "another value_range",
        ),
    ],
)
def test_what_was_asked_for_otherwise_is_refused(files, textures, tmp_path, changed, says):
    out = tmp_path / "rows.parquet"
    asked = {"paths": files, "extractor": textures, "part_size": 7}
    extract(out=out, **asked)
    before = contents(out)
    other = asked | changed
    if other["paths"] == "fewer":
        other["paths"] = files[:-1]
    with pytest.raises(ValueError, match=f"{says}.*overwrite"):
        extract(out=out, **other)
    assert contents(out) == before
    done = extract(out=out, **other, overwrite=True)
    assert done.n_new == len(other["paths"]) == len(pd.read_parquet(out))


def test_folders_with_other_contents_are_left_alone(files, textures, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match=r"notes.txt.*a folder of its own"):
        extract(files, tmp_path, extractor=textures, overwrite=True)
    assert os.listdir(tmp_path) == ["notes.txt"]
    with pytest.raises(ValueError, match="is a file"):
        extract(files, tmp_path / "notes.txt", extractor=textures)


def test_files_that_cannot_be_read_have_no_row_and_are_told(files, textures, tmp_path):
    bad = tmp_path / "bad (1).png"
    bad.write_bytes(b"no picture")
    asked = [*files[:3], str(bad), str(tmp_path / "absent.png"), *files[3:]]
    labels = np.arange(len(asked))
    out = tmp_path / "rows.parquet"
    with pytest.warns(UserWarning, match=r"2 of 16 files could not be read"):
        done = extract(asked, out, extractor=textures, labels=labels, part_size=4)
    assert [file for file, _ in done.unreadable] == asked[3:5]
    assert "cannot be decoded" in done.unreadable[0][1]
    assert "does not exist" in done.unreadable[1][1]
    table = pd.read_parquet(out)
    assert table["file"].tolist() == files
    assert table["label"].tolist() == [*labels[:3], *labels[5:]]
    with pytest.warns(UserWarning, match="2 of 16"):  # also where no part is made anew
        again = extract(asked, out, extractor=textures, labels=labels, part_size=4)
    assert (again.n_new, again.unreadable) == (0, done.unreadable)


def test_a_part_of_unreadable_files_is_an_empty_one(files, textures, tmp_path):
    asked = [str(tmp_path / "1.png"), str(tmp_path / "2.png"), *files[:2]]
    with pytest.warns(UserWarning, match="2 of 4"):
        done = extract(asked, tmp_path / "rows.parquet", extractor=textures, part_size=2)
    assert pd.read_parquet(done.path)["file"].tolist() == files[:2]


def test_rows_in_the_store_are_used_and_none_are_added(files, tmp_path):
    store = FeatureStore(tmp_path / "store")
    extractor = small(cache=store).fit(files)
    rows = extractor.transform(files[:4])
    before = store.info()["rows"]
    rows[:] = 7  # what only the store could have
    store.clear()
    store.write(extractor.frozen_.fingerprint, [content_key(i) for i in as_images(files[:4])], rows)
    reading = small(cache=FeatureStore(tmp_path / "store", read_only=True))
    done = extract(files, tmp_path / "rows.parquet", extractor=reading)
    table = pd.read_parquet(done.path).iloc[:, 3:].to_numpy()
    assert (table[:4] == 7).all()
    assert not (table[4:] == 7).all(axis=1).any()
    assert store.info()["rows"] == before == 4
    # A store that knows the files gives their keys without opening them.
    small(cache=store).fit(files).transform(files)
    keys = pd.read_parquet(done.path)["key"].tolist()
    assert keys == [content_key(image).hex() for image in as_images(files)]


def test_a_store_that_is_only_read_makes_no_folder(tmp_path):
    store = FeatureStore(tmp_path / "none", read_only=True)
    rows = store.rows("encoder", [b"a", b"b"], lambda places: np.ones((len(places), 3)))
    assert rows.shape == (2, 3)
    assert store.lookup("encoder", [b"a"])[1].tolist() == [False]
    assert store.claim("encoder", [b"a"]).tolist() == [True]
    assert not (tmp_path / "none").exists()


def test_pipelines_and_unions_of_what_learns_nothing_are_taken(files, textures, tmp_path):
    pipe = Pipeline([("calm", SpeckleFilter()), ("features", textures)])
    done = extract(files, tmp_path / "pipe.parquet", extractor=pipe)
    expected = pipe.fit(files).transform(files)
    table = pd.read_parquet(done.path)
    np.testing.assert_array_equal(table.iloc[:, 3:].to_numpy(), expected)
    assert table["key"].tolist() == [content_key(image).hex() for image in as_images(files)]
    assert done.digest != digest_of_rows(textures)
    union = make_union(textures, TextureFeatures(kinds=["lbp"], cache=False))
    both = extract(files, tmp_path / "union.parquet", extractor=union)
    assert both.n_features == done.n_features + 20
    with pytest.raises(TypeError, match="StandardScaler may learn from images"):
        extract(
            files, tmp_path / "x", extractor=Pipeline([("f", textures), ("s", StandardScaler())])
        )


def test_a_digest_is_what_decides_rows_and_nothing_else(files):
    plain = small().fit(files[:1])
    same = small(batch_size=3, cache=True).fit(files[:1])
    assert digest_of_rows(plain) == digest_of_rows(same)
    mirrored = small(views=["mirror"]).fit(files[:1])
    assert (
        len({digest_of_rows(one) for one in (plain, mirrored, small(image_size=48).fit(files))})
        == 3
    )
    cached = TextureFeatures(kinds=["lbp"], cache=True)
    assert digest_of_rows(cached) == digest_of_rows(TextureFeatures(kinds=["lbp"], cache=False))


def test_wrong_requests_are_told(files, textures, tmp_path):
    out = tmp_path / "rows.parquet"
    with pytest.raises(ValueError, match="images in memory"):
        extract(np.zeros((2, 8, 8)), out, extractor=textures)
    with pytest.raises(ValueError, match="empty list"):
        extract([], out, extractor=textures)
    with pytest.raises(ValueError, match=r"'label' has shape \(2,\), expected \(14,\)"):
        extract(files, out, extractor=textures, labels=["a", "b"])
    with pytest.raises(ValueError, match="'key' is a column of the data set itself"):
        extract(files, out, extractor=textures, columns={"key": files})
    with pytest.raises(ValueError, match="'intensity_mean' would be there twice"):
        extract(files, out, extractor=textures, columns={"intensity_mean": files})
    with pytest.raises(ValueError, match="part_size=0"):
        extract(files, out, extractor=textures, part_size=0)
    assert not out.exists()


def test_workers_make_the_same_parts(files, textures, tmp_path):
    missing = str(tmp_path / "absent.png")
    asked = [*files[:7], missing, *files[7:]]
    with pytest.warns(UserWarning, match="1 of 15"):
        alone = extract(asked, tmp_path / "alone.parquet", extractor=textures, part_size=4)
    with pytest.warns(UserWarning, match="1 of 15"), joblib.parallel_config("threading"):
        spread = extract(
            asked, tmp_path / "spread.parquet", extractor=textures, part_size=4, n_jobs=2
        )
    assert contents(alone.path) == contents(spread.path)
    assert alone.unreadable == spread.unreadable


def test_it_tells_how_far_it_is(files, textures, tmp_path):
    told = []
    with heard_by(lambda *said: told.append(said)):
        extract(files, tmp_path / "rows.parquet", extractor=textures, part_size=5)
    assert [said for said in told if said[0] == "file"] == [
        ("file", done, N) for done in (0, 5, 10, 14)
    ]


def test_each_part_says_of_how_many_it_is_one(files, textures, tmp_path):
    done = extract(files, tmp_path / "rows.parquet", extractor=textures, part_size=5)
    notes = [read_note(file) for file in part_files(done.path)]
    assert [note["n_rows"] for note in notes] == [5, 5, 4]
    assert {(note["n_parts"], note["n_files"]) for note in notes} == {(3, N)}


SMALL = ("--encoder", "texture", "--no-cache")


def test_the_command_takes_class_folders(scans, tmp_path):
    out = tmp_path / "my rows.parquet"
    done = run("extract", scans, "--out", out, *SMALL, "--part-size", 5)
    assert done.exit_code == 0, done.output
    table = pd.read_parquet(out)
    assert table["label"].value_counts().to_dict() == {
        name: len(list((scans / name).iterdir())) for name in NAMES
    }
    assert "images   14; label is one of" in done.stdout
    again = run("extract", scans, "--out", out, *SMALL, "--part-size", 5)
    assert "(14 were there)" in again.stdout
    other = run("extract", scans, "--out", out, *SMALL, "--part-size", 6)
    assert other.exit_code == 2
    assert "--overwrite" in other.stderr
    assert run("extract", scans, "--out", out, *SMALL, "--overwrite").exit_code == 0


def test_the_command_takes_an_encoder(files, tmp_path):
    options = ("--encoder", "mobilenet_v2_0.35", "--weights", "bundled", "--image-size", 32)
    out = tmp_path / "rows.parquet"
    done = run(
        *("extract", *files[:3], "--out", out, *options, "--layers", "block_6_expand_relu"),
        *("--pooling", "max", "--resize", "pad"),
    )
    assert done.exit_code == 0, done.output
    table = pd.read_parquet(out)
    extractor = small(layers=["block_6_expand_relu"], pooling="max", resize="pad")
    expected = extractor.fit_transform(files[:3])
    np.testing.assert_array_equal(table.iloc[:, 3:].to_numpy(), expected)
    assert "label" not in table
    texture = run(
        "extract", *files, "--encoder", "texture", "--pooling", "max", "--out", tmp_path / "x"
    )
    assert texture.exit_code == 2
    assert "--pooling: for encoders" in texture.stderr


def test_the_command_takes_a_list_with_its_columns(files, scans, tmp_path):
    listed = scans / "listed.csv"
    names = [os.path.relpath(file, scans) for file in files]
    patients = [f"00{i}" for i in range(N)]
    pd.DataFrame({"filename": names, "patient": patients, "label": ["x", "y"] * 7}).to_csv(
        listed, index=False
    )
    try:
        done = run("extract", listed, "--out", tmp_path / "rows.parquet", *SMALL)
    finally:
        listed.unlink()
    assert done.exit_code == 0, done.output
    table = pd.read_parquet(tmp_path / "rows.parquet")
    assert list(table.columns[:5]) == ["file", "key", "digest", "label", "patient"]
    assert table["patient"].tolist() == patients
    assert table["label"].tolist() == ["x", "y"] * 7
    plain = tmp_path / "paths.txt"
    plain.write_text("\n".join(files) + "\n")
    assert run("extract", plain, "--out", tmp_path / "more.parquet", *SMALL).exit_code == 0
    assert pd.read_parquet(tmp_path / "more.parquet")["file"].tolist() == files


def test_the_command_lists_what_it_could_not_read_and_says_so(files, tmp_path):
    bad = tmp_path / "bad (1).png"
    bad.write_bytes(b"no picture")
    out = tmp_path / "rows.parquet"
    done = run("extract", bad, *files[:2], "--out", out, *SMALL)
    assert done.exit_code == 1
    assert "1 of 3 files could not be read" in done.stderr
    table = pd.read_csv(tmp_path / "rows.unreadable.csv")
    assert table["file"].tolist() == [str(bad)]
    assert len(pd.read_parquet(out)) == 2
    Image.new("L", (32, 32)).save(bad)
    assert run("extract", bad, *files[:2], "--out", out, *SMALL).exit_code == 0
    assert not (tmp_path / "rows.unreadable.csv").exists()
    assert len(pd.read_parquet(out)) == 3


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (["nowhere"], "no such file"),
        (["empty"], "no images in"),
        (["without.csv"], "no column 'path' or 'filename'"),
        (["without.csv", "empty"], "a list of images stands alone"),
        (["absent.txt"], "no such file"),
    ],
)
def test_the_command_says_what_it_cannot_take(tmp_path, monkeypatch, given, says):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "without.csv").write_text("image,label\n1.png,a\n")
    done = run("extract", *given, *SMALL)
    assert done.exit_code == 2, done.output
    assert says in " ".join(done.stderr.split())
    assert not (tmp_path / "rows.parquet").exists()


def test_without_pyarrow_it_says_what_to_install(files, monkeypatch, tmp_path):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"pip install 'hybridus\[rows\]'"):
        extract(files, tmp_path / "rows.parquet")
    done = run("extract", *files, "--out", tmp_path / "rows.parquet")
    assert done.exit_code == 2
    assert "hybridus[rows]" in done.stderr


def test_names_that_are_no_text_are_written_by_their_code(files, textures, tmp_path):
    odd = os.path.join(tmp_path, "caf\udce9.png")
    shutil.copy(files[0], odd)
    done = extract(
        [files[1], odd], tmp_path / "rows.parquet", extractor=textures, labels=["a", odd]
    )
    rows = pd.read_parquet(done.path)
    assert rows["file"].tolist() == [str(files[1]), str(tmp_path / r"caf\udce9.png")]
    assert rows["label"][1].endswith(r"caf\udce9.png")
