"""Studies: what was finished is found again whole, and each fold is done once."""

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import load_wine
from sklearn.dummy import DummyClassifier
from sklearn.exceptions import FitFailedWarning
from sklearn.model_selection import GridSearchCV
from sklearn.naive_bayes import GaussianNB
from sklearn.preprocessing import FunctionTransformer
from tiny_images import discs
from tiny_networks import TINY, textures

from hybridus.estimators.classifiers import FineTunedClassifier
from hybridus.estimators.segmenters import PixelSegmenter
from hybridus.exceptions import CacheWarning
from hybridus.inputs.heard import tell_progress
from hybridus.protocol.compare import compare, plan_comparison
from hybridus.protocol.comparison import Comparison
from hybridus.protocol.schedule import run_folds
from hybridus.protocol.study import Study


class Telling(GaussianNB):
    """Tells two epochs, and copies what is noted of them meanwhile."""

    def __init__(self, log="", var_smoothing=1e-9):
        super().__init__(var_smoothing=var_smoothing)
        self.log = log

    def fit(self, X, y):
        for epoch in range(3):
            tell_progress("epoch", epoch, 2)
        (noted,) = Path(self.log).glob("study/claims/*.json")
        shutil.copy(noted, Path(self.log) / "noted")
        return super().fit(X, y)


class Noting(GaussianNB):
    """Writes down each of its fits in a file, may wait, and fails while another file is there."""

    def __init__(self, log="", pause=0.0, fails="", var_smoothing=1e-9):
        super().__init__(var_smoothing=var_smoothing)
        self.log = log
        self.pause = pause
        self.fails = fails

    def fit(self, X, y):
        with open(os.path.join(self.log, "fits"), "a") as file:
            file.write(f"{len(X)}\n")
        time.sleep(self.pause)
        if self.fails and os.path.isdir(os.path.join(self.log, "broken")):
            raise RuntimeError("does not work\nyet")
        return super().fit(X, y)


@pytest.fixture(scope="module")
def wine():
    return load_wine(return_X_y=True)


@pytest.fixture
def folder(tmp_path):
    """Folder of the study, beside the file of fits."""
    return tmp_path / "study"


def fits(folder):
    """Number of fits so far."""
    file = folder.parent / "fits"
    return len(file.read_text().splitlines()) if file.exists() else 0


def run(wine, folder, models=None, **settings):
    models = models or {"bayes": Noting(str(folder.parent)), "dummy": DummyClassifier()}
    settings = {"groups": "independent", "n_splits": 3, "study": folder, **settings}
    return compare(models, *wine, **settings)


def assert_same(one, other):
    """Equal tables, seconds too, and equal results of every fold, types of arrays too."""
    pd.testing.assert_frame_equal(one.table, other.table, check_exact=True)
    pd.testing.assert_frame_equal(one.folds, other.folds, check_exact=True)
    for kept, fresh in zip(one.results, other.results, strict=True):
        for field in dataclasses.fields(fresh):
            assert_equal(getattr(kept, field.name), getattr(fresh, field.name))


def assert_equal(kept, fresh):
    assert type(kept) is type(fresh)
    if isinstance(fresh, dict):
        assert list(kept) == list(fresh)
        for name in fresh:
            assert_equal(kept[name], fresh[name])
    elif isinstance(fresh, np.ndarray):
        assert kept.dtype == fresh.dtype
        for part, other_part in zip(kept, fresh, strict=True):
            np.testing.assert_array_equal(part, other_part)
    else:
        assert kept == fresh or (kept != kept and fresh != fresh)


@pytest.mark.parametrize("named", [False, True])
def test_finished_folds_are_not_fitted_again_and_say_the_same(wine, folder, named):
    X, y = wine
    y = np.array(["one", "two", "threé"], dtype=object)[y] if named else y
    first = run((X, y), folder)
    assert fits(folder) == 3
    assert_same(run((X, y), folder), first)
    assert_same(run((X, y), folder, n_jobs=2), first)
    assert fits(folder) == 3
    fresh = run((X, y), None, {"bayes": GaussianNB(), "dummy": DummyClassifier()})
    columns = first.table.columns.drop(["fit_seconds", "score_seconds"])
    pd.testing.assert_frame_equal(first.table[columns], fresh.table[columns], check_exact=True)


