# SPDX-License-Identifier: Apache-2.0
"""Watched directories, against the real server: each change once, or word that something was lost."""

from __future__ import annotations

import random
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from functools import partial

import pytest

import atoll
from atoll import AsyncAtoll, AsyncProcess, AsyncSandbox, AsyncWatch, ChangeKind, FileChange
from tests.support.cutter import Cutter
from tests.support.replay import STORM, replay
from tests.support.server import ServerProcess

CREATED, MODIFIED, REMOVED, RENAMED, ATTRIBUTES = (
    ChangeKind.CREATED,
    ChangeKind.MODIFIED,
    ChangeKind.REMOVED,
    ChangeKind.RENAMED,
    ChangeKind.ATTRIBUTES,
)
Told = tuple[ChangeKind, str | None]


@pytest.fixture
async def directory(sandbox: AsyncSandbox, request: pytest.FixtureRequest) -> AsyncIterator[str]:
    """A directory for the test alone."""
    path = f"/tmp/{abs(hash(request.node.name))}"
    await sandbox.files.mkdir(path)
    yield path
    for watch in await sandbox.files.watches():
        await watch.stop()


async def run(sandbox: AsyncSandbox, command: str, directory: str) -> None:
    await sandbox.exec(command, cwd=directory, check=True)


async def look(watch: AsyncWatch) -> list[FileChange]:
    """What is new by now."""
    return [change async for change in watch.changes(follow=False)]


async def take(changes: AsyncGenerator[FileChange, None], count: int) -> list[FileChange]:
    """The next ones, as soon as there are so many."""
    taken: list[FileChange] = []
    async for change in changes:
        taken.append(change)
        if len(taken) == count:
            break
    return taken


def shown(changes: list[FileChange], directory: str) -> list[Told]:
    """Kinds and paths, the paths without what they have in common; writes of one file that follow each other once."""
    told: list[Told] = []
    for change in changes:
        path = None if change.path is None else change.path.removeprefix(directory + "/")
        if (change.kind, path) != (MODIFIED, told[-1][1] if told else None) or (
            told[-1][0] is not MODIFIED
        ):
            told.append((change.kind, path))
    return told


async def test_every_kind_of_change_is_told_in_its_order(
    sandbox: AsyncSandbox, directory: str
) -> None:
    await run(sandbox, "mkdir in out; touch out/from", directory)
    watch = await sandbox.files.watch(f"{directory}/in")

    await run(
        sandbox, "echo 1 > a; chmod 600 a; mv a b; mkdir d; mv ../out/from c", f"{directory}/in"
    )
    await run(
        sandbox,
        "mv c ../out/to; truncate -s 0 b; rm b; rmdir d; cat /etc/passwd",
        f"{directory}/in",
    )
    changes = await look(watch)

    assert shown(changes, f"{directory}/in") == [
        (CREATED, "a"),
        (MODIFIED, "a"),
        (ATTRIBUTES, "a"),
        (RENAMED, "b"),
        (CREATED, "d"),
        (CREATED, "c"),
        (REMOVED, "c"),
        (MODIFIED, "b"),
        (REMOVED, "b"),
        (REMOVED, "d"),
    ]
    renamed = next(change for change in changes if change.kind is RENAMED)
    assert renamed.from_path == f"{directory}/in/a"
    assert {change.path for change in changes if change.is_directory} == {f"{directory}/in/d"}
    assert [change.number for change in changes] == list(range(1, len(changes) + 1))
    assert all(change.at.endswith("Z") for change in changes)


async def test_operations_on_files_are_told_and_not_how_they_are_done(
    sandbox: AsyncSandbox, directory: str
) -> None:
    files = sandbox.files
    await files.mkdir(f"{directory}/sub")
    async with await files.watch(directory, recursive=True) as watch:
        await files.write(f"{directory}/sub/a", b"one")
        await files.write(f"{directory}/sub/a", b"two")
        await files.append(f"{directory}/sub/a", b"three")
        await files.write(f"{directory}/empty", b"")
        await files.copy(f"{directory}/sub/a", f"{directory}/sub/b")
        await files.move(f"{directory}/sub/b", f"{directory}/c")
        await files.remove(f"{directory}/sub", recursive=True)
        changes = await look(watch)

    # Modes and owners are set as well, when exactly is nobody's business.
    told = [change for change in changes if change.kind is not ATTRIBUTES]
    assert shown(told, directory) == [
        (CREATED, "sub/a"),
        (MODIFIED, "sub/a"),
        (CREATED, "empty"),
        (CREATED, "sub/b"),
        (MODIFIED, "sub/b"),
        (RENAMED, "c"),
        (REMOVED, "sub/a"),
        (REMOVED, "sub"),
    ]
    assert watch.ended == "stopped"


