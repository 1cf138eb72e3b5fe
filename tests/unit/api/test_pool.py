# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from tests.unit.api.memory import Client


async def test_the_pool_is_shown_with_what_it_holds() -> None:
    answer = await Client().request("GET", "/v1/pool")

    assert answer.status == 200
    assert answer.json == {
        "size": 4,
        "minIdle": 1,
        "maxIdleMs": 1500,
        "refill": 2,
        "shapes": [
            {
                "image": "host",
                "runtime": "gvisor",
                "memoryMb": 4096,
                "diskMb": 10240,
                "target": 4,
                "idle": 1,
                "building": 2,
                "demand": 3,
                "hits": 5,
                "misses": 6,
                "built": 7,
                "failed": 8,
                "died": 9,
                "retired": 10,
                "openFiles": 65536,
                "network": False,
            }
        ],
    }


async def test_a_resized_pool_is_shown_as_it_is_then() -> None:
    answer = await Client().request("PUT", "/v1/pool", {"size": 9})

    assert answer.status == 200
    assert (answer.json["size"], answer.json["shapes"][0]["target"]) == (9, 9)


@pytest.mark.parametrize("size", [-1, 1001, "4", None, 1.5])
async def test_a_size_that_cannot_be_is_refused(size: object) -> None:
    client = Client()

    answer = await client.request("PUT", "/v1/pool", {"size": size})

    assert answer.status == 400
    assert client.engine.pool_size == 4
