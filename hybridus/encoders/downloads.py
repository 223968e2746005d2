"""Downloads of weights by Keras, with an end: it would wait for a silent server without limit."""

from __future__ import annotations

import socket
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

KERAS_SERVER = "https://storage.googleapis.com"  # of all of keras.applications
_ANSWER_WITHIN = 4.0  # seconds
_SILENT_FOR = 15.0  # seconds, once it has answered


@contextmanager
def impatient(server: str | None) -> Iterator[None]:
    """Let connections that are made meanwhile fail where a server stays silent.

    The time limit of sockets that have none of their own is the process's, and is put back.

    Parameters
    ----------
    server : str or None
        URL that is asked first, with the proxies of the environment; whatever it answers will do.

    Raises
    ------
    OSError
        Where the server does not answer in a few seconds.
    """
    if server is not None:
        _ask(server)
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(_SILENT_FOR)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def _ask(server: str) -> None:
    """Raise unless a server answers; in a thread, since nothing limits the search for its name."""
    said: list[Exception | None] = []

    def ask() -> None:
        request = urllib.request.Request(server, method="HEAD")
        try:
            urllib.request.urlopen(request, timeout=_ANSWER_WITHIN).close()
        except urllib.error.HTTPError as error:
            error.close()
            said.append(None)  # an answer too
        except Exception as error:
            said.append(error)
        else:
            said.append(None)

    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(_ANSWER_WITHIN + 1)
    problem = said[0] if said else TimeoutError("timed out")
    if problem is not None:
        reason = getattr(problem, "reason", problem)
        raise OSError(f"{server} does not answer: {reason}")
