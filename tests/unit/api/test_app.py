# SPDX-License-Identifier: Apache-2.0
import logging
from collections.abc import Iterator

import pytest

from atoll_server.api.errors import STATUS_BY_CODE, HttpError
from atoll_server.api.native import OPERATIONS
from atoll_server.api.routing import Operation
from atoll_server.engine import errors
from atoll_server.engine.keys import Scope
from tests.unit.api.memory import KEY, Client, MemoryEngine

pytestmark = pytest.mark.anyio

PROTECTED = [operation for operation in OPERATIONS if operation.scope is not None]


def classes_below(root: type[Exception]) -> Iterator[type[Exception]]:
    yield root
    for below in root.__subclasses__():
        yield from classes_below(below)


def name_of(operation: Operation) -> str:
    return operation.name


def url_of(operation: Operation) -> str:
    return operation.path.replace("{id}", "sb_0000000000")


@pytest.mark.parametrize("root", [errors.EngineError, HttpError])
def test_every_error_has_a_status(root: type[Exception]) -> None:
    codes = {error.code for error in classes_below(root)}  # type: ignore[attr-defined] # both roots have it

    assert codes <= STATUS_BY_CODE.keys()


@pytest.mark.parametrize("operation", PROTECTED, ids=name_of)
@pytest.mark.parametrize("key", [None, "", "rra_live_wrong", KEY[:-1], KEY + "x", "x" * 100_000])
async def test_request_without_a_known_key_is_refused(
    operation: Operation, key: str | None
) -> None:
    answer = await Client().request(operation.method, url_of(operation), key=key)

    assert (answer.status, answer.code) == (401, "UNAUTHORIZED")
    assert answer.headers[b"www-authenticate"] == b"Bearer"


@pytest.mark.parametrize("header", [KEY, f"Basic {KEY}", f"Bearer{KEY}", "Bearer", "Bearer é"])
async def test_only_the_bearer_scheme_is_taken(header: str) -> None:
    answer = await Client().request(
        "GET", "/v1/sandboxes", key=None, headers={"authorization": header}
    )

    assert answer.code == "UNAUTHORIZED"


async def test_unknown_path_without_a_key_tells_nothing() -> None:
    assert (await Client().request("GET", "/v1/nothing", key=None)).code == "UNAUTHORIZED"


@pytest.mark.parametrize("operation", PROTECTED, ids=name_of)
async def test_key_without_the_scope_is_forbidden(operation: Operation) -> None:
    assert operation.scope is not None
    client = Client(scopes=frozenset(Scope) - {operation.scope})

    answer = await client.request(operation.method, url_of(operation), b"{}")

    assert (answer.status, answer.code) == (403, "FORBIDDEN")
    assert operation.scope.value in answer.json["error"]["message"]


async def test_read_key_can_list_and_get_only() -> None:
    engine = MemoryEngine()
    sandbox_id = await Client(engine).create()
    reader = Client(engine, scopes=frozenset({Scope.READ}))

    seen = [
        (await reader.request("GET", "/v1/sandboxes")).status,
        (await reader.request("GET", f"/v1/sandboxes/{sandbox_id}")).status,
        (await reader.request("POST", "/v1/sandboxes", {"image": "host"})).status,
        (
            await reader.request("POST", f"/v1/sandboxes/{sandbox_id}/execute", {"command": "x"})
        ).status,
        (await reader.request("DELETE", f"/v1/sandboxes/{sandbox_id}")).status,
    ]

    assert seen == [200, 200, 403, 403, 403]


async def test_health_needs_no_key() -> None:
    answer = await Client().request("GET", "/v1/health", key=None)

    assert answer.status == 200
    assert answer.json.keys() == {"status", "version", "timestamp"}
    assert (answer.json["status"], answer.json["version"]) == ("ok", "v1")
    assert answer.json["timestamp"].endswith("Z")


@pytest.mark.parametrize(
    "path", ["/", "/v2/health", "/v1/sandboxes/", "/v1//sandboxes", "/v1/sandboxes/x/y"]
)
async def test_unknown_path_is_not_found(path: str) -> None:
    answer = await Client().request("GET", path)

    assert (answer.status, answer.code) == (404, "NOT_FOUND")


async def test_wrong_method_says_which_are_right() -> None:
    answer = await Client().request("PATCH", "/v1/sandboxes")

    assert (answer.status, answer.code) == (405, "METHOD_NOT_ALLOWED")
    assert answer.headers[b"allow"] == b"GET, HEAD, OPTIONS, POST"


async def test_options_says_which_methods_there_are() -> None:
    answer = await Client().request("OPTIONS", "/v1/sandboxes")

    assert (answer.status, answer.body) == (204, b"")
    assert answer.headers[b"allow"] == b"GET, HEAD, OPTIONS, POST"


async def test_every_answer_names_its_request() -> None:
    client = Client()

    first, second = [await client.request("GET", "/v1/health") for _ in range(2)]

    assert first.headers[b"x-request-id"].startswith(b"req_")
    assert first.headers[b"x-request-id"] != second.headers[b"x-request-id"]


@pytest.mark.parametrize(
    ("given", "kept"), [("mine-1.2_3", True), ("a b", False), ("x" * 129, False), ("", False)]
)
async def test_request_id_of_the_client_is_kept_if_it_is_harmless(given: str, kept: bool) -> None:
    answer = await Client().request("GET", "/v1/nothing", headers={"x-request-id": given})

    assert (answer.headers[b"x-request-id"] == given.encode()) is kept
    assert answer.code == "NOT_FOUND"


async def test_unforeseen_failure_is_logged_and_tells_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Broken(MemoryEngine):
        def list(self, wanted: object) -> None:  # type: ignore[override] # broken on purpose
            raise ZeroDivisionError("the secret")

    with caplog.at_level(logging.ERROR):
        answer = await Client(Broken()).request("GET", "/v1/sandboxes")

    assert (answer.status, answer.code) == (500, "INTERNAL")
    assert answer.json["error"]["retryable"]
    assert b"secret" not in answer.body
    assert "ZeroDivisionError" in caplog.text


async def test_keys_are_never_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        await Client().request("GET", "/v1/nothing")
        await Client().request("GET", "/v1/nothing", key="rra_live_wrong")

    assert "rra_live" not in caplog.text


@pytest.mark.parametrize(
    ("refusal", "status", "retryable"),
    [
        (errors.ResourceExhausted("full"), 503, True),
        (errors.RuntimeUnavailable("no such runtime"), 503, False),
        (errors.InvalidConfig("no such image"), 400, False),
        (errors.Internal("broken"), 500, True),
    ],
)
async def test_refusal_of_the_engine_keeps_its_code(
    refusal: errors.EngineError, status: int, retryable: bool
) -> None:
    engine = MemoryEngine()
    engine.refusal = refusal

    answer = await Client(engine).request("POST", "/v1/sandboxes", {"image": "host"})

    assert (answer.status, answer.code) == (status, refusal.code)
    assert answer.json["error"]["retryable"] is retryable
