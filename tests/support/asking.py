# SPDX-License-Identifier: Apache-2.0
"""Programs that run inside a sandbox with secrets: one asks web servers, one speaks TLS, one searches for a value."""

from __future__ import annotations

import json

from atoll import Sandbox

CLIENT = """
import json, os, sys, urllib.error, urllib.request
url, headers, body = sys.argv[1], json.loads(sys.argv[2]), sys.argv[3].encode() or None
expand = lambda text: os.path.expandvars(text)
request = urllib.request.Request(
    expand(url),
    headers={name: expand(value) for name, value in headers.items()},
    data=body and expand(body.decode()).encode(),
)
try:
    with urllib.request.urlopen(request, timeout=20) as response:
        print(json.dumps([response.status, {**response.headers, "reason": response.reason}, response.read().decode()]))
except urllib.error.HTTPError as error:
    print(json.dumps([error.code, dict(error.headers), error.read().decode()]))
except OSError as error:
    print(json.dumps([0, {}, str(error)]))
"""


SPEAK = """
import socket, ssl, sys
context = ssl.create_default_context()
with context.wrap_socket(socket.create_connection((sys.argv[1], 443), 20), server_hostname=sys.argv[1]) as tls:
    tls.sendall(sys.argv[2].encode())
    said = b""
    while piece := tls.recv(65536):
        said += piece
    print(said.decode())
"""
"""Says these bytes over TLS, and prints what comes back."""

ASK_MANY = """
import http.client, json, sys
connection = http.client.HTTPSConnection(sys.argv[1], timeout=20)
if sys.argv[2] == "http":
    connection = http.client.HTTPConnection(sys.argv[1], timeout=20)
said, sockets = [], []
for path, headers, body in json.loads(sys.argv[3]):
    try:
        connection.request("POST" if body else "GET", path, body or None, headers)
        sockets.append(connection.sock.getsockname() if connection.sock else None)
        answer = connection.getresponse()
        said.append([answer.status, dict(answer.headers), answer.read().decode()])
    except (OSError, http.client.HTTPException) as error:
        said.append([0, {}, repr(error)])
print(json.dumps([len(set(map(str, sockets))), said]))
"""
"""Asks for paths, one after the other on one connection as long as that lasts; how many it took, and the answers."""

SOCKET = """
import base64, json, os, socket, ssl, sys
host, path, said, more = sys.argv[1], sys.argv[2], json.loads(sys.argv[3]), os.path.expandvars(sys.argv[4])
context = ssl.create_default_context()
context.set_alpn_protocols(["h2", "http/1.1"])
plain = socket.create_connection((host, 443), 20)
tls = context.wrap_socket(plain, server_hostname=host, suppress_ragged_eofs=False)
key = base64.b64encode(os.urandom(16)).decode()
tls.sendall((
    f"GET {path} HTTP/1.1\\r\\nHost: {host}\\r\\nUpgrade: websocket\\r\\nConnection: keep-alive, Upgrade\\r\\n"
    f"Sec-WebSocket-Key: {key}\\r\\nSec-WebSocket-Version: 13\\r\\nSec-WebSocket-Extensions: permessage-deflate\\r\\n"
    f"{more}\\r\\n"
).encode())
stream = tls.makefile("rwb")
head = b""
while not head.endswith(b"\\r\\n\\r\\n"):
    line = stream.readline()
    head += line or sys.exit("ended within its head")
status = int(head.split()[1])
if status != 101:
    print(json.dumps([tls.selected_alpn_protocol(), head.decode(), []]))
    sys.exit()

def hear():
    message = b""
    while True:
        kind, size = stream.read(2)
        if size > 125:
            size = int.from_bytes(stream.read(2 if size == 126 else 8), "big")
        message += stream.read(size)
        if kind & 0x80:
            return (kind & 15, message)

heard = []
for text in said:
    if text is None:
        print("open", flush=True)
        stream.read(1)
        sys.exit("ended, and was not cut")
    data = text.encode() if isinstance(text, str) else bytes(text)
    size = bytes([0x80 | len(data)]) if len(data) < 126 else b"\\xff" + len(data).to_bytes(8, "big")
    stream.write(b"\\x81" + size + bytes(4) + data)
    stream.flush()
    heard += [hear() for _ in range(2 if text == "who" else 1)]
stream.write(b"\\x88\\x80" + bytes(4))
stream.flush()
heard.append(hear())
ended = stream.read(1)
print(json.dumps([tls.selected_alpn_protocol(), head.decode(), [
    [kind, message.decode("latin-1") if len(message) < 1000 else len(message)] for kind, message in heard
] + [ended == b""]]))
"""
"""Opens a WebSocket, says messages, waits where one is null, closes; prints the protocol agreed on, the head, and what
was heard. A number is that many bytes.
"""

SEARCH = """
import glob, json, os, sys
value, places, looked_at = sys.argv[1][::-1].encode(), [], 0
own = f"/proc/{os.getpid()}/"
paths = [*glob.glob("/proc/[0-9]*/environ"), *glob.glob("/proc/[0-9]*/cmdline")]
paths = [path for path in paths if not path.startswith(own)]
for root in ("/etc", "/run", "/tmp", "/home", "/root", "/var", "/workspace", "/dev/shm"):
    paths += [os.path.join(at, name) for at, _, names in os.walk(root) for name in names]
for path in paths:
    try:
        if os.path.isfile(path):
            looked_at += 1
            if value in open(path, "rb").read():
                places.append(path)
    except OSError:
        pass
try:
    with open("/proc/1/maps") as maps, open("/proc/1/mem", "rb") as memory:
        for line in maps:
            first, last = (int(text, 16) for text in line.split()[0].split("-"))
            try:
                memory.seek(first)
                if value in memory.read(last - first):
                    places.append(line)
            except (OSError, ValueError, OverflowError):
                pass
except OSError:
    pass
print(json.dumps([looked_at, places]))
"""
"""Looks for a value, given backwards, in files, environments, command lines, and what it can read of process 1."""


class Answer:
    """What a program inside was answered; status 0 is an error below HTTP."""

    def __init__(self, written: str) -> None:
        self.status: int
        self.headers: dict[str, str]
        self.body: str
        self.status, self.headers, self.body = json.loads(written)


def ask(
    sandbox: Sandbox, url: str, headers: dict[str, str] | None = None, body: str = ""
) -> Answer:
    """Ask from inside, by Python alone, with nothing said of certificates. `$NAME` is what the environment has."""
    argv = ["python3", "-c", CLIENT, url, json.dumps(headers or {}), body]
    done = sandbox.exec(argv)
    assert done.exit_code == 0, done.stderr
    return Answer(done.stdout)
