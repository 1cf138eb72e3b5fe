# SPDX-License-Identifier: Apache-2.0
"""Which of the host's mounts a runtime is started in front of."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atoll_server.runtimes.backdrop import find_unneeded, read_mount_points

NEEDED = (Path("/usr"), Path("/run/atoll/1/crun"))
PATHS = st.lists(st.sampled_from(("run", "usr", "mnt", "a b", "é")), max_size=4).map(
    lambda names: Path("/", *names)
)


def unneeded(*points: str) -> list[str]:
    return [str(point) for point in find_unneeded(map(Path, points), NEEDED)]


def test_what_is_on_the_way_to_what_is_needed_stays() -> None:
    assert unneeded("/", "/usr", "/run", "/run/atoll", "/run/atoll/1/crun") == []


def test_what_leads_to_nothing_goes() -> None:
    points = ("/mnt", "/usr/share", "/run/atoll/1/control/sb_1", "/run/atoll/1/crun/x", "/us")
    assert unneeded(*points) == list(points)


@pytest.mark.parametrize("point", ["/sys", "/sys/fs/cgroup", "/sys/fs/cgroup/cpu,cpuacct"])
def test_control_groups_stay(point: str) -> None:
    assert unneeded(point) == []


def test_second_version_of_control_groups_beside_the_first_goes() -> None:
    assert unneeded("/sys/fs/cgroup/unified") == ["/sys/fs/cgroup/unified"]


@given(st.lists(PATHS))
def test_nothing_needed_lies_below_what_goes(points: list[Path]) -> None:
    for gone in find_unneeded(points, NEEDED):
        assert not any(path.is_relative_to(gone) for path in NEEDED)


@given(st.lists(PATHS, min_size=1))
def test_table_of_the_kernel_is_read_as_it_was_written(points: list[Path]) -> None:
    lines = (
        b"36 35 98:0 / %b rw,noatime master:1 - ext3 /dev/root rw" % _escape(point)
        for point in points
    )
    assert list(read_mount_points(b"\n".join(lines) + b"\n")) == points


def _escape(point: Path) -> bytes:
    """As the kernel does (mangle_path)."""
    return b"".join(
        b"\\%03o" % byte if byte in b" \t\n\\" else bytes([byte]) for byte in bytes(point)
    )
