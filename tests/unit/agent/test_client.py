# SPDX-License-Identifier: Apache-2.0
"""The client against a peer that keeps, bends and breaks the protocol."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import struct
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from atoll_server.agent import client as agent_client
from atoll_server.agent import process as process_module
from atoll_server.agent.client import AgentClient
from atoll_server.agent.errors import AgentError, AgentProtocolError, AgentUnavailable
from atoll_server.agent.frames import MAX_DATA_BYTES, Frame, Kind, encode_control, encode_frame
from atoll_server.agent.messages import StartRequest
from atoll_server.agent.process import STARTS_AT_ONCE
from atoll_server.engine.model import Exit, FileKind, Output
from tests.unit.agent.peer import ENTRY, EXIT, STARTED, Talk, peer, say, send

TRUE = StartRequest(program=("true",), cwd="/")
DONE = {"event": "done"}


async def run(agent: AgentClient, request: StartRequest = TRUE) -> list[Output | Exit]:
    async with agent.start(request) as process:
        return [event async for event in process]


async def chunks(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


# Reaching the agent


async def test_starts_beyond_the_bound_wait_until_one_is_answered(tmp_path: Path) -> None:
    heard, full, go = 0, asyncio.Event(), asyncio.Event()

    async def answer_late(talk: Talk) -> None:
        nonlocal heard
        await talk.request()
        heard += 1
        if heard == STARTS_AT_ONCE:
            full.set()
        await go.wait()
        await talk.say(STARTED)
        await talk.say(EXIT)

    async with peer(tmp_path, *[answer_late] * (STARTS_AT_ONCE + 8)) as agent:
        async with asyncio.TaskGroup() as group:
            runs = [group.create_task(run(agent)) for _ in range(STARTS_AT_ONCE + 8)]
            await full.wait()
            for _ in range(100):
                await asyncio.sleep(0)
            heard_before = heard
            go.set()

    assert heard_before == STARTS_AT_ONCE
    assert all(len(ended.result()) == 1 for ended in runs)


async def test_hello_gives_what_the_agent_says_of_itself(tmp_path: Path) -> None:
    words = {"event": "done", "generation": 4, "version": "1", "pid": 1, "features": ["x"]}

    async with peer(tmp_path, say({**words, "new": {"later": [1]}})) as agent:
        hello = await agent.hello(1)

    assert (hello.generation, hello.version, hello.pid, hello.features) == (4, "1", 1, ["x"])


async def test_hello_waits_for_an_agent_that_does_not_listen_yet(tmp_path: Path) -> None:
    agent = AgentClient(str(tmp_path / "agent.sock"))
    words = {"event": "done", "generation": 1, "version": "1", "pid": 1, "features": []}

    async with asyncio.TaskGroup() as group:
        hello = group.create_task(agent.hello(5))
        await asyncio.sleep(0)
        async with peer(tmp_path, say(words)):
            await hello

    assert hello.result().pid == 1


async def test_hello_gives_up_after_its_time(tmp_path: Path) -> None:
    with pytest.raises(AgentUnavailable):
        await AgentClient(str(tmp_path / "agent.sock")).hello(0.01)


async def test_silent_agent_is_unavailable(tmp_path: Path) -> None:
    async def silence(talk: Talk) -> None:
        await talk.wait_closed()

    async with peer(tmp_path, silence) as agent:
        with pytest.raises(AgentUnavailable):
            await agent.hello(0.02)


async def test_missing_agent_is_unavailable_at_once(tmp_path: Path) -> None:
    with pytest.raises(AgentUnavailable):
        await AgentClient(str(tmp_path / "agent.sock")).stat(b"/")


async def test_dead_agent_is_unavailable_at_once(tmp_path: Path) -> None:
    path = tmp_path / "agent.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))

    with pytest.raises(AgentUnavailable):
        await AgentClient(str(path)).stat(b"/")


async def test_link_in_place_of_the_socket_is_not_followed(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(tmp_path / "other.sock"))
        other.listen()
        (tmp_path / "agent.sock").symlink_to(tmp_path / "other.sock")

        with pytest.raises(AgentUnavailable):
            await AgentClient(str(tmp_path / "agent.sock")).stat(b"/")

        other.setblocking(False)
        with pytest.raises(BlockingIOError):
            other.accept()


async def test_path_longer_than_a_socket_address_is_reached(tmp_path: Path) -> None:
    directory = tmp_path / ("d" * 200)
    directory.mkdir()
    short = os.open(directory, os.O_PATH)
    try:
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(f"/proc/self/fd/{short}/agent.sock")
            listener.listen()
            with pytest.raises(AgentUnavailable):
                # It is reached, and says nothing.
                await AgentClient(str(directory / "agent.sock")).hello(0.02)
    finally:
        os.close(short)


async def test_full_backlog_is_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "agent.sock"
    with socket.socket(socket.AF_UNIX) as listener, contextlib.ExitStack() as waiting:
        listener.bind(str(path))
        listener.listen(0)
        for _ in range(2):
            filler = waiting.enter_context(socket.socket(socket.AF_UNIX))
            filler.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                filler.connect(str(path))
        async with asyncio.TaskGroup() as group:
            asking = group.create_task(AgentClient(str(path)).stat(b"/"))
            await asyncio.sleep(0.005)
            assert not asking.done()
            listener.setblocking(False)
            served: list[socket.socket] = []
            while not asking.done():
                with contextlib.suppress(BlockingIOError):
                    accepted, _ = listener.accept()
                    served.append(waiting.enter_context(accepted))
                    accepted.send(encode_control({"event": "done", "entry": ENTRY}))
                await asyncio.sleep(0.001)

    assert asking.result().size == 3


# Processes


async def test_process_gives_its_output_and_then_its_exit(tmp_path: Path) -> None:
    async def script(talk: Talk) -> None:
        assert (await talk.request())["argv"] == ["true"]
        await talk.say(STARTED)
        await talk.data(Kind.STDOUT, 0, b"ab")
        await talk.data(Kind.STDERR, 0, b"x")
        await talk.data(Kind.STDOUT, 2, b"c")
        await talk.say({**EXIT, "code": None, "signal": 9, "stdout_bytes": 3, "stderr_bytes": 1})

    async with peer(tmp_path, script) as agent, agent.start(TRUE) as process:
        events = [event async for event in process]
        ids = (process.process, process.pid)

    assert ids == (7, 42)
    assert events == [
        Output(1, 0, b"ab"),
        Output(2, 0, b"x"),
        Output(1, 2, b"c"),
        Exit(None, 9, False, False, 0.0015, 3, 1),
    ]


async def test_request_says_all_that_was_asked_for(tmp_path: Path) -> None:
    heard: list[dict[str, Any]] = []

    async def script(talk: Talk) -> None:
        heard.append(await talk.request())
        await talk.say(STARTED)
        await talk.say(EXIT)

    request = StartRequest(
        program="echo \udcff",
        cwd="/w",
        make_cwd=True,
        env={"A": "ä", "B": "\udc80"},
        user="user",
        stdin=True,
        timeout=1.5,
        grace=2.0,
    )
    async with peer(tmp_path, script) as agent:
        await run(agent, request)

    assert heard == [
        {
            "op": "start",
            "generation": 4,
            "shell": b"echo \xff",
            "cwd": "/w",
            "make_cwd": True,
            "env": {"A": "ä", "B": b"\x80"},
            "user": "user",
            "stdin": True,
            "timeout_ms": 1500,
            "grace_ms": 2000,
        }
    ]


async def test_no_of_the_agent_is_an_error_with_its_code(tmp_path: Path) -> None:
    refusal = {"event": "error", "code": "program_not_found", "errno": 2, "message": "no\x1b[0m"}

    async with peer(tmp_path, say(refusal)) as agent:
        with pytest.raises(AgentError) as raised:
            await run(agent)

    assert (raised.value.code, raised.value.errno) == ("program_not_found", 2)
    assert raised.value.message == "no�[0m"


async def test_stdin_arrives_in_order_and_ends(tmp_path: Path) -> None:
    got: list[Frame | None] = []

    async def script(talk: Talk) -> None:
        await talk.request()
        await talk.say(STARTED)
        while got[-1:] != [Frame(Kind.STDIN, MAX_DATA_BYTES + 3, b"")]:
            got.append(await talk.frame())
        await talk.say(EXIT)

    async with peer(tmp_path, script) as agent, agent.start(TRUE) as process:
        assert await process.write_stdin(b"a" * MAX_DATA_BYTES + b"bcd")
        await process.close_stdin()
        assert isinstance(await anext(process), Exit)

    assert got[:2] == [
        Frame(Kind.STDIN, 0, b"a" * MAX_DATA_BYTES),
        Frame(Kind.STDIN, MAX_DATA_BYTES, b"bcd"),
    ]


async def test_stdin_nobody_takes_any_more_is_no_error(tmp_path: Path) -> None:
    async with peer(tmp_path, say(STARTED, EXIT)) as agent, agent.start(TRUE) as process:
        assert isinstance(await anext(process), Exit)
        assert not await process.write_stdin(b"x" * (4 << 20))


async def test_leaving_early_kills_the_tree_on_a_connection_of_its_own(tmp_path: Path) -> None:
    killed: list[dict[str, Any]] = []

    async def running(talk: Talk) -> None:
        await talk.request()
        await talk.say(STARTED)
        await talk.wait_closed()

    async def killing(talk: Talk) -> None:
        killed.append(await talk.request())

    async with peer(tmp_path, running, killing) as agent:
        async with agent.start(TRUE):
            pass

    assert killed == [{"op": "signal", "generation": 4, "process": 7, "signal": 9, "tree": True}]


async def test_leaving_after_the_exit_kills_nothing(tmp_path: Path) -> None:
    async with peer(tmp_path, say(STARTED, EXIT)) as agent:
        assert len(await run(agent)) == 1


async def test_process_may_be_left_running(tmp_path: Path) -> None:
    async with peer(tmp_path, say(STARTED)) as agent:
        async with agent.start(TRUE, kill_on_leave=False):
            pass


async def test_cancelled_start_still_kills_what_it_started(tmp_path: Path) -> None:
    said: list[dict[str, Any]] = []
    is_asked = asyncio.Event()
    is_cancelled = asyncio.Event()

    async def script(talk: Talk) -> None:
        await talk.request()
        is_asked.set()
        await is_cancelled.wait()
        # A peer that writes before it reads must still be able to read.
        await talk.say(STARTED)
        await talk.data(Kind.STDOUT, 0, b"x" * MAX_DATA_BYTES)
        said.append(await talk.request())

    async with peer(tmp_path, script) as agent:
        running = asyncio.ensure_future(run(agent))
        await is_asked.wait()
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        is_cancelled.set()

    assert said == [{"op": "signal", "signal": 9, "tree": True}]


async def test_agent_that_goes_away_before_the_exit_is_unavailable(tmp_path: Path) -> None:
    async def gone(talk: Talk) -> None:
        await talk.wait_closed()

    async with peer(tmp_path, say(STARTED), gone) as agent:
        with pytest.raises(AgentUnavailable):
            await run(agent)


async def test_agent_silent_past_the_deadline_is_unavailable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process_module, "EXIT_MARGIN", 0.01)

    async def silence(talk: Talk) -> None:
        await talk.request()
        await talk.say(STARTED)
        await talk.wait_closed()

    async def gone(talk: Talk) -> None:
        await talk.wait_closed()

    async with peer(tmp_path, silence, gone) as agent:
        with pytest.raises(AgentUnavailable):
            await run(agent, StartRequest(program="x", cwd="/", timeout=0.01, grace=0.0))


async def test_slow_consumer_slows_the_agent(tmp_path: Path) -> None:
    sent = 0

    async def flood(talk: Talk) -> None:
        nonlocal sent
        await talk.request()
        await talk.say(STARTED)
        with contextlib.suppress(ConnectionError):
            while True:
                await talk.data(Kind.STDOUT, sent, b"x" * 65536)
                sent += 65536

    async def gone(talk: Talk) -> None:
        await talk.wait_closed()

    async with peer(tmp_path, flood, gone) as agent, agent.start(TRUE) as process:
        await anext(process)
        for _ in range(200):
            await asyncio.sleep(0)
        ahead = sent

    assert ahead < 1 << 20


async def test_fast_agent_leaves_other_tasks_their_turn(tmp_path: Path) -> None:
    async def flood(talk: Talk) -> None:
        await talk.request()
        await talk.say(STARTED)
        for index in range(64):
            await talk.data(Kind.STDOUT, index << 18, b"x" * (1 << 18))
        await talk.say(EXIT)

    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    async with peer(tmp_path, flood) as agent:
        counting = asyncio.ensure_future(count())
        await run(agent)
        counting.cancel()

    assert turns >= 16


HOSTILE_STARTS: dict[str, bytes] = {
    "nonsense": b"\xff" * 64,
    "output first": encode_frame(Frame(Kind.STDOUT, 0, b"x")),
    "exit first": encode_control(EXIT),
    "another event": encode_control({"event": "done"}),
    "no event": encode_control({}),
    "missing field": encode_control({"event": "started", "process": 1}),
    "negative number": encode_control({**STARTED, "process": -1}),
    "bool for a number": encode_control({**STARTED, "pid": True}),
    "text for a number": encode_control({**STARTED, "pid": "1"}),
    "number beyond 63 bits": encode_control({**STARTED, "process": 2**63}),
    "unknown code": encode_control({"event": "error", "code": "?", "errno": 0, "message": ""}),
    "errno of another type": encode_control(
        {"event": "error", "code": "io", "errno": "x", "message": ""}
    ),
    "error without a message": encode_control({"event": "error", "code": "io", "errno": 0}),
}


@pytest.mark.parametrize("answer", HOSTILE_STARTS.values(), ids=HOSTILE_STARTS.keys())
async def test_hostile_answer_to_start_is_a_protocol_error(tmp_path: Path, answer: bytes) -> None:
    async with peer(tmp_path, send(answer)) as agent:
        with pytest.raises(AgentProtocolError):
            await run(agent)


HOSTILE_EVENTS: dict[str, bytes] = {
    "gap in a stream": encode_frame(Frame(Kind.STDOUT, 1, b"x")),
    "content": encode_frame(Frame(Kind.CONTENT, 0, b"x")),
    "stdin": encode_frame(Frame(Kind.STDIN, 0, b"x")),
    "started again": encode_control(STARTED),
    "code and signal": encode_control({**EXIT, "signal": 9}),
    "neither code nor signal": encode_control({**EXIT, "code": None}),
    "code beyond 255": encode_control({**EXIT, "code": 256}),
    "negative duration": encode_control({**EXIT, "duration_us": -1}),
    "text for bool": encode_control({**EXIT, "timed_out": "no"}),
}


@pytest.mark.parametrize("event", HOSTILE_EVENTS.values(), ids=HOSTILE_EVENTS.keys())
async def test_hostile_event_of_a_process_is_a_protocol_error(tmp_path: Path, event: bytes) -> None:
    async def gone(talk: Talk) -> None:
        await talk.wait_closed()

    async with peer(tmp_path, send(encode_control(STARTED) + event), gone) as agent:
        with pytest.raises(AgentProtocolError):
            await run(agent)


# Files


async def test_entry_is_read_whatever_its_names_are(tmp_path: Path) -> None:
    entry = {**ENTRY, "name": b"\xff", "type": "symlink", "target": "ä", "user": b"\x80"}

    async with peer(tmp_path, say({"event": "done", "entry": entry})) as agent:
        got = await agent.stat(b"/w/\xff")

    assert (got.name, got.path, got.kind) == (b"\xff", b"/w/a", FileKind.SYMLINK)
    assert (got.target, got.user, got.group) == ("ä".encode(), b"\x80", None)


@pytest.mark.parametrize(
    "damage",
    [
        {"name": 1},
        {"name": None},
        {"user": 0},
        {"type": "door"},
        {"size": -1},
        {"mode": 0o10000},
        {"uid": 2**32},
        {"modified_ns": "now"},
    ],
    ids=lambda damage: next(iter(damage)),
)
async def test_hostile_entry_is_a_protocol_error(tmp_path: Path, damage: dict[str, object]) -> None:
    async with peer(tmp_path, say({"event": "done", "entry": {**ENTRY, **damage}})) as agent:
        with pytest.raises(AgentProtocolError):
            await agent.stat(b"/")


async def test_listing_comes_in_any_number_of_pieces(tmp_path: Path) -> None:
    pieces = [{"event": "entries", "entries": [ENTRY] * count} for count in (2, 0, 1)]

    async with peer(tmp_path, say(*pieces, {"event": "done", "truncated": True})) as agent:
        listing = await agent.list(b"/", depth=1, limit=3)

    assert len(listing.entries) == 3
    assert listing.truncated


async def test_listing_longer_than_asked_for_is_a_protocol_error(tmp_path: Path) -> None:
    async def endless(talk: Talk) -> None:
        await talk.request()
        with contextlib.suppress(ConnectionError):
            while True:
                await talk.say({"event": "entries", "entries": [ENTRY] * 100})

    async with peer(tmp_path, endless) as agent:
        with pytest.raises(AgentProtocolError):
            await agent.list(b"/", depth=1, limit=1000)


async def test_listing_of_nothing_for_ever_is_a_protocol_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agent_client, "MAX_LISTING_BYTES", 10_000)

    async def endless(talk: Talk) -> None:
        await talk.request()
        with contextlib.suppress(ConnectionError):
            while True:
                await talk.say({"event": "entries", "entries": []})

    async with peer(tmp_path, endless) as agent:
        with pytest.raises(AgentProtocolError):
            await agent.list(b"/", depth=1, limit=1000)


async def test_file_is_read_to_its_end(tmp_path: Path) -> None:
    async def script(talk: Talk) -> None:
        request = await talk.request()
        assert (request["op"], request["offset"], request["length"]) == ("read", 5, None)
        await talk.say({"event": "file", "entry": ENTRY})
        await talk.data(Kind.CONTENT, 0, b"ab")
        await talk.data(Kind.CONTENT, 2, b"c")
        await talk.data(Kind.CONTENT, 3, b"")
        await talk.say(DONE)

    async with peer(tmp_path, script) as agent, agent.read(b"/a", offset=5) as (entry, content):
        got = [chunk async for chunk in content]

    assert entry.size == 3
    assert got == [b"ab", b"c"]


FILE = encode_control({"event": "file", "entry": ENTRY})
BROKEN_CONTENT: dict[str, tuple[bytes, type[Exception]]] = {
    "it ends early": (b"", AgentUnavailable),
    "no done": (encode_frame(Frame(Kind.CONTENT, 0, b"")), AgentUnavailable),
    "done without an end": (encode_control(DONE), AgentProtocolError),
    "a gap": (encode_frame(Frame(Kind.CONTENT, 1, b"x")), AgentProtocolError),
    "output": (encode_frame(Frame(Kind.STDOUT, 0, b"x")), AgentProtocolError),
    "an error": (
        encode_control({"event": "error", "code": "io", "errno": 5, "message": "x"}),
        AgentError,
    ),
    "an error after the end": (
        encode_frame(Frame(Kind.CONTENT, 0, b""))
        + encode_control({"event": "error", "code": "io", "errno": 5, "message": "x"}),
        AgentError,
    ),
}


@pytest.mark.parametrize(("data", "error"), BROKEN_CONTENT.values(), ids=BROKEN_CONTENT.keys())
async def test_broken_content_never_looks_complete(
    tmp_path: Path, data: bytes, error: type[Exception]
) -> None:
    async with peer(tmp_path, send(FILE + data)) as agent:
        async with agent.read(b"/a") as (_, content):
            with pytest.raises(error):
                [chunk async for chunk in content]


async def test_refused_archive_is_refused_before_it_begins(tmp_path: Path) -> None:
    refusal = {"event": "error", "code": "not_found", "errno": 2, "message": "x"}

    async with peer(tmp_path, say(refusal)) as agent:
        with pytest.raises(AgentError):
            async with agent.pack(b"/a"):
                pytest.fail("nothing was promised")


async def test_upload_arrives_whole(tmp_path: Path) -> None:
    got = b""

    async def script(talk: Talk) -> None:
        nonlocal got
        assert (await talk.request())["size"] == 3 * MAX_DATA_BYTES
        await talk.say({"event": "ready"})
        while (frame := await talk.frame()) is not None and frame.payload:
            assert frame.offset == len(got)
            got += frame.payload
        await talk.say({"event": "done", "size": len(got), "created": True})

    data = os.urandom(3 * MAX_DATA_BYTES)
    async with peer(tmp_path, script) as agent:
        parts = chunks(data[:5], b"", data[5:])
        written = await agent.write(b"/a", parts, size=len(data))

    assert got == data
    assert (written.path, written.size, written.created) == (b"/a", len(data), True)


async def test_upload_whose_source_fails_is_not_ended(tmp_path: Path) -> None:
    last: list[Frame | None] = []

    async def script(talk: Talk) -> None:
        await talk.request()
        await talk.say({"event": "ready"})
        while (frame := await talk.frame()) is not None:
            last.append(frame)

    async def failing() -> AsyncIterator[bytes]:
        yield b"abc"
        raise RuntimeError("source")

    async with peer(tmp_path, script) as agent:
        with pytest.raises(RuntimeError, match="source"):
            await agent.write(b"/a", failing())

    assert last == [Frame(Kind.CONTENT, 0, b"abc")]


async def test_upload_that_is_cancelled_is_not_ended(tmp_path: Path) -> None:
    last: list[Frame | None] = []
    is_underway = asyncio.Event()

    async def script(talk: Talk) -> None:
        await talk.request()
        await talk.say({"event": "ready"})
        while (frame := await talk.frame()) is not None:
            last.append(frame)
            is_underway.set()

    async def stuck() -> AsyncIterator[bytes]:
        yield b"abc"
        await asyncio.Event().wait()

    async with peer(tmp_path, script) as agent:
        writing = asyncio.ensure_future(agent.write(b"/a", stuck()))
        await is_underway.wait()
        writing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await writing

    assert last == [Frame(Kind.CONTENT, 0, b"abc")]


async def test_upload_refused_half_way_says_why(tmp_path: Path) -> None:
    async def script(talk: Talk) -> None:
        await talk.request()
        await talk.say({"event": "ready"})
        await talk.frame()
        await talk.say({"event": "error", "code": "no_space", "errno": 28, "message": "full"})

    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield b"x" * 65536

    async with peer(tmp_path, script) as agent:
        with pytest.raises(AgentError) as raised:
            await agent.write(b"/a", endless())

    assert raised.value.code == "no_space"


async def test_each_operation_says_its_fields(tmp_path: Path) -> None:
    heard: list[dict[str, Any]] = []

    async def script(talk: Talk) -> None:
        heard.append(await talk.request())
        await talk.say(DONE)

    async with peer(tmp_path, *[script] * 6) as agent:
        await agent.mkdir(b"/\xff", parents=True, mode=0o700)
        await agent.move(b"/a", b"/b")
        await agent.copy(b"/a", b"/b")
        await agent.remove(b"/a", recursive=True)
        await agent.chmod(b"/a", 0o600, recursive=False)
        await agent.chown(b"/a", "user", None, recursive=True)

    common = {"generation": 4}
    assert heard == [
        {"op": "mkdir", **common, "path": b"/\xff", "parents": True, "mode": 0o700, "user": None},
        {"op": "move", **common, "source": "/a", "destination": "/b"},
        {"op": "copy", **common, "source": "/a", "destination": "/b"},
        {"op": "remove", **common, "path": "/a", "recursive": True},
        {"op": "chmod", **common, "path": "/a", "mode": 0o600, "recursive": False},
        {
            "op": "chown",
            **common,
            "path": "/a",
            "user": "user",
            "group": None,
            "recursive": True,
        },
    ]


async def test_signal_says_how_many_it_reached(tmp_path: Path) -> None:
    async with peer(tmp_path, say({"event": "done", "signalled": 3})) as agent:
        assert await agent.signal(7, 15, tree=True) == 3


async def test_no_descriptor_is_left_open(tmp_path: Path) -> None:
    refusal = struct.pack(">IB3sQ", 0, 9, bytes(3), 0)

    async def use_all() -> int:
        async with peer(tmp_path, send(refusal), say(STARTED, EXIT), say(DONE)) as agent:
            with pytest.raises(AgentProtocolError):
                await agent.stat(b"/")
            await run(agent)
            await agent.move(b"/a", b"/b")
        await asyncio.sleep(0)
        return len(os.listdir("/proc/self/fd"))

    # The loop opens some of its own at its first use.
    assert await use_all() == await use_all()
