"""One training loop for classifiers and segmenters, with its batches, losses and networks."""
