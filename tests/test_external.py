"""External sets: models fitted on all samples, judged on what they never saw."""

import numpy as np
import pandas as pd
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.datasets import load_wine
from sklearn.dummy import DummyClassifier
from sklearn.exceptions import FitFailedWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, roc_auc_score
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline

from hybridus import PixelSegmenter, SpeckleFilter, compare, make_breast_phantoms
from hybridus.protocol import external as external_sets
from hybridus.protocol.routing import fit_with_groups
from hybridus.protocol.scoring import LesionScores

X, Y = load_wine(return_X_y=True)
OUTSIDE = np.arange(len(Y)) % 4 == 0
INSIDE = ~OUTSIDE
MODELS = {"bayes": GaussianNB(), "always": DummyClassifier(strategy="prior")}


class Counting(ClassifierMixin, BaseEstimator):
    """Bayes that counts how often it is fitted, in a list that clones share."""

    def __init__(self, fits=None, fails_above=None):
        self.fits = fits
        self.fails_above = fails_above

    def fit(self, X, y):
        if self.fits is not None:
            self.fits.append(len(y))
        if self.fails_above is not None and len(y) > self.fails_above:
            raise ValueError("too many samples")
        self.inner_ = GaussianNB().fit(X, y)
        self.classes_ = self.inner_.classes_
        return self

    def predict(self, X):
        return self.inner_.predict(X)


class Fits(list):
    def __deepcopy__(self, memo):
        return self


def compared(models=MODELS, external=None, **given):
    if external is None:
        external = {"elsewhere": (X[OUTSIDE], Y[OUTSIDE])}
    settings = {"groups": "independent", "n_splits": 3} | given
    return compare(models, X[INSIDE], Y[INSIDE], external=external, **settings)


def test_scores_are_those_of_a_model_fitted_on_all_samples():
    found = compared().external["elsewhere"]
    model = clone(MODELS["bayes"]).fit(X[INSIDE], Y[INSIDE])
    truth = Y[OUTSIDE]
    row = found.table.loc["bayes"]
    assert row["accuracy_mean"] == accuracy_score(truth, model.predict(X[OUTSIDE]))
    area = roc_auc_score(truth, model.predict_proba(X[OUTSIDE]), multi_class="ovr")
    assert row["macro_ovr_auc_mean"] == pytest.approx(area)
    assert found.predictions["bayes"][0].tolist() == model.predict(X[OUTSIDE]).tolist()
    assert found.split == f"fitted on all {INSIDE.sum()} samples, tested on elsewhere"
    assert found.differences.loc[("bayes", "always"), "verdict"] == "settled"
    low, high = found.intervals.loc[("bayes", "macro_ovr_auc"), ["low", "high"]]
    assert low <= area <= high


def test_each_model_is_fitted_once_for_all_sets():
    fits = Fits()
    half = np.flatnonzero(OUTSIDE)[::2]
    sets = {"all": (X[OUTSIDE], Y[OUTSIDE]), "half": (X[half], Y[half])}
    found = compared({"counting": Counting(fits)}, sets, scoring="accuracy")
    assert sorted(fits)[-1] == INSIDE.sum()
    assert len(fits) == 3 + 1
    assert list(found.external) == ["all", "half"]
    assert len(found.external["half"].samples) == len(half)


def test_of_a_set_without_one_class_the_area_is_over_the_others():
    two = OUTSIDE & (Y > 0)
    found = compared(external={"lesions": (X[two], Y[two])}).external["lesions"]
    model = clone(MODELS["bayes"]).fit(X[INSIDE], Y[INSIDE])
    said = model.predict_proba(X[two])
    areas = [roc_auc_score(Y[two] == k, said[:, k]) for k in (1, 2)]
    assert found.table.loc["bayes", "macro_ovr_auc_mean"] == pytest.approx(np.mean(areas))
    assert found.intervals.loc[("bayes", "macro_ovr_auc"), "over"] == "groups"
    assert found.one_against_rest(1).loc[("bayes", "auc"), "value"] == pytest.approx(areas[0])


def test_the_text_says_what_is_lost():
    found = compared()
    for text in (repr(found), found._repr_html_()):
        assert "tested on elsewhere" in text
        assert "accuracy lost" in text
    lost = found.table["accuracy_mean"] - found.external["elsewhere"].table["accuracy_mean"]
    assert f"{lost['bayes']:.3f}" in repr(found)


def test_groups_of_a_set_are_what_its_intervals_are_over():
    groups = np.arange(OUTSIDE.sum()) // 5
    single, grouped = (
        compared(external={"there": (X[OUTSIDE], Y[OUTSIDE], *given)}).external["there"]
        for given in ([], [groups])
    )
    assert set(grouped.samples["group"].astype(int)) == set(groups)
    assert (grouped.table == single.table).loc["bayes", "accuracy_mean"]


@pytest.mark.parametrize(
    ("external", "error", "message"),
    [
        ([(X[OUTSIDE], Y[OUTSIDE])], TypeError, "expected a dict of names"),
        ({"a": X[OUTSIDE]}, TypeError, r"expected a tuple \(X, y\)"),
        ({"a": (X[OUTSIDE], Y[OUTSIDE][:-1])}, ValueError, "inconsistent numbers"),
        ({"a": (X[OUTSIDE], Y[OUTSIDE] + 1)}, ValueError, "holds the class 3"),
        ({"a": (X[5:15], Y[5:15])}, ValueError, r"8 of 10 samples \(0, 1, 2, 4, 5, ...\) are also"),
    ],
)
def test_what_is_no_external_set_is_refused_before_any_fit(external, error, message):
    fits = Fits()
    with pytest.raises(error, match=message):
        compared({"counting": Counting(fits)}, external)
    assert not fits


