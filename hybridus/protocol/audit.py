"""Audit: what is wrong with a set of images, before models are compared on it."""

from __future__ import annotations

import html
import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from sklearn.base import BaseEstimator
from sklearn.model_selection import cross_val_predict

from hybridus._sklearn import _num_samples, _safe_indexing
from hybridus.inputs.files import replacing
from hybridus.inputs.groups import check_groups
from hybridus.inputs.images import Images, as_images
from hybridus.inputs.labels import check_labels
from hybridus.inputs.masks import as_masks
from hybridus.inputs.names import as_text
from hybridus.protocol.auditing import findings as rules
from hybridus.protocol.auditing.contact_sheet import PairToDraw, draw_pairs
from hybridus.protocol.auditing.label_errors import suspect_labels
from hybridus.protocol.auditing.looks import Look, look_at
from hybridus.protocol.auditing.shortcuts import COLUMNS, find_shortcuts, folds_that_fit
from hybridus.protocol.duplicates import check_threshold, find_duplicates

_MOST_ON_SHEET = 120


@dataclass(frozen=True, eq=False, repr=False)
class Audit:
    """What an audit found.

    Attributes
    ----------
    findings : DataFrame
        A row for each kind of finding, the gravest first: ``kind``, ``severity`` ("alarm": figures
        will be wrong; "check": look at it; "note"), ``what``, ``n_samples``, ``samples`` (names of
        the images meant) and ``advice``.
    pairs : DataFrame
        A row for each pair of duplicates, as `hybridus.protocol.duplicates.near_duplicate_pairs`
        lists them, with ``first_name`` and ``second_name``, and where there are labels
        ``first_label`` and ``second_label``.
    groups : array of shape (n_samples,), int
        One number for all images of a scan, and of a group that was given: what `compare` and the
        splitters of scikit-learn take.
    samples : DataFrame
        A row for each image: ``name``, ``error``, ``height``, ``width``, ``colour``, ``blank``,
        ``mean`` and ``spread`` of brightness (0 to 255), ``group``; ``label`` where there are
        labels, ``mask_share`` and ``mask_error`` where there are masks.
    label_errors : DataFrame or None
        Suspected labels, with ``name``; see
        `hybridus.protocol.auditing.label_errors.suspect_labels`. None where none were looked for.
    shortcuts : DataFrame
        See `hybridus.protocol.auditing.shortcuts.find_shortcuts`. Without rows where there are no
        labels or too few groups of a class.
    threshold : float
        Similarity of duplicates, at the least.

    Examples
    --------
    >>> import numpy as np
    >>> from hybridus import audit, make_breast_phantoms
    >>> scans = make_breast_phantoms(12, image_size=64, random_state=0)
    >>> found = audit(np.concatenate([scans.images, scans.images[:1]]), model=None)
    >>> found.pairs[["first", "second"]].to_numpy().tolist()
    [[0, 12]]
    >>> bool(found.groups[0] == found.groups[12]), len(set(found.groups.tolist()))
    (True, 12)
    """

    findings: pd.DataFrame
    pairs: pd.DataFrame
    groups: NDArray[np.intp]
    samples: pd.DataFrame
    label_errors: pd.DataFrame | None
    shortcuts: pd.DataFrame
    threshold: float
    _images: Images

    @property
    def alarms(self) -> list[str]:
        """Kinds of the findings that make figures wrong."""
        return self.findings.loc[self.findings["severity"] == "alarm", "kind"].tolist()

    def summary(self) -> str:
        """Say what was found in a few lines."""
        lines = [self._title()]
        lines += [f"{row.severity}: {row.what}" for row in self.findings.itertuples()]
        return "\n".join(lines)

    def to_csv(self, folder: str | os.PathLike[str]) -> list[Path]:
        """Write the tables into a folder, each whole or not at all.

        Parameters
        ----------
        folder : str or path-like
            Made where it is missing.

        Returns
        -------
        list of Path
            ``audit.csv`` (findings), ``audit_pairs.csv``, ``audit_groups.csv`` (columns filename
            and group, as ``hybridus compare --groups`` reads them), ``audit_samples.csv``,
            ``audit_shortcuts.csv`` and, where they were looked for, ``audit_labels.csv``.
        """
        listed = self.findings.assign(samples=self.findings["samples"].map("; ".join))
        groups = pd.DataFrame({"filename": self.samples["name"], "group": self.groups})
        tables = {
            "audit": listed,
            "audit_pairs": self.pairs,
            "audit_groups": groups,
            "audit_samples": self.samples,
            "audit_shortcuts": self.shortcuts,
        }
        if self.label_errors is not None:
            tables["audit_labels"] = self.label_errors
        files = []
        for name, table in tables.items():
            files.append(Path(folder) / f"{name}.csv")
            with replacing(files[-1]) as temporary:  # names of files need not be text
                table.to_csv(temporary, index=False, errors="backslashreplace")
        return files

    def contact_sheet(
        self, path: str | os.PathLike[str], *, most: int = _MOST_ON_SHEET
    ) -> Path | None:
        """Draw the pairs of duplicates side by side.

        Those whose labels contradict one another come first, then the least alike, since these are
        to be looked at; exact copies come last.

        Parameters
        ----------
        path : str or path-like
            Of the picture; its ending is that of a format which Pillow writes.
        most : int, default=120
            Pairs that are drawn.

        Returns
        -------
        Path or None
            None where there are no pairs, and nothing is written.
        """
        if self.pairs.empty:
            return None
        pairs = self.pairs.assign(contradicts=self._contradicts())
        order = ["contradicts", "similarity"]
        pairs = pairs.sort_values(order, ascending=[False, True], kind="stable").head(most)
        columns = ["first", "second", "similarity", "first_name", "second_name", "contradicts"]
        drawn = [
            PairToDraw(first, second, f"{alike:.2f} {Path(one).name} | {Path(other).name}", warns)
            for first, second, alike, one, other, warns in pairs[columns].to_numpy(dtype=object)
        ]
        with replacing(path) as temporary:
            draw_pairs(self._images, drawn).save(temporary)
        return Path(path)

    def _contradicts(self) -> NDArray[np.bool_]:
        if "first_label" not in self.pairs:
            return np.zeros(len(self.pairs), dtype=bool)
        return (self.pairs["first_label"] != self.pairs["second_label"]).to_numpy()

    def _title(self) -> str:
        n, n_groups = len(self.groups), len(np.unique(self.groups))
        n_alarms = len(self.alarms)
        said = f"{n_alarms} alarm{'s' * (n_alarms != 1)}" if n_alarms else "no alarms"
        return f"{n} images of {n_groups} scans: {said}"

    def __str__(self) -> str:
        return self.summary()

    __repr__ = __str__

    def _repr_html_(self) -> str:
        shown = self.findings[["severity", "kind", "what", "advice"]]
        return f"<p>{html.escape(self._title())}</p>{shown.to_html(index=False)}"


