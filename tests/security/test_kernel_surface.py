# SPDX-License-Identifier: Apache-2.0
"""What a sandbox must not do to the kernel or learn from it. Attacks 2 to 5, 7, 11, 13, 14 and 15."""

from __future__ import annotations

import platform
from pathlib import Path

import pytest

from atoll import Atoll, CommandNotStarted, Error, Sandbox
from tests.security.conftest import Probe
from tests.support.server import ServerProcess

NO, MISSING = "EPERM", "ENOSYS"
# What the application kernel has of its own, and what it answers where Linux says EPERM.
GVISOR = {
    "unshare user and mounts": "done",
    "clone into a user namespace": "done",
    "clone3": "done",
    "setns": "EINVAL",
    "perf_event_open": "ENODEV",
    "keyctl": "done",
    "add_key": "EACCES",
    "request_key": "EACCES",
    "open_by_handle_at": "ENOTSUP",
    "syslog": "done",
    "personality, no randomisation": "EINVAL",
    "vsock": "EAFNOSUPPORT",
    "kernel crypto socket": "EAFNOSUPPORT",
    "XDP socket": "EAFNOSUPPORT",
    "netlink, packet filter": "EPROTONOSUPPORT",
    "netlink, audit": "EPROTONOSUPPORT",
    "netlink, sock_diag": "EPROTONOSUPPORT",
    "netlink, kobject events": "done",
    **dict.fromkeys(
        (
            "open_tree", "move_mount", "fsopen", "fsmount", "mount_setattr", "userfaultfd",
            "userfaultfd, user mode", "io_uring_setup", "fanotify_init", "uselib", "pidfd_getfd",
            "nfsservctl", "memfd_secret",
        ),
        MISSING,
    ),
}  # fmt: skip
CONTAINER = dict.fromkeys(
    (
        "clone into a user namespace", "clone3", "memfd_secret", "personality, no randomisation",
        "packet socket", "packet socket, cooked", "vsock", "kernel crypto socket", "XDP socket",
        "netlink, packet filter", "netlink, audit", "netlink, sock_diag", "netlink, kobject events",
    ),
    MISSING,
)  # fmt: skip


@pytest.mark.parametrize("user", ["root", "user"])
def test_no_system_call_reaches_past_the_sandbox(probe: Probe, runtime: str, user: str) -> None:
    """Attacks 2, 3, 11 and 13."""
    if platform.machine() != "x86_64":
        pytest.skip("host lacks the numbers of x86-64's system calls")
    expected = CONTAINER if runtime == "container" else GVISOR

    found = probe("system_calls", user=user)

    found = {name: "done" if answer == "EEXIST" else answer for name, answer in found.items()}
    assert {
        name: answer for name, answer in found.items() if answer != expected.get(name, NO)
    } == {}


@pytest.mark.parametrize("user", ["root", "user"])
def test_mounts_of_the_host_do_not_change(sandbox: Sandbox, user: str) -> None:
    """Attacks 2 and 3."""
    before = _mounts_of_the_host()

    result = sandbox.exec(
        "mount -t proc x /mnt; mount --bind / /mnt; mount -o remount,rw /sys; "
        "unshare -Urm sh -c 'mount -t tmpfs x /mnt; mount --bind /etc /mnt'; umount -l /proc; echo $?",
        user=user,
    )

    assert result.stdout.endswith(("1\n", "32\n"))
    assert _mounts_of_the_host() == before
    assert sandbox.exec("test -e /proc/self && ls -A /mnt").stdout == ""


def _mounts_of_the_host() -> list[str]:
    """But for what servers, also others of this host, mount for their sandboxes, of which one may just come or go."""
    return [line for line in Path("/proc/mounts").read_text().splitlines() if "/sb_" not in line]


