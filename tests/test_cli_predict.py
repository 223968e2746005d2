"""`hybridus train` and `hybridus predict`: from a folder of images to answers in a table."""

import json
import os
import subprocess
import sys

import joblib
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn.linear_model import LogisticRegression
from typer.testing import CliRunner

import hybridus
from hybridus import PixelSegmenter, make_breast_phantoms
from hybridus.cli import app
from hybridus.cli.images import find_files, names_of
from hybridus.inputs.files import replacing
from hybridus.presets import PRESETS, Preset

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("few_trees")]

NAMES = ("normal", "malignant", "benign")


def run(*arguments):
    return CliRunner().invoke(app, list(map(str, arguments)))


def succeeded(*arguments):
    done = run(*arguments)
    assert done.exit_code == 0, done.output
    return done


@pytest.fixture(scope="module")
def scans(tmp_path_factory):
    """Folder of class folders with JPEG scans and their masks, and more scans without classes."""
    root = tmp_path_factory.mktemp("scans (1)")
    phantoms = make_breast_phantoms(40, image_size=48, difficulty=0, random_state=0)
    for number, (image, mask, label) in enumerate(
        zip(phantoms.images, phantoms.masks, phantoms.target, strict=True)
    ):
        name = NAMES[label]
        folder = root / ("known" if number < 30 else "new") / name
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / f"{name} ({number}).jpg", quality=95)
        drawn = Image.fromarray(np.where(np.squeeze(mask), 255, 0).astype(np.uint8))
        drawn.save(folder / f"{name} ({number})_mask.png")
    return root


def small_presets():
    encoder = {"encoder": "mobilenet_v2_0.35", "image_size": 32}
    hybrid = ("make_hybrid_classifier", {**encoder, "head": "svm"}, "seconds", "small")
    pixels = {"features": "basic", "mask_size": 48, "sigma_max": 2, "n_pixels": 100}
    return {
        "small-svm": Preset("small-svm", "classify", *hybrid, {"head__C": [1, 10]}),
        "small-lesion": Preset(
            "small-lesion",
            "classify",
            "make_hybrid_classifier",
            {**encoder, "head": "logreg", "lesion": "pixels", "whole_image": False},
            "seconds",
            "small, of the lesion",
        ),
        "pixels": Preset("pixels", "segment", "PixelSegmenter", pixels, "seconds", "pixels alone"),
    }


@pytest.fixture(scope="module")
def trained(scans, tmp_path_factory):
    """Models of both kinds, as the command has trained them."""
    folder = tmp_path_factory.mktemp("models")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("hybridus.presets.PRESETS", PRESETS | small_presets())
        for name in ("small-svm", "small-lesion", "pixels"):
            told = succeeded(
                *("train", scans / "known", "--model", name, "--weights", "bundled"),
                *("--out", folder / f"{name}.hybridus"),
            )
            assert f"model    {name}: " in told.stdout
    return folder


def test_two_commands_lead_from_jpegs_to_a_table(trained, scans, tmp_path):
    model = trained / "small-svm.hybridus"
    told = succeeded("predict", model, scans / "new", "--out", tmp_path / "answers")
    table = pd.read_csv(tmp_path / "answers" / "predictions.csv")
    assert len(table) == 10
    assert "images   10 (10 masks are passed over)" in told.stdout
    shares = table[[f"probability_{name}" for name in sorted(NAMES)]]
    np.testing.assert_allclose(shares.sum(axis=1), 1, atol=2e-4)
    assert (shares.idxmax(axis=1) == "probability_" + table["label"]).all()
    ordered = np.sort(shares, axis=1)
    np.testing.assert_allclose(table["margin"], ordered[:, -1] - ordered[:, -2], atol=2e-4)
    card = hybridus.read_card(model)
    assert ((table["margin"] < card.referral["margin"]) == (table["refer"] == "yes")).all()
    fitted = hybridus.load(model)
    assert table["label"].tolist() == fitted.predict(table["file"].tolist()).tolist()
    truth = table["file"].str.extract(r"new/(\w+)/")[0]
    assert (truth == table["label"]).mean() >= 0.5
    assert card.data["n_images"] == 30
    assert "calibrated by one temperature, on" in card.referral["probabilities"]


