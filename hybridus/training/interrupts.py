"""Interrupts: whether Ctrl-C ends one fit, whose user keeps what it learned, or all the work."""

import sys
import threading

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


def _within(module: str, packages: tuple[str, ...]) -> bool:
    return any(module == package or module.startswith(package + ".") for package in packages)
