# SPDX-License-Identifier: Apache-2.0
"""Processes that go on without the request that started them, over plain HTTP."""

from __future__ import annotations

import base64
import json
import struct
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.client import HTTPResponse
from typing import Any

import pytest

from tests.support.api import Answer, Api
from tests.support.server import ServerProcess
from tests.support.waiting import rest, wait_until

NDJSON, EVENTS, FRAMES = (
    "application/x-ndjson",
    "text/event-stream",
    "application/vnd.atoll.frames",
)
FORMS = (NDJSON, EVENTS, FRAMES)
OCTETS = {"Content-Type": "application/octet-stream"}


class Processes:
    """The processes of one sandbox."""

    def __init__(self, api: Api, sandbox_id: str) -> None:
        self.api = api
        self.root = f"/v1/sandboxes/{sandbox_id}/processes"

    def start(self, command: str | list[str], **fields: object) -> dict[str, Any]:
        answer = self.api.call("POST", self.root, {"command": command, **fields})
        assert answer.status == 201, answer.body
        process: dict[str, Any] = answer.json()
        return process

    def call(self, method: str, process: str, verb: str = "", body: object = None) -> Answer:
        headers = OCTETS if isinstance(body, bytes) else {}
        return self.api.call(method, f"{self.root}/{process}{verb}", body, headers=headers)

    def get(self, process: str) -> dict[str, Any]:
        answer = self.call("GET", process)
        assert answer.status == 200, answer.body
        record: dict[str, Any] = answer.json()
        return record

    def wait(self, process: str, **fields: object) -> dict[str, Any]:
        answer = self.call("POST", process, "/wait", fields)
        assert answer.status == 200, answer.body
        result: dict[str, Any] = answer.json()
        return result

    def list(self, query: str = "") -> dict[str, Any]:
        answer = self.api.call("GET", f"{self.root}{query}")
        assert answer.status == 200, answer.body
        page: dict[str, Any] = answer.json()
        return page

    @contextmanager
    def stream(
        self, process: str, form: str, query: str = "", headers: Mapping[str, str] | None = None
    ) -> Iterator[HTTPResponse]:
        target = f"{self.root}/{process}/stream{query}"
        with self.api.open("GET", target, headers={"Accept": form, **(headers or {})}) as (got, _):
            assert got.status == 200, got.read()
            yield got

    def read(self, process: str, form: str, query: str = "", **headers: str) -> Read:
        with self.stream(process, form, query, headers) as response:
            return READERS[form](response.read())


class Read:
    """What a whole stream said, in whatever form."""

    def __init__(self) -> None:
        self.streams = {"stdout": b"", "stderr": b""}
        self.order: list[tuple[str, bytes]] = []
        self.positions: list[int] = []
        self.dropped = 0
        self.end: dict[str, Any] = {}

    def add(self, stream: str, data: bytes) -> None:
        self.streams[stream] += data
        self.order.append((stream, data))

    @property
    def output(self) -> bytes:
        return b"".join(data for _, data in self.order)

    def take(self, value: dict[str, Any]) -> None:
        kind = value["type"]
        if kind in self.streams:
            is_text = value.get("encoding") != "base64"
            data = value["data"].encode() if is_text else base64.b64decode(value["data"])
            self.add(kind, data)
            self.positions.append(value["position"])
        elif kind == "dropped":
            self.dropped = value["bytes"]
        elif kind != "heartbeat":
            self.end = value


def read_ndjson(body: bytes) -> Read:
    read = Read()
    for line in body.splitlines():
        read.take(json.loads(line))
    return read


def read_events(body: bytes) -> Read:
    read = Read()
    for block in body.decode().split("\n\n")[:-1]:
        fields = dict(line.split(": ", 1) for line in block.split("\n") if line[0] != ":")
        if fields:
            value = json.loads(fields["data"])
            assert fields["event"] == value["type"]
            if "position" in value:
                assert int(fields["id"]) == value["position"]
            read.take(value)
    return read


def read_frames(body: bytes) -> Read:
    read = Read()
    first = True
    offsets = {"stdout": 0, "stderr": 0}
    while body:
        length, kind, offset = struct.unpack(">IB3xQ", body[:16])
        payload, body = body[16 : 16 + length], body[16 + length :]
        if first:
            beginning = json.loads(payload)
            assert beginning["event"] == "attached"
            assert beginning["position"] == beginning["stdout"] + beginning["stderr"]
            offsets = {"stdout": beginning["stdout"], "stderr": beginning["stderr"]}
            read.dropped, first = beginning["dropped"], False
        elif kind == 0:
            value = json.loads(payload)
            read.end = {"type": value.pop("event"), **value}
        elif kind in (2, 3):
            stream = "stdout" if kind == 2 else "stderr"
            assert offset == offsets[stream]
            offsets[stream] += length
            read.add(stream, payload)
    return read


