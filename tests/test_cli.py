"""`hybridus compare` from its options to its files: on light models, and once on a real network."""

import csv
import importlib
import os
import subprocess
import sys

import joblib
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.linear_model import LogisticRegression, RidgeClassifier
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.svm import SVC
from typer.testing import CliRunner

import hybridus
from hybridus.cli import app, recipes
from hybridus.cli import data as reading
from hybridus.estimators.classifiers import FineTunedClassifier
from hybridus.inputs.images import as_images

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


class LightNetwork(ClassifierMixin, BaseEstimator):
    """Takes the place of a network: looks at brightness only, and notes the groups it is given."""

    __metadata_request__fit = {"groups": True}  # noqa: RUF012  scikit-learn's own spelling
    fits: list = []  # noqa: RUF012  of all instances, since `cross_validate` clones

    def __init__(self, encoder, trainable, weights, image_size, cache, random_state, **settings):
        self.encoder = encoder
        self.trainable = trainable
        self.weights = weights
        self.image_size = image_size
        self.cache = cache
        self.random_state = random_state
        self.validation_fraction = 0.15

    @classmethod
    def _get_param_names(cls):
        return ["cache", "encoder", "image_size", "random_state", "trainable", "weights"]

    def fit(self, X, y, groups=None):
        self.fits.append((len(y), None if groups is None else list(groups)))
        self.inner_ = SVC(random_state=self.random_state).fit(brightness(X), y)
        self.classes_ = self.inner_.classes_
        self.best_epoch_, self.n_iter_ = 7, 17
        return self

    def predict(self, X):
        return self.inner_.predict(brightness(X))

    def predict_proba(self, X):
        return np.eye(len(self.classes_))[np.searchsorted(self.classes_, self.predict(X))]


@pytest.fixture
def light(monkeypatch):
    """Models that look at brightness only, and few phantoms."""
    monkeypatch.setattr("hybridus.estimators.hybrid.make_hybrid_classifier", light_pipeline)
    monkeypatch.setattr("hybridus.estimators.classifiers.FineTunedClassifier", LightNetwork)
    monkeypatch.setattr(LightNetwork, "fits", [])
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
    for option in ("--protocol", "--weights", "--image-size", "--n-jobs", "--seed", "--out"):
        assert option in usage
    plain = " ".join(usage.replace("│", " ").split())
    for name in recipes.RECIPES:
        assert name in plain
    assert "minutes for each fold, mobilenet_v2-softmax and vgg16-softmax" in plain
    assert "128 for slow fine-tuned ones" in plain
    assert "how inflated such figures are" in plain


def test_python_dash_m_is_the_same_command():
    result = subprocess.run(
        [sys.executable, "-m", "hybridus", "--version"], capture_output=True, text=True, check=True
    )
    assert result.stdout == f"hybridus {hybridus.__version__}\n"


def test_models_are_those_of_the_reported_research():
    assert recipes.DEFAULT_MODELS == [
        "mobilenet_v2-svm",
        "mobilenet_v2-mlp",
        "vgg16-svm",
        "vgg16-mlp",
        "fusion-logreg",
        "mobilenet_v2-softmax-last",
    ]
    assert recipes.SLOW_MODELS == ["mobilenet_v2-softmax", "vgg16-softmax"]
    assert recipes.OFFLINE_MODELS == [
        "mobilenet_v2_0.35-svm",
        "mobilenet_v2_0.35-mlp",
        "mobilenet_v2_0.35-logreg",
        "mobilenet_v2_0.35-softmax-last",
    ]
    named = recipes.DEFAULT_MODELS + recipes.SLOW_MODELS + recipes.OFFLINE_MODELS
    assert sorted(named) == sorted(recipes.RECIPES)
    fusion = recipes.RECIPES["fusion-logreg"]
    assert set(fusion.encoders) == {"vgg16", "mobilenet_v2", "resnet50"}
    assert (fusion.head, fusion.layers) == ("logreg", "multi")


SMALL = {"weights": "random", "image_size": 64, "cache": False}


