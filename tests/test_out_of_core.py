"""`fit_out_of_core`: heads that learn from a data set of rows, slice by slice."""

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn.linear_model import LogisticRegression, SGDClassifier
from sklearn.naive_bayes import GaussianNB
from sklearn.preprocessing import RobustScaler, StandardScaler

import hybridus
from hybridus import TextureFeatures, extract, fit_out_of_core, make_breast_phantoms
from hybridus.extraction import heads, parts

N = 90


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scans")
    phantoms = make_breast_phantoms(N, image_size=64, difficulty=0, random_state=0)
    order = np.argsort(phantoms.target, kind="stable")  # class by class, as in class folders
    files = []
    for i in order:
        files.append(str(folder / f"{phantoms.target_names[phantoms.target[i]]}-{i}.png"))
        Image.fromarray(phantoms.images[i]).save(files[-1])
    return files


@pytest.fixture(scope="module")
def labels(files):
    return np.array([file.rpartition("/")[2].partition("-")[0] for file in files])


@pytest.fixture(scope="module")
def rows(files, labels, tmp_path_factory):
    """Slices of 8 rows in parts of 20."""
    out = tmp_path_factory.mktemp("rows") / "rows.parquet"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parts, "SLICE", 8)
        extract(
            files,
            out,
            extractor=TextureFeatures(kinds=["intensity", "glcm", "lbp"], cache=False),
            labels=labels,
            columns={"patient": [f"p{i // 3}" for i in range(N)]},
            part_size=20,
        )
    return out


@pytest.fixture
def small_slices(monkeypatch):
    monkeypatch.setattr(parts, "SLICE", 8)


def test_the_model_answers_to_images_and_is_saved(rows, files, labels, tmp_path):
    fitted = fit_out_of_core(rows, groups="patient", random_state=0)
    answers = fitted.held_out
    said = fitted.model.predict(answers["file"].tolist())
    assert said.tolist() == answers["predicted"].tolist()
    assert answers["label"].tolist() == [labels[files.index(file)] for file in answers["file"]]
    assert fitted.scores["accuracy"] == (answers["label"] == answers["predicted"]).mean()
    hybridus.save(fitted.model, tmp_path / "m.hybridus")
    again = hybridus.load(tmp_path / "m.hybridus")
    np.testing.assert_array_equal(
        again.predict_proba(files[:5]), fitted.model.predict_proba(files[:5])
    )


def test_groups_stay_on_one_side(rows, files):
    held = fit_out_of_core(rows, groups="patient", random_state=0, epochs=1)
    patients = pd.read_parquet(rows).set_index("file")["patient"]
    out = set(held.held_out["file"])
    assert len(out) == 18 == N - held.n_rows
    assert not set(patients[list(out)]) & set(patients[[file for file in files if file not in out]])


