# SPDX-License-Identifier: Apache-2.0
import pytest

from atoll_server.api.accept import preferred


@pytest.mark.parametrize(
    ("accept", "chosen"),
    [
        ("", "a/a"),
        ("*/*", "a/a"),
        ("B/B", "b/b"),
        ("b/b, a/a", "b/b"),
        ("a/a;q=0.1, b/b", "b/b"),
        ("b/b;q=0, */*", "a/a"),
        ("b/b;q=x", "a/a"),
        ("*/*, b/b", "a/a"),
        ("c/c", "a/a"),
        (",;,;q=", "a/a"),
    ],
)
def test_accept_chooses_the_form(accept: str, chosen: str) -> None:
    assert preferred(accept, ("a/a", "b/b")) == chosen
