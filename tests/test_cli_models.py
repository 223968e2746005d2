"""`hybridus models`, and how all commands end."""

import json

import pytest
from typer.testing import CliRunner

import hybridus
from hybridus.cli import app, encoders, models
from hybridus.encoders.catalog import CATALOG
from hybridus.presets import PRESETS, markdown_table


def run(*arguments):
    return CliRunner().invoke(app, list(arguments))


def test_all_models_are_listed_with_what_they_are():
    done = run("models")
    assert done.exit_code == 0, done.output
    for name, preset in PRESETS.items():
        (line,) = [line for line in done.output.splitlines() if line.split()[0] == name]
        assert preset.note in line
        assert preset.speed in line
        assert line.endswith(f", {preset.compared})") is (preset.compared != "named")
    assert "unet" not in run("models", "--task", "classify").output


def test_one_model_is_shown_with_all_its_settings():
    shown = json.loads(run("models", "mobilenet_v2-svm").output)
    assert shown["estimator"] == "make_hybrid_classifier"
    assert shown["parameters"]["layers"] == "last"
    assert shown["search"] == {"head__C": [1, 10, 100]}
    done = run("models", "vgg19-svm")
    assert (done.exit_code, "no preset 'vgg19-svm'" in done.stderr) == (2, True)


def test_all_encoders_are_listed_with_the_weights_that_are_here(monkeypatch, tmp_path):
    monkeypatch.setenv("HYBRIDUS_WEIGHTS", str(tmp_path))
    (tmp_path / "vgg19.safetensors").touch()
    done = run("encoders")
    assert done.exit_code == 0, done.output
    lines = {line.split()[0]: line.split() for line in done.output.splitlines()}
    assert len(lines) == len(CATALOG) + 1
    assert lines["vgg19"][-1] == "imagenet"
    assert "bundled" in " ".join(lines["mobilenet_v2_0.35"])
    assert lines["xception"][1:] == ["20.9", "M", "8.36", "299", "MIT", "-"]


def test_one_encoder_is_told_whole_and_unknown_ones_are_refused():
    told = run("encoders", "resnet50_v2").output
    assert "post_relu" in told
    assert "arXiv:1603.05027" in told
    done = run("encoders", "resnt50")
    assert done.exit_code == 2
    assert "did you mean resnet50" in done.stderr


def test_the_speed_of_an_encoder_is_measured_on_request(monkeypatch):
    monkeypatch.setattr(encoders, "_SECONDS", 0.0)
    monkeypatch.setattr(encoders, "_TOGETHER", 1)
    line = run("encoders", "mobilenet_0.25", "--speed").output.splitlines()[-1]
    assert float(line.split()[-1]) >= 0


def test_the_version_is_printed():
    assert run("--version").output.strip() == f"hybridus {hybridus.__version__}"


def test_the_markdown_table_is_that_of_the_presets():
    assert run("models", "--markdown").output.strip() == markdown_table(PRESETS.values())


def test_ctrl_c_ends_a_command_with_130_and_no_traceback(monkeypatch):
    def interrupted(name):
        raise KeyboardInterrupt

    monkeypatch.setattr(models, "get_preset", interrupted)
    done = run("models", "unet")
    assert done.exit_code == 130
    assert done.stderr == "stopped by Ctrl-C; what was finished is kept\n"


@pytest.mark.parametrize("charset", ["utf-8", "ascii"])
def test_names_that_are_no_text_are_printed_all_the_same(charset):
    done = CliRunner(charset=charset).invoke(app, ["models", "caf\udce9"])
    assert done.exit_code == 2
    assert r"no preset 'caf\udce9'" in done.stderr


def test_weights_that_are_not_there_name_models_that_need_no_network(tmp_path, monkeypatch):
    """What is proposed can be typed as it stands."""
    monkeypatch.setenv("HYBRIDUS_WEIGHTS", str(tmp_path))
    (tmp_path / "scans").mkdir()
    done = run("compare", str(tmp_path), "--models", "vgg16-svm", "--weights", "bundled")
    assert done.exit_code == 2
    proposed = done.stderr.split("--models ")[-1].split(" ")[0].split(",")
    assert proposed
    assert set(proposed) <= set(PRESETS)