def test_a_hybrid_is_a_search_whose_inner_folds_know_the_groups():
    grids = {
        "mobilenet_v2-svm": {"head__C": [1, 10, 100]},
        "vgg16-mlp": {"head__alpha": [1e-4, 1e-2, 1]},
        "fusion-logreg": {"head__C": [0.001, 0.003, 0.01, 0.1]},
    }
    for name, grid in grids.items():
        search = recipes.build(recipes.RECIPES[name], grouped=True, seed=7, **SMALL)
        assert isinstance(search.cv, StratifiedGroupKFold)
        assert (search.cv.n_splits, search.cv.random_state) == (3, 7)
        assert search.param_grid == grid
        assert search.estimator.get_params()["head__random_state"] == 7
        assert recipes.is_search(search)
        search = recipes.build(recipes.RECIPES[name], grouped=False, seed=7, **SMALL)
        assert isinstance(search.cv, StratifiedKFold)
    parts = search.estimator.get_params()["features"].transformer_list
    for name, extractor in parts:
        assert (extractor.encoder, extractor.layers) == (name, "multi")
        assert {key: getattr(extractor, key) for key in SMALL} == SMALL


def test_a_fine_tuned_network_has_the_settings_of_one_table():
    trained = {
        "mobilenet_v2-softmax": ("mobilenet_v2", "first:10"),
        "mobilenet_v2-softmax-last": ("mobilenet_v2", "last:20"),
        "vgg16-softmax": ("vgg16", "first:10"),
        "mobilenet_v2_0.35-softmax-last": ("mobilenet_v2_0.35", "last:20"),
    }
    for name, expected in trained.items():
        network = recipes.build(recipes.RECIPES[name], grouped=True, seed=7, **SMALL)
        assert isinstance(network, FineTunedClassifier)
        assert not recipes.is_search(network)
        assert (network.encoder, network.trainable) == expected
        assert {key: getattr(network, key) for key in SMALL} == SMALL
        settings = {**recipes.FINE_TUNING, **recipes.RECIPES[name].settings, **SMALL}
        assert {key: getattr(network, key) for key in settings} == settings
        assert network.random_state == 7
    own = recipes.build(
        recipes.FineTuned("vgg16", "all", {"image_size": 160, "max_epochs": 3}),
        **{**SMALL, "image_size": None, "grouped": False, "seed": 0},
    )
    assert (own.image_size, own.max_epochs) == (160, 3)
    assert own.learning_rate == recipes.FINE_TUNING["learning_rate"]


def test_the_input_is_that_of_the_encoder_or_of_fine_tuning_unless_given():
    row = recipes.RECIPES
    assert recipes.input_size(row["vgg16-svm"], None) == (224, 224)
    assert recipes.input_size(row["fusion-logreg"], None) == (224, 224)
    assert recipes.input_size(row["vgg16-softmax"], None) == (128, 128)
    assert recipes.input_size(row["vgg16-softmax"], 96) == (96, 96)
    assert recipes.input_size(row["fusion-logreg"], 96) == (96, 96)


def test_without_data_phantoms_are_compared_and_said_to_be_such(light):
    result = run("--folds", 2, "--seed", 4)
    assert result.exit_code == 0, result.output
    assert "simulated phantoms: 36 images; normal (0) 11, malignant (1) 13" in result.stdout
    assert "No DATA given. Phantoms are independent of one another: no groups" in result.stdout
    assert "models   3 hybrids, each searched on 3 inner folds\n" in result.stdout
    assert "1 fine-tuned network, 15 % of the training part held out to stop" in result.stdout
    assert "folds    2 x 1 outer folds, the same for all models\n" in result.stdout
    assert "weights  bundled\n" in result.stdout
    assert "input    96 x 96 pixels\n" in result.stdout
    assert (
        "without the images that it was tested on. It is the best of 4, and so slightly optimistic"
        in result.stdout
    )
    assert "Not a medical device" in result.stdout
    assert result.stderr == ""
    table = pd.read_csv("hybridus-results/classification.csv")
    assert sorted(table["model"]) == sorted(recipes.OFFLINE_MODELS)
    assert (table["protocol"] == "honest").all()
    assert (table["image_size"] == 96).all()
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
    assert (best["weights"], best["image_size"]) == ("imagenet", 224)
    assert best["hybridus"] == hybridus.__version__
    assert len(best["data_digest"]) == 32
    assert (folds["protocol"] == "honest").all()
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
    assert "benign (7).png' cannot be decoded" in refused(scans, "--models", "vgg16-svm")
    line = refused(scans, "--folds", 13, "--models", "vgg16-svm")
    assert "class 0 has only 12 samples, fewer than the 13 folds" in line
    assert not os.path.exists("hybridus-results")