READERS = {NDJSON: read_ndjson, EVENTS: read_events, FRAMES: read_frames}


@pytest.fixture
def processes(api: Api, sandbox_id: str) -> Processes:
    return Processes(api, sandbox_id)


# Starting and finding


def test_process_is_there_at_once_and_after_its_end(processes: Processes) -> None:
    begun = time.perf_counter()
    started = processes.start(
        ["/bin/sh", "-c", "sleep 0.5; echo out; echo err >&2; exit 3"], cwd="/tmp", tag="one"
    )
    took = time.perf_counter() - begun
    result = processes.wait(started["id"])

    assert took < 0.5
    assert started["status"] == "running"
    assert started["id"].startswith("proc_")
    assert (started["command"], started["cwd"], started["user"], started["tag"]) == (
        ["/bin/sh", "-c", "sleep 0.5; echo out; echo err >&2; exit 3"],
        "/tmp",
        "root",
        "one",
    )
    assert (started["exitCode"], started["exitedAt"], started["pty"]) == (None, None, None)
    assert (result["stdout"], result["stderr"], result["exitCode"]) == ("out\n", "err\n", 3)
    assert (result["status"], result["truncated"], result["timedOut"]) == ("exited", False, False)
    ended = processes.get(started["id"])
    assert (ended["status"], ended["exitCode"], ended["position"]) == ("exited", 3, 8)
    assert (ended["stdoutBytes"], ended["stderrBytes"], ended["firstPosition"]) == (4, 4, 0)
    assert ended["startedAt"] < ended["exitedAt"]


def test_text_runs_in_a_shell_with_the_sandboxs_directory_and_env(processes: Processes) -> None:
    started = processes.start("pwd; echo $A-$0", env={"A": "1"}, user="nobody")

    assert started["command"] == "pwd; echo $A-$0"
    assert (started["cwd"], started["user"]) == ("/workspace", "nobody")
    assert processes.wait(started["id"])["stdout"].startswith("/workspace\n1-")


def test_process_that_cannot_start_is_an_error(processes: Processes) -> None:
    answer = processes.api.call("POST", processes.root, {"command": ["/no/such/program"]})

    assert (answer.status, answer.error["code"]) == (422, "COMMAND_NOT_STARTED")
    assert answer.error["reason"] == "not_found"


def test_list_finds_by_tag_pid_and_status_newest_first(api: Api, runtime: str) -> None:
    with api.sandbox(runtime=runtime) as sandbox_id:
        processes = Processes(api, sandbox_id)
        first = processes.start("sleep 60", tag="mine")
        second = processes.start(["true"], tag="mine")
        third = processes.start("kill -9 $$", tag="other")
        for process in (second, third):
            processes.wait(process["id"])

        def ids(query: str) -> list[str]:
            return [process["id"] for process in processes.list(query)["data"]]

        assert ids("") == [third["id"], second["id"], first["id"]]
        assert ids("?tag=mine") == [second["id"], first["id"]]
        assert ids("?tag=mine&status=running") == [first["id"]]
        assert ids("?status=exited,killed") == [third["id"], second["id"]]
        assert ids(f"?pid={first['pid']}") == [first["id"]]
        assert ids("?tag=nobody") == []
        assert ids("?status=queued") == []


def test_list_comes_in_pages(api: Api, runtime: str) -> None:
    with api.sandbox(runtime=runtime) as sandbox_id:
        processes = Processes(api, sandbox_id)
        started = [processes.start(["true"])["id"] for _ in range(5)]

        pages, cursor = [], ""
        while True:
            page = processes.list(f"?limit=2{cursor}")
            pages.append([process["id"] for process in page["data"]])
            if not page["pagination"]["hasMore"]:
                break
            cursor = f"&cursor={page['pagination']['nextCursor']}"

    assert pages == [started[4:2:-1], started[2:0:-1], started[:1]]


def test_execute_is_listed_while_it_runs(processes: Processes) -> None:
    body = {"command": ["/bin/sh", "-c", "echo in; sleep 30"], "cwd": "/tmp"}
    target = processes.root.replace("/processes", "/execute")

    with processes.api.open("POST", target, body, headers={"Accept": NDJSON}) as (response, _):
        response.readline()
        found = processes.list("?status=running")["data"][0]
        record = processes.get(found["id"])

    assert (record["command"], record["cwd"]) == (body["command"], "/tmp")
    wait_until(lambda: processes.get(found["id"])["status"] == "killed")


