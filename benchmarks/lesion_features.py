"""Lesion features: what they add to features of the whole image, with masks that were predicted.

``python -m benchmarks.lesion_features [--folds 5] [--repeats 1] [--seed 0]``: BUSI, folds by
duplicate group, in three classes, and malignant against benign on images with a lesion. In each
fold one segmenter is trained on the training part, and others on parts of it, for the masks of the
training images (`LesionFeatures`); all rows of the table that look at lesions share them. Rows with
true masks are no model: they say what a perfect segmenter would give, and what the outlines of
readers who knew the class give away. Scores are out of fold; differences are tested over groups.
"""

import argparse
from copy import copy
from dataclasses import replace
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import VotingClassifier
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from threadpoolctl import threadpool_limits

from benchmarks._report import keep, load_real_busi, show, use_real_weights
from hybridus import DeepFeatureExtractor, EncoderUNetSegmenter, LesionFeatures
from hybridus.estimators.scaler import FeatureScaler
from hybridus.estimators.segmenters.prediction import SegmenterMixin
from hybridus.inputs.images import as_images, content_key
from hybridus.inputs.masks import as_masks, resize_mask
from hybridus.protocol.comparison import Comparison
from hybridus.protocol.folds import repeated_folds
from hybridus.protocol.run import fit_and_judge

WHOLE = ("vgg16", "mobilenet_v2", "resnet50")
TASKS = ("three classes", "malignant against benign")


class TrueMasks(SegmenterMixin, BaseEstimator):
    """Answer with the masks that readers drew: no segmenter, but the ceiling of all."""

    image_shape = value_range = None

    def fit(self, X: Any, masks: Any) -> "TrueMasks":
        """Remember the masks of images."""
        self.mask_size_, self.resize_, self.threshold_ = (128, 128), "stretch", 0.5
        self.drawn_ = {
            content_key(image).hex(): resize_mask(mask, self.mask_size_)
            for image, mask in zip(as_images(X), as_masks(masks), strict=True)
        }
        return self

    def _probability_maps(self, images: Any) -> Any:
        for i in range(len(images)):
            yield self.drawn_[content_key(images[i]).hex()].astype(np.float32)


def head(columns: np.ndarray, C: float) -> Any:
    """Logistic regression on some of the columns."""
    chosen = ColumnTransformer([("chosen", FeatureScaler(), columns)])
    model = LogisticRegression(C=C, class_weight="balanced", max_iter=5000)
    return make_pipeline(chosen, model)


def models(places: dict[str, np.ndarray]) -> dict[str, Any]:
    """All rows of the table, on columns of one matrix."""
    fusion = np.concatenate([places[f"whole {name}"] for name in WHOLE])
    lesion = np.concatenate([places["measured"], places["crops"]])
    made = {
        "whole image, MobileNetV2": head(places["whole mobilenet_v2"], 0.003),
        "whole image, fusion of three": head(fusion, 0.003),
        "lesion, measurements": head(places["measured"], 0.1),
        "lesion, crops": head(places["crops"], 0.003),
        "lesion, both": head(lesion, 0.003),
        "whole fusion and lesion, one head": head(np.concatenate([fusion, lesion]), 0.001),
    }
    parts = ("whole image, fusion of three", "lesion, measurements", "lesion, crops")
    made["whole fusion, measurements and crops, averaged"] = VotingClassifier(
        [(name, made[name]) for name in parts], voting="soft"
    )
    made["true masks: measurements"] = head(places["true measured"], 0.1)
    made["true masks: crops"] = head(places["true crops"], 0.003)
    return made


