# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

import atoll
from atoll import AsyncAtoll, Secret, SecretInfo
from tests.support.scripted_server import ScriptedServer, answer_json
from tests.unit.sdk import samples

pytestmark = pytest.mark.anyio

SENT = {"value": "sk-1", "hosts": ["a.test"], "header": None}


@pytest.mark.parametrize("secret", [Secret("sk-1", hosts=["a.test"]), SENT])
async def test_secret_is_said_as_a_record_or_a_mapping(
    client: AsyncAtoll, scripted: ScriptedServer, secret: Secret
) -> None:
    shown = {"KEY": {"hosts": ["a.test"], "header": None}}
    scripted.script.append(answer_json(samples.sandbox(secrets=shown), 201))

    sandbox = await client.sandboxes.create("host", network="allow", secrets={"KEY": secret})

    assert scripted.asked[0].json["secrets"] == {"KEY": SENT}
    assert sandbox.info.secrets == {"KEY": SecretInfo(["a.test"])}


async def test_what_is_no_mapping_of_secrets_is_not_sent(
    client: AsyncAtoll, scripted: ScriptedServer
) -> None:
    with pytest.raises(atoll.InvalidConfig, match="secrets must be a mapping") as raised:
        await client.sandboxes.create("host", secrets=["sk-1"])  # type: ignore[arg-type]  # wrong on purpose

    assert "sk-1" not in str(raised.value)
    assert scripted.asked == []


def test_secret_is_printed_without_its_value() -> None:
    assert repr(Secret("sk-1", hosts=["a.test"])) == "Secret(hosts=['a.test'], header=None)"
