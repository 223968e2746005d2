"""Page: what a comparison found, as one HTML file that needs nothing else.

What a reader is shown, and in which order; figures, sentences and pictures are made elsewhere.
"""

from __future__ import annotations

import base64
import hashlib
import os
import platform
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hybridus._sklearn import _safe_indexing
from hybridus.exceptions import CannotExplainError
from hybridus.inputs.files import replacing
from hybridus.inputs.images import Images, as_images
from hybridus.inputs.masks import as_masks
from hybridus.protocol.digests import versions
from hybridus.report.confusion import class_name as name_of_class
from hybridus.report.drawings import draw_answers, draw_forest, draw_training
from hybridus.report.evidence import answers_of, draw_map, looked_at, outlined, surest_errors
from hybridus.report.feature_map import lay_out
from hybridus.report.score_tables import diagnosis_table, score_table
from hybridus.report.segmentation import SegmentationDisplay

if TYPE_CHECKING:
    from hybridus.protocol.audit import Audit
    from hybridus.protocol.comparison import Comparison


Named = Callable[[Any], str]


def write_report(
    path: str | os.PathLike[str],
    *,
    classification: Comparison | None = None,
    segmentation: Comparison | None = None,
    images: Any = None,
    target: ArrayLike | None = None,
    masks: Any = None,
    class_names: Sequence[str] | None = None,
    names: Sequence[str] | None = None,
    audit: Audit | None = None,
    features: ArrayLike | str | None = "bundled",
    fitted: Any = None,
    positive: Any = None,
    segmented: ArrayLike | None = None,
    drawn: Mapping[str, tuple[Any, Any]] | None = None,
    value_range: tuple[float, float] | None = None,
    data_name: str = "",
    about: Mapping[str, Any] | None = None,
    command: str = "",
) -> Path:
    """Write what comparisons found as one HTML page, which needs no network and no other file.

    Parameters
    ----------
    path : str or path-like
        Written whole or not at all.
    classification, segmentation : Comparison, default=None
        Of classifiers and of segmenters; one of them at the least.
    images : images or paths, default=None
        Those that were compared on. Without them nothing is shown of single images.
    target : array-like of shape (n_images,), default=None
        Classes; None takes those of `classification`.
    masks : masks, default=None
        Of the images that were segmented.
    class_names : sequence of str, default=None
        Names of the classes 0, 1, ...; None shows the values of `target`.
    names : sequence of str, default=None
        Names of the images; None takes paths, or numbers. They are shown as they are.
    audit : Audit, default=None
        What was found wrong with the images.
    features : array-like of shape (n_images, n_features), "bundled" or None, default="bundled"
        What the map of the images is drawn by; "bundled" encodes them by the network that ships
        with hybridus, and None draws no map.
    fitted : fitted classifier, default=None
        The best one, fitted on all images: where it looks is shown on some of them.
    positive : class, default=None
        What is looked for, such as malignant: adds sensitivity, specificity and AUC of it; see
        `Comparison.one_against_rest`.
    segmented : array-like of int, default=None
        Positions of the images that were segmented; None means all.
    drawn : dict of str to (positions, masks), default=None
        Masks that segmenters predicted out of folds, and of which of the segmented images; None
        takes them from `segmentation`, where it has kept them.
    value_range : (low, high), default=None
        See `hybridus.inputs.images.as_images`.
    data_name : str, default=""
        Where the images come from.
    about : dict, default=None
        Settings that the page lists, as they are; lists a line each.
    command : str, default=""
        What repeats the comparison.

    Returns
    -------
    Path

    Raises
    ------
    ValueError
        If there is no comparison, or lengths differ.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from sklearn.datasets import load_wine
    >>> from sklearn.naive_bayes import GaussianNB
    >>> from hybridus import compare
    >>> from hybridus.report.page import write_report
    >>> X, y = load_wine(return_X_y=True)
    >>> found = compare({"bayes": GaussianNB()}, X, y, groups="independent")
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     page = write_report(Path(folder) / "report.html", classification=found)
    ...     "bayes reaches an accuracy of 0.972" in page.read_text()
    True
    """
    if classification is None and segmentation is None:
        raise ValueError("nothing to report: give classification or segmentation, a Comparison")
    read = None if images is None else as_images(images, value_range=value_range)
    labels = _labels(target, classification, read)
    shown_names = _names(names, read)
    looked_at = None if audit is None else audit.groups
    for what, given in (("target", labels), ("names", shown_names), ("audit", looked_at)):
        if read is not None and given is not None and len(given) != len(read):
            raise ValueError(f"{what} has {len(given)} values for {len(read)} images")

    def named(label: Any) -> str:
        return name_of_class(label, class_names)

    told = classification if _has_answers(classification) else None
    compared = {"classification": classification, "segmentation": segmentation}
    tasks = {key: one for key, one in compared.items() if one is not None}
    context: dict[str, Any] = {
        "title": f"Which model to use{': ' * bool(data_name)}{data_name}",
        "data": _data(data_name, labels, named, read, masks, tasks),
        "audit": None if audit is None else _audit(audit),
        "tasks": [
            score_table(key, one) | {"forest": draw_forest(key, one)} for key, one in tasks.items()
        ],
        "judgement": None if told is None else _judgement(told, class_names, positive),
        "training": draw_training(tasks),
        "about": _about(tasks, about or {}),
        "command": command,
        "masks": None,
        "errors": None,
        "evidence": None,
        "map": None,
    }
    if read is not None:
        if segmentation is not None and masks is not None:
            chosen = np.arange(len(read)) if segmented is None else np.asarray(segmented)
            said = _first_fold(segmentation) if drawn is None else drawn
            context["masks"] = _masks(segmentation, images, masks, chosen, said, shown_names, read)
        answers = None
        if told is not None:
            best = str(told.table.index[0])
            answers = answers_of(told, best)
            context["errors"] = {
                "model": best,
                "n": len(answers),
                "n_wrong": int((answers["truth"] != answers["answer"]).sum()),
                "shown": surest_errors(answers, read, shown_names, named, _groups(tasks, audit)),
            }
            if fitted is not None:
                lesions = {} if masks is None else _lesions(masks, segmented, len(read))
                about_images = (images, answers, read, shown_names, named, lesions)
                context["evidence"] = _evidence(best, fitted, *about_images)
        if features is not None and labels is not None:
            rows = _bundled(images, value_range) if isinstance(features, str) else features
            pairs = np.zeros((0, 2), int) if audit is None else audit.pairs[["first", "second"]]
            context["map"] = draw_map(
                lay_out(rows),
                read,
                shown_names,
                labels,
                named,
                answers,
                np.asarray(pairs, dtype=np.intp),
            )
    with replacing(path) as temporary:
        temporary.write_text(_rendered(context), encoding="utf-8", errors="backslashreplace")
    return Path(path)


