# SPDX-License-Identifier: Apache-2.0
"""What a server says once it answers: to a person on stderr, and if it is private to its client on stdout."""

from __future__ import annotations

import json
import socket
import sys
from collections.abc import Callable
from typing import TextIO

from atoll_server.engine.engine import Engine
from atoll_server.listeners import url_of
from atoll_server.settings import Settings


def announcement(
    settings: Settings, listeners: list[socket.socket], engine: Engine, key_text: str | None
) -> Callable[[], None]:
    """What is said once the server answers."""

    def announce() -> None:
        if settings.private:
            _say(sys.stdout, json.dumps({"url": f"unix://{settings.socket}", "api_key": key_text}))
            return
        urls = [url_of(listener, settings) for listener in listeners]
        _say(sys.stderr, _welcome(urls, engine, settings, key_text))

    return announce


def _welcome(urls: list[str], engine: Engine, settings: Settings, key_text: str | None) -> str:
    kinds = list(engine.runtimes().values())
    lines = [
        "atoll is ready",
        f"  url        {urls[0]}",
        *(f"             {url}" for url in urls[1:]),
        f"  isolation  {'; also '.join(kinds)}",
        f"  sandboxes  {engine.sandbox_count()} running",
        f"  state      {settings.state_dir}",
    ]
    if key_text is not None:
        lines += [
            f"  api key    {key_text}",
            "             shown once; only its hash is kept. Use it from a client:",
            f"             export ATOLL_URL={urls[0]} ATOLL_API_KEY={key_text}",
        ]
    elif settings.api_keys:
        lines.append("  api key    as configured")
    else:
        lines.append(f"  api key    made earlier; its hash is in {settings.state_dir / 'atoll.db'}")
    return "\n".join(lines)


def _say(stream: TextIO, text: str) -> None:
    stream.write(text + "\n")
    stream.flush()
