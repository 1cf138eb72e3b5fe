# SPDX-License-Identifier: Apache-2.0
"""API keys through the client: item 88 of the checklist."""

from __future__ import annotations

import pytest

from atoll import (
    AsyncAtoll,
    AsyncSandbox,
    Forbidden,
    InvalidRequest,
    KeyNotFound,
    KeySource,
    Unauthorized,
)
from tests.support.server import ServerProcess


async def test_a_key_that_only_reads_lists_and_gets_and_changes_nothing(
    server: ServerProcess, client: AsyncAtoll, sandbox: AsyncSandbox
) -> None:
    """Item 88."""
    made = await client.keys.create("reader", scopes="sandbox:read")
    async with AsyncAtoll(server.url, made.key) as reader:
        seen = await reader.sandboxes.get(sandbox.id)
        total = (await reader.sandboxes.list()).total

        with pytest.raises(Forbidden):
            await reader.sandboxes.create("host")
        with pytest.raises(Forbidden):
            await seen.exec("touch /tmp/ran")
        with pytest.raises(Forbidden):
            await seen.exec("touch /tmp/ran", on_stdout=len)
        with pytest.raises(Forbidden):
            await seen.files.write("/tmp/ran", "")
        with pytest.raises(Forbidden):
            await seen.terminate()
        with pytest.raises(Forbidden):
            await reader.keys.create(scopes="sandbox:read")

        assert (await reader.sandboxes.list()).total == total
    await client.keys.delete(made.id)
    assert not await sandbox.files.exists("/tmp/ran")
    assert (await client.sandboxes.get(sandbox.id)).state == "running"


async def test_keys_are_made_listed_and_withdrawn(
    server: ServerProcess, client: AsyncAtoll
) -> None:
    made = await client.keys.create("ci", scopes=["sandbox:read", "sandbox:files"])
    listed = {key.id: key for key in await client.keys.list()}
    await client.keys.delete(made.id)

    assert made.key is not None
    assert made.key not in repr(made)
    assert listed[made.id].key is None
    assert listed[made.id].scopes == ["sandbox:files", "sandbox:read"]
    assert [key.source for key in listed.values()][:1] == [KeySource.SETTINGS]
    async with AsyncAtoll(server.url, made.key) as late:
        with pytest.raises(Unauthorized):
            await late.sandboxes.list()
    with pytest.raises(KeyNotFound):
        await client.keys.delete(made.id)


@pytest.mark.parametrize("scopes", ["read", ["sandbox:read", "nonsense"]])
async def test_scopes_that_are_none_are_refused(client: AsyncAtoll, scopes: str) -> None:
    with pytest.raises(InvalidRequest, match="sandbox:read"):
        await client.keys.create(scopes=scopes)


@pytest.mark.parametrize("scopes", ["", []])
async def test_key_without_scopes_is_refused(client: AsyncAtoll, scopes: str) -> None:
    with pytest.raises(InvalidRequest, match="`scopes` must have 1 to 32 entries"):
        await client.keys.create(scopes=scopes)
