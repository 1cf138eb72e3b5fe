# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
from pathlib import Path

import pytest

from atoll_server.runtimes.disk import make_disk


@pytest.mark.skipif(not os.path.exists("/usr/sbin/mkfs.ext4"), reason="needs e2fsprogs")
def test_a_disk_is_a_sparse_copy_of_one_template_per_size(tmp_path: Path) -> None:
    templates = tmp_path / "templates"
    templates.mkdir()

    for name in ("a", "b"):
        make_disk(tmp_path / name, size_mb=1024, templates=templates)

    (template,) = templates.iterdir()
    assert _beginning(tmp_path / "a") == _beginning(template)
    for name in ("a", "b"):
        status = (tmp_path / name).stat()
        assert status.st_size == 1024 << 20
        assert status.st_blocks * 512 < 32 << 20
        assert status.st_mode & 0o777 == 0o600


def _beginning(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(65_536)
