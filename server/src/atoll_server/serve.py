# SPDX-License-Identifier: Apache-2.0
"""The composition root: settings in, a running server out, and nothing left behind that should not be."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import functools
import json
import logging
import os
import resource
import signal
import socket
import stat
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import TextIO, cast

import uvicorn
import uvloop
from prometheus_client import CollectorRegistry, GCCollector, ProcessCollector
from starlette.types import ASGIApp

from atoll_server import logs, privileges
from atoll_server.api.app import build_app
from atoll_server.api.connection import BoundedConnection, Upgrades
from atoll_server.api.socket import MESSAGE_BYTES, PING_SECONDS, PONG_SECONDS, BoundedSocket
from atoll_server.clock import Clock, SystemClock
from atoll_server.config import ConfigError
from atoll_server.engine.engine import Engine
from atoll_server.engine.errors import RuntimeUnavailable
from atoll_server.engine.images import ImageRefused, parse_images
from atoll_server.engine.keys import Keys, make_key
from atoll_server.engine.store import Store, StoreError
from atoll_server.engine.store_sqlite import SqliteStore
from atoll_server.listeners import (
    BACKLOG,
    CannotListen,
    listening,
    listening_for_previews,
    port_of,
    preview_url,
    url_of,
)
from atoll_server.proxy.counts import Counts
from atoll_server.proxy.front import Front
from atoll_server.settings import Settings
from atoll_server.wiring import api_settings, engine_settings, network_settings

logger = logging.getLogger(__name__)

# As in sysexits.h: something about this host or its settings must change first.
EXIT_CONFIG = 78
EXIT_INTERRUPTED = 130
STDIN = 0
GRACE_SECONDS = 3
KEEP_ALIVE_SECONDS = 120
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
        async with Engine.open(engine_settings(settings, api, network), store, clock) as engine:
            announce = _announcement(settings, listeners, engine, key_text)
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
                    await _listen(front, settings, [*listeners, *previews], announce)


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


async def _listen(
    front: Front, settings: Settings, listeners: list[socket.socket], announce: Callable[[], None]
) -> None:
    config = _uvicorn_config(front, upgrades=front, grace=0 if settings.private else GRACE_SECONDS)
    server = _Server(config, announce, private=settings.private)
    with _watching_stdin(server.stop) if settings.private else contextlib.nullcontext():
        await server.serve(sockets=[listener.dup() for listener in listeners])


@contextlib.contextmanager
def _watching_stdin(on_close: Callable[[], None]) -> Iterator[None]:
    """Private servers live as long as whoever holds the other end of their stdin."""

    def read() -> None:
        if not os.read(STDIN, 4096):
            on_close()

    loop = asyncio.get_running_loop()
    loop.add_reader(STDIN, read)
    try:
        yield
    finally:
        loop.remove_reader(STDIN)


def _uvicorn_config(
    app: ASGIApp, *, upgrades: Upgrades | None = None, grace: int = GRACE_SECONDS
) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http=cast(type[BoundedConnection], functools.partial(BoundedConnection, upgrades=upgrades)),
        ws=BoundedSocket,
        ws_max_size=MESSAGE_BYTES,
        ws_ping_interval=PING_SECONDS,
        ws_ping_timeout=PONG_SECONDS,
        ws_per_message_deflate=False,
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        backlog=BACKLOG,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=grace,
    )


class _Server(uvicorn.Server):
    """uvicorn, which says when it is ready and whose signals leave the rest of us time to end."""

    def __init__(
        self, config: uvicorn.Config, announce: Callable[[], None], *, private: bool
    ) -> None:
        super().__init__(config)
        self._announce = announce
        self._private = private

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._announce()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self._on_signal, signal.SIGTERM)
        loop.add_signal_handler(signal.SIGINT, self._on_signal, signal.SIGINT)
        # Left in place until the process ends: what follows must not die of an impatient second signal's default.
        yield

    def stop(self) -> None:
        """Answer no more requests; what runs has some seconds to end."""
        self.should_exit = True

    def _on_signal(self, number: signal.Signals) -> None:
        if number is signal.SIGINT and self._private:
            return  # Ctrl-C is for the client in the foreground; when that ends, our stdin does
        if number is signal.SIGINT and self.should_exit:
            logger.warning("stopping at once; what is left is cleaned up by the next start")
            os._exit(EXIT_INTERRUPTED)
        logger.info("stopping", extra={"signal": number.name})
        self.stop()


def _announcement(
    settings: Settings, listeners: list[socket.socket], engine: Engine, key_text: str | None
) -> Callable[[], None]:
    """What is said once the server answers."""

    def announce() -> None:
        if settings.private:
            _say(sys.stdout, json.dumps({"url": f"unix://{settings.socket}", "api_key": key_text}))
            return
        urls = [url_of(listener, settings) for listener in listeners]
        _say(sys.stderr, _welcome(urls, engine, settings, key_text))

    return announce


def _welcome(urls: list[str], engine: Engine, settings: Settings, key_text: str | None) -> str:
    kinds = list(engine.runtimes().values())
    lines = [
        "atoll is ready",
        f"  url        {urls[0]}",
        *(f"             {url}" for url in urls[1:]),
        f"  isolation  {'; also '.join(kinds)}",
        f"  sandboxes  {engine.sandbox_count()} running",
        f"  state      {settings.state_dir}",
    ]
    if key_text is not None:
        lines += [
            f"  api key    {key_text}",
            "             shown once; only its hash is kept. Use it from a client:",
            f"             export ATOLL_URL={urls[0]} ATOLL_API_KEY={key_text}",
        ]
    elif settings.api_keys:
        lines.append("  api key    as configured")
    else:
        lines.append(f"  api key    made earlier; its hash is in {settings.state_dir / 'atoll.db'}")
    return "\n".join(lines)


def _say(stream: TextIO, text: str) -> None:
    stream.write(text + "\n")
    stream.flush()