def audit(
    X: Any,
    y: ArrayLike | None = None,
    masks: Any = None,
    *,
    groups: ArrayLike | None = None,
    model: BaseEstimator | str | None = "bundled",
    threshold: float | None = None,
    value_range: Sequence[float] | None = None,
    names: Sequence[str] | None = None,
    class_names: Sequence[str] | None = None,
    random_state: int = 0,
    n_jobs: int | None = None,
) -> Audit:
    """Look for what makes figures wrong, before models are compared on images.

    Found are near-duplicates and exact copies, duplicates whose labels contradict one another,
    images that cannot be read, are blank, tiny or odd beside the others, masks that do not fit or
    are empty, uneven classes, suspected label errors, and shortcuts: how well size, file,
    brightness, borders, or text and other marks tell the classes by themselves.

    Parameters
    ----------
    X : array, list or pandas object of n_samples images or paths
        Files that cannot be read are listed and left out; faults of arrays are errors.
    y : array-like of shape (n_samples,), default=None
        Classes.
    masks : masks of n_samples, default=None
        In any form that `hybridus.inputs.masks.as_masks` reads.
    groups : array-like of shape (n_samples,), default=None
        What is known to belong together, such as the images of a patient. It is joined with what
        is found, and duplicates across it are an alarm.
    model : classifier, "bundled" or None, default="bundled"
        With `predict_proba`; tells suspected label errors on folds that keep groups whole.
        "bundled" is logistic regression on features of the MobileNetV2 that ships with hybridus;
        None does not look for them.
    threshold : float, default=None
        See `near_duplicate_groups`.
    value_range : (low, high), default=None
        The values of black and white where the type does not tell, as (0, 4095) for 12 bits.
    names : sequence of str, default=None
        Names of the images; None takes paths, or positions.
    class_names : sequence of str, default=None
        Names of the classes 0, 1, ...; None shows the values of `y`.
    random_state : int, default=0
        Decides the folds, and the exchange of labels that chance is told by.
    n_jobs : int or None, default=None
        Workers that look at images and fit `model`, by the backend of joblib that is set, as in
        `joblib.parallel_config("dask")`; None is what is set around the call, else 1.

    Returns
    -------
    Audit

    Raises
    ------
    ValueError
        Where X holds no images or none can be read, or lengths differ.

    Examples
    --------
    >>> import numpy as np
    >>> from hybridus import audit, make_breast_phantoms
    >>> scans = make_breast_phantoms(12, random_state=0)
    >>> X = np.concatenate([scans.images, scans.images[:1, :, ::-1]])
    >>> found = audit(X, [*scans.target, 2], model=None)
    >>> found.alarms
    ['duplicates', 'contradictions']
    >>> found.groups.tolist()
    [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 0]
    """
    check_threshold(threshold)
    images = as_images(X, value_range=value_range)
    n = len(images)
    labels = None if y is None else _checked(check_labels(y), n, "y")
    names = _names(images, names)
    known: dict[object, str] = dict(enumerate(map(as_text, class_names or ())))
    given = None if groups is None else check_groups(groups, n)
    looks = look_at(images, n_jobs)
    read = np.array([not look.error for look in looks])
    if not read.any():
        raise ValueError(f"none of {n} images can be read; the first: {looks[0].error}")
    found = find_duplicates([look.thumbnail for look in looks], threshold)
    joined = found.groups if given is None else _joined(found.groups, given)
    samples = _samples(looks, names, joined)
    all_findings = [*rules.of_files(samples)]
    all_findings += rules.of_duplicates(found.pairs, found.groups, labels, given)
    if masks is not None:
        of_masks = _look_at_masks(masks, looks)
        samples["mask_share"], samples["mask_error"] = of_masks["share"], of_masks["error"]
        all_findings += rules.of_masks(of_masks, labels, known)
    errors, shortcuts = None, pd.DataFrame(columns=COLUMNS)
    if labels is not None:
        samples["label"] = labels
        errors = _label_errors(X, labels, joined, read, model, value_range, random_state, n_jobs)
        if errors is not None:
            errors.insert(1, "name", [names[i] for i in errors["sample"]])
        traits = _traits([look for look in looks if not look.error])
        shortcuts = find_shortcuts(traits, labels[read], joined[read], random_state=random_state)
        all_findings += rules.of_labels(labels[read], joined[read], known, errors)
        all_findings += rules.of_shortcuts(shortcuts)
    pairs = found.pairs.assign(
        first_name=[names[i] for i in found.pairs["first"]],
        second_name=[names[i] for i in found.pairs["second"]],
    )
    if labels is not None:
        for side in ("first", "second"):
            shown = [known.get(label, label) for label in labels[pairs[side]]]
            pairs[f"{side}_label"] = shown
    return Audit(
        findings=rules.tabulate(all_findings, names),
        pairs=pairs,
        groups=joined,
        samples=samples,
        label_errors=errors,
        shortcuts=shortcuts,
        threshold=found.threshold,
        _images=images,
    )


