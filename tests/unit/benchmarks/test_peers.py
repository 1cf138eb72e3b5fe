# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from benchmarks.peers import Peer, find_peers

# Says what it was told, and keeps it.
RECORDER = """#!/bin/sh
echo "$@" | tee -a "$0.told"
"""


@pytest.fixture
def program(tmp_path: Path) -> Path:
    path = tmp_path / "peer"
    path.write_text(RECORDER)
    path.chmod(0o755)
    return path


def test_every_verb_is_one_command_of_the_peer(program: Path) -> None:
    peer = Peer("peer", (str(program), "--option"), ("--rootfs", "/tree"))

    peer.run()
    container = peer.start()
    peer.exec("c1")
    peer.delete("c1")

    assert Path(f"{program}.told").read_text().splitlines() == [
        "--option run --rm --network=none --rootfs /tree /bin/sh -c true",
        "--option run --detach --network=none --rootfs /tree /bin/sleep infinity",
        "--option exec c1 /bin/sh -c true",
        "--option rm --force c1",
    ]
    assert container.startswith("--option run --detach")


def test_a_peer_that_fails_is_not_measured_as_if_it_had_worked() -> None:
    with pytest.raises(subprocess.CalledProcessError):
        Peer("peer", ("false",)).run()


def test_peers_that_are_not_there_are_said_to_be_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    programs = ("cat", "df", "id", "ls", "mkdir", "readlink", "rm", "sh", "sleep", "stat", "touch")
    for name in (*programs, "ldd", "bash"):
        (tmp_path / name).symlink_to(f"/usr/bin/{name}")

    with find_peers() as peers:
        found = {peer.name: peer.missing for peer in peers}

    assert found == {"docker": "not installed", "podman": "not installed"}
