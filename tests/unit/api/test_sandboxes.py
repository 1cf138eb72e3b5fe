# SPDX-License-Identifier: Apache-2.0
from typing import Any

import pytest

from atoll_server.api.routing import BODY_LIMIT
from atoll_server.api.settings import ApiSettings
from atoll_server.engine.model import State
from tests.unit.api.memory import KEY, Client, Exchange, answered, make_scope

pytestmark = pytest.mark.anyio


async def test_created_sandbox_is_running_with_the_documented_defaults() -> None:
    answer = await Client().request("POST", "/v1/sandboxes", {"image": "host"})

    assert answer.status == 201
    assert answer.json == {
        "id": "sb_0000000000",
        "state": "running",
        "image": "host",
        "runtime": "gvisor",
        "isolation": "memory",
        "resources": {
            "cpu": 2,
            "memoryMb": 4096,
            "diskMb": 10240,
            "pids": 4096,
            "openFiles": 65536,
        },
        "env": {},
        "metadata": {},
        "workdir": "/workspace",
        "timeoutMs": 300_000,
        "idleTimeoutMs": 120_000,
        "createdAt": "2030-01-01T00:00:00.000Z",
        "startedAt": "2030-01-01T00:00:00.000Z",
        "pausedAt": None,
        "terminatedAt": None,
        "reason": None,
        "detail": None,
        "network": None,
        "secrets": {},
    }


async def test_what_is_asked_for_is_what_is_made() -> None:
    wanted = {
        "image": "host",
        "resources": {
            "cpu": 8,
            "memoryMb": 16384,
            "diskMb": 51200,
            "pids": 100,
            "openFiles": 1000,
        },
        "env": {"A": "b=c"},
        "metadata": {str(n): "x" * 256 for n in range(20)},
        "workdir": "/srv",
        "timeoutMs": 86_400_000,
        "idleTimeoutMs": 1,
        "runtime": "container",
    }

    answer = await Client().request("POST", "/v1/sandboxes", wanted)

    assert answer.status == 201
    assert wanted.items() <= answer.json.items()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"image": None}, "`image` is missing"),
        ({"image": ""}, "`image` must not be empty"),
        ({"image": 5}, "`image`: expected str | null"),
        ({"image": "x" * 5000}, "`image` must be at most 512"),
        ({"resources": {"cpu": 3}}, "`resources.cpu` must be one of 2, 4, 8; got `3`"),
        ({"resources": {"cpu": True}}, "`resources.cpu`: expected int | float, got bool"),
        ({"resources": {"memoryMb": 2047}}, "`resources.memoryMb` must be 2048 to 16384"),
        ({"resources": {"memoryMb": 16385}}, "`resources.memoryMb` must be 2048 to 16384"),
        ({"resources": {"memoryMb": 10**30}}, "`resources.memoryMb` must be 64 to 16777216"),
        ({"resources": {"cpu": 2.5}}, "`resources.cpu` must be one of 2, 4, 8; got `2.5`"),
        ({"resources": {"pids": 4097}}, "`resources.pids` must be at most 4096"),
        ({"resources": {"pids": 0}}, "`resources.pids` must be 32 to"),
        ({"resources": {"openFiles": 65537}}, "`resources.openFiles` must be at most 65536"),
        ({"resources": {"diskMb": 5119}}, "`resources.diskMb` must be 5120 to 51200"),
        ({"resources": {"diskMb": 51201}}, "`resources.diskMb` must be 5120 to 51200"),
        (
            {"resources": {"gpu": 1}},
            "unknown field `gpu` in `resources`; known: cpu, memoryMb, diskMb",
        ),
        ({"resources": []}, "`resources`: expected object, got array"),
        ({"memory_mb": 4096}, "unknown field `memory_mb`"),
        ({"timeoutMs": 86_400_001}, "`timeoutMs` must be 1 to 86400000"),
        ({"timeoutMs": 0}, "`timeoutMs` must be 1 to 86400000"),
        ({"timeoutMs": -1}, "`timeoutMs` must be 1 to 86400000"),
        ({"metadata": {str(n): "" for n in range(21)}}, "`metadata` must have at most 20 entries"),
        ({"metadata": {"a": "x" * 257}}, "`metadata` must have values of at most 256"),
        (
            {"metadata": {"k" * 257: ""}},
            "`metadata` must have keys of at most 256 characters; one has 257",
        ),
        ({"metadata": {"a": 1}}, "expected str, got int"),
        ({"env": {"A=B": ""}}, "`env` must have names"),
        ({"env": {"A": "\0"}}, "`env` must not contain NUL"),
        ({"env": {f"N{n}": "" for n in range(257)}}, "`env` must have at most 256 entries"),
        ({"workdir": "relative"}, "`workdir` must be an absolute path"),
        ({"workdir": "/\0"}, "`workdir` must not contain NUL"),
        ({"runtime": "docker"}, "`runtime` must be one of auto, gvisor, container; got `docker`"),
    ],
)
async def test_bad_configuration_is_refused_and_nothing_created(
    fields: dict[str, Any], message: str
) -> None:
    client = Client()

    answer = await client.request("POST", "/v1/sandboxes", {"image": "host", **fields})

    assert (answer.status, answer.code) == (400, "INVALID_CONFIG")
    assert message in answer.json["error"]["message"]
    assert len(answer.body) < 1000
    assert not client.engine.sandboxes


