# SPDX-License-Identifier: Apache-2.0
"""One client and one sandbox for the tests of a module: they look only at what they made themselves."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from atoll import AsyncAtoll, AsyncSandbox
from tests.support.server import HOUR_MS, ServerProcess


@pytest.fixture(scope="module")
async def client(server: ServerProcess) -> AsyncIterator[AsyncAtoll]:
    async with AsyncAtoll(api_url=server.url, api_key=server.api_key) as client:
        yield client


@pytest.fixture(scope="module")
async def sandbox(client: AsyncAtoll, runtime: str) -> AsyncIterator[AsyncSandbox]:
    async with await client.sandboxes.create(
        "host", runtime=runtime, timeout_ms=HOUR_MS
    ) as sandbox:
        yield sandbox
