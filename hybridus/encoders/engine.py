"""What runs frozen networks: Keras or OpenVINO behind one small interface.

An engine turns batches of pixels into rows. Compiled networks are kept in the process (a few) and,
for OpenVINO, on disk under the network's fingerprint, so that a fresh process needs no Keras.
"""

import contextlib
import functools
import importlib.util
import os
import sys
import tempfile
import threading
from collections import OrderedDict, deque
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from hybridus._environment import cache_folder, n_threads, refuse_fork
from hybridus.encoders.frozen import FrozenEncoder

EngineName = Literal["keras", "openvino"]
EngineChoice = Literal["auto", "keras", "openvino"]

_MOST_ENGINES = 6


class Engine(Protocol):
    """Runs one frozen network."""

    widths: list[int]

    def run(self, batches: Iterable[NDArray]) -> Iterator[NDArray[np.float32]]:
        """Yield the rows of each batch, uint8 or float32 of shape (n, H, W, 3), in order."""


def choose_engine(engine: EngineChoice, precision: str) -> EngineName:
    """Resolve ``engine="auto"``: OpenVINO, but Keras where a GPU is visible or OpenVINO absent.

    Raises
    ------
    ImportError
        For ``engine="openvino"`` where it is not installed.
    ValueError
        For bfloat16 on Keras, which computes frozen networks in float32.
    """
    present = importlib.util.find_spec("openvino") is not None
    if engine == "auto":
        engine = "openvino" if present and not _gpu_visible() else "keras"
    if engine == "openvino" and not present:
        raise ImportError("engine='openvino' needs the package openvino; install it or use 'keras'")
    if engine == "keras" and precision != "float32":
        raise ValueError(
            f"precision={precision!r} needs engine='openvino'; Keras runs frozen networks in "
            "float32 here"
        )
    return engine


def open_engine(frozen: FrozenEncoder, *, batch_size: int) -> Engine:
    """Return the engine of a frozen encoder, from this process's small pool where it is there."""
    global _started_in
    _started_in = _started_in or os.getpid()
    refuse_fork(_started_in, "a frozen network")
    key = (frozen.fingerprint, batch_size, n_threads())
    with _pool_lock:
        if key in _pool:
            _pool.move_to_end(key)
            return _pool[key]
        engine: Engine
        if frozen.engine == "openvino":
            engine = OpenVINOEngine(frozen, batch_size=batch_size)
        else:
            engine = KerasEngine(frozen, batch_size=batch_size)
        _pool[key] = engine
        while len(_pool) > _MOST_ENGINES:
            _pool.popitem(last=False)
        return engine


class KerasEngine:
    """Runs a network with Keras; batches are padded to one size, since Keras retraces otherwise."""

    def __init__(self, frozen: FrozenEncoder, *, batch_size: int) -> None:
        from hybridus.encoders.network import build_network

        self._network = build_network(frozen)
        self._batch_size = batch_size
        self.widths = [int(output.shape[-1]) for output in self._network.outputs]

    def run(self, batches: Iterable[NDArray]) -> Iterator[NDArray[np.float32]]:
        """Yield the rows of each batch."""
        for batch in batches:
            padded = _pad(batch, self._batch_size).astype(np.float32)
            rows = self._network.predict_on_batch(padded)
            rows = rows if isinstance(rows, list) else [rows]
            yield np.concatenate([np.asarray(r) for r in rows], axis=1)[: len(batch)]


class OpenVINOEngine:
    """Runs a network with OpenVINO, in asynchronous requests of fixed size.

    One image alone goes through a network of batch size 1; a float32 batch, for images that are
    not 8-bit, through one with float32 input. Each is compiled when it is first needed.
    """

    def __init__(self, frozen: FrozenEncoder, *, batch_size: int) -> None:
        self._frozen = frozen
        self._batch_size = batch_size
        self._lock = threading.Lock()
        self._compiled: dict[tuple[int, str], Any] = {}
        self._model = _read_or_export(frozen)
        self.widths = [
            int(output.get_partial_shape()[1].get_length()) for output in self._model.outputs
        ]

    def run(self, batches: Iterable[NDArray]) -> Iterator[NDArray[np.float32]]:
        """Yield the rows of each batch, several batches under way at a time."""
        free: dict[tuple[int, str], list[Any]] = {}
        pending: deque[tuple[tuple[int, str], Any, int]] = deque()
        for batch in batches:
            size = 1 if len(batch) == 1 else self._batch_size
            key = (size, batch.dtype.name)
            if key not in free:
                compiled = self._compile(size, batch.dtype)
                wanted = compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS")
                free[key] = [compiled.create_infer_request() for _ in range(wanted)]
            while not free[key]:
                yield self._collect(pending.popleft(), free)
            request = free[key].pop()
            request.start_async({0: _pad(batch, size)}, share_inputs=False)
            pending.append((key, request, len(batch)))
        while pending:
            yield self._collect(pending.popleft(), free)

    @staticmethod
    def _collect(started: tuple[Any, Any, int], free: Any) -> NDArray[np.float32]:
        key, request, n_images = started
        request.wait()
        rows = np.concatenate([output.data[:n_images] for output in request.output_tensors], axis=1)
        free[key].append(request)
        return rows

    def _compile(self, size: int, dtype: Any) -> Any:
        key = (size, dtype.name)
        with self._lock:
            if key not in self._compiled:
                self._compiled[key] = _compile(self._model, self._frozen, size, dtype)
            return self._compiled[key]


