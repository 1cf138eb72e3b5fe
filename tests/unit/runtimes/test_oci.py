# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
import resource
from collections.abc import Iterator

import pytest

from atoll_server.runtimes import oci
from atoll_server.runtimes.base import RuntimeFailed

MANY = 1100


@pytest.fixture
def _many_open_files() -> Iterator[None]:
    """As in a server that has hundreds of sandboxes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 2 * MANY), hard))
    held = [os.open("/dev/null", os.O_RDONLY) for _ in range(MANY)]
    try:
        yield
    finally:
        for descriptor in held:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.usefixtures("_many_open_files")
def test_readiness_is_heard_over_any_descriptor() -> None:
    reader, writer = os.pipe()
    try:
        assert reader > 1023
        os.write(writer, oci.READY)

        oci._wait_until_ready(reader)
    finally:
        os.close(reader)
        os.close(writer)


def test_an_agent_that_dies_first_is_quoted() -> None:
    reader, writer = os.pipe()
    try:
        os.write(writer, b"no such luck")
        os.close(writer)

        with pytest.raises(RuntimeFailed, match="no such luck"):
            oci._wait_until_ready(reader)
    finally:
        os.close(reader)
