# SPDX-License-Identifier: Apache-2.0
"""From settings to an engine on this host, with what survived an earlier one adopted; and how it ends."""

from __future__ import annotations

import contextlib
import hashlib
import logging
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

from atoll_server.clock import Clock
from atoll_server.engine import errors
from atoll_server.engine.admission import Admission
from atoll_server.engine.builder import Builder, KeepProcesses
from atoll_server.engine.chronicle import Chronicle
from atoll_server.engine.engine import Engine
from atoll_server.engine.events import EventLog
from atoll_server.engine.exposures import Exposures
from atoll_server.engine.images import Images
from atoll_server.engine.lifecycle import Lifecycle
from atoll_server.engine.model import Cause, RuntimeKind
from atoll_server.engine.pool_plan import Shape
from atoll_server.engine.register import Register
from atoll_server.engine.settings import EngineSettings
from atoll_server.engine.site import HostPaths
from atoll_server.engine.sites import Sites
from atoll_server.engine.store import Store
from atoll_server.network.egress import Egress, EgressSettings
from atoll_server.runtimes.base import Runtime
from atoll_server.runtimes.cgroups import CgroupError, Cgroups
from atoll_server.runtimes.detect import Runtimes, find_runtimes

_log = logging.getLogger(__name__)

NO_RUNTIME = "no runtime on this host can isolate a sandbox, see `atoll doctor`"
NO_AGENT = "the agent is not built: run `make agent`, or install a release of atoll-server, which carries it"
AGENT_BINARY = Path(__file__).parent.parent / "_bin" / "atoll-agent"


@contextlib.asynccontextmanager
async def open_engine(
    settings: EngineSettings, store: Store, clock: Clock
) -> AsyncIterator[Engine]:
    """An engine for as long as the block lasts.

    Raises `RuntimeUnavailable` where nothing could isolate a sandbox. At the end a private engine ends its
    sandboxes; any other leaves them running for the next one.
    """
    paths = _find_paths(settings)
    runtimes = _find_runtimes(paths.run)
    images = Images(paths.images, settings.images)
    sites = _prepare_sites(paths, images, runtimes.drivers, settings.network)
    chronicle = Chronicle(EventLog(clock))
    exposures = Exposures(store, clock)
    keep = KeepProcesses(settings.keep_processes, settings.keep_processes_seconds)
    standing = _standing_shapes(settings, runtimes)
    register = Register()
    lifecycle = Lifecycle(
        register,
        sites,
        Builder(sites, lambda sandbox_id: str(paths.socket(sandbox_id)), keep),
        store,
        clock,
        admission=Admission(settings.admission, paths.disks),
        pool=settings.pool,
        chronicle=chronicle,
        standing=standing,
        sweep_every=settings.sweep_every,
        # Without a pool the first sandbox that needs it starts it, and those that need none never do.
        starts_network=settings.pool.size > 0 and any(shape.network for shape in standing),
        on_end=exposures.forget,
    )
    async with lifecycle.running():
        await exposures.load(lambda it: register.find(it) is not None)
        try:
            yield Engine(
                settings,
                store,
                clock,
                sites=sites,
                register=register,
                lifecycle=lifecycle,
                images=images,
                runtimes=runtimes,
                chronicle=chronicle,
                exposures=exposures,
            )
        finally:
            await lifecycle.empty_pool()
            if settings.private:
                await lifecycle.terminate_all(Cause.SHUTDOWN)
            if register.count():
                sites.close()
            else:
                sites.dismantle()


def _find_paths(settings: EngineSettings) -> HostPaths:
    state = settings.state_dir
    # Servers with states of their own share a host.
    run = settings.run_dir / hashlib.sha256(bytes(state.resolve())).hexdigest()[:8]
    return HostPaths(images=state / "images", disks=state / "disks", run=run)


def _find_runtimes(run: Path) -> Runtimes:
    if not AGENT_BINARY.exists():
        raise errors.RuntimeUnavailable(NO_AGENT)
    runtimes = find_runtimes(agent=AGENT_BINARY, run=run)
    for kind, fault in runtimes.faults.items():
        _log.warning("no sandbox can have the runtime %s: %s", kind.value, fault)
    if not runtimes.usable:
        raise errors.RuntimeUnavailable(f"{NO_RUNTIME}: {'; '.join(runtimes.faults.values())}")
    return runtimes


def _prepare_sites(
    paths: HostPaths,
    images: Images,
    runtimes: Mapping[RuntimeKind, Runtime],
    network: EgressSettings | None,
) -> Sites:
    egress = Egress(paths.run / "network", network) if network else None
    try:
        sites = Sites(paths, images, runtimes, Cgroups(f"atoll/{paths.run.name}"), egress)
        sites.prepare()
    except CgroupError as error:
        raise errors.RuntimeUnavailable(f"{error}; see `atoll doctor`") from None
    except PermissionError as error:
        raise errors.RuntimeUnavailable(f"the server must run as root: {error}") from None
    return sites


def _standing_shapes(settings: EngineSettings, runtimes: Runtimes) -> list[Shape]:
    kind = settings.runtime or next(iter(runtimes.usable))
    return [Shape.of(spec, kind) for spec in settings.standing if kind in runtimes.usable]