@pytest.mark.parametrize(
    ("resources", "metadata"),
    [
        ({"cpu": 2, "memoryMb": 2048, "diskMb": 5120}, {}),
        ({"cpu": 4, "memoryMb": 16384, "diskMb": 51200}, {"k": "é" * 256}),
    ],
)
async def test_limits_themselves_pass(resources: dict[str, int], metadata: dict[str, str]) -> None:
    body = {"image": "host", "resources": resources, "metadata": metadata}

    assert (await Client().request("POST", "/v1/sandboxes", body)).status == 201


async def test_image_may_come_from_the_settings() -> None:
    client = Client(settings=ApiSettings(default_image="host"))

    answer = await client.request("POST", "/v1/sandboxes", {})

    assert (answer.status, answer.json["image"]) == (201, "host")


async def test_server_may_allow_less_lifetime() -> None:
    client = Client(settings=ApiSettings(max_lifetime_ms=1000))

    answer = await client.request("POST", "/v1/sandboxes", {"image": "host", "timeoutMs": 1001})

    assert answer.code == "INVALID_CONFIG"


async def test_body_over_the_limit_is_refused_unread_where_its_size_is_told() -> None:
    client = Client()
    exchange = Exchange([b"never read"])
    scope = make_scope("POST", "/v1/sandboxes", {"content-length": str(10**9)}, KEY)

    await client.call(scope, exchange)

    assert answered(exchange).status == 413
    assert exchange.body == [b"never read"]


