# SPDX-License-Identifier: Apache-2.0
"""Real sandboxes of both runtimes, with a network and a policy."""

from __future__ import annotations

import json
import shlex
import shutil
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

import pytest

from atoll_server.agent.client import AgentClient
from atoll_server.engine.commands import ProcessDefaults
from atoll_server.engine.images import Images
from atoll_server.engine.model import Command, Limits, RuntimeKind, SandboxId, SandboxSpec
from atoll_server.engine.opening import AGENT_BINARY
from atoll_server.engine.site import HostPaths, Site
from atoll_server.engine.sites import Sites
from atoll_server.network.egress import Egress
from atoll_server.network.link import GATEWAY_ADDRESS
from atoll_server.network.written import parse_policy
from atoll_server.runtimes.base import Launch, Runtime
from atoll_server.runtimes.cgroups import Cgroups
from atoll_server.runtimes.container import Crun, Runc
from atoll_server.runtimes.gvisor import Runsc
from atoll_server.runtimes.oci import Paths
from tests.support.commands import execute
from tests.support.internet import METADATA, OTHER, SHARED, Internet, run_on_thread

SPEC = SandboxSpec("host", Limits(1, 1024, 1024), {}, "/tmp", 60.0, 60.0, {})
DRIVERS: dict[str, Callable[[str, Paths], Runtime]] = {"crun": Crun, "runc": Runc, "runsc": Runsc}
NAME_RESOLVER = f"echo nameserver {GATEWAY_ADDRESS} > /etc/resolv.conf"
"""What the builder does, which is not at work here."""
DEFAULTS = ProcessDefaults(workdir="/tmp", env={})


class Networked:
    """A runtime whose sandboxes get the network of this test."""

    def __init__(self, runtime: Runtime, egress: Egress) -> None:
        self.kind: RuntimeKind = runtime.kind
        self.capabilities = runtime.capabilities
        self._runtime = runtime
        self._egress = egress

    def start(self, launch: Launch) -> int:
        policy = parse_policy({"allow": ["a.test"]})
        edge = self._egress.attach(launch.sandbox_id, policy)
        if not self.capabilities.joins_network:
            with edge.open("rb") as opened:
                pid = self._runtime.start(launch)
                with open(f"/proc/{pid}/ns/net", "rb") as inside:
                    self._egress.join(inside, opened)
            return pid
        network: Future[BinaryIO] = Future()
        with self._egress.make_inside(launch.sandbox_id).open("rb") as inside:
            network.set_result(inside)
            return self._runtime.start(replace(launch, network=network))

    def forget(self, sandbox_id: SandboxId) -> None:
        self._runtime.forget(sandbox_id)


@dataclass(frozen=True)
class Sandbox:
    """A sandbox with a network."""

    sandbox_id: str
    site: Site
    agent: AgentClient

    async def run(self, script: str) -> str:
        """What a shell script wrote."""
        done = await execute(self.agent, Command(script), defaults=DEFAULTS)
        assert done.exit.code == 0, done.stderr.decode()
        return done.stdout.decode()


@pytest.fixture(params=sorted(DRIVERS))
def program(request: pytest.FixtureRequest) -> str:
    """Each program that can isolate, in turn."""
    name: str = request.param
    if shutil.which(name) is None:
        pytest.skip(f"needs {name}")
    return name


@pytest.fixture
def sandbox(egress: Egress, program: str, internet: Internet) -> Iterator[Sandbox]:
    """With `a.test` alone."""
    directory = Path(tempfile.mkdtemp(prefix="atoll-n-"))
    sandbox_id = SandboxId(f"sb_{directory.name}")
    paths = HostPaths(directory / "images", directory / "disks", directory / "run")
    state = paths.run / program
    state.mkdir(parents=True)
    driver = DRIVERS[program](program, Paths(AGENT_BINARY, state))
    networked = Networked(driver, egress)
    group = f"atoll/{directory.name}"
    sites = Sites(paths, Images(paths.images), {networked.kind: networked}, Cgroups(group))
    sites.prepare()
    try:
        site = run_on_thread(lambda: sites.build(sandbox_id, networked.kind, SPEC))
        yield Sandbox(sandbox_id, site, AgentClient(str(paths.socket(sandbox_id))))
        assert sites.remove(site)
    finally:
        sites.dismantle()
        shutil.rmtree(directory)


