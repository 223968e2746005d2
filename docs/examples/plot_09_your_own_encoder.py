"""
Your own encoder
================

Any Keras network can be an encoder: one call registers it, and everything else works as with those
that ship, the store of features and the search too.
"""

# %%
# A small network of our own, not trained. It takes a shape and returns a Keras model. Yours may
# load its weights from a file: ``weights="my.weights.h5"``; a network that Keras saved needs no
# builder, only its path, ``DeepFeatureExtractor("model.keras")``.


def build(input_shape):
    """Three strided convolutions, each named, so that it can be tapped."""
    import keras

    image = keras.Input(input_shape)
    x = image
    for number, width in enumerate((16, 32, 64), start=1):
        x = keras.layers.Conv2D(width, 5, 2, "same", activation="relu", name=f"stage_{number}")(x)
    return keras.Model(image, x)


# %%
# ``preprocessing`` says what values the network expects: "tf" is -1..1. A wrong one is the
# commonest mistake with pretrained networks, and gives poor features in silence.
from hybridus import list_encoders, register_encoder

# sphinx_gallery_thumbnail_number = 2
spec = register_encoder(
    "three_stages",
    build,
    preprocessing="tf",
    image_size=64,
    taps=["stage_1", "stage_2", "stage_3"],
)
list_encoders("three*")

# %%
# Now it is one encoder among others.
from hybridus import ForestDisplay, compare, make_breast_phantoms, make_hybrid_classifier

scans = make_breast_phantoms(120, image_size=64, difficulty=0.3, random_state=0)
models = {
    "ours, untrained": make_hybrid_classifier(spec, "logreg", weights="random"),
    "MobileNetV2 0.35, bundled": make_hybrid_classifier(
        "mobilenet_v2_0.35", "logreg", weights="bundled", image_size=64
    ),
}
study = compare(models, scans.images, scans.target, groups=scans.groups)
ForestDisplay.from_comparison(study)

# %%
# A map of the scans: two that lie close have features that are alike.
from hybridus import DeepFeatureExtractor, FeatureMapDisplay

features = DeepFeatureExtractor(spec, weights="random").fit_transform(scans.images)
FeatureMapDisplay.from_features(features, scans.target, class_names=scans.target_names)

# %%
# **The point:** an encoder is known by the network that is built, not by its name. Change the
# builder, and features are computed anew: old ones are never taken for new ones.
