# SPDX-License-Identifier: Apache-2.0
"""Every test here leaves the host as it found it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from atoll import Atoll, Sandbox
from tests.support.server import HOUR_MS, ServerProcess


@pytest.fixture(scope="module", autouse=True)
def _clean_host(clean_host: None) -> None:
    """For all of them."""


@pytest.fixture(scope="module")
def client(server: ServerProcess) -> Iterator[Atoll]:
    with Atoll(api_url=server.url, api_key=server.api_key) as client:
        yield client


@pytest.fixture(scope="module")
def sandbox(client: Atoll, runtime: str) -> Iterator[Sandbox]:
    """One sandbox for the tests of a module."""
    with client.sandboxes.create("host", runtime=runtime, timeout_ms=HOUR_MS) as sandbox:
        yield sandbox


class Probe:
    """Runs a program of `probes/` in a sandbox and returns what it found."""

    def __init__(self, sandbox: Sandbox, timeout_ms: int | None = None) -> None:
        self._sandbox = sandbox
        self._timeout_ms = timeout_ms

    def __call__(self, name: str, *arguments: str, user: str = "root") -> Any:
        program = (Path(__file__).parent / "probes" / f"{name}.py").read_text()
        result = self._sandbox.exec(
            ["python3", "-c", program, *arguments],
            user=user,
            cwd="/",
            timeout_ms=self._timeout_ms,
            check=True,
        )
        return json.loads(result.stdout)


@pytest.fixture(scope="module")
def probe(sandbox: Sandbox) -> Probe:
    return Probe(sandbox)
