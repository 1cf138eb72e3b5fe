# SPDX-License-Identifier: Apache-2.0
"""What stands behind the chunks of a body."""

from __future__ import annotations

# What may come behind one, names and values together.
TRAILER_BYTES = 16 * 1024
# The name by which `Trailers` stand in the scope of a request.
TRAILERS = "atoll.trailers"


class Trailers:
    """What stands behind the chunks of a request, once its body has ended, and of its answer.

    They are not headers: whatever looked at those on the way has not seen these.
    """

    def __init__(self) -> None:
        self.received: list[tuple[bytes, bytes]] = []
        self.answered: list[tuple[bytes, bytes]] = []
        """Set before the last of a chunked answer is sent."""
        self._size = 0

    def add(self, name: bytes, value: bytes) -> None:
        """One more that has come. Raises `ValueError` where they are too many, which is answered with 400."""
        self._size += len(name) + len(value)
        if self._size > TRAILER_BYTES:
            raise ValueError(f"more than {TRAILER_BYTES} bytes behind the body")
        self.received.append((name.lower(), value))
