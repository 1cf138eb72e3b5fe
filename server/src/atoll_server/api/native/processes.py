# SPDX-License-Identifier: Apache-2.0
"""Processes of a sandbox: started, found, read, waited for, written to and ended."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from starlette.types import Message

from atoll.models import (
    ProcessInfo,
    ProcessPage,
    ProcessResult,
    PtySize,
    SignalProcess,
    StartProcess,
    StdinWritten,
    WaitProcess,
)
from atoll_server.api.call import Call
from atoll_server.api.departures import unless_gone
from atoll_server.api.native.process_wire import (
    AttachQuery,
    ProcessQuery,
    StdinQuery,
    StreamQuery,
    parse_process_filter,
    parse_signal,
    parse_size,
    parse_start,
    render_process,
    render_process_end,
    render_process_page,
    render_waited,
)
from atoll_server.api.native.terminal import attach
from atoll_server.api.object_forms import parse_resume
from atoll_server.api.process_forms import PROCESS_FORMS
from atoll_server.api.reply import OCTETS_TYPE, Answer, Reply
from atoll_server.api.routing import LARGE_BODY_LIMIT, SANDBOX_ERRORS, SMALL_BODY_LIMIT, Operation
from atoll_server.api.streaming import stream_events
from atoll_server.engine.errors import InvalidRequest
from atoll_server.engine.keys import Scope
from atoll_server.engine.model import ProcessId
from atoll_server.engine.processes import Processes


async def start(call: Call) -> Reply:
    command, options = parse_start(await call.json(StartProcess))
    process = await _processes(call).start(command, options)
    return call.answer(render_process(process), status=201)


async def list_processes(call: Call) -> Reply:
    wanted = parse_process_filter(call.query(ProcessQuery))
    page = await call.unless_gone(_processes(call).list(wanted))
    return call.answer(render_process_page(page, wanted.limit))


async def get(call: Call) -> Reply:
    return call.answer(render_process(await _processes(call).get(_process_id(call))))


async def kill(call: Call) -> Reply:
    return call.answer(render_process(await _processes(call).kill(_process_id(call))))


async def stream(call: Call) -> Answer:
    query = call.query(StreamQuery)
    wanted = call.preferred(STREAM_TYPES)
    following = _processes(call).stream(
        _process_id(call),
        since=parse_resume(call.header(b"last-event-id"), query.since),
        follow=query.follow,
    )
    return stream_events(following, PROCESS_FORMS[wanted](), render_process_end, call.request_id)


async def wait(call: Call) -> Reply:
    timeout_ms = (await call.json(WaitProcess)).timeout_ms
    timeout = None if timeout_ms is None else timeout_ms / 1000
    waiting = _processes(call).wait(_process_id(call), timeout)
    return call.answer(render_waited(await call.unless_gone(waiting)))


async def signal(call: Call) -> Reply:
    body = await call.json(SignalProcess)
    number = parse_signal(body.signal)
    process = await _processes(call).signal(_process_id(call), number, tree=body.tree)
    return call.answer(render_process(process))


async def write_stdin(call: Call) -> Reply:
    query = call.query(StdinQuery)
    if call.media_type not in ("", OCTETS_TYPE):
        raise call.unsupported(OCTETS_TYPE)
    is_read = asyncio.Event()

    async def chunks() -> AsyncIterator[bytes]:
        async for chunk in call.chunks():
            yield chunk
        is_read.set()

    async def receive_after_body() -> Message:
        await is_read.wait()
        return await call.receive()

    # A process takes its input when it likes, and its client need not wait for that.
    writing = _processes(call).write_stdin(_process_id(call), chunks(), end=query.eof)
    return call.answer(StdinWritten(bytes=await unless_gone(receive_after_body, writing)))


async def resize(call: Call) -> Reply:
    size = parse_size(await call.json(PtySize))
    return call.answer(render_process(await _processes(call).resize(_process_id(call), size)))


async def refuse_plain_attach(call: Call) -> Reply:
    raise InvalidRequest("this is a WebSocket: send the headers of its handshake")


def _processes(call: Call) -> Processes:
    return call.engine.processes(call.sandbox_id)


def _process_id(call: Call) -> ProcessId:
    return ProcessId(call.path_parameter("process_id"))


STREAM_TYPES = tuple(PROCESS_FORMS)
_ERRORS = (*SANDBOX_ERRORS, "PROCESS_NOT_FOUND")
_ALL = "/v1/sandboxes/{id}/processes"
_ONE = f"{_ALL}/{{process_id}}"

OPERATIONS = (
    Operation(
        method="POST",
        path=_ALL,
        name="startProcess",
        summary="Start a process that goes on by itself",
        handler=start,
        body=StartProcess,
        body_limit=LARGE_BODY_LIMIT,
        answer=ProcessInfo,
        status=201,
        scope=Scope.EXECUTE,
        errors=(*SANDBOX_ERRORS, "COMMAND_NOT_STARTED", "RESOURCE_EXHAUSTED"),
    ),
    Operation(
        method="GET",
        path=_ALL,
        name="listProcesses",
        summary="Processes that run, and the last that have ended, newest first",
        handler=list_processes,
        query=ProcessQuery,
        answer=ProcessPage,
        scope=Scope.READ,
        errors=SANDBOX_ERRORS,
    ),
    Operation(
        method="GET",
        path=_ONE,
        name="getProcess",
        summary="One process, also one that has ended",
        handler=get,
        answer=ProcessInfo,
        scope=Scope.READ,
        errors=_ERRORS,
    ),
    Operation(
        method="DELETE",
        path=_ONE,
        name="killProcess",
        summary="Kill a process and all that it started; repeating is harmless",
        handler=kill,
        answer=ProcessInfo,
        scope=Scope.EXECUTE,
        errors=(*_ERRORS, "TIMEOUT"),
    ),
    Operation(
        method="GET",
        path=f"{_ONE}/stream",
        name="streamProcess",
        summary="What a process writes, from any position on; the form is chosen by `Accept`",
        handler=stream,
        query=StreamQuery,
        answer=None,
        answer_types=STREAM_TYPES,
        scope=Scope.READ,
        errors=_ERRORS,
    ),
    Operation(
        method="POST",
        path=f"{_ONE}/wait",
        name="waitProcess",
        summary="Wait for the end of a process and answer with the newest of its output",
        handler=wait,
        body=WaitProcess,
        body_limit=SMALL_BODY_LIMIT,
        answer=ProcessResult,
        scope=Scope.READ,
        errors=(*_ERRORS, "TIMEOUT"),
    ),
    Operation(
        method="POST",
        path=f"{_ONE}/signal",
        name="signalProcess",
        summary="Send a signal to a process, and to all that it started",
        handler=signal,
        body=SignalProcess,
        body_limit=SMALL_BODY_LIMIT,
        answer=ProcessInfo,
        scope=Scope.EXECUTE,
        errors=(*_ERRORS, "PROCESS_ENDED"),
    ),
    Operation(
        method="POST",
        path=f"{_ONE}/stdin",
        name="writeProcessStdin",
        summary="Write to a process; answers once it took all of it",
        handler=write_stdin,
        query=StdinQuery,
        raw_body_types=(OCTETS_TYPE,),
        answer=StdinWritten,
        scope=Scope.EXECUTE,
        errors=(*_ERRORS, "STDIN_CLOSED"),
    ),
    Operation(
        method="POST",
        path=f"{_ONE}/resize",
        name="resizeProcess",
        summary="Change the size of a process's terminal",
        handler=resize,
        body=PtySize,
        body_limit=SMALL_BODY_LIMIT,
        answer=ProcessInfo,
        scope=Scope.EXECUTE,
        errors=(*_ERRORS, "PROCESS_ENDED"),
    ),
    Operation(
        method="GET",
        path=f"{_ONE}/attach",
        name="attachProcess",
        summary="Talk with a process over a WebSocket",
        handler=refuse_plain_attach,
        socket=attach,
        query=AttachQuery,
        answer=None,
        status=101,
        scope=Scope.EXECUTE,
        errors=(*_ERRORS, "STDIN_CLOSED"),
    ),
)
