"""`hybridus compare --task segment`: on light models, and once on real networks."""

import os

import joblib
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn.base import BaseEstimator
from test_cli import refused as refused_by_compare
from test_cli import run as run_compare
from test_cli import write_groups

import hybridus
from hybridus.cli import data as reading
from hybridus.cli import recipes
from hybridus.cli import recipes_segment as segmenters
from hybridus.estimators.segmenters import (
    DnCNNSegmenter,
    EncoderUNetSegmenter,
    PixelSegmenter,
    Postprocessing,
    UNetSegmenter,
)
from hybridus.inputs.images import as_images
from hybridus.metrics import dice
from hybridus.report import SegmentationDisplay

FAMILIES = ("UNetSegmenter", "EncoderUNetSegmenter", "DnCNNSegmenter", "PixelSegmenter")
CLASSES = ("normal", "malignant", "benign")
CURATED = ("--curation", "curation.csv")


class Light(BaseEstimator):
    """Takes the place of any segmenter: bright is lesion; notes what it was fitted on."""

    __metadata_request__fit = {"groups": True}  # noqa: RUF012  scikit-learn's own spelling
    fits: list = []  # noqa: RUF012  of all instances, since they are cloned
    level = 100
    validation_fraction = 0.15
    activation_dtype = "float16"

    def __init__(self, **settings):
        self.settings = {"image_size": 128, "mask_size": 128, **settings}

    def get_params(self, deep=True):
        return dict(self.settings)

    def __getattr__(self, name):
        if name.startswith("__") or name not in self.__dict__.get("settings", {}):
            raise AttributeError(name)
        return self.settings[name]

    def _settle(self):
        pass

    def _partitions(self):
        return [type("Partition", (), {"shapes": ((1024, 512),)})]  # 1 MiB a view

    def fit(self, X, y, groups=None):
        self.fits.append((type(self).__name__, len(y), None if groups is None else list(groups)))
        self.threshold_ = 0.35
        return self

    def predict(self, X):
        found = np.empty(len(X), dtype=object)
        found[:] = [(image > self.level).astype(np.uint8)[..., None] for image in as_images(X)]
        return found


class LightNetwork(Light):
    def fit(self, X, y, groups=None):
        self.best_epoch_, self.n_iter_ = 7, 17
        return super().fit(X, y, groups)


class LightUNet(LightNetwork):
    pass


class LightEncoderUNet(LightNetwork):
    pass


class LightDnCNN(LightNetwork):
    pass


class LightPixels(Light):
    level = 20  # finds something everywhere


class NoEncoder:
    """Takes the place of the extractor whose weights are looked for before the work."""

    def __init__(self, *arguments, **settings):
        pass

    def fit(self, X):
        return self


class Failing(LightNetwork):
    """Fails at its second fold."""

    def fit(self, X, y, groups=None):
        if self.fits:
            raise ValueError("a mistake in the program")
        return super().fit(X, y, groups)


@pytest.fixture
def light(monkeypatch):
    """Segmenters that look at brightness only, and few phantoms."""
    lights = (LightUNet, LightEncoderUNet, LightDnCNN, LightPixels)
    for family, of_family in zip(FAMILIES, lights, strict=True):
        monkeypatch.setattr(f"hybridus.estimators.segmenters.{family}", of_family)
    monkeypatch.setattr("hybridus.estimators.features.DeepFeatureExtractor", NoEncoder)
    monkeypatch.setattr(Light, "fits", [])
    monkeypatch.setattr(reading, "N_PHANTOMS_TO_SEGMENT", 24)


@pytest.fixture(autouse=True)
def own_folder(tmp_path, monkeypatch):
    """Results land in a folder of the test."""
    monkeypatch.chdir(tmp_path)


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
                pixels[top + 2 : top + 10, left : left + 12] = 180
            Image.fromarray(pixels).save(folder / f"{name} ({i}).png")
            Image.fromarray(lesion).save(folder / f"{name} ({i})_mask.png")
            rows.append((f"{name} ({i})", f"{name} ({i // 2})", "", ""))
    table = pd.DataFrame(rows, columns=["busi_file", "group", "objection", "annotation"])
    table.to_csv(tmp_path / "curation.csv", index=False)
    return tmp_path / "scans"


