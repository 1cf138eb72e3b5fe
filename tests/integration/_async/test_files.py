# SPDX-License-Identifier: Apache-2.0
"""Files of a sandbox: items 41 to 49 of the checklist, and every way in which a file system says no."""

from __future__ import annotations

import os
import re
from collections.abc import Awaitable, Callable

import pytest

from atoll import AsyncAtoll, AsyncSandbox, FileError, FileNotFound, FileType, InvalidRequest
from tests.support.concurrency import async_at_once

TRICKY = "line 'one'\n\"two\" `three` $HOME $(four) \\n\n\ttab\r\nü 🏝\0\x1b[31m\nno end"
MIB = 1 << 20


async def test_text_comes_back_as_it_was_written(sandbox: AsyncSandbox) -> None:
    """Item 41."""
    await sandbox.files.write("/tmp/text", TRICKY)

    assert await sandbox.files.read_text("/tmp/text") == TRICKY


async def test_bytes_come_back_as_they_were_written(sandbox: AsyncSandbox) -> None:
    """Attack 29."""
    data = bytes(range(256)) * 4096 + os.urandom(MIB)

    written = await sandbox.files.write("/tmp/bytes", data)

    assert await sandbox.files.read("/tmp/bytes") == data
    assert written.size_bytes == len(data)


@pytest.mark.parametrize("size", [0, 1, 255, 65_535, 65_536, 262_144, 262_145, MIB + 1])
async def test_every_size_comes_back_whole(sandbox: AsyncSandbox, size: int) -> None:
    data = os.urandom(size)

    await sandbox.files.write("/tmp/sized", data)

    assert await sandbox.files.read("/tmp/sized") == data


async def test_files_and_commands_see_the_same(sandbox: AsyncSandbox) -> None:
    """Item 42."""
    await sandbox.files.write("/tmp/by-files", "by files\n")
    await sandbox.exec("echo by exec > /tmp/by-exec")

    assert (await sandbox.exec("cat /tmp/by-files")).stdout == "by files\n"
    assert await sandbox.files.read_text("/tmp/by-exec") == "by exec\n"


async def test_relative_paths_begin_at_the_workdir(sandbox: AsyncSandbox) -> None:
    written = await sandbox.files.write("some/relative.txt", "here")

    assert written.path == "/workspace/some/relative.txt"
    assert (await sandbox.exec("cat some/relative.txt")).stdout == "here"
    assert await sandbox.files.read("../workspace/some/relative.txt") == b"here"


async def test_writing_makes_parents_and_says_what_it_did(sandbox: AsyncSandbox) -> None:
    first = await sandbox.files.write("/tmp/new/deep/er/file", "1")
    second = await sandbox.files.write("/tmp/new/deep/er/file", "22")

    assert (first.created, second.created) == (True, False)
    assert (first.size_bytes, second.size_bytes) == (1, 2)


async def test_modes_are_kept_unless_said_otherwise(sandbox: AsyncSandbox) -> None:
    await sandbox.files.write("/tmp/mode", "")
    new = (await sandbox.files.stat("/tmp/mode")).mode
    await sandbox.files.write("/tmp/mode", "", mode=0o640)
    said = (await sandbox.files.stat("/tmp/mode")).mode
    await sandbox.files.write("/tmp/mode", "again")
    kept = (await sandbox.files.stat("/tmp/mode")).mode
    await sandbox.files.write("/tmp/mode", "", mode="0755")
    text = (await sandbox.files.stat("/tmp/mode")).mode

    assert (new, said, kept, text) == ("0644", "0640", "0640", "0755")


async def test_writing_replaces_the_file_and_keeps_its_owner(sandbox: AsyncSandbox) -> None:
    await sandbox.exec("echo old > /tmp/owned; chown user:user /tmp/owned")

    await sandbox.files.write("/tmp/owned", "new")

    entry = await sandbox.files.stat("/tmp/owned")
    assert (entry.uid, entry.gid, entry.user) == (1000, 1000, "user")


async def test_writing_is_atomic(sandbox: AsyncSandbox) -> None:
    """Whoever holds the old file keeps the old content: nothing is written over."""
    await sandbox.files.write("/tmp/atomic", "old")
    await sandbox.exec(
        "(exec 3< /tmp/atomic; touch /tmp/opened; sleep 0.6; cat <&3 > /tmp/held) >/dev/null 2>&1 & "
        "until [ -e /tmp/opened ]; do sleep 0.01; done"
    )

    await sandbox.files.write("/tmp/atomic", "new")

    held = await sandbox.exec("sleep 1; cat /tmp/held /tmp/atomic")
    listed = await sandbox.exec("ls -A /tmp | grep -c atomic")
    assert held.stdout == "oldnew"
    assert listed.stdout == "1\n"


