"""Architectures as text: which network an encoder's builder makes.

For keras.applications builder and options say it; for any other builder the network is built and
every operation of it goes into a digest.
"""

import hashlib
import json
from collections import OrderedDict
from collections.abc import Mapping
from functools import partial
from types import FunctionType
from typing import Any

from hybridus.encoders.registry import EncoderSpec

_MOST_KNOWN = 64
_known: OrderedDict[Any, str] = OrderedDict()


def architecture_of(spec: EncoderSpec, image_size: tuple[int, int]) -> str:
    """Tell an encoder's network at one input size; equal texts mean equal networks.

    Keras is started only for builders that are not keras.applications', and for each of them once
    a process.
    """
    told = spec.describe()
    if told is not None:
        return told
    key = (_identity(spec.function()), _contents(spec.options), image_size)
    if None in key:
        return _digest_of_built(spec, image_size)
    if key not in _known:
        _known[key] = _digest_of_built(spec, image_size)
        while len(_known) > _MOST_KNOWN:
            _known.popitem(last=False)
    return _known[key]


def versions_in(architecture: str) -> str:
    """Versions under which a network was digested; the same text for all that need none."""
    return architecture.partition(";")[0] if architecture.startswith("keras ") else ""


def _digest_of_built(spec: EncoderSpec, image_size: tuple[int, int]) -> str:
    from hybridus._keras import building, describe_operations, versions

    with building():
        described = describe_operations(spec.build(image_size), (*image_size, 3))
    return f"{versions()};{hashlib.sha256(described).hexdigest()}"


def _identity(builder: Any) -> Any:
    """Tell builders apart that may make different networks; None where nothing says so surely.

    A function stands for itself, since another may have its name.
    """
    if isinstance(builder, partial):
        function, arguments = _identity(builder.func), _contents(builder.keywords)
        places = _contents(dict(enumerate(builder.args)))
        return None if None in (function, arguments, places) else (function, places, arguments)
    return builder if isinstance(builder, FunctionType | type) else None


def _contents(arguments: Mapping[Any, Any]) -> Any:
    """As `_identity`, of named arguments."""
    try:
        return json.dumps({str(name): value for name, value in arguments.items()}, sort_keys=True)
    except (TypeError, ValueError):
        pass
    contents = tuple((name, type(value), value) for name, value in arguments.items())
    try:
        hash(contents)
    except TypeError:
        return None
    return contents
