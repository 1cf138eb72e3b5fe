# SPDX-License-Identifier: Apache-2.0
import re
from datetime import UTC, datetime

import pytest

from atoll_server.engine.keys import (
    ALL_SCOPES,
    Keys,
    Scope,
    generate_key_text,
    make_key,
    parse_scopes,
    render_scopes,
)

NOW = datetime(2030, 1, 1, tzinfo=UTC)


def test_new_key_is_long_and_never_the_same() -> None:
    texts = {generate_key_text() for _ in range(100)}

    assert len(texts) == 100
    assert all(re.fullmatch(r"rra_live_[A-Za-z0-9]{25,}", text) for text in texts)


def test_only_known_keys_are_recognised() -> None:
    known, other = make_key("known", created_at=NOW), make_key("other", created_at=NOW)
    keys = Keys([known, other])

    assert keys.verify(b"known") is known
    assert keys.verify(b"other") is other
    for text in (b"", b"know", b"known ", b"Known", known.digest, b"x" * 1_000_000, b"\xff"):
        assert keys.verify(text) is None


def test_no_keys_means_no_access() -> None:
    assert Keys().verify(b"") is None


def test_removed_key_opens_nothing() -> None:
    key = make_key("known", created_at=NOW)
    keys = Keys([key])

    keys.remove(key.id)

    assert keys.verify(b"known") is None


def test_record_of_a_key_shows_neither_text_nor_digest() -> None:
    key = make_key("known", created_at=NOW, name="mine")

    assert "known" not in repr(key)
    assert key.digest.hex() not in repr(key)


@pytest.mark.parametrize(
    ("text", "scopes"),
    [
        ("", frozenset()),
        ("sandbox:read", {Scope.READ}),
        ("sandbox:read, sandbox:files", {Scope.READ, Scope.FILES}),
        ("sandbox:*", ALL_SCOPES),
        ("full", ALL_SCOPES),
    ],
)
def test_scopes_are_read_as_written(text: str, scopes: frozenset[Scope]) -> None:
    assert parse_scopes(text) == scopes
    assert parse_scopes(render_scopes(frozenset(scopes))) == scopes


def test_unknown_scope_is_refused() -> None:
    with pytest.raises(ValueError):
        parse_scopes("sandbox:everything")
