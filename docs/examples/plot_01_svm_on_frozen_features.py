"""
An SVM on frozen features
=========================

The shortest way from images to an answer. A network that was trained on other images turns each
scan into a row of numbers, once. A support vector machine learns from the rows. ``compare`` scores
it on folds, beside the same machine on plain texture measurements.
"""

# %%
# The scans are simulated: normal, malignant, benign. Yours would come from
# :func:`hybridus.load_image_folder`.
from hybridus import make_breast_phantoms

# sphinx_gallery_thumbnail_number = 2
scans = make_breast_phantoms(120, image_size=64, difficulty=0.3, random_state=0)
scans.images.shape, scans.target_names

# %%
# Both models are scikit-learn pipelines of three steps: features, scaler, head.
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from hybridus import TextureFeatures, make_hybrid_classifier

models = {
    "frozen network": make_hybrid_classifier(
        "mobilenet_v2_0.35", "svm", weights="bundled", image_size=64
    ),
    "texture": make_pipeline(
        TextureFeatures(), StandardScaler(), SVC(C=10, class_weight="balanced")
    ),
}
models["frozen network"]

# %%
# One call compares them on the same folds.
from hybridus import compare

study = compare(models, scans.images, scans.target, groups=scans.groups)
print(study)

# %%
# **The point:** the table has a spread and a test beside each mean, since a mean alone does not say
# whether a difference would be there on the next scans too. The picture shows the same: each mean
# with the interval in which it lies with 95 % confidence.
from hybridus import ForestDisplay

ForestDisplay.from_comparison(study)

# %%
# Which classes are taken for which? Rows are the truth.
from hybridus import ConfusionDisplay

ConfusionDisplay.from_comparison(study, "frozen network", class_names=scans.target_names)
