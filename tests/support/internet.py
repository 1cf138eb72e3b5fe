# SPDX-License-Identifier: Apache-2.0
"""An internet in a network namespace: name servers, web servers with TLS, a metadata service. The real one is not used.

Its servers run on threads of the test, with sockets made in the namespace, and remember who asked for what.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import socketserver
import ssl
import subprocess
import tempfile
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import unquote

import dns.flags
import dns.message
import dns.rcode
import dns.rrset

from atoll_server.network.namespace import entered, make_bare
from atoll_server.runtimes import kernel

T = TypeVar("T")

NAME_SERVER = "9.9.9.9"
SHARED = "93.184.216.34"
"""Where `a.test` is, and its neighbours."""
OTHER = "93.184.216.35"
METADATA = "169.254.169.254"
PRIVATE = "10.20.30.40"
HOST_OWN = "93.184.216.1"
"""What the proxy is told is the host's own."""
ADDRESSES = (NAME_SERVER, SHARED, OTHER, METADATA, PRIVATE, HOST_OWN)
NAMES = ("a.test", "neighbour.test", "x.w.test", "other.test", "evil.test", "rebinding.test")

ECHO_PORT = 7
"""At this port of every address is what sends everything back."""
BANNER_PORT = 25
"""And at this one, what speaks first."""

Records = Callable[[], Sequence[str]]


class Internet:
    """Use it as a context manager. `names` is what the name server knows: from a name to lines of a zone file."""

    def __init__(self) -> None:
        self._opened = contextlib.ExitStack()
        self.names: dict[str, Records] = {}
        self.questions: list[str] = []
        """What the name server was asked, as `name type`."""
        self.requests: list[str] = []
        """What web servers were asked, as `address:port host path`."""
        self.heard: list[dict[str, str]] = []
        """The header fields of each of those requests."""
        self.bodies: list[bytes] = []
        """Their bodies, as far as they came."""
        self.clients: list[tuple[str, int]] = []
        """Where each of those requests came from: the same for those of one connection."""

    def __enter__(self) -> Internet:
        with self._opened as opened:
            directory = Path(opened.enter_context(tempfile.TemporaryDirectory(prefix="internet-")))
            self.namespace = directory / "namespace"
            self.authority = make_authority(directory)
            run_on_thread(lambda: make_bare(self.namespace))
            opened.callback(kernel.unmount, str(self.namespace))
            self._within(self._have_addresses)
            self._serve(directory)
            self._opened = opened.pop_all()
        self.names |= {
            "a.test": lambda: [f"60 IN A {SHARED}"],
            "neighbour.test": lambda: [f"60 IN A {SHARED}"],
            "x.w.test": lambda: [f"60 IN A {SHARED}"],
            "other.test": lambda: [f"60 IN A {OTHER}"],
            "evil.test": lambda: [f"60 IN A {OTHER}"],
            # Known, and with no certificate of its own.
            "impostor.test": lambda: [f"60 IN A {OTHER}"],
        }
        return self

    def __exit__(self, *_: object) -> None:
        self._opened.close()

    def run_within(self, work: Callable[[], T]) -> T:
        """What `work` returns on a thread of this internet; programs that it starts are in it, too."""
        return self._within(work)

    def _within(self, work: Callable[[], T]) -> T:
        def enter_and_work() -> T:
            with entered(self.namespace):
                return work()

        return run_on_thread(enter_and_work)

    def _have_addresses(self) -> None:
        run("ip", "link", "set", "lo", "up")
        run("ip", "address", "add", f"{HOST_OWN}/32", "dev", "lo")
        for address in ADDRESSES:
            # Servers can be there, though no interface has it: to who lives in here it is another host's.
            run("ip", "route", "add", "local", f"{address}/32", "dev", "lo", "table", "main")

    def _serve(self, directory: Path) -> None:
        server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        server.load_cert_chain(directory / "server.pem", directory / "server.key")
        for address in ADDRESSES[1:]:
            self._start(partial(_Web, self, (address, 80)))
            self._start(partial(_Web, self, (address, 443), server))
            self._start(partial(_Lines, (address, ECHO_PORT), _Echo))
            self._start(partial(_Lines, (address, BANNER_PORT), _Banner))
        self._start(partial(_NameServer, self))

    def _start(self, make: Callable[[], socketserver.BaseServer]) -> None:
        server = self._within(make)
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        self._opened.callback(server.server_close)
        self._opened.callback(thread.join)
        self._opened.callback(server.shutdown)