def run(*arguments):
    return run_compare("--task", "segment", *arguments)


def refused(*arguments):
    return refused_by_compare("--task", "segment", *arguments)


def succeeded(*arguments):
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    return result


def test_all_four_families_are_there_and_help_names_every_model():
    assert segmenters.DEFAULT_MODELS == ["mobilenet_v2-unet", "resnet50-unet", "pixel-ann"]
    assert segmenters.SLOW_MODELS == ["unet", "dncnn"]
    named = segmenters.DEFAULT_MODELS + segmenters.SLOW_MODELS + segmenters.OFFLINE_MODELS
    assert sorted(named) == sorted(segmenters.RECIPES)
    for names in (segmenters.DEFAULT_MODELS + segmenters.SLOW_MODELS, segmenters.OFFLINE_MODELS):
        assert {segmenters.RECIPES[name].segmenter for name in names} == set(FAMILIES)
    usage = " ".join(run_compare("--help").output.replace("│", " ").split())
    for name in segmenters.RECIPES:
        assert name in usage
    assert "minutes to tens of minutes for each fold on two cores, unet and dncnn" in usage
    assert "24 filters a layer, where its paper has 64" in usage
    assert "--lesions-only" in usage
    assert "--with-normals" in usage
    assert "with normals, where there are any" in usage


def test_recipes_make_the_segmenters_they_name():
    given = {"weights": "random", "image_size": None, "cache": False, "seed": 7}
    expected = {
        "unet": (UNetSegmenter, {"image_size": 128, "base_filters": 16}),
        "mobilenet_v2-unet": (EncoderUNetSegmenter, {"encoder": "mobilenet_v2", "n_views": 2}),
        "resnet50-unet": (EncoderUNetSegmenter, {"encoder": "resnet50", "cache": False}),
        "dncnn": (DnCNNSegmenter, {"filters": 24, "n_layers": 17, "max_epochs": 12}),
        "pixel-ann": (PixelSegmenter, {"encoder": "mobilenet_v2", "features": "both"}),
        "mobilenet_v2_0.35-unet": (EncoderUNetSegmenter, {"encoder": "mobilenet_v2_0.35"}),
        "pixel-ann-basic": (PixelSegmenter, {"features": "basic"}),
    }
    for name, recipe in segmenters.RECIPES.items():
        model = segmenters.build(recipe, **given)
        of_class, settings = expected.get(name, (object, {}))
        assert isinstance(model, of_class)
        parameters = model.get_params()
        assert parameters | settings == parameters
        assert parameters["random_state"] == 7
        assert parameters["threshold"] == "auto"
        assert parameters["postprocess"] == Postprocessing(fill_holes=True, min_area=0.002)
        assert parameters["output_size"] == "input"
        if recipe.encoder is not None:
            assert parameters["weights"] == "random"
    sized = {
        name: segmenters.build(segmenters.RECIPES[name], **{**given, "image_size": 96})
        for name in ("unet", "resnet50-unet", "pixel-ann", "pixel-ann-basic")
    }
    assert [sized[name].image_size for name in ("unet", "resnet50-unet", "pixel-ann")] == [96] * 3
    assert (sized["pixel-ann"].mask_size, sized["pixel-ann-basic"].mask_size) == (128, 96)
    assert segmenters.input_size(segmenters.RECIPES["unet"], sized["unet"]) == (96, 96)


