# SPDX-License-Identifier: Apache-2.0
"""A browser for the whole run, a page of its own for each test, and two sandboxes to visit."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from atoll import Atoll, PortInfo, Sandbox
from tests.support.api import Api
from tests.support.browser import Browser, Page, find_browser, running_browser
from tests.support.cleanliness import assert_host_is_clean
from tests.support.preview import serve_app
from tests.support.server import HOUR_MS, ServerProcess

PORT, OTHER_PORT, PRIVATE_PORT = 3000, 3001, 3002


@pytest.fixture(scope="module", autouse=True)
def _clean_host(server: ServerProcess) -> Iterator[None]:
    """Looks once a module has ended, after its tests' sandboxes are gone."""
    yield
    assert_host_is_clean(Api(server))


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    program = find_browser()
    if program is None:
        pytest.skip("needs chromium")
    with running_browser(program) as browser:
        yield browser


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    with browser.page() as page:
        yield page


@pytest.fixture(scope="module")
def sandbox(server: ServerProcess, runtime: str) -> Iterator[Sandbox]:
    with (
        Atoll(api_url=server.url, api_key=server.api_key) as client,
        client.sandboxes.create("host", runtime=runtime, timeout_ms=HOUR_MS) as sandbox,
    ):
        yield sandbox


@pytest.fixture(scope="module")
def preview(sandbox: Sandbox) -> PortInfo:
    serve_app(sandbox, PORT)
    return sandbox.expose_port(PORT)


@pytest.fixture(scope="module")
def neighbour(sandbox: Sandbox) -> PortInfo:
    """Another preview. That it is one of the same sandbox makes no difference to a browser."""
    serve_app(sandbox, OTHER_PORT)
    return sandbox.expose_port(OTHER_PORT)


@pytest.fixture(scope="module")
def private(sandbox: Sandbox) -> PortInfo:
    serve_app(sandbox, PRIVATE_PORT)
    return sandbox.expose_port(PRIVATE_PORT, private=True)
