# SPDX-License-Identifier: Apache-2.0
"""The two network namespaces of a sandbox: `inside`, which is its own, and `edge`, the only place that it can reach.

A veth pair joins them. In the edge every address is local and every TCP connection is turned to one socket, which the
proxy holds. There is no way on from there: no other interface, no route, nobody else's packets. So what is identified
by its socket cannot be forged, the rules are the same for all, and without a proxy there is nothing to connect to.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, TypeVar

from atoll_server.network import links
from atoll_server.network.edge_rules import edge_rules
from atoll_server.network.link import (
    DNS_PORT,
    EDGE_LINK,
    GATEWAY_ADDRESS,
    INSIDE_LINK,
    MTU,
    PREFIX,
    PROXY_PORT,
    SANDBOX_ADDRESS,
)
from atoll_server.network.netlink import NETFILTER, ROUTE, Message, open_netlink, tell, tell_by
from atoll_server.network.packet_log import follow_log
from atoll_server.runtimes import kernel

T = TypeVar("T")

_BACKLOG = 1024
_CLONE_NEWNET = 0x40000000
_IP_TRANSPARENT = 19
_CONGESTION = b"reno"  # every kernel has it
_OWN = "/proc/thread-self/ns/net"

_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True)
class Namespaces:
    """Where the two namespaces of a sandbox are mounted, so that they last without a process in them.

    There is none for an inside that a runtime made: it lasts as long as what runs in it.
    """

    inside: Path
    edge: Path


@dataclass(frozen=True)
class EdgeSockets:
    """What listens at the edge: for every TCP connection, for DNS in datagrams and streams, and for what is refused."""

    proxied: socket.socket
    datagrams: socket.socket
    streams: socket.socket
    log: socket.socket

    def all(self) -> tuple[socket.socket, ...]:
        """In the order in which the proxy takes them."""
        return self.proxied, self.datagrams, self.streams, self.log

    def close(self) -> None:
        """Let go of them; the proxy keeps its own."""
        for each in self.all():
            each.close()


class NamespaceDirectory:
    """Makes, lists and removes the namespaces of sandboxes. Every method blocks."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def paths(self, sandbox_id: str) -> Namespaces:
        """Where a sandbox's namespaces are, or would be."""
        return Namespaces(
            self._directory / f"{sandbox_id}.inside", self._directory / f"{sandbox_id}.edge"
        )

    def make_edge(self, sandbox_id: str) -> Path:
        """Make the edge, with everything in it but its end of the pair and the sockets. On failure nothing is left.

        Returns where it is mounted.
        """
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        edge = self.paths(sandbox_id).edge

        def make() -> None:
            make_bare(edge)
            _prepare_edge()

        self._make(sandbox_id, make)
        return edge

    def make_inside(self, sandbox_id: str) -> Path:
        """Make a namespace that is joined to the edge. On failure neither is left. Returns where it is mounted."""
        paths = self.paths(sandbox_id)

        def make() -> None:
            make_bare(paths.inside)
            with open(paths.edge, "rb") as edge:
                _join(edge)

        self._make(sandbox_id, make)
        return paths.inside

    def listen(self, sandbox_id: str) -> EdgeSockets:
        """New sockets at the edge, for a proxy. Those of one that has ended must be closed."""
        return _within(self.paths(sandbox_id).edge, _listen)

    def remove(self, sandbox_id: str) -> None:
        """Let go of both. The kernel takes them down once nothing is in them. Repeating it is harmless."""
        paths = self.paths(sandbox_id)
        for path in (paths.inside, paths.edge):
            kernel.unmount(str(path))
            path.unlink(missing_ok=True)

    def list(self) -> frozenset[str]:
        """The ids of sandboxes of which something is here."""
        if not self._directory.exists():
            return frozenset()
        return frozenset(path.name.rpartition(".")[0] for path in self._directory.iterdir())

    def _make(self, sandbox_id: str, work: Callable[[], None]) -> None:
        try:
            _in_thread(work)
        except BaseException:
            self.remove(sandbox_id)
            raise


def find_fault() -> str | None:
    """Why no sandbox can have a network on this host, None where one can. Tries it, and leaves nothing behind."""
    try:
        _in_thread(_rehearse)
    except OSError as error:
        return error.strerror or str(error)
    return None


def join(inside: BinaryIO, edge: BinaryIO) -> None:
    """Join a namespace to the edge made for it. Without it the edge has no interface, and nothing reaches it."""

    def enter_and_join() -> None:
        _enter(inside.fileno())
        _join(edge)

    _in_thread(enter_and_join)


