# SPDX-License-Identifier: Apache-2.0
"""Requests about commands and processes."""

from __future__ import annotations

import base64
import os
from collections.abc import Mapping, Sequence
from typing import Any

from .. import _wire
from ..errors import InvalidRequest
from ..models import (
    MAX_TERMINAL_SIDE,
    ExecRequest,
    ProcessStatus,
    PtySize,
    SignalProcess,
    StartProcess,
    WaitProcess,
)
from .base import (
    COMMAND_GRACE_SECONDS,
    COMMAND_MARGIN_SECONDS,
    DEFAULT_COMMAND_TIMEOUT_MS,
    FRAMES,
    HEARTBEAT_SILENCE_SECONDS,
    JSON,
    JSON_BODY,
    OCTETS_BODY,
    PAGE_SIZE,
    Request,
    Resend,
    check_since,
    encode_text,
    plain_word,
    post,
    quote_id,
    sandbox_target,
    with_query,
)


def execute(sandbox_id: str, values: Mapping[str, Any], *, framed: bool) -> Request:
    timeout_ms = values.get("timeout_ms") or DEFAULT_COMMAND_TIMEOUT_MS
    wait = COMMAND_GRACE_SECONDS + COMMAND_MARGIN_SECONDS
    if isinstance(timeout_ms, int):  # else the server says what is wrong with it
        wait += timeout_ms / 1000
    return Request(
        b"POST",
        sandbox_target(sandbox_id) + "/execute",
        headers=(FRAMES if framed else JSON, JSON_BODY),
        body=_wire.encode(ExecRequest, values),
        resend=Resend.NEVER,
        wait=min(wait, HEARTBEAT_SILENCE_SECONDS) if framed else wait,
    )


def exec_values(
    command: object,
    *,
    cwd: str | os.PathLike[str] | None = None,
    env: Mapping[str, str] | None = None,
    user: str | None = None,
    run_as: str | None = None,
    stdin: str | bytes | None = None,
    timeout_ms: int | None = None,
) -> dict[str, Any]:
    """The fields of an `ExecRequest`, those that are None being left out later."""
    return {
        "command": _check_command(command),
        "cwd": None if cwd is None else os.fspath(cwd),
        "env": env,
        "user": user,
        "run_as": run_as,
        "timeout_ms": timeout_ms,
        **_encode_stdin(stdin),
    }


def _check_command(command: object) -> str | list[str]:
    # A list of one program must not be mistaken for text, nor text for a list.
    if isinstance(command, str):
        return command
    if isinstance(command, Sequence) and not isinstance(command, bytes | bytearray):
        words = [os.fspath(word) if isinstance(word, os.PathLike) else word for word in command]
        if all(isinstance(word, str) for word in words):
            return words
    raise InvalidRequest(
        f"command must be text for a shell or a sequence of text, not {command!r:.80}"
    )


def _encode_stdin(stdin: object) -> dict[str, str | None]:
    if isinstance(stdin, bytes | bytearray | memoryview):
        return {"stdin": base64.b64encode(stdin).decode(), "stdin_encoding": "base64"}
    if stdin is None or isinstance(stdin, str):
        return {"stdin": stdin}
    raise InvalidRequest(f"stdin is text or bytes, not {type(stdin).__name__}")


def start_process(sandbox_id: str, values: Mapping[str, Any]) -> Request:
    return post(
        sandbox_target(sandbox_id) + "/processes",
        _wire.encode(StartProcess, values),
        resend=Resend.REFUSED,
    )


def process_values(
    command: object,
    *,
    pty: PtySize | Sequence[int] | None = None,
    stdin_open: bool = False,
    tag: str | None = None,
    idle_timeout_ms: int | None = None,
    **exec_options: Any,
) -> dict[str, Any]:
    """The fields of a `StartProcess`, those that are None being left out later."""
    return {
        **exec_values(command, **exec_options),
        "stdin_open": stdin_open or None,
        "tag": tag,
        "pty": None if pty is None else pty_size(pty),
        "idle_timeout_ms": idle_timeout_ms,
    }


