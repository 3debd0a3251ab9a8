"""Take the README's pictures of a report: its first screen and its viewer.

python -m tests.browser.pictures outputs/ghostworld docs/pictures
"""

import sys
from pathlib import Path

from ghosttrack.analysis.runs import newest
from tests.browser.conftest import CHROMIUM

WIDTH, FIRST, VIEWER = 1280, 784, 860


def main(outputs: Path, folder: Path) -> None:
    """Open the newest evaluation's report and write `first.png` and `viewer.png`."""
    from playwright.sync_api import (  # pyright: ignore[reportMissingImports]
        sync_playwright,
    )

    report = newest(outputs, "evaluations") / "report.html"
    folder.mkdir(exist_ok=True)
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": WIDTH, "height": FIRST})
        page.goto(report.resolve().as_uri())
        page.wait_for_selector(".track")
        page.screenshot(path=folder / "first.png")
        page.select_option("#viewer-choice", "confident and wrong")
        page.wait_for_timeout(300)
        page.locator(".track").first.focus()
        page.set_viewport_size({"width": WIDTH, "height": VIEWER})
        page.locator(".viewer").evaluate("box => box.scrollIntoView()")
        page.screenshot(path=folder / "viewer.png")
        browser.close()


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
