"""Parameters of estimators as fields of their classes: declared once, inherited, documented."""

import inspect
import re
from dataclasses import dataclass, field
from typing import Any, TypeVar, dataclass_transform

T = TypeVar("T")


@dataclass_transform(field_specifiers=(field,))
def with_parameters(cls: type[T]) -> type[T]:
    """Make the fields of a class the parameters of an estimator, beside those of its bases.

    ``__init__`` is that of a dataclass: it has a flat signature and keeps what it is given. Fields
    before ``_: KW_ONLY`` may be given by place; a field that is declared again has another default,
    and one declared as ``field(default=..., init=False)`` is no longer a parameter. Constraints,
    and the entries of the docstring, are completed by those of the bases.

    Raises
    ------
    TypeError
        Where a parameter has no constraint in `_parameter_constraints`.

    Examples
    --------
    >>> from dataclasses import KW_ONLY
    >>> from typing import ClassVar
    >>> from sklearn.base import BaseEstimator
    >>> from hybridus.estimators.parameters import with_parameters
    >>> @with_parameters
    ... class Base(BaseEstimator):
    ...     _: KW_ONLY
    ...     size: int = 3
    ...     _parameter_constraints: ClassVar[dict] = {"size": [int]}
    >>> @with_parameters
    ... class Larger(Base):
    ...     name: str = "larger"
    ...     _: KW_ONLY
    ...     size: int = 9
    ...     _parameter_constraints: ClassVar[dict] = {"name": [str]}
    >>> Larger("much larger").get_params()
    {'name': 'much larger', 'size': 9}
    """
    cls = dataclass(eq=False, repr=False)(cls)
    constraints: dict[str, Any] = {}
    for base in reversed(cls.__mro__):
        constraints |= vars(base).get("_parameter_constraints", {})
    names = parameter_names(cls)
    missing = [name for name in names if name not in constraints]
    if missing:
        raise TypeError(
            f"{cls.__name__}: {', '.join(missing)} in no _parameter_constraints, as scikit-learn "
            "declares them"
        )
    cls._parameter_constraints = {name: constraints[name] for name in names}  # type: ignore[attr-defined]
    if cls.__doc__:  # python -OO strips them
        cls.__doc__ = _with_entries_of_bases(cls)
    return cls


def parameter_names(cls: type) -> list[str]:
    """Names of the parameters of an estimator, in the order of its signature."""
    return list(inspect.signature(cls.__init__).parameters)[1:]  # type: ignore[misc]


def _with_entries_of_bases(cls: type) -> str:
    """Docstring whose sections list what the bases document, each parameter with its default."""
    doc = inspect.cleandoc(cls.__doc__ or "")
    parameters = inspect.signature(cls.__init__).parameters  # type: ignore[misc]
    bases = [base.__doc__ for base in cls.__mro__[1:] if "__dataclass_fields__" in vars(base)]
    for title in ("Parameters", "Attributes"):
        start, end = _place(doc, title)
        entries = _entries(doc[start:end])
        for base in bases:
            inherited = inspect.cleandoc(base or "")
            for name, entry in _entries(inherited[slice(*_place(inherited, title))]).items():
                if title == "Parameters":
                    if name not in parameters:
                        continue
                    entry = _with_default(entry, parameters[name].default)
                entries.setdefault(name, entry)
        if not entries:
            continue
        text = "\n".join(dict.fromkeys(entries.values())) + "\n"
        heading = "" if start < end else f"{title}\n{'-' * len(title)}\n"
        doc = (
            f"{doc[:start].rstrip()}\n{'' if start < end else chr(10)}{heading}{text}\n{doc[end:]}"
        )
    return doc.rstrip() + "\n"


def _place(doc: str, title: str) -> tuple[int, int]:
    """Where the entries of a section stand; an empty place before the next where there is none."""
    headings = list(re.finditer(r"^(\w.*)\n-{3,}\n", doc, re.MULTILINE))
    for heading, following in zip(headings, [*headings[1:], None], strict=False):
        if heading[1] == title:
            return heading.end(), following.start() if following else len(doc)
    later = [heading for heading in headings if heading[1] != "Parameters"]
    place = later[0].start() if later else len(doc)
    return place, place


def _entries(section: str) -> dict[str, str]:
    """Entries of a section by the first of the names that they describe."""
    parts = [part.rstrip() for part in re.split(r"^(?=\S)", section, flags=re.MULTILINE)]
    return {re.split(r"[ ,]", part)[0]: part for part in parts if part}


def _with_default(entry: str, default: Any) -> str:
    shown = f'"{default}"' if isinstance(default, str) else repr(default)
    header, *body = entry.split("\n")
    return "\n".join([re.sub(r"default=.*", lambda _: f"default={shown}", header), *body])
