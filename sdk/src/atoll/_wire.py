# SPDX-License-Identifier: Apache-2.0
"""Records to JSON and back: snake_case here, camelCase on the wire, by the dataclasses of `models`.

What a type looks like on the wire is worked out once and kept. It does not know what the records mean, and takes
unknown members of an answer as news from a later server: ignored.
"""

from __future__ import annotations

import dataclasses
import json
import math
import types
from collections.abc import Callable, Mapping
from enum import Enum
from functools import partial
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from .errors import InvalidRequest, ProtocolError

Record = TypeVar("Record")
_Decoder = Callable[[Any], Any]
_FieldDecoder = tuple[str, str, _Decoder, bool]
"""Name on the wire, name in Python, how to read it, whether it must be there."""

# Worked out once for each type; filling one twice from two threads does no harm.
_NAMES: dict[type[Any], dict[str, str]] = {}
_NESTED: dict[type[Any], dict[str, type[Any]]] = {}
_DECODERS: dict[type[Any], tuple[_FieldDecoder, ...]] = {}


def encode(record_type: type[Any], given: Mapping[str, Any]) -> bytes:
    """The JSON body for a `record_type` of which only `given`, by Python name, is said; None counts as unsaid."""
    body = _render(record_type, given)
    try:
        return json.dumps(body, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()
    except UnicodeEncodeError as error:
        raise InvalidRequest(
            f"text that is not valid Unicode cannot be sent: {error.object[error.start : error.end]!r}"
        ) from None
    except (TypeError, ValueError) as error:
        raise InvalidRequest(f"cannot be sent as JSON: {error}") from None


def decode(record_type: type[Record], body: bytes) -> Record:
    """The record that `body` holds, or `ProtocolError`."""
    return from_plain(record_type, parse(body))


def parse(body: bytes) -> Any:
    """The JSON value that `body` holds, or `ProtocolError`."""
    try:
        return json.loads(body, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        raise ProtocolError(
            f"the answer is not JSON: {body[:80]!r}; is the URL that of an Atoll server?"
        ) from None


def _refuse_constant(text: str) -> Any:
    raise ValueError(f"{text} is no JSON")


def from_plain(record_type: type[Record], value: Any) -> Record:
    """The record made from what `json.loads` gave, or `ProtocolError`."""
    try:
        return _decode_record(record_type, value)
    except (TypeError, ValueError, KeyError) as error:
        raise ProtocolError(
            f"the answer is no {record_type.__name__}: {error}; is the server's version another?"
        ) from None


def to_plain(record: Any) -> dict[str, Any]:
    """The record as JSON shows it: camelCase names, plain values."""
    names = _wire_names(type(record))
    return {wire: _plain(getattr(record, name)) for name, wire in names.items()}


def _render(record_type: type[Any], given: Mapping[str, Any]) -> dict[str, Any]:
    names, nested = _wire_names(record_type), _nested(record_type)
    body = {}
    for name, value in given.items():
        if name in nested and isinstance(value, Mapping):
            body[names[name]] = _render(nested[name], value)
        elif value is not None:
            body[names[name]] = _plain(value)
    return body


def _plain(value: Any) -> Any:
    if isinstance(value, Enum):
        return value.value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return to_plain(value)
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


def _wire_names(record_type: type[Any]) -> dict[str, str]:
    names = _NAMES.get(record_type)
    if names is None:
        names = {field.name: _camel(field.name) for field in dataclasses.fields(record_type)}
        _NAMES[record_type] = names
    return names


def _nested(record_type: type[Any]) -> dict[str, type[Any]]:
    """Which fields are records themselves."""
    nested = _NESTED.get(record_type)
    if nested is None:
        hints = get_type_hints(record_type)
        nested = {
            name: hint
            for name, hint in hints.items()
            if isinstance(hint, type) and dataclasses.is_dataclass(hint)
        }
        _NESTED[record_type] = nested
    return nested


def snake_members(value: Any) -> Any:
    """A JSON value whose objects have names of ours, with those as Python has them."""
    if isinstance(value, dict):
        return {_snake(name): snake_members(member) for name, member in value.items()}
    return [snake_members(item) for item in value] if isinstance(value, list) else value


def camel_members(value: Any) -> Any:
    """The same the other way round."""
    if isinstance(value, dict):
        return {_camel(name): camel_members(member) for name, member in value.items()}
    return [camel_members(item) for item in value] if isinstance(value, list) else value


def _snake(name: str) -> str:
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name)


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)


