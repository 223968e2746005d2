"""`DeepFeatureExtractor`: joins images, store and frozen encoder into a transformer."""

import copy
import hashlib
import itertools
import json
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import KW_ONLY, dataclass, replace
from numbers import Integral
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, TransformerMixin, clone
from sklearn.exceptions import NotFittedError
from sklearn.utils.validation import check_is_fitted

from hybridus._sklearn import (
    Interval,
    StrOptions,
    _check_feature_names_in,
    _fit_context,
    _get_output_config,
)
from hybridus.encoders.carried import CarriedNetwork
from hybridus.encoders.engine import (
    Engine,
    EngineChoice,
    PrecisionChoice,
    carries,
    carry_frozen,
    choose_engine,
    hand_over,
    open_engine,
    resolve_precision,
)
from hybridus.encoders.frozen import POOLINGS, FrozenEncoder, Pooling, freeze
from hybridus.encoders.registry import EncoderSpec
from hybridus.estimators.fitting import all_or_nothing
from hybridus.estimators.lazy import example_of, is_lazy, transform_lazily
from hybridus.estimators.on_images import OnImages
from hybridus.estimators.parameters import with_parameters
from hybridus.estimators.spread import spread_rows, spreads
from hybridus.estimators.stored_rows import keyed_rows_of, stack, with_progress
from hybridus.inputs.heard import tell_progress
from hybridus.inputs.images import Images, tag_images, validate_images
from hybridus.inputs.labels import check_any_labels
from hybridus.inputs.resizing import Resize, resize_image, widen
from hybridus.inputs.scanner import VIEWS_VERSION, ScannerChange
from hybridus.store.rows import FeatureStore, store_of

# The parameters that decide a row; a change of one of them after `fit` asks for a new `fit`.
_DECIDING = (
    "encoder",
    "weights",
    "layers",
    "pooling",
    "image_size",
    "resize",
    "views",
    "precision",
)


