# SPDX-License-Identifier: Apache-2.0
"""The egress proxy: a process of its own, that gives up everything it has before it hears of the first sandbox.

It is started as root with its control socket, enters an empty directory and a user of its own, and from then on can
open connections and nothing else: the sockets at the sandboxes' edges are made by the server and handed to it.
"""

from __future__ import annotations

import asyncio
import ctypes
import logging
import os
import resource
import socket
import sys

import msgspec
import uvloop

from atoll_server.clock import SystemClock
from atoll_server.network.addresses import Guard, parse_address, parse_opening
from atoll_server.network.gate import Limits, Room, Surroundings
from atoll_server.network.resolver import NameServer, Resolver
from atoll_server.network.sealed import rehearse
from atoll_server.network.serving import Orders, take_orders
from atoll_server.network.tls import client_context

OPEN_FILES = 65_536
LOOK_FOR_IDLE = 30.0
READY = b"ready\n"
UNNEEDED_SECONDS = 60.0
"""For so long a proxy waits without sandboxes for a server that may come back."""

_PR_SET_NO_NEW_PRIVS = 38


class ProxySettings(msgspec.Struct, forbid_unknown_fields=True):
    """What a proxy is started with, as JSON. Nothing in it is secret."""

    control: int
    """The descriptor of the control socket."""
    user: int
    """The uid and gid that it becomes."""
    root: str
    """An empty directory that becomes its whole file system."""
    name_servers: list[tuple[str, int]]
    own_addresses: list[str] = []
    opened: list[str] = []
    bundle: str = ""
    """The file of the certificates that hosts of secrets must be signed by; without one, none gets any."""
    connections: int = Limits().connections
    bytes_per_second: float | None = None
    idle_seconds: float = Limits().idle_seconds
    unneeded_seconds: float = UNNEEDED_SECONDS


def main() -> None:
    """Run until told to stop, or killed."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    settings = msgspec.json.decode(sys.argv[1], type=ProxySettings)
    around = surround(settings)
    loop = uvloop.new_event_loop()
    rehearse()
    confine(settings)
    loop.run_until_complete(_run(settings, around))


def surround(settings: ProxySettings) -> Surroundings:
    """What all sandboxes of this proxy share."""
    guard = Guard(
        frozenset(parse_address(each) for each in settings.own_addresses),
        tuple(parse_opening(each) for each in settings.opened),
    )
    servers = [NameServer(address, port) for address, port in settings.name_servers]
    limits = Limits(
        connections=settings.connections,
        bytes_per_second=settings.bytes_per_second,
        idle_seconds=settings.idle_seconds,
    )
    # Read now: there are no files later.
    trust = client_context(settings.bundle)
    room = Room(_most_connections())
    return Surroundings(guard, Resolver(servers), SystemClock(), limits, room, trust)


def confine(settings: ProxySettings) -> None:
    """Keep no file system, no user of anybody else's, no capability, and no way back."""
    limit = _most_files()
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.chroot(settings.root)
    os.chdir("/")
    os.setgroups([])
    os.setresgid(settings.user, settings.user, settings.user)
    os.setresuid(settings.user, settings.user, settings.user)
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "the proxy could not give up gaining privileges")


def _most_connections() -> int:
    """Each takes a descriptor at either side; a quarter is left for edges and questions."""
    return _most_files() * 3 // 8


def _most_files() -> int:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    return OPEN_FILES if hard == resource.RLIM_INFINITY else min(OPEN_FILES, hard)


async def _run(settings: ProxySettings, around: Surroundings) -> None:
    stopping = asyncio.Event()
    with socket.socket(fileno=settings.control) as listener:
        listener.setblocking(False)
        async with asyncio.TaskGroup() as group:
            orders = Orders(around, group, stopping)
            going_on = [
                group.create_task(_look_for_idle(orders, around)),
                group.create_task(orders.teller.run()),
                group.create_task(take_orders(listener, orders, stopping)),
                group.create_task(_look_for_need(orders, around, settings, stopping)),
            ]
            os.write(sys.stdout.fileno(), READY)
            await stopping.wait()
            for task in going_on:
                task.cancel()
            orders.close()


async def _look_for_idle(orders: Orders, around: Surroundings) -> None:
    while True:
        await around.clock.sleep(LOOK_FOR_IDLE)
        orders.cut_idle()


async def _look_for_need(
    orders: Orders, around: Surroundings, settings: ProxySettings, stopping: asyncio.Event
) -> None:
    """End a proxy whose server was killed and never came back, once it serves nobody any more."""
    needed_at = around.clock.monotonic()
    while around.clock.monotonic() - needed_at < settings.unneeded_seconds:
        await around.clock.sleep(settings.unneeded_seconds / 4)
        if orders.is_needed():
            needed_at = around.clock.monotonic()
    stopping.set()


if __name__ == "__main__":
    main()
