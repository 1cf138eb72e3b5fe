# SPDX-License-Identifier: Apache-2.0
"""TLS over a side whose first bytes may have been read already: the server's end for a sandbox, the client's for the
world.
"""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Final, Protocol, TypeVar

from OpenSSL import SSL

from atoll_server.network.side import Side

T = TypeVar("T")

PIECE: Final = 64 * 1024
CLIENT_PROTOCOLS: Final = ["http/1.1"]

# Where systems keep what they trust, as one file.
_BUNDLES = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
)


class TlsFailed(Exception):
    """The other end speaks no TLS that we do, is not who it should be, or broke off. The text says which."""


class Machine(Protocol):
    """TLS without input and output. `None` is "more must come first"."""

    def take(self, received: bytes) -> None:
        """What came; empty is its end."""
        ...

    def give(self) -> bytes:
        """What is to be sent."""
        ...

    def shake(self) -> bool | None: ...

    def read(self) -> bytes | None:
        """What was said; empty once the other end has said that it is done."""
        ...

    def write(self, said: bytes) -> None: ...

    def end(self) -> None: ...


class TlsSide:
    """What is said within TLS on a side. Everything raises `TlsFailed`."""

    def __init__(self, side: Side, machine: Machine, first: bytes = b"") -> None:
        self._side = side
        self._machine = machine
        self._put_back = b""
        if first:
            machine.take(first)

    async def shake_hands(self) -> None:
        """Agree on keys, and on who the other end is."""
        await self._until(self._machine.shake)

    async def read(self) -> bytes:
        """What comes next; empty at an end that was said to be one. Nothing is lost if it is cancelled."""
        piece, self._put_back = self._put_back, b""
        return piece or await self._until(self._machine.read)

    def put_back(self, said: bytes) -> None:
        """Have this read once more, before what comes next."""
        self._put_back = said + self._put_back

    async def wait(self) -> None:
        """Wait until there is something to read, or an end of whatever kind."""
        with contextlib.suppress(TlsFailed):
            self.put_back(await self.read())

    async def write(self, said: bytes) -> None:
        """Say it; waits where much is unsent."""
        if self._side.is_gone:
            raise TlsFailed("it has gone away")
        if said:
            self._machine.write(said)
            await self._send()

    async def end(self) -> None:
        """Say that nothing more comes."""
        with contextlib.suppress(TlsFailed):
            self._machine.end()
            await self._send()
        self._side.write_end()

    async def _until(self, step: Callable[[], T | None]) -> T:
        while True:
            try:
                result = step()
            finally:
                self._side.write(self._machine.give())
            if result is not None:
                return result
            await self._side.drain()
            self._machine.take(await self._side.read())

    async def _send(self) -> None:
        self._side.write(self._machine.give())
        await self._side.drain()


class ServerMachine:
    """The server's end, with a certificate from memory."""

    def __init__(self, context: SSL.Context) -> None:
        self._tls = SSL.Connection(context, None)
        self._tls.set_accept_state()

    def take(self, received: bytes) -> None:
        if received:
            self._tls.bio_write(received)
        else:
            self._tls.bio_shutdown()

    def give(self) -> bytes:
        given = bytearray()
        # There is nothing to read where nothing is to be sent.
        with contextlib.suppress(SSL.WantReadError):
            while piece := self._tls.bio_read(PIECE):
                given += piece
        return bytes(given)

    def shake(self) -> bool | None:
        return self._try(lambda: _done(self._tls.do_handshake))

    def read(self) -> bytes | None:
        try:
            return self._try(lambda: self._tls.recv(PIECE))
        except SSL.ZeroReturnError:
            return b""

    def write(self, said: bytes) -> None:
        rest = memoryview(said)
        while rest:
            sent = self._try(lambda rest=rest: self._tls.send(bytes(rest[:PIECE])))  # type: ignore[misc]  # bound now
            if not sent:
                raise TlsFailed("it cannot be written to before more was read")
            rest = rest[sent:]

    def end(self) -> None:
        self._try(self._tls.shutdown)

    def _try(self, step: Callable[[], T]) -> T | None:
        try:
            return step()
        except SSL.WantReadError:
            return None
        except SSL.ZeroReturnError:
            raise
        except SSL.Error as error:
            raise TlsFailed(_explain(error)) from None


class ClientMachine:
    """The client's end: the other must prove to be `name`."""

    def __init__(self, context: ssl.SSLContext, name: str) -> None:
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=name)

    def take(self, received: bytes) -> None:
        if received:
            self._incoming.write(received)
        else:
            self._incoming.write_eof()

    def give(self) -> bytes:
        return self._outgoing.read()

    def shake(self) -> bool | None:
        return self._try(lambda: _done(self._tls.do_handshake))

    def read(self) -> bytes | None:
        try:
            return self._try(lambda: self._tls.read(PIECE))
        except ssl.SSLZeroReturnError:
            return b""

    def write(self, said: bytes) -> None:
        if self._try(lambda: self._tls.write(said)) is None:
            raise TlsFailed("it cannot be written to before more was read")

    def end(self) -> None:
        # It answers once the other end has said the same, for which nobody waits.
        self._try(lambda: _done(self._tls.unwrap))

    def _try(self, step: Callable[[], T]) -> T | None:
        try:
            return step()
        except ssl.SSLWantReadError:
            return None
        except ssl.SSLZeroReturnError:
            raise
        except ssl.SSLCertVerificationError as error:
            raise TlsFailed(f"its certificate is not good: {error.verify_message}") from None
        except ssl.SSLError as error:
            raise TlsFailed(error.reason or "it broke off") from None


def client_context(bundle: str) -> ssl.SSLContext:
    """How to meet servers of the world, trusting whom this file names. Without one nobody is trusted."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(CLIENT_PROTOCOLS)
    if bundle:
        context.load_verify_locations(bundle)
    return context


def find_bundle() -> str:
    """The file of certificates that this host trusts, or what `SSL_CERT_FILE` names; empty where there is none."""
    named = ssl.get_default_verify_paths().cafile
    return next((path for path in (named, *_BUNDLES) if path and Path(path).is_file()), "")


def _done(step: Callable[[], object]) -> bool:
    step()
    return True


def _explain(error: SSL.Error) -> str:
    """The last part of OpenSSL's own words."""
    reasons = error.args[0] if error.args and isinstance(error.args[0], list) else ()
    return str(reasons[-1][-1]) if reasons else "it broke off"
