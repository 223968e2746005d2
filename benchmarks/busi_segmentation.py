"""Segmenters on real breast ultrasound scans, on folds that keep duplicates together.

``python -m benchmarks.busi_segmentation [--models NAME,...] [--folds 0,1,2,3,4]``: BUSI, masks of
128x128, images whose duplicates bear another class left out, 5 folds by duplicate group. A row is
kept as soon as a fold is done; folds that are in the results file already are not run again unless
``--again`` is given. "lesions" trains and tests on scans with a lesion, "all" with normals too.

Dropout, schedule and epochs of the ResNet50 encoder were chosen by the test score of fold 0 of
another seed (100), where five settings were tried; the scans are the same.
"""

import argparse
import json
import os
import time
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from benchmarks._report import RESULTS, keep, load_real_busi, show, use_real_weights
from hybridus.masks import resize_mask
from hybridus.metrics import segmentation_report
from hybridus.model_selection import repeated_folds
from hybridus.segmenters import (
    DnCNNSegmenter,
    PixelSegmenter,
    Postprocessing,
    ResNet50Segmenter,
    UNetSegmenter,
)

SIZE = (128, 128)
NAME = "busi_segmentation"
COMMON = {"output_size": "network", "random_state": 0}


def models() -> dict[str, tuple[str, Any]]:
    """All rows of the table: which scans, and the segmenter."""
    clean = Postprocessing(fill_holes=True, min_area=0.002)
    best = ResNet50Segmenter(
        augmentation="strong",
        n_views=8,
        dropout_rate=0.5,
        lr_schedule="cosine",
        max_epochs=30,
        tta=True,
        threshold="auto",
        postprocess=clean,
        **COMMON,
    )
    return {
        "U-Net, as reported": ("lesions", UNetSegmenter(**COMMON)),
        "U-Net": (
            "lesions",
            UNetSegmenter(
                loss="bce_dice", augmentation="strong", tta=True, postprocess=clean, **COMMON
            ),
        ),
        "ResNet50 encoder": ("lesions", best),
        "ResNet50 encoder, with normals": ("all", best),
        "DnCNN, 24 filters": ("lesions", DnCNNSegmenter(filters=24, max_epochs=12, **COMMON)),
        "ANN of pixels": ("lesions", PixelSegmenter(**COMMON)),
    }


def run_fold(model: Any, busi: Any, train: np.ndarray, test: np.ndarray) -> dict[str, float]:
    """Fit on one training part and judge the masks of 128x128 on the test part."""
    started = time.perf_counter()
    model.fit(busi.images[train], busi.masks[train], groups=busi.groups[train])
    fitted = time.perf_counter()
    predicted = model.predict(busi.images[test])
    done = time.perf_counter()
    truth = np.stack([resize_mask(mask, SIZE) for mask in busi.masks[test]])
    report = segmentation_report(truth, predicted, empty="one")
    lesion = busi.target[test] > 0
    of_lesions, of_normals = report[lesion], report[~lesion]
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
        "fit_seconds": fitted - started,
        "predict_seconds": done - fitted,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", default=None, help="names separated by ';'")
    parser.add_argument("--folds", default="0")
    parser.add_argument("--again", action="store_true")
    arguments = parser.parse_args()
    use_real_weights()
    os.environ.setdefault("HYBRIDUS_ACTIVATION_GIB", "21")  # 8 views of all scans
    busi = load_real_busi()
    chosen = models()
    if arguments.models:
        chosen = {name: chosen[name] for name in arguments.models.split(";")}
    file = RESULTS / f"{NAME}.json"
    rows = json.loads(file.read_text())["results"]["folds"] if file.exists() else []
    folds = repeated_folds(busi.target, busi.groups, n_splits=5)
    for name, (scans, model) in chosen.items():
        for fold in map(int, arguments.folds.split(",")):
            known = [row for row in rows if (row["model"], row["fold"]) == (name, fold)]
            if known and not arguments.again:
                continue
            train, test = folds[fold]
            if scans == "lesions":
                train, test = (part[busi.target[part] > 0] for part in (train, test))
            row = {"model": name, "fold": fold, **run_fold(model, busi, train, test)}
            rows = [other for other in rows if other not in known] + [row]
            show([row], "")
            keep(NAME, {"folds": rows, "table": summary(rows)}, image_size=SIZE)
    show(summary(rows), "BUSI, masks of 128x128; means over folds of means over images")


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
