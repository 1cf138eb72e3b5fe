# SPDX-License-Identifier: Apache-2.0
"""Ports against the real server: found, waited for, connected to, exposed and closed."""

from __future__ import annotations

import hashlib
import re

import pytest

import atoll
from atoll import AsyncAtoll, AsyncProcess, AsyncSandbox

ECHO = """
import socket, sys
server = socket.create_server(("127.0.0.1", int(sys.argv[1])))
while True:
    peer, _ = server.accept()
    while data := peer.recv(65536):
        peer.sendall(data)
    peer.sendall(b"|end")
    peer.close()
"""


async def serve_echo(sandbox: AsyncSandbox, port: int) -> AsyncProcess:
    await sandbox.files.write("/tmp/echo.py", ECHO)
    process = await sandbox.processes.start(["python3", "/tmp/echo.py", str(port)])
    await sandbox.wait_for_port(port)
    return process


async def test_bytes_and_their_ends_pass_to_a_program_on_the_loopback(
    sandbox: AsyncSandbox,
) -> None:
    process = await serve_echo(sandbox, 4001)
    every_byte = bytes(range(256)) * 40

    async with await sandbox.dial(4001) as stream:
        await stream.send(every_byte)
        await stream.close_write()
        received = b""
        while data := await stream.receive():
            received += data
        assert await stream.receive() == b""

    assert received == every_byte + b"|end"
    await process.kill()


async def test_program_that_ends_first_still_reads(sandbox: AsyncSandbox) -> None:
    program = (
        "import socket; s = socket.create_server(('::1', 4002), family=socket.AF_INET6); p, _ = s.accept(); "
        "p.sendall(b'bye'); p.shutdown(socket.SHUT_WR); n = 0\n"
        "while data := p.recv(65536): n += len(data)\n"
        "print(n)"
    )
    process = await sandbox.processes.start(["python3", "-c", program])
    await sandbox.wait_for_port(4002)

    async with await sandbox.ports.dial(4002) as stream:
        assert await stream.receive() == b"bye"
        assert await stream.receive() == b""
        await stream.send(b"x" * 3_000_000)

    assert (await process.wait()).stdout == "3000000\n"


async def test_megabytes_pass_unharmed(sandbox: AsyncSandbox) -> None:
    program = (
        "import socket, hashlib; s = socket.create_server(('127.0.0.1', 4003)); p, _ = s.accept()\n"
        "h = hashlib.sha256()\n"
        "while data := p.recv(65536): h.update(data)\n"
        "p.sendall(h.hexdigest().encode())"
    )
    await sandbox.processes.start(["python3", "-c", program])
    await sandbox.wait_for_port(4003)
    sent = bytes(range(251)) * (20_000_000 // 251)

    async with await sandbox.dial(4003) as stream:
        await stream.send(sent)
        await stream.close_write()
        digest = await stream.receive()

    assert digest.decode() == hashlib.sha256(sent).hexdigest()


async def test_port_where_nothing_listens_is_refused(sandbox: AsyncSandbox) -> None:
    with pytest.raises(atoll.PortNotListening, match="nothing listens on port 4999"):
        await sandbox.dial(4999)
    with pytest.raises(atoll.InvalidPort):
        await sandbox.dial(70_000)


async def test_what_listens_is_found_with_its_address_and_command(sandbox: AsyncSandbox) -> None:
    process = await serve_echo(sandbox, 4004)

    (found,) = [one for one in await sandbox.ports.listening() if one.port == 4004]

    assert (found.address, found.pid) == ("127.0.0.1", process.pid)
    assert found.command == "python3 /tmp/echo.py 4004"
    await process.kill()


async def test_waiting_for_a_port_ends_when_a_program_listens(sandbox: AsyncSandbox) -> None:
    program = (
        "import time; time.sleep(0.3); import socket; socket.create_server(('', 4005)).accept()"
    )
    process = await sandbox.processes.start(["python3", "-c", program])

    found = await sandbox.wait_for_port(4005)

    assert (found.port, found.address) == (4005, "0.0.0.0")
    await process.kill()


async def test_waiting_in_vain_ends_with_timeout(sandbox: AsyncSandbox) -> None:
    with pytest.raises(atoll.Timeout, match="port 4006 after 50 ms"):
        await sandbox.wait_for_port(4006, timeout_ms=50)


async def test_exposed_port_has_a_url_and_is_listed_until_it_is_closed(
    sandbox: AsyncSandbox,
) -> None:
    first = await sandbox.expose_port(3000)
    second = await sandbox.expose_port(3001, private=True)

    assert (first.port, first.sandbox_id, first.private) == (3000, sandbox.id, False)
    assert re.match(r"http://3000-[a-z0-9]{20}\.localhost:\d+/$", first.url)
    assert first.token is None
    assert second.token is not None
    assert first.url != second.url
    assert await sandbox.get_ports() == [first, second]
    assert await sandbox.expose_port(3000) == first

    await sandbox.close_port(3000)
    assert await sandbox.get_ports() == [second]
    with pytest.raises(atoll.PortNotExposed):
        await sandbox.close_port(3000)
    again = await sandbox.expose_port(3000)
    assert again.url != first.url
    await sandbox.close_port(3000)
    await sandbox.close_port(3001)


async def test_exposed_port_becomes_private_and_public_again(sandbox: AsyncSandbox) -> None:
    public = await sandbox.expose_port(3002)

    private = await sandbox.expose_port(3002, private=True)
    unchanged = await sandbox.expose_port(3002)
    back = await sandbox.expose_port(3002, private=False)

    assert private.private
    assert private.url == public.url
    assert unchanged == private
    assert back == public
    await sandbox.close_port(3002)


@pytest.mark.parametrize("port", [0, 1, 80, 1023, 65_536, 1_000_000])
async def test_port_outside_the_range_is_not_exposed(sandbox: AsyncSandbox, port: int) -> None:
    with pytest.raises(atoll.InvalidPort):
        await sandbox.expose_port(port)


async def test_signed_url_bears_a_token_of_its_own(sandbox: AsyncSandbox) -> None:
    port = await sandbox.expose_port(3003, private=True)

    signed = await sandbox.ports.sign(3003, lasts_ms=60_000)

    assert signed.url.startswith(port.url)
    assert port.token is not None
    assert port.token not in signed.url
    await sandbox.close_port(3003)
    with pytest.raises(atoll.PortNotExposed):
        await sandbox.ports.sign(3003)


async def test_ports_of_a_sandbox_that_has_ended_are_gone(client: AsyncAtoll, runtime: str) -> None:
    async with await client.sandboxes.create("host", runtime=runtime) as ended:
        await ended.expose_port(3000)

    with pytest.raises(atoll.SandboxNotFound):
        await ended.get_ports()
    with pytest.raises(atoll.SandboxNotFound):
        await ended.dial(3000)


async def test_sandbox_exposes_only_what_it_was_created_to(client: AsyncAtoll) -> None:
    network = {"egress": {"default": "deny"}, "ingress": {"allow_ports": [4021]}}
    async with await client.sandboxes.create("host", network=network) as sandbox:
        assert (await sandbox.expose_port(4021)).port == 4021
        with pytest.raises(atoll.InvalidPort, match="created to expose are 4021"):
            await sandbox.expose_port(4022)

        # What is said for visitors does not bind who has the key.
        process = await serve_echo(sandbox, 4022)
        async with await sandbox.dial(4022) as stream:
            await stream.send(b"hello")
            assert await stream.receive() == b"hello"
        await process.kill()
