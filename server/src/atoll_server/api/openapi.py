# SPDX-License-Identifier: Apache-2.0
"""The OpenAPI 3.1 document, rendered from the operations and the records that they name."""

from __future__ import annotations

import dataclasses
import functools
import re
import typing
from collections.abc import Iterable, Sequence
from enum import Enum
from typing import Any

import msgspec

from atoll.models import ErrorAnswer, ErrorBody
from atoll_server.api.errors import STATUS_BY_CODE
from atoll_server.api.records import CONTENTS, ITEMS_LIMIT, Field, camel, declared_fields
from atoll_server.api.routing import Call, Operation, Reply

Schema = dict[str, Any]

_PLAIN: dict[Any, Schema] = {
    str: {"type": "string"},
    int: {"type": "integer"},
    float: {"type": "number"},
    bool: {"type": "boolean"},
    type(None): {"type": "null"},
}
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
_NO_NUL = r"^[^\u0000]*$"
_ENV_NAME = r"^[^=\u0000]+$"


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


class Components:
    """The schemas of all records. What is read is strict; what is answered may have more in later versions."""

    def __init__(self, inputs: Iterable[type[Any]]) -> None:
        self.schemas: dict[str, Schema] = {}
        self._inputs: set[str] = set()
        for record in inputs:
            self.reference(record, strict=True)

    def reference(self, record: type[Any], *, strict: bool) -> Schema:
        """A reference to the record's schema, which is rendered when it is first asked for."""
        name = record.__name__
        if strict:
            self._inputs.add(name)
        elif name in self._inputs:
            name += "Answer"  # one that travels both ways
        if name not in self.schemas:
            self.schemas[name] = {}
            self.schemas[name] = self._render(record, strict=strict)
        return {"$ref": f"#/components/schemas/{name}"}

    def _render(self, record: type[Any], *, strict: bool) -> Schema:
        entries = declared_fields(record)
        properties = {
            entry.wire_name: _field_schema(entry, self, strict=strict) for entry in entries
        }
        required = [entry.wire_name for entry in entries if entry.required or not strict]
        if record is ErrorBody:
            properties["reason"] = {
                "type": "string",
                "description": "which FILE_ERROR or COMMAND_NOT_STARTED it is",
            }
        return {
            "type": "object",
            "description": (record.__doc__ or "").strip().split("\n\n")[0],
            "properties": properties,
            **({"required": required} if required else {}),
            **({"additionalProperties": False} if strict else {}),
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
    schema = _field_schema(dataclasses.replace(entry, hint=kinds[0]), Components(()), strict=True)
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


def _field_schema(entry: Field, components: Components, *, strict: bool) -> Schema:
    kinds = [_kind_schema(kind, entry, components, strict=strict) for kind in entry.kinds]
    schema = kinds[0] if len(kinds) == 1 else {"anyOf": kinds}
    if "description" in entry.metadata:
        schema = {**schema, "description": entry.metadata["description"]}
    if strict and not entry.required:
        schema = {**schema, "default": _default(entry.default)}
    return schema


def _default(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {camel(name): _default(inner) for name, inner in vars(value).items()}
    return value.value if isinstance(value, Enum) else value


def _kind_schema(kind: Any, entry: Field, components: Components, *, strict: bool) -> Schema:
    if dataclasses.is_dataclass(kind):
        return components.reference(typing.cast(type[Any], kind), strict=strict)
    if isinstance(kind, type) and issubclass(kind, Enum):
        return {"type": "string", "enum": [member.value for member in kind]}
    if typing.get_origin(kind) is list:
        items = _kind_schema(
            typing.get_args(kind)[0],
            dataclasses.replace(entry, metadata=_item_limits(entry)),
            components,
            strict=strict,
        )
        return {
            "type": "array",
            "items": items,
            **(
                {"minItems": 1, "maxItems": entry.metadata.get("max_items", ITEMS_LIMIT)}
                if strict
                else {}
            ),
        }
    if typing.get_origin(kind) is dict:
        return _mapping_schema(entry, components, strict=strict)
    return {**_PLAIN[kind], **(_limits(kind, entry) if strict else {})}


def _item_limits(entry: Field) -> Schema:
    one_of = entry.metadata.get("items_one_of")
    return {} if one_of is None else {"one_of": one_of}


def _mapping_schema(entry: Field, components: Components, *, strict: bool) -> Schema:
    value = typing.get_args(entry.hint)[1:]
    is_of_records = bool(value) and dataclasses.is_dataclass(value[0])
    values = (
        components.reference(typing.cast(type[Any], value[0]), strict=strict)
        if is_of_records
        else {"type": "string"}
    )
    schema: Schema = {"type": "object", "additionalProperties": values}
    if not strict:
        return schema
    limits = entry.metadata
    if not is_of_records:
        values["pattern"] = _NO_NUL
    schema["propertyNames"] = {"pattern": _ENV_NAME if entry.name == "env" else _NO_NUL}
    if "max_key_length" in limits:
        schema["propertyNames"]["maxLength"] = limits["max_key_length"]
    if "max_items" in limits:
        schema["maxProperties"] = limits["max_items"]
    if "max_value_length" in limits:
        schema["additionalProperties"]["maxLength"] = limits["max_value_length"]
    return schema


def _limits(kind: Any, entry: Field) -> Schema:
    if kind is type(None):
        return {}
    limits = entry.metadata
    schema: Schema = {}
    if "one_of" in limits:
        schema["enum"] = list(limits["one_of"])
    for name, keyword in (("ge", "minimum"), ("le", "maximum")):
        if name in limits and kind in (int, float):
            schema[keyword] = limits[name]
    for name, keyword in (("min_length", "minLength"), ("max_length", "maxLength")):
        if name in limits and kind is str:
            schema[keyword] = limits[name]
    if kind is str and "one_of" not in limits and entry.name not in CONTENTS:
        schema["pattern"] = limits.get("pattern", _NO_NUL)
    return schema
