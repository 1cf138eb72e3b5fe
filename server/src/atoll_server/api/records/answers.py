# SPDX-License-Identifier: Apache-2.0
"""Records as JSON, with their names in camelCase."""

from __future__ import annotations

import dataclasses
import functools
import types
import typing
from typing import Any

import msgspec

from atoll_server.api.records.fields import declared_fields, made_once, record_in_mapping


def render_json(value: Any) -> bytes:
    """A record as JSON."""
    return msgspec.json.encode(_renamed(value))


def render_builtins(value: Any) -> dict[str, Any]:
    """A record as a dictionary of JSON values."""
    rendered: dict[str, Any] = msgspec.to_builtins(_renamed(value))
    return rendered


def _renamed(value: Any) -> msgspec.Struct:
    return msgspec.convert(value, _struct(type(value)), from_attributes=True)


@made_once
def _struct(record: Any) -> type[msgspec.Struct]:
    fields = [(entry.name, _shape(entry.hint)) for entry in declared_fields(record)]
    return msgspec.defstruct(record.__name__, fields, rename="camel")


def _shape(hint: Any) -> Any:
    if dataclasses.is_dataclass(hint):
        return _struct(hint)
    if isinstance(hint, types.UnionType):
        members = map(_shape, typing.get_args(hint))
        return functools.reduce(lambda left, right: left | right, members)
    if typing.get_origin(hint) is list:
        return list[_shape(typing.get_args(hint)[0])]  # type: ignore[misc] # made at run time
    if (value := record_in_mapping(hint)) is not None:
        return dict[str, _struct(value)]  # type: ignore[misc] # made at run time
    # A whole number stays one where a fraction may stand: 2, not 2.0.
    return int | float if hint is float else hint
