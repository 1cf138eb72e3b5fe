# SPDX-License-Identifier: Apache-2.0
"""A client that goes away mid-call leaves nothing running and nothing half done."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from collections.abc import Iterator
from functools import partial

import pytest

from tests.support.api import Api
from tests.support.processes import open_files
from tests.support.waiting import rest, wait_until

FORMS = ("application/json", "application/x-ndjson", "application/vnd.atoll.frames")
# In the background of its shell, in a session of its own, and double-forked, with every signal that asks ignored.
STUBBORN = (
    "trap '' TERM HUP; touch /tmp/{mark}; setsid sleep {mark} & (setsid nohup sleep {mark} &) ; "
    "sleep {mark}; sleep {mark}"
)


@pytest.fixture(scope="module")
def _second_id_range(api: Api, runtime: str, sandbox_id: str) -> None:
    """Has the server open what it keeps of the id range that the next sandbox gets, which is no file left open."""
    with api.sandbox(runtime=runtime):
        pass


@pytest.fixture(autouse=True)
def _no_open_files_left(api: Api, sandbox_id: str, _second_id_range: None) -> Iterator[None]:
    before = open_files(api.server.pid)
    yield
    wait_until(
        lambda: open_files(api.server.pid) <= before, what="the server's closing of its files"
    )


def processes_named(api: Api, sandbox_id: str, mark: str) -> list[str]:
    """Command lines in the sandbox that hold this text; those of the search itself are left out."""
    script = (
        "import glob, sys\n"
        "for name in glob.glob('/proc/[0-9]*/cmdline'):\n"
        "    try: line = open(name).read().replace('\\0', ' ')\n"
        "    except OSError: continue\n"
        "    if sys.argv[1] in line and 'import glob' not in line: print(line)\n"
    )
    return api.execute(sandbox_id, ["python3", "-c", script, mark]).json()["stdout"].splitlines()  # type: ignore[no-any-return] # JSON


def request_bytes(api: Api, method: str, target: str, body: bytes, *headers: str) -> bytes:
    lines = [
        f"{method} {target} HTTP/1.1",
        "Host: a",
        f"Authorization: Bearer {api.server.api_key}",
        f"Content-Length: {len(body)}",
        *headers,
    ]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


@pytest.mark.parametrize("form", FORMS)
def test_the_whole_tree_of_its_command_is_killed(api: Api, sandbox_id: str, form: str) -> None:
    mark = f"4{FORMS.index(form)}7.5"
    command = STUBBORN.format(mark=mark).replace("'", "\\u0027")
    body = f'{{"command": "{command}"}}'.encode()
    target = f"/v1/sandboxes/{sandbox_id}/execute"

    with socket.create_connection(("127.0.0.1", api.server.port)) as connection:
        connection.sendall(
            request_bytes(
                api, "POST", target, body, "Content-Type: application/json", f"Accept: {form}"
            )
        )
        wait_until(
            lambda: len(processes_named(api, sandbox_id, f"sleep {mark}")) >= 3,
            what="the command's start",
        )

    wait_until(lambda: not processes_named(api, sandbox_id, mark), what="the command's end")


def test_a_slow_reader_stops_the_command_until_it_leaves(api: Api, sandbox_id: str) -> None:
    """Attack 36: nobody holds what is not read."""
    body = b'{"command": "exec yes atoll-is-flooded"}'
    target = f"/v1/sandboxes/{sandbox_id}/execute"
    with socket.create_connection(("127.0.0.1", api.server.port)) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        connection.sendall(
            request_bytes(
                api,
                "POST",
                target,
                body,
                "Content-Type: application/json",
                "Accept: application/x-ndjson",
            )
        )
        wait_until(lambda: processes_named(api, sandbox_id, "atoll-is-flooded"), what="the start")

        answer = api.execute(sandbox_id, "echo answered")
        assert answer.json()["stdout"] == "answered\n"
        assert answer.seconds < 2

    wait_until(lambda: not processes_named(api, sandbox_id, "atoll-is-flooded"), what="the end")


def test_an_upload_cut_short_leaves_the_old_file_and_no_part_of_the_new(
    api: Api, sandbox_id: str
) -> None:
    """Attack 28."""
    files = f"/v1/sandboxes/{sandbox_id}/files"
    api.call("PUT", f"{files}?path=/srv/cut/file", {"content": "old"})
    request = request_bytes(
        api,
        "PUT",
        f"{files}?path=/srv/cut/file",
        b"x" * 3_000_000,
        "Content-Type: application/octet-stream",
    )

    with socket.create_connection(("127.0.0.1", api.server.port)) as connection:
        connection.sendall(request[:2_000_000])
        wait_until(
            lambda: len(api.call("GET", f"{files}/list?path=/srv/cut").json()["data"]) == 2,
            what="the upload's start",
        )

    def names() -> list[str]:
        listed = api.call("GET", f"{files}/list?path=/srv/cut").json()["data"]
        return [entry["name"] for entry in listed]

    wait_until(lambda: names() == ["file"], what="the sweeping of the temporary file")
    assert api.call("GET", f"{files}?path=/srv/cut/file").json()["content"] == "old"


def test_a_download_cut_short_hurts_nobody(api: Api, sandbox_id: str) -> None:
    target = f"/v1/sandboxes/{sandbox_id}/files?path=/tmp/sparse"
    api.execute(sandbox_id, "truncate -s 10G /tmp/sparse")

    with api.open("GET", target, headers={"Accept": "application/octet-stream"}) as (response, _):
        assert len(response.read(1 << 20)) == 1 << 20

    assert api.execute(sandbox_id, "echo answered").json()["stdout"] == "answered\n"


def test_a_request_cut_short_has_no_effect(api: Api, sandbox_id: str) -> None:
    target = f"/v1/sandboxes/{sandbox_id}/execute"
    body = b'{"command": "touch /tmp/never"}'
    request = request_bytes(api, "POST", target, body, "Content-Type: application/json")

    with socket.create_connection(("127.0.0.1", api.server.port)) as connection:
        connection.sendall(request[:-1])

    rest(0.3)
    exists = api.call("GET", f"/v1/sandboxes/{sandbox_id}/files/exists?path=/tmp/never")
    assert exists.json() == {"exists": False}


def test_a_sandbox_whose_creator_left_is_ended(api: Api, runtime: str) -> None:
    """A creator that leaves too late has been answered: its sandbox lives, and another one leaves sooner."""
    for attempt in range(10):
        label = f"abandoned-{runtime}-{attempt}"
        leave_while_creating(api, runtime, label)
        wait_until(partial(is_gone, api, label, "creating"), what="the creation")
        with contextlib.suppress(AssertionError):
            wait_until(partial(labelled, api, label, "terminated"), what="the end", within=5)
            break
        for sandbox_id in labelled(api, label, "running"):
            api.terminate(sandbox_id)
    else:
        pytest.fail("no sandbox whose creator had left was ended")

    assert len(labelled(api, label, "terminated")) == 1
    assert labelled(api, label, "running") == []


def leave_while_creating(api: Api, runtime: str, label: str) -> None:
    fields = {"image": "host", "runtime": runtime, "metadata": {"test": label}}
    request = request_bytes(
        api, "POST", "/v1/sandboxes", json.dumps(fields).encode(), "Content-Type: application/json"
    )
    with socket.create_connection(("127.0.0.1", api.server.port)) as connection:
        connection.sendall(request)
        # Without a pause between two looks, which would be longer than a container's creation.
        deadline = time.monotonic() + 10
        while not labelled(api, label) and time.monotonic() < deadline:
            continue


def is_gone(api: Api, label: str, state: str) -> bool:
    return not labelled(api, label, state)


def labelled(api: Api, label: str, state: str | None = None) -> list[str]:
    """Ids of the sandboxes with a label, of those in one state if it is given."""
    wanted = f"metadata[test]={label}" + (f"&state={state}" if state else "")
    listed = api.call("GET", f"/v1/sandboxes?{wanted}").json()
    return [entry["id"] for entry in listed["data"]]


def test_many_clients_that_leave_at_once_leave_nothing(api: Api, sandbox_id: str) -> None:
    target = f"/v1/sandboxes/{sandbox_id}/execute"
    body = b'{"command": ["sleep", "573.5"]}'
    request = request_bytes(api, "POST", target, body, "Content-Type: application/json")
    together = threading.Barrier(20)

    def leave() -> None:
        with socket.create_connection(("127.0.0.1", api.server.port)) as connection:
            connection.sendall(request)
            together.wait(20)

    clients = [threading.Thread(target=leave) for _ in range(20)]
    for client in clients:
        client.start()
    for client in clients:
        client.join()

    wait_until(lambda: not processes_named(api, sandbox_id, "573.5"), what="the end")