async def test_writers_of_one_file_never_mix(sandbox: AsyncSandbox) -> None:
    """Attack 30."""
    contents = [bytes([65 + number]) * (300_000 + number) for number in range(10)]

    await async_at_once(
        [lambda c=c: sandbox.files.write("/tmp/contended", c) for c in contents]  # type: ignore[misc] # bound now
    )

    assert await sandbox.files.read("/tmp/contended") in contents


async def test_append_adds_to_the_end(sandbox: AsyncSandbox) -> None:
    await sandbox.files.append("/tmp/logs/appended", "one\n")
    await sandbox.files.append("/tmp/logs/appended", b"two\n")

    assert await sandbox.files.read("/tmp/logs/appended") == b"one\ntwo\n"


async def test_appends_at_once_all_arrive_whole(sandbox: AsyncSandbox) -> None:
    await async_at_once(
        [lambda n=n: sandbox.files.append("/tmp/together", f"line {n}\n") for n in range(30)]  # type: ignore[misc] # bound now
    )

    lines = (await sandbox.files.read_text("/tmp/together")).splitlines()
    assert sorted(lines) == sorted(f"line {number}" for number in range(30))


async def test_lists_say_what_each_entry_is(sandbox: AsyncSandbox) -> None:
    """Item 43."""
    await sandbox.exec(
        "mkdir -p /tmp/list/b/c; printf 12345 > /tmp/list/a; ln -s a /tmp/list/link; "
        "ln -s /no/where /tmp/list/dangling; mkfifo /tmp/list/pipe; echo > /tmp/list/b/c/deep; "
        "touch /tmp/list/.hidden; chmod 600 /tmp/list/a; chown user /tmp/list/a",
        check=True,
    )

    entries = await sandbox.files.list("/tmp/list")

    kinds = {entry.name: entry.type for entry in entries}
    assert list(kinds) == sorted(kinds)
    assert kinds == {
        ".hidden": FileType.FILE,
        "a": FileType.FILE,
        "b": FileType.DIRECTORY,
        "dangling": FileType.SYMLINK,
        "link": FileType.SYMLINK,
        "pipe": FileType.OTHER,
    }
    by_name = {entry.name: entry for entry in entries}
    assert by_name["a"].size_bytes == 5
    assert by_name["a"].path == "/tmp/list/a"
    assert (by_name["a"].mode, by_name["a"].user, by_name["a"].uid) == ("0600", "user", 1000)
    assert by_name["b"].is_directory
    assert not by_name["a"].is_directory
    assert by_name["link"].target == "a"
    assert by_name["dangling"].target == "/no/where"
    assert re.match(r"20\d\d-.*Z$", by_name["a"].modified_at)


async def test_lists_go_as_deep_as_asked(sandbox: AsyncSandbox) -> None:
    await sandbox.exec(
        "mkdir -p /tmp/depth/1/2/3; touch /tmp/depth/1/2/file; ln -s / /tmp/depth/up"
    )

    one = [entry.name for entry in await sandbox.files.list("/tmp/depth")]
    two = [entry.name for entry in await sandbox.files.list("/tmp/depth", 2)]
    all_ = [entry.name for entry in await sandbox.files.list("/tmp/depth", depth=32)]

    assert one == ["1", "up"]
    assert two == ["1", "1/2", "up"]
    assert all_ == ["1", "1/2", "1/2/3", "1/2/file", "up"]


async def test_lists_say_when_there_is_more(sandbox: AsyncSandbox) -> None:
    await sandbox.exec("mkdir /tmp/full; cd /tmp/full; touch {1000..1100}")

    assert len(await sandbox.files.list("/tmp/full", limit=10)) == 10
    assert len(await sandbox.files.list("/tmp/full")) == 101


async def test_exists_answers_for_everything(sandbox: AsyncSandbox) -> None:
    """Item 44."""
    await sandbox.exec("ln -sf /no/where /tmp/to-nothing; ln -sfn loop /tmp/loop")

    assert await sandbox.files.exists("/etc/passwd")
    assert await sandbox.files.exists("/tmp")
    assert await sandbox.files.exists("/")
    assert not await sandbox.files.exists("/no/such/file")
    assert not await sandbox.files.exists("/etc/passwd/below")
    assert not await sandbox.files.exists("/tmp/to-nothing")
    assert not await sandbox.files.exists("/tmp/loop")
    assert not await sandbox.files.exists("/tmp/" + "n" * 256)


