# SPDX-License-Identifier: Apache-2.0
import json
import statistics
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atoll.models import (
    CreateSandbox,
    ExecRequest,
    FileContent,
    MakeDirectory,
    Resources,
    Runtime,
    Secret,
)
from atoll_server.api.native.files import ListQuery, RemoveQuery, WriteQuery
from atoll_server.api.records import Malformed, parse_json, parse_query, render_json

JSON_VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)
TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20)


def refusal(record: type[Any], raw: bytes) -> str:
    with pytest.raises(Malformed) as raised:
        parse_json(record, raw)
    return str(raised.value)


@given(
    resources=st.none()
    | st.builds(
        Resources,
        cpu=st.sampled_from([2, 4, 8]),
        memory_mb=st.integers(2048, 16384),
        disk_mb=st.integers(5120, 51200),
    ),
    image=st.none() | TEXT.filter(bool),
    env=st.dictionaries(TEXT.filter(lambda name: name and "=" not in name), TEXT),
    metadata=st.dictionaries(TEXT, TEXT, max_size=20),
    secrets=st.dictionaries(
        TEXT,
        st.builds(
            Secret, TEXT.filter(bool), st.lists(TEXT, min_size=1, max_size=3), st.none() | TEXT
        ),
        max_size=5,
    ),
    timeout_ms=st.integers(1, 86_400_000),
    runtime=st.sampled_from(Runtime),
)
def test_what_is_rendered_is_parsed_back(resources: Resources | None, **fields: Any) -> None:
    body = (
        CreateSandbox(**fields)
        if resources is None
        else CreateSandbox(resources=resources, **fields)
    )

    assert parse_json(CreateSandbox, render_json(body)) == body


@given(value=JSON_VALUES)
def test_any_json_is_a_record_or_refused(value: Any) -> None:
    for record in (CreateSandbox, ExecRequest, FileContent, MakeDirectory):
        try:
            parse_json(record, json.dumps(value).encode())
        except Malformed as error:
            str(error).encode()


@given(raw=st.binary(max_size=200))
def test_any_bytes_are_a_record_or_refused(raw: bytes) -> None:
    with pytest.raises(Malformed):
        parse_json(ExecRequest, raw)
    for record in (ListQuery, WriteQuery, RemoveQuery):
        try:
            parse_query(record, raw)
        except Malformed as error:
            str(error).encode()


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"{}", "field `command` is missing"),
        (b'{"command":"x","comand":1}', "unknown field `comand`; known: command, cwd, env"),
        (b'{"command":"x","timeoutMs":true}', "`timeoutMs`: expected int, got bool"),
        (b'{"command":"x","timeoutMs":"1"}', "`timeoutMs`: expected int, got str"),
        (b'{"command":"x","timeoutMs":1.5}', "`timeoutMs`: expected int, got float"),
        (b'{"command":"x","timeoutMs":0}', "`timeoutMs` must be 1 to 300000; got `0`"),
        (b'{"command":"x","timeoutMs":300001}', "`timeoutMs` must be 1 to 300000; got `300001`"),
        (b'{"command":"x","timeoutMs":NaN}', "not valid JSON"),
        (b'{"command":"x","timeoutMs":Infinity}', "not valid JSON"),
        (b'{"command":"x","timeoutMs":1e999}', "`timeoutMs`"),
        (b'{"command":"x","timeoutMs":null}', "`timeoutMs`: expected int, got null"),
        (b'{"command":"x","stdinEncoding":"hex"}', "must be one of utf-8, base64; got `hex`"),
        (b'{"command":["x",1]}', "`command[1]`: expected str, got int"),
        (b'{"command":"a\\u0000b"}', "`command` must not contain NUL"),
        (b'{"command":["a","\\u0000"]}', "`command` must not contain NUL"),
        (b'{"command":"x","cwd":"/\\u0000"}', "`cwd` must not contain NUL"),
        (b'{"command":"x","env":{"A\\u0000":"1"}}', "`env` must not contain NUL"),
        (b'{"command":"x","env":{"A":"\\u0000"}}', "`env` must not contain NUL"),
        (b'{"command":"x","env":{"":"1"}}', "names that are not empty and without `=`"),
        (b'{"command":"x","env":{"A=B":"1"}}', "names that are not empty and without `=`"),
        (b'{"command":"x","env":{"A":1}}', "expected str, got int"),
        (b'{"command":"x","cwd":"' + b"a" * 4097 + b'"}', "at most 4096 characters; got 4097"),
        (b'{"command":"\\ud800"}', "not valid JSON"),
        (b'{"command":"\xff"}', "not valid UTF-8"),
        (b'{"command":"x"} {}', "not valid JSON"),
        (b"\xef\xbb\xbf{}", "not valid JSON"),
        (b"", "not valid JSON"),
        (b"[]", "the body: expected object, got array"),
    ],
)
def test_refusal_names_the_field_and_what_is_allowed(raw: bytes, message: str) -> None:
    assert message in refusal(ExecRequest, raw)


