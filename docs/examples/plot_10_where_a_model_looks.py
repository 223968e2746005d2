"""
Where a model looks
===================

An accuracy does not say why. Here a bright mark was put in the corner of every malignant scan, as a
hospital's label might be. A model takes the mark for a sign of the disease, and misses scans that
have none. ``explain`` shows it.
"""

# %%
# The same scans twice: as they are, and with a mark on the malignant ones.
from hybridus import make_breast_phantoms

scans = make_breast_phantoms(120, image_size=96, difficulty=0.3, random_state=0)
marked = scans.images.copy()
marked[scans.target == 1, 4:20, 4:20] = 255

# %%
# Train and test on both.
from hybridus import compare, make_hybrid_classifier

pipe = make_hybrid_classifier("mobilenet_v2_0.35", "logreg", weights="bundled", image_size=128)
for name, images in {"without marks": scans.images, "with marks": marked}.items():
    study = compare({name: pipe}, images, scans.target, groups=scans.groups)
    print(f"{name}: accuracy {study.table['accuracy_mean'].iloc[0]:.2f}")

# %%
# Where does the model that saw marks look? Orange speaks for the class, purple against it. The
# lesion is outlined.
from hybridus.report import EvidenceDisplay

train, test = slice(0, 90), slice(90, None)
model = pipe.fit(marked[train], scans.target[train])
shown = (scans.target[test] == 1).nonzero()[0][:4] + 90
EvidenceDisplay.from_estimator(
    model,
    marked[shown],
    masks=scans.masks[shown],
    y=scans.target[shown],
    label=1,
    class_names=scans.target_names,
)

# %%
# And without the mark, on the same scans?
for name, images in (("with the mark", marked), ("without it", scans.images)):
    malignant = scans.target[test] == 1
    found = (model.predict(images[test])[malignant] == 1).mean()
    print(f"malignant scans that are found, {name}: {found:.0%}")

# %%
# How much of the evidence lies on the lesion? As a number, for malignant scans that no model saw:
from hybridus import evidence_on_lesion

honest = make_hybrid_classifier(
    "mobilenet_v2_0.35", "logreg", weights="bundled", image_size=128
).fit(scans.images[train], scans.target[train])
malignant = (scans.target[test] == 1).nonzero()[0] + 90
for name, fitted, images in (("marks", model, marked), ("no marks", honest, scans.images)):
    found = evidence_on_lesion(
        fitted, images[malignant], scans.target[malignant], scans.masks[malignant]
    )
    print(f"trained with {name}: {found.loc['all', 'share']:.0%} of it lies on the lesion")

# %%
# **The point:** look before you trust. ``compare(..., masks=masks)`` puts this share beside every
# accuracy, and the page of ``hybridus compare`` shows such pictures.
