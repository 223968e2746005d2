"""Calibration of heads on frozen features: whether probabilities mean what they say.

``python -m benchmarks.calibration [--encoder mobilenet_v2] [--repeats 2]``: BUSI in three classes,
folds by duplicate group; each head as it is, with Platt's sigmoids, one class against the rest, and
with one temperature (Guo et al. 2017, arXiv:1706.04599), both fitted on inner folds that keep
groups whole. A temperature leaves the most probable class what it is.
"""

import argparse

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier
from sklearn.svm import SVC
from threadpoolctl import threadpool_limits

from benchmarks._report import keep, load_real_busi, show, use_real_weights
from hybridus import compare, make_hybrid_classifier
from hybridus.estimators.calibration import WholeGroupsCalibration
from hybridus.inputs.groups import WholeGroupsKFold

HEADS: dict[str, BaseEstimator] = {
    "svm": SVC(C=10, class_weight="balanced"),
    "logreg": LogisticRegression(C=0.01, class_weight="balanced", max_iter=5000),
    "mlp": MLPClassifier((128,), alpha=0.01, max_iter=300, random_state=0),
}


def heads() -> dict[str, BaseEstimator]:
    """Each head as it is and calibrated in both ways."""
    made = {}
    for name, head in HEADS.items():
        made[name] = head
        for method in ("sigmoid", "temperature"):
            made[f"{name}, {method}"] = WholeGroupsCalibration(
                head, method=method, ensemble=False, cv=WholeGroupsKFold(5)
            )
    return made


def main() -> None:
    """Print and keep the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--encoder", default="mobilenet_v2")
    parser.add_argument("--repeats", type=int, default=2)
    arguments = parser.parse_args()
    use_real_weights()
    busi = load_real_busi()
    models = {
        name: make_hybrid_classifier(arguments.encoder, head) for name, head in heads().items()
    }
    with threadpool_limits(1, "blas"):
        study = compare(
            models, busi.images, busi.target, groups=busi.groups, n_repeats=arguments.repeats
        )
    table = study.calibration.join(study.table[["accuracy_mean", "accuracy_std", "fit_seconds"]])
    rows = [
        {
            "model": name,
            **{k: v for k, v in row.items() if not (isinstance(v, float) and np.isnan(v))},
        }
        for name, row in table.to_dict(orient="index").items()
    ]
    show(rows, "BUSI, folds by duplicate group: probabilities out of folds")
    keep("calibration", rows, **vars(arguments))


if __name__ == "__main__":
    main()
