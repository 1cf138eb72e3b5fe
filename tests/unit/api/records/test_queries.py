# SPDX-License-Identifier: Apache-2.0
import pytest
from hypothesis import given
from hypothesis import strategies as st

from atoll_server.api.native import sandbox_wire
from atoll_server.api.native.event_wire import EventsQuery
from atoll_server.api.native.files import ListQuery, RemoveQuery, WriteQuery
from atoll_server.api.records import Malformed, parse_query


@given(query=st.binary(max_size=200))
def test_any_query_is_a_record_or_refused(query: bytes) -> None:
    for record in (ListQuery, WriteQuery, RemoveQuery):
        try:
            parse_query(record, query)
        except Malformed as error:
            str(error).encode()


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


def test_mapping_is_written_key_by_key() -> None:
    parsed = parse_query(sandbox_wire.ListQuery, b"metadata[team]=a+b&metadata%5Bx%5D=1")

    assert parsed.metadata == {"team": "a b", "x": "1"}


@pytest.mark.parametrize(
    "query", [b"metadata=a", b"metadata[team=a", b"metadata[team]=a&metadata[team]=b"]
)
def test_mapping_written_otherwise_is_refused(query: bytes) -> None:
    with pytest.raises(Malformed):
        parse_query(sandbox_wire.ListQuery, query)


def test_list_is_a_parameter_that_is_repeated() -> None:
    parsed = parse_query(EventsQuery, b"type=sandbox.created&type=sandbox.terminated")

    assert parsed.type == ["sandbox.created", "sandbox.terminated"]
