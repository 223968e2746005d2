"""`fit_out_of_core`: a scaler and a head that learn from a data set of rows larger than memory."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.base import clone, is_classifier
from sklearn.metrics import accuracy_score, balanced_accuracy_score, f1_score
from sklearn.model_selection import GroupShuffleSplit
from sklearn.pipeline import Pipeline
from sklearn.utils import check_random_state
from sklearn.utils.class_weight import compute_class_weight

from hybridus.estimators.hybrid import make_head
from hybridus.estimators.scaler import FeatureScaler
from hybridus.extraction import parts
from hybridus.extraction.recipe import digest_of_rows, fitted_on, read_again
from hybridus.inputs.columns import check_column
from hybridus.inputs.heard import tell_progress

_STEP = 1024  # rows that the head is given at a time, as float64
_SEEN = 20_000  # rows that the head sees at least, the same ones again where there are fewer
_C = 0.01  # of logistic regression in `make_hybrid_classifier`


@dataclass(frozen=True, eq=False)
class OutOfCoreFit:
    """What `fit_out_of_core` has fitted, and what it is worth on rows that it did not learn from.

    Attributes
    ----------
    model : Pipeline
        Steps ``features``, ``scaler`` and ``head``: it takes images, and `hybridus.save` writes it.
    scores : dict of str to float
        ``accuracy``, ``balanced_accuracy`` and ``macro_f1`` on the rows held out; empty where none
        were.
    held_out : DataFrame
        ``file``, ``label`` and ``predicted`` of each of them.
    n_rows : int
        Rows that it learned from.
    """

    model: Pipeline
    scores: Mapping[str, float]
    held_out: pd.DataFrame = field(repr=False)
    n_rows: int


def fit_out_of_core(
    rows: str | os.PathLike[str],
    head: Any = "sgd",
    *,
    target: str = "label",
    scaler: Any = None,
    epochs: int | None = None,
    held_out: float = 0.2,
    groups: str = "key",
    mixed_rows: int = 32_768,
    extractor: Any = None,
    random_state: Any = None,
) -> OutOfCoreFit:
    """Fit a classifier on a data set of `extract`, in memory that does not grow with its rows.

    The first pass counts classes and teaches the scaler; each epoch then takes slices of all parts
    in another order, mixes the rows of several, and gives them to the head by ``partial_fit``.

    Parameters
    ----------
    rows : str or path
        Folder of a data set that `extract` has finished.
    head : "sgd" or classifier with ``partial_fit``, default="sgd"
        "sgd" is logistic regression by averaged stochastic gradient descent, balanced classes, with
        alpha = 100 / rows, which is C = 0.01, the default of `make_hybrid_classifier` (0.1 below
        1,000 rows, where larger ones learn nothing by steps so few). Of any head
        ``class_weight="balanced"`` becomes the weights of classes by their counts in all rows.
    target : str, default="label"
        Column of the classes.
    scaler : transformer with ``partial_fit``, default=None
        None is that of `make_hybrid_classifier`, a `StandardScaler` that answers in float64.
    epochs : int, default=None
        Times that the head sees each row; None is 5 or, of few rows, so many that it sees 20,000.
    held_out : float, default=0.2
        Share of the groups whose rows are not learned from, and give the scores; 0 learns from all.
    groups : str, default="key"
        Column of the groups that stay on one side. "key" keeps equal images together, but not scans
        of one patient, nor duplicates that differ in a pixel: scores flatter where there are such,
        unless `extract` was given a column of patients, or of `near_duplicate_groups`.
    mixed_rows : int, default=32768
        Rows that are in memory together and mixed: 32 slices of 1,024, drawn from all parts, so
        that it does not matter much in which order files were listed.
    extractor : transformer, default=None
        What made the rows; None is what is written down in the data set. Give it where that cannot
        be, as of an encoder of your own that is not registered here.
    random_state : int, RandomState or None, default=None
        Seed of the rows held out, of orders, and of the head "sgd".

    Returns
    -------
    OutOfCoreFit

    Raises
    ------
    ImportError
        Without pyarrow.
    ValueError
        For a data set that is not whole, a column that is not there or lacks values, one class
        alone, and an extractor that did not make these rows.
    TypeError
        For a head or scaler without ``partial_fit``.

    Notes
    -----
    Averaged descent: Xu, W. (2011),
    Towards optimal one pass large scale learning with averaged stochastic gradient descent,
    arXiv:1107.2490.

    Examples
    --------
    >>> import tempfile
    >>> from PIL import Image
    >>> from hybridus import TextureFeatures, extract, fit_out_of_core, make_breast_phantoms
    >>> phantoms = make_breast_phantoms(40, image_size=32, difficulty=0, random_state=0)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     files = [f"{folder}/{i}.png" for i in range(40)]
    ...     for file, image in zip(files, phantoms.images):
    ...         Image.fromarray(image).save(file)
    ...     extract(
    ...         files,
    ...         f"{folder}/rows.parquet",
    ...         extractor=TextureFeatures(cache=False),
    ...         labels=phantoms.target,
    ...     ).n_rows
    ...     fitted = fit_out_of_core(f"{folder}/rows.parquet", random_state=0)
    ...     said = fitted.model.predict(files[:2])
    40
    >>> sorted(fitted.scores), fitted.n_rows, said.shape
    (['accuracy', 'balanced_accuracy', 'macro_f1'], 32, (2,))
    """
    parts.check_pyarrow()
    data = _Rows.open(Path(rows))
    given_by_name = isinstance(head, str)
    head = _head(head)
    scaler = FeatureScaler() if scaler is None else clone(scaler)
    for name, step in (("head", head), ("scaler", scaler)):
        if not hasattr(step, "partial_fit"):
            raise TypeError(
                f"{name}: {type(step).__name__} has no partial_fit, by which it learns part by "
                "part; of scikit-learn SGDClassifier, MLPClassifier and GaussianNB, and "
                "StandardScaler and MaxAbsScaler, have one"
            )
    features = _features(data, extractor)
    rng = check_random_state(random_state)
    labels = data.column(target)
    labels = labels.astype(str) if labels.dtype == object else labels
    taught = _taught(labels, data.column(groups), held_out, rng)
    if given_by_name:
        n_rows = int(taught.sum())
        # The first steps are wild: what they lead to is no part of the mean.
        head.set_params(
            alpha=min(head.alpha, 1 / (_C * n_rows)),
            average=max(1, n_rows // 2),
            random_state=rng.randint(2**31),
        )
    classes = np.unique(labels[taught])
    _weigh_classes(head, classes, labels[taught])
    if epochs is None:
        epochs = max(5, math.ceil(_SEEN / taught.sum()))
    for number in range(len(data.slices)):
        X, _ = data.read(number, taught)
        if len(X):
            scaler.partial_fit(X)
        tell_progress("slice", number + 1, (epochs + 1) * len(data.slices))
    for X, places in _mixed(data, taught, epochs, mixed_rows, rng):
        head.partial_fit(scaler.transform(X), labels[places], classes=classes)
    model = Pipeline([("features", features), ("scaler", scaler), ("head", head)])
    answers = _answers(data, labels, ~taught, scaler, head)
    scores = _scores(answers) if len(answers) else {}
    return OutOfCoreFit(model, scores, answers, int(taught.sum()))


@dataclass(frozen=True)
class _Rows:
    """A finished data set, and its slices: groups of rows that are read together."""

    folder: Path
    files: list[Path]
    slices: list[tuple[Path, int, int, int]]  # file, group in it, first row and the one behind
    n_features: int
    asked: Mapping[str, Any]
    extractor: str | None

    @classmethod
    def open(cls, folder: Path) -> _Rows:
        import pyarrow.parquet as pq

        if not folder.is_dir():
            raise FileNotFoundError(f"{folder}: no such folder; expected a data set of extract")
        files = parts.part_files(folder)
        notes = [note for file in files if (note := parts.read_note(file)) is not None]
        if not notes or len(notes) < len(files):
            raise ValueError(f"{folder}: not a data set of extract, or one with damaged parts")
        first = notes[0]
        if len(files) != first["n_parts"] or any(n["asked"] != first["asked"] for n in notes):
            raise ValueError(
                f"{folder}: has {len(files)} of {first['n_parts']} parts; call extract again, "
                "which makes those that are missing"
            )
        slices, start = [], 0
        for file in files:
            about = pq.read_metadata(file)
            for group in range(about.num_row_groups):
                stop = start + about.row_group(group).num_rows
                slices.append((file, group, start, stop))
                start = stop
        return cls(folder, files, slices, first["n_features"], first["asked"], first["extractor"])

    def column(self, name: str) -> NDArray[Any]:
        """Read a column of all rows, of which none may be missing."""
        import pyarrow.parquet as pq

        known = pq.read_schema(self.files[0]).names[: -self.n_features]
        if name not in known:
            raise ValueError(
                f"{self.folder}: no column {name!r}; it has {', '.join(map(repr, known))} beside "
                "features. Labels and groups are given to extract"
            )
        values = [pq.ParquetFile(file).read([name]).column(0).to_pandas() for file in self.files]
        return check_column(pd.concat(values), name, "each row needs one to learn from")

    def read(self, number: int, wanted: NDArray[np.bool_]) -> tuple[NDArray, NDArray[np.intp]]:
        """Read the features of those rows of a slice that are wanted, and their places."""
        import pyarrow.parquet as pq

        path, group, start, stop = self.slices[number]
        places = start + np.flatnonzero(wanted[start:stop])
        if not len(places):
            return np.empty((0, self.n_features), np.float32), places
        file = pq.ParquetFile(path)
        names = file.schema_arrow.names[-self.n_features :]
        (batch,) = file.read_row_group(group, names).combine_chunks().to_batches()
        return batch.to_tensor(row_major=True).to_numpy()[places - start], places


def _head(head: Any) -> Any:
    if isinstance(head, str):
        if head != "sgd":
            raise ValueError(
                f"head={head!r}: expected 'sgd' or a classifier with partial_fit; others need all "
                "rows at a time"
            )
        return make_head(head, "balanced", None)
    if not is_classifier(head):
        raise TypeError(f"head: {type(head).__name__} is no classifier")
    return clone(head)


def _features(data: _Rows, extractor: Any) -> Any:
    if extractor is None:
        if data.extractor is None:
            raise ValueError(
                f"{data.folder}: what made its rows could not be written down; give it as "
                "extractor="
            )
        return read_again(data.extractor)
    import pyarrow.parquet as pq

    file = pq.ParquetFile(data.files[0])
    features = fitted_on(extractor, file.read(["file"]).column(0).to_pylist()[:1] or ["none"])
    digest = digest_of_rows(features)
    if digest != data.asked["digest"]:
        raise ValueError(
            f"extractor: its rows are {digest[:12]}, those in {data.folder} "
            f"{data.asked['digest'][:12]}: it has other settings, weights or another engine than "
            "what made them"
        )
    return features


def _taught(
    labels: NDArray, groups: NDArray, held_out: float, rng: np.random.RandomState
) -> NDArray[np.bool_]:
    """Which rows are learned from."""
    taught = np.ones(len(labels), dtype=bool)
    if not 0 <= held_out < 1:
        raise ValueError(f"held_out={held_out!r}: expected a share from 0 to less than 1")
    if held_out:
        splitter = GroupShuffleSplit(1, test_size=held_out, random_state=rng)
        ((_, test),) = splitter.split(labels, labels, groups)
        taught[test] = False
    missing = np.setdiff1d(labels, labels[taught])
    if len(missing) or len(np.unique(labels[taught])) < 2:
        raise ValueError(
            f"the rows to learn from lack {', '.join(map(repr, missing.tolist())) or 'a class'}; "
            "expected two classes or more, each in several groups"
        )
    return taught


def _weigh_classes(head: Any, classes: NDArray, labels: NDArray) -> None:
    """Say how much each class weighs, where that is to be balanced: a part alone cannot tell."""
    if getattr(head, "class_weight", None) == "balanced":
        weights = compute_class_weight("balanced", classes=classes, y=labels)
        keys = map(_as_looked_up, classes.tolist())
        head.set_params(class_weight=dict(zip(keys, weights.tolist(), strict=True)))


def _as_looked_up(name: Any) -> Any:
    """Key under which scikit-learn looks for the weight of a class: "1" as the number 1."""
    try:
        return int(name)
    except ValueError:
        return name


def _mixed(
    data: _Rows, wanted: NDArray[np.bool_], epochs: int, mixed_rows: int, rng: np.random.RandomState
) -> Iterator[tuple[NDArray, NDArray[np.intp]]]:
    """Yield rows in an order of chance and their places, a few at a time, every row each epoch."""
    together = max(1, mixed_rows // parts.SLICE)
    n_slices = len(data.slices)
    X, places = np.empty((0, data.n_features), np.float32), np.empty(0, np.intp)
    for epoch in range(epochs):
        order = rng.permutation(n_slices)
        for start in range(0, n_slices, together):
            if n_slices > together or not len(X):  # what fits in whole is read once
                numbers = order[start : start + together]
                read = [data.read(int(number), wanted) for number in numbers]
                X = np.concatenate([one for one, _ in read])
                places = np.concatenate([one for _, one in read])
                del read
            shuffled = rng.permutation(len(X))
            for first in range(0, len(X), _STEP):
                step = shuffled[first : first + _STEP]
                yield X[step], places[step]
            done = (epoch + 1) * n_slices + min(start + together, n_slices)
            tell_progress("slice", done, (epochs + 1) * n_slices)


def _answers(
    data: _Rows, labels: NDArray, wanted: NDArray[np.bool_], scaler: Any, head: Any
) -> pd.DataFrame:
    predicted = []
    for number in range(len(data.slices)):
        X, _ = data.read(number, wanted)
        if len(X):
            predicted.append(head.predict(scaler.transform(X)))
    if not predicted:
        return pd.DataFrame({"file": [], "label": [], "predicted": []})
    return pd.DataFrame(
        {
            "file": data.column("file")[wanted],
            "label": labels[wanted],
            "predicted": np.concatenate(predicted),
        }
    )


def _scores(answers: pd.DataFrame) -> dict[str, float]:
    y, said = answers["label"], answers["predicted"]
    return {
        "accuracy": float(accuracy_score(y, said)),
        "balanced_accuracy": float(balanced_accuracy_score(y, said)),
        "macro_f1": float(f1_score(y, said, average="macro")),
    }
