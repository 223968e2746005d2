"""Every model on every fold: what fails is told of, what was done is not done again."""

import pickle

import pytest
from sklearn.datasets import load_wine
from sklearn.dummy import DummyClassifier
from sklearn.exceptions import FitFailedWarning
from sklearn.svm import SVC

from hybridus.protocol.folds import repeated_folds
from hybridus.protocol.schedule import FoldFailure, run_folds


@pytest.fixture(scope="module")
def wine():
    return load_wine(return_X_y=True)


def test_a_model_that_fails_is_told_of_and_does_not_stop_the_others(wine):
    X, y = wine
    folds = repeated_folds(y, n_splits=3, n_repeats=2)
    models = {"bad": SVC(kernel="no_such_kernel"), "fine": DummyClassifier()}
    with pytest.warns(FitFailedWarning, match="'bad' failed on fold 0 of repeat 0 and is left out"):
        failure, *rest = run_folds(models, X, y, folds)
    assert isinstance(failure, FoldFailure)
    assert list(failure.row().values())[:4] == ["bad", 0, 0, "InvalidParameterError"]
    assert "no_such_kernel" in failure.row()["message"]
    assert [result.model for result in rest] == ["fine"] * 6  # further folds of it are not tried


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.FitFailedWarning")
def test_if_all_models_fail_the_first_error_is_raised_and_names_the_fold(wine):
    X, y = wine
    models = {"bad": SVC(kernel="no_such_kernel"), "worse": SVC(C=-1)}
    for n_jobs in (None, 2):
        yielded = []
        with pytest.raises(ValueError, match="no_such_kernel") as raised:
            yielded.extend(run_folds(models, X, y, repeated_folds(y, n_splits=3), n_jobs=n_jobs))
        assert {failure.model for failure in yielded} == {"bad", "worse"}
        assert raised.value.__notes__[0] == "model 'bad', fold 0 of repeat 0"
    assert "in fit_and_judge" in raised.value.__notes__[1]  # where it happened in the other process


class Unreadable(Exception):
    """Cannot be read back from a pickle, as many errors of other libraries cannot."""

    def __init__(self, code, place):
        super().__init__(f"{code} at {place}")


class Odd(DummyClassifier):
    def fit(self, X, y):
        raise Unreadable(7, "here")


class Large(DummyClassifier):
    def fit(self, X, y):
        raise MemoryError


def test_errors_come_from_other_processes_whatever_they_are(wine):
    X, y = wine
    models = {"odd": Odd(), "fine": DummyClassifier()}
    folds = repeated_folds(y, n_splits=3)
    with pytest.warns(FitFailedWarning, match="Unreadable: 7 at here"):
        found = list(run_folds(models, X, y, folds, n_jobs=2))
    assert found[0].row()["message"] == "Unreadable: 7 at here"
    assert [one.fold for one in found if one.model == "fine"] == [0, 1, 2]


def test_want_of_memory_ends_the_work(wine):
    X, y = wine
    models = {"large": Large(), "fine": DummyClassifier()}
    with pytest.raises(MemoryError) as raised:
        list(run_folds(models, X, y, repeated_folds(y, n_splits=3)))
    assert raised.value.__notes__ == ["model 'large', fold 0 of repeat 0"]


def test_a_failure_goes_to_another_process_whatever_was_raised():
    class Odd(Exception):
        """Cannot be read back: made in a function, with arguments of its own."""

        def __init__(self, a, b):
            super().__init__(f"{a} {b}")

    for error, kind in ((ValueError("plain"), ValueError), (Odd(1, 2), RuntimeError)):
        failure = FoldFailure("svm", 1, 2, error)
        again = pickle.loads(pickle.dumps(failure))
        assert type(again.exception) is kind
        assert again.row()["message"].endswith(str(error))
        assert (again.model, again.repeat, again.fold) == ("svm", 1, 2)
