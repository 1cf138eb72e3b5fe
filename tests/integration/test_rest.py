# SPDX-License-Identifier: Apache-2.0
"""The HTTP API by itself: who may call it, and what its answers look like. Items 82 to 87 of the checklist."""

from __future__ import annotations

import re
import resource
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.api import Api
from tests.support.waiting import wait_until

INSTANT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
MOST_FILES = min(65_536, resource.getrlimit(resource.RLIMIT_NOFILE)[1])
PUBLIC = {("GET", "/v1/health"), ("GET", "/v1/openapi.json")}
DOCUMENTED = {
    ("GET", "/v1/health"),
    ("GET", "/v1/openapi.json"),
    ("GET", "/v1/images"),
    ("GET", "/metrics"),
    ("GET", "/v1/pool"),
    ("PUT", "/v1/pool"),
    ("GET", "/v1/keys"),
    ("POST", "/v1/keys"),
    ("DELETE", "/v1/keys/{key_id}"),
    ("POST", "/v1/sandboxes"),
    ("GET", "/v1/sandboxes"),
    ("GET", "/v1/sandboxes/{id}"),
    ("GET", "/v1/sandboxes/{id}/metrics"),
    ("DELETE", "/v1/sandboxes/{id}"),
    ("POST", "/v1/sandboxes/{id}/execute"),
    ("POST", "/v1/sandboxes/{id}/processes"),
    ("GET", "/v1/sandboxes/{id}/processes"),
    ("GET", "/v1/sandboxes/{id}/processes/{process_id}"),
    ("DELETE", "/v1/sandboxes/{id}/processes/{process_id}"),
    ("GET", "/v1/sandboxes/{id}/processes/{process_id}/stream"),
    ("POST", "/v1/sandboxes/{id}/processes/{process_id}/wait"),
    ("POST", "/v1/sandboxes/{id}/processes/{process_id}/signal"),
    ("POST", "/v1/sandboxes/{id}/processes/{process_id}/stdin"),
    ("POST", "/v1/sandboxes/{id}/processes/{process_id}/resize"),
    ("GET", "/v1/sandboxes/{id}/processes/{process_id}/attach"),
    ("GET", "/v1/sandboxes/{id}/files"),
    ("PUT", "/v1/sandboxes/{id}/files"),
    ("DELETE", "/v1/sandboxes/{id}/files"),
    ("GET", "/v1/sandboxes/{id}/files/list"),
    ("GET", "/v1/sandboxes/{id}/files/stat"),
    ("GET", "/v1/sandboxes/{id}/files/exists"),
    ("POST", "/v1/sandboxes/{id}/files/mkdir"),
    ("POST", "/v1/sandboxes/{id}/files/move"),
    ("POST", "/v1/sandboxes/{id}/files/copy"),
    ("POST", "/v1/sandboxes/{id}/files/chmod"),
    ("POST", "/v1/sandboxes/{id}/files/chown"),
    ("GET", "/v1/sandboxes/{id}/files/archive"),
    ("PUT", "/v1/sandboxes/{id}/files/archive"),
    ("POST", "/v1/sandboxes/{id}/files/batch/read"),
    ("POST", "/v1/sandboxes/{id}/files/batch/write"),
    ("POST", "/v1/sandboxes/{id}/watches"),
    ("GET", "/v1/sandboxes/{id}/watches"),
    ("GET", "/v1/sandboxes/{id}/watches/{watch_id}"),
    ("DELETE", "/v1/sandboxes/{id}/watches/{watch_id}"),
    ("GET", "/v1/sandboxes/{id}/watches/{watch_id}/changes"),
    ("GET", "/v1/events"),
    ("GET", "/v1/sandboxes/{id}/events"),
    ("GET", "/v1/sandboxes/{id}/network"),
    ("PUT", "/v1/sandboxes/{id}/network"),
    ("POST", "/v1/sandboxes/{id}/ports"),
    ("GET", "/v1/sandboxes/{id}/ports"),
    ("GET", "/v1/sandboxes/{id}/ports/listening"),
    ("DELETE", "/v1/sandboxes/{id}/ports/{port}"),
    ("POST", "/v1/sandboxes/{id}/ports/{port}/sign"),
    ("GET", "/v1/sandboxes/{id}/ports/{port}/dial"),
}
NEED_A_KEY = sorted(DOCUMENTED - PUBLIC)
WRONG_KEYS = {
    "none": {},
    "empty": {"Authorization": ""},
    "no key": {"Authorization": "Bearer"},
    "wrong": {"Authorization": "Bearer wrong"},
    "prefix of the right one": {"Authorization": "Bearer test-key-012345678"},
    "longer than the right one": {"Authorization": "Bearer test-key-0123456789x"},
    "another scheme": {"Authorization": "Basic dGVzdC1rZXktMDEyMzQ1Njc4OTo="},
    "no scheme": {"Authorization": "test-key-0123456789"},
    "5,000 characters": {"Authorization": "Bearer " + "k" * 5000},
    "not ASCII": {"Authorization": "Bearer \xe9\xff"},
    "another header": {"X-API-Key": "test-key-0123456789"},
}