def _rendered(context: dict[str, Any]) -> str:
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    loader = PackageLoader("hybridus.report", "template")
    environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined)
    style, script = (loader.get_source(environment, name)[0] for name in ("page.css", "page.js"))
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return environment.get_template("page.html").render(
        **context,
        style=Markup(style),
        script=Markup(script),
        script_digest=f"sha256-{digest}",
    )


def _has_answers(classification: Comparison | None) -> bool:
    """Whether what classifiers predicted was kept."""
    return classification is not None and all(
        one.predictions is not None for one in classification.results
    )


def _labels(
    target: ArrayLike | None, classification: Comparison | None, images: Images | None
) -> NDArray | None:
    """Class of each image; where none are given those that folds tested, if they tested all."""
    if target is not None or classification is None:
        return None if target is None else np.asarray(target)
    parts = [(one.test, one.truth) for one in classification.results if one.truth is not None]
    tested = np.concatenate([test for test, _ in parts])
    truth = np.concatenate([truth for _, truth in parts])
    positions, first = np.unique(tested, return_index=True)
    n = len(positions) if images is None else len(images)
    return truth[first] if np.array_equal(positions, np.arange(n)) else None


def _groups(tasks: Mapping[str, Comparison], audit: Audit | None) -> dict[int, Any]:
    """Group of each image of the classification, by its position, where any is known."""
    if audit is not None:
        return dict(enumerate(audit.groups.tolist()))
    return {
        position: group
        for one in tasks["classification"].results
        if one.groups is not None
        for position, group in zip(one.test.tolist(), one.groups.tolist(), strict=True)
    }


def _names(names: Sequence[str] | None, images: Images | None) -> list[str]:
    if names is not None:
        return [str(name) for name in names]
    if images is None:
        return []
    return images.paths or [f"image {i}" for i in range(len(images))]