def _checked(values: NDArray, n: int, name: str) -> NDArray:
    if len(values) != n:
        raise ValueError(f"{name} has {len(values)} values for {n} images: expected one for each")
    return values


def _names(images: Images, names: Sequence[str] | None) -> list[str]:
    if names is not None:
        return [as_text(name) for name in _checked(np.asarray(names, object), len(images), "names")]
    return [as_text(name) for name in images.paths or range(len(images))]


def _joined(found: NDArray[np.intp], given: NDArray[np.intp]) -> NDArray[np.intp]:
    """Join two kinds of groups so that both stay whole, numbered as they appear."""
    n = len(found)
    links = np.concatenate([found, n + given])
    graph = coo_array((np.ones(n), (links[:n], links[n:])), shape=(2 * n, 2 * n))
    return pd.factorize(connected_components(graph, directed=False)[1][found])[0].astype(np.intp)


def _samples(looks: Sequence[Look], names: Sequence[str], groups: NDArray) -> pd.DataFrame:
    brightness = [(look.traits or {}).get("brightness", {}) for look in looks]
    return pd.DataFrame(
        {
            "name": names,
            "error": [as_text(look.error) for look in looks],
            "height": [look.shape[0] for look in looks],
            "width": [look.shape[1] for look in looks],
            "colour": [look.is_colour for look in looks],
            "blank": [
                look.thumbnail is not None and look.thumbnail.pixels is None for look in looks
            ],
            "mean": [values.get("mean", np.nan) for values in brightness],
            "spread": [values.get("spread", np.nan) for values in brightness],
            "group": groups,
        }
    )


