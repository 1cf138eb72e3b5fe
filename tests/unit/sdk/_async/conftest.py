# SPDX-License-Identifier: Apache-2.0
"""A client of the scripted server, and a sandbox that it thinks it has."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from atoll import AsyncAtoll, AsyncSandbox
from tests.support.scripted_server import ScriptedServer, answer_json
from tests.unit.sdk import samples

KEY = "rra_live_0123456789abcdef"


@pytest.fixture
async def client(scripted: ScriptedServer) -> AsyncIterator[AsyncAtoll]:
    async with AsyncAtoll(scripted.url, KEY) as client:
        yield client


@pytest.fixture
async def sandbox(client: AsyncAtoll, scripted: ScriptedServer) -> AsyncSandbox:
    """Its own request is forgotten: the test sees only what it does itself."""
    scripted.script.append(answer_json(samples.sandbox()))
    sandbox = await client.sandboxes.get("sb_0123456789")
    scripted.asked.clear()
    return sandbox