async def test_stat_follows_links_unless_told_not_to(sandbox: AsyncSandbox) -> None:
    await sandbox.exec("printf 123 > /tmp/target; ln -sf target /tmp/pointer")

    followed = await sandbox.files.stat("/tmp/pointer")
    itself = await sandbox.files.stat("/tmp/pointer", follow=False)

    assert (followed.type, followed.size_bytes) == ("file", 3)
    assert (itself.type, itself.target) == ("symlink", "target")


async def test_removing_takes_files_links_and_empty_directories(sandbox: AsyncSandbox) -> None:
    """Item 45."""
    await sandbox.exec("mkdir -p /tmp/rm/empty; touch /tmp/rm/file; ln -s file /tmp/rm/link")

    for name in ("link", "empty", "file"):
        await sandbox.files.remove(f"/tmp/rm/{name}")
        assert not await sandbox.files.exists(f"/tmp/rm/{name}")
    await sandbox.files.delete("/tmp/rm")

    assert not await sandbox.files.exists("/tmp/rm")


async def test_removing_a_full_directory_needs_recursive(sandbox: AsyncSandbox) -> None:
    """Item 45."""
    await sandbox.exec("mkdir -p /tmp/full-rm/deep/er /tmp/spared; touch /tmp/full-rm/deep/er/file")
    await sandbox.exec("touch /tmp/spared/file; ln -s /tmp/spared /tmp/full-rm/link")

    with pytest.raises(FileError) as raised:
        await sandbox.files.remove("/tmp/full-rm")
    assert raised.value.reason == "not_empty"
    assert await sandbox.files.exists("/tmp/full-rm/deep/er/file")

    await sandbox.files.remove("/tmp/full-rm", recursive=True)
    assert not await sandbox.files.exists("/tmp/full-rm")
    assert await sandbox.files.exists("/tmp/spared/file")


async def test_removing_the_root_is_refused(sandbox: AsyncSandbox) -> None:
    for path in ("/", "//", "/tmp/..", "/tmp/../.."):
        with pytest.raises((InvalidRequest, FileError)):
            await sandbox.files.remove(path, recursive=True)

    assert await sandbox.files.exists("/etc/passwd")


async def test_making_directories(sandbox: AsyncSandbox) -> None:
    """Item 46."""
    made = await sandbox.files.mkdir("/tmp/made")
    deep = await sandbox.files.mkdir("/tmp/many/of/them", parents=True, mode=0o700)
    await sandbox.files.mkdir("/tmp/many/of/them", recursive=True)

    assert (made.type, made.mode) == ("directory", "0755")
    assert deep.mode == "0700"
    with pytest.raises(FileNotFound):
        await sandbox.files.mkdir("/tmp/missing/parent")
    with pytest.raises(FileError) as raised:
        await sandbox.files.mkdir("/tmp/made")
    assert raised.value.reason == "exists"


async def test_a_written_script_runs_once_it_may(sandbox: AsyncSandbox) -> None:
    """Item 47."""
    await sandbox.files.write("script.sh", "#!/bin/sh\necho ran\n")

    refused = await sandbox.exec("./script.sh")
    await sandbox.exec("chmod +x script.sh", check=True)
    by_exec = await sandbox.exec("./script.sh")
    await sandbox.files.chmod("script.sh", 0o644)
    await sandbox.files.chmod("script.sh", "0755")
    by_files = await sandbox.exec(["./script.sh"])

    assert refused.exit_code == 126
    assert by_exec.stdout == by_files.stdout == "ran\n"


async def test_moving_and_copying_files(sandbox: AsyncSandbox) -> None:
    await sandbox.files.write("/tmp/mc/from", "data", mode=0o750)
    await sandbox.files.write("/tmp/mc/replaced", "old")

    copied = await sandbox.files.copy("/tmp/mc/from", "/tmp/mc/deep/copy")
    await sandbox.files.copy("/tmp/mc/from", "/tmp/mc/replaced")
    moved = await sandbox.files.move("/tmp/mc/from", "/dev/shm/moved")

    assert (copied.path, copied.mode, copied.size_bytes) == ("/tmp/mc/deep/copy", "0750", 4)
    assert await sandbox.files.read("/tmp/mc/replaced") == b"data"
    assert (moved.path, moved.mode) == ("/dev/shm/moved", "0750")
    assert await sandbox.files.read("/dev/shm/moved") == b"data"
    assert not await sandbox.files.exists("/tmp/mc/from")


