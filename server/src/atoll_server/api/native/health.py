# SPDX-License-Identifier: Apache-2.0
"""Whether the server answers."""

from __future__ import annotations

from datetime import UTC, datetime

from atoll.models import Health
from atoll_server.api.call import Call
from atoll_server.api.reply import Reply
from atoll_server.api.routing import Operation


async def health(call: Call) -> Reply:
    now = datetime.now(UTC).isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"
    return call.answer(Health(status="ok", version="v1", timestamp=now))


OPERATIONS = (
    Operation(
        method="GET",
        path="/v1/health",
        name="health",
        summary="Whether the server answers; needs no key",
        handler=health,
        answer=Health,
    ),
)
