"""Label errors: samples that a model which was not fitted on them puts into another class.

The rule of confident learning (Northcutt, Jiang and Chuang 2021, Journal of Artificial Intelligence
Research 70, 1373-1411). It is written here since its library, cleanlab, is under the AGPL.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray


def suspect_labels(y: NDArray, probabilities: NDArray, classes: NDArray) -> pd.DataFrame:
    """Find labels that are likely wrong.

    A sample is confidently of a class if its probability of that class is at least the mean among
    the samples that bear its label. It is suspected if the most likely of these classes is not its
    label, and more likely than its label. What is suspected depends on how good the model is: in
    classes that overlap, many of them are right.

    Parameters
    ----------
    y : array of shape (n_samples,)
    probabilities : array of shape (n_samples, n_classes)
        Of models that were not fitted on the sample, nor on its duplicates.
    classes : array of shape (n_classes,)
        Of the columns; each has a sample.

    Returns
    -------
    DataFrame
        A row for each suspect, the most suspicious first: ``sample`` (position), ``label``,
        ``suggested``, ``p_label``, ``p_suggested`` and ``margin``, their difference.

    Examples
    --------
    >>> import numpy as np
    >>> from hybridus.protocol.auditing.label_errors import suspect_labels
    >>> y = np.array(["a", "a", "a", "b", "b", "b"])
    >>> p = np.array([0.9, 0.8, 0.1, 0.2, 0.1, 0.4])
    >>> suspect_labels(y, np.stack([p, 1 - p], axis=1), np.array(["a", "b"]))["sample"].tolist()
    [2]
    """
    codes = np.searchsorted(classes, y)
    own = probabilities[np.arange(len(y)), codes]
    usual = np.array([own[codes == k].mean() for k in range(len(classes))])
    confident = np.where(probabilities >= usual, probabilities, -1)
    suggested = confident.argmax(axis=1)
    best = confident.max(axis=1)
    suspects = np.flatnonzero((best > own) & (suggested != codes))
    table = pd.DataFrame(
        {
            "sample": suspects,
            "label": y[suspects],
            "suggested": classes[suggested[suspects]],
            "p_label": own[suspects],
            "p_suggested": best[suspects],
            "margin": best[suspects] - own[suspects],
        }
    )
    return table.sort_values("margin", ascending=False, kind="stable", ignore_index=True)
