# SPDX-License-Identifier: Apache-2.0
"""What an agent says of ports inside."""

from __future__ import annotations

import ipaddress
from typing import Annotated, Final

from msgspec import Meta, Raw, Struct

from atoll_server.agent.errors import AgentProtocolError
from atoll_server.agent.messages.answers import Answer
from atoll_server.agent.messages.values import read_text_or_none
from atoll_server.engine.model import ListeningPort

Port = Annotated[int, Meta(ge=1, le=65535)]
Address = Annotated[str, Meta(max_length=64)]


class ConnectedReply(Struct, tag_field="event", tag="connected"):
    address: Address


class ListenerReply(Struct):
    port: Port
    address: Address
    pid: Annotated[int, Meta(ge=1, le=2**32)] | None
    command: Raw


class ListenersReply(Struct, tag_field="event", tag="ports"):
    ports: list[ListenerReply]


class ListenersEnd(Struct, tag_field="event", tag="done"):
    truncated: bool


CONNECTED: Final = Answer(ConnectedReply)
LISTENERS: Final = Answer[ListenersReply | ListenersEnd](ListenersReply, ListenersEnd)


def read_listener(reply: ListenerReply) -> ListeningPort:
    try:
        address = str(ipaddress.ip_address(reply.address))
    except ValueError:
        raise AgentProtocolError("a port that listens on no address") from None
    return ListeningPort(reply.port, address, reply.pid, read_text_or_none(reply.command))