def test_without_data_phantoms_are_segmented(light):
    result = succeeded("--folds", 2, "--seed", 4)
    normals = (hybridus.make_breast_phantoms(24, random_state=4).target == 0).sum()
    assert f"simulated phantoms: 24 images; normal (0) {normals}, malignant" in result.stdout
    assert f"{normals} have no lesion: false positives are counted on them" in result.stdout
    assert "(--lesions-only omits them)" in result.stdout
    assert "models   4 segmenters, 15 % of the training part held out to stop in" in result.stdout
    assert "folds    2 x 1 outer folds, the same for all models\n" in result.stdout
    assert "weights  bundled\n" in result.stdout
    assert "pixels; masks are judged at 128 x 128\n" in result.stdout
    assert "slow " not in result.stdout
    assert "Not a medical device" in result.stdout
    assert result.stderr == ""
    table = pd.read_csv("hybridus-results/segmentation.csv")
    assert sorted(table["model"]) == sorted(segmenters.OFFLINE_MODELS)
    assert table["dice_mean"].is_monotonic_decreasing
    assert (table["seed"] == 4).all()
    assert [known for _, _, known in Light.fits] == [None] * 9


def test_table_holds_what_the_folds_hold_and_how_they_were_made(light, scans):
    models = ("--models", "unet,pixel-ann")
    result = succeeded(scans, *CURATED, *models, "--folds", 2, "--repeats", 2, "--out", "results")
    table = pd.read_csv("results/segmentation.csv", index_col="model")
    folds = pd.read_csv("results/segmentation_folds.csv")
    assert len(folds) == 2 * 2 * 2
    assert (folds.groupby(["model", "repeat"])["n_test"].sum() == 24).all()
    scores = ("dice", "iou", "hausdorff_95", "detection_rate", "false_positive_rate", "dice_all")
    for name, rows in folds.groupby("model"):
        for metric in scores:
            assert table.loc[name, f"{metric}_mean"] == pytest.approx(rows[metric].mean())
            assert table.loc[name, f"{metric}_std"] == pytest.approx(rows[metric].std(ddof=1))
    assert table.index.tolist() == ["unet", "pixel-ann"]
    assert table.loc["unet", "dice_mean"] == pytest.approx(16 / 18, abs=0.02)
    assert table["false_positive_rate_mean"].tolist() == [0, 1]
    best = table.iloc[0]
    shown = f"{best['dice_mean']:.3f}±{best['dice_std']:.3f}".replace("0.", ".")
    assert shown in result.stdout
    assert f"{best['hausdorff_95_mean']:.1f}±{best['hausdorff_95_std']:.1f}" in result.stdout
    assert (best["n_images"], best["n_groups"], best["mask_size"]) == (24, 12, 128)
    assert (best["folds"], best["repeats"], best["seed"]) == (2, 2, 0)
    assert table["image_size"].tolist() == [128, 128]
    assert best["hybridus"] == hybridus.__version__
    assert sorted(os.listdir("results")) == [
        "models",
        "segmentation.csv",
        "segmentation_folds.csv",
        "segmentation_pixel-ann.png",
        "segmentation_unet.png",
    ]


def test_the_digest_covers_the_masks(light, scans):
    arguments = (scans, *CURATED, "--models", "unet", "--folds", 2)
    digests = []
    for _ in range(2):
        succeeded(*arguments)
        digests.append(pd.read_csv("hybridus-results/segmentation.csv")["data_digest"].item())
        mask = scans / "benign" / "benign (3)_mask.png"
        Image.fromarray(255 - np.asarray(Image.open(mask))).save(mask)
    assert digests[0] != digests[1]


def test_groups_reach_every_fit_and_the_best_model_is_fitted_on_all(light, scans):
    result = succeeded(scans, *CURATED, "--models", "pixel-ann,resnet50-unet", "--folds", 2)
    assert "groups   12, each on one side of every split" in result.stdout
    assert "warning" not in result.stderr
    *in_folds, refit = Light.fits
    busi = hybridus.load_busi(scans, curation="curation.csv")
    assert refit == ("LightEncoderUNet", 24, list(busi.groups))
    names = [name for name, _, _ in in_folds]
    assert names == ["LightPixels"] * 2 + ["LightEncoderUNet"] * 2
    for _, n_images, groups in in_folds:
        assert len(groups) == n_images == 12
        assert len(set(groups)) == 6
    assert set(in_folds[0][2]).isdisjoint(in_folds[1][2])
    assert in_folds[0][2] == in_folds[2][2]
    assert "resnet50-unet: Dice on images with a lesion .8" in result.stdout
    assert "trained again on all 24 images, 15 % of them held out to stop in time" in result.stdout
    assert "(weights of epoch 7 of 17; threshold 0.35)" in result.stdout
    model = joblib.load("hybridus-results/models/resnet50-unet.joblib")
    assert dice(busi.masks, model.predict(busi.images)) > 0.85
    assert model.get_params()["weights"] == "imagenet"


