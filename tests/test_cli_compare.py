"""`hybridus compare` from its options to its files, for both tasks, on light models and on real."""

import csv
import importlib.metadata
import os
import subprocess
import sys
from types import SimpleNamespace

import joblib
import numpy as np
import pandas as pd
import pytest
from cli_estimators import BrightClassifier, BrightSegmenter, Recorder, thumbnails
from PIL import Image
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from typer.testing import CliRunner

import hybridus
from hybridus import make_breast_phantoms, presets
from hybridus.cli import app, data as reading, reported, results
from hybridus.metrics import dice
from hybridus.presets import Preset
from hybridus.protocol import audit, schedule
from hybridus.report import SegmentationDisplay

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("few_trees")]

CLASSES = ("normal", "malignant", "benign")
draw_masks = results.draw_masks
write_page = reported._write
TASKS = {"classify": "classification", "segment": "segmentation"}
CURATED = ("--curation", "curation.csv")


def light_presets():
    rows = []
    for task, maker in (("classify", "BrightClassifier"), ("segment", "BrightSegmenter")):
        for number, where in enumerate(("scans", "phantoms")):
            name = f"{task}-{where}"
            given = {"kind": name, "image_size": 64 + 32 * number}
            rows.append(Preset(name, task, maker, given, "seconds", "brightness", compared=where))
        rows.append(
            Preset(f"{task}-slow", task, maker, {"kind": "slow"}, "tens of minutes", "bright")
        )
    rows.append(
        Preset("alarmed", "segment", "BrightSegmenter", {"level": 20}, "seconds", "all but black")
    )
    return {row.name: row for row in rows}


@pytest.fixture(autouse=True)
def own_folder(tmp_path, monkeypatch):
    """Results land in a folder of the test."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def light(monkeypatch):
    """Presets of models that look at brightness only, and few phantoms."""
    for of_class in (BrightClassifier, BrightSegmenter):
        monkeypatch.setattr(hybridus, of_class.__name__, of_class, raising=False)
    monkeypatch.setattr(Recorder, "fits", [])
    monkeypatch.setattr(reading, "N_PHANTOMS", 24)
    monkeypatch.setattr(results, "draw_masks", lambda *_: None)  # a second each
    monkeypatch.setattr(reported, "_write", lambda page, done: page)  # some seconds each
    rows = light_presets()
    for module in ("hybridus.presets", "hybridus.cli.settings", "hybridus.cli.task_run"):
        monkeypatch.setattr(f"{module}.PRESETS", rows)
    return rows


@pytest.fixture
def scans(tmp_path):
    """BUSI in small: 8 scans a class in pairs; of a lesion 8 of 10 rows are bright."""
    rng = np.random.default_rng(0)
    rows = []
    for label, name in enumerate(CLASSES):
        folder = tmp_path / "scans" / name
        folder.mkdir(parents=True)
        for i in range(8):
            pixels = rng.integers(0, 60, (40 + label, 48), dtype=np.uint8)
            lesion = np.zeros(pixels.shape, dtype=np.uint8)
            if label:
                top, left = rng.integers(2, 28), rng.integers(2, 34)
                lesion[top : top + 10, left : left + 12] = 255
                pixels[top + 2 : top + 10, left : left + 12] = 120 + 50 * label
            Image.fromarray(pixels).save(folder / f"{name} ({i}).png")
            Image.fromarray(lesion).save(folder / f"{name} ({i})_mask.png")
            rows.append((f"{name} ({i})", f"{name} ({i // 2})", "", ""))
    table = pd.DataFrame(rows, columns=["busi_file", "group", "objection", "annotation"])
    table.to_csv(tmp_path / "curation.csv", index=False)
    return tmp_path / "scans"


def run(*arguments):
    return CliRunner().invoke(app, ["compare", *map(str, arguments)])


def succeeded(*arguments):
    done = run(*arguments)
    assert done.exit_code == 0, done.output
    return done


def notes(done):
    """Lines on standard error, but for those that say that the tests' own models are pickled."""
    return [line for line in done.stderr.splitlines() if "joblib.dump writes it" not in line]


def refused(*arguments):
    """Run what must end in one line on standard error and exit code 2; return the line."""
    done = run(*arguments)
    assert done.exit_code == 2, done.output
    lines = [line for line in done.stderr.splitlines() if not line.startswith("warning")]
    assert len(lines) == 1
    assert lines[0].startswith("error: ")
    assert not os.path.exists("hybridus-results")
    return lines[0]


def table_of(task, name=""):
    return pd.read_csv(f"hybridus-results/{TASKS[task]}{name}.csv")


# Sets that nothing is fitted on.


def test_models_are_scored_on_other_folders_too(light, scans, tmp_path):
    rng = np.random.default_rng(7)
    for i in range(8):
        name = ("malignant", "benign")[i % 2]
        there = tmp_path / "other hospital" / name
        there.mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 60, (50, 50), dtype=np.uint8)
        lesion = np.zeros(pixels.shape, dtype=np.uint8)
        lesion[10:20, 10 : 20 + i] = 255
        pixels[lesion > 0] = 170
        Image.fromarray(pixels).save(there / f"{name} ({i}).png")
        Image.fromarray(lesion).save(there / f"{name} ({i})_mask.png")
    given = f"there={tmp_path / 'other hospital'}"
    told = succeeded(scans, *CURATED, "--folds", 2, "--external", given)
    assert "fitted on all 24 samples, tested on there" in " ".join(told.stdout.split())
    for task in ("classify", "segment"):
        table = table_of(task, "_on_there")
        ranks = {"classify": "accuracy_mean", "segment": "dice_mean"}[task]
        assert table["model"].tolist() == table_of(task)["model"].tolist()
        assert table[ranks].between(0, 1).all()