async def test_moving_and_copying_directories(sandbox: AsyncSandbox) -> None:
    await sandbox.exec("mkdir -p /tmp/tree/b; echo 1 > /tmp/tree/b/f; ln -s b/f /tmp/tree/l")

    await sandbox.files.copy("/tmp/tree", "/tmp/tree-copy")
    await sandbox.files.move("/tmp/tree", "/dev/shm/tree-moved")

    for place in ("/tmp/tree-copy", "/dev/shm/tree-moved"):
        assert await sandbox.files.read(f"{place}/b/f") == b"1\n"
        assert (await sandbox.files.stat(f"{place}/l", follow=False)).target == "b/f"
    assert not await sandbox.files.exists("/tmp/tree")
    with pytest.raises(FileError) as raised:
        await sandbox.files.copy("/tmp/tree-copy", "/dev/shm/tree-moved")
    assert raised.value.reason == "exists"


async def test_changing_owner_and_mode_of_a_whole_tree(sandbox: AsyncSandbox) -> None:
    await sandbox.exec(
        "mkdir -p /tmp/owner/d; touch /tmp/owner/d/f; ln -s /etc/passwd /tmp/owner/l"
    )

    entry = await sandbox.files.chown("/tmp/owner", "user", recursive=True)
    await sandbox.files.chown("/tmp/owner/d/f", 1234, 4321)
    await sandbox.files.chmod("/tmp/owner", 0o700, recursive=True)

    found = await sandbox.exec(
        "cd /tmp/owner; stat -c '%n %u:%g %a' . d d/f; stat -c %u l /etc/passwd"
    )
    assert (entry.user, entry.group) == ("user", "user")
    assert found.stdout == ". 1000:1000 700\nd 1000:1000 700\nd/f 1234:4321 700\n1000\n0\n"


NAMES = [
    "ü 🏝",
    "a b",
    "'",
    '"',
    "*",
    "?",
    "%41",
    "+",
    "&x=1",
    "#",
    "\\",
    "\n",
    "-rf",
    "..x",
    "...",
    "~",
]


@pytest.mark.parametrize("name", NAMES)
async def test_any_name_is_a_name(sandbox: AsyncSandbox, name: str) -> None:
    path = f"/tmp/names/{name}"

    await sandbox.files.write(path, name)

    assert await sandbox.files.read_text(path) == name
    assert (await sandbox.exec(["cat", path])).stdout == name
    await sandbox.files.remove(path)
    assert [entry.name for entry in await sandbox.files.list("/tmp/names")] == []


async def test_names_that_are_not_utf8_are_names_too(sandbox: AsyncSandbox) -> None:
    """Attack 29."""
    path = b"/tmp/raw/\xff\xfe-name"

    await sandbox.files.write(path, "raw")

    assert await sandbox.files.read(path) == b"raw"
    assert await sandbox.files.read(os.fsdecode(path)) == b"raw"
    assert (await sandbox.exec(r"cat /tmp/raw/$'\xff'*")).stdout == "raw"
    assert [entry.name for entry in await sandbox.files.list("/tmp/raw")] == ["\ufffd\ufffd-name"]
    await sandbox.files.remove(path)
    assert not await sandbox.files.exists(path)


@pytest.mark.parametrize("form", [bytes, os.fsdecode], ids=["bytes", "text"])
async def test_names_that_are_not_utf8_can_be_changed_in_every_way(
    sandbox: AsyncSandbox, form: Callable[[bytes], str | bytes]
) -> None:
    directory, path, other = (
        form(b"/tmp/changed/" + name) for name in (b"\xff", b"\xff/\xff\xfe", b"\xfe")
    )

    await sandbox.files.mkdir(directory, parents=True)
    await sandbox.files.write(path, "#!/bin/sh\necho raw\n")
    await sandbox.files.copy(path, other)
    await sandbox.files.move(path, "/tmp/changed/utf8-ü")
    await sandbox.files.move("/tmp/changed/utf8-ü", path)
    mode = (await sandbox.files.chmod(path, 0o750)).mode
    owner = (await sandbox.files.chown(path, 1234, 1234)).uid

    assert (mode, owner) == ("0750", 1234)
    assert (await sandbox.exec(r"cd /tmp/changed && $'\xff'/$'\xff\xfe'")).stdout == "raw\n"
    assert await sandbox.files.read(other) == await sandbox.files.read(path)
    await sandbox.files.remove("/tmp/changed", recursive=True)


