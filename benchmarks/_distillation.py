"""What the bundled encoder learns from: images without patients' labels, and teachers' features.

Knows how training images are drawn and what the teachers say about each place in them. No image
of an evaluation set (BUSI, BreastMNIST) is among them.
"""

import functools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import skimage
from numpy.typing import NDArray
from scipy import ndimage

from hybridus.datasets import make_breast_phantoms
from hybridus.encoders.engine import open_engine
from hybridus.encoders.frozen import freeze
from hybridus.inputs.files import replacing
from hybridus.inputs.images import read_image
from hybridus.inputs.resizing import resize_image, widen

SIZE = 128  # pixels of a training image
GRID = 8  # places along a side for which the teachers speak: stride 16
PHANTOM_SIZE = 256
# Public domain or CC0 by scikit-image's documentation; `coffee` is held out.
PHOTOGRAPHS = (
    *("astronaut.png", "brick.png", "camera.png", "cell.png", "chelsea.png", "clock_motion.png"),
    *("coins.png", "grass.png", "gravel.png", "hubble_deep_field.jpg", "ihc.png", "retina.jpg"),
    "rocket.jpg",
)
HELD_OUT_PHOTOGRAPHS = ("coffee.png",)
SHARES = {"fetal": 0.3, "phantom": 0.35, "photograph": 0.2, "texture": 0.15}
UNKNOWN = 255  # no mask: the place may or may not be a lesion


@dataclass(frozen=True)
class Target:
    """One tapped layer of a teacher and how many of its principal directions are kept."""

    teacher: str
    layer: str
    n_directions: int
    grid: int = GRID


TARGETS = (
    Target("resnet50", "conv2_block3_out", 64),
    Target("resnet50", "conv3_block4_out", 128),
    Target("resnet50", "conv4_block6_out", 192),
    Target("mobilenet_v2", "block_6_project_BN", 32),
    Target("mobilenet_v2", "block_13_expand_relu", 96),
    Target("mobilenet_v2", "out_relu", 192, grid=GRID // 2),
)


# Images


def draw_images(
    n_images: int, seed: int, fetal: list[Path], *, held_out: bool = False
) -> tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.str_]]:
    """Draw training images of all sources, in random order.

    Returns
    -------
    images : array of shape (n, SIZE, SIZE, 3)
    lesions : array of shape (n, GRID, GRID, 2)
        Share of each place that is malignant and benign lesion in 0..254; UNKNOWN off phantoms.
    sources : array of shape (n,)
        Keys of SHARES.
    """
    rng = np.random.default_rng([seed, int(held_out)])
    sources = rng.choice(list(SHARES), n_images, p=list(SHARES.values()))
    photographs = HELD_OUT_PHOTOGRAPHS if held_out else PHOTOGRAPHS
    phantoms = _draw_phantoms(int((sources == "phantom").sum()), rng)
    makers: dict[str, Callable[[], NDArray]] = {
        "fetal": lambda: _scan_crop(rng, _read(fetal[rng.integers(len(fetal))])),
        "photograph": lambda: _photograph_crop(rng, _read(_in_skimage(rng.choice(photographs)))),
        "texture": lambda: _texture(rng),
    }
    images, lesions = [], np.full((n_images, GRID, GRID, 2), UNKNOWN, dtype=np.uint8)
    for k, source in enumerate(sources):
        if source == "phantom":
            image, lesions[k] = next(phantoms)
        else:
            image = makers[source]()
        images.append(image)
    return widen(images), lesions, sources


