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
