# SPDX-License-Identifier: Apache-2.0
"""What a root file system made by a stranger must not do to its host."""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from atoll import Atoll, Sandbox
from tests.support.server import ServerProcess
from tests.support.trees import describe_tree, make_tree

PLACES = ("dev", "proc", "run", "run/atoll", "sys", "tmp")


@pytest.fixture(scope="module")
def tree() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="atoll-tree-") as directory:
        yield make_tree(Path(directory, "tree"), marker="hostile")


@pytest.fixture(scope="module")
def server(tree: Path) -> Iterator[ServerProcess]:
    if os.geteuid() != 0:
        pytest.skip("needs root")
    with ServerProcess({"ATOLL_IMAGES": f"hostile={tree}"}) as server:
        yield server


@pytest.fixture
def client(server: ServerProcess) -> Iterator[Atoll]:
    with Atoll(api_url=server.url, api_key=server.api_key) as client:
        yield client


@pytest.fixture(autouse=True)
def _clean_host() -> None:
    """The server here is this module's own, which looks for leftovers when it ends."""


def create(client: Atoll, runtime: str) -> Sandbox:
    return client.sandboxes.create("hostile", runtime=runtime)


@pytest.mark.parametrize("target", ["/etc", "../../../../../../etc"])
@pytest.mark.parametrize("place", PLACES)
def test_a_link_leads_no_mount_elsewhere(
    client: Atoll, runtime: str, tree: Path, place: str, target: str
) -> None:
    """Not even one that was put there after the server had looked."""
    link = tree / place
    link.parent.mkdir(exist_ok=True)
    link.symlink_to(target)
    host = set(os.listdir("/etc"))
    try:
        with create(client, runtime) as sandbox:
            result = sandbox.exec(
                f"ls -d /{place}/. && readlink /{place}; ls /run/atoll", check=True
            )
    finally:
        link.unlink()
        if place == "run/atoll":
            link.parent.rmdir()

    assert result.stdout == f"/{place}/.\nagent\ncontrol\n"
    assert set(os.listdir("/etc")) == host


def test_a_file_or_directory_of_the_tree_does_not_stand_in_for_the_agent(
    client: Atoll, runtime: str, tree: Path
) -> None:
    impostor = tree / "run/atoll/agent"
    impostor.mkdir(parents=True)
    try:
        with create(client, runtime) as sandbox:
            assert sandbox.exec("cat /image", check=True).stdout == "hostile\n"
    finally:
        for directory in (impostor, *list(impostor.parents)[:2]):
            directory.rmdir()


def test_device_nodes_and_setuid_programs_give_nothing(
    client: Atoll, runtime: str, tree: Path
) -> None:
    loop, memory, program = (tree / name for name in ("loop", "memory", "bin/id"))
    os.mknod(loop, 0o666 | stat.S_IFBLK, os.makedev(7, 0))
    os.mknod(memory, 0o666 | stat.S_IFCHR, os.makedev(1, 1))
    program.chmod(0o4755)
    before = describe_tree(tree)
    try:
        with create(client, runtime) as sandbox:
            opened = sandbox.exec("cat </loop; echo $?; cat </memory; echo $?")
            user = sandbox.exec("/bin/id -u", user="tree", check=True)
    finally:
        loop.unlink()
        memory.unlink()
        program.chmod(0o755)
        after = describe_tree(tree)

    assert "0" not in opened.stdout.split()
    assert user.stdout == "1234\n"
    assert before.keys() - after.keys() == {"loop", "memory"}


def test_the_tree_is_never_written_to(client: Atoll, runtime: str, tree: Path) -> None:
    before = describe_tree(tree)

    with create(client, runtime) as sandbox:
        sandbox.exec("rm -rf /bin /etc /lib /lib64 /usr /image", check=True)

    assert describe_tree(tree) == before
