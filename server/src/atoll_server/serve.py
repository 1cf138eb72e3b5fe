# SPDX-License-Identifier: Apache-2.0
"""The composition root: settings in, a running server out, and nothing left behind that should not be."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import os
import resource
import stat
import sys
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from pathlib import Path

import uvloop
from prometheus_client import CollectorRegistry, GCCollector, ProcessCollector

from atoll_server import logs, precedence, privileges
from atoll_server.announcing import announcement
from atoll_server.api.app import build_app
from atoll_server.clock import Clock, SystemClock
from atoll_server.config import ConfigError
from atoll_server.engine.errors import RuntimeUnavailable
from atoll_server.engine.images import ImageRefused, parse_images
from atoll_server.engine.keys import Keys, make_key
from atoll_server.engine.opening import open_engine
from atoll_server.engine.store import Store, StoreError
from atoll_server.engine.store_sqlite import SqliteStore
from atoll_server.listeners import (
    CannotListen,
    listening,
    listening_for_previews,
    port_of,
    preview_url,
)
from atoll_server.proxy.counts import Counts
from atoll_server.proxy.front import Front
from atoll_server.serving import EXIT_INTERRUPTED, STDIN, listen
from atoll_server.settings import Settings
from atoll_server.wiring import api_settings, engine_settings, network_settings

logger = logging.getLogger(__name__)

# As in sysexits.h: something about this host or its settings must change first.
EXIT_CONFIG = 78
OPEN_FILES = 65_536
PRUNE_EVERY_SECONDS = 3600.0


class CannotServe(Exception):
    """This host or these settings do not allow it. The message says what to change."""


def run(settings: Settings) -> int:
    """Serve until told to stop; returns the exit status. What cannot be served is said on stderr, never a traceback."""
    logs.set_up(settings.log_level, settings.log_format)
    try:
        _check_host(settings)
        _check_default_image(settings)
        precedence.take()
        privileges.let_go()
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_serve(settings, SystemClock()))
    except ImageRefused as error:
        sys.stderr.write(f"atoll: setting images: {error}\n")
        return EXIT_CONFIG
    except (CannotServe, CannotListen, ConfigError, StoreError, RuntimeUnavailable) as error:
        sys.stderr.write(f"atoll: {error}\n")
        return EXIT_CONFIG
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    return 0


async def _serve(settings: Settings, clock: Clock) -> None:
    with contextlib.ExitStack() as stack:
        stack.enter_context(_locked(settings.state_dir))
        store = stack.enter_context(
            contextlib.closing(SqliteStore(settings.state_dir / "atoll.db"))
        )
        keys, key_text = _load_keys(settings, store, clock)
        listeners = stack.enter_context(listening(settings))
        previews = stack.enter_context(listening_for_previews(settings))
        network = network_settings(settings)
        api = api_settings(settings, preview_url(settings, previews, listeners), network)
        async with open_engine(engine_settings(settings, api, network), store, clock) as engine:
            announce = announcement(settings, listeners, engine, key_text)
            async with _pruning(settings, store, clock):
                registry = _registry()
                front = Front(
                    build_app(engine, api, keys, clock, registry),
                    engine,
                    domain=settings.preview_domain,
                    scheme=api.preview_url.partition(":")[0],
                    is_key=lambda text: keys.verify(text) is not None,
                    counts=Counts(registry),
                    only_port=port_of(previews),
                )
                with contextlib.closing(front):
                    await listen(
                        front, [*listeners, *previews], announce, is_private=settings.private
                    )


def _registry() -> CollectorRegistry:
    """What Prometheus is told of this process: memory, open files, processor time, collections of garbage."""
    registry = CollectorRegistry(auto_describe=True)
    ProcessCollector(registry=registry)
    GCCollector(registry=registry)
    return registry


def _check_host(settings: Settings) -> None:
    if os.geteuid() != 0:
        raise CannotServe(
            "the server must run as root: it makes namespaces, mounts and cgroups for each sandbox"
        )
    if settings.private and not _is_waitable(STDIN):
        raise CannotServe("a private server lives as long as its stdin, which must be a pipe")
    if not privileges.is_single_threaded():
        raise CannotServe(
            "something started a thread before the server dropped root's rights, which that thread would keep: "
            "start the server without what instruments it"
        )
    if missing := privileges.find_missing(privileges.held()):
        listed = ", ".join(f"{one.name} (for {one.why})" for one in missing)
        raise CannotServe(f"the server lacks {listed}; {privileges.ADVICE}")
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, OPEN_FILES), hard))


def _check_default_image(settings: Settings) -> None:
    images = parse_images(settings.images)
    if settings.default_image is not None and settings.default_image not in images:
        raise ConfigError(
            f"setting default_image: no image {settings.default_image!r}; there is {', '.join(images)}"
        )


def _is_waitable(descriptor: int) -> bool:
    try:
        mode = os.fstat(descriptor).st_mode
    except OSError:
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) or os.isatty(descriptor)


@contextlib.contextmanager
def _locked(state_dir: Path) -> Iterator[None]:
    """Hold the state directory for ourselves."""
    try:
        state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = os.open(state_dir / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise CannotServe(f"cannot use the state directory {state_dir}: {error.strerror}") from None
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(lock, 32, 0).decode("ascii", "replace").strip() or "unknown"
            raise CannotServe(
                f"another server (pid {holder}) uses {state_dir}: stop it, or choose another with --state-dir"
            ) from None
        os.ftruncate(lock, 0)
        os.pwrite(lock, f"{os.getpid()}\n".encode("ascii"), 0)
        yield
    finally:
        os.close(lock)


def _load_keys(settings: Settings, store: Store, clock: Clock) -> tuple[Keys, str | None]:
    """The keys that open this server, and the text of the one that was made just now, if any.

    One is made where none could manage the others: nobody is locked out of a server that they can start.
    """
    keys = Keys() if settings.private else _kept_and_configured(settings, store, clock)
    if keys.can_be_managed():
        return keys, None
    _, text = keys.make(name="made by atoll serve", now=clock.now())
    return keys, text


def _kept_and_configured(settings: Settings, store: Store, clock: Clock) -> Keys:
    configured = [
        make_key(text, created_at=clock.now(), name="configured", configured=True)
        for text in settings.api_keys
    ]
    return Keys([*store.keys(), *configured], store)


@contextlib.asynccontextmanager
async def _pruning(settings: Settings, store: Store, clock: Clock) -> AsyncIterator[None]:
    """Forget what is long gone, now and every hour."""
    async with asyncio.TaskGroup() as group:
        pruner = group.create_task(_prune_forever(settings, store, clock))
        try:
            yield
        finally:
            pruner.cancel()


async def _prune_forever(settings: Settings, store: Store, clock: Clock) -> None:
    while True:
        before = clock.now() - timedelta(days=settings.terminated_keep_days)
        try:
            pruned = await asyncio.to_thread(
                store.prune, ended_before=before, keep=settings.terminated_keep_max
            )
            logger.debug("pruned", extra={"sandboxes": pruned})
        except StoreError as error:
            logger.warning("cannot prune the store", extra={"why": str(error)})
        await clock.sleep(PRUNE_EVERY_SECONDS)
