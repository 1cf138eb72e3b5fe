# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path

from tests.support.inventory import find_difference, find_leftovers, take_inventory


def test_file_named_after_a_sandbox_is_a_leftover(tmp_path: Path) -> None:
    (tmp_path / "sb_0123456789.disk").touch()
    (tmp_path / "another").touch()

    left = find_leftovers(["sb_0123456789"], [tmp_path], settle=0)

    assert left == {f"file {tmp_path / 'sb_0123456789.disk'}"}


def test_nothing_is_left_of_a_sandbox_that_never_was(tmp_path: Path) -> None:
    assert find_leftovers(["sb_neverneve1"], [tmp_path]) == frozenset()
    assert find_leftovers([], [tmp_path]) == frozenset()


def test_difference_is_what_came_since(tmp_path: Path) -> None:
    before = take_inventory([tmp_path])
    (tmp_path / "new").touch()

    assert f"file {tmp_path / 'new'}" in find_difference(before, [tmp_path], settle=0)
