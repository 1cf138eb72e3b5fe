# SPDX-License-Identifier: Apache-2.0
"""The ways to say what a sandbox may reach, made one."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from .errors import InvalidConfig
from .models import Egress, EgressDefault, Ingress, Network

NetworkPolicy = str | EgressDefault | Egress | Network | Mapping[str, Any]
"""`"none"`, `"deny"` or `"allow"`, an `Egress`, a `Network`, or a mapping with the fields of either."""


def render_network(policy: NetworkPolicy) -> dict[str, Any]:
    """The fields of a `Network`. Raises `InvalidConfig` for what is no policy."""
    if isinstance(policy, str):
        return {"egress": {"default": str(getattr(policy, "value", policy))}}
    given = _fields_of(policy)
    if not given.keys() & {"egress", "ingress"}:
        return {"egress": _checked("egress", Egress, given)}
    given = _checked("network", Network, given)
    rendered: dict[str, Any] = {
        "egress": _checked("egress", Egress, _fields_of(given.get("egress", {})))
    }
    if given.get("ingress") is not None:
        ingress = _checked("ingress", Ingress, _fields_of(given["ingress"]))
        rendered["ingress"] = Ingress(**ingress)
    return rendered


def _fields_of(given: Any) -> Mapping[str, Any]:
    if isinstance(given, Egress | Ingress | Network):
        return {field.name: getattr(given, field.name) for field in dataclasses.fields(given)}
    if not isinstance(given, Mapping):
        raise InvalidConfig(f"network: it is a text or a mapping, not {type(given).__name__}")
    return given


def _checked(what: str, record: type[Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """The fields by their Python names; those of the wire are taken, too."""
    known = {field.name: field.name for field in dataclasses.fields(record)}
    names = known | {"allowPorts": "allow_ports"} if record is Ingress else known
    unknown = sorted(str(name) for name in given.keys() - names.keys())
    if unknown:
        raise InvalidConfig(f"{what}: unknown {', '.join(unknown)}; known are {', '.join(known)}")
    return {names[name]: getattr(value, "value", value) for name, value in given.items()}
