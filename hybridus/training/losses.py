"""Losses of segmentation networks: how far lesion probabilities are from a mask, per image.

Every loss gives one value an image, so that sample weights weigh images, and has a slope where a
mask is empty, so that images without a lesion teach a network too.
"""

import math
from typing import Any

from hybridus._keras import keras

LOSSES = ("binary_crossentropy", "dice", "bce_dice", "focal", "tversky")

_PIXELS = (1, 2, 3)  # all axes of a batch (n, H, W, 1) but the first


def make_loss(loss: str) -> keras.losses.Loss:
    """Make a loss by its name.

    All are means over images, computed in float32, of masks and lesion probabilities in 0..1, both
    of shape (n, H, W, 1). Sample weights of shape (n,) weigh images.

    Parameters
    ----------
    loss : {"binary_crossentropy", "dice", "bce_dice", "focal", "tversky"}
        "binary_crossentropy" is Keras's, averaged over the pixels of an image; "dice" is
        `DiceLoss`; "bce_dice" is `BCEDiceLoss`; "focal" is Keras's binary focal cross-entropy with
        gamma = 2, unbalanced (Lin et al. 2017, arXiv:1708.02002); "tversky" is `TverskyLoss`.

    Returns
    -------
    keras.losses.Loss

    Raises
    ------
    ValueError
        For an unknown name.

    Examples
    --------
    >>> import numpy as np
    >>> from hybridus.training.losses import make_loss
    >>> masks = np.zeros((2, 4, 4, 1))
    >>> masks[:, :2] = 1
    >>> f"{float(make_loss('dice')(masks, masks)):.3f}"
    '0.000'
    """
    if loss == "binary_crossentropy":
        return keras.losses.BinaryCrossentropy(axis=_PIXELS, dtype="float32")
    if loss == "focal":
        return keras.losses.BinaryFocalCrossentropy(gamma=2.0, axis=_PIXELS, dtype="float32")
    if loss == "dice":
        return DiceLoss()
    if loss == "bce_dice":
        return BCEDiceLoss()
    if loss == "tversky":
        return TverskyLoss()
    raise ValueError(f"unknown loss {loss!r}; choose one of {', '.join(LOSSES)}")


@keras.saving.register_keras_serializable(package="hybridus")
class DiceLoss(keras.losses.Loss):
    """One minus the soft Dice coefficient of each image.

    With truth t and probabilities p: ``1 - (2 sum(t p) + smooth) / (sum(t) + sum(p) + smooth)``
    over the pixels of an image (after Milletari et al. 2016, arXiv:1606.04797, who square p in the
    denominator).

    Parameters
    ----------
    smooth : float, default=1.0
        Pixels added above and below, more than 0. It makes an empty mask well predicted as empty
        a loss of 0, and gives false alarms on it a slope.
    reduction : str, default="sum_over_batch_size"
        How Keras sums up the values of the images; the default divides by their number, not by the
        sum of their weights.
    name : str, default="dice_loss"
        Name that Keras shows.

    Raises
    ------
    ValueError
        Where `smooth` is not above 0, and where masks and predictions differ in shape.

    Notes
    -----
    `keras.losses.Dice` has no such term: where the truth is empty, it is 1 whatever is predicted,
    and its gradient is 0.

    Examples
    --------
    >>> import numpy as np
    >>> from hybridus.training.losses import DiceLoss
    >>> truth = np.zeros((1, 2, 4, 1))
    >>> truth[:, 0] = 1  # 4 of 8 pixels
    >>> round(float(DiceLoss()(truth, np.full((1, 2, 4, 1), 0.5))), 3)  # 1 - (2*2 + 1) / (4+4 + 1)
    0.444
    """

    def __init__(
        self,
        smooth: float = 1.0,
        *,
        reduction: str = "sum_over_batch_size",
        name: str = "dice_loss",
    ) -> None:
        super().__init__(name=name, reduction=reduction, dtype="float32")
        self.smooth = _positive(smooth, "smooth")

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Loss of each image, shape (n,)."""
        _check_shapes(y_true, y_pred)
        return _dice(y_true, y_pred, self.smooth)

    def get_config(self) -> dict[str, Any]:
        """Parameters that make the same loss again."""
        return {**super().get_config(), "smooth": self.smooth}


@keras.saving.register_keras_serializable(package="hybridus")
class BCEDiceLoss(keras.losses.Loss):
    """Weighted mean of the pixels' binary cross-entropy and the soft Dice loss of each image.

    ``(1 - dice_weight) * cross-entropy + dice_weight * Dice loss``: cross-entropy gives every pixel
    a steady slope from the first step, Dice weighs small lesions like large ones.

    Parameters
    ----------
    dice_weight : float, default=0.5
        Share of the Dice loss, in 0..1.
    smooth : float, default=1.0
        As in `DiceLoss`, in pixels.
    reduction : str, default="sum_over_batch_size"
        As in `DiceLoss`.
    name : str, default="bce_dice_loss"
        Name that Keras shows.

    Raises
    ------
    ValueError
        Where a parameter is out of range, and where masks and predictions differ in shape.

    Examples
    --------
    >>> import numpy as np
    >>> from hybridus.training.losses import BCEDiceLoss
    >>> truth = np.zeros((1, 2, 4, 1))
    >>> truth[:, 0] = 1
    >>> predicted = np.full((1, 2, 4, 1), 0.5)
    >>> round(float(BCEDiceLoss()(truth, predicted)), 3)  # (0.693 + 0.444) / 2
    0.569
    """

    def __init__(
        self,
        dice_weight: float = 0.5,
        *,
        smooth: float = 1.0,
        reduction: str = "sum_over_batch_size",
        name: str = "bce_dice_loss",
    ) -> None:
        super().__init__(name=name, reduction=reduction, dtype="float32")
        if not 0 <= dice_weight <= 1:
            raise ValueError(f"dice_weight={dice_weight!r}: expected a share in 0..1")
        self.dice_weight = float(dice_weight)
        self.smooth = _positive(smooth, "smooth")

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Loss of each image, shape (n,)."""
        _check_shapes(y_true, y_pred)
        cross_entropy = keras.losses.binary_crossentropy(y_true, y_pred, axis=_PIXELS)
        dice = _dice(y_true, y_pred, self.smooth)
        return (1.0 - self.dice_weight) * cross_entropy + self.dice_weight * dice

    def get_config(self) -> dict[str, Any]:
        """Parameters that make the same loss again."""
        return {**super().get_config(), "dice_weight": self.dice_weight, "smooth": self.smooth}


