# SPDX-License-Identifier: Apache-2.0
"""Records out of query strings. Unknown parameters are refused, as are those that are given twice and are no list."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar
from urllib.parse import unquote_to_bytes

from atoll_server.api.records.fields import Field, declared_fields
from atoll_server.api.records.malformed import Malformed, shown
from atoll_server.api.records.reader import reader_of

Record = TypeVar("Record")

_INTEGER = re.compile(r"-?[0-9]{1,18}")


def parse_query(record: type[Record], query: bytes) -> Record:
    """The record in this query string, or `Malformed`. A mapping field `m` is written `m[key]=value`, one with several
    values is repeated.

    Text is percent-encoded bytes; those that are not UTF-8 become surrogates, as in `os.fsdecode`.
    """
    fields = {entry.wire_name: entry for entry in declared_fields(record)}
    values: dict[str, Any] = {}
    for name, text in _pairs(query):
        entry, key = _find(fields, name)
        _place(values, entry, key, text)
    for entry in fields.values():
        if entry.required and entry.name not in values:
            raise Malformed(f"query parameter `{entry.wire_name}` is missing")
    return reader_of(record).make(values)


def _pairs(query: bytes) -> Iterator[tuple[str, bytes]]:
    for part in query.split(b"&"):
        if part:
            name, _, text = part.replace(b"+", b" ").partition(b"=")
            yield unquote_to_bytes(name).decode("utf-8", "replace"), unquote_to_bytes(text)


def _find(fields: Mapping[str, Field], name: str) -> tuple[Field, str | None]:
    """The field that a parameter is of, and the key in it where the field is a mapping."""
    wire_name, bracket, key = name.partition("[")
    entry = fields.get(wire_name)
    is_whole = not bracket or key.endswith("]")
    if entry is None or not is_whole or entry.is_mapping != bool(bracket):
        known = ", ".join(map(_parameter, fields.values())) or "none"
        raise Malformed(f"unknown query parameter {shown(name)}; known: {known}")
    return entry, key[:-1] if bracket else None


def _parameter(entry: Field) -> str:
    return f"{entry.wire_name}[…]" if entry.is_mapping else entry.wire_name


def _place(values: dict[str, Any], entry: Field, key: str | None, text: bytes) -> None:
    if entry.is_list:
        values.setdefault(entry.name, []).append(_parse_text(entry, text))
        return
    target, place = (
        (values, entry.name) if key is None else (values.setdefault(entry.name, {}), key)
    )
    if place in target:
        name = entry.wire_name if key is None else f"{entry.wire_name}[{key}]"
        raise Malformed(f"query parameter {shown(name)} is given twice")
    target[place] = _parse_text(entry, text)


def _parse_text(entry: Field, text: bytes) -> Any:
    if bool in entry.kinds:
        if text not in (b"true", b"false"):
            given = shown(text.decode("utf-8", "replace"))
            raise Malformed(f"`{entry.wire_name}` must be true or false; got {given}")
        return text == b"true"
    if int in entry.kinds:
        digits = text.decode("utf-8", "replace")
        if not _INTEGER.fullmatch(digits):
            raise Malformed(f"`{entry.wire_name}` must be a whole number; got {shown(digits)}")
        return int(digits)
    return text.decode("utf-8", "surrogateescape")
