# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Any

import pytest

import atoll
from atoll import AsyncAtoll
from tests.support.scripted_server import Answer, ScriptedServer, answer_error, answer_json
from tests.unit.sdk import samples

TEXT = "rra_live_0123456789"
GONE = Answer(status=204)
BUSY = answer_error("RATE_LIMITED", 429, retryable=True, headers={"Retry-After": "0"})


@pytest.mark.parametrize(
    ("scopes", "sent"),
    [
        (None, {}),
        ("sandbox:read", {"scopes": ["sandbox:read"]}),
        ("sandbox:read, sandbox:files", {"scopes": ["sandbox:read", "sandbox:files"]}),
        (("sandbox:read",), {"scopes": ["sandbox:read"]}),
    ],
)
async def test_create_sends_scopes_as_a_list_and_gives_the_text(
    client: AsyncAtoll, scripted: ScriptedServer, scopes: Any, sent: dict[str, Any]
) -> None:
    scripted.script.append(answer_json(samples.key(key=TEXT), 201))

    made = await client.keys.create("ci", scopes=scopes)

    assert scripted.asked[0].json == {"name": "ci", **sent}
    assert (made.key, made.id) == (TEXT, "key_0123456789ab")
    assert TEXT not in repr(made)


async def test_list_gives_all(client: AsyncAtoll, scripted: ScriptedServer) -> None:
    settings = samples.key(source="settings", createdAt=None)
    scripted.script.append(answer_json(samples.keys(settings, samples.key())))

    found = await client.keys.list()

    assert [key.source for key in found] == [atoll.KeySource.SETTINGS, atoll.KeySource.CREATED]
    assert found[0].created_at is None


async def test_delete_names_the_key_and_is_sent_again_when_there_was_no_room(
    client: AsyncAtoll, scripted: ScriptedServer
) -> None:
    scripted.script += [BUSY, GONE]

    await client.keys.delete("key_0123456789ab")

    assert [asked.path for asked in scripted.asked] == ["/v1/keys/key_0123456789ab"] * 2


async def test_delete_of_an_unknown_key_is_key_not_found(
    client: AsyncAtoll, scripted: ScriptedServer
) -> None:
    scripted.script.append(answer_error("KEY_NOT_FOUND", 404))

    with pytest.raises(atoll.KeyNotFound):
        await client.keys.delete("key_0")


@pytest.mark.parametrize("key_id", ["", None, 5, "\ud800"])
async def test_delete_of_what_is_no_id_asks_nothing(
    client: AsyncAtoll, scripted: ScriptedServer, key_id: Any
) -> None:
    with pytest.raises(atoll.InvalidRequest, match="a key id is text"):
        await client.keys.delete(key_id)

    assert scripted.asked == []
