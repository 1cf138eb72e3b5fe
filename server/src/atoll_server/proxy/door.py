# SPDX-License-Identifier: Apache-2.0
"""Who gets through to which preview: decided before anything of a sandbox is touched."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from atoll_server.engine.engine import Engine
from atoll_server.engine.model import ExposedPort
from atoll_server.proxy import access
from atoll_server.proxy.headers import Headers
from atoll_server.proxy.names import PreviewName, name_in_host, name_in_path

_NONE: Final = (None,)


@dataclass(frozen=True)
class Admitted:
    """A visitor who may pass. `token` is a good one, where one was brought."""

    exposed: ExposedPort
    token: str | None
    seconds_left: int | None = None
    """How long the token is still good; None where it ends with its port."""


class Door:
    """Finds the preview that a request names, and whether it may have it."""

    def __init__(self, engine: Engine, domain: str) -> None:
        self._engine = engine
        self._domain = domain.encode("ascii")

    def name(self, headers: Headers, raw_path: bytes) -> PreviewName | None:
        """The preview that is meant; None where none is, which is then a matter of the API."""
        hosts = [value for name, value in headers if name == b"host"]
        by_host = name_in_host(hosts[0], self._domain) if hosts else None
        return by_host or name_in_path(raw_path)

    def admit(self, name: PreviewName, headers: Headers, query: bytes) -> Admitted | None:
        """The visitor, if he may pass. As one who may not he learns nothing, not even from the time it takes."""
        first: Admitted | None = None
        for token in tuple(access.tokens(headers, query)) or _NONE:
            preview = self._engine.preview(name.port, name.label, token)
            if preview is not None and preview.has_token:
                return Admitted(preview.exposed, token, preview.seconds_left)
            if preview is not None:
                first = Admitted(preview.exposed, None)
        return first
