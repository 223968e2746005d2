"""Networks as estimators: parameters of training, seeds, the validation part, callbacks, state.

A fitted estimator holds arrays and numbers, never a live Keras object: networks are leased.
"""

import math
import warnings
from abc import abstractmethod
from collections.abc import Hashable, Iterator, Mapping
from copy import copy
from dataclasses import KW_ONLY
from functools import partial
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, clone
from sklearn.callback import CallbackSupportMixin
from sklearn.utils import check_random_state

from hybridus._sklearn import Interval, StrOptions
from hybridus.encoders.carried import CarriedNetwork
from hybridus.encoders.engine import carries, carry_network, run_carried
from hybridus.estimators.on_images import OnImages
from hybridus.estimators.parameters import with_parameters
from hybridus.inputs.augmentation import Augmentation, resolve_augmentation
from hybridus.inputs.groups import group_names
from hybridus.inputs.images import Images, validate_images
from hybridus.inputs.resizing import Resize
from hybridus.store.activations import most_bytes
from hybridus.training.batches import TOGETHER, Batches, subset
from hybridus.training.held_out import split_validation
from hybridus.training.interrupts import fitted_directly

if TYPE_CHECKING:
    from hybridus.training.loop import HeldOut, Outcome, Plan, Samples, TrainableNetwork


POLICIES = {"float32": "float32", "bfloat16": "mixed_bfloat16"}


