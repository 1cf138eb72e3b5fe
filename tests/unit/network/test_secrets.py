# SPDX-License-Identifier: Apache-2.0
"""Secrets as clients write them."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from atoll_server.network.secrets import (
    MAX_ALL_VALUES,
    MAX_SECRETS,
    MAX_VALUE,
    InvalidSecret,
    Keyring,
    Secret,
    parse_secrets,
)

VALUE = "the-value-of-a-secret"


@dataclass(frozen=True)
class Written:
    value: str = VALUE
    hosts: list[str] = field(default_factory=lambda: ["api.example"])
    header: str | None = None


def test_secret_is_known_by_a_placeholder_that_says_nothing() -> None:
    first, second = parse_secrets({"A": Written(), "B": Written(hosts=["*.Example.", "*.example"])})

    assert first.placeholder != second.placeholder
    assert first.placeholder.startswith("atoll-secret-")
    assert VALUE not in repr([first, second])
    assert second.hosts == ("*.example",)
    assert first.without_value().value == ""


@pytest.mark.parametrize(
    ("name", "secret", "says"),
    [
        ("A B", Written(), "environment variable"),
        ("1A", Written(), "environment variable"),
        ("A", Written(value=""), "has 0 bytes"),
        ("A", Written(value=VALUE * MAX_VALUE), "are possible"),
        ("A", Written(value=f"{VALUE}\n"), "line break"),
        ("A", Written(value=f"{VALUE}\r\nX: y"), "line break"),
        ("A", Written(value=f"{VALUE}\0"), "control character"),
        ("A", Written(value=f" {VALUE}"), "begins or ends"),
        ("A", Written(value=f"{VALUE}\ud800"), "not valid Unicode"),
        ("A", Written(hosts=[]), "1 to 32 hosts"),
        ("A", Written(hosts=["a b"]), "hosts are names"),
        ("A", Written(hosts=["93.184.216.34"]), "hosts are names"),
        ("A", Written(hosts=["*"]), "hosts are names"),
        ("A", Written(hosts=["a.test:443"]), "hosts are names"),
        ("A", Written(header="X Y"), "name of a header"),
        ("A", Written(header="transfer-Encoding"), "how to read a request"),
    ],
)
def test_secret_that_cannot_be_is_refused_without_its_value(
    name: str, secret: Written, says: str
) -> None:
    with pytest.raises(InvalidSecret, match=says) as raised:
        parse_secrets({name: secret})
    assert VALUE not in str(raised.value)


def test_there_are_so_many_secrets_and_so_much_of_them() -> None:
    many = {f"A{number}": Written() for number in range(MAX_SECRETS + 1)}
    much = {f"A{number}": Written("x" * MAX_VALUE) for number in range(MAX_ALL_VALUES // MAX_VALUE)}
    hosts = [f"h{number}.example" for number in range(32)]

    with pytest.raises(InvalidSecret, match="33 secrets"):
        parse_secrets(many)
    assert len(parse_secrets(much)) == 2
    with pytest.raises(InvalidSecret, match="all values together"):
        parse_secrets({**much, "more": Written()})
    with pytest.raises(InvalidSecret, match="together name more"):
        parse_secrets({f"A{number}": Written(hosts=hosts) for number in range(5)})


@pytest.mark.parametrize(
    ("host", "may"),
    [
        ("api.example", True),
        ("a.w.example", True),
        ("b.a.w.example", True),
        ("w.example", False),
        ("xw.example", False),
        ("x.api.example", False),
        ("api.example.evil", False),
        (None, False),
    ],
)
def test_only_named_hosts_may_have_it(host: str | None, may: bool) -> None:
    secret = Secret("A", "placeholder", ("api.example", "*.w.example"), None, VALUE)
    keyring = Keyring((secret,), "", "")

    assert secret.is_for(host) is may
    assert bool(keyring.meant_for(host)) is may
    assert bool(keyring.kept_from(host)) is not may