@pytest.mark.parametrize(
    "process", ["proc_999999", "proc_x", "proc_-1", "nothing", "proc_" + "9" * 30]
)
@pytest.mark.parametrize("verb", ["", "/stream", "/wait", "/signal", "/stdin", "/resize"])
def test_unknown_process_is_not_found(processes: Processes, process: str, verb: str) -> None:
    bodies: dict[str, object] = {
        "/wait": {},
        "/signal": {"signal": 15},
        "/stdin": b"x",
        "/resize": {"rows": 1, "cols": 1},
    }
    answer = processes.call("POST" if verb in bodies else "GET", process, verb, bodies.get(verb))

    assert (answer.status, answer.error["code"]) == (404, "PROCESS_NOT_FOUND")


# Waiting and ending


def test_wait_that_is_not_long_enough_leaves_it_running(processes: Processes) -> None:
    started = processes.start("sleep 30")

    answer = processes.call("POST", started["id"], "/wait", {"timeoutMs": 200})

    assert (answer.status, answer.error["code"]) == (408, "TIMEOUT")
    assert 0.15 < answer.seconds < 3
    assert processes.get(started["id"])["status"] == "running"
    processes.call("DELETE", started["id"])
    assert processes.wait(started["id"], timeoutMs=0)["exitCode"] == 137


@pytest.mark.parametrize(
    ("signal", "name", "code"),
    [
        ("TERM", "SIGTERM", 143),
        ("SIGINT", "SIGINT", 130),
        (9, "SIGKILL", 137),
        ("10", "SIGUSR1", 138),
    ],
)
def test_signal_by_name_and_number(
    processes: Processes, signal: str | int, name: str, code: int
) -> None:
    # Not a shell's child in the background, which would ignore SIGINT.
    started = processes.start(["sleep", "30"])

    answer = processes.call("POST", started["id"], "/signal", {"signal": signal})
    result = processes.wait(started["id"])

    assert (answer.status, answer.json()["id"]) == (200, started["id"])
    assert (result["signal"], result["exitCode"], result["status"]) == (name, code, "killed")


@pytest.mark.parametrize("signal", ["NOPE", "", 0, 65, -1, "SIG", "TERM\x00"])
def test_signal_that_is_none_is_refused(processes: Processes, signal: object) -> None:
    started = processes.start(["sleep", "30"])

    answer = processes.call("POST", started["id"], "/signal", {"signal": signal})

    assert (answer.status, answer.error["code"]) == (400, "INVALID_REQUEST")
    processes.call("DELETE", started["id"])


def test_kill_ends_the_whole_tree_and_may_be_repeated(processes: Processes) -> None:
    started = processes.start("sleep 7654 & setsid sleep 7654 & echo up; wait")
    wait_until(lambda: processes.get(started["id"])["position"] == 3)

    first = processes.call("DELETE", started["id"])
    second = processes.call("DELETE", started["id"])

    assert (first.status, first.json()["status"], first.json()["signal"]) == (
        200,
        "killed",
        "SIGKILL",
    )
    assert second.json() == first.json()
    left = processes.api.execute(
        processes.root.split("/")[3], "pgrep -f '[s]leep 7654' || echo none"
    )
    assert left.json()["stdout"] == "none\n"


def test_ended_process_cannot_be_signalled(processes: Processes) -> None:
    started = processes.start(["true"])
    processes.wait(started["id"])

    answer = processes.call("POST", started["id"], "/signal", {"signal": "TERM"})

    assert (answer.status, answer.error["code"]) == (409, "PROCESS_ENDED")


@pytest.mark.parametrize("limit", ["timeoutMs", "idleTimeoutMs"])
def test_timeouts_end_the_process(processes: Processes, limit: str) -> None:
    started = processes.start("echo begun; sleep 30", **{limit: 300})

    result = processes.wait(started["id"])

    assert (result["status"], result["timedOut"], result["exitCode"]) == ("timed_out", True, None)
    assert result["stdout"] == "begun\n"


# Input


def test_stdin_is_written_until_its_end(processes: Processes) -> None:
    started = processes.start(["cat"], stdinOpen=True)
    assert started["stdinOpen"] is True

    first = processes.call("POST", started["id"], "/stdin", b"one\n")
    second = processes.call("POST", started["id"], "/stdin?eof=true", "zwölf\n".encode())
    result = processes.wait(started["id"])

    assert (first.json(), second.json()) == ({"bytes": 4}, {"bytes": 7})
    assert (result["stdout"], result["exitCode"], result["stdinOpen"]) == ("one\nzwölf\n", 0, False)


