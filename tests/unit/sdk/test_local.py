# SPDX-License-Identifier: Apache-2.0
"""The private server, played by small programs."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from atoll import Atoll, ConnectFailed, _local
from atoll._config import Settings
from atoll._local import PrivateServer
from atoll._sync._transport import Transport

READY = """
import json, pathlib, sys
where = dict(zip(sys.argv[2::2], sys.argv[3::2]))
assert sys.argv[1] == "--private", sys.argv
pathlib.Path(where["--socket"]).touch()
print(json.dumps({"url": "unix://" + where["--socket"], "api_key": "secret-key"}), flush=True)
sys.stdin.read()
pathlib.Path(%r).touch()
"""


def _server(program: str) -> PrivateServer:
    return PrivateServer((sys.executable, "-c", program))


@pytest.fixture
def ended(tmp_path: Path) -> Path:
    """A file that the server makes when it ends in order."""
    return tmp_path / "ended"


@pytest.fixture
def server(ended: Path) -> Iterator[PrivateServer]:
    server = _server(READY % str(ended))
    yield server
    server.stop()


def test_all_clients_share_one_server_which_ends_with_the_last(
    server: PrivateServer, ended: Path
) -> None:
    one, two = server.acquire(), server.acquire()
    assert one.endpoint == two.endpoint
    assert one.api_key == "secret-key"
    directory = Path(one.endpoint.socket or "").parent
    assert directory.stat().st_mode & 0o777 == 0o700

    server.release(one)
    assert not ended.exists()
    server.release(one)
    server.release(two)

    assert ended.exists()
    assert not directory.exists()


def test_a_server_that_died_is_replaced(server: PrivateServer) -> None:
    first = server.acquire()
    running = server._running
    assert running is not None
    running.process.kill()
    running.process.wait()

    second = server.acquire()

    assert second.endpoint != first.endpoint


def test_the_lease_does_not_show_the_key(server: PrivateServer) -> None:
    assert "secret-key" not in repr(server.acquire())


@pytest.mark.parametrize(
    "program",
    [
        "import sys; sys.exit('this host has no runtime: install crun')",
        "print('hello', flush=True); import sys; sys.stdin.read()",
        "print('{}', flush=True); import sys; sys.stdin.read()",
        "print('x' * 100000); print('x' * 100000)",
    ],
)
def test_a_server_that_does_not_start_says_why(program: str) -> None:
    server = _server(program)

    with pytest.raises(ConnectFailed) as caught:
        server.acquire()

    assert not caught.value.retryable
    if "crun" in program:
        assert "install crun" in caught.value.message
    assert server._running is None


def test_a_program_that_is_not_there_is_an_error_of_ours() -> None:
    with pytest.raises(ConnectFailed):
        PrivateServer(("/nonexistent/program",)).acquire()


def test_a_forked_child_leaves_the_server_to_its_parent(server: PrivateServer, ended: Path) -> None:
    lease = server.acquire()
    go_read, go_write = os.pipe()
    child = os.fork()
    if child == 0:  # it lives on, holding whatever it has not let go of
        os.close(go_write)
        os.read(go_read, 1)
        os._exit(0 if server._running is None else 1)
    os.close(go_read)

    server.release(lease)
    ended_first = ended.exists()
    os.close(go_write)
    _, status = os.waitpid(child, 0)

    assert ended_first
    assert status == 0


def test_what_a_killed_process_left_is_removed_by_the_next(
    server: PrivateServer, tmp_path: Path
) -> None:
    def leave(*names: str) -> Path:
        directory = Path(tempfile.mkdtemp(prefix=_local.PREFIX, dir="/var/tmp"))
        (directory / "state").mkdir()
        for name in names:
            (directory / name).touch()
        return directory

    stale, unfinished = leave(_local.OWNER, "state/lock"), leave()
    used = leave(_local.OWNER, "state/lock")
    owner = _local._own(used)

    server.acquire()
    left = [directory.exists() for directory in (stale, unfinished, used)]
    os.close(owner)
    for directory in (unfinished, used):
        shutil.rmtree(directory)

    assert left == [False, True, True]


def test_a_transport_takes_a_lease_with_its_first_request_and_gives_it_back(
    server: PrivateServer, ended: Path
) -> None:
    transport = Transport(Settings(endpoint=None, api_key=None), server)
    before = transport.endpoint

    transport._connect()
    assert (before is None, transport.endpoint is None) == (True, False)
    assert transport.api_key == "secret-key"
    transport.close()

    assert ended.exists()


def test_a_client_starts_nothing_by_itself() -> None:
    with Atoll() as client:
        assert client.api_url is None
        assert repr(client) == "<Atoll private key none>"
