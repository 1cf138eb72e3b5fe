# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import pickle

import pytest

import atoll
from atoll import AsyncSandbox
from tests.support.scripted_server import Answer, ScriptedServer, answer_error, answer_json
from tests.unit.sdk import samples


def _stream(*frames: bytes, piece: int = 1 << 16, cut: bool = False) -> Answer:
    data = b"".join(frames)
    pieces = tuple(data[at : at + piece] for at in range(0, len(data), piece))
    return Answer(headers={"Content-Type": "application/vnd.atoll.frames"}, pieces=pieces, cut=cut)


async def test_text_and_result_travel_in_one_request(
    sandbox: AsyncSandbox, scripted: ScriptedServer
) -> None:
    scripted.script += [answer_json(samples.result(stdout="hi\n", durationMs=12))]

    result = await sandbox.exec("echo hi")

    assert result == atoll.ExecResult(
        stdout="hi\n", stderr="", exit_code=0, signal=None, duration_ms=12
    )
    assert result.ok
    assert [asked.path for asked in scripted.asked] == ["/v1/sandboxes/sb_0123456789/execute"]
    assert scripted.asked[0].json == {"command": "echo hi"}
    assert scripted.asked[0].headers["accept"] == "application/json"


async def test_options_have_their_names_on_the_wire(
    sandbox: AsyncSandbox, scripted: ScriptedServer
) -> None:
    scripted.script += [answer_json(samples.result())]

    await sandbox.exec(
        ["cat", "-"],
        cwd="/tmp",
        env={"K": "é"},
        user="user",
        run_as="user",
        stdin="text",
        timeout_ms=5,
    )

    assert scripted.asked[0].json == {
        "command": ["cat", "-"],
        "cwd": "/tmp",
        "env": {"K": "é"},
        "user": "user",
        "runAs": "user",
        "stdin": "text",
        "timeoutMs": 5,
    }


async def test_bytes_for_stdin_travel_as_base64(
    sandbox: AsyncSandbox, scripted: ScriptedServer
) -> None:
    scripted.script += [answer_json(samples.result())]

    await sandbox.exec("cat", stdin=b"\xff\x00")

    body = scripted.asked[0].json
    assert (body["stdin"], body["stdinEncoding"]) == ("/wA=", "base64")


@pytest.mark.parametrize("command", [b"true", 5, ["a", 5], None, {"a": 1}])
async def test_a_command_that_is_no_text_is_refused_before_it_is_sent(
    sandbox: AsyncSandbox, scripted: ScriptedServer, command: object
) -> None:
    with pytest.raises(atoll.InvalidRequest):
        await sandbox.exec(command)  # type: ignore[arg-type] # the point

    assert scripted.asked == []


async def test_text_that_is_not_unicode_is_refused_before_it_is_sent(
    sandbox: AsyncSandbox, scripted: ScriptedServer
) -> None:
    with pytest.raises(atoll.InvalidRequest):
        await sandbox.exec("echo \udcff")

    assert scripted.asked == []


async def test_a_failing_command_is_a_result(
    sandbox: AsyncSandbox, scripted: ScriptedServer
) -> None:
    scripted.script += [answer_json(samples.result(exitCode=3, stderr="oops\n"))]

    result = await sandbox.exec("exit 3")

    assert (result.exit_code, result.ok) == (3, False)


async def test_check_raises_for_a_failing_command(
    sandbox: AsyncSandbox, scripted: ScriptedServer
) -> None:
    scripted.script += [
        answer_json(samples.result(exitCode=137, signal="SIGKILL", stderr="a\nb\n"))
    ]

    with pytest.raises(atoll.CommandFailed) as caught:
        await sandbox.exec("exit 3", check=True)

    assert caught.value.result.exit_code == 137
    assert caught.value.message == "command exited with 137 (SIGKILL): a\nb"
    assert pickle.loads(pickle.dumps(caught.value)).result == caught.value.result


async def test_check_raises_for_a_timeout(sandbox: AsyncSandbox, scripted: ScriptedServer) -> None:
    scripted.script += [answer_json(samples.result(exitCode=None, signal="SIGTERM", timedOut=True))]

    with pytest.raises(atoll.CommandFailed) as caught:
        await sandbox.exec("sleep 9", timeout_ms=7, check=True)

    assert "time limit" in caught.value.message


@pytest.mark.parametrize("piece", [1, 3, 1 << 16])
async def test_lines_are_delivered_wherever_the_chunks_break(
    sandbox: AsyncSandbox, scripted: ScriptedServer, piece: int
) -> None:
    out, err = "eins\nzwei é\r\n\ndrei".encode(), b"oops\n"
    scripted.script += [
        _stream(
            samples.frame(2, out[:9]),
            samples.frame(3, err),
            samples.frame(5, b""),
            samples.frame(2, out[9:], 9),
            samples.exit_frame(exitCode=4, durationMs=5),
            piece=piece,
        )
    ]
    lines: list[str] = []
    errors: list[str] = []

    result = await sandbox.exec("work", on_stdout=lines.append, on_stderr=errors.append)

    assert lines == ["eins", "zwei é", "", "drei"]
    assert errors == ["oops"]
    assert result == atoll.ExecResult(out.decode(), "oops\n", 4, None, 5)
    assert scripted.asked[0].headers["accept"] == "application/vnd.atoll.frames"


