"""`FineTunedClassifier`: images, stored activations and training joined into a classifier."""

import json
from collections.abc import Hashable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import KW_ONLY, replace
from functools import partial
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import ClassifierMixin
from sklearn.utils import check_consistent_length, compute_class_weight
from sklearn.utils.validation import check_is_fitted

from hybridus._sklearn import (
    Interval,
    StrOptions,
    _check_partial_fit_first_call,
    _check_sample_weight,
    _fit_context,
)
from hybridus.encoders.weights import draw_variables
from hybridus.estimators.fitting import all_or_nothing
from hybridus.estimators.on_encoder import OnEncoder
from hybridus.estimators.parameters import with_parameters
from hybridus.estimators.trained import POLICIES, NetworkEstimator, plain_batches
from hybridus.inputs.images import Images, tag_images, validate_images
from hybridus.inputs.labels import check_labels
from hybridus.training.batches import decoded_parts

if TYPE_CHECKING:
    from hybridus.encoders.partition import Partition
    from hybridus.training.loop import HeldOut, Samples, TrainableNetwork


@with_parameters
class FineTunedClassifier(ClassifierMixin, OnEncoder, NetworkEstimator):
    """Classify images with a pretrained CNN of which all, some or none of the layers are trained.

    The network is the encoder, average pooling over positions, hidden layers with dropout, and a
    softmax over the classes. A validation part is held out inside `fit`, stratified and with
    groups kept whole; training stops when its loss no longer falls, and the best weights are kept.

    Layers that no trained layer precedes give the same for an image in every epoch: with
    ``trainable="none"`` or ``"last:20"`` they run once for each image, shared by all fits of the
    process, and only the rest is trained.

    Parameters
    ----------
    layers : {"last", "multi"} or list of str, default="last"
        Layers whose pooled outputs the head sees, side by side; see `DeepFeatureExtractor`.
    hidden_layer_sizes : sequence of int, default=(128,)
        Units of the layers between pooling and softmax, with ReLU; may be empty.
    dropout_rate : float, default=0.3
        Share of hidden units that are dropped in training, after each hidden layer.
    augmentation : {"light", "strong"}, Augmentation or None, default="light"
        How training images are varied; validation images never are.
    class_weight : dict, "balanced" or None, default=None
        As in scikit-learn; multiplied with `sample_weight`, and scaled to a mean of 1.
    label_smoothing : float, default=0.0
        Share of each label that is spread over all classes (Szegedy et al. 2016).
    warm_start : bool, default=False
        Start `fit` from the weights of the last one instead of `weights` and a new head.

    Attributes
    ----------
    classes_ : array of shape (n_classes,)
    history_ : DataFrame
        A row an epoch: ``loss, accuracy, precision, recall, f1`` (the last three means over the
        classes) while training, the same with ``val_`` for the validation part, ``learning_rate``
        and ``seconds``. Weights count in losses only.
    held_out_ : array of int
        Positions, in what `fit` was given, of the samples that were held out.

    Notes
    -----
    `groups` are asked for by default: with ``sklearn.set_config(enable_metadata_routing=True)`` a
    search or `cross_validate` hands them on to `fit`. Without it they reach only the outer
    splitter, and duplicates may stand on both sides of the inner split.

    References
    ----------
    Sandler et al. 2018, MobileNetV2, arXiv:1801.04381. Simonyan and Zisserman 2015,
    arXiv:1409.1556. Yosinski et al. 2014, How transferable are features in deep neural networks?
    arXiv:1411.1792.

    Examples
    --------
    >>> from hybridus import FineTunedClassifier, make_breast_phantoms
    >>> phantoms = make_breast_phantoms(24, image_size=32, random_state=0)
    >>> net = FineTunedClassifier("mobilenet_v2_0.35", weights="bundled", trainable="none",
    ...     image_size=32, max_epochs=2, random_state=0)
    >>> net.fit(phantoms.images, phantoms.target).predict_proba(phantoms.images[:4]).shape
    (4, 3)
    >>> list(net.history_.columns[:5])
    ['loss', 'accuracy', 'precision', 'recall', 'f1']
    """

    _: KW_ONLY
    hidden_layer_sizes: Sequence[int] = (128,)
    dropout_rate: float = 0.3
    class_weight: dict | str | None = None
    label_smoothing: float = 0.0
    warm_start: bool = False

    _parameter_constraints: ClassVar[dict] = {
        "hidden_layer_sizes": [tuple, list],
        "dropout_rate": [Interval(Real, 0, 1, closed="left")],
        "class_weight": [dict, StrOptions({"balanced"}), None],
        "label_smoothing": [Interval(Real, 0, 1, closed="left")],
        "warm_start": ["boolean"],
    }

    _pooling = "avg"

    @all_or_nothing
    @_fit_context(prefer_skip_nested_validation=True)
    def fit(
        self,
        X: Any,
        y: ArrayLike,
        sample_weight: ArrayLike | None = None,
        groups: ArrayLike | None = None,
    ) -> "FineTunedClassifier":
        """Train on labelled images.

        Parameters
        ----------
        X : images
            See `hybridus.inputs.images.as_images`.
        y : array-like of shape (n_samples,)
            Classes: integers, strings or booleans.
        sample_weight : array-like of shape (n_samples,), optional
            Samples of weight 0 are left out.
        groups : array-like of shape (n_samples,), optional
            Samples of one group (duplicates, one patient) stay on one side of the validation split.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            For images on a wrong scale or of a wrong shape, fewer than two classes, layers that
            `trainable` does not name, or nothing to hold out.
        WeightsNotFoundError
            Where the weights cannot be had.
        hybridus.exceptions.DivergedError
            Where the loss becomes NaN.

        Warns
        -----
        UserWarning
            Where Ctrl-C ended training early: the best weights so far are kept. In a search, a
            comparison, an ensemble or a worker it ends all the work, as Ctrl-C does elsewhere.
        """
        images, labels, weights = self._check(X, y, sample_weight, reset=True)
        before = self.classes_ if self.warm_start and hasattr(self, "variables_") else None
        classes, codes = np.unique(labels, return_inverse=True)
        if before is not None and not np.array_equal(before, classes):
            raise ValueError(
                f"warm_start=True: y has the classes {classes.tolist()}, the last fit had "
                f"{before.tolist()}; fit a new classifier"
            )
        counted = np.flatnonzero(weights > 0)
        if len(np.unique(codes[counted])) < 2:
            raise ValueError(
                "a classifier needs samples of two classes or more, got only one class: "
                f"{labels[counted].tolist()[0]!r}" + " (others have no weight)" * (len(classes) > 1)
            )
        self.classes_: NDArray = classes
        seed = self._seed()
        train, held_out = self._hold_out(codes, counted, groups, seed)
        self.held_out_ = held_out
        metadata = {} if sample_weight is None else {"sample_weight": sample_weight}
        start = {} if before is None else self.variables_
        with self._prepared(images, codes, weights, train, held_out) as (network, samples, held):
            network.reset(
                {**self._new_head(network.shapes, seed), **start},
                seed,
                learning_rate=self.learning_rate,
            )
            self._train(network, samples, held, seed, X=X, y=y, metadata=metadata)
        self.__dict__.pop("_optimizer_state", None)
        return self

    @all_or_nothing
    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(
        self,
        X: Any,
        y: ArrayLike,
        classes: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
    ) -> "FineTunedClassifier":
        """Train for one epoch on these images alone, from where the last call left off.

        Nothing is held out; `learning_rate` is that of the estimator now, and the optimizer keeps
        its state from call to call, so that it cannot be changed for another.

        Parameters
        ----------
        X : images
        y : array-like of shape (n_samples,)
        classes : array-like, optional
            All classes that will ever come; needed by the first call.
        sample_weight : array-like of shape (n_samples,), optional

        Returns
        -------
        self
        """
        from hybridus.training.loop import train

        first = not hasattr(self, "variables_")
        images, labels, weights = self._check(X, y, sample_weight, reset=first)
        _check_partial_fit_first_call(self, classes)
        unknown = np.setdiff1d(labels, self.classes_)
        if len(unknown):
            raise ValueError(
                f"y has the class {unknown.tolist()[0]!r}; the first call named "
                f"{self.classes_.tolist()}"
            )
        optimizer = json.dumps(self.optimizer, sort_keys=True)
        before, state = getattr(self, "_optimizer_state", (optimizer, None))
        if optimizer != before:
            raise ValueError(
                f"optimizer={self.optimizer!r}: the last partial_fit used {json.loads(before)!r}, "
                "whose state means nothing to another; change it back, or call fit"
            )
        codes = np.searchsorted(self.classes_, labels)
        counted = np.flatnonzero(weights > 0)
        done = 0 if first else self.n_iter_
        seed = self._seed()
        with self._prepared(images, codes, weights, counted, counted[:0]) as (network, samples, _):
            network.reset(
                self._new_head(network.shapes, seed) if first else self.variables_,
                seed + done,
                learning_rate=self.learning_rate,
                optimizer_values=state,
            )
            plan = replace(self._plan(), max_epochs=1, early_stopping=False, lr_schedule=None)
            outcome = train(network, samples, None, plan, np.random.default_rng([seed, done]))
            if outcome.interrupted:
                raise KeyboardInterrupt
            self._optimizer_state = (optimizer, network.optimizer_values())
        for row in outcome.history:
            row["epoch"] = done + 1
        learned = self._learned(outcome)
        if not first:
            learned["_history"] = [*self._history, *learned["_history"]]
        learned["held_out_"] = np.array([], dtype=np.intp)  # of what was held out all may be here
        learned["n_iter_"] = learned["best_epoch_"] = len(learned["_history"])
        self._keep(learned)
        return self

    def predict_proba(self, X: Any) -> NDArray[np.float64]:
        """Probability of each class.

        Parameters
        ----------
        X : images
            See `hybridus.inputs.images.as_images`; files are decoded in parts, so memory does not
            grow with their number.

        Returns
        -------
        array of shape (n_samples, n_classes)
            In the order of `classes_`; rows sum to 1.
        """
        check_is_fitted(self, "variables_")
        images = validate_images(self, X, reset=False, image_shape=self.image_shape)
        found = [part for images in decoded_parts(images) for part in self._outputs(images)]
        probabilities = np.concatenate(found).astype(np.float64)
        return probabilities / probabilities.sum(axis=1, keepdims=True)

    def predict(self, X: Any) -> NDArray:
        """Most probable class of each image.

        Parameters
        ----------
        X : images
            See `hybridus.inputs.images.as_images`.

        Returns
        -------
        array of shape (n_samples,)
        """
        codes = self.predict_proba(X).argmax(axis=1)
        return self.classes_[codes]

    def _check(
        self, X: Any, y: Any, sample_weight: Any, *, reset: bool
    ) -> tuple[Images, NDArray, NDArray[np.float64]]:
        images = validate_images(self, X, reset=reset, image_shape=self.image_shape)
        labels = check_labels(y)
        check_consistent_length(range(len(images)), labels)
        weights = _check_sample_weight(
            sample_weight, labels, dtype=np.float64, ensure_non_negative=True
        )
        return images, labels, self._with_class_weight(labels, weights)

    def _with_class_weight(
        self, labels: NDArray, weights: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Multiply sample weights by those of the classes; "balanced" counts by sample weight."""
        counted = weights > 0
        classes, codes = np.unique(labels[counted], return_inverse=True)
        of_class = compute_class_weight(
            self.class_weight, classes=classes, y=labels[counted], sample_weight=weights[counted]
        )
        weighted = np.zeros_like(weights)
        weighted[counted] = weights[counted] * of_class[codes]
        return weighted

    @contextmanager
    def _prepared(
        self,
        images: Images,
        codes: NDArray[np.intp],
        weights: NDArray[np.float64],
        train: NDArray[np.intp],
        held_out: NDArray[np.intp],
    ) -> Iterator[tuple["TrainableNetwork", "Samples", "HeldOut | None"]]:
        """Lend a network and give it what it trains on: pixels, or activations at the cut."""
        from hybridus.training.loop import HeldOut, Samples, lease

        self._resolve()
        targets = np.eye(len(self.classes_), dtype=np.float32)[codes]
        scaled = (weights / weights[train].mean()).astype(np.float32)
        partition, batches, held_batches = self._open_parts(images, train, held_out)

        def draw(rows: NDArray[np.intp], rng: np.random.Generator) -> tuple[NDArray, NDArray]:
            return batches.drawn(rows, rng)[0], targets[train[rows]]

        held = None
        if held_batches is not None:
            held = HeldOut(
                lambda: plain_batches(held_batches, len(held_out)),
                targets[held_out],
                scaled[held_out],
            )
        with lease(self._key(partition), partial(self._build, partition)) as network:
            yield network, Samples(scaled[train], draw), held

    def _resolve(self) -> None:
        if not all(isinstance(w, Integral) and w > 0 for w in self.hidden_layer_sizes):
            raise ValueError(
                f"hidden_layer_sizes={self.hidden_layer_sizes!r}: expected numbers of units, each "
                "1 or more"
            )
        self.frozen_ = self._freeze()

    def _key(self, partition: "Partition") -> Hashable:
        """Everything that is traced into the network, or that resetting does not restore."""
        return (
            "classifier",
            self.frozen_.network_fingerprint,
            partition,
            len(self.classes_),
            tuple(self.hidden_layer_sizes),
            self.dropout_rate,
            self.label_smoothing,
            json.dumps(self.optimizer, sort_keys=True),
            self.precision,
        )

    def _build(self, partition: "Partition") -> "TrainableNetwork":
        from hybridus.training.networks.classifier import build_classifier

        return build_classifier(
            self.frozen_,
            partition,
            n_classes=len(self.classes_),
            hidden_layer_sizes=self.hidden_layer_sizes,
            dropout_rate=self.dropout_rate,
            label_smoothing=self.label_smoothing,
            optimizer=self.optimizer,
            policy=POLICIES[self.precision],
        )

    @staticmethod
    def _new_head(shapes: dict[str, tuple[int, ...]], seed: int) -> dict[str, NDArray]:
        """Draw new values for the layers that are not the encoder's."""
        head = {
            path: shape
            for path, shape in shapes.items()
            if path.startswith(("scaler/", "hidden_", "softmax/"))
        }
        return draw_variables(head, seed)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tag_images(self, tags)
        return tags
