# SPDX-License-Identifier: Apache-2.0
"""A real server in a process of its own, on directories of its own, as tests and benchmarks use it."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

START_TIMEOUT = 60.0
STOP_TIMEOUT = 60.0
API_KEY = "test-key-0123456789"
HOUR_MS = 3_600_000
"""The lifetime of sandboxes that many tests share: the default is too short for a slow machine."""


def neutral_environment() -> dict[str, str]:
    """Ours, without what would lead a program to another server or take its colours."""
    unwanted = ("ATOLL_", "NO_COLOR")
    return {name: value for name, value in os.environ.items() if not name.startswith(unwanted)}


class ServerProcess:
    """`python -m atoll_server` on a temporary directory, a unix socket and a TCP port. Use it with `with`.

    Stopping is SIGTERM, and waits for the server to end its sandboxes; a server that does not end is an error.
    `prefix` is a program, with its arguments, that becomes the server.
    """

    def __init__(
        self, settings: Mapping[str, str] | None = None, *, prefix: Sequence[str] = ()
    ) -> None:
        # Unix sockets lie below: the path must be short, so it is not pytest's.
        self.directory = Path(tempfile.mkdtemp(prefix="atoll-test-"))
        self.state_dir = self.directory / "state"
        self.run_dir = self.directory / "run"
        self.socket = self.directory / "api.sock"
        self.log = self.directory / "log"
        self.port = _free_port()
        self.api_key = API_KEY
        self.url = f"http://127.0.0.1:{self.port}"
        self._settings = dict(settings or {})
        self._prefix = tuple(prefix)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The server's process id, while it runs."""
        assert self._process is not None, "the server was not started"
        return self._process.pid

    def start(self) -> None:
        """Start it and wait until it answers."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [*self._prefix, sys.executable, "-m", "atoll_server"],
                env=self._environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        deadline = time.monotonic() + START_TIMEOUT
        while not self._answers():
            if self._ended(within=0.02) or time.monotonic() > deadline:
                self.kill()
                raise RuntimeError(f"the server did not start:\n{self.read_log()}")

    def stop(self) -> None:
        """Stop it in order. Stopping twice is fine."""
        if self._process is None:
            return
        self._process.send_signal(signal.SIGTERM)
        if not self._ended(within=STOP_TIMEOUT):
            self.kill()
            raise RuntimeError(
                f"the server did not stop within {STOP_TIMEOUT:g} s:\n{self.read_log()}"
            )
        status, self._process = self._process.returncode, None
        if status not in (0, -signal.SIGTERM):
            raise RuntimeError(f"the server ended with status {status}:\n{self.read_log()}")

    def end_sandboxes(self) -> None:
        """End every sandbox, with the server's help: they outlive it. One that was killed is started again."""
        if not self._runs():
            self._process = None
            self.start()
        for state in ("running", "failed"):
            while found := self._ask("GET", f"/v1/sandboxes?state={state}&limit=100")["data"]:
                for sandbox in found:
                    self._ask("DELETE", f"/v1/sandboxes/{sandbox['id']}")

    def kill(self) -> None:
        """End it as a crash would: SIGKILL, nothing cleaned up."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def remove(self) -> None:
        """Delete its directories."""
        shutil.rmtree(self.directory, ignore_errors=True)

    def read_log(self) -> str:
        """The last of what it logged."""
        return self.log.read_text(errors="replace")[-8000:] if self.log.exists() else ""

    def client_environment(self) -> dict[str, str]:
        """What leads a program to this server: `atoll`, or one that uses the SDK."""
        told = {"ATOLL_URL": self.url, "ATOLL_API_KEY": self.api_key, "TERM": "xterm"}
        return {**neutral_environment(), **told}

    def __enter__(self) -> ServerProcess:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.end_sandboxes()
            self.stop()
        finally:
            self.kill()
            self.remove()

    def _environment(self) -> dict[str, str]:
        return {
            **neutral_environment(),
            "ATOLL_HOST": "127.0.0.1",
            "ATOLL_PORT": str(self.port),
            "ATOLL_SOCKET": str(self.socket),
            "ATOLL_API_KEY": self.api_key,
            "ATOLL_STATE_DIR": str(self.state_dir),
            "ATOLL_RUN_DIR": str(self.run_dir),
            # Tests try many wrong keys from one address, on purpose.
            "ATOLL_AUTH_FAILURES_PER_MINUTE": "0",
            # What a test makes is made then and there, unless the test is about the pool.
            "ATOLL_POOL_SIZE": "0",
            **self._settings,
        }

    def _answers(self) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            connection.request("GET", "/v1/health")
            with connection.getresponse() as answer:
                return answer.status == 200
        except OSError:
            return False
        finally:
            connection.close()

    def _ask(self, method: str, path: str) -> Any:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request(method, path, headers={"Authorization": f"Bearer {self.api_key}"})
            with connection.getresponse() as answer:
                body = answer.read()
                if answer.status != 200:
                    raise RuntimeError(f"{method} {path} was answered {answer.status}: {body!r}")
                return json.loads(body)
        finally:
            connection.close()

    def _runs(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def _ended(self, *, within: float) -> bool:
        assert self._process is not None
        try:
            self._process.wait(within)
        except subprocess.TimeoutExpired:
            return False
        return True


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
