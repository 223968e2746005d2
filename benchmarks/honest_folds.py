"""The same models on random folds, on folds by published groups and by those that are found.

``python -m benchmarks.honest_folds [--seeds 3]``: BUSI in three classes, images whose duplicates
bear another class left out, 5 folds for each seed. Published groups are those of Pawlowska et al.
2023; the found ones are those of `hybridus.near_duplicate_groups`, which sees pixels alone.
"""

import argparse
import functools
import time

import numpy as np
from threadpoolctl import threadpool_limits

from benchmarks._report import keep, load_real_busi, show, use_real_weights
from hybridus import compare, make_hybrid_classifier, near_duplicate_groups

FUSION = ["vgg16", "mobilenet_v2", "resnet50"]


def models() -> dict:
    """Rows of the table: an SVM on the last layer of two networks, and the two best."""
    hybrid = functools.partial(make_hybrid_classifier, random_state=0)
    return {
        "MobileNetV2, last layer, SVM": hybrid("mobilenet_v2", layers="last"),
        "VGG16, last layer, SVM": hybrid("vgg16", layers="last"),
        "ResNet50, several layers, SVM": hybrid("resnet50", layers="multi", pooling="avgmax"),
        "fusion of three, logistic regression": hybrid(FUSION, "logreg", layers="multi"),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    use_real_weights()
    busi = load_real_busi()
    started = time.process_time()
    found = near_duplicate_groups(busi.images)
    seconds = time.process_time() - started
    ways = {"random folds": "independent", "published groups": busi.groups, "found groups": found}
    rows = {name: {"model": name} for name in models()}
    folds = {}
    with threadpool_limits(1, "blas"):  # a second thread only waits, where matrices are small
        for way, groups in ways.items():
            study = compare(
                models(), busi.images, busi.target, groups=groups, n_repeats=arguments.seeds
            )
            scores = study.folds[["model", "repeat", "fold", "accuracy", "f1_macro"]]
            folds[way] = scores.to_dict("records")
            for name, row in study.table.iterrows():
                mean, spread = row["accuracy_mean"], row["accuracy_std"]
                rows[str(name)][way] = f"{mean:.3f} ± {spread:.3f}"
                rows[str(name)][f"{way}, macro-F1"] = round(row["f1_macro_mean"], 4)
    counts = {
        "scans": len(found),
        "published groups": len(np.unique(busi.groups)),
        "found groups": len(np.unique(found)),
        "seconds to find them, of one core": round(seconds, 1),
    }
    show(list(rows.values()), "BUSI, accuracy: mean and standard deviation over folds")
    print(counts)
    keep(
        "honest_folds",
        {"table": list(rows.values()), "groups": counts, "folds": folds},
        seeds=arguments.seeds,
    )


if __name__ == "__main__":
    main()