def test_it_equals_the_same_steps_on_rows_in_memory(rows, labels, monkeypatch, small_slices):
    steps = []

    class Noting(SGDClassifier):
        def partial_fit(self, X, y, classes=None):
            steps.append((X, y))
            return super().partial_fit(X, y, classes=classes)

    settings = {"loss": "log_loss", "alpha": 0.01, "average": True, "random_state": 0}
    head = Noting(class_weight="balanced", **settings)
    fitted = fit_out_of_core(rows, head, epochs=2, held_out=0, mixed_rows=40, random_state=0)
    X = pd.read_parquet(rows).iloc[:, 5:].to_numpy(np.float64)
    scaler = StandardScaler().fit(X)
    np.testing.assert_allclose(fitted.model["scaler"].mean_, scaler.mean_, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(fitted.model["scaler"].scale_, scaler.scale_, rtol=1e-6)
    weights = {name: N / (3 * n) for name, n in pd.Series(labels).value_counts().items()}
    assert fitted.model["head"].class_weight == pytest.approx(weights)
    in_memory = SGDClassifier(class_weight=weights, **settings)
    scaled = scaler.transform(X)
    seen = []
    for step, y in steps:
        distances = ((step[:, None] - scaled[None]) ** 2).sum(axis=2)
        places = distances.argmin(axis=1)
        seen += places.tolist()
        assert (labels[places] == y).all()
        in_memory.partial_fit(scaled[places], labels[places], classes=np.unique(labels))
    assert sorted(seen) == sorted([*range(N)] * 2)  # each row once an epoch
    np.testing.assert_allclose(fitted.model["head"].coef_, in_memory.coef_, atol=1e-5)
    # Rows of a step come from several parts, although files were listed class by class.
    assert len(set(labels[seen[:40]])) == 3


@pytest.mark.parametrize("kind", [str, int])
def test_classes_may_be_numbers_or_digits(files, labels, tmp_path, kind):
    codes = np.unique(labels, return_inverse=True)[1].astype(kind)
    texture = TextureFeatures(kinds=["intensity"], cache=False)
    done = extract(files, tmp_path / "rows.parquet", extractor=texture, labels=codes)
    fitted = fit_out_of_core(done.path, epochs=1, random_state=0)
    assert fitted.model.classes_.tolist() == np.unique(codes).tolist()
    assert set(fitted.model.predict(files[:9])) <= set(codes)


def test_memory_holds_no_more_rows_than_are_mixed(rows, monkeypatch, small_slices):
    held = []
    concatenate = np.concatenate

    def noting(arrays, *args, **kwargs):
        joined = concatenate(arrays, *args, **kwargs)
        if joined.ndim == 2:
            held.append(len(joined))
        return joined

    monkeypatch.setattr(heads.np, "concatenate", noting)
    fit_out_of_core(rows, epochs=1, held_out=0, mixed_rows=24, random_state=0)
    assert sum(held) == N
    assert max(held) <= 24


def test_it_is_about_as_good_as_logistic_regression(rows, labels):
    fitted = fit_out_of_core(rows, held_out=0, random_state=0)
    X = pd.read_parquet(rows).iloc[:, 5:].to_numpy(np.float64)
    scaled = StandardScaler().fit_transform(X)
    exact = LogisticRegression(C=0.01, class_weight="balanced", max_iter=2000).fit(scaled, labels)
    said = fitted.model["head"].predict(fitted.model["scaler"].transform(X))
    assert (said == exact.predict(scaled)).mean() > 0.85
    assert (said == labels).mean() > (exact.predict(scaled) == labels).mean() - 0.05
    assert fitted.scores == {}
    assert len(fitted.held_out) == 0


def test_a_seed_decides_and_other_heads_learn_too(rows):
    first = fit_out_of_core(rows, epochs=2, random_state=3)
    again = fit_out_of_core(rows, epochs=2, random_state=3)
    np.testing.assert_array_equal(first.model["head"].coef_, again.model["head"].coef_)
    bayes = fit_out_of_core(rows, GaussianNB(), epochs=1, random_state=0)
    assert bayes.scores["accuracy"] > 0.5


@pytest.mark.parametrize(
    ("asked", "error", "says"),
    [
        ({"target": "class"}, ValueError, "no column 'class'; it has 'file', 'key'"),
        ({"head": "svm"}, ValueError, "head='svm': expected 'sgd'"),
        ({"head": LogisticRegression()}, TypeError, "LogisticRegression has no partial_fit"),
        ({"scaler": RobustScaler()}, TypeError, "RobustScaler has no partial_fit"),
        ({"head": StandardScaler()}, TypeError, "no classifier"),
        ({"held_out": 1}, ValueError, "held_out=1"),
        ({"groups": "label"}, ValueError, "the rows to learn from lack"),
        (
            {"extractor": TextureFeatures(kinds=["lbp"], cache=False)},
            ValueError,
            "other settings, weights or another engine",
        ),
    ],
)
def test_what_cannot_be_is_told(rows, asked, error, says):
    with pytest.raises(error, match=says):
        fit_out_of_core(rows, **asked)


def test_a_data_set_that_is_not_whole_is_refused(rows, files, tmp_path):
    with pytest.raises(FileNotFoundError, match="no such folder"):
        fit_out_of_core(tmp_path / "none")
    with pytest.raises(ValueError, match="not a data set of extract"):
        fit_out_of_core(tmp_path)
    for file in parts.part_files(rows)[:3]:
        (tmp_path / file.name).write_bytes(file.read_bytes())
    with pytest.raises(ValueError, match="has 3 of 5 parts; call extract again"):
        fit_out_of_core(tmp_path)
