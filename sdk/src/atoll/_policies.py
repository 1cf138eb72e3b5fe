# SPDX-License-Identifier: Apache-2.0
"""The ways to say what a sandbox may reach, made one."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from .errors import InvalidConfig
from .models import Egress, EgressDefault, Network

NetworkPolicy = str | EgressDefault | Egress | Network | Mapping[str, Any]
"""`"none"`, `"deny"` or `"allow"`, an `Egress`, a `Network`, or a mapping with the fields of either."""


def render_network(policy: NetworkPolicy) -> dict[str, Any]:
    """The fields of a `Network`. Raises `InvalidConfig` for what is no policy."""
    if isinstance(policy, str):
        return {"egress": {"default": str(getattr(policy, "value", policy))}}
    if isinstance(policy, Network):
        return render_network(policy.egress)
    given = dataclasses.asdict(policy) if isinstance(policy, Egress) else policy
    if not isinstance(given, Mapping):
        raise InvalidConfig(f"network must be a text or a mapping, not {type(policy).__name__}")
    fields = given["egress"] if "egress" in given else given
    if not isinstance(fields, Mapping):
        raise InvalidConfig(f"network: egress must be a mapping, not {type(fields).__name__}")
    known = [field.name for field in dataclasses.fields(Egress)]
    unknown = sorted(str(name) for name in fields.keys() - set(known))
    if unknown or ("egress" in given and len(given) > 1):
        raise InvalidConfig(f"network: unknown {', '.join(unknown)}; known are {', '.join(known)}")
    return {"egress": {name: getattr(value, "value", value) for name, value in fields.items()}}
