# SPDX-License-Identifier: Apache-2.0
"""How the server tells the proxy what to do: one message and one answer at a time, sockets passed along."""

from __future__ import annotations

import socket
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from atoll_server.network.gate import Statistics
from atoll_server.network.policy import Policy
from atoll_server.network.secrets import Keyring
from atoll_server.network.written import render_policy

MAX_MESSAGE = 256 * 1024
"""The longest rules of both lists, and then some."""
MAX_SOCKETS = 4
CALL_TIMEOUT = 10.0


class ProxyUnavailable(Exception):
    """The proxy does not answer, or could not do what it was told. Sandboxes reach nothing that it does not pass."""


class Request(msgspec.Struct, forbid_unknown_fields=True):
    """What the proxy is to do: `seal`, `open`, `update`, `close`, `list`, `report`, `tell` or `stop`."""

    op: str
    sandbox_id: str = ""
    policy: dict[str, Any] | None = None
    """As a client writes it; the proxy reads it with the same strictness."""
    keyring: Keyring | None = None


class Report(msgspec.Struct):
    """What a sandbox did, and what it was last refused."""

    statistics: Statistics
    denials: list[dict[str, Any]]


class Reply(msgspec.Struct):
    """What came of a request; `error` where nothing did."""

    error: str | None = None
    sandbox_ids: list[str] = []
    report: Report | None = None


class ProxyControl:
    """The server's end. Every method blocks, and raises `ProxyUnavailable`: call it from a worker thread."""

    def __init__(self, path: Path, timeout: float = CALL_TIMEOUT) -> None:
        self._path = path
        self._timeout = timeout

    def seal(self, sandbox_id: str, keyring: Keyring) -> None:
        """Put a sandbox's secrets in from now on; also of one that is only about to be served."""
        self._call("seal", sandbox_id, keyring=keyring)

    def open(self, sandbox_id: str, policy: Policy, sockets: Sequence[socket.socket]) -> None:
        """Serve a sandbox through the sockets at its edge, in the order of `namespace.EdgeSockets`."""
        self._call("open", sandbox_id, render_policy(policy), sockets)

    def update(self, sandbox_id: str, policy: Policy) -> None:
        """Let another policy hold from now on, for what is open, too."""
        self._call("update", sandbox_id, render_policy(policy))

    def close(self, sandbox_id: str) -> None:
        """Serve a sandbox no longer, and cut what it has open. Repeating it is harmless."""
        self._call("close", sandbox_id)

    def list(self) -> frozenset[str]:
        """The ids of the sandboxes that are served."""
        return frozenset(self._call("list").sandbox_ids)

    def report(self, sandbox_id: str) -> Report:
        """What a sandbox did so far."""
        report = self._call("report", sandbox_id).report
        if report is None:
            raise ProxyUnavailable(f"the network proxy told nothing of sandbox {sandbox_id}")
        return report

    def listen(self) -> socket.socket:
        """Have the proxy tell what happens (see `news.read_news`) to this socket, and no longer to any before it.

        It ends when the proxy does.
        """
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            try:
                theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2 * MAX_MESSAGE)
                self._call("tell", sockets=[theirs])
            except BaseException:
                ours.close()
                raise
        ours.setblocking(False)
        return ours

    def stop(self) -> None:
        """End the proxy."""
        self._call("stop")

    def _call(
        self,
        op: str,
        sandbox_id: str = "",
        policy: Mapping[str, Any] | None = None,
        sockets: Sequence[socket.socket] = (),
        keyring: Keyring | None = None,
    ) -> Reply:
        request = Request(op, sandbox_id, None if policy is None else dict(policy), keyring)
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection:
                connection.settimeout(self._timeout)
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2 * MAX_MESSAGE)
                connection.connect(str(self._path))
                message = msgspec.json.encode(request)
                socket.send_fds(connection, [message], [each.fileno() for each in sockets])
                reply = msgspec.json.decode(connection.recv(MAX_MESSAGE), type=Reply)
        except (OSError, msgspec.MsgspecError) as error:
            raise ProxyUnavailable(f"the network proxy does not answer: {error}") from None
        if reply.error is not None:
            raise ProxyUnavailable(f"the network proxy could not {op}: {reply.error}")
        return reply


def listen(path: Path) -> socket.socket:
    """The socket on which a proxy is told; nobody but the server's own user may speak to it."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        path.unlink(missing_ok=True)
        listener.bind(str(path))
        path.chmod(0o600)
        listener.listen()
    except BaseException:
        listener.close()
        raise
    return listener
