"""`hybridus compare --value-range`: scans of 12 bits in 16-bit files, for all that reads them."""

import joblib
import numpy as np
import pandas as pd
import pytest
from cli_estimators import BrightClassifier, BrightSegmenter, Recorder
from PIL import Image
from typer.testing import CliRunner

import hybridus
from hybridus.cli import app, reported, results
from hybridus.presets import Preset
from hybridus.report import SegmentationDisplay

CLASSES = ("normal", "malignant", "benign")
DECLARED = ("--value-range", "0,4095")
draw_masks = results.draw_masks


@pytest.fixture(autouse=True)
def light(tmp_path, monkeypatch):
    """Models that look at brightness only; results land in a folder of the test."""
    monkeypatch.chdir(tmp_path)
    for of_class in (BrightClassifier, BrightSegmenter):
        monkeypatch.setattr(hybridus, of_class.__name__, of_class, raising=False)
    monkeypatch.setattr(Recorder, "fits", [])
    monkeypatch.setattr(results, "draw_masks", lambda *_: None)
    monkeypatch.setattr(reported, "_write", lambda page, done: page)
    rows = {
        name: Preset(name, task, maker, {}, "seconds", "brightness", compared="scans")
        for name, task, maker in (
            ("bright", "classify", "BrightClassifier"),
            ("level", "segment", "BrightSegmenter"),
        )
    }
    for module in ("hybridus.presets", "hybridus.cli.settings", "hybridus.cli.task_run"):
        monkeypatch.setattr(f"{module}.PRESETS", rows)


@pytest.fixture
def scans(tmp_path):
    """BUSI in small, once in 12 bits and once, the same pixels, in 8."""
    rng = np.random.default_rng(0)
    for label, name in enumerate(CLASSES):
        for i in range(4):
            pixels = rng.integers(0, 96, (40, 48), dtype=np.uint16)
            lesion = np.zeros(pixels.shape, dtype=np.uint8)
            if label:
                top, left = rng.integers(2, 28), rng.integers(2, 34)
                lesion[top : top + 10, left : left + 12] = 255
                pixels[top : top + 10, left : left + 12] = 105 + 75 * label
            # With 0,4080, which is 16 * 255, both are the same canonical images.
            for bits, image in ((8, pixels.astype(np.uint8)), (12, pixels * 16)):
                folder = tmp_path / f"bits{bits}" / name
                folder.mkdir(parents=True, exist_ok=True)
                Image.fromarray(image).save(folder / f"{name} ({i}).png")
                Image.fromarray(lesion).save(folder / f"{name} ({i})_mask.png")
    return tmp_path / "bits12"


def run(*arguments):
    return CliRunner().invoke(app, ["compare", *map(str, arguments), "--folds", "2"])


@pytest.mark.parametrize("model", ["bright", "level"])
def test_twelve_bits_are_refused_with_the_option_that_declares_them(scans, model, tmp_path):
    done = run(scans, "--groups", "none", "--models", model)
    assert done.exit_code == 2
    *_, line = done.stderr.splitlines()
    assert line.startswith("error: images[0]: ")
    assert "it would be nearly black" in line
    assert "such as --value-range 0,4095;" in line
    assert "value_range" not in line
    assert Recorder.fits == []
    assert not (tmp_path / "hybridus-results").exists()


@pytest.mark.parametrize(
    ("model", "table", "score"),
    [("bright", "classification", "accuracy"), ("level", "segmentation", "dice")],
)
def test_declared_they_are_compared_and_the_best_model_reads_them(scans, model, table, score):
    done = run(scans, "--groups", "none", "--models", model, *DECLARED)
    assert done.exit_code == 0, done.output
    assert "values   0 is black and 4095 white" in done.stdout
    row = pd.read_csv(f"hybridus-results/{table}.csv").iloc[0]
    assert row[f"{score}_mean"] == 1
    assert len(Recorder.fits) == 3
    fitted = joblib.load(f"hybridus-results/models/{model}.joblib")
    assert fitted.value_range == (0, 4095)
    assert len(fitted.predict(hybridus.load_busi(scans).images)) == 12


def test_the_digest_is_that_of_the_images_as_they_are_read(scans):
    digests = {}
    for declared in ("0,4095", "0,4080", "0,65535"):
        assert run(scans, "--groups", "none", "--value-range", declared).exit_code == 0
        digests[declared] = pd.read_csv("hybridus-results/classification.csv").data_digest.item()
    assert run(scans.with_name("bits8"), "--groups", "none").exit_code == 0
    of_8_bits = pd.read_csv("hybridus-results/classification.csv").data_digest.item()
    assert len(set(digests.values())) == 3
    assert digests["0,4080"] == of_8_bits


@pytest.mark.slow
def test_leaky_copies_are_made_of_what_was_declared(scans):
    tables = []
    for folder, declared in ((scans, ("--value-range", "0,4080")), (scans.with_name("bits8"), ())):
        done = run(folder, "--groups", "none", "--protocol", "leaky", "--image-size", 32, *declared)
        assert done.exit_code == 0, done.output
        folds = pd.read_csv("hybridus-results/classification_folds.csv")
        tables.append(folds.drop(columns=["fit_seconds", "score_seconds"]))
    assert set(tables[0]["protocol"]) == {"honest", "leaky"}
    pd.testing.assert_frame_equal(*tables)


def test_masks_are_drawn_over_the_scans_as_they_were_declared(scans, monkeypatch, tmp_path):
    drawn = []
    monkeypatch.setattr(results, "draw_masks", draw_masks)
    monkeypatch.setattr(
        SegmentationDisplay, "plot", lambda display, *_, **__: drawn.append(display.images)
    )
    done = run(scans, "--groups", "none", "--models", "level", "--value-range", "0,4080")
    assert done.exit_code == 0, done.output
    assert (tmp_path / "hybridus-results" / "segmentation_level.png").exists()
    (images,) = drawn
    assert max(image.max() for image in images) == 255
    assert {image.dtype for image in images} == {np.dtype("uint8")}


@pytest.mark.parametrize("given", ["4095", "0,4095,1", "a,b", "", ",", "4095,0", "1,1", "0,inf"])
def test_a_malformed_range_is_one_line(scans, given, tmp_path):
    done = run(scans, "--groups", "none", "--value-range", given)
    assert done.exit_code == 2
    assert done.stderr == (
        f"error: --value-range {given}: expected LOW,HIGH, the values of black and white, such as "
        "0,4095 for 12 bits\n"
    )
    assert not (tmp_path / "hybridus-results").exists()


def test_values_outside_the_range_are_told_before_the_work(scans):
    done = run(scans, "--groups", "none", "--value-range", "-100,1000")
    assert done.exit_code == 2
    assert "outside the declared --value-range -100,1000" in done.stderr.splitlines()[-1]
    assert Recorder.fits == []


def test_phantoms_have_no_range_to_declare():
    done = run(*DECLARED)
    assert done.exit_code == 2
    assert "--value-range describes real images" in done.stderr