def run_on_thread(work: Callable[[], T]) -> T:
    """What `work` returns on a thread that ends with it."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(work).result()


def run(*argv: str) -> None:
    """Run a program that must succeed."""
    subprocess.run(argv, check=True, capture_output=True, timeout=30)


def make_authority(directory: Path) -> Path:
    """A certificate authority, and a server's certificate for all names of this internet; the authority's file."""
    authority, names = directory / "authority.pem", ",".join(f"DNS:{name}" for name in NAMES)
    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2")
    run(
        *("openssl", "req", "-x509", *key, "-subj", "/CN=test authority"),
        *("-keyout", str(directory / "authority.key"), "-out", str(authority)),
    )
    run(
        *("openssl", "req", "-x509", *key, "-subj", "/CN=test server"),
        *("-CA", str(authority), "-CAkey", str(directory / "authority.key")),
        *("-addext", f"subjectAltName={names}", "-addext", "basicConstraints=critical,CA:FALSE"),
        *("-keyout", str(directory / "server.key"), "-out", str(directory / "server.pem")),
    )
    return authority


class _Web(socketserver.ThreadingMixIn, HTTPServer):
    """Tells which host was asked for; `/redirect/<url>` leads to that url, and a body is sent back.

    `/mirror` sends the header fields back, in a field and in the body, and `/mirror/chunked` in small chunks;
    `/many/<size>` sends so many zeros, `/last` ends its connection. `/socket` is a WebSocket that sends back what it is
    told, and for `who` what its Authorization was, the same also cut in frames of three bytes; `/socket/rude` agrees to
    something else.
    """

    daemon_threads = True
    block_on_close = False

    def __init__(
        self, internet: Internet, address: tuple[str, int], tls: ssl.SSLContext | None = None
    ) -> None:
        self.internet = internet
        self.tls = tls
        super().__init__(address, _WebHandler)

    def finish_request(self, request: Any, client_address: Any) -> None:  # as the library has it
        with contextlib.suppress(OSError), contextlib.ExitStack() as opened:
            if self.tls is not None:
                request = opened.enter_context(self.tls.wrap_socket(request, server_side=True))
            super().finish_request(request, client_address)


class _WebHandler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Web

    def do_GET(self) -> None:
        host, port = self.connection.getsockname()
        self.server.internet.requests.append(f"{host}:{port} {self.headers['Host']} {self.path}")
        self.server.internet.heard.append(dict(self.headers))
        self.server.internet.clients.append(self.client_address)
        if self.path.startswith("/socket") and self.headers["Upgrade"] is not None:
            self._agree("WebSocket" if self.path == "/socket" else "telnet")
            return
        if self.path.startswith("/mirror"):
            self._mirror(is_chunked=self.path.endswith("/chunked"))
            return
        if self.path.startswith("/many/"):
            self._send_body(bytes(int(self.path.removeprefix("/many/"))))
            return
        if self.path.startswith("/redirect/"):
            self.send_response(302)
            self.send_header("Location", unquote(self.path.removeprefix("/redirect/")))
        else:
            self.send_response(200)
        said = self._read_body()
        self.server.internet.bodies.append(said)
        body = f"{self.headers['Host']} at {host}:{port}".encode() + said
        self.send_header("Content-Length", str(len(body)))
        if self.path == "/last":
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_GET

    def _agree(self, protocol: str) -> None:
        key = self.headers["Sec-WebSocket-Key"].encode() + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
        self.close_connection = True
        self.send_response(101)
        self.send_header("Upgrade", protocol)
        self.send_header("Connection", "Upgrade")
        self.send_header(
            "Sec-WebSocket-Accept", base64.b64encode(hashlib.sha1(key).digest()).decode()
        )
        self.end_headers()
        while message := self._read_message():
            if message == b"who":
                said = self.headers["Authorization"].encode()
                self.wfile.write(bytes([0x81, len(said)]) + said)
                parts = [said[at : at + 3] for at in range(0, len(said), 3)]
                for at, part in enumerate(parts):
                    head = (0x00 if at else 0x01) | (0x80 if part is parts[-1] else 0)
                    self.wfile.write(bytes([head, len(part)]) + part)
            else:
                size = b"\x7f" + len(message).to_bytes(8)
                self.wfile.write(b"\x82" + (size if message[125:] else size[-1:]) + message)
        self.wfile.write(b"\x88\x02\x03\xe8")

    def _read_message(self) -> bytes:
        """What a frame of the client says; nothing where that closes."""
        begun = self.rfile.read(2)
        if len(begun) < 2:
            return b""
        kind, size = begun
        length = {254: 2, 255: 8}.get(size)
        size = size & 0x7F if length is None else int.from_bytes(self.rfile.read(length))
        mask, said = self.rfile.read(4), self.rfile.read(size)
        scrambled = int.from_bytes(said) ^ int.from_bytes((mask * (size // 4 + 1))[:size])
        return b"" if kind == 0x88 else scrambled.to_bytes(size)

    def _mirror(self, *, is_chunked: bool) -> None:
        self.send_response(200, self.headers.get("Authorization"))
        self.send_header("X-Mirrored", self.headers.get("Authorization", ""))
        said = "".join(f"{name}: {value}\n" for name, value in self.headers.items()).encode()
        if not is_chunked:
            self._send_body(said, has_begun=True)
            return
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for at in range(0, len(said), 3):
            piece = said[at : at + 3]
            self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
        self.wfile.write(b"0\r\n\r\n")

    def _send_body(self, body: bytes, *, has_begun: bool = False) -> None:
        if not has_begun:
            self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing: `requests` has it."""

    def _read_body(self) -> bytes:
        if self.headers["Transfer-Encoding"] != "chunked":
            return self.rfile.read(int(self.headers["Content-Length"] or 0))
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body


