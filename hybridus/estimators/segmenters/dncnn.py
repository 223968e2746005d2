"""`DnCNNSegmenter`: a denoising network that finds lesions instead of noise."""

from collections.abc import Mapping
from numbers import Integral
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from hybridus._sklearn import Interval
from hybridus.estimators.segmenters.answers import Postprocessing
from hybridus.estimators.segmenters.network import COMMON_CONSTRAINTS, GreySegmenter
from hybridus.inputs.augmentation import Augmentation
from hybridus.inputs.resizing import Resize

if TYPE_CHECKING:
    from hybridus.training.loop import TrainableNetwork


class DnCNNSegmenter(GreySegmenter):
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
    image_size, image_shape, resize, loss, augmentation, optimizer, learning_rate, lr_schedule, \
    early_stopping, validation_fraction, patience, batch_size, max_epochs, threshold, postprocess, \
    tta, output_size, precision, random_state, verbose
        As those of `UNetSegmenter`; `image_size` may be any.

    Attributes
    ----------
    history_, n_iter_, best_epoch_, threshold_, mask_size_, variables_, n_features_in_
        As those of `UNetSegmenter`.

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

    _parameter_constraints: ClassVar[dict] = {
        **COMMON_CONSTRAINTS,
        "image_size": [Interval(Integral, 1, None, closed="left"), tuple, list],
        "n_layers": [Interval(Integral, 2, None, closed="left")],
        "filters": [Interval(Integral, 1, None, closed="left")],
    }

    def __init__(
        self,
        n_layers: int = 17,
        filters: int = 64,
        *,
        image_size: int | tuple[int, int] = 128,
        image_shape: tuple[int, ...] | None = None,
        resize: Resize = "stretch",
        loss: str = "binary_crossentropy",
        augmentation: str | Augmentation | None = "light",
        optimizer: str | Mapping[str, Any] = "adam",
        learning_rate: float = 1e-3,
        lr_schedule: Literal["plateau", "cosine"] | None = "plateau",
        early_stopping: bool = True,
        validation_fraction: float | None = 0.15,
        patience: int = 15,
        batch_size: int = 16,
        max_epochs: int = 60,
        threshold: float | Literal["auto"] = 0.5,
        postprocess: Postprocessing | None = None,
        tta: bool = False,
        output_size: Literal["input", "network"] = "input",
        precision: Literal["float32", "bfloat16"] = "float32",
        random_state: Any = None,
        verbose: int = 0,
    ) -> None:
        self.n_layers = n_layers
        self.filters = filters
        self.image_size = image_size
        self.image_shape = image_shape
        self.resize = resize
        self.loss = loss
        self.augmentation = augmentation
        self.optimizer = optimizer
        self.learning_rate = learning_rate
        self.lr_schedule = lr_schedule
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.patience = patience
        self.batch_size = batch_size
        self.max_epochs = max_epochs
        self.threshold = threshold
        self.postprocess = postprocess
        self.tta = tta
        self.output_size = output_size
        self.precision = precision
        self.random_state = random_state
        self.verbose = verbose

    def _architecture(self) -> dict[str, Any]:
        return {"n_layers": self.n_layers, "filters": self.filters}

    def _build(self, partition: Any) -> "TrainableNetwork":
        from hybridus.training.networks.segmentation import build_dncnn

        return build_dncnn(self.mask_size_, **self._architecture(), **self._compiled())