def main() -> None:
    """Print and keep the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--encoder", default="mobilenet_v2", help="of segmenter and crops")
    parser.add_argument("--segmenter-size", type=int, default=256)
    parser.add_argument("--segmenter-epochs", type=int, default=30)
    parser.add_argument("--inner-folds", type=int, default=3)
    arguments = parser.parse_args()
    use_real_weights()
    busi = load_real_busi()
    images, masks, y = np.asarray(busi.images), busi.masks, np.asarray(busi.target)
    groups = np.asarray(busi.groups)

    def chosen(rows: np.ndarray) -> Any:
        return [masks[i] for i in rows]

    blocks = {f"whole {name}": DeepFeatureExtractor(name).fit_transform(images) for name in WHOLE}
    drawn = LesionFeatures(
        FrozenEstimator(TrueMasks().fit(images, masks)), DeepFeatureExtractor(arguments.encoder)
    )
    blocks |= split("true ", drawn.fit_transform(images), drawn)
    segmenter = EncoderUNetSegmenter(
        arguments.encoder,
        image_size=arguments.segmenter_size,
        max_epochs=arguments.segmenter_epochs,
        random_state=arguments.seed,
    )
    folds = repeated_folds(
        y,
        groups,
        n_splits=arguments.folds,
        n_repeats=arguments.repeats,
        random_state=arguments.seed,
    )
    results: dict[str, list[Any]] = {task: [] for task in TASKS}
    for number, (train, test) in enumerate(folds):
        lesions = LesionFeatures(
            segmenter, DeepFeatureExtractor(arguments.encoder), n_splits=arguments.inner_folds
        )
        lesions.fit(images[train], y[train], masks=chosen(train), groups=groups[train])
        dice = lesions.segmenter_.score(list(images[test]), chosen(test))
        print(f"fold {number}: Dice of all images {dice:.3f}", flush=True)
        found = blocks | split("", lesions.transform(images), lesions)
        ends = np.cumsum([0, *(block.shape[1] for block in found.values())])
        places = {
            name: np.arange(start, stop)
            for name, start, stop in zip(found, ends, ends[1:], strict=False)
        }
        rows = np.concatenate(list(found.values()), axis=1)
        about = {"repeat": number // arguments.folds, "fold": number % arguments.folds}
        for task in TASKS:
            inside = [part[y[part] > 0] if task != TASKS[0] else part for part in (train, test)]
            for name, model in models(places).items():
                if name.startswith("true") and task == TASKS[0]:
                    continue  # normals have no mask: it would give them away
                with threadpool_limits(1, "blas"):
                    result = fit_and_judge(model, rows, y, *inside, None, False, {})
                result = replace(copy(result), model=name, groups=groups[inside[1]], **about)
                results[task].append(result)
        for task in TASKS:
            tell(task, Comparison(results[task]))
    table = [row for task in TASKS for row in tell(task, Comparison(results[task]))]
    keep("lesion_features", table, **vars(arguments))


def split(prefix: str, rows: np.ndarray, lesions: LesionFeatures) -> dict[str, np.ndarray]:
    """Tell measurements from features of crops."""
    crops = np.array([str(name).startswith("crop") for name in lesions.get_feature_names_out()])
    return {f"{prefix}measured": rows[:, ~crops], f"{prefix}crops": rows[:, crops]}


def tell(task: str, found: Comparison) -> list[dict[str, Any]]:
    """Print a table, with the test of each model against the fusion of whole images."""
    base, rows = "whole image, fusion of three", []
    for name, row in found.table.iterrows():
        said = {"task": task, "model": name, "folds": len(found.results) // len(found.table)}
        said |= {k: round(float(v), 4) for k, v in row.items() if str(k).endswith(("_mean", "std"))}
        pairs = found.differences_in("macro_ovr_auc")
        for pair in ((name, base), (base, name)):
            if pair in pairs.index:
                sign = 1 if pair[0] == name else -1
                said["auc_against_fusion"] = round(sign * float(pairs.loc[pair, "difference"]), 4)
                said["p_holm"] = round(float(pairs.loc[pair, "p_holm"]), 4)
        rows.append(said)
    show(rows, f"BUSI, {task}, folds by duplicate group")
    return rows


if __name__ == "__main__":
    main()
