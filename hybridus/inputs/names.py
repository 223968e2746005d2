"""Names: what was meant by one that is not there, and those of files that are no text."""

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


def as_text(name: object) -> str:
    r"""Write a name as text, bytes that are none by their code.

    Names of files and folders need not be text; tables that pandas keeps with pyarrow, and
    pictures, take nothing else.

    Examples
    --------
    >>> from hybridus.inputs.names import as_text
    >>> print(as_text("caf\udce9"))
    caf\udce9
    """
    return str(name).encode("utf-8", "backslashreplace").decode()
