"""`UNetSegmenter`: a U-Net trained from scratch."""

from collections.abc import Mapping
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from hybridus._sklearn import Interval
from hybridus.estimators.segmenters.answers import Postprocessing
from hybridus.estimators.segmenters.network import COMMON_CONSTRAINTS, GreySegmenter
from hybridus.inputs.augmentation import Augmentation
from hybridus.inputs.resizing import Resize

if TYPE_CHECKING:
    from hybridus.training.loop import TrainableNetwork


class UNetSegmenter(GreySegmenter):
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
    deep_supervision : bool, default=False
        Train the maps of coarser scales too; each counts one half of the next finer one.
    image_size : int or (int, int), default=128
        Height and width in pixels of network input and masks.
    image_shape : tuple of int, default=None
        Shape of images that are given as flattened rows; see `DeepFeatureExtractor`.
    resize : {"stretch", "pad"}, default="stretch"
        "pad" keeps the aspect ratio and centres the image on black.
    loss : {"binary_crossentropy", "dice", "bce_dice", "focal", "tversky"}, \
            default="binary_crossentropy"
        See `hybridus.training.losses.make_loss`.
    augmentation : {"light", "strong"}, Augmentation or None, default="light"
        How training images are varied, with their masks; validation images never are.
    optimizer : str or dict, default="adam"
        Name, or configuration as `keras.optimizers.get` takes it; without a learning rate.
    learning_rate : float, default=1e-3
    lr_schedule : {"plateau", "cosine"} or None, default="plateau"
        See `FineTunedClassifier`.
    early_stopping : bool, default=True
        Stop when the watched loss has not fallen for `patience` epochs, and go back to the weights
        of the best epoch.
    validation_fraction : float or None, default=0.15
        Share of the images held out, with and without lesion alike; None trains on all.
    patience : int, default=15
    batch_size : int, default=16
    max_epochs : int, default=60
    threshold : float or "auto", default=0.5
        Probability above which a pixel is lesion; "auto" takes the one with the best mean Dice on
        the validation part (on the training part where there is none), of probabilities as the
        network gives them: before `tta` and `postprocess`.
    postprocess : Postprocessing or None, default=None
        How predicted masks are cleaned.
    tta : bool, default=False
        Average predictions of the image and its mirror image.
    output_size : {"input", "network"}, default="input"
        Whether `predict` answers at the size of each image or of the network.
    precision : {"float32", "bfloat16"}, default="float32"
        "bfloat16" computes in mixed precision; weights stay float32.
    random_state : int, RandomState or None, default=None
        Decides weights, validation part, order, augmentation and dropout.
    verbose : int, default=0
        1 prints a line an epoch.

    Attributes
    ----------
    history_ : DataFrame
        A row an epoch: ``loss, dice`` (mean over images), ``iou, accuracy, precision, recall, f1``
        (of all pixels together) while training, the same with ``val_`` for the validation part,
        ``learning_rate`` and ``seconds``.
    n_iter_, best_epoch_ : int
        Epochs trained, and the one with the lowest watched loss.
    threshold_ : float
    mask_size_ : tuple of int
        Height and width of the masks that the network gives.
    variables_ : dict of str to array
        Values of all variables, by their path.
    n_features_in_ : int
        Values in one image, where all images had one shape.

    Notes
    -----
    The defaults are those of much reported work. On a fold of breast ultrasound masks were better
    by .07 Dice with ``loss="bce_dice", deep_supervision=True, augmentation="strong",
    lr_schedule="cosine", batch_size=8, max_epochs=70, patience=70, tta=True``, a threshold of its
    own and cleaned masks (`benchmarks.busi_segmentation`).

    References
    ----------
    Ronneberger, Fischer and Brox 2015, U-Net, arXiv:1505.04597.

    Examples
    --------
    >>> from hybridus import make_breast_phantoms
    >>> from hybridus.estimators.segmenters import UNetSegmenter
    >>> phantoms = make_breast_phantoms(12, image_size=32, random_state=0)
    >>> unet = UNetSegmenter(depth=2, base_filters=4, image_size=32, max_epochs=2, random_state=0)
    >>> unet.fit(phantoms.images, phantoms.masks).predict(phantoms.images).shape
    (12, 32, 32, 1)
    """

    _parameter_constraints: ClassVar[dict] = {
        **COMMON_CONSTRAINTS,
        "image_size": [Interval(Integral, 1, None, closed="left"), tuple, list],
        "depth": [Interval(Integral, 1, None, closed="left")],
        "base_filters": [Interval(Integral, 1, None, closed="left")],
        "batch_norm": ["boolean"],
        "dropout_rate": [Interval(Real, 0, 1, closed="left")],
        "attention": ["boolean"],
        "deep_supervision": ["boolean"],
    }

    def __init__(
        self,
        depth: int = 4,
        base_filters: int = 16,
        *,
        batch_norm: bool = True,
        dropout_rate: float = 0.2,
        attention: bool = False,
        deep_supervision: bool = False,
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
        self.depth = depth
        self.base_filters = base_filters
        self.batch_norm = batch_norm
        self.dropout_rate = dropout_rate
        self.attention = attention
        self.deep_supervision = deep_supervision
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

    def _settle(self) -> None:
        super()._settle()
        step = 2**self.depth
        if any(side % step for side in self.mask_size_):
            raise ValueError(
                f"image_size={self.image_size!r}: with depth={self.depth} the sides must be "
                f"divisible by {step}; take {[-(-side // step) * step for side in self.mask_size_]}"
                " or a smaller depth"
            )

    def _architecture(self) -> dict[str, Any]:
        names = ("depth", "base_filters", "batch_norm", "dropout_rate", "attention")
        return {name: getattr(self, name) for name in (*names, "deep_supervision")}

    def _build(self, partition: Any) -> "TrainableNetwork":
        from hybridus.training.networks.segmentation import build_unet

        return build_unet(self.mask_size_, **self._architecture(), **self._compiled())
