# SPDX-License-Identifier: Apache-2.0
import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atoll_server.api.errors import STATUS_BY_CODE
from atoll_server.api.native import OPERATIONS
from atoll_server.api.openapi import render_openapi
from atoll_server.api.records import declared_fields
from atoll_server.api.routing import Operation
from atoll_server.engine.ids import watch_id
from atoll_server.engine.keys import make_key
from atoll_server.engine.model import WatchEnd
from tests.unit.api.memory import KEY, Client

pytestmark = pytest.mark.anyio

OWN_KEY = make_key(KEY, created_at=datetime.now(UTC))
DOCUMENT = render_openapi(OPERATIONS, "0.1.0")
TEXTS = st.sampled_from(["", "host", "a", "/tmp", "0755", "base64", "auto", "\0"]) | st.text(
    max_size=10
)
VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXTS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(TEXTS, inner, max_size=3)
        | st.lists(
            st.sampled_from(["echo", "cat", "missing", "break", "timeout"]), min_size=1, max_size=1
        )
    ),
    max_leaves=5,
)


def references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        value = list(value.values())
    if isinstance(value, list):
        for inner in value:
            yield from references(inner)


async def test_document_is_served_without_a_key_and_has_every_route() -> None:
    answer = await Client().request("GET", "/v1/openapi.json", key=None)

    assert answer.status == 200
    assert answer.json["openapi"] == "3.1.0"
    assert {path: sorted(item) for path, item in answer.json["paths"].items()} == {
        "/metrics": ["get"],
        "/v1/events": ["get"],
        "/v1/health": ["get"],
        "/v1/images": ["get"],
        "/v1/keys": ["get", "post"],
        "/v1/keys/{key_id}": ["delete"],
        "/v1/openapi.json": ["get"],
        "/v1/pool": ["get", "put"],
        "/v1/sandboxes": ["get", "post"],
        "/v1/sandboxes/{id}": ["delete", "get"],
        "/v1/sandboxes/{id}/events": ["get"],
        "/v1/sandboxes/{id}/execute": ["post"],
        "/v1/sandboxes/{id}/files": ["delete", "get", "put"],
        "/v1/sandboxes/{id}/files/batch/read": ["post"],
        "/v1/sandboxes/{id}/files/batch/write": ["post"],
        "/v1/sandboxes/{id}/files/archive": ["get", "put"],
        "/v1/sandboxes/{id}/files/chmod": ["post"],
        "/v1/sandboxes/{id}/files/chown": ["post"],
        "/v1/sandboxes/{id}/files/copy": ["post"],
        "/v1/sandboxes/{id}/files/exists": ["get"],
        "/v1/sandboxes/{id}/files/list": ["get"],
        "/v1/sandboxes/{id}/files/mkdir": ["post"],
        "/v1/sandboxes/{id}/files/move": ["post"],
        "/v1/sandboxes/{id}/files/stat": ["get"],
        "/v1/sandboxes/{id}/metrics": ["get"],
        "/v1/sandboxes/{id}/ports": ["get", "post"],
        "/v1/sandboxes/{id}/ports/listening": ["get"],
        "/v1/sandboxes/{id}/ports/{port}": ["delete"],
        "/v1/sandboxes/{id}/ports/{port}/dial": ["get"],
        "/v1/sandboxes/{id}/ports/{port}/sign": ["post"],
        "/v1/sandboxes/{id}/network": ["get", "put"],
        "/v1/sandboxes/{id}/processes": ["get", "post"],
        "/v1/sandboxes/{id}/processes/{process_id}": ["delete", "get"],
        "/v1/sandboxes/{id}/processes/{process_id}/attach": ["get"],
        "/v1/sandboxes/{id}/processes/{process_id}/resize": ["post"],
        "/v1/sandboxes/{id}/processes/{process_id}/signal": ["post"],
        "/v1/sandboxes/{id}/processes/{process_id}/stdin": ["post"],
        "/v1/sandboxes/{id}/processes/{process_id}/stream": ["get"],
        "/v1/sandboxes/{id}/processes/{process_id}/wait": ["post"],
        "/v1/sandboxes/{id}/watches": ["get", "post"],
        "/v1/sandboxes/{id}/watches/{watch_id}": ["delete", "get"],
        "/v1/sandboxes/{id}/watches/{watch_id}/changes": ["get"],
    }


def test_every_reference_leads_somewhere() -> None:
    schemas = DOCUMENT["components"]["schemas"]

    assert {name.rpartition("/")[2] for name in references(DOCUMENT)} == schemas.keys()


