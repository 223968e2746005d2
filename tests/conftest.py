"""Fixtures shared by all tests."""

import gc
import os
import signal
from pathlib import Path

import hypothesis
import pytest
from joblib.externals.loky import ProcessPoolExecutor
from threadpoolctl import threadpool_limits

ROOT = Path(__file__).resolve().parents[1]

# The same examples in every run: what is found by chance is found while working, with
# HYPOTHESIS_PROFILE=default.
hypothesis.settings.register_profile("repeatable", derandomize=True, deadline=None)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "repeatable"))


@pytest.fixture(scope="session", autouse=True)
def one_thread_for_small_matrices():
    """A second BLAS thread only waits where matrices are tiny, and uses a core for it."""
    before = os.environ.get("OPENBLAS_NUM_THREADS")
    os.environ["OPENBLAS_NUM_THREADS"] = "1"  # for processes that are started
    with threadpool_limits(1, "blas"):
        yield
    if before is None:
        del os.environ["OPENBLAS_NUM_THREADS"]
    else:
        os.environ["OPENBLAS_NUM_THREADS"] = before


@pytest.fixture(scope="session", autouse=True)
def fewer_collections():
    """Tracing a network makes a million objects that stay: look for garbage among them seldom."""
    before = gc.get_threshold()
    gc.set_threshold(10_000, 10, 10)
    yield
    gc.set_threshold(*before)


@pytest.fixture(scope="session")
def another_process():
    """Call a function of a module in a process of its own, which all tests that ask for it share.

    To start Keras takes a process seconds.
    """
    executor = ProcessPoolExecutor(max_workers=1)
    yield lambda function, *arguments: executor.submit(function, *arguments).result(timeout=600)
    executor.shutdown(wait=True, kill_workers=True)


@pytest.fixture(scope="session", autouse=True)
def python_hears_ctrl_c():
    """Python's own handler, which a process that was started in the background does not have."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="session")
def shared():
    """Folder with the real scans and weights that lie beside the project."""
    folder = Path(os.environ.get("HYBRIDUS_SHARED", ROOT.parent / "shared"))
    if not (folder / "data").is_dir():
        pytest.skip(f"real data not found in {folder} (set HYBRIDUS_SHARED)")
    return folder


@pytest.fixture(scope="session")
def busi_folder(shared):
    """Folder of the real BUSI scans."""
    return shared / "data" / "Dataset_BUSI_with_GT"


@pytest.fixture(scope="session")
def busi_curation(shared):
    """Table that says which BUSI scans are duplicates."""
    return shared / "data" / "busi_curation.csv"


@pytest.fixture(scope="session", autouse=True)
def cache_folder(tmp_path_factory):
    """Cache folder of this test run, for this process and those it starts."""
    folder = tmp_path_factory.mktemp("hybridus cache (test)")
    before = os.environ.get("HYBRIDUS_CACHE")
    os.environ["HYBRIDUS_CACHE"] = str(folder)
    yield folder
    if before is None:
        del os.environ["HYBRIDUS_CACHE"]
    else:
        os.environ["HYBRIDUS_CACHE"] = before


@pytest.fixture
def real_weights(shared, monkeypatch):
    """Real ImageNet weights, found as a user would have them found."""
    folder = shared / "weights"
    monkeypatch.setenv("HYBRIDUS_WEIGHTS", str(folder))
    return folder


@pytest.fixture
def no_weights(monkeypatch, tmp_path):
    """A machine without ImageNet weights and without a network."""
    from hybridus.encoders.registry import EncoderSpec

    def fail(self):
        raise Exception("URL fetch failure on https://example.invalid: None -- no network")

    monkeypatch.delenv("HYBRIDUS_WEIGHTS", raising=False)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras home"))
    monkeypatch.setattr(EncoderSpec, "download", fail)
    return tmp_path / "keras home"


@pytest.fixture(scope="session")
def enough_networks():
    """Keep more compiled networks than users need: tests that train come back to many."""
    from hybridus.training import loop

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "_MOST_IDLE", 40)
        yield
    del loop._idle[: -loop._MOST_IDLE]


@pytest.fixture(scope="module")
def few_trees():
    """Let an audit ask small forests about shortcuts: it takes most of its time for them."""
    from hybridus.protocol.auditing import shortcuts

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shortcuts, "_N_TREES", 10)
        yield


@pytest.fixture
def images_encoded(monkeypatch):
    """Numbers of images that go through a frozen network, from an empty store on."""
    from hybridus.store.activations import ACTIVATIONS
    from hybridus.training import batches

    counts, open_engine = [], batches.open_engine

    class Counting:
        def __init__(self, engine):
            self.engine, self.batch_size = engine, engine.batch_size

        def run(self, parts):
            def counted():
                for part in parts:
                    counts.append(len(part))
                    yield part

            return self.engine.run(counted())

    monkeypatch.setattr(batches, "open_engine", lambda frozen: Counting(open_engine(frozen)))
    ACTIVATIONS.clear()
    yield counts
    ACTIVATIONS.clear()