def _data(
    name: str,
    labels: NDArray | None,
    named: Named,
    images: Images | None,
    masks: Any,
    tasks: Mapping[str, Comparison],
) -> dict[str, Any]:
    one = next(iter(tasks.values()))
    tested = np.unique(np.concatenate([result.test for result in one.results]))
    n = len(images) if images is not None else len(tested)
    said = f"{n} images"
    groups = [result.groups for result in one.results if result.groups is not None]
    if groups:
        said += (
            f" of {len(np.unique(np.concatenate(groups).astype(str)))} groups, each of which stays "
            "on one side of every split"
        )
    said += f". Split: {one.split}." if one.split else "."
    classes = []
    if labels is not None:
        values, counts = np.unique(labels, return_counts=True)
        classes = [
            (named(value), int(count), f"{100 * count / len(labels):.0f} %")
            for value, count in zip(values.tolist(), counts, strict=True)
        ]
    if masks is not None and "segmentation" in tasks:
        said += f" {len(masks)} of them, with their masks, were given to segmenters."
    return {"name": name or "comparison", "summary": said, "classes": classes}


def _audit(audit: Audit) -> dict[str, Any]:
    findings = audit.findings[["severity", "what", "advice"]].to_dict("records")
    return {"title": f"{audit.summary().splitlines()[0]}.", "findings": findings}


def _judgement(
    compared: Comparison, class_names: Sequence[str] | None, positive: Any
) -> dict[str, Any]:
    """Collect what is shown of what classifiers answered."""
    classes = answers_of(compared, str(compared.table.index[0]))["truth"].unique().tolist()
    diagnosis = None
    if positive is not None:
        rows = diagnosis_table(compared, positive)
        diagnosis = {"of": name_of_class(positive, class_names), "rows": rows}
    return draw_answers(compared, classes, class_names) | {"diagnosis": diagnosis}


def _first_fold(compared: Comparison) -> dict[str, tuple[Any, Any]]:
    """Masks of the first fold of each model, where they were kept."""
    return {
        one.model: (one.test, one.predictions)
        for one in compared.results
        if one.repeat == one.fold == 0 and one.predictions is not None
    }


def _masks(
    compared: Comparison,
    images: Any,
    masks: Any,
    chosen: NDArray[np.intp],
    drawn: Mapping[str, tuple[Any, Any]],
    names: Sequence[str],
    read: Images,
) -> dict[str, Any] | None:
    """Best, median and worst masks of the best segmenter that has any."""
    model = next((str(name) for name in compared.table.index if name in drawn), None)
    if model is None:
        return None
    tested, said = drawn[model]
    tested = np.asarray(tested)
    places = chosen[tested]
    display = SegmentationDisplay(
        as_images(_safe_indexing(images, places), value_range=read.value_range),
        _safe_indexing(masks, tested),
        said,
    )
    shown = outlined(display, [names[i] for i in places])
    return {"model": model, "n": len(tested), "shown": shown}


def _lesions(masks: Any, segmented: ArrayLike | None, n: int) -> dict[int, NDArray[np.bool_]]:
    """Mask of each image that has one, by its position."""
    places = np.arange(n) if segmented is None else np.asarray(segmented)
    return dict(zip(places.tolist(), as_masks(masks), strict=True))


def _evidence(model: str, fitted: Any, *about_images: Any) -> dict[str, Any] | None:
    """Where the best classifier looks, or why that cannot be told."""
    try:
        shown = looked_at(fitted, *about_images)
        return {"model": model, "shown": shown, "why_not": ""} if shown else None
    except CannotExplainError as error:
        return {"model": model, "shown": [], "why_not": str(error)}


def _bundled(images: Any, value_range: tuple[float, float] | None) -> NDArray:
    from hybridus.estimators.features import DeepFeatureExtractor

    encoder = DeepFeatureExtractor("mobilenet_v2_0.35", weights="bundled", value_range=value_range)
    return encoder.fit_transform(images)


def _about(tasks: Mapping[str, Comparison], given: Mapping[str, Any]) -> list[tuple[str, str]]:
    rows = {
        key: "\n".join(value) if isinstance(value, list) else str(value)
        for key, value in given.items()
        if value not in (None, "")
    }
    for key, compared in tasks.items():
        rows[f"folds of {key}"] = f"{len(compared.folds) // len(compared.table)}, {compared.split}"
    known = {name: version for name, version in versions().items() if version}
    rows["versions"] = ", ".join(f"{name} {version}" for name, version in known.items())
    rows["python"] = platform.python_version()
    return list(rows.items())
