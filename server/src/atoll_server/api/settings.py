# SPDX-License-Identifier: Apache-2.0
"""What an operator can choose about the API."""

from __future__ import annotations

from dataclasses import dataclass

from atoll.models import MAX_COMMAND_TIMEOUT_MS, MAX_LIFETIME_MS
from atoll_server.engine.limits import LimitSettings
from atoll_server.network.policy import NO_NETWORK, Policy


@dataclass(frozen=True)
class ApiSettings:
    default_image: str | None = None
    max_lifetime_ms: int = MAX_LIFETIME_MS
    max_command_timeout_ms: int = MAX_COMMAND_TIMEOUT_MS
    rate_limit_per_second: float = 0.0
    auth_failures_per_minute: int = 60
    upload_idle_ms: int = 60_000
    limits: LimitSettings = LimitSettings()
    default_network: Policy = NO_NETWORK
    preview_url: str = "http://{port}-{label}.localhost/"
    version: str = "0"
