# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path

import pytest

from atoll_server.engine.errors import InvalidConfig
from atoll_server.engine.images import Images


def test_the_host_image_is_a_small_root_and_the_host_s_usr(tmp_path: Path) -> None:
    images = Images(tmp_path)
    images.prepare()

    root, usr = images.resolve("host").trees

    assert (root.target, usr.target, usr.source) == ("/", "/usr", Path("/usr"))
    assert (root.source / "bin").readlink() == Path("usr/bin")
    assert (root.source / "tmp").stat().st_mode & 0o7777 == 0o1777


def test_the_host_image_holds_no_secret_of_the_host(tmp_path: Path) -> None:
    images = Images(tmp_path)
    images.prepare()

    root = images.resolve("host").trees[0].source

    names = {str(path.relative_to(root)) for path in root.rglob("*")}
    assert not names & {"etc/shadow", "etc/gshadow", "etc/sudoers", "etc/ssh", "etc/ssl/private"}
    assert not list((root / "root").iterdir())
    # What is copied from /etc was readable by everyone there.
    for path in (root / "etc").rglob("*"):
        if path.is_file() and not path.is_symlink():
            assert path.stat().st_mode & 0o004, path


def test_an_unknown_image_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(InvalidConfig, match="'python:9'"):
        Images(tmp_path).resolve("python:9")
