"""Encoders small enough for hundreds of fits, importable by workers, and images for them."""

import numpy as np

from hybridus import EncoderSpec


def build_tiny(input_shape):
    """Two convolutions, the first with batch normalisation."""
    from hybridus._keras import keras

    layers = keras.layers
    x = pixels = keras.Input(input_shape)
    x = layers.Rescaling(1 / 255, name="rescaling")(x)
    x = layers.Conv2D(8, 3, strides=2, padding="same", name="conv1")(x)
    x = layers.BatchNormalization(name="bn1")(x)
    x = layers.ReLU(name="relu1")(x)
    x = layers.Conv2D(16, 3, strides=2, padding="same", name="conv2")(x)
    x = layers.ReLU(name="relu2")(x)
    return keras.Model(pixels, x)


def build_unnamed(input_shape):
    """Layers whose names Keras numbers."""
    from hybridus._keras import keras

    layers = keras.layers
    x = pixels = keras.Input(input_shape)
    for width in (8, 16):
        x = layers.Conv2D(width, 3, strides=2, padding="same", activation="relu")(x)
    return keras.Model(pixels, x)


def halved(input_shape):
    """An encoder that shows what it sees: the image at half and at a quarter of its size."""
    from hybridus._keras import keras

    inputs = keras.Input(input_shape)
    half = keras.layers.AveragePooling2D(2, name="half")(inputs)
    return keras.Model(inputs, keras.layers.AveragePooling2D(2, name="quarter")(half))


TINY = EncoderSpec("tiny", build_tiny, image_size=(8, 8), taps=("relu1", "relu2"), last="relu2")
HALVED = EncoderSpec("halved", halved, taps=("half", "quarter"))
UNNAMED = EncoderSpec("unnamed", build_unnamed, image_size=(8, 8))


def textures(n_images, size=8, n_classes=2, seed=0):
    """8-bit images and their classes: fine grain, coarse grain and stripes, equally bright."""
    rng = np.random.default_rng(seed)
    y = np.arange(n_images) % n_classes
    images = []
    for label in y:
        if label == 0:
            image = rng.random((size, size))
        elif label == 1:
            image = np.kron(rng.random((size // 4, size // 4)), np.ones((4, 4)))
        else:
            image = np.repeat(rng.random((size, 1)), size, axis=1)
        images.append(np.rint(255 * image))
    return np.array(images, dtype=np.uint8), y
