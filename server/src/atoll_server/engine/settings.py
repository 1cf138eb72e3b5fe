# SPDX-License-Identifier: Apache-2.0
"""What the engine needs to know before it begins."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from atoll_server.engine.admission import AdmissionSettings
from atoll_server.engine.commands import OUTPUT_LIMIT
from atoll_server.engine.lifecycle import SWEEP_EVERY
from atoll_server.engine.model import RuntimeKind, SandboxSpec
from atoll_server.engine.pool_plan import PoolSettings
from atoll_server.engine.processes import KEEP_ENDED, KEEP_ENDED_SECONDS
from atoll_server.network.egress import EgressSettings


@dataclass(frozen=True)
class EngineSettings:
    """`run_dir` must be short: socket paths have at most 107 bytes.

    `standing` are sandboxes of which the pool holds some before anybody has asked.
    """

    state_dir: Path
    run_dir: Path
    runtime: RuntimeKind | None = None
    images: Mapping[str, str] = field(default_factory=dict)
    output_limit: int = OUTPUT_LIMIT
    keep_processes: int = KEEP_ENDED
    keep_processes_seconds: float = KEEP_ENDED_SECONDS
    private: bool = False
    admission: AdmissionSettings = AdmissionSettings()
    pool: PoolSettings = PoolSettings()
    standing: tuple[SandboxSpec, ...] = ()
    sweep_every: float = SWEEP_EVERY
    network: EgressSettings | None = None
