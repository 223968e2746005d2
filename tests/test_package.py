"""The package as a whole: light to import, documented, quiet."""

import doctest
import importlib
import pkgutil
import subprocess
import sys

import pytest

import hybridus


def run(code, **options):
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, **options
    )


def test_import_starts_nothing_heavy():
    code = (
        "import sys, hybridus; "
        "heavy = {'tensorflow', 'keras', 'openvino', 'sklearn', 'pandas', 'numpy'}; "
        "print(sorted(heavy & set(sys.modules)))"
    )
    assert run(code).stdout == "[]\n"


def test_the_classical_names_need_no_keras():
    code = (
        "import sys; from hybridus import *; "
        "make_hybrid_classifier(['vgg16', 'mobilenet_v2']); "
        "print(sorted({'tensorflow', 'keras', 'openvino'} & set(sys.modules)))"
    )
    assert run(code).stdout == "[]\n"


def test_public_names_exist_and_are_documented():
    for name in hybridus.__all__:
        if name != "__version__":
            assert (getattr(hybridus, name).__doc__ or "").strip(), name
    assert set(hybridus._HOMES) == set(hybridus.__all__) - {"__version__"}
    assert set(hybridus.__all__) == set(dir(hybridus))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        hybridus.nothing  # noqa: B018


def test_keras_starts_quietly_and_leaves_the_random_state_alone():
    code = (
        "import random; random.seed(1); a = random.getstate(); "
        "from hybridus._keras import keras; assert random.getstate() == a; "
        "assert keras.config.backend() == 'tensorflow'"
    )
    done = run(code)
    assert (done.stdout, done.stderr) == ("", "")


def test_limits_that_joblib_sets_reach_tensorflow():
    code = (
        "import os; os.environ['OMP_NUM_THREADS'] = '1'; "
        "os.environ.pop('TF_NUM_INTRAOP_THREADS', None); "
        "from hybridus import _keras; "
        "print(os.environ['TF_NUM_INTRAOP_THREADS'])"
    )
    assert run(code).stdout == "1\n"


def modules():
    names = (info.name for info in pkgutil.walk_packages(hybridus.__path__, "hybridus."))
    return [name for name in names if not name.endswith("__main__")]


@pytest.mark.parametrize("name", ["hybridus", *modules()])
def test_examples_in_docstrings_run(name, monkeypatch):
    from hybridus.encoders import registry

    monkeypatch.setattr(registry, "_REGISTRY", dict(registry._REGISTRY))
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    assert doctest.testmod(importlib.import_module(name), optionflags=flags).failed == 0
