"""Simulated breast ultrasound: tissue, lesions, physics of the scanner, and the data set."""

from hybridus.datasets.phantoms.breast import make_breast_phantoms

__all__ = ["make_breast_phantoms"]