@keras.saving.register_keras_serializable(package="hybridus")
class TverskyLoss(keras.losses.Loss):
    """Dice loss that weighs false positives and false negatives apart, of each image.

    ``1 - (TP + smooth) / (TP + alpha FP + beta FN + smooth)`` with soft counts of pixels (Salehi et
    al. 2017, arXiv:1706.05721). A larger `beta` than `alpha` makes a network miss less and report
    more.

    Parameters
    ----------
    alpha : float, default=0.3
        Weight of a false positive pixel, 0 or more.
    beta : float, default=0.7
        Weight of a false negative pixel, 0 or more. ``alpha = beta = 0.5`` is the Dice loss with
        twice this `smooth`.
    smooth : float, default=1.0
        Pixels added above and below, more than 0.
    reduction : str, default="sum_over_batch_size"
        As in `DiceLoss`.
    name : str, default="tversky_loss"
        Name that Keras shows.

    Raises
    ------
    ValueError
        Where a parameter is out of range, and where masks and predictions differ in shape.

    Notes
    -----
    `keras.losses.Tversky` (Keras 3.15) applies its `alpha`, said to weigh false positives, to false
    negatives, and has no slope where the truth is empty.

    Examples
    --------
    >>> import numpy as np
    >>> from hybridus.training.losses import TverskyLoss
    >>> truth = np.zeros((1, 2, 4, 1))
    >>> truth[:, 0] = 1
    >>> missed = truth.copy()
    >>> missed[0, 0, :2] = 0  # two lesion pixels of four
    >>> round(float(TverskyLoss()(truth, missed)), 3)  # 1 - (2 + 1) / (2 + 0.7*2 + 1)
    0.318
    """

    def __init__(
        self,
        alpha: float = 0.3,
        beta: float = 0.7,
        *,
        smooth: float = 1.0,
        reduction: str = "sum_over_batch_size",
        name: str = "tversky_loss",
    ) -> None:
        super().__init__(name=name, reduction=reduction, dtype="float32")
        for weight, value in (("alpha", alpha), ("beta", beta)):
            if not (math.isfinite(value) and value >= 0):
                raise ValueError(f"{weight}={value!r}: expected a number that is 0 or more")
        self.alpha = float(alpha)
        self.beta = float(beta)
        self.smooth = _positive(smooth, "smooth")

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Loss of each image, shape (n,)."""
        _check_shapes(y_true, y_pred)
        hit = keras.ops.sum(y_true * y_pred, axis=_PIXELS)
        false_alarm = keras.ops.sum((1.0 - y_true) * y_pred, axis=_PIXELS)
        missed = keras.ops.sum(y_true * (1.0 - y_pred), axis=_PIXELS)
        hit = hit + self.smooth
        return 1.0 - hit / (hit + self.alpha * false_alarm + self.beta * missed)

    def get_config(self) -> dict[str, Any]:
        """Parameters that make the same loss again."""
        return {
            **super().get_config(),
            "alpha": self.alpha,
            "beta": self.beta,
            "smooth": self.smooth,
        }


def _dice(y_true: Any, y_pred: Any, smooth: float) -> Any:
    overlap = keras.ops.sum(y_true * y_pred, axis=_PIXELS)
    total = keras.ops.sum(y_true, axis=_PIXELS) + keras.ops.sum(y_pred, axis=_PIXELS)
    return 1.0 - (2.0 * overlap + smooth) / (total + smooth)


def _positive(value: float, name: str) -> float:
    if not (math.isfinite(value) and value > 0):
        raise ValueError(f"{name}={value!r}: expected a number above 0")
    return float(value)


def _check_shapes(y_true: Any, y_pred: Any) -> None:
    """Raise where shapes differ as far as they are known: broadcasting would hide it."""
    truth, predicted = tuple(y_true.shape), tuple(y_pred.shape)
    alike = len(truth) == len(predicted) == 4 and all(
        a == b or a is None or b is None for a, b in zip(truth, predicted, strict=True)
    )
    if not alike:
        raise ValueError(
            f"masks have shape {truth} and predictions {predicted}; expected (n, H, W, 1) for both"
        )