async def test_what_is_beneath_is_told_only_when_asked_for(
    sandbox: AsyncSandbox, directory: str
) -> None:
    await run(sandbox, "mkdir -p old/deep", directory)
    flat = await sandbox.files.watch(directory)
    deep = await sandbox.files.watch(directory, recursive=True)

    await run(sandbox, ": > old/deep/a; mkdir new; : > new/b", directory)

    assert shown(await look(flat), directory) == [(CREATED, "new")]
    assert shown(await look(deep), directory) == [
        (CREATED, "old/deep/a"),
        (CREATED, "new"),
        (CREATED, "new/b"),
    ]


async def test_directories_made_in_a_hurry_lose_nothing_and_repeat_nothing(
    sandbox: AsyncSandbox, directory: str
) -> None:
    watch = await sandbox.files.watch(directory, recursive=True)
    loop = "for n in $(seq 200); do mkdir -p $n/a/b/c && echo x > $n/a/b/c/f; done"

    await run(sandbox, loop, directory)
    changes = await look(watch)

    created = [change.path for change in changes if change.kind is CREATED]
    expected = {
        f"{directory}/{n}{beneath}"
        for n in range(1, 201)
        for beneath in ("", "/a", "/a/b", "/a/b/c", "/a/b/c/f")
    }
    assert sorted(map(str, created)) == sorted(expected)
    assert replay(changes).keys() == expected


async def test_a_renamed_directory_reports_its_new_paths(
    sandbox: AsyncSandbox, directory: str
) -> None:
    await run(sandbox, "mkdir -p one/two ../aside", directory)
    watch = await sandbox.files.watch(directory, recursive=True)

    await run(sandbox, "mv one first; : > first/two/a; mv first/two .; : > two/b", directory)
    await run(sandbox, "mv two ../aside/; : > ../aside/two/unseen; : > first/c", directory)

    assert shown(await look(watch), directory) == [
        (RENAMED, "first"),
        (CREATED, "first/two/a"),
        (RENAMED, "two"),
        (CREATED, "two/b"),
        (REMOVED, "two"),
        (CREATED, "first/c"),
    ]


async def test_an_iteration_waits_and_goes_on_where_it_was_left(
    sandbox: AsyncSandbox, directory: str
) -> None:
    async with await sandbox.files.watch(directory) as watch:
        await sandbox.processes.start("sleep 0.3; : > a; sleep 0.3; : > b; : > c", cwd=directory)

        async with aclosing(watch.changes()) as changes:
            first = await take(changes, 1)
        rest = await take(watch.changes(), 2)

    assert shown(first + rest, directory) == [(CREATED, "a"), (CREATED, "b"), (CREATED, "c")]


async def test_two_readers_read_the_same(sandbox: AsyncSandbox, directory: str) -> None:
    mine = await sandbox.files.watch(directory, linger_ms=60_000)
    yours = await sandbox.files.get_watch(mine.id)

    await run(sandbox, ": > a; : > b; rm a", directory)

    first, second = await look(mine), await look(yours)
    assert len(first) == 3
    assert first == second
    assert [change async for change in yours.changes(since=2, follow=False)] == first[2:]
    await mine.refresh()
    assert (mine.first, mine.last, mine.ended) == (1, 3, None)


async def test_watches_are_found_again_and_end_for_everybody(
    sandbox: AsyncSandbox, directory: str
) -> None:
    watch = await sandbox.files.watch(directory, recursive=True)
    (found,) = await sandbox.files.watches()

    await run(sandbox, ": > a", directory)
    follower = found.changes()
    first = await take(follower, 1)
    await watch.stop()
    await watch.stop()
    rest = [change async for change in follower]

    assert (found.id, found.path, found.recursive) == (watch.id, directory, True)
    assert (shown(first, directory), rest) == ([(CREATED, "a")], [])
    assert found.ended == "stopped"
    assert await sandbox.files.watches() == []
    with pytest.raises(atoll.WatchNotFound):
        await sandbox.files.get_watch(watch.id)


