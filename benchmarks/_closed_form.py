"""First weights of the student in closed form, block by block, from the teachers' features.

Knows how to give an inverted residual network useful weights without a gradient. Each block's
expansion and depthwise filters are random; its projection is the reduced-rank regression of the
teachers' features at that stride on what the filters give. Every batch normalisation gets the
moments of the data. Gradient descent then begins at a network that sees, not at noise.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

_RIDGE = 1e-2
_PLACES = 24_000  # rows of a regression


def initialise(encoder: Any, images: NDArray[np.uint8], targets: dict[int, NDArray]) -> None:
    """Set the weights of a MobileNetV2 in place.

    Parameters
    ----------
    encoder : keras.Model
        MobileNetV2 of keras.applications without its top.
    images : array of shape (n, size, size, 3)
    targets : dict
        What the teachers say, by grid: arrays of shape (n, grid, grid, channels). Each block is
        fitted to the finest grid that is no finer than its own output.
    """
    rng = np.random.default_rng(0)
    pixels = images.astype(np.float32) / 127.5 - 1
    get = encoder.get_layer
    get("Conv1").set_weights([_edges(rng)])
    x = _normalised(get("bn_Conv1"), _run(get("Conv1"), pixels), rng)
    block = 0
    while True:
        prefix = "expanded_conv" if block == 0 else f"block_{block}"
        names = {layer.name for layer in encoder.layers}
        if f"{prefix}_project" not in names:
            break
        h = x
        if block:
            expand = get(f"{prefix}_expand")
            shape = expand.kernel.shape
            expand.set_weights([rng.normal(size=shape).astype(np.float32) / shape[2] ** 0.5])
            h = _normalised(get(f"{prefix}_expand_BN"), _run(expand, h), rng)
        if f"{prefix}_pad" in names:
            h = np.pad(h, ((0, 0), (0, 1), (0, 1), (0, 0)))
        depthwise = get(f"{prefix}_depthwise")
        depthwise.set_weights([_local(rng, depthwise.kernel.shape)])
        h = _normalised(get(f"{prefix}_depthwise_BN"), _run(depthwise, h), rng)
        grid = max(g for g in targets if g <= h.shape[1])
        residual = f"{prefix}_add" in names
        projected = _project(h, x if residual else None, targets[grid], encoder, prefix, rng)
        x = x + projected if residual else projected
        block += 1
    shape = get("Conv_1").kernel.shape
    get("Conv_1").set_weights([rng.normal(size=shape).astype(np.float32) / shape[2] ** 0.5])
    _normalised(get("Conv_1_bn"), _run(get("Conv_1"), x), rng)


def _project(
    h: NDArray, x: NDArray | None, target: NDArray, encoder: Any, prefix: str, rng: Any
) -> NDArray:
    """Fit the projection of one block and return its output; `x` is what it will be added to."""
    grid = target.shape[1]
    rows = rng.permutation(len(h) * grid * grid)[:_PLACES]
    inputs, said = _flat(h, grid)[rows], _flat(target, grid)[rows]
    said = said - said.mean(axis=0)
    layer, norm = encoder.get_layer(f"{prefix}_project"), encoder.get_layer(f"{prefix}_project_BN")
    if x is None:
        coefficients = _ridge(inputs, said)
        fitted = (inputs - inputs.mean(axis=0)) @ coefficients
        _, vectors = np.linalg.eigh(fitted.T @ fitted)
        kernel = coefficients @ vectors[:, ::-1][:, : layer.kernel.shape[-1]]
    else:
        base = _flat(x, grid)[rows]
        base = base - base.mean(axis=0)
        readout = _ridge(base, said)
        coefficients = _ridge(inputs, said - base @ readout)
        gram = readout @ readout.T
        gram += 0.1 * np.trace(gram) / len(gram) * np.eye(len(gram))
        kernel = coefficients @ readout.T @ np.linalg.inv(gram)
    layer.set_weights([kernel.astype(np.float32)[None, None]])
    projected = _run(layer, h)
    mean, variance = projected.mean(axis=(0, 1, 2)), projected.var(axis=(0, 1, 2))
    gamma = np.ones_like(mean) if x is None else np.sqrt(variance + norm.epsilon)
    norm.set_weights([gamma, np.zeros_like(mean), mean, variance])
    return _run(norm, projected)


def _ridge(inputs: NDArray, said: NDArray) -> NDArray:
    centred = (inputs - inputs.mean(axis=0)).astype(np.float64)
    gram = centred.T @ centred
    gram += _RIDGE * np.trace(gram) / len(gram) * np.eye(len(gram))
    return np.linalg.solve(gram, centred.T @ said)


def _flat(maps: NDArray, grid: int) -> NDArray:
    """Rows of a map whose places are averaged to a grid."""
    n, side, channels = len(maps), maps.shape[1] // grid, maps.shape[-1]
    cells = maps.reshape(n, grid, side, grid, side, channels).mean(axis=(2, 4), dtype=np.float32)
    return cells.reshape(-1, channels)


def _normalised(norm: Any, values: NDArray, rng: Any) -> NDArray:
    """Give a batch normalisation the moments of its inputs and random offsets; then ReLU6."""
    mean, variance = values.mean(axis=(0, 1, 2)), values.var(axis=(0, 1, 2))
    beta = rng.normal(0.3, 0.5, mean.shape).astype(np.float32)
    norm.set_weights([np.ones_like(mean), beta, mean, variance])
    return np.clip(_run(norm, values), 0, 6)


def _run(layer: Any, values: NDArray, batch_size: int = 50) -> NDArray:
    return np.concatenate(
        [np.asarray(layer(values[k : k + batch_size])) for k in range(0, len(values), batch_size)]
    )


def _edges(rng: Any) -> NDArray:
    """Blurs, edges of eight directions, spots, and a few of colour."""
    blur = np.outer([1, 2, 1], [1, 2, 1]) / 16
    dx = np.outer([1, 2, 1], [-1, 0, 1]) / 8
    diagonal = np.array([[0, 1, 2], [-1, 0, 1], [-2, -1, 0]]) / 8
    spot = np.eye(3)[1][:, None] * np.eye(3)[1] - blur
    grey = [blur, -blur, dx, -dx, dx.T, -dx.T, diagonal, -diagonal]
    grey += [np.fliplr(diagonal), -np.fliplr(diagonal), spot, -spot]
    filters = [np.repeat(f[..., None] / 3, 3, axis=-1) for f in grey]
    for colour in ([1, -1, 0], [-1, 1, 0], [0.5, 0.5, -1], [-0.5, -0.5, 1]):
        filters.append(blur[..., None] * np.array(colour))
    kernel = np.stack(filters, axis=-1)
    return (kernel + rng.normal(0, 0.01, kernel.shape)).astype(np.float32)


def _local(rng: Any, shape: tuple[int, ...]) -> NDArray:
    """Depthwise filters: a third look at the centre, the others are random."""
    kernel = rng.normal(0, 1 / 3, shape)
    centred = rng.random(shape[2]) < 1 / 3
    kernel[:, :, centred] *= 0.2
    kernel[1, 1, centred] += 1
    return kernel.astype(np.float32)
