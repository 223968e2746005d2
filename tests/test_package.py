"""The package as a whole: light to import, documented, quiet."""

import ast
import doctest
import importlib
import os
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


# Keras takes seconds to start, so that one process tells all that must be seen in a new one.
IN_A_NEW_PROCESS = """
import os, random, sys
seen = []

def trace(event, arguments):
    # urllib3 binds a socket to this machine's own address to see whether it has IPv6.
    if event.startswith(("socket.", "urllib.", "http.")) and event not in (
        "socket.__new__", "socket.gethostname", "socket.bind"
    ):
        seen.append((event, repr(arguments)))

sys.addaudithook(trace)
from hybridus import *
make_hybrid_classifier(["vgg16", "mobilenet_v2"])
heavy = sorted({"tensorflow", "keras", "openvino"} & set(sys.modules))

random.seed(1)
state = random.getstate()
os.environ["OMP_NUM_THREADS"] = "1"
from hybridus._keras import keras
assert random.getstate() == state
assert keras.config.backend() == "tensorflow"
threads = os.environ["TF_NUM_INTRAOP_THREADS"]
print("Keras has started", file=sys.stderr, flush=True)

import numpy as np
for engine in ("openvino", "keras"):
    extractor = DeepFeatureExtractor(
        "mobilenet_v2_0.35", weights="random", layers=["Conv1"], image_size=32, engine=engine
    )
    extractor.fit_transform(np.zeros((2, 8, 8)))
import openvino
assert sys.modules["openvino_telemetry"] is None
print({"heavy": heavy, "threads": threads, "calls": seen})
"""


@pytest.fixture(scope="module")
def new_process(tmp_path_factory):
    """What a process with an empty home says, its errors, and its folder."""
    folder = tmp_path_factory.mktemp("new process")
    home = folder / "home"
    home.mkdir()
    kept = ("PATH", "LD_LIBRARY_PATH", "SYSTEMROOT")
    environment = {key: os.environ[key] for key in kept if key in os.environ}
    environment |= {"HOME": str(home), "HYBRIDUS_CACHE": str(folder / "cache")}
    done = run(IN_A_NEW_PROCESS, env=environment, cwd=folder)
    return ast.literal_eval(done.stdout), done.stderr, folder


@pytest.mark.slow
def test_the_classical_names_need_no_keras(new_process):
    assert new_process[0]["heavy"] == []


def test_public_names_exist_and_are_documented():
    for name in hybridus.__all__:
        if name != "__version__":
            assert (getattr(hybridus, name).__doc__ or "").strip(), name
    assert set(hybridus.__all__) == set(dir(hybridus))
    with pytest.raises(AttributeError, match="hybridus attribute nothing"):
        hybridus.nothing  # noqa: B018


@pytest.mark.slow
def test_keras_starts_quietly_within_joblibs_limits_and_leaves_the_random_state_alone(new_process):
    said, errors, _ = new_process
    assert said["threads"] == "1"
    assert errors.startswith("Keras has started\n")


def test_workers_share_the_cores():
    from joblib import Parallel, cpu_count, delayed

    from hybridus._environment import n_threads

    limits = Parallel(n_jobs=2)(delayed(n_threads)() for _ in range(2))
    assert limits == [max(1, cpu_count() // 2)] * 2


@pytest.mark.slow
def test_nothing_calls_home_or_writes_outside_our_folder(new_process):
    """An empty home stays empty, and no address is looked up or connected to."""
    said, _, folder = new_process
    assert said["calls"] == []
    assert list((folder / "home").rglob("*")) == []
    assert {path.name for path in folder.iterdir()} == {"home", "cache"}


def modules():
    names = (info.name for info in pkgutil.walk_packages(hybridus.__path__, "hybridus."))
    return [name for name in names if not name.endswith("__main__")]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["hybridus", *modules()])
def test_examples_in_docstrings_run(name, monkeypatch):
    from hybridus.encoders import registry

    monkeypatch.setattr(registry, "_REGISTRY", dict(registry._REGISTRY))
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    assert doctest.testmod(importlib.import_module(name), optionflags=flags).failed == 0
