# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
from prometheus_client.parser import text_string_to_metric_families

from atoll_server.engine.keys import SANDBOX_SCOPES, Scope
from atoll_server.engine.model import Cause, RuntimeKind, State
from tests.unit.api.memory import Client

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


async def scrape(client: Client) -> Samples:
    answer = await client.request("GET", "/metrics")
    assert answer.status == 200
    assert answer.headers[b"content-type"].startswith(b"text/plain; version=0.0.4")
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(answer.body.decode())
        for sample in family.samples
    }


def labelled(name: str, **labels: str) -> tuple[str, frozenset[tuple[str, str]]]:
    return name, frozenset(labels.items())


async def test_a_sandbox_tells_what_it_uses_and_may_use() -> None:
    client = Client()
    sandbox_id = await client.create()

    answer = await client.request("GET", f"/v1/sandboxes/{sandbox_id}/metrics")

    assert answer.status == 200
    assert answer.json == {
        "cpuMs": 1500,
        "cpuThrottledMs": 250,
        "cpuLimit": 0.5,
        "memoryBytes": 300,
        "memoryHeldBytes": 200,
        "memoryPeakBytes": None,
        "memoryLimitBytes": 1000,
        "processes": 7,
        "processesLimit": 64,
        "diskBytes": 4096,
        "diskLimitBytes": 8192,
        "oomKills": 2,
        "uptimeMs": 12500,
        "networkReceivedBytes": None,
        "networkSentBytes": None,
    }


async def test_one_that_has_ended_uses_nothing() -> None:
    client = Client()
    sandbox_id = await client.create()
    await client.request("DELETE", f"/v1/sandboxes/{sandbox_id}")

    answer = await client.request("GET", f"/v1/sandboxes/{sandbox_id}/metrics")

    assert (answer.status, answer.code) == (404, "SANDBOX_NOT_FOUND")


async def test_requests_are_counted_by_route_and_status_and_not_by_what_clients_make_up() -> None:
    client = Client()
    sandbox_id = await client.create()
    for _ in range(3):
        await client.request("GET", f"/v1/sandboxes/{sandbox_id}")
    await client.request("GET", "/v1/sandboxes/sb_9999999999")
    await client.request("GET", "/made/up")
    await client.request("FLY", "/v1/health", key=None)

    found = await scrape(client)

    route = "/v1/sandboxes/{id}"
    counted = "atoll_http_requests_total"
    assert found[labelled(counted, method="GET", route=route, status="200")] == 3
    assert found[labelled(counted, method="GET", route=route, status="404")] == 1
    assert found[labelled(counted, method="GET", route="none", status="404")] == 1
    assert found[labelled(counted, method="other", route="none", status="405")] == 1


async def test_sandboxes_are_counted_by_state_and_end() -> None:
    client = Client()
    await client.create()
    broken = await client.create(runtime="container")
    client.engine.change(broken, State.FAILED)
    client.engine.tally.note_ended(RuntimeKind.GVISOR, Cause.TIMEOUT)

    found = await scrape(client)

    assert found[labelled("atoll_sandboxes", state="running", runtime="gvisor")] == 1
    assert found[labelled("atoll_sandboxes", state="failed", runtime="container")] == 1
    assert found[labelled("atoll_sandboxes_created_total", runtime="container")] == 1
    assert found[labelled("atoll_sandboxes_ended_total", cause="timeout", runtime="gvisor")] == 1


async def test_commands_are_counted_by_how_long_they_took() -> None:
    client = Client()
    for seconds in (0.0009, 0.002, 0.002, 400.0):
        client.engine.tally.note_exec(RuntimeKind.CONTAINER, seconds)

    found = await scrape(client)

    def at_most(bound: str) -> float:
        return found[labelled("atoll_exec_seconds_bucket", runtime="container", le=bound)]

    assert [at_most(le) for le in ("0.001", "0.0025", "300", "+Inf")] == [1, 3, 3, 4]
    assert found[labelled("atoll_exec_seconds_count", runtime="container")] == 4
    assert found[labelled("atoll_exec_seconds_sum", runtime="container")] == pytest.approx(400.0049)


async def test_the_pool_and_what_runs_are_told_and_what_has_ended_is_not() -> None:
    client = Client()
    running, ended = await client.create(), await client.create()
    await client.request("DELETE", f"/v1/sandboxes/{ended}")

    found = await scrape(client)

    memory = "atoll_sandbox_memory_bytes"
    assert found[labelled(memory, sandbox=running, runtime="gvisor")] == 300
    assert labelled(memory, sandbox=ended, runtime="gvisor") not in found
    shape = {"image": "host", "runtime": "gvisor", "memory_mb": "4096", "disk_mb": "10240"}
    shape |= {"open_files": "65536", "network": "none"}
    assert found[labelled("atoll_pool_hits_total", **shape)] == 5


async def test_a_key_for_sandboxes_does_not_read_the_servers_numbers() -> None:
    few = Client(scopes=SANDBOX_SCOPES)
    reader = Client(scopes=frozenset({Scope.METRICS}))

    assert (await few.request("GET", "/metrics")).code == "FORBIDDEN"
    assert (await reader.request("GET", "/metrics")).status == 200
    assert (await reader.request("GET", "/v1/sandboxes")).code == "FORBIDDEN"
