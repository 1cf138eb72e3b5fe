# SPDX-License-Identifier: Apache-2.0
"""Builds sandboxes that are nobody's yet: for the lifecycle at once, for the pool ahead. No states, no store."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass

from atoll_server.agent.client import AgentClient
from atoll_server.agent.errors import AgentError, AgentFailure
from atoll_server.agent.messages import PROCESSES_GENERATION
from atoll_server.engine import errors, trust
from atoll_server.engine.model import RuntimeKind, SandboxId, SandboxSpec
from atoll_server.engine.processes import KEEP_ENDED, KEEP_ENDED_SECONDS
from atoll_server.engine.site import Site
from atoll_server.engine.sites import Sites
from atoll_server.engine.threads import in_thread
from atoll_server.network.egress import NetworkFailed

_log = logging.getLogger(__name__)

HANDSHAKE_TIMEOUT = 20.0

_NO_ROOM = (errno.ENOSPC, errno.ENOMEM, errno.EAGAIN, errno.EMFILE, errno.ENFILE, errno.EDQUOT)


@dataclass(frozen=True)
class KeepProcesses:
    """How many processes that have ended an agent keeps, and for how many seconds."""

    count: int = KEEP_ENDED
    seconds: float = KEEP_ENDED_SECONDS


@dataclass(frozen=True)
class Blank:
    """A sandbox that stands and answers, of which no client knows. `workdir` is there already."""

    site: Site
    agent: AgentClient
    workdir: str

    @property
    def id(self) -> SandboxId:
        return self.site.sandbox_id


class Builder:
    """Makes blanks, fits them to what a client wants, and removes them."""

    def __init__(
        self,
        sites: Sites,
        socket_path: Callable[[SandboxId], str],
        keep: KeepProcesses = KeepProcesses(),  # a frozen record
    ) -> None:
        self._sites = sites
        self._socket_path = socket_path
        self._keep = keep
        self.at_work: set[SandboxId] = set()
        """What is being built or removed at this moment."""

    def agent(self, sandbox_id: SandboxId) -> AgentClient:
        """The agent of a sandbox, whether it answers or not."""
        return AgentClient(self._socket_path(sandbox_id))

    async def build(self, sandbox_id: SandboxId, kind: RuntimeKind, spec: SandboxSpec) -> Blank:
        """A sandbox whose agent answers, with the working directory that is asked for.

        Raises `ResourceExhausted`, `Internal`, or `InvalidConfig` for a directory that cannot be made; then nothing of
        it is left. Not to be cancelled: what the thread makes would then be nobody's to remove.
        """
        with self._at_work_on(sandbox_id):
            try:
                site = await in_thread(lambda: self._sites.build(sandbox_id, kind, spec))
            except Exception as error:
                _log.warning("sandbox %s could not be built: %s", sandbox_id, error)
                raise _building_error(error, sandbox_id) from error
            return await self._shake_hands(Blank(site, self.agent(sandbox_id), spec.workdir))

    async def fit(self, blank: Blank, spec: SandboxSpec) -> None:
        """Give a blank what can be given late.

        Raises `InvalidConfig` for a working directory that cannot be made, and `Internal` where the sandbox has died.
        """
        try:
            await _all_of(
                in_thread(lambda: self._sites.fit(blank.site, spec)),
                _find_workdir(blank, spec.workdir),
            )
            if spec.secrets:  # for the others not even a thread is begun
                certificate = await in_thread(lambda: self._sites.give_secrets(blank.site))
                await trust.install(blank.agent, certificate)
        except NetworkFailed as error:
            _log.warning("the network of sandbox %s does not answer: %s", blank.id, error)
            raise errors.Internal(
                "the sandbox did not start: its network did not answer"
            ) from error
        except (AgentFailure, OSError) as error:
            raise errors.Internal("the sandbox did not start: its agent did not answer") from error

    async def remove(self, blank: Blank) -> None:
        """Every trace of it. Repeating it is harmless."""
        with self._at_work_on(blank.id):
            complete = await in_thread(lambda: self._sites.remove(blank.site))
        if not complete:
            _log.error("sandbox %s left something behind; it will be swept", blank.id)

    async def configure(self, agent: AgentClient) -> None:
        """Tell an agent how long to keep processes, where that is not what it does by itself."""
        if self._keep != KeepProcesses() and agent.generation >= PROCESSES_GENERATION:
            await agent.configure(
                keep_ended=self._keep.count, keep_ended_ms=round(self._keep.seconds * 1000)
            )

    async def _shake_hands(self, blank: Blank) -> Blank:
        try:
            await blank.agent.hello(HANDSHAKE_TIMEOUT)
            await self.configure(blank.agent)
            if not self._sites.has_workdir(blank.site.spec):
                await _make_workdir(blank, blank.workdir)
        except errors.InvalidConfig:
            await self.remove(blank)
            raise
        except Exception as error:
            _log.warning("the agent of the new sandbox %s does not answer: %s", blank.id, error)
            await self.remove(blank)
            raise errors.Internal("the sandbox did not start: its agent did not answer") from error
        return blank

    @contextlib.contextmanager
    def _at_work_on(self, sandbox_id: SandboxId) -> Iterator[None]:
        self.at_work.add(sandbox_id)
        try:
            yield
        finally:
            self.at_work.discard(sandbox_id)


async def _all_of(*works: Awaitable[object]) -> None:
    """Do them side by side, each to its end, and raise what the first of them did that failed."""
    for outcome in await asyncio.gather(*works, return_exceptions=True):
        if isinstance(outcome, BaseException):
            raise outcome


async def _find_workdir(blank: Blank, workdir: str) -> None:
    """Have a working directory, and an agent that listens."""
    if workdir == blank.workdir:
        await blank.agent.reach()
    else:
        await _make_workdir(blank, workdir)


async def _make_workdir(blank: Blank, workdir: str) -> None:
    try:
        await blank.agent.mkdir(os.fsencode(workdir), parents=True)
    except AgentError as error:
        raise errors.InvalidConfig(
            f"workdir {workdir!r} cannot be made: {error.message}", sandbox_id=blank.id
        ) from error


def _building_error(error: Exception, sandbox_id: SandboxId) -> errors.EngineError:
    """What a client is told. The log has the rest."""
    if isinstance(error, errors.EngineError):
        return error
    if isinstance(error, OSError) and error.errno in _NO_ROOM:
        why = os.strerror(error.errno or 0).lower()
        return errors.ResourceExhausted(
            f"the host has no room for another sandbox: {why}", sandbox_id=sandbox_id
        )
    return errors.Internal(
        "the sandbox could not be started; see the server's log", sandbox_id=sandbox_id
    )
