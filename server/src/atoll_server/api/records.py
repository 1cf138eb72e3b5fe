# SPDX-License-Identifier: Apache-2.0
"""Strict reading and writing of records that are declared as dataclasses (`atoll.models`), from JSON and from queries.

Structure is checked by msgspec Structs derived from the dataclasses, limits by the metadata of their fields. Nothing
here costs more than its input is long, whatever the input: the parser stops at the first thing that is not as declared.
"""

from __future__ import annotations

import dataclasses
import functools
import re
import sys
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, Generic, TypeVar
from urllib.parse import unquote_to_bytes

import msgspec

Record = TypeVar("Record")
T = TypeVar("T")
Check = Callable[[Any], str | None]

# More quoted strings than any legitimate record has, and few enough to be parsed in some milliseconds.
STRINGS_LIMIT = 100_000
ITEMS_LIMIT = 65_536
SHOWN_LENGTH = 64
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
# JSON has one kind of number, without NaN and infinity, which the parser refuses: 2 stays 2 where 0.5 may stand.
_NUMBER = int | float
_INTEGER = re.compile(r"-?[0-9]{1,18}")


def _made_once(make: Callable[[Any], T]) -> Callable[[Any], T]:
    return functools.cache(make)


class Malformed(Exception):
    """Input that is not the record; the message names the field as written and says what is allowed."""


def parse_json(record: type[Record], raw: bytes) -> Record:
    """The record in this JSON text, or `Malformed`."""
    return _reader(record).read_json(raw)


def parse_query(record: type[Record], query: bytes) -> Record:
    """The record in this query string, or `Malformed`. A mapping field `m` is written `m[key]=value`, one with several
    values is repeated.

    Text is percent-encoded bytes; those that are not UTF-8 become surrogates, as in `os.fsdecode`.
    """
    return _reader(record).read_query(query)


def render_json(value: Any) -> bytes:
    """A record as JSON, with its names in camelCase."""
    return msgspec.json.encode(_renamed(value))


def render_builtins(value: Any) -> dict[str, Any]:
    """A record as a dictionary of JSON values."""
    rendered: dict[str, Any] = msgspec.to_builtins(_renamed(value))
    return rendered


def camel(name: str) -> str:
    """A field's name on the wire."""
    head, *rest = name.split("_")
    return head + "".join(part.capitalize() for part in rest)


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


@_made_once
def declared_fields(record: Any) -> tuple[Field, ...]:
    """The fields of a record, in order."""
    hints = typing.get_type_hints(record)
    return tuple(
        Field(
            name=entry.name,
            wire_name=camel(entry.name),
            hint=hints[entry.name],
            required=entry.default is dataclasses.MISSING
            and entry.default_factory is dataclasses.MISSING,
            default=entry.default_factory()
            if entry.default_factory is not dataclasses.MISSING
            else entry.default,
            metadata={**_IMPLIED.get(entry.name, {}), **entry.metadata},
        )
        for entry in dataclasses.fields(record)
    )


def _renamed(value: Any) -> msgspec.Struct:
    return msgspec.convert(value, _output_struct(type(value)), from_attributes=True)


@_made_once
def _output_struct(record: Any) -> type[msgspec.Struct]:
    fields = [(entry.name, _output_type(entry.hint)) for entry in declared_fields(record)]
    return msgspec.defstruct(record.__name__, fields, rename="camel")


def _output_type(hint: Any) -> Any:
    if dataclasses.is_dataclass(hint):
        return _output_struct(hint)
    if isinstance(hint, types.UnionType):
        members = map(_output_type, typing.get_args(hint))
        return functools.reduce(lambda left, right: left | right, members)
    if typing.get_origin(hint) is list:
        return list[_output_type(typing.get_args(hint)[0])]  # type: ignore[misc] # made at run time
    if (value := _mapped(hint)) is not None:
        return dict[str, _output_struct(value)]  # type: ignore[misc] # made at run time
    return _NUMBER if hint is float else hint


@_made_once
def _input_struct(record: Any) -> type[msgspec.Struct]:
    """Only the structure: closed sets come as text, so that our own check can say what is allowed."""
    fields: list[Any] = []
    for entry in declared_fields(record):
        shape = functools.reduce(lambda left, right: left | right, map(_input_type, entry.kinds))
        fields.append(
            (entry.name, shape)
            if entry.required
            else (entry.name, shape | msgspec.UnsetType, msgspec.UNSET)
        )
    return msgspec.defstruct(
        record.__name__, fields, rename="camel", forbid_unknown_fields=True, kw_only=True
    )


