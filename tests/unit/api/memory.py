# SPDX-License-Identifier: Apache-2.0
"""An engine that keeps its sandboxes in memory, and a client that calls an ASGI application without a socket.

What the API needs of an engine is all here and really happens, to records and bytes instead of processes. Commands are
argument vectors: `echo TEXT…`, `cat`, `fail CODE`, `signal NUMBER`, `sleep`, `flood BYTES`, `timeout`, `break`,
`say BYTES…`; any other does not exist; text for a shell is written to stdout.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections import Counter
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import msgspec
from prometheus_client import CollectorRegistry
from starlette.types import ASGIApp, Message, Scope

from atoll_server.api.app import build_app
from atoll_server.api.settings import ApiSettings
from atoll_server.clock import ManualClock
from atoll_server.engine import errors
from atoll_server.engine.engine import Engine
from atoll_server.engine.events import EventFilter, EventLog, Reading
from atoll_server.engine.images import Image
from atoll_server.engine.keys import ALL_SCOPES, Keys, make_key
from atoll_server.engine.keys import Scope as KeyScope
from atoll_server.engine.model import (
    Cause,
    Command,
    Completed,
    Entry,
    Exit,
    FileKind,
    Listing,
    Output,
    Page,
    RuntimeKind,
    Sandbox,
    SandboxFilter,
    SandboxId,
    SandboxSpec,
    StartOptions,
    State,
    Usage,
    Written,
)
from atoll_server.engine.pool import ShapeStatistics
from atoll_server.engine.pool_plan import PoolSettings, Shape
from atoll_server.engine.statistics import EngineStatistics, Tally
from atoll_server.network.control import Report
from atoll_server.network.gate import Statistics
from atoll_server.network.policy import NO_NETWORK, Policy
from tests.unit.api.memory_ports import MemoryPorts
from tests.unit.api.memory_processes import MemoryProcesses
from tests.unit.api.memory_watches import MemoryWatches

KEY = "rra_live_0123456789abcdefghijklmno"
PIECE = 64 * 1024
USAGE = Usage(
    cpu=1.5,
    cpu_throttled=0.25,
    cpu_limit=0.5,
    memory=300,
    memory_held=200,
    memory_peak=None,
    memory_limit=1000,
    processes=7,
    processes_limit=64,
    disk=4096,
    disk_limit=8192,
    oom_kills=2,
    uptime=12.5,
)
NETWORK_REPORT = Report(
    Statistics(1, 5, 4, 300, 2000, {"not_listed": 2}),
    [
        {
            "destination": "b.test",
            "port": 443,
            "reason": "not_listed",
            "text": "b.test is not allowed",
        }
    ],
)
PROGRAMS = ("echo", "say", "cat", "fail", "signal", "timeout", "sleep", "break", "flood")


class MemoryEngine:
    """The verbs of `Engine`, over dictionaries."""

    def __init__(self) -> None:
        self.sandboxes: dict[SandboxId, Sandbox] = {}
        self.disks: dict[SandboxId, MemoryFiles] = {}
        self.started: dict[SandboxId, MemoryProcesses] = {}
        self.watched: dict[SandboxId, MemoryWatches] = {}
        self.reached: dict[SandboxId, MemoryPorts] = {}
        self.commands: list[Command] = []
        self.left_early: list[Command] = []
        self.refusal: errors.EngineError | None = None
        self.commanded = asyncio.Event()
        self.left = asyncio.Event()
        self.played = 0
        self.pool_size = 4
        self.clock = ManualClock()
        self.tally = Tally()
        self.log = EventLog(self.clock)
        self.are_events_over = False

    def images(self) -> tuple[Image, ...]:
        return (
            Image("host"),
            Image("python", alias_of="host"),
            Image("own", directory=Path("/srv")),
        )

    def pool(self) -> tuple[PoolSettings, tuple[ShapeStatistics, ...]]:
        shape = Shape("host", RuntimeKind.GVISOR, memory_mb=4096, disk_mb=10240)
        held = ShapeStatistics(
            shape=shape,
            target=self.pool_size,
            idle=1,
            building=2,
            demand=2.6,
            hits=5,
            misses=6,
            built=7,
            failed=8,
            died=9,
            retired=10,
        )
        return PoolSettings(size=self.pool_size, max_idle=1.5), (held,)

    def resize_pool(self, size: int) -> None:
        self.pool_size = size

    async def create(self, spec: SandboxSpec) -> Sandbox:
        if self.refusal is not None:
            raise self.refusal
        sandbox = Sandbox(
            id=SandboxId(f"sb_{len(self.sandboxes):010d}"),
            state=State.RUNNING,
            spec=spec,
            runtime=spec.runtime or RuntimeKind.GVISOR,
            isolation="memory",
            created_at=self.clock.now(),
            started_at=self.clock.now(),
        )
        self.sandboxes[sandbox.id] = sandbox
        self.tally.note_created(sandbox.runtime)
        self.disks[sandbox.id] = MemoryFiles()
        self.started[sandbox.id] = MemoryProcesses(_play_apart)
        self.watched[sandbox.id] = MemoryWatches()
        self.reached[sandbox.id] = MemoryPorts(sandbox.id)
        return sandbox

    def get(self, sandbox_id: SandboxId) -> Sandbox:
        if sandbox_id not in self.sandboxes:
            raise errors.SandboxNotFound(f"no sandbox {sandbox_id}", sandbox_id=sandbox_id)
        return self.sandboxes[sandbox_id]

    async def set_network(self, sandbox_id: SandboxId, policy: Policy) -> Sandbox:
        sandbox = self._networked(sandbox_id)
        changed = dataclasses.replace(sandbox.spec, network=policy)
        self.sandboxes[sandbox_id] = dataclasses.replace(sandbox, spec=changed)
        return self.sandboxes[sandbox_id]

    async def network(self, sandbox_id: SandboxId) -> tuple[Sandbox, Report]:
        return self._networked(sandbox_id), NETWORK_REPORT

    def _networked(self, sandbox_id: SandboxId) -> Sandbox:
        self._live(sandbox_id)
        sandbox = self.sandboxes[sandbox_id]
        if sandbox.spec.network == NO_NETWORK:
            raise errors.InvalidConfig(f"sandbox {sandbox_id} was created without a network")
        return sandbox

    async def usage(self, sandbox_id: SandboxId) -> Usage:
        self._live(sandbox_id)
        return USAGE

    async def usages(self, most: int) -> list[tuple[Sandbox, Usage]]:
        running = [it for it in self.sandboxes.values() if it.state is State.RUNNING]
        return [(sandbox, USAGE) for sandbox in running[-most:]]

    def statistics(self) -> EngineStatistics:
        return self.tally.statistics(
            Counter((it.state, it.runtime) for it in self.sandboxes.values())
        )

    def events(
        self, wanted: EventFilter, *, since: str | None = None, follow: bool = True
    ) -> Reading:
        if wanted.sandbox_id is not None:
            self.get(wanted.sandbox_id)
        return self.log.read(
            wanted, since=since, follow=follow, is_over=lambda: self.are_events_over
        )

    def list(self, wanted: SandboxFilter) -> Page:
        found = [
            sandbox
            for sandbox in reversed(self.sandboxes.values())
            if wanted.state in (None, sandbox.state)
            and wanted.metadata.items() <= dict(sandbox.spec.metadata).items()
        ]
        return Page(tuple(found[wanted.offset : wanted.offset + wanted.limit]), len(found))

    async def terminate(self, sandbox_id: SandboxId) -> Sandbox:
        sandbox = self.get(sandbox_id)
        ended = dataclasses.replace(
            sandbox, state=State.TERMINATED, terminated_at=self.clock.now(), cause=Cause.USER
        )
        self.sandboxes[sandbox_id] = ended
        return ended

    def change(self, sandbox_id: SandboxId, state: State) -> None:
        self.sandboxes[sandbox_id] = dataclasses.replace(self.sandboxes[sandbox_id], state=state)

    async def execute(self, sandbox_id: SandboxId, command: Command) -> Completed:
        streams = {1: b"", 2: b""}
        async with self.start(sandbox_id, command) as running:
            async for event in running:
                if isinstance(event, Exit):
                    return Completed(streams[1], streams[2], event, truncated=False)
                streams[event.stream] += event.data
        raise AssertionError("a command ends with its exit")

    def start(self, sandbox_id: SandboxId, command: Command) -> MemoryCommand:
        self._live(sandbox_id)
        self.commands.append(command)
        self.commanded.set()
        return MemoryCommand(self, command)

    def processes(self, sandbox_id: SandboxId) -> MemoryProcesses:
        self._live(sandbox_id)
        return self.started[sandbox_id]

    def files(self, sandbox_id: SandboxId) -> MemoryFiles:
        self._live(sandbox_id)
        return self.disks[sandbox_id]

    def watches(self, sandbox_id: SandboxId) -> MemoryWatches:
        self._live(sandbox_id)
        return self.watched[sandbox_id]

    def ports(self, sandbox_id: SandboxId) -> MemoryPorts:
        self._live(sandbox_id)
        return self.reached[sandbox_id]

    def _live(self, sandbox_id: SandboxId) -> None:
        state = self.get(sandbox_id).state
        if state is State.TERMINATED:
            raise errors.SandboxNotFound(
                f"sandbox {sandbox_id} is terminated", sandbox_id=sandbox_id
            )
        if state is not State.RUNNING:
            raise errors.SandboxNotRunning(
                f"sandbox {sandbox_id} is {state.value}", sandbox_id=sandbox_id
            )


class MemoryCommand:
    """A running command: `async with` starts it, `async for` follows it, leaving before its exit kills it."""

    def __init__(self, engine: MemoryEngine, command: Command) -> None:
        self._engine = engine
        self._command = command
        self._ended = False

    async def __aenter__(self) -> AsyncIterator[Output | Exit]:
        line = self._command.line
        if not isinstance(line, str) and line[0] not in PROGRAMS:
            raise errors.CommandNotStarted(f"no program {line[0]!r}", reason="not_found")
        return self._follow()

    async def __aexit__(self, *_: object) -> None:
        if not self._ended:
            self._engine.left_early.append(self._command)
            self._engine.left.set()

    async def _follow(self) -> AsyncIterator[Output | Exit]:
        written = {1: 0, 2: 0}
        ended = _exit(code=0)
        async for item in _play(self._command):
            if isinstance(item, Exit):
                ended = item
                break
            stream, data = item
            yield Output(stream, written[stream], data)
            written[stream] += len(data)
            self._engine.played += len(data)
        self._ended = True
        yield ended


async def _play(command: Command) -> AsyncIterator[tuple[int, bytes] | Exit]:
    line = command.line if isinstance(command.line, tuple) else ("echo", command.line)
    match line:
        case ("echo", *words):
            yield 1, " ".join(words).encode("utf-8") + b"\n"
        case ("say", *texts):
            for text in texts:
                yield 1, text.encode("latin-1")
        case ("cat",):
            yield 1, command.stdin or b""
        case ("fail", code):
            yield 2, b"no\n"
            yield _exit(code=int(code))
        case ("signal", number):
            yield _exit(signal=int(number))
        case ("timeout", *signal):
            yield _exit(code=None if signal else 0, signal=9 if signal else None, timed_out=True)
        case ("sleep",):
            yield 1, b"started\n"
            await asyncio.Event().wait()
        case ("break",):
            yield 1, b"half"
            raise errors.SandboxFailed("the sandbox is gone")
        case ("flood", size):
            piece = b"x" * PIECE
            for _ in range(int(size) // PIECE):
                yield 1, piece
        case _:
            raise errors.CommandNotStarted(f"no program {line[0]!r}", reason="not_found")


async def _play_apart(
    command: Command, options: StartOptions
) -> AsyncIterator[tuple[int, bytes] | Exit]:
    """A process that nobody waits for: one that would run on has no exit."""
    program = command.line[0] if isinstance(command.line, tuple) else "echo"
    if program == "sleep" or (program == "cat" and (options.stdin_open or options.terminal)):
        return
    if program == "break":
        yield 1, b"half"
        yield _exit(signal=9)
        return
    async for event in _play(command):
        yield event
        if isinstance(event, Exit):
            return
    yield _exit(code=0)


def _exit(*, code: int | None = None, signal: int | None = None, timed_out: bool = False) -> Exit:
    return Exit(
        code, signal, timed_out, oom_killed=False, duration=0.0125, stdout_bytes=0, stderr_bytes=0
    )


class MemoryFiles:
    """The verbs of `Files`, over a dictionary of absolute paths."""

    def __init__(self) -> None:
        self.content: dict[bytes, bytes] = {}
        self.directories: set[bytes] = {b"/", b"/workspace"}
        self.changed_ns: dict[bytes, int] = {}
        self.opened: list[tuple[int, int | None]] = []
        self.before_reading: Callable[[bytes], None] = lambda path: None
        """Called between a file's opening and its first byte, to change it."""

    def resolve(self, path: str) -> bytes:
        resolved = _absolute(path)
        if b"\0" in resolved:
            raise errors.InvalidRequest("path has a NUL byte in it")
        return resolved

    async def stat(self, path: str, *, follow: bool = True) -> Entry:
        return self._entry(_absolute(path))

    async def exists(self, path: str) -> bool:
        return _absolute(path) in self.content or _absolute(path) in self.directories

    async def list(self, path: str, *, depth: int = 1, limit: int = 1000) -> Listing:
        found = sorted(name for name in self.content if name.startswith(_absolute(path)))
        return Listing(tuple(self._entry(name) for name in found[:limit]), len(found) > limit)

    @asynccontextmanager
    async def read(
        self, path: str, *, offset: int = 0, length: int | None = None
    ) -> AsyncIterator[tuple[Entry, AsyncIterator[bytes]]]:
        entry = self._file(_absolute(path))
        self.opened.append((offset, length))

        async def chunks() -> AsyncIterator[bytes]:
            self.before_reading(_absolute(path))
            end = None if length is None else offset + length
            data = self.content[_absolute(path)][offset:end]
            for start in range(0, len(data), PIECE):
                yield data[start : start + PIECE]

        yield entry, chunks()

    async def write(
        self,
        path: str,
        chunks: AsyncIterable[bytes],
        *,
        mode: int | None = None,
        append: bool = False,
        size: int | None = None,
    ) -> Written:
        target = _absolute(path)
        data = self.content.get(target, b"") if append else b""
        async for chunk in chunks:
            data += chunk
        created = target not in self.content
        self.content[target] = data
        return Written(target, len(data), created)

    async def mkdir(self, path: str, *, parents: bool, mode: int) -> None:
        if _absolute(path) in self.directories and not parents:
            raise errors.FileError("exists", reason="exists")
        self.directories.add(_absolute(path))

    async def move(self, source: str, destination: str) -> None:
        self._file(_absolute(source))
        self.content[_absolute(destination)] = self.content.pop(_absolute(source))

    async def copy(self, source: str, destination: str) -> None:
        self._file(_absolute(source))
        self.content[_absolute(destination)] = self.content[_absolute(source)]

    async def remove(self, path: str, *, recursive: bool = False) -> None:
        self._entry(_absolute(path))
        self.content.pop(_absolute(path), None)

    async def chmod(self, path: str, mode: int, *, recursive: bool = False) -> None:
        self._entry(_absolute(path))

    async def chown(
        self, path: str, user: str, group: str | None, *, recursive: bool = False
    ) -> None:
        self._entry(_absolute(path))

    @asynccontextmanager
    async def pack(self, path: str) -> AsyncIterator[AsyncIterator[bytes]]:
        self._entry(_absolute(path))

        async def chunks() -> AsyncIterator[bytes]:
            yield b"tar"

        yield chunks()

    async def unpack(self, path: str, chunks: AsyncIterable[bytes]) -> int:
        return len([chunk async for chunk in chunks])

    def _file(self, path: bytes) -> Entry:
        entry = self._entry(path)
        if entry.kind is FileKind.DIRECTORY:
            raise errors.FileError(f"a directory: {path!r}", reason="is_a_directory")
        return entry

    def _entry(self, path: bytes) -> Entry:
        if path not in self.content and path not in self.directories:
            raise errors.FileNotFound(f"no file {path!r}")
        kind = FileKind.DIRECTORY if path in self.directories else FileKind.FILE
        size = len(self.content.get(path, b""))
        changed = self.changed_ns.get(path, 0)
        name = path.rpartition(b"/")[2]
        return Entry(name, path, kind, size, 0o644, 0, 0, b"root", b"root", changed, None)


