"""
Your own folder, from images to answers on new ones
===================================================

A folder of images for each class is all you need. This example makes such a folder of simulated
scans first; put the name of yours in its place.
"""

# %%
# Make-believe data: three class folders of PNG files, and a folder of new scans without classes.
import tempfile
from pathlib import Path

from PIL import Image

from hybridus import make_breast_phantoms

here = Path(tempfile.mkdtemp())
made = make_breast_phantoms(130, image_size=64, difficulty=0.3, random_state=0)
for number, (image, name) in enumerate(zip(made.images, made.filenames, strict=True)):
    label = name.split(" ")[0]
    folder = here / "scans" / label if number < 120 else here / "new"
    folder.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(folder / (name if number < 120 else f"unknown_{number}.png"))

# %%
# **Read it.** Files are opened when they are needed, so a large folder needs no large memory.
from hybridus import load_image_folder

data = load_image_folder(here / "scans")
data.target_names, len(data.images)

# %%
# **Look for what makes figures wrong** before anything is fitted. ``model=None`` leaves out
# suspected labels, which takes longest.
from hybridus import audit

found = audit(data.images, data.target, model=None)
print(found)

# %%
# **Compare**, with images that belong together on one side of each split.
from hybridus import compare, make_hybrid_classifier

settings = {"weights": "bundled", "image_size": 64, "probability": True}
models = {
    head: make_hybrid_classifier("mobilenet_v2_0.35", head, **settings)
    for head in ("svm", "logreg")
}
study = compare(models, data.images, data.target, groups=found.groups)
print(study)

# %%
# **Fit the best on all images and save it.** Opening such a file runs no code from it.
from hybridus import load, save

best = models[study.table.index[0]].fit(data.images, data.target)
file = save(best, here / "model.hybridus", card={"classes": list(data.target_names)})

# %%
# **Ask it about new scans**, in another program, on another day.
model = load(file)
new = sorted((here / "new").glob("*.png"))
probabilities = model.predict_proba(new)

import matplotlib.pyplot as plt

figure, axes = plt.subplots(1, 5, figsize=(8, 2.2), layout="constrained")
for axis, path, row in zip(axes, new, probabilities, strict=False):
    axis.imshow(Image.open(path), cmap="gray")
    axis.set_title(f"{data.target_names[row.argmax()]}, {row.max():.2f}", fontsize="medium")
    axis.axis("off")

# %%
# **The point:** seven calls, and the answer to "how good is it?" came from scans that the model had
# not seen. On the command line the same is ``hybridus compare scans``, ``hybridus train`` and
# ``hybridus predict``: see :doc:`/start`.
