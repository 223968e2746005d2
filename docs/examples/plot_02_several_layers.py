"""
Several layers against the last one
===================================

Most published work takes the last layer of a frozen network. Its middle layers know more of
texture and edges, which is what an ultrasound scan is made of. ``layers="multi"`` takes several
layers side by side, and costs hardly more: the network runs once for all of them.
"""

from hybridus import ForestDisplay, compare, make_breast_phantoms, make_hybrid_classifier

scans = make_breast_phantoms(120, image_size=64, difficulty=0.3, random_state=0)


def with_layers(layers, pooling="avg"):
    """An SVM on some layers of one and the same frozen network."""
    return make_hybrid_classifier(
        "mobilenet_v2_0.35",
        "svm",
        weights="bundled",
        layers=layers,
        pooling=pooling,
        image_size=64,
    )


# %%
# Three choices, one network.
models = {
    "last layer": with_layers("last"),
    "several layers": with_layers("multi"),
    "several, average and maximum": with_layers("multi", ["avg", "max"]),
}
study = compare(models, scans.images, scans.target, groups=scans.groups)
ForestDisplay.from_comparison(study)

# %%
# How long are the rows, and where do the numbers come from?
for name, model in models.items():
    features = model.named_steps["features"]
    names = features.fit(scans.images[:1]).get_feature_names_out()
    print(f"{name}: {len(names)} features, from {names[0]} to {names[-1]}")

# %%
# **The point:** try ``layers="multi"`` first; it is the default. On real breast ultrasound several
# layers beat the last one for every network that was measured (:doc:`/results`). On few and simple
# simulated scans the difference may be small, and then ``conclusions`` says that it is open.
print(*study.conclusions, sep="\n")