def test_what_is_no_other_folder_is_refused(light, scans, tmp_path):
    for text, message in (
        ("there", "expected NAME=FOLDER"),
        ("a/b=scans", "expected NAME=FOLDER"),
        ("there=nowhere", "no such folder 'nowhere'"),
    ):
        assert message in refused(scans, *CURATED, "--external", text)
    assert "needs DATA" in refused("--external", f"there={scans}")
    for name in ("cyst", "normal"):
        (tmp_path / "other" / name).mkdir(parents=True)
        Image.fromarray(np.zeros((40, 40), np.uint8)).save(tmp_path / "other" / name / "1.png")
    given = ("--external", f"there={tmp_path / 'other'}", "--task", "classify")
    assert "has the classes cyst" in refused(scans, *CURATED, *given)
    given = ("--external", f"there={scans}", "--task", "classify", "--folds", 2)
    assert "are also among X" in refused(scans, *CURATED, *given)


# What the user is told before any work.


def test_first_lines_and_help_come_before_heavy_imports():
    script = """
import sys, hybridus.__main__
from typer.testing import CliRunner
from hybridus.cli import app, data
version = CliRunner().invoke(app, ["--version"])
usage = CliRunner().invoke(app, ["compare", "--help"])
assert version.exit_code == usage.exit_code == 0
heavy = {"numpy", "pandas", "sklearn", "scipy", "keras", "tensorflow", "openvino"}
def stop(*_):
    raise KeyboardInterrupt
data.read_phantoms = stop
begun = CliRunner().invoke(app, ["compare", "--models", "unet-small"])
print(version.output.strip(), sorted(heavy & sys.modules.keys()), begun.exit_code)
print(begun.stdout.splitlines()[0])
print(usage.output)
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    first, begun, usage = done.stdout.split("\n", 2)
    assert first == f"hybridus {hybridus.__version__} [] 130"
    assert begun == f"segment  unet-small: {presets.PRESETS['unet-small'].note}"
    plain = " ".join(usage.replace("│", " ").split())
    for option in ("task", "models", "folds", "repeats", "curation", "groups", "protocol"):
        assert f"--{option}" in plain
    for option in (
        "value-range",
        "weights",
        "image-size",
        "n-jobs",
        "seed",
        "no-cache",
        "lesions-only",
        "positive",
        "out",
    ):
        assert f"--{option}" in plain
    assert "how inflated such figures are" in plain
    assert "`" not in plain.replace("`hybridus models`", "")
    assert len(usage.splitlines()) <= 100  # two screens
    for line in usage.splitlines():
        assert len(line) <= 80


def test_models_compared_without_a_name_are_those_of_the_task_and_the_data(light, scans):
    for task in TASKS:
        for given, where in (((scans, *CURATED), "scans"), ((), "phantoms")):
            succeeded(*given, "--task", task, "--folds", 2)
            assert table_of(task)["model"].tolist() == [f"{task}-{where}"]
    succeeded("--folds", 2, "--models", "alarmed")
    assert table_of("segment")["model"].tolist() == ["alarmed"]


def test_without_a_task_classifiers_are_compared_and_where_there_are_masks_segmenters(light, scans):
    for given, where in (((scans, *CURATED), "scans"), ((), "phantoms")):
        out = f"of-{where}"
        told = succeeded(*given, "--folds", 2, "--out", out)
        kinds = [kind for kind, *_ in Recorder.fits]
        assert kinds == [f"{task}-{where}" for task in TASKS for _ in range(3)]
        Recorder.fits.clear()
        for task, noun in TASKS.items():
            assert told.stdout.splitlines().count(f"table    {out}/{noun}.csv") == 1
            assert pd.read_csv(f"{out}/{noun}.csv")["model"].tolist() == [f"{task}-{where}"]
            assert os.path.exists(f"{out}/models/{task}-{where}.joblib")
    for mask in scans.glob("*/*_mask.png"):
        mask.unlink()
    (scans / "benign").rename(scans / "apples")
    succeeded(scans, "--groups", "none", "--folds", 2)
    assert {kind for kind, *_ in Recorder.fits} == {"classify-scans"}
    assert not os.path.exists("hybridus-results/segmentation.csv")


def test_models_of_both_tasks_may_be_named_and_options_of_one_need_only_one(light, scans):
    named = ("--models", "segment-scans,classify-scans", "--folds", 2)
    options = ("--lesions-only", "--positive", "malignant", "--protocol", "leaky")
    told = succeeded(scans, *CURATED, *named, *options)
    assert "masks    16 images; normal (0) 0, malignant (1) 8, benign (2) 8\n" in told.stdout
    assert table_of("classify")["n_images"].tolist() == [24, 24]
    assert table_of("segment")["n_images"].tolist() == [16]
    digests = [table_of(task)["data_digest"].iloc[0] for task in TASKS]
    assert digests[0] != digests[1]
    assert "malignant against the rest" in told.stdout
    succeeded(scans, *CURATED, *named)
    assert table_of("classify")["data_digest"].item() == table_of("segment")["data_digest"].item()


def test_a_task_whose_models_all_fail_leaves_the_other_alone(light, scans, monkeypatch):
    given = broken(light, monkeypatch, RuntimeError, 0)
    named = (*given[:1], f"{given[1]},segment-scans", *given[2:])
    done = run(scans, *CURATED, *named)
    assert "a mistake in the program" in str(done.exception)
    assert table_of("segment")["model"].tolist() == ["segment-scans"]
    assert not os.path.exists("hybridus-results/classification.csv")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--models", "vgg19-svm,unet"), "vgg19-svm: no such model (did you mean vgg16-svm or "),
        (("--models", ",", "--task", "segment"), "'': no such model; choose of unet, "),
        (("--models", "vgg16-svm,unet", "--task", "classify"), "unet: made to segment, where --"),
        (("--models", "vgg16-svm", "--task", "segment"), "vgg16-svm: made to classify, where"),
        (("--n-jobs", 0), "--n-jobs 0: expected 1 or more processes, or -1"),
        (("--models", "unet", "--n-jobs", -2), "--n-jobs -2: expected 1 or more"),
        (("nowhere",), "nowhere: no such folder"),
        (("--curation", "curation.csv"), "give their folder DATA"),
        (("--groups", "none"), "give their folder DATA"),
        (("--value-range", "0,4095"), "give their folder DATA"),
        (("--task", "classify", "--lesions-only"), "--with-normals are for segmenters"),
        (("--task", "segment", "--positive", "malignant"), "malignant: for classifiers, and none"),
        (("--models", "unet", "--protocol", "leaky"), "--protocol leaky: for classifiers, and"),
        (("--models", "unet,dncnn", "--weights", "bundled"), "bundled: no encoder in unet, dncnn"),
        (("--models", "unet,pixel-ann", "--no-cache"), "--no-cache: unet, pixel-ann keep nothing"),
    ],
)
def test_what_cannot_be_meant_is_one_line_and_exit_code_2(arguments, message):
    assert message in refused(*arguments)


def test_an_unknown_protocol_is_refused():
    done = run("--protocol", "report")
    assert (done.exit_code, "'leaky'" in done.stderr) == (2, True)


@pytest.mark.parametrize("task", TASKS)
def test_what_would_fail_after_an_hour_fails_at_once(light, scans, task):
    given = (scans, *CURATED, "--task", task)
    assert "class 0 has only 4 groups, fewer than the 5 folds" in refused(*given, "--folds", 5)
    file = scans / "benign" / "benign (7).png"
    file.write_bytes(file.read_bytes()[:60])
    assert "benign (7).png' cannot be decoded" in refused(*given, "--folds", 2)
    assert Recorder.fits == []


@pytest.mark.parametrize("model", ["mobilenet_v2-svm", "vgg16-softmax", "resnet50-unet"])
def test_weights_that_cannot_be_had_are_told_before_the_work(scans, model):
    given = (scans, *CURATED, "--folds", 2, "--models", model)
    assert "nowhere.safetensors" in refused(*given, "--weights", "nowhere.safetensors")


def test_a_size_that_a_network_cannot_take_is_told_before_the_work(scans):
    line = refused(scans, *CURATED, "--folds", 2, "--models", "unet", "--image-size", 100)
    assert "must be divisible by 16" in line


def test_a_folder_that_cannot_be_written_to_is_told_before_the_work(light, scans, monkeypatch):
    given = (scans, *CURATED, "--folds", 2)
    with open("in-the-way", "w"):
        assert "in-the-way" in refused(*given, "--out", "in-the-way")
    os.mkdir("locked")
    access = os.access
    monkeypatch.setattr(
        os, "access", lambda to, mode: mode != os.W_OK | os.X_OK and access(to, mode)
    )
    assert "--out locked: cannot be written to" in refused(*given, "--out", "locked")
    assert Recorder.fits == []


# Data.


def test_scans_are_told_with_what_is_known_of_them(light, scans):
    table = pd.read_csv("curation.csv", dtype=str, keep_default_na=False)
    table.loc[table["busi_file"] == "benign (7)", "objection"] = "multiclass&axilla"
    table.to_csv("curation.csv", index=False)
    told = succeeded(scans, *CURATED, "--folds", 2)
    assert "23 images; normal (0) 8, malignant (1) 8, benign (2) 7" in told.stdout
    assert "1 images with objection 'multiclass' are left out" in told.stdout
    assert "groups   12 groups of 23 images (1 to 2 in each, 1 of them alone); each" in told.stdout
    assert not notes(told)
    assert table_of("classify").iloc[0][["n_images", "n_groups"]].tolist() == [23, 12]


def test_duplicates_are_looked_for_where_no_groups_are_given(light, tmp_path):
    phantoms = make_breast_phantoms(24, random_state=0)
    for i, (image, label) in enumerate(zip(phantoms.images, phantoms.target, strict=True)):
        folder = tmp_path / "folder" / CLASSES[label]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / f"{i}.png")
    told = succeeded("folder", "--folds", 2)
    assert "audit    no groups given: looking for duplicates among 24 images" in told.stdout
    assert "No two of 24 images show the same scan. Pixels do not tell which scans" in told.stdout
    assert not notes(told)
    assert table_of("classify")[["groups", "n_groups"]].isna().sum(axis=1).tolist() == [1]
    for i in range(3):
        label = phantoms.target[i]
        darker = Image.fromarray(np.ascontiguousarray(phantoms.images[i][:, ::-1] // 2 + 20))
        darker.save(
            tmp_path / "folder" / CLASSES[label if i else (label + 1) % 3] / f"copy {i}.png"
        )
    told = succeeded("folder", "--folds", 2)
    assert (
        "6 of 27 images have a duplicate, as their pixels tell; 1 scans bear several" in told.stdout
    )
    assert "Folds keep all images of a scan on one side." in told.stdout
    assert "groups   24 groups of 27 images (1 to 2 in each, 21 of them alone)" in told.stdout
    assert [len(set(groups)) for *_, groups in Recorder.fits[-3:]][-1] == 24
    assert table_of("classify").loc[0, ["groups", "n_groups"]].tolist() == ["found", 24]


def test_scans_split_without_groups_get_a_warning_with_numbers(light, scans):
    told = succeeded(scans, *CURATED, "--groups", "none", "--folds", 2)
    for said in ("38 %", "seven points"):
        assert said in told.stderr
    assert "audit" not in told.stdout
    assert "groups " not in told.stdout
    assert table_of("classify")["n_groups"].isna().all()
    assert table_of("classify")["groups"].tolist() == ["none"]


def test_groups_of_a_file_come_before_those_of_the_curation(light, scans):
    with open("groups.csv", "w", newline="") as file:
        rows = [(f"{name} ({i}).png", f"{name}{i // 4}") for name in CLASSES for i in range(8)]
        csv.writer(file).writerows([("filename", "group"), *rows])
    told = succeeded(scans, *CURATED, "--groups", "groups.csv", "--folds", 2)
    assert "groups   6 groups of 24 images (4 to 4 in each" in told.stdout
    assert [len(set(groups)) for _, _, groups in Recorder.fits] == [3, 3, 6] * 2
    assert "nowhere.csv" in run(scans, "--groups", "nowhere.csv").stderr


def test_any_folder_of_class_folders_works_also_with_names_that_are_no_text(light, scans):
    for mask in scans.glob("*/*_mask.png"):
        mask.unlink()
    (scans / "benign").rename(scans / "apples")
    os.rename(bytes(scans), os.path.join(os.fsencode(os.getcwd()), b"caf\xe9"))
    told = succeeded("caf\udce9", "--folds", 2)
    assert (
        r"data     caf\udce9: 24 images; apples (0) 8, malignant (1) 8, normal (2) 8" in told.stdout
    )
    assert "--curation" not in told.stderr
    assert table_of("classify")["data"].item() == r"caf\udce9"
    line = run("caf\udce9", "--task", "segment").stderr.splitlines()[-1]
    assert r"caf\udce9: no masks of lesions found, which segmenters need" in line


# Scores, files and the best model.


@pytest.mark.parametrize(
    ("task", "ranks"), [("classify", "accuracy"), ("segment", "dice")], ids=TASKS
)
def test_tables_hold_what_the_folds_hold_and_how_they_were_made(light, scans, task, ranks):
    models = ("--models", f"{task}-scans,{task}-phantoms", "--repeats", 2, "--seed", 5)
    told = succeeded(scans, *CURATED, *models, "--folds", 2)
    table, folds = table_of(task), table_of(task, "_folds")
    assert len(folds) == 2 * 2 * 2
    assert (folds.groupby(["model", "repeat"])["n_test"].sum() == 24).all()
    scores = list(folds.columns[folds.columns.get_loc("test_set") + 1 :])[:-3]
    assert scores[0] == ranks
    for _, row in table.iterrows():
        of_model = folds[folds["model"] == row["model"]]
        for metric in scores:
            assert row[f"{metric}_mean"] == pytest.approx(of_model[metric].mean(), nan_ok=True)
            assert row[f"{metric}_std"] == pytest.approx(of_model[metric].std(), nan_ok=True)
    best = table.iloc[0]
    mean, std = (f"{best[f'{ranks}_{what}']:.3f}".removeprefix("0") for what in ("mean", "std"))
    assert f"{mean[:4]}±{std}" in told.stdout
    sizes = table.set_index("model")["image_size"].to_dict()
    assert sizes == {f"{task}-scans": 64, f"{task}-phantoms": 96}
    about = {"protocol": "honest", "n_images": 24, "n_groups": 12, "folds": 2, "repeats": 2}
    about |= {"seed": 5, "weights": "imagenet", "hybridus": hybridus.__version__}
    assert best[list(about)].to_dict() == about
    assert len(best["data_digest"]) == 32
    assert "It is the best of 2, and so slightly optimistic" in told.stdout
    assert "Not a medical device" in told.stdout


@pytest.mark.parametrize("task", TASKS)
def test_what_was_said_of_each_image_and_of_each_pair_is_written_and_told(light, scans, task):
    models = ("--models", f"{task}-scans,{task}-phantoms", "--repeats", 2, "--folds", 2)
    told = succeeded(scans, *CURATED, *models)
    pair = table_of(task, "_differences").iloc[0]
    assert pair[["model", "other"]].tolist() == table_of(task)["model"].tolist()
    assert {"open": "which settles nothing", "settled": "has a higher"}[
        pair["verdict"]
    ] in told.stdout
    images = table_of(task, "_predictions")
    assert len(images) == 2 * 2 * 24
    row = images.iloc[7]
    name = os.path.basename(row["filename"])
    assert os.path.samefile(row["filename"], scans / name.split(" (")[0] / name)
    in_group = images.loc[images["group"] == row["group"], "filename"].unique()
    assert len(in_group) == 2
    if task == "classify":
        assert row["truth"] == name.split(" (")[0]
        scores = images[[f"score_{name}" for name in CLASSES]]
        assert (
            scores.idxmax(axis=1).str.removeprefix("score_").tolist()
            == images["predicted"].tolist()
        )
        right = images["truth"] == images["predicted"]
        accuracy = right.groupby(images["model"]).mean()
        expected = table_of(task).set_index("model")["accuracy_mean"]
        assert accuracy.to_dict() == pytest.approx(expected.to_dict(), abs=0.03)
    else:
        lesions = images[~images["filename"].str.contains("normal")]
        assert images["dice"].notna().sum() == len(lesions) == 2 * 2 * 16
        of_model = lesions.groupby("model")["dice"].mean()
        expected = table_of(task).set_index("model")["dice_mean"]
        assert of_model.to_dict() == pytest.approx(expected.to_dict(), abs=0.02)


def test_one_class_is_read_as_a_test_where_it_is_asked_for(light, scans):
    models = ("--models", "classify-scans,classify-phantoms", "--folds", 2)
    told = succeeded(scans, *CURATED, *models, "--positive", "malignant")
    rows = table_of("classify", "_malignant").set_index(["model", "measure"])
    images = table_of("classify", "_predictions")
    ill = images[images["truth"] == "malignant"]
    found = (ill["predicted"] == "malignant").groupby(ill["model"]).mean()
    for model, value in found.items():
        row = rows.loc[(model, "sensitivity")]
        assert row["value"] == pytest.approx(value)
        ends = (f"{row[end]:.2f}".removeprefix("0") for end in ("value", "low", "high"))
        assert "{} {}-{}".format(*ends) in told.stdout
    assert "malignant against the rest, with 95 % intervals" in told.stdout
    line = run(scans, *CURATED, *models, "--positive", "maligant").stderr.splitlines()[-1]
    said = (
        "error: --positive maligant: no such class (did you mean malignant?); choose of normal, m"
    )
    assert line.startswith(said)


def test_segmenters_are_judged_at_one_size_on_lesions_and_on_normals(light, scans):
    told = succeeded(scans, *CURATED, "--models", "segment-scans,alarmed", "--folds", 2)
    table = table_of("segment").set_index("model")
    assert table.loc["segment-scans", "dice_mean"] == pytest.approx(16 / 18, abs=0.02)
    assert table["false_positive_rate_mean"].to_dict() == {"segment-scans": 0, "alarmed": 1}
    assert (table["mask_size"] == 128).all()
    best = table.iloc[0]
    assert f"{best['hausdorff_95_mean']:.1f}±{best['hausdorff_95_std']:.1f}" in told.stdout
    assert "HD95: 95th percentile of the distance between outlines, in pixels of" in told.stdout
    assert "the diagonal where nothing is predicted" in told.stdout
    assert "FP: share of images without lesion" in told.stdout
    assert "segment-scans: Dice on images with a lesion .8" in told.stdout


@pytest.mark.parametrize("task", TASKS)
def test_groups_reach_every_fit_and_the_best_model_is_fitted_on_all(light, scans, task):
    told = succeeded(scans, *CURATED, "--task", task, "--folds", 2)
    busi = hybridus.load_busi(scans, curation="curation.csv")
    *in_folds, refit = Recorder.fits
    assert refit == (f"{task}-scans", 24, list(busi.groups))
    assert [(n, len(set(groups))) for _, n, groups in in_folds] == [(12, 6)] * 2
    assert set(in_folds[0][2]).isdisjoint(in_folds[1][2])
    model = joblib.load(f"hybridus-results/models/{task}-scans.joblib")
    predicted = model.predict(busi.images)
    if task == "classify":
        assert (predicted == np.array(CLASSES)[busi.target]).mean() > 0.9
        assert "trained again on all 24 images, 15 % of them held out" in told.stdout
        assert "(weights of epoch 7 of 17)" in told.stdout
    else:
        assert dice(busi.masks, predicted) > 0.85
        assert "fitted again on all 24 images (threshold 0.35)" in told.stdout


@pytest.mark.parametrize("task", TASKS)
def test_the_seed_decides_the_scores_and_workers_do_not(light, scans, task):
    scores = []
    for options in (["--seed", 1], ["--seed", 1, "--n-jobs", 2], ["--seed", 2]):
        study = ("--study", f"study {len(scores)}")  # or the second would read what the first kept
        with joblib.parallel_config("threading"):
            succeeded(scans, *CURATED, "--task", task, "--folds", 2, *options, *study)
        scores.append(table_of(task, "_folds").drop(columns=["fit_seconds", "score_seconds"]))
    pd.testing.assert_frame_equal(scores[0], scores[1], check_exact=True)
    assert (scores[0]["test_set"] != scores[2]["test_set"]).all()


def test_the_digest_covers_the_masks(light, scans):
    digests = []
    for _ in range(2):
        succeeded(scans, *CURATED, "--task", "segment", "--folds", 2)
        digests.append(table_of("segment")["data_digest"].item())
        mask = scans / "benign" / "benign (3)_mask.png"
        Image.fromarray(255 - np.asarray(Image.open(mask))).save(mask)
    assert digests[0] != digests[1]


def test_versions_of_engines_that_are_absent_are_left_empty(light, scans, monkeypatch):
    known = importlib.metadata.version

    def version(package):
        if package == "openvino":
            raise importlib.metadata.PackageNotFoundError(package)
        return known(package)

    monkeypatch.setattr(importlib.metadata, "version", version)
    succeeded(scans, *CURATED, "--folds", 2)
    row = table_of("classify").iloc[0]
    assert np.isnan(row["openvino"])
    assert row["keras"] == known("keras")


# Which scans are segmented, and pictures of it.


def test_normals_are_left_out_where_lesions_alone_are_wanted(light, scans):
    given = (scans, *CURATED, "--task", "segment", "--folds", 2)
    told = succeeded(*given, "--lesions-only")
    assert "16 images; normal (0) 0, malignant (1) 8, benign (2) 8" in told.stdout
    assert "8 images without lesion are left out." in told.stdout
    assert "FP" not in told.stdout
    assert "nan±" not in told.stdout
    assert table_of("segment")["false_positive_rate_mean"].isna().all()
    told = succeeded(*given, "--with-normals")
    assert "8 have no lesion: false positives are counted on them (--lesions" in told.stdout
    for file in (scans / "normal").iterdir():
        file.unlink()
    line = run(scans, "--groups", "none", *given[3:], "--with-normals").stderr.splitlines()[-1]
    assert "every image of" in line


def test_images_of_any_folder_are_segmented_with_their_folder_of_masks(light, scans):
    os.mkdir("outlines")
    for image in scans.glob("*/*.png"):
        if not image.stem.endswith("_mask"):
            flat = scans / image.name.replace("(", "").replace(")", "")
            os.rename(image.with_name(f"{image.stem}_mask.png"), f"outlines/{flat.name}")
            image.rename(flat)
    for name in CLASSES:
        (scans / name).rmdir()
    given = (scans, "--masks", "outlines", "--folds", 2)
    told = succeeded(*given)
    assert "scans: 24 images; no lesion (0) 8, lesion (1) 16" in told.stdout
    assert "8 have no lesion" in told.stdout
    assert "--groups FILE" in told.stdout
    assert table_of("segment")["dice_mean"].item() == pytest.approx(16 / 18, abs=0.02)
    os.remove("outlines/normal 3.png")
    assert "normal 3.png" in run(*given).stderr
    assert "leave --masks out" in run(*given, *CURATED).stderr
    assert "leave --masks out" in run(*given, "--task", "classify").stderr
    assert "--masks describes real images" in run(*given[1:]).stderr


def test_masks_without_any_lesion_are_refused(light, scans):
    for file in scans.glob("*/*_mask.png"):
        Image.fromarray(np.zeros_like(np.asarray(Image.open(file)))).save(file)
    line = refused(scans, *CURATED, "--folds", 2, "--task", "segment")
    assert "none of the 24 masks has a lesion" in line


def test_overlays_show_the_first_fold_of_each_model(light, scans, monkeypatch):
    monkeypatch.setattr(results, "draw_masks", draw_masks)
    drawn = []
    draw = SegmentationDisplay.from_predictions

    def spied(images, masks, predicted, **options):
        drawn.append(draw(images, masks, predicted, **options))
        return drawn[-1]

    monkeypatch.setattr(SegmentationDisplay, "from_predictions", spied)
    given = ("--models", "segment-scans,alarmed", "--folds", 2, "--repeats", 2)
    told = succeeded(scans, *CURATED, *given)
    assert len(drawn) == 2
    for display, name in zip(drawn, ("segment-scans", "alarmed"), strict=True):
        assert len(display.table) == 12
        assert display.table["class"].cat.categories.tolist() == list(CLASSES)
        assert f"{name}: 12 scans of fold 1 of 2" in display.figure_.get_suptitle()
        with Image.open(f"hybridus-results/segmentation_{name}.png") as picture:
            assert len(np.unique(np.asarray(picture.convert("L")))) > 50
    assert "overlay  hybridus-results/segmentation_segment-scans.png\n" in told.stdout


# What ends the work early.


def broken(light, monkeypatch, error, fails, task="classify"):
    row = light[f"{task}-scans"]
    given = {**row.parameters, "fails": fails, "error": error}
    monkeypatch.setitem(light, row.name, Preset(row.name, task, row.estimator, given, "", ""))
    return ("--models", row.name, "--folds", 2)


@pytest.mark.parametrize("task", TASKS)
def test_mistakes_in_the_program_keep_their_traceback_and_finished_folds_their_scores(
    light, scans, monkeypatch, task
):
    done = run(scans, *CURATED, *broken(light, monkeypatch, ValueError, 1, task))
    assert done.exit_code == 1
    assert "a mistake in the program" in str(done.exception)
    assert table_of(task, "_folds")["fold"].tolist() == [0]
    assert not os.path.exists(f"hybridus-results/{TASKS[task]}.csv")


def test_ctrl_c_ends_a_comparison_and_keeps_what_was_finished(light, scans, monkeypatch):
    given = broken(light, monkeypatch, KeyboardInterrupt, 1)
    done = run(scans, *CURATED, *given)
    assert done.exit_code == 130
    kept = "1 of 2 folds are finished and kept in hybridus-results/study: the same command goes on"
    kept += " there"
    assert done.stderr.splitlines() == [kept, "stopped by Ctrl-C; what was finished is kept"]
    assert "±" not in done.stdout
    assert table_of("classify", "_folds")["fold"].tolist() == [0]
    assert sorted(os.listdir("hybridus-results")) == ["classification_folds.csv", "study"]


def test_ctrl_c_says_where_an_older_table_stands_beside_the_new_folds(light, scans, monkeypatch):
    succeeded(scans, *CURATED, "--folds", 2, "--task", "classify")
    given = broken(light, monkeypatch, KeyboardInterrupt, 3)
    done = run(scans, *CURATED, *given)
    assert done.exit_code == 130
    assert "0 of 2 folds are finished; hybridus-results/classification.csv is of" in done.stderr


def test_ctrl_c_in_the_last_fit_leaves_the_table_and_no_model(light, scans, monkeypatch):
    done = run(scans, *CURATED, *broken(light, monkeypatch, KeyboardInterrupt, 2))
    assert done.exit_code == 130
    assert "±" in done.stdout
    assert len(table_of("classify")) == 1
    assert not os.path.exists("hybridus-results/models/classify-scans.joblib")


@pytest.fixture
def fitted(monkeypatch):
    """Models that are fitted on folds, which can be interrupted after some."""
    fit_and_judge, models = schedule.fit_and_judge, []

    def noted(model, *args):
        if len(models) == noted.most:
            raise KeyboardInterrupt
        models.append(model)
        return fit_and_judge(model, *args)

    noted.most = None
    noted.models = models
    monkeypatch.setattr(schedule, "fit_and_judge", noted)
    return noted


def test_the_same_command_goes_on_where_it_stopped(lots, fitted):
    given = (lots, "--groups", "groups.csv", "--models", "plain", "--folds", 2)
    given += ("--repeats", 2, "--protocol", "leaky")
    succeeded(*given, "--out", "undisturbed")
    n_folds = len(fitted.models)
    assert n_folds == 2 * 2 + 2
    fitted.most = n_folds + 5
    stopped = run(*given)
    assert stopped.exit_code == 130
    assert "5 of 6 folds are finished and kept in hybridus-results/study" in stopped.stderr
    fitted.most = None
    told = succeeded(*given)
    assert len(fitted.models) == 2 * n_folds
    assert "study    hybridus-results/study: finished folds are kept there" in told.stdout
    assert "5 of 6 folds were kept from an earlier run" in told.stdout
    taken = ["fit_seconds", "score_seconds", "command"]
    for name in ("classification", "classification_folds"):
        one, other = (
            pd.read_csv(f"{folder}/{name}.csv").drop(columns=taken, errors="ignore")
            for folder in ("undisturbed", "hybridus-results")
        )
        pd.testing.assert_frame_equal(one, other, check_exact=True)
    succeeded(*given, "--out", "elsewhere", "--study", "hybridus-results/study")
    assert len(fitted.models) == 2 * n_folds


@pytest.mark.parametrize("task", TASKS)
def test_a_model_that_fails_is_left_out_and_told_of(light, scans, monkeypatch, task):
    row = light[f"{task}-phantoms"]
    given = {**row.parameters, "fails": 1, "error": RuntimeError}
    light[row.name] = Preset(row.name, task, row.estimator, given, "", "")
    models = ("--models", f"{row.name},{task}-scans", "--folds", 2)
    done = run(scans, *CURATED, *models)
    assert done.exit_code == 1
    assert f"model '{row.name}' failed on fold 1 of repeat 0 and is left out" in done.stderr
    assert table_of(task)["model"].tolist() == [f"{task}-scans"]
    said = f"{row.name} is left out: it failed on fold 2 of repeat 1 (RuntimeError: a mistake in"
    assert said in done.stdout
    assert os.path.exists(f"hybridus-results/models/{task}-scans.joblib")


# The leak.


def nearest_neighbour(image_size, random_state, **_):
    return make_pipeline(FunctionTransformer(thumbnails), KNeighborsClassifier(1))


@pytest.fixture
def lots(tmp_path, light, monkeypatch):
    """36 scans, each twice, whose class was drawn by lot; the nearest neighbour is asked."""
    monkeypatch.setattr(hybridus, "nearest_neighbour", nearest_neighbour, raising=False)
    maker = ("classify", "nearest_neighbour", {"image_size": 32}, "", "")
    light["searched"] = Preset(
        "searched", *maker, {"kneighborsclassifier__weights": ["uniform", "distance"]}
    )
    light["plain"] = Preset("plain", *maker)
    rng = np.random.default_rng(0)
    rows = [("filename", "group")]
    for i, label in enumerate(rng.permutation(np.arange(36) % 3)):
        folder = tmp_path / "lots" / CLASSES[label]
        folder.mkdir(parents=True, exist_ok=True)
        coarse = Image.fromarray(rng.integers(0, 256, (5, 5), dtype=np.uint8))
        for twin in range(2):
            coarse.resize((32, 32), Image.Resampling.BILINEAR).save(folder / f"{i}-{twin}.png")
            rows.append((f"{i}-{twin}.png", i))
    with open("groups.csv", "w", newline="") as file:
        csv.writer(file).writerows(rows)
    return tmp_path / "lots"


def test_the_leaky_protocol_stands_beside_the_honest_one_and_leaks(lots):
    given = ("--groups", "groups.csv", "--models", "searched,plain", "--folds", 2, "--repeats", 2)
    told = succeeded(lots, *given, "--protocol", "leaky")
    table = table_of("classify")
    assert table["protocol"].tolist() == ["honest", "leaky"] * 2
    assert sorted(table["model"]) == ["plain", "plain", "searched", "searched"]
    honest, leaky = (table[table["protocol"] == name] for name in ("honest", "leaky"))
    assert (honest["accuracy_mean"] < 0.5).all()
    assert (leaky["accuracy_mean"] > 0.85).all()
    assert leaky[["behind_best", "p_value"]].isna().all(axis=None)  # nobody should choose by them
    folds = table_of("classify", "_folds")
    counts = folds.groupby(["protocol", "model"]).size()
    assert (counts["honest"] == 4).all()
    assert (counts["leaky"] == 2).all()
    assert (folds["best_params"].notna() == (folds["model"] == "searched")).all()
    leak = folds[folds["protocol"] == "leaky"]
    assert (leak["n_train"] + leak["n_test"] == 4 * 72).all()
    gains = 100 * (leaky["accuracy_mean"].to_numpy() - honest["accuracy_mean"].to_numpy())
    assert f"{gains.max():.1f} points of accuracy above the honest ones" in told.stdout
    assert "must not be reported. 4 copies of each image" in told.stdout
    assert "each of 2 random splits then tested 20 % of all copies" in told.stdout
    assert "2 folds train on 50 % of the images: --folds 5 trains on 80 %" in told.stdout


def test_one_random_split_has_no_spread_and_networks_know_of_no_groups(light, scans):
    told = succeeded(scans, *CURATED, "--folds", 2, "--protocol", "leaky")
    assert "one random split then tested 20 % of all copies" in told.stdout
    table = table_of("classify").set_index("protocol")
    assert np.isnan(table.loc["leaky", "accuracy_std"])
    (line,) = [line for line in told.stdout.splitlines() if line.strip().startswith("leaky ")]
    assert "±" not in line
    assert "nan" not in line
    without_groups = [n for _, n, groups in Recorder.fits if groups is None]
    assert without_groups == [76]  # 80 % of 4 x 24
    assert Recorder.fits[-1][2] is not None  # the refit is honest


# The screen and the disk.


@pytest.mark.parametrize("task", TASKS)
def test_tables_fit_80_columns(light, scans, task, monkeypatch):
    monkeypatch.setattr("hybridus.cli.console.SCREEN.width", 80, raising=False)
    longest = max(len(row.name) for row in presets.PRESETS.values() if row.task == task)
    row = light[f"{task}-scans"]
    light.clear()
    light["x" * longest] = Preset("x" * longest, task, row.estimator, row.parameters, "", "")
    leaky = ("--protocol", "leaky") if task == "classify" else ()
    told = succeeded(scans, *CURATED, "--models", "x" * longest, "--folds", 2, *leaky)
    rows = [line for line in told.stdout.splitlines() if "±" in line and ":" not in line]
    assert len(rows) == 1 + len(leaky[:1])
    assert max(map(len, rows)) <= 80


def test_activations_may_take_half_of_a_free_disk_unless_the_user_has_said(monkeypatch):
    monkeypatch.delenv("HYBRIDUS_ACTIVATION_GIB", raising=False)
    for free, n_jobs, allowed in ((30, 1, "15"), (30, 2, "7"), (1, 1, "4"), (900, 1, "24")):
        usage = SimpleNamespace(free=free * 2**30)
        monkeypatch.setattr(results.shutil, "disk_usage", lambda _, usage=usage: usage)
        with results.room_for_activations(n_jobs):
            assert os.environ["HYBRIDUS_ACTIVATION_GIB"] == allowed
        assert "HYBRIDUS_ACTIVATION_GIB" not in os.environ
    monkeypatch.setenv("HYBRIDUS_ACTIVATION_GIB", "2")
    with results.room_for_activations(1):
        assert os.environ["HYBRIDUS_ACTIVATION_GIB"] == "2"


# Real models.


def test_a_small_hybrid_and_a_small_segmenter_end_to_end(scans, monkeypatch):
    small = {
        "hybrid": Preset(
            "hybrid",
            "classify",
            "make_hybrid_classifier",
            {"encoder": "mobilenet_v2_0.35", "head": "logreg", "image_size": 32},
            "seconds",
            "small",
            {"head__C": [0.003, 0.03]},
        ),
        "pixels": Preset(
            "pixels",
            "segment",
            "PixelSegmenter",
            {"features": "basic", "mask_size": 32, "sigma_max": 2, "n_pixels": 50},
            "seconds",
            "small",
        ),
    }
    for module in ("hybridus.presets", "hybridus.cli.settings", "hybridus.cli.task_run"):
        monkeypatch.setattr(f"{module}.PRESETS", small)
    told = succeeded(scans, *CURATED, "--folds", 2, "--models", "hybrid", "--weights", "bundled")
    assert "input    32 x 32 pixels" in told.stdout
    assert "searched and fitted again on all 24 images (C = 0.0" in told.stdout
    page = (scans.parent / "hybridus-results/report.html").read_text()
    assert page.count("data-place=") == 24  # by the features that the store knows
    table = table_of("classify")
    assert table["weights"].tolist() == ["bundled"]
    assert 0.1 < table["accuracy_mean"].item() <= 1
    busi = hybridus.load_busi(scans)
    model = hybridus.load("hybridus-results/models/hybrid.hybridus")
    np.testing.assert_allclose(model.predict_proba(busi.images[:3]).sum(axis=1), 1)
    card = hybridus.read_card("hybridus-results/models/hybrid.hybridus")
    assert card.scores["accuracy"]["mean"] == round(table["accuracy_mean"].item(), 4)
    assert card.data["n_images"] == 24
    assert card.referral["share"] == 0.2
    assert (model.predict(busi.images) == np.array(CLASSES)[busi.target]).mean() > 0.5

    told = succeeded(scans, *CURATED, "--folds", 2, "--models", "pixels")
    assert "input    32 x 32 pixels; masks are judged at 128 x 128" in told.stdout
    table = table_of("segment").set_index("model")
    assert table.loc["pixels", "dice_mean"] > 0.7
    model = hybridus.load("hybridus-results/models/pixels.hybridus")
    lesion = busi.target > 0
    assert dice(busi.masks[lesion], model.predict(busi.images[lesion])) > 0.7


def test_the_audit_of_the_same_data_is_kept_with_the_study(light, scans, monkeypatch):
    look, found = audit.audit, []

    def counted(*args, **options):
        found.append(found[0] if found else look(*args, **options))
        return found[-1]

    monkeypatch.setattr(audit, "audit", counted)
    given = (scans, "--folds", 2, "--task", "classify")
    told = succeeded(*given).stdout
    assert "audit    no groups given: looking for duplicates among 24 images" in told
    again = succeeded(*given).stdout
    assert len(found) == 1
    assert "audit    of these 24 images is known from an earlier run" in again
    assert told[told.index("data ") : told.index("study ")] in again
    (kept,) = (scans.parent / "hybridus-results" / "study").glob("audit-*.json")
    kept.write_text(kept.read_text()[:100])  # damaged
    succeeded(*given)
    assert len(found) == 2
    image = scans / "benign" / "benign (3).png"
    Image.fromarray(np.asarray(Image.open(image)) // 2).save(image)
    succeeded(*given)
    assert len(found) == 3


# The page.


def test_a_page_of_both_tasks_is_the_last_thing_told(light, scans, monkeypatch):
    monkeypatch.setattr(reported, "_write", write_page)
    monkeypatch.setattr(reported, "_features", lambda _: np.arange(48.0).reshape(24, 2))
    monkeypatch.setattr(sys, "argv", ["hybridus", "compare", "a folder", "--folds", "2"])
    models = ("--models", "classify-scans,segment-scans", "--folds", 2)
    told = succeeded(scans, *CURATED, *models).stdout.splitlines()
    assert told[-2].endswith("Not a medical device.")
    assert told[-1] == "report   hybridus-results/report.html"
    page = (scans.parent / "hybridus-results/report.html").read_text()
    table = table_of("classify").iloc[0]
    for said in (
        f"{table['accuracy_mean']:.3f} ± {table['accuracy_std']:.3f}",
        f"{table_of('segment')['dice_mean'][0]:.3f} ± ",
        table["data_digest"],
        "hybridus compare &#39;a folder&#39; --folds 2",
        "Masks of segment-scans",
        "Map of the images",
        "24 images of 12 scans",  # by the audit, joined with the groups that were given
        "normal (0).png",
    ):
        assert said in page, said


def test_a_page_that_fails_loses_no_table(light, scans, monkeypatch):
    def fail(page, done):
        raise RuntimeError("no ink")

    page = scans.parent / "hybridus-results/report.html"
    page.parent.mkdir()
    page.write_text("of an earlier run")
    monkeypatch.setattr(reported, "_write", fail)
    done = run(scans, *CURATED, "--models", "classify-scans", "--folds", 2)
    assert done.exit_code == 1
    assert "report.html could not be written (RuntimeError: no ink)" in done.stderr
    assert done.stdout.splitlines()[-1].endswith("Not a medical device.")
    assert not page.exists()
    assert table_of("classify")["model"].tolist() == ["classify-scans"]
