# SPDX-License-Identifier: Apache-2.0
"""From the operator's settings to those of each part."""

from __future__ import annotations

import logging
import resource
import shutil
from typing import Final

from atoll.models import CreateSandbox
from atoll_server import __version__, privileges
from atoll_server.api.native.sandbox_wire import parse_spec
from atoll_server.api.settings import ApiSettings
from atoll_server.config import ConfigError
from atoll_server.engine.admission import AdmissionSettings
from atoll_server.engine.images import HOST
from atoll_server.engine.limits import LimitSettings
from atoll_server.engine.model import RuntimeKind
from atoll_server.engine.pool_plan import PoolSettings
from atoll_server.engine.settings import EngineSettings
from atoll_server.network.addresses import parse_opening
from atoll_server.network.egress import EgressSettings
from atoll_server.network.namespace import find_fault
from atoll_server.network.policy import NO_NETWORK, NOTHING_YET, Default, Policy
from atoll_server.network.surroundings import (
    find_own_addresses,
    parse_name_servers,
    read_name_servers,
)
from atoll_server.network.tls import find_bundle
from atoll_server.settings import Settings

logger = logging.getLogger(__name__)

POOL_SIZE: Final = 4
# Nobody else's on this host: below the id ranges of sandboxes, above those that systems give away.
PROXY_USER: Final = 65_400


def engine_settings(
    settings: Settings, api: ApiSettings, network: EgressSettings | None
) -> EngineSettings:
    return EngineSettings(
        state_dir=settings.state_dir,
        run_dir=settings.run_dir,
        runtime=None if settings.runtime.value == "auto" else RuntimeKind(settings.runtime.value),
        images=settings.images,
        output_limit=settings.output_limit_bytes,
        keep_processes=settings.keep_processes,
        keep_processes_seconds=settings.keep_processes_ms / 1000,
        private=settings.private,
        admission=AdmissionSettings(
            max_sandboxes=settings.max_sandboxes,
            memory_overcommit=settings.memory_overcommit,
            memory_reserve_mb=settings.memory_reserve_mb,
            disk_reserve_mb=settings.disk_reserve_mb,
        ),
        pool=_pool_settings(settings),
        sweep_every=settings.sweep_every_ms / 1000,
        standing=(parse_spec(CreateSandbox(image=settings.default_image or HOST), api),),
        network=network,
    )


def network_settings(settings: Settings) -> EgressSettings | None:
    """How sandboxes get a network; None where this host cannot give one."""
    if shutil.which("ip") is None:
        logger.warning("no sandbox can have a network: install the package iproute2")
        return None
    if not privileges.can_make_networks(privileges.held()):
        logger.warning("no sandbox can have a network: CAP_NET_ADMIN or CAP_NET_RAW is missing")
        return None
    if (fault := find_fault()) is not None:
        logger.warning("no sandbox can have a network: %s, see `atoll doctor`", fault)
        return None
    try:
        for opening in settings.network_open:
            parse_opening(opening)
        named = parse_name_servers(settings.name_servers)
    except ValueError as error:
        raise ConfigError(f"setting network_open or name_servers: {error}") from None
    return EgressSettings(
        user=PROXY_USER,
        name_servers=named or read_name_servers(),
        own_addresses=find_own_addresses(),
        opened=settings.network_open,
        bytes_per_second=settings.network_mb_per_second * 1e6 or None,
        bundle=find_bundle(),
    )


def _pool_settings(settings: Settings) -> PoolSettings:
    usual = 0 if settings.private else POOL_SIZE
    policy = Policy(Default(settings.network_default))
    return PoolSettings(
        size=usual if settings.pool_size is None else settings.pool_size,
        min_idle=settings.pool_min_idle,
        max_idle=settings.pool_max_idle_ms / 1000,
        refill=settings.pool_refill,
        network=NOTHING_YET if policy == NO_NETWORK else policy,
    )


def api_settings(
    settings: Settings, preview_url: str, network: EgressSettings | None
) -> ApiSettings:
    return ApiSettings(
        default_image=settings.default_image,
        max_lifetime_ms=settings.max_lifetime_ms,
        max_command_timeout_ms=settings.max_command_timeout_ms,
        rate_limit_per_second=settings.rate_limit_per_second,
        auth_failures_per_minute=settings.auth_failures_per_minute,
        upload_idle_ms=settings.upload_idle_ms,
        limits=_limit_settings(settings),
        default_network=Policy(Default(settings.network_default)) if network else NO_NETWORK,
        preview_url=preview_url,
        version=__version__,
    )


def _limit_settings(settings: Settings) -> LimitSettings:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return LimitSettings(
        cpu_min=settings.cpu_min,
        cpu_max=settings.cpu_max,
        memory_min_mb=settings.memory_min_mb,
        memory_max_mb=settings.memory_max_mb,
        disk_min_mb=settings.disk_min_mb,
        disk_max_mb=settings.disk_max_mb,
        pids_max=settings.pids_max,
        open_files_max=min(settings.open_files_max, hard),
    )