@pytest.mark.slow
def test_predicted_masks_of_one_size_and_of_several_come_back(folder, monkeypatch):
    images, masks = discs(12, seed=0)
    ragged = [image[: 20 + i % 2] for i, image in enumerate(images)]
    outlines = [mask[: 20 + i % 2] for i, mask in enumerate(masks)]
    model = {"pixels": PixelSegmenter(GaussianNB(), "basic", mask_size=16, random_state=0)}
    for X, y in ((images, masks), (ragged, outlines)):
        first = run((X, y), folder, model)
        with monkeypatch.context() as patch:
            patch.setattr(PixelSegmenter, "fit", None)
            assert_same(run((X, y), folder, model), first)
    assert first.predictions["pixels"][0][0].shape == (20, images.shape[2], 1)


class Listing(PixelSegmenter):
    """Answers with a list of masks."""

    def predict(self, X):
        return list(super().predict(X))


def test_lists_of_masks_come_back_as_an_array_of_masks(folder):
    model = {"pixels": Listing(GaussianNB(), "basic", mask_size=16, random_state=0)}
    first = run(discs(12, seed=0), folder, model)
    again = run(discs(12, seed=0), folder, model)
    assert len(list(folder.glob("*.npz"))) == 3
    for kept, fresh in zip(again.results, first.results, strict=True):
        for mask, other in zip(kept.predictions, fresh.predictions, strict=True):
            np.testing.assert_array_equal(mask, other)


def test_what_a_search_chose_comes_back_as_it_is_written(wine, folder):
    models = {"search": GridSearchCV(Noting(str(folder.parent)), {"var_smoothing": [1e-9, 1.0]})}
    first = run(wine, folder, models)
    again = run(wine, folder, models)
    assert fits(folder) == 3 * (2 * 5 + 1)
    assert again.folds["best_params"].tolist() == first.folds["best_params"].tolist()
    assert again.results[0].best_params == {"var_smoothing": 1e-9}


def test_training_of_a_network_comes_back_and_folds_of_older_studies_have_none(folder):
    X, y = textures(24)
    net = FineTunedClassifier(
        TINY, weights="random", trainable="none", max_epochs=2, random_state=0
    )
    models = {"net": net, "bayes": DummyClassifier()}
    first, again = (
        compare(models, X, y, groups="independent", n_splits=2, study=folder) for _ in range(2)
    )
    assert_same(first, again)
    histories = again.histories
    assert histories.index.names == ["model", "repeat", "fold", "epoch"]
    assert list(histories.index) == [("net", 0, fold, epoch) for fold in (0, 1) for epoch in (1, 2)]
    assert histories["loss"].notna().all()
    for (_, _, fold, epoch), row in histories.iterrows():
        result = again.results[fold]
        assert row["restored"] == (epoch == result.best_epoch)
        assert row["loss"] == result.history["loss"][epoch - 1]
    assert again.results[2].history is None
    older = [dataclasses.replace(one, history=None, best_epoch=None) for one in first.results]
    assert Comparison(older).histories.empty
    for file in folder.glob("*.json"):  # as written before histories were kept
        kept = json.loads(file.read_text())
        study = Study(folder)
        fields = study.recall(file.stem)
        fields = {k: v for k, v in fields.items() if k not in ("history", "best_epoch")}
        study.keep(file.stem, fields)
        assert set(kept["plain"]) - set(fields) <= {"history", "best_epoch"}
    old = compare(models, X, y, groups="independent", n_splits=2, study=folder)
    assert old.histories.empty
    pd.testing.assert_frame_equal(old.table, first.table)


def test_what_decides_a_fold_decides_whether_it_is_found(wine, folder):
    X, y = wine
    base = {"bayes": Noting(str(folder.parent))}
    run(wine, folder, base)
    changed = X.copy()
    changed[0, 0] += 1
    runs = {
        "samples": lambda: run((changed, y), folder, base),
        "classes": lambda: run((X, (y + 1) % 3), folder, base),
        "model": lambda: run(wine, folder, {"bayes": Noting(str(folder.parent), 0, "", 1e-8)}),
        "scoring": lambda: run(wine, folder, base, scoring="f1_macro"),
        "folds": lambda: run(wine, folder, base, random_state=1),
        "groups": lambda: run(wine, folder, base, groups=np.arange(len(y))),
    }
    for what, again in runs.items():
        before = fits(folder)
        again()
        assert fits(folder) == before + 3, what
    before = fits(folder)
    run(wine, folder, {"another name": base["bayes"]})  # the same model on the same folds
    for again in runs.values():
        again()
    assert fits(folder) == before
    run(wine, folder, base, n_repeats=3)  # the first two repeats are there, drawn by seeds 0 and 1
    assert fits(folder) == before + 3


