# SPDX-License-Identifier: Apache-2.0
"""Ports over HTTP, with an engine in memory."""

from __future__ import annotations

import json
from typing import Any

import pytest

from atoll_server.api.settings import ApiSettings
from atoll_server.engine.keys import Scope
from tests.unit.api.memory import KEY, Client
from tests.unit.api.memory_ports import MemoryPorts
from tests.unit.api.sockets import Socket

pytestmark = pytest.mark.anyio

INSTANT = "2030-01-01T00:00:00.000Z"


async def opened(**settings: Any) -> tuple[Client, MemoryPorts, str]:
    client = Client(settings=ApiSettings(**settings))
    sandbox_id = await client.create()
    return client, client.engine.reached[sandbox_id], f"/v1/sandboxes/{sandbox_id}/ports"


async def test_exposed_port_has_the_url_that_the_settings_make() -> None:
    template = "https://api.example.com/p/{port}-{label}/"
    client, ports, root = await opened(preview_url=template)

    answer = await client.request("POST", root, {"port": 8080})

    assert answer.status == 200
    assert answer.json == {
        "sandboxId": ports.sandbox_id,
        "port": 8080,
        "url": "https://api.example.com/p/8080-label1/",
        "private": False,
        "createdAt": INSTANT,
        "token": None,
    }
    again = await client.request("POST", root, {"port": 8080})
    assert again.json == answer.json


async def test_private_port_has_a_token_and_signed_urls() -> None:
    client, _, root = await opened()

    port = (await client.request("POST", root, {"port": 8080, "private": True})).json
    signed = (await client.request("POST", f"{root}/8080/sign", {"lastsMs": 60_000})).json

    assert port["token"].startswith("0.")
    assert signed["expiresAt"] == "2030-01-01T00:01:00.000Z"
    assert signed["url"].startswith("http://8080-label1.localhost/?atoll-preview-token=18")


async def test_ports_are_listed_until_they_are_closed() -> None:
    client, _, root = await opened()
    await client.request("POST", root, {"port": 8080})
    await client.request("POST", root, {"port": 8081})

    before = (await client.request("GET", root)).json
    closed = await client.request("DELETE", f"{root}/8080")
    after = (await client.request("GET", root)).json
    again = await client.request("DELETE", f"{root}/8080")

    assert [port["port"] for port in before["data"]] == [8080, 8081]
    assert before["pagination"]["total"] == 2
    assert (closed.status, closed.body) == (204, b"")
    assert [port["port"] for port in after["data"]] == [8081]
    assert (again.status, again.code) == (404, "PORT_NOT_EXPOSED")


@pytest.mark.parametrize("port", [0, 80, 1023, 65_536, -1])
async def test_port_outside_the_range_is_refused(port: int) -> None:
    client, _, root = await opened()

    answer = await client.request("POST", root, {"port": port})

    assert (answer.status, answer.code) == (400, "INVALID_PORT")


@pytest.mark.parametrize("text", ["x", "-1", "1e3", "123456", "%D9%A3"])
async def test_port_in_a_path_is_a_number(text: str) -> None:
    client, _, root = await opened()

    answer = await client.request("DELETE", f"{root}/{text}")

    assert (answer.status, answer.code) == (400, "INVALID_PORT")


@pytest.mark.parametrize(
    "body", [{}, {"port": "3000"}, {"port": 3000.5}, {"port": 3000, "more": 1}, {"port": True}]
)
async def test_malformed_body_is_refused(body: dict[str, Any]) -> None:
    client, _, root = await opened()

    assert (await client.request("POST", root, body)).code == "INVALID_REQUEST"


async def test_what_listens_is_told_and_waited_for() -> None:
    client, ports, root = await opened()

    everything = await client.request("GET", f"{root}/listening")
    one = await client.request("GET", f"{root}/listening?port=3001&waitMs=1500")

    assert everything.json == {
        "data": [{"port": 3000, "address": "127.0.0.1", "pid": 7, "command": "echo \ufffd"}]
    }
    assert one.json == {"data": []}
    assert ports.waited == [0.0, 1.5]
    too_long = await client.request("GET", f"{root}/listening?waitMs=60001")
    assert too_long.code == "INVALID_REQUEST"


async def test_ports_need_their_scope() -> None:
    client, _, root = await opened()
    reader = Client(client.engine, scopes=frozenset(Scope) - {Scope.PORTS})

    for method, path in [("GET", root), ("POST", root), ("GET", f"{root}/listening")]:
        body = {"port": 3000} if method == "POST" else None
        assert (await reader.request(method, path, body)).status == 403


# Connections


async def test_connection_passes_bytes_and_ends_both_ways() -> None:
    client, ports, root = await opened()
    socket = Socket(client, f"{root}/3000/dial")

    socket.type(b"hello")
    socket.type(b"")
    closed = await socket.wait_for("websocket.close")
    await socket.task

    assert [m["bytes"] for m in socket.sent if "bytes" in m] == [b"hello", b""]
    assert closed["code"] == 1000
    assert ports.streams[0].is_closed


async def test_client_that_leaves_ends_the_connection() -> None:
    client, ports, root = await opened()
    socket = Socket(client, f"{root}/3000/dial")
    await socket.wait_for("websocket.accept")

    socket.leave()
    await socket.task

    assert ports.streams[0].is_closed


@pytest.mark.parametrize("after_end", [False, True])
async def test_what_has_no_meaning_closes_the_connection(after_end: bool) -> None:
    client, ports, root = await opened()
    socket = Socket(client, f"{root}/3000/dial")
    await socket.wait_for("websocket.accept")
    if after_end:
        ports.streams[0].end_sending = lambda: None  # type: ignore[method-assign] # it goes on talking
        socket.type(b"")
        socket.type(b"more")
    else:
        socket.text(type="eof")

    closed = await socket.wait_for("websocket.close")
    await socket.task

    assert closed["code"] == 1003
    assert ports.streams[0].is_closed


@pytest.mark.parametrize(
    ("key", "path", "status", "code"),
    [
        (None, "/3000/dial", 401, "UNAUTHORIZED"),
        (KEY, "/3001/dial", 409, "PORT_NOT_LISTENING"),
        (KEY, "/0/dial", 400, "INVALID_PORT"),
        (KEY, "/x/dial", 400, "INVALID_PORT"),
        (KEY, "/3000/dial?more=1", 400, "INVALID_REQUEST"),
    ],
)
async def test_refusal_is_an_http_answer(
    key: str | None, path: str, status: int, code: str
) -> None:
    client, _, root = await opened()
    socket = Socket(client, f"{root}{path}", key)
    await socket.task

    start, body = socket.sent
    assert (start["type"], start["status"]) == ("websocket.http.response.start", status)
    assert json.loads(body["body"])["error"]["code"] == code


async def test_request_that_is_no_websocket_is_told_so() -> None:
    client, _, root = await opened()

    answer = await client.request("GET", f"{root}/3000/dial")

    assert (answer.status, answer.code) == (400, "INVALID_REQUEST")