def test_records_that_are_read_are_strict_and_those_answered_are_open() -> None:
    schemas = DOCUMENT["components"]["schemas"]

    assert schemas["CreateSandbox"]["additionalProperties"] is False
    assert schemas["ExecRequest"]["required"] == ["command"]
    assert "additionalProperties" not in schemas["SandboxInfo"]
    assert set(schemas["SandboxInfo"]["required"]) == schemas["SandboxInfo"]["properties"].keys()


def test_limits_are_those_of_the_records() -> None:
    properties = DOCUMENT["components"]["schemas"]["CreateSandbox"]["properties"]

    assert properties["timeoutMs"] == {
        "type": "integer",
        "minimum": 1,
        "maximum": 86_400_000,
        "default": 300_000,
        "description": "lifetime, after which it is terminated",
    }
    assert properties["metadata"]["maxProperties"] == 20
    assert properties["runtime"]["enum"] == ["auto", "gvisor", "container"]


def test_least_count_is_told_of_lists_that_have_one() -> None:
    schemas = DOCUMENT["components"]["schemas"]

    assert schemas["CreateKey"]["properties"]["scopes"]["minItems"] == 1
    assert schemas["ExecRequest"]["properties"]["command"]["anyOf"][1]["minItems"] == 1
    assert "minItems" not in schemas["Egress"]["properties"]["allow"]


def test_every_operation_says_how_it_may_fail() -> None:
    known = set(STATUS_BY_CODE)
    for operation in OPERATIONS:
        assert set(operation.errors) <= known
        responses = DOCUMENT["paths"][operation.path][operation.method.lower()]["responses"]
        assert str(operation.status) in responses
        assert operation.scope is None or {"401", "403"} <= responses.keys()


@dataclass(frozen=True)
class Drawn:
    """A request made up by Hypothesis: outside the test, whose event loop would log where that gives up on one."""

    operation: Operation
    path: str
    body: bytes
    accept: str


@st.composite
def requests(draw: st.DrawFn) -> Drawn:
    operation = draw(st.sampled_from(OPERATIONS))
    query = urlencode(draw(queries_of(operation)), errors="surrogatepass")
    path = operation.path.replace("{id}", draw(st.sampled_from(["sb_0000000000", "sb_none"])))
    path = path.replace("{process_id}", draw(st.sampled_from(["proc_1", "proc_2", "x"])))
    path = path.replace("{port}", draw(st.sampled_from(["3000", "80", "x", "99999"])))
    path = path.replace("{watch_id}", draw(st.sampled_from(["watch_1", "watch_2", "x"])))
    path = path.replace("{key_id}", draw(st.sampled_from([OWN_KEY.id, "key_0"])))
    return Drawn(
        operation,
        path=f"{path}?{query}",
        body=json.dumps(draw(bodies_of(operation))).encode(),
        accept=draw(st.sampled_from(["", *operation.answer_types])),
    )


@given(drawn=requests())
@settings(max_examples=400)
async def test_no_request_fails_on_our_side(drawn: Drawn) -> None:
    operation = drawn.operation
    client = Client()
    sandbox_id = await client.create()
    client.engine.are_events_over = True
    await client.request("POST", f"/v1/sandboxes/{sandbox_id}/processes", {"command": "text"})
    await client.request("POST", f"/v1/sandboxes/{sandbox_id}/watches", {"path": "ended"})
    await client.request("POST", f"/v1/sandboxes/{sandbox_id}/ports", {"port": 3000})
    await client.engine.watched[sandbox_id].kept[watch_id(1)].end(WatchEnd.REMOVED)

    answer = await client.request(
        operation.method, drawn.path, drawn.body, headers={"accept": drawn.accept}
    )

    documented = DOCUMENT["paths"][operation.path][operation.method.lower()]["responses"]
    assert str(answer.status) in documented.keys() - {"500"}, answer.body


def bodies_of(operation: Operation) -> st.SearchStrategy[Any]:
    if operation.body is None:
        return st.just(None)
    fields = {entry.wire_name: VALUES for entry in declared_fields(operation.body)}
    return VALUES | st.fixed_dictionaries({}, optional=fields)


def queries_of(operation: Operation) -> st.SearchStrategy[dict[str, str]]:
    if operation.query is None:
        return st.just({})
    texts = st.sampled_from(["", "a", "1", "-1", "true", "/workspace", "0755", "\0"]) | st.text(
        max_size=10
    )
    fields = {entry.wire_name: texts for entry in declared_fields(operation.query)}
    return st.fixed_dictionaries({}, optional={**fields, "metadata[a]": texts, "other": texts})