_pool: OrderedDict[Any, Engine] = OrderedDict()
_pool_lock = threading.RLock()
_started_in = 0


def _pad(batch: NDArray, size: int) -> NDArray:
    if len(batch) == size:
        return np.ascontiguousarray(batch)
    padded = np.zeros((size, *batch.shape[1:]), dtype=batch.dtype)
    padded[: len(batch)] = batch
    return padded


def _gpu_visible() -> bool:
    """Ask Keras for a GPU only where the machine has the device files of one."""
    if not any(Path("/dev").glob("nvidia[0-9]*")) and not Path("/dev/kfd").exists():
        return False
    from hybridus._keras import accelerated

    return accelerated()


@functools.cache
def _openvino() -> Any:
    """Import OpenVINO with its telemetry kept out: it would write to the home and connect."""
    if "openvino" not in sys.modules:
        sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    import openvino

    return openvino


@functools.cache
def _core() -> Any:
    return _openvino().Core()


def _read_or_export(frozen: FrozenEncoder) -> Any:
    """Read the network that is kept on disk, or have Keras export it there."""
    folder = cache_folder() / "networks"
    file = folder / f"{frozen.network_fingerprint}.xml"
    core = _core()
    if file.is_file() and file.with_suffix(".bin").is_file():
        with contextlib.suppress(RuntimeError):  # damaged: exported again
            return core.read_model(file)
    model = _export(frozen)
    with contextlib.suppress(OSError, RuntimeError):  # no room or no right to keep it
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        temporary = file.with_name(f"{file.stem}.{os.getpid()}.{threading.get_ident()}.xml")
        try:
            _openvino().save_model(model, temporary, compress_to_fp16=False)
            # The weights first: a reader that sees the .xml finds them.
            os.replace(temporary.with_suffix(".bin"), file.with_suffix(".bin"))
            os.replace(temporary, file)
        finally:
            temporary.with_suffix(".bin").unlink(missing_ok=True)
            temporary.unlink(missing_ok=True)
    return model


def _export(frozen: FrozenEncoder) -> Any:
    """Build the network with Keras and convert it by Keras's own export."""
    _openvino()
    from hybridus._keras import keras
    from hybridus.encoders.network import build_network

    network = build_network(frozen)
    with tempfile.TemporaryDirectory() as folder:
        file = os.path.join(folder, "network.xml")
        network.export(
            file,
            format="openvino",
            verbose=False,
            input_signature=[keras.InputSpec(shape=(None, *frozen.image_size, 3), dtype="float32")],
        )
        model = _core().read_model(
            Path(file).read_bytes(), Path(file).with_suffix(".bin").read_bytes()
        )
    if len(model.outputs) != len(frozen.taps):
        raise RuntimeError(f"expected {len(frozen.taps)} outputs, exported {len(model.outputs)}")
    return model


def _compile(model: Any, frozen: FrozenEncoder, size: int, dtype: Any) -> Any:
    ov = _openvino()
    model = model.clone()
    model.reshape([size, *frozen.image_size, 3])
    if dtype == np.uint8:
        steps = ov.preprocess.PrePostProcessor(model)
        steps.input().tensor().set_element_type(ov.Type.u8)
        steps.input().preprocess().convert_element_type(ov.Type.f32)
        model = steps.build()
    options = {
        "INFERENCE_PRECISION_HINT": "bf16" if frozen.precision == "bfloat16" else "f32",
        "PERFORMANCE_HINT": "LATENCY" if size == 1 else "THROUGHPUT",
        "INFERENCE_NUM_THREADS": n_threads(),
        "CACHE_DIR": str(cache_folder() / "compiled"),
    }
    return _core().compile_model(model, "CPU", options)