@with_parameters
class DeepFeatureExtractor(OnImages, TransformerMixin, BaseEstimator):
    """Turn images into features of a frozen pretrained CNN.

    Every tapped layer is pooled over its positions, and the pooled vectors are concatenated. The
    network never changes, so `fit` learns nothing from the images: it resolves layers, input size
    and weights, and remembers the digest of the weights.

    Parameters
    ----------
    encoder : str, path or EncoderSpec, default="mobilenet_v2"
        Name of an encoder (`list_encoders`), its row (`register_encoder`), or the path of a network
        that Keras saved, ``"model.keras"``, which preprocesses inside and comes with its weights.
        Open only files you trust.
    weights : {"imagenet", "bundled", "random"} or path, default="imagenet"
        "imagenet" is looked for in the folders of the environment variable ``HYBRIDUS_WEIGHTS``,
        then in Keras's cache, then downloaded by Keras; "bundled" ships with hybridus; "random" is
        untrained, drawn from seed 0; a path leads to a .safetensors, .weights.h5 or .h5 file.
    layers : {"multi", "last"} or list of str, default="multi"
        Layers whose outputs are used: the encoder's default set of several (of an encoder that
        names none, its last), the last one, as has mostly been reported, or layers by name. Several
        were better than the last one for every encoder measured, by one to four points of accuracy
        on breast ultrasound with the same head (`benchmarks.busi_classification`).
    pooling : {"avg", "max", "avgmax", "gem", "std", "gram", "pyramid", "flatten"} or list, \
default="avg"
        How positions are pooled: average, maximum, both, generalised mean with exponent 3
        (Radenovic et al. 2019, arXiv:1711.02512), standard deviation, products of channels (64
        random mixtures of them where there are more: 2,080 signed roots of mean products; Gatys et
        al. 2015, arXiv:1505.07376), averages of the whole and of its four quarters (Lazebnik et al.
        2006, CVPR), or not at all. A list gives several, side by side for each layer.
    image_size : int or (int, int), default=None
        Height and width in pixels to which images are resized; None is the encoder's own.
    resize : {"stretch", "pad"}, default="stretch"
        "pad" keeps the aspect ratio and centres the image on black.
    views : list of {"mirror"} and ScannerChange, default=()
        Further views of each image: its features are the mean of those of the image itself and of
        all these, each of which is computed once and kept (`hybridus.inputs.scanner`).
    engine : {"auto", "keras", "openvino"}, default="auto"
        What runs the network; "auto" is OpenVINO on a CPU, and Keras where it sees a GPU or
        OpenVINO is absent. Both give the same float32 features to 1e-4 relative.
    precision : {"float32", "bfloat16", "auto"}, default="float32"
        "bfloat16" is about twice as fast on processors that have it, and differs by up to a few
        per cent in single features (0.4 to 0.8 % of the largest); OpenVINO only. On others it is no
        faster, and warned of. "auto" is settled by `fit` and stays so wherever the model goes:
        "bfloat16", with that error, on a processor that has it, else "float32", with none.
    batch_size : int, default=None
        Images that go through the network at a time; it changes speed and memory, not features.
        None is 2 with OpenVINO, which runs several batches at a time, and 32 with Keras.
    cache : bool, path or FeatureStore, default=True
        Where feature rows are kept, so that an image is encoded once and not once a fold, candidate
        and run: True is the folder ``HYBRIDUS_CACHE``, else the user's cache folder; a path another
        folder; False nowhere. Rows derive from the images: see `FeatureStore`.
    n_jobs : int, default=None
        Workers that encode images which are not kept yet, by the backend of joblib that is set:
        processes of this machine, or with ``joblib.parallel_config("dask")`` those of a cluster.
        None is what `joblib.parallel_config` around the call says, else 1, and 1 within another
        job; -1 is all there are. Workers open files themselves, under the same paths; arrays are
        sent. It decides no feature.
    verbose : int, default=0
        1 shows a progress bar on standard error.

    Attributes
    ----------
    frozen_ : FrozenEncoder
        What decides a feature, as plain data: encoder, layers, pooling, input size, precision and
        the digest of the weights.
    network_ : CarriedNetwork or None
        The exported network, where the extractor comes from a file of `hybridus.save` that holds
        it: then neither weights nor Keras are needed, unless with ``engine="keras"``.

    Notes
    -----
    Pickles are small and hold no network: it is built again where it is needed, from the same
    weights; other weights under the same name are an error.

    Images are checked as `hybridus.inputs.images.as_images` says: floats in 0..1, uint8, uint16,
    bool, arrays, lists or paths.

    Examples
    --------
    >>> import numpy as np
    >>> from hybridus import DeepFeatureExtractor
    >>> images = np.random.default_rng(0).random((4, 40, 56))
    >>> extractor = DeepFeatureExtractor("mobilenet_v2_0.35", weights="bundled", image_size=32)
    >>> extractor.fit_transform(images).shape
    (4, 1552)
    """

    encoder: str | os.PathLike | EncoderSpec = "mobilenet_v2"
    _: KW_ONLY
    weights: str | os.PathLike = "imagenet"
    layers: str | Sequence[str] = "multi"
    pooling: Pooling | Sequence[Pooling] = "avg"
    image_size: int | tuple[int, int] | None = None
    resize: Resize = "stretch"
    views: Sequence[str | ScannerChange] = ()
    engine: EngineChoice = "auto"
    precision: PrecisionChoice = "float32"
    batch_size: int | None = None
    cache: bool | str | os.PathLike | FeatureStore = True
    n_jobs: int | None = None
    verbose: int = 0

    _parameter_constraints: ClassVar[dict] = {
        "encoder": [str, os.PathLike, EncoderSpec],
        "weights": [str, os.PathLike],
        "layers": [StrOptions({"last", "multi"}), list, tuple],
        "pooling": [StrOptions(set(POOLINGS)), list, tuple],
        "image_size": [None, Interval(Integral, 1, None, closed="left"), tuple, list],
        "resize": [StrOptions({"stretch", "pad"})],
        "views": [list, tuple],
        "engine": [StrOptions({"auto", "keras", "openvino"})],
        "precision": [StrOptions({"float32", "bfloat16", "auto"})],
        "batch_size": [None, Interval(Integral, 1, None, closed="left")],
        "cache": ["boolean", str, os.PathLike, FeatureStore],
        "n_jobs": [None, Integral],
        "verbose": ["verbose"],
    }

    @all_or_nothing
    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any = None) -> "DeepFeatureExtractor":
        """Check the images and settle layers, input size and weights.

        Parameters
        ----------
        X : images
            See `hybridus.inputs.images.as_images`. Files are not read yet, and nothing of a
            collection of Dask's is computed.
        y : ignored
            But for labels of which some are missing or of another kind than the rest.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            For images on a wrong scale or of a wrong shape, an unknown encoder or layer, and labels
            that the classifier behind it would take for others.
        WeightsNotFoundError
            Where the weights cannot be had.
        """
        seen = example_of(X) if is_lazy(X) else X
        validate_images(self, seen, reset=True, image_shape=self.image_shape)
        if not is_lazy(y):
            check_any_labels(y)
        resolve_views(self.views)
        engine = choose_engine(self.engine, self.precision)
        self.frozen_ = freeze(
            self.encoder,
            weights=self.weights,
            layers=self.layers,
            pooling=self.pooling,
            image_size=self.image_size,
            resize=self.resize,
            engine=engine,
            precision=resolve_precision(self.precision, engine),
        )
        self.network_: CarriedNetwork | None = None
        self._fitted_with = self._deciding()
        declared = {*self.frozen_.spec.taps, self.frozen_.spec.last, "output"}
        if not declared.issuperset(self.frozen_.taps):
            _ = self._open().widths  # only the network knows its other layers
        return self

    def preflight(self, X: Any) -> None:
        """Find out, without encoding images, whether `fit` and `transform` could do their work.

        Weights must be at hand, layers must exist, and the network must take the input size.

        Parameters
        ----------
        X : images
            See `hybridus.inputs.images.as_images`. Files are not read.

        Raises
        ------
        ValueError
            For parameters, layers or sizes that cannot be, and images of a wrong form.
        WeightsNotFoundError
            Where the weights cannot be had.
        """
        draft = clone(self).fit(X)
        if draft.frozen_.image_size != draft.frozen_.spec.image_size:
            _ = draft._open().widths  # only the network knows what sizes it takes

    def transform(self, X: Any) -> Any:
        """Compute the features of images.

        Parameters
        ----------
        X : images
            See `hybridus.inputs.images.as_images`; files are decoded in batches. Or a Dask array of
            images, or a Dask Series or column of paths, of which nothing is computed yet.

        Returns
        -------
        array of shape (n_images, n_features), float32
            For a Dask array a Dask array, for paths of a Dask Series or DataFrame a Dask DataFrame.

        Raises
        ------
        ValueError
            For images on a wrong scale or of a wrong shape, and files that cannot be decoded.
        NotFittedError
            Before `fit`, and where a parameter that decides features was changed since.
        """
        self._check_unchanged()
        if is_lazy(X):
            return self._transform_lazily(X)
        images = validate_images(self, X, reset=False, image_shape=self.image_shape)
        views: list[ScannerChange | None] = [None, *resolve_views(self.views)]
        encoded = 0

        def tell(n_images: int) -> None:
            nonlocal encoded
            encoded += n_images
            tell_progress("image", encoded, len(images) * len(views))

        rows_of_view = self._spread if spreads(self.n_jobs) else self._rows
        total: NDArray[np.float32] | None = None
        for view in views:
            found = rows_of_view(images, view, tell)
            total = found if total is None else np.add(total, found, out=total)
        assert total is not None
        return total if len(views) == 1 else np.divide(total, len(views), out=total)

    def _rows(
        self, images: Images, view: ScannerChange | None, tell: Callable[[int], None]
    ) -> NDArray[np.float32]:
        """Rows of one view of all images, computed here."""
        indices: Iterable[int] = range(len(images))
        if self.verbose:
            indices = with_progress(indices, len(images), self._shown(view))
        parts = self._keyed_rows(images, indices, view, tell)
        return stack((rows for _, rows in parts), len(images))

    def _keyed_rows(
        self,
        images: Images,
        indices: Iterable[int],
        view: ScannerChange | None,
        tell: Callable[[int], None],
    ) -> Iterator[tuple[list[bytes], NDArray[np.float32]]]:
        frozen = self._frozen()

        def encode(prepared: Iterable[NDArray]) -> Iterator[NDArray[np.float32]]:
            engine = self._open()
            for rows in engine.run(_batches(prepared, engine.batch_size)):
                tell(len(rows))
                yield rows

        return keyed_rows_of(
            images,
            indices,
            prepare=_preparer(frozen, view),
            compute=encode,
            store=store_of(self.cache),
            fingerprint=_of_view(frozen, view),
        )

    def _spread(
        self, images: Images, view: ScannerChange | None, tell: Callable[[int], None]
    ) -> NDArray[np.float32]:
        """Rows of one view of all images, those that are missing computed by workers."""
        worker = self._for_workers()
        worker.network_ = None  # it is sent once, and not with each chunk
        bar: Iterator[int] = iter(())
        if self.verbose:
            bar = with_progress(range(len(images)), len(images), self._shown(view))

        def advance(n_images: int) -> None:
            deque(itertools.islice(bar, n_images), maxlen=0)

        found = spread_rows(
            images,
            _Worker(worker, view, self._carried() is not None),
            network=self._network_to_send,
            store=store_of(self.cache),
            fingerprint=_of_view(self._frozen(), view),
            n_jobs=self.n_jobs,
            encoded=tell,
            seen=advance,
        )
        advance(len(images))  # and the bar ends
        return found

    def _transform_lazily(self, X: Any) -> Any:
        validate_images(self, example_of(X), reset=False, image_shape=self.image_shape)
        if _get_output_config("transform", self)["dense"] != "default":
            raise ValueError(
                "set_output asks for a table in memory, but X is a collection of Dask's: a lazy "
                'answer is given with set_output(transform="default"), and one in memory for '
                "X.compute()"
            )
        return transform_lazily(self._for_workers(), X, list(self.get_feature_names_out()))

    def _for_workers(self) -> "DeepFeatureExtractor":
        """Copy that does its work alone, in the folder of this process and not its own choice."""
        worker = copy.copy(self).set_params(n_jobs=1, verbose=0)
        if (store := store_of(self.cache)) is not None:
            given = isinstance(self.cache, FeatureStore)
            there = store.location
            worker.cache = replace(store, folder=there) if given else str(there)
        return worker

    def _network_to_send(self) -> list[NDArray]:
        """Export the network, if OpenVINO runs it, before workers ask for it."""
        if self._frozen().engine != "openvino":
            return []
        network = self._carried()
        if network is None:
            store = store_of(self.cache)
            network = carry_frozen(self._frozen(), cache=None if store is None else store.location)
        return [network.xml, network.weights]

    def _shown(self, view: ScannerChange | None) -> str:
        return f"{self._frozen().spec.name} features" + (f", {view.kind}" if view else "")

    def get_feature_names_out(self, input_features: Any = None) -> NDArray[np.object_]:
        """Names of the features: encoder, layer, pooling and number.

        Parameters
        ----------
        input_features : array of str, optional
            Checked against the names and the number of columns that `fit` saw, and not used.

        Returns
        -------
        array of str, shape (n_features,)
        """
        self._check_unchanged()
        _check_feature_names_in(self, input_features, generate_names=False)
        frozen = self._frozen()
        names = [
            f"{frozen.spec.name}_{tap}_{frozen.pooling}{i}"
            for tap, width in zip(frozen.taps, self._open().widths, strict=True)
            for i in range(width)
        ]
        return np.asarray(names, dtype=object)

    def _deciding(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in _DECIDING}

    def _check_unchanged(self) -> None:
        check_is_fitted(self)
        now = self._deciding()
        changed = [name for name in now if now[name] != self._fitted_with.get(name, now[name])]
        if changed:
            raise NotFittedError(
                f"{', '.join(changed)} of this DeepFeatureExtractor changed since fit "
                f"({changed[0]} was {self._fitted_with[changed[0]]!r}, is {now[changed[0]]!r}); "
                "call fit again"
            )

    def _carried(self) -> CarriedNetwork | None:
        return carries(self.engine, getattr(self, "network_", None))

    def _carry(self) -> CarriedNetwork:
        """Export the network, or hand on the one that is carried."""
        return self._carried() or carry_frozen(replace(self.frozen_, engine="openvino"))

    def _frozen(self) -> FrozenEncoder:
        if (carried := self._carried()) is not None:
            return replace(self.frozen_, engine="openvino", carried=carried.digest)
        return replace(self.frozen_, engine=choose_engine(self.engine, self.frozen_.precision))

    def _open(self) -> Engine:
        store = store_of(self.cache)
        cache = None if store is None else store.location
        return open_engine(
            self._frozen(), batch_size=self.batch_size, cache=cache, carried=self._carried()
        )

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tag_images(self, tags)
        tags.transformer_tags.preserves_dtype = ["float32"]
        return tags