async def test_body_over_the_limit_is_read_no_further_than_it() -> None:
    client = Client()
    exchange = Exchange([b" " * (BODY_LIMIT // 2)] * 100)

    await client.call(make_scope("POST", "/v1/sandboxes", {}, KEY), exchange)

    assert answered(exchange).code == "TOO_LARGE"
    assert len(exchange.body) == 97


@pytest.mark.parametrize(
    "headers",
    [
        {"content-type": "text/plain"},
        {"content-type": "application/jsonx"},
        {"content-encoding": "gzip"},
    ],
)
async def test_body_that_is_not_json_is_refused(headers: dict[str, str]) -> None:
    answer = await Client().request("POST", "/v1/sandboxes", {"image": "host"}, headers=headers)

    assert (answer.status, answer.code) == (415, "UNSUPPORTED_MEDIA_TYPE")


@pytest.mark.parametrize(
    "content_type", ["application/json; charset=utf-8", "Application/JSON", ""]
)
async def test_json_may_be_called_by_its_names(content_type: str) -> None:
    answer = await Client().request(
        "POST", "/v1/sandboxes", {"image": "host"}, headers={"content-type": content_type}
    )

    assert answer.status == 201


async def test_get_shows_the_same_sandbox() -> None:
    client = Client()
    created = (await client.request("POST", "/v1/sandboxes", {"image": "host"})).json

    shown = await client.request("GET", f"/v1/sandboxes/{created['id']}")

    assert (shown.status, shown.json) == (200, created)


@pytest.mark.parametrize("sandbox_id", ["sb_none", "..", "%00", "x" * 5000, "é", "sb_\n"])
@pytest.mark.parametrize("method", ["GET", "DELETE"])
async def test_unknown_id_is_not_found(method: str, sandbox_id: str) -> None:
    answer = await Client().request(method, f"/v1/sandboxes/{sandbox_id}")

    assert (answer.status, answer.code) == (404, "SANDBOX_NOT_FOUND")


async def test_terminated_sandbox_is_shown_with_its_reason() -> None:
    client = Client()
    sandbox_id = await client.create()

    ended = await client.request("DELETE", f"/v1/sandboxes/{sandbox_id}")
    again = await client.request("DELETE", f"/v1/sandboxes/{sandbox_id}")
    shown = await client.request("GET", f"/v1/sandboxes/{sandbox_id}")

    assert (ended.status, again.status, shown.status) == (200, 200, 200)
    assert (ended.json["state"], ended.json["reason"]) == ("terminated", "user")
    assert shown.json["terminatedAt"].endswith("Z")


async def test_list_is_newest_first_and_says_whether_there_is_more() -> None:
    client = Client()
    ids = [await client.create() for _ in range(5)]

    pages = [
        (await client.request("GET", f"/v1/sandboxes?limit=2&offset={n}")).json
        for n in (0, 2, 4, 6)
    ]

    assert [[item["id"] for item in page["data"]] for page in pages] == [
        [ids[4], ids[3]],
        [ids[2], ids[1]],
        [ids[0]],
        [],
    ]
    assert [page["pagination"] for page in pages] == [
        {"total": 5, "limit": 2, "offset": 0, "hasMore": True},
        {"total": 5, "limit": 2, "offset": 2, "hasMore": True},
        {"total": 5, "limit": 2, "offset": 4, "hasMore": False},
        {"total": 5, "limit": 2, "offset": 6, "hasMore": False},
    ]


async def test_list_is_filtered_by_state_and_all_labels() -> None:
    client = Client()
    both = await client.create(metadata={"team": "a b", "env": "prod"})
    one = await client.create(metadata={"team": "a b"})
    client.engine.change(one, State.PAUSED)

    async def found(query: str) -> list[str]:
        answer = await client.request("GET", f"/v1/sandboxes?{query}")
        return [item["id"] for item in answer.json["data"]]

    assert await found("metadata[team]=a%20b") == [one, both]
    assert await found("metadata%5Bteam%5D=a+b&metadata[env]=prod") == [both]
    assert await found("metadata[team]=other") == []
    assert await found("state=paused") == [one]
    assert await found("state=failed") == []


async def test_query_that_means_nothing_does_nothing() -> None:
    client = Client()
    sandbox_id = await client.create()

    answer = await client.request("DELETE", f"/v1/sandboxes/{sandbox_id}?force=true")

    assert (answer.status, answer.code) == (400, "INVALID_REQUEST")
    assert client.engine.get(sandbox_id).state is State.RUNNING


@pytest.mark.parametrize(
    "query",
    [
        "state=asleep",
        "limit=0",
        "limit=101",
        "limit=x",
        "limit=",
        "offset=-1",
        "offset=99999999999999999999",
        "metadata=x",
        "metadata[a=x",
        "metadata[a]=1&metadata[a]=2",
        "cursor=x",
        "state=running&state=running",
    ],
)
async def test_bad_list_query_is_refused(query: str) -> None:
    answer = await Client().request("GET", f"/v1/sandboxes?{query}")

    assert (answer.status, answer.code) == (400, "INVALID_REQUEST")
