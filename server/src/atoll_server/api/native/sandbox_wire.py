# SPDX-License-Identifier: Apache-2.0
"""Between the wire's records of sandboxes and the engine's."""

from __future__ import annotations

from dataclasses import dataclass, field

from atoll.models import (
    CreateSandbox,
    Pagination,
    Resources,
    Runtime,
    SandboxInfo,
    SandboxMetrics,
    SandboxPage,
    SandboxState,
)
from atoll_server.api.native.network_wire import parse_ingress, parse_network, render_network
from atoll_server.api.native.secret_wire import parse_secrets, render_secrets
from atoll_server.api.native.values import render_instant
from atoll_server.api.settings import ApiSettings
from atoll_server.engine.errors import InvalidConfig
from atoll_server.engine.limits import choose_limits
from atoll_server.engine.model import (
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
