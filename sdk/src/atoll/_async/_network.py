# SPDX-License-Identifier: Apache-2.0
"""What a sandbox may reach."""

from __future__ import annotations

from .. import _requests
from .._policies import NetworkPolicy
from ..models import Network, NetworkReport, SandboxInfo
from ._transport import AsyncTransport


class AsyncSandboxNetwork:
    """The network of a sandbox, as `sandbox.network`. It must have been created with one."""

    def __init__(self, transport: AsyncTransport, sandbox_id: str) -> None:
        self._transport = transport
        self._sandbox_id = sandbox_id

    async def update(self, policy: NetworkPolicy) -> Network:
        """Lets another policy hold from now on, in place of the whole of the one before; returns what holds.

        When it returns, connections that are open and no longer allowed have been cut. `policy` is as in `create`.
        Raises `InvalidConfig` for one that cannot be, and for a sandbox that was created without a network.
        """
        request = _requests.set_network(self._sandbox_id, policy)
        info = await self._transport.ask(SandboxInfo, request)
        return info.network or Network()

    async def report(self) -> NetworkReport:
        """What holds, what the sandbox did, and what it was refused, with reasons.

        Raises `InvalidConfig` for a sandbox that was created without a network.
        """
        request = _requests.get_network(self._sandbox_id)
        return await self._transport.ask(NetworkReport, request)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self._sandbox_id}>"
