# SPDX-License-Identifier: Apache-2.0
import json
import statistics
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atoll.models import (
    CreateKey,
    CreateSandbox,
    ExecRequest,
    FileContent,
    MakeDirectory,
    Resources,
    Runtime,
    Secret,
)
from atoll_server.api.records import Malformed, parse_json, render_json

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
def test_bytes_that_are_no_record_are_refused(raw: bytes) -> None:
    with pytest.raises(Malformed):
        parse_json(ExecRequest, raw)


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


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b'{"resources":{"ram":1}}', "unknown field `ram` in `resources`; known: cpu, memoryMb"),
        (b'{"resources":{"cpu":0}}', "`resources.cpu` must be 0.05 to 1024; got `0`"),
        (b'{"secrets":{"A":{"key":1}}}', "in `secrets[...]`; known: value, hosts"),
        (b'{"secrets":{"A":{"value":"","hosts":["a"]}}}', "`secrets[A].value` must"),
        (b'{"resources":{"cpu":2,"cpu":2}}', "stands twice"),
    ],
)
def test_refusal_says_where_in_the_body(raw: bytes, message: str) -> None:
    assert message in refusal(CreateSandbox, raw)


def test_list_that_must_have_an_entry_says_so() -> None:
    message = refusal(CreateKey, b'{"scopes":[]}')

    assert message == "`scopes` must have 1 to 32 entries; got 0"


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
