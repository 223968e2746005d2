"""Evidence: what is shown of single images, the surest errors, masks, and a map of all of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from hybridus._sklearn import _safe_indexing
from hybridus.inputs.images import Images
from hybridus.inputs.masks import resize_mask
from hybridus.protocol.resampling import class_scores
from hybridus.report.looks import LINES
from hybridus.report.segmentation import SegmentationDisplay, outlines
from hybridus.report.thumbnails import Sheet, data_uri, make_sheet, small_picture

if TYPE_CHECKING:
    from hybridus.protocol.comparison import Comparison

_N_ERRORS = 12
_N_LOOKED = 2  # images of a class whose evidence is shown
_MOST_LOOKED = 8
_SIDE = 240  # pixels of a picture, at most
_MAP = (640, 460)
_MOST_ON_MAP = 5000


@dataclass(frozen=True)
class Error:
    """An image that a model got wrong, and how sure it was."""

    name: str
    truth: str
    answer: str
    sure: str
    uri: str


@dataclass(frozen=True)
class Looked:
    """An image with the evidence for the answer to it."""

    name: str
    truth: str
    answer: str  # of the model that is shown, whose evidence it is
    share: str  # of the evidence on the lesion, where that is known
    uri: str


@dataclass(frozen=True)
class Outlined:
    """An image with the outlines of its true and its predicted lesion."""

    case: str
    name: str
    dice: float
    uri: str
    size: tuple[int, int]  # width, height
    truth: list[str]
    predicted: list[str]


@dataclass(frozen=True)
class Dot:
    """An image on the map."""

    x: float
    y: float
    place: int  # on the sheet of thumbnails
    name: str
    truth: str
    answer: str
    color: str
    wrong: bool
    twin: bool  # whether another image shows the same scan


@dataclass(frozen=True)
class Map:
    """All images by their features, as shapes of a drawing."""

    size: tuple[int, int]
    dots: list[Dot]
    joined: list[tuple[float, ...]]  # x and y of both ends
    legend: list[tuple[str, str]]  # color, class
    sheet: Sheet | None
    n_left_out: int


def answers_of(comparison: Comparison, model: str) -> pd.DataFrame:
    """Find what a classifier said of each sample in the first repeat, while not trained on it.

    Returns
    -------
    DataFrame
        Indexed by position: ``truth``, ``answer``, ``sure`` (score of the answer, NaN where it has
        none) and ``probability``, whether that is one.
    """
    parts = []
    for result in comparison.results:
        if result.model != model or result.repeat or result.truth is None:
            continue
        answers = np.asarray(result.predictions)
        table = pd.DataFrame({"truth": result.truth, "answer": answers}, index=result.test)
        scores = class_scores(result)
        table["sure"] = np.nan
        if scores is not None and result.classes is not None:
            columns = pd.Index(result.classes).get_indexer(answers)
            table["sure"] = scores[np.arange(len(scores)), columns]
        table["probability"] = result.decided_by == "predict_proba"
        parts.append(table)
    return pd.concat(parts).sort_index()


def surest_errors(
    answers: pd.DataFrame,
    images: Images,
    names: Sequence[str],
    class_name: Callable[[Any], str],
    groups: Mapping[int, Any],
) -> list[Error]:
    """Images that were got wrong with the highest scores, the surest first, one of a group."""
    wrong = answers[answers["truth"] != answers["answer"]]
    wrong = wrong.sort_values("sure", ascending=False, kind="stable")
    group = pd.Series([groups.get(i, f"image {i}") for i in wrong.index], dtype=object)
    shown = wrong[~group.duplicated().to_numpy()].head(_N_ERRORS)
    errors = []
    for place, row in zip(shown.index.tolist(), shown.to_dict("records"), strict=True):
        sure = ""
        if np.isfinite(row["sure"]):
            kind = "probability" if row["probability"] else "score (no probability)"
            sure = f"{kind} {row['sure']:.2f}"
        picture = small_picture(images[place], _SIDE)
        truth, answer = class_name(row["truth"]), class_name(row["answer"])
        errors.append(Error(names[place], truth, answer, sure, data_uri(picture)))
    return errors


def looked_at(
    model: Any,
    images: Any,
    answers: pd.DataFrame,
    read: Images,
    names: Sequence[str],
    class_name: Callable[[Any], str],
    masks: Mapping[int, NDArray[np.bool_]],
) -> list[Looked]:
    """Where a fitted classifier looks in images that it was surest of and right about.

    Parameters
    ----------
    model : fitted classifier
    images, read
        What was compared on, as it was given and as it is read.
    answers : DataFrame
        See `answers_of`.
    masks : mapping of int to array of shape (H, W), bool
        Lesions of the images that have a mask, by position.

    Raises
    ------
    CannotExplainError
        Where nobody knows where such a model looks.
    """
    from hybridus.evidence.explain import explain
    from hybridus.report.evidence_display import colours_of, tinted

    right = answers[answers["truth"] == answers["answer"]]
    right = right.sort_values("sure", ascending=False, kind="stable")
    chosen = right.groupby("truth", sort=True).head(_N_LOOKED).sort_values("truth", kind="stable")
    places = chosen.index.tolist()[:_MOST_LOOKED]
    if not places:
        return []
    found = explain(model, _safe_indexing(images, places))
    colours = colours_of(found, found.predicted)
    shown = []
    for k, place in enumerate(places):
        share = ""
        if (mask := masks.get(place)) is not None and mask.any():
            plane = np.maximum(found.of(k, found.predicted[k]), 0)
            inside = resize_mask(mask, plane.shape)
            on_it = plane[inside].sum() / max(plane.sum(), 1e-12)
            share = f"{100 * on_it:.0f} % on the lesion ({100 * inside.mean():.0f} % of the image)"
        picture = small_picture(tinted(read[place], colours[k]), _SIDE)
        truth, answer = class_name(chosen["truth"].iloc[k]), found.predicted[k]
        # A model that was fitted for use answers with the names of the classes.
        told = str(answer) if isinstance(answer, str) else class_name(answer)
        shown.append(Looked(names[place], truth, told, share, data_uri(picture)))
    return shown


def outlined(display: SegmentationDisplay, names: Sequence[str]) -> list[Outlined]:
    """Best, median and worst masks of a display, three of each."""
    found = []
    for case, positions in display.choose(3).items():
        for i in positions:
            picture = small_picture(display.images[i], _SIDE)
            width, height = picture.size
            truth, predicted = (
                [
                    " ".join(f"{x + 0.5:.1f},{y + 0.5:.1f}" for x, y in zip(xs, ys, strict=True))
                    for xs, ys in outlines(resize_mask(mask, (128, 128)), (height, width))
                ]
                for mask in (display.masks_true[i], display.masks_pred[i])
            )
            dice = float(display.table["dice"][i])
            uri = data_uri(picture)
            found.append(Outlined(case, names[i], dice, uri, (width, height), truth, predicted))
    return found


def draw_map(
    positions: NDArray[np.float64],
    images: Images,
    names: Sequence[str],
    target: NDArray,
    class_name: Callable[[Any], str],
    answers: pd.DataFrame | None,
    pairs: NDArray[np.intp],
) -> Map:
    """Place all images, or a part of very many, on a map with their thumbnails."""
    n = len(positions)
    shown = np.arange(n)
    if n > _MOST_ON_MAP:
        shown = np.sort(np.random.default_rng(0).choice(n, _MOST_ON_MAP, replace=False))
    lowest, highest = positions[shown].min(axis=0), positions[shown].max(axis=0)
    span = np.where(highest > lowest, highest - lowest, 1)
    on_map = 12 + (positions - lowest) / span * (np.array(_MAP) - 24)
    classes = np.unique(target).tolist()
    colors = {label: LINES[k % len(LINES)]["color"] for k, label in enumerate(classes)}
    twins = set(pairs.ravel().tolist())
    said = {} if answers is None else answers["answer"].to_dict()
    dots = [
        Dot(
            round(float(on_map[i, 0]), 1),
            round(float(on_map[i, 1]), 1),
            place,
            names[i],
            class_name(target[i]),
            class_name(said[i]) if i in said else "",
            colors[target[i]],
            i in said and said[i] != target[i],
            i in twins,
        )
        for place, i in enumerate(shown.tolist())
    ]
    both = pairs[np.isin(pairs, shown).all(axis=1)]
    joined = [tuple(on_map[pair].ravel().round(1).tolist()) for pair in both]
    legend = [(colors[label], class_name(label)) for label in classes]
    return Map(_MAP, dots, joined, legend, make_sheet(images, shown), n - len(shown))
