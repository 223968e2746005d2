"""Digests: all that decides what a fold gives, as one text; no name stands for what it names.

Arrays, files and parameters are told by their content, encoders by their network and weights,
code of the user's own by its instructions and by what it calls, libraries by their versions.
"""

from __future__ import annotations

import functools
import importlib.metadata
import os
import pickle
import sys
import sysconfig
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import fields
from hashlib import file_digest
from pathlib import Path
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np
import pandas as pd
from joblib.hashing import Hasher, NumpyHasher
from sklearn.base import BaseEstimator

from hybridus._version import __version__
from hybridus.encoders.architecture import architecture_of
from hybridus.encoders.frozen import CODE_VERSION
from hybridus.encoders.registry import EncoderSpec, get_encoder, list_encoders
from hybridus.encoders.weights import imagenet_digest, locate_weights
from hybridus.inputs.dicom_paths import split_reading
from hybridus.inputs.images import Images, content_key

# Raised whenever a change of ours changes what a fold gives: training, scores, predictions.
FOLD_VERSION = 1

_PACKAGES = (
    *("numpy", "scipy", "scikit-learn", "keras", "tensorflow", "openvino"),
    *("pillow", "pydicom"),  # what pixels are
)
# What scikit-learn's vocabulary promises to change no result.
_IDLE_PARAMETERS = {"n_jobs", "verbose"}
# What `clone` hands on beside parameters.
_HANDED_ON = ("_metadata_request", "_sklearn_output_config", "_skl_callbacks")


def digest_of(*things: Any) -> str:
    """Digest whatever decides a result: equal in every process, and different where it differs.

    Parameters
    ----------
    things : arrays, estimators, functions, parameters and what they are made of

    Returns
    -------
    str
        64 hexadecimal digits.

    Raises
    ------
    TypeError
        Where something cannot be told by its content, such as an open file.

    Notes
    -----
    Of an estimator the class and the parameters count, as they do for `clone`, but for ``n_jobs``
    and ``verbose``. Functions and classes of installed packages are told by their names and the
    package's version, others by their instructions, default values, and the functions, classes and
    values that they name; not by files that they read.

    Examples
    --------
    >>> from sklearn.svm import SVC
    >>> from hybridus.protocol.digests import digest_of
    >>> digest_of(SVC(C=1.0)) == digest_of(SVC()) != digest_of(SVC(C=2.0))
    True
    """
    try:
        return _Digester().hash(things)
    except (pickle.PicklingError, AttributeError, TypeError, RecursionError) as error:
        raise TypeError(f"cannot be told by its content ({error})") from error


def digest_of_data(X: Any, y: Any, groups: Any, *, classes: bool) -> str:
    """Digest samples: paths stand for the content of their files, whatever their names.

    Parameters
    ----------
    X : images, or any other samples
    y : classes or masks
    groups : array of shape (n_samples,) or None
    classes : bool
        Whether `y` is classes: of these, as of groups, the names count, since they sort them.
    """
    named = _names(y) if classes else list(_by_content(y))
    return digest_of(list(_by_content(X)), named, None if groups is None else _names(groups))


def versions() -> dict[str, str | None]:
    """Versions of everything whose change may change what a fold gives."""
    found: dict[str, str | None] = {
        "hybridus": f"{__version__}, fold {FOLD_VERSION}, rows {CODE_VERSION}",
        "backend": os.environ.get("KERAS_BACKEND", "tensorflow"),
    }
    return found | {package: _version(package) for package in _PACKAGES}


@functools.cache
def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _names(values: Any) -> list[str]:
    """Values of a column as they are written, so that 1 and "1" differ."""
    return [repr(value) for value in np.asarray(values).tolist()]


def _by_content(X: Any) -> Iterator[Any]:
    """Yield what a digest must see of samples: files in place of their names."""
    if isinstance(X, Images):
        yield from (content_key(image) for image in X)
    elif isinstance(X, pd.DataFrame):
        yield [*map(repr, X.columns)]
        for column in range(X.shape[1]):
            yield from _by_content(X.iloc[:, column])
    elif hasattr(X, "to_numpy"):
        yield from _by_content(X.to_numpy())
    elif isinstance(X, np.ndarray) and X.dtype.kind not in "OUS":
        yield X
    elif isinstance(X, np.ndarray | Sequence) and not isinstance(X, str | bytes):
        for item in X:
            if isinstance(item, str | os.PathLike):
                yield _file(item) or os.fspath(item)
            elif isinstance(item, list | tuple) or (
                isinstance(item, np.ndarray) and item.dtype.hasobject
            ):
                yield list(_by_content(item))
            else:
                yield item
    else:
        yield X


