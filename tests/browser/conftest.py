"""Fixtures of the browser tests: one JupyterLab and one Chromium for all tests, reused pages, pictures of failures."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import expect

from tests.browser.lab import CHROMIUM_FLAGS, Lab, Server, chromium, serving

#: Time limit for a page to look as expected, in milliseconds: Playwright's own five seconds are not enough on a busy
#: machine.
expect.set_options(timeout=20_000)

_FAILED = pytest.StashKey[bool]()
_HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark each test here as a browser test with a longer time limit, and skip it without a browser."""
    skip = pytest.mark.skip(reason="no Chromium on this machine (Debian: apt-get install chromium)")
    for item in items:
        if _HERE in item.path.parents:
            item.add_marker(pytest.mark.browser)
            item.add_marker(pytest.mark.timeout(240))
            if chromium() is None:
                item.add_marker(skip)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[Any]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Tell the page's fixture whether the test failed."""
    report = yield
    if report.when == "call":
        item.stash[_FAILED] = report.failed
    return report


@pytest.fixture(scope="package")
def jupyterlab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Start the JupyterLab that all tests in this folder use."""
    yield from serving(tmp_path_factory.mktemp("jupyter"))


@pytest.fixture
def server(jupyterlab: Server) -> Server:
    """Return the server that a test uses."""
    return jupyterlab


@pytest.fixture(scope="package")
def browser() -> Iterator[Any]:
    """Start a headless Chromium. Its scope is not the session: an event loop runs in this thread while it lives."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=list(CHROMIUM_FLAGS))
        try:
            yield browser
        finally:
            browser.close()


@pytest.fixture(scope="package")
def profile(browser: Any) -> Iterator[Any]:
    """Open the browser context of all pages, whose cache makes an application load quickly."""
    profile = browser.new_context()
    yield profile
    profile.close()


@pytest.fixture(scope="package")
def pages(jupyterlab: Server, profile: Any) -> Iterator[list[Lab]]:
    """Keep the JupyterLab pages that can be reused, at most one."""
    pages: list[Lab] = []
    yield pages
    for lab in pages:
        lab.close()


@pytest.fixture
def lab(server: Server, profile: Any, pages: list[Lab], request: pytest.FixtureRequest) -> Iterator[Lab]:
    """Open a page without a notebook."""
    lab = pages.pop() if pages and server.app == "lab" else Lab(server, profile)
    yield lab
    if request.node.stash.get(_FAILED, False):
        lab.screenshot(request.node.name)
        lab.close()
    elif lab.app == "lab":
        lab.clear()
        pages.append(lab)
    else:
        lab.close()


@pytest.fixture
def gate(tmp_path: Path) -> Path:
    """Return the path of a file that the tasks of a test wait for."""
    return tmp_path / "gate"
