"""Train the encoder that ships with hybridus: MobileNetV2 0.35, from scratch, by distillation.

``python -m benchmarks.train_bundled_weights --out FOLDER [--hours 1.5]``: draws a pool of images
(fetal scans, phantoms, photographs, synthetic textures), asks ImageNet teachers for features of
several layers at every place, and trains the student to predict them. The student starts from
random numbers. Everything is kept in FOLDER: a run that was stopped goes on where it was, and a
run that is done writes ``mobilenet_v2_0.35.safetensors`` there. What it did is in ``train.log``.

Time is counted as processor time, so that pauses cost nothing: about 30 ms an image of the pool,
and 0.14 s a step at first to 0.25 s in the end. BUSI is never read.
"""

import argparse
import json
import logging
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks._distillation import GRID, SHARES, SIZE, draw_images, learn_directions, teach
from benchmarks._report import SHARED, use_real_weights
from hybridus.inputs.files import replacing

LOG = logging.getLogger("train_bundled_weights")
ENCODER = "mobilenet_v2_0.35"
SHARD = 1000
HELD_OUT = 800
SETTINGS: dict[str, Any] = {
    "seed": 0,
    "n_images": 8_000,
    # From which share of the run on: pixels of a window, windows in a batch. Small windows first,
    # since many cheap steps teach more than few dear ones; large ones last, as scans are large.
    "windows": [[0.0, 64, 32], [0.5, 96, 24], [0.8, 128, 16]],
    "learning_rate": 3e-3,
    "weight_decay": 1e-2,
    "warm_up": 0.03,  # share of the run
    "momentum": 0.99,  # of batch normalisation
    # Of places at stride 16 and 32, of the means over places, and of the lesions of phantoms.
    "loss_weights": {"early": 0.25, "middle": 0.5, "last": 1.0, "mean": 1.0, "lesion": 0.5},
}


# The pool


