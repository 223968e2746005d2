"""Engines of frozen networks: Keras or OpenVINO behind one small interface.

An engine turns batches of pixels into rows. Compiled networks are kept in the process (a few) and,
for OpenVINO, on disk under the network's fingerprint, so that a fresh process needs no Keras.
"""

import contextlib
import functools
import hashlib
import importlib.metadata
import importlib.util
import io
import os
import re
import sys
import tempfile
import threading
import warnings
from collections import OrderedDict, deque
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from hybridus._environment import ForkGuard, cache_folder, n_threads
from hybridus.encoders.carried import CarriedNetwork
from hybridus.encoders.frozen import FrozenEncoder
from hybridus.encoders.kept import Contents, is_kept, keep, one_at_a_time, recall, refuse

EngineName = Literal["keras", "openvino"]
EngineChoice = Literal["auto", "keras", "openvino"]
Precision = Literal["float32", "bfloat16"]
PrecisionChoice = Literal["float32", "bfloat16", "auto"]

_MOST_ENGINES = 6


# On a CPU small batches stay in its cache: with MobileNetV2 in float32, batches of 2 were a fifth
# faster than batches of 8. Keras has overhead for each call.
_BATCH_SIZES: dict[EngineName, int] = {"openvino": 2, "keras": 32}


class Engine(Protocol):
    """Runs one frozen network."""

    batch_size: int

    @property
    def widths(self) -> list[int]:
        """Features of each tap."""

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
    if engine == "keras" and precision == "bfloat16":
        raise ValueError(
            f"precision={precision!r} needs engine='openvino'; Keras runs frozen networks in "
            "float32 here"
        )
    return engine


def resolve_precision(precision: PrecisionChoice, engine: EngineName) -> Precision:
    """Resolve ``precision="auto"``: bfloat16 where it is the faster, by this processor's own say.

    Warns
    -----
    UserWarning
        For bfloat16 on a processor that does not have it; once a process.
    """
    if precision == "auto":
        return "bfloat16" if engine == "openvino" and has_bfloat16() else "float32"
    if precision == "bfloat16" and not has_bfloat16() and not _told:
        _told.append(precision)
        warnings.warn(
            "precision='bfloat16': this processor computes in float32 and only rounds to bfloat16, "
            "which costs accuracy and is no faster (138 images/s were measured against 144). Use "
            "'float32', or 'auto', which takes bfloat16 only where the processor has it",
            stacklevel=5,
        )
    return precision