Operation = Callable[[AsyncSandbox], Awaitable[object]]
LONG_NAME = "n" * 256
SAYING_NO: dict[str, tuple[Operation, str]] = {
    "read a directory": (lambda s: s.files.read("/tmp"), "is_a_directory"),
    "read a pipe": (lambda s: s.files.read("/tmp/no/pipe"), "not_a_file"),
    "read a device": (lambda s: s.files.read("/dev/zero"), "not_a_file"),
    "read below a file": (lambda s: s.files.read("/etc/passwd/x"), "not_a_directory"),
    "read a long name": (lambda s: s.files.read(f"/tmp/{LONG_NAME}"), "name_too_long"),
    "read a loop": (lambda s: s.files.read("/tmp/no/loop"), "loop"),
    "write a directory": (lambda s: s.files.write("/tmp", ""), "is_a_directory"),
    "write below a file": (lambda s: s.files.write("/etc/passwd/x", ""), "not_a_directory"),
    "write a long name": (lambda s: s.files.write(f"/tmp/{LONG_NAME}", ""), "name_too_long"),
    "append to a directory": (lambda s: s.files.append("/tmp", "x"), "is_a_directory"),
    "list a file": (lambda s: s.files.list("/etc/passwd"), "not_a_directory"),
    "make what exists": (lambda s: s.files.mkdir("/tmp"), "exists"),
    "make below a file": (lambda s: s.files.mkdir("/etc/passwd/d", parents=True), "not_a_directory"),
    "move over a directory": (lambda s: s.files.move("/tmp/no/pipe", "/tmp/no/full"), "exists"),
    "remove a full directory": (lambda s: s.files.remove("/tmp/no/full"), "not_empty"),
    "change a link's mode": (lambda s: s.files.chmod("/tmp/no/link", 0o777), "loop"),
    "write into a read-only place": (lambda s: s.files.write("/sys/kernel/x", ""), "read_only"),
}  # fmt: skip


@pytest.mark.parametrize("what", SAYING_NO)
async def test_the_file_system_says_no_with_a_reason(sandbox: AsyncSandbox, what: str) -> None:
    await sandbox.exec(
        "mkdir -p /tmp/no/full; cd /tmp/no; touch full/file; mkfifo pipe; ln -s loop loop; ln -s /etc link"
    )
    operation, reason = SAYING_NO[what]

    with pytest.raises(FileError) as raised:
        await operation(sandbox)

    assert (raised.value.code, raised.value.reason) == ("FILE_ERROR", reason)
    assert raised.value.retryable is False
    assert raised.value.message


NOT_THERE: dict[str, Operation] = {
    "read": lambda s: s.files.read("/no/file"),
    "read through a dangling link": lambda s: s.files.read("/tmp/dangling"),
    "list": lambda s: s.files.list("/no/directory"),
    "stat": lambda s: s.files.stat("/no/file"),
    "remove": lambda s: s.files.remove("/no/file"),
    "mkdir": lambda s: s.files.mkdir("/no/parent"),
    "move": lambda s: s.files.move("/no/file", "/tmp/x"),
    "copy": lambda s: s.files.copy("/no/file", "/tmp/x"),
    "chmod": lambda s: s.files.chmod("/no/file", 0o600),
    "chown": lambda s: s.files.chown("/no/file", "root"),
}


@pytest.mark.parametrize("verb", NOT_THERE)
async def test_what_is_not_there_is_not_found(sandbox: AsyncSandbox, verb: str) -> None:
    """Item 48."""
    await sandbox.exec("ln -sf /no/where /tmp/dangling")

    with pytest.raises(FileNotFound) as raised:
        await NOT_THERE[verb](sandbox)

    assert raised.value.code == "FILE_NOT_FOUND"


async def test_a_full_disk_says_so_and_hurts_nobody_else(
    client: AsyncAtoll, sandbox: AsyncSandbox, runtime: str
) -> None:
    """Item 96, attack 32."""
    async with await client.sandboxes.create("host", runtime=runtime) as full:
        await full.exec(
            "fallocate -l $(($(df --output=avail -B1 . | tail -1) - 8000000)) all", check=True
        )
        await full.exec("cat /dev/zero > rest", timeout_ms=60_000)

        by_exec = await full.exec("head -c 1M /dev/zero > /workspace/more")
        with pytest.raises(FileError) as raised:
            await full.files.write("/workspace/by-api", b"x" * MIB)

        assert "No space left" in by_exec.stderr
        assert raised.value.reason == "no_space"
        assert not await full.files.exists("/workspace/by-api")
        await full.files.remove("/workspace/rest")
        await full.files.write("/workspace/by-api", b"x" * 100)
        assert (await full.exec("echo here")).stdout == "here\n"

    await sandbox.files.write("/workspace/other", b"x" * MIB)