def test_a_model_that_trains_no_network_is_said_to_be_fitted(light, scans):
    result = succeeded(scans, *CURATED, "--models", "pixel-ann", "--folds", 2)
    assert "15 % of the training part held out to choose the threshold\n" in result.stdout
    assert "the model was fitted, and its threshold chosen, without the images" in result.stdout
    assert "fitted again on all 24 images (threshold 0.35)" in result.stdout
    assert "best of" not in result.stdout


def test_normals_are_left_out_where_lesions_alone_are_wanted(light, scans):
    arguments = (scans, *CURATED, "--models", "unet,pixel-ann", "--folds", 2)
    result = succeeded(*arguments, "--lesions-only")
    assert "16 images; normal (0) 0, malignant (1) 8, benign (2) 8" in result.stdout
    assert "8 images without lesion are left out." in result.stdout
    assert "FP" not in result.stdout
    assert "nan±" not in result.stdout
    table = pd.read_csv("hybridus-results/segmentation.csv")
    assert table["false_positive_rate_mean"].isna().all()
    assert (table["n_images"] == 16).all()
    assert table["dice_mean"].tolist() == pytest.approx(table["dice_all_mean"].tolist())
    assert {n_images for _, n_images, _ in Light.fits} == {8, 16}


@pytest.mark.parametrize("options", [[], ["--with-normals"]], ids=["default", "asked"])
def test_normals_are_among_the_images_unless_left_out(light, scans, options):
    result = succeeded(scans, *CURATED, "--models", "unet", "--folds", 2, *options)
    assert "24 images; normal (0) 8" in result.stdout
    assert "8 have no lesion" in result.stdout
    assert "FP: share of images without lesion in which one is predicted" in result.stdout


def test_overlays_show_the_first_fold_of_each_model(light, scans, monkeypatch):
    drawn = []
    draw = SegmentationDisplay.from_predictions

    def spied(images, masks, predicted, **options):
        drawn.append(draw(images, masks, predicted, **options))
        return drawn[-1]

    monkeypatch.setattr(SegmentationDisplay, "from_predictions", spied)
    result = succeeded(scans, *CURATED, "--models", "unet,pixel-ann", "--folds", 2, "--repeats", 2)
    assert len(drawn) == 2
    for display, name in zip(drawn, ("unet", "pixel-ann"), strict=True):
        assert len(display.table) == 12
        assert display.table["class"].cat.categories.tolist() == list(CLASSES)
        assert all(len(shown) > 1 for shown in display.shown_.values())
        assert f"{name}: 12 scans of fold 1 of 2" in display.figure_.get_suptitle()
        with Image.open(f"hybridus-results/segmentation_{name}.png") as picture:
            assert picture.size == (1290, 960)
            assert len(np.unique(np.asarray(picture.convert("L")))) > 50
    assert "overlay  hybridus-results/segmentation_unet.png\n" in result.stdout


def test_what_is_finished_is_kept_when_a_later_fold_fails(light, scans, monkeypatch):
    monkeypatch.setattr("hybridus.estimators.segmenters.UNetSegmenter", Failing)
    result = run(scans, *CURATED, "--models", "unet", "--folds", 2)
    assert result.exit_code == 1
    assert "a mistake in the program" in str(result.exception)
    folds = pd.read_csv("hybridus-results/segmentation_folds.csv")
    assert folds[["model", "repeat", "fold"]].values.tolist() == [["unet", 0, 0]]
    assert os.path.exists("hybridus-results/segmentation_unet.png")
    assert not os.path.exists("hybridus-results/segmentation.csv")


