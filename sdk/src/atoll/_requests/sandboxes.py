# SPDX-License-Identifier: Apache-2.0
"""Requests about sandboxes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .. import _wire
from .._policies import NetworkPolicy, render_network
from ..models import CreateSandbox, Network, SandboxState
from .base import (
    CREATE_SECONDS,
    JSON,
    JSON_BODY,
    PAGE_SIZE,
    Request,
    Resend,
    plain_word,
    post,
    sandbox_target,
    with_query,
)


def create_sandbox(values: Mapping[str, Any]) -> Request:
    return post(
        "/v1/sandboxes",
        _wire.encode(CreateSandbox, values),
        resend=Resend.REFUSED,
        wait=CREATE_SECONDS,
    )


def get_sandbox(sandbox_id: str) -> Request:
    return Request(b"GET", sandbox_target(sandbox_id))


def list_sandboxes(
    *,
    state: SandboxState | str | None,
    metadata: Mapping[str, str] | None,
    limit: int | None,
    offset: int | None,
) -> Request:
    query = {
        "state": None if state is None else plain_word(state),
        "limit": PAGE_SIZE if limit is None else limit,
        "offset": offset,
    }
    query.update({f"metadata[{key}]": value for key, value in (metadata or {}).items()})
    return Request(b"GET", with_query("/v1/sandboxes", query))


def get_metrics(sandbox_id: str) -> Request:
    return Request(b"GET", sandbox_target(sandbox_id) + "/metrics")


def get_network(sandbox_id: str) -> Request:
    return Request(b"GET", sandbox_target(sandbox_id) + "/network")


def set_network(sandbox_id: str, policy: NetworkPolicy) -> Request:
    body = _wire.encode(Network, render_network(policy))
    return Request(b"PUT", sandbox_target(sandbox_id) + "/network", (JSON, JSON_BODY), body)


def terminate_sandbox(sandbox_id: str) -> Request:
    return Request(b"DELETE", sandbox_target(sandbox_id))
