# SPDX-License-Identifier: Apache-2.0
"""What the server holds ready, and how much of it."""

from __future__ import annotations

from collections.abc import Sequence

from atoll.models import PoolInfo, PoolShape, ResizePool, Runtime
from atoll_server.api.call import Call
from atoll_server.api.reply import Reply
from atoll_server.api.routing import SMALL_BODY_LIMIT, Operation
from atoll_server.engine.keys import Scope
from atoll_server.engine.pool import ShapeStatistics
from atoll_server.engine.pool_plan import PoolSettings


async def get(call: Call) -> Reply:
    return call.answer(render_pool(*call.engine.pool()))


async def resize(call: Call) -> Reply:
    body = await call.json(ResizePool)
    call.engine.resize_pool(body.size)
    return call.answer(render_pool(*call.engine.pool()))


def render_pool(settings: PoolSettings, shapes: Sequence[ShapeStatistics]) -> PoolInfo:
    return PoolInfo(
        size=settings.size,
        min_idle=settings.min_idle,
        max_idle_ms=round(settings.max_idle * 1000),
        refill=settings.refill,
        shapes=[_render_shape(it) for it in shapes],
    )


def _render_shape(statistics: ShapeStatistics) -> PoolShape:
    shape = statistics.shape
    return PoolShape(
        image=shape.image,
        runtime=Runtime(shape.runtime.value),
        memory_mb=shape.memory_mb,
        disk_mb=shape.disk_mb,
        target=statistics.target,
        idle=statistics.idle,
        building=statistics.building,
        demand=round(statistics.demand),
        hits=statistics.hits,
        misses=statistics.misses,
        built=statistics.built,
        failed=statistics.failed,
        died=statistics.died,
        retired=statistics.retired,
        open_files=shape.open_files,
        network=shape.network,
    )


OPERATIONS = (
    Operation(
        method="GET",
        path="/v1/pool",
        name="getPool",
        summary="The sandboxes that are held ready, by what they are made of",
        handler=get,
        answer=PoolInfo,
        scope=Scope.POOL,
    ),
    Operation(
        method="PUT",
        path="/v1/pool",
        name="resizePool",
        summary="Hold another number of sandboxes ready, until the server ends",
        handler=resize,
        body=ResizePool,
        body_limit=SMALL_BODY_LIMIT,
        answer=PoolInfo,
        scope=Scope.POOL,
    ),
)
