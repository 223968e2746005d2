"""Downloads of weights: servers that do not answer, or fall silent, are given up."""

import socket
import threading
import time
import urllib.request

import pytest

from hybridus.encoders import downloads
from hybridus.encoders.downloads import impatient


@pytest.fixture
def serve(monkeypatch):
    """A server on this machine that says something to whoever connects, or nothing."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(downloads, "_ANSWER_WITHIN", 0.2)
    monkeypatch.setattr(downloads, "_SILENT_FOR", 0.2)
    opened = []

    def start(answer):
        listening = socket.create_server(("127.0.0.1", 0))
        opened.append(listening)

        def talk():
            try:
                while True:
                    connection, _ = listening.accept()
                    opened.append(connection)
                    connection.recv(1000)
                    connection.sendall(answer)
            except OSError:
                pass

        threading.Thread(target=talk, daemon=True).start()
        return f"http://127.0.0.1:{listening.getsockname()[1]}"

    yield start
    for one in opened:
        one.close()


def test_a_server_that_accepts_and_stays_silent_is_given_up(serve):
    server, started = serve(b""), time.monotonic()
    with (
        pytest.raises(OSError, match=f"{server} does not answer: timed out"),
        impatient(server),
    ):
        pytest.fail("nothing is to be fetched from it")
    assert time.monotonic() - started < 2


def test_a_name_that_is_not_found_is_told(monkeypatch):
    def unknown(*_):
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    monkeypatch.setattr(urllib.request, "getproxies", dict)
    with (
        pytest.raises(OSError, match="does not answer: .*Name or service not known"),
        impatient("http://nowhere.invalid"),
    ):
        pytest.fail("nothing is to be fetched from it")


@pytest.mark.parametrize("status", [b"200 OK", b"404 Not Found"])
def test_any_answer_will_do_and_silence_later_has_an_end_too(serve, status):
    server = serve(b"HTTP/1.1 " + status + b"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
    silent = serve(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nhalf")
    with impatient(server), pytest.raises(TimeoutError):
        urllib.request.urlopen(silent).read()
    assert socket.getdefaulttimeout() is None
