# SPDX-License-Identifier: Apache-2.0
"""Sandboxes: what they should be, are, and use. Durations are seconds, sizes MiB where the name says so."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import NewType

from atoll_server.network.policy import NO_NETWORK, Policy
from atoll_server.network.secrets import Secret

SandboxId = NewType("SandboxId", str)


class State(enum.Enum):
    CREATING = "creating"
    RUNNING = "running"
    PAUSED = "paused"
    FAILED = "failed"
    TERMINATED = "terminated"


class Cause(enum.Enum):
    """Why a sandbox ended."""

    USER = "user"
    TIMEOUT = "timeout"
    ERROR = "error"
    SHUTDOWN = "shutdown"
    LOST = "lost"


class RuntimeKind(enum.Enum):
    GVISOR = "gvisor"
    CONTAINER = "container"


PIDS = 4096
OPEN_FILES = 65_536


@dataclass(frozen=True)
class Limits:
    """Hard limits. Memory and disk are MiB; `pids` counts processes and threads, `open_files` those of one process."""

    cpu: float
    memory_mb: int
    disk_mb: int
    pids: int = PIDS
    open_files: int = OPEN_FILES


@dataclass(frozen=True)
class SandboxSpec:
    """What a sandbox should be. `runtime` None leaves the choice to the engine.

    `exposable`: the ports that may be exposed, None for all that ever may.
    """

    image: str
    limits: Limits
    env: Mapping[str, str]
    workdir: str
    lifetime: float
    idle_timeout: float
    metadata: Mapping[str, str]
    runtime: RuntimeKind | None = None
    network: Policy = NO_NETWORK
    secrets: tuple[Secret, ...] = ()
    exposable: tuple[int, ...] | None = None


@dataclass(frozen=True)
class Sandbox:
    """What a sandbox is, at one moment."""

    id: SandboxId
    state: State
    spec: SandboxSpec
    runtime: RuntimeKind
    isolation: str
    created_at: datetime
    started_at: datetime | None = None
    paused_at: datetime | None = None
    terminated_at: datetime | None = None
    cause: Cause | None = None
    detail: str | None = None


@dataclass(frozen=True)
class Usage:
    """What a sandbox uses of its host, as the host counts: its runtime's own use is part of it.

    Sizes are bytes, durations seconds. Memory includes caches, except `memory_held`; `processes` includes threads.
    """

    cpu: float
    cpu_throttled: float
    cpu_limit: float
    memory: int
    memory_held: int
    memory_peak: int | None
    memory_limit: int
    processes: int
    processes_limit: int
    disk: int
    disk_limit: int
    oom_kills: int
    uptime: float


@dataclass(frozen=True)
class SandboxFilter:
    """All given conditions must hold."""

    state: State | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    limit: int = 20
    offset: int = 0


@dataclass(frozen=True)
class Page:
    """Newest first. `total` counts all that match."""

    items: tuple[Sandbox, ...]
    total: int
