"""Networks as pure functions from hyper-parameters to Keras models."""
