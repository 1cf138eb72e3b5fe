# SPDX-License-Identifier: Apache-2.0
"""Every test here leaves the host as it found it."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.api import Api
from tests.support.cleanliness import assert_host_is_clean
from tests.support.server import HOUR_MS, ServerProcess
from tests.support.trees import make_tree


@pytest.fixture(scope="module", autouse=True)
def _clean_host(clean_host: None) -> None:
    """For all of them."""


@pytest.fixture(scope="module")
def sandbox_id(api: Api, runtime: str) -> Iterator[str]:
    """A sandbox that the tests of a module share."""
    with api.sandbox(runtime=runtime, timeoutMs=HOUR_MS) as sandbox_id:
        yield sandbox_id


@pytest.fixture
def own_server() -> Iterator[ServerProcess]:
    """A server that the test may kill."""
    with ServerProcess() as server:
        yield server


@pytest.fixture(scope="module")
def image_tree() -> Iterator[Path]:
    """A root file system that holds `/image`."""
    with tempfile.TemporaryDirectory(prefix="atoll-tree-") as directory:
        yield make_tree(Path(directory, "tree"), marker="a tree")


@pytest.fixture(scope="module")
def image_server(image_tree: Path) -> Iterator[ServerProcess]:
    """A server with an alias and that tree."""
    images = f"python:3.12=host,example.org/tree:1={image_tree}"
    with ServerProcess({"ATOLL_IMAGES": images}) as server:
        yield server
        server.end_sandboxes()
        assert_host_is_clean(Api(server))
