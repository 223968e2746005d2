"""Figures of a page: the displays of a comparison, each drawn by itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from hybridus.report.answer import heading
from hybridus.report.confusion import ConfusionDisplay, class_name as name_of_class
from hybridus.report.curves import PrecisionRecallDisplay, RocDisplay
from hybridus.report.figures import inline_svg
from hybridus.report.forest import ForestDisplay
from hybridus.report.history import TrainingHistoryDisplay
from hybridus.report.referral import ReferralDisplay
from hybridus.report.reliability import ReliabilityDisplay

if TYPE_CHECKING:
    from markupsafe import Markup

    from hybridus.protocol.comparison import Comparison

_MOST_PANELS = 4  # classes that have curves of their own; of more the mean is drawn
_MOST_MATRICES = 6
_SQUARE = (4.0, 3.9)  # inches


def draw_forest(key: str, compared: Comparison) -> Markup:
    """Draw the interval of each model in the score that ranks."""
    return _drawn(
        partial(ForestDisplay.from_comparison, compared),
        (5.6, 0.9 + 0.32 * len(compared.table)),
        f"{key}: {heading(compared.metrics[0])} of each model with its 95 % interval",
    )


def draw_answers(
    compared: Comparison, classes: Sequence[Any], class_names: Sequence[str] | None
) -> dict[str, Any]:
    """Draw what classifiers answered: confusion, curves, reliability and referral."""
    models = [str(name) for name in compared.table.index]
    side = 1.2 + 0.62 * min(10, len(classes))
    matrix = partial(ConfusionDisplay.from_comparison, compared, class_names=class_names)
    confusion = [
        _drawn(partial(matrix, model), (side + 0.1, side), f"Confusion matrix of {model}")
        for model in models[:_MOST_MATRICES]
    ]
    curves = []
    panels = _panels(sorted(classes), class_names)
    for display, kind in ((RocDisplay, "ROC"), (PrecisionRecallDisplay, "Precision and recall")):
        for label, of in panels:
            draw = partial(display.from_comparison, compared, positive=label)
            try:
                curves.append((_drawn(draw, _SQUARE, f"{kind}: {of}"), f"{kind}: {of}"))
            except ValueError:  # no model ranks
                continue
    found: dict[str, Any] = {"confusion": confusion, "curves": curves}
    found["n_left_out"] = len(models) - len(confusion)
    found["reliability"] = found["referral"] = None
    if not compared.reliability().empty:
        reliable = partial(ReliabilityDisplay.from_comparison, compared)
        found["reliability"] = _drawn(reliable, _SQUARE, "Reliability of the probabilities")
    if not compared.referral.empty:
        referred = partial(ReferralDisplay.from_comparison, compared)
        found["referral"] = _drawn(referred, _SQUARE, "Accuracy by the share that is referred")
    return found


def draw_training(tasks: Mapping[str, Comparison]) -> list[tuple[Markup, str]]:
    """Draw the curves of the first fold of each network."""
    figures = []
    for compared in tasks.values():
        first = {one.model: one.history for one in compared.results if one.repeat == one.fold == 0}
        for model in compared.table.index:
            history = first[model]
            if history is None:
                continue
            scored = [name for name in ("accuracy", "dice") if name in history]
            for metric in ("loss", *scored[:1]):
                draw = partial(
                    TrainingHistoryDisplay.from_comparison,
                    compared,
                    model,
                    metrics=metric,
                    best_so_far=True,
                )
                svg = _drawn(draw, (4.0, 2.9), f"Training of {model}: {metric} by epoch")
                figures.append((svg, f"{model}: {metric}"))
    return figures


def _panels(classes: list[Any], class_names: Sequence[str] | None) -> list[tuple[Any, str]]:
    """Say what curves are drawn of: a class against the rest, or all of them on average."""
    if len(classes) == 2:
        classes = classes[1:]
    if len(classes) > _MOST_PANELS:
        return [(None, "mean of each class against the rest")]
    return [(label, f"{name_of_class(label, class_names)} against the rest") for label in classes]


def _drawn(draw: Callable[..., object], size: tuple[float, float], what: str) -> Markup:
    return inline_svg(lambda ax: draw(ax=ax), size, what)
