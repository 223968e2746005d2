"""The command ``hybridus models``: which presets there are, and with which settings."""

from __future__ import annotations

import json
from typing import Annotated

import typer
from rich.markup import escape

from hybridus.cli.console import SCREEN, tell, user_errors
from hybridus.cli.settings import Task
from hybridus.presets import PRESETS, get_preset, markdown_table


def models(
    name: Annotated[
        str | None,
        typer.Argument(
            help="Show all settings of this one, as JSON.", show_default="list all models"
        ),
    ] = None,
    task: Annotated[
        Task | None, typer.Option(help="Models of one task.", show_default="both")
    ] = None,
    markdown: Annotated[bool, typer.Option("--markdown", help="List as a Markdown table.")] = False,
) -> None:
    """List the models that `hybridus compare --models` knows, or show the settings of one.

    In brackets: what a fold of BUSI takes on two cores. Where no models are named, those marked
    "scans" are compared on DATA, and those marked "phantoms" without DATA.
    """
    if name is not None:
        with user_errors():
            preset = get_preset(name)
        about = {"estimator": preset.estimator, "parameters": dict(preset.parameters)}
        if preset.search:
            about["search"] = dict(preset.search)
        SCREEN.print_json(json.dumps(about))
        return
    presets = [one for one in PRESETS.values() if task in (None, one.task)]
    if markdown:
        SCREEN.print(markdown_table(presets), soft_wrap=True, markup=False)
        return
    width = max(len(one.name) for one in presets)
    for at in dict.fromkeys(one.task for one in presets):
        tell(f"[bold]to {at}[/]")
        for one in presets:
            if one.task == at:
                marked = f", {one.compared}" * (one.compared != "named")
                tell(f"  {one.name:{width}}  {escape(one.note)} ({one.speed}{marked})")