def test_a_segmenter_leaves_masks_and_overlays_of_the_size_of_its_images(trained, scans, tmp_path):
    out = tmp_path / "answers"
    succeeded("predict", trained / "pixels.hybridus", scans / "new", "--out", out, "--batch", 3)
    table = pd.read_csv(out / "predictions.csv")
    fitted = hybridus.load(trained / "pixels.hybridus")
    for row in table.itertuples():
        mask = np.asarray(Image.open(row.mask))
        assert set(np.unique(mask)) <= {0, 255}
        assert ((mask > 0).sum(), *mask.shape) == (row.lesion_pixels, row.height, row.width)
        assert (row.lesion == "yes") == (row.lesion_pixels > 0)
        np.testing.assert_array_equal(mask > 0, fitted.predict([row.file])[0][..., 0] > 0)
        drawn = np.asarray(Image.open(row.mask.replace("/masks/", "/overlays/")[:-9] + ".png"))
        assert drawn.shape == (*mask.shape, 3)
        assert (drawn != np.asarray(Image.open(row.file))[..., np.newaxis]).any() == bool(
            mask.any()
        )
    assert (table["lesion"] == "yes").any()
    assert len(list((out / "masks").rglob("*.png"))) == 10


def test_a_model_that_looks_at_lesions_needs_masks_in_training_alone(
    trained, scans, tmp_path, monkeypatch
):
    out = tmp_path / "answers"
    succeeded("predict", trained / "small-lesion.hybridus", scans / "new", "--out", out)
    table = pd.read_csv(out / "predictions.csv")
    fitted = hybridus.load(trained / "small-lesion.hybridus")
    assert table["label"].tolist() == fitted.predict(table["file"].tolist()).tolist()
    bare = tmp_path / "bare"
    for file in (scans / "known").rglob("*.jpg"):
        (bare / file.parent.name).mkdir(parents=True, exist_ok=True)
        (bare / file.parent.name / file.name).write_bytes(file.read_bytes())
    for module in ("hybridus.presets", "hybridus.cli.settings", "hybridus.cli.task_run"):
        monkeypatch.setattr(f"{module}.PRESETS", PRESETS | small_presets())
    done = run("train", bare, "--model", "small-lesion", "--weights", "bundled")
    assert done.exit_code == 2
    assert "small-lesion learns where lesions are" in done.stderr
    done = run("compare", bare, "--models", "small-lesion", "--weights", "bundled")
    assert done.exit_code == 2
    assert "has no masks" in done.stderr


@pytest.mark.slow
def test_models_that_look_at_lesions_are_compared(scans, tmp_path, monkeypatch):
    for module in ("hybridus.presets", "hybridus.cli.settings", "hybridus.cli.task_run"):
        monkeypatch.setattr(f"{module}.PRESETS", PRESETS | small_presets())
    told = succeeded(
        *("compare", scans / "known", "--models", "small-lesion", "--weights", "bundled"),
        *("--folds", 2, "--task", "classify", "--out", tmp_path / "results"),
    )
    assert "warning" not in told.stderr
    assert (tmp_path / "results" / "report.html").exists()
    assert (tmp_path / "results" / "models" / "small-lesion.hybridus").exists()


def test_files_that_cannot_be_read_are_listed_and_the_others_answered(trained, scans, tmp_path):
    (tmp_path / "in").mkdir()
    for k, file in enumerate(sorted((scans / "new").rglob("*.jpg"))[:3]):
        (tmp_path / "in" / f"{k}.jpg").write_bytes(file.read_bytes())
    (tmp_path / "in" / "broken.jpg").write_bytes(b"no picture")
    Image.fromarray(np.full((8, 8), 900, np.uint16)).save(tmp_path / "in" / "scale.png")
    out = tmp_path / "answers"
    model = trained / "small-svm.hybridus"
    for batch in (1, 2, 100):
        done = run("predict", model, tmp_path / "in", "--out", out, "--batch", batch)
        assert done.exit_code == 1
        assert len(pd.read_csv(out / "predictions.csv")) == 3
        lost = pd.read_csv(out / "unreadable.csv").set_index("file")["reason"]
        assert [os.path.basename(file) for file in lost.index] == ["broken.jpg", "scale.png"]
        assert "no picture that Pillow knows" in lost.iloc[0]
        assert "value_range" in lost.iloc[1]
    assert "2 of 5 files could not be read" in done.stderr
    succeeded("predict", model, tmp_path / "in" / "0.jpg", "--out", out)
    assert sorted(os.listdir(out)) == ["predictions.csv"]


