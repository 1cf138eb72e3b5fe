# SPDX-License-Identifier: Apache-2.0
"""What the server's own process and files offer to whoever else is on the host, and to a sandbox that got near."""

from __future__ import annotations

import os
import socket
import stat
from contextlib import suppress
from pathlib import Path

import pytest

from atoll import Atoll, Error, Sandbox
from tests.support.processes import host_processes
from tests.support.server import ServerProcess

OTHERS = 0o007
# Others pass through on their way to a socket that only its sandbox's root may open; they list nothing.
PASSABLE = 0o711


def test_nothing_that_the_server_keeps_is_readable_for_others(
    server: ServerProcess, sandbox: Sandbox
) -> None:
    assert stat.S_IMODE(server.state_dir.stat().st_mode) & (OTHERS | 0o070) == 0
    for path in (server.state_dir, *server.state_dir.iterdir()):
        if path.name != "images":
            assert stat.S_IMODE(path.stat().st_mode) & OTHERS == 0, path
    assert stat.S_IMODE(server.socket.stat().st_mode) == 0o600
    (own,) = server.run_dir.iterdir()
    for path in (own, own / "control"):
        assert stat.S_IMODE(path.stat().st_mode) == PASSABLE, path
    for path in (own / "control").iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o700, path


def test_the_server_holds_no_file_of_a_sandbox(server: ServerProcess, sandbox: Sandbox) -> None:
    """Attack 23: what is never opened cannot lead astray."""
    sandbox.exec("echo x > /workspace/file; cat /workspace/file", check=True)
    sandbox.files.write("/tmp/written", "x" * 100_000)
    sandbox.files.read("/tmp/written")
    held = set()
    for name in os.listdir(f"/proc/{server.pid}/fd"):
        with suppress(FileNotFoundError):
            held.add(os.readlink(f"/proc/{server.pid}/fd/{name}"))

    paths = {path for path in held if path.startswith("/") and path != "/dev/null"}
    own = (str(server.directory), "/dev/", "/proc/", "/sys/fs/cgroup/")
    assert {path for path in paths if not path.startswith(own)} == set()
    assert not any(path.endswith(".ext4") for path in paths)


def test_everything_of_a_sandbox_is_mounted_without_setuid_and_devices(
    sandbox: Sandbox, runtime: str
) -> None:
    """Attack 16, as far as it goes without volumes: also where only the host can see it."""
    kinds = set()
    for pid in host_processes(sandbox.id):
        with suppress(FileNotFoundError):
            for line in Path(f"/proc/{pid}/mountinfo").read_text().splitlines():
                before, _, after = line.partition(" - ")
                target, flags, kind = *before.split(" ")[4:6], after.split(" ")[0]
                if kind in ("overlay", "ext4", "9p") or target.endswith("/control"):
                    kinds.add(kind)
                    assert {"nosuid", "nodev"} <= set(flags.split(",")), line

    assert "overlay" in kinds


def test_a_socket_that_became_a_link_leads_the_server_nowhere(
    client: Atoll, runtime: str, server: ServerProcess, tmp_path: Path
) -> None:
    """Root inside may put anything in place of the agent's socket: the server must not be sent to one of the host's."""
    target = f"/tmp/atoll-test-{os.getpid()}-{runtime}"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(target)
        try:
            listener.listen()
            listener.setblocking(False)
            with client.sandboxes.create("host", runtime=runtime) as sandbox:
                sandbox.exec(
                    f"cd /run/atoll/control && rm -f agent.sock && ln -s {target} agent.sock"
                )
                with pytest.raises(Error):
                    sandbox.exec("echo here")
            with pytest.raises(BlockingIOError):
                listener.accept()
        finally:
            os.unlink(target)