def _file(path: str | os.PathLike[str]) -> tuple[str, ...] | None:
    """Content of a file, and what of it a path names; None where there is no such file."""
    try:
        reading = split_reading(path)
        with open(reading.file, "rb") as file:
            content = file_digest(file, "sha256").hexdigest()
        return ("file", content, *filter(None, [reading.options]))
    except (OSError, ValueError):
        return None


class _Digester(NumpyHasher):
    """joblib's hasher, which sees what a name stands for in place of the name.

    Parameters
    ----------
    known : dict
        Code that was told before, since functions may call each other.
    fitted : bool
        Whether estimators are told with what they have learned.
    fetch : bool
        Whether the weights that an estimator asks for may be downloaded, since it will.
    """

    def __init__(
        self,
        known: dict[int, tuple[int, Any]] | None = None,
        *,
        fitted: bool = False,
        fetch: bool = True,
    ) -> None:
        super().__init__(hash_name="sha256", coerce_mmap=True)
        self._known = {} if known is None else known
        self._fitted = fitted
        self._fetch = fetch

    def save(self, obj: Any) -> None:
        super().save(self._told(obj))

    def _batch_setitems(self, items: Iterable[tuple[Any, Any]], *args: Any) -> None:
        # joblib's own sorts by Python's hash, which changes, and passes over what cannot be told.
        by_key = sorted(items, key=lambda item: self._apart(item[0]))
        super(Hasher, self)._batch_setitems(iter(by_key), *args)

    def _told(self, obj: Any) -> Any:
        """Return what is digested in the place of a thing; its parts come here in turn."""
        if isinstance(obj, str | os.PathLike):
            return self._text(obj)
        if isinstance(obj, type):
            return self._once(obj, self._class)
        if isinstance(obj, FunctionType):
            return self._once(obj, self._function)
        if isinstance(obj, MethodType):
            return "method", obj.__func__, obj.__self__
        if callable(obj) and "__wrapped__" in getattr(obj, "__dict__", {}):  # a cached function
            return "wrapped", type(obj), obj.__wrapped__
        if isinstance(obj, ModuleType):
            return "module", obj.__name__, _package_version(obj.__name__)
        if isinstance(obj, CodeType):
            consts = [c for c in obj.co_consts if not isinstance(c, str) or c != obj.co_name]
            return "code", obj.co_code, obj.co_names, obj.co_varnames, obj.co_freevars, consts
        if isinstance(obj, EncoderSpec):
            return self._encoder(obj)
        if type(obj) in (np.ndarray, np.memmap) and not obj.dtype.hasobject and obj.ndim:
            return np.ascontiguousarray(obj)
        if isinstance(obj, set | frozenset):
            return "set", sorted(map(self._apart, obj))
        if isinstance(obj, pd.DataFrame | pd.Series | pd.Index):
            return type(obj).__name__, list(_by_content(obj)), getattr(obj, "name", None)
        if hasattr(obj, "get_params") and not self._fitted:
            return self._estimator(obj)
        return obj

    def _apart(self, obj: Any) -> str:
        return _Digester(self._known, fitted=self._fitted, fetch=self._fetch).hash(obj)

    def _once(self, obj: Any, tell: Any) -> Any:
        if id(obj) in self._known:
            return "told before", self._known[id(obj)][0]
        # What is kept lives on, so that its id is not given to another.
        self._known[id(obj)] = len(self._known), obj
        return tell(obj)

    def _text(self, text: str | os.PathLike[str]) -> Any:
        if text in list_encoders():
            return self._encoder(get_encoder(text))
        path = os.fspath(text)
        looks_like_a_file = os.sep in path or "." in path or not isinstance(text, str)
        return (looks_like_a_file and _file(path)) or path

    def _encoder(self, spec: EncoderSpec) -> Any:
        row = {f.name: getattr(spec, f.name) for f in fields(spec) if f.name != "name"}
        try:
            network = architecture_of(spec, spec.image_size)
        except Exception as error:  # whatever a builder raises; a fit will tell
            network = f"{type(error).__name__}: {error}"
        if isinstance(spec.builder, str):  # the network tells what it makes
            row.pop("builder")
        return "encoder", row, network, imagenet_digest(spec)

    def _estimator(self, estimator: Any) -> Any:
        kind = type(estimator)
        if getattr(kind, "__sklearn_clone__", None) not in (None, BaseEstimator.__sklearn_clone__):
            # Such as FrozenEstimator, which is not cloned but used with what it has learned.
            return "as it is", _Digester(self._known, fitted=True).hash(estimator)
        parameters = estimator.get_params(deep=False)
        told = {name: parameters[name] for name in parameters.keys() - _IDLE_PARAMETERS}
        if _searches_encoders(estimator):  # that of the parameter itself may never be used
            told = _Digester(self._known, fetch=False).hash(told)
        handed_on = {name: getattr(estimator, name, None) for name in _HANDED_ON}
        return (
            "estimator",
            kind,
            told,
            handed_on,
            _weights_of(estimator, parameters) if self._fetch else None,
        )

    def _class(self, kind: type) -> Any:
        if not _is_own(kind.__module__):
            return "class", kind.__module__, kind.__qualname__, _package_version(kind.__module__)
        members = {
            name: self._member(member)
            for name, member in vars(kind).items()
            if name != "_abc_impl" and (not _is_dunder(name) or hasattr(member, "__get__"))
            if name not in ("__dict__", "__weakref__", "__doc__")
        }
        return "own class", kind.__qualname__, kind.__bases__, members

    def _member(self, member: Any) -> Any:
        if isinstance(member, staticmethod | classmethod):
            return type(member).__name__, member.__func__
        if isinstance(member, property):
            return "property", member.fget, member.fset, member.fdel
        if isinstance(member, functools.cached_property):
            return "property", member.func
        return member if isinstance(member, FunctionType) else self._value(member)

    def _function(self, function: FunctionType) -> Any:
        if not _is_own(function.__module__):
            package = _package_version(function.__module__)
            return "function", function.__module__, function.__qualname__, package
        names = sorted(set(_names_in(function.__code__)))
        called = {
            name: self._global(function.__globals__[name], names)
            for name in names
            if name in function.__globals__
        }
        enclosed = [_content_of(cell) for cell in function.__closure__ or ()]
        return (
            "own function",
            function.__code__,
            function.__defaults__,
            function.__kwdefaults__,
            [self._value(value) for value in enclosed],
            called,
        )

    def _global(self, value: Any, names: Sequence[str]) -> Any:
        if not isinstance(value, ModuleType) or not _is_own(value.__name__):
            return self._value(value)
        known = vars(value)
        return {name: self._value(known[name]) for name in names if name in known}

    def _value(self, value: Any) -> Any:
        """Value that code names, by its content where that can be told, else by its kind."""
        if isinstance(value, FunctionType | type | ModuleType | str):
            return value
        try:
            return self._apart(value)
        except (pickle.PicklingError, AttributeError, TypeError, RecursionError):
            return "of kind", type(value)


