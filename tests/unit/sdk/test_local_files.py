# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from atoll._local_files import LocalTarget, open_source


def _fill(path: Path, data: bytes) -> None:
    target = LocalTarget(path)
    target.write(data)
    target.commit()


def test_a_target_appears_with_its_commit(tmp_path: Path) -> None:
    target = LocalTarget(tmp_path / "f")
    target.write(b"data")
    before = (tmp_path / "f").exists()
    target.commit()

    assert not before
    assert (tmp_path / "f").read_bytes() == b"data"
    assert target.size_bytes == 4


def test_an_aborted_target_leaves_nothing(tmp_path: Path) -> None:
    target = LocalTarget(tmp_path / "f")
    target.write(b"data")
    target.abort()

    assert os.listdir(tmp_path) == []


def test_an_existing_file_keeps_its_mode(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"old")
    (tmp_path / "f").chmod(0o640)

    _fill(tmp_path / "f", b"new")

    assert (tmp_path / "f").read_bytes() == b"new"
    assert stat.S_IMODE((tmp_path / "f").stat().st_mode) == 0o640


def test_a_link_stays_and_what_it_points_to_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"old")
    (tmp_path / "l").symlink_to("f")

    _fill(tmp_path / "l", b"new")

    assert (tmp_path / "l").is_symlink()
    assert (tmp_path / "f").read_bytes() == b"new"


def test_a_device_is_written_into(tmp_path: Path) -> None:
    _fill(Path("/dev/null"), b"data")

    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)


def test_a_directory_is_no_target(tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError):
        LocalTarget(tmp_path)


def test_a_source_knows_its_size_where_it_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"12345")

    file, size = open_source(tmp_path / "f")
    file.close()
    device, unknown = open_source("/dev/null")
    device.close()

    assert (size, unknown) == (5, None)
