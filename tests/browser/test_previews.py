# SPDX-License-Identifier: Apache-2.0
"""What a browser makes of a preview, and of several beside each other: it, not we, keeps origins apart."""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import urlsplit

import pytest

from atoll import PortInfo, Sandbox
from tests.browser.conftest import PRIVATE_PORT
from tests.support.browser import Page, PageError
from tests.support.server import ServerProcess

TOKEN = "atoll-preview-token"
_TALK = """
new Promise((resolve, reject) => {
    const peer = new WebSocket(new URL("ws", location.href).href.replace(/^http/, "ws"));
    const heard = [];
    peer.onopen = () => ["one", "two", "three"].forEach(word => peer.send(word));
    peer.onerror = () => reject(new Error("no WebSocket"));
    peer.onmessage = message => {
        heard.push(message.data);
        if (heard.length === 3) peer.close(1000);
    };
    peer.onclose = () => resolve(heard);
})
"""

Form = Callable[[PortInfo], str]


def by_host(exposed: PortInfo) -> str:
    return exposed.url


@pytest.fixture
def by_path(server: ServerProcess) -> Form:
    return lambda exposed: f"{server.url}/p/{urlsplit(exposed.url).netloc.partition('.')[0]}/"


@pytest.fixture(params=["by host", "by path"])
def form(request: pytest.FixtureRequest, by_path: Form) -> Form:
    return by_host if request.param == "by host" else by_path


def test_page_loads_and_talks_over_its_websocket(page: Page, preview: PortInfo, form: Form) -> None:
    page.open(form(preview) + "html")

    assert page.run("document.querySelector('h1').textContent") == "a page"
    assert page.run(_TALK) == ["one", "two", "three"]


def test_page_cannot_read_another_preview(
    page: Page, preview: PortInfo, neighbour: PortInfo, form: Form
) -> None:
    page.open(form(preview) + "html")

    with pytest.raises(PageError, match="Failed to fetch"):
        page.run(f"fetch('{form(neighbour)}plain').then(answer => answer.text())")
    assert page.run(f"fetch('{form(preview)}plain', {{mode: 'no-cors'}}).then(() => 'sent')")
    page.run(_frame(form(neighbour) + "html"))
    assert page.run("document.querySelector('iframe').contentDocument === null")


def test_page_does_not_get_cookies_of_another_preview(
    page: Page, preview: PortInfo, neighbour: PortInfo
) -> None:
    page.open(neighbour.url + "cookies")  # which asks for the domain of both
    assert page.run("document.cookie") == "b=2"
    page.run("document.cookie = 'planted=1; path=/; domain=localhost'")

    page.open(preview.url + "html")

    assert page.run("document.cookie") == ""
    told = page.run("fetch('told').then(answer => answer.json())")
    assert "cookie" not in dict(told["headers"])


def test_page_by_path_has_no_storage_and_does_not_reach_the_api(
    page: Page, server: ServerProcess, preview: PortInfo, by_path: Form
) -> None:
    page.open(by_path(preview) + "html")

    assert page.run("window.origin") == "null"
    for script in ("document.cookie", "localStorage.length", "indexedDB.open('x')"):
        with pytest.raises(PageError, match="SecurityError"):
            page.run(script)
    with pytest.raises(PageError, match="Failed to fetch"):
        page.run(f"fetch('{server.url}/v1/health').then(answer => answer.text())")


def test_signed_url_opens_a_private_preview_and_is_not_seen_again(
    page: Page, sandbox: Sandbox, private: PortInfo
) -> None:
    signed = sandbox.ports.sign(PRIVATE_PORT, lasts_ms=600_000).url
    token = signed.partition(f"{TOKEN}=")[2]
    assert token

    page.open(signed.replace("/?", "/html?a=1&"))
    seen = {
        "location": page.run("location.href"),
        "referrer": page.run("document.referrer"),
        "cookie": page.run("document.cookie"),
        "history": page.addresses(),
        "told": page.run("fetch('told').then(answer => answer.json())"),
    }
    page.run("document.querySelector('a').click()")
    told = page.wait_for("location.pathname === '/told' && document.body.textContent")

    assert seen["location"] == f"{private.url}html?a=1"
    assert token not in repr(seen)
    assert token not in told
    assert f"{private.url}html?a=1" in told  # as the referrer of the second page


def test_private_preview_does_not_open_in_another_profile(
    page: Page, sandbox: Sandbox, private: PortInfo
) -> None:
    page.open(private.url)

    assert page.run("document.querySelector('h1').textContent") == "no such preview"
    with pytest.raises(PageError, match="no WebSocket"):
        page.run(_TALK)


def test_page_of_a_private_preview_talks_over_its_websocket(
    page: Page, sandbox: Sandbox, private: PortInfo
) -> None:
    page.open(sandbox.ports.sign(PRIVATE_PORT, lasts_ms=600_000).url.replace("/?", "/html?"))

    assert page.run(_TALK) == ["one", "two", "three"]


def test_site_that_is_left_for_is_not_told_of_the_token(
    page: Page, sandbox: Sandbox, private: PortInfo, preview: PortInfo
) -> None:
    page.open(sandbox.ports.sign(PRIVATE_PORT, lasts_ms=600_000).url.replace("/?", "/html?"))

    page.run(f"location.href = '{preview.url}told'")
    told = page.wait_for("location.pathname === '/told' && document.body.textContent")

    assert "referer" not in told
    assert TOKEN not in told


def test_port_where_nothing_listens_says_so_to_people(page: Page, sandbox: Sandbox) -> None:
    page.open(sandbox.expose_port(3999).url)

    assert page.run("document.body.innerText").endswith(
        "Nothing listens on port 3999 in this sandbox."
    )


def _frame(url: str) -> str:
    """A page within the page, once it has loaded."""
    return f"""
    new Promise(resolve => {{
        const frame = document.createElement("iframe");
        frame.onload = () => resolve(true);
        frame.src = "{url}";
        document.body.append(frame);
    }})
    """