def _input_type(hint: Any) -> Any:
    if dataclasses.is_dataclass(hint):
        return _input_struct(hint)
    if isinstance(hint, type) and issubclass(hint, Enum):
        return str
    if (item := _listed(hint)) is not None:
        return list[_input_struct(item)]  # type: ignore[misc] # made at run time
    if (value := _mapped(hint)) is not None:
        return dict[str, _input_struct(value)]  # type: ignore[misc] # made at run time
    return _NUMBER if hint is float else hint


def _listed(hint: Any) -> Any:
    """The record that this is a list of, or None."""
    if typing.get_origin(hint) is not list:
        return None
    item = typing.get_args(hint)[0]
    return item if dataclasses.is_dataclass(item) else None


def _mapped(hint: Any) -> Any:
    """The record that the values of this mapping are, or None."""
    if typing.get_origin(hint) is not dict:
        return None
    value = typing.get_args(hint)[1]
    return value if dataclasses.is_dataclass(value) else None


class _Reader(Generic[Record]):
    """Reads one kind of record. Made once for each kind."""

    def __init__(self, record: type[Record]) -> None:
        self._record = record
        self._fields = declared_fields(record)
        self._decoder = msgspec.json.Decoder(_input_struct(record))
        self._nested = {
            entry.name: _cached_reader(kind)
            for entry in self._fields
            for kind in entry.kinds
            if dataclasses.is_dataclass(kind)
        }
        self._lists = {
            entry.name: _cached_reader(_listed(entry.hint))
            for entry in self._fields
            if _listed(entry.hint) is not None
        }
        self._maps = {
            entry.name: _cached_reader(_mapped(entry.hint))
            for entry in self._fields
            if _mapped(entry.hint) is not None
        }
        self._checks = {entry.name: tuple(_checks(entry)) for entry in self._fields}
        self._enums = {
            entry.name: kind for entry in self._fields for kind in entry.kinds if _is_enum(kind)
        }
        self._wire_names = {entry.name: entry.wire_name for entry in self._fields}

    def read_json(self, raw: bytes) -> Record:
        _check_strings(raw)
        try:
            struct = self._decoder.decode(raw)
        except msgspec.ValidationError as error:
            raise Malformed(self._explain(str(error))) from None
        except UnicodeDecodeError:
            raise Malformed("the body is not valid UTF-8") from None
        except (msgspec.DecodeError, RecursionError) as error:
            raise Malformed(f"the body is not valid JSON: {error}"[:200]) from None
        record, distinct = self._build(struct, "")
        if _count_names(raw) != distinct:
            raise Malformed("a name stands twice in one object; give each once")
        return record

    def read_query(self, query: bytes) -> Record:
        values: dict[str, Any] = {}
        for name, text in _query_pairs(query):
            wire_name, bracket, key = name.partition("[")
            entry = next((entry for entry in self._fields if entry.wire_name == wire_name), None)
            if (
                entry is None
                or (bracket and not key.endswith("]"))
                or (_is_mapping(entry) != bool(bracket))
            ):
                raise Malformed(
                    f"unknown query parameter {_shown(name)}; known: {self._query_names()}"
                )
            if _is_list(entry):
                values.setdefault(entry.name, []).append(_parse_query_text(entry, text))
                continue
            target = values.setdefault(entry.name, {}) if bracket else values
            place = key[:-1] if bracket else entry.name
            if place in target:
                raise Malformed(f"query parameter {_shown(name)} is given twice")
            target[place] = _parse_query_text(entry, text)
        missing = [
            entry.wire_name for entry in self._fields if entry.required and entry.name not in values
        ]
        if missing:
            raise Malformed(f"query parameter `{missing[0]}` is missing")
        return self._checked(values, "")

    def _build(self, struct: Any, prefix: str) -> tuple[Record, int]:
        """The record of a struct, and how many names its JSON must have held."""
        values: dict[str, Any] = {}
        names = 0
        for name, nested in self._wire_names.items():
            value = getattr(struct, name)
            if value is msgspec.UNSET:
                continue
            names += 1
            if name in self._nested and value is not None:
                value, inner = self._nested[name]._build(value, f"{prefix}{nested}.")
                names += inner
            elif name in self._lists:
                self._check(name, value, prefix)  # how many there are, before they are made
                value, inner = self._lists[name]._build_all(value, f"{prefix}{nested}")
                names += inner
            elif name in self._maps:
                self._check(name, value, prefix)
                names += len(value)
                value, inner = self._maps[name]._build_each(value, f"{prefix}{nested}")
                names += inner
            elif type(value) is dict:
                names += len(value)
            values[name] = value
        return self._checked(values, prefix), names

    def _build_all(self, structs: list[Any], prefix: str) -> tuple[list[Record], int]:
        built = [self._build(one, f"{prefix}[{place}].") for place, one in enumerate(structs)]
        return [record for record, _ in built], sum(names for _, names in built)

    def _build_each(self, structs: dict[str, Any], prefix: str) -> tuple[dict[str, Record], int]:
        built = {
            key: self._build(one, f"{prefix}[{_shown(key).strip('`')}].")
            for key, one in structs.items()
        }
        records = {key: record for key, (record, _) in built.items()}
        return records, sum(names for _, names in built.values())

    def _checked(self, values: dict[str, Any], prefix: str) -> Record:
        for name, value in values.items():
            if value is not None:
                self._check(name, value, prefix)
        for name, kind in self._enums.items():
            if values.get(name) is not None:
                values[name] = kind(values[name])
        return self._record(**values)

    def _check(self, name: str, value: Any, prefix: str) -> None:
        for check in self._checks[name]:
            wrong = check(value)
            if wrong is not None:
                raise Malformed(f"`{prefix}{self._wire_names[name]}` {wrong}")

    def _explain(self, message: str) -> str:
        """msgspec's words in ours: `Expected `int`, got `str` - at `$.resources.cpu``."""
        what, _, where = message.partition(" - at ")
        path = where.strip("`").removeprefix("$").removeprefix(".")
        if "unknown field" in what:
            field = _shown(what.partition("`")[2].rstrip("`"))
            inside = f" in `{path}`" if path else ""
            several = {**self._lists, **self._maps}
            reader = several.get(path.partition("[")[0], self._nested.get(path, self))
            return f"unknown field {field}{inside}; known: {', '.join(reader._wire_names.values())}"
        if "missing required field" in what:
            return f"field {what.partition('field ')[2]} is missing"
        what = what[0].lower() + what[1:].replace("`", "")
        return f"`{path[:SHOWN_LENGTH]}`: {what}" if path else f"the body: {what}"

    def _query_names(self) -> str:
        return (
            ", ".join(f"{e.wire_name}[…]" if _is_mapping(e) else e.wire_name for e in self._fields)
            or "none"
        )