def _look_at_masks(masks: Any, looks: Sequence[Look]) -> pd.DataFrame:
    """Share of each image that is lesion, NaN where the mask is wrong, and what is wrong."""
    read = as_masks(masks)
    if len(read) != len(looks):
        raise ValueError(
            f"got {len(read)} masks for {len(looks)} images; expected one for each (an image "
            "without lesion has an empty mask)"
        )
    rows = []
    for i, look in enumerate(looks):
        if look.error:  # of which one finding is enough
            rows.append((np.nan, ""))
            continue
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)  # full masks are found here
                mask = read[i]
        except ValueError as error:
            rows.append((np.nan, str(error)))
            continue
        if mask.shape != look.shape:
            rows.append(
                (
                    np.nan,
                    f"masks[{i}] is {mask.shape[1]} x {mask.shape[0]} pixels (width x height), its "
                    f"image {look.shape[1]} x {look.shape[0]}",
                )
            )
        else:
            rows.append((float(mask.mean()), ""))
    return pd.DataFrame(rows, columns=["share", "error"])


def _traits(looks: Sequence[Look]) -> dict[str, pd.DataFrame]:
    """Tables of the families of traits that all images have."""
    each = [look.traits for look in looks if look.traits is not None]
    return {name: pd.DataFrame([traits[name] for traits in each]) for name in each[0]}


def _label_errors(
    X: Any,
    labels: NDArray,
    groups: NDArray,
    read: NDArray[np.bool_],
    model: BaseEstimator | str | None,
    value_range: Sequence[float] | None,
    random_state: int,
    n_jobs: int | None,
) -> pd.DataFrame | None:
    """Suspected labels by a model's answers to groups that it was not fitted on."""
    folds = folds_that_fit(labels[read], groups[read], random_state)
    if model is None or not folds:
        return None
    if isinstance(model, str):
        if model != "bundled":
            raise ValueError(f"model={model!r}: expected a classifier, 'bundled' or None")
        from hybridus.estimators.hybrid import make_hybrid_classifier

        model = make_hybrid_classifier(
            "mobilenet_v2_0.35", "logreg", weights="bundled", value_range=value_range
        )
    if not hasattr(model, "predict_proba"):
        raise ValueError(f"model={model!r} has no predict_proba, which tells label errors")
    kept = np.flatnonzero(read)
    chosen = X if len(kept) == _num_samples(X) else _safe_indexing(X, kept)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of rare classes, which have few groups
        told = cross_val_predict(
            model,
            chosen,
            labels[kept],
            cv=folds,
            n_jobs=n_jobs,
            method="predict_proba",
        )
    table = suspect_labels(labels[kept], told, np.unique(labels[kept]))
    return table.assign(sample=kept[table["sample"]])
