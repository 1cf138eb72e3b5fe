# SPDX-License-Identifier: Apache-2.0
"""Records out of values whose structure was checked: closed sets and inner records are made, limits are held to."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, Generic, TypeVar

import msgspec

from atoll_server.api.records.checks import checks_of
from atoll_server.api.records.fields import (
    Field,
    declared_fields,
    made_once,
    record_in_list,
    record_in_mapping,
)
from atoll_server.api.records.malformed import Malformed, shown

Record = TypeVar("Record")
# What was parsed and the path to it → what the record has there, and how many names its JSON must have held.
Build = Callable[[Any, str], tuple[Any, int]]


def reader_of(record: type[Record]) -> Reader[Record]:
    """The one reader of this kind of record."""
    reader: Reader[Record] = _cached_reader(record)
    return reader


@made_once
def _cached_reader(record: Any) -> Reader[Any]:
    return Reader(record)


class Reader(Generic[Record]):
    """Makes one kind of record. Prefixes are the path to a record in the input, for messages: `resources.`."""

    def __init__(self, record: type[Record]) -> None:
        self._record = record
        fields = declared_fields(record)
        self._wire_names = {entry.name: entry.wire_name for entry in fields}
        self._checks = {entry.name: tuple(checks_of(entry)) for entry in fields}
        self._enums = {entry.name: entry.enum for entry in fields if entry.enum is not None}
        self._readers: dict[str, Reader[Any]] = {}
        self._builds: dict[str, Build] = {}
        for entry in fields:
            self._find_inner(entry)

    def build(self, struct: Any, prefix: str = "") -> tuple[Record, int]:
        """The record of a msgspec Struct, and how many names its JSON must have held."""
        values: dict[str, Any] = {}
        names = 0
        for name, wire_name in self._wire_names.items():
            value = getattr(struct, name)
            if value is msgspec.UNSET:
                continue
            names += 1
            if name in self._builds and value is not None:
                self._check(name, value, prefix)  # how many there are, before they are made
                value, inner = self._builds[name](value, f"{prefix}{wire_name}")
                names += inner
            elif type(value) is dict:
                names += len(value)
            values[name] = value
        return self.make(values, prefix), names

    def make(self, values: dict[str, Any], prefix: str = "") -> Record:
        """The record with these values, or `Malformed`."""
        for name, value in values.items():
            if value is not None:
                self._check(name, value, prefix)
        for name, kind in self._enums.items():
            if values.get(name) is not None:
                values[name] = kind(values[name])
        return self._record(**values)

    def known_names(self, path: str) -> str:
        """The names on the wire at this path of the input, which is empty or leads into one of the record's fields."""
        reader = self._readers.get(path.partition("[")[0], self)
        return ", ".join(reader._wire_names.values())

    def _find_inner(self, entry: Field) -> None:
        for kind in filter(dataclasses.is_dataclass, entry.kinds):
            self._readers[entry.name] = reader = _cached_reader(kind)
            self._builds[entry.name] = reader._build_one
        if (item := record_in_list(entry.hint)) is not None:
            self._readers[entry.name] = reader = _cached_reader(item)
            self._builds[entry.name] = reader._build_list
        if (value := record_in_mapping(entry.hint)) is not None:
            self._readers[entry.name] = reader = _cached_reader(value)
            self._builds[entry.name] = reader._build_mapping

    def _build_one(self, struct: Any, path: str) -> tuple[Record, int]:
        return self.build(struct, f"{path}.")

    def _build_list(self, structs: list[Any], path: str) -> tuple[list[Record], int]:
        built = [self.build(one, f"{path}[{place}].") for place, one in enumerate(structs)]
        return [record for record, _ in built], sum(names for _, names in built)

    def _build_mapping(self, structs: dict[str, Any], path: str) -> tuple[dict[str, Record], int]:
        built = {
            key: self.build(one, f"{path}[{shown(key).strip('`')}].")
            for key, one in structs.items()
        }
        records = {key: record for key, (record, _) in built.items()}
        return records, len(structs) + sum(names for _, names in built.values())

    def _check(self, name: str, value: Any, prefix: str) -> None:
        for check in self._checks[name]:
            wrong = check(value)
            if wrong is not None:
                raise Malformed(f"`{prefix}{self._wire_names[name]}` {wrong}")