def _draw_phantoms(n_images: int, rng: np.random.Generator) -> Iterator[tuple[NDArray, NDArray]]:
    """Two crops of each phantom, with the lesions in them."""
    made = make_breast_phantoms(
        max(1, -(-n_images // 2)),
        image_size=PHANTOM_SIZE,
        random_state=int(rng.integers(2**31)),
    )
    for image, mask, label in zip(made.images, made.masks, made.target, strict=True):
        planes = [image, *(np.uint8(254) * (mask & (label == lesion)) for lesion in (1, 2))]
        for _ in range(2):
            window, *lesions = _crop(rng, planes, int(rng.integers(SIZE, PHANTOM_SIZE + 33)))
            places = np.stack([_pooled(plane, GRID) for plane in lesions], axis=-1)
            yield _expose(rng, window), places.astype(np.uint8)


def _scan_crop(rng: np.random.Generator, image: NDArray) -> NDArray:
    """Part of a scan, drawn larger or smaller about the size at which scans are encoded."""
    grey = image if image.ndim == 2 else np.asarray(image.mean(axis=2), dtype=np.uint8)
    side = round(SIZE * 2 ** rng.uniform(0, 1.3))
    return _expose(rng, _crop(rng, [grey], side)[0])


def _crop(rng: np.random.Generator, planes: list[NDArray], side: int) -> list[NDArray]:
    """Stretch planes to a square of `side` pixels and cut the same window out of each."""
    top, left = rng.integers(0, side - SIZE + 1, size=2)
    mirrored = rng.random() < 0.5
    windows = []
    for plane in planes:
        window = resize_image(plane, (side, side))[top : top + SIZE, left : left + SIZE]
        windows.append(window[:, ::-1] if mirrored else window)
    return windows


def _photograph_crop(rng: np.random.Generator, image: NDArray) -> NDArray:
    image = image[..., :3] if image.ndim == 3 else image
    height, width = image.shape[:2]
    side = round(math.exp(rng.uniform(math.log(72), math.log(min(height, width)))))
    top, left = rng.integers(0, height - side + 1), rng.integers(0, width - side + 1)
    crop = np.rot90(image[top : top + side, left : left + side], int(rng.integers(4)))
    crop = resize_image(np.ascontiguousarray(crop), (SIZE, SIZE))
    if crop.ndim == 3 and rng.random() < 0.5:
        crop = np.asarray(crop @ rng.dirichlet([4, 4, 4]), dtype=np.uint8)
    return _expose(rng, crop[:, ::-1] if rng.random() < 0.5 else crop)


def _texture(rng: np.random.Generator) -> NDArray:
    """Dead leaves: shapes of all sizes over one another, each with noise of its own colour."""
    picture = _noise(rng)
    if rng.random() < 0.2:
        return _to_uint8(picture * 60 + 120)
    rows, columns = np.mgrid[:SIZE, :SIZE].astype(np.float32)
    for _ in range(rng.integers(3, 40)):
        radius = 4 / rng.uniform(0.05, 1) ** 1.2
        y, x, angle = rng.uniform(0, SIZE), rng.uniform(0, SIZE), rng.uniform(0, np.pi)
        u = (columns - x) * np.cos(angle) + (rows - y) * np.sin(angle)
        v = ((rows - y) * np.cos(angle) - (columns - x) * np.sin(angle)) * rng.uniform(1, 4)
        power = rng.choice([1.0, 2.0, 2.0, 8.0])
        inside = np.clip(
            (1 - (np.abs(u / radius) ** power + np.abs(v / radius) ** power)) * radius / 2, 0, 1
        )
        leaf = rng.normal() + rng.exponential(0.4) * _noise(rng)
        picture = picture * (1 - inside) + leaf * inside
    if rng.random() < 0.3:  # speckle
        picture += 0.4 * np.log(ndimage.gaussian_filter(rng.exponential(1, picture.shape), 0.8))
    return _expose(rng, _to_uint8(picture * rng.uniform(25, 60) + rng.uniform(60, 190)))


def _noise(rng: np.random.Generator) -> NDArray:
    """Gaussian noise with a random power law and orientation, mean 0 and deviation 1."""
    fy, fx = np.fft.fftfreq(SIZE)[:, None], np.fft.rfftfreq(SIZE)[None]
    angle, stretch = rng.uniform(0, np.pi), rng.uniform(1, 4)
    u = fx * np.cos(angle) + fy * np.sin(angle)
    v = (fy * np.cos(angle) - fx * np.sin(angle)) * stretch
    frequency = np.sqrt(u**2 + v**2 + (1 / SIZE) ** 2)
    spectrum = np.fft.rfft2(rng.normal(size=(SIZE, SIZE))) * frequency ** -rng.uniform(0, 2)
    spectrum[0, 0] = 0
    noise = np.fft.irfft2(spectrum, s=(SIZE, SIZE))
    return (noise / noise.std()).astype(np.float32)


def _expose(rng: np.random.Generator, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Vary gain, contrast and gamma, and now and then noise and sharpness."""
    values = (image.astype(np.float32) / 255) ** np.float32(2 ** rng.normal(0, 0.35))
    values = values * np.float32(2 ** rng.normal(0, 0.2)) + np.float32(rng.normal(0, 0.03))
    if rng.random() < 0.2:
        sigma = rng.uniform(0.4, 1.2)
        values = ndimage.gaussian_filter(values, (sigma, sigma, 0)[: values.ndim])
    if rng.random() < 0.2:
        values = values + rng.normal(0, rng.uniform(0, 0.06), values.shape).astype(np.float32)
    return _to_uint8(values * 255)


def _to_uint8(values: NDArray) -> NDArray[np.uint8]:
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


@functools.lru_cache(maxsize=2048)
def _read(path: Path) -> NDArray:
    return read_image(path)


def _in_skimage(name: str) -> Path:
    return Path(skimage.__file__).parent / "data" / name


def _pooled(values: NDArray, grid: int) -> NDArray[np.float32]:
    """Means over the cells of a grid; `values` of shape (..., H, W) or (n, H, W, channels)."""
    values = values[None, ..., None] if values.ndim == 2 else values
    n, height, width, channels = values.shape
    cells = values.reshape(n, grid, height // grid, grid, width // grid, channels)
    pooled = cells.mean(axis=(2, 4), dtype=np.float32)
    return pooled[0, ..., 0] if n == channels == 1 else pooled


# Teachers


def run_teacher(
    teacher: str, targets: list[Target], images: NDArray[np.uint8], *, batch_size: int = 8
) -> Iterator[list[NDArray[np.float32]]]:
    """Yield, for each batch of images, the maps of a teacher's layers pooled to their grids."""
    frozen = freeze(
        teacher,
        weights="imagenet",
        layers=[target.layer for target in targets],
        pooling="flatten",
        image_size=SIZE,
        resize="stretch",
        engine="openvino",
        precision="bfloat16",
    )
    engine = open_engine(frozen, batch_size=batch_size)
    ends = np.cumsum(engine.widths)[:-1]
    batches = (images[k : k + batch_size] for k in range(0, len(images), batch_size))
    for rows in engine.run(batches):
        maps = []
        for target, flat in zip(targets, np.split(rows, ends, axis=1), strict=True):
            side = _STRIDES[target.layer]
            values = flat.reshape(len(flat), SIZE // side, SIZE // side, -1)
            maps.append(_pooled(values, target.grid))
        yield maps


_STRIDES = {
    "conv2_block3_out": 4,
    "conv3_block4_out": 8,
    "conv4_block6_out": 16,
    "block_6_project_BN": 16,
    "block_13_expand_relu": 16,
    "out_relu": 32,
}


@dataclass(frozen=True)
class Directions:
    """Principal directions of one layer's channels, over places of many images.

    Channels are standardised before; the projections are scaled half-way to equal variances
    (each by the fourth root of its variance), so that rare directions count without their noise
    counting as much as what is common, and to a mean variance of 1.
    """

    mean: NDArray
    projection: NDArray

    @classmethod
    def fit(cls, maps: NDArray, n_directions: int) -> "Directions":
        """Learn from maps of shape (n, grid, grid, channels)."""
        flat = maps.reshape(-1, maps.shape[-1]).astype(np.float64)
        mean, deviation = flat.mean(axis=0), flat.std(axis=0) + 1e-3 * flat.std()
        values, vectors = np.linalg.eigh(np.cov(((flat - mean) / deviation).T))
        values, vectors = values[::-1][:n_directions], vectors[:, ::-1][:, :n_directions]
        scale = values**-0.25 / np.sqrt(np.mean(np.sqrt(values)))
        return cls(
            mean.astype(np.float32), (vectors * scale / deviation[:, None]).astype(np.float32)
        )

    def __call__(self, maps: NDArray) -> NDArray[np.float16]:
        """Project maps of shape (n, grid, grid, channels)."""
        flat = maps.reshape(-1, maps.shape[-1]) - self.mean
        return (flat @ self.projection).reshape(*maps.shape[:-1], -1).astype(np.float16)


def learn_directions(images: NDArray[np.uint8], file: Path) -> list[Directions]:
    """Principal directions of all targets; kept in a file, so that a resumed run has the same."""
    if not file.exists():
        content: dict[str, Any] = {}
        for teacher, chosen in _by_teacher():
            maps = [list(part) for part in zip(*run_teacher(teacher, chosen, images), strict=True)]
            for target, parts in zip(chosen, maps, strict=True):
                learned = Directions.fit(np.concatenate(parts), target.n_directions)
                content[f"{target.layer}/mean"] = learned.mean
                content[f"{target.layer}/projection"] = learned.projection
        with replacing(file) as temporary:
            np.savez(temporary, **content)
    with np.load(file) as kept:
        return [
            Directions(kept[f"{target.layer}/mean"], kept[f"{target.layer}/projection"])
            for target in TARGETS
        ]


def teach(images: NDArray[np.uint8], directions: list[Directions]) -> dict[int, NDArray]:
    """Ask all teachers about images; give for each grid its targets, side by side, float16."""
    said: dict[Target, list[NDArray]] = {target: [] for target in TARGETS}
    by_target = dict(zip(TARGETS, directions, strict=True))
    for teacher, chosen in _by_teacher():
        for maps in run_teacher(teacher, chosen, images):
            for target, values in zip(chosen, maps, strict=True):
                said[target].append(by_target[target](values))
    grids: dict[int, list[NDArray]] = {}
    for target, parts in said.items():
        grids.setdefault(target.grid, []).append(np.concatenate(parts))
    return {grid: np.concatenate(parts, axis=-1) for grid, parts in grids.items()}


def _by_teacher() -> list[tuple[str, list[Target]]]:
    teachers = dict.fromkeys(target.teacher for target in TARGETS)
    return [(name, [t for t in TARGETS if t.teacher == name]) for name in teachers]