async def test_one_callback_leaves_the_other_stream_in_the_result(
    sandbox: AsyncSandbox, scripted: ScriptedServer
) -> None:
    scripted.script += [
        _stream(samples.frame(2, b"a\n"), samples.frame(3, b"b\n"), samples.exit_frame())
    ]
    errors: list[str] = []

    result = await sandbox.exec("work", on_stderr=errors.append)

    assert errors == ["b"]
    assert (result.stdout, result.stderr) == ("a\n", "b\n")


async def test_the_first_line_comes_before_the_command_ends(
    sandbox: AsyncSandbox, scripted: ScriptedServer
) -> None:
    scripted.script += [Answer(pieces=(samples.frame(2, b"first\n"),), hang=True)]
    lines: list[str] = []

    def stop(line: str) -> None:
        lines.append(line)
        raise RuntimeError("enough")

    with pytest.raises(RuntimeError, match="enough"):
        await sandbox.exec("work", on_stdout=stop)

    assert lines == ["first"]
    assert scripted.left.wait(5), "the connection is closed, so that the server kills the command"


async def test_after_a_stream_the_connection_is_used_again(
    sandbox: AsyncSandbox, scripted: ScriptedServer
) -> None:
    scripted.script += [_stream(samples.exit_frame()), answer_json(samples.result())]

    await sandbox.exec("work", on_stdout=print)
    await sandbox.exec("work")

    assert len(scripted.asked) == 2
    assert scripted.connections == 1


async def test_an_error_may_end_a_stream(sandbox: AsyncSandbox, scripted: ScriptedServer) -> None:
    error = {"code": "SANDBOX_FAILED", "message": "gone", "retryable": False, "requestId": "r"}
    scripted.script += [_stream(samples.frame(2, b"a\n"), samples.control("error", error=error))]
    lines: list[str] = []

    with pytest.raises(atoll.SandboxFailed, match="gone"):
        await sandbox.exec("work", on_stdout=lines.append)

    assert lines == ["a"]


async def test_a_command_that_cannot_start_is_refused_before_the_stream(
    sandbox: AsyncSandbox, scripted: ScriptedServer
) -> None:
    scripted.script += [answer_error("COMMAND_NOT_STARTED", 422, reason="not_executable")]

    with pytest.raises(atoll.CommandNotStarted) as caught:
        await sandbox.exec(["x"], on_stdout=print)

    assert caught.value.reason == "not_executable"


@pytest.mark.parametrize("cut", [False, True])
async def test_a_stream_without_a_result_is_a_lost_connection(
    sandbox: AsyncSandbox, scripted: ScriptedServer, cut: bool
) -> None:
    scripted.script += [_stream(samples.frame(2, b"a\n"), cut=cut)]

    with pytest.raises(atoll.ConnectionLost):
        await sandbox.exec("work", on_stdout=lambda line: None)


@pytest.mark.parametrize(
    "stream",
    [
        samples.frame(9, b"x"),
        samples.frame(2, b"x", 0) + samples.frame(2, b"x", 0),
        b"\xff" * 16,
        samples.frame(0, b"[]"),
        samples.frame(0, b"nonsense"),
        samples.control("party"),
        samples.control("error", error=5),
        json.dumps(samples.result()).encode(),
    ],
)
async def test_what_is_no_stream_of_frames_is_a_protocol_error(
    sandbox: AsyncSandbox, scripted: ScriptedServer, stream: bytes
) -> None:
    scripted.script += [_stream(stream)]

    with pytest.raises(atoll.ProtocolError):
        await sandbox.exec("work", on_stdout=lambda line: None)


async def test_output_that_the_server_left_out_is_marked(
    sandbox: AsyncSandbox, scripted: ScriptedServer
) -> None:
    scripted.script += [_stream(samples.frame(2, b"end\n", 1 << 40), samples.exit_frame())]

    result = await sandbox.exec("work", on_stdout=lambda line: None)

    assert result.truncated


async def test_a_streamed_result_keeps_ten_mebibytes(
    sandbox: AsyncSandbox, scripted: ScriptedServer
) -> None:
    block = b"x" * 262143 + b"\n"
    frames = [samples.frame(2, block, at * len(block)) for at in range(48)]
    scripted.script += [_stream(*frames, samples.exit_frame())]
    sizes: list[int] = []

    result = await sandbox.exec("work", on_stdout=lambda line: sizes.append(len(line)))

    assert sizes == [262143] * 48
    assert len(result.stdout) == 10 * 1024 * 1024
    assert result.truncated
