"""
Fine-tuning: the first ten layers, or the last twenty
=====================================================

A fine-tuned network is an estimator like any other. Which layers are trained is one word:
``trainable="first:10"``, as in much published work, or ``"last:20"``, which is faster, since what
comes before never changes and runs once.
"""

from hybridus import FineTunedClassifier, compare, make_breast_phantoms

# sphinx_gallery_thumbnail_number = 2
scans = make_breast_phantoms(90, image_size=64, difficulty=0.3, random_state=0)
settings = {
    "weights": "bundled",
    "image_size": 64,
    "n_views": 2,
    "max_epochs": 8,
    "random_state": 0,
}
first = FineTunedClassifier("mobilenet_v2_0.35", trainable="first:10", **settings)
last = FineTunedClassifier("mobilenet_v2_0.35", trainable="last:20", **settings)

# %%
# Each ``fit`` holds out a part of what it is given, to know when to stop, and keeps the weights of
# the best epoch. ``groups`` keep copies of one scan on one side of that split.
first.fit(scans.images, scans.target, groups=scans.groups)
first.history_[["loss", "val_loss", "val_accuracy", "seconds"]].tail(3).round(3)

# %%
# **The curves as they are**, and the epoch that was kept.
from hybridus import TrainingHistoryDisplay

TrainingHistoryDisplay.from_estimator(first, metrics=["loss", "accuracy"])

# %%
# **Best so far.** Curves of small validation parts jump up and down. The best value up to each
# epoch is easier to read, and it is what early stopping looks at. It only ever improves, so never
# take it for a sign that training is steady: look at both.
TrainingHistoryDisplay.from_estimator(first, metrics=["loss", "accuracy"], best_so_far=True)

# %%
# **The point:** on the same folds, which of the two is better, and is that settled?
study = compare(
    {"first 10 layers": first, "last 20 layers": last},
    scans.images,
    scans.target,
    groups=scans.groups,
    n_splits=2,
)
print(study)