@functools.cache
def has_bfloat16() -> bool:
    """Whether the processor multiplies bfloat16, as OpenVINO and, on Linux, the system tell."""
    capabilities = _core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    if "BF16" not in capabilities:
        return False
    with contextlib.suppress(OSError):
        flags = re.search(r"^flags\s*:(.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
        if flags is not None:  # OpenVINO can also imitate it by AVX-512 alone
            return not _BFLOAT16_FLAGS.isdisjoint(flags[1].split())
    return True


_BFLOAT16_FLAGS = {"avx512_bf16", "amx_bf16", "avx_ne_convert"}
_told: list[str] = []


def carries(engine: EngineChoice, network: CarriedNetwork | None) -> CarriedNetwork | None:
    """Return the network that travels with an estimator where it can and may run here."""
    present = importlib.util.find_spec("openvino") is not None
    return network if present and engine != "keras" else None


def engine_version(engine: EngineName) -> str | None:
    """Version of what runs networks, told without starting it; None where it is not installed."""
    try:
        return importlib.metadata.version(engine)
    except importlib.metadata.PackageNotFoundError:
        return None


def open_engine(
    frozen: FrozenEncoder,
    *,
    batch_size: int | None = None,
    cache: Path | None = None,
    carried: CarriedNetwork | None = None,
) -> Engine:
    """Return the engine of a frozen encoder, from this process's small pool where it is there.

    Without `batch_size` the engine's own is taken, and without `cache`, where compiled networks are
    kept, the user's cache folder. Where `frozen` names a `carried` network, it must be that one.
    """
    _guard.check()
    batch_size = batch_size or _BATCH_SIZES[frozen.engine]
    cache = cache or cache_folder()
    key = (frozen.fingerprint, batch_size, n_threads(), cache)
    with _pool_lock:
        if key in _pool:
            _pool.move_to_end(key)
            return _pool[key]
        engine: Engine
        if frozen.engine == "openvino":
            engine = OpenVINOEngine(frozen, batch_size=batch_size, cache=cache, carried=carried)
        else:
            engine = KerasEngine(frozen, batch_size=batch_size)
        _pool[key] = engine
        while len(_pool) > _MOST_ENGINES:
            _pool.popitem(last=False)
        return engine


class KerasEngine:
    """Runs a network with Keras; batches are padded to one size, since Keras retraces otherwise."""

    def __init__(self, frozen: FrozenEncoder, *, batch_size: int) -> None:
        from hybridus.encoders.assembly import build_network

        self._network = build_network(frozen)
        self._lock = threading.Lock()
        self.batch_size = batch_size
        self.widths = [int(output.shape[-1]) for output in self._network.outputs]

    def run(self, batches: Iterable[NDArray]) -> Iterator[NDArray[np.float32]]:
        """Yield the rows of each batch."""
        for batch in batches:
            padded = _pad(batch, self.batch_size).astype(np.float32)
            with self._lock:
                rows = self._network.predict_on_batch(padded)
            rows = rows if isinstance(rows, list) else [rows]
            yield np.concatenate([np.asarray(r) for r in rows], axis=1)[: len(batch)]


class OpenVINOEngine:
    """Runs a network with OpenVINO, in asynchronous requests of fixed size.

    One image alone goes through a network of batch size 1; a float32 batch, for images that are
    not 8-bit, through one with float32 input. Each is compiled when it is first needed.
    """

    def __init__(
        self,
        frozen: FrozenEncoder,
        *,
        batch_size: int,
        cache: Path | None = None,
        carried: CarriedNetwork | None = None,
    ) -> None:
        if frozen.carried != (carried.digest if carried else ""):
            raise ValueError("the network that travels with this encoder is another one")
        self._frozen, self._carried = frozen, carried
        self._cache = cache or cache_folder()
        self.batch_size = batch_size
        self._lock = threading.Lock()
        self._compiled: dict[tuple[int, str], tuple[Any, list[Any]]] = {}
        self._most_pending = n_threads()  # one a stream

    @functools.cached_property
    def _model(self) -> Any:
        """The network that is carried, or kept on disk, or that Keras exports there."""
        if self._carried is not None:
            return read_network(self._carried)
        kept = exported(self._frozen, self._cache)
        try:
            return _core().read_model(kept["xml"], kept["bin"])
        except RuntimeError as error:
            network = self._frozen.network_fingerprint
            refuse(self._cache, f"network {network[:16]}", str(error).splitlines()[0])
        kept = _export(self._frozen)
        keep(self._cache, network, "network", kept)
        return _core().read_model(kept["xml"], kept["bin"])

    @property
    def widths(self) -> list[int]:
        """Features of each tap."""
        model = next((compiled for compiled, _ in self._compiled.values()), None) or self._model
        return [int(output.get_partial_shape()[1].get_length()) for output in model.outputs]

    def run(self, batches: Iterable[NDArray]) -> Iterator[NDArray[np.float32]]:
        """Yield the rows of each batch, several batches under way at a time."""
        pending: deque[tuple[list[Any], Any, int]] = deque()
        for batch in batches:
            size = 1 if len(batch) == 1 else self.batch_size
            compiled, idle = self._compile(size, batch.dtype)
            while len(pending) >= self._most_pending:
                yield self._collect(pending.popleft())
            request = idle.pop() if idle else compiled.create_infer_request()
            request.start_async({0: _pad(batch, size)}, share_inputs=False)
            pending.append((idle, request, len(batch)))
        while pending:
            yield self._collect(pending.popleft())

    @staticmethod
    def _collect(started: tuple[list[Any], Any, int]) -> NDArray[np.float32]:
        idle, request, n_images = started
        request.wait()
        rows = np.concatenate([output.data[:n_images] for output in request.output_tensors], axis=1)
        idle.append(request)
        return rows

    def _compile(self, size: int, dtype: Any) -> tuple[Any, list[Any]]:
        """Return the network compiled for batches of one size and type, and its idle requests."""
        key = (size, dtype.name)
        with self._lock:
            if key not in self._compiled:
                self._compiled[key] = self._recall_or_compile(size, dtype), []
            return self._compiled[key]

    def _recall_or_compile(self, size: int, dtype: Any) -> Any:
        """Read what was compiled for batches of one size and type before, or compile it.

        OpenVINO's own cache is not used: it serves a file with flipped bytes, and wrong features.
        """
        ov = load_openvino()
        options = {
            "INFERENCE_PRECISION_HINT": "bf16" if self._frozen.precision == "bfloat16" else "f32",
            "PERFORMANCE_HINT": "LATENCY" if size == 1 else "THROUGHPUT",
            "INFERENCE_NUM_THREADS": n_threads(),
        }
        about = repr([ov.get_version(), size, dtype.name, *options.values()])
        name = "compiled-" + hashlib.sha256(about.encode()).hexdigest()[:16]
        network = self._frozen.network_fingerprint
        if (kept := recall(self._cache, network, name, {"blob"})) is not None:
            with contextlib.suppress(RuntimeError):  # from another kind of processor
                return _core().import_model(io.BytesIO(kept["blob"]), "CPU", options)
        model = self._model.clone()
        model.reshape([size, *self._frozen.image_size, 3])
        if dtype == np.uint8:
            steps = ov.preprocess.PrePostProcessor(model)
            steps.input().tensor().set_element_type(ov.Type.u8)
            steps.input().preprocess().convert_element_type(ov.Type.f32)
            model = steps.build()
        compiled = _core().compile_model(model, "CPU", options)
        blob = io.BytesIO()
        compiled.export_model(blob)
        keep(self._cache, network, name, {"blob": blob.getvalue()})
        return compiled


_pool: OrderedDict[Any, Engine] = OrderedDict()
_pool_lock = threading.RLock()
_guard = ForkGuard("a frozen network")


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
def load_openvino() -> Any:
    """Import OpenVINO with its telemetry kept out: it would write to the home and connect."""
    if "openvino" not in sys.modules:
        sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    import openvino

    return openvino


@functools.cache
def _core() -> Any:
    return load_openvino().Core()


def carry_frozen(frozen: FrozenEncoder, *, cache: Path | None = None) -> CarriedNetwork:
    """Export the network of a frozen encoder, or take what is kept on disk of it.

    Float32 pixels (n, H, W, 3) on the 0..255 scale go in, one pooled vector a tap comes out.
    """
    return CarriedNetwork.of(exported(frozen, cache or cache_folder()))


def exported(frozen: FrozenEncoder, cache: Path) -> Contents:
    """Return the exported network that is kept on disk; where there is none, make and keep it.

    Of processes that want it at the same time one makes it, and the others wait for it.
    """
    network, parts = frozen.network_fingerprint, {"xml", "bin"}
    kept = recall(cache, network, "network", parts) or _handed.get(network)
    if kept is not None:
        return kept
    with one_at_a_time(cache, network):
        kept = recall(cache, network, "network", parts)
        if kept is None:
            kept = _export(frozen)
            keep(cache, network, "network", kept)
        return kept


def hand_over(frozen: FrozenEncoder, network: CarriedNetwork, *, cache: Path | None = None) -> None:
    """Let this process use a network that another process exported, where it finds none itself."""
    cache, name = cache or cache_folder(), frozen.network_fingerprint
    if is_kept(cache, name, "network") or name in _handed:
        return
    keep(cache, name, "network", network.contents)
    if not is_kept(cache, name, "network"):  # nothing can be written there
        _handed[name] = network.contents
        while len(_handed) > _MOST_ENGINES:
            _handed.pop(next(iter(_handed)))


_handed: dict[str, Contents] = {}


def carry_network(network: Any, shape: tuple[int, ...], *, n_outputs: int = 1) -> CarriedNetwork:
    """Convert a Keras network by Keras's own export, in float32.

    Parameters
    ----------
    network : keras.Model
    shape : tuple of int
        Of one sample that goes in.
    n_outputs : int, default=1
        Outputs of the network.
    """
    return CarriedNetwork.of(_converted(network, shape, n_outputs))


def read_network(carried: CarriedNetwork) -> Any:
    """Read a carried network as an OpenVINO model of the caller's own.

    Raises
    ------
    ValueError
        Where it is none.
    """
    contents = carried.contents
    try:
        return _core().read_model(contents["xml"], contents["bin"])
    except RuntimeError as error:
        raise ValueError(
            f"the network that travels with this model cannot be read "
            f"({str(error).splitlines()[0]})"
        ) from error


def run_carried(
    carried: CarriedNetwork, batches: Iterable[NDArray]
) -> Iterator[NDArray[np.float32]]:
    """Yield what a carried network of one output says of each batch, computed in float32."""
    _guard.check()
    request = _compiled_carried(carried).create_infer_request()
    for batch in batches:
        request.infer([np.ascontiguousarray(batch)])
        yield np.array(request.get_output_tensor().data)


@functools.lru_cache(4)
def _compiled_carried(carried: CarriedNetwork) -> Any:
    return compile_model(read_network(carried))


def compile_model(model: Any) -> Any:
    """Compile an OpenVINO model for the processor, in float32."""
    _guard.check()
    options = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": n_threads()}
    return _core().compile_model(model, "CPU", options)


def _export(frozen: FrozenEncoder) -> Contents:
    """Build the network with Keras and convert it."""
    from hybridus.encoders.assembly import build_network

    return _converted(build_network(frozen), (*frozen.image_size, 3), len(frozen.taps))


def _converted(network: Any, shape: tuple[int, ...], n_outputs: int) -> Contents:
    ov = load_openvino()
    from hybridus._keras import inference_of, keras

    with tempfile.TemporaryDirectory() as folder:
        exported, file = os.path.join(folder, "exported.xml"), os.path.join(folder, "network.xml")
        if (function := inference_of(network, shape)) is not None:
            model = ov.convert_model(function)
        else:
            signature = keras.InputSpec(shape=(None, *shape), dtype="float32")
            network.export(exported, format="openvino", verbose=False, input_signature=[signature])
            model = _core().read_model(exported)
        model = _with_outputs(model, n_outputs)
        ov.save_model(model, file, compress_to_fp16=False)
        return {
            "xml": Path(file).read_bytes(),
            "bin": Path(file).with_suffix(".bin").read_bytes(),
        }


def _with_outputs(model: Any, count: int) -> Any:
    """Keep the outputs that were asked for, in their order.

    TensorFlow calls the outputs of a function Identity, Identity_1 and so on. With activations that
    bring their own gradient (SiLU), each of these comes out of the export as an output too.
    """
    names = ["Identity:0", *(f"Identity_{k}:0" for k in range(1, count))]
    found = {name: output for output in model.outputs for name in output.get_names()}
    if not found.keys() >= set(names):
        if len(model.outputs) == count:  # exported by another backend, in order
            return model
        raise RuntimeError(f"Keras exported {len(model.outputs)} outputs for {count} layers")
    sources = [found[name].node.input_value(0) for name in names]
    results = [load_openvino().opset13.result(source) for source in sources]
    return load_openvino().Model(results, model.get_parameters())
