# SPDX-License-Identifier: Apache-2.0
"""The rule that sandboxes which have ended are gone from the host."""

from __future__ import annotations

from tests.support.api import Api
from tests.support.inventory import find_leftovers

_PAGE = 100


def assert_host_is_clean(api: Api) -> None:
    """Nothing on the host names a sandbox of this server that is terminated."""
    ended: list[str] = []
    more = True
    while more:
        target = f"/v1/sandboxes?state=terminated&limit={_PAGE}&offset={len(ended)}"
        page = api.call("GET", target).json()
        ended += [sandbox["id"] for sandbox in page["data"]]
        more = page["pagination"]["hasMore"]
    left = find_leftovers(ended, [api.server.run_dir])
    assert not left, f"left behind by terminated sandboxes: {sorted(left)}"
