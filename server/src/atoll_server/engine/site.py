# SPDX-License-Identifier: Apache-2.0
"""One sandbox's place on the host, and where on it everything is kept."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from atoll_server.engine.model import SandboxId, SandboxSpec
from atoll_server.engine.oom import OomKills
from atoll_server.runtimes.base import SOCKET_NAME, Runtime
from atoll_server.runtimes.cgroups import Group
from atoll_server.runtimes.idmap import IdRange
from atoll_server.runtimes.stage import make_passable


@dataclass(frozen=True)
class HostPaths:
    """Where this server keeps things. `run` is short (socket paths are limited) and everyone may pass through it."""

    images: Path
    disks: Path
    run: Path

    def control(self, sandbox_id: SandboxId) -> Path:
        return self.run / "control" / sandbox_id

    def socket(self, sandbox_id: SandboxId) -> Path:
        return self.control(sandbox_id) / SOCKET_NAME

    def disk(self, sandbox_id: SandboxId) -> Path:
        return self.disks / f"{sandbox_id}.ext4"

    def prepare(self) -> None:
        """Make the directories. The disks are root's alone."""
        for directory in (self.images, self.disks):
            directory.mkdir(parents=True, exist_ok=True)
            directory.chmod(0o700)
        make_passable(self.run)
        make_passable(self.run / "control")


@dataclass
class Site:
    """One sandbox's place on the host, filled in step by step. `facts` is what the store keeps of it."""

    sandbox_id: SandboxId
    spec: SandboxSpec
    runtime: Runtime
    group: Group
    ids: IdRange | None = None
    network: Future[BinaryIO] | None = None
    """While it is built: the namespace that its runtime joins, or the edge that the runtime's own is joined to."""
    pid: int | None = None
    is_resting: bool = False
    sealed: str | None = None
    """Its secrets, as the vault keeps them."""
    oom_kills: OomKills = field(init=False, compare=False)

    def __post_init__(self) -> None:
        self.oom_kills = OomKills(self.group.oom_kills)

    @property
    def memory_threshold(self) -> int | None:
        """Bytes above which processes must be killed by us, half-way into what the runtime may use; None if never."""
        able = self.runtime.capabilities
        if able.kills_for_memory:
            return None
        return (self.spec.limits.memory_mb + able.memory_overhead_mb // 2) << 20

    def rest(self) -> None:
        """Have it take no processor time, where its runtime would for nothing. It answers again after `wake`."""
        if self.runtime.capabilities.is_restless:
            self.group.freeze()
            self.is_resting = True

    def wake(self) -> None:
        """Let it go on. Raises `ProcessLookupError` where it was killed meanwhile, of which v1 groups tell only now."""
        if not self.is_resting:
            return
        was_killed = self.group.is_killed()
        self.group.thaw()
        self.is_resting = False
        if was_killed:
            raise ProcessLookupError(f"{self.sandbox_id} was killed while it rested")

    def facts(self) -> Mapping[str, Any]:
        first_id = self.ids.first if self.ids else None
        facts = {"pid": self.pid, "first_id": first_id, "oom": self.oom_kills.facts()}
        return facts if self.sealed is None else {**facts, "secrets": self.sealed}

    def __repr__(self) -> str:
        return f"Site({self.sandbox_id}, {self.runtime.kind.value}, pid={self.pid})"