def test_a_line_tells_how_far_a_long_run_is(trained, scans, tmp_path, monkeypatch):
    monkeypatch.setattr("hybridus.cli.progress._LINE_EVERY", 0.0)
    out = tmp_path / "answers"
    done = run("predict", trained / "pixels.hybridus", scans / "new", "--out", out, "--batch", 4)
    assert "4 of " in done.stderr
    assert "a second" in done.stderr


def test_nothing_half_written_is_left(trained, scans, tmp_path, monkeypatch):
    out = tmp_path / "answers"
    given = ("predict", trained / "pixels.hybridus", scans / "new", "--out", out, "--batch", 4)
    succeeded(*given)
    before = (out / "predictions.csv").read_bytes()
    calls = []

    def stopped(*arguments):
        calls.append(1)
        if len(calls) > 6:
            raise KeyboardInterrupt
        with replacing(arguments[1]) as temporary:
            Image.fromarray(arguments[0]).save(temporary)

    monkeypatch.setattr("hybridus.cli.answers._write_png", stopped)
    assert run(*given).exit_code == 130
    assert (out / "predictions.csv").read_bytes() == before
    assert not [name for _, _, names in os.walk(out) for name in names if name.startswith(".")]


def test_what_users_name_is_found_each_once(scans, tmp_path, monkeypatch):
    monkeypatch.chdir(scans)
    files, n_masks = find_files(["new"])
    assert (len(files), n_masks) == (10, 10)
    assert find_files(["new/*/*.jpg", files[0], "new/**/*.jpg"])[0] == sorted(files)
    (tmp_path / "masks").mkdir()
    for name in ("1.png", ".hidden.png", "masks/1.png"):
        Image.new("L", (4, 4)).save(tmp_path / name)
    assert find_files([str(tmp_path)]) == ([str(tmp_path / "1.png")], 1)
    with pytest.raises(FileNotFoundError, match=r"nowhere/\*\.png: no such file, folder"):
        find_files(["nowhere/*.png"])
    assert names_of(["in/1.png"]) == ["1"]


def test_what_cannot_be_done_is_told_in_one_line(trained, scans, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pixels = PixelSegmenter(LogisticRegression(), "basic", mask_size=48, sigma_max=2, n_pixels=50)
    images = sorted(map(str, (scans / "known").rglob("*.jpg")))[:4]
    masks = [file.replace(".jpg", "_mask.png") for file in images]
    joblib.dump(pixels.fit(images, masks), "a.joblib")
    extractor = hybridus.DeepFeatureExtractor("mobilenet_v2_0.35", weights="bundled").fit(images)
    hybridus.save(extractor, "f", include_weights=False)
    for arguments, said in (
        (("predict", "absent.hybridus", scans), "no such file"),
        (("predict", "a.joblib", scans), "joblib.load, which runs code"),
        (("predict", "f", scans), "a model to transform, which gives no answers"),
        (("predict", trained / "pixels.hybridus", "absent"), "no such file, folder or pattern"),
        (("train", scans / "known", "--model", "mobilenet-svm"), "did you mean"),
        (("train", "absent", "--model", "pixel-ann-basic"), "absent"),
        (("train", scans, "--model", "mobilenet_v2-svm", "--lesions-only"), "is for segmenters"),
    ):
        done = run(*arguments)
        lines = [line for line in done.stderr.splitlines() if not line.startswith("warning")]
        assert (done.exit_code, len(lines)) == (2, 1), done.output
        assert said in lines[0]
    assert not os.path.exists("hybridus-predictions")
    given = ("predict", "a.joblib", images[0], "--trust-pickle", "--no-overlays")
    succeeded(*given, "--out", "out")
    assert sorted(os.listdir("out")) == ["masks", "predictions.csv"]


def test_a_frozen_hybrid_answers_without_tensorflow(trained, scans, tmp_path):
    script = (
        "import sys, json; from typer.testing import CliRunner; from hybridus.cli import app\n"
        "done = CliRunner().invoke(app, sys.argv[1:])\n"
        "heavy = {'tensorflow', 'keras', 'matplotlib', 'statsmodels'} & set(sys.modules)\n"
        "print(json.dumps([done.exit_code, sorted(heavy)]))"
    )
    image = next((scans / "new").rglob("*.jpg"))
    given = ["predict", trained / "small-svm.hybridus", image, "--out", tmp_path / "answers"]
    done = subprocess.run(
        [sys.executable, "-c", script, *map(str, given)],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "HYBRIDUS_CACHE": str(tmp_path / "empty")},
    )
    assert json.loads(done.stdout) == [0, []]
