# SPDX-License-Identifier: Apache-2.0
"""Strict reading and writing of records that are declared as dataclasses (`atoll.models`), from JSON and from queries.

Structure is checked by msgspec Structs derived from the dataclasses, limits by the metadata of their fields. Nothing
here costs more than its input is long, whatever the input: the parser stops at the first thing that is not as declared.
"""

from __future__ import annotations

from atoll_server.api.records.answers import render_builtins, render_json
from atoll_server.api.records.bodies import parse_json
from atoll_server.api.records.fields import (
    CONTENTS,
    ITEMS_LIMIT,
    Field,
    camel,
    declared_fields,
    is_enum,
    record_in_mapping,
)
from atoll_server.api.records.malformed import Malformed
from atoll_server.api.records.queries import parse_query

__all__ = [
    "CONTENTS",
    "Field",
    "ITEMS_LIMIT",
    "Malformed",
    "camel",
    "declared_fields",
    "is_enum",
    "parse_json",
    "parse_query",
    "record_in_mapping",
    "render_builtins",
    "render_json",
]
