"""The one door to Keras and its backend: importing this module starts them, quietly.

Threads are limited before TensorFlow starts, since it reads its limits only then; GPU memory grows
on demand.
"""

import collections
import contextlib
import gc
import importlib.metadata
import json
import logging
import os
import random
import sys
import tempfile
from collections.abc import Iterator
from types import FunctionType
from typing import Any

from hybridus._environment import keras_home, n_threads

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # what matters is raised as well
for _limit in ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"):
    os.environ.setdefault(_limit, str(n_threads()))


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep TensorFlow's greetings, written from C++ before its log level counts, off stderr.

    What was written is shown after all when the start fails.
    """
    with contextlib.ExitStack() as stack:
        try:
            stderr = os.dup(2)
        except OSError:  # no standard error to keep clean
            yield
            return
        stack.callback(os.close, stderr)
        greetings = stack.enter_context(tempfile.TemporaryFile())
        os.dup2(greetings.fileno(), 2)
        try:
            yield
        except BaseException:
            greetings.seek(0)
            os.write(stderr, greetings.read())
            raise
        finally:
            os.dup2(stderr, 2)


@contextlib.contextmanager
def _uncollected() -> Iterator[None]:
    """Put off garbage collection: what an import makes stays, and looking it through takes time."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


_random_state = random.getstate()  # importing Keras draws from it
with contextlib.ExitStack() as _stack:
    _stack.enter_context(_uncollected())
    _stack.enter_context(_quiet())
    if "KERAS_HOME" not in os.environ:
        os.environ["KERAS_HOME"] = str(keras_home())
        _stack.callback(os.environ.pop, "KERAS_HOME")
    if "matplotlib" not in sys.modules:
        # Keras imports it for two gallery functions; it takes long and writes into the home.
        sys.modules["matplotlib"] = None  # type: ignore[assignment]
        _stack.callback(sys.modules.pop, "matplotlib")
    import keras
    from keras.src.backend.common import global_state  # where Keras counts names; it has no other
    from keras.src.utils.naming import to_snake_case  # how it makes them

    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        # A process that runs several networks traces each of them, as it must.
        logging.getLogger("tensorflow").addFilter(
            lambda record: "triggered tf.function retracing" not in record.getMessage()
        )
        for _gpu in tf.config.list_physical_devices("GPU"):
            with contextlib.suppress(RuntimeError):  # TensorFlow is running already
                tf.config.experimental.set_memory_growth(_gpu, True)
random.setstate(_random_state)

__all__ = [
    "accelerated",
    "building",
    "default_name",
    "describe_operations",
    "jit_compile",
    "keras",
    "leaves",
    "versions",
]


def accelerated() -> bool:
    """Whether Keras sees a GPU."""
    backend = keras.backend.backend()
    if backend == "tensorflow":
        return bool(tf.config.list_physical_devices("GPU"))
    return any("gpu" in device or "cuda" in device for device in keras.distribution.list_devices())


def jit_compile() -> bool:
    """Whether training is compiled by XLA: on JAX and on a GPU; it slows TensorFlow on a CPU."""
    backend = keras.backend.backend()
    return backend == "jax" or (backend == "tensorflow" and accelerated())


def leaves(model: Any) -> Iterator[Any]:
    """Layers of a model and of the models in it."""
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            yield from leaves(layer)
        else:
            yield layer


def default_name(layer: Any) -> str:
    """Name that Keras gives to the first layer of a class, and to its variables in a file."""
    return to_snake_case(type(layer).__name__)