@dataclass(frozen=True)
class _Worker:
    """What a worker does with its images."""

    extractor: DeepFeatureExtractor
    view: ScannerChange | None
    carries: bool  # whether the network that comes is the extractor's own

    def __call__(
        self, images: Images, *network: NDArray
    ) -> Iterator[tuple[list[bytes], NDArray[np.float32]]]:
        extractor = copy.copy(self.extractor)
        if network:
            received = CarriedNetwork(*network)
            if self.carries:
                extractor.network_ = received
            else:
                store = store_of(extractor.cache)
                cache = None if store is None else store.location
                hand_over(extractor._frozen(), received, cache=cache)
        return extractor._keyed_rows(images, range(len(images)), self.view, lambda _: None)


def _batches(prepared: Iterable[NDArray], batch_size: int) -> Iterator[NDArray]:
    prepared = iter(prepared)
    while batch := list(itertools.islice(prepared, batch_size)):
        yield widen(batch)


def resolve_views(views: Sequence[str | ScannerChange]) -> list[ScannerChange]:
    """Resolve names of views and changes into changes.

    Raises
    ------
    ValueError
        For an unknown name, and for anything else.
    """
    if isinstance(views, str) or not all(isinstance(one, str | ScannerChange) for one in views):
        raise ValueError(
            f"views={views!r}: expected a list of 'mirror' and ScannerChange, as ['mirror']"
        )
    return [ScannerChange(one) if isinstance(one, str) else one for one in views]


def _preparer(frozen: FrozenEncoder, view: ScannerChange | None) -> Callable[[NDArray], NDArray]:
    def prepare(image: NDArray) -> NDArray:
        seen = image if view is None else view(image)
        return resize_image(seen, frozen.image_size, resize=frozen.resize)

    return prepare


def _of_view(frozen: FrozenEncoder, view: ScannerChange | None) -> str:
    """Fingerprint of the rows of one view of images."""
    if view is None:
        return frozen.fingerprint
    told = [frozen.fingerprint, VIEWS_VERSION, view.kind, float(view.strength)]
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()
