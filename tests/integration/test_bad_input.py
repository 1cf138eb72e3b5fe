# SPDX-License-Identifier: Apache-2.0
"""What is wrong is refused: at once, with a stable code, and without any effect."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.api import Answer, Api

LONG = "x" * 5000
IN_TIME = 1.0
UNKNOWN_ID = "sb_0000000000"
CREATE, LIST = "/v1/sandboxes", "/v1/sandboxes"


def assert_refused(answer: Answer, status: int, code: str) -> None:
    assert (answer.status, answer.error["code"]) == (status, code), answer.body
    assert answer.headers["content-type"] == "application/json; charset=utf-8"
    assert answer.error["requestId"] == answer.headers["x-request-id"]
    assert answer.error["retryable"] is False
    assert 3 < len(answer.error["message"]) <= 1000
    assert "Traceback" not in answer.error["message"]
    assert answer.seconds < IN_TIME


def named(*cases: Any) -> Any:
    """Parameters whose test ids are their values, cut to a readable length."""
    values = [case if isinstance(case, tuple) else (case,) for case in cases]
    ids = [f"{number}-{str(value)[1:60]}" for number, value in enumerate(values)]
    return {"argvalues": cases, "ids": ids}


@pytest.fixture(autouse=True)
def _nothing_created(api: Api) -> Iterator[None]:
    before = api.count()
    yield
    assert api.count() == before


@pytest.mark.parametrize(
    "fields",
    **named(
        {"nonsense": 1},
        {"Image": "host"},
        {"resources": {"gpu": 1}},
        {"image": 5},
        {"image": ["host"]},
        {"image": None},
        {"image": ""},
        {"image": "no-such-image"},
        {"image": "../../etc"},
        {"image": "host\0"},
        {"image": LONG},
        {"resources": 2},
        {"resources": {"cpu": "2"}},
        {"resources": {"cpu": 2.5}},
        {"resources": {"cpu": True}},
        {"resources": {"cpu": 0}},
        {"resources": {"cpu": -2}},
        {"resources": {"cpu": 3}},
        {"resources": {"cpu": 10**30}},
        {"resources": {"memoryMb": 2047}},
        {"resources": {"memoryMb": 16385}},
        {"resources": {"diskMb": 5119}},
        {"resources": {"diskMb": 51201}},
        {"env": ["A=1"]},
        {"env": {"A": 1}},
        {"env": {"A": None}},
        {"env": {"A": "1\0"}},
        {"env": {"A\0": "1"}},
        {"env": {"": "1"}},
        {"env": {"A=B": "1"}},
        {"env": {f"N{number}": "" for number in range(257)}},
        {"workdir": "relative"},
        {"workdir": ""},
        {"workdir": "/w\0"},
        {"workdir": "/" + LONG},
        {"workdir": 7},
        {"timeoutMs": 0},
        {"timeoutMs": -1},
        {"timeoutMs": 86_400_001},
        {"timeoutMs": 1.5},
        {"timeoutMs": "300000"},
        {"timeoutMs": True},
        {"timeoutMs": 10**400},
        {"idleTimeoutMs": 0},
        {"metadata": {f"key{number}": "" for number in range(21)}},
        {"metadata": {"key": "v" * 257}},
        {"metadata": {LONG: "v"}},
        {"metadata": {"key": 1}},
        {"metadata": {"key": {"nested": "1"}}},
        {"metadata": {"key\0": "v"}},
        {"metadata": []},
        {"runtime": "docker"},
        {"runtime": "CONTAINER"},
        {"runtime": None},
    ),
)
def test_creating_with_a_wrong_field_is_invalid_config(api: Api, fields: dict[str, object]) -> None:
    """Items 12 to 16."""
    answer = api.call("POST", CREATE, {"image": "host", **fields})

    assert_refused(answer, 400, "INVALID_CONFIG")


@pytest.mark.parametrize(
    "body",
    **named(
        b"",
        b"null",
        b"[]",
        b'"text"',
        b"7",
        b"{",
        b'{"image": "host"',
        b'{"image": "host"}}',
        b'{"image": "host"} {}',
        b"{'image': 'host'}",
        b'{"image": "host", "image": "host"}',
        b'{"image": "host", "env": {"A": "1", "A": "2"}}',
        b'{"image": "host", "resources": {"cpu": 2, "cpu": 4}}',
        b'{"image": "host", "timeoutMs": NaN}',
        b'{"image": "host", "timeoutMs": Infinity}',
        b'{"image": "host", "timeoutMs": -Infinity}',
        b'{"image": "host", "timeoutMs": 1e999}',
        b'{"image": "host", "timeoutMs": ' + b"9" * 5000 + b"}",
        b'{"image": "\xff\xfe"}',
        b'{"image": "host", "env": {"A": "\\ud800"}}',
        b"\xef\xbb\xbf" + b'{"image": "nope"}',
        b"[" * 100_000,
        b"[" * 100_000 + b"]" * 100_000,
        b'{"a":' * 50_000 + b"1" + b"}" * 50_000,
        b'{"image": "host", "metadata": ' + b'{"a":' * 1000 + b"1" + b"}" * 1001,
        b'{"image": "host", "x": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"image": "host", "env": {' + b'"A": "", ' * 50_000 + b'"B": ""}}',
    ),
)
def test_creating_with_a_body_that_is_no_such_record_is_invalid_config(
    api: Api, body: bytes
) -> None:
    answer = api.call("POST", CREATE, body, headers={"Content-Type": "application/json"})

    assert_refused(answer, 400, "INVALID_CONFIG")


def test_a_body_over_the_limit_is_too_large(api: Api) -> None:
    body = json.dumps({"image": "host", "env": {"A": "x" * (1 << 20)}}).encode()

    assert_refused(
        api.call("POST", CREATE, body, headers={"Content-Type": "application/json"}),
        413,
        "TOO_LARGE",
    )


def test_a_body_over_the_limit_is_refused_before_it_is_sent(api: Api) -> None:
    head = (
        f"POST {CREATE} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {api.server.api_key}\r\n"
        "Content-Type: application/json\r\nContent-Length: 1073741824\r\nConnection: close\r\n\r\n{"
    )

    assert api.send_raw(head.encode()).startswith(b"HTTP/1.1 413 ")


@pytest.mark.parametrize("media_type", ["text/plain", "application/x-www-form-urlencoded", "a/b/c"])
def test_a_body_that_is_not_json_is_an_unsupported_media_type(api: Api, media_type: str) -> None:
    answer = api.call("POST", CREATE, b'{"image": "host"}', headers={"Content-Type": media_type})

    assert_refused(answer, 415, "UNSUPPORTED_MEDIA_TYPE")


def test_an_encoded_body_is_an_unsupported_media_type(api: Api) -> None:
    headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}

    assert_refused(
        api.call("POST", CREATE, b"\x1f\x8b", headers=headers), 415, "UNSUPPORTED_MEDIA_TYPE"
    )


@pytest.mark.parametrize(
    "query",
    **named(
        "limit=0",
        "limit=101",
        "limit=-1",
        "limit=ten",
        "limit=1.5",
        "limit=",
        "limit=5&limit=6",
        "limit=" + "9" * 400,
        "limit=%D9%A1",
        "offset=-1",
        "offset=9999999999999999999",
        "state=bogus",
        "state=RUNNING",
        "state=",
        "metadata=a",
        "metadata[a=b",
        "metadata[a]=1&metadata[a]=2",
        "tenant=other",
        "nonsense=1",
        "&".join(f"metadata[k{number}]=v" for number in range(21)),
    ),
)
def test_listing_with_a_wrong_query_is_an_invalid_request(api: Api, query: str) -> None:
    assert_refused(api.call("GET", f"{LIST}?{query}"), 400, "INVALID_REQUEST")


@pytest.mark.parametrize("method", ["GET", "DELETE"])
@pytest.mark.parametrize(
    "sandbox_id",
    **named(
        UNKNOWN_ID,
        "x",
        "sb_",
        LONG,
        "sb_%00",
        "sb_%ff",
        "sb_%20",
        "%2e%2e",
        "%2E%2E%2F%2E%2E",
        "sb_'%20or%201=1",
        "sb_%F0%9F%90%9A",
        "*",
    ),
)
def test_an_unknown_sandbox_is_not_found(api: Api, method: str, sandbox_id: str) -> None:
    """Item 18."""
    answer = api.call(method, f"/v1/sandboxes/{sandbox_id}")

    # An encoded slash makes it another path; nothing is there either.
    code = "NOT_FOUND" if "2F" in sandbox_id else "SANDBOX_NOT_FOUND"
    assert_refused(answer, 404, code)


@pytest.mark.parametrize(
    ("method", "verb", "body"),
    [
        ("POST", "/execute", {"command": "true"}),
        ("GET", "/files?path=/etc/passwd", None),
        ("PUT", "/files?path=/tmp/x", {"content": ""}),
        ("DELETE", "/files?path=/tmp/x", None),
        ("GET", "/files/list?path=/", None),
        ("GET", "/files/stat?path=/", None),
        ("GET", "/files/exists?path=/", None),
        ("POST", "/files/mkdir", {"path": "/tmp/d"}),
        ("POST", "/files/move", {"source": "/a", "destination": "/b"}),
        ("POST", "/files/copy", {"source": "/a", "destination": "/b"}),
        ("POST", "/files/chmod", {"path": "/a", "mode": "0755"}),
        ("POST", "/files/chown", {"path": "/a", "user": "root"}),
        ("GET", "/files/archive?path=/", None),
    ],
)
def test_no_verb_acts_on_an_unknown_sandbox(
    api: Api, method: str, verb: str, body: dict[str, str] | None
) -> None:
    answer = api.call(method, f"/v1/sandboxes/{UNKNOWN_ID}{verb}", body)

    assert_refused(answer, 404, "SANDBOX_NOT_FOUND")


@pytest.mark.parametrize(
    "fields",
    **named(
        {"command": 5},
        {"command": None},
        {"command": []},
        {"command": [1]},
        {"command": ["a", None]},
        {"command": "echo \0"},
        {"command": ["echo", "\0"]},
        {"command": {"argv": ["true"]}},
        {"cmd": ["true"]},
        {"cwd": "/\0"},
        {"cwd": "/" + LONG},
        {"cwd": 5},
        {"env": {"A": "\0"}},
        {"env": {"A=": "1"}},
        {"env": {"": "1"}},
        {"env": {"A": 1}},
        {"env": "A=1"},
        {"user": "u" * 65},
        {"user": LONG},
        {"user": 0},
        {"user": "root", "runAs": "user"},
        {"stdin": 5},
        {"stdin": "not base64!", "stdinEncoding": "base64"},
        {"stdin": "x", "stdinEncoding": "latin-1"},
        {"timeoutMs": 0},
        {"timeoutMs": -1},
        {"timeoutMs": 300_001},
        {"timeoutMs": "1000"},
        {"timeoutMs": 1e3},
        {"timeout": 5},
    ),
)
def test_executing_with_a_wrong_field_is_an_invalid_request(
    api: Api, sandbox_id: str, fields: dict[str, object]
) -> None:
    """Item 34, too: a time limit above 300 s."""
    body = {"command": "touch /tmp/ran", **fields}

    answer = api.call("POST", f"/v1/sandboxes/{sandbox_id}/execute", body)

    assert_refused(answer, 400, "INVALID_REQUEST")
    assert api.execute(sandbox_id, "ls /tmp/ran").json()["exitCode"] == 2


def test_executing_without_a_command_is_an_invalid_request(api: Api, sandbox_id: str) -> None:
    answer = api.call("POST", f"/v1/sandboxes/{sandbox_id}/execute", {"cwd": "/"})

    assert_refused(answer, 400, "INVALID_REQUEST")


@pytest.mark.parametrize(
    ("method", "verb"),
    [
        ("GET", "/files"),
        ("PUT", "/files"),
        ("DELETE", "/files"),
        ("GET", "/files/list"),
        ("GET", "/files/stat"),
        ("GET", "/files/exists"),
        ("GET", "/files/archive"),
        ("PUT", "/files/archive"),
    ],
)
@pytest.mark.parametrize(
    "query",
    **named(
        "",
        "path=",
        "path=%00",
        "path=/tmp/a%00b",
        "path=/" + LONG,
        "path=/a&path=/b",
        "path=/a&nonsense=1",
        "Path=/a",
    ),
)
def test_a_wrong_path_is_an_invalid_request(
    api: Api, sandbox_id: str, method: str, verb: str, query: str
) -> None:
    """Attack 21."""
    body = b"x" if method == "PUT" else None
    media_type = "application/x-tar" if "archive" in verb else "application/octet-stream"
    headers = {"Content-Type": media_type} if body else {}

    answer = api.call(method, f"/v1/sandboxes/{sandbox_id}{verb}?{query}", body, headers=headers)

    assert_refused(answer, 400, "INVALID_REQUEST")


@pytest.mark.parametrize(
    ("verb", "fields"),
    **named(
        ("mkdir", {}),
        ("mkdir", {"path": ""}),
        ("mkdir", {"path": "/a\0"}),
        ("mkdir", {"path": "/" + LONG}),
        ("mkdir", {"path": "/tmp/d", "mode": "999"}),
        ("mkdir", {"path": "/tmp/d", "mode": "rwx"}),
        ("mkdir", {"path": "/tmp/d", "mode": 493}),
        ("mkdir", {"path": "/tmp/d", "parents": "yes"}),
        ("move", {"source": "/a"}),
        ("move", {"source": "/a", "destination": ""}),
        ("move", {"source": "/a\0", "destination": "/b"}),
        ("copy", {"source": "/a", "destination": "/" + LONG}),
        ("copy", {"source": "/a", "destination": "/b", "overwrite": True}),
        ("chmod", {"path": "/tmp", "mode": "17777"}),
        ("chmod", {"path": "/tmp", "mode": "-1"}),
        ("chmod", {"path": "/tmp", "mode": ""}),
        ("chmod", {"path": "/tmp"}),
        ("chown", {"path": "/tmp"}),
        ("chown", {"path": "/tmp", "user": LONG}),
        ("chown", {"path": "/tmp", "user": 0}),
    ),
)
def test_a_wrong_change_of_files_is_an_invalid_request(
    api: Api, sandbox_id: str, verb: str, fields: dict[str, object]
) -> None:
    answer = api.call("POST", f"/v1/sandboxes/{sandbox_id}/files/{verb}", fields)

    assert_refused(answer, 400, "INVALID_REQUEST")


@pytest.mark.parametrize(
    ("target", "body"),
    **named(
        ("files?path=/tmp/w", {}),
        ("files?path=/tmp/w", {"content": 5}),
        ("files?path=/tmp/w", {"content": "x", "encoding": "rot13"}),
        ("files?path=/tmp/w", {"content": "?", "encoding": "base64"}),
        ("files?path=/tmp/w", {"content": "x", "mode": "8"}),
        ("files?path=/tmp/w", {"content": "x", "nonsense": 1}),
        ("files?path=/tmp/w&mode=9", {"content": "x"}),
        ("files?path=/tmp/w&mode=77777", {"content": "x"}),
        ("files?path=/tmp/w&append=yes", {"content": "x"}),
    ),
)
def test_a_wrong_write_is_an_invalid_request_and_writes_nothing(
    api: Api, sandbox_id: str, target: str, body: dict[str, object]
) -> None:
    answer = api.call("PUT", f"/v1/sandboxes/{sandbox_id}/{target}", body)

    assert_refused(answer, 400, "INVALID_REQUEST")
    exists = api.call("GET", f"/v1/sandboxes/{sandbox_id}/files/exists?path=/tmp/w")
    assert exists.json() == {"exists": False}


@pytest.mark.parametrize(
    "query",
    **named("depth=0", "depth=33", "depth=x", "limit=0", "limit=10001", "recursive=true"),
)
def test_listing_files_with_a_wrong_query_is_an_invalid_request(
    api: Api, sandbox_id: str, query: str
) -> None:
    answer = api.call("GET", f"/v1/sandboxes/{sandbox_id}/files/list?path=/&{query}")

    assert_refused(answer, 400, "INVALID_REQUEST")


@pytest.mark.parametrize(
    "target", **named("/", "/v1", "/v2/sandboxes", "/v1/sandboxes/", "/v1/nope", "/../etc/passwd")
)
def test_a_path_that_is_no_route_is_not_found(api: Api, target: str) -> None:
    assert_refused(api.call("GET", target), 404, "NOT_FOUND")


@pytest.mark.parametrize(
    ("method", "target"), [("PUT", LIST), ("PATCH", LIST), ("POST", "/v1/health")]
)
def test_a_method_that_a_route_lacks_is_not_allowed(api: Api, method: str, target: str) -> None:
    answer = api.call(method, target)

    assert_refused(answer, 405, "METHOD_NOT_ALLOWED")
    assert "GET" in answer.headers["allow"]


@pytest.mark.parametrize(
    "request_",
    **named(
        b"nonsense\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /v1/health HTTP/1.1\r\nBad Header\r\n\r\n",
        b"GET /v1/health HTTP/1.1\r\nX: " + b"x" * 200_000 + b"\r\n\r\n",
        b"GET /" + b"x" * 200_000 + b" HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /\0 HTTP/1.1\r\nHost: a\r\n\r\n",
        b"POST /v1/sandboxes HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n",
        b"POST /v1/sandboxes HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n",
        b"POST /v1/sandboxes HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST /v1/sandboxes HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n\r\n",
        bytes(range(256)) * 16,
    ),
)
def test_bytes_that_are_no_request_are_refused_and_the_server_lives(
    api: Api, request_: bytes
) -> None:
    answer = api.send_raw(request_)

    assert not answer or answer.split(b" ", 2)[1].startswith(b"4"), answer[:200]
    assert api.call("GET", "/v1/health").status == 200


def test_a_write_that_was_refused_loses_nothing(api: Api, sandbox_id: str) -> None:
    target = f"/v1/sandboxes/{sandbox_id}/files?path=/tmp/kept"
    api.call("PUT", target, {"content": "kept"})

    api.call("PUT", f"{target}&mode=9", {"content": "lost"})
    api.call("DELETE", f"{target}&recursive=maybe")

    assert api.call("GET", target).json()["content"] == "kept"


BATCH = f"/v1/sandboxes/{UNKNOWN_ID}/files/batch"
LIMIT = 8 * 1024 * 1024


@pytest.mark.parametrize("verb", ["write", "read"])
@pytest.mark.parametrize(
    "files", **named([], {}, "a", None, 5, ["a"], [None], [[]], [{}], [{"path": 5}], [{"a": [[]]}])
)
def test_a_batch_that_is_none_is_an_invalid_request(api: Api, verb: str, files: Any) -> None:
    answer = api.call("POST", f"{BATCH}/{verb}", {"files": files})

    assert_refused(answer, 400, "INVALID_REQUEST")


@pytest.mark.parametrize("verb", ["write", "read"])
@pytest.mark.parametrize(
    "files",
    **named(
        [{"path": ""}],
        [{"path": "a\0"}],
        [{"path": LONG * 2}],
        [{"path": "a", "pathEncoding": "hex"}],
        [{"path": "/", "pathEncoding": "base64"}],
        [{"path": "a", "nonsense": 1}],
        [{"path": f"{number}"} for number in range(1001)],
    ),
)
def test_a_batch_of_what_are_no_files_is_an_invalid_request(
    api: Api, verb: str, files: list[dict[str, str]]
) -> None:
    content = {"content": ""} if verb == "write" else {}

    answer = api.call("POST", f"{BATCH}/{verb}", {"files": [{**file, **content} for file in files]})

    assert_refused(answer, 400, "INVALID_REQUEST")


@pytest.mark.parametrize(
    "changes",
    **named({"content": None}, {"content": [[]]}, {"mode": "rwx"}, {"encoding": "utf-16"}),
)
def test_a_file_that_is_none_is_not_written(api: Api, changes: dict[str, Any]) -> None:
    good, bad = {"path": "a", "content": ""}, {"path": "b", "content": "", **changes}

    answer = api.call("POST", f"{BATCH}/write", {"files": [good, bad]})

    assert_refused(answer, 400, "INVALID_REQUEST")


@pytest.mark.parametrize("verb", ["write", "read"])
def test_a_batch_over_the_limit_is_too_large(api: Api, verb: str) -> None:
    body = b'{"files": [{"path": "a", "content": "' + b"x" * LIMIT + b'"}]}'

    answer = api.call("POST", f"{BATCH}/{verb}", body, headers={"Content-Type": "application/json"})

    assert_refused(answer, 413, "TOO_LARGE")


@pytest.mark.parametrize("verb", ["write", "read"])
def test_a_batch_for_a_sandbox_that_is_none_is_not_found(api: Api, verb: str) -> None:
    file = {"path": "a", "content": ""} if verb == "write" else {"path": "a"}

    answer = api.call("POST", f"{BATCH}/{verb}", {"files": [file]})

    assert_refused(answer, 404, "SANDBOX_NOT_FOUND")
