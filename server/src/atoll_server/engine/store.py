# SPDX-License-Identifier: Apache-2.0
"""What must survive a restart: sandboxes as intended and recorded, their exposed ports, and hashed API keys.

Every method is synchronous and short; none is ever called between a request to run a command and its process.
Implementations may be called from several threads.
"""

from __future__ import annotations

import abc
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from atoll_server.engine.keys import ApiKey
from atoll_server.engine.model import ExposedPort, Page, Sandbox, SandboxFilter, SandboxId


class StoreError(Exception):
    """The store cannot be used. The message says why and what to do."""


@dataclass(frozen=True)
class Stored:
    """A sandbox with what lifecycle needs to find it again on this host: JSON values only."""

    sandbox: Sandbox
    host: Mapping[str, Any]


class Store(abc.ABC):
    """Implemented by `store_sqlite`. A record that a method has returned from is durable against a crash of ours."""

    @abc.abstractmethod
    def put(self, sandbox: Sandbox, host: Mapping[str, Any]) -> None:
        """Write a sandbox, new or known. Its place in lists is that of the first `put`."""

    @abc.abstractmethod
    def get(self, sandbox_id: SandboxId) -> Stored | None:
        """The sandbox, terminated ones too, or None."""

    @abc.abstractmethod
    def list(self, wanted: SandboxFilter) -> Page:
        """A page of all that match, newest first."""

    @abc.abstractmethod
    def all_live(self) -> tuple[Stored, ...]:
        """Every sandbox that is not terminated, oldest first. For start-up, which compares them with the host."""

    @abc.abstractmethod
    def prune(self, *, ended_before: datetime, keep: int) -> int:
        """Forget sandboxes terminated before that, and the oldest terminated ones beyond `keep`; returns how many."""

    @abc.abstractmethod
    def add_key(self, key: ApiKey) -> None:
        """Keep a key: its digest, never its text."""

    @abc.abstractmethod
    def keys(self) -> tuple[ApiKey, ...]:
        """All keys, oldest first."""

    @abc.abstractmethod
    def remove_key(self, key_id: str) -> bool:
        """Forget a key; whether there was one."""

    @abc.abstractmethod
    def put_port(self, port: ExposedPort) -> None:
        """Keep an exposed port, new or changed."""

    @abc.abstractmethod
    def ports(self) -> tuple[ExposedPort, ...]:
        """All exposed ports, also of sandboxes that have ended."""

    @abc.abstractmethod
    def remove_port(self, sandbox_id: SandboxId, port: int) -> None:
        """Forget an exposed port."""

    @abc.abstractmethod
    def remove_ports(self, sandbox_id: SandboxId) -> None:
        """Forget all of a sandbox."""

    @abc.abstractmethod
    def secret(self, name: str) -> bytes:
        """32 random bytes that this server keeps to itself: made when first asked for, the same ever after."""

    @abc.abstractmethod
    def close(self) -> None:
        """Let go of the database. May be repeated; nothing else may be called after it."""
