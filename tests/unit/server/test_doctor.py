# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from atoll_server.doctor import Mark, Report, diagnose
from atoll_server.engine.model import RuntimeKind
from atoll_server.facts import HostFacts, Program, collect_facts

CRUN = Program("/usr/bin/crun", "version 1.8.1")
RUNC = Program("/usr/sbin/runc", "version 1.1.5")
RUNSC = Program("/usr/bin/runsc", "version release-20240729.0")
IP = Program("/usr/sbin/ip", "")
MKFS = Program("/usr/sbin/mkfs.ext4", "")

GOOD = HostFacts(
    system="Linux",
    machine="x86_64",
    kernel=(6, 1),
    distribution="Debian GNU/Linux 12 (bookworm)",
    root=True,
    programs={"crun": CRUN, "runc": RUNC, "runsc": RUNSC, "ip": IP, "mkfs.ext4": MKFS},
    cgroup="v2",
    controllers=frozenset({"cpu", "memory", "pids", "io"}),
    user_namespaces=96_365,
    filesystems=frozenset({"ext4", "overlay", "proc"}),
    usr_filesystem="ext4",
    loop_devices=True,
    agent="/opt/atoll/atoll-agent",
    memory_mb=16_000,
    disk_mb=50_000,
    state_directory="/var/lib/atoll",
)

GOOD_REPORT = """\
fine    system            Linux 6.1 on x86_64, Debian GNU/Linux 12 (bookworm)
fine    root              running as root
fine    agent             /opt/atoll/atoll-agent
fine    runtime gvisor    /usr/bin/runsc, version release-20240729.0
fine    runtime container /usr/bin/crun, version 1.8.1
fine    user namespaces   up to 96365
fine    id-mapped mounts  /usr is on ext4
fine    cgroups           v2, controllers cpu, memory, pids
fine    disk images       loop devices and ext4
fine    overlayfs         in the kernel
fine    network           veth pairs, and nftables with tproxy and log
fine    memory            16000 MiB available
fine    disk              50000 MiB free for /var/lib/atoll
auto: gvisor (runsc, systrap): a kernel of its own in user space
"""

BARE_REPORT = """\
fine    system            Linux 6.1 on x86_64, Debian GNU/Linux 12 (bookworm)
fine    root              running as root
fine    agent             /opt/atoll/atoll-agent
problem runtime gvisor    runsc is not installed -> install the package runsc from your distribution's backports \
(Debian 12's own is too old)
problem runtime container neither crun nor runc is installed -> install the package crun
fine    user namespaces   up to 96365
fine    id-mapped mounts  /usr is on ext4
fine    cgroups           v2, controllers cpu, memory, pids
fine    disk images       loop devices and ext4
fine    overlayfs         in the kernel
warning network           no sandbox can have one: ip is not installed -> install the package iproute2, \
and use a kernel with veth, nft_tproxy and nft_log
fine    memory            16000 MiB available
fine    disk              50000 MiB free for /var/lib/atoll
auto: none: sandboxes cannot run here
"""


def render(report: Report) -> str:
    lines = [
        f"{finding.mark.value:<7} {finding.subject:<17} {finding.detail}"
        + (f" -> {finding.advice}" if finding.advice else "")
        for finding in report.findings
    ]
    return "\n".join([*lines, f"auto: {report.isolation}", ""])


def without(*names: str, facts: HostFacts = GOOD) -> HostFacts:
    return replace(facts, programs={k: v for k, v in facts.programs.items() if k not in names})


def mark_of(report: Report, subject: str) -> Mark:
    return next(finding.mark for finding in report.findings if finding.subject == subject)


def test_good_host_is_ready_and_takes_gvisor() -> None:
    report = diagnose(GOOD)

    assert render(report) == GOOD_REPORT
    assert report.ready
    assert report.automatic is RuntimeKind.GVISOR


def test_host_without_any_runtime_is_told_what_to_install() -> None:
    report = diagnose(without("crun", "runc", "runsc", "ip"))

    assert render(report) == BARE_REPORT
    assert not report.ready
    assert report.automatic is None


def test_host_without_gvisor_takes_a_container_and_only_warns() -> None:
    report = diagnose(without("runsc"))

    assert report.runtimes == (RuntimeKind.CONTAINER,)
    assert mark_of(report, "runtime gvisor") is Mark.WARNING
    assert report.isolation.startswith("container (crun)")


