"""Feature rows and activations on disk, found again by what decides them."""
