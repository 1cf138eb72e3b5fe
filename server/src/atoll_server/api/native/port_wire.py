# SPDX-License-Identifier: Apache-2.0
"""Ports between the wire's records and the engine's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from atoll.models import MAX_PORT_WAIT_MS, ListeningPorts, Pagination, PortInfo, PortList
from atoll.models import ListeningPort as WireListeningPort
from atoll_server.api.native.values import render_instant, render_path
from atoll_server.engine.errors import InvalidPort
from atoll_server.engine.exposures import PORTS_LIMIT
from atoll_server.engine.model import ExposedPort, ListeningPort
from atoll_server.engine.ports import Ports

TOKEN_PARAMETER = "atoll-preview-token"
_DIGITS = 5


@dataclass(frozen=True)
class ListeningQuery:
    """The query of `GET …/ports/listening`."""

    port: int | None = field(default=None, metadata={"description": "only this one"})
    wait_ms: int = field(
        default=0,
        metadata={
            "description": "how long to wait for one that listens, if none does",
            "ge": 0,
            "le": MAX_PORT_WAIT_MS,
        },
    )


def parse_port(text: str) -> int:
    """A port in a path."""
    if not text.isascii() or not text.isdecimal() or len(text) > _DIGITS:
        raise InvalidPort("a port is a number from 1 to 65535")
    return int(text)


def render_port(exposed: ExposedPort, ports: Ports, template: str) -> PortInfo:
    return PortInfo(
        sandbox_id=exposed.sandbox_id,
        port=exposed.port,
        url=render_url(exposed, template),
        private=exposed.is_private,
        created_at=render_instant(exposed.created_at),
        token=ports.token(exposed) if exposed.is_private else None,
    )


def render_ports(ports: Ports, template: str) -> PortList:
    found = [render_port(exposed, ports, template) for exposed in ports.list()]
    pagination = Pagination(total=len(found), limit=PORTS_LIMIT, offset=0, has_more=False)
    return PortList(data=found, pagination=pagination)


def render_url(exposed: ExposedPort, template: str) -> str:
    """Where the outside finds it. The template has been looked at when the settings were."""
    return template.replace("{port}", str(exposed.port)).replace("{label}", exposed.label)


def render_signed_url(exposed: ExposedPort, template: str, token: str) -> str:
    return f"{render_url(exposed, template)}?{TOKEN_PARAMETER}={token}"


def render_listening(found: Sequence[ListeningPort]) -> ListeningPorts:
    return ListeningPorts(data=[_render_listening(one) for one in found])


def _render_listening(one: ListeningPort) -> WireListeningPort:
    command = None if one.command is None else render_path(one.command)
    return WireListeningPort(port=one.port, address=one.address, pid=one.pid, command=command)
