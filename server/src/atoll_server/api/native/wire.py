# SPDX-License-Identifier: Apache-2.0
"""Between the wire's records and the engine's: one function a noun and direction, the two next to each other."""

from __future__ import annotations

import base64
import binascii
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from atoll.models import (
    CreateSandbox,
    Egress,
    EgressDefault,
    ExecRequest,
    ExecResult,
    FileContent,
    FileEntry,
    FileList,
    FileType,
    FileWritten,
    Ingress,
    KeyInfo,
    KeyList,
    KeySource,
    Network,
    NetworkDenial,
    NetworkReport,
    Pagination,
    Resources,
    Runtime,
    SandboxInfo,
    SandboxMetrics,
    SandboxPage,
    SandboxState,
    StartProcess,
)
from atoll_server.api.native.network_wire import parse_ingress
from atoll_server.api.native.secret_wire import parse_secrets, render_secrets
from atoll_server.api.records import render_builtins
from atoll_server.api.routing import ApiSettings
from atoll_server.engine import keys
from atoll_server.engine.errors import InvalidConfig, InvalidRequest
from atoll_server.engine.keys import ApiKey
from atoll_server.engine.limits import choose_limits
from atoll_server.engine.model import (
    Command,
    Completed,
    Entry,
    Exit,
    Listing,
    Page,
    RuntimeKind,
    Sandbox,
    SandboxFilter,
    SandboxSpec,
    State,
    Usage,
    Written,
)
from atoll_server.engine.paths import MAX_PATH_BYTES
from atoll_server.network.control import Report
from atoll_server.network.policy import NO_NETWORK, Policy
from atoll_server.network.written import InvalidPolicy, parse_policy, render_rules

# What JSON writes with six characters for one.
ESCAPED_AT_LENGTH = bytes(set(range(0x20)) - set(b"\b\t\n\f\r"))


@dataclass(frozen=True)
class ListQuery:
    """The query of `GET /v1/sandboxes`."""

    state: SandboxState | None = field(
        default=None, metadata={"description": "only sandboxes in this state"}
    )
    limit: int = field(default=20, metadata={"description": "at most so many", "ge": 1, "le": 100})
    offset: int = field(
        default=0, metadata={"description": "leave out so many", "ge": 0, "le": 2**31 - 1}
    )
    metadata: dict[str, str] = field(
        default_factory=dict,
        metadata={
            "description": "only those with all of these labels, each as `metadata[key]=value`",
            "max_items": 20,
        },
    )


def parse_spec(body: CreateSandbox, settings: ApiSettings) -> SandboxSpec:
    image = body.image if body.image is not None else settings.default_image
    if image is None:
        raise InvalidConfig(
            "`image` is missing and this server has no default: say which, e.g. `host`"
        )
    if body.timeout_ms > settings.max_lifetime_ms:
        raise InvalidConfig(
            f"`timeoutMs` must be at most {settings.max_lifetime_ms} on this server"
        )
    network = settings.default_network if body.network is None else parse_network(body.network)
    return SandboxSpec(
        image=image,
        limits=choose_limits(settings.limits, **vars(body.resources)),
        env=body.env,
        workdir=body.workdir,
        lifetime=body.timeout_ms / 1000,
        idle_timeout=body.idle_timeout_ms / 1000,
        metadata=body.metadata,
        runtime=None if body.runtime is Runtime.AUTO else RuntimeKind(body.runtime.value),
        exposable=parse_ingress(body.network),
        network=network,
        secrets=parse_secrets(body, network),
    )


def parse_network(body: Network) -> Policy:
    egress = body.egress
    try:
        return parse_policy(
            {"default": egress.default.value, "allow": egress.allow, "deny": egress.deny}
        )
    except InvalidPolicy as error:
        raise InvalidConfig(f"`network.egress`: {error}") from None


def parse_network_change(body: Network) -> Policy:
    if body.ingress is not None:
        raise InvalidConfig(
            "`network.ingress` is said when a sandbox is created, and cannot be changed: leave it out"
        )
    return parse_network(body)


def render_network(spec: SandboxSpec) -> Network:
    policy, exposable = spec.network, spec.exposable
    default = EgressDefault(policy.default.value)
    egress = Egress(default, render_rules(policy.allow), render_rules(policy.deny))
    return Network(egress, None if exposable is None else Ingress(list(exposable)))


def render_network_report(sandbox: Sandbox, report: Report) -> NetworkReport:
    counted = report.statistics
    return NetworkReport(
        network=render_network(sandbox.spec),
        open_connections=counted.open_connections,
        connections=counted.connections,
        queries=counted.queries,
        sent_bytes=counted.bytes_sent,
        received_bytes=counted.bytes_received,
        denied=counted.denied,
        denials=[NetworkDenial(**denial) for denial in report.denials],
    )


