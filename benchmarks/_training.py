"""What benchmarks of training measure alike: epochs of two peers in turn, many fits in a row."""

import gc
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

ROUNDS = 3
_STARTING = 3  # fits that start a backend, which takes memory of its own


def images_a_second(
    peers: Mapping[str, Callable[[], list[float]]], n_images: int
) -> dict[str, float]:
    """Let peers train in turn, each giving the seconds of its epochs; medians over all rounds."""
    seconds: dict[str, list[float]] = {name: [] for name in peers}
    for _ in range(ROUNDS):
        for name, epochs in peers.items():
            seconds[name] += epochs()
    return {name: n_images / statistics.median(times) for name, times in seconds.items()}


def seconds_of_keras(model: Any, pixels: Any, targets: Any, *, batch_size: int) -> float:
    """Train a compiled Keras model for an epoch."""
    started = time.perf_counter()
    model.fit(pixels, targets, batch_size=batch_size, epochs=1, verbose=0)
    return time.perf_counter() - started


def fits_in_a_row(fit: Callable[[], Any], n_fits: int) -> dict[str, float]:
    """Fit several times in this process: seconds and memory of those after the first three."""
    import psutil

    process, seconds, resident = psutil.Process(), [], []
    for _ in range(n_fits + _STARTING):
        started = time.perf_counter()
        fit()
        seconds.append(time.perf_counter() - started)
        gc.collect()
        resident.append(process.memory_info().rss / 2**20)
    slope = np.polyfit(np.arange(n_fits), resident[_STARTING:], 1)[0]
    return {
        "seconds a fit": statistics.median(seconds[_STARTING:]),
        "MiB a fit": float(slope),
        "largest step, MiB": float(np.diff(resident[_STARTING - 1 :]).max()),
    }
