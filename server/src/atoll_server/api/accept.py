# SPDX-License-Identifier: Apache-2.0
"""Which of several media types an answer has."""

from __future__ import annotations

import functools


@functools.lru_cache(maxsize=256)
def preferred(accept: str, offered: tuple[str, ...]) -> str:
    """Which of the offered media types an `Accept` header asks for; the first, where it asks for none of them."""
    wanted: list[tuple[float, str]] = []
    for part in accept[:1024].lower().split(","):
        media_type, *parameters = (piece.strip() for piece in part.split(";"))
        quality = next((p[2:] for p in parameters if p.startswith("q=")), "1")
        wanted.append((_quality(quality), media_type))
    for _, media_type in sorted(
        (item for item in wanted if item[0] > 0), key=lambda item: -item[0]
    ):
        if media_type in offered:
            return media_type
        if media_type == "*/*":
            break
    return offered[0]


def _quality(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0
