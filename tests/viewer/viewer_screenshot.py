"""Takes the picture of docs/viewer.md: python tests/viewer/viewer_screenshot.py docs/viewer.png"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from support.example_traces import example_traces

from atommem_gym.viewer import write_page

PLACE = "#10/2"
"""Episode and step that are shown."""


def main(picture: str) -> None:
    from playwright.sync_api import sync_playwright
    from support.browser import find_chromium

    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        page_file = Path(folder) / "page.html"
        write_page(example_traces(8), page_file, title="generated world")
        path, arguments = find_chromium()
        browser = playwright.chromium.launch(executable_path=path, args=arguments)
        page = browser.new_page(viewport={"width": 1440, "height": 900}, color_scheme="light")
        page.goto(page_file.as_uri() + PLACE)
        page.wait_for_selector("#step .panels")
        page.screenshot(path=picture)
        browser.close()


if __name__ == "__main__":
    main(sys.argv[1])
