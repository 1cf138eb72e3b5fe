# SPDX-License-Identifier: Apache-2.0
"""Commands: what is asked of the agent, what is kept of the output, what each failure becomes."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from atoll_server.agent.client import AgentClient
from atoll_server.agent.frames import Kind, encode_control
from atoll_server.engine import commands, errors
from atoll_server.engine.commands import ProcessDefaults
from atoll_server.engine.model import Command, Exit, Output, SandboxId
from tests.support.commands import execute
from tests.unit.agent.peer import EXIT, STARTED, Script, Talk, peer, say, send

DEFAULTS = ProcessDefaults("/work", {"A": "sandbox", "B": "sandbox"}, SandboxId("sb-1"))
TRUE = Command(("true",))


def printing(*parts: tuple[Kind, bytes], exit: dict[str, Any] | None = None) -> Script:
    async def script(talk: Talk) -> None:
        await talk.request()
        await talk.say(STARTED)
        offsets = {Kind.STDOUT: 0, Kind.STDERR: 0}
        for kind, data in parts:
            await talk.data(kind, offsets[kind], data)
            offsets[kind] += len(data)
        await talk.say(exit or EXIT)

    return script


async def asked_for(tmp_path: Path, command: Command) -> dict[str, Any]:
    heard: list[dict[str, Any]] = []

    async def script(talk: Talk) -> None:
        heard.append(await talk.request())
        await talk.say(STARTED)
        await talk.say(EXIT)

    async with peer(tmp_path, script) as agent:
        await execute(agent, command, defaults=DEFAULTS)
    return heard[0]


async def test_result_holds_both_streams_and_the_exit(tmp_path: Path) -> None:
    parts = [(Kind.STDOUT, b"a"), (Kind.STDERR, b"x"), (Kind.STDOUT, b"b")]

    async with peer(tmp_path, printing(*parts, exit={**EXIT, "code": 3})) as agent:
        completed = await execute(agent, TRUE, defaults=DEFAULTS)

    assert (completed.stdout, completed.stderr, completed.truncated) == (b"ab", b"x", False)
    assert (completed.exit.code, completed.exit.signal) == (3, None)


async def test_text_runs_in_a_shell_and_a_list_as_it_is(tmp_path: Path) -> None:
    text = await asked_for(tmp_path, Command("echo a"))
    words = await asked_for(tmp_path, Command(("echo", "a")))

    assert (text["shell"], text.get("argv")) == ("echo a", None)
    assert (words["argv"], words.get("shell")) == (["echo", "a"], None)


@pytest.mark.parametrize(
    ("cwd", "resolved", "is_made"),
    [(None, "/work", True), ("sub", "/work/sub", False), ("/else", "/else", False)],
)
async def test_cwd_begins_at_the_working_directory(
    tmp_path: Path, cwd: str | None, resolved: str, is_made: bool
) -> None:
    request = await asked_for(tmp_path, Command("x", cwd=cwd))
    assert (request["cwd"], request["make_cwd"]) == (resolved, is_made)


async def test_env_of_the_command_goes_over_the_sandboxs(tmp_path: Path) -> None:
    request = await asked_for(tmp_path, Command("x", env={"B": "command", "C": "command"}))
    assert request["env"] == {"A": "sandbox", "B": "command", "C": "command"}


@pytest.mark.parametrize(
    ("timeout", "timeout_ms"), [(None, None), (60.0, 60_000), (0.0004, 1), (1.2345, 1234)]
)
async def test_timeout_is_told_to_the_agent(
    tmp_path: Path, timeout: float | None, timeout_ms: int | None
) -> None:
    request = await asked_for(tmp_path, Command("x", timeout=timeout))
    assert (request["timeout_ms"], request["grace_ms"]) == (timeout_ms, 5000)


async def test_only_the_last_bytes_of_each_stream_are_kept(tmp_path: Path) -> None:
    parts = [(Kind.STDOUT, b"%06d" % number) for number in range(1000)]

    async with peer(tmp_path, printing((Kind.STDERR, b"short"), *parts)) as agent:
        completed = await execute(agent, TRUE, defaults=DEFAULTS, limit=8)

    assert (completed.stdout, completed.stderr) == (b"98000999", b"short")
    assert completed.truncated


async def test_cut_output_begins_with_a_whole_character(tmp_path: Path) -> None:
    text = "aä€😀" * 3

    async with peer(tmp_path, printing((Kind.STDOUT, text.encode()))) as agent:
        completed = await execute(agent, TRUE, defaults=DEFAULTS, limit=12)

    assert completed.stdout.decode() == "aä€😀"


async def test_stdin_and_output_flow_at_once(tmp_path: Path) -> None:
    """Neither side reads to the end before it writes: with full buffers both ways that would never end."""
    size = 4 << 20

    async def echo(talk: Talk) -> None:
        await talk.request()
        await talk.say(STARTED)
        while (frame := await talk.frame()) is not None and frame.payload:
            await talk.data(Kind.STDOUT, frame.offset, frame.payload)
        await talk.say(EXIT)

    stdin = bytes(range(256)) * (size // 256)
    async with peer(tmp_path, echo) as agent, asyncio.timeout(10):
        completed = await execute(agent, Command(("cat",), stdin=stdin), defaults=DEFAULTS)

    assert completed.stdout == stdin


async def test_command_that_ignores_its_stdin_ends_as_it_does(tmp_path: Path) -> None:
    command = Command(("true",), stdin=b"x" * (8 << 20))

    async with peer(tmp_path, printing()) as agent, asyncio.timeout(5):
        completed = await execute(agent, command, defaults=DEFAULTS)

    assert completed.exit.code == 0


async def test_empty_stdin_is_none_at_all(tmp_path: Path) -> None:
    assert (await asked_for(tmp_path, Command("x", stdin=b"")))["stdin"] is False


async def test_cancelled_command_is_killed(tmp_path: Path) -> None:
    is_running = asyncio.Event()
    killed: list[dict[str, Any]] = []

    async def run(talk: Talk) -> None:
        await talk.request()
        await talk.say(STARTED)
        assert await talk.frame() is not None  # input: the client knows that it runs
        is_running.set()
        await talk.wait_closed()

    async def kill(talk: Talk) -> None:
        killed.append(await talk.request())

    async with peer(tmp_path, run, kill) as agent:
        stuck = Command(("sleep", "9"), stdin=b"x" * (4 << 20))
        running = asyncio.ensure_future(execute(agent, stuck, defaults=DEFAULTS))
        await is_running.wait()
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running

    assert [(request["process"], request["signal"]) for request in killed] == [(7, 9)]


async def test_running_command_gives_output_and_then_its_exit(tmp_path: Path) -> None:
    async with (
        peer(tmp_path, printing((Kind.STDOUT, b"a"))) as agent,
        commands.start(agent, TRUE, defaults=DEFAULTS) as running,
    ):
        events = [event async for event in running]

    assert [type(event) for event in events] == [Output, Exit]


@pytest.mark.parametrize(
    ("exit", "was_asked"),
    [
        ({"code": None, "signal": 9}, True),
        ({"code": 137}, True),
        ({"code": None, "signal": 9, "timed_out": True}, False),
        ({"code": None, "signal": 15}, False),
        ({"code": 1}, False),
        ({"code": 0}, False),
    ],
    ids=["SIGKILL", "of a child", "by the timeout", "SIGTERM", "failed", "fine"],
)
async def test_only_a_killed_command_may_have_run_out_of_memory(
    tmp_path: Path, exit: dict[str, Any], was_asked: bool
) -> None:
    asked: list[int] = []

    def was_killed(number: int) -> bool:
        asked.append(number)
        return True

    async with peer(tmp_path, printing(exit={**EXIT, **exit})) as agent:
        completed = await execute(agent, TRUE, defaults=DEFAULTS, was_oom_killed=was_killed)

    assert completed.exit.oom_killed == was_asked
    assert bool(asked) == was_asked


async def test_killed_command_without_an_oom_kill_did_not_run_out_of_memory(tmp_path: Path) -> None:
    killed = {**EXIT, "code": None, "signal": 9}

    async with peer(tmp_path, printing(exit=killed)) as agent:
        completed = await execute(
            agent, TRUE, defaults=DEFAULTS, was_oom_killed=lambda number: False
        )

    assert not completed.exit.oom_killed


def refusal(code: str) -> dict[str, Any]:
    return {"event": "error", "code": code, "errno": 0, "message": "why"}


@pytest.mark.parametrize(
    ("code", "reason", "about"),
    [
        ("program_not_found", "not_found", "/bin/mine"),
        ("program_not_executable", "not_executable", "/bin/mine"),
        ("bad_directory", "bad_directory", "/there"),
        ("unknown_user", "unknown_user", "ann"),
        ("spawn_failed", "spawn_failed", "/bin/mine"),
    ],
)
async def test_command_that_could_not_start_says_why(
    tmp_path: Path, code: str, reason: str, about: str
) -> None:
    command = Command(("/bin/mine", "x"), cwd="/there", user="ann")

    async with peer(tmp_path, say(refusal(code))) as agent:
        with pytest.raises(errors.CommandNotStarted) as raised:
            await execute(agent, command, defaults=DEFAULTS)

    assert raised.value.reason == reason
    assert raised.value.message == f"why: {about}"
    assert raised.value.sandbox_id == "sb-1"


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("invalid", errors.InvalidRequest),
        ("limit", errors.TooLarge),
        ("io", errors.Internal),
        ("unsupported", errors.Internal),
    ],
)
async def test_other_refusals_are_translated(
    tmp_path: Path, code: str, kind: type[errors.EngineError]
) -> None:
    async with peer(tmp_path, say(refusal(code))) as agent:
        with pytest.raises(kind):
            await execute(agent, TRUE, defaults=DEFAULTS)


async def test_command_too_long_for_the_protocol_is_too_large(tmp_path: Path) -> None:
    async def nothing(talk: Talk) -> None:
        await talk.wait_closed()

    async with peer(tmp_path, nothing) as agent:
        with pytest.raises(errors.TooLarge):
            await execute(agent, Command("x" * (1 << 20)), defaults=DEFAULTS)


@pytest.mark.parametrize(
    "data",
    [b"", b"\xff" * 16, encode_control({"event": "done"})],
    ids=["silence", "nonsense", "another answer"],
)
async def test_broken_agent_is_a_failed_sandbox(tmp_path: Path, data: bytes) -> None:
    async with peer(tmp_path, send(data)) as agent:
        with pytest.raises(errors.SandboxFailed):
            await execute(agent, TRUE, defaults=DEFAULTS)


async def test_missing_agent_is_a_failed_sandbox(tmp_path: Path) -> None:
    agent = AgentClient(str(tmp_path / "agent.sock"))

    with pytest.raises(errors.SandboxFailed):
        await execute(agent, TRUE, defaults=DEFAULTS)