def pty_size(size: object) -> PtySize:
    """The size of a terminal, of `PtySize(rows, cols)` or such as `(24, 80)`."""
    if isinstance(size, PtySize):
        rows, cols = size.rows, size.cols
    elif isinstance(size, tuple | list) and len(size) == 2:
        rows, cols = size
    else:
        raise InvalidRequest(f"a terminal's size is (rows, cols), not {size!r:.80}")
    for side in (rows, cols):
        if type(side) is not int or not 1 <= side <= MAX_TERMINAL_SIDE:
            raise InvalidRequest(
                f"a terminal has 1 to {MAX_TERMINAL_SIDE} rows and cols, not {side!r:.80}"
            )
    return PtySize(rows, cols)


def list_processes(
    sandbox_id: str,
    *,
    status: ProcessStatus | str | Sequence[ProcessStatus | str] | None = None,
    tag: str | None = None,
    pid: int | None = None,
    limit: int | None = None,
    cursor: str | None = None,
) -> Request:
    words = [status] if isinstance(status, str) else status
    query = {
        "status": None if words is None else ",".join(plain_word(word) for word in words),
        "tag": tag,
        "pid": pid,
        "limit": PAGE_SIZE if limit is None else limit,
        "cursor": cursor,
    }
    return Request(b"GET", with_query(sandbox_target(sandbox_id) + "/processes", query))


def get_process(sandbox_id: str, process_id: str) -> Request:
    return Request(b"GET", process_target(sandbox_id, process_id))


def kill_process(sandbox_id: str, process_id: str) -> Request:
    return Request(b"DELETE", process_target(sandbox_id, process_id))


def stream_process(sandbox_id: str, process_id: str, *, since: int, follow: bool) -> Request:
    query = {"since": since, "follow": None if follow else False}
    return Request(
        b"GET",
        with_query(process_target(sandbox_id, process_id) + "/stream", query),
        headers=(FRAMES,),
        wait=HEARTBEAT_SILENCE_SECONDS,
    )


def wait_process(sandbox_id: str, process_id: str, *, timeout_ms: int) -> Request:
    return post(
        process_target(sandbox_id, process_id) + "/wait",
        _wire.encode(WaitProcess, {"timeout_ms": timeout_ms}),
        resend=Resend.ALWAYS,
        wait=timeout_ms / 1000 + COMMAND_MARGIN_SECONDS,
    )


def signal_process(sandbox_id: str, process_id: str, signal: object, *, tree: bool) -> Request:
    return post(
        process_target(sandbox_id, process_id) + "/signal",
        _wire.encode(SignalProcess, {"signal": signal_value(signal), "tree": tree}),
        resend=Resend.REFUSED,
    )


def signal_value(signal: object) -> str | int:
    """A signal as it travels: a name, or a number, which `signal.SIGTERM` is one of."""
    if isinstance(signal, str) and signal:
        return int(signal) if signal.isascii() and signal.isdecimal() else signal.upper()
    if isinstance(signal, int) and not isinstance(signal, bool) and signal > 0:
        return int(signal)
    raise InvalidRequest(f'a signal is such as "TERM" or 15, not {signal!r:.80}')


def write_stdin(sandbox_id: str, process_id: str, data: object, *, eof: bool) -> Request:
    if not isinstance(data, str | bytes | bytearray | memoryview):
        raise InvalidRequest(f"input is text or bytes, not {type(data).__name__}")
    query = {"eof": eof or None}
    return Request(
        b"POST",
        with_query(process_target(sandbox_id, process_id) + "/stdin", query),
        headers=(JSON, OCTETS_BODY),
        body=encode_text(data) if isinstance(data, str) else bytes(data),
        resend=Resend.NEVER,
    )


def resize_process(sandbox_id: str, process_id: str, size: PtySize) -> Request:
    return post(
        process_target(sandbox_id, process_id) + "/resize",
        _wire.encode(PtySize, {"rows": size.rows, "cols": size.cols}),
        resend=Resend.ALWAYS,
    )


def attach_process(sandbox_id: str, process_id: str, *, since: int | None) -> Request:
    """To be sent as the handshake of a WebSocket."""
    if since is not None:
        check_since(since)
    target = process_target(sandbox_id, process_id) + "/attach"
    return Request(b"GET", with_query(target, {"since": since}), headers=())


def process_target(sandbox_id: str, process_id: str) -> str:
    return f"{sandbox_target(sandbox_id)}/processes/{quote_id('a process', process_id)}"
