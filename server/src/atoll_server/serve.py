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
import shutil
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

from atoll.models import CreateSandbox
from atoll_server import __version__, logs, privileges
from atoll_server.api.app import build_app
from atoll_server.api.connection import BoundedConnection, Upgrades
from atoll_server.api.native.wire import parse_spec
from atoll_server.api.routing import ApiSettings
from atoll_server.api.socket import MESSAGE_BYTES, PING_SECONDS, PONG_SECONDS, BoundedSocket
from atoll_server.clock import Clock, SystemClock
from atoll_server.config import ConfigError
from atoll_server.engine.admission import AdmissionSettings
from atoll_server.engine.engine import Engine, EngineSettings
from atoll_server.engine.errors import RuntimeUnavailable
from atoll_server.engine.images import HOST, ImageRefused, parse_images
from atoll_server.engine.keys import Keys, make_key
from atoll_server.engine.limits import LimitSettings
from atoll_server.engine.model import RuntimeKind
from atoll_server.engine.pool_plan import PoolSettings
from atoll_server.engine.store import Store, StoreError
from atoll_server.engine.store_sqlite import SqliteStore
from atoll_server.network.addresses import parse_opening
from atoll_server.network.egress import EgressSettings
from atoll_server.network.surroundings import (
    find_own_addresses,
    parse_name_servers,
    read_name_servers,
)
from atoll_server.proxy.front import Front
from atoll_server.settings import Settings

logger = logging.getLogger(__name__)

# As in sysexits.h: something about this host or its settings must change first.
EXIT_CONFIG = 78
EXIT_INTERRUPTED = 130
STDIN = 0
GRACE_SECONDS = 3
KEEP_ALIVE_SECONDS = 120
BACKLOG = 1024
LOOPBACK = "127.0.0.1"
HTTP_PORT = 80
OPEN_FILES = 65_536
POOL_SIZE = 4
# Nobody else's on this host: below the id ranges of sandboxes, above those that systems give away.
PROXY_USER = 65_400
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
    except (CannotServe, ConfigError, StoreError, RuntimeUnavailable) as error:
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
        listeners = stack.enter_context(_listening(settings))
        previews = stack.enter_context(_listening_for_previews(settings))
        api = _api_settings(settings, _preview_url(settings, previews, listeners))
        async with Engine.open(_engine_settings(settings, api), store, clock) as engine:
            announce = _announcement(settings, listeners, engine, key_text)
            async with _pruning(settings, store, clock):
                front = Front(
                    build_app(engine, api, keys, clock, _registry()),
                    engine,
                    domain=settings.preview_domain,
                    scheme=api.preview_url.partition(":")[0],
                    is_key=lambda text: keys.verify(text) is not None,
                    only_port=_port_of(previews),
                )
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


def _engine_settings(settings: Settings, api: ApiSettings) -> EngineSettings:
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
        network=_network_settings(settings),
    )


def _network_settings(settings: Settings) -> EgressSettings | None:
    """How sandboxes get a network; None where this host cannot give one."""
    if shutil.which("nft") is None or shutil.which("ip") is None:
        logger.warning("no sandbox can have a network: install the packages nftables and iproute2")
        return None
    if not privileges.can_make_networks(privileges.held()):
        logger.warning("no sandbox can have a network: CAP_NET_ADMIN or CAP_NET_RAW is missing")
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
    )


def _pool_settings(settings: Settings) -> PoolSettings:
    usual = 0 if settings.private else POOL_SIZE
    return PoolSettings(
        size=usual if settings.pool_size is None else settings.pool_size,
        min_idle=settings.pool_min_idle,
        max_idle=settings.pool_max_idle_ms / 1000,
        refill=settings.pool_refill,
    )


def _api_settings(settings: Settings, preview_url: str) -> ApiSettings:
    return ApiSettings(
        default_image=settings.default_image,
        max_lifetime_ms=settings.max_lifetime_ms,
        max_command_timeout_ms=settings.max_command_timeout_ms,
        rate_limit_per_second=settings.rate_limit_per_second,
        auth_failures_per_minute=settings.auth_failures_per_minute,
        upload_idle_ms=settings.upload_idle_ms,
        limits=_limit_settings(settings),
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


@contextlib.contextmanager
def _listening(settings: Settings) -> Iterator[list[socket.socket]]:
    """Sockets that listen; the unix one is removed at the end."""
    listeners: list[socket.socket] = []
    try:
        if not settings.private:
            listeners.append(_listen_tcp(settings.host, settings.port))
        if settings.socket is not None:
            listeners.append(_listen_unix(settings.socket))
        yield listeners
    finally:
        for listener in listeners:
            listener.close()
            if listener.family == socket.AF_UNIX and settings.socket is not None:
                settings.socket.unlink(missing_ok=True)


@contextlib.contextmanager
def _listening_for_previews(settings: Settings) -> Iterator[list[socket.socket]]:
    """A socket for previews alone, where one is wanted: a browser reaches a private server nowhere else."""
    if settings.preview_port is None and not settings.private:
        yield []
        return
    host = LOOPBACK if settings.private else settings.host
    with _listen_tcp(host, settings.preview_port or 0) as listener:
        yield [listener]


def _port_of(listeners: list[socket.socket]) -> int | None:
    """The port of the first that listens on one."""
    tcp = (it for it in listeners if it.family != socket.AF_UNIX)
    return next((it.getsockname()[1] for it in tcp), None)


def _preview_url(
    settings: Settings, previews: list[socket.socket], listeners: list[socket.socket]
) -> str:
    """What URLs of ports are made from, where the settings do not say."""
    if settings.preview_url is not None:
        return settings.preview_url
    port = _port_of([*previews, *listeners])
    authority = settings.preview_domain + (f":{port}" if port not in (None, HTTP_PORT) else "")
    return f"http://{{port}}-{{label}}.{authority}/"


def _listen_tcp(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=BACKLOG)
    except (OSError, UnicodeError) as error:
        raise CannotServe(
            f"cannot listen on {host}:{port}: {error}; choose others with --host, --port"
        ) from None


def _listen_unix(path: Path) -> socket.socket:
    _remove_stale_socket(path)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        umask = os.umask(0o177)  # nobody may connect between bind and chmod
        try:
            listener.bind(str(path))
        finally:
            os.umask(umask)
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise CannotServe(f"cannot listen on {path}: {error.strerror}") from None
    return listener


def _remove_stale_socket(path: Path) -> None:
    if not path.exists() or not stat.S_ISSOCK(path.stat().st_mode):
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            path.unlink(missing_ok=True)
            return
    raise CannotServe(f"another server listens on {path}: stop it, or choose another with --socket")


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
        urls = [_url(listener, settings) for listener in listeners]
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


def _url(listener: socket.socket, settings: Settings) -> str:
    if listener.family == socket.AF_UNIX:
        return f"unix://{settings.socket}"
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    return f"http://{host}:{listener.getsockname()[1]}"


def _say(stream: TextIO, text: str) -> None:
    stream.write(text + "\n")
    stream.flush()
