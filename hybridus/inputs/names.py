"""Names that are not there: what was meant by them."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def did_you_mean(given: str, known: Iterable[str]) -> str:
    """Guess what was meant by a name that is not there; empty where none is like it.

    Examples
    --------
    >>> from hybridus.inputs.names import did_you_mean
    >>> did_you_mean("maligant", ["normal", "malignant", "benign"])
    ' (did you mean malignant?)'
    """
    by_case = {name.casefold(): name for name in known}
    near = difflib.get_close_matches(given.casefold(), by_case, n=2, cutoff=0.6)
    return f" (did you mean {' or '.join(by_case[name] for name in near)}?)" if near else ""
