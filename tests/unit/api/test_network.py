# SPDX-License-Identifier: Apache-2.0
"""Network policies over HTTP."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.api.memory import Client

pytestmark = pytest.mark.anyio

POLICY = {"egress": {"default": "deny", "allow": ["A.test", "*.b.test:22", "93.184.216.0/24"]}}
SHOWN = {
    "egress": {
        "default": "deny",
        "allow": ["a.test:80,443", "*.b.test:22", "93.184.216.0/24"],
        "deny": [],
    },
    "ingress": None,
}


async def create(client: Client, network: object = POLICY) -> Any:
    return await client.request("POST", "/v1/sandboxes", {"image": "host", "network": network})


async def test_policy_is_shown_as_it_was_understood() -> None:
    answer = await create(Client())

    assert answer.status == 201
    assert answer.json["network"] == SHOWN


async def test_policy_that_names_no_default_denies() -> None:
    answer = await create(Client(), {"egress": {"allow": []}})

    assert answer.json["network"]["egress"]["default"] == "deny"


@pytest.mark.parametrize(
    "network",
    [
        {"egress": {"allow": ["https://a.test"]}},
        {"egress": {"allow": ["10.0.0.1/8"]}},
        {"egress": {"default": "none", "allow": ["a.test"]}},
        {"egress": {"default": "open"}},
        {"egress": {"allow": "a.test"}},
        {"egress": {"permit": []}},
        {"egress": {"allow": ["a.test"] * 257}},
        {"outgoing": {}},
        {"ingress": {"ports": [3000]}},
        {"ingress": {"allowPorts": [80]}},
        {"ingress": {"allowPorts": [70000]}},
        {"ingress": {"allowPorts": ["3000"]}},
        {"ingress": {"allowPorts": [3000] * 101}},
        "allow",
    ],
)
async def test_policy_that_is_not_understood_is_refused(network: object) -> None:
    client = Client()

    answer = await create(client, network)

    assert (answer.status, answer.json["error"]["code"]) == (400, "INVALID_CONFIG")


async def test_policy_is_replaced_as_a_whole() -> None:
    client = Client()
    sandbox_id = (await create(client)).json["id"]
    path = f"/v1/sandboxes/{sandbox_id}/network"

    answer = await client.request("PUT", path, {"egress": {"default": "allow", "deny": ["c.test"]}})

    assert answer.json["network"]["egress"] == {
        "default": "allow",
        "allow": [],
        "deny": ["c.test:*"],
    }


async def test_report_tells_what_was_refused() -> None:
    client = Client()
    sandbox_id = (await create(client)).json["id"]

    answer = await client.request("GET", f"/v1/sandboxes/{sandbox_id}/network")

    assert answer.json["network"] == SHOWN
    assert answer.json["denied"] == {"not_listed": 2}
    assert answer.json["denials"][0]["destination"] == "b.test"


async def test_sandbox_without_a_network_gets_none_later() -> None:
    client = Client()
    sandbox_id = (await create(client, None)).json["id"]

    answer = await client.request("PUT", f"/v1/sandboxes/{sandbox_id}/network", POLICY)

    assert answer.json["error"]["code"] == "INVALID_CONFIG"


async def test_ports_that_may_be_exposed_are_shown_in_order() -> None:
    answer = await create(Client(), {"ingress": {"allowPorts": [8080, 3000, 8080]}})

    assert answer.status == 201
    assert answer.json["network"]["ingress"] == {"allowPorts": [3000, 8080]}
    assert answer.json["network"]["egress"]["default"] == "deny"


async def test_ports_that_may_be_exposed_are_shown_without_a_network() -> None:
    network = {"egress": {"default": "none"}, "ingress": {"allowPorts": []}}
    answer = await create(Client(), network)

    assert answer.json["network"]["egress"]["default"] == "none"
    assert answer.json["network"]["ingress"] == {"allowPorts": []}


async def test_ports_that_may_be_exposed_stay_as_they_were_said_first() -> None:
    client = Client()
    sandbox_id = (await create(client, {"ingress": {"allowPorts": [3000]}})).json["id"]
    path = f"/v1/sandboxes/{sandbox_id}/network"

    refused = await client.request("PUT", path, {"ingress": {"allowPorts": [3001]}})
    changed = await client.request("PUT", path, {"egress": {"default": "allow"}})

    assert refused.json["error"]["code"] == "INVALID_CONFIG"
    assert changed.json["network"]["ingress"] == {"allowPorts": [3000]}
