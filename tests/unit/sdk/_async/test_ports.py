# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

import atoll
from atoll import AsyncAtoll, AsyncSandbox, ListeningPort, PortInfo
from tests.support.scripted_server import Answer, ScriptedServer, answer_error, answer_json
from tests.support.scripted_terminal import WAIT, ScriptedTerminal, scripted_terminal
from tests.unit.sdk import samples
from tests.unit.sdk._async.conftest import KEY

BASE = "/v1/sandboxes/sb_0123456789/ports"
PORT = PortInfo("sb_0123456789", 3000, "http://3000-abc.localhost/", False, samples.INSTANT)


@pytest.fixture
def port_server() -> Iterator[ScriptedTerminal]:
    with scripted_terminal() as server:
        yield server


@pytest.fixture
async def reached(port_server: ScriptedTerminal) -> AsyncIterator[AsyncSandbox]:
    """A sandbox of the server that has WebSockets."""
    async with AsyncAtoll(port_server.url, KEY) as client:
        port_server.answers.append(answer_json(samples.sandbox()))
        sandbox = await client.sandboxes.get("sb_0123456789")
        port_server.asked.clear()
        yield sandbox


async def test_exposing_says_what_was_asked_and_nothing_else(
    sandbox: AsyncSandbox, scripted: ScriptedServer
) -> None:
    scripted.script += [answer_json(samples.port())] * 2

    exposed = await sandbox.expose_port(3000)
    await sandbox.ports.expose(3001, private=True)

    assert exposed == PORT
    assert [asked.json for asked in scripted.asked] == [
        {"port": 3000},
        {"port": 3001, "private": True},
    ]
    assert (scripted.asked[0].method, scripted.asked[0].path) == ("POST", BASE)


async def test_ports_are_listed_and_closed(sandbox: AsyncSandbox, scripted: ScriptedServer) -> None:
    gone = answer_error("PORT_NOT_EXPOSED", 404)
    scripted.script += [answer_json(samples.ports(samples.port())), Answer(204), gone]

    assert await sandbox.get_ports() == [PORT]
    await sandbox.close_port(3000)
    with pytest.raises(atoll.PortNotExposed):
        await sandbox.close_port(3000)

    assert [(asked.method, asked.path) for asked in scripted.asked] == [
        ("GET", BASE),
        ("DELETE", f"{BASE}/3000"),
        ("DELETE", f"{BASE}/3000"),
    ]


async def test_signing_says_for_how_long(sandbox: AsyncSandbox, scripted: ScriptedServer) -> None:
    signed = {"url": "http://x/?t", "expiresAt": samples.INSTANT}
    scripted.script += [answer_json(signed)] * 2

    assert (await sandbox.ports.sign(3000)).url == "http://x/?t"
    await sandbox.ports.sign(3000, lasts_ms=5)

    assert [asked.json for asked in scripted.asked] == [{"lastsMs": 3_600_000}, {"lastsMs": 5}]


async def test_what_listens_is_told(sandbox: AsyncSandbox, scripted: ScriptedServer) -> None:
    scripted.script.append(answer_json({"data": [samples.listening(pid=None, command=None)]}))

    assert await sandbox.ports.listening() == [ListeningPort(3000, "127.0.0.1")]
    assert (scripted.asked[0].path, scripted.asked[0].query) == (f"{BASE}/listening", {})


async def test_waiting_asks_again_until_something_listens(
    sandbox: AsyncSandbox, scripted: ScriptedServer
) -> None:
    none = answer_json({"data": []})
    scripted.script += [none, none, answer_json({"data": [samples.listening()]})]

    found = await sandbox.wait_for_port(3000, timeout_ms=200_000)

    assert found == ListeningPort(3000, "127.0.0.1", 7, "serve")
    assert [asked.query for asked in scripted.asked] == [{"port": "3000", "waitMs": "60000"}] * 3


async def test_waiting_in_vain_ends(sandbox: AsyncSandbox, scripted: ScriptedServer) -> None:
    scripted.script.append(answer_json({"data": []}))

    with pytest.raises(atoll.Timeout, match="nothing listens on port 3000 after 0 ms"):
        await sandbox.wait_for_port(3000, timeout_ms=0)

    assert scripted.asked[0].query == {"port": "3000"}


@pytest.mark.parametrize("port", [-1, 65_536, "3000", 3000.0, True, None])
async def test_what_is_no_port_is_not_asked_for(
    sandbox: AsyncSandbox, scripted: ScriptedServer, port: object
) -> None:
    with pytest.raises(atoll.InvalidPort, match="from 1 to 65535"):
        await sandbox.expose_port(port)  # type: ignore[arg-type] # on purpose
    with pytest.raises(atoll.InvalidPort):
        await sandbox.dial(port)  # type: ignore[arg-type] # on purpose

    assert scripted.asked == []


async def test_connection_passes_bytes_and_their_ends(
    reached: AsyncSandbox, port_server: ScriptedTerminal
) -> None:
    port_server.script += [b"hello", WAIT, WAIT, b"", 1000]

    async with await reached.dial(3000) as stream:
        first = await stream.receive()
        await stream.send(b"x" * 300_000)
        await stream.close_write()
        rest = [await stream.receive(), await stream.receive()]
        await stream.close_write()
        with pytest.raises(atoll.ConnectionLost, match="was closed"):
            await stream.send(b"more")

    assert (first, rest, stream.port) == (b"hello", [b"", b""], 3000)
    assert [len(piece) for piece in port_server.heard] == [262_144, 37_856]
    assert port_server.asked[0].path == f"{BASE}/3000/dial"


async def test_connection_that_breaks_is_an_error_and_no_end(
    reached: AsyncSandbox, port_server: ScriptedTerminal
) -> None:
    port_server.script += [b"half", 1011]

    async with await reached.dial(3000) as stream:
        assert await stream.receive() == b"half"
        with pytest.raises(atoll.ConnectionLost):
            await stream.receive()


async def test_refused_connection_says_why(
    reached: AsyncSandbox, port_server: ScriptedTerminal
) -> None:
    port_server.answers.append(answer_error("PORT_NOT_LISTENING", 409))

    with pytest.raises(atoll.PortNotListening):
        await reached.dial(3000)
