# SPDX-License-Identifier: Apache-2.0
"""What an agent fails with is an error of the engine, in words that say what it is about."""

from __future__ import annotations

import pytest

from atoll_server.agent.errors import (
    AgentError,
    AgentFailure,
    AgentProtocolError,
    AgentUnavailable,
)
from atoll_server.engine import errors
from atoll_server.engine.failures import Failures

FAILURES = Failures(
    "sb_1",
    {"not_found": errors.WatchNotFound, "invalid": errors.InvalidRequest},
    {"not_found": "no watch {}"},
)


def test_code_that_is_known_is_told_in_our_words() -> None:
    error = FAILURES.translate(AgentError("not_found", 2, "ENOENT"), "watch_7")

    assert (type(error), error.message) == (errors.WatchNotFound, "no watch watch_7")
    assert error.sandbox_id == "sb_1"


def test_code_without_words_of_ours_is_told_in_the_agents() -> None:
    error = FAILURES.translate(AgentError("invalid", 22, "path is {no} path"))

    assert (type(error), error.message) == (errors.InvalidRequest, "path is {no} path")


def test_what_is_asked_about_is_never_a_template() -> None:
    error = FAILURES.translate(AgentError("not_found", 2, ""), "{0.__class__}")

    assert error.message == "no watch {0.__class__}"


def test_code_that_nobody_knows_is_our_fault() -> None:
    assert isinstance(FAILURES.translate(AgentError("strange", 0, "")), errors.Internal)


@pytest.mark.parametrize("failure", [AgentUnavailable("gone"), AgentProtocolError("no agent")])
def test_agent_that_is_gone_or_none_of_ours_is_a_failed_sandbox(failure: AgentFailure) -> None:
    with pytest.raises(errors.SandboxFailed) as raised, FAILURES.translated():
        raise failure

    assert raised.value.__cause__ is failure


def test_what_is_not_the_agents_passes_as_it_is() -> None:
    with pytest.raises(KeyError), FAILURES.translated():
        raise KeyError