def _absolute(path: str | bytes) -> bytes:
    raw = path.encode("utf-8", "surrogateescape") if isinstance(path, str) else path
    return raw if raw.startswith(b"/") else b"/workspace/" + raw


@dataclass(frozen=True)
class Answered:
    """A whole answer."""

    status: int
    headers: Mapping[bytes, bytes]
    body: bytes

    @property
    def json(self) -> Any:
        assert self.headers[b"content-type"] == b"application/json; charset=utf-8"
        return msgspec.json.decode(self.body)

    @property
    def code(self) -> str:
        """The code of an error, whose form is checked on the way."""
        error = self.json["error"]
        assert error.keys() - {"reason"} == {"code", "message", "retryable", "requestId"}
        assert error["requestId"].encode() == self.headers[b"x-request-id"]
        return str(error["code"])


@dataclass
class Exchange:
    """One request and what came back so far. The client goes away when `gone` is set."""

    body: list[bytes]
    gone: asyncio.Event = field(default_factory=asyncio.Event)
    sent: list[Message] = field(default_factory=list)
    progress: asyncio.Event = field(default_factory=asyncio.Event)
    ends_body: bool = True
    writable: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.writable.set()

    async def receive(self) -> Message:
        if self.body:
            chunk = self.body.pop(0)
            return {
                "type": "http.request",
                "body": chunk,
                "more_body": bool(self.body) or not self.ends_body,
            }
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        await self.writable.wait()
        self.sent.append(message)
        self.progress.set()

    async def wait_sent(self, count: int) -> None:
        while len(self.sent) < count:
            self.progress.clear()
            await self.progress.wait()

    @property
    def content(self) -> bytes:
        return b"".join(message.get("body", b"") for message in self.sent)


