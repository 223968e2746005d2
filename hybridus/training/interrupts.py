"""Interrupts: whether Ctrl-C ends one fit, whose user keeps what it learned, or all the work."""

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

# Whatever fits many models: to go on with the next one is not what Ctrl-C asks for.
_FIT_MANY = (
    "concurrent",
    "dask",
    "distributed",
    "hybridus.cli",
    "hybridus.estimators.segmenters.voting",
    "hybridus.protocol",
    "hybridus.report",
    "joblib",
    "multiprocessing",
    "optuna",
    "sklearn",
)
_FIT_ONE = ("sklearn.base", "sklearn.pipeline")  # a decorator, and a model's own steps


def fitted_directly() -> bool:
    """Whether the `fit` that runs was called by a user's own code, perhaps through a Pipeline.

    False inside a search, cross-validation, a comparison, an ensemble or a worker, wherever they
    stand among the callers: there an interrupt must end the work and not one fit of it.
    """
    if threading.current_thread() is not threading.main_thread():
        return False
    frame = sys._getframe(1)
    while frame is not None:
        module = frame.f_globals.get("__name__", "")
        if _within(module, _FIT_MANY) and not _within(module, _FIT_ONE):
            return False
        frame = frame.f_back  # type: ignore[assignment]
    return True


class _Interrupt(BaseException):
    """Ctrl-C that ``except KeyboardInterrupt`` does not catch."""


def _interrupt(*_: Any) -> NoReturn:
    raise _Interrupt


@contextmanager
def interrupts_end_work() -> Iterator[None]:
    """Let Ctrl-C end the work also where an estimator would go on with what it has learned so far.

    scikit-learn's `MLPClassifier` does, also inside a search, whose scores then count what was cut
    short. `KeyboardInterrupt` leaves the block, whatever is in between. Threads other than the main
    one get no signals, and handlers of others are left in place.

    Examples
    --------
    >>> import signal
    >>> from hybridus.training.interrupts import interrupts_end_work
    >>> try:
    ...     with interrupts_end_work():
    ...         try:
    ...             signal.raise_signal(signal.SIGINT)
    ...         except KeyboardInterrupt:
    ...             print("goes on")
    ... except KeyboardInterrupt:
    ...     print("ends")
    ends
    """
    of_python = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if not of_python or threading.current_thread() is not threading.main_thread():
        yield
        return
    signal.signal(signal.SIGINT, _interrupt)
    try:
        yield
    except _Interrupt:
        raise KeyboardInterrupt from None
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _within(module: str, packages: tuple[str, ...]) -> bool:
    return any(module == package or module.startswith(package + ".") for package in packages)
