"""What the bundled weights are worth on real scans, beside random and ImageNet ones.

``python -m benchmarks.bundled_weights [--weights FILE] [--seeds 3]``: BUSI in three classes, 5
folds by duplicate group for each seed, the same support vector machine on every encoder's features,
of the last layer and of several. Then classifiers that saw phantoms alone, tested on real scans:
lesion against normal, and benign against malignant.
"""

import argparse
import functools
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.metrics import accuracy_score, balanced_accuracy_score, roc_auc_score

from benchmarks._report import ROOT, keep, load_real_busi, show, use_real_weights
from hybridus import compare, make_hybrid_classifier
from hybridus.datasets import make_breast_phantoms

COMPACT = "mobilenet_v2_0.35"
BUNDLED = ROOT / "hybridus" / "encoders" / f"{COMPACT}.safetensors"
LAYERS = ("last", "multi")
N_PHANTOMS = 1500
NORMAL, MALIGNANT = 0, 1


def encoders(bundled: Path) -> dict[str, tuple[str, str]]:
    """Give encoder and weights by the name of their row."""
    return {
        "0.35 random": (COMPACT, "random"),
        "0.35 bundled": (COMPACT, str(bundled)),
        "0.35 ImageNet": (COMPACT, "imagenet"),
        "1.0 ImageNet": ("mobilenet_v2", "imagenet"),
    }


def on_folds(busi: Any, bundled: Path, seeds: int) -> tuple[list[dict], dict[str, list[dict]]]:
    """Cross-validate every encoder on the same folds."""
    rows, folds = [], {}
    for layers in LAYERS:
        models = {
            name: make_hybrid_classifier(encoder, weights=weights, layers=layers, random_state=0)
            for name, (encoder, weights) in encoders(bundled).items()
        }
        found = compare(models, busi.images, busi.target, groups=busi.groups, n_repeats=seeds)
        for name in models:
            row = found.table.loc[name]
            rows.append(
                {
                    "weights": name,
                    "layers": layers,
                    "accuracy": round(row["accuracy_mean"], 4),
                    "sd": round(row["accuracy_std"], 4),
                    "macro_f1": round(row["f1_macro_mean"], 4),
                    "balanced": round(row["balanced_accuracy_mean"], 4),
                    "auc": round(row["macro_ovr_auc_mean"], 4),
                }
            )
        folds[layers] = [
            {key: fold[key] for key in ("model", "repeat", "fold", "accuracy", "f1_macro")}
            for fold in found.folds.to_dict("records")
        ]
    return rows, folds


def closed(rows: list[dict]) -> dict[str, float]:
    """Share of the way from random to ImageNet weights of the same encoder, by layers and score."""
    by_name = {(row["weights"], row["layers"]): row for row in rows}
    shares = {}
    for layers in LAYERS:
        for score in ("accuracy", "macro_f1"):
            random, bundled, imagenet = (
                by_name[f"0.35 {weights}", layers][score]
                for weights in ("random", "bundled", "ImageNet")
            )
            shares[f"{layers}, {score}"] = round((bundled - random) / (imagenet - random), 3)
    return shares


@functools.cache
def _phantoms() -> Any:
    return make_breast_phantoms(N_PHANTOMS, image_size=224, random_state=2026)


def from_phantoms(busi: Any, bundled: Path) -> list[dict]:
    """Fit on phantoms alone, test on all real scans; twice, for two questions."""
    phantoms = _phantoms()
    target = np.asarray(busi.target)
    questions = {
        "lesion or normal": (np.ones(len(target), bool), lambda y: y != NORMAL),
        "malignant or benign": (target != NORMAL, lambda y: y == MALIGNANT),
    }
    rows = []
    for name, (encoder, weights) in encoders(bundled).items():
        for layers in LAYERS:
            for question, (tested, answer) in questions.items():
                seen = np.ones(N_PHANTOMS, bool)
                if question == "malignant or benign":
                    seen = phantoms.target != NORMAL
                model = make_hybrid_classifier(
                    encoder, weights=weights, layers=layers, random_state=0
                ).fit(phantoms.images[seen], answer(phantoms.target[seen]))
                images = np.asarray(busi.images)[tested]
                truth = answer(target[tested])
                said = model.predict(images)
                rows.append(
                    {
                        "weights": name,
                        "layers": layers,
                        "question": question,
                        "auc": round(roc_auc_score(truth, model.decision_function(images)), 4),
                        "accuracy": round(accuracy_score(truth, said), 4),
                        "balanced": round(balanced_accuracy_score(truth, said), 4),
                        "majority": round(max(truth.mean(), 1 - truth.mean()), 4),
                    }
                )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--weights", type=Path, default=BUNDLED, help="another file to judge")
    arguments = parser.parse_args()
    use_real_weights()
    warnings.simplefilter("ignore")
    busi = load_real_busi()
    rows, folds = on_folds(busi, arguments.weights, arguments.seeds)
    show(rows, f"BUSI, three classes, folds by group, 5 x {arguments.seeds}")
    shares = closed(rows)
    show([shares], "Share of the gap between random and ImageNet weights that is closed")
    transfer = from_phantoms(busi, arguments.weights)
    show(transfer, f"Trained on {N_PHANTOMS} phantoms alone, tested on {len(busi.target)} scans")
    if arguments.weights == BUNDLED:
        results = {"table": rows, "closed": shares, "from_phantoms": transfer, "folds": folds}
        print(keep("bundled_weights", results, seeds=arguments.seeds, n_phantoms=N_PHANTOMS))


if __name__ == "__main__":
    main()
