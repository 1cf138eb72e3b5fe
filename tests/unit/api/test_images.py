# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from tests.unit.api.memory import Client


async def test_images_are_listed_without_paths_of_the_host() -> None:
    answer = await Client().request("GET", "/v1/images")

    assert answer.status == 200
    assert answer.json == {
        "data": [
            {"name": "host", "kind": "host", "aliasOf": None},
            {"name": "python", "kind": "alias", "aliasOf": "host"},
            {"name": "own", "kind": "directory", "aliasOf": None},
        ],
        "pagination": {"total": 3, "limit": 3, "offset": 0, "hasMore": False},
    }
