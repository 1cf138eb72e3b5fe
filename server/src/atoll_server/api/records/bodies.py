# SPDX-License-Identifier: Apache-2.0
"""Records out of JSON text. Unknown and repeated names are refused, at any depth."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any, TypeVar

import msgspec

from atoll_server.api.records.fields import (
    declared_fields,
    is_enum,
    made_once,
    record_in_list,
    record_in_mapping,
)
from atoll_server.api.records.json_text import count_names, has_more_strings_than
from atoll_server.api.records.malformed import SHOWN_LENGTH, Malformed, shown
from atoll_server.api.records.reader import Reader, reader_of

Record = TypeVar("Record")

# More strings than any legitimate record has, and few enough to be parsed in some milliseconds.
STRINGS_LIMIT = 100_000
ERROR_LENGTH = 200


def parse_json(record: type[Record], raw: bytes) -> Record:
    """The record in this JSON text, or `Malformed`."""
    if has_more_strings_than(raw, STRINGS_LIMIT):
        raise Malformed(f"more than {STRINGS_LIMIT} strings")
    reader = reader_of(record)
    parsed, names = reader.build(_decode(record, raw, reader))
    if count_names(raw) != names:
        raise Malformed("a name stands twice in one object; give each once")
    return parsed


def _decode(record: Any, raw: bytes, reader: Reader[Any]) -> Any:
    try:
        return _decoder(record).decode(raw)
    except msgspec.ValidationError as error:
        raise Malformed(_explain(str(error), reader)) from None
    except UnicodeDecodeError:
        raise Malformed("the body is not valid UTF-8") from None
    except (msgspec.DecodeError, RecursionError) as error:
        raise Malformed(f"the body is not valid JSON: {error}"[:ERROR_LENGTH]) from None


@made_once
def _decoder(record: Any) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(_struct(record))


@made_once
def _struct(record: Any) -> type[msgspec.Struct]:
    """Only the structure: closed sets come as text, so that our own check can say what is allowed."""
    fields: list[Any] = []
    for entry in declared_fields(record):
        shape = functools.reduce(lambda left, right: left | right, map(_shape, entry.kinds))
        fields.append(
            (entry.name, shape)
            if entry.required
            else (entry.name, shape | msgspec.UnsetType, msgspec.UNSET)
        )
    return msgspec.defstruct(
        record.__name__, fields, rename="camel", forbid_unknown_fields=True, kw_only=True
    )


def _shape(hint: Any) -> Any:
    if dataclasses.is_dataclass(hint):
        return _struct(hint)
    if is_enum(hint):
        return str
    if (item := record_in_list(hint)) is not None:
        return list[_struct(item)]  # type: ignore[misc] # made at run time
    if (value := record_in_mapping(hint)) is not None:
        return dict[str, _struct(value)]  # type: ignore[misc] # made at run time
    # JSON has one kind of number, without NaN and infinity, which the parser refuses: 2 stays 2 where 0.5 may stand.
    return int | float if hint is float else hint


def _explain(message: str, reader: Reader[Any]) -> str:
    """msgspec's words in ours: `Expected `int`, got `str` - at `$.resources.cpu``."""
    what, _, where = message.partition(" - at ")
    path = where.strip("`").removeprefix("$").removeprefix(".")
    if "unknown field" in what:
        field = shown(what.partition("`")[2].rstrip("`"))
        inside = f" in `{path}`" if path else ""
        return f"unknown field {field}{inside}; known: {reader.known_names(path)}"
    if "missing required field" in what:
        return f"field {what.partition('field ')[2]} is missing"
    what = what[0].lower() + what[1:].replace("`", "")
    return f"`{path[:SHOWN_LENGTH]}`: {what}" if path else f"the body: {what}"
