# SPDX-License-Identifier: Apache-2.0
"""What a client keeps of the connections that many requests at once have needed."""

from __future__ import annotations

import asyncio

from atoll import AsyncAtoll
from atoll._async._transport import MAX_IDLE_CONNECTIONS
from tests.support.scripted_server import ScriptedServer, answer_json
from tests.unit.sdk import samples

CROWD = MAX_IDLE_CONNECTIONS + 8


async def test_a_crowd_leaves_no_more_connections_than_are_quickly_looked_through(
    scripted: ScriptedServer,
) -> None:
    scripted.script += [answer_json(samples.sandbox())] * CROWD
    async with AsyncAtoll(scripted.url, "k") as client:
        await asyncio.gather(*(client.sandboxes.get("sb_0123456789") for _ in range(CROWD)))

        assert scripted.connections == CROWD
        await asyncio.to_thread(scripted.wait_gone, CROWD - MAX_IDLE_CONNECTIONS)
        assert scripted.gone == CROWD - MAX_IDLE_CONNECTIONS