def test_images_of_training_are_found_in_any_form(tmp_path):
    from PIL import Image

    phantoms = make_breast_phantoms(24, image_size=32, random_state=0)
    paths = []
    for i in range(20, 24):
        paths.append(tmp_path / f"{i}.png")
        Image.fromarray(phantoms.images[i]).save(paths[-1])
    models = {"bright": Counting()}
    with pytest.raises(ValueError, match=r"1 of 4 samples \(0\) are also among X"):
        compare(
            models,
            phantoms.images[:21],
            phantoms.target[:21],
            groups="independent",
            external={"files": (paths, phantoms.target[20:])},
        )


def test_files_of_twelve_bits_are_found_under_another_name(tmp_path):
    from PIL import Image

    rng = np.random.default_rng(0)
    paths = [tmp_path / f"{i}.png" for i in range(12)]
    for path in paths:
        Image.fromarray(rng.integers(0, 4096, (8, 8), dtype=np.uint16)).save(path)
    copied = tmp_path / "another name.png"
    copied.write_bytes(paths[3].read_bytes())
    y = np.arange(12) % 2
    for model in (Counting(), make_pipeline(SpeckleFilter(value_range=(0, 4095)), Counting())):
        with pytest.raises(ValueError, match=r"1 of 1 samples \(0\) are also among X"):
            compare(
                {"m": model}, paths, y, groups="independent", external={"there": ([copied], [0])}
            )


def test_a_model_that_fails_on_all_samples_keeps_its_folds():
    models = {"bayes": GaussianNB(), "fails": Counting(fails_above=INSIDE.sum() - 1)}
    sets = dict.fromkeys(("elsewhere", "there"), (X[OUTSIDE], Y[OUTSIDE]))
    with pytest.warns(FitFailedWarning, match="'fails' failed") as told:
        found = compared(models, sets, scoring="accuracy")
    assert len(told) == 1
    assert set(found.table.index) == set(models)
    elsewhere = found.external["elsewhere"]
    assert list(elsewhere.table.index) == ["bayes"]
    assert elsewhere.failures["message"].tolist() == ["too many samples"]
    with pytest.warns(FitFailedWarning):
        alone = compared({"fails": models["fails"]}, scoring="accuracy")
    assert alone.external == {}


def test_a_study_finds_them_again(tmp_path, monkeypatch):
    fits, fit_model = [], external_sets.fit_model

    def counted(*given):
        fits.append(given)
        return fit_model(*given)

    monkeypatch.setattr(external_sets, "fit_model", counted)
    kept = {"study": tmp_path / "study"}
    first = compared({"c": GaussianNB()}, **kept)
    assert len(fits) == 1
    again = compared({"d": GaussianNB()}, **kept)
    assert len(fits) == 1
    names = again.external["elsewhere"].table.index
    assert list(names) == ["d"]
    pd.testing.assert_frame_equal(
        first.external["elsewhere"].samples.drop(columns="model"),
        again.external["elsewhere"].samples.drop(columns="model"),
    )
    compared({"d": GaussianNB()}, {"elsewhere": (X[OUTSIDE][1:], Y[OUTSIDE][1:])}, **kept)
    assert len(fits) == 2
    compared({"d": GaussianNB(var_smoothing=0.1)}, **kept)
    assert len(fits) == 3


def test_processes_do_it_too():
    one, two = (compared(n_jobs=n).external["elsewhere"].table for n in (1, 2))
    columns = [name for name in one if name.endswith("_mean")]
    pd.testing.assert_frame_equal(one[columns], two[columns])


def test_segmenters_are_judged_elsewhere():
    phantoms = make_breast_phantoms(24, image_size=32, random_state=0)
    other = make_breast_phantoms(8, image_size=48, random_state=1)
    pixels = PixelSegmenter(
        LogisticRegression(), "basic", mask_size=32, n_pixels=50, random_state=0
    )
    found = compare(
        {"pixels": pixels},
        phantoms.images,
        phantoms.masks,
        groups="independent",
        n_splits=2,
        external={"larger": (other.images, other.masks)},
    ).external["larger"]
    fitted = fit_with_groups(clone(pixels), phantoms.images, phantoms.masks, None)
    expected = LesionScores()(fitted, other.images, other.masks)
    assert found.table.loc["pixels", "dice_mean"] == pytest.approx(expected["dice"])


def test_the_page_shows_what_is_lost_elsewhere(tmp_path):
    found = compared()
    page = found.report(tmp_path / "page.html", features=None).read_text()
    there, best = found.external["elsewhere"], found.table.index[0]
    assert "On elsewhere, which no model was fitted on" in page
    for name in ("accuracy", "macro_ovr_auc"):
        assert f"{there.table.loc[best, f'{name}_mean']:.3f}<small>" in page
    lost = found.table.loc[best, "accuracy_mean"] - there.table.loc[best, "accuracy_mean"]
    assert f'<td class="n">{lost:.3f}</td></tr>' in page
    assert f"On elsewhere, which it was not fitted on, {best} reaches" in page
    assert "not about another hospital" not in page
    alone = compare(MODELS, X[INSIDE], Y[INSIDE], groups="independent", n_splits=3)
    page = alone.report(tmp_path / "alone.html", features=None).read_text()
    assert "not about another hospital" in page
    assert "which no model was fitted on" not in page