@contextlib.contextmanager
def entered(namespace: Path) -> Iterator[None]:
    """Have the calling thread in another network namespace for the length of the block."""
    with open(_OWN, "rb") as own, open(namespace, "rb") as other:
        _enter(other.fileno())
        try:
            yield
        finally:
            _enter(own.fileno())


def make_bare(path: Path) -> None:
    """Move the calling thread into a new namespace, and mount that at `path`. The thread must end soon."""
    _unshare()
    path.touch(mode=0o600)
    kernel.bind(_OWN, str(path))


def _prepare_edge() -> None:
    """The rules stand before the first packet can come."""
    lo = links.LOOPBACK
    # Every address is this one's own, so that the proxy's sockets may be it.
    tell(ROUTE, [*_confine(lo), links.forbid_forwarding(lo), links.set_up(lo), links.own_all()])
    tell(NETFILTER, edge_rules())


def _join(edge: BinaryIO) -> None:
    """Join the namespace of the calling thread to an edge, where the thread is afterwards."""
    tell(ROUTE, [links.add_veth(INSIDE_LINK, EDGE_LINK, edge.fileno(), MTU)])
    link = socket.if_nametoindex(INSIDE_LINK)
    tell(
        ROUTE,
        [
            *_confine(link),
            links.add_address(link, SANDBOX_ADDRESS, PREFIX),
            links.set_up(links.LOOPBACK),
            links.set_up(link),
            links.route_all(GATEWAY_ADDRESS),
        ],
    )
    _enter(edge.fileno())
    link = socket.if_nametoindex(EDGE_LINK)
    tell(
        ROUTE,
        [
            *_confine(link),
            links.forbid_forwarding(link),
            links.add_address(link, GATEWAY_ADDRESS, PREFIX),
            links.set_up(link),
        ],
    )


def _listen() -> EdgeSockets:
    with contextlib.ExitStack() as opened:
        proxied, datagrams, streams = (
            opened.enter_context(socket.socket(socket.AF_INET, kind))
            for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_STREAM)
        )
        proxied.setsockopt(socket.SOL_IP, _IP_TRANSPARENT, 1)
        # This link has no queue and no loss. What measures paths, as BBR does, takes a sandbox's pauses for a slow one.
        proxied.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, _CONGESTION)
        proxied.bind(("0.0.0.0", PROXY_PORT))  # in a namespace where nothing but the sandbox is
        for each in (datagrams, streams):
            each.bind((GATEWAY_ADDRESS, DNS_PORT))
        for each in (proxied, streams):
            each.listen(_BACKLOG)
        log = opened.enter_context(open_netlink(NETFILTER))
        tell_by(log, [follow_log()])
        opened.pop_all()
    return EdgeSockets(proxied, datagrams, streams, log)


def _rehearse() -> None:
    """All that an edge needs of the kernel, in a namespace that ends with the calling thread."""
    _unshare()
    _prepare_edge()
    _listen().close()
    with open(_OWN, "rb") as own:
        tell(ROUTE, [links.add_veth(INSIDE_LINK, EDGE_LINK, own.fileno(), MTU)])


def _confine(interface: int) -> Sequence[Message]:
    """Have no second way of addressing."""
    return [links.forbid_ipv6_address(interface)] if _knows_ipv6() else []


@functools.cache
def _knows_ipv6() -> bool:
    return Path("/proc/net/if_inet6").exists()


def _within(namespace: Path, work: Callable[[], T]) -> T:
    """What `work` returns when done in that namespace."""

    def enter_and_work() -> T:
        with open(namespace, "rb") as other:
            _enter(other.fileno())
        return work()

    return _in_thread(enter_and_work)


def _unshare() -> None:
    if _libc.unshare(_CLONE_NEWNET) < 0:
        raise OSError(ctypes.get_errno(), "no network namespace could be made")


def _enter(descriptor: int) -> None:
    if _libc.setns(descriptor, _CLONE_NEWNET) < 0:
        raise OSError(ctypes.get_errno(), "a network namespace could not be entered")


def _in_thread(work: Callable[[], T]) -> T:
    """Do it on a thread that ends with it, as threads that were in another namespace must serve nothing else."""
    results: list[T] = []
    failures: list[BaseException] = []

    def run() -> None:
        try:
            results.append(work())
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=run, name="network-namespace")
    thread.start()
    thread.join()
    if failures:
        raise failures[0]
    return results[0]
