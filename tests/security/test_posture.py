# SPDX-License-Identifier: Apache-2.0
"""What a sandboxed process must look like, one value for each runtime, compared whole: more than this is a hole."""

from __future__ import annotations

import os
import resource
from pathlib import Path
from typing import Any

import pytest

from atoll import Sandbox
from tests.security.conftest import Probe
from tests.support.processes import first_process, host_processes
from tests.support.server import ServerProcess

# chown, dac_override, fowner, fsetid, kill, setgid, setuid, setpcap, net_bind_service, sys_chroot
CAPABILITIES = "405fb"
# What runsc keeps, in a user namespace of its own, to serve files: those of its sandbox's root, and sys_ptrace.
RUNSC_CAPABILITIES = 0x405FF | 1 << 19
OPEN_FILES = 65_536
NAMESPACES = {"cgroup", "ipc", "mnt", "net", "pid", "user", "uts"}
# gVisor knows no control group namespace, and no time namespace.
GVISOR_NAMESPACES = {"ipc", "mnt", "net", "pid", "user", "uts"}
DEVICES = {
    "/dev/full": "c 1:7 0666",
    "/dev/null": "c 1:3 0666",
    "/dev/pts/ptmx": "c 5:2 0666",
    "/dev/random": "c 1:8 0666",
    "/dev/tty": "c 5:0 0666",
    "/dev/urandom": "c 1:9 0666",
    "/dev/zero": "c 1:5 0666",
}
# The application kernel's own: neither reaches the host's.
GVISOR_DEVICES = {"/dev/fuse": "c 10:229 0666", "/dev/net/tun": "c 10:200 0666"}
MASKED = (
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kallsyms",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/pressure",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
)
READ_ONLY = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")
CONTAINER_MOUNTS = {
    "/": "overlay rw nosuid nodev",
    "/usr": "overlay rw nosuid nodev",
    "/run/atoll/control": "tmpfs rw nosuid nodev noexec",
    "/proc": "proc rw nosuid nodev noexec",
    "/sys": "sysfs ro nosuid nodev noexec",
    "/dev": "tmpfs rw nosuid",
    "/dev/mqueue": "mqueue rw nosuid nodev noexec",
    "/dev/pts": "devpts rw nosuid noexec",
    "/dev/shm": "tmpfs rw nosuid nodev noexec",
}
BOUND_DEVICES = ("full", "null", "random", "tty", "urandom", "zero")
# What the application kernel shows. Its files lie on the sandbox's disk, which the host has mounted nosuid and nodev.
GVISOR_MOUNTS = {
    "/": "9p rw",
    "/run/atoll/control": "9p rw noexec",
    "/proc": "proc rw noexec",
    "/sys": "sysfs ro noexec",
    "/dev": "tmpfs rw",
    "/dev/pts": "devpts rw noexec",
    "/dev/shm": "tmpfs rw noexec",
}


def expected_posture(runtime: str) -> dict[str, Any]:
    is_container = runtime == "container"
    capabilities = dict.fromkeys(("CapBnd", "CapEff", "CapPrm"), CAPABILITIES)
    ambient = {"CapAmb": "0"} if is_container else {}
    return {
        "ids": [0, 0, 0, 0, 0, 0],
        "groups": [0],
        "capabilities": {**capabilities, **ambient, "CapInh": "0"},
        "no new privileges": 1,
        "seccomp": 2 if is_container else 0,
        "mounts": _container_mounts() if is_container else GVISOR_MOUNTS,
        "open files": [0, 1, 2],
        "devices": DEVICES if is_container else {**DEVICES, **GVISOR_DEVICES},
        # Masked files stand for /dev/null. gVisor's /proc is that of the application kernel, and writing there
        # changes nothing but that.
        "writable": [p for p in _present(MASKED) if Path(p).is_file()] if is_container else [],
        "umask": 0o022,
        "session": True,
    }


def _container_mounts() -> dict[str, str]:
    return {
        **CONTAINER_MOUNTS,
        **{f"/dev/{name}": f"{_kind('/dev')} rw nosuid noexec" for name in BOUND_DEVICES},
        **{
            path: "tmpfs ro" if Path(path).is_dir() else f"{_kind('/dev')} ro"
            for path in _present(MASKED)
        },
        **dict.fromkeys(_present(READ_ONLY), "proc ro"),
    }


def _present(paths: tuple[str, ...]) -> list[str]:
    return sorted(path for path in paths if Path(path).exists())


def _kind(target: str) -> str:
    found = ""
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        fields = line.split(" ")
        if fields[4] == target:
            found = fields[fields.index("-") + 1]
    return found


