# SPDX-License-Identifier: Apache-2.0
"""Running commands."""

from __future__ import annotations

from atoll.models import ExecRequest, ExecResult
from atoll_server.api.call import Call
from atoll_server.api.forms import FORMS
from atoll_server.api.native.command_wire import parse_command, render_exit, render_result
from atoll_server.api.reply import JSON_TYPE, Answer
from atoll_server.api.routing import LARGE_BODY_LIMIT, SANDBOX_ERRORS, Operation
from atoll_server.api.streaming import stream_events
from atoll_server.engine.keys import Scope

ANSWER_TYPES = (JSON_TYPE, *FORMS)


async def execute(call: Call) -> Answer:
    command = parse_command(await call.json(ExecRequest), call.settings)
    wanted = call.preferred(ANSWER_TYPES)
    if wanted in FORMS:
        running = call.engine.start(call.sandbox_id, command)
        return stream_events(running, FORMS[wanted](), render_exit, call.request_id)
    completed = await call.unless_gone(call.engine.execute(call.sandbox_id, command))
    return call.answer(render_result(completed))


OPERATIONS = (
    Operation(
        method="POST",
        path="/v1/sandboxes/{id}/execute",
        name="execute",
        summary="Run a command; the form of the answer is chosen by `Accept`",
        handler=execute,
        body=ExecRequest,
        body_limit=LARGE_BODY_LIMIT,
        answer=ExecResult,
        answer_types=ANSWER_TYPES,
        scope=Scope.EXECUTE,
        errors=(*SANDBOX_ERRORS, "COMMAND_NOT_STARTED", "RESOURCE_EXHAUSTED"),
    ),
)