def test_large_input_is_streamed(processes: Processes) -> None:
    started = processes.start("sleep 0.3; sha256sum", stdinOpen=True)

    answer = processes.call("POST", started["id"], "/stdin?eof=true", bytes(8 << 20))

    assert answer.json() == {"bytes": 8 << 20}
    assert processes.wait(started["id"])["stdout"].startswith("2daeb1f36095b44b318410b3f4e8b5d9")


def test_closed_stdin_says_so(processes: Processes) -> None:
    without = processes.start(["sleep", "30"])
    closed = processes.start("sleep 30", stdinOpen=True)
    processes.call("POST", closed["id"], "/stdin?eof=true", b"")
    ended = processes.start(["true"], stdinOpen=True)
    processes.wait(ended["id"])

    answers = [processes.call("POST", p["id"], "/stdin", b"x") for p in (without, closed, ended)]

    assert [(a.status, a.error["code"]) for a in answers] == [(409, "STDIN_CLOSED")] * 3
    for process in (without, closed):
        processes.call("DELETE", process["id"])


@pytest.mark.parametrize("size", [5, 300_000])
def test_stdin_given_at_the_start_is_fed_whole(processes: Processes, size: int) -> None:
    started = processes.start("sleep 0.2; wc -c", stdin="x" * size)

    assert processes.wait(started["id"])["stdout"].strip() == str(size)


# Streams


@pytest.mark.parametrize("form", FORMS)
def test_stream_follows_to_the_exit(processes: Processes, form: str) -> None:
    started = processes.start("echo one; sleep 0.4; echo two >&2; exit 5")

    read = processes.read(started["id"], form)

    assert read.streams == {"stdout": b"one\n", "stderr": b"two\n"}
    assert (read.end["type"], read.end["exitCode"], read.end["status"]) == ("exit", 5, "exited")
    assert read.end["id"] == started["id"]


MIXED = r"""
printf 'a\303'; sleep 0.05; printf '\244b' ; printf '\342\202' ; sleep 0.05; printf 'xx' >&2; sleep 0.05; printf '\254'
sleep 0.05; printf '\377\376' >&2; sleep 0.05; printf '\360\237\230\200'
"""
MIXED_STDOUT, MIXED_STDERR = "aäb€😀".encode(), b"xx\xff\xfe"


@pytest.mark.parametrize("form", FORMS)
def test_stream_resumes_from_any_position(processes: Processes, form: str) -> None:
    started = processes.start(MIXED)
    processes.wait(started["id"])
    whole = processes.read(started["id"], form)
    assert whole.streams == {"stdout": MIXED_STDOUT, "stderr": MIXED_STDERR}

    for since in range(len(whole.output) + 1):
        part = processes.read(started["id"], form, f"?since={since}")

        assert part.output == whole.output[since:], since
        assert part.end == whole.end
    assert whole.positions == sorted(whole.positions)


def test_last_event_id_resumes_like_since(processes: Processes) -> None:
    started = processes.start("printf 0123456789")
    processes.wait(started["id"])

    read = processes.read(started["id"], EVENTS, "?since=2", **{"Last-Event-ID": "7"})

    assert read.output == b"789"


def test_every_cut_resumes_without_loss_or_repetition(processes: Processes) -> None:
    started = processes.start(MIXED)
    live = processes.read(started["id"], NDJSON)

    for index, position in enumerate(live.positions):
        rest = processes.read(started["id"], NDJSON, f"?since={position}")
        assert rest.output == b"".join(data for _, data in live.order[index + 1 :])


@pytest.mark.parametrize(
    "query", ["?since=1000000", "?since=-1", "?since=x", "?follow=maybe", "?x=1"]
)
def test_stream_of_what_cannot_be_is_refused(processes: Processes, query: str) -> None:
    started = processes.start(["true"])

    answer = processes.call("GET", started["id"], f"/stream{query}")

    assert (answer.status, answer.error["code"]) == (400, "INVALID_REQUEST")


def test_stream_that_does_not_follow_ends_with_what_there_is(processes: Processes) -> None:
    started = processes.start("echo now; sleep 30")
    wait_until(lambda: processes.get(started["id"])["position"] == 4)

    read = processes.read(started["id"], NDJSON, "?follow=false")

    assert (read.output, read.end["type"], read.end["status"]) == (b"now\n", "exit", "running")
    processes.call("DELETE", started["id"])


def test_head_of_a_stream_ends(processes: Processes) -> None:
    started = processes.start(["sleep", "30"])

    answer = processes.api.call("HEAD", f"{processes.root}/{started['id']}/stream")

    assert (answer.status, answer.body) == (200, b"")
    processes.call("DELETE", started["id"])