def test_other_versions_compute_again(wine, folder, monkeypatch):
    run(wine, folder)
    monkeypatch.setattr("hybridus.protocol.digests.FOLD_VERSION", 0)
    run(wine, folder)
    assert fits(folder) == 6


def test_damaged_files_are_told_of_once_and_computed_again(wine, folder):
    first = run(wine, folder, {"bayes": Noting(str(folder.parent))})
    json_files, arrays = sorted(folder.glob("*.json")), sorted(folder.glob("*.npz"))
    json_files[0].write_bytes(json_files[0].read_bytes()[:90])
    arrays[1].write_bytes(b"nothing")
    arrays[2].unlink()
    with pytest.warns(CacheWarning, match="is damaged") as told:
        again = run(wine, folder, {"bayes": Noting(str(folder.parent))})
    assert len(told) == 1
    assert fits(folder) == 6
    scores = first.metrics
    pd.testing.assert_frame_equal(again.folds[scores], first.folds[scores], check_exact=True)
    run(wine, folder, {"bayes": Noting(str(folder.parent))})
    assert fits(folder) == 6
    text = json_files[0].read_text()
    json_files[0].write_text(text.replace('"accuracy": 0.', '"accuracy": 0.1'))
    with pytest.warns(CacheWarning, match="it does not hold what was written"):
        run(wine, folder, {"bayes": Noting(str(folder.parent))})


def test_nothing_that_is_kept_is_a_pickle(wine, folder):
    X, y = wine
    run((X, np.array(["a", "b", "c"], dtype=object)[y]), folder)
    for file in folder.glob("*.npz"):
        with np.load(file, allow_pickle=False) as stored:
            assert not any(stored[name].dtype.hasobject for name in stored)


