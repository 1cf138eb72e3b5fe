# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import time
from pathlib import Path

import pytest

from atoll_server.engine.model import RuntimeKind
from atoll_server.runtimes import gvisor
from atoll_server.runtimes.detect import Runtimes, ask_version, find_program, find_runtimes


def detect(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, runsc: str) -> Runtimes:
    """With a runsc and a crun that are these scripts, before any other on the PATH."""
    for name, script in (("runsc", runsc), ("crun", "exit 1")):
        (tmp_path / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    return find_runtimes(agent=tmp_path / "agent", run=tmp_path / "run")


def test_a_recent_runsc_is_what_auto_takes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runtimes = detect(tmp_path, monkeypatch, "echo runsc version release-20240729.0; echo spec: 1")

    assert list(runtimes.usable) == [RuntimeKind.GVISOR, RuntimeKind.CONTAINER]
    assert runtimes.faults == {}


@pytest.mark.parametrize(
    ("script", "why"),
    [
        ("echo runsc version 0.0~20221219.0", "version 0.0~20221219.0 is too old"),
        ("echo hello", "says 'hello'"),
        ("printf '\\377\\000\\n'", "says '\ufffd"),
        ("echo runsc version 0.0~20240729.0; exit 1", "does not answer"),
        ("exit 1", "does not answer"),
        (":", "does not answer"),
        ("kill -9 $$", "does not answer"),
    ],
)
def test_a_runsc_that_will_not_do_leaves_containers_and_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, why: str
) -> None:
    runtimes = detect(tmp_path, monkeypatch, script)

    assert list(runtimes.usable) == [RuntimeKind.CONTAINER]
    assert why in runtimes.faults[RuntimeKind.GVISOR]
    assert "install the package runsc" in runtimes.faults[RuntimeKind.GVISOR]


def test_sandboxes_of_a_runtime_that_became_unusable_still_have_its_driver(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtimes = detect(tmp_path, monkeypatch, "exit 1")

    assert set(runtimes.drivers) == set(RuntimeKind)


def test_a_program_that_hangs_is_left_after_a_limit(tmp_path: Path) -> None:
    program = tmp_path / "runsc"
    program.write_text("#!/bin/sh\nexec sleep 1000\n")
    program.chmod(0o755)
    began = time.monotonic()

    version = ask_version(str(program), limit=0.1)

    assert version is None
    assert time.monotonic() - began < 5


def test_a_program_is_found_on_the_server_s_path_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sh").touch(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))

    assert find_program("sh") == str(tmp_path / "sh")
    assert find_program("env") == "/usr/bin/env"
    assert find_program("no-such-program") is None


@pytest.mark.parametrize(
    ("version", "is_fine"),
    [
        ("version 0.0~20240729.0", True),
        ("version release-20230605.0", True),
        ("version release-20230529.0", False),
        ("version 0.0~20221219.0", False),
        ("version VERSION_MISSING", True),
        ("unknown", False),
        (None, False),
    ],
)
def test_only_a_runsc_that_knows_systrap_will_do(version: str | None, is_fine: bool) -> None:
    assert (gvisor.find_fault(version) is None) is is_fine
