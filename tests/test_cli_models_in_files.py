"""`hybridus info` and `hybridus export`: what is done with a model in a file."""

import json

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from typer.testing import CliRunner

import hybridus
from hybridus.cli import app
from hybridus.estimators.scaler import FeatureScaler


def run(*arguments):
    return CliRunner().invoke(app, list(map(str, arguments)))


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    scans = hybridus.make_breast_phantoms(12, image_size=32, random_state=0)
    pipe = hybridus.make_hybrid_classifier(
        "mobilenet_v2_0.35", "logreg", weights="bundled", image_size=32
    ).fit(scans.images, scans.target)
    card = {
        "classes": scans.target_names,
        "data": {"name": "phantoms [new]", "n_images": 12},
        "scores": {"accuracy": {"mean": 0.81234, "low": 0.7}, "f1_macro": {"mean": 0.5}},
    }
    return hybridus.save(pipe, tmp_path_factory.mktemp("a model (1)") / "a.hybridus", card=card)


def test_the_card_is_shown_for_people_and_as_json(model):
    told = run("info", model)
    assert told.exit_code == 0, told.output
    for line in (
        "classes   normal, malignant, benign",
        "input     size 32 x 32",
        "data      name phantoms [new]; n_images 12",
        "scores    accuracy: mean 0.8123; low 0.7",
        "          f1_macro: mean 0.5",
    ):
        assert line in told.output
    assert "not a medical device" in told.output
    card = json.loads(run("info", model, "--json").output)
    assert card["classes"] == ["normal", "malignant", "benign"]
    assert hybridus.ModelCard.from_dict(card) == hybridus.read_card(model)


def test_a_model_is_exported_with_the_names_of_its_classes(model, tmp_path):
    out = tmp_path / "for others" / "a.xml"
    told = run("export", model, out, "--network-size")
    assert told.exit_code == 0, told.output
    assert '<classes value="[&quot;normal&quot;, &quot;malignant&quot;' in out.read_text()
    assert out.with_suffix(".bin").exists()


def test_what_cannot_be_done_is_one_line(model, tmp_path):
    (tmp_path / "b.hybridus").write_bytes(b"PK")
    rows = np.random.default_rng(0).normal(size=(10, 3))
    no_images = make_pipeline(FeatureScaler(), LogisticRegression()).fit(rows, np.arange(10) % 2)
    hybridus.save(no_images, tmp_path / "c.hybridus")
    for arguments, said in (
        (("info", tmp_path / "a.hybridus"), "no such file"),
        (("info", tmp_path / "b.hybridus"), "no model file of hybridus"),
        (("export", tmp_path / "b.hybridus", "o.xml"), "no model file of hybridus"),
        (("export", model, tmp_path / "o.pb"), "expected a name that ends in"),
        (("export", tmp_path / "c.hybridus", tmp_path / "o.xml"), "is or holds FeatureScaler"),
    ):
        done = run(*arguments)
        assert (done.exit_code, len(done.stderr.splitlines())) == (2, 1), done.output
        assert said in done.stderr
