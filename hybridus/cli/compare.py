"""``hybridus compare``: its options, which of them a task takes, and the way to that task."""

from __future__ import annotations

import time
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from hybridus.cli import data as reading
from hybridus.cli import recipes, recipes_segment
from hybridus.cli.classify import classify
from hybridus.cli.console import tell, user_errors
from hybridus.cli.results import Settings
from hybridus.cli.segment import segment

PHANTOM_INPUT = 96  # pixels; the encoders' own 224 would take five times as long


class Task(StrEnum):
    """What the models are compared at."""

    classify = "classify"
    segment = "segment"


class Protocol(StrEnum):
    """How models are scored."""

    honest = "honest"
    report = "report"


def compare(
    data: Annotated[
        Path | None,
        typer.Argument(
            help="Folder of class folders, or BUSI with its masks. Without it: simulated phantoms.",
            show_default=False,
        ),
    ] = None,
    task: Annotated[Task, typer.Option(help="What to compare the models at.")] = Task.classify,
    models: Annotated[
        list[str] | None,
        typer.Option(
            help="Models by name, by commas or repeated.",
            show_default="without DATA the small ones, else all others but the slow",
        ),
    ] = None,
    folds: Annotated[int, typer.Option(min=2, help="Outer folds.")] = 5,
    repeats: Annotated[int, typer.Option(min=1, help="How often folds are drawn anew.")] = 1,
    protocol: Annotated[
        Protocol,
        typer.Option(
            help="`report` scores each classifier a second time, as much published work does: "
            "images are augmented first and split at random afterwards, once for each of "
            "--repeats. It shows how inflated such figures are."
        ),
    ] = Protocol.honest,
    curation: Annotated[
        Path | None,
        typer.Option(help="BUSI: table (CSV) of duplicates and objections; gives the groups."),
    ] = None,
    groups: Annotated[
        str | None,
        typer.Option(
            metavar="FILE|none",
            help="Table (CSV) with columns filename and group: which images (duplicates, one "
            "patient) stay on one side of a split; 'none' splits without regard to groups.",
        ),
    ] = None,
    weights: Annotated[
        str | None,
        typer.Option(
            help="imagenet, bundled, random or a weights file.",
            show_default="imagenet; bundled without DATA",
        ),
    ] = None,
    image_size: Annotated[
        int | None,
        typer.Option(
            min=32,
            help="Height and width of the network input in pixels; of a segmenter without a "
            "network, of what it looks at. Fine-tuning takes three times as long at 224 as at 128: "
            "with the first layers trained, an hour or more on two cores.",
            show_default=f"each encoder's own, {recipes.FINE_TUNING['image_size']} for slow "
            f"fine-tuned ones; {PHANTOM_INPUT} without DATA; each segmenter's own",
        ),
    ] = None,
    n_jobs: Annotated[
        int,
        typer.Option(
            help="Outer folds fitted at the same time, each in a process with its own networks; "
            "pays for slow heads, since a network uses all cores by itself. -1: one for each core. "
            "With `--protocol report`, random splits likewise. Not for segmenters."
        ),
    ] = 1,
    seed: Annotated[
        int, typer.Option(min=0, help="Decides folds, heads, training and phantoms.")
    ] = 0,
    cache: Annotated[
        bool,
        typer.Option(
            help="Keep feature rows on disk (`hybridus cache info`), so that each image is encoded "
            "once. They derive from the images. --no-cache keeps no activations either while a "
            "network is fine-tuned, or a decoder trained: frozen layers run in every epoch."
        ),
    ] = True,
    lesions_only: Annotated[
        bool | None,
        typer.Option(
            "--lesions-only/--with-normals",
            help="Segment images with a lesion alone, or those without one too, on which false "
            "positives are counted.",
            show_default="with normals, where there are any",
        ),
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for results.")] = Path("hybridus-results"),
) -> None:
    """Compare frozen deep features with classical heads, fine-tuned networks, or segmenters.

    All are scored on the same outer folds. A hybrid is a grid search over its head on inner folds,
    fitted anew inside every outer fold; a fine-tuned network has fixed settings and holds out part
    of what it is fitted on, to stop in time. Prints a table and writes OUT/classification.csv,
    OUT/classification_folds.csv and the best model, refitted on all images, as
    OUT/models/NAME.joblib. For research; not a medical device.

    Hybrids: mobilenet_v2-svm, mobilenet_v2-mlp, vgg16-svm, vgg16-mlp, fusion-logreg (several
    layers of three networks), mobilenet_v2_0.35-svm, mobilenet_v2_0.35-mlp,
    mobilenet_v2_0.35-logreg.

    Fine-tuned: mobilenet_v2-softmax-last and mobilenet_v2_0.35-softmax-last, of which the last 20
    layers are trained, and, slow, with minutes for each fold, mobilenet_v2-softmax and
    vgg16-softmax, of which the first 10 are.

    `--task segment` finds lesions, and needs masks: those of BUSI. Dice, IoU and HD95 are those of
    images with a lesion, beside the false positives on images without. Writes
    OUT/segmentation.csv, OUT/segmentation_folds.csv (a row as soon as a fold is done), the best
    model, and of each model's first fold the best, median and worst masks as
    OUT/segmentation_NAME.png.

    Segmenters: mobilenet_v2-unet and resnet50-unet (a decoder on a frozen encoder) and pixel-ann (a
    multi-layer perceptron that judges each pixel), with minutes for each fold, and, slow, with
    minutes to tens of minutes for each fold on two cores, unet and dncnn (24 filters a layer,
    where its paper has 64), trained from scratch. Without DATA small ones: unet-small,
    mobilenet_v2_0.35-unet, dncnn-small, pixel-ann-basic.
    """
    started = time.perf_counter()
    segments = task is Task.segment
    known = recipes_segment if segments else recipes
    with user_errors():
        chosen = recipes.choose(
            models or (known.OFFLINE_MODELS if data is None else known.DEFAULT_MODELS),
            known.RECIPES,
        )
        if segments:
            _refuse_for_segmenters(n_jobs, protocol)
            recipes_segment.refuse_idle_options(chosen, weights, cache)
        elif lesions_only is not None:
            raise ValueError("--lesions-only and --with-normals are for --task segment")
        if n_jobs == 0:
            raise ValueError("--n-jobs 0: expected 1 or more processes, or -1 for all cores")
        if data is None and (curation or groups):
            raise ValueError("--curation and --groups describe real images: give their folder DATA")
        if data is None:
            n_phantoms = reading.N_PHANTOMS_TO_SEGMENT if segments else reading.N_PHANTOMS
            dataset = reading.read_phantoms(n_phantoms, seed)
        else:
            dataset = reading.read_folder(data, curation, groups)
    settings = Settings(
        models=chosen,
        folds=folds,
        repeats=repeats,
        seed=seed,
        weights=weights or ("bundled" if data is None else "imagenet"),
        image_size=image_size or (None if segments or data is not None else PHANTOM_INPUT),
        cache=cache,
        out=out,
    )
    if segments:
        segment(dataset, settings, lesions_only)
    else:
        classify(dataset, settings, n_jobs, also_reported=protocol is Protocol.report)
    tell(f"Finished in {time.perf_counter() - started:.0f} s. Not a medical device.")


def _refuse_for_segmenters(n_jobs: int, protocol: Protocol) -> None:
    """Refuse what only classifiers are compared with."""
    if n_jobs != 1:
        raise ValueError(
            f"--n-jobs {n_jobs}: segmenters are fitted one after another, since each uses all cores"
        )
    if protocol is not Protocol.honest:
        raise ValueError(f"--protocol {protocol}: for --task classify; segmenters are scored as is")
