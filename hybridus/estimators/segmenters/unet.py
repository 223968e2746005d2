"""`UNetSegmenter`: a U-Net trained from scratch."""

from dataclasses import KW_ONLY
from numbers import Integral, Real
from typing import Any, ClassVar

from hybridus._sklearn import Interval
from hybridus.estimators.parameters import with_parameters
from hybridus.estimators.segmenters.base import NetworkSegmenter


@with_parameters
class UNetSegmenter(NetworkSegmenter):
    """Segment lesions with a U-Net trained from scratch on grey images.

    Parameters
    ----------
    depth : int, default=4
        Halvings of the image; its sides must be divisible by ``2 ** depth``.
    base_filters : int, default=16
        Filters at full size, doubled with each halving: 1.9 million weights with ``depth=4``.
    batch_norm : bool, default=True
        Batch normalisation after each convolution.
    dropout_rate : float, default=0.2
        Share of units dropped at the bottom, in training.
    attention : bool, default=False
        Attention gates on the skip connections (Oktay et al. 2018, arXiv:1804.03999).
    deep_supervision : bool, default=True
        Train the maps of coarser scales too; each counts one half of the next finer one.

    Notes
    -----
    The defaults are the best of `benchmarks.busi_segmentation` on breast ultrasound: Dice .757 on
    lesions over five folds by duplicate group, .767 on the first, where the settings of much
    reported work (``loss="binary_crossentropy", augmentation="light", lr_schedule="plateau",
    batch_size=16, max_epochs=60, patience=15, deep_supervision=False, threshold=0.5,
    postprocess=None, tta=False``) reach .696. They were measured with ``precision="bfloat16"``,
    which computes faster; a fit of 440 scans takes half an hour on one core.

    References
    ----------
    Ronneberger, Fischer and Brox 2015, U-Net, arXiv:1505.04597.

    Examples
    --------
    >>> from hybridus import make_breast_phantoms
    >>> from hybridus.estimators.segmenters import UNetSegmenter
    >>> phantoms = make_breast_phantoms(12, image_size=32, random_state=0)
    >>> unet = UNetSegmenter(depth=1, base_filters=4, image_size=32, max_epochs=2, random_state=0)
    >>> unet.fit(phantoms.images, phantoms.masks).predict(phantoms.images).shape
    (12, 32, 32, 1)
    """

    depth: int = 4
    base_filters: int = 16
    _: KW_ONLY
    batch_norm: bool = True
    dropout_rate: float = 0.2
    attention: bool = False
    deep_supervision: bool = True
    batch_size: int = 8
    patience: int = 70
    max_epochs: int = 70

    _parameter_constraints: ClassVar[dict] = {
        "depth": [Interval(Integral, 1, None, closed="left")],
        "base_filters": [Interval(Integral, 1, None, closed="left")],
        "batch_norm": ["boolean"],
        "dropout_rate": [Interval(Real, 0, 1, closed="left")],
        "attention": ["boolean"],
        "deep_supervision": ["boolean"],
    }

    def build(self, size: tuple[int, int], **architecture: Any) -> tuple[Any, Any]:
        """Build the network; see `NetworkSegmenter.build`."""
        from hybridus.training.networks.segmentation import build_unet

        return build_unet(size, **architecture)

    def _resolve(self) -> None:
        super()._resolve()
        step = 2**self.depth
        if any(side % step for side in self.mask_size_):
            raise ValueError(
                f"image_size={self.image_size!r}: with depth={self.depth} the sides must be "
                f"divisible by {step}; take {[-(-side // step) * step for side in self.mask_size_]}"
                " or a smaller depth"
            )