PROBE = f"""
import json, socket, urllib.error, urllib.request

def outcome(work):
    try:
        return work()
    except urllib.error.HTTPError as error:
        return f"{{error.code}} {{error.read().decode()}}"
    except OSError as error:
        return type(error).__name__

def get(url, host=None):
    request = urllib.request.Request(url, headers={{"Host": host}} if host else {{}})
    return lambda: urllib.request.urlopen(request, timeout=20).read().decode()

def send(kind, family, address):
    def work():
        with socket.socket(family, kind) as connection:
            connection.settimeout(20)
            connection.connect(address)
            connection.send(b"hello")
            return connection.recv(1).decode()
    return work

TCP, UDP = socket.SOCK_STREAM, socket.SOCK_DGRAM
V4, V6 = socket.AF_INET, socket.AF_INET6
tried = {{
    "by name": get("http://a.test/"),
    "neighbour": get("http://{SHARED}/", "neighbour.test"),
    "unlisted name": get("http://other.test/"),
    "unlisted address": get("http://{OTHER}/"),
    "metadata": get("http://{METADATA}/"),
    "metadata, other port": send(TCP, V4, ("{METADATA}", 22)),
    "gateway": send(TCP, V4, ("{GATEWAY_ADDRESS}", 22)),
    "quic": send(UDP, V4, ("{SHARED}", 443)),
    "IPv6": send(TCP, V6, ("2606:2800::1", 443)),
    "mapped": send(TCP, V6, ("::ffff:{METADATA}", 22)),
    "raw": lambda: socket.socket(V4, socket.SOCK_RAW, socket.IPPROTO_ICMP),
    "frames": lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0),
    "raw, IPv6": lambda: socket.socket(V6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6),
}}
print(json.dumps({{what: outcome(work) for what, work in tried.items()}}))
"""


async def test_sandbox_reaches_what_it_may_and_nothing_else(
    sandbox: Sandbox, internet: Internet
) -> None:
    await sandbox.run(NAME_RESOLVER)
    found = json.loads(await sandbox.run(f"python3 -c {shlex.quote(PROBE)}"))

    assert found.pop("by name") == f"a.test at {SHARED}:80"
    for what in ("neighbour", "unlisted address", "metadata"):
        assert found.pop(what).startswith("403 refused by the sandbox's network policy")
    for what in ("raw", "frames", "raw, IPv6"):
        assert found.pop(what) in ("PermissionError", "OSError")
    # Of every way it is said at once; nothing waits for an answer that does not come.
    assert set(found.values()) <= {
        "URLError",
        "ConnectionResetError",
        "ConnectionRefusedError",
        "OSError",
    }
    assert internet.requests == [f"{SHARED}:80 a.test /"]


async def test_sandbox_sees_its_own_link_and_no_other(sandbox: Sandbox) -> None:
    seen = await sandbox.run(
        "python3 -c 'import socket; print(*sorted(n for _, n in socket.if_nameindex()))';"
        "ls /sys/class/net 2>/dev/null | xargs"
    )

    # There is no such directory in gVisor, and none with runc.
    assert seen.split("\n")[0] == "eth0 lo"
    assert seen.split("\n")[1] in ("", "eth0 lo")


async def test_server_at_a_low_port_of_loopback_is_reached_from_inside(sandbox: Sandbox) -> None:
    script = (
        'import socket; s = socket.create_server(("127.0.0.1", 80));'
        'c = socket.create_connection(("127.0.0.1", 80)); s.accept()[0].sendall(b"hello"); print(c.recv(5))'
    )

    assert await sandbox.run(f"python3 -c '{script}'") == "b'hello'\n"


async def test_changed_policy_holds_in_a_sandbox_that_runs(
    sandbox: Sandbox, egress: Egress
) -> None:
    await sandbox.run(NAME_RESOLVER)
    egress.update(sandbox.sandbox_id, parse_policy({"allow": ["other.test"]}))

    fetch = 'import urllib.request as r; print(r.urlopen("http://other.test/", timeout=20).read())'
    assert await sandbox.run(f"python3 -c '{fetch}'") == f"b'other.test at {OTHER}:80'\n"
    assert (await sandbox.run("getent hosts a.test || echo none")) == "none\n"
