"""Segmenters on real breast ultrasound scans, on folds that keep duplicates together.

``python -m benchmarks.busi_segmentation [--models NAME,...] [--folds 0,1,2,3,4]``: BUSI, masks of
128x128, images whose duplicates bear another class left out, 5 folds by duplicate group. A row is
kept as soon as a fold is done; folds that are in the results file already are not run again unless
``--again`` is given. "lesions" trains and tests on scans with a lesion, "all" with normals too.

HD95 is the mean over scans in which something was found: without "detected" beside it, it praises a
model that finds little. Seconds are those of whatever cores a run had.

Settings were chosen by the test scores of fold 0 of another seed (100), where about ten were tried;
the scans are the same, in other parts.
"""

import argparse
import json
import os
import time
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from benchmarks._report import RESULTS, keep, load_real_busi, show, use_real_weights
from hybridus.estimators.segmenters import (
    DnCNNSegmenter,
    EncoderUNetSegmenter,
    PixelSegmenter,
    Postprocessing,
    ResNet50Segmenter,
    UNetSegmenter,
    VotingSegmenter,
)
from hybridus.inputs.masks import resize_mask
from hybridus.metrics import segmentation_report
from hybridus.protocol.model_selection import repeated_folds

SIZE = (128, 128)
NAME = "busi_segmentation"
COMMON = {"output_size": "network", "random_state": 0}


def models() -> dict[str, tuple[str, Any]]:
    """All rows of the table: which scans, and the segmenter."""
    clean = Postprocessing(fill_holes=True, min_area=0.002)
    answers = {"threshold": "auto", "postprocess": clean}
    trained = {"augmentation": "strong", "lr_schedule": "cosine", "tta": True, **answers, **COMMON}
    on_frozen = {"dropout_rate": 0.5, "max_epochs": 30, **trained}
    averaged = VotingSegmenter(
        [
            ("MobileNetV2 encoder", EncoderUNetSegmenter("mobilenet_v2", n_views=6, **on_frozen)),
            ("ResNet50 encoder", ResNet50Segmenter(n_views=4, **on_frozen)),
        ],
        output_size="network",
        **answers,
    )
    unet = UNetSegmenter(
        loss="bce_dice",
        deep_supervision=True,
        batch_size=8,
        max_epochs=70,
        patience=70,
        precision="bfloat16",
        **trained,
    )
    return {
        "both encoders": ("lesions", averaged),
        "both encoders, with normals": ("all", averaged),
        "U-Net, as reported": ("lesions", UNetSegmenter(**COMMON)),
        "U-Net": ("lesions", unet),
        "U-Net, with normals": ("all", unet),
        "DnCNN, 24 filters": ("lesions", DnCNNSegmenter(filters=24, max_epochs=12, **COMMON)),
        "ANN of pixels": ("lesions", PixelSegmenter(**COMMON)),
    }


def run_fold(
    name: str, model: Any, busi: Any, train: np.ndarray, test: np.ndarray
) -> dict[str, dict[str, float]]:
    """Fit on one training part and judge the masks of 128x128 on the test part.

    A row by the name of the model and, where it averages several, one for each of them.
    """
    started = time.perf_counter()
    model.fit(busi.images[train], busi.masks[train], groups=busi.groups[train])
    seconds = time.perf_counter() - started
    rows = {name: {**judged(model, busi, test), "fit_seconds": seconds}}
    for member, fitted in getattr(model, "named_estimators_", {}).items():
        rows[name.replace("both encoders", member)] = {
            **judged(fitted, busi, test),
            # What both share, encoded images above all, is in the seconds of both.
            "predict_seconds": float("nan"),
            "fit_seconds": float("nan"),
        }
    return rows


def judged(model: Any, busi: Any, test: np.ndarray) -> dict[str, float]:
    """Scores of a fitted segmenter on the test part."""
    started = time.perf_counter()
    predicted = model.predict(busi.images[test])
    seconds = time.perf_counter() - started
    truth = np.stack([resize_mask(mask, SIZE) for mask in busi.masks[test]])
    report = segmentation_report(truth, predicted, empty="one")
    lesion = busi.target[test] > 0
    of_lesions, of_normals = report[lesion], report[~lesion]
    seconds_of_epochs = getattr(model, "history_", {"seconds": [float("nan")]})["seconds"]
    return {
        "n_test": len(test),
        "dice_lesions": of_lesions["dice"].mean(),
        "iou_lesions": of_lesions["iou"].mean(),
        "hd95_lesions": of_lesions["hausdorff_95"].mean(),
        "dice_all": report["dice"].mean(),
        "iou_all": report["iou"].mean(),
        "detected": of_lesions["n_detected"].sum() / of_lesions["n_true"].sum(),
        "normals_with_false_alarm": (of_normals["n_false_positive"] > 0).mean(),
        "epochs": getattr(model, "n_iter_", float("nan")),
        "seconds_of_epochs": float(np.sum(seconds_of_epochs)),
        "predict_seconds": seconds,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", default=None, help="names separated by ';'")
    parser.add_argument("--folds", default="0")
    parser.add_argument("--again", action="store_true")
    arguments = parser.parse_args()
    use_real_weights()
    os.environ.setdefault("HYBRIDUS_ACTIVATION_GIB", "21")  # all views of all scans
    busi = load_real_busi()
    chosen = models()
    if arguments.models:
        chosen = {name: chosen[name] for name in arguments.models.split(";")}
    folds = repeated_folds(busi.target, busi.groups, n_splits=5)
    for name, (scans, model) in chosen.items():
        for fold in map(int, arguments.folds.split(",")):
            known = {(row["model"], row["fold"]) for row in kept_rows()}
            if (name, fold) in known and not arguments.again:
                continue
            train, test = folds[fold]
            if scans == "lesions":
                train, test = (part[busi.target[part] > 0] for part in (train, test))
            found = [
                {"model": of, "fold": fold, **row}
                for of, row in run_fold(name, model, busi, train, test).items()
            ]
            done = {row["model"] for row in found}
            # Read again: another run may have kept rows meanwhile.
            others = [row for row in kept_rows() if row["fold"] != fold or row["model"] not in done]
            rows = others + found
            show(found, "")
            keep(NAME, {"folds": rows, "table": summary(rows)}, image_size=SIZE)
    show(summary(kept_rows()), "BUSI, masks of 128x128; means over folds of means over images")


def kept_rows() -> list[dict[str, Any]]:
    """Rows of all folds in the results file."""
    file = RESULTS / f"{NAME}.json"
    return json.loads(file.read_text())["results"]["folds"] if file.exists() else []


def summary(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One row for each model, means over the folds that were run."""
    table = []
    for name in dict.fromkeys(row["model"] for row in rows):
        of_model = [row for row in rows if row["model"] == name]
        means = {
            key: float(np.mean([row[key] for row in of_model]))
            for key in of_model[0]
            if key not in ("model", "fold")
        }
        dice = [row["dice_lesions"] for row in of_model]
        spread = float(np.std(dice, ddof=1)) if len(dice) > 1 else float("nan")
        table.append({"model": name, "folds": len(of_model), **means, "sd_over_folds": spread})
    return table


if __name__ == "__main__":
    with threadpool_limits(1, "blas"):
        main()
