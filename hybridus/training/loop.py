"""Training loop: one for all networks, on compiled ones that are used again.

Keras leaks memory with every network that is compiled, and compiling takes longer than training a
small one. So a few compiled networks are kept, and every variable is reset between fits.
"""

import contextlib
import threading
import time
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from hybridus._environment import ForkGuard, n_threads
from hybridus._keras import jit_compile, keras, leaves
from hybridus.exceptions import DivergedError
from hybridus.inputs.heard import tell_progress

Schedule = Literal["plateau", "cosine"] | None
Values = dict[str, NDArray]

_MOST_IDLE = 4
_PLATEAU_FACTOR = 0.2
_PREDICTION_BATCH = 32
_FEW = 4
_OF_ANOTHER = (
    "was learned by a network of another architecture: a parameter that decides it was changed "
    "after fit. Change it back, or call fit again, without warm_start"
)


@dataclass(frozen=True)
class Plan:
    """How long and how fast to train."""

    learning_rate: float
    lr_schedule: Schedule
    early_stopping: bool
    patience: int
    batch_size: int
    max_epochs: int
    verbose: int = 0


@dataclass(frozen=True)
class Samples:
    """What is trained on: ``draw(rows, rng)`` gives input and target of some samples."""

    weights: NDArray[np.float32]
    draw: Callable[[NDArray[np.intp], np.random.Generator], tuple[NDArray, NDArray]]


@dataclass(frozen=True)
class HeldOut:
    """What is validated on: inputs in batches, targets and weights of all samples."""

    inputs: Callable[[], Iterable[NDArray]]
    targets: NDArray
    weights: NDArray[np.float32]


@dataclass
class Outcome:
    """What training left: values of the variables, and what happened in each epoch."""

    values: Values
    history: list[dict[str, float]] = field(default_factory=list)
    best_epoch: int = 0
    interrupted: bool = False


class EpochModel(keras.Model):
    """A model whose metrics are those of an epoch, though it is trained batch by batch."""

    def reset_metrics(self) -> None:
        """Do nothing: Keras calls this for every batch."""

    def start_epoch(self) -> None:
        """Start the metrics anew."""
        super().reset_metrics()


