"""Evidence: where in an image, or in which measurement, the decision of a classifier comes from."""