def test_runc_serves_where_crun_is_missing() -> None:
    report = diagnose(without("crun", "runsc"))

    assert report.runtimes == (RuntimeKind.CONTAINER,)
    assert report.isolation.startswith("container (runc)")


def test_host_with_gvisor_alone_is_ready() -> None:
    report = diagnose(without("crun", "runc"))

    assert report.runtimes == (RuntimeKind.GVISOR,)
    assert mark_of(report, "runtime container") is Mark.WARNING


def test_gvisor_of_2022_is_not_used() -> None:
    old = {**GOOD.programs, "runsc": Program("/usr/bin/runsc", "version 0.0~20221219.0")}

    report = diagnose(replace(GOOD, programs=old))

    assert report.runtimes == (RuntimeKind.CONTAINER,)
    assert mark_of(report, "runtime gvisor") is Mark.WARNING


def test_gvisor_without_a_date_in_its_version_is_taken_as_new() -> None:
    own_build = {**GOOD.programs, "runsc": Program("/usr/bin/runsc", "version VERSION_MISSING")}

    assert diagnose(replace(GOOD, programs=own_build)).automatic is RuntimeKind.GVISOR


def test_runtime_that_does_not_answer_is_not_used() -> None:
    broken = {**GOOD.programs, "runsc": Program("/usr/bin/runsc", None)}

    assert diagnose(replace(GOOD, programs=broken)).automatic is RuntimeKind.CONTAINER


@pytest.mark.parametrize(
    ("facts", "subject"),
    [
        (replace(GOOD, system="Darwin"), "system"),
        (replace(GOOD, machine="riscv64"), "system"),
        (replace(GOOD, root=False), "root"),
        (replace(GOOD, missing=("CAP_SETFCAP",)), "root"),
        (replace(GOOD, agent=None), "agent"),
        (replace(GOOD, cgroup="none", controllers=frozenset()), "cgroups"),
        (replace(GOOD, controllers=frozenset({"cpu", "pids"})), "cgroups"),
        (replace(GOOD, cgroup="v1", controllers=frozenset({"cpu", "memory", "pids"})), "cgroups"),
        (replace(GOOD, loop_devices=False), "disk images"),
        (replace(GOOD, filesystems=frozenset({"overlay"})), "disk images"),
        (without("mkfs.ext4"), "disk images"),
        (replace(GOOD, filesystems=frozenset({"ext4"})), "overlayfs"),
    ],
)
def test_what_every_sandbox_needs_is_a_problem_when_missing(facts: HostFacts, subject: str) -> None:
    report = diagnose(facts)

    assert mark_of(report, subject) is Mark.PROBLEM
    assert not report.ready
    assert all(finding.advice for finding in report.findings if finding.mark is Mark.PROBLEM)


@pytest.mark.parametrize(
    "facts",
    [
        replace(GOOD, user_namespaces=0),
        replace(GOOD, user_namespaces=None),
        replace(GOOD, kernel=(5, 10)),
    ],
)
def test_what_only_containers_need_leaves_gvisor(facts: HostFacts) -> None:
    assert diagnose(facts).runtimes == (RuntimeKind.GVISOR,)
    assert not diagnose(without("runsc", facts=facts)).ready


@pytest.mark.parametrize(
    ("facts", "subject"),
    [
        (without("ip"), "network"),
        (replace(GOOD, network_fault="the kernel refused to add rule 6"), "network"),
        (replace(GOOD, memory_mb=100), "memory"),
        (replace(GOOD, disk_mb=100), "disk"),
        (replace(GOOD, usr_filesystem="overlay"), "id-mapped mounts"),
    ],
)
def test_warning_does_not_make_the_host_unready(facts: HostFacts, subject: str) -> None:
    report = diagnose(facts)

    assert mark_of(report, subject) is Mark.WARNING
    assert report.ready


def test_facts_of_this_host_are_read_without_failing(tmp_path: Path) -> None:
    facts = collect_facts(tmp_path / "absent", agent=tmp_path / "no-agent")

    assert facts.agent is None
    assert facts.disk_mb > 0
    assert render(diagnose(facts))