class TrainableNetwork:
    """A network with its loss, metrics and optimizer, compiled once and reset for each fit.

    Parameters
    ----------
    inputs, output : Keras tensors
    loss : keras.losses.Loss
        One value a sample, so that sample weights count.
    metrics : list of keras.Metric
        Keras metrics that have made their variables: a step that makes some is traced twice.
    optimizer : str or dict
        As `keras.optimizers.get` takes it; its learning rate is set by each fit.
    """

    def __init__(
        self,
        inputs: Any,
        output: Any,
        *,
        loss: Any,
        metrics: list[Any],
        scores: Callable[[NDArray, NDArray], dict[str, float]],
        optimizer: str | Mapping[str, Any],
    ) -> None:
        self.model = EpochModel(inputs, output)
        self.loss = loss
        self.optimizer = keras.optimizers.get(optimizer)
        self.model.compile(
            self.optimizer, loss, metrics=metrics, jit_compile=jit_compile(), run_eagerly=False
        )
        self.optimizer.build(self.model.trainable_variables)
        self.model.start_epoch()
        self._scores = scores
        self._names = ["loss", *(metric.name for metric in metrics)]
        # Frozen layers keep what they were built with.
        changing = [v for layer in leaves(self.model) if layer.trainable for v in layer.weights]
        self._changing = {variable.path: variable for variable in changing}
        if len(self._changing) < len({id(variable) for variable in changing}):
            raise ValueError("two layers of the network share a name, so its weights have none")
        self._seeds = [v for v in self.model.variables if v.path.endswith("seed_generator_state")]
        self._initial = self.values()
        self._initial_optimizer = self.optimizer_values()

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of every variable that training changes, by its path."""
        return {path: tuple(variable.shape) for path, variable in self._changing.items()}

    def values(self) -> Values:
        """Copy every variable that training changes."""
        return {path: _copy(variable) for path, variable in self._changing.items()}

    def assign(self, values: Mapping[str, NDArray]) -> None:
        """Set the variables that training changes; others go back to what they were built with.

        Raises
        ------
        ValueError
            For a value that belongs to no variable of this network.
        """
        for path, value in {**self._initial, **values}.items():
            variable = self._changing.get(path)
            if variable is None or tuple(variable.shape) != value.shape:
                raise ValueError(f"{path!r} of shape {value.shape} {_OF_ANOTHER}")
            variable.assign(value)

    def restore(self, values: Mapping[str, NDArray]) -> None:
        """Set all variables that training changes to what a fit has learned.

        Raises
        ------
        ValueError
            Where these are not the variables of this network.
        """
        for path in self._changing:
            if path not in values:
                raise ValueError(f"{path!r} is missing in what {_OF_ANOTHER}")
        self.assign(values)

    def optimizer_values(self) -> list[NDArray]:
        """Copy the state of the optimizer."""
        return [_copy(variable) for variable in self.optimizer.variables]

    def reset(
        self,
        values: Mapping[str, NDArray],
        seed: int,
        *,
        learning_rate: float,
        optimizer_values: list[NDArray] | None = None,
    ) -> None:
        """Put everything back that training changes: weights, optimizer, seeds and metrics.

        Parameters
        ----------
        values : mapping of path to array
            Weights that differ from those the network was built with.
        seed : int
            Decides what dropout draws.
        learning_rate : float
        optimizer_values : list of array, optional
            State to go on with; by default that of a new optimizer.

        Raises
        ------
        ValueError
            For values or a state that are not of this network.
        """
        self.assign(values)
        state = self._initial_optimizer if optimizer_values is None else optimizer_values
        expected = [tuple(variable.shape) for variable in self.optimizer.variables]
        if [value.shape for value in state] != expected:
            raise ValueError(f"the state of the optimizer {_OF_ANOTHER}")
        for variable, value in zip(self.optimizer.variables, state, strict=True):
            variable.assign(value)
        self.optimizer.learning_rate = learning_rate
        rng = np.random.default_rng(seed)
        for variable in self._seeds:
            variable.assign(rng.integers(2**31, size=variable.shape).astype(variable.dtype))
        self.model.start_epoch()

    def step(self, x: NDArray, y: NDArray, weights: NDArray) -> dict[str, float]:
        """Train on one batch; return loss and metrics of the epoch so far."""
        logs = self.model.train_on_batch(x, y, sample_weight=weights, return_dict=True)
        return {name: float(logs[name]) for name in self._names}

    def predict(self, batches: Iterable[NDArray]) -> NDArray[np.float32]:
        """Predict samples in batches of any size; they are padded to few sizes."""
        parts = []
        for batch in batches:
            for start in range(0, len(batch), _PREDICTION_BATCH):
                part = batch[start : start + _PREDICTION_BATCH]
                size = _FEW if len(part) <= _FEW else _PREDICTION_BATCH
                padding = [(0, size - len(part))] + [(0, 0)] * (part.ndim - 1)
                predicted = self.model.predict_on_batch(np.pad(part, padding))
                parts.append(np.asarray(predicted, dtype=np.float32)[: len(part)])
        return np.concatenate(parts)

    def validate(self, held_out: HeldOut) -> dict[str, float]:
        """Loss and metrics on held-out samples, named ``val_...``."""
        predicted = self.predict(held_out.inputs())
        loss = self.loss(held_out.targets, predicted, sample_weight=held_out.weights)
        # Keras clips probabilities before it takes their logarithm, and makes numbers of NaN.
        scores = {"val_loss": float(loss) if np.isfinite(predicted).all() else np.nan}
        found = self._scores(held_out.targets, predicted)
        return scores | {f"val_{name}": found[name] for name in self._names[1:]}


def train(
    network: TrainableNetwork,
    samples: Samples,
    held_out: HeldOut | None,
    plan: Plan,
    rng: np.random.Generator,
    *,
    before_epoch: Callable[[int], None] = lambda epoch: None,
    after_epoch: Callable[[dict[str, float]], bool] = lambda row: False,
) -> Outcome:
    """Train a network that has been reset.

    An epoch is ``ceil(n / batch_size)`` batches of one size from an endless row of permutations:
    every sample is used as often as any other. Loss and metrics of training are means over the
    epoch while the weights change, as Keras gives them; validation is at its end.

    Parameters
    ----------
    network : TrainableNetwork
    samples : Samples
    held_out : HeldOut or None
        Without it, early stopping and "plateau" watch the training loss.
    plan : Plan
    rng : numpy.random.Generator
        Decides the order of the samples and their augmentation.
    before_epoch, after_epoch : callable
        Called with the number of the epoch, and with its row of the history; true stops.

    Returns
    -------
    Outcome
        With ``early_stopping`` the values of the best epoch, else those of the last one. An
        interrupt (Ctrl-C) ends training and returns what there is.

    Raises
    ------
    DivergedError
        Where the loss becomes NaN or infinite.
    """
    watched = "loss" if held_out is None else "val_loss"
    schedule = _Schedule(plan, watched, network)
    outcome = Outcome({})
    best = np.inf
    n_samples = len(samples.weights)
    n_batches = -(-n_samples // plan.batch_size)
    batches = _endless_batches(n_samples, min(plan.batch_size, n_samples), rng)
    tell_progress("epoch", 0, plan.max_epochs)
    try:
        for epoch in range(1, plan.max_epochs + 1):
            before_epoch(epoch)
            started = time.perf_counter()
            network.model.start_epoch()
            rate = schedule.before(epoch)
            for _ in range(n_batches):
                rows = next(batches)
                x, y = samples.draw(rows, rng)
                logs = network.step(x, y, samples.weights[rows])
                _check_finite("loss", logs["loss"], epoch, rate)
            row = {"epoch": epoch, **logs}
            if held_out is not None:
                row |= network.validate(held_out)
                _check_finite("validation loss", row["val_loss"], epoch, rate)
            row |= {"learning_rate": rate, "seconds": time.perf_counter() - started}
            outcome.history.append(row)
            tell_progress("epoch", epoch, plan.max_epochs)
            if row[watched] < best:
                best, outcome.best_epoch = row[watched], epoch
                if plan.early_stopping:
                    outcome.values = _finite_values(network, epoch, rate)
            schedule.after(epoch, row)
            if plan.verbose:
                print(_line(row), flush=True)
            if after_epoch(row):
                break
            if plan.early_stopping and epoch - outcome.best_epoch >= plan.patience:
                break
    except KeyboardInterrupt:
        outcome.interrupted = True
    if plan.early_stopping and outcome.values:
        network.assign(outcome.values)
    else:
        outcome.values = _finite_values(network, len(outcome.history), plan.learning_rate)
    return outcome


@contextlib.contextmanager
def lease(key: Hashable, build: Callable[[], TrainableNetwork]) -> Iterator[TrainableNetwork]:
    """Lend a compiled network to one user at a time; few are kept when nobody uses them.

    Parameters
    ----------
    key : hashable
        Everything that is traced into the network.
    build : callable
        Makes it where none of this key is free.
    """
    _guard.check()
    full_key = (key, n_threads())
    with _lock:
        place = next((i for i, (k, _) in enumerate(_idle) if k == full_key), None)
        network = None if place is None else _idle.pop(place)[1]
    network = network or build()
    try:
        yield network
    finally:
        with _lock:
            _idle.append((full_key, network))
            del _idle[:-_MOST_IDLE]


_lock = threading.Lock()
_idle: list[tuple[Hashable, TrainableNetwork]] = []  # the latest used last
_guard = ForkGuard("a network")


class _Schedule:
    """Sets the learning rate: before an epoch by its number, after it by what it brought."""

    def __init__(self, plan: Plan, watched: str, network: TrainableNetwork) -> None:
        self._optimizer = network.optimizer
        self._cosine = self._plateau = None
        if plan.lr_schedule == "cosine":
            self._cosine = keras.optimizers.schedules.CosineDecay(
                plan.learning_rate, decay_steps=plan.max_epochs
            )
        elif plan.lr_schedule == "plateau":
            self._plateau = keras.callbacks.ReduceLROnPlateau(
                monitor=watched,
                mode="min",
                factor=_PLATEAU_FACTOR,
                patience=max(1, plan.patience // 2),
                min_delta=0.0,
                min_lr=plan.learning_rate * _PLATEAU_FACTOR**3,
            )
            self._plateau.set_model(network.model)
            self._plateau.on_train_begin()

    def before(self, epoch: int) -> float:
        if self._cosine is not None:
            self._optimizer.learning_rate = float(self._cosine(epoch - 1))
        return float(self._optimizer.learning_rate.numpy())

    def after(self, epoch: int, row: dict[str, float]) -> None:
        if self._plateau is not None:
            self._plateau.on_epoch_end(epoch, dict(row))


def _endless_batches(
    n_samples: int, batch_size: int, rng: np.random.Generator
) -> Iterator[NDArray[np.intp]]:
    waiting = np.empty(0, np.intp)
    while True:
        while len(waiting) < batch_size:
            waiting = np.concatenate([waiting, rng.permutation(n_samples)])
        yield waiting[:batch_size]
        waiting = waiting[batch_size:]


def _finite_values(network: TrainableNetwork, epoch: int, rate: float) -> Values:
    """Copy the weights; activations such as ReLU can hide from the loss that some are NaN."""
    values = network.values()
    for path, value in values.items():
        _check_finite(f"largest weight of {path!r}", np.abs(value).max(), epoch, rate)
    return values


def _check_finite(what: str, value: float, epoch: int, rate: float) -> None:
    if not np.isfinite(value):
        raise DivergedError(
            f"the {what} became {value} in epoch {epoch} at learning_rate={rate:.3g}: training "
            "diverged. Lower learning_rate (a tenth is a good next try), or check class_weight and "
            "sample_weight for extreme values"
        )


def _line(row: Mapping[str, float]) -> str:
    rest = ", ".join(f"{name} {value:.4g}" for name, value in row.items() if name != "epoch")
    return f"epoch {row['epoch']}: {rest}"


def _copy(variable: Any) -> NDArray:
    return np.array(variable.numpy())
