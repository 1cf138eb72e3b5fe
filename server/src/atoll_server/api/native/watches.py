# SPDX-License-Identifier: Apache-2.0
"""Watches over directories of a sandbox: begun, found, read and stopped."""

from __future__ import annotations

from atoll.models import StartWatch, WatchInfo, WatchList
from atoll_server.api.call import Call
from atoll_server.api.change_forms import CHANGE_FORMS
from atoll_server.api.native.file_wire import parse_path
from atoll_server.api.native.watch_wire import (
    ChangesQuery,
    render_change,
    render_changes_end,
    render_watch,
    render_watches,
)
from atoll_server.api.object_forms import parse_resume
from atoll_server.api.reply import Answer, Reply
from atoll_server.api.routing import SANDBOX_ERRORS, SMALL_BODY_LIMIT, Operation
from atoll_server.api.streaming import stream_events
from atoll_server.engine.keys import Scope
from atoll_server.engine.model import WatchId
from atoll_server.engine.watches import Watches


async def start(call: Call) -> Reply:
    body = await call.json(StartWatch)
    path = parse_path("path", body.path, body.path_encoding)
    linger = None if body.linger_ms is None else body.linger_ms / 1000
    watch = await _watches(call).start(path, recursive=body.recursive, linger=linger)
    return call.answer(render_watch(watch), status=201)


async def list_watches(call: Call) -> Reply:
    return call.answer(render_watches(await _watches(call).list()))


async def get(call: Call) -> Reply:
    return call.answer(render_watch(await _watches(call).get(_watch_id(call))))


async def stop(call: Call) -> Reply:
    await _watches(call).stop(_watch_id(call))
    return Reply(status=204, headers=())


async def stream(call: Call) -> Answer:
    query = call.query(ChangesQuery)
    wanted = call.preferred(STREAM_TYPES)
    changes = _watches(call).changes(
        _watch_id(call),
        since=parse_resume(call.header(b"last-event-id"), query.since),
        follow=query.follow,
    )
    form = CHANGE_FORMS[wanted](render_change)
    return stream_events(changes, form, render_changes_end, call.request_id)


def _watches(call: Call) -> Watches:
    return call.engine.watches(call.sandbox_id)


def _watch_id(call: Call) -> WatchId:
    return WatchId(call.path_parameter("watch_id"))


STREAM_TYPES = tuple(CHANGE_FORMS)
_ERRORS = (*SANDBOX_ERRORS, "WATCH_NOT_FOUND")
_ALL = "/v1/sandboxes/{id}/watches"
_ONE = f"{_ALL}/{{watch_id}}"

OPERATIONS = (
    Operation(
        method="POST",
        path=_ALL,
        name="startWatch",
        summary="Watch a directory from now on",
        handler=start,
        body=StartWatch,
        body_limit=SMALL_BODY_LIMIT,
        answer=WatchInfo,
        status=201,
        scope=Scope.FILES,
        errors=(*SANDBOX_ERRORS, "FILE_NOT_FOUND", "FILE_ERROR", "RESOURCE_EXHAUSTED"),
    ),
    Operation(
        method="GET",
        path=_ALL,
        name="listWatches",
        summary="The watches of a sandbox, the oldest first",
        handler=list_watches,
        answer=WatchList,
        scope=Scope.FILES,
        errors=SANDBOX_ERRORS,
    ),
    Operation(
        method="GET",
        path=_ONE,
        name="getWatch",
        summary="One watch, also one that has ended and can still be read",
        handler=get,
        answer=WatchInfo,
        scope=Scope.FILES,
        errors=_ERRORS,
    ),
    Operation(
        method="DELETE",
        path=_ONE,
        name="stopWatch",
        summary="Stop a watch, and end whoever reads it",
        handler=stop,
        answer=None,
        status=204,
        scope=Scope.FILES,
        errors=_ERRORS,
    ),
    Operation(
        method="GET",
        path=f"{_ONE}/changes",
        name="streamChanges",
        summary="What changes, from any change on; the form is chosen by `Accept`",
        handler=stream,
        query=ChangesQuery,
        answer=None,
        answer_types=STREAM_TYPES,
        scope=Scope.FILES,
        errors=_ERRORS,
    ),
)