def test_devices_that_are_made_open_nothing(sandbox: Sandbox) -> None:
    for directory in ("/tmp", "/workspace", "/dev", "/dev/shm", "/root"):
        for number in ("b 254 0", "b 8 0", "b 7 0", "c 1 1", "c 10 232", "c 10 200"):
            made = f"{directory}/made"
            opened = sandbox.exec(f"mknod {made} {number} && head -c 1 {made} | od")
            # head says nothing at the end of an empty file: only bytes would be a device.
            assert "0000001" not in opened.stdout, (directory, number)
            sandbox.exec(f"rm -f {made}")


@pytest.mark.parametrize(
    "path",
    [
        "/proc/kcore",
        "/proc/kallsyms",
        "/proc/kmsg",
        "/proc/sysrq-trigger",
        "/proc/sys/kernel/core_pattern",
        "/proc/sys/kernel/modprobe",
        "/proc/sys/kernel/hotplug",
        "/proc/sys/vm/panic_on_oom",
        "/proc/sys/fs/binfmt_misc/register",
        "/sys/kernel/uevent_helper",
        "/sys/kernel/mm/transparent_hugepage/enabled",
        "/sys/power/state",
    ],
)
def test_knobs_of_the_kernel_neither_turn_nor_tell(
    sandbox: Sandbox, runtime: str, path: str
) -> None:
    """Attacks 4 and 5."""
    host = Path(path)
    before = _read(host)

    written = sandbox.exec(f"echo atoll-was-here > {path}", timeout_ms=5000)
    read = sandbox.exec(f"head -c 100000 {path}", timeout_ms=2000)

    # gVisor's files are the application kernel's, and what is masked is /dev/null.
    assert (
        written.exit_code != 0 or runtime == "gvisor" or path in ("/proc/kallsyms", "/proc/kcore")
    )
    assert _read(host) == before
    if path in ("/proc/kcore", "/proc/kallsyms", "/proc/kmsg"):
        assert read.stdout == ""


@pytest.mark.parametrize(
    "name",
    [
        "mem",
        "kmem",
        "port",
        "kmsg",
        "vda",
        "sda",
        "loop0",
        "loop-control",
        "kvm",
        "fb0",
        "dri",
        "snapshot",
    ],
)
def test_devices_of_the_host_are_not_there(sandbox: Sandbox, name: str) -> None:
    """Attack 14."""
    assert not sandbox.files.exists(f"/dev/{name}")


def _read(path: Path) -> str:
    if not path.is_file() or path.name in ("kcore", "kmsg", "kallsyms", "sysrq-trigger"):
        return ""
    try:
        return path.read_bytes()[:1000].decode(errors="replace")
    except OSError:
        return ""


def test_control_groups_offer_no_release_agent(sandbox: Sandbox, tmp_path: Path) -> None:
    """Attack 5."""
    flag = tmp_path / "escaped"
    sandbox.exec(
        f"for agent in $(find / -name release_agent 2>/dev/null); do echo 'touch {flag}' > $agent; done; "
        "mkdir -p /tmp/cg; mount -t cgroup -o memory cgroup /tmp/cg && mkdir /tmp/cg/x && "
        "echo 1 > /tmp/cg/x/notify_on_release; true"
    )

    assert sandbox.exec("find / -name release_agent 2>/dev/null").stdout == ""
    assert not flag.exists()


@pytest.mark.parametrize("number", [*range(3, 21), 255])
def test_no_directory_is_reached_through_a_leaked_file(sandbox: Sandbox, number: int) -> None:
    """Attack 7: CVE-2024-21626."""
    for cwd in (f"/proc/self/fd/{number}", f"/proc/1/fd/{number}", f"/proc/self/fd/{number}/../.."):
        with pytest.raises(CommandNotStarted) as raised:
            sandbox.exec("pwd; ls", cwd=cwd)
        assert raised.value.reason == "bad_directory"


def test_no_directory_is_reached_through_a_link_to_a_leaked_file(sandbox: Sandbox) -> None:
    """Attack 7."""
    for number in range(3, 21):
        sandbox.exec(f"ln -sfn /proc/self/fd/{number} /tmp/leak")

        with pytest.raises(CommandNotStarted):
            sandbox.exec("ls", cwd="/tmp/leak")


