"""
What is wrong with the data?
============================

``audit`` looks for what makes figures wrong, before anything is fitted. Here faults are planted:
copies, a copy in another class, a blank image, and brightness that tells the class.
"""

import numpy as np

from hybridus import make_breast_phantoms
from hybridus.inputs.scanner import ScannerChange

scans = make_breast_phantoms(60, image_size=96, difficulty=0.3, random_state=0)
images = [np.array(image) for image in scans.images]
target = scans.target.copy()

# %%
# The faults.
smaller, mirrored = ScannerChange("crop", 0.92), ScannerChange("mirror")
images += [smaller(images[3]), mirrored(images[7])]  # two copies
target = np.append(target, [target[3], (target[7] + 1) % 3])  # the second in another class
images[20] = np.zeros_like(images[20])  # blank
images = [
    np.clip(image + 40.0 * (label == 1), 0, 255).astype(np.uint8)
    for image, label in zip(images, target, strict=True)
]  # malignant scans are brighter

# %%
from hybridus import audit

found = audit(images, target)
print(found)

# %%
# The pairs, to be looked at: a rule may be wrong, and you know the data.
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt

sheet = found.contact_sheet(Path(tempfile.mkdtemp()) / "pairs.png")
picture = plt.imread(sheet)
height, width = picture.shape[:2]
figure = plt.figure(figsize=(width / 110, height / 110))
axis = figure.add_axes((0, 0, 1, 1))
axis.imshow(picture)
axis.axis("off")

# %%
# **The point:** ``found.groups`` goes into every split, so that copies stay together.
print(f"{len(images)} images, {len(set(found.groups))} groups")
