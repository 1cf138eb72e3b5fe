# SPDX-License-Identifier: Apache-2.0
import re
from datetime import UTC, datetime, timedelta

import pytest

from atoll_server.engine.errors import Forbidden, InvalidRequest, KeyNotFound, ResourceExhausted
from atoll_server.engine.keys import (
    ALL_SCOPES,
    KEYS_LIMIT,
    SANDBOX_SCOPES,
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
    keys = Keys([key, make_key("other", created_at=NOW)])

    keys.remove(key.id)

    assert keys.verify(b"known") is None
    with pytest.raises(KeyNotFound):
        keys.remove(key.id)


def test_last_key_that_manages_keys_stays() -> None:
    last = make_key("last", created_at=NOW)
    keys = Keys([last, make_key("reader", created_at=NOW, scopes=frozenset({Scope.READ}))])

    with pytest.raises(InvalidRequest, match="make another such key first"):
        keys.remove(last.id)

    assert keys.verify(b"last") is last


def test_key_of_the_settings_stays_and_comes_first() -> None:
    configured = make_key("mine", created_at=NOW, configured=True)
    older = make_key("older", created_at=NOW - timedelta(days=1))
    keys = Keys([older, configured])

    with pytest.raises(InvalidRequest, match="settings"):
        keys.remove(configured.id)

    assert keys.list() == (configured, older)


def test_new_key_may_do_what_was_asked_for_and_no_more_than_its_maker() -> None:
    maker = make_key("maker", created_at=NOW, scopes=frozenset({Scope.KEYS, Scope.READ}))
    keys = Keys([maker])

    key, text = keys.make_for(maker, name="ci", scopes=frozenset({Scope.READ}), now=NOW)
    with pytest.raises(Forbidden, match="lacks sandbox:files"):
        keys.make_for(maker, name="", scopes=frozenset({Scope.READ, Scope.FILES}), now=NOW)

    assert keys.verify(text.encode()) is key
    assert key.name == "ci"
    assert key.scopes == {Scope.READ}
    assert len(keys.list()) == 2


def test_keys_are_not_made_without_end() -> None:
    maker = make_key("maker", created_at=NOW)
    keys = Keys([maker])
    for _ in range(KEYS_LIMIT - 1):
        keys.make(now=NOW)

    with pytest.raises(ResourceExhausted):
        keys.make_for(maker, name="", scopes=ALL_SCOPES, now=NOW)


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
        ("sandbox:*", SANDBOX_SCOPES),
        ("sandbox:* keys:manage pool:manage metrics:read", ALL_SCOPES),
        ("full", ALL_SCOPES),
    ],
)
def test_scopes_are_read_as_written(text: str, scopes: frozenset[Scope]) -> None:
    assert parse_scopes(text) == scopes
    assert parse_scopes(render_scopes(frozenset(scopes))) == scopes


@pytest.mark.parametrize(("scopes", "text"), [(ALL_SCOPES, "full"), (SANDBOX_SCOPES, "sandbox:*")])
def test_sets_of_scopes_are_kept_as_the_words_for_them(scopes: frozenset[Scope], text: str) -> None:
    """So that the next scope that is invented is in them."""
    assert render_scopes(scopes) == text


@pytest.mark.parametrize("text", ["sandbox:everything", "full sandbox:everything"])
def test_unknown_scope_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        parse_scopes(text)
