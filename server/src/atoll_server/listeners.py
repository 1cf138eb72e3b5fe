# SPDX-License-Identifier: Apache-2.0
"""The sockets that the server listens on, and what they are called from outside."""

from __future__ import annotations

import contextlib
import os
import socket
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from atoll_server.settings import Settings

BACKLOG: Final = 1024
LOOPBACK: Final = "127.0.0.1"
HTTP_PORT: Final = 80


class CannotListen(Exception):
    """An address that cannot be had. The message says what to change."""


@contextlib.contextmanager
def listening(settings: Settings) -> Iterator[list[socket.socket]]:
    """Sockets that listen; the unix one is removed at the end."""
    listeners: list[socket.socket] = []
    try:
        if not settings.private:
            listeners.append(_listen_tcp(settings.host, settings.port))
        if settings.socket is not None:
            listeners.append(_listen_unix(settings.socket))
        yield listeners
    finally:
        for listener in listeners:
            listener.close()
            if listener.family == socket.AF_UNIX and settings.socket is not None:
                settings.socket.unlink(missing_ok=True)


@contextlib.contextmanager
def listening_for_previews(settings: Settings) -> Iterator[list[socket.socket]]:
    """A socket for previews alone, where one is wanted: a browser reaches a private server nowhere else."""
    if settings.preview_port is None and not settings.private:
        yield []
        return
    host = LOOPBACK if settings.private else settings.host
    with _listen_tcp(host, settings.preview_port or 0) as listener:
        yield [listener]


def port_of(listeners: list[socket.socket]) -> int | None:
    """The port of the first that listens on one."""
    tcp = (it for it in listeners if it.family != socket.AF_UNIX)
    return next((it.getsockname()[1] for it in tcp), None)


def preview_url(
    settings: Settings, previews: list[socket.socket], listeners: list[socket.socket]
) -> str:
    """What URLs of ports are made from, where the settings do not say."""
    if settings.preview_url is not None:
        return settings.preview_url
    port = port_of([*previews, *listeners])
    authority = settings.preview_domain + (f":{port}" if port not in (None, HTTP_PORT) else "")
    return f"http://{{port}}-{{label}}.{authority}/"


def _listen_tcp(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=BACKLOG)
    except (OSError, UnicodeError) as error:
        raise CannotListen(
            f"cannot listen on {host}:{port}: {error}; choose others with --host, --port"
        ) from None


def _listen_unix(path: Path) -> socket.socket:
    _remove_stale_socket(path)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        umask = os.umask(0o177)  # nobody may connect between bind and chmod
        try:
            listener.bind(str(path))
        finally:
            os.umask(umask)
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise CannotListen(f"cannot listen on {path}: {error.strerror}") from None
    return listener


def _remove_stale_socket(path: Path) -> None:
    if not path.exists() or not stat.S_ISSOCK(path.stat().st_mode):
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            path.unlink(missing_ok=True)
            return
    raise CannotListen(
        f"another server listens on {path}: stop it, or choose another with --socket"
    )


def url_of(listener: socket.socket, settings: Settings) -> str:
    if listener.family == socket.AF_UNIX:
        return f"unix://{settings.socket}"
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    return f"http://{host}:{listener.getsockname()[1]}"
