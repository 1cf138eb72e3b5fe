# SPDX-License-Identifier: Apache-2.0
"""The end of a `with` block that something on the server ends with."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from .._colour import async_shield
from ..errors import Error


async def end_with_block(
    end: Callable[[], Awaitable[None]], seconds: float, error: BaseException | None, undone: str
) -> None:
    """Calls `end`, which has `seconds` in a block whose task was cancelled. If it fails that is raised, or noted as
    `undone` on the error that the block itself has ended with.
    """
    try:
        with async_shield(seconds):
            await end()
    except Error as failure:
        if error is None:
            raise
        error.add_note(f"besides, {undone}: {failure}")
