# SPDX-License-Identifier: Apache-2.0
"""Between the wire's records of a sandbox's network and the engine's."""

from __future__ import annotations

from atoll.models import Egress, EgressDefault, Ingress, Network, NetworkDenial, NetworkReport
from atoll_server.engine.errors import InvalidConfig, InvalidPort
from atoll_server.engine.exposures import check_exposable
from atoll_server.engine.model import Sandbox, SandboxSpec
from atoll_server.network.control import Report
from atoll_server.network.policy import Policy
from atoll_server.network.written import InvalidPolicy, parse_policy, render_rules


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


def parse_ingress(body: Network | None) -> tuple[int, ...] | None:
    """The ports that may be exposed, None for all."""
    if body is None or body.ingress is None:
        return None
    try:
        for port in body.ingress.allow_ports:
            check_exposable(port)
    except InvalidPort as error:
        raise InvalidConfig(f"`network.ingress.allowPorts`: {error}") from None
    return tuple(sorted(set(body.ingress.allow_ports)))
