# SPDX-License-Identifier: Apache-2.0
"""Which sandboxes there are, and what may be done with which."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from datetime import UTC, datetime
from pathlib import Path

import pytest

from atoll_server.agent.client import AgentClient
from atoll_server.engine import errors, states
from atoll_server.engine.live import Live
from atoll_server.engine.model import Limits, RuntimeKind, Sandbox, SandboxId, SandboxSpec, State
from atoll_server.engine.register import Register
from atoll_server.engine.site import Site
from atoll_server.runtimes.cgroups import Group
from atoll_server.runtimes.fake import Unisolated

pytestmark = pytest.mark.anyio

ONE, OTHER = SandboxId("sb_1"), SandboxId("sb_2")
SPEC = SandboxSpec("host", Limits(1, 100, 1000), {}, "/", 60.0, 60.0, {})


def sandbox_in(state: State, sandbox_id: SandboxId = ONE) -> Sandbox:
    born = datetime(2030, 1, 1, tzinfo=UTC)
    return Sandbox(sandbox_id, state, SPEC, RuntimeKind.CONTAINER, "none", born)


def live_in(state: State, sandbox_id: SandboxId = ONE) -> Live:
    nowhere = Path("/nowhere")
    site = Site(sandbox_id, SPEC, Unisolated(nowhere), Group(2, {"": nowhere}))
    return Live(sandbox_in(state, sandbox_id), site, AgentClient(str(nowhere)))


def test_sandbox_that_runs_is_given_to_who_asks_for_it() -> None:
    register, live = Register(), live_in(State.RUNNING)

    register.add(live)

    assert register.live(ONE) is register.find(ONE) is live


def test_sandbox_that_is_removed_is_unknown() -> None:
    register = Register()
    register.add(live_in(State.RUNNING))

    register.remove(ONE)

    assert register.find(ONE) is None
    with pytest.raises(errors.SandboxNotFound):
        register.live(ONE)


@pytest.mark.parametrize(
    ("state", "error"),
    [(State.PAUSED, errors.SandboxNotRunning), (State.FAILED, errors.SandboxFailed)],
)
def test_sandbox_in_another_state_is_refused_with_what_is_wrong(
    state: State, error: type[errors.EngineError]
) -> None:
    register = Register()
    register.add(live_in(state))

    with pytest.raises(error) as refused:
        register.live(ONE)

    assert refused.value.sandbox_id == ONE


def test_paused_sandbox_may_be_measured() -> None:
    register, paused = Register(), live_in(State.PAUSED)
    register.add(paused)

    assert register.live(ONE, states.can_measure) is paused


async def test_sandbox_on_its_way_has_been_promised_its_limits_and_is_nobodys_yet() -> None:
    register = Register()
    register.add(live_in(State.RUNNING))
    register.add(live_in(State.FAILED, SandboxId("sb_3")))

    async with register.creating(sandbox_in(State.CREATING, OTHER)):
        assert register.promised() == [SPEC.limits] * 2  # one that failed has given its own back
        assert register.ids() == {ONE, OTHER, SandboxId("sb_3")}
        assert (register.count(), register.creating_count()) == (2, 1)
        assert register.find(OTHER) is None

    assert register.promised() == [SPEC.limits]


async def test_who_waits_for_a_creation_goes_on_when_it_has_failed() -> None:
    register = Register()
    with contextlib.suppress(errors.Internal):
        async with register.creating(sandbox_in(State.CREATING)):
            waiting = asyncio.ensure_future(register.wait_created(ONE))
            done, _ = await asyncio.wait([waiting], timeout=0)
            assert not done
            raise errors.Internal("it could not be created")

    await waiting


def test_records_are_as_they_are_now() -> None:
    register, live = Register(), live_in(State.RUNNING)
    register.add(live)

    live.sandbox = dataclasses.replace(live.sandbox, state=State.FAILED)

    assert [record.state for record in register.records()] == [State.FAILED]