@pytest.mark.parametrize("number", [3, 5, 7, 9])
def test_a_workdir_may_not_be_a_leaked_file(client: Atoll, runtime: str, number: int) -> None:
    """Attack 7."""
    workdir = f"/proc/self/fd/{number}"

    with pytest.raises(Error) as raised:
        with client.sandboxes.create("host", runtime=runtime, workdir=workdir) as sandbox:
            sandbox.exec("ls")

    assert raised.value.code in ("INVALID_CONFIG", "COMMAND_NOT_STARTED", "INTERNAL")


def test_no_socket_and_no_device_of_the_host_is_seen(sandbox: Sandbox) -> None:
    """Attack 14."""
    found = sandbox.exec(
        "find / -xdev -path /proc -prune -o \\( -type s -o -name docker.sock -o -name kvm "
        "-o -name containerd.sock -o -type b \\) -print 2>/dev/null"
    )

    names = [name for name in found.stdout.split("\n") if name and not name.startswith("/usr/")]
    assert names in ([], ["/run/atoll/control/agent.sock"])


def test_the_kernel_log_tells_nothing_of_the_host(sandbox: Sandbox, runtime: str) -> None:
    """Attack 15."""
    result = sandbox.exec("dmesg; cat /dev/kmsg", timeout_ms=2000)

    if runtime == "container":
        assert result.stdout == ""
    assert "Linux version" not in result.stdout
    assert "Command line" not in result.stdout


def test_gvisor_shows_no_kernel_of_the_host(sandbox: Sandbox, runtime: str) -> None:
    """Attack 15."""
    if runtime == "container":
        pytest.skip("host lacks another kernel for containers: they share its own, and say so")

    release = sandbox.exec("uname -r; cat /proc/version /proc/cmdline").stdout

    assert platform.release() not in release


def test_no_name_of_another_sandbox_and_no_path_of_a_control_group_is_seen(
    client: Atoll, sandbox: Sandbox, runtime: str
) -> None:
    """Attacks 15 and 94."""
    with client.sandboxes.create("host", runtime=runtime) as other:
        seen = sandbox.exec(
            "cat /proc/self/cgroup /proc/self/mountinfo /proc/mounts /proc/*/cmdline /proc/net/unix "
            "/proc/locks /proc/partitions 2>/dev/null | tr '\\0' ' '; ls /sys/fs/cgroup /dev"
        ).stdout

    assert other.id not in seen
    assert f"/atoll/{sandbox.id}" not in seen


def test_environment_and_keys_of_the_server_are_not_inside(
    sandbox: Sandbox, server: object
) -> None:
    """Item 98."""
    found = sandbox.exec(
        "cat /proc/*/environ /proc/*/cmdline 2>/dev/null | tr '\\0' '\\n'; env; "
        "grep -rIl 'test-key-[0]123456789' /etc /run /tmp /root /home /workspace /var 2>/dev/null"
    ).stdout

    assert "test-key-0123456789" not in found
    assert "ATOLL_" not in found
    assert "VIRTUAL_ENV" not in found


def test_the_clock_cannot_be_set(sandbox: Sandbox) -> None:
    """Attack 89."""
    assert sandbox.exec("date -s '2001-01-01'").exit_code != 0


def test_without_a_network_there_is_only_its_own_loopback(
    client: Atoll, runtime: str, server: ServerProcess
) -> None:
    program = (
        "import socket\n"
        "for address in ('1.1.1.1', '169.254.169.254', '10.0.0.1', '127.0.0.1'):\n"
        "    s = socket.socket(); s.settimeout(2)\n"
        "    try: s.connect((address, int(__import__('sys').argv[1]))); print('reached', address)\n"
        "    except OSError as e: print(e.errno)\n"
    )

    with client.sandboxes.create("host", runtime=runtime, network="none") as sandbox:
        found = sandbox.exec(["python3", "-c", program, str(server.port)])

    assert "reached" not in found.stdout
    assert found.exit_code == 0
