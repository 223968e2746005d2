"""`FineTunedClassifier`: joins images, stored activations and training into a classifier."""

import json
import os
from collections.abc import Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any, ClassVar, Literal

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
from hybridus.encoders.engine import EngineChoice, choose_engine
from hybridus.encoders.frozen import freeze
from hybridus.encoders.registry import EncoderSpec
from hybridus.encoders.weights import draw_variables
from hybridus.estimators.fitting import all_or_nothing
from hybridus.estimators.network import NetworkEstimator, plain_batches, stored_bytes
from hybridus.inputs.augmentation import Augmentation
from hybridus.inputs.images import Images, validate_images
from hybridus.inputs.labels import check_labels
from hybridus.inputs.resizing import Resize
from hybridus.training.batches import open_batches

if TYPE_CHECKING:
    from hybridus.encoders.partition import Partition
    from hybridus.training.batches import Batches
    from hybridus.training.loop import HeldOut, Samples, TrainableNetwork

_POLICIES = {"float32": "float32", "bfloat16": "mixed_bfloat16"}


class FineTunedClassifier(ClassifierMixin, NetworkEstimator):
    """Classify images with a pretrained CNN of which all, some or none of the layers are trained.

    The network is the encoder, average pooling over positions, hidden layers with dropout, and a
    softmax over the classes. A validation part is held out inside `fit`, stratified and with
    groups kept whole; training stops when its loss no longer falls, and the best weights are kept.

    Layers that no trained layer precedes give the same for an image in every epoch: with
    ``trainable="none"`` or ``"last:20"`` they run once for each image, shared by all fits of the
    process, and only the rest is trained.

    Parameters
    ----------
    encoder : str or EncoderSpec, default="mobilenet_v2"
        Name of a registered encoder (`list_encoders`), or its row (`register_encoder`).
    weights : {"imagenet", "bundled", "random"} or path, default="imagenet"
        Where training starts; see `DeepFeatureExtractor`.
    layers : {"last", "multi"} or list of str, default="last"
        Layers whose pooled outputs the head sees, side by side; see `DeepFeatureExtractor`.
    trainable : str, default="last:20"
        Which layers of the encoder are trained: "none", "all", "first:10" (as Keras lists them,
        the input layer counted), "last:20", or the beginning of layer names, such as "block_16".
        Batch normalisation is never trained and stays in inference mode, since statistics of small
        batches throw away what was learned; only with ``weights="random"`` does that of trained
        layers take the statistics of each batch.
    hidden_layer_sizes : sequence of int, default=(128,)
        Units of the layers between pooling and softmax, with ReLU; may be empty.
    dropout_rate : float, default=0.3
        Share of hidden units that are dropped in training, after each hidden layer.
    augmentation : {"light", "strong"}, Augmentation or None, default="light"
        How training images are varied; validation images never are.
    n_views : int, default=8
        Where activations are stored, the number of fixed views of each image that augmentation
        draws from, the image itself among them. Otherwise each batch is augmented anew.
    image_size : int or (int, int), default=None
        Height and width in pixels to which images are resized; None is the encoder's own.
    image_shape : tuple of int, default=None
        Shape of images that are given as flattened rows; see `DeepFeatureExtractor`.
    resize : {"stretch", "pad"}, default="stretch"
        "pad" keeps the aspect ratio and centres the image on black.
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
        Share of the samples held out; None trains on all and validates nothing.
    patience : int, default=10
        Epochs.
    batch_size : int, default=32
        Images in a step.
    max_epochs : int, default=50
        Largest number of epochs.
    class_weight : dict, "balanced" or None, default=None
        As in scikit-learn; multiplied with `sample_weight`, and scaled to a mean of 1.
    label_smoothing : float, default=0.0
        Share of each label that is spread over all classes (Szegedy et al. 2016).
    warm_start : bool, default=False
        Start `fit` from the weights of the last one instead of `weights` and a new head.
    precision : {"float32", "bfloat16"}, default="float32"
        "bfloat16" computes in mixed precision; weights stay float32. A stored prefix is computed
        in float32 all the same.
    engine : {"auto", "keras", "openvino"}, default="auto"
        What runs the frozen part, once for each image; see `DeepFeatureExtractor`. With "keras"
        training is the same to the bit as without stored activations; OpenVINO is up to three
        times faster, and its differences of 1e-6 grow in training.
    cache : bool, default=True
        Keep activations of the frozen part in memory-mapped files of this process, up to
        ``HYBRIDUS_ACTIVATION_GIB`` (default 4). False computes them in every step, as does a part
        that is larger.
    random_state : int, RandomState or None, default=None
        Decides head, validation part, order, augmentation and dropout; the same seed and number of
        threads give the same model. Global seeds are neither used nor changed.
    verbose : int, default=0
        1 prints a line an epoch.

    Attributes
    ----------
    classes_ : array of shape (n_classes,)
    history_ : DataFrame
        A row an epoch: ``loss, accuracy, precision, recall, f1`` (the last three means over the
        classes) while training, the same with ``val_`` for the validation part, ``learning_rate``
        and ``seconds``. Weights count in losses only.
    n_iter_ : int
        Epochs trained.
    best_epoch_ : int
        Epoch with the lowest watched loss; with `early_stopping` its weights are kept.
    variables_ : dict of str to array
        Values of all variables that were trained, by their path; the others are those of the
        weights file.
    frozen_ : FrozenEncoder
        Encoder, input size and digest of the weights as plain data.
    n_features_in_ : int
        Values in one image, where all images had one shape.

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

    classes_: NDArray

    _parameter_constraints: ClassVar[dict] = {
        "encoder": [str, EncoderSpec],
        "weights": [str, os.PathLike],
        "layers": [StrOptions({"last", "multi"}), list, tuple],
        "trainable": [str],
        "hidden_layer_sizes": [tuple, list],
        "dropout_rate": [Interval(Real, 0, 1, closed="left")],
        "augmentation": [str, Augmentation, None],
        "n_views": [Interval(Integral, 1, None, closed="left")],
        "image_size": [None, Interval(Integral, 1, None, closed="left"), tuple, list],
        "image_shape": [None, tuple, list],
        "resize": [StrOptions({"stretch", "pad"})],
        "optimizer": [str, dict],
        "learning_rate": [Interval(Real, 0, None, closed="neither")],
        "lr_schedule": [StrOptions({"plateau", "cosine"}), None],
        "early_stopping": ["boolean"],
        "validation_fraction": [Interval(Real, 0, 1, closed="neither"), None],
        "patience": [Interval(Integral, 1, None, closed="left")],
        "batch_size": [Interval(Integral, 1, None, closed="left")],
        "max_epochs": [Interval(Integral, 1, None, closed="left")],
        "class_weight": [dict, StrOptions({"balanced"}), None],
        "label_smoothing": [Interval(Real, 0, 1, closed="left")],
        "warm_start": ["boolean"],
        "precision": [StrOptions(set(_POLICIES))],
        "engine": [StrOptions({"auto", "keras", "openvino"})],
        "cache": ["boolean"],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
    }

    def __init__(
        self,
        encoder: str | EncoderSpec = "mobilenet_v2",
        *,
        weights: str | os.PathLike = "imagenet",
        layers: str | Sequence[str] = "last",
        trainable: str = "last:20",
        hidden_layer_sizes: Sequence[int] = (128,),
        dropout_rate: float = 0.3,
        augmentation: str | Augmentation | None = "light",
        n_views: int = 8,
        image_size: int | tuple[int, int] | None = None,
        image_shape: tuple[int, ...] | None = None,
        resize: Resize = "stretch",
        optimizer: str | Mapping[str, Any] = "adam",
        learning_rate: float = 1e-3,
        lr_schedule: Literal["plateau", "cosine"] | None = "plateau",
        early_stopping: bool = True,
        validation_fraction: float | None = 0.15,
        patience: int = 10,
        batch_size: int = 32,
        max_epochs: int = 50,
        class_weight: dict | str | None = None,
        label_smoothing: float = 0.0,
        warm_start: bool = False,
        precision: Literal["float32", "bfloat16"] = "float32",
        engine: EngineChoice = "auto",
        cache: bool = True,
        random_state: Any = None,
        verbose: int = 0,
    ) -> None:
        self.encoder = encoder
        self.weights = weights
        self.layers = layers
        self.trainable = trainable
        self.hidden_layer_sizes = hidden_layer_sizes
        self.dropout_rate = dropout_rate
        self.augmentation = augmentation
        self.n_views = n_views
        self.image_size = image_size
        self.image_shape = image_shape
        self.resize = resize
        self.optimizer = optimizer
        self.learning_rate = learning_rate
        self.lr_schedule = lr_schedule
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.patience = patience
        self.batch_size = batch_size
        self.max_epochs = max_epochs
        self.class_weight = class_weight
        self.label_smoothing = label_smoothing
        self.warm_start = warm_start
        self.precision = precision
        self.engine = engine
        self.cache = cache
        self.random_state = random_state
        self.verbose = verbose

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
        self.classes_ = classes
        seed = self._seed()
        train, held_out = self._hold_out(codes, counted, groups, seed)
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
        probabilities = np.concatenate(list(self._outputs(images))).astype(np.float64)
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

        self._settle()
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

    def _settle(self) -> None:
        if not all(isinstance(w, Integral) and w > 0 for w in self.hidden_layer_sizes):
            raise ValueError(
                f"hidden_layer_sizes={self.hidden_layer_sizes!r}: expected numbers of units, each "
                "1 or more"
            )
        self.frozen_ = freeze(
            self.encoder,
            weights=self.weights,
            layers=self.layers,
            pooling="avg",
            image_size=self.image_size,
            resize=self.resize,
            engine=choose_engine(self.engine, "float32"),
            precision="float32",
        )

    def _activation_bytes(self, partition: "Partition", n_images: int) -> float:
        return stored_bytes(self, partition, n_images, "float32")

    def _partitions(self) -> list["Partition"]:
        from hybridus.encoders.partition import partitions

        return partitions(self.frozen_, self.trainable, cut=self.cache)

    def _open(
        self, images: Images, partition: "Partition", augmentation: Augmentation | None = None
    ) -> "Batches | None":
        return open_batches(
            images, self.frozen_, partition, augmentation=augmentation, n_views=self.n_views
        )

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
            policy=_POLICIES[self.precision],
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
        tags.input_tags.positive_only = True
        tags.input_tags.three_d_array = True
        return tags
