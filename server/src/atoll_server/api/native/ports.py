# SPDX-License-Identifier: Apache-2.0
"""Ports of a sandbox: exposed, found, signed for and closed; those that listen inside, and connections to them."""

from __future__ import annotations

from atoll.models import ExposePort, ListeningPorts, PortInfo, PortList, SignedUrl, SignPort
from atoll_server.api.call import Call
from atoll_server.api.native.dial import dial
from atoll_server.api.native.port_wire import (
    ListeningQuery,
    parse_port,
    render_listening,
    render_port,
    render_ports,
    render_signed_url,
)
from atoll_server.api.native.values import render_instant
from atoll_server.api.reply import Reply
from atoll_server.api.routing import SANDBOX_ERRORS, SMALL_BODY_LIMIT, Operation
from atoll_server.engine.errors import InvalidRequest
from atoll_server.engine.keys import Scope
from atoll_server.engine.ports import Ports
from atoll_server.engine.preview_tokens import expiry


async def expose(call: Call) -> Reply:
    body = await call.json(ExposePort)
    ports = _ports(call)
    exposed = await ports.expose(body.port, is_private=body.private)
    return call.answer(render_port(exposed, ports, call.settings.preview_url))


async def list_ports(call: Call) -> Reply:
    return call.answer(render_ports(_ports(call), call.settings.preview_url))


async def close(call: Call) -> Reply:
    await _ports(call).close(_port(call))
    return Reply(status=204, headers=())


async def sign(call: Call) -> Reply:
    body = await call.json(SignPort)
    ports = _ports(call)
    exposed = ports.get(_port(call))
    token = ports.token(exposed, lasts=body.lasts_ms / 1000)
    ends = expiry(token)
    assert ends is not None  # it was made to end
    url = render_signed_url(exposed, call.settings.preview_url, token)
    return call.answer(SignedUrl(url=url, expires_at=render_instant(ends)))


async def listening(call: Call) -> Reply:
    query = call.query(ListeningQuery)
    looking = _ports(call).listening(query.port, wait=query.wait_ms / 1000)
    return call.answer(render_listening(await call.unless_gone(looking)))


async def refuse_plain_dial(_: Call) -> Reply:
    raise InvalidRequest("this is a WebSocket: send the headers of its handshake")


def _ports(call: Call) -> Ports:
    return call.engine.ports(call.sandbox_id)


def _port(call: Call) -> int:
    return parse_port(call.path_parameter("port"))


_ALL = "/v1/sandboxes/{id}/ports"
_ONE = f"{_ALL}/{{port}}"

OPERATIONS = (
    Operation(
        method="POST",
        path=_ALL,
        name="exposePort",
        summary="Let the outside reach a port",
        handler=expose,
        body=ExposePort,
        body_limit=SMALL_BODY_LIMIT,
        answer=PortInfo,
        scope=Scope.PORTS,
        errors=(*SANDBOX_ERRORS, "INVALID_PORT", "RESOURCE_EXHAUSTED"),
    ),
    Operation(
        method="GET",
        path=_ALL,
        name="listPorts",
        summary="The exposed ports of a sandbox",
        handler=list_ports,
        answer=PortList,
        scope=Scope.PORTS,
        errors=SANDBOX_ERRORS,
    ),
    # Before the paths with a port in them, for one of those would match.
    Operation(
        method="GET",
        path=f"{_ALL}/listening",
        name="listListeningPorts",
        summary="Which ports listen inside, exposed or not",
        handler=listening,
        query=ListeningQuery,
        answer=ListeningPorts,
        scope=Scope.PORTS,
        errors=(*SANDBOX_ERRORS, "INVALID_PORT", "RESOURCE_EXHAUSTED"),
    ),
    Operation(
        method="DELETE",
        path=_ONE,
        name="closePort",
        summary="Let nobody reach a port any more; its URL is never used again",
        handler=close,
        answer=None,
        status=204,
        scope=Scope.PORTS,
        errors=(*SANDBOX_ERRORS, "INVALID_PORT", "PORT_NOT_EXPOSED"),
    ),
    Operation(
        method="POST",
        path=f"{_ONE}/sign",
        name="signPort",
        summary="A URL that opens a private port by itself, for a time",
        handler=sign,
        body=SignPort,
        body_limit=SMALL_BODY_LIMIT,
        answer=SignedUrl,
        scope=Scope.PORTS,
        errors=(*SANDBOX_ERRORS, "INVALID_PORT", "PORT_NOT_EXPOSED"),
    ),
    Operation(
        method="GET",
        path=f"{_ONE}/dial",
        name="dialPort",
        summary="Connect to any port inside, over a WebSocket",
        handler=refuse_plain_dial,
        socket=dial,
        answer=None,
        status=101,
        scope=Scope.PORTS,
        errors=(*SANDBOX_ERRORS, "INVALID_PORT", "PORT_NOT_LISTENING", "RESOURCE_EXHAUSTED"),
    ),
)
