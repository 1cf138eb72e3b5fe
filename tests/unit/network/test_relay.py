# SPDX-License-Identifier: Apache-2.0
"""Passing bytes: complete, both ways, and no further than a request's end."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass
from ipaddress import ip_address

import pytest

from atoll_server.clock import SystemClock
from atoll_server.network.addresses import Guard
from atoll_server.network.gate import Gate, OpenFlow, Surroundings
from atoll_server.network.holding import READ_BYTES
from atoll_server.network.http_head import Head, read_head
from atoll_server.network.plain import Requests
from atoll_server.network.policy import Flow
from atoll_server.network.relay import relay
from atoll_server.network.resolver import Resolver
from atoll_server.network.side import MAX_UNREAD, Side
from atoll_server.network.written import parse_policy
from tests.unit.network.sides import open_side, receive, send


@dataclass
class Passing:
    """A relay at work: what is at its two ends, and the task."""

    inside: Side
    outside: Side
    client: socket.socket
    server: socket.socket
    flow: OpenFlow

    async def run(self, requests: Requests | None = None) -> None:
        gate = Gate(parse_policy("allow"), Surroundings(Guard(), Resolver(()), SystemClock()))
        await relay(gate, self.flow, self.inside, self.outside, requests)


def posting(length: int, *fields: str) -> Requests:
    """A request with a body of so many bytes, none of which came with its head."""
    lines = ("POST / HTTP/1.1", "Host: a.test", f"Content-Length: {length}", *fields, "", "")
    head = read_head("\r\n".join(lines).encode())
    assert isinstance(head, Head)
    return Requests(head, (), lambda _: None)


@pytest.fixture
async def passing() -> AsyncIterator[Passing]:
    inside, client = await open_side()
    outside, server = await open_side()
    flow = OpenFlow(Flow(ip_address("93.184.216.34"), 80), now=0)
    for side in (inside, outside):
        flow.on_cut(side.reset)
    with client, server:
        yield Passing(inside, outside, client, server, flow)
        inside.close()
        outside.close()


async def test_bytes_pass_both_ways_and_so_do_ends(passing: Passing) -> None:
    async with asyncio.TaskGroup() as group:
        done = group.create_task(passing.run())
        await send(passing.client, b"question")
        assert await receive(passing.server) == b"question"
        passing.client.shutdown(socket.SHUT_WR)
        assert await receive(passing.server) == b""
        await send(passing.server, b"answer")
        passing.server.shutdown(socket.SHUT_WR)
        assert await receive(passing.client) == b"answer"
        assert await receive(passing.client) == b""
        await done
    assert not passing.flow.is_cut


async def test_what_came_before_is_passed_first(passing: Passing) -> None:
    await send(passing.client, b"early ")
    await asyncio.wait_for(passing.inside.read(), 10)
    await send(passing.server, b"banner")

    async with asyncio.TaskGroup() as group:
        task = group.create_task(passing.run())
        assert await receive(passing.client) == b"banner"
        task.cancel()


async def test_reader_that_is_slow_slows_the_writer(passing: Passing) -> None:
    async with asyncio.TaskGroup() as group:
        task = group.create_task(passing.run())
        endless = group.create_task(send(passing.client, bytes(64 << 20)))
        await receive(passing.server, 1)

        done, _ = await asyncio.wait([endless], timeout=0.2)

        assert not done
        endless.cancel()
        task.cancel()


async def test_unread_side_is_asked_for_no_more(passing: Passing) -> None:
    async with asyncio.TaskGroup() as group:
        endless = group.create_task(send(passing.client, bytes(64 << 20)))

        done, _ = await asyncio.wait([endless], timeout=0.2)

        assert not done
        endless.cancel()
    assert len(await passing.inside.read()) <= MAX_UNREAD + 2 * READ_BYTES


async def test_only_the_body_of_a_last_request_is_sent(passing: Passing) -> None:
    async with asyncio.TaskGroup() as group:
        done = group.create_task(passing.run(posting(4, "Connection: close")))
        await send(passing.client, b"bodyGET /next HTTP/1.1\r\n\r\n")
        assert await receive(passing.server) == b"body"
        await send(passing.server, b"answer")
        passing.server.close()
        assert await receive(passing.client) == b"answer"
        await done


NEXT = b"GET /next HTTP/1.1\r\nHost: a.test\r\nConnection: keep-alive\r\n\r\n"


async def test_request_after_a_request_is_sent_until_the_server_ends(passing: Passing) -> None:
    async with asyncio.TaskGroup() as group:
        done = group.create_task(passing.run(posting(4)))
        await send(passing.client, b"body" + NEXT)
        assert await receive(passing.server) == b"body" + NEXT
        await send(passing.server, b"answers")
        passing.server.close()
        assert await receive(passing.client) == b"answers"
        await done
    assert not passing.flow.is_cut


async def test_client_that_ends_between_requests_is_still_answered(passing: Passing) -> None:
    async with asyncio.TaskGroup() as group:
        done = group.create_task(passing.run(posting(4)))
        await send(passing.client, b"body")
        passing.client.shutdown(socket.SHUT_WR)
        assert await receive(passing.server) == b"body"
        assert await receive(passing.server) == b""
        await send(passing.server, b"answer")
        passing.server.close()
        assert await receive(passing.client) == b"answer"
        await done
    assert not passing.flow.is_cut


async def test_request_for_another_host_is_refused_after_what_was_asked_before(
    passing: Passing,
) -> None:
    async with asyncio.TaskGroup() as group:
        done = group.create_task(passing.run(posting(4)))
        await send(passing.client, b"body" + NEXT.replace(b"a.test", b"b.test"))
        assert await receive(passing.server) == b"body"
        assert await receive(passing.server) == b""
        await send(passing.server, b"answer")
        assert await receive(passing.client) == b"answer"
        passing.server.close()
        assert (await receive(passing.client)).startswith(b"HTTP/1.1 403 Forbidden\r\n")
        assert await receive(passing.client) == b""
        await done


async def test_client_that_ends_within_a_head_is_cut(passing: Passing) -> None:
    async with asyncio.TaskGroup() as group:
        done = group.create_task(passing.run(posting(0)))
        await send(passing.client, NEXT[:20])
        passing.client.shutdown(socket.SHUT_WR)
        await done
    assert passing.flow.is_cut


async def test_body_that_ends_too_early_cuts_the_flow(passing: Passing) -> None:
    async with asyncio.TaskGroup() as group:
        done = group.create_task(passing.run(posting(100)))
        await send(passing.client, b"bo")
        passing.client.shutdown(socket.SHUT_WR)
        await done
    assert passing.flow.is_cut


async def test_cut_ends_both_sides(passing: Passing) -> None:
    async with asyncio.TaskGroup() as group:
        done = group.create_task(passing.run())
        await send(passing.client, b"x")
        assert await receive(passing.server) == b"x"

        passing.flow.cut()

        await done
        assert await receive(passing.server) == b""
        assert await receive(passing.client) == b""
