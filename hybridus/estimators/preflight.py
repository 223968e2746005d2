"""Preflight: whether a model could be fitted, found out before anything is trained."""

from typing import Any


def preflight(model: Any, X: Any) -> None:
    """Call `preflight` of every estimator in a model: of a Pipeline, a search, an ensemble.

    Estimators of other libraries, which have no such method, are passed over, and so are the values
    that a search would try.

    Parameters
    ----------
    model : estimator
    X : images
        See `hybridus.inputs.images.as_images`. Files are not read.

    Raises
    ------
    ValueError
        For parameters, layers or sizes that cannot be.
    WeightsNotFoundError
        Where weights cannot be had.

    Warns
    -----
    UserWarning
        Where activations of the images have no room, so that training would take much longer.

    Examples
    --------
    >>> import numpy as np
    >>> from hybridus import make_hybrid_classifier
    >>> from hybridus.estimators.preflight import preflight
    >>> pipe = make_hybrid_classifier("mobilenet_v2_0.35", weights="bundled")
    >>> preflight(pipe, np.zeros((4, 64, 64)))
    """
    if hasattr(model, "preflight"):
        model.preflight(X)
        return
    parts = {id(part): part for part in model.get_params(deep=True).values()}
    for part in parts.values():
        if hasattr(part, "preflight") and not isinstance(part, type):
            part.preflight(X)
