# SPDX-License-Identifier: Apache-2.0
"""What a root file system made by a stranger must not do to its host. Attacks 8 and 10."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from atoll import Atoll, Error, Sandbox
from tests.support.server import ServerProcess
from tests.support.trees import describe_tree, make_tree

CANARY = "the-host-keeps-this\n"
# Files that runtimes write, or that programs of the host read on a sandbox's behalf.
FILES = (
    "group",
    "hostname",
    "hosts",
    "ld.so.cache",
    "mtab",
    "nsswitch.conf",
    "passwd",
    "resolv.conf",
)
# What a runtime masks with, mounts over and writes through while it prepares a root.
BELOW_OURS = (
    "dev/console", "dev/fd", "dev/mqueue", "dev/null", "dev/ptmx", "dev/pts", "dev/shm", "dev/tty", "dev/zero",
    "proc/kcore", "proc/self", "proc/sys", "proc/sysrq-trigger", "proc/thread-self", "sys/firmware", "sys/fs",
)  # fmt: skip
# Writes down who loaded it, and with which rights.
LIBRARY = r"""
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
__attribute__((constructor)) static void loaded(void) {
    char line[256], status[4096] = "", name[64] = "";
    int comm = open("/proc/self/comm", O_RDONLY), rights = open("/proc/self/status", O_RDONLY);
    if (comm >= 0) name[read(comm, name, 63) - 1] = 0;
    if (rights >= 0) read(rights, status, 4095);
    char *found = strstr(status, "CapEff:");
    int out = open("/loaded", O_WRONLY | O_CREAT | O_APPEND, 0666);
    int size = snprintf(line, 256, "%s %.16s\n", name, found ? found + 8 : "");
    if (out >= 0) write(out, line, size);
}
"""
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


@pytest.fixture
def canary() -> Iterator[Path]:
    """A file of the host, with what is beside it."""
    with tempfile.TemporaryDirectory(prefix="atoll-canary-", dir="/srv") as directory:
        path = Path(directory, "file")
        path.write_text(CANARY)
        yield path


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
    """Attack 8, CVE-2026-41579: not even one that was put there after the server had looked."""
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


def test_a_link_in_etc_leads_to_no_file_of_the_host(
    client: Atoll, runtime: str, tree: Path, canary: Path
) -> None:
    """Attack 10."""
    up = "../../../../../../.."
    links = {
        f"etc/{name}": f"{up if number % 2 else ''}{canary}" for number, name in enumerate(FILES)
    }
    with changed(tree, links), create(client, runtime) as sandbox:
        read = sandbox.exec([*("cat", "/etc/passwd"), *(f"/etc/{name}" for name in FILES)])
        for name in FILES:
            sandbox.files.write(f"/etc/{name}", "changed")
        sandbox.exec("touch /srv/made; ls", check=True)

    assert CANARY not in read.stdout
    assert canary.read_text() == CANARY
    assert os.listdir(canary.parent) == ["file"]


def test_what_a_tree_has_where_we_mount_is_not_followed(
    client: Atoll, runtime: str, tree: Path, canary: Path
) -> None:
    """CVE-2025-31133, CVE-2025-52565, CVE-2025-52881: what masks, and what is written to, is never the image's."""
    knobs = {path: Path(path).read_text() for path in ("/proc/sys/kernel/core_pattern",)}
    targets = ("/proc/sys/kernel/core_pattern", str(canary), "/proc/sysrq-trigger")
    links = {path: targets[number % 3] for number, path in enumerate(BELOW_OURS)}
    with changed(tree, links), create(client, runtime) as sandbox:
        devices = sandbox.exec("stat -c %t:%T /dev/null /dev/zero /dev/tty", check=True).stdout
        links_inside = sandbox.exec(
            "for p in /dev/null /dev/pts /proc/sys /proc/kcore /sys/fs; do readlink $p; done"
        )
        itself = sandbox.exec("readlink /proc/self/exe; cat /dev/null /proc/kcore", timeout_ms=5000)

    assert devices.split() == ["1:3", "1:5", "5:0"]
    assert links_inside.stdout == ""
    assert itself.stdout in ("/bin/readlink\n", "/usr/bin/readlink\n")
    assert {path: Path(path).read_text() for path in knobs} == knobs
    assert canary.read_text() == CANARY


def test_a_tree_that_changes_while_it_is_mounted_leads_nowhere(
    client: Atoll, runtime: str, tree: Path, canary: Path
) -> None:
    """CVE-2021-30465: a mount point that is a directory when it is looked at, and a link when it is used."""
    enough = threading.Event()
    places = [tree / name for name in ("dev", "proc", "run", "sys", "tmp")]
    before = set(Path("/proc/mounts").read_text().split())

    def swap() -> None:
        while not enough.is_set():
            for place in places:
                place.symlink_to(canary.parent)
            for place in places:
                place.unlink()
                place.mkdir()
            for place in places:
                place.rmdir()

    swapper = threading.Thread(target=swap)
    swapper.start()
    try:
        for _ in range(4):
            with suppress(Error), create(client, runtime) as sandbox:
                assert sandbox.exec("stat -c %t:%T /dev/null", check=True).stdout == "1:3\n"
    finally:
        enough.set()
        swapper.join()

    assert os.listdir(canary.parent) == ["file"]
    mounted = set(Path("/proc/mounts").read_text().split()) - before
    assert not any(str(canary.parent) in word for word in mounted)


def test_no_library_of_a_tree_is_loaded_by_what_starts_the_sandbox(
    client: Atoll, runtime: str, tree: Path, tmp_path: Path
) -> None:
    """CVE-2019-14271: a program of the host that has changed its root, and then looks up a name or a charset."""
    if shutil.which("cc") is None:
        pytest.skip("host lacks a C compiler, and so a library of the stranger's")
    directory = tree / "lib/evil"
    directory.mkdir(parents=True, exist_ok=True)
    source = tmp_path / "evil.c"
    source.write_text(LIBRARY)
    evil = directory / "libnss_evil.so.2"
    subprocess.run(["cc", "-w", "-shared", "-fPIC", "-o", evil, source], check=True, timeout=60)
    files = {
        "etc/ld.so.preload": "/lib/evil/libnss_evil.so.2\n",
        "etc/nsswitch.conf": "passwd: evil\ngroup: evil\nhosts: evil\n",
        "loaded": "",
    }
    try:
        with changed(tree, files, link=False), create(client, runtime) as sandbox:
            sandbox.files.write("/of-tree", "x")
            sandbox.files.chown("/of-tree", "tree")
            sandbox.exec("ls -l /of-tree", user="tree", check=True)
            lines = sandbox.exec("cat /loaded; exit 0").stdout.splitlines()
    finally:
        shutil.rmtree(directory)

    assert {line.split()[0] for line in lines} <= {"sh", "ls", "cat", "bash"}
    assert "sh" in {line.split()[0] for line in lines}, "the library is loaded by nobody at all"
    assert all(int(line.split()[1], 16) & ~0x405FB == 0 for line in lines)


@contextmanager
def changed(tree: Path, entries: dict[str, str], *, link: bool = True) -> Iterator[None]:
    """The tree with these links, or these files, in place of what it has there."""
    aside = tree.with_name("aside")
    shutil.copytree(tree, aside, symlinks=True)
    try:
        for name, value in entries.items():
            path = tree / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.unlink(missing_ok=True)
            if link:
                path.symlink_to(value)
            else:
                path.write_text(value)
                path.chmod(0o666)
        yield
    finally:
        # The server holds the directory by its path, and no sandbox stands on it any more.
        shutil.rmtree(tree)
        aside.rename(tree)