def test_slow_models_and_the_narrow_dncnn_are_told_before_the_work(light, scans):
    result = succeeded(scans, *CURATED, "--models", "pixel-ann,unet,dncnn", "--folds", 2)
    assert "slow     unet, dncnn: minutes to tens of minutes a fold on two cores\n" in result.stdout
    assert "dncnn has 24 filters a layer (64 in its paper" in result.stdout
    result = succeeded(scans, *CURATED, "--folds", 2)
    assert "slow  " not in result.stdout
    models = pd.read_csv("hybridus-results/segmentation.csv")["model"].tolist()
    assert models == segmenters.DEFAULT_MODELS


def test_options_reach_the_models(light, scans):
    options = ("--weights", "bundled", "--image-size", 64, "--seed", 3, "--no-cache")
    succeeded(scans, *CURATED, "--models", "mobilenet_v2_0.35-unet", "--folds", 2, *options)
    model = joblib.load("hybridus-results/models/mobilenet_v2_0.35-unet.joblib")
    settings = model.get_params()
    assert (settings["weights"], settings["image_size"]) == ("bundled", 64)
    assert (settings["random_state"], settings["cache"]) == (3, False)
    table = pd.read_csv("hybridus-results/segmentation.csv")
    assert table[["weights", "image_size", "seed"]].values.tolist() == [["bundled", 64, 3]]


def test_options_that_mean_nothing_for_the_task_are_refused(light, scans):
    assert "--n-jobs 2: segmenters are fitted one after another" in refused(scans, "--n-jobs", 2)
    assert "--n-jobs 0" in refused(scans, "--n-jobs", 0)
    assert "--protocol report: for --task classify" in refused(scans, "--protocol", "report")
    line = refused(scans, "--models", "unet,dncnn", "--weights", "bundled")
    assert "--weights bundled: no encoder in unet, dncnn" in line
    line = refused(scans, "--models", "unet,pixel-ann", "--no-cache")
    assert "--no-cache: unet, pixel-ann keep nothing" in line
    line = refused(scans, "--models", "vgg16-svm")
    assert "vgg16-svm: no such model; choose of unet, mobilenet_v2-unet, resnet50-unet" in line
    assert "give their folder DATA" in refused("--curation", "curation.csv")
    for option in ("--lesions-only", "--with-normals"):
        assert "are for --task segment" in refused_by_compare(scans, option)
    line = refused_by_compare(scans, "--models", "unet")
    assert ", ".join(recipes.RECIPES) in line
    assert not os.path.exists("hybridus-results")
    assert Light.fits == []


def test_images_without_masks_are_refused(light, scans):
    for mask in scans.glob("*/*_mask.png"):
        mask.unlink()
    line = refused(scans)
    assert "scans: no masks of lesions found, which --task segment needs" in line
    assert "'benign/benign (1)_mask.png' beside 'benign/benign (1).png'" in line
    (scans / "benign").rename(scans / "apples")
    assert "no masks of lesions found" in refused(scans)
    assert not os.path.exists("hybridus-results")


def test_normals_that_are_not_there_are_refused(light, scans):
    for file in (scans / "normal").iterdir():
        file.unlink()
    arguments = (scans, "--groups", "none", "--models", "unet", "--folds", 2)
    assert "every image of" in refused(*arguments, "--with-normals")
    result = succeeded(*arguments)
    assert "16 images; normal (0) 0, malignant (1) 8" in result.stdout
    assert "have no lesion" not in result.stdout


def test_masks_without_any_lesion_are_refused(light, scans):
    for file in scans.glob("*/*_mask.png"):
        Image.fromarray(np.zeros_like(np.asarray(Image.open(file)))).save(file)
    line = refused(scans, *CURATED, "--folds", 2, "--models", "unet")
    assert "none of the 24 masks has a lesion" in line


