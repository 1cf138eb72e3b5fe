# SPDX-License-Identifier: Apache-2.0
"""How often one may ask, by a clock that the test moves."""

import dataclasses

import pytest

from atoll_server.api.auth import _address
from atoll_server.api.settings import ApiSettings
from tests.unit.api.memory import KEY, Answered, Client, Exchange, answered, make_scope

pytestmark = pytest.mark.anyio


async def ask(client: Client, key: str | None = KEY, *, host: str | None = "192.0.2.1") -> Answered:
    exchange = Exchange([b""])
    scope = make_scope("GET", "/v1/sandboxes", {}, key)
    await client.call({**scope, "client": None if host is None else (host, 1)}, exchange)
    return answered(exchange)


def limited(answer: Answered) -> bool:
    return (answer.status, answer.code) == (429, "RATE_LIMITED") and answer.json["error"][
        "retryable"
    ]


async def test_requests_of_a_key_are_limited_and_it_is_told_how_long() -> None:
    client = Client(settings=ApiSettings(rate_limit_per_second=0.1))

    first, second = await ask(client), await ask(client)
    client.engine.clock.advance(9.5)
    third = await ask(client)
    client.engine.clock.advance(0.5)

    assert first.status == 200
    assert limited(second)
    assert (second.headers[b"retry-after"], third.headers[b"retry-after"]) == (b"10", b"1")
    assert (await ask(client)).status == 200


async def test_as_many_as_a_second_allows_may_come_at_once() -> None:
    client = Client(settings=ApiSettings(rate_limit_per_second=5))

    statuses = [(await ask(client)).status for _ in range(7)]

    assert statuses == [200] * 5 + [429] * 2


async def test_without_a_setting_nothing_is_limited_but_wrong_keys() -> None:
    client = Client()

    right = [(await ask(client)).status for _ in range(200)]
    wrong = [(await ask(client, "wrong")).status for _ in range(62)]

    assert set(right) == {200}
    assert wrong == [401] * 60 + [429] * 2


async def test_while_an_address_has_to_wait_no_key_of_it_is_looked_at() -> None:
    client = Client(settings=dataclasses.replace(ApiSettings(), auth_failures_per_minute=1))

    await ask(client, "wrong")
    right, elsewhere, on_socket = (
        await ask(client),
        await ask(client, host="192.0.2.2"),
        await ask(client, host=None),
    )
    client.engine.clock.advance(60)

    assert limited(right)
    assert (elsewhere.status, on_socket.status) == (200, 200)
    assert (await ask(client)).status == 200


async def test_asking_without_a_key_is_no_guess() -> None:
    client = Client(settings=ApiSettings(auth_failures_per_minute=1))

    statuses = [(await ask(client, None)).status for _ in range(3)]

    assert [*statuses, (await ask(client)).status] == [401, 401, 401, 200]


@pytest.mark.parametrize(
    ("host", "counted_as"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::1", "2001:db8:1:2::/64"),
        ("::1", "::/64"),
        ("testclient", "testclient"),
    ],
)
async def test_wrong_keys_are_counted_for_what_one_guesser_has(host: str, counted_as: str) -> None:
    assert _address({"client": (host, 1)}) == counted_as
