"""The command ``hybridus train``: one model, fitted on all images of a folder, into one file.

Only light modules are imported at the top: help and mistyped options answer at once.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from hybridus.cli import announce, audited, data as reading, results
from hybridus.cli.console import tell, user_errors
from hybridus.cli.options import (
    CropOfDicom,
    Curation,
    FrameOfDicom,
    GroupsOf,
    LesionsOnly,
    MasksFolder,
    NoCache,
    Pixels,
    ValueRangeText,
    WeightsOf,
    read_range,
)

if TYPE_CHECKING:
    from hybridus.cli.data import Data


def train(
    data: Annotated[
        Path,
        typer.Argument(
            metavar="DATA",
            help="Folder of class folders, BUSI with its masks, or images with masks.",
            show_default=False,
        ),
    ],
    model: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="What is trained; `hybridus models` lists the names.",
            show_default=False,
            rich_help_panel="Models",
        ),
    ],
    out: Annotated[
        Path,
        typer.Option(metavar="FILE", help="The model's file, by custom NAME.hybridus."),
    ] = Path("model.hybridus"),
    weights: WeightsOf = "imagenet",
    image_size: Pixels = None,
    masks: MasksFolder = None,
    lesions_only: LesionsOnly = None,
    groups: GroupsOf = None,
    curation: Curation = None,
    value_range: ValueRangeText = None,
    frame: FrameOfDicom = None,
    crop: CropOfDicom = None,
    seed: Annotated[
        int, typer.Option(min=0, metavar="N", help="Decides inner folds, heads and training.")
    ] = 0,
    no_cache: NoCache = False,
) -> None:
    """Train one model on all images of DATA, for `hybridus predict`.

    Nothing is held back to test it: `hybridus compare` tells how good such a model is, and trains
    the best one too. Settings are searched, and probabilities calibrated, on inner folds that keep
    duplicates together.
    """
    started = time.perf_counter()
    with user_errors():
        from hybridus.cli.task_run import check_masks
        from hybridus.encoders.registry import get_encoder
        from hybridus.encoders.weights import locate_weights
        from hybridus.presets import get_preset

        preset = get_preset(model)
        segments = preset.task == "segment"
        if lesions_only is not None and not segments:
            raise ValueError(f"--lesions-only is for segmenters: {model} is none")
        declared = None if value_range is None else read_range(value_range)
        for name in preset.encoders:
            locate_weights(get_encoder(name), weights or "imagenet")
        tell(f"model    {preset.name}: {escape(preset.note)}")
        scans = reading.read_folder(data, curation, groups, masks, frame, crop)
        scans = _grouped(scans, declared)
        if segments:
            scans = reading.choose_scans(scans, lesions_only)
        elif not scans.labelled:
            raise ValueError(f"{data}: no class folders, which tell a classifier its classes")
        check_masks([preset], scans)
        announce.tell_data(scans)
        estimator = preset.build(
            weights=weights or "imagenet",
            image_size=image_size,
            cache=not no_cache,
            grouped=scans.groups is not None,
            random_state=seed,
            value_range=declared,
        )
        from hybridus.estimators.preflight import preflight

        preflight(estimator, scans.images)
        results.make_folder(out.parent)
        digest = audited.digest_of(scans, declared)
    from hybridus.cli.progress import Following, Pace
    from hybridus.protocol.final import fit_final

    target = scans.masks if segments else scans.named_target
    with (
        results.calm(),
        results.room_for_activations(1),
        Following(Pace({})).refitting(preset.name),
    ):
        shown = scans.masks if preset.learns_lesions else None
        final = fit_final(estimator, scans.images, target, scans.groups, shown)
    file = results.save_model(final, scans, digest, out, model=f"{preset.name}: {preset.note}")
    if final.referral:
        tell(f"answers  {', '.join(map(str, final.estimator.classes_))}; probabilities")
        tell(f"         {final.referral['probabilities']}")
    tell(f"model    {escape(str(file))}; hybridus predict {escape(str(file))} IMAGES")
    tell(f"Finished in {time.perf_counter() - started:.0f} s. Not a medical device.")


def _grouped(scans: Data, value_range: tuple[float, float] | None) -> Data:
    """Group duplicates, by their pixels, where nobody told of any groups."""
    if scans.grouped_by != reading.UNKNOWN:
        return scans
    from hybridus.inputs.images import as_images
    from hybridus.protocol.duplicates import near_duplicate_groups

    tell(f"groups   none given: looking for duplicates among {len(scans.images)} images")
    images = as_images(scans.images, value_range=value_range)
    return reading.group_by(scans, near_duplicate_groups(images))
