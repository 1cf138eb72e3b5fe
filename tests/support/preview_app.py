# SPDX-License-Identifier: Apache-2.0
"""A program that tests run inside a sandbox: an HTTP server that behaves well or badly, as its path says.

The standard library alone, and every byte of its answers by hand: half of what it does no library would.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import sys

OK = b"HTTP/1.1 200 OK\r\n"
LARGE_BYTES = 64 << 20
GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"

RAW = {
    "/plain": OK + b"Content-Length: 5\r\nContent-Type: text/plain\r\n\r\nhello",
    "/html": OK
    + b"Content-Type: text/html\r\n\r\n<!doctype html><h1>a page</h1><a href='told'>another</a>",
    "/kept": OK + b"Content-Length: 5\r\n\r\nhello",
    "/http10": b"HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\nuntil the end",
    "/trailers": OK
    + b"Transfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n5\r\nhello\r\n6;x=y\r\n world\r\n0\r\n"
    + b"X-Sum: 7\r\nSet-Cookie: evil=1\r\nX-Forwarded-For: evil\r\n\r\n",
    "/interim": b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"
    + OK
    + b"Content-Length: 2\r\n\r\nok",
    "/no-content": b"HTTP/1.1 204 No Content\r\n\r\n",
    "/not-modified": b'HTTP/1.1 304 Not Modified\r\nETag: "1"\r\nContent-Length: 5\r\n\r\n',
    "/status": b"HTTP/1.1 418 I'm a teapot\r\nContent-Length: 3\r\n\r\ntea",
    "/split-body": OK
    + b"Content-Length: 5\r\n\r\nfirst"
    + OK
    + b"Content-Length: 6\r\nSet-Cookie: evil=1\r\n\r\nsecond",
    "/more-behind": OK
    + b"Content-Length: 5\r\n\r\nfirst"
    + OK
    + b"Content-Length: 6\r\nSet-Cookie: evil=1\r\n\r\nsecond",
    "/split-header": OK + b"X-A: a\rSet-Cookie: evil=1\r\nContent-Length: 0\r\n\r\n",
    "/split-nul": OK + b"X-A: a\0b\r\nContent-Length: 0\r\n\r\n",
    "/two-lengths": OK + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
    "/length-and-chunks": OK + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "/bad-length": OK + b"Content-Length: -5\r\n\r\nhello",
    "/bad-coding": OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "/bad-chunk": OK + b"Transfer-Encoding: chunked\r\n\r\nzz\r\nhello\r\n0\r\n\r\n",
    "/cut-short": OK + b"Content-Length: 100\r\n\r\nonly this",
    "/cut-chunks": OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
    "/nothing": b"",
    "/garbage": b"SSH-2.0-OpenSSH\r\n",
    "/huge-head": OK + b"X-A: " + b"a" * 200_000 + b"\r\n\r\n",
    "/many-headers": OK + b"X-A: a\r\n" * 400 + b"Content-Length: 0\r\n\r\n",
    "/switch": b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\nraw",
    "/cookies": OK
    + b"Set-Cookie: a=1; Path=/; Domain=.localhost; HttpOnly\r\nSet-Cookie: b=2;domain=localhost\r\n"
    + b"Set-Cookie: atoll-preview=stolen; Path=/\r\nContent-Length: 0\r\n\r\n",
    "/hop-by-hop": OK
    + b'Connection: close, X-Secret\r\nX-Secret: 1\r\nKeep-Alive: 5\r\nAlt-Svc: h3=":1"\r\n'
    + b'Strict-Transport-Security: max-age=1\r\nClear-Site-Data: "*"\r\nX-Kept: 1\r\nContent-Length: 0\r\n\r\n',
    "/local-redirect": b"HTTP/1.1 302 Found\r\nLocation: /login?x=1\r\nContent-Length: 0\r\n\r\n",
    "/policy": OK + b"Referrer-Policy: origin\r\nContent-Length: 0\r\n\r\n",
}


KEEPS = ("/kept", "/large", "/who", "/once", "/more-behind")
"""After these the connection stays open, unless the request says otherwise. After all others it ends unannounced."""


class App:
    """One server. `/sse` writes an event for each request of `/go`; `/redirect` goes where its query says."""

    def __init__(self) -> None:
        self.go = asyncio.Semaphore(0)
        self.gone = asyncio.Event()
        self.connections = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        number, served = self.connections, 0
        try:
            while await self.serve_one(reader, writer, f"{number} {served}"):
                served += 1
        except (ConnectionError, asyncio.IncompleteReadError):
            self.gone.set()
        finally:
            writer.close()

    async def serve_one(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, name: str
    ) -> bool:
        """Whether another request may follow. `name` says which connection this is, and what it has served."""
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        method, target, _ = head[0].split(" ")
        pairs = [line.split(": ", 1) for line in head[1:] if line]
        headers = [(name.lower(), value) for name, value in pairs]
        if target == "/once" and not name.endswith(" 0"):
            return False  # hangs up without a word, where it has served before
        if target in ("/who", "/once"):
            writer.write(OK + b"Content-Length: %d\r\n\r\n%s" % (len(name), name.encode()))
        else:
            await self.answer(method, target, headers, reader, writer)
        return target in KEEPS and ("connection", "close") not in headers

    async def answer(
        self,
        method: str,
        target: str,
        headers: list[tuple[str, str]],
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        path, _, query = target.partition("?")
        if path in RAW:
            writer.write(RAW[path])
        elif path == "/redirect":
            writer.write(
                f"HTTP/1.1 302 Found\r\nLocation: {query}\r\nContent-Length: 0\r\n\r\n".encode()
            )
        elif path == "/go":
            self.go.release()
            writer.write(OK + b"Content-Length: 0\r\n\r\n")
        elif path == "/sse":
            await self.events(writer)
        elif path == "/large":
            await large(writer)
        elif path == "/wait-gone":
            await asyncio.wait_for(self.gone.wait(), 20)
            writer.write(OK + b"Content-Length: 4\r\n\r\ngone")
        elif path == "/hang":
            await reader.read()
            self.gone.set()
        elif path == "/refuse-body":
            writer.write(b"HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno")
        elif path == "/ws":
            await websocket(dict(headers), reader, writer)
        elif path == "/raw-ws":
            await raw_websocket(dict(headers), reader, writer)
        else:
            await tell(method, target, headers, reader, writer)
        await writer.drain()

    async def events(self, writer: asyncio.StreamWriter) -> None:
        writer.write(OK + b"Content-Type: text/event-stream\r\n\r\n")
        for number in range(3):
            await self.go.acquire()
            writer.write(b"data: %d\n\n" % number)
            await writer.drain()


async def tell(
    method: str,
    target: str,
    headers: list[tuple[str, str]],
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
) -> None:
    """What the request was, as JSON."""
    size, digest, trailers = await read_body(dict(headers), reader)
    told = {
        "method": method,
        "target": target,
        "headers": headers,
        "size": size,
        "sha256": digest,
        "trailers": trailers,
    }
    body = json.dumps(told).encode()
    writer.write(OK + b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body))
    if method != "HEAD":
        writer.write(body)


async def read_body(
    headers: dict[str, str], reader: asyncio.StreamReader
) -> tuple[int, str, list[str]]:
    size, digest, trailers = 0, hashlib.sha256(), list[str]()
    if headers.get("transfer-encoding") == "chunked":
        while length := int(await reader.readline(), 16):
            digest.update(await reader.readexactly(length))
            await reader.readline()
            size += length
        while (line := await reader.readline()) not in (b"\r\n", b""):
            trailers.append(line.decode("latin-1").strip())
    left = int(headers.get("content-length", 0))
    while left:
        piece = await reader.read(min(left, 1 << 18))
        if not piece:
            break
        digest.update(piece)
        size += len(piece)
        left -= len(piece)
    return size, digest.hexdigest(), trailers


async def large(writer: asyncio.StreamWriter) -> None:
    writer.write(OK + b"Content-Length: %d\r\n\r\n" % LARGE_BYTES)
    piece = bytes(1 << 20)
    for _ in range(LARGE_BYTES >> 20):
        writer.write(piece)
        await writer.drain()


async def shake_hands(headers: dict[str, str], writer: asyncio.StreamWriter) -> None:
    key = headers["sec-websocket-key"].encode()
    accept = base64.b64encode(hashlib.sha1(key + GUID).digest())
    writer.write(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n"
    )
    await writer.drain()


async def websocket(
    headers: dict[str, str], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    """Sends every message back as it came."""
    await shake_hands(headers, writer)
    while True:
        first, second = await reader.readexactly(2)
        length = second & 127
        if length > 125:
            length = int.from_bytes(await reader.readexactly(2 if length == 126 else 8), "big")
        mask = await reader.readexactly(4)
        masked = await reader.readexactly(length)
        whole = int.from_bytes(mask * (length // 4 + 1), "big") >> (8 * (4 - length % 4))
        plain = (int.from_bytes(masked, "big") ^ whole).to_bytes(length, "big")
        size = bytes([length]) if length < 126 else b"\x7f" + length.to_bytes(8, "big")
        writer.write(bytes([first]) + size + plain)
        await writer.drain()
        if first & 15 == 8:
            return


async def raw_websocket(
    headers: dict[str, str], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    """No frames at all: reads to the end, then says how much that was."""
    await shake_hands(headers, writer)
    size = 0
    while piece := await reader.read(1 << 18):
        size += len(piece)
    writer.write(b"%d bytes" % size)


async def main() -> None:
    app = App()
    server = await asyncio.start_server(app.serve, "127.0.0.1", int(sys.argv[1]), backlog=512)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
