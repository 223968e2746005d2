"""`hybridus compare` from its options to its files: on light models, and once on a real network."""

import csv
import os
import subprocess
import sys

import joblib
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn.linear_model import LogisticRegression, RidgeClassifier
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.svm import SVC
from typer.testing import CliRunner

import hybridus
from hybridus.cli import app
from hybridus.cli import compare as command
from hybridus.cli import data as reading
from hybridus.images import as_images

CLASSES = ("normal", "malignant", "benign")


def brightness(X):
    images = as_images(X)
    return np.array([[images[i].mean(), images[i].std()] for i in range(len(images))])


class BrokenSVC(SVC):
    def fit(self, X, y, sample_weight=None):
        raise ValueError("a mistake in the program")


def light_pipeline(encoder, head, *, random_state, **_):
    heads = {
        "svm": SVC(random_state=random_state),
        "mlp": RidgeClassifier(),  # fast, and has an alpha like an MLP
        "logreg": LogisticRegression(),
    }
    steps = [
        ("features", FunctionTransformer(brightness)),
        ("scaler", StandardScaler()),
        ("head", heads[head]),
    ]
    return Pipeline(steps)


@pytest.fixture
def light(monkeypatch):
    """Models that look at brightness only, and few phantoms."""
    monkeypatch.setattr("hybridus.hybrid.make_hybrid_classifier", light_pipeline)
    monkeypatch.setattr(reading, "N_PHANTOMS", 36)


