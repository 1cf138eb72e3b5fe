# SPDX-License-Identifier: Apache-2.0
"""Secrets over HTTP: taken, never told."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.api.memory import Client

pytestmark = pytest.mark.anyio

VALUE = "sk-the-value-of-this-secret"
SECRET = {"value": VALUE, "hosts": ["API.example", "*.w.example."], "header": "Authorization"}


async def create(client: Client, **fields: object) -> Any:
    body = {"image": "host", "network": {"egress": {}}, "secrets": {"KEY": SECRET}, **fields}
    return await client.request("POST", "/v1/sandboxes", body)


async def test_secret_is_shown_without_its_value() -> None:
    client = Client()

    answer = await create(client)

    assert answer.status == 201
    assert answer.json["secrets"] == {
        "KEY": {"hosts": ["api.example", "*.w.example"], "header": "Authorization"}
    }
    got = await client.request("GET", f"/v1/sandboxes/{answer.json['id']}")
    listed = await client.request("GET", "/v1/sandboxes")
    for told in (answer, got, listed):
        assert VALUE not in str(told.json)


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"network": None}, "give `network` a policy"),
        ({"network": {"egress": {"default": "none"}}}, "give `network` a policy"),
        ({"env": {"KEY": "x"}}, "leave one out"),
        ({"secrets": {"KEY": {**SECRET, "value": 7}}}, "`secrets[...].value`: expected str"),
        ({"secrets": {"KEY": {**SECRET, "value": VALUE + "\n"}}}, "line break"),
        (
            {"secrets": {"KEY": {**SECRET, "value": VALUE * 2000}}},
            "`secrets[KEY].value` must be at",
        ),
        ({"secrets": {"KEY": {**SECRET, "hosts": []}}}, "`secrets[KEY].hosts` must have 1 to 32"),
        ({"secrets": {"KEY": {**SECRET, "hosts": ["*"]}}}, "hosts are names"),
        ({"secrets": {"KEY": {**SECRET, "more": VALUE}}}, "known: value, hosts, header"),
        ({"secrets": {"KEY": {"value": VALUE}}}, "field `hosts` is missing"),
        ({"secrets": {"KEY": VALUE}}, "expected object"),
        ({"secrets": [SECRET]}, "expected object"),
        ({"secrets": {f"K{n}": SECRET for n in range(33)}}, "at most 32 entries"),
    ],
)
async def test_secret_that_cannot_be_is_refused_without_its_value(
    fields: dict[str, object], says: str
) -> None:
    answer = await create(Client(), **fields)

    assert (answer.status, answer.json["error"]["code"]) == (400, "INVALID_CONFIG")
    assert says in answer.json["error"]["message"]
    assert VALUE not in str(answer.json)


async def test_name_that_stands_twice_is_refused() -> None:
    one = f'{{"value": "{VALUE}", "hosts": ["a.test"]}}'
    body = f'{{"image": "host", "network": {{}}, "secrets": {{"A": {one}, "A": {one}}}}}'

    answer = await Client().request("POST", "/v1/sandboxes", body.encode())

    assert answer.status == 400
    assert "stands twice" in answer.json["error"]["message"]