@pytest.fixture
def three(api: Api, runtime: str, request: pytest.FixtureRequest) -> Iterator[list[str]]:
    """Three sandboxes with a label of this test's own, oldest first."""
    ids = [
        api.create(runtime=runtime, metadata={"test": request.node.name, "number": str(number)})
        for number in range(3)
    ]
    yield ids
    for sandbox_id in ids:
        api.terminate(sandbox_id)


def test_document_names_exactly_the_documented_routes(api: Api) -> None:
    document = api.call("GET", "/v1/openapi.json", key=None)

    routes = {
        (method.upper(), path)
        for path, operations in document.json()["paths"].items()
        for method in operations
        if method in ("get", "put", "post", "delete", "patch", "head", "options")
    }
    assert document.status == 200
    assert routes == DOCUMENTED


@pytest.mark.parametrize(("method", "path"), NEED_A_KEY)
def test_every_other_route_needs_a_key(api: Api, method: str, path: str) -> None:
    """Item 82."""
    for name, headers in WRONG_KEYS.items():
        answer = api.call(method, path.replace("{id}", "sb_0000000000"), headers=headers, key=None)

        assert (answer.status, answer.error["code"]) == (401, "UNAUTHORIZED"), name
        assert answer.headers["www-authenticate"].startswith("Bearer"), name


def test_a_key_in_the_query_opens_nothing(api: Api) -> None:
    answer = api.call("GET", f"/v1/sandboxes?api_key={api.server.api_key}", key=None)

    assert answer.status == 401


def test_two_keys_open_nothing(api: Api) -> None:
    request = (
        "GET /v1/sandboxes HTTP/1.1\r\nHost: a\r\nConnection: close\r\n"
        f"Authorization: Bearer {api.server.api_key}\r\nAuthorization: Bearer wrong\r\n\r\n"
    )

    assert api.send_raw(request.encode()).startswith(b"HTTP/1.1 401 ")


def test_unauthorised_answers_do_not_tell_what_exists(api: Api, sandbox_id: str) -> None:
    known = api.call("GET", f"/v1/sandboxes/{sandbox_id}", key="wrong").error
    unknown = api.call("GET", "/v1/sandboxes/sb_0000000000", key="wrong").error

    del known["requestId"], unknown["requestId"]
    assert known == unknown


def test_health_needs_no_key_and_says_the_time(api: Api) -> None:
    """Item 83."""
    answer = api.call("GET", "/v1/health", key=None)

    assert answer.status == 200
    assert answer.json().keys() == {"status", "version", "timestamp"}
    assert answer.json()["status"] == "ok"
    assert INSTANT.fullmatch(answer.json()["timestamp"])


def test_creating_answers_201_with_the_running_sandbox(api: Api, runtime: str) -> None:
    """Items 9 to 11."""
    answer = api.call("POST", "/v1/sandboxes", {"image": "host", "runtime": runtime})
    record: dict[str, Any] = answer.json()
    api.terminate(record["id"])

    assert answer.status == 201
    assert re.fullmatch("sb_[a-z0-9]{10}", record["id"])
    assert INSTANT.fullmatch(record.pop("createdAt"))
    assert INSTANT.fullmatch(record.pop("startedAt"))
    assert record.pop("isolation").startswith(runtime)
    assert record == {
        "id": record["id"],
        "state": "running",
        "image": "host",
        "runtime": runtime,
        "resources": {
            "cpu": 2,
            "memoryMb": 4096,
            "diskMb": 10240,
            "pids": 4096,
            "openFiles": MOST_FILES,
        },
        "env": {},
        "metadata": {},
        "workdir": "/workspace",
        "timeoutMs": 300_000,
        "idleTimeoutMs": 120_000,
        "pausedAt": None,
        "terminatedAt": None,
        "reason": None,
        "detail": None,
        "network": {"egress": {"default": "allow", "allow": [], "deny": []}, "ingress": None},
        "secrets": {},
    }


