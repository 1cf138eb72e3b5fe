# SPDX-License-Identifier: Apache-2.0
"""What opens a private port: the instant when it ends, and a signature over that and the port's name.

Nothing is kept of a token. It is worth nothing once its port is closed, for the name is never used again.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import math
import re
from datetime import UTC, datetime
from typing import Final

from atoll_server.clock import Clock
from atoll_server.engine.model import ExposedPort

SECRET_NAME: Final = "preview-tokens"
_FORM: Final = re.compile(r"(0|[1-9][0-9]{0,11})\.([A-Za-z0-9_-]{43})")
_NOBODY: Final = "0-nobody"


class PreviewTokens:
    """Makes and checks them, with a secret of the server's that has at least 32 bytes."""

    def __init__(self, secret: bytes, clock: Clock) -> None:
        assert len(secret) >= 32
        self._secret = secret
        self._clock = clock

    def make(self, exposed: ExposedPort, lasts: float | None = None) -> str:
        """One that is good for so many seconds, or until the port is closed."""
        until = 0 if lasts is None else math.ceil(self._now() + lasts)
        return f"{until}.{self._sign(exposed.name, until)}"

    def is_good(self, token: str, exposed: ExposedPort | None) -> bool:
        """Whether it opens the port now. Takes as long for a port that does not exist as for one that does."""
        found = _FORM.fullmatch(token)
        until = int(found[1]) if found else 0
        name = _NOBODY if exposed is None else exposed.name
        is_ours = hmac.compare_digest(self._sign(name, until), found[2] if found else "-")
        return is_ours and exposed is not None and (until == 0 or self._now() < until)

    def seconds_left(self, token: str) -> int | None:
        """How long one that is good stays so; None where that is until its port is closed."""
        until = expiry(token)
        return None if until is None else math.ceil(until.timestamp() - self._now())

    def _now(self) -> float:
        return self._clock.now().timestamp()

    def _sign(self, name: str, until: int) -> str:
        said = f"{name}\n{until}".encode()
        digest = hmac.new(self._secret, said, hashlib.sha256).digest()
        return base64.urlsafe_b64encode(digest).decode("ascii").rstrip("=")


def expiry(token: str) -> datetime | None:
    """The instant when a token of ours ends; None for one that ends with its port."""
    until = int(token.partition(".")[0])
    return datetime.fromtimestamp(until, UTC) if until else None
