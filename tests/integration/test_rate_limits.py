# SPDX-License-Identifier: Apache-2.0
"""Too many requests: item 89 of the checklist. Nothing here depends on how fast anything is."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from atoll import Atoll, RateLimited
from tests.support.api import Answer, Api
from tests.support.server import ServerProcess


@pytest.fixture(scope="module")
def busy() -> Iterator[Api]:
    """A server with one request in about two minutes for each of its many keys."""
    settings = {
        "ATOLL_RATE_LIMIT_PER_SECOND": "0.008",
        "ATOLL_API_KEYS": ",".join(["test-key-0123456789", *(f"other-{n}" for n in range(10))]),
        "ATOLL_API_KEY": "",
    }
    yield from serve(settings)


def assert_limited(answer: Answer) -> None:
    assert (answer.status, answer.error["code"]) == (429, "RATE_LIMITED"), answer.body
    assert answer.error["retryable"] is True
    assert int(answer.headers["retry-after"]) >= 1
    assert f"{answer.headers['retry-after']} s" in answer.error["message"]


def test_too_many_requests_with_one_key_are_told_when_to_come_back(busy: Api) -> None:
    """Item 89."""
    first, second = [busy.call("GET", "/v1/sandboxes", key="other-0") for _ in range(2)]

    assert first.status == 200
    assert_limited(second)
    assert 100 < int(second.headers["retry-after"]) <= 125


def test_the_limit_of_one_key_is_not_that_of_another(busy: Api) -> None:
    for _ in range(2):
        busy.call("GET", "/v1/sandboxes", key="other-1")

    assert busy.call("GET", "/v1/sandboxes", key="other-2").status == 200
    assert busy.call("GET", "/v1/health", key="other-1").status == 200


def test_what_is_over_the_limit_has_no_effect(busy: Api) -> None:
    for _ in range(2):
        answer = busy.call("POST", "/v1/keys", {"name": "made"}, key="other-3")

    assert_limited(answer)
    names = [key["name"] for key in busy.call("GET", "/v1/keys", key="other-4").json()["data"]]
    assert names.count("made") == 1


def test_the_client_raises_rate_limited_where_the_wait_is_too_long(busy: Api) -> None:
    with Atoll(busy.server.url, "other-5") as client:
        client.sandboxes.list()
        with pytest.raises(RateLimited) as raised:
            client.sandboxes.list()

    assert raised.value.retryable


def test_wrong_keys_are_refused_until_there_are_too_many(unguessed: Api) -> None:
    answers = [unguessed.call("GET", "/v1/sandboxes", key=f"wrong-{n}") for n in range(10)]
    right = unguessed.call("GET", "/v1/sandboxes")
    without = unguessed.call("GET", "/v1/sandboxes", key=None)

    assert [answer.status for answer in answers] == [401] * 3 + [429] * 7
    assert_limited(answers[-1])
    assert_limited(right)  # else waiting would not slow a guesser down
    assert without.status == 401
    assert unguessed.call("GET", "/v1/health", key=None).status == 200


def test_the_socket_is_open_where_the_address_has_to_wait(unguessed: Api) -> None:
    for _ in range(10):
        unguessed.call("GET", "/v1/sandboxes", key="wrong")

    with Atoll(f"unix://{unguessed.server.socket}", unguessed.server.api_key) as client:
        assert client.sandboxes.list().total == 0


def test_right_keys_count_for_nothing(unguessed: Api) -> None:
    answers = [unguessed.call("GET", "/v1/sandboxes") for _ in range(20)]

    assert {answer.status for answer in answers} == {200}


def test_the_client_waits_as_long_as_it_is_told(four_a_second: Api) -> None:
    with Atoll(four_a_second.server.url, four_a_second.server.api_key, max_retries=8) as client:
        totals = [client.sandboxes.list().total for _ in range(6)]

    assert totals == [0] * 6


@pytest.fixture
def unguessed() -> Iterator[Api]:
    """A server that nobody else has tried wrong keys on."""
    yield from serve({"ATOLL_AUTH_FAILURES_PER_MINUTE": "3"})


@pytest.fixture
def four_a_second() -> Iterator[Api]:
    yield from serve({"ATOLL_RATE_LIMIT_PER_SECOND": "4"})


def serve(settings: dict[str, str]) -> Iterator[Api]:
    server = ServerProcess(settings)
    try:
        server.start()
        yield Api(server)
        server.stop()
    finally:
        server.kill()
        server.remove()
