# SPDX-License-Identifier: Apache-2.0
"""What connections of one sandbox hold: bounded by a sum, and every one of them goes on."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass
from ipaddress import ip_address

import pytest

from atoll_server.clock import SystemClock
from atoll_server.network.addresses import Guard
from atoll_server.network.gate import Gate, OpenFlow, Surroundings
from atoll_server.network.holding import LITTLE_BYTES, READ_BYTES, Holding
from atoll_server.network.policy import Flow
from atoll_server.network.relay import relay
from atoll_server.network.resolver import Resolver
from atoll_server.network.side import Side
from atoll_server.network.written import parse_policy
from tests.support.waiting import wait_until
from tests.unit.network.sides import open_side, receive, send

MOST = 1 << 20
CONNECTIONS = 60


@dataclass
class Download:
    """Something that is sent without end, and that nobody takes."""

    inside: Side
    outside: Side
    client: socket.socket
    server: socket.socket

    async def run(self) -> None:
        gate = Gate(parse_policy("allow"), Surroundings(Guard(), Resolver(()), SystemClock()))
        flow = OpenFlow(Flow(ip_address("93.184.216.34"), 80), now=0)
        async with asyncio.TaskGroup() as group:
            group.create_task(relay(gate, flow, self.inside, self.outside))
            group.create_task(send(self.server, bytes(64 << 20)))


@pytest.fixture
async def holding() -> Holding:
    return Holding(most=MOST)


@pytest.fixture
async def downloads(holding: Holding) -> AsyncIterator[list[Download]]:
    opened = []
    for _ in range(CONNECTIONS):
        inside, client = await open_side(holding)
        outside, server = await open_side(holding)
        opened.append(Download(inside, outside, client, server))
    yield opened
    for each in opened:
        for side in (each.inside, each.outside):
            side.reset()
            side.close()
        each.client.close()
        each.server.close()


async def test_stalled_downloads_hold_no_more_than_a_sum(
    downloads: list[Download], holding: Holding
) -> None:
    stalled = [asyncio.ensure_future(each.run()) for each in downloads]
    try:
        await asyncio.to_thread(wait_until, lambda: holding.is_full, what="too much")
        done, _ = await asyncio.wait(stalled, timeout=0.5)

        assert not done
        # The one that filled it may have read much, and all that come after it a little.
        assert holding.held < MOST + READ_BYTES + CONNECTIONS * LITTLE_BYTES
        # Whoever takes gets more, however much the others hold.
        for _ in range(64):
            assert await receive(downloads[-1].client)
    finally:
        for task in stalled:
            task.cancel()
        await asyncio.wait(stalled)


async def test_nothing_is_held_in_the_end(downloads: list[Download], holding: Holding) -> None:
    stalled = [asyncio.ensure_future(each.run()) for each in downloads]
    await asyncio.to_thread(wait_until, lambda: holding.held > 0, what="something that is held")
    for task in stalled:
        task.cancel()
    await asyncio.wait(stalled)

    for each in downloads:
        each.inside.reset()
        each.outside.reset()
        each.inside.close()
        each.outside.close()
    for each in downloads:
        with contextlib.suppress(ConnectionError):
            while await receive(each.client):
                """What it was sent before."""

    assert holding.held == 0


async def test_piece_is_held_whole_until_all_of_it_is_sent(holding: Holding) -> None:
    side, client = await open_side(holding)
    with client:
        side.write(bytes(4 << 20))
        side.write(b"more")
        assert holding.held == (4 << 20) + len(b"more")

        received = 0
        while received < (4 << 20) + len(b"more"):
            received += len(await receive(client))
        await side.drain()
        assert holding.held == 0
        side.close()


async def test_side_of_a_sandbox_that_holds_too_much_is_not_closed_slowly() -> None:
    holding = Holding(most=1)
    side, client = await open_side(holding)
    with client:
        side.write(bytes(4 << 20))
        assert holding.is_full

        side.close()

        with contextlib.suppress(ConnectionError):
            while await receive(client):
                """What the kernel had."""
    assert holding.held == 0


async def test_what_is_unread_is_held(holding: Holding) -> None:
    side, client = await open_side(holding)
    with client:
        await send(client, b"hello")
        piece = side.read()
        assert await piece == b"hello"
        await send(client, b"again")
        await send(client, b"more")
        client.close()
        assert await side.read() == b"againmore"

        assert holding.held == 0
        side.close()
