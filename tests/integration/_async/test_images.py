# SPDX-License-Identifier: Apache-2.0
"""Sandboxes of images that the operator configured: item 20 of the checklist."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from atoll import AsyncAtoll, AsyncSandbox, InvalidConfig
from tests.support.concurrency import async_at_once
from tests.support.server import HOUR_MS, ServerProcess
from tests.support.trees import describe_tree


@pytest.fixture(scope="module")
async def client(image_server: ServerProcess) -> AsyncIterator[AsyncAtoll]:
    async with AsyncAtoll(api_url=image_server.url, api_key=image_server.api_key) as client:
        yield client


@pytest.fixture(scope="module")
async def sandbox(client: AsyncAtoll, runtime: str) -> AsyncIterator[AsyncSandbox]:
    async with await client.sandboxes.create(
        "example.org/tree:1", runtime=runtime, disk_mb=5120, timeout_ms=HOUR_MS
    ) as sandbox:
        yield sandbox


async def test_different_images_are_created_in_parallel(client: AsyncAtoll, runtime: str) -> None:
    """Item 20."""

    async def look(image: str) -> tuple[str, str]:
        async with await client.sandboxes.create(image, runtime=runtime) as sandbox:
            shown = await sandbox.exec(["/bin/sh", "-c", "cat /image 2>/dev/null || echo none"])
            return sandbox.image, shown.stdout

    images = ["host", "python:3.12", "example.org/tree:1"] * 4
    seen = await async_at_once(
        [lambda image=image: look(image) for image in images],  # type: ignore[misc] # bound now
        at_most=10,
    )

    held = {"host": "none\n", "python:3.12": "none\n", "example.org/tree:1": "a tree\n"}
    assert seen == [(image, held[image]) for image in images]


async def test_what_a_sandbox_writes_stays_in_it(
    client: AsyncAtoll, runtime: str, image_tree: Path
) -> None:
    before = describe_tree(image_tree)

    async with await client.sandboxes.create("example.org/tree:1", runtime=runtime) as sandbox:
        await sandbox.exec(
            "rm /bin/cat && echo new >/image && mkdir /new /etc/new && touch /bin/sh /run/new"
            " && echo x >>/etc/passwd && rm -r /bin/ls /lib64",
            check=True,
        )
        written = await sandbox.files.read("/image")
    async with await client.sandboxes.create("example.org/tree:1", runtime=runtime) as other:
        fresh = await other.files.read("/image")

    assert (written, fresh) == (b"new\n", b"a tree\n")
    assert describe_tree(image_tree) == before


async def test_its_own_users_count(sandbox: AsyncSandbox) -> None:
    result = await sandbox.exec("id -u; cat /etc/passwd", user="tree", check=True)

    assert result.stdout.splitlines()[0] == "1234"
    assert "/bin/bash" not in result.stdout


async def test_what_it_lacks_is_there(sandbox: AsyncSandbox) -> None:
    places = "/workspace /proc/self /sys /dev/null /etc/hosts /var/tmp /home/user /run/atoll"

    result = await sandbox.exec(f"echo >/dev/null && ls -d {places}", check=True)

    assert result.stdout.split() == sorted(places.split())


async def test_its_directories_are_within_the_disk_limit(sandbox: AsyncSandbox) -> None:
    """gVisor puts a file system of the host's size over a `/tmp` that is empty."""
    result = await sandbox.exec("df --output=size -m / /tmp /var/tmp /workspace", check=True)

    sizes = [int(size) for size in result.stdout.split()[1:]]
    assert [4700 < size <= 5120 for size in sizes] == [True] * 4, sizes


async def test_an_unknown_image_is_answered_with_those_there_are(
    client: AsyncAtoll, runtime: str
) -> None:
    with pytest.raises(InvalidConfig, match=r"'host', 'python:3\.12', 'example\.org/tree:1'"):
        await client.sandboxes.create("python:3.13", runtime=runtime)


async def test_images_are_listed_with_what_they_are(client: AsyncAtoll) -> None:
    images = [(image.name, image.kind, image.alias_of) for image in await client.images()]

    assert images == [
        ("host", "host", None),
        ("python:3.12", "alias", "host"),
        ("example.org/tree:1", "directory", None),
    ]