def _reader(record: type[Record]) -> _Reader[Record]:
    reader: _Reader[Record] = _cached_reader(record)
    return reader


@_made_once
def _cached_reader(record: Any) -> _Reader[Any]:
    return _Reader(record)


def _check_strings(raw: bytes) -> None:
    """Refuse what has more strings than is worth decoding. Counting quotes is quick and nearly always enough."""
    if raw.count(b'"') > 2 * STRINGS_LIMIT:
        parts = _without_escapes(raw).split(b'"', 2 * STRINGS_LIMIT)
        if len(parts) > 2 * STRINGS_LIMIT:
            raise Malformed(f"more than {STRINGS_LIMIT} strings")


def _count_names(raw: bytes) -> int:
    """How many names stand in the objects of this JSON text, repeated ones included.

    Each name is followed by the only kind of colon that is outside strings. Without escaped quotes, every quote
    begins or ends a string. All of it is done by C loops over the bytes, and nothing nests.
    """
    return b"".join(_without_escapes(raw).split(b'"')[::2]).count(b":")


def _without_escapes(raw: bytes) -> bytes:
    """JSON text whose every quote begins or ends a string."""
    if b"\\" not in raw:
        return raw
    return raw.replace(b"\\\\", b"").replace(b'\\"', b"")


def _checks(entry: Field) -> Iterator[Check]:
    limits = entry.metadata
    enum = next((kind for kind in entry.kinds if _is_enum(kind)), None)
    if enum is not None:
        yield _check_one_of(tuple(member.value for member in enum))
        return
    if "one_of" in limits:
        yield _check_one_of(limits["one_of"])
    if "ge" in limits or "le" in limits:
        yield _check_range(limits.get("ge"), limits.get("le"))
    if "min_length" in limits or "max_length" in limits:
        yield _check_length(limits.get("min_length", 0), limits.get("max_length", sys.maxsize))
    if "pattern" in limits:
        yield _check_pattern(limits["pattern"], limits["pattern_says"])
    if any(typing.get_origin(kind) in (list, dict) for kind in entry.kinds):
        yield _check_items(limits.get("min_items", 0), limits.get("max_items", ITEMS_LIMIT))
    if "items_one_of" in limits:
        yield _check_each(_check_one_of(limits["items_one_of"]))
    if "max_key_length" in limits:
        yield _check_key_length(limits["max_key_length"])
    if "max_value_length" in limits:
        yield _check_value_length(limits["max_value_length"])
    if entry.name not in CONTENTS and entry.hint not in (int, float, bool):
        yield _check_no_nul
    if entry.name == "env":
        yield _check_env_names


