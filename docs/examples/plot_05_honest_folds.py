"""
Random folds against honest ones
================================

Many data sets hold copies of one scan: saved twice, cropped, or made brighter. If one copy is
trained on and the other tested, the model is asked what it knows by heart. Here copies are planted,
so that the truth is known.
"""

# %%
# Sixty scans that are hard to tell apart, and two altered copies of each.
import numpy as np

from hybridus import make_breast_phantoms
from hybridus.inputs.scanner import ScannerChange

scans = make_breast_phantoms(60, image_size=64, random_state=0)
brighter, cropped = ScannerChange("gain", 1.15), ScannerChange("crop", 0.94)
images = [*scans.images, *map(brighter, scans.images), *map(cropped, scans.images)]
target = np.tile(scans.target, 3)

# %%
# ``near_duplicate_groups`` finds them by their pixels alone.
from hybridus import near_duplicate_groups

groups = near_duplicate_groups(images)
print(f"{len(images)} images, {len(set(groups))} groups; {len(scans.images)} scans were made")

# %%
# The same model on folds that ignore the copies, and on folds that keep them together.
from hybridus import compare, make_hybrid_classifier

model = {
    "svm": make_hybrid_classifier("mobilenet_v2_0.35", "svm", weights="bundled", image_size=64)
}
random_folds = compare(model, images, target, groups="independent")
honest_folds = compare(model, images, target, groups=groups)

# %%
# **The point:** nothing differs but the split. The figure on random folds is wrong: no new
# scan will come with a copy of itself in the training data.
import matplotlib.pyplot as plt

figure, axis = plt.subplots(figsize=(5.4, 2.2), layout="constrained")
means = [one.table["accuracy_mean"].iloc[0] for one in (random_folds, honest_folds)]
bars = axis.barh(["random folds", "folds by group"], means, color=["#c9c9c9", "#2f6db0"])
axis.bar_label(bars, [f"{mean:.2f}" for mean in means], padding=4)
axis.axvline(1 / 3, color="0.3", lw=0.9, ls="--")
axis.annotate("guessing", (1 / 3, 0.5), xytext=(4, 0), textcoords="offset points", va="center")
axis.invert_yaxis()
axis.set(xlim=(0, 1), xlabel="accuracy on simulated scans, three classes")
axis.spines[["top", "right"]].set_visible(False)