@pytest.fixture(autouse=True)
def own_folder(tmp_path, monkeypatch):
    """Results land in a folder of the test."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def scans(tmp_path):
    """BUSI in small: 12 scans a class with masks, each scan twice, brightness tells the class."""
    rng = np.random.default_rng(0)
    rows = []
    for label, name in enumerate(CLASSES):
        folder = tmp_path / "scans" / name
        folder.mkdir(parents=True)
        for i in range(12):
            group = f"{name} ({i // 2})"
            level = 60 + 50 * label + rng.normal(0, 25)
            pixels = rng.normal(level, 20, (20, 24)).clip(0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / f"{name} ({i}).png")
            lesion = np.zeros((20, 24), dtype=np.uint8)
            lesion[5:9, 5:9] = 255 * (label > 0)
            Image.fromarray(lesion).save(folder / f"{name} ({i})_mask.png")
            rows.append((f"{name} ({i})", group, "multiclass&axilla" if i == 11 else "", ""))
    table = pd.DataFrame(rows, columns=["busi_file", "group", "objection", "annotation"])
    table.to_csv(tmp_path / "curation.csv", index=False)
    return tmp_path / "scans"


def run(*arguments):
    return CliRunner().invoke(app, ["compare", *map(str, arguments)])


def refused(*arguments):
    """Run what must end in one line on standard error and exit code 2; return the line."""
    result = run(*arguments)
    assert result.exit_code == 2, result.output
    assert isinstance(result.exception, SystemExit)
    lines = [line for line in result.stderr.splitlines() if not line.startswith("warning")]
    assert len(lines) == 1
    assert lines[0].startswith("error: ")
    return lines[0]


def write_groups(rows, name="groups.csv", header=("filename", "group")):
    with open(name, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])
    return name


def test_version_and_help_answer_without_heavy_imports():
    script = (
        "import sys; from typer.testing import CliRunner; from hybridus.cli import app\n"
        "version = CliRunner().invoke(app, ['--version'])\n"
        "usage = CliRunner().invoke(app, ['compare', '--help'])\n"
        "assert version.exit_code == usage.exit_code == 0\n"
        "heavy = {'numpy', 'pandas', 'sklearn', 'scipy', 'keras', 'tensorflow', 'openvino'}\n"
        "print(version.output.strip(), sorted(heavy & sys.modules.keys()))\n"
        "print(usage.output)"
    )
    result = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    first, _, usage = result.stdout.partition("\n")
    assert first == f"hybridus {hybridus.__version__} []"
    for option in ("--task", "--models", "--folds", "--repeats", "--curation", "--groups"):
        assert option in usage
    for option in ("--weights", "--image-size", "--n-jobs", "--seed", "--out"):
        assert option in usage


def test_python_dash_m_is_the_same_command():
    result = subprocess.run(
        [sys.executable, "-m", "hybridus", "--version"], capture_output=True, text=True, check=True
    )
    assert result.stdout == f"hybridus {hybridus.__version__}\n"


def test_models_are_the_hybrids_of_the_reported_research():
    assert command.DEFAULT_MODELS == [
        "mobilenet_v2-svm",
        "mobilenet_v2-mlp",
        "vgg16-svm",
        "vgg16-mlp",
        "fusion-logreg",
    ]
    for name in command.OFFLINE_MODELS:
        assert command.RECIPES[name].encoders == ("mobilenet_v2_0.35",)
    assert sorted(command.DEFAULT_MODELS + command.OFFLINE_MODELS) == sorted(command.RECIPES)
    fusion = command.RECIPES["fusion-logreg"]
    assert set(fusion.encoders) == {"vgg16", "mobilenet_v2", "resnet50"}
    assert (fusion.head, fusion.layers) == ("logreg", "multi")


SMALL = {"weights": "random", "image_size": 64, "cache": False}


def test_each_model_is_a_search_whose_inner_folds_know_the_groups():
    images, target = np.zeros((4, 8, 8)), np.array([0, 0, 1, 1])
    grouped = reading.Data(images, target, ["a", "b"], "x", groups=np.arange(4))
    free = reading.Data(images, target, ["a", "b"], "x")
    grids = {
        "mobilenet_v2-svm": {"head__C": [1, 10, 100]},
        "vgg16-mlp": {"head__alpha": [1e-4, 1e-2, 1]},
        "fusion-logreg": {"head__C": [0.001, 0.003, 0.01, 0.1]},
    }
    for name, grid in grids.items():
        search = command._search(command.RECIPES[name], grouped, SMALL, 7)
        assert isinstance(search.cv, StratifiedGroupKFold)
        assert (search.cv.n_splits, search.cv.random_state) == (3, 7)
        assert search.param_grid == grid
        assert search.estimator.get_params()["head__random_state"] == 7
        search = command._search(command.RECIPES[name], free, SMALL, 7)
        assert isinstance(search.cv, StratifiedKFold)
    parts = search.estimator.get_params()["features"].transformer_list
    for name, extractor in parts:
        assert (extractor.encoder, extractor.layers) == (name, "multi")
        assert {key: getattr(extractor, key) for key in SMALL} == SMALL


def test_without_data_phantoms_are_compared_and_said_to_be_such(light):
    result = run("--folds", 2, "--seed", 4)
    assert result.exit_code == 0, result.output
    assert "simulated phantoms: 36 images; normal (0) 11, malignant (1) 13" in result.stdout
    assert "No DATA given. Phantoms are independent of one another: no groups" in result.stdout
    assert "weights  bundled; network input" in result.stdout
    assert "nested estimate" in result.stdout
    assert "It is the best of 3, and so slightly optimistic" in result.stdout
    assert "Not a medical device" in result.stdout
    assert result.stderr == ""
    table = pd.read_csv("hybridus-results/classification.csv")
    assert sorted(table["model"]) == sorted(command.OFFLINE_MODELS)
    assert table["accuracy_mean"].is_monotonic_decreasing
    for name in table["model"]:
        assert name in result.stdout


def test_table_holds_what_the_folds_hold_and_how_they_were_made(light, scans):
    arguments = (scans, "--curation", "curation.csv", "--models", "vgg16-svm,vgg16-mlp")
    result = run(*arguments, "--folds", 3, "--repeats", 2, "--seed", 5, "--out", "results")
    assert result.exit_code == 0, result.output
    table = pd.read_csv("results/classification.csv", index_col="model")
    folds = pd.read_csv("results/classification_folds.csv")
    assert len(folds) == 2 * 3 * 2
    assert (folds.groupby(["model", "repeat"])["n_test"].sum() == 33).all()
    for name, rows in folds.groupby("model"):
        for metric in ("accuracy", "f1_macro", "balanced_accuracy", "macro_ovr_auc"):
            assert table.loc[name, f"{metric}_mean"] == pytest.approx(rows[metric].mean())
            assert table.loc[name, f"{metric}_std"] == pytest.approx(rows[metric].std(ddof=1))
        assert 0.45 < table.loc[name, "accuracy_mean"] < 1
    best = table.iloc[0]
    shown = f"{best['accuracy_mean']:.3f}±{best['accuracy_std']:.3f}".replace("0.", ".")
    assert shown in result.stdout
    assert (best["n_images"], best["n_groups"]) == (33, 18)
    assert (best["folds"], best["repeats"], best["seed"]) == (3, 2, 5)
    assert best["weights"] == "imagenet"
    assert best["hybridus"] == hybridus.__version__
    assert len(best["data_digest"]) == 32
    assert folds["best_params"].str.contains("head__C|head__alpha").all()
    assert sorted(os.listdir("results")) == [
        "classification.csv",
        "classification_folds.csv",
        "models",
    ]


def test_the_best_model_is_refitted_on_all_images_and_saved(light, scans):
    result = run(scans, "--curation", "curation.csv", "--models", "vgg16-svm", "--folds", 2)
    assert result.exit_code == 0, result.output
    assert "fitted again on all 33 images (C = " in result.stdout
    assert "best of" not in result.stdout
    model = joblib.load("hybridus-results/models/vgg16-svm.joblib")
    assert isinstance(model, Pipeline)
    busi = hybridus.load_busi(scans, curation="curation.csv", exclude=("multiclass",))
    assert model.named_steps["scaler"].n_samples_seen_ == 33
    assert (model.predict(busi.images) == busi.target).mean() > 0.6


def test_busi_is_recognised_and_its_curation_obeyed(light, scans):
    result = run(scans, "--curation", "curation.csv", "--models", "vgg16-svm", "--folds", 2)
    assert result.exit_code == 0, result.output
    assert "33 images; normal (0) 11, malignant (1) 11, benign (2) 11" in result.stdout
    assert "3 images with objection 'multiclass' are left out" in result.stdout
    assert "groups   18, each on one side of every split" in result.stdout
    assert "warning" not in result.stderr


def test_real_scans_without_groups_get_a_warning_with_numbers(light, scans):
    result = run(scans, "--models", "vgg16-svm", "--folds", 2)
    assert result.exit_code == 0, result.output
    assert "36 images; normal (0) 12" in result.stdout  # masks are no images
    assert "groups " not in result.stdout
    assert "38 %" in result.stderr
    assert "seven points" in result.stderr
    assert "--curation FILE" in result.stderr
    asked = run(scans, "--curation", "curation.csv", "--groups", "none", "--models", "vgg16-svm")
    assert asked.exit_code == 0, asked.output
    assert "38 %" in asked.stderr
    assert "--curation FILE" not in asked.stderr
    assert pd.read_csv("hybridus-results/classification.csv")["n_groups"].isna().all()


def test_any_folder_of_class_folders_works(light, scans):
    for mask in scans.glob("*/*_mask.png"):
        mask.unlink()
    (scans / "benign").rename(scans / "apples")
    result = run(scans, "--models", "vgg16-svm", "--folds", 2)
    assert result.exit_code == 0, result.output
    assert "apples (0) 12, malignant (1) 12, normal (2) 12" in result.stdout
    assert "--groups FILE" in result.stderr
    assert "--curation" not in result.stderr


def test_groups_file_names_images_by_path_or_by_unique_base_name(light, scans):
    rows = [(f"{name}/{name} ({i}).png", f"{name}{i // 3}") for name in CLASSES for i in range(6)]
    rows += [(f"{name} ({i}).png", f"{name}{i // 3}") for name in CLASSES for i in range(6, 12)]
    result = run(scans, "--groups", write_groups(rows), "--models", "vgg16-svm", "--folds", 2)
    assert result.exit_code == 0, result.output
    assert "groups   12, each" in result.stdout
    assert "warning" not in result.stderr


def test_groups_of_the_file_come_before_those_of_the_curation(light, scans):
    rows = [(f"{name} ({i}).png", f"{name}{i // 4}") for name in CLASSES for i in range(11)]
    groups = write_groups(rows)  # images that the curation leaves out need no group
    arguments = ("--curation", "curation.csv", "--groups", groups, "--models", "vgg16-svm")
    result = run(scans, *arguments, "--folds", 2)
    assert result.exit_code == 0, result.output
    assert "groups   9, each" in result.stdout


def complete_rows():
    return [(f"{name} ({i}).png", f"{name}{i // 3}") for name in CLASSES for i in range(12)]


@pytest.mark.parametrize(
    ("rows", "header", "message"),
    [
        (complete_rows()[1:], ("filename", "group"), "1 of 36 images have no group, first 'normal"),
        (complete_rows(), ("file", "group"), "expected columns filename and group, found ['file'"),
        (
            [*complete_rows()[:-1], ("benign (11).png", "")],
            ("filename", "group"),
            "'benign (11).png' has no group",
        ),
        (
            [*complete_rows(), ("benign (11).png", "other")],
            ("filename", "group"),
            "'benign (11).png' stands in groups 'benign3' and 'other'",
        ),
        (
            [*complete_rows()[:-1], ("a/benign (11).png", "x"), ("b/benign (11).png", "y")],
            ("filename", "group"),
            "1 of 36 images have no group, first 'benign/benign (11).png'",
        ),
        ([], (), "expected columns filename and group, found"),
    ],
    ids=["missing", "columns", "empty", "twice", "ambiguous", "empty file"],
)
def test_groups_file_that_leaves_a_doubt_is_refused(light, scans, rows, header, message):
    assert message in refused(scans, "--groups", write_groups(rows, header=header))


def test_user_errors_are_one_line_and_exit_code_2(light, scans):
    line = refused("--models", "vgg16-svm,vgg19-svm")
    assert "vgg19-svm: no such model; choose of mobilenet_v2-svm, mobilenet_v2-mlp" in line
    assert "no such model" in refused("--models", ",")
    assert "--n-jobs 0" in refused("--n-jobs", 0)
    assert "nowhere" in refused("nowhere")
    assert "nowhere.csv" in refused(scans, "--groups", "nowhere.csv")
    assert "nowhere.csv" in refused(scans, "--curation", "nowhere.csv")
    assert "give their folder DATA" in refused("--curation", "curation.csv")
    assert "give their folder DATA" in refused("--groups", "none")
    assert not os.path.exists("hybridus-results")
    assert "file-in-the-way" in refused("--out", write_groups([], name="file-in-the-way"))


def test_what_would_fail_after_an_hour_fails_at_once(light, scans):
    (scans / "benign" / "benign (7).png").write_bytes(b"\x89PNG\r\n\x1a\n rest is missing")
    for mask in scans.glob("*/*_mask.png"):
        mask.unlink()
    assert "benign (7).png' cannot be decoded" in refused(scans)
    line = refused(scans, "--folds", 13)
    assert "class 0 has only 12 samples, fewer than the 13 folds" in line
    assert not os.path.exists("hybridus-results")


def test_too_few_groups_of_a_class_are_named(light, scans):
    line = refused(scans, "--curation", "curation.csv", "--folds", 7)
    assert "class 0 has only 6 groups, fewer than the 7 folds: take fewer folds" in line


def test_weights_that_cannot_be_had_are_told_before_the_work(scans):
    line = refused(scans, "--models", "mobilenet_v2-svm", "--weights", "nowhere.safetensors")
    assert "nowhere.safetensors" in line


def test_mistakes_in_the_program_keep_their_traceback_and_finished_models_their_scores(
    light, scans, monkeypatch
):
    def half_broken(encoder, head, **parameters):
        pipeline = light_pipeline(encoder, head, **parameters)
        return pipeline.set_params(head=BrokenSVC()) if encoder == "vgg16" else pipeline

    monkeypatch.setattr("hybridus.hybrid.make_hybrid_classifier", half_broken)
    result = run(scans, "--models", "mobilenet_v2-svm", "--models", "vgg16-svm", "--folds", 2)
    assert result.exit_code == 1
    assert isinstance(result.exception, ValueError)
    assert "a mistake in the program" in str(result.exception)
    folds = pd.read_csv("hybridus-results/classification_folds.csv")
    assert folds["model"].tolist() == ["mobilenet_v2-svm"] * 2
    assert not os.path.exists("hybridus-results/classification.csv")


def test_the_seed_decides_the_scores_and_processes_do_not(light, scans):
    scores = []
    for options in (["--seed", 1], ["--seed", 1, "--n-jobs", 2], ["--seed", 2]):
        result = run(scans, "--models", "vgg16-mlp", "--folds", 3, *options)
        assert result.exit_code == 0, result.output
        folds = pd.read_csv("hybridus-results/classification_folds.csv")
        scores.append(folds.drop(columns=["fit_seconds", "score_seconds"]))
    pd.testing.assert_frame_equal(scores[0], scores[1], check_exact=True)
    assert (scores[0]["test_set"] != scores[2]["test_set"]).all()


def test_a_small_real_network_end_to_end(monkeypatch):
    recipe = command.Recipe(("mobilenet_v2_0.35",), "logreg")
    monkeypatch.setattr(command, "RECIPES", {"tiny": recipe})
    monkeypatch.setattr(command, "OFFLINE_MODELS", ["tiny"])
    monkeypatch.setattr(command, "GRIDS", {"logreg": {"head__C": [0.003, 0.03]}})
    monkeypatch.setattr(reading, "N_PHANTOMS", 30)
    result = run("--folds", 2, "--image-size", 32)
    assert result.exit_code == 0, result.output
    assert "network input 32 x 32 pixels" in result.stdout
    table = pd.read_csv("hybridus-results/classification.csv")
    assert table["weights"].tolist() == ["bundled"]
    assert table["image_size"].tolist() == [32]
    assert 0.1 < table["accuracy_mean"].item() < 0.9
    model = joblib.load("hybridus-results/models/tiny.joblib")
    phantoms = hybridus.make_breast_phantoms(30, random_state=0)
    assert (model.predict(phantoms.images) == phantoms.target).mean() > 0.5