def test_too_few_groups_of_a_class_are_named(light, scans):
    line = refused(scans, "--curation", "curation.csv", "--folds", 7)
    assert "class 0 has only 6 groups, fewer than the 7 folds: take fewer folds" in line


@pytest.mark.parametrize("model", ["mobilenet_v2-svm", "mobilenet_v2-softmax"])
def test_weights_that_cannot_be_had_are_told_before_the_work(scans, model):
    line = refused(scans, "--models", model, "--weights", "nowhere.safetensors")
    assert "nowhere.safetensors" in line
    assert not os.path.exists("hybridus-results")


def test_layers_that_are_not_in_the_network_are_told_before_the_work(scans, monkeypatch):
    recipe = recipes.FineTuned("mobilenet_v2_0.35", "block_99")
    monkeypatch.setattr(recipes, "RECIPES", {"mistaken": recipe})
    line = refused(scans, "--models", "mistaken", "--weights", "bundled", "--image-size", 32)
    assert "trainable='block_99'" in line
    assert not os.path.exists("hybridus-results")


def test_mistakes_in_the_program_keep_their_traceback_and_finished_models_their_scores(
    light, scans, monkeypatch
):
    def half_broken(encoder, head, **parameters):
        pipeline = light_pipeline(encoder, head, **parameters)
        return pipeline.set_params(head=BrokenSVC()) if encoder == "vgg16" else pipeline

    monkeypatch.setattr("hybridus.estimators.hybrid.make_hybrid_classifier", half_broken)
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
    recipe = recipes.Hybrid(("mobilenet_v2_0.35",), "logreg")
    monkeypatch.setattr(recipes, "RECIPES", {"tiny": recipe})
    monkeypatch.setattr(recipes, "OFFLINE_MODELS", ["tiny"])
    monkeypatch.setattr(recipes, "GRIDS", {"logreg": {"head__C": [0.003, 0.03]}})
    monkeypatch.setattr(reading, "N_PHANTOMS", 30)
    result = run("--folds", 2, "--image-size", 32)
    assert result.exit_code == 0, result.output
    assert "input    32 x 32 pixels" in result.stdout
    table = pd.read_csv("hybridus-results/classification.csv")
    assert table["weights"].tolist() == ["bundled"]
    assert table["image_size"].tolist() == [32]
    assert 0.1 < table["accuracy_mean"].item() < 0.9
    model = joblib.load("hybridus-results/models/tiny.joblib")
    phantoms = hybridus.make_breast_phantoms(30, random_state=0)
    assert (model.predict(phantoms.images) == phantoms.target).mean() > 0.5


TUNED = "mobilenet_v2_0.35-softmax-last"


def test_a_network_is_fitted_with_the_groups_of_what_it_is_fitted_on(light, scans):
    arguments = ("--curation", "curation.csv", "--weights", "bundled", "--models", TUNED)
    result = run(scans, *arguments, "--folds", 3)
    assert result.exit_code == 0, result.output
    assert "searched" not in result.stdout
    assert "input    128 x 128 pixels (224 takes three times as long)" in result.stdout
    groups = hybridus.load_busi(scans, curation="curation.csv", exclude=("multiclass",)).groups
    *in_folds, refit = LightNetwork.fits
    assert refit == (33, list(groups))
    assert len(in_folds) == 3
    for n_samples, known in in_folds:
        assert len(known) == n_samples < 33
        assert 8 <= len(set(known)) <= 14  # of 18: those of the other two folds
    assert "trained again on all 33 images, 15 % of them held out" in result.stdout
    assert "(weights of epoch 7 of 17)" in result.stdout
    assert "nested estimate" not in result.stdout
    model = joblib.load(f"hybridus-results/models/{TUNED}.joblib")
    assert isinstance(model, LightNetwork)
    assert (model.cache, model.random_state) == (True, 0)
    folds = pd.read_csv("hybridus-results/classification_folds.csv")
    assert folds["best_params"].isna().all()
    assert pd.read_csv("hybridus-results/classification.csv")["image_size"].tolist() == [128]


