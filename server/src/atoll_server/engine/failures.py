# SPDX-License-Identifier: Apache-2.0
"""What a sandbox's agent fails with, as errors of the engine."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType
from typing import Final

from atoll_server.agent.errors import AgentError, AgentFailure
from atoll_server.engine import errors

Kinds = Mapping[str, type[errors.EngineError]]

_AS_THE_AGENT_SAYS: Final[Mapping[str, str]] = MappingProxyType({})


class Failures:
    """Those of one noun of a sandbox, by the code that the agent gives them.

    `kinds` says what each is; what is not in it is `Internal`. `messages` has words of ours for some, in which `{}`
    stands for what was asked about.
    """

    def __init__(
        self,
        sandbox_id: str | None,
        kinds: Kinds,
        messages: Mapping[str, str] = _AS_THE_AGENT_SAYS,
    ) -> None:
        self._sandbox_id = sandbox_id
        self._kinds = kinds
        self._messages = messages

    @contextmanager
    def translated(self, about: object = None) -> Iterator[None]:
        """What the agent fails with in the block becomes an error of the engine."""
        try:
            yield
        except AgentFailure as failure:
            raise self.translate(failure, about) from failure

    def translate(self, failure: AgentFailure, about: object = None) -> errors.EngineError:
        """The error to raise in its place."""
        if not isinstance(failure, AgentError):
            return errors.SandboxFailed(str(failure), sandbox_id=self._sandbox_id)
        kind = self._kinds.get(failure.code, errors.Internal)
        ours = self._messages.get(failure.code)
        message = failure.message if ours is None else ours.format(about)
        return kind(message, sandbox_id=self._sandbox_id)