class Client:
    """Calls the application as a server would."""

    def __init__(
        self,
        engine: MemoryEngine | None = None,
        *,
        settings: ApiSettings | None = None,
        scopes: frozenset[KeyScope] = ALL_SCOPES,
    ) -> None:
        self.engine = engine or MemoryEngine()
        key = make_key(KEY, created_at=datetime.now(UTC), scopes=scopes)
        # The one place where the memory engine stands in for the real one.
        self.keys = Keys([key])
        self.app: ASGIApp = build_app(
            cast(Engine, self.engine),
            settings or ApiSettings(),
            self.keys,
            self.engine.clock,
            CollectorRegistry(),
        )

    async def request(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        headers: Mapping[str, str] | None = None,
        key: str | None = KEY,
    ) -> Answered:
        exchange = Exchange(
            [
                body
                if isinstance(body, bytes)
                else b""
                if body is None
                else msgspec.json.encode(body)
            ]
        )
        await self.app(
            make_scope(method, path, headers or {}, key), exchange.receive, exchange.send
        )
        return answered(exchange)

    async def call(self, scope: Scope, exchange: Exchange) -> None:
        """One request, as slowly as its exchange."""
        await self.app(scope, exchange.receive, exchange.send)

    async def create(self, **fields: Any) -> SandboxId:
        answer = await self.request("POST", "/v1/sandboxes", {"image": "host", **fields})
        assert answer.status == 201, answer.body
        return SandboxId(answer.json["id"])


def answered(exchange: Exchange) -> Answered:
    start, *rest = exchange.sent
    assert start["type"] == "http.response.start"
    assert not rest[-1].get("more_body", False)
    return Answered(start["status"], dict(start["headers"]), exchange.content)


def make_scope(method: str, path: str, headers: Mapping[str, str], key: str | None) -> Scope:
    bare, _, query = path.partition("?")
    given: Iterable[tuple[str, str]] = {"content-type": "application/json", **headers}.items()
    pairs = [(name.lower().encode(), value.encode("latin-1")) for name, value in given]
    if key is not None:
        pairs.append((b"authorization", f"Bearer {key}".encode("latin-1")))
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": bare,
        "raw_path": bare.encode(),
        "query_string": query.encode("ascii"),
        "root_path": "",
        "headers": pairs,
        "client": None,
        "server": None,
        "state": {},
    }
