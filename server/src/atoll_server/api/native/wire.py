# SPDX-License-Identifier: Apache-2.0
"""Between the wire's records and the engine's: one function a noun and direction, the two next to each other."""

from __future__ import annotations

import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from atoll.models import (
    CreateSandbox,
    ExecRequest,
    ExecResult,
    KeyInfo,
    KeyList,
    KeySource,
    Pagination,
    Resources,
    Runtime,
    SandboxInfo,
    SandboxMetrics,
    SandboxPage,
    SandboxState,
    StartProcess,
)
from atoll_server.api.native.network_wire import parse_ingress, parse_network, render_network
from atoll_server.api.native.secret_wire import parse_secrets, render_secrets
from atoll_server.api.native.values import parse_content, render_instant
from atoll_server.api.records import render_builtins
from atoll_server.api.routing import ApiSettings
from atoll_server.engine import keys
from atoll_server.engine.errors import InvalidConfig, InvalidRequest
from atoll_server.engine.keys import ApiKey
from atoll_server.engine.limits import choose_limits
from atoll_server.engine.model import (
    Command,
    Completed,
    Exit,
    Page,
    RuntimeKind,
    Sandbox,
    SandboxFilter,
    SandboxSpec,
    State,
    Usage,
)
from atoll_server.network.policy import NO_NETWORK


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
