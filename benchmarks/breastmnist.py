"""Frozen hybrids on BreastMNIST, 28 x 28, with its official split.

``python -m benchmarks.breastmnist``: encoders, input sizes, poolings and heads are tried on the
training part and chosen by the AUC on the validation part alone; what was chosen is fitted on the
training part and scored once on the test part: on all 156 images, as others report, and without
the 60 that have a twin in the training part. Intervals are bootstraps over test images.
"""

import argparse
import itertools
import warnings

import numpy as np
from sklearn.metrics import accuracy_score, roc_auc_score

from benchmarks._report import SHARED, keep, show, use_real_weights
from hybridus import load_breastmnist, make_hybrid_classifier

ENCODERS = {
    "mobilenet_v2": ["mobilenet_v2"],
    "resnet50": ["resnet50"],
    "vgg16": ["vgg16"],
    "fusion": ["vgg16", "mobilenet_v2", "resnet50"],
}
SIZES = (96, 128)
POOLINGS = {"avg": "avg", "avg+max": ["avg", "max"]}
HEADS = {
    **{f"logreg C={c:g}": ("logreg", c) for c in (0.0003, 0.001, 0.003, 0.01)},
    **{f"svm C={c:g}": ("svm", c) for c in (1, 10)},
}


def decisions(model, images) -> np.ndarray:
    """Scores of class 1, normal or benign."""
    if hasattr(model, "predict_proba"):
        return model.predict_proba(images)[:, 1]
    return model.decision_function(images)


def scored(model, images, target) -> dict[str, float]:
    """AUC and accuracy, with 95 % intervals by bootstrap over the images."""
    scores, found = decisions(model, images), model.predict(images)
    rng = np.random.default_rng(0)
    drawn = []
    while len(drawn) < 2000:
        of = rng.integers(0, len(target), len(target))
        if np.ptp(target[of]):
            drawn.append((roc_auc_score(target[of], scores[of]), np.mean(found[of] == target[of])))
    low, high = np.percentile(drawn, [2.5, 97.5], axis=0)
    return {
        "images": len(target),
        "auc": roc_auc_score(target, scores),
        "auc_interval": f"{low[0]:.3f} to {high[0]:.3f}",
        "accuracy": accuracy_score(target, found),
        "accuracy_interval": f"{low[1]:.3f} to {high[1]:.3f}",
    }


def main() -> None:
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    use_real_weights()
    warnings.simplefilter("ignore")
    data = load_breastmnist(
        SHARED / "data" / "breastmnist.npz", curation=SHARED / "data" / "busi_curation.csv"
    )
    parts = {part: data.split == part for part in ("train", "val", "test")}
    X = {part: data.images[of] for part, of in parts.items()}
    y = {part: data.target[of] for part, of in parts.items()}

    tried = []
    for (name, encoders), size, (pooling, how), (head, (kind, c)) in itertools.product(
        ENCODERS.items(), SIZES, POOLINGS.items(), HEADS.items()
    ):
        model = make_hybrid_classifier(
            encoders, kind, image_size=size, pooling=how, views=["mirror"], random_state=0
        )
        model.set_params(head__C=c).fit(X["train"], y["train"])
        auc = roc_auc_score(y["val"], decisions(model, X["val"]))
        accuracy = accuracy_score(y["val"], model.predict(X["val"]))
        row = {"encoder": name, "pixels": size, "pooling": pooling, "head": head}
        tried.append(({**row, "val_auc": auc, "val_accuracy": accuracy}, model))
    tried.sort(key=lambda one: -one[0]["val_auc"])
    show([row for row, _ in tried[:8]], f"Best of {len(tried)} by the AUC on 78 validation images")

    chosen, model = tried[0]
    train = set(data.groups[parts["train"]])
    alone = np.array([group not in train for group in data.groups[parts["test"]]])
    table = [
        {"test images": "all, as others report", **scored(model, X["test"], y["test"])},
        {
            "test images": "without twins in train",
            **scored(model, X["test"][alone], y["test"][alone]),
        },
    ]
    show(table, "Chosen: " + ", ".join(f"{key} {value}" for key, value in chosen.items()))
    keep("breastmnist", {"tried": [row for row, _ in tried], "chosen": chosen, "test": table})


if __name__ == "__main__":
    main()