def test_options_reach_networks_too(light, scans):
    options = ("--weights", "bundled", "--image-size", 64, "--seed", 3, "--no-cache")
    result = run(scans, "--groups", "none", "--models", TUNED, "--folds", 2, *options)
    assert result.exit_code == 0, result.output
    assert "input    64 x 64 pixels\n" in result.stdout
    model = joblib.load(f"hybridus-results/models/{TUNED}.joblib")
    assert (model.weights, model.image_size, model.random_state) == ("bundled", 64, 3)
    assert model.cache is False
    assert [known for _, known in LightNetwork.fits] == [None] * 3


def test_hybrids_and_networks_say_each_what_they_take(light, scans):
    models = f"{TUNED},mobilenet_v2_0.35-svm"
    result = run(
        scans, "--groups", "none", "--models", models, "--folds", 2, "--weights", "bundled"
    )
    assert result.exit_code == 0, result.output
    assert "models   1 hybrid, searched on 3 inner folds\n         1 fine-tuned" in result.stdout
    assert "input    224 x 224 pixels; fine-tuned networks 128 x 128 (224" in result.stdout
    table = pd.read_csv("hybridus-results/classification.csv", index_col="model")
    assert table["image_size"].to_dict() == {TUNED: 128, "mobilenet_v2_0.35-svm": 224}


@pytest.fixture
def random_labels(tmp_path, monkeypatch):
    """72 scans, each twice, whose class was drawn by lot; the nearest neighbour is asked."""

    def nearest(encoder, head, *, random_state, **_):
        pixels = FunctionTransformer(thumbnails)
        steps = [("features", pixels), ("head", KNeighborsClassifier(1))]
        return Pipeline(steps)

    monkeypatch.setattr("hybridus.estimators.hybrid.make_hybrid_classifier", nearest)
    monkeypatch.setattr(recipes, "GRIDS", {"svm": {"head__n_neighbors": [1, 2]}})
    rng = np.random.default_rng(0)
    rows = []
    for i, label in enumerate(rng.permutation(np.arange(72) % 3)):
        folder = tmp_path / "lots" / CLASSES[label]
        folder.mkdir(parents=True, exist_ok=True)
        coarse = Image.fromarray(rng.integers(0, 256, (5, 5), dtype=np.uint8))
        for twin in range(2):
            coarse.resize((40, 40), Image.Resampling.BILINEAR).save(folder / f"{i}-{twin}.png")
            rows.append((f"{i}-{twin}.png", i))
    write_groups(rows)
    return tmp_path / "lots"


def thumbnails(X):
    images = as_images(X)
    small = [Image.fromarray(image).resize((16, 16), Image.Resampling.BOX) for image in images]
    return np.stack([np.asarray(image).ravel() for image in small]) / 255


def test_the_reported_protocol_stands_beside_the_honest_one_and_leaks(random_labels):
    arguments = ("--groups", "groups.csv", "--models", "vgg16-svm,mobilenet_v2-svm", "--folds", 3)
    options = ("--repeats", 2, "--protocol", "report", "--image-size", 32)
    result = run(random_labels, *arguments, *options)
    assert result.exit_code == 0, result.output
    table = pd.read_csv("hybridus-results/classification.csv")
    assert table["model"].tolist() == [name for name in table["model"][::2] for _ in range(2)]
    assert table["protocol"].tolist() == ["honest", "report"] * 2
    honest, reported = (table[table["protocol"] == name] for name in ("honest", "report"))
    assert (honest["accuracy_mean"] < 0.5).all()
    assert (reported["accuracy_mean"] > 0.85).all()
    assert reported[["behind_best", "p_value"]].isna().all(axis=None)
    assert reported[["accuracy_std", "fit_seconds"]].notna().all(axis=None)
    folds = pd.read_csv("hybridus-results/classification_folds.csv")
    counts = folds.groupby(["protocol", "model"]).size()
    assert (counts["honest"] == 6).all()
    assert (counts["report"] == 2).all()
    inflated = folds[folds["protocol"] == "report"]
    assert (inflated["n_train"] + inflated["n_test"] == 4 * 144).all()
    for _, row in table.iterrows():
        rows = folds[(folds["model"] == row["model"]) & (folds["protocol"] == row["protocol"])]
        assert row["accuracy_mean"] == pytest.approx(rows["accuracy"].mean())
    lines = result.stdout.splitlines()
    heading = next(
        i for i, line in enumerate(lines) if line.startswith("model   ") and "prot" in line
    )
    shown = [line.split()[:2] for line in lines[heading + 2 : heading + 6]]
    best, other = honest["model"]
    assert [shown[0], shown[2]] == [[best, "honest"], [other, "honest"]]
    assert [words[0] for words in (shown[1], shown[3])] == ["report", "report"]
    gain = 100 * (reported["accuracy_mean"].iloc[0] - honest["accuracy_mean"].iloc[0])
    assert f"{gain:.1f} points of accuracy above the honest ones, are inflated" in result.stdout
    assert "must not be reported. 4 copies of each image" in result.stdout
    assert "each of 2 random splits then tested 20 % of all copies" in result.stdout
    assert "3 folds train on 67 % of the images: --folds 5 trains on 80 %" in result.stdout
    assert "report   each model once more on augmented copies" in result.stdout
    assert os.listdir("hybridus-results/models") == [f"{best}.joblib"]


