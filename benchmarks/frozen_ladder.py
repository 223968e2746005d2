"""What each ingredient adds to frozen features of whole images, rung by rung, on BUSI.

``python -m benchmarks.frozen_ladder [--repeats 3]``: three classes, images whose duplicates bear
another class left out, 5 folds by duplicate group for each repeat, the same for all rungs. Nothing
was chosen on these folds: C = 0.003 is the project's default for logistic regression on thousands
of features, and mirrored views, poolings and the sum of heads were looked at on seed 100. The last
rung chooses layers and C inside each training part. Each rung is compared with the one before it
and with the first, by a test that holds its level with duplicates and repeated folds.
"""

import argparse
import itertools
import time
import warnings

from sklearn.ensemble import VotingClassifier
from sklearn.model_selection import GridSearchCV, StratifiedGroupKFold
from sklearn.pipeline import FeatureUnion
from threadpoolctl import threadpool_limits

from benchmarks._report import keep, load_real_busi, show, use_real_weights
from hybridus import TextureFeatures, compare, make_hybrid_classifier
from hybridus.protocol.statistics import holm

FUSION = ["vgg16", "mobilenet_v2", "resnet50"]
BOTH = ["avg", "max"]
MIRROR = ["mirror"]


def logreg(encoders, *, texture=False, **extractor):
    pipe = make_hybrid_classifier(encoders, "logreg", random_state=0, **extractor)
    pipe.set_params(head__C=0.003)
    if texture:
        features = pipe.named_steps["features"]
        parts = [*features.transformer_list, ("texture", TextureFeatures())]
        pipe.set_params(features=FeatureUnion(parts, verbose_feature_names_out=False))
    return pipe


def mean_of_heads(encoders, **extractor):
    svm = make_hybrid_classifier(encoders, "svm", probability=True, random_state=0, **extractor)
    return VotingClassifier(
        [("logreg", logreg(encoders, **extractor)), ("svm", svm)], voting="soft"
    )


def chosen_inside():
    pipe = logreg("resnet50", pooling=BOTH, views=MIRROR)
    later = ["conv3_block4_out", "conv4_block6_out"]
    grid = {"features__layers": ["multi", later], "head__C": [0.001, 0.003, 0.01]}
    return GridSearchCV(pipe, grid, cv=StratifiedGroupKFold(3, shuffle=True, random_state=0))


def rungs() -> dict:
    """All rungs, from the bottom."""
    last = make_hybrid_classifier("mobilenet_v2", "svm", layers="last", random_state=0)
    return {
        "MobileNetV2, last layer, SVM": last,
        "several layers": make_hybrid_classifier("mobilenet_v2", "svm", random_state=0),
        "logistic regression": logreg("mobilenet_v2"),
        "textures beside it": logreg(["mobilenet_v2"], texture=True),  # a list makes a union
        "pyramid in place of the average": logreg("mobilenet_v2", pooling="pyramid"),
        "ResNet50, average": logreg("resnet50"),
        "average and deviation": logreg("resnet50", pooling=["avg", "std"]),
        "average and maximum": logreg("resnet50", pooling=BOTH),
        "and mirrored": logreg("resnet50", pooling=BOTH, views=MIRROR),
        "layers and C chosen inside": chosen_inside(),
        "three networks, average": logreg(FUSION),
        "three, average and maximum, mirrored": logreg(FUSION, pooling=BOTH, views=MIRROR),
        "mean of logistic regression and SVM": mean_of_heads(FUSION, pooling=BOTH, views=MIRROR),
    }


# The rung that each is compared with, where it is not the one before.
BEFORE = {
    "pyramid in place of the average": "logistic regression",
    "ResNet50, average": "logistic regression",
    "average and maximum": "ResNet50, average",
    "three networks, average": "ResNet50, average",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--rungs", default=None, help="names separated by ';'")
    arguments = parser.parse_args()
    use_real_weights()
    warnings.simplefilter("ignore")
    busi = load_real_busi()
    models = rungs()
    if arguments.rungs:
        models = {name: models[name] for name in arguments.rungs.split(";")}
    started = time.perf_counter()
    with threadpool_limits(1):
        found = compare(
            models, busi.images, busi.target, groups=busi.groups, n_repeats=arguments.repeats
        )
    scores = found.table.rename_axis("rung").reset_index().set_index("rung")
    columns = ["accuracy", "f1_macro", "macro_ovr_auc"]
    table = [
        {"rung": name}
        | {
            f"{column}{suffix}": round(float(scores.loc[name, f"{column}_{kind}"]), 4)
            for column in columns
            for suffix, kind in (("", "mean"), (" sd", "std"))
        }
        for name in models
    ]
    show(table, f"BUSI, three classes, {len(busi.target)} scans, 5 folds x {arguments.repeats}")

    names = list(models)
    pairs = {(name, BEFORE.get(name, before)) for before, name in itertools.pairwise(names)}
    pairs |= {(name, names[0]) for name in names[1:]}
    keep(
        "frozen_ladder",
        {"table": table, "differences": differences(found, pairs)},
        repeats=arguments.repeats,
        seconds=time.perf_counter() - started,
    )


def differences(found, pairs) -> list[dict]:
    """Accuracy of a rung less that of another; p is corrected over these pairs alone."""
    rows = []
    for (model, other), row in found.differences.iterrows():
        for first, second, sign in ((model, other, 1), (other, model, -1)):
            if (first, second) in pairs:
                low, high = sorted((sign * row["low"], sign * row["high"]))
                of = {"rung": first, "less": second, "difference": sign * row["difference"]}
                rows.append({**of, "low": low, "high": high, "p": row["p"]})
    for row, corrected in zip(rows, holm([row["p"] for row in rows]), strict=True):
        row["p_holm"] = float(corrected)
    show(rows, "Differences in accuracy, with 95 % intervals over groups")
    return rows


if __name__ == "__main__":
    main()
