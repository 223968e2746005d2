"""The command ``hybridus export``: a model for programs in other languages."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from hybridus.cli.console import tell, user_errors
from hybridus.cli.info import ModelFile


def export(
    model: ModelFile,
    out: Annotated[
        Path,
        typer.Argument(
            metavar="OUT",
            help="NAME.onnx, or NAME.xml for OpenVINO, which has NAME.bin beside it.",
            show_default=False,
        ),
    ],
    network_size: Annotated[
        bool,
        typer.Option(
            "--network-size",
            help="Take images that have the network's size already, and resize nothing inside.",
        ),
    ] = False,
) -> None:
    """Write a model as a network that C++, JavaScript and others run without Python.

    All preprocessing is inside: it takes 8-bit RGB images of any size. Names of the classes stand
    in the file.
    """
    with user_errors():
        from hybridus.exporting.export import export as write
        from hybridus.persistence.model_file import load, read_card

        card = read_card(model)
        try:
            file = write(
                load(model),
                out,
                input_size="network" if network_size else None,
                class_names=card.classes,
            )
        except (TypeError, NotImplementedError, ImportError) as error:
            raise ValueError(str(error)) from error
    tell(f"written  {escape(str(file))}, of {escape(str(model))}. Not a medical device.")
