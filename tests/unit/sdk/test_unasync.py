# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections import Counter

from tools.unasync import unasync

SOURCE = '''# SPDX-License-Identifier: Apache-2.0
"""Says `await client.aclose()`."""


class AsyncSandbox:  # the AsyncSandbox itself
    async def __aenter__(self) -> AsyncSandbox:
        async with self.lock, other() as (a, b):
            later: dict[str, Awaitable[list[int]]] = {}
            return [x async for x in await self.list(  # kept
                "async with await"
            )]
'''


def test_tokens_change_and_comments_stay() -> None:
    used: Counter[str] = Counter()

    text = unasync(SOURCE, used)

    assert text.splitlines()[2:] == [
        '"""Says `client.close()`."""',
        "",
        "",
        "class Sandbox:  # the Sandbox itself",
        "    def __enter__(self) -> Sandbox:",
        "        with self.lock, other() as (a, b):",
        "            later: dict[str, list[int]] = {}",
        "            return [x for x in self.list(  # kept",
        '                "with await"',
        "            )]",
    ]
    assert used["AsyncSandbox"] == 3