def _differences(found: dict[str, Any], expected: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Each thing, one level down, that is found and expected differently."""
    found, expected = _flat(found), _flat(expected)
    return {
        name: (found.get(name), expected.get(name))
        for name in found.keys() | expected.keys()
        if found.get(name) != expected.get(name)
    }


def _flat(posture: dict[str, Any]) -> dict[str, Any]:
    flat = {name: value for name, value in posture.items() if not isinstance(value, dict)}
    for name, value in posture.items():
        if isinstance(value, dict):
            flat |= {f"{name} {inner}": what for inner, what in value.items()}
    return flat


def test_a_process_is_no_more_than_expected(probe: Probe, runtime: str) -> None:
    """Attacks 1 and 6."""
    found = probe("posture")
    agent = found["mounts"].pop("/run/atoll/agent", "none ro nosuid nodev")
    del found["parent"], found["namespaces"], found["limits"]
    if runtime == "gvisor":
        found["writable"] = [path for path in found["writable"] if not path.startswith("/proc/")]

    assert _differences(found, expected_posture(runtime)) == {}
    assert agent.partition(" ")[2] == "ro nosuid nodev", "the agent's program"


def test_a_process_has_no_namespace_of_the_host(
    sandbox: Sandbox, probe: Probe, runtime: str
) -> None:
    inside = probe("posture")["namespaces"]
    # Of gVisor, the host's namespaces hold the application kernel itself.
    pid = first_process(sandbox.id)
    held = {name: os.readlink(f"/proc/{pid}/ns/{name}") for name in os.listdir(f"/proc/{pid}/ns")}
    host = {name: os.readlink(f"/proc/self/ns/{name}") for name in os.listdir("/proc/self/ns")}

    own = {name for name in held if not name.endswith("_for_children")} - {
        name for name in host if held.get(name) == host[name]
    }
    if runtime == "container":
        assert own == NAMESPACES
        assert {name for name in inside if inside[name] != host.get(name)} >= NAMESPACES
    else:
        assert own >= {"ipc", "mnt", "net", "pid", "user"}
        assert inside.keys() == GVISOR_NAMESPACES


def test_limits_are_those_of_the_server_but_for_open_files(
    probe: Probe, server: ServerProcess, runtime: str
) -> None:
    found = probe("posture")["limits"]
    hard = resource.prlimit(server.pid, resource.RLIMIT_NOFILE)[1]

    assert found["RLIMIT_NOFILE"] == [min(OPEN_FILES, hard)] * 2
    for name in ("RLIMIT_NICE", "RLIMIT_RTPRIO"):
        assert found[name] == [0, 0], "no way to outrun the host's own processes"
    assert found["RLIMIT_MEMLOCK"][0] <= 8 << 20
    assert found["RLIMIT_CORE"][0] in (0, -1)


def test_another_user_has_no_capability(probe: Probe, runtime: str) -> None:
    """Attack 1."""
    found = probe("posture", user="user")

    assert found["ids"] == [1000] * 6
    assert found["groups"] == [1000]
    assert {found["capabilities"][name] for name in ("CapEff", "CapPrm", "CapInh")} == {"0"}
    assert found["no new privileges"] == 1
    assert found["open files"] == [0, 1, 2]


@pytest.mark.parametrize("options", [{"stdin": "x"}, {"on_stdout": len}], ids=["stdin", "streamed"])
def test_no_form_of_a_command_leaks_an_open_file(sandbox: Sandbox, options: dict[str, Any]) -> None:
    """Attack 6."""
    result = sandbox.exec(["ls", "/proc/self/fd"], **options)

    # The fourth is the directory itself.
    assert result.stdout.split() == ["0", "1", "2", "3"]


def test_the_agent_holds_no_file_of_the_host(sandbox: Sandbox, runtime: str) -> None:
    """Attack 6: CVE-2024-21626."""
    if runtime == "gvisor":
        pytest.skip("host lacks a view of files that only the application kernel has open")
    pid = first_process(sandbox.id)

    held = {os.readlink(f"/proc/{pid}/fd/{number}") for number in os.listdir(f"/proc/{pid}/fd")}

    paths = {name for name in held if name.startswith("/") and name != "/dev/null"}
    assert {name for name in paths if not name.startswith(("/run/atoll/", "/proc"))} == set()


def test_processes_are_nobody_on_the_host(sandbox: Sandbox, runtime: str) -> None:
    """Attack 20: also the runtime itself has neither rights nor every system call."""
    sandbox.exec("setsid sleep 60 >/dev/null 2>&1 &")
    for pid in host_processes(sandbox.id):
        status = dict(
            line.split(":\t", 1)
            for line in Path(f"/proc/{pid}/status").read_text().splitlines()
            if ":\t" in line
        )
        name = status["Name"]
        assert status["NoNewPrivs"] == "1", name
        if runtime == "container":
            assert int(status["Uid"].split()[0]) >= 65_536, name
            assert status["Seccomp"] == "2", name
        else:
            assert status["Seccomp"] == "2", name
            assert os.readlink(f"/proc/{pid}/ns/user") != os.readlink("/proc/self/ns/user"), name
            for kind in ("CapBnd", "CapEff", "CapPrm", "CapInh"):
                assert int(status[kind], 16) & ~RUNSC_CAPABILITIES == 0, (name, kind)
    sandbox.exec("pkill sleep")
