"""Ctrl-C ends a comparison, whatever an estimator makes of it."""

import signal

import numpy as np
import pytest
from sklearn.model_selection import GridSearchCV
from sklearn.neural_network import MLPClassifier

from hybridus import compare
from hybridus.training.interrupts import interrupts_end_work

pytestmark = pytest.mark.slow

X = np.random.default_rng(0).normal(size=(24, 3))
y = np.arange(24) % 2


class InterruptedMLP(MLPClassifier):
    """scikit-learn's, with a user who presses Ctrl-C in the first step."""

    def _backprop(self, *arguments, **options):
        signal.raise_signal(signal.SIGINT)
        return super()._backprop(*arguments, **options)


@pytest.mark.filterwarnings("ignore:Training interrupted by user")
def test_a_head_that_swallows_ctrl_c_does_not_count_as_fitted():
    InterruptedMLP().fit(X, y)  # scikit-learn goes on with what it has learned so far
    search = GridSearchCV(InterruptedMLP(), {"alpha": [1e-3, 1]}, cv=2)
    for model in (InterruptedMLP(), search):
        with pytest.raises(KeyboardInterrupt):
            compare({"mlp": model}, X, y, groups="independent", n_splits=2)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_handlers_of_others_stay_and_errors_pass():
    heard = []

    def handler(*_):
        heard.append(signal.getsignal(signal.SIGINT))

    before = signal.signal(signal.SIGINT, handler)
    try:
        with interrupts_end_work():
            signal.raise_signal(signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)
    assert heard == [handler]
    with pytest.raises(ValueError, match="a mistake"), interrupts_end_work():
        raise ValueError("a mistake")
    assert signal.getsignal(signal.SIGINT) is before
