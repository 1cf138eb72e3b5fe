# SPDX-License-Identifier: Apache-2.0
"""Which of root's rights the server has while it runs, one value, compared whole: more than this is a hole."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from atoll import Atoll, Sandbox
from tests.support.server import ServerProcess

# chown, dac_override, fowner, fsetid, kill, setgid, setuid, net_bind_service, net_admin, sys_chroot, sys_ptrace,
# sys_admin, setfcap
CAPABILITIES = 0x802C34FB
OPEN_FILES = 65_536
EXIT_CONFIG = 78
# A program that cannot be run is none, in the mount namespace of the server alone.
_HIDE = 'program=$(command -v crun) && mount --bind /dev/null "$program"; exec "$@"'
WITHOUT_CRUN = ("unshare", "--mount", "sh", "-c", _HIDE, "sh")


def expected_rights() -> dict[str, object]:
    """What every thread of the server has. A host may have fewer capabilities than the server would keep."""
    own = _read_status(Path("/proc/self/status"))
    held = f"{CAPABILITIES & int(own['CapBnd'], 16):016x}"
    nothing = f"{0:016x}"
    return {
        "Uid": "0\t0\t0\t0",
        "Gid": "0\t0\t0\t0",
        "CapInh": nothing,
        "CapPrm": held,
        "CapEff": held,
        "CapBnd": held,
        "CapAmb": nothing,
        "NoNewPrivs": "1",
        "Umask": "0077",
    }


def test_no_thread_of_the_server_has_more_rights_than_expected(
    server: ServerProcess, sandbox: Sandbox
) -> None:
    sandbox.exec("echo x > /tmp/file", check=True)
    expected = expected_rights()
    found = dict(_threads(server.pid, expected))

    assert {task: rights for task, rights in found.items() if rights != expected} == {}
    assert len(found) > 1, "the server's worker threads were to be looked at, too"


def test_limits_of_the_server_are_those_of_its_parent_but_for_cores_and_open_files(
    server: ServerProcess,
) -> None:
    names = {name: getattr(resource, name) for name in dir(resource) if name.startswith("RLIMIT_")}
    own = {name: resource.prlimit(os.getpid(), number) for name, number in names.items()}
    files, cores = own["RLIMIT_NOFILE"][1], own["RLIMIT_CORE"][1]
    raised = (min(files, OPEN_FILES), files)

    found = {name: resource.prlimit(server.pid, number) for name, number in names.items()}

    assert found == own | {
        "RLIMIT_NOFILE": raised,
        "RLIMIT_OFILE": raised,
        "RLIMIT_CORE": (0, cores),
    }


def test_memory_of_the_server_is_not_dumped_even_where_its_limit_is_raised() -> None:
    """Its memory holds keys. What the kernel says of a crash tells whether it wrote a core."""
    with _crashable("sleep", "60") as pid:
        if _crash(pid) != os.CLD_DUMPED:
            pytest.skip("host lacks core files")
    with ServerProcess() as server:
        assert _crash(server.pid) == os.CLD_KILLED


def test_files_that_the_server_inherits_are_closed(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("x")
    with secret.open() as file, _private_server(pass_fds=[file.fileno()]) as pid:
        held = set(_held_files(pid))

    assert str(secret) not in held
    assert any(name.startswith("socket:") for name in held), "the server was to be looked at"


def test_a_server_that_lacks_capabilities_says_which_and_does_not_start() -> None:
    with tempfile.TemporaryDirectory(prefix="atoll-test-") as directory:
        refused = subprocess.run(
            [*_without("sys_admin", "setfcap", "net_admin"), *_private_command(directory)],
            stdin=subprocess.PIPE,
            capture_output=True,
            text=True,
            check=False,
        )

        assert refused.returncode == EXIT_CONFIG
        assert refused.stderr.startswith("atoll: the server lacks CAP_SYS_ADMIN (for mounts")
        assert "CAP_SETFCAP" in refused.stderr
        assert "CapabilityBoundingSet" in refused.stderr
        assert "CAP_NET_ADMIN" not in refused.stderr, "only sandboxes with a network need it"
        assert os.listdir(directory) == []


def test_a_server_without_what_only_some_hosts_need_starts() -> None:
    with _private_server(prefix=_without("net_admin", "net_raw", "net_bind_service")) as pid:
        held = int(_read_status(Path(f"/proc/{pid}/status"))["CapEff"], 16)

    assert held == CAPABILITIES & ~(1 << 10 | 1 << 12 | 1 << 13)


def _threads(pid: int, names: Collection[str]) -> Iterator[tuple[str, dict[str, str]]]:
    """Of each thread, what its status says of `names`."""
    for task in Path(f"/proc/{pid}/task").iterdir():
        # Some live for the length of one creation.
        with suppress(FileNotFoundError, ProcessLookupError):
            status = _read_status(task / "status")
            yield task.name, {name: status[name] for name in names}


def _held_files(pid: int) -> Iterator[str]:
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        # The server opens and closes others while it is looked at.
        with suppress(FileNotFoundError):
            yield os.readlink(entry)


def _without(*names: str) -> Sequence[str]:
    return ("setpriv", f"--bounding-set={','.join(f'-{name}' for name in names)}", "--")


def _private_command(directory: str) -> list[str]:
    options = ("--private", "--socket", f"{directory}/s", "--state-dir", f"{directory}/state")
    return [sys.executable, "-m", "atoll_server", *options, "--run-dir", f"{directory}/run"]


@contextmanager
def _private_server(*, prefix: Sequence[str] = (), pass_fds: Sequence[int] = ()) -> Iterator[int]:
    """The pid of a server that ends with the block, started in a way of the test's own."""
    with (
        tempfile.TemporaryDirectory(prefix="atoll-test-") as directory,
        subprocess.Popen(
            [*prefix, *_private_command(directory)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            pass_fds=pass_fds,
        ) as server,
    ):
        assert server.stdin is not None
        assert server.stdout is not None
        with server.stdin:
            assert json.loads(server.stdout.readline())["url"]
            yield server.pid


def test_they_suffice_for_runc_where_there_is_no_crun() -> None:
    if shutil.which("runc") is None:
        pytest.skip("needs runc")
    with (
        ServerProcess(prefix=WITHOUT_CRUN) as server,
        Atoll(api_url=server.url, api_key=server.api_key) as client,
        client.sandboxes.create("host", runtime="container") as sandbox,
    ):
        assert "runc" in sandbox.isolation
        assert sandbox.exec("id -u").stdout == "0\n"


@contextmanager
def _crashable(*argv: str) -> Iterator[int]:
    with (
        tempfile.TemporaryDirectory() as directory,
        subprocess.Popen(argv, cwd=directory) as program,
    ):
        yield program.pid


def _crash(pid: int) -> int:
    """Abort a child whose limit of cores is as wide as may be; returns how it ended, for others to wait for, too."""
    hard = resource.prlimit(pid, resource.RLIMIT_CORE)[1]
    resource.prlimit(pid, resource.RLIMIT_CORE, (hard, hard))
    os.kill(pid, signal.SIGABRT)
    ended = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    assert ended is not None
    return ended.si_code


def _read_status(file: Path) -> dict[str, str]:
    return dict(line.split(":\t", 1) for line in file.read_text().splitlines() if ":\t" in line)
