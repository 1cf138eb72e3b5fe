# SPDX-License-Identifier: Apache-2.0
"""A command that is run to its end, by an agent and nothing else."""

from __future__ import annotations

from atoll_server.agent.client import AgentClient
from atoll_server.engine import commands
from atoll_server.engine.commands import OUTPUT_LIMIT, ProcessDefaults, WasOomKilled
from atoll_server.engine.model import Command, Completed


async def execute(
    agent: AgentClient,
    command: Command,
    *,
    defaults: ProcessDefaults,
    limit: int = OUTPUT_LIMIT,
    was_oom_killed: WasOomKilled | None = None,
) -> Completed:
    async with commands.start(
        agent, command, defaults=defaults, was_oom_killed=was_oom_killed
    ) as running:
        return await commands.collect(running, limit)
