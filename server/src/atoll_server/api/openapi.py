# SPDX-License-Identifier: Apache-2.0
"""The OpenAPI 3.1 document, rendered from the operations and the records that they name."""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Iterable, Sequence

import msgspec

from atoll.models import ErrorAnswer
from atoll_server.api.call import Call
from atoll_server.api.errors import STATUS_BY_CODE
from atoll_server.api.records import Field, declared_fields
from atoll_server.api.reply import Reply
from atoll_server.api.routing import Operation
from atoll_server.api.schemas import Components, Schema, field_schema

# Every operation can answer so; 401, 403 and 429 only those that need a key.
_ALWAYS = ("INTERNAL", "INVALID_REQUEST")
_WITH_KEY = ("UNAUTHORIZED", "FORBIDDEN", "RATE_LIMITED")
_WITH_BODY = ("TOO_LARGE", "UNSUPPORTED_MEDIA_TYPE")
_PATH_PARAMETERS: dict[str, Schema] = {
    "id": {
        "description": "a sandbox's id, as `createSandbox` gave it",
        "schema": {"type": "string", "pattern": "^sb_[a-z0-9]{10}$"},
    },
    "process_id": {
        "description": "a process's id, as `startProcess` gave it",
        "schema": {"type": "string", "pattern": "^proc_[0-9]{1,19}$"},
    },
    "watch_id": {
        "description": "a watch's id, as `startWatch` gave it",
        "schema": {"type": "string", "pattern": "^watch_[0-9]{1,19}$"},
    },
    "port": {
        "description": "a port inside the sandbox",
        "schema": {"type": "string", "pattern": "^[0-9]{1,5}$"},
    },
    "key_id": {
        "description": "a key's id, as `createKey` gave it",
        "schema": {"type": "string", "pattern": "^key_[0-9a-f]{12}$"},
    },
}
_RANGE_PARAMETERS: tuple[Schema, ...] = (
    {
        "name": "Range",
        "in": "header",
        "description": "with `Accept: application/octet-stream`: one range, such as `bytes=0-99`, `bytes=100-` or "
        "`bytes=-100`; anything else is as if it were not there",
        "schema": {"type": "string"},
    },
    {
        "name": "If-Range",
        "in": "header",
        "description": "an `ETag` of an earlier answer: the whole comes where the file is another by now",
        "schema": {"type": "string"},
    },
)
_TEXT_FORMS = {"text/plain", "application/x-ndjson", "text/event-stream"}
_BINARY: Schema = {"type": "string", "format": "binary"}


def make_document_operation(operations: Sequence[Operation], version: str) -> Operation:
    """The operation that serves the document about all operations, itself included."""

    @functools.cache
    def document() -> bytes:
        return msgspec.json.encode(render_openapi((*operations, operation), version))

    async def serve(_: Call) -> Reply:
        return Reply(document())

    operation = Operation(
        method="GET",
        path="/v1/openapi.json",
        name="openapi",
        summary="This document; needs no key",
        handler=serve,
        answer=None,
    )
    return operation


def render_openapi(operations: Iterable[Operation], version: str) -> Schema:
    """The document."""
    paths: dict[str, Schema] = {}
    operations = tuple(operations)
    components = Components(
        operation.body for operation in operations if operation.body is not None
    )
    components.reference(ErrorAnswer, strict=False)
    for operation in operations:
        path = paths.setdefault(operation.path, {})
        path[operation.method.lower()] = _operation(operation, components)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Atoll",
            "version": version,
            "description": "Sandboxes on machines of your own. `protocol/http/README.md` says it in prose.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": {
            "schemas": components.schemas,
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{"key": []}],
    }


def _operation(operation: Operation, components: Components) -> Schema:
    rendered: Schema = {
        "operationId": operation.name,
        "summary": operation.summary,
        "parameters": [
            *_path_parameters(operation),
            *_query_parameters(operation),
            *(_RANGE_PARAMETERS if operation.partial else ()),
        ],
        "responses": _responses(operation, components),
    }
    if operation.scope is None:
        rendered["security"] = []
    else:
        rendered["description"] = f"Needs a key with the scope `{operation.scope.value}`."
    if content := _body_content(operation, components):
        rendered["requestBody"] = {"required": True, "content": content}
    return rendered


def _path_parameters(operation: Operation) -> list[Schema]:
    return [
        {
            "name": name,
            "in": "path",
            "required": True,
            **_PATH_PARAMETERS[name],
        }
        for name in re.findall(r"{(\w+)}", operation.path)
    ]


def _query_parameters(operation: Operation) -> list[Schema]:
    if operation.query is None:
        return []
    return [_query_parameter(entry) for entry in declared_fields(operation.query)]


def _query_parameter(entry: Field) -> Schema:
    kinds = [kind for kind in entry.kinds if kind is not type(None)]
    schema = field_schema(dataclasses.replace(entry, hint=kinds[0]), Components(()), strict=True)
    parameter: Schema = {
        "name": entry.wire_name,
        "in": "query",
        "required": entry.required,
        "description": schema.pop("description", ""),
        "schema": schema,
    }
    if schema.get("type") == "object":
        parameter |= {"style": "deepObject", "explode": True}
    return parameter


def _body_content(operation: Operation, components: Components) -> Schema:
    content: Schema = {}
    if operation.body is not None:
        content[operation.body_type] = {"schema": components.reference(operation.body, strict=True)}
    for media_type in operation.raw_body_types:
        content[media_type] = {"schema": _BINARY}
    return content


def _responses(operation: Operation, components: Components) -> Schema:
    headers = {
        "X-Request-Id": {
            "description": "names this request in the server's log",
            "schema": {"type": "string"},
        }
    }
    success: Schema = {"description": "done", "headers": headers}
    if operation.socket is not None:
        success["description"] = "a WebSocket; what is said on it stands in `protocol/http`"
    elif operation.status != 204:
        success["content"] = {
            media_type: {"schema": _answer_schema(operation, media_type, components)}
            for media_type in operation.answer_types
        }
    responses = {str(operation.status): success}
    if operation.partial:
        responses["206"] = {
            "description": "the part that `Range` asked for",
            "headers": headers,
            "content": {"application/octet-stream": {"schema": _BINARY}},
        }
    for status, codes in _errors_by_status(operation).items():
        responses[str(status)] = {
            "description": ", ".join(codes),
            "headers": headers,
            "content": {
                "application/json": {"schema": {"$ref": "#/components/schemas/ErrorAnswer"}}
            },
        }
    return responses


def _answer_schema(operation: Operation, media_type: str, components: Components) -> Schema:
    if media_type == "application/json":
        return (
            components.reference(operation.answer, strict=False)
            if operation.answer
            else {"type": "object"}
        )
    return {"type": "string"} if media_type in _TEXT_FORMS else _BINARY


def _errors_by_status(operation: Operation) -> dict[int, list[str]]:
    codes = [*operation.errors, *_ALWAYS]
    if operation.scope is not None:
        codes += _WITH_KEY
    if operation.body is not None or operation.raw_body_types:
        codes += _WITH_BODY

    by_status: dict[int, list[str]] = {}
    for code in sorted(set(codes)):
        by_status.setdefault(STATUS_BY_CODE[code], []).append(code)
    return dict(sorted(by_status.items()))
