# SPDX-License-Identifier: Apache-2.0
"""One TCP connection of a sandbox, from its first byte to its last: looked at, judged, and passed on or refused."""

from __future__ import annotations

import asyncio
from contextlib import closing
from functools import partial
from ipaddress import ip_address

from atoll_server.network.addresses import Address
from atoll_server.network.client_hello import Hello
from atoll_server.network.denying import refuse_http, refuse_tls
from atoll_server.network.first_bytes import Beginning, Opaque, read_beginning
from atoll_server.network.gate import Direction, Gate
from atoll_server.network.http_body import MalformedBody
from atoll_server.network.http_head import Head
from atoll_server.network.outcomes import Refused
from atoll_server.network.plain import Requests, find_secret
from atoll_server.network.policy import Flow, Reason, Verdict
from atoll_server.network.relay import relay
from atoll_server.network.sealed import Sealed
from atoll_server.network.side import Side
from atoll_server.network.terminated import serve_terminated

CONNECT_TIMEOUT = 10.0
HTTP_PORT = 80

_UNREAD = Beginning(b"", Opaque())


async def serve_connection(gate: Gate, inside: Side) -> None:
    """Serve a connection that came in at the edge. Where it was to go is its local address."""
    host, port = inside.local_address
    flow = Flow(ip_address(host), port)
    with gate.admit() as fits, closing(inside):
        verdict = gate.judge_at_once(flow.address, port) if fits else _too_many(gate)
        # Where there are secrets it is always looked at whom a connection is for, and what it carries.
        if verdict is None or (verdict.allowed and gate.sealed is not None):
            await _serve_named(gate, inside, flow.address, port)
        elif verdict.allowed:
            await _pass_on(gate, inside, flow, _UNREAD)
        elif fits:
            await _refuse(gate, inside, flow, _UNREAD, verdict)
        else:
            _reset(gate, inside, flow, verdict)


async def _serve_named(gate: Gate, inside: Side, address: Address, port: int) -> None:
    """Judge a connection by whom it names."""
    beginning = await read_beginning(inside, port)
    if beginning.shows is None:
        return
    flow, verdict = await _judge(gate, address, port, beginning)
    if verdict.allowed and gate.sealed is not None:
        verdict = _find_secret(gate.sealed, beginning) or verdict
    if verdict.allowed and gate.sealed is not None and _is_to_end_here(gate.sealed, beginning):
        connect = partial(_connect, gate)
        await serve_terminated(gate, gate.sealed, inside, flow, beginning.data, connect)
    elif verdict.allowed:
        await _pass_on(gate, inside, flow, beginning)
    else:
        await _refuse(gate, inside, flow, beginning, verdict)


async def _judge(gate: Gate, address: Address, port: int, seen: Beginning) -> tuple[Flow, Verdict]:
    flow = Flow(address, port)
    match seen.shows:
        case Hello(name):
            return await gate.judge_named(address, port, name)
        case Head() as head:
            fault = _find_fault(head, address, port)
            if fault is not None:
                return flow, Verdict(False, Reason.MALFORMED, fault)
            name = head.host if isinstance(head.host, str) else None
            return await gate.judge_named(address, port, name)
        case Refused(why):
            return flow, Verdict(False, Reason.MALFORMED, why)
        case _:
            return gate.judge_opaque(address, port)


def _find_secret(sealed: Sealed, seen: Beginning) -> Verdict | None:
    if not isinstance(seen.shows, Head):
        return None
    return find_secret(seen.shows, seen.data, sealed.keyring.secrets)


def _is_to_end_here(sealed: Sealed, seen: Beginning) -> bool:
    """Whether it is TLS to a host that a secret is for."""
    name = seen.shows.name if isinstance(seen.shows, Hello) else None
    return name is not None and sealed.keyring.names(name)


def _find_fault(head: Head, address: Address, port: int) -> str | None:
    """What in the request does not fit the connection that it came in."""
    if head.port is not None and head.port != port:
        return f"the request names port {head.port}, and came to port {port}"
    if not isinstance(head.host, str) and head.host != address:
        return f"the request names {head.host}, and came to {address}"
    return None


async def _pass_on(gate: Gate, inside: Side, flow: Flow, beginning: Beginning) -> None:
    """Connect to the very address that was judged, and pass everything between."""
    said, requests = beginning.data, _read_requests(gate, flow, beginning)
    try:
        if requests is not None and isinstance(beginning.shows, Head):
            said = requests.begin(said[beginning.shows.size :])
    except MalformedBody as fault:
        await _refuse(gate, inside, flow, beginning, Verdict(False, Reason.MALFORMED, str(fault)))
        return
    with gate.keep(flow) as open_flow:
        open_flow.on_cut(inside.reset)
        try:
            outside = await _connect(gate, flow)
        except (OSError, TimeoutError) as error:
            why = str(error) or f"no answer within {CONNECT_TIMEOUT:g} s"
            text = f"{flow.address} port {flow.port} cannot be reached: {why}"
            unreachable = Verdict(False, Reason.UNREACHABLE, text)
            await _refuse(gate, inside, flow, beginning, unreachable)
            return
        with closing(outside):
            open_flow.on_cut(outside.reset)
            open_flow.is_connected = True
            outside.write(said)
            gate.count_bytes(open_flow, Direction.SENT, len(said))
            await relay(gate, open_flow, inside, outside, requests)


async def _connect(gate: Gate, flow: Flow) -> Side:
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(CONNECT_TIMEOUT):
        _, outside = await loop.create_connection(
            lambda: Side(holding=gate.holding), str(flow.address), flow.port
        )
    return outside


def _read_requests(gate: Gate, flow: Flow, beginning: Beginning) -> Requests | None:
    """What reads requests, where it is these that come."""
    if not isinstance(beginning.shows, Head):
        return None
    secrets = () if gate.sealed is None else gate.sealed.keyring.secrets
    return Requests(beginning.shows, secrets, lambda verdict: _note(gate, flow, verdict))


async def _refuse(
    gate: Gate, inside: Side, flow: Flow, beginning: Beginning, verdict: Verdict
) -> None:
    """Refuse a connection, where that is known in the words of its own protocol."""
    if beginning.is_tls:
        _note(gate, flow, verdict)
        await refuse_tls(inside, verdict)
    elif isinstance(beginning.shows, Head) or flow.port == HTTP_PORT:
        _note(gate, flow, verdict)
        await refuse_http(inside, verdict)
    else:
        _reset(gate, inside, flow, verdict)


def _reset(gate: Gate, inside: Side, flow: Flow, verdict: Verdict) -> None:
    _note(gate, flow, verdict)
    inside.reset()


def _note(gate: Gate, flow: Flow, verdict: Verdict) -> None:
    gate.note_denial(flow.name or str(flow.address), flow.port, verdict)


def _too_many(gate: Gate) -> Verdict:
    text = (
        f"too many connections are open: a sandbox may have {gate.limits.connections},"
        " and all together what the proxy has room for"
    )
    return Verdict(False, Reason.LIMIT, text)
