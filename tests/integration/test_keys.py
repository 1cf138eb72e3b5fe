# SPDX-License-Identifier: Apache-2.0
"""What a key may do, and who may make one: item 88 of the checklist, as a plain program and the command line see it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.api import Answer, Api
from tests.support.server import API_KEY, ServerProcess


@pytest.fixture
def keys(api: Api) -> Iterator[Keys]:
    keys = Keys(api)
    yield keys
    for key_id in keys.made:
        api.call("DELETE", f"/v1/keys/{key_id}")


class Keys:
    """Makes keys that end with the test."""

    def __init__(self, api: Api) -> None:
        self.made: list[str] = []
        self._api = api

    def make(self, *scopes: str, key: str = "", **fields: object) -> dict[str, Any]:
        answer = self._api.call("POST", "/v1/keys", {"scopes": scopes, **fields}, key=key)
        assert answer.status == 201, answer.body
        record: dict[str, Any] = answer.json()
        self.made.append(record["id"])
        return record


def refused(answer: Answer) -> bool:
    return (answer.status, answer.error["code"]) == (403, "FORBIDDEN")


def test_a_key_that_only_reads_lists_and_gets_and_changes_nothing(
    api: Api, keys: Keys, sandbox_id: str
) -> None:
    """Item 88."""
    key = keys.make("sandbox:read")["key"]
    sandbox = f"/v1/sandboxes/{sandbox_id}"
    before = api.count()

    listed = api.call("GET", "/v1/sandboxes", key=key)
    got = api.call("GET", sandbox, key=key)
    refusals = [
        api.call("POST", "/v1/sandboxes", {"image": "host"}, key=key),
        api.call("POST", f"{sandbox}/execute", {"command": "touch /tmp/ran"}, key=key),
        api.call("PUT", f"{sandbox}/files?path=/tmp/ran", {"content": ""}, key=key),
        api.call("POST", f"{sandbox}/files/mkdir", {"path": "/tmp/ran"}, key=key),
        api.call("GET", f"{sandbox}/files?path=/etc/passwd", key=key),
        api.call("DELETE", f"{sandbox}/files?path=/etc/passwd", key=key),
        api.call("DELETE", sandbox, key=key),
        api.call("GET", "/v1/keys", key=key),
        api.call("POST", "/v1/keys", {}, key=key),
        api.call("DELETE", f"/v1/keys/{keys.made[0]}", key=key),
    ]

    assert sandbox_id in [item["id"] for item in listed.json()["data"]]
    assert got.json()["state"] == "running"
    assert all(refused(answer) for answer in refusals), [answer.body for answer in refusals]
    assert "sandbox:create" in refusals[0].error["message"]
    assert api.count() == before
    assert api.execute(sandbox_id, "ls /tmp/ran").json()["exitCode"] == 2
    assert api.get(sandbox_id)["state"] == "running"


@pytest.mark.parametrize(
    ("scope", "verb", "body"),
    [
        ("sandbox:execute", "execute", {"command": "true"}),
        ("sandbox:files", "files/mkdir", {"path": "/tmp/d", "parents": True}),
    ],
)
def test_a_scope_opens_its_own_routes_and_no_other(
    api: Api, keys: Keys, sandbox_id: str, scope: str, verb: str, body: dict[str, object]
) -> None:
    key = keys.make(scope)["key"]

    assert api.call("POST", f"/v1/sandboxes/{sandbox_id}/{verb}", body, key=key).status == 200
    assert refused(api.call("GET", f"/v1/sandboxes/{sandbox_id}", key=key))


def test_a_new_key_is_shown_once_and_listed_without_its_text(api: Api, keys: Keys) -> None:
    made = keys.make("sandbox:files", "sandbox:read", name="ci")

    listed = api.call("GET", "/v1/keys")

    assert made["key"].startswith("rra_live_")
    assert made["key"] not in listed.body.decode()
    assert {**made, "key": None} in listed.json()["data"]
    assert (made["name"], made["source"]) == ("ci", "created")
    assert made["scopes"] == ["sandbox:files", "sandbox:read"]


def test_without_scopes_a_key_may_do_everything_but_manage_keys(api: Api, keys: Keys) -> None:
    made = api.call("POST", "/v1/keys", {}).json()
    keys.made.append(made["id"])

    assert made["scopes"] == ["sandbox:*"]
    assert api.call("GET", "/v1/sandboxes", key=made["key"]).status == 200
    assert refused(api.call("GET", "/v1/keys", key=made["key"]))


def test_a_key_makes_no_key_that_may_do_more_than_itself(api: Api, keys: Keys) -> None:
    manager = keys.make("keys:manage", "sandbox:read")["key"]
    count = len(api.call("GET", "/v1/keys").json()["data"])

    assert refused(api.call("POST", "/v1/keys", {"scopes": ["full"]}, key=manager))
    assert refused(api.call("POST", "/v1/keys", {}, key=manager))
    assert len(api.call("GET", "/v1/keys").json()["data"]) == count
    assert keys.make("sandbox:read", key=manager)["scopes"] == ["sandbox:read"]


def test_a_withdrawn_key_opens_nothing_from_then_on(api: Api, keys: Keys) -> None:
    made = keys.make("sandbox:read")

    before = api.call("GET", "/v1/sandboxes", key=made["key"])
    removed = api.call("DELETE", f"/v1/keys/{made['id']}")
    after = api.call("GET", "/v1/sandboxes", key=made["key"])
    again = api.call("DELETE", f"/v1/keys/{made['id']}")

    assert (before.status, removed.status, after.status) == (200, 204, 401)
    assert (again.status, again.error["code"]) == (404, "KEY_NOT_FOUND")


def test_a_key_of_the_settings_is_listed_as_such_and_stays(api: Api) -> None:
    (configured,) = [
        key for key in api.call("GET", "/v1/keys").json()["data"] if key["source"] == "settings"
    ]

    removed = api.call("DELETE", f"/v1/keys/{configured['id']}")

    assert (configured["scopes"], configured["createdAt"]) == (["full"], None)
    assert (removed.status, removed.error["code"]) == (400, "INVALID_REQUEST")
    assert "settings" in removed.error["message"]
    assert api.call("GET", "/v1/keys").status == 200


@pytest.mark.parametrize(
    "fields",
    [
        {"scopes": []},
        {"scopes": ["sandbox:everything"]},
        {"scopes": ["sandbox:read sandbox:files"]},
        {"scopes": "sandbox:read"},
        {"scopes": [1]},
        {"scopes": ["sandbox:read"] * 33},
        {"scopes": None},
        {"name": "x" * 129},
        {"name": "a\0"},
        {"name": 5},
        {"nonsense": 1},
    ],
    ids=str,
)
def test_a_key_that_cannot_be_is_an_invalid_request(api: Api, fields: dict[str, object]) -> None:
    count = len(api.call("GET", "/v1/keys").json()["data"])

    answer = api.call("POST", "/v1/keys", fields)

    assert (answer.status, answer.error["code"]) == (400, "INVALID_REQUEST")
    assert len(api.call("GET", "/v1/keys").json()["data"]) == count


@pytest.mark.parametrize("key_id", ["x", "key_", "key_%00", "k" * 5000, "%F0%9F%90%9A", "*"])
def test_an_unknown_key_is_not_found(api: Api, key_id: str) -> None:
    answer = api.call("DELETE", f"/v1/keys/{key_id}")

    assert (answer.status, answer.error["code"]) == (404, "KEY_NOT_FOUND")


def test_keys_survive_a_restart_and_the_last_that_manages_stays(own_server: ServerProcess) -> None:
    api = Api(own_server)
    reader = api.call("POST", "/v1/keys", {"scopes": ["sandbox:read"]}).json()
    gone = api.call("POST", "/v1/keys", {"scopes": ["sandbox:read"]}).json()
    owner = api.call("POST", "/v1/keys", {"scopes": ["full"]}).json()
    api.call("DELETE", f"/v1/keys/{gone['id']}")
    own_server.stop()
    # From now on the settings give none: what was made is all there is.
    own_server.api_key = ""
    own_server.start()
    own_server.api_key = owner["key"]

    assert api.call("GET", "/v1/sandboxes", key=API_KEY).status == 401
    assert api.call("GET", "/v1/sandboxes", key=gone["key"]).status == 401
    assert api.call("GET", "/v1/sandboxes", key=reader["key"]).status == 200
    assert len(api.call("GET", "/v1/keys").json()["data"]) == 2
    refusal = api.call("DELETE", f"/v1/keys/{owner['id']}")
    assert (refusal.status, refusal.error["code"]) == (400, "INVALID_REQUEST")
    assert "make another such key first" in refusal.error["message"]


def test_the_command_line_makes_lists_and_withdraws_keys(api: Api) -> None:
    made = atoll(api, "keys", "create", "--name", "ci", "--scopes", "sandbox:read")
    key = made.stdout.strip()
    row = next(line for line in atoll(api, "keys", "ls").stdout.splitlines() if " ci " in line)
    key_id = row.split()[0]

    reads = atoll(api, "ls", key=key)
    creates = atoll(api, "create", key=key)
    removed = atoll(api, "keys", "rm", key_id)
    after = atoll(api, "ls", key=key)
    again = atoll(api, "keys", "rm", key_id, "--json")

    assert key_id in made.stderr
    assert (row.split()[2:4], key in row) == (["sandbox:read", "created"], False)
    assert (reads.returncode, creates.returncode) == (0, 77)
    assert (removed.returncode, removed.stdout) == (0, f"{key_id}\n")
    assert after.returncode == 77
    assert (again.returncode, json.loads(again.stdout)) == (66, [])


def atoll(api: Api, *arguments: str, key: str = "") -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "ATOLL_URL": api.server.url, "ATOLL_API_KEY": key or api.server.api_key}
    command = [sys.executable, "-c", "from atoll.cli import main; main()", *arguments]
    return subprocess.run(
        command, env=env, capture_output=True, text=True, check=False, timeout=120
    )
