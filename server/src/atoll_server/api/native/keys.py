# SPDX-License-Identifier: Apache-2.0
"""API keys: making, listing and withdrawing them."""

from __future__ import annotations

from atoll.models import CreateKey, KeyInfo, KeyList
from atoll_server.api.call import Call
from atoll_server.api.native.key_wire import parse_scopes, render_key, render_keys
from atoll_server.api.reply import Reply
from atoll_server.api.routing import SMALL_BODY_LIMIT, Operation
from atoll_server.engine.keys import Scope


async def create(call: Call) -> Reply:
    body = await call.json(CreateKey)
    key, text = call.keys.make_for(
        call.key, name=body.name, scopes=parse_scopes(body.scopes), now=call.clock.now()
    )
    return call.answer(render_key(key, text), status=201)


async def list_keys(call: Call) -> Reply:
    return call.answer(render_keys(call.keys.list()))


async def remove(call: Call) -> Reply:
    call.keys.remove(call.path_parameter("key_id"))
    return Reply(status=204, headers=())


OPERATIONS = (
    Operation(
        method="POST",
        path="/v1/keys",
        name="createKey",
        summary="Make an API key; its text is in this answer only",
        handler=create,
        body=CreateKey,
        body_limit=SMALL_BODY_LIMIT,
        answer=KeyInfo,
        status=201,
        scope=Scope.KEYS,
        errors=("RESOURCE_EXHAUSTED",),
    ),
    Operation(
        method="GET",
        path="/v1/keys",
        name="listKeys",
        summary="All API keys, without their texts",
        handler=list_keys,
        answer=KeyList,
        scope=Scope.KEYS,
    ),
    Operation(
        method="DELETE",
        path="/v1/keys/{key_id}",
        name="removeKey",
        summary="Withdraw an API key at once; not one of the settings, nor the last that manages keys",
        handler=remove,
        answer=None,
        status=204,
        scope=Scope.KEYS,
        errors=("KEY_NOT_FOUND",),
    ),
)
