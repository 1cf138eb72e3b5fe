# SPDX-License-Identifier: Apache-2.0
"""The mounts that a runtime is started in front of, on this host."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from atoll_server.runtimes import kernel
from atoll_server.runtimes.backdrop import Backdrop, read_mount_points
from atoll_server.runtimes.disk import make_disk
from atoll_server.runtimes.stage import STAGE, make_backdrop, make_place
from tests.support.internet import run_on_thread
from tests.support.waiting import wait_until

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


def mount_points() -> list[Path]:
    return list(read_mount_points(Path("/proc/thread-self/mountinfo").read_bytes()))


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Path]:
    """Another sandbox's, say, for as long as the test runs."""
    point = tmp_path / "an other's"
    point.mkdir()
    kernel.mount("tmpfs", str(point), "tmpfs", 0, "size=4k")
    yield point
    kernel.unmount(str(point))


def test_mounts_of_others_are_not_there(mounted: Path) -> None:
    def look() -> list[Path]:
        backdrop.enter()
        return mount_points()

    backdrop = Backdrop(Path("/usr/bin"))
    assert mounted in mount_points()
    for _ in range(2):
        seen = run_on_thread(look)
        assert mounted not in seen
        assert {Path("/"), Path("/proc")} <= set(seen)
    assert mounted in mount_points()


def test_stages_have_their_place_where_run_is_a_file_system_of_its_own() -> None:
    """As on hosts with systemd, after a start. A sandbox's root is nobody there, and must pass through."""
    marker = STAGE / "marker"

    def look() -> list[int]:
        kernel.enter_private_mounts()
        kernel.mount("tmpfs", f"/{STAGE.parts[1]}", "tmpfs", 0, "size=16k")
        os.umask(0o077)  # of this thread alone, as it has left the others' mounts
        make_place()
        marker.touch()
        make_backdrop().enter()
        assert marker.exists()
        return [path.stat().st_mode & 0o777 for path in (STAGE, STAGE.parent)]

    assert not marker.exists()
    assert run_on_thread(look) == [0o755, 0o755]
    assert not marker.exists()


def test_mounts_made_in_front_of_it_are_nobody_elses(tmp_path: Path) -> None:
    def build() -> list[Path]:
        backdrop.enter()
        kernel.mount("tmpfs", str(tmp_path), "tmpfs", 0, "size=4k")
        return mount_points()

    def look() -> list[Path]:
        backdrop.enter()
        return mount_points()

    backdrop = Backdrop(Path("/usr/bin"))
    assert tmp_path in run_on_thread(build)
    assert tmp_path not in run_on_thread(look)
    assert tmp_path not in mount_points()


def test_what_is_unmounted_later_is_not_kept_in_use(tmp_path: Path) -> None:
    """A disk that an operator takes out while the server runs. A loop device is free once nothing has it mounted."""
    make_disk(tmp_path / "disk", size_mb=64, templates=tmp_path)
    point = tmp_path / "mounted"
    point.mkdir()
    device, descriptor = kernel.attach_loop(tmp_path / "disk")
    kernel.mount(device, str(point), "ext4")
    os.close(descriptor)
    backdrop = Backdrop(Path("/usr/bin"))
    run_on_thread(backdrop.enter)

    kernel.unmount(str(point))

    backing = Path("/sys/block", Path(device).name, "loop/backing_file")
    wait_until(lambda: not _is_backed_by(backing, tmp_path / "disk"), what="the device is free")


def _is_backed_by(backing: Path, image: Path) -> bool:
    try:
        return backing.read_text().strip() == str(image)
    except OSError:
        return False
