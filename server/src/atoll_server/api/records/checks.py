# SPDX-License-Identifier: Apache-2.0
"""The limits of a field as functions, each of which says what is wrong with a value of the right type, or None."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from typing import Any

from atoll_server.api.records.fields import CONTENTS, ITEMS_LIMIT, Field
from atoll_server.api.records.malformed import shown

Check = Callable[[Any], str | None]


def checks_of(entry: Field) -> Iterator[Check]:
    """What a value of this field must pass, in this order."""
    if entry.enum is not None:
        yield _check_one_of(tuple(member.value for member in entry.enum))
        return
    yield from _checks_of_value(entry)
    yield from _checks_of_several(entry)
    if entry.name not in CONTENTS and entry.hint not in (int, float, bool):
        yield _check_no_nul
    if entry.name == "env":
        yield _check_env_names


def _checks_of_value(entry: Field) -> Iterator[Check]:
    limits = entry.metadata
    if "one_of" in limits:
        yield _check_one_of(limits["one_of"])
    if "ge" in limits or "le" in limits:
        yield _check_range(limits.get("ge"), limits.get("le"))
    if "min_length" in limits or "max_length" in limits:
        yield _check_length(limits.get("min_length", 0), limits.get("max_length", sys.maxsize))
    if "pattern" in limits:
        yield _check_pattern(limits["pattern"], limits["pattern_says"])


def _checks_of_several(entry: Field) -> Iterator[Check]:
    limits = entry.metadata
    if entry.is_list or entry.is_mapping:
        yield _check_items(limits.get("min_items", 0), limits.get("max_items", ITEMS_LIMIT))
    if "items_one_of" in limits:
        yield _check_each(_check_one_of(limits["items_one_of"]))
    if "max_key_length" in limits:
        yield _check_key_length(limits["max_key_length"])
    if "max_value_length" in limits:
        yield _check_value_length(limits["max_value_length"])


def _check_one_of(allowed: tuple[Any, ...]) -> Check:
    return lambda value: (
        None
        if value in allowed
        else f"must be one of {', '.join(map(str, allowed))}; got {shown(value)}"
    )


def _check_range(least: int | None, most: int | None) -> Check:
    def check(value: Any) -> str | None:
        if (least is None or value >= least) and (most is None or value <= most):
            return None
        allowed = f"at least {least}" if most is None else f"{least} to {most}"
        return f"must be {allowed}; got {shown(value)}"

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
    return lambda value: None if compiled.search(value) else f"must be {says}; got {shown(value)}"


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
                    f"must have values of at most {most} characters; {shown(key)} has {len(text)}"
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
            return f"must have names that are not empty and without `=`; got {shown(name)}"
    return None