def test_pages_say_whether_there_is_more(
    api: Api, three: list[str], request: pytest.FixtureRequest
) -> None:
    """Item 84."""
    label = f"metadata%5Btest%5D={request.node.name.replace('[', '%5B').replace(']', '%5D')}"

    first = api.call("GET", f"/v1/sandboxes?{label}&limit=2").json()
    last = api.call("GET", f"/v1/sandboxes?{label}&limit=2&offset=2").json()
    exact = api.call("GET", f"/v1/sandboxes?{label}&limit=3").json()
    beyond = api.call("GET", f"/v1/sandboxes?{label}&limit=3&offset=3").json()

    newest_first = three[::-1]
    assert [item["id"] for item in first["data"]] == newest_first[:2]
    assert first["pagination"] == {"total": 3, "limit": 2, "offset": 0, "hasMore": True}
    assert [item["id"] for item in last["data"]] == newest_first[2:]
    assert last["pagination"] == {"total": 3, "limit": 2, "offset": 2, "hasMore": False}
    assert [item["id"] for item in exact["data"]] == newest_first
    assert exact["pagination"]["hasMore"] is False
    assert beyond == {
        "data": [],
        "pagination": {"total": 3, "limit": 3, "offset": 3, "hasMore": False},
    }


def test_lists_filter_by_state_and_all_labels(api: Api, three: list[str]) -> None:
    """Item 19."""
    api.terminate(three[0])
    label = api.get(three[0])["metadata"]["test"].replace("[", "%5B").replace("]", "%5D")
    mine = f"metadata[test]={label}"

    def ids(query: str) -> list[str]:
        return [item["id"] for item in api.call("GET", f"/v1/sandboxes?{query}").json()["data"]]

    assert ids(f"{mine}&state=terminated") == [three[0]]
    assert ids(f"{mine}&state=running") == [three[2], three[1]]
    assert ids(f"{mine}&metadata[number]=1") == [three[1]]
    assert ids(f"{mine}&metadata[number]=1&state=terminated") == []
    assert ids(f"{mine}&metadata[number]=%25") == []


def test_default_page_has_twenty(api: Api) -> None:
    assert api.call("GET", "/v1/sandboxes").json()["pagination"]["limit"] == 20


@pytest.mark.parametrize("target", ["/v1/health", "/v1/openapi.json", "/v1/sandboxes", "/nowhere"])
def test_every_answer_is_json_with_a_request_id(api: Api, target: str) -> None:
    """Item 85."""
    answer = api.call("GET", target)

    assert answer.headers["content-type"] == "application/json; charset=utf-8"
    assert answer.headers["x-request-id"]
    assert isinstance(answer.json(), dict)


def test_a_request_id_of_the_client_comes_back(api: Api) -> None:
    answer = api.call("GET", "/v1/sandboxes/nope", headers={"X-Request-Id": "my-id.1"})

    assert answer.headers["x-request-id"] == "my-id.1"
    assert answer.error["requestId"] == "my-id.1"


def test_execute_takes_everything_and_answers_with_everything(api: Api, sandbox_id: str) -> None:
    """Items 39 and 86."""
    answer = api.execute(
        sandbox_id,
        "cat; echo $A >&2; pwd; exit 3",
        cwd="/tmp",
        env={"A": "b"},
        timeoutMs=20_000,
        stdin="given\n",
    )

    result = answer.json()
    assert answer.status == 200
    assert isinstance(result.pop("durationMs"), int)
    assert result == {
        "stdout": "given\n/tmp\n",
        "stderr": "b\n",
        "exitCode": 3,
        "signal": None,
        "timedOut": False,
        "oomKilled": False,
        "truncated": False,
    }


def test_execute_takes_bytes_as_base64(api: Api, sandbox_id: str) -> None:
    answer = api.execute(sandbox_id, "od -An -tx1", stdin="/wD+", stdinEncoding="base64")

    assert answer.json()["stdout"].split() == ["ff", "00", "fe"]


def test_a_command_that_cannot_start_is_an_error_with_its_reason(api: Api, sandbox_id: str) -> None:
    answer = api.execute(sandbox_id, ["/no/such/program"])

    assert (answer.status, answer.error["code"]) == (422, "COMMAND_NOT_STARTED")
    assert answer.error["reason"] == "not_found"
    assert answer.error["retryable"] is False


