# SPDX-License-Identifier: Apache-2.0
"""A real server that lives in a test's internet, and whose sandboxes do."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from tests.support.internet import NAME_SERVER, Internet
from tests.support.inventory import find_leftovers
from tests.support.server import ServerProcess


@contextmanager
def serving_within(
    internet: Internet, settings: Mapping[str, str] | None = None
) -> Iterator[ServerProcess]:
    """A server for as long as the block lasts. Nothing of it may stay behind."""
    server = ServerProcess({"ATOLL_NAME_SERVERS": NAME_SERVER, **(settings or {})})
    try:
        internet.run_within(server.start)
        yield server
        internet.run_within(server.end_sandboxes)
        internet.run_within(server.stop)
        left = find_leftovers([server.directory.name])
        assert not left, sorted(left)
    finally:
        server.kill()
        server.remove()