def render_sandbox(sandbox: Sandbox) -> SandboxInfo:
    spec = sandbox.spec
    has_network = spec.network != NO_NETWORK or spec.exposable is not None
    return SandboxInfo(
        id=sandbox.id,
        state=SandboxState(sandbox.state.value),
        image=spec.image,
        runtime=Runtime(sandbox.runtime.value),
        isolation=sandbox.isolation,
        resources=Resources(**vars(spec.limits)),
        env=dict(spec.env),
        metadata=dict(spec.metadata),
        workdir=spec.workdir,
        timeout_ms=round(spec.lifetime * 1000),
        idle_timeout_ms=round(spec.idle_timeout * 1000),
        created_at=render_instant(sandbox.created_at),
        started_at=render_instant(sandbox.started_at) if sandbox.started_at else None,
        paused_at=render_instant(sandbox.paused_at) if sandbox.paused_at else None,
        terminated_at=render_instant(sandbox.terminated_at) if sandbox.terminated_at else None,
        reason=sandbox.cause.value if sandbox.cause else None,
        detail=sandbox.detail,
        network=render_network(spec) if has_network else None,
        secrets=render_secrets(spec.secrets),
    )


def render_usage(usage: Usage) -> SandboxMetrics:
    return SandboxMetrics(
        cpu_ms=round(usage.cpu * 1000),
        cpu_throttled_ms=round(usage.cpu_throttled * 1000),
        cpu_limit=usage.cpu_limit,
        memory_bytes=usage.memory,
        memory_held_bytes=usage.memory_held,
        memory_peak_bytes=usage.memory_peak,
        memory_limit_bytes=usage.memory_limit,
        processes=usage.processes,
        processes_limit=usage.processes_limit,
        disk_bytes=usage.disk,
        disk_limit_bytes=usage.disk_limit,
        oom_kills=usage.oom_kills,
        uptime_ms=round(usage.uptime * 1000),
    )


def parse_filter(query: ListQuery) -> SandboxFilter:
    return SandboxFilter(
        state=State(query.state.value) if query.state else None,
        metadata=query.metadata,
        limit=query.limit,
        offset=query.offset,
    )


def render_page(page: Page, wanted: SandboxFilter) -> SandboxPage:
    return SandboxPage(
        data=[render_sandbox(sandbox) for sandbox in page.items],
        pagination=Pagination(
            total=page.total,
            limit=wanted.limit,
            offset=wanted.offset,
            has_more=wanted.offset + len(page.items) < page.total,
        ),
    )


def parse_command(body: ExecRequest, settings: ApiSettings) -> Command:
    if body.timeout_ms > settings.max_command_timeout_ms:
        raise InvalidRequest(
            f"`timeoutMs` must be at most {settings.max_command_timeout_ms} on this server"
        )
    return parse_what_to_run(body, body.timeout_ms)


def parse_what_to_run(body: ExecRequest | StartProcess, timeout_ms: int | None) -> Command:
    """What a command and a process have in common."""
    if not body.command and body.command != "":
        raise InvalidRequest("`command` must name a program: the list is empty")
    if body.user is not None and body.run_as is not None and body.user != body.run_as:
        raise InvalidRequest("`user` and `runAs` mean the same; give one")
    return Command(
        line=body.command if isinstance(body.command, str) else tuple(body.command),
        cwd=body.cwd,
        env=body.env,
        user=body.user if body.user is not None else body.run_as,
        # Nothing to read and no input are the same to a command: the end of the file at once.
        stdin=parse_content("stdin", body.stdin, body.stdin_encoding) if body.stdin else None,
        timeout=None if timeout_ms is None else timeout_ms / 1000,
    )


def render_result(completed: Completed) -> ExecResult:
    return _result(
        completed.exit,
        stdout=completed.stdout.decode("utf-8", "replace"),
        stderr=completed.stderr.decode("utf-8", "replace"),
        truncated=completed.truncated,
    )


def render_exit(ended: Exit) -> Mapping[str, Any]:
    """The end of a streamed command: a result whose output has been sent already."""
    return render_builtins(_result(ended, stdout="", stderr="", truncated=False))


def _result(ended: Exit, *, stdout: str, stderr: str, truncated: bool) -> ExecResult:
    code, signal_name = render_end(ended.code, ended.signal, timed_out=ended.timed_out)
    return ExecResult(
        stdout=stdout,
        stderr=stderr,
        exit_code=code,
        signal=signal_name,
        duration_ms=round(ended.duration * 1000),
        timed_out=ended.timed_out,
        oom_killed=ended.oom_killed,
        truncated=truncated,
    )


