"""`DnCNNSegmenter`: a denoising network that finds lesions instead of noise."""

from dataclasses import KW_ONLY
from numbers import Integral
from typing import Any, ClassVar, Literal

from hybridus._sklearn import Interval
from hybridus.estimators.parameters import with_parameters
from hybridus.estimators.segmenters.base import NetworkSegmenter
from hybridus.estimators.segmenters.prediction import Cleaning
from hybridus.inputs.augmentation import Augmentation


@with_parameters
class DnCNNSegmenter(NetworkSegmenter):
    """Segment lesions with the DnCNN of Zhang et al. 2017 and a mask head, trained from scratch.

    Convolutions at full resolution without skip connections: a pixel is judged by a window of
    ``2 * n_layers + 1`` pixels, 35 by default. Each image costs about ten times what a U-Net with
    16 base filters costs.

    Parameters
    ----------
    n_layers : int, default=17
        Convolution layers, the first and the mask head counted.
    filters : int, default=64
        Filters of each layer.

    Notes
    -----
    The defaults are those of reported work; on breast ultrasound no others were measured, and it
    stays far behind `UNetSegmenter` (`benchmarks.busi_segmentation`).

    References
    ----------
    Zhang, Zuo, Chen, Meng and Zhang 2017, Beyond a Gaussian denoiser, arXiv:1608.03981.

    Examples
    --------
    >>> from hybridus import make_breast_phantoms
    >>> from hybridus.estimators.segmenters import DnCNNSegmenter
    >>> phantoms = make_breast_phantoms(12, image_size=32, random_state=0)
    >>> net = DnCNNSegmenter(n_layers=4, filters=4, image_size=32, max_epochs=1, random_state=0)
    >>> net.fit(phantoms.images, phantoms.masks).predict_proba(phantoms.images[:2]).shape
    (2, 32, 32, 1)
    """

    n_layers: int = 17
    filters: int = 64
    _: KW_ONLY
    loss: str = "binary_crossentropy"
    augmentation: str | Augmentation | None = "light"
    lr_schedule: Literal["plateau", "cosine"] | None = "plateau"
    patience: int = 15
    max_epochs: int = 60
    threshold: float | Literal["auto"] = 0.5
    postprocess: Cleaning = None
    tta: bool = False

    _parameter_constraints: ClassVar[dict] = {
        "n_layers": [Interval(Integral, 2, None, closed="left")],
        "filters": [Interval(Integral, 1, None, closed="left")],
    }

    def build(self, size: tuple[int, int], **architecture: Any) -> tuple[Any, Any]:
        """Build the network; see `NetworkSegmenter.build`."""
        from hybridus.training.networks.segmentation import build_dncnn

        return build_dncnn(size, **architecture)
