"""A real headless Chromium for the tests: Playwright's Python package with the browser of the operating system."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from typing import Any

import pytest

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
_PATIENCE_S = 30.0
HOW = "run it with: pip install 'atommem-gym[browser]', and apt-get install chromium (or CHROMIUM=/path/to/one)"


def find_chromium() -> tuple[str | None, list[str]]:
    """The path of a Chromium on this machine, if there is one, and the arguments that it needs."""
    path = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, _NAMES)), None)
    # A container's root may not use the sandbox of the browser.
    return path, [] if not hasattr(os, "geteuid") or os.geteuid() else ["--no-sandbox"]


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """The browser; import it into a test module to use it.

    Not for the whole session: while Playwright runs, no other test of the process could use ``asyncio.run``.
    """
    sync_api = pytest.importorskip("playwright.sync_api", reason=f"needs playwright; {HOW}")
    path, arguments = find_chromium()
    if path is None:
        pytest.skip(f"needs a Chromium; {HOW}")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=arguments)
        yield browser
        browser.close()


class Sight:
    """A page that is looked at without a network, and all that it must not do.

    Args:
        browser: Opens it.
        url: The page.
        ready: What is there once the page shows something.
        **options: Of the browser's context, such as ``offline=False`` for a page that a server of the test has.
    """

    def __init__(self, browser: Any, url: str, ready: str = "#step .panels", **options: Any) -> None:
        self.requests: list[str] = []
        self.complaints: list[str] = []
        self._context = browser.new_context(**{"offline": True, **options})
        self.page = self._context.new_page()
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("console", lambda message: self.complaints.append(f"{message.type}: {message.text}"))
        self.page.on("pageerror", lambda error: self.complaints.append(f"error: {error}"))
        self.page.on("dialog", lambda dialog: self.complaints.append(f"dialog: {dialog.message}"))
        self.page.goto(url)
        self.page.wait_for_selector(ready)

    def close(self) -> None:
        self._context.close()

    def press(self, *keys: str) -> None:
        for key in keys:
            self.page.keyboard.press(key)

    def text(self, selector: str) -> str:
        return str(self.page.locator(selector).first.inner_text())

    def texts(self, selector: str) -> list[str]:
        return list(self.page.locator(selector).all_inner_texts())

    def wait(self, expression: str) -> None:
        """Until an expression holds; Playwright's own waiting needs `eval`, which the page's policy forbids."""
        end = time.monotonic() + _PATIENCE_S
        while not self.page.evaluate(expression):
            assert time.monotonic() < end, f"never true: {expression}"
            self.page.wait_for_timeout(10)