def render_end(
    code: int | None, number: int | None, *, timed_out: bool
) -> tuple[int | None, str | None]:
    """The exit code and the signal of what has ended."""
    if timed_out and number is None:
        number = int(signal.SIGTERM)  # it took the hint and left by itself
    if number is not None:
        code = 128 + number
    return None if timed_out else code, None if number is None else _signal_name(number)


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"SIG{number}"


def parse_content(name: str, text: str, encoding: str) -> bytes:
    if encoding == "utf-8":
        return text.encode("utf-8")
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise InvalidRequest(f"`{name}` is not base64") from None


def render_content(path: bytes, data: bytes, mode: int) -> FileContent:
    """As text where it is text, else as base64."""
    try:
        content, encoding = data.decode("utf-8"), "utf-8"
    except UnicodeDecodeError:
        content, encoding = base64.b64encode(data).decode("ascii"), "base64"
    return FileContent(
        content=content, encoding=encoding, path=render_path(path), mode=f"{mode:04o}"
    )


def render_compact_content(path: bytes, data: bytes, mode: int) -> FileContent:
    """The same at no more than twice the size of the data: as base64 too where JSON would escape much of it."""
    if data.translate(None, ESCAPED_AT_LENGTH) == data:
        return render_content(path, data, mode)
    content = base64.b64encode(data).decode("ascii")
    return FileContent(content, encoding="base64", path=render_path(path), mode=f"{mode:04o}")


def parse_path(name: str, text: str, encoding: str) -> bytes:
    """A path as it is written in a body, in which names that are not UTF-8 come as base64."""
    raw = parse_content(name, text, encoding)
    if len(raw) > MAX_PATH_BYTES:
        raise InvalidRequest(f"`{name}` must be at most {MAX_PATH_BYTES} bytes; got {len(raw)}")
    return raw


def parse_mode(text: str) -> int:
    """Permission bits; that the text is octal was checked with its record."""
    return int(text, 8)


def render_entry(entry: Entry) -> FileEntry:
    return FileEntry(
        name=render_path(entry.name),
        path=render_path(entry.path),
        type=FileType(entry.kind.value),
        is_directory=entry.kind.value == "directory",
        size_bytes=entry.size,
        mode=f"{entry.mode:04o}",
        uid=entry.uid,
        gid=entry.gid,
        user=None if entry.user is None else render_path(entry.user),
        group=None if entry.group is None else render_path(entry.group),
        modified_at=render_nanoseconds(entry.modified_ns),
        target=None if entry.target is None else render_path(entry.target),
    )


def render_listing(listing: Listing, limit: int) -> FileList:
    entries = [render_entry(entry) for entry in listing.entries]
    pagination = Pagination(total=len(entries), limit=limit, offset=0, has_more=listing.truncated)
    return FileList(data=entries, pagination=pagination, truncated=listing.truncated)


def render_written(written: Written) -> FileWritten:
    return FileWritten(
        path=render_path(written.path), size_bytes=written.size, created=written.created
    )


def parse_scopes(words: Sequence[str]) -> frozenset[keys.Scope]:
    unknown = [word for word in words if word not in keys.SCOPE_WORDS]
    if unknown or not words:
        got = f"got `{unknown[0][:64]}`" if unknown else "got none"
        raise InvalidRequest(f"`scopes` must be of {', '.join(keys.SCOPE_WORDS)}; {got}")
    return keys.parse_scopes(" ".join(words))


def render_key(key: ApiKey, text: str | None = None) -> KeyInfo:
    return KeyInfo(
        id=key.id,
        name=key.name,
        scopes=keys.render_scopes(key.scopes).split(),
        source=KeySource.SETTINGS if key.configured else KeySource.CREATED,
        created_at=None if key.configured else render_instant(key.created_at),
        key=text,
    )


def render_keys(found: Sequence[ApiKey]) -> KeyList:
    pagination = Pagination(total=len(found), limit=keys.KEYS_LIMIT, offset=0, has_more=False)
    return KeyList(data=[render_key(key) for key in found], pagination=pagination)


def render_path(raw: bytes) -> str:
    return raw.decode("utf-8", "replace")


def render_instant(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"


def render_nanoseconds(nanoseconds: int) -> str:
    """A sandbox may give a file any time at all; one that no calendar holds is shown as its nearest end."""
    try:
        return render_instant(datetime.fromtimestamp(nanoseconds / 1e9, UTC))
    except (OverflowError, ValueError, OSError):
        return "9999-12-31T23:59:59.999Z" if nanoseconds > 0 else "0001-01-01T00:00:00.000Z"