def test_what_would_fail_after_an_hour_fails_at_once(light, scans):
    line = refused(scans, *CURATED, "--folds", 5, "--models", "unet")
    assert "class 0 has only 4 groups, fewer than the 5 folds" in line
    whole = (scans / "benign" / "benign (7).png").read_bytes()
    (scans / "benign" / "benign (7).png").write_bytes(whole[: len(whole) // 2])
    line = refused(scans, *CURATED, "--models", "unet", "--folds", 2)
    assert "benign (7).png' cannot be decoded" in line
    assert not os.path.exists("hybridus-results")
    assert Light.fits == []


@pytest.mark.parametrize("model", ["resnet50-unet", "pixel-ann"])
def test_weights_that_cannot_be_had_are_told_before_the_work(scans, model):
    weights = ("--weights", "nowhere.safetensors")
    line = refused(scans, *CURATED, "--folds", 2, "--models", model, *weights)
    assert "nowhere.safetensors" in line
    assert not os.path.exists("hybridus-results")


def test_a_size_that_a_network_cannot_take_is_told_before_the_work(scans):
    line = refused(scans, *CURATED, "--folds", 2, "--models", "unet", "--image-size", 100)
    assert "must be divisible by 16" in line
    assert not os.path.exists("hybridus-results")


def test_activations_that_find_no_room_get_a_warning(light, scans, monkeypatch):
    arguments = (scans, *CURATED, "--folds", 2, "--models", "resnet50-unet")
    assert "warning" not in succeeded(*arguments).stderr
    monkeypatch.setenv("HYBRIDUS_ACTIVATION_GIB", "0.01")
    stderr = " ".join(succeeded(*arguments).stderr.split())
    # 24 images less 15 %, two views of 1 MiB
    assert "resnet50-unet: activations of 24 images take 0.04 GiB, more than" in stderr
    assert "HYBRIDUS_ACTIVATION_GIB allows (0.01)" in stderr
    assert "Set it to 1 where the disk has room" in stderr
    assert "warning" not in succeeded(*arguments, "--no-cache").stderr


def test_groups_of_a_file_are_obeyed(light, scans):
    rows = [(f"{name} ({i}).png", f"{name}{i // 4}") for name in CLASSES for i in range(8)]
    result = succeeded(scans, "--groups", write_groups(rows), "--models", "unet", "--folds", 2)
    assert "groups   6, each" in result.stdout
    assert [len(set(groups)) for _, _, groups in Light.fits] == [3, 3, 6]


def test_the_table_fits_80_columns(light, monkeypatch):
    monkeypatch.setattr("hybridus.cli.console.SCREEN.width", 80, raising=False)
    result = succeeded("--folds", 2)
    rows = [line for line in result.stdout.splitlines() if "±" in line and ":" not in line]
    assert sorted(row.split()[0] for row in rows) == sorted(segmenters.OFFLINE_MODELS)
    assert max(map(len, rows)) <= 80


def test_small_real_segmenters_end_to_end(scans, monkeypatch):
    small = {
        "unet": segmenters.Recipe(
            "UNetSegmenter",
            settings={"depth": 2, "base_filters": 4, "image_size": 32, "max_epochs": 2},
        ),
        "pixels": segmenters.Recipe(
            "PixelSegmenter",
            settings={"features": "basic", "mask_size": 32, "sigma_max": 2},
            sized_by="mask_size",
        ),
        "encoder": segmenters.Recipe(
            "EncoderUNetSegmenter",
            "mobilenet_v2_0.35",
            {"image_size": 64, "mask_size": 32, "max_epochs": 1},
        ),
    }
    monkeypatch.setattr(segmenters, "RECIPES", small)
    models = ("--models", ",".join(small), "--weights", "bundled")
    result = succeeded(scans, *CURATED, *models, "--folds", 2)
    assert "input    32 x 32 or 64 x 64 pixels; masks are judged at 128 x 128" in result.stdout
    table = pd.read_csv("hybridus-results/segmentation.csv", index_col="model")
    assert table.index[0] == "pixels"  # bright pixels are lesion
    assert table.loc["pixels", "dice_mean"] > 0.7
    assert table["image_size"].to_dict() == {"unet": 32, "pixels": 32, "encoder": 64}
    model = joblib.load("hybridus-results/models/pixels.joblib")
    busi = hybridus.load_busi(scans)
    lesion = busi.target > 0
    assert dice(busi.masks[lesion], model.predict(busi.images[lesion])) > 0.7