def _weights_of(estimator: Any, parameters: dict[str, Any]) -> str | None:
    """Digest of the weights that an estimator asks for; they are fetched where they must be."""
    if not {"encoder", "weights"} <= parameters.keys():
        return None
    if not getattr(estimator, "_looks_through_encoder", True):
        return None
    try:
        spec = get_encoder(parameters["encoder"])
        return locate_weights(spec, parameters["weights"]).digest
    except (OSError, ValueError, TypeError) as error:  # a fit will raise it
        return type(error).__name__


def _searches_encoders(estimator: Any) -> bool:
    searched = getattr(estimator, "param_grid", None) or getattr(
        estimator, "param_distributions", {}
    )
    grids = searched if isinstance(searched, list | tuple) else [searched]
    return any(str(name).endswith("encoder") for grid in grids for name in grid)


def _names_in(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names_in(constant)


def _content_of(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # not filled yet
        return None


def _is_dunder(name: str) -> bool:
    return name.startswith("__") and name.endswith("__")


def _is_own(module: str | None) -> bool:
    """Whether a module belongs to the user: neither installed nor ours nor Python's own."""
    name = module or "__main__"
    top = name.partition(".")[0]
    if top == "__main__":
        return True
    if top == "hybridus" or top in sys.stdlib_module_names:
        return False
    file = getattr(sys.modules.get(name), "__file__", None)
    return file is None or not _installed_under(Path(file).parents)


def _installed_under(folders: Iterable[Path]) -> bool:
    paths = sysconfig.get_paths()
    libraries = {Path(paths[name]) for name in ("purelib", "platlib")}
    return any(folder in libraries or folder.name == "site-packages" for folder in folders)


def _package_version(module: str | None) -> str | None:
    top = (module or "").partition(".")[0]
    if top == "hybridus":
        return versions()["hybridus"]
    return getattr(sys.modules.get(top), "__version__", None)
