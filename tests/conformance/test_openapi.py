# SPDX-License-Identifier: Apache-2.0
"""What the OpenAPI document says is what the server does, for input that fits it and for input that does not."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import hypothesis
import pytest
import schemathesis
from schemathesis.checks import not_a_server_error
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.support.api import Api

EXAMPLES = 25
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]
OPERATIONS = [
    ("GET", "/metrics"),
    ("GET", "/v1/health"),
    ("GET", "/v1/openapi.json"),
    ("GET", "/v1/keys"),
    ("POST", "/v1/keys"),
    ("DELETE", "/v1/keys/{key_id}"),
    ("GET", "/v1/events"),
    ("GET", "/v1/images"),
    ("GET", "/v1/pool"),
    ("PUT", "/v1/pool"),
    ("POST", "/v1/sandboxes"),
    ("GET", "/v1/sandboxes"),
    ("GET", "/v1/sandboxes/{id}"),
    ("GET", "/v1/sandboxes/{id}/metrics"),
    ("GET", "/v1/sandboxes/{id}/events"),
    ("GET", "/v1/sandboxes/{id}/network"),
    ("PUT", "/v1/sandboxes/{id}/network"),
    ("DELETE", "/v1/sandboxes/{id}"),
    ("POST", "/v1/sandboxes/{id}/execute"),
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
    ("POST", "/v1/sandboxes/{id}/files/batch/write"),
    ("POST", "/v1/sandboxes/{id}/files/batch/read"),
    ("GET", "/v1/sandboxes/{id}/files/archive"),
    ("PUT", "/v1/sandboxes/{id}/files/archive"),
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
    ("POST", "/v1/sandboxes/{id}/watches"),
    ("GET", "/v1/sandboxes/{id}/watches"),
    ("GET", "/v1/sandboxes/{id}/watches/{watch_id}"),
    ("DELETE", "/v1/sandboxes/{id}/watches/{watch_id}"),
    ("GET", "/v1/sandboxes/{id}/watches/{watch_id}/changes"),
    ("POST", "/v1/sandboxes/{id}/ports"),
    ("GET", "/v1/sandboxes/{id}/ports"),
    ("GET", "/v1/sandboxes/{id}/ports/listening"),
    ("DELETE", "/v1/sandboxes/{id}/ports/{port}"),
    ("POST", "/v1/sandboxes/{id}/ports/{port}/sign"),
    ("GET", "/v1/sandboxes/{id}/ports/{port}/dial"),
]


@pytest.fixture(scope="module")
def schema(api: Api) -> schemathesis.schemas.BaseSchema:
    document = api.call("GET", "/v1/openapi.json", key=None).json()
    schema = schemathesis.openapi.from_dict(document)
    schema.config.update(base_url=api.server.url)
    return schema


@pytest.fixture
def sandbox_id(api: Api, path: str) -> Iterator[str]:
    wanted = {"network": {"egress": {"default": "deny"}}} if path.endswith("/network") else {}
    with api.sandbox(**wanted) as sandbox_id:
        yield sandbox_id


@pytest.fixture(autouse=True)
def _terminate_all(api: Api) -> Iterator[None]:
    """What creating with generated input made is ended again, and so is what was to be held ready."""
    yield
    api.call("PUT", "/v1/pool", {"size": 0})
    while live := api.call("GET", "/v1/sandboxes?state=running&limit=100").json()["data"]:
        for sandbox in live:
            api.terminate(sandbox["id"])


def test_every_operation_of_the_document_is_tried(schema: schemathesis.schemas.BaseSchema) -> None:
    paths = schema.raw_schema["paths"]
    document = {(method.upper(), path) for path in paths for method in paths[path]}

    assert document == set(OPERATIONS)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("mode", list(GenerationMode), ids=lambda mode: mode.value)
@pytest.mark.parametrize(("method", "path"), OPERATIONS)
def test_no_input_makes_the_server_fail(
    schema: schemathesis.schemas.BaseSchema,
    api: Api,
    sandbox_id: str,
    method: str,
    path: str,
    mode: GenerationMode,
) -> None:
    operation = schema[path][method]
    # Both end, so that whatever waits for them does.
    started = api.call(
        "POST", f"/v1/sandboxes/{sandbox_id}/processes", {"command": ["echo", "said"]}
    )
    watch_id = watch_that_ends(api, sandbox_id)
    api.call("POST", f"/v1/sandboxes/{sandbox_id}/ports", {"port": 3000})
    # Each example that fits makes a sandbox.
    examples = 8 if (method, path) == ("POST", "/v1/sandboxes") else EXAMPLES

    @hypothesis.settings(
        max_examples=examples,
        database=None,
        derandomize=True,
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    @hypothesis.given(case=operation.as_strategy(generation_mode=mode))
    def try_one(case: schemathesis.Case[Any]) -> None:
        if "{id}" in path and mode is GenerationMode.POSITIVE:
            case.path_parameters["id"] = sandbox_id
        if "{process_id}" in path and mode is GenerationMode.POSITIVE:
            case.path_parameters["process_id"] = started.json()["id"]
        if "{watch_id}" in path and mode is GenerationMode.POSITIVE:
            case.path_parameters["watch_id"] = watch_id
        if "{port}" in path and mode is GenerationMode.POSITIVE:
            case.path_parameters["port"] = "3000"
        if path.endswith("/listening") and "waitMs" in case.query:
            case.query["waitMs"] = 1  # each would be waited for
        if method == "POST" and path.endswith("/execute") and isinstance(case.body, dict):
            case.body["timeoutMs"] = 1000
        if path.endswith("/events"):
            case.query = {**(case.query or {}), "follow": "false"}  # they would have no end
        body: Any = case.body
        if path == "/v1/pool" and isinstance(body, dict) and mode is GenerationMode.POSITIVE:
            body["size"] %= 2  # each of them would be built
        case.call_and_validate(
            checks=CHECKS,
            headers={"Authorization": f"Bearer {api.server.api_key}"},
            timeout=10,
        )

    try:
        try_one()
    except hypothesis.errors.Unsatisfiable:
        pytest.skip("host lacks any input that would not fit: the operation takes none")


def watch_that_ends(api: Api, sandbox_id: str) -> str:
    api.execute(sandbox_id, ["mkdir", "/tmp/watched"])
    answer = api.call("POST", f"/v1/sandboxes/{sandbox_id}/watches", {"path": "/tmp/watched"})
    api.execute(sandbox_id, ["rmdir", "/tmp/watched"])
    watch_id: str = answer.json()["id"]
    return watch_id