class _Lines(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    block_on_close = False


class _Echo(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        with contextlib.suppress(OSError):
            while piece := self.request.recv(64 * 1024):
                self.request.sendall(piece)


class _Banner(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        self.request.sendall(b"220 ready\r\n")


class _NameServer(socketserver.ThreadingUDPServer):
    block_on_close = False
    daemon_threads = True

    def __init__(self, internet: Internet) -> None:
        self.internet = internet
        super().__init__((NAME_SERVER, 53), _Question)


class _Question(socketserver.BaseRequestHandler):
    server: _NameServer

    def handle(self) -> None:
        wire, answering = self.request
        query = dns.message.from_wire(wire)
        question = query.question[0]
        name = question.name.to_text(omit_final_dot=True)
        self.server.internet.questions.append(f"{name} {question.rdtype.name}")
        answering.sendto(self._answer(query, name).to_wire(), self.client_address)

    def _answer(self, query: dns.message.Message, name: str) -> dns.message.Message:
        response = dns.message.make_response(query)
        records = self.server.internet.names.get(name)
        if records is None:
            response.set_rcode(dns.rcode.NXDOMAIN)
            return response
        for line in records():
            # A line that begins with a name is about that; others are about what was asked.
            first, *rest = line.split(" ")
            owner = name if first.isdigit() else first
            ttl, _, kind, value = [first, *rest] if first.isdigit() else rest
            response.answer.append(dns.rrset.from_text(f"{owner}.", int(ttl), "IN", kind, value))
        return response
