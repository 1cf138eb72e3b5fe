# SPDX-License-Identifier: Apache-2.0
"""Ports: what listens inside, and what the outside may reach."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from atoll_server.engine.model.sandboxes import SandboxId


@dataclass(frozen=True)
class ListeningPort:
    """A TCP port on which something listens inside. Whose it is is None where that cannot be seen."""

    port: int
    address: str
    pid: int | None
    command: bytes | None


@dataclass(frozen=True)
class ExposedPort:
    """A port that the outside reaches as `{port}-{label}`. Whoever knows the label of a public one may use it; a
    private one wants a token besides.
    """

    sandbox_id: SandboxId
    port: int
    label: str
    is_private: bool
    created_at: datetime

    @property
    def name(self) -> str:
        """What the outside calls it."""
        return f"{self.port}-{self.label}"
