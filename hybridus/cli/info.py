"""The command ``hybridus info``: the card of a model, without opening the model."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

from hybridus.cli.console import SCREEN, tell, user_errors

ModelFile = Annotated[
    Path,
    typer.Argument(
        metavar="MODEL", help="File that hybridus wrote (NAME.hybridus).", show_default=False
    ),
]
_SHOWN_TEXT = 200  # characters of what a model is made of


def info(
    model: ModelFile,
    as_json: Annotated[bool, typer.Option("--json", help="All of the card, as JSON.")] = False,
) -> None:
    """Show the card of a model: what it is, what it was fitted on, how good it is, its limits.

    The model itself is not opened.
    """
    with user_errors():
        from hybridus.persistence.model_file import read_card

        card = read_card(model)
    if as_json:
        SCREEN.print_json(json.dumps(card.as_dict()))
        return
    what = card.model if len(card.model) <= _SHOWN_TEXT else f"{card.model[:_SHOWN_TEXT]} ..."
    lines: dict[str, Any] = {
        "model": what,
        "task": card.task,
        "classes": None if card.classes is None else ", ".join(card.classes),
        "input": card.input,
        "data": card.data,
        "scores": card.scores,
        "referral": card.referral,
        "weights": card.weights,
        "versions": card.versions,
        "created": card.created,
        "limits": card.limits,
    }
    for name, value in lines.items():
        for told in _told(value):
            tell(f"{name:9} {escape(told)}")
            name = ""


def _told(value: Any) -> list[str]:
    """Lines that say what a value is; none where nothing is known."""
    if isinstance(value, Mapping):
        told = {key: _told(one) for key, one in value.items()}
        if any(isinstance(one, Mapping) for one in value.values()):
            return [f"{key}: {'; '.join(lines)}" for key, lines in told.items() if lines]
        parts = [f"{key} {lines[0]}" for key, lines in told.items() if lines]
        return ["; ".join(parts)] if parts else []
    if isinstance(value, list | tuple):
        return [" x ".join(map(str, value))]
    if isinstance(value, float):
        return [f"{value:.4g}"]
    return [] if value in (None, "") else [str(value)]