def test_files_travel_as_text_or_base64(api: Api, sandbox_id: str) -> None:
    files = f"/v1/sandboxes/{sandbox_id}/files"
    written = api.call("PUT", f"{files}?path=a.txt", {"content": "ä\n", "mode": "0600"})
    api.call("PUT", f"{files}?path=/tmp/b", {"content": "/wA=", "encoding": "base64"})

    text = api.call("GET", f"{files}?path=/workspace/a.txt").json()
    binary = api.call("GET", f"{files}?path=/tmp/b").json()

    assert written.json() == {"path": "/workspace/a.txt", "sizeBytes": 3, "created": True}
    assert text == {
        "content": "ä\n",
        "encoding": "utf-8",
        "path": "/workspace/a.txt",
        "mode": "0600",
    }
    assert (binary["content"], binary["encoding"]) == ("/wA=", "base64")


def test_files_travel_as_octets(api: Api, sandbox_id: str) -> None:
    target = f"/v1/sandboxes/{sandbox_id}/files?path=/tmp/octets"
    data = bytes(range(256)) * 4096

    written = api.call("PUT", target, data, headers={"Content-Type": "application/octet-stream"})
    read = api.call("GET", target, headers={"Accept": "application/octet-stream"})

    assert written.json()["sizeBytes"] == len(data)
    assert read.headers["content-type"] == "application/octet-stream"
    assert read.body == data


def test_listing_files_answers_a_collection(api: Api, sandbox_id: str) -> None:
    """Item 43."""
    files = f"/v1/sandboxes/{sandbox_id}/files"
    for name in ("one", "two", "three"):
        api.call("PUT", f"{files}?path=/tmp/listed/{name}", {"content": name})

    whole = api.call("GET", f"{files}/list?path=/tmp/listed").json()
    part = api.call("GET", f"{files}/list?path=/tmp/listed&limit=2").json()

    assert [entry["name"] for entry in whole["data"]] == ["one", "three", "two"]
    assert [entry["sizeBytes"] for entry in whole["data"]] == [3, 5, 3]
    assert whole["truncated"] is False
    assert part["truncated"] is True
    assert part["pagination"]["hasMore"] is True
    assert len(part["data"]) == 2


def test_removing_a_file_answers_204(api: Api, sandbox_id: str) -> None:
    files = f"/v1/sandboxes/{sandbox_id}/files"
    api.call("PUT", f"{files}?path=/tmp/removed", {"content": ""})

    answer = api.call("DELETE", f"{files}?path=/tmp/removed")
    again = api.call("DELETE", f"{files}?path=/tmp/removed")

    assert (answer.status, answer.body) == (204, b"")
    assert (again.status, again.error["code"]) == (404, "FILE_NOT_FOUND")


def test_nothing_acts_on_a_terminated_sandbox(api: Api, runtime: str) -> None:
    """Items 63 and 87."""
    with api.sandbox(runtime=runtime) as sandbox_id:
        ended = api.terminate(sandbox_id)

    execute = api.execute(sandbox_id, "true")
    read = api.call("GET", f"/v1/sandboxes/{sandbox_id}/files?path=/etc/passwd")

    assert (ended.status, ended.json()["state"]) == (200, "terminated")
    assert ended.json()["reason"] == "user"
    assert (execute.status, execute.error["code"]) == (404, "SANDBOX_NOT_FOUND")
    assert (read.status, read.error["code"]) == (404, "SANDBOX_NOT_FOUND")
    assert api.terminate(sandbox_id).json() == ended.json()
    assert api.get(sandbox_id) == ended.json()


def test_a_lifetime_that_is_over_terminates_with_its_reason(api: Api, runtime: str) -> None:
    """Item 65."""
    sandbox_id = api.create(runtime=runtime, timeoutMs=1)

    wait_until(lambda: api.get(sandbox_id)["state"] == "terminated", what="the end")

    assert api.get(sandbox_id)["reason"] == "timeout"
    assert INSTANT.fullmatch(api.get(sandbox_id)["terminatedAt"])


@pytest.mark.parametrize("query", ["force=true", "path=/tmp/x", "recursive=true"])
def test_an_unknown_query_terminates_nothing(api: Api, runtime: str, query: str) -> None:
    """Whoever forgets `/files` in the path of a removal must not lose the sandbox."""
    sandbox_id = api.create(runtime=runtime)

    answer = api.call("DELETE", f"/v1/sandboxes/{sandbox_id}?{query}")

    state = api.get(sandbox_id)["state"]
    api.terminate(sandbox_id)
    assert state == "running"
    assert (answer.status, answer.error["code"]) == (400, "INVALID_REQUEST")
