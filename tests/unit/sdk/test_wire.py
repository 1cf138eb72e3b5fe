# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atoll import InvalidRequest, ProtocolError, _wire, models
from tests.unit.sdk import samples

ANSWERS = [
    models.SandboxInfo,
    models.SandboxPage,
    models.ExecResult,
    models.FileEntry,
    models.FileList,
    models.FileWritten,
    models.FileExists,
    models.Unpacked,
    models.Health,
]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=10,
)


@given(st.builds(models.ExecResult))
def test_records_survive_the_wire(record: models.ExecResult) -> None:
    body = json.dumps(_wire.to_plain(record)).encode()

    assert _wire.decode(models.ExecResult, body) == record


def test_names_are_camel_case_at_every_depth() -> None:
    record = models.SandboxPage(
        data=[_wire.from_plain(models.SandboxInfo, samples.sandbox())],
        pagination=models.Pagination(total=1, limit=2, offset=3, has_more=True),
    )

    plain = _wire.to_plain(record)

    assert plain["pagination"] == {"total": 1, "limit": 2, "offset": 3, "hasMore": True}
    assert plain["data"] == [samples.sandbox()]


@pytest.mark.parametrize("record_type", ANSWERS)
@given(value=JSON)
def test_any_json_is_a_record_or_a_protocol_error(record_type: type[Any], value: Any) -> None:
    try:
        record = _wire.from_plain(record_type, value)
    except ProtocolError:
        return

    assert dataclasses.is_dataclass(record)


@pytest.mark.parametrize(
    ("member", "value"),
    [("exitCode", True), ("exitCode", 1.5), ("stdout", None), ("durationMs", "5"), ("timedOut", 1)],
)
def test_types_are_exact(member: str, value: object) -> None:
    with pytest.raises(ProtocolError):
        _wire.from_plain(models.ExecResult, samples.result(**{member: value}))


def test_what_json_cannot_hold_is_an_invalid_request() -> None:
    with pytest.raises(InvalidRequest):
        _wire.encode(models.ExecRequest, {"command": "true", "env": {"A": object()}})
    with pytest.raises(InvalidRequest):
        _wire.encode(models.ExecRequest, {"command": "true", "timeout_ms": float("nan")})


def test_a_name_that_no_record_has_is_our_own_mistake() -> None:
    with pytest.raises(KeyError):
        _wire.encode(models.ExecRequest, {"comand": "true"})
