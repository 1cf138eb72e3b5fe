# SPDX-License-Identifier: Apache-2.0
"""Files: how paths become absolute, and what each refusal of the agent becomes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from atoll_server.agent.client import AgentClient
from atoll_server.agent.frames import Frame, Kind, encode_control, encode_frame
from atoll_server.engine import errors
from atoll_server.engine.files import Files
from atoll_server.engine.model import SandboxId
from atoll_server.engine.paths import MAX_PATH_BYTES, AnyPath
from tests.unit.agent.peer import ENTRY, Talk, peer, say, send

DONE = {"event": "done"}


def files(agent: AgentClient, workdir: str = "/work") -> Files:
    return Files(agent, workdir, SandboxId("sb-1"))


def refusal(code: str) -> dict[str, Any]:
    return {"event": "error", "code": code, "errno": 2, "message": "why"}


async def nothing() -> AsyncIterator[bytes]:
    no_chunks: tuple[bytes, ...] = ()
    for chunk in no_chunks:
        yield chunk


@pytest.mark.parametrize(
    ("workdir", "path", "resolved"),
    [
        ("/work", "a", "/work/a"),
        ("/work/", "a", "/work/a"),
        ("/", "a", "/a"),
        ("/work", "/a", "/a"),
        ("/work", "../a", "/work/../a"),
        ("/work", b"\xff", b"/work/\xff"),
        ("/work", "\udcff", b"/work/\xff"),
        ("/work", "ä", "/work/ä"),
    ],
)
async def test_relative_path_begins_at_the_working_directory(
    tmp_path: Path, workdir: str, path: AnyPath, resolved: AnyPath
) -> None:
    heard: list[dict[str, Any]] = []

    async def script(talk: Talk) -> None:
        heard.append(await talk.request())
        await talk.say(DONE)

    async with peer(tmp_path, script) as agent:
        await files(agent, workdir).remove(path)

    assert heard[0]["path"] == resolved


Operation = Callable[[Files, AnyPath], Awaitable[object]]


async def read_all(files: Files, path: AnyPath) -> bytes:
    async with files.read(path) as (_, content):
        return b"".join([chunk async for chunk in content])


async def pack_all(files: Files, path: AnyPath) -> bytes:
    async with files.pack(path) as content:
        return b"".join([chunk async for chunk in content])


OPERATIONS: dict[str, Operation] = {
    "stat": lambda files, path: files.stat(path),
    "exists": lambda files, path: files.exists(path),
    "list": lambda files, path: files.list(path),
    "read": read_all,
    "write": lambda files, path: files.write(path, nothing()),
    "mkdir": lambda files, path: files.mkdir(path),
    "move": lambda files, path: files.move("a", path),
    "copy": lambda files, path: files.copy(path, "a"),
    "remove": lambda files, path: files.remove(path),
    "chmod": lambda files, path: files.chmod(path, 0o644),
    "chown": lambda files, path: files.chown(path, "user"),
    "pack": pack_all,
    "unpack": lambda files, path: files.unpack(path, nothing()),
}


@pytest.mark.parametrize("operation", OPERATIONS.values(), ids=OPERATIONS.keys())
@pytest.mark.parametrize(
    "path",
    ["", "a\0b", b"", b"\0", "x" * MAX_PATH_BYTES, "/" + "x" * MAX_PATH_BYTES, "\ud800"],
    ids=["empty", "NUL", "no bytes", "NUL byte", "too long", "too long itself", "surrogate"],
)
async def test_impossible_path_is_refused_without_asking(
    tmp_path: Path, operation: Operation, path: AnyPath
) -> None:
    nobody = files(AgentClient(str(tmp_path / "agent.sock")))

    with pytest.raises(errors.InvalidRequest):
        await operation(nobody, path)


@pytest.mark.parametrize("operation", OPERATIONS.values(), ids=OPERATIONS.keys())
async def test_every_operation_translates_a_refusal(tmp_path: Path, operation: Operation) -> None:
    async with peer(tmp_path, say(refusal("no_space"))) as agent:
        with pytest.raises(errors.FileError) as raised:
            await operation(files(agent), "a")

    assert raised.value.reason == "no_space"
    # It says what it is about, in the client's own words.
    assert raised.value.message in ("why: a", "why: a to a")
    assert raised.value.sandbox_id == "sb-1"


@pytest.mark.parametrize("operation", OPERATIONS.values(), ids=OPERATIONS.keys())
async def test_every_operation_translates_a_broken_agent(
    tmp_path: Path, operation: Operation
) -> None:
    async with peer(tmp_path, send(b"\xff" * 16)) as agent:
        with pytest.raises(errors.SandboxFailed):
            await operation(files(agent), "a")


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("not_found", errors.FileNotFound),
        ("invalid", errors.InvalidRequest),
        ("limit", errors.TooLarge),
        ("generation", errors.Internal),
        ("exists", errors.FileError),
        ("is_a_directory", errors.FileError),
        ("permission_denied", errors.FileError),
        ("unknown_user", errors.FileError),
        ("io", errors.FileError),
    ],
)
async def test_refusal_becomes_the_error_of_its_code(
    tmp_path: Path, code: str, kind: type[errors.EngineError]
) -> None:
    async with peer(tmp_path, say(refusal(code))) as agent:
        with pytest.raises(errors.EngineError) as raised:
            await files(agent).stat("a")

    assert type(raised.value) is kind


@pytest.mark.parametrize(
    ("answer", "is_there"),
    [
        ({"event": "done", "entry": ENTRY}, True),
        (refusal("not_found"), False),
        (refusal("not_a_directory"), False),
        (refusal("loop"), False),
    ],
    ids=["found", "not_found", "not_a_directory", "loop"],
)
async def test_exists_answers(tmp_path: Path, answer: dict[str, Any], is_there: bool) -> None:
    async with peer(tmp_path, say(answer)) as agent:
        assert await files(agent).exists("a") is is_there


async def test_error_in_the_middle_of_a_file_is_translated(tmp_path: Path) -> None:
    data = (
        encode_control({"event": "file", "entry": ENTRY})
        + encode_frame(Frame(Kind.CONTENT, 0, b"abc"))
        + encode_control(refusal("io"))
    )

    async with peer(tmp_path, send(data)) as agent, files(agent).read("a") as (entry, content):
        assert await anext(content) == b"abc"
        with pytest.raises(errors.FileError):
            await anext(content)

    assert entry.size == 3


async def test_reader_may_leave_in_the_middle(tmp_path: Path) -> None:
    async def script(talk: Talk) -> None:
        await talk.request()
        await talk.say({"event": "file", "entry": ENTRY})
        await talk.data(Kind.CONTENT, 0, b"abc")
        await talk.wait_closed()

    async with peer(tmp_path, script) as agent, files(agent).read("a") as (_, content):
        assert await anext(content) == b"abc"