def make_pool(folder: Path, settings: dict[str, Any]) -> tuple[list[Path], Path]:
    """Draw and teach what is missing of the pool; returns the shards and the held-out shard.

    One scan in ten of the fetal scans is held out, with phantoms and textures of other seeds and a
    photograph of its own.
    """
    scans = sorted((SHARED / "data" / "fetal_head_ultrasound").glob("*.jpg"))
    if not scans:
        raise FileNotFoundError(f"no fetal scans in {SHARED / 'data' / 'fetal_head_ultrasound'}")
    # Scans of one patient share the number in their names.
    held_out = [path for path in scans if int(path.name[:3]) % 10 == 9]
    seen = [path for path in scans if int(path.name[:3]) % 10 != 9]
    seed = settings["seed"]
    directions = learn_directions(draw_images(1000, seed + 1, seen)[0], folder / "directions.npz")
    shards = [folder / f"pool-{k:03d}.npz" for k in range(settings["n_images"] // SHARD)]
    for k, file in enumerate([folder / "held-out.npz", *shards]):
        if file.exists():
            continue
        started = time.process_time()
        first = k == 0
        images, lesions, sources = draw_images(
            HELD_OUT if first else SHARD,
            1000 * (seed + 1) + k,
            held_out if first else seen,
            held_out=first,
        )
        said = teach(images, directions)
        content: dict[str, Any] = {"images": images, "lesions": lesions, "sources": sources}
        content |= {f"grid{grid}": values for grid, values in said.items()}
        with replacing(file) as temporary:
            np.savez(temporary, **content)
        LOG.info("%s: %d images, %.0f s", file.name, len(images), time.process_time() - started)
    return shards, folder / "held-out.npz"


class Pool:
    """Images and what to say about them, in memory."""

    def __init__(self, files: list[Path]) -> None:
        parts: dict[str, list[NDArray]] = {}
        for file in files:
            with np.load(file) as shard:
                for name in shard.files:
                    parts.setdefault(name, []).append(shard[name])
        content = {name: np.concatenate(values) for name, values in parts.items()}
        self.images, self.lesions = content["images"], content["lesions"]
        self.sources = content["sources"]
        self.fine, self.coarse = content[f"grid{GRID}"], content[f"grid{GRID // 2}"]

    def __len__(self) -> int:
        return len(self.images)

    def batch(self, rows: NDArray, size: int = SIZE, rng: Any = None) -> tuple[NDArray, ...]:
        """Pixels, targets at stride 16, at stride 32, and lesions, for whole images or windows.

        With a random generator the windows are drawn, at multiples of 32 pixels, where all grids
        meet, and half of the images are mirrored.
        """
        parts: list[list[NDArray]] = [[], [], [], []]
        for row in rows:
            top, left = rng.integers(0, (SIZE - size) // 32 + 1, size=2) if rng else (0, 0)
            step = -1 if rng and rng.random() < 0.5 else 1
            for part, values in zip(
                parts, (self.images, self.fine, self.coarse, self.lesions), strict=True
            ):
                unit, side = values.shape[1] // 4, values.shape[1] * size // SIZE
                y, x = top * unit, left * unit
                part.append(values[row, y : y + side, x : x + side][:, ::step])
        pixels, fine, coarse, lesions = map(np.stack, parts)
        fine = fine.astype(np.float32)
        coarse = np.concatenate([_halved(fine), coarse.astype(np.float32)], axis=-1)
        return pixels.astype(np.float32), fine, coarse, lesions

    def scales(self) -> tuple[NDArray, NDArray]:
        """Factors that give coarse targets, and their means over places, a mean variance of 1.

        Means are scaled half-way to equal variances, as the targets are.
        """
        rows = np.arange(0, len(self), max(1, len(self) // 2000))
        coarse = self.batch(rows)[2]
        by_place = coarse.reshape(-1, coarse.shape[-1]).var(axis=0)
        of_mean = coarse.mean(axis=(1, 2)).var(axis=0)
        return (
            np.full(len(by_place), by_place.mean() ** -0.5, dtype=np.float32),
            (of_mean**-0.25 / np.sqrt(np.mean(np.sqrt(of_mean)))).astype(np.float32),
        )


def _halved(maps: NDArray) -> NDArray:
    n, height, width, channels = maps.shape
    return maps.reshape(n, height // 2, 2, width // 2, 2, channels).mean(axis=(2, 4))


# The student


def build_student(settings: dict[str, Any]) -> tuple[Any, Any]:
    """Build the encoder, with new random weights, and the encoder with a linear head a target."""
    from hybridus._keras import keras
    from hybridus.encoders.registry import get_encoder

    layers = keras.layers
    keras.utils.set_random_seed(settings["seed"])
    spec = get_encoder(ENCODER)
    encoder = spec.build((None, None))  # type: ignore[arg-type]
    for layer in encoder.layers:
        if isinstance(layer, layers.BatchNormalization):
            layer.momentum = settings["momentum"]
    taps = ["block_6_project_BN", "block_13_expand_relu", "out_relu"]
    early, middle, last = (encoder.get_layer(name).output for name in taps)
    n_fine, n_coarse = settings["n_fine"], settings["n_coarse"]
    scale, offset = spec.preprocessing.scale[0], spec.preprocessing.offset[0]
    pixels = keras.Input((None, None, 3))
    tapped = keras.Model(encoder.input, [early, middle, last])
    early, middle, last = tapped(layers.Rescaling(scale, offset)(pixels))
    coarse = layers.Conv2D(n_coarse, 1, name="last")(last)
    heads = {
        "early": layers.Conv2D(n_fine, 1, name="early")(early),
        "middle": layers.Conv2D(n_fine, 1, name="middle")(middle),
        "last": coarse,
        "mean": layers.GlobalAveragePooling2D(name="mean")(coarse),
        "lesion": layers.Conv2D(2, 1, activation="sigmoid", name="lesion")(last),
    }
    return encoder, keras.Model(pixels, heads)


def compile_student(student: Any, settings: dict[str, Any], of_mean: NDArray) -> None:
    """Choose losses: squared errors in units of the targets' variance, and cross-entropy."""
    from hybridus._keras import keras

    ops = keras.ops
    factors = of_mean.astype(np.float32)

    def mean_loss(said: Any, predicted: Any) -> Any:
        return ops.mean(ops.square((said - predicted) * factors), axis=-1)

    def lesion_loss(said: Any, predicted: Any) -> Any:
        known = ops.cast(said <= 1.0, "float32")
        predicted = ops.clip(predicted, 1e-6, 1 - 1e-6)
        said = ops.clip(said, 0.0, 1.0)
        entropy = -(said * ops.log(predicted) + (1 - said) * ops.log(1 - predicted))
        return ops.mean(known * entropy, axis=-1)

    student.compile(
        optimizer=keras.optimizers.AdamW(weight_decay=settings["weight_decay"], clipnorm=5.0),
        loss={**dict.fromkeys(("early", "middle", "last"), "mse")}
        | {"mean": mean_loss, "lesion": lesion_loss},
        loss_weights=settings["loss_weights"],
    )


def targets_of(batch: tuple, scale: NDArray) -> dict[str, NDArray]:
    """Give what each head is asked to say of a batch."""
    _, fine, coarse, lesions = batch
    halved = _halved(lesions.astype(np.float32))
    return {
        "early": fine,
        "middle": fine,
        "last": coarse * scale,
        "mean": (coarse * scale).mean(axis=(1, 2)),
        "lesion": np.where(halved > 254, 2.0, halved / 254).astype(np.float32),
    }


# Training


class Run:
    """A training run and its state on disk."""

    def __init__(self, folder: Path, settings: dict[str, Any], pool: Pool, held_out: Pool) -> None:
        self.folder, self.pool, self.held_out = folder, pool, held_out
        n_fine = pool.fine.shape[-1]
        self.settings = settings | {"n_fine": n_fine, "n_coarse": n_fine + pool.coarse.shape[-1]}
        self.encoder, self.student = build_student(self.settings)
        self.scale, of_mean = pool.scales()
        compile_student(self.student, self.settings, of_mean / self.scale)
        self.student.optimizer.build(self.student.trainable_variables)
        self.step, self.seconds = 0, 0.0
        self.checkpoint = folder / "checkpoint.npz"
        if self.checkpoint.exists():
            self.restore()

    @property
    def variables(self) -> list[Any]:
        """Everything that changes in training."""
        return [*self.student.variables, *self.student.optimizer.variables]

    def save(self) -> None:
        """Keep the state."""
        values: dict[str, Any] = {f"v{k:04d}": np.asarray(v) for k, v in enumerate(self.variables)}
        with replacing(self.checkpoint) as temporary:
            np.savez(temporary, step=self.step, seconds=self.seconds, **values)

    def restore(self) -> None:
        """Go on where a run was stopped."""
        with np.load(self.checkpoint) as kept:
            self.step, self.seconds = int(kept["step"]), float(kept["seconds"])
            for k, variable in enumerate(self.variables):
                variable.assign(kept[f"v{k:04d}"])
        LOG.info("resumed at step %d, %.0f s", self.step, self.seconds)

    def rate(self, progress: float) -> float:
        """Learning rate: warmed up, then falling as a cosine."""
        warm_up = self.settings["warm_up"]
        rising = min(1.0, progress / warm_up)
        falling = np.cos(np.pi / 2 * max(0.0, progress - warm_up) / (1 - warm_up)) ** 2
        return float(self.settings["learning_rate"] * rising * falling)

    def window(self, progress: float) -> tuple[int, int]:
        """Side of the windows and their number in a batch."""
        passed = [item for item in self.settings["windows"] if item[0] <= progress]
        return passed[-1][1], passed[-1][2]

    def train(self, n_steps: int, seconds: float, *, every: int = 200) -> None:
        """Train until the steps are done or the processor time is spent."""
        counted = time.process_time()
        losses: list[dict[str, float]] = []
        while (progress := max(self.step / n_steps, self.seconds / seconds)) < 1:
            # A step's images depend on seed and step alone: a resumed run draws the same.
            rng = np.random.default_rng([self.settings["seed"], self.step])
            size, n_images = self.window(progress)
            rows = rng.choice(len(self.pool), n_images, replace=False)
            batch = self.pool.batch(rows, size, rng)
            self.student.optimizer.learning_rate.assign(self.rate(progress))
            losses.append(
                self.student.train_on_batch(
                    batch[0], targets_of(batch, self.scale), return_dict=True
                )
            )
            # Keras answers with running means; they start anew with each step.
            self.student.reset_metrics()
            self.step += 1
            now = time.process_time()
            self.seconds, counted = self.seconds + now - counted, now
            if self.step % every == 0:
                mean = {k: np.mean([loss[k] for loss in losses]).round(4) for k in losses[0]}
                LOG.info("step %d, %.0f s: %s", self.step, self.seconds, json.dumps(mean))
                losses = []
                self.save()
            if self.step % (5 * every) == 0:
                self.report()
        self.save()
        self.report()

    def report(self) -> dict[str, float]:
        """Share of the teachers' variance that is explained on held-out images.

        By head, over all images and within those of each source.
        """
        heads = ("middle", "last", "mean")
        moments: dict[str, list[NDArray]] = {head: [] for head in heads}
        for rows in np.array_split(np.arange(len(self.held_out)), len(self.held_out) // 50):
            batch = self.held_out.batch(rows)
            said = targets_of(batch, self.scale)
            predicted = self.student.predict_on_batch(batch[0])
            for head in heads:
                truth = said[head].reshape(len(rows), -1, said[head].shape[-1])
                error = truth - np.asarray(predicted[head]).reshape(truth.shape)
                parts = [truth, truth**2, error**2]
                moments[head].append(np.stack([part.mean(axis=1) for part in parts], axis=1))
        found = {}
        for head, parts in moments.items():
            by_image = np.concatenate(parts)
            for source in ("all", *SHARES):
                chosen = by_image[(self.held_out.sources == source) | (source == "all")]
                first, second, error = chosen.mean(axis=0)
                share = 1 - error.sum() / (second - first**2).sum()
                found[f"{head}, {source}"] = round(float(share), 3)
        LOG.info("held out, step %d: %s", self.step, json.dumps(found))
        return found

    def export(self, file: Path) -> None:
        """Write the encoder: float16, variances in float32, keys ``<keras layer>/<variable>``."""
        from safetensors.numpy import save_file

        arrays = {}
        for layer in self.encoder.layers:
            for variable in layer.weights:
                exact = variable.name == "moving_variance"
                value = np.asarray(variable, dtype=np.float32 if exact else np.float16)
                arrays[f"{layer.name}/{variable.name}"] = np.ascontiguousarray(value)
        metadata = {
            "architecture": "MobileNetV2 alpha=0.35, include_top=False (keras.applications)",
            "origin": "trained from scratch by benchmarks/train_bundled_weights.py of hybridus",
            "attribution": "trained on HC18 fetal scans, van den Heuvel et al. 2018, Zenodo "
            "1327317, CC BY 4.0; see mobilenet_v2_0.35.md",
            "steps": str(self.step),
        }
        with replacing(file) as temporary:
            save_file(arrays, temporary, metadata=metadata)
            temporary.chmod(0o644)  # safetensors keeps files to their owner
        LOG.info("wrote %s, %d bytes", file.name, file.stat().st_size)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--hours", type=float, default=np.inf, help="of processor time")
    parser.add_argument("--steps", type=int, default=9000)
    parser.add_argument("--settings", type=json.loads, default="{}", help="JSON, to vary SETTINGS")
    arguments = parser.parse_args()
    use_real_weights()
    folder: Path = arguments.out
    folder.mkdir(parents=True, exist_ok=True)
    os.environ.setdefault("HYBRIDUS_CACHE", str(folder / "cache"))
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(message)s")
    LOG.setLevel(logging.INFO)
    LOG.addHandler(logging.FileHandler(folder / "train.log"))
    settings = SETTINGS | arguments.settings
    LOG.info("settings %s, at most %d steps", json.dumps(settings), arguments.steps)
    shards, held_out = make_pool(folder, settings)
    run = Run(folder, settings, Pool(shards), Pool([held_out]))
    run.train(arguments.steps, 3600 * arguments.hours)
    run.export(folder / f"{ENCODER}.safetensors")


if __name__ == "__main__":
    main()