@pytest.mark.parametrize("how", ["rm -r {0}", "mv {0} {0}-away"])
async def test_a_watch_ends_with_its_directory(
    sandbox: AsyncSandbox, directory: str, how: str
) -> None:
    await run(sandbox, "mkdir gone; touch gone/a", directory)
    watch = await sandbox.files.watch(f"{directory}/gone")

    await run(sandbox, how.format("gone"), directory)
    changes = [change async for change in watch]
    again = [change async for change in watch.changes(since=0)]

    assert (changes[-1].kind, changes[-1].path) == (REMOVED, f"{directory}/gone")
    assert changes[-1].is_directory
    assert watch.ended == "removed"
    assert again == changes


async def test_names_may_be_any_bytes(sandbox: AsyncSandbox, directory: str) -> None:
    watch = await sandbox.files.watch(f"{directory}/.".encode())

    await sandbox.files.write(f"{directory}/ä\n\x1b[2J b".encode(), b"")
    await sandbox.files.write(directory.encode() + b"/\xff", b"")
    await run(sandbox, r"mkdir $'d\xfe'", directory)
    odd = await sandbox.files.watch(directory.encode() + b"/d\xfe")
    await sandbox.files.write(directory.encode() + b"/d\xfe/a", b"")

    assert shown(await look(watch), directory) == [
        (CREATED, "ä\n\x1b[2J b"),
        (CREATED, "\ufffd"),
        (CREATED, "d\ufffd"),
    ]
    assert shown(await look(odd), directory) == [(CREATED, "d\ufffd/a")]
    assert odd.path == f"{directory}/d\ufffd"


async def test_a_link_leads_to_the_directory_that_is_watched(
    sandbox: AsyncSandbox, directory: str
) -> None:
    await run(sandbox, "mkdir real outside; ln -s real link; ln -s ../outside real/away", directory)
    watch = await sandbox.files.watch(f"{directory}/link", recursive=True)

    await run(sandbox, ": > link/a; : > outside/unseen", directory)

    assert watch.path == f"{directory}/real"
    assert shown(await look(watch), directory) == [(CREATED, "real/a")]


@pytest.mark.parametrize(
    ("path", "error"),
    [
        ("missing", atoll.FileNotFound),
        ("/etc/passwd", atoll.FileError),
        ("/etc/passwd/below", atoll.FileError),
        ("a\0b", atoll.InvalidRequest),
        ("", atoll.InvalidRequest),
    ],
)
async def test_what_cannot_be_watched_says_why(
    sandbox: AsyncSandbox, path: str, error: type[atoll.Error]
) -> None:
    with pytest.raises(error):
        await sandbox.files.watch(path)


async def test_changes_that_are_yet_to_come_cannot_be_skipped(
    sandbox: AsyncSandbox, directory: str
) -> None:
    async with await sandbox.files.watch(directory) as watch:
        with pytest.raises(atoll.InvalidRequest):
            async for _ in watch.changes(since=1):
                pass


async def test_there_is_a_limit_and_stopping_makes_room(
    sandbox: AsyncSandbox, directory: str
) -> None:
    await run(sandbox, "mkdir ended; mkdir -p tree/$(seq -s / 20)", directory)
    ended = await sandbox.files.watch(f"{directory}/ended")
    await run(sandbox, "rmdir ended", directory)
    watches = [await sandbox.files.watch(directory) for _ in range(63)]

    last = await sandbox.files.watch(directory)
    with pytest.raises(atoll.ResourceExhausted):
        await sandbox.files.watch(directory)
    await watches[0].stop()
    for _ in range(5):
        async with await sandbox.files.watch(f"{directory}/tree", recursive=True):
            pass

    found = {watch.id for watch in await sandbox.files.watches()}
    assert found == {watch.id for watch in (*watches[1:], last)}
    assert ended.id not in found


