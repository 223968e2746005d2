"""
Scans of another scanner
========================

A model is asked about scans of another machine sooner or later. ``ScannerChange`` simulates what
differs between machines, and ``external=`` scores each model on scans that nothing was fitted on.
"""

from hybridus import make_breast_phantoms
from hybridus.inputs.scanner import ScannerChange

scans = make_breast_phantoms(120, image_size=64, difficulty=0.3, random_state=0)
later = make_breast_phantoms(60, image_size=64, difficulty=0.3, start=500, random_state=0)

# %%
# New scans, as they are and as other machines would show them.
machines = {
    "same scanner": None,
    "brighter": ScannerChange("gain", 1.5),
    "darker curve": ScannerChange("gamma", 1.6),
    "coarse": ScannerChange("resolution", 2.5),
    "speckled": ScannerChange("speckle", 0.35),
}
seen = {
    name: [change(image) if change else image for image in later.images]
    for name, change in machines.items()
}

import matplotlib.pyplot as plt

figure, axes = plt.subplots(1, 5, figsize=(8, 2), layout="constrained")
for axis, (name, images) in zip(axes, seen.items(), strict=True):
    axis.imshow(images[1], cmap="gray", vmin=0, vmax=255)
    axis.set_title(name, fontsize="medium")
    axis.axis("off")

# %%
# Each model is fitted on all of the first scans and judged on the others.
from hybridus import compare, make_hybrid_classifier

models = {
    head: make_hybrid_classifier("mobilenet_v2_0.35", head, weights="bundled", image_size=64)
    for head in ("svm", "logreg")
}
study = compare(
    models,
    scans.images,
    scans.target,
    groups=scans.groups,
    external={name: (images, later.target) for name, images in seen.items()},
)

# %%
import pandas as pd

accuracy = pd.DataFrame(
    {name: found.table["accuracy_mean"] for name, found in study.external.items()}
)
accuracy.round(2)

# %%
# **The point:** folds of one hospital's scans say nothing of another's. Ask for scans from
# elsewhere, and give them as ``external=``.
figure, axis = plt.subplots(figsize=(6, 2.8), layout="constrained")
for name, row in accuracy.iterrows():
    axis.plot(row.index, row, marker="o", ls="", label=name)
axis.axhline(1 / 3, color="0.3", lw=0.9, ls="--")
axis.set(ylim=(0, 1), ylabel="accuracy")
axis.legend(frameon=False, fontsize="small")
axis.spines[["top", "right"]].set_visible(False)
