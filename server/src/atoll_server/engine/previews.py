# SPDX-License-Identifier: Apache-2.0
"""Who may use which exposed port: what stands between a preview's visitor and the program behind it."""

from __future__ import annotations

from dataclasses import dataclass

from atoll_server.engine.exposures import Exposures
from atoll_server.engine.model import ExposedPort
from atoll_server.engine.preview_tokens import PreviewTokens


@dataclass(frozen=True)
class Preview:
    """An exposed port that the asker may use; whether the token that came with the wish is one of its own, and for how
    many seconds, if not until the port is closed.
    """

    exposed: ExposedPort
    has_token: bool
    seconds_left: int | None


class Previews:
    """All exposed ports, as their visitors see them."""

    def __init__(self, exposures: Exposures, tokens: PreviewTokens) -> None:
        self._exposures = exposures
        self._tokens = tokens

    def find(self, port: int, label: str, token: str | None) -> Preview | None:
        """The exposed port of this name, if it is open to whoever brings this token; why it is not stays untold."""
        exposed = self._exposures.find(port, label)
        # Always checked, so that nobody learns from the time what there is.
        is_good = self._tokens.is_good(token or "", exposed)
        if exposed is None or (exposed.is_private and not is_good):
            return None
        left = self._tokens.seconds_left(token) if token and is_good else None
        return Preview(exposed, is_good, left)
