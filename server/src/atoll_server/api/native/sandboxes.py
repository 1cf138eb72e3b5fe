# SPDX-License-Identifier: Apache-2.0
"""Creating, showing and ending sandboxes."""

from __future__ import annotations

from atoll.models import (
    CreateSandbox,
    Network,
    NetworkReport,
    SandboxInfo,
    SandboxMetrics,
    SandboxPage,
)
from atoll_server.api.call import Call
from atoll_server.api.native.network_wire import parse_network_change, render_network_report
from atoll_server.api.native.sandbox_wire import (
    ListQuery,
    parse_filter,
    parse_spec,
    render_page,
    render_sandbox,
    render_usage,
)
from atoll_server.api.reply import Reply
from atoll_server.api.routing import SANDBOX_ERRORS, Operation
from atoll_server.engine.errors import InvalidConfig
from atoll_server.engine.keys import Scope


async def create(call: Call) -> Reply:
    spec = parse_spec(await call.json(CreateSandbox), call.settings)
    # Watched from its beginning, however short it is: a sandbox that nobody was told of is nobody's to end.
    sandbox = await call.unless_gone(call.engine.create(spec), watch_after=0.0)
    return call.answer(render_sandbox(sandbox), status=201)


async def list_sandboxes(call: Call) -> Reply:
    wanted = parse_filter(call.query(ListQuery))
    return call.answer(render_page(call.engine.list(wanted), wanted))


async def get(call: Call) -> Reply:
    return call.answer(render_sandbox(call.engine.get(call.sandbox_id)))


async def terminate(call: Call) -> Reply:
    # To the end even if the client goes away: who asked for it meant it.
    return call.answer(render_sandbox(await call.engine.terminate(call.sandbox_id)))


async def metrics(call: Call) -> Reply:
    return call.answer(render_usage(await call.engine.usage(call.sandbox_id)))


async def get_network(call: Call) -> Reply:
    return call.answer(render_network_report(*await call.engine.network(call.sandbox_id)))


async def set_network(call: Call) -> Reply:
    policy = parse_network_change(await call.json(Network))
    return call.answer(render_sandbox(await call.engine.set_network(call.sandbox_id, policy)))


OPERATIONS = (
    Operation(
        method="POST",
        path="/v1/sandboxes",
        name="createSandbox",
        summary="Create a sandbox; answers once it is running",
        handler=create,
        body=CreateSandbox,
        answer=SandboxInfo,
        status=201,
        scope=Scope.CREATE,
        invalid=InvalidConfig,
        errors=("INVALID_CONFIG", "RESOURCE_EXHAUSTED", "RUNTIME_UNAVAILABLE"),
    ),
    Operation(
        method="GET",
        path="/v1/sandboxes",
        name="listSandboxes",
        summary="Sandboxes, newest first, terminated ones too",
        handler=list_sandboxes,
        query=ListQuery,
        answer=SandboxPage,
        scope=Scope.READ,
    ),
    Operation(
        method="GET",
        path="/v1/sandboxes/{id}",
        name="getSandbox",
        summary="One sandbox, also one that is terminated",
        handler=get,
        answer=SandboxInfo,
        scope=Scope.READ,
        errors=("SANDBOX_NOT_FOUND",),
    ),
    Operation(
        method="GET",
        path="/v1/sandboxes/{id}/metrics",
        name="getSandboxMetrics",
        summary="What a sandbox uses of its host, beside what it may use",
        handler=metrics,
        answer=SandboxMetrics,
        scope=Scope.READ,
        errors=SANDBOX_ERRORS,
    ),
    Operation(
        method="GET",
        path="/v1/sandboxes/{id}/network",
        name="getSandboxNetwork",
        summary="What a sandbox may reach, what it did, and what it was refused",
        handler=get_network,
        answer=NetworkReport,
        scope=Scope.READ,
        errors=("INVALID_CONFIG", *SANDBOX_ERRORS),
    ),
    Operation(
        method="PUT",
        path="/v1/sandboxes/{id}/network",
        name="setSandboxNetwork",
        summary="Let another network policy hold from now on; what it does not allow is cut",
        handler=set_network,
        body=Network,
        answer=SandboxInfo,
        scope=Scope.CREATE,
        invalid=InvalidConfig,
        errors=("INVALID_CONFIG", *SANDBOX_ERRORS),
    ),
    Operation(
        method="DELETE",
        path="/v1/sandboxes/{id}",
        name="terminateSandbox",
        summary="Terminate a sandbox; repeating it is harmless",
        handler=terminate,
        answer=SandboxInfo,
        scope=Scope.DELETE,
        errors=("SANDBOX_NOT_FOUND",),
    ),
)