@with_parameters
class NetworkEstimator(OnImages, CallbackSupportMixin, BaseEstimator):
    """Base of estimators that train a network.

    Parameters
    ----------
    resize : {"stretch", "pad"}, default="stretch"
        "pad" keeps the aspect ratio and centres the image on black.
    augmentation : {"light", "strong"}, Augmentation or None, default="light"
        How training images are varied, with their masks; validation images never are.
    optimizer : str or dict, default="adam"
        Name, or configuration as `keras.optimizers.get` takes it; without a learning rate.
    learning_rate : float, default=1e-3
        At the start.
    lr_schedule : {"plateau", "cosine"} or None, default="plateau"
        "plateau" takes a fifth of it when the watched loss has not fallen for half of `patience`,
        three times at most; "cosine" lets it fall to zero over `max_epochs` (Loshchilov and Hutter
        2017, arXiv:1608.03983, without restarts).
    early_stopping : bool, default=True
        Stop when the watched loss has not fallen for `patience` epochs, and go back to the weights
        of the best epoch. The loss watched is that of the validation part, or of training where
        there is none.
    validation_fraction : float or None, default=0.15
        Share of the samples held out, stratified; None trains on all and validates nothing.
    patience : int, default=10
        Epochs.
    batch_size : int, default=32
        Images in a step.
    max_epochs : int, default=50
        Largest number of epochs.
    precision : {"float32", "bfloat16"}, default="float32"
        "bfloat16" computes in mixed precision; weights stay float32. A stored prefix is computed
        in float32 all the same.
    random_state : int, RandomState or None, default=None
        Decides new weights, validation part, order, augmentation and dropout; the same seed and
        number of threads give the same model. Global seeds are neither used nor changed.
    verbose : int, default=0
        1 prints a line an epoch.

    Attributes
    ----------
    n_iter_ : int
        Epochs trained.
    best_epoch_ : int
        Epoch with the lowest watched loss; with `early_stopping` its weights are kept.
    variables_ : dict of str to array
        Values of all variables, by their path.
    network_ : CarriedNetwork or None
        The exported network, where the estimator comes from a file of `hybridus.save`: then it
        answers without Keras, in float32.
    """

    _: KW_ONLY
    resize: Resize = "stretch"
    augmentation: str | Augmentation | None = "light"
    optimizer: str | Mapping[str, Any] = "adam"
    learning_rate: float = 1e-3
    lr_schedule: Literal["plateau", "cosine"] | None = "plateau"
    early_stopping: bool = True
    validation_fraction: float | None = 0.15
    patience: int = 10
    batch_size: int = 32
    max_epochs: int = 50
    precision: Literal["float32", "bfloat16"] = "float32"
    random_state: Any = None
    verbose: int = 0

    _parameter_constraints: ClassVar[dict] = {
        "resize": [StrOptions({"stretch", "pad"})],
        "augmentation": [str, Augmentation, None],
        "optimizer": [str, dict],
        "learning_rate": [Interval(Real, 0, None, closed="neither")],
        "lr_schedule": [StrOptions({"plateau", "cosine"}), None],
        "early_stopping": ["boolean"],
        "validation_fraction": [Interval(Real, 0, 1, closed="neither"), None],
        "patience": [Interval(Integral, 1, None, closed="left")],
        "batch_size": [Interval(Integral, 1, None, closed="left")],
        "max_epochs": [Interval(Integral, 1, None, closed="left")],
        "precision": [StrOptions(set(POLICIES))],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
    }
    # `groups` reach the inner validation split wherever metadata routing is on.
    __metadata_request__fit: ClassVar[dict] = {"groups": True}

    def preflight(self, X: Any) -> None:
        """Find out, without training, whether `fit` could begin; the estimator stays as it is.

        Weights must be at hand, layers must exist, and the network must take the input size.

        Parameters
        ----------
        X : images
            See `hybridus.inputs.images.as_images`. Their number and form count; files are not read.

        Raises
        ------
        ValueError
            For parameters, layers or sizes that cannot be, and images of a wrong form.
        WeightsNotFoundError
            Where the weights cannot be had.

        Warns
        -----
        UserWarning
            Where activations of the images have no room, so that the encoder would run in every
            epoch.
        """
        draft = clone(self)
        draft._validate_params()
        images = validate_images(draft, X, reset=True, image_shape=self.image_shape)
        resolve_augmentation(self.augmentation)
        draft._resolve()
        partition = draft._partitions()[0]
        draft._check_buildable(partition)
        needed = draft._activation_bytes(partition, len(images))
        if needed > most_bytes():
            warnings.warn(
                f"activations of {len(images)} images take {needed / 2**30:.2g} GiB, more than "
                f"HYBRIDUS_ACTIVATION_GIB allows ({most_bytes() / 2**30:g}): the encoder would run "
                "in every epoch, which takes many times as long. Set it to "
                f"{math.ceil(needed / 2**30)} where the disk has room",
                stacklevel=2,
            )

    @abstractmethod
    def _resolve(self) -> None:
        """Resolve sizes, and what of an encoder is needed, before anything is trained."""

    def _check_buildable(self, partition: Any) -> None:
        """Raise where the network cannot be built; `_partitions` has built the encoder."""

    def _activation_bytes(self, partition: Any, n_images: int) -> float:
        """Room that activations of what is trained on take, for all views of the images."""
        return 0.0

    def _seed(self) -> int:
        return int(check_random_state(self.random_state).randint(np.iinfo(np.int32).max))

    def _hold_out(
        self, strata: NDArray[np.intp], counted: NDArray[np.intp], groups: Any, seed: int
    ) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Divide the samples that count into those trained on and those held out."""
        names = group_names(groups, len(strata))
        if self.validation_fraction is None:
            return counted, counted[:0]
        train, held_out = split_validation(
            strata[counted],
            None if names is None else names[counted],
            self.validation_fraction,
            seed,
        )
        return counted[train], counted[held_out]

    def _plan(self) -> "Plan":
        from hybridus.training.loop import Plan

        return Plan(
            learning_rate=self.learning_rate,
            lr_schedule=self.lr_schedule,
            early_stopping=self.early_stopping,
            patience=self.patience,
            batch_size=self.batch_size,
            max_epochs=self.max_epochs,
            verbose=self.verbose,
        )

    def _open_parts(
        self, images: Images, train: NDArray[np.intp], held_out: NDArray[np.intp]
    ) -> tuple[Any, Batches, Batches | None]:
        """Open what is trained on, augmented, and what is held out, which never is.

        Returns the partition too: the first for which activations have room.
        """
        from hybridus.training.loop import lease

        policy = resolve_augmentation(self.augmentation)
        for partition in self._partitions():
            with lease(self._key(partition), partial(self._build, partition)):
                pass  # an architecture that cannot be is refused before images are encoded
            batches = self._open(subset(images, train), partition, policy)
            if batches is None:
                continue
            if not len(held_out):
                return partition, batches, None
            held_batches = self._open(subset(images, held_out), partition)
            if held_batches is not None:
                return partition, batches, held_batches
        raise AssertionError("the last partition cuts at the pixels, which need no room")

    def _outputs(self, images: Images) -> Iterator[NDArray[np.float32]]:
        """Yield what the trained network says of the images, part by part."""
        if (carried := self._carried()) is not None:
            for start in range(0, len(images), TOGETHER):
                rows = range(start, min(len(images), start + TOGETHER))
                pixels = self._open_pixels(subset(images, rows))
                found = run_carried(carried, plain_batches(pixels, len(rows)))
                yield np.concatenate(list(found))
            return
        from hybridus.training.loop import lease

        done = 0
        for partition in self._partitions():
            if done == len(images):
                break
            with lease(self._key(partition), partial(self._build, partition)) as network:
                network.restore(self.variables_)
                while done < len(images):
                    rows = range(done, min(len(images), done + TOGETHER))
                    batches = self._open(subset(images, rows), partition, passing=True)
                    if batches is None:
                        break
                    yield network.predict(plain_batches(batches, len(rows)))
                    done = rows.stop

    def _carried(self) -> CarriedNetwork | None:
        return carries(getattr(self, "engine", "auto"), getattr(self, "network_", None))

    def _carry(self) -> CarriedNetwork:
        """Export the network from the pixels on, in float32, or hand on the one that is carried."""
        from hybridus.training.loop import lease

        if (carried := self._carried()) is not None:
            return carried
        model: Any = copy(self)
        model.precision = "float32"
        if hasattr(model, "cache"):
            model.cache = False
        partition = model._partitions()[-1]
        with lease(model._key(partition), partial(model._build, partition)) as network:
            network.restore(model.variables_)
            channels = network.model.inputs[0].shape[-1]
            return carry_network(network.model, (*self._input_size, channels))

    @property
    @abstractmethod
    def _input_size(self) -> tuple[int, int]:
        """Height and width of the images that the network takes."""

    @abstractmethod
    def _open_pixels(self, images: Images) -> Batches:
        """Make images into what the whole network takes: pixels."""

    @abstractmethod
    def _partitions(self) -> list[Any]:
        """Return the ways to divide the network into stored and trained, best first."""

    @abstractmethod
    def _open(
        self,
        images: Images,
        partition: Any,
        augmentation: Augmentation | None = None,
        *,
        passing: bool = False,
    ) -> Batches | None:
        """Make images into what the network takes; None where activations have no room.

        `passing` says that the images may never come again: see `ActivationStore.rows`.
        """

    @abstractmethod
    def _key(self, partition: Any) -> Hashable:
        """Everything that is traced into the network, or that resetting does not restore."""

    @abstractmethod
    def _build(self, partition: Any) -> "TrainableNetwork":
        """Build and compile the network."""

    def _train(
        self,
        network: "TrainableNetwork",
        samples: "Samples",
        held_out: "HeldOut | None",
        seed: int,
        *,
        X: Any,
        y: Any,
        metadata: dict[str, Any],
    ) -> None:
        """Train under scikit-learn's callbacks and keep what was learned."""
        from hybridus.training.loop import Outcome, train

        context = self._init_callback_context(max_subtasks=self.max_epochs)
        asked = {"estimator": self, "X": X, "y": y, "metadata": metadata}
        context.call_on_fit_task_begin(**asked)
        rows: list[dict[str, float]] = []
        epochs: list[Any] = []

        def before_epoch(epoch: int) -> None:
            epochs.append(context.subcontext(task_name=f"epoch {epoch}"))
            epochs[-1].call_on_fit_task_begin(**asked)

        def after_epoch(row: dict[str, float]) -> bool:
            rows.append(row)

            def attributes() -> dict[str, Any]:
                return self._learned(Outcome(network.values(), list(rows), len(rows)))

            return epochs[-1].call_on_fit_task_end(**asked, reconstruction_attributes=attributes)

        outcome = train(
            network,
            samples,
            held_out,
            self._plan(),
            np.random.default_rng(seed),
            before_epoch=before_epoch,
            after_epoch=after_epoch,
        )
        if outcome.interrupted:
            if not fitted_directly():
                raise KeyboardInterrupt
            best = self.early_stopping and outcome.best_epoch
            warnings.warn(
                f"training interrupted after {len(outcome.history)} of {self.max_epochs} epochs; "
                f"the weights are {f'those of epoch {best}' if best else 'the latest'}, and the "
                "estimator can be used",
                stacklevel=4,
            )
        self._keep(self._learned(outcome))
        context.call_on_fit_task_end(**asked, reconstruction_attributes={})

    def _keep(self, learned: dict[str, Any]) -> None:
        for name, value in learned.items():
            setattr(self, name, value)

    @property
    def history_(self) -> pd.DataFrame:
        """What happened in each epoch: a new table, made of what is kept as plain numbers."""
        if "_history" not in vars(self):
            raise AttributeError(f"this {type(self).__name__} has no history_ before fit")
        return history_table(self._history)

    @staticmethod
    def _learned(outcome: "Outcome") -> dict[str, Any]:
        return {
            "variables_": outcome.values,
            "network_": None,
            "_history": outcome.history,
            "n_iter_": len(outcome.history),
            "best_epoch_": outcome.best_epoch,
        }


def history_table(rows: list[dict[str, float]]) -> pd.DataFrame:
    """One row an epoch, from 1: loss, metrics, the same for validation, learning rate, seconds."""
    table = pd.DataFrame(rows)
    if not len(table):
        return pd.DataFrame(index=pd.Index([], name="epoch"))
    return table.astype({"epoch": int}).set_index("epoch")


def plain_batches(batches: Batches, n_samples: int) -> Iterator[NDArray[np.float32]]:
    """All samples as they are, in small batches."""
    for start in range(0, n_samples, 32):
        yield batches.plain(range(start, min(n_samples, start + 32)))
