# SPDX-License-Identifier: Apache-2.0
"""What every family of rows measures with: one server, its clients, the runtimes of this host, and how much to do."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from atoll import Atoll, Sandbox
from benchmarks.bare import BareRuntime
from benchmarks.peers import Peer, find_peers
from tests.support.server import ServerProcess

PROGRAMS = {"container": "crun", "gvisor": "runsc"}
CREATORS = 8


@dataclass(frozen=True)
class Bench:
    """`unix` and `tcp` are clients of the same server. `runtimes` holds those that this host has, `peers` also those
    that it lacks."""

    server: ServerProcess
    unix: Atoll
    tcp: Atoll
    runtimes: tuple[str, ...]
    peers: tuple[Peer, ...]
    quick: bool
    say: Callable[[str], None]

    def rounds(self, full: int, quick: int) -> int:
        """How often to repeat."""
        return quick if self.quick else full

    def bare(self, runtime: str, *, threads: int = 1) -> BareRuntime:
        """The runtime's own program, as baseline."""
        return BareRuntime(PROGRAMS[runtime], threads=threads)

    @contextmanager
    def sandboxes(self, runtime: str, count: int) -> Iterator[list[Sandbox]]:
        """So many, made by several clients and ended with the block."""
        made: list[Sandbox] = []

        def create() -> None:
            made.append(self.unix.sandboxes.create(image="host", runtime=runtime))

        with ThreadPoolExecutor(CREATORS) as threads:
            try:
                for future in [threads.submit(create) for _ in range(count)]:
                    future.result()
                yield made
            finally:
                for future in [threads.submit(sandbox.terminate) for sandbox in made]:
                    future.result()


@contextmanager
def opened(*, quick: bool, say: Callable[[str], None]) -> Iterator[Bench]:
    """A server and clients, stopped and closed at the end."""
    with ExitStack() as stack:
        server = stack.enter_context(ServerProcess())
        unix = stack.enter_context(Atoll(api_url=f"unix://{server.socket}", api_key=server.api_key))
        tcp = stack.enter_context(Atoll(api_url=server.url, api_key=server.api_key))
        runtimes = tuple(name for name, program in PROGRAMS.items() if shutil.which(program))
        peers = stack.enter_context(find_peers())
        yield Bench(server, unix, tcp, runtimes, peers, quick, say)
