# SPDX-License-Identifier: Apache-2.0
"""Hears of the ends of processes that nobody need wait for, so that they are told all the same.

One connection to the agent does for all of a sandbox, and is there only while such a process runs.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Coroutine
from typing import Any, Final, Protocol

from atoll_server.agent.client import AgentClient
from atoll_server.agent.errors import AgentError, AgentFailure
from atoll_server.engine.commands import WasOomKilled, judged
from atoll_server.engine.model import Exit, ProcessRecord

_log = logging.getLogger(__name__)

EXPECTED_LIMIT: Final = 4096
"""How many processes of a sandbox are waited for at once."""


class Hearer(Protocol):
    """Who wants to know how a process ended. It may not wait or raise."""

    def ended(self, exit: Exit, *, is_output_known: bool = True) -> None: ...

    def unheard(self, why: str) -> None:
        """How it ended will not be known."""


class Ends:
    """Those of one sandbox. `was_oom_killed` is asked about processes that were killed."""

    def __init__(self, agent: AgentClient, was_oom_killed: WasOomKilled) -> None:
        self._agent = agent
        self._was_oom_killed = was_oom_killed
        self._expected: dict[int, Hearer] = {}
        self._is_listening = False

    def expect(
        self,
        number: int,
        hearer: Hearer,
        beside: Callable[[Coroutine[Any, Any, None]], object],
    ) -> None:
        """Have somebody told of a process's end. `beside` runs what listens, where nothing does yet."""
        if not self._agent.tells_ends:
            return hearer.unheard("its sandbox is older than the server and does not tell")
        if len(self._expected) >= EXPECTED_LIMIT:
            return hearer.unheard(f"{EXPECTED_LIMIT} others are waited for, which is the limit")
        self._expected[number] = hearer
        if not self._is_listening:
            self._is_listening = True
            beside(self._listen())

    async def _listen(self) -> None:
        try:
            while self._expected:
                await self._hear()
        except AgentFailure as failure:
            # With its agent the sandbox is lost, which is told by whoever notices it; else the next process that is
            # started begins this anew.
            _log.debug("the ends of processes are not heard for now: %s", failure)
        finally:
            self._is_listening = False

    async def _hear(self) -> None:
        """Until nothing is expected any more, or the agent has let go of us because we were slow."""
        async with self._agent.ends() as ends:
            # What has ended before this is found by asking; what is not known at all was forgotten long since.
            known = {record.number: record for record in await self._agent.processes()}
            for number in tuple(self._expected):
                if number in known:
                    self._note(known[number])
                else:
                    self._expected.pop(number).unheard("it ended and was forgotten before")
            try:
                while self._expected:
                    for record in await ends.receive():
                        self._note(record)
            except AgentError as error:
                if error.code != "slow":
                    raise

    def _note(self, record: ProcessRecord) -> None:
        if not record.has_ended or (hearer := self._expected.pop(record.number, None)) is None:
            return
        exit = judged(read_exit(record), record.number, self._was_oom_killed)
        hearer.ended(exit, is_output_known=False)


def read_exit(record: ProcessRecord) -> Exit:
    """How a process ended, as its record says it."""
    lasted = (record.ended_ns or record.started_ns) - record.started_ns
    return Exit(
        code=record.code,
        signal=record.signal,
        timed_out=record.timed_out,
        oom_killed=False,
        duration=max(0, lasted) / 1e9,
        stdout_bytes=record.stdout_bytes,
        stderr_bytes=record.stderr_bytes,
    )
