# SPDX-License-Identifier: Apache-2.0
"""Records as JSON schemas: what is said of their fields is what `records` holds them to."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Iterable
from enum import Enum
from typing import Any

from atoll.models import ErrorBody
from atoll_server.api.records import (
    CONTENTS,
    ITEMS_LIMIT,
    Field,
    camel,
    declared_fields,
    is_enum,
    record_in_mapping,
)

Schema = dict[str, Any]

_PLAIN: dict[Any, Schema] = {
    str: {"type": "string"},
    int: {"type": "integer"},
    float: {"type": "number"},
    bool: {"type": "boolean"},
    type(None): {"type": "null"},
}
_NO_NUL = r"^[^\u0000]*$"
_ENV_NAME = r"^[^=\u0000]+$"


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
            entry.wire_name: field_schema(entry, self, strict=strict) for entry in entries
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


def field_schema(entry: Field, components: Components, *, strict: bool) -> Schema:
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
    if is_enum(kind):
        return {"type": "string", "enum": [member.value for member in kind]}
    if typing.get_origin(kind) is list:
        items = _kind_schema(
            typing.get_args(kind)[0],
            dataclasses.replace(entry, metadata=_item_limits(entry)),
            components,
            strict=strict,
        )
        return {"type": "array", "items": items, **(_count_limits(entry) if strict else {})}
    if typing.get_origin(kind) is dict:
        return _mapping_schema(entry, components, strict=strict)
    return {**_PLAIN[kind], **(_limits(kind, entry) if strict else {})}


def _count_limits(entry: Field) -> Schema:
    limits = entry.metadata
    least = {"minItems": limits["min_items"]} if "min_items" in limits else {}
    return {**least, "maxItems": limits.get("max_items", ITEMS_LIMIT)}


def _item_limits(entry: Field) -> Schema:
    one_of = entry.metadata.get("items_one_of")
    return {} if one_of is None else {"one_of": one_of}


def _mapping_schema(entry: Field, components: Components, *, strict: bool) -> Schema:
    record = record_in_mapping(entry.hint)
    values = {"type": "string"} if record is None else components.reference(record, strict=strict)
    schema: Schema = {"type": "object", "additionalProperties": values}
    if not strict:
        return schema
    limits = entry.metadata
    if record is None:
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
