# SPDX-License-Identifier: Apache-2.0
"""Connections to a host of a secret, between a client and a host that say what they like: what passes, and the end."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from ipaddress import ip_address

import pytest

from atoll_server.clock import SystemClock
from atoll_server.network.addresses import Guard
from atoll_server.network.authority import Leaves, make_authority
from atoll_server.network.gate import Gate, Limits, Surroundings
from atoll_server.network.policy import Flow, Reason
from atoll_server.network.resolver import Resolver
from atoll_server.network.sealed import Sealed, seal
from atoll_server.network.secrets import Keyring, Secret
from atoll_server.network.side import Side
from atoll_server.network.terminated import serve_terminated
from atoll_server.network.tls import (
    ClientMachine,
    ServerMachine,
    TlsFailed,
    TlsSide,
    client_context,
)
from atoll_server.network.written import parse_policy

HOST = "a.test"
VALUE = "the-value-of-the-secret"
PLACEHOLDER = "atoll-secret-0123456789abcdef0123456789abcdef"
MASKED = PLACEHOLDER[: len(VALUE)].encode()
SECRET = Secret("KEY", PLACEHOLDER, (HOST,), None, VALUE)
FLOW = Flow(ip_address("93.184.216.34"), 443, HOST, belongs=True)

GET = f"GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode()
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
KEPT = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: keep-alive\r\n\r\nok"
KEY = b"dGhlIHNhbXBsZSBub25jZQ=="
UPGRADE = (
    f"GET /socket HTTP/1.1\r\nHost: {HOST}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    f"Sec-WebSocket-Key: {KEY.decode()}\r\n\r\n"
).encode()
_DIGEST = hashlib.sha1(KEY + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest()
AGREED = (
    b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Accept: " + base64.b64encode(_DIGEST) + b"\r\n\r\n"
)
CLOSING = b"\x88\x02\x03\xe8"


async def join() -> tuple[Side, Side]:
    """Both ends of a connection."""
    loop = asyncio.get_running_loop()
    ends = []
    for end in socket.socketpair():
        end.setblocking(False)
        ends.append((await loop.create_connection(Side, sock=end))[1])
    return ends[0], ends[1]


@dataclass
class Talk:
    """A client and a host, with the proxy between them. The host shakes hands as soon as it listens."""

    gate: Gate
    client: TlsSide
    host: TlsSide
    host_side: Side
    heard: dict[TlsSide, bytes] = field(default_factory=dict)

    async def hear(self, whom: TlsSide, size: int) -> bytes:
        """The next so many bytes."""
        heard = self.heard.pop(whom, b"")
        while len(heard) < size:
            piece = await whom.read()
            assert piece, heard
            heard += piece
        self.heard[whom] = heard[size:]
        return heard[:size]

    async def hear_request(self) -> bytes:
        """A request without a body, as the host gets it."""
        heard = b""
        while not heard.endswith(b"\r\n\r\n"):
            heard += await self.hear(self.host, 1)
        return heard

    async def hear_end(self, whom: TlsSide) -> bytes:
        """All that comes up to an end that was said to be one."""
        heard = self.heard.pop(whom, b"")
        while piece := await whom.read():
            heard += piece
        return heard


def make_sealed() -> tuple[Sealed, ServerMachine, ClientMachine]:
    """A sandbox's secrets, a host that the world trusts, and a client that trusts the sandbox's authority."""
    now = datetime.now(UTC)
    own, world = make_authority((HOST,), now), make_authority((HOST,), now)
    trust, inner = client_context(""), client_context("")
    trust.load_verify_locations(cadata=world.certificate)
    inner.load_verify_locations(cadata=own.certificate)
    sealed = seal(Keyring((SECRET,), own.certificate, own.key), trust)
    return sealed, ServerMachine(Leaves(world).context(HOST)), ClientMachine(inner, HOST)


@pytest.fixture
def limits() -> Limits:
    return Limits()


@pytest.fixture
async def talk(limits: Limits) -> AsyncIterator[Talk]:
    sealed, host_machine, client_machine = make_sealed()
    (client, inside), (outside, host) = await join(), await join()
    around = Surroundings(Guard(), Resolver(()), SystemClock(), limits)
    gate = Gate(parse_policy("allow"), around)
    talk = Talk(gate, TlsSide(client, client_machine), TlsSide(host, host_machine), host)

    async def connect(_: Flow) -> Side:
        return outside

    async with asyncio.TaskGroup() as group:
        serving = group.create_task(serve_terminated(gate, sealed, inside, FLOW, b"", connect))
        await talk.client.shake_hands()
        yield talk
        client.reset()
        host.reset()
        await asyncio.wait((serving,))
    for side in (client, inside, outside, host):
        side.close()


async def exchange(talk: Talk, asked: bytes = GET, answer: bytes = OK) -> bytes:
    """Ask and be answered; what the host was asked."""
    await talk.client.write(asked)
    heard = await talk.hear_request()
    await talk.host.write(answer)
    return heard


async def test_requests_follow_one_another_with_values_in_place(talk: Talk) -> None:
    asked = GET.replace(b"\r\n\r\n", f"\r\nAuthorization: {PLACEHOLDER}\r\n\r\n".encode())
    for _ in range(3):
        heard = await exchange(talk, asked)
        assert f"Authorization: {VALUE}\r\n".encode() in heard
        assert heard.endswith(b"Connection: keep-alive\r\n\r\n")
        assert await talk.hear(talk.client, len(KEPT)) == KEPT


async def test_host_that_ends_between_requests_ends_the_client(talk: Talk) -> None:
    await exchange(talk)
    assert await talk.hear(talk.client, len(KEPT)) == KEPT

    talk.host_side.reset()

    assert await talk.hear_end(talk.client) == b""
    assert not talk.gate.denials


@pytest.mark.parametrize("smuggled", [OK, b"HTTP/1.1 408 Request Timeout\r\n\r\n", b"x"])
async def test_answer_that_nobody_asked_for_is_not_told(talk: Talk, smuggled: bytes) -> None:
    await exchange(talk)
    assert await talk.hear(talk.client, len(KEPT)) == KEPT

    await talk.host.write(smuggled)

    assert await talk.hear_end(talk.client) == b""


@pytest.mark.parametrize(
    "answer",
    [OK, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"],
)
async def test_answer_with_another_behind_it_is_the_last(talk: Talk, answer: bytes) -> None:
    await talk.client.write(GET + GET)
    await talk.hear_request()
    await talk.host.write(answer + OK)

    told = await talk.hear_end(talk.client)

    assert told.count(b"HTTP/1.1 200 OK") == 1


async def test_answer_before_the_request_is_whole_is_the_last(talk: Talk) -> None:
    await talk.client.write(
        f"POST / HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 9\r\n\r\n".encode()
    )
    await talk.hear_request()
    await talk.host.write(OK)

    assert await talk.hear_end(talk.client) == KEPT.replace(b"keep-alive", b"close")


@pytest.mark.parametrize(
    "answer",
    [
        OK.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"),
        OK.replace(b"1.1", b"1.0"),
    ],
)
async def test_connection_is_kept_only_where_the_host_keeps_it(talk: Talk, answer: bytes) -> None:
    await exchange(talk, answer=answer)

    assert b"Connection: close\r\n" in await talk.hear_end(talk.client)


async def test_host_that_gives_no_answer_to_a_first_request_is_a_bad_gateway(talk: Talk) -> None:
    await talk.client.write(GET)
    await talk.hear_request()
    talk.host_side.reset()

    assert (await talk.hear_end(talk.client)).startswith(b"HTTP/1.1 502 ")
    assert [it.verdict.reason for it in talk.gate.denials] == [Reason.UNREACHABLE]


async def test_host_that_gives_no_answer_to_a_later_request_has_ended(talk: Talk) -> None:
    """As it has where nobody is between: clients ask again on another connection."""
    await exchange(talk)
    await talk.hear(talk.client, len(KEPT))
    await talk.client.write(GET)
    await talk.hear_request()
    talk.host_side.reset()

    assert await talk.hear_end(talk.client) == b""
    assert not talk.gate.denials


@pytest.mark.parametrize("limits", [Limits(kept_seconds=0.05)])
async def test_connection_on_which_nothing_is_asked_ends(talk: Talk) -> None:
    await exchange(talk)

    assert await talk.hear_end(talk.client) == KEPT


@pytest.mark.parametrize(
    ("second", "status"),
    [
        (GET.replace(HOST.encode(), b"b.test"), b"403"),
        (GET.replace(b"GET /", f"GET /{PLACEHOLDER}".encode()), b"403"),
        (GET.replace(b"\r\n\r\n", b"\r\nContent-Length: 1,1\r\n\r\n"), b"400"),
    ],
)
async def test_later_request_is_refused_in_its_own_words(
    talk: Talk, second: bytes, status: bytes
) -> None:
    await exchange(talk)
    assert await talk.hear(talk.client, len(KEPT)) == KEPT
    await talk.client.write(second)

    assert (await talk.hear_end(talk.client)).startswith(b"HTTP/1.1 " + status)
    with pytest.raises((AssertionError, TlsFailed)):
        await talk.hear_request()


async def agree(talk: Talk) -> None:
    asked = await exchange(talk, UPGRADE, AGREED)
    assert b"Upgrade: websocket\r\nConnection: Upgrade\r\n" in asked
    told = await talk.hear(talk.client, 12)
    assert told == b"HTTP/1.1 101"
    while not told.endswith(b"\r\n\r\n"):
        told += await talk.hear(talk.client, 1)


async def test_websocket_passes_bytes_as_they_are_but_for_values(talk: Talk) -> None:
    await agree(talk)
    said = bytes(range(256))
    await talk.client.write(said)
    assert await talk.hear(talk.host, 256) == said

    value = VALUE.encode()
    frames = b"\x01\x05" + value[:5] + b"\x80" + bytes([len(value) - 5]) + value[5:]
    for byte in frames:
        await talk.host.write(bytes([byte]))

    told = b"\x01\x05" + MASKED[:5] + b"\x80" + bytes([len(value) - 5]) + MASKED[5:]
    assert await talk.hear(talk.client, len(frames)) == told


async def test_host_that_closes_hears_the_last_word_and_may_then_break_off(talk: Talk) -> None:
    await agree(talk)
    await talk.host.write(CLOSING)
    assert await talk.hear(talk.client, len(CLOSING)) == CLOSING
    await talk.client.write(b"\x88\x80last")
    assert await talk.hear(talk.host, 6) == b"\x88\x80last"
    talk.host_side.reset()

    assert await talk.hear_end(talk.client) == b""


@pytest.mark.parametrize("said", [b"\x81\x85aaaahello", b"\xc1\x00", b"HTTP/1.1 200 OK\r\n\r\n"])
async def test_host_that_says_no_frames_is_cut(talk: Talk, said: bytes) -> None:
    await agree(talk)
    await talk.host.write(said)

    with pytest.raises(TlsFailed):
        await talk.hear_end(talk.client)


async def test_websocket_that_breaks_off_is_cut(talk: Talk) -> None:
    await agree(talk)
    await talk.host.write(b"\x81\x7ehalf")
    talk.host_side.reset()

    with pytest.raises(TlsFailed):
        await talk.hear_end(talk.client)


async def test_open_connections_are_cut_by_a_policy(talk: Talk) -> None:
    await exchange(talk)
    assert await talk.hear(talk.client, len(KEPT)) == KEPT

    talk.gate.update(parse_policy("deny"))

    with pytest.raises(TlsFailed):
        await talk.hear_end(talk.client)
