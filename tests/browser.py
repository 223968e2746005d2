"""A headless Chromium that tests can ask, by its DevTools protocol."""

import json
import shutil
import subprocess
import time
import urllib.request

import pytest

BINARY = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
_HEARD = ("Log.entryAdded", "Runtime.exceptionThrown", "Runtime.consoleAPICalled")


class Browser:
    """One page, what it complained of, and what it asked the network for."""

    def __init__(self, profile):
        if BINARY is None:
            pytest.skip("no Chromium here: apt-get install chromium")
        websocket = pytest.importorskip("websocket", reason="pip install websocket-client")
        self.complaints, self.requests, self._number = [], [], 0
        options = ("--headless=new", "--no-sandbox", "--disable-gpu", "--remote-debugging-port=0")
        self._process = subprocess.Popen(
            [BINARY, *options, "--no-first-run", f"--user-data-dir={profile}", "about:blank"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        port = self._wait_for_port(profile / "DevToolsActivePort")
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/json") as answer:
            (page,) = [one for one in json.load(answer) if one["type"] == "page"]
        self._socket = websocket.create_connection(
            page["webSocketDebuggerUrl"], suppress_origin=True, timeout=30
        )
        for domain in ("Log", "Runtime", "Page", "Network"):
            self.call(f"{domain}.enable")

    def _wait_for_port(self, file):
        for _ in range(300):
            if file.exists() and (lines := file.read_text().splitlines()):
                return lines[0]
            time.sleep(0.1)
        self._process.kill()
        raise RuntimeError("Chromium did not start")

    def call(self, method, **params):
        """Ask for something and hear what is told meanwhile."""
        self._number += 1
        self._socket.send(json.dumps({"id": self._number, "method": method, "params": params}))
        while (told := self._hear()).get("id") != self._number:
            pass
        assert "error" not in told, told
        return told["result"]

    def _hear(self):
        told = json.loads(self._socket.recv())
        if told.get("method") in _HEARD:
            self.complaints.append(told["params"])
        if told.get("method") == "Network.requestWillBeSent":
            self.requests.append(told["params"]["request"]["url"])
        return told

    def open(self, page, width=1280):
        """Open a file in a window of some width."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=844,
            deviceScaleFactor=1,
            mobile=width < 500,
        )
        self.call("Page.navigate", url=page.as_uri())
        while self._hear().get("method") != "Page.loadEventFired":
            pass

    def ask(self, expression):
        """Value of an expression of the page, or what it promises."""
        told = self.call(
            "Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True
        )
        assert "exceptionDetails" not in told, told
        return told["result"].get("value")

    def close(self):
        """End it."""
        self._socket.close()
        self._process.terminate()
        self._process.wait(20)
