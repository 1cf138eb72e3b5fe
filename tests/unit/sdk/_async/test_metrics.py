# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

import atoll
from atoll import AsyncAtoll
from tests.support.scripted_server import Answer, ScriptedServer, answer_json
from tests.unit.sdk import samples

pytestmark = pytest.mark.anyio


async def test_what_a_sandbox_uses(client: AsyncAtoll, scripted: ScriptedServer) -> None:
    scripted.script += [
        answer_json(samples.sandbox()),
        answer_json(samples.metrics(cpuLimit=0.5, somethingNew=1)),
    ]

    sandbox = await client.sandboxes.get("sb_0123456789")
    metrics = await sandbox.metrics()

    assert scripted.asked[1].target == "/v1/sandboxes/sb_0123456789/metrics"
    assert (metrics.cpu_ms, metrics.cpu_limit, metrics.memory_peak_bytes) == (1500, 0.5, None)
    assert metrics.network_sent_bytes is None


@pytest.mark.parametrize("limit", ["NaN", "Infinity", "1e999", "true", '"2"', "null"])
async def test_what_is_no_number_is_no_limit(
    client: AsyncAtoll, scripted: ScriptedServer, limit: str
) -> None:
    body = answer_json(samples.metrics(cpuLimit=12345)).body.replace(b"12345", limit.encode())
    scripted.script += [
        answer_json(samples.sandbox()),
        Answer(headers={"Content-Type": "application/json"}, body=body),
    ]
    sandbox = await client.sandboxes.get("sb_0123456789")

    with pytest.raises(atoll.ProtocolError):
        await sandbox.metrics()
