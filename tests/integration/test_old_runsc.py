# SPDX-License-Identifier: Apache-2.0
"""A host whose runsc will not do: Debian 12 has one of 2022."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.api import Api
from tests.support.cleanliness import assert_host_is_clean
from tests.support.server import ServerProcess

OLD = "echo runsc version 0.0~20221219.0"


@pytest.fixture
def programs() -> Iterator[Path]:
    """A directory that comes first on the server's PATH."""
    with tempfile.TemporaryDirectory(prefix="atoll-path-") as directory:
        yield Path(directory)


@pytest.fixture
def old_server(programs: Path) -> Iterator[ServerProcess]:
    """Not started yet, so that a test can put programs there."""
    if os.geteuid() != 0:
        pytest.skip("needs root")
    server = ServerProcess({"PATH": f"{programs}:{os.environ['PATH']}"})
    try:
        yield server
        server.end_sandboxes()
        assert_host_is_clean(Api(server))
        server.stop()
    finally:
        server.kill()
        server.remove()


def put(programs: Path, script: str) -> None:
    (programs / "runsc").write_text(f"#!/bin/sh\n{script}\n")
    (programs / "runsc").chmod(0o755)


@pytest.mark.parametrize(
    ("script", "why"),
    [(OLD, "too old"), ("echo hello", "says 'hello'"), ("exit 1", "does not answer")],
)
def test_auto_falls_to_a_container_and_gvisor_is_refused(
    old_server: ServerProcess, programs: Path, script: str, why: str
) -> None:
    put(programs, script)
    old_server.start()
    api = Api(old_server)

    automatic = [api.call("POST", "/v1/sandboxes", {"image": "host"}).json() for _ in range(2)]
    refused = api.call("POST", "/v1/sandboxes", {"image": "host", "runtime": "gvisor"})

    assert [sandbox["runtime"] for sandbox in automatic] == ["container"] * 2
    assert refused.error["code"] == "RUNTIME_UNAVAILABLE"
    assert why in refused.error["message"]
    assert "install the package runsc" in refused.error["message"]
    assert refused.error["retryable"] is False
    assert old_server.read_log().count("no sandbox can have the runtime gvisor") == 1


def test_a_runsc_that_hangs_holds_the_start_up_for_seconds_only(
    old_server: ServerProcess, programs: Path
) -> None:
    put(programs, "exec sleep 1000")

    old_server.start()

    sandbox = Api(old_server).call("POST", "/v1/sandboxes", {"image": "host"}).json()
    assert sandbox["runtime"] == "container"


def test_gvisor_sandboxes_outlive_the_loss_of_a_runsc_that_will_do(
    old_server: ServerProcess, programs: Path
) -> None:
    old_server.start()
    api = Api(old_server)
    created = api.call("POST", "/v1/sandboxes", {"image": "host", "runtime": "gvisor"})
    if created.status != 201:
        pytest.skip("needs runsc")
    old_server.stop()
    put(programs, OLD)

    old_server.start()

    place = f"/v1/sandboxes/{created.json()['id']}"
    shown = api.call("POST", f"{place}/execute", {"command": "echo here"}).json()
    assert shown["stdout"] == "here\n"
    assert api.call("DELETE", place).json()["state"] == "terminated"
