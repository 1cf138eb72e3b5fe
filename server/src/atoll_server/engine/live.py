# SPDX-License-Identifier: Apache-2.0
"""What the engine holds of a sandbox while something of it exists on the host, or is about to."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from atoll_server.agent.client import AgentClient
from atoll_server.engine import errors, trust
from atoll_server.engine.audience import Audiences
from atoll_server.engine.commands import ProcessDefaults
from atoll_server.engine.ends import Ends
from atoll_server.engine.feeds import Feeds
from atoll_server.engine.model import Sandbox, State
from atoll_server.engine.ports import Streams
from atoll_server.engine.site import Site


@dataclass
class Live:
    """A sandbox of which something exists on the host. `sandbox` is replaced at each change, never altered."""

    sandbox: Sandbox
    site: Site
    agent: AgentClient
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    def __post_init__(self) -> None:
        self.audiences = Audiences(self.agent)
        self.feeds = Feeds(self.agent)
        self.streams = Streams()
        self.ends = Ends(self.agent, self.site.oom_kills.was_killed)

    def defaults(self) -> ProcessDefaults:
        """What a command in it takes from it where it says nothing itself."""
        spec = self.sandbox.spec
        env = {**trust.environment(spec.secrets), **spec.env}
        return ProcessDefaults(spec.workdir, env, self.sandbox.id)


@dataclass(frozen=True)
class Creation:
    """A sandbox on its way. What it was promised is not another's any more."""

    sandbox: Sandbox
    is_over: asyncio.Event = field(default_factory=asyncio.Event)


def not_usable(sandbox: Sandbox) -> errors.EngineError:
    """Why nothing can be done with it now."""
    if sandbox.state is State.FAILED:
        detail = sandbox.detail or "it broke"
        return errors.SandboxFailed(
            f"sandbox {sandbox.id} has failed: {detail}", sandbox_id=sandbox.id
        )
    return errors.SandboxNotRunning(
        f"sandbox {sandbox.id} is {sandbox.state.value}", sandbox_id=sandbox.id
    )
