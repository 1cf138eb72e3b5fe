# SPDX-License-Identifier: Apache-2.0
"""A headless Chromium, told what to do over its DevTools protocol. It ends with its block, whatever happens in it."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from websockets.sync.client import ClientConnection, connect

from tests.support.waiting import wait_until

PATIENCE = 30.0
PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
_OPTIONS = (
    "--headless=new",
    # The tests are root, in whose name its sandbox does not start. All pages are the tests' own.
    "--no-sandbox",
    "--remote-debugging-port=0",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-breakpad",
    "--no-first-run",
    "--no-proxy-server",
)


class PageError(Exception):
    """The browser refused, or a script in a page threw."""


class Page:
    """One tab in a profile of its own: no cookie of another page is in it."""

    def __init__(self, browser: Browser, session: str) -> None:
        self._browser = browser
        self._session = session

    def call(self, method: str, **parameters: Any) -> Any:
        """One command of the protocol, about this page."""
        return self._browser.call(method, parameters, session=self._session)

    def open(self, url: str) -> None:
        """Go there, and wait until it has loaded."""
        told = self.call("Page.navigate", url=url)
        if "errorText" in told:
            raise PageError(f"{url}: {told['errorText']}")
        self.wait_for("document.readyState === 'complete' && location.href !== 'about:blank'")

    def run(self, script: str) -> Any:
        """What an expression comes to, as JSON has it; a promise is waited for. Raises `PageError` where it throws."""
        told = self.call(
            "Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True
        )
        if "exceptionDetails" in told:
            thrown = told["exceptionDetails"]
            raise PageError(thrown.get("exception", {}).get("description", thrown["text"]))
        return told["result"].get("value")

    def wait_for(self, script: str) -> Any:
        """The first true value of an expression."""
        return wait_until(lambda: self._look(script), within=PATIENCE, what=script)

    def addresses(self) -> list[str]:
        """Everything that the history of this tab holds."""
        return [entry["url"] for entry in self.call("Page.getNavigationHistory")["entries"]]

    def _look(self, script: str) -> Any:
        # Between two documents there is none to ask.
        with contextlib.suppress(PageError):
            return self.run(script)


class Browser:
    """A running browser, by the connection to its debugger."""

    def __init__(self, debugger: ClientConnection) -> None:
        self._debugger = debugger
        self._numbers = itertools.count(1)

    def call(self, method: str, parameters: dict[str, Any], *, session: str = "") -> Any:
        """One command and its answer; what the browser tells besides is dropped."""
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": parameters}
        if session:
            message["sessionId"] = session
        self._debugger.send(json.dumps(message))
        while (told := json.loads(self._debugger.recv(timeout=PATIENCE))).get("id") != number:
            continue
        if "error" in told:
            raise PageError(f"{method}: {told['error']['message']}")
        return told["result"]

    @contextlib.contextmanager
    def page(self) -> Iterator[Page]:
        """An empty tab, closed and forgotten with the block."""
        profile = self.call("Target.createBrowserContext", {})["browserContextId"]
        try:
            wanted = {"url": "about:blank", "browserContextId": profile}
            target = self.call("Target.createTarget", wanted)["targetId"]
            attached = self.call("Target.attachToTarget", {"targetId": target, "flatten": True})
            yield Page(self, attached["sessionId"])
        finally:
            self.call("Target.disposeBrowserContext", {"browserContextId": profile})


def find_browser() -> str | None:
    """The program, where this host has one."""
    return next((path for name in PROGRAMS if (path := shutil.which(name))), None)


@contextlib.contextmanager
def running_browser(program: str) -> Iterator[Browser]:
    """A browser without a past."""
    with tempfile.TemporaryDirectory(prefix="atoll-browser-", ignore_cleanup_errors=True) as home:
        process = subprocess.Popen(
            [program, *_OPTIONS, f"--user-data-dir={home}/profile"],
            env={**os.environ, "HOME": home},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            told = Path(home, "profile", "DevToolsActivePort")
            lines = wait_until(lambda: _lines(told), within=PATIENCE, what="the browser's start")
            address = f"ws://127.0.0.1:{lines[0]}{lines[1]}"
            # No pings: their thread would use `random` under every later property test.
            with connect(address, max_size=None, ping_interval=None) as debugger:
                yield Browser(debugger)
                debugger.send(json.dumps({"id": 0, "method": "Browser.close"}))
                process.wait(PATIENCE)  # it ends its own processes, and waits for each
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _lines(path: Path) -> list[str]:
    """Both lines of it, once they are there."""
    lines = path.read_text().split("\n") if path.exists() else []
    return lines if len(lines) == 2 else []
