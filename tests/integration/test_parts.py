# SPDX-License-Identifier: Apache-2.0
"""Ranges of files on the wire, and downloads whose connection breaks."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from atoll import Atoll
from tests.support.api import Answer, Api
from tests.support.cutter import Cutter

MIB = 1 << 20
SIZE = 32 * MIB
BREAK_AFTER = 5 * MIB
OCTETS = {"Accept": "application/octet-stream"}


@pytest.fixture(scope="module")
def content(api: Api, sandbox_id: str) -> bytes:
    """What `/srv/parts` holds, of a time long gone."""
    data = os.urandom(SIZE)
    target = f"/v1/sandboxes/{sandbox_id}/files?path=/srv/parts"
    api.call("PUT", target, data, headers={"Content-Type": "application/octet-stream"})
    api.execute(sandbox_id, "touch -d 2001-01-01 /srv/parts")
    return data


def get(api: Api, sandbox_id: str, asked: str, **headers: str) -> Answer:
    target = f"/v1/sandboxes/{sandbox_id}/files?path=/srv/parts"
    return api.call("GET", target, headers={**OCTETS, "Range": asked, **headers})


@pytest.mark.parametrize(
    ("asked", "first", "last"),
    [
        ("bytes=0-0", 0, 0),
        ("bytes=300000-600000", 300_000, 600_000),
        (f"bytes={SIZE - 3}-", SIZE - 3, SIZE - 1),
        ("bytes=-3", SIZE - 3, SIZE - 1),
        (f"bytes=0-{10**30}", 0, SIZE - 1),
        (f"bytes=-{10**30}", 0, SIZE - 1),
    ],
)
def test_a_range_is_a_part(
    api: Api, sandbox_id: str, content: bytes, asked: str, first: int, last: int
) -> None:
    answer = get(api, sandbox_id, asked)

    assert (answer.status, answer.body) == (206, content[first : last + 1])
    assert answer.headers["content-range"] == f"bytes {first}-{last}/{SIZE}"
    assert answer.headers["content-length"] == f"{last - first + 1}"


@pytest.mark.parametrize(
    "asked",
    ["bytes=1-0", "bytes=-1-5", "bytes=a-b", "bytes=0-1,3-4", "octets=0-1", "bytes", "=", "\xff"],
)
def test_nonsense_is_the_whole(api: Api, sandbox_id: str, content: bytes, asked: str) -> None:
    answer = get(api, sandbox_id, asked)

    assert (answer.status, answer.body) == (200, content)


@pytest.mark.parametrize(
    "asked", [f"bytes={SIZE}-", "bytes=-0", f"bytes={2**63}-", f"bytes={10**4000}-{10**4000}"]
)
def test_a_range_outside_says_how_large_the_file_is(
    api: Api, sandbox_id: str, content: bytes, asked: str
) -> None:
    answer = get(api, sandbox_id, asked)

    assert (answer.status, answer.error["code"]) == (416, "RANGE_NOT_SATISFIABLE")
    assert answer.headers["content-range"] == f"bytes */{len(content)}"


@pytest.mark.parametrize("path", ["/none", "/srv"])
def test_a_range_of_what_is_no_file_is_an_error_like_any_other(
    api: Api, sandbox_id: str, path: str
) -> None:
    target = f"/v1/sandboxes/{sandbox_id}/files?path={path}"

    ranged, whole = (
        api.call("GET", target, headers={**OCTETS, **more}) for more in ({"Range": "bytes=5-"}, {})
    )

    assert (ranged.status, ranged.error["code"]) == (whole.status, whole.error["code"])


def test_a_changed_file_has_another_tag(api: Api, sandbox_id: str, content: bytes) -> None:
    tag = get(api, sandbox_id, "bytes=0-0").headers["etag"]
    same = get(api, sandbox_id, "bytes=0-0", **{"If-Range": tag})
    api.execute(sandbox_id, "touch -d 2002-02-02 /srv/parts")

    other = get(api, sandbox_id, "bytes=0-0", **{"If-Range": tag})

    assert (same.status, other.status) == (206, 200)
    assert other.body == content
    assert other.headers["etag"] != tag


def test_a_broken_download_goes_on_where_it_broke(
    api: Api, sandbox_id: str, content: bytes, tmp_path: Path
) -> None:
    with (
        Cutter(api.server.port, lambda: BREAK_AFTER) as cutter,
        Atoll(api_url=cutter.url, api_key=api.server.api_key) as client,
    ):
        sandbox = client.sandboxes.get(sandbox_id)

        size = sandbox.files.download("/srv/parts", tmp_path / "parts")

    assert size == SIZE
    assert (tmp_path / "parts").read_bytes() == content
    assert cutter.cuts >= SIZE // BREAK_AFTER - 1
    # Begun anew each time it would have been several times as much.
    assert cutter.passed < 2 * SIZE
