# SPDX-License-Identifier: Apache-2.0
"""What a record declares: its fields with their types, their names on the wire, and what they are limited to."""

from __future__ import annotations

import dataclasses
import functools
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, TypeVar

Made = TypeVar("Made")

# How many entries a list or a mapping may have that says nothing of it.
ITEMS_LIMIT = 65_536
# What may hold NUL: it reaches a pipe or a file. Everything else reaches argv, an environment or a path.
CONTENTS = frozenset({"stdin", "content"})
# What these names mean in whatever record they stand, beside what its own metadata says.
_IMPLIED: Mapping[str, Mapping[str, Any]] = {
    "path": {"min_length": 1},
    "source": {"min_length": 1},
    "destination": {"min_length": 1},
    "image": {"min_length": 1},
    "user": {"min_length": 1},
    "group": {"min_length": 1},
    "run_as": {"min_length": 1},
    "metadata": {"max_key_length": 256},
    "workdir": {"pattern": "^/", "pattern_says": "an absolute path"},
    "mode": {
        "pattern": "^(0?[0-7]{1,4})$",
        "pattern_says": "octal digits such as 0755, at most 7777",
    },
}


def made_once(make: Callable[[Any], Made]) -> Callable[[Any], Made]:
    """What is made of a record, kept for the next time. A type of its own, as mypy takes no type for hashable."""
    return functools.cache(make)


@dataclass(frozen=True)
class Field:
    """A field of a record, as declared."""

    name: str
    wire_name: str
    hint: Any
    required: bool
    default: Any
    metadata: Mapping[str, Any]

    @property
    def kinds(self) -> tuple[Any, ...]:
        """The members of its union, or itself."""
        return (
            typing.get_args(self.hint) if isinstance(self.hint, types.UnionType) else (self.hint,)
        )

    @property
    def enum(self) -> type[Enum] | None:
        """The closed set that it is of, if it is."""
        return next((kind for kind in self.kinds if is_enum(kind)), None)

    @property
    def is_list(self) -> bool:
        return any(typing.get_origin(kind) is list for kind in self.kinds)

    @property
    def is_mapping(self) -> bool:
        return any(typing.get_origin(kind) is dict for kind in self.kinds)


@made_once
def declared_fields(record: Any) -> tuple[Field, ...]:
    """The fields of a record, in order."""
    hints = typing.get_type_hints(record)
    return tuple(_field(entry, hints[entry.name]) for entry in dataclasses.fields(record))


def camel(name: str) -> str:
    """A field's name on the wire."""
    head, *rest = name.split("_")
    return head + "".join(part.capitalize() for part in rest)


def is_enum(kind: Any) -> typing.TypeGuard[type[Enum]]:
    return isinstance(kind, type) and issubclass(kind, Enum)


def record_in_list(hint: Any) -> Any:
    """The record that this is a list of, or None."""
    if typing.get_origin(hint) is not list:
        return None
    item = typing.get_args(hint)[0]
    return item if dataclasses.is_dataclass(item) else None


def record_in_mapping(hint: Any) -> Any:
    """The record that the values of this mapping are, or None."""
    if typing.get_origin(hint) is not dict:
        return None
    value = typing.get_args(hint)[1]
    return value if dataclasses.is_dataclass(value) else None


def _field(entry: dataclasses.Field[Any], hint: Any) -> Field:
    default = entry.default
    if entry.default_factory is not dataclasses.MISSING:
        default = entry.default_factory()
    return Field(
        name=entry.name,
        wire_name=camel(entry.name),
        hint=hint,
        required=default is dataclasses.MISSING,
        default=default,
        metadata={**_IMPLIED.get(entry.name, {}), **entry.metadata},
    )