async def storm(sandbox: AsyncSandbox, directory: str, count: int, seed: int) -> AsyncProcess:
    await sandbox.files.write("/tmp/storm.py", STORM)
    command = ["python3", "/tmp/storm.py", directory, str(count), str(seed)]
    return await sandbox.processes.start(command)


async def read_until_over(
    watch: AsyncWatch, process: AsyncProcess, directory: str
) -> list[FileChange]:
    """All changes until the storm is over, and what comes with ending it."""
    changes: list[FileChange] = []
    async for change in watch:
        changes.append(change)
        if change.path is not None and change.path.startswith(f"{directory}/end-"):
            break
    await process.kill()
    return [*changes, *await look(watch)]


async def held(sandbox: AsyncSandbox, directory: str) -> dict[str, bool]:
    entries = await sandbox.files.list(directory, 32)
    return {entry.path: entry.is_directory for entry in entries}


async def test_changes_make_what_is_there(sandbox: AsyncSandbox, directory: str) -> None:
    watch = await sandbox.files.watch(directory, recursive=True)

    process = await storm(sandbox, directory, 3000, seed=1)
    changes = await read_until_over(watch, process, directory)

    assert replay(changes) == await held(sandbox, directory)


@pytest.mark.slow
async def test_a_storm_is_told_whole_or_said_not_to_be(
    sandbox: AsyncSandbox, directory: str
) -> None:
    watch = await sandbox.files.watch(directory, recursive=True)

    process = await storm(sandbox, directory, 50_000, seed=2)
    changes = await read_until_over(watch, process, directory)

    numbers = [change.number for change in changes]
    assert numbers == sorted(set(numbers))
    if not any(change.kind is ChangeKind.OVERFLOW for change in changes):
        assert replay(changes) == await held(sandbox, directory)


async def test_what_nobody_took_in_time_is_said_to_be_lost(
    sandbox: AsyncSandbox, directory: str
) -> None:
    watch = await sandbox.files.watch(directory)
    flood = "seq 9000 | xargs -n 1000 touch; seq 9000 | xargs -n 1000 rm"

    await run(sandbox, flood, directory)
    lost, *kept = await look(watch)

    assert (lost.kind, lost.path) == (ChangeKind.OVERFLOW, None)
    numbers = [change.number for change in (lost, *kept)]
    assert numbers == list(range(lost.number, lost.number + len(kept) + 1))
    assert shown(kept[-1:], directory) == [(REMOVED, "9000")]


async def test_a_connection_may_break_anywhere(
    server: ServerProcess, sandbox: AsyncSandbox, directory: str
) -> None:
    watch = await sandbox.files.watch(directory, recursive=True)
    await run(sandbox, "for n in $(seq 300); do mkdir $n; : > $n/a; mv $n/a $n/b; done", directory)
    expected = await look(watch)

    # Answers that are no streams come through whole.
    lasts = partial(random.Random(3).randint, 1500, 6000)
    with Cutter(server.port, lasts) as cutter:
        async with AsyncAtoll(cutter.url, server.api_key) as client:
            files = (await client.sandboxes.get(sandbox.id)).files
            changes = [
                change async for change in (await files.get_watch(watch.id)).changes(follow=False)
            ]

    assert changes == expected
    assert cutter.cuts > 20


@pytest.mark.isolated
async def test_changes_go_on_over_a_killed_server(own_server: ServerProcess, runtime: str) -> None:
    count = "n=0; while [ $n -lt 150 ]; do n=$((n + 1)); echo > $n; rm $n; sleep 0.02; done"
    async with AsyncAtoll(own_server.url, own_server.api_key) as client:
        sandbox = await client.sandboxes.create("host", runtime=runtime)
        await sandbox.files.mkdir("/counted")
        watch = await sandbox.files.watch("/counted")
        await sandbox.processes.start(count, cwd="/counted")
        changes: list[FileChange] = []
        restarts = 0

        async for change in watch:
            changes.append(change)
            if restarts < 2 and len(changes) > 130 * (restarts + 1):
                restarts += 1
                own_server.kill()
                own_server.start()
            if (change.kind, change.path) == (REMOVED, "/counted/150"):
                break
        await sandbox.terminate()

    assert restarts == 2
    created = [change.path for change in changes if change.kind is CREATED]
    assert created == [f"/counted/{n}" for n in range(1, 151)]
    assert replay(changes) == {}
