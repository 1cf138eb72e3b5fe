# SPDX-License-Identifier: Apache-2.0
"""Sandboxes: what one asks for, what one is told."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from ._fields import described
from ._network import Network
from ._secrets import MAX_SECRETS, Secret, SecretInfo

MAX_LIFETIME_MS = 86_400_000
# What a server can be set to take at all. What it does take without being told is in each field's description.
MIN_CPU, MAX_CPU = 0.05, 1024
MIN_MEMORY_MB, MAX_MEMORY_MB = 64, 1 << 24
MIN_DISK_MB, MAX_DISK_MB = 64, 1 << 24
MIN_PIDS, MAX_PIDS = 32, 1 << 22
MIN_OPEN_FILES, MAX_OPEN_FILES = 256, 1 << 20


class SandboxState(str, Enum):
    """Where a sandbox is in its life."""

    CREATING = "creating"
    RUNNING = "running"
    PAUSED = "paused"
    FAILED = "failed"
    TERMINATED = "terminated"


class Runtime(str, Enum):
    """What isolates a sandbox. `auto` takes gVisor where it is installed, else a container."""

    AUTO = "auto"
    GVISOR = "gvisor"
    CONTAINER = "container"


@dataclass(frozen=True)
class Resources:
    """Hard limits of one sandbox. Memory and disk are in MiB. A server may be set to take others than is usual."""

    cpu: float = field(
        default=2,
        metadata=described("processors, usually 2, 4 or 8", ge=MIN_CPU, le=MAX_CPU),
    )
    memory_mb: int = field(
        default=4096,
        metadata=described("memory, usually 2048 to 16384", ge=MIN_MEMORY_MB, le=MAX_MEMORY_MB),
    )
    disk_mb: int = field(
        default=10240,
        metadata=described("disk, usually 5120 to 51200", ge=MIN_DISK_MB, le=MAX_DISK_MB),
    )
    pids: int | None = field(
        default=None,
        metadata=described(
            "processes and threads at once, usually at most 4096, which it is if absent",
            ge=MIN_PIDS,
            le=MAX_PIDS,
        ),
    )
    open_files: int | None = field(
        default=None,
        metadata=described(
            "open files of one process, usually at most 65536, which it is if absent",
            ge=MIN_OPEN_FILES,
            le=MAX_OPEN_FILES,
        ),
    )


@dataclass(frozen=True)
class CreateSandbox:
    """The body of `POST /v1/sandboxes`."""

    image: str | None = field(
        default=None,
        metadata=described("root file system to start from, e.g. `host`", max_length=512),
    )
    resources: Resources = field(default_factory=Resources)
    env: dict[str, str] = field(
        default_factory=dict, metadata=described("seen by every command", max_items=256)
    )
    workdir: str = field(
        default="/workspace",
        metadata=described("default directory of every command", max_length=4096),
    )
    timeout_ms: int = field(
        default=300_000,
        metadata=described("lifetime, after which it is terminated", ge=1, le=MAX_LIFETIME_MS),
    )
    idle_timeout_ms: int = field(
        default=120_000,
        metadata=described("kept; acts once pausing exists", ge=1, le=MAX_LIFETIME_MS),
    )
    metadata: dict[str, str] = field(
        default_factory=dict,
        metadata=described("your labels, filterable in lists", max_items=20, max_value_length=256),
    )
    runtime: Runtime = field(default=Runtime.AUTO, metadata=described("what isolates it"))
    network: Network | None = field(
        default=None, metadata=described("what it may reach; as the server has it if absent")
    )
    secrets: dict[str, Secret] = field(
        default_factory=dict,
        metadata=described(
            "environment variables that hold a placeholder inside; needs a network",
            max_items=MAX_SECRETS,
            max_key_length=128,
        ),
    )


@dataclass(frozen=True)
class SandboxInfo:
    """A sandbox as the API shows it. Times are ISO 8601, UTC, with a trailing `Z`."""

    id: str
    state: SandboxState
    image: str
    runtime: Runtime
    isolation: str
    resources: Resources
    env: dict[str, str]
    metadata: dict[str, str]
    workdir: str
    timeout_ms: int
    idle_timeout_ms: int
    created_at: str
    started_at: str | None = None
    paused_at: str | None = None
    terminated_at: str | None = None
    reason: str | None = field(
        default=None,
        metadata=described("why it ended: `user`, `timeout`, `error`, `shutdown` or `lost`"),
    )
    detail: str | None = field(
        default=None, metadata=described("what went wrong, where something did")
    )
    network: Network | None = field(
        default=None, metadata=described("what it may reach; null: nothing")
    )
    secrets: dict[str, SecretInfo] = field(
        default_factory=dict, metadata=described("by name; their values are never told")
    )


@dataclass(frozen=True)
class SandboxMetrics:
    """What a sandbox uses of its host, beside what it may use. Counted by the host, whatever is said inside.

    All that it costs counts, what isolates it included: for `gvisor` that is a kernel with some threads and tens of MiB
    of its own, for which the limits of memory are wider than `resources`, too.
    """

    cpu_ms: int = field(metadata=described("processor time used, of all processors together"))
    cpu_throttled_ms: int = field(metadata=described("how long it was held back by its limit"))
    cpu_limit: float = field(metadata=described("processors that it may use at once"))
    memory_bytes: int = field(metadata=described("memory now, caches of its files included"))
    memory_held_bytes: int = field(
        metadata=described("of it, what cannot be taken back: at the limit, something is killed")
    )
    memory_peak_bytes: int | None = field(
        metadata=described("the most there was; null where the kernel does not keep it")
    )
    memory_limit_bytes: int
    processes: int = field(metadata=described("processes and threads, as the host sees them"))
    processes_limit: int
    disk_bytes: int = field(
        metadata=described("what its disk takes on the host; what is deleted inside comes back")
    )
    disk_limit_bytes: int
    oom_kills: int = field(metadata=described("processes killed for the limit of memory"))
    uptime_ms: int
    network_received_bytes: int | None = field(
        default=None, metadata=described("null so far: `/network` has what was sent and received")
    )
    network_sent_bytes: int | None = field(default=None, metadata=described("the same"))


@dataclass(frozen=True)
class Pagination:
    """Where a page stands in its collection."""

    total: int
    limit: int
    offset: int
    has_more: bool


@dataclass(frozen=True)
class SandboxPage:
    """The answer of `GET /v1/sandboxes`, newest first."""

    data: list[SandboxInfo]
    pagination: Pagination
