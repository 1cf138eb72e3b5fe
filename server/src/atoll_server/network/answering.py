# SPDX-License-Identifier: Apache-2.0
"""A sandbox's name server: datagrams and streams in, `dns.py` decides, the gate asks upstream."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from contextlib import closing
from typing import cast

from atoll_server.network.dns import (
    Answer,
    Question,
    Vetted,
    read_query,
    render_absent,
    render_addresses,
    render_failure,
)
from atoll_server.network.gate import Gate
from atoll_server.network.link import DNS_PORT
from atoll_server.network.policy import Reason, Verdict

STREAM_IDLE = 10.0
"""How long a stream of questions may be silent, in seconds."""
MAX_STREAM_QUERIES = 100

_log = logging.getLogger(__name__)

_BUSY = Verdict(False, Reason.LIMIT, "too many questions; ask fewer at once")


async def answer_query(gate: Gate, wire: bytes) -> bytes | None:
    """What goes back to the sandbox; None is nothing."""
    outcome = read_query(wire, gate.policy)
    answer = await _ask(gate, outcome) if isinstance(outcome, Question) else outcome
    if answer is None:
        return None
    if answer.refusal is not None:
        gate.note_denial(answer.name or "?", DNS_PORT, answer.refusal)
    return answer.wire


async def _ask(gate: Gate, question: Question) -> Answer:
    if not gate.may_ask_nowait():
        return render_failure(question, _BUSY)
    vetted = await gate.resolve(question.name)
    if vetted is None:
        return Answer(render_absent(question), question.name)
    if isinstance(vetted, Vetted):
        return Answer(render_addresses(question, vetted), question.name)
    return render_failure(question, vetted)


class DatagramAnswers(asyncio.DatagramProtocol):
    """Answers datagrams, so many at once; what is too much is dropped, as a network would."""

    def __init__(self, gate: Gate, group: asyncio.TaskGroup) -> None:
        self._gate = gate
        self._group = group
        self._at_once = 0
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # What uvloop passes is one, though not of its class.
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        if self._at_once < self._gate.limits.queries_at_once:
            self._at_once += 1
            self._group.create_task(self._answer(data, addr))

    async def _answer(self, data: bytes, addr: tuple[str, int]) -> None:
        wire = None
        try:
            wire = await answer_query(self._gate, data)
        except Exception:
            # One question must not end the answering of all others.
            _log.exception("a question of a sandbox could not be answered")
        finally:
            self._at_once -= 1
        if wire is not None and self._transport is not None and not self._transport.is_closing():
            self._transport.sendto(wire, addr)


async def answer_stream(
    gate: Gate, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    """Answer the questions of one stream, one after the other."""
    with gate.admit() as fits, closing(writer):
        # Whoever breaks off, or is silent, has had its answers.
        with contextlib.suppress(OSError, TimeoutError, asyncio.IncompleteReadError):
            for _ in range(MAX_STREAM_QUERIES if fits else 0):
                async with asyncio.timeout(STREAM_IDLE):
                    size = int.from_bytes(await reader.readexactly(2))
                    wire = await answer_query(gate, await reader.readexactly(size))
                    if wire is None:
                        return
                    writer.write(len(wire).to_bytes(2) + wire)
                    await writer.drain()