def test_contents_may_hold_nul() -> None:
    parsed = parse_json(ExecRequest, b'{"command":"cat","stdin":"a\\u0000b"}')

    assert parsed.stdin == "a\0b"


@pytest.mark.parametrize(
    "raw",
    [
        b'{"command":"x","command":"y"}',
        b'{"command":"x","comm\\u0061nd":"y"}',
        b'{"command":"x","env":{"A":"1","A":"2"}}',
        b'{"command":"x","env":{"A\\"":"1","A\\"":"2"}}',
        b'{"command":"x","env":{"\\\\":"1","\\\\":"2"}}',
    ],
)
def test_repeated_name_is_refused_at_any_depth(raw: bytes) -> None:
    assert "stands twice" in refusal(ExecRequest, raw)


@given(
    env=st.dictionaries(
        st.text('a:"\\{}[],', min_size=1, max_size=6), st.text('b:"\\{}[],', max_size=6)
    )
)
def test_punctuation_inside_strings_is_no_repeated_name(env: dict[str, str]) -> None:
    body = {"command": "x", "env": env}

    assert parse_json(ExecRequest, json.dumps(body).encode()).env == env


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(b'{"command":' + b"[" * 100_000, id="depth"),
        pytest.param(b'{"a":' * 100_000, id="depth of unknown objects"),
        pytest.param(b'{"command":[' + b'"",' * 2_500_000 + b'""]}', id="many strings"),
        pytest.param(b"[" + b"[]," * 2_500_000 + b"[]]", id="many arrays"),
        pytest.param(b'{"command":"x","timeoutMs":' + b"9" * 8_000_000 + b"}", id="huge number"),
        pytest.param(
            b'{"command":"x","env":{' + b",".join(b'"%d":""' % n for n in range(500_000)) + b"}}",
            id="many names",
        ),
        pytest.param(b'{"command":"x"' + b',"cwd":"y"' * 800_000 + b"}", id="repeated names"),
        pytest.param(b'{"command":"' + b"\\\\" * 4_000_000, id="escapes"),
    ],
)
def test_bomb_is_refused_at_once(raw: bytes) -> None:
    """As large as a body may be."""
    spent = [cost_of_refusal(raw) for _ in range(3)]

    assert statistics.median(spent) < 0.1


def cost_of_refusal(raw: bytes) -> float:
    began = time.process_time()
    refusal(ExecRequest, raw)
    return time.process_time() - began


def test_query_is_parsed_by_kind() -> None:
    parsed = parse_query(ListQuery, b"path=a%2Fb+c%2B&depth=3")

    assert parsed == ListQuery(path="a/b c+", depth=3, limit=1000)


def test_path_in_a_query_may_be_any_bytes() -> None:
    assert (
        parse_query(ListQuery, b"path=%ff%fe").path.encode("utf-8", "surrogateescape")
        == b"\xff\xfe"
    )


@pytest.mark.parametrize(
    ("query", "message"),
    [
        (b"", "`path` is missing"),
        (b"path=", "`path` must not be empty"),
        (b"path=a&path=b", "given twice"),
        (b"path=a%00b", "must not contain NUL"),
        (b"path=" + b"a" * 5000, "at most 4096 characters; got 5000"),
        (b"path=a&depth=0", "`depth` must be 1 to 32"),
        (b"path=a&depth=33", "`depth` must be 1 to 32"),
        (b"path=a&depth=1.0", "`depth` must be a whole number"),
        (b"path=a&depth=" + b"9" * 5000, "`depth` must be a whole number"),
        (b"path=a&nothing=1", "unknown query parameter `nothing`; known: path, depth, limit"),
        (b"path[x]=a", "unknown query parameter `path[x]`"),
    ],
)
def test_bad_query_is_refused(query: bytes, message: str) -> None:
    with pytest.raises(Malformed) as raised:
        parse_query(ListQuery, query)

    assert message in str(raised.value)


def test_query_flag_is_true_or_false() -> None:
    assert parse_query(RemoveQuery, b"path=a&recursive=true").recursive
    with pytest.raises(Malformed):
        parse_query(RemoveQuery, b"path=a&recursive=1")
