# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import os
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

from atoll_server.engine.model import Limits, SandboxId
from atoll_server.runtimes.base import Launch, RootFilesystem, Staged, Tree
from atoll_server.runtimes.bundle import confine_to_host_kernel, render_config
from atoll_server.runtimes.cgroups import Group
from atoll_server.runtimes.idmap import IdRange
from atoll_server.runtimes.seccomp import ALLOWED, REFUSED, render_seccomp

LAUNCH = Launch(
    sandbox_id=SandboxId("sb_0123456789"),
    limits=Limits(cpu=2, memory_mb=4096, disk_mb=10240),
    root=RootFilesystem((Tree((Path("/images/host"),), "/"), Tree((Path("/usr"),), "/usr"))),
    disk=Path("/disks/sb_0123456789.ext4"),
    control=Path("/run/atoll/control/sb_0123456789"),
    group=Group(2, {"unified": Path("/sys/fs/cgroup/atoll/sb_0123456789")}),
    ids=IdRange(100_000),
    user_namespace=7,
    open_files=1024,
    may_linger=True,
)
STAGED = Staged(Path("/stage"), Path("/stage/root"), Path("/stage/control"))
# What would reach past a sandbox's own files and processes, or past its user namespace.
DANGEROUS = {
    "CAP_SYS_ADMIN",
    "CAP_SYS_MODULE",
    "CAP_SYS_PTRACE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_BOOT",
    "CAP_SYS_TIME",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_MKNOD",
    "CAP_BPF",
    "CAP_DAC_READ_SEARCH",
}


def test_no_dangerous_capability_in_any_set() -> None:
    sets = render_config(LAUNCH, STAGED)["process"]["capabilities"]

    assert all(not DANGEROUS & set(names) for names in sets.values())
    assert "ambient" not in sets
    assert "inheritable" not in sets


def test_sandbox_joins_the_network_that_was_made_for_it(tmp_path: Path) -> None:
    network: Future[BinaryIO] = Future()
    with (tmp_path / "sb.inside").open("wb+") as namespace:
        network.set_result(namespace)

        namespaces = render_config(replace(LAUNCH, network=network), STAGED)["linux"]["namespaces"]

        (joined,) = (it["path"] for it in namespaces if it["type"] == "network")
        assert Path(joined).resolve() == tmp_path / "sb.inside"
    assert {"type": "network"} in render_config(LAUNCH, STAGED)["linux"]["namespaces"]


def test_every_process_is_barred_from_new_privileges() -> None:
    assert render_config(LAUNCH, STAGED)["process"]["noNewPrivileges"] is True


def test_a_container_has_every_namespace_and_its_own_id_range() -> None:
    linux = confine_to_host_kernel(render_config(LAUNCH, STAGED), LAUNCH, joins=True)["linux"]

    kinds = {namespace["type"] for namespace in linux["namespaces"]}
    assert kinds == {"pid", "network", "ipc", "uts", "mount", "user", "cgroup"}
    joined = [namespace for namespace in linux["namespaces"] if "path" in namespace]
    assert joined == [{"type": "user", "path": f"/proc/{os.getpid()}/fd/7"}]
    assert linux["uidMappings"] == [{"containerID": 0, "hostID": 100_000, "size": 65_536}]
    assert linux["gidMappings"] == linux["uidMappings"]


def test_no_mount_of_the_host_but_the_control_directory() -> None:
    mounts = render_config(LAUNCH, STAGED)["mounts"]

    assert [m["source"] for m in mounts if m["type"] == "bind"] == ["/stage/control"]
    assert all("nosuid" in m["options"] for m in mounts)


def test_the_configuration_is_json() -> None:
    config = confine_to_host_kernel(render_config(LAUNCH, STAGED), LAUNCH, joins=True)

    assert json.loads(json.dumps(config)) == config


def test_calls_that_reach_the_kernel_s_depths_are_refused() -> None:
    assert not set(ALLOWED) & set(REFUSED)
    for name in ("mount", "unshare", "setns", "bpf", "io_uring_setup", "keyctl", "userfaultfd"):
        assert name in REFUSED


def test_clone3_is_unknown_so_that_clone_s_flags_can_be_checked() -> None:
    profile = render_seccomp("x86_64")

    named = {name for rule in profile["syscalls"] for name in rule["names"]}
    assert "clone3" not in named
    assert profile["defaultErrnoRet"] == 38
    (clone,) = [rule for rule in profile["syscalls"] if rule["names"] == ["clone"]]
    # 0x10000000 is CLONE_NEWUSER, 0x20000 CLONE_NEWNS.
    assert clone["args"][0]["value"] & 0x10020000 == 0x10020000


def test_every_socket_option_is_allowed_but_lingering_which_appears_to_be_set() -> None:
    """Where the server's sockets cannot refuse descriptors, which it would wait to close."""
    assert {"names": ["setsockopt"], "action": "SCMP_ACT_ALLOW", "args": []} in render_seccomp(
        "x86_64"
    )["syscalls"]
    rules = [
        rule
        for rule in render_seccomp("x86_64", may_linger=False)["syscalls"]
        if "setsockopt" in rule["names"]
    ]

    def actions(level: int, option: int) -> set[str]:
        numbers = {1: level, 2: option}
        return {
            rule["action"]
            for rule in rules
            if all(numbers[it["index"]] & it["value"] == it["valueTwo"] for it in rule["args"])
        }

    assert actions(1, 13) == actions(1 << 32 | 1, 13) == actions(1, 1 << 40 | 13)
    assert actions(1, 13) == {"SCMP_ACT_ERRNO"}
    assert [rule["errnoRet"] for rule in rules if rule["action"] == "SCMP_ACT_ERRNO"] == [0]
    assert all(actions(1, option) == {"SCMP_ACT_ALLOW"} for option in range(100) if option != 13)
    assert all(actions(level, 13) == {"SCMP_ACT_ALLOW"} for level in range(300) if level != 1)


def test_every_ioctl_is_allowed_but_typing_whatever_its_high_bits_are() -> None:
    """CVE-2017-5226, and CVE-2019-10063, where a filter looked at more bits than the kernel does."""
    rules = [rule for rule in render_seccomp("x86_64")["syscalls"] if rule["names"] == ["ioctl"]]

    def allowed(request: int) -> bool:
        return any(
            request & arg["value"] == arg["valueTwo"]
            for rule in rules
            for arg in rule["args"]
            if rule["action"] == "SCMP_ACT_ALLOW"
        )

    assert not allowed(0x5412)
    assert not allowed(0x7FFFFFFF_00005412)
    assert all(allowed(0x5412 ^ 1 << bit) for bit in range(32))
    assert all(allowed(request) for request in range(0x5401, 0x5470) if request != 0x5412)
    assert all(arg["op"] == "SCMP_CMP_MASKED_EQ" for rule in rules for arg in rule["args"])
