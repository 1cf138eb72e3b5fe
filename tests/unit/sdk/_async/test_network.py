# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Any

import pytest

import atoll
from atoll import AsyncAtoll, AsyncSandbox, Egress, EgressDefault, Ingress, Network
from tests.support.scripted_server import ScriptedServer, answer_json
from tests.unit.sdk import samples

pytestmark = pytest.mark.anyio

SHOWN = {"egress": {"default": "deny", "allow": ["a.test:80,443"], "deny": []}}
REPORT = {
    "network": SHOWN,
    "openConnections": 1,
    "connections": 2,
    "queries": 3,
    "sentBytes": 4,
    "receivedBytes": 5,
    "denied": {"not_listed": 6},
    "denials": [{"destination": "b.test", "port": 443, "reason": "not_listed", "text": "no"}],
}


@pytest.mark.parametrize(
    ("policy", "sent"),
    [
        ("allow", {"default": "allow"}),
        (EgressDefault.NONE, {"default": "none"}),
        ({"allow": ["a.test"]}, {"allow": ["a.test"]}),
        ({"egress": {"deny": ["a.test"]}}, {"deny": ["a.test"]}),
        (Egress(allow=["a.test"]), {"default": "deny", "allow": ["a.test"], "deny": []}),
        (Network(Egress(EgressDefault.ALLOW)), {"default": "allow", "allow": [], "deny": []}),
    ],
)
async def test_policy_is_said_in_several_ways(
    client: AsyncAtoll, scripted: ScriptedServer, policy: Any, sent: dict[str, Any]
) -> None:
    scripted.script.append(answer_json(samples.sandbox(network=SHOWN), 201))

    sandbox = await client.sandboxes.create("host", network=policy)

    assert scripted.asked[0].json["network"] == {"egress": sent}
    assert sandbox.info.network == Network(Egress(allow=["a.test:80,443"]))


@pytest.mark.parametrize(
    "policy",
    [7, ["a.test"], {"permit": []}, {"egress": [], "deny": []}, {"ingress": {"ports": []}}],
)
async def test_what_is_no_policy_is_not_sent(
    client: AsyncAtoll, scripted: ScriptedServer, policy: Any
) -> None:
    with pytest.raises(atoll.InvalidConfig):
        await client.sandboxes.create("host", network=policy)

    assert scripted.asked == []


@pytest.mark.parametrize(
    "policy",
    [
        {"egress": {"default": "allow"}, "ingress": {"allow_ports": [3000]}},
        {"egress": {"default": "allow"}, "ingress": {"allowPorts": [3000]}},
        {"egress": Egress(EgressDefault.ALLOW), "ingress": Ingress([3000])},
        Network(Egress(EgressDefault.ALLOW), Ingress([3000])),
    ],
)
async def test_ports_that_may_be_exposed_are_said_in_several_ways(
    client: AsyncAtoll, scripted: ScriptedServer, policy: Any
) -> None:
    shown = SHOWN | {"ingress": {"allowPorts": [3000]}}
    scripted.script.append(answer_json(samples.sandbox(network=shown), 201))

    sandbox = await client.sandboxes.create("host", network=policy)

    sent = scripted.asked[0].json["network"]
    assert (sent["egress"]["default"], sent["ingress"]) == ("allow", {"allowPorts": [3000]})
    assert sandbox.info.network is not None
    assert sandbox.info.network.ingress == Ingress([3000])


async def test_update_sends_the_whole_policy_and_returns_what_holds(
    sandbox: AsyncSandbox, scripted: ScriptedServer
) -> None:
    scripted.script.append(answer_json(samples.sandbox(network=SHOWN)))

    held = await sandbox.network.update({"allow": ["a.test"]})

    asked = scripted.asked[0]
    assert (asked.method, asked.target) == ("PUT", "/v1/sandboxes/sb_0123456789/network")
    assert asked.json == {"egress": {"allow": ["a.test"]}}
    assert held.egress.allow == ["a.test:80,443"]


async def test_report_is_what_the_server_counted(
    sandbox: AsyncSandbox, scripted: ScriptedServer
) -> None:
    scripted.script.append(answer_json(REPORT))

    report = await sandbox.network.report()

    assert report.denied == {"not_listed": 6}
    assert report.denials[0].destination == "b.test"
    assert (report.sent_bytes, report.received_bytes) == (4, 5)
