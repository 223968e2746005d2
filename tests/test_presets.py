"""Presets: every row makes a model, and that of the figures that were measured."""

import pytest
from sklearn.base import clone, is_classifier
from sklearn.model_selection import GridSearchCV, StratifiedGroupKFold, StratifiedKFold

from benchmarks import busi_classification, busi_segmentation
from hybridus import presets
from hybridus.estimators.segmenters import Postprocessing
from hybridus.presets import PRESETS, get_preset, list_presets, make_preset

GIVEN = {"weights": "random", "image_size": 96, "cache": False, "random_state": 7}
GIVEN |= {"value_range": (0, 4095)}


def given_to(model):
    """All values that parts of a model have for the options of presets."""
    ends = {name: set() for name in GIVEN}
    for name, value in model.get_params().items():
        end = name.rpartition("__")[2]
        if end in ends and not (end == "weights" and value is None):  # those of an average
            ends[end].add(str(value))
    return ends


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_makes_a_model_of_its_task_that_takes_the_options(name):
    preset = PRESETS[name]
    assert preset.name == name
    model = preset.build(**GIVEN)
    assert is_classifier(model) is (preset.task == "classify")
    known = given_to(clone(model))
    assert known["random_state"] <= {"7"}
    assert known["value_range"] == {"(0, 4095)"}
    assert known["weights"] <= {"random"} or not preset.encoders
    assert known["cache"] == ({"False"} if preset.keeps_rows else set())
    if name == "pixel-ann-basic":  # without an encoder, pixels are seen at the size of the mask
        assert model.mask_size == 96
    else:
        assert known["image_size"] == {"96"}
    assert preset.input_size(96) == (96, 96)


def test_a_hybrid_is_a_search_whose_inner_folds_know_the_groups():
    search = make_preset("mobilenet_v2-svm", grouped=True, **GIVEN)
    assert isinstance(search, GridSearchCV)
    assert isinstance(search.cv, StratifiedGroupKFold)
    assert (search.cv.n_splits, search.cv.random_state) == (3, 7)
    assert search.param_grid == {"head__C": [1, 10, 100]}
    assert isinstance(make_preset("vgg16-mlp", **GIVEN).cv, StratifiedKFold)


def test_what_is_averaged_is_made_of_presets_too():
    averaged = make_preset("averaged-unet", **GIVEN)
    names = ["mobilenet_v2-unet", "resnet50-unet"]
    assert [name for name, _ in averaged.estimators] == names
    assert PRESETS["averaged-unet"].encoders == ("mobilenet_v2", "resnet50")
    for name, member in averaged.estimators:
        assert member.get_params() == make_preset(name, **GIVEN).get_params()
    assert averaged.postprocess == Postprocessing(fill_holes=True, min_area=0.002)


def measured():
    """Presets beside the rows of the benchmarks whose figures the README shows."""
    of_classes = busi_classification.models()
    of_masks = {name: model for name, (_, model) in busi_segmentation.models().items()}
    averaged = dict(of_masks["both encoders"].estimators)
    return {
        "mobilenet_v2-svm": of_classes["mobilenet_v2, last, svm"],
        "mobilenet_v2-mlp": of_classes["mobilenet_v2, last, mlp"],
        "vgg16-svm": of_classes["vgg16, last, svm"],
        "vgg16-mlp": of_classes["vgg16, last, mlp"],
        "resnet50-svm": of_classes["resnet50, multi avgmax, svm"],
        "fusion-logreg": of_classes["fusion, multi, logreg, C nested"],
        "mobilenet_v2-softmax-last": of_classes["mobilenet_v2, last 20 layers trained"],
        "resnet50-softmax-last": of_classes["resnet50, multi, conv4_block6 trained"],
        "mobilenet_v2-softmax": of_classes["mobilenet_v2, first 10 layers trained, 128 px"],
        "unet": of_masks["U-Net"],
        "unet-reported": of_masks["U-Net, as reported"],
        "dncnn": of_masks["DnCNN, 24 filters"],
        "pixel-ann": of_masks["ANN of pixels"],
        "mobilenet_v2-unet": averaged["MobileNetV2 encoder"],
        "resnet50-unet": averaged["ResNet50 encoder"],
    }


# What changes speed and the size of answers, not what is learned.
BESIDE = {"output_size", "precision", "steps", "features__transformer_list"}


def settings(model):
    """Parameters that are plain data, with those of the parts."""
    plain = (str, int, float, bool, type(None), tuple, list, dict, Postprocessing)
    named = model.get_params().items()
    return {
        name: str(value)
        for name, value in named
        if isinstance(value, plain) and name.removeprefix("estimator__") not in BESIDE
    }


@pytest.mark.parametrize("name", measured())
def test_presets_are_the_settings_that_the_figures_were_measured_with(name):
    model = make_preset(name, grouped=True, random_state=0)
    benchmark = measured()[name]
    if isinstance(model, GridSearchCV) and not isinstance(benchmark, GridSearchCV):
        # Measured with one value of what is searched here, which is among those tried.
        for searched, tried in model.param_grid.items():
            assert benchmark.get_params()[searched] in tried
        model = model.estimator
    ours, theirs = settings(model), settings(benchmark)
    ours.pop("encoder" if name == "resnet50-unet" else "", None)  # a class of its own there
    assert ours == {name: value for name, value in theirs.items() if name in ours}


def test_input_sizes_are_those_of_the_encoders_unless_trained_or_given():
    assert PRESETS["vgg16-svm"].input_size() == (224, 224)
    assert PRESETS["fusion-logreg"].input_size() == (224, 224)
    assert PRESETS["vgg16-softmax"].input_size() == (128, 128)
    assert PRESETS["averaged-unet"].input_size() == (256, 256)
    assert PRESETS["pixel-ann-basic"].input_size() == (64, 64)


def test_names_are_listed_by_pattern_and_task():
    assert list_presets("*reported*") == ["unet-reported"]
    assert list_presets("mobilenet_v2-*", task="segment") == ["mobilenet_v2-unet"]
    assert list_presets() == list(PRESETS)
    with pytest.raises(ValueError, match="no preset 'u-net' .did you mean unet.*; known are"):
        get_preset("u-net")


def test_a_preset_needs_one_row(monkeypatch):
    row = presets.Preset(
        "mine", "segment", "PixelSegmenter", {"features": "basic"}, "seconds", "my own"
    )
    monkeypatch.setattr(presets, "PRESETS", {**PRESETS, "mine": row})
    assert make_preset("mine", random_state=3).random_state == 3


def test_the_table_has_a_row_for_each():
    lines = presets.markdown_table(PRESETS.values()).splitlines()
    assert len(lines) == 2 + len(PRESETS)
    assert "| `dncnn` | DnCNN, 24 filters a layer (64 in its paper" in "\n".join(lines)