def test_a_full_disk_costs_time_and_not_results(wine, folder, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("hybridus.protocol.study.np.savez_compressed", full)
    with pytest.warns(CacheWarning, match="could not be kept in .*No space left"):
        found = run(wine, folder)
    assert len(found.results) == 6
    assert list(folder.glob("*.*")) == []


def test_a_folder_that_cannot_be_is_told_before_anything_is_fitted(wine, folder):
    folder.write_text("a file")
    with pytest.raises(OSError, match="study"):
        run(wine, folder)
    assert fits(folder) == 0


def test_a_model_that_cannot_be_told_by_its_content_is_refused(wine, folder):
    with open(__file__) as file, pytest.raises(ValueError, match=r"study: models\['odd'\] cannot"):
        run(wine, folder, {"odd": FunctionTransformer(kw_args={"file": file})})


# Failures.


def test_a_failed_model_is_recorded_left_out_and_tried_again(wine, folder):
    models = {"bad": Noting(str(folder.parent), fails="yes"), "fine": DummyClassifier()}
    (folder.parent / "broken").mkdir()
    with pytest.warns(FitFailedWarning, match="'bad' failed on fold 0 of repeat 0 and is left out"):
        found = run(wine, folder, models)
    assert found.table.index.tolist() == ["fine"]
    row = {"model": "bad", "repeat": 0, "fold": 0, "error": "RuntimeError"}
    assert found.failures.to_dict("records") == [{**row, "message": "does not work\nyet"}]
    assert "bad is left out, since it failed (RuntimeError; see failures)" in repr(found)
    (file,) = folder.glob("*.error.json")
    kept = json.loads(file.read_text())
    assert {**row, "message": "does not work\nyet"}.items() <= kept.items()
    assert 'raise RuntimeError("does not work' in kept["traceback"]
    (folder.parent / "broken").rmdir()
    found = run(wine, folder, models)
    assert len(found.table) == 2
    assert found.failures.empty
    assert list(folder.glob("*.error.json")) == []
    assert fits(folder) == 1 + 3


def test_finished_folds_of_a_model_that_failed_later_wait_for_the_next_call(wine, folder):
    models = {"late": Noting(str(folder.parent), fails="yes"), "fine": DummyClassifier()}
    plan = plan_comparison(models, *wine, groups="independent", n_splits=3)
    results = plan.run(study=Study(folder))
    done = [next(results)]
    (folder.parent / "broken").mkdir()
    with pytest.warns(FitFailedWarning, match="'late' failed on fold 1"):
        done.extend(results)
    assert plan.gather(done).table.index.tolist() == ["fine"]
    (folder.parent / "broken").rmdir()
    assert len(run(wine, folder, models).table) == 2
    assert fits(folder) == 1 + 1 + 2


def test_ctrl_c_ends_the_work_and_finished_folds_are_there(wine, folder):
    class Stopped(DummyClassifier):
        def fit(self, X, y):
            raise KeyboardInterrupt

    models = {"bayes": Noting(str(folder.parent)), "stopped": Stopped()}
    with pytest.raises(KeyboardInterrupt):
        run(wine, folder, models)
    run(wine, folder)
    assert fits(folder) == 3


# Several processes.


def test_two_share_a_study_and_each_fold_is_done_once(wine, folder):
    models = {"bayes": Noting(str(folder.parent), 0.05), "smooth": Noting(str(folder.parent), 0.06)}
    found = []
    threads = [
        threading.Thread(target=lambda: found.append(run(wine, folder, models))) for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert fits(folder) == 6
    assert_same(*found)


CHILD = """
import sys
from test_study import Noting, run
from pathlib import Path
from sklearn.datasets import load_wine
folder = Path(sys.argv[1])
run(load_wine(return_X_y=True), folder, {"slow": Noting(str(folder.parent), 0.3)}, n_repeats=2)
"""


@pytest.mark.slow
def test_the_claim_of_a_killed_process_is_taken_over_at_once(wine, folder):
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(folder)], cwd=os.path.dirname(__file__)
    )
    while fits(folder) < 3:
        time.sleep(0.01)
        assert child.poll() is None
    child.send_signal(signal.SIGKILL)
    child.wait()
    assert len(list(folder.glob("*.json"))) == 2
    for lock in folder.glob("claims/*.lock"):
        (folder / f".1234abcd-{lock.stem}.npz").write_bytes(b"half")
    found = run(wine, folder, {"slow": Noting(str(folder.parent), 0.3)}, n_repeats=2)
    assert fits(folder) == 7  # the one that was cut short twice
    assert len(found.results) == 6
    assert len(list(folder.glob(".*"))) <= 2  # but for those of finished folds


def test_how_far_a_fold_is_stands_in_the_study_while_it_is_claimed(tmp_path):
    study, reader = Study(tmp_path), Study(tmp_path)
    label = {"model": "net", "repeat": 0, "fold": 1}
    with study.claim("key"):
        study.note("key", label, "epoch", 0, 3)
        study.note("key", label, "epoch", 1, 3)  # so soon after the first it may be left out
        study.note("key", label, "epoch", 3, 3)
        (found,) = reader.under_way()
        assert found.pop("seconds") >= 0
        assert found == {**label, "what": "epoch", "done": 3, "of": 3}
    assert reader.under_way() == []


def test_what_a_killed_process_noted_before_is_not_under_way(tmp_path):
    study = Study(tmp_path)
    study.note("key", {"model": "net", "repeat": 0, "fold": 0}, "epoch", 1, 3)
    (left,) = (tmp_path / "claims").glob("*.json")
    os.utime(left, (1, 1))
    assert Study(tmp_path).under_way() == []
    with study.claim("key"):
        pass
    assert not left.exists()


def test_what_a_model_tells_within_a_fold_is_noted_for_others(tmp_path):
    X, y = np.random.default_rng(0).random((8, 2)), np.arange(8) % 2
    folds = [(np.arange(4), np.arange(4, 8))]
    study = Study(tmp_path / "study")
    list(run_folds({"telling": Telling(str(tmp_path))}, X, y, folds, study=study))
    noted = json.loads((tmp_path / "noted").read_text())
    assert [noted[name] for name in ("model", "fold", "done", "of")] == ["telling", 0, 2, 2]
    assert study.under_way() == []