@pytest.mark.slow
def test_what_was_dropped_is_said_first(processes: Processes) -> None:
    size = 24 << 20
    started = processes.start(f"head -c {size} /dev/zero | tr '\\0' x")
    wait_until(lambda: processes.get(started["id"])["status"] == "exited")
    record = processes.get(started["id"])

    for form in FORMS:
        read = processes.read(started["id"], form)

        assert record["firstPosition"] > 0
        assert read.dropped == record["firstPosition"]
        assert len(read.output) == size - read.dropped


def resident_mb(pid: int) -> float:
    with open(f"/proc/{pid}/status") as status:
        line = next(line for line in status if line.startswith("VmRSS"))
    return int(line.split()[1]) / 1024


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS)
def test_slow_reader_slows_the_process_and_costs_the_server_nothing(
    processes: Processes, form: str
) -> None:
    started = processes.start("exec head -c 400000000 /dev/zero")
    pid = processes.api.server.pid
    before = resident_mb(pid)
    with processes.stream(started["id"], form):
        positions = [-1, 0]
        while positions[-1] != positions[-2]:
            rest(0.5)
            positions.append(processes.get(started["id"])["position"])
        assert resident_mb(pid) - before < 16
        assert processes.get(started["id"])["status"] == "running"

    # Nobody follows it any more.
    wait_until(lambda: processes.get(started["id"])["status"] == "exited")


def test_many_readers_have_the_same(processes: Processes) -> None:
    started = processes.start("for i in 1 2 3 4 5; do echo $i; sleep 0.1; done")
    with (
        processes.stream(started["id"], NDJSON) as first,
        processes.stream(started["id"], FRAMES) as second,
    ):
        bodies = [first.read(), second.read()]

    assert read_ndjson(bodies[0]).output == read_frames(bodies[1]).output == b"1\n2\n3\n4\n5\n"


def test_leaving_a_stream_changes_nothing(processes: Processes) -> None:
    started = processes.start("for i in 1 2 3 4 5; do echo $i; sleep 0.1; done; exit 7")
    with processes.stream(started["id"], NDJSON) as response:
        response.readline()

    assert processes.wait(started["id"])["exitCode"] == 7


def test_result_keeps_the_newest_of_the_output(processes: Processes) -> None:
    started = processes.start("head -c 11000000 /dev/zero | tr '\\0' x; echo end")

    result = processes.wait(started["id"])

    assert result["truncated"] is True
    assert len(result["stdout"]) <= 10 << 20
    assert result["stdout"].endswith("xend\n")


# A server that is gone


@pytest.mark.isolated
def test_process_outlives_the_server(own_server: ServerProcess, runtime: str) -> None:
    api = Api(own_server)
    with api.sandbox(runtime=runtime) as sandbox_id:
        processes = Processes(api, sandbox_id)
        command = "for i in 1 2 3 4 5 6 7 8 9 10; do echo $i; sleep 0.3; done; cat >&2; exit 9"
        started = processes.start(command, tag="job", cwd="/tmp", stdinOpen=True)
        with processes.stream(started["id"], NDJSON) as response:
            seen = json.loads(response.readline())

        own_server.kill()
        own_server.start()

        found = processes.list("?tag=job&status=running")["data"]
        assert [process["id"] for process in found] == [started["id"]]
        assert (found[0]["command"], found[0]["cwd"]) == (command, "/tmp")
        processes.call("POST", started["id"], "/stdin?eof=true", b"typed")
        rest = processes.read(started["id"], NDJSON, f"?since={seen['position']}")
        whole = processes.wait(started["id"])

    assert seen["data"].encode() + rest.streams["stdout"] == b"1\n2\n3\n4\n5\n6\n7\n8\n9\n10\n"
    assert (rest.streams["stderr"], rest.end["exitCode"]) == (b"typed", 9)
    assert (whole["stdout"], whole["exitCode"]) == ("1\n2\n3\n4\n5\n6\n7\n8\n9\n10\n", 9)


@pytest.mark.isolated
def test_server_remembers_as_many_as_it_is_told(runtime: str) -> None:
    with ServerProcess({"ATOLL_KEEP_PROCESSES": "16"}) as server:
        api = Api(server)
        processes = Processes(api, api.create(runtime=runtime))
        ids = []
        for _ in range(20):
            ids.append(processes.start(["true"])["id"])
            processes.wait(ids[-1])

        assert [process["id"] for process in processes.list()["data"]] == ids[:3:-1]
