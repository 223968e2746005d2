"""Progress of long loops: who hears of it, while models are fitted by whoever fits them.

A loop says how far it is; whoever stands above it may listen. Nothing is said where nobody does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

Listener = Callable[[str, int, int], None]

_listener: ContextVar[Listener | None] = ContextVar("listener", default=None)


@contextmanager
def heard_by(listener: Listener) -> Iterator[None]:
    """Let a function hear how far loops of this thread are.

    Parameters
    ----------
    listener : callable
        Given what is counted ("epoch", "image"), how many are done, and how many there will be at
        most. It should return soon; what it raises ends the loop.

    Examples
    --------
    >>> from hybridus.inputs.heard import heard_by, tell_progress
    >>> with heard_by(lambda what, done, of: print(f"{what} {done} of {of}")):
    ...     tell_progress("epoch", 3, 30)
    epoch 3 of 30
    >>> tell_progress("epoch", 4, 30)
    """
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)


def tell_progress(what: str, done: int, of: int) -> None:
    """Say how far a loop is, to whoever listens in this thread."""
    listener = _listener.get()
    if listener is not None:
        listener(what, done, of)
