# SPDX-License-Identifier: Apache-2.0
"""The server's numbers, for Prometheus."""

from __future__ import annotations

from atoll_server.api.call import Call
from atoll_server.api.reply import Reply
from atoll_server.api.routing import Operation
from atoll_server.engine.keys import Scope

TEXT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


async def metrics(call: Call) -> Reply:
    text = await call.exposition.render(call.engine)
    return Reply(text, headers=((b"content-type", TEXT_TYPE.encode()),))


OPERATIONS = (
    Operation(
        method="GET",
        path="/metrics",
        name="metrics",
        summary="The server's numbers, in the text format of Prometheus",
        handler=metrics,
        answer=None,
        answer_types=("text/plain",),
        scope=Scope.METRICS,
    ),
)
