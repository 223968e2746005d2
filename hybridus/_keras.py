"""The one door to Keras and its backend: importing this module starts them, quietly.

Threads are limited before TensorFlow starts, since it reads its limits only then; GPU memory grows
on demand.
"""

import contextlib
import os
import random
import sys
import tempfile
from collections.abc import Iterator

from hybridus._environment import keras_home, n_threads

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
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


_random_state = random.getstate()  # importing Keras draws from it
with contextlib.ExitStack() as _stack:
    _stack.enter_context(_quiet())
    if "KERAS_HOME" not in os.environ:
        os.environ["KERAS_HOME"] = str(keras_home())
        _stack.callback(os.environ.pop, "KERAS_HOME")
    if "matplotlib" not in sys.modules:
        # Keras imports it for two gallery functions; it takes long and writes into the home.
        sys.modules["matplotlib"] = None  # type: ignore[assignment]
        _stack.callback(sys.modules.pop, "matplotlib")
    import keras

    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        for _gpu in tf.config.list_physical_devices("GPU"):
            with contextlib.suppress(RuntimeError):  # TensorFlow is running already
                tf.config.experimental.set_memory_growth(_gpu, True)
random.setstate(_random_state)

__all__ = ["accelerated", "as_float32", "keras"]


def accelerated() -> bool:
    """Whether Keras sees a GPU."""
    backend = keras.backend.backend()
    if backend == "tensorflow":
        return bool(tf.config.list_physical_devices("GPU"))
    return any("gpu" in device or "cuda" in device for device in keras.distribution.list_devices())


@contextlib.contextmanager
def as_float32() -> Iterator[None]:
    """Build networks in float32 and channels last, whatever the user's global Keras settings say.

    The process's random state is left as it was: Keras draws seeds for initialisers from it.
    """
    policy, layout = keras.config.dtype_policy(), keras.config.image_data_format()
    state = random.getstate()
    keras.config.set_dtype_policy("float32")
    keras.config.set_image_data_format("channels_last")
    try:
        yield
    finally:
        keras.config.set_dtype_policy(policy)
        keras.config.set_image_data_format(layout)
        random.setstate(state)