def _decode_record(record_type: type[Record], value: Any) -> Record:
    if type(value) is not dict:
        raise TypeError(f"a JSON object was expected, not {type(value).__name__}")
    found = {}
    for wire, name, decoder, required in _decoders(record_type):
        if wire in value:
            found[name] = decoder(value[wire])
        elif required:
            raise KeyError(f"`{wire}` is missing")
    return record_type(**found)


def _decoders(record_type: type[Any]) -> tuple[_FieldDecoder, ...]:
    decoders = _DECODERS.get(record_type)
    if decoders is None:
        hints = get_type_hints(record_type)
        decoders = tuple(
            (
                _camel(field.name),
                field.name,
                _decoder(hints[field.name]),
                field.default is dataclasses.MISSING
                and field.default_factory is dataclasses.MISSING,
            )
            for field in dataclasses.fields(record_type)
        )
        _DECODERS[record_type] = decoders
    return decoders


def _decoder(hint: Any) -> _Decoder:
    if get_origin(hint) in (types.UnionType, Union):
        return _optional(hint)
    if get_origin(hint) is list:
        return _list_of(_decoder(get_args(hint)[0]))
    if get_origin(hint) is dict:
        return _map_of(_decoder(get_args(hint)[1]))
    if isinstance(hint, type) and issubclass(hint, Enum):
        return hint
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        return partial(_decode_record, hint)
    if hint is Any:
        return _as_it_is
    return _number if hint is float else _exactly(hint)


def _optional(hint: Any) -> _Decoder:
    inner = [option for option in get_args(hint) if option is not types.NoneType]
    decoder = _decoder(inner[0]) if len(inner) == 1 else _one_of(inner)
    if len(inner) == len(get_args(hint)):
        return decoder
    return lambda value: None if value is None else decoder(value)


def _one_of(hints: list[Any]) -> _Decoder:
    """For types that JSON tells apart, such as `str | list[str]`."""
    decoders = {get_origin(hint) or hint: _decoder(hint) for hint in hints}

    def decode_one(value: Any) -> Any:
        decoder = decoders.get(type(value))
        if decoder is None:
            names = " or ".join(kind.__name__ for kind in decoders)
            raise TypeError(f"{names} was expected, not {type(value).__name__}")
        return decoder(value)

    return decode_one


def _list_of(decoder: _Decoder) -> _Decoder:
    def decode_list(value: Any) -> list[Any]:
        if type(value) is not list:
            raise TypeError(f"a list was expected, not {type(value).__name__}")
        return [decoder(item) for item in value]

    return decode_list


def _map_of(decoder: _Decoder) -> _Decoder:
    def decode_map(value: Any) -> dict[str, Any]:
        if type(value) is not dict:
            raise TypeError(f"a JSON object was expected, not {type(value).__name__}")
        return {key: decoder(item) for key, item in value.items()}

    return decode_map


def _as_it_is(value: Any) -> Any:
    return value


def _number(value: Any) -> float:
    """JSON has one kind of number: 2 is as good as 2.0, and stays as it came. Infinity is what 1e999 becomes."""
    if type(value) is int or (type(value) is float and math.isfinite(value)):
        return value
    raise TypeError(f"a number was expected, not {value!r:.80}")


def _exactly(expected: type) -> _Decoder:
    def check(value: Any) -> Any:
        # `type`, because JSON's true and false must not pass for numbers.
        if type(value) is not expected:
            raise TypeError(f"{expected.__name__} was expected, not {type(value).__name__}")
        return value

    return check
