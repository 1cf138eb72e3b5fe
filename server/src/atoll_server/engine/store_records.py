# SPDX-License-Identifier: Apache-2.0
"""Sandboxes as text, as a store keeps them. What an earlier version has written is read too."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from atoll_server.engine.model import (
    Cause,
    Limits,
    RuntimeKind,
    Sandbox,
    SandboxId,
    SandboxSpec,
    State,
)
from atoll_server.engine.store import Stored
from atoll_server.network.policy import NO_NETWORK
from atoll_server.network.secrets import Secret
from atoll_server.network.written import parse_policy, render_policy


def render_sandbox(sandbox: Sandbox) -> str:
    values = {
        "id": sandbox.id,
        "state": sandbox.state.value,
        "spec": _render_spec(sandbox.spec),
        "runtime": sandbox.runtime.value,
        "isolation": sandbox.isolation,
        "created_at": render_instant(sandbox.created_at),
        "started_at": render_instant(sandbox.started_at),
        "paused_at": render_instant(sandbox.paused_at),
        "terminated_at": render_instant(sandbox.terminated_at),
        "cause": sandbox.cause.value if sandbox.cause else None,
        "detail": sandbox.detail,
    }
    return _compact(values)


def parse_sandbox(record: str) -> Sandbox:
    values = json.loads(record)
    return Sandbox(
        id=SandboxId(values["id"]),
        state=State(values["state"]),
        spec=_parse_spec(values["spec"]),
        runtime=RuntimeKind(values["runtime"]),
        isolation=values["isolation"],
        created_at=datetime.fromisoformat(values["created_at"]),
        started_at=_parse_instant(values["started_at"]),
        paused_at=_parse_instant(values["paused_at"]),
        terminated_at=_parse_instant(values["terminated_at"]),
        cause=Cause(values["cause"]) if values["cause"] else None,
        detail=values["detail"],
    )


def render_host(host: Mapping[str, Any]) -> str:
    """What is on the host of a sandbox, which stands beside its record."""
    return _compact(dict(host))


def parse_stored(record: str, host: str) -> Stored:
    return Stored(sandbox=parse_sandbox(record), host=json.loads(host))


def render_instant(moment: datetime | None) -> str | None:
    return moment.isoformat(timespec="microseconds") if moment else None


def _parse_instant(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None


def _compact(values: dict[str, Any]) -> str:
    return json.dumps(values, separators=(",", ":"))


def _render_spec(spec: SandboxSpec) -> dict[str, Any]:
    limits = spec.limits
    return {
        "image": spec.image,
        "limits": {
            "cpu": limits.cpu,
            "memory_mb": limits.memory_mb,
            "disk_mb": limits.disk_mb,
            "pids": limits.pids,
            "open_files": limits.open_files,
        },
        "env": dict(spec.env),
        "workdir": spec.workdir,
        "lifetime": spec.lifetime,
        "idle_timeout": spec.idle_timeout,
        "metadata": dict(spec.metadata),
        "runtime": spec.runtime.value if spec.runtime else None,
        "network": render_policy(spec.network),
        "secrets": [_render_secret(secret) for secret in spec.secrets],
        "exposable": spec.exposable,
    }


def _parse_spec(values: Mapping[str, Any]) -> SandboxSpec:
    exposable = values.get("exposable")
    return SandboxSpec(
        image=values["image"],
        limits=Limits(**values["limits"]),
        env=values["env"],
        workdir=values["workdir"],
        lifetime=values["lifetime"],
        idle_timeout=values["idle_timeout"],
        metadata=values["metadata"],
        runtime=RuntimeKind(values["runtime"]) if values["runtime"] else None,
        # Records of before there were networks have none.
        network=parse_policy(values.get("network", NO_NETWORK.default.value)),
        secrets=tuple(map(_parse_secret, values.get("secrets", ()))),
        exposable=None if exposable is None else tuple(exposable),
    )


def _render_secret(secret: Secret) -> dict[str, Any]:
    """All but its value, which the store never has in the clear."""
    return {
        "name": secret.name,
        "placeholder": secret.placeholder,
        "hosts": list(secret.hosts),
        "header": secret.header,
    }


def _parse_secret(values: Mapping[str, Any]) -> Secret:
    return Secret(**{**values, "hosts": tuple(values["hosts"])})
