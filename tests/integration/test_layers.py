# SPDX-License-Identifier: Apache-2.0
"""Files of an image keep what is special about them when a sandbox changes them, though the server is half of root."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from atoll import Atoll
from tests.support.server import ServerProcess
from tests.support.trees import add_programs, make_tree

STAFF = 50
AT_ONCE = 4


@pytest.fixture(scope="module")
def tree() -> Iterator[Path]:
    """An image with a file that carries capabilities, and a directory that hands its group on."""
    with tempfile.TemporaryDirectory(prefix="atoll-tree-") as directory:
        root = make_tree(Path(directory, "tree"), marker="special")
        add_programs(root, "chmod", "chown", "mv")
        (root / "capable").write_text("x")
        subprocess.run(["setcap", "cap_net_bind_service=ep", root / "capable"], check=True)
        shared = root / "shared"
        shared.mkdir()
        (shared / "file").write_text("x")
        for path in (shared, shared / "file"):
            os.chown(path, 0, STAFF)
            path.chmod(0o2775)
        yield root


@pytest.fixture(scope="module")
def special(tree: Path) -> Iterator[Atoll]:
    """A client of a server that has that image."""
    with (
        ServerProcess({"ATOLL_IMAGES": f"special={tree}"}) as server,
        Atoll(api_url=server.url, api_key=server.api_key) as client,
    ):
        yield client


@pytest.mark.parametrize(
    ("command", "printed"),
    [
        pytest.param("mv /capable /moved && cat /moved", "x", id="file with capabilities"),
        pytest.param("chown 7 /capable && stat -c %u /capable", "7\n", id="its owner"),
        pytest.param("chown 7 /shared && stat -c %a:%g /shared", "2775:50\n", id="setgid kept"),
        pytest.param(
            "chmod 2755 /shared/file && stat -c %a /shared/file", "2755\n", id="setgid given"
        ),
        pytest.param("touch /shared/new && stat -c %g /shared/new", "50\n", id="group handed on"),
    ],
)
def test_special_file_of_an_image_can_be_changed(
    special: Atoll, runtime: str, command: str, printed: str
) -> None:
    with special.sandboxes.create("special", runtime=runtime) as sandbox:
        result = sandbox.exec(command)

    assert (result.stdout, result.stderr) == (printed, "")


def test_host_image_is_made_anew_when_the_hosts_etc_has_changed(
    runtime: str,
) -> None:
    """It is named after what it was made from, so that another name is what a change of /etc comes to."""
    with (
        ServerProcess() as server,
        Atoll(api_url=server.url, api_key=server.api_key) as client,
        ThreadPoolExecutor(AT_ONCE) as threads,
    ):
        (before,) = server.state_dir.glob("images/host-*")
        before.rename(before.with_name("host-before"))

        made = list(
            threads.map(lambda _: client.sandboxes.create("host", runtime=runtime), range(AT_ONCE))
        )

        assert {sandbox.exec("cat /etc/hostname").stdout for sandbox in made} == {"atoll\n"}
        assert before.is_dir()
        assert list(server.state_dir.glob("images/.*")) == []