def test_one_random_split_has_no_spread(light, scans):
    arguments = ("--curation", "curation.csv", "--models", "vgg16-svm", "--folds", 2)
    result = run(scans, *arguments, "--protocol", "report", "--seed", 1)
    assert result.exit_code == 0, result.output
    assert "one random split then tested 20 % of all copies" in result.stdout
    table = pd.read_csv("hybridus-results/classification.csv", index_col="protocol")
    assert np.isnan(table.loc["report", "accuracy_std"])
    line = next(line for line in result.stdout.splitlines() if line.strip().startswith("report "))
    assert "±" not in line
    assert "nan" not in line


def test_networks_under_the_reported_protocol_know_of_no_groups(light, scans):
    arguments = ("--curation", "curation.csv", "--weights", "bundled", "--models", TUNED)
    result = run(scans, *arguments, "--folds", 2, "--protocol", "report", "--image-size", 32)
    assert result.exit_code == 0, result.output
    assert [n for n, known in LightNetwork.fits if known is None] == [105]  # 80 % of 4 x 33
    assert len(LightNetwork.fits) == 4
    assert LightNetwork.fits[-1][1] is not None  # the refit is honest


def test_an_unknown_protocol_is_refused():
    result = run("--protocol", "optimistic")
    assert result.exit_code == 2
    assert "optimistic" in result.stderr


def test_tables_fit_80_columns(light, monkeypatch):
    monkeypatch.setattr("hybridus.cli.console.SCREEN.width", 80, raising=False)
    result = run("--folds", 2, "--protocol", "report")
    assert result.exit_code == 0, result.output
    for name in recipes.OFFLINE_MODELS:
        assert result.stdout.count(f"{name} ") >= 2  # whole in both tables
    rows = [line for line in result.stdout.splitlines() if "±" in line and ":" not in line]
    assert len(rows) == 4 + 4
    assert max(map(len, rows)) <= 80


def test_a_small_network_is_fine_tuned_end_to_end(scans, monkeypatch):
    known = []

    def spied(strata, groups, *rest):
        known.append(None if groups is None else list(groups))
        return split_validation(strata, groups, *rest)

    split_validation = importlib.import_module("hybridus.training.held_out").split_validation
    monkeypatch.setattr("hybridus.estimators.network.split_validation", spied)
    monkeypatch.setattr(recipes, "FINE_TUNING", {"image_size": 32, "max_epochs": 1})
    arguments = ("--curation", "curation.csv", "--models", TUNED, "--weights", "bundled")
    result = run(scans, *arguments, "--folds", 2)
    assert result.exit_code == 0, result.output
    assert "input    32 x 32 pixels" in result.stdout
    assert "(weights of epoch 1 of 1)" in result.stdout
    busi = hybridus.load_busi(scans, curation="curation.csv", exclude=("multiclass",))
    assert len(known) == 3
    assert known[2] == list(busi.groups)
    assert len(known[0]) + len(known[1]) == 33
    assert not set(known[0]) & set(known[1])
    model = joblib.load(f"hybridus-results/models/{TUNED}.joblib")
    assert isinstance(model, FineTunedClassifier)
    assert model.predict_proba(busi.images).shape == (33, 3)
    table = pd.read_csv("hybridus-results/classification.csv")
    assert 0.1 < table["accuracy_mean"].item() <= 1