@contextlib.contextmanager
def building(policy: str = "float32") -> Iterator[None]:
    """Build networks under a dtype policy and channels last, whatever the user's settings say.

    Layers without a name of their own are numbered anew, so that they have the same names in every
    build. The process's random state is left as it was: Keras draws seeds for initialisers from it.
    """
    numbers = global_state.get_global_attribute("object_name_uids")
    global_state.set_global_attribute("object_name_uids", collections.defaultdict(int))
    before, layout = keras.config.dtype_policy(), keras.config.image_data_format()
    floats = keras.config.floatx()
    state = random.getstate()
    keras.config.set_dtype_policy(policy)
    keras.config.set_floatx("float32")
    keras.config.set_image_data_format("channels_last")
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)
        keras.config.set_image_data_format(layout)
        keras.config.set_floatx(floats)
        global_state.set_global_attribute("object_name_uids", numbers)
        random.setstate(state)


def versions() -> str:
    """Versions of Keras and of its backend."""
    backend = keras.backend.backend()
    return f"keras {keras.__version__}, {backend} {importlib.metadata.version(backend)}"


def describe_operations(model: Any, shape: tuple[int, ...]) -> bytes:
    """All that decides what a model of one input computes, but for the values of its weights.

    Under TensorFlow it is traced, so that layers, functions and constants of any origin show what
    they do; under other backends the configuration tells, which it can for Keras's own layers only.

    Parameters
    ----------
    model : keras.Model
    shape : tuple of int
        Of one image.

    Raises
    ------
    ValueError
        Where a layer or function is not Keras's own, under other backends than TensorFlow.
    """
    weights = [
        (layer.name, [(v.name, tuple(v.shape), str(v.dtype)) for v in layer.weights])
        for layer in leaves(model)
    ]
    if keras.backend.backend() == "tensorflow":
        operations = _traced(model, shape)
    else:
        operations = _configured(model)
    return repr(weights).encode() + operations


def inference_of(model: Any, shape: tuple[int, ...]) -> Any:
    """Trace what a network says in inference, float32 of shape (n, *shape), for converters.

    Keras's own export makes an archive of all variables first, which takes longer than tracing.
    None on other backends than TensorFlow's.
    """
    if keras.backend.backend() != "tensorflow":
        return None
    spec = tf.TensorSpec((None, *shape), "float32")
    return tf.function(lambda x: model(x, training=False)).get_concrete_function(spec)


def _traced(model: Any, shape: tuple[int, ...]) -> bytes:
    traced = inference_of(model, shape)
    graph = traced.graph.as_graph_def()
    functions = {function.signature.name: function for function in graph.library.function}
    variables = {id(variable.value.handle): variable.path for variable in model.variables}
    captured = [variables.get(id(outer), "") for outer, _ in traced.graph.captures]
    outputs = [tensor.name for tensor in tf.nest.flatten(traced.structured_outputs)]
    return repr([captured, outputs, _listed(graph.node, functions)]).encode()


def _listed(nodes: Any, functions: dict[str, Any]) -> list[Any]:
    """Operations of a TensorFlow graph; functions are numbered by process, and so are unfolded."""

    def unfolded(name: str) -> Any:
        function = functions.get(name)
        if function is None:
            return name
        returned = sorted(function.ret.items())
        return [_listed(function.node_def, functions), returned]

    listed = []
    for node in nodes:
        attributes = []
        for name in sorted(node.attr):
            value = node.attr[name]
            called = [f.name for f in (value.func, *value.list.func) if f.name]
            if name.startswith("_"):  # notes that decide nothing, numbered by process as well
                continue
            told = [unfolded(f) for f in called] or value.SerializeToString(deterministic=True)
            attributes.append((name, told))
        listed.append((node.name, unfolded(node.op), list(node.input), attributes))
    return listed


def _configured(model: Any) -> bytes:
    for layer in leaves(model):
        functions: list[Any] = [
            part for part in vars(layer).values() if isinstance(part, FunctionType)
        ]
        for part in [type(layer), *functions]:
            if part.__module__.partition(".")[0] != "keras":
                raise ValueError(
                    f"layer {layer.name!r} uses {part.__qualname__!r}, which is not Keras's own: "
                    "what it does can be told under the TensorFlow backend only"
                )
    return json.dumps(json.loads(model.to_json()), sort_keys=True).encode()