def _check_one_of(allowed: tuple[Any, ...]) -> Check:
    return lambda value: (
        None
        if value in allowed
        else f"must be one of {', '.join(map(str, allowed))}; got {_shown(value)}"
    )


def _check_range(least: int | None, most: int | None) -> Check:
    def check(value: Any) -> str | None:
        if (least is None or value >= least) and (most is None or value <= most):
            return None
        allowed = f"at least {least}" if most is None else f"{least} to {most}"
        return f"must be {allowed}; got {_shown(value)}"

    return check


def _check_length(least: int, most: int) -> Check:
    def check(value: Any) -> str | None:
        if type(value) is int or least <= len(value) <= most:  # an int is the other half of a union
            return None
        return (
            "must not be empty"
            if not value
            else f"must be at most {most} characters; got {len(value)}"
        )

    return check


def _check_pattern(pattern: str, says: str) -> Check:
    # As JSON Schema has it, where `$` is the very end, which Python spells otherwise.
    compiled = re.compile(pattern.replace("$", r"\Z"))
    return lambda value: None if compiled.search(value) else f"must be {says}; got {_shown(value)}"


def _check_items(least: int, most: int) -> Check:
    def check(value: Any) -> str | None:
        if type(value) is str or least <= len(value) <= most:  # text is the other half of a union
            return None
        return f"must have {least or 'at most'}{' to' if least else ''} {most} entries; got {len(value)}"

    return check


def _check_each(check: Check) -> Check:
    return lambda value: next(filter(None, map(check, value)), None)


def _check_key_length(most: int) -> Check:
    def check(value: Any) -> str | None:
        longest = max(map(len, value), default=0)
        return (
            f"must have keys of at most {most} characters; one has {longest}"
            if longest > most
            else None
        )

    return check


def _check_value_length(most: int) -> Check:
    def check(value: Any) -> str | None:
        for key, text in value.items():
            if len(text) > most:
                return (
                    f"must have values of at most {most} characters; {_shown(key)} has {len(text)}"
                )
        return None

    return check


def _check_no_nul(value: Any) -> str | None:
    texts: Any = (value,)
    if type(value) is dict:
        texts = (*value, *value.values())
    elif type(value) is list:
        texts = value
    for text in texts:
        if type(text) is str and "\0" in text:
            return "must not contain NUL"
    return None


def _check_env_names(value: Any) -> str | None:
    for name in value:
        if not name or "=" in name:
            return f"must have names that are not empty and without `=`; got {_shown(name)}"
    return None


def _query_pairs(query: bytes) -> Iterator[tuple[str, bytes]]:
    for part in query.split(b"&"):
        if part:
            name, _, text = part.replace(b"+", b" ").partition(b"=")
            yield unquote_to_bytes(name).decode("utf-8", "replace"), unquote_to_bytes(text)


def _parse_query_text(entry: Field, text: bytes) -> Any:
    if bool in entry.kinds:
        if text not in (b"true", b"false"):
            raise Malformed(
                f"`{entry.wire_name}` must be true or false; got {_shown(text.decode('utf-8', 'replace'))}"
            )
        return text == b"true"
    if int in entry.kinds:
        digits = text.decode("utf-8", "replace")
        if not _INTEGER.fullmatch(digits):
            raise Malformed(f"`{entry.wire_name}` must be a whole number; got {_shown(digits)}")
        return int(digits)
    return text.decode("utf-8", "surrogateescape")


def _is_mapping(entry: Field) -> bool:
    return any(typing.get_origin(kind) is dict for kind in entry.kinds)


def _is_list(entry: Field) -> bool:
    return any(typing.get_origin(kind) is list for kind in entry.kinds)


def _is_enum(kind: Any) -> typing.TypeGuard[type[Enum]]:
    return isinstance(kind, type) and issubclass(kind, Enum)


def _shown(value: Any) -> str:
    text = str(value)
    if not text.isprintable():
        text = text.encode("unicode_escape").decode("ascii")
    return f"`{text[:SHOWN_LENGTH]}…`" if len(text) > SHOWN_LENGTH else f"`{text}`"
