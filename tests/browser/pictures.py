"""Take the pictures of the demo that the documentation shows.

python -m tests.browser.pictures
"""

from __future__ import annotations

import sys
from pathlib import Path

from playwright.sync_api import Page, expect

from ..support.chromium import Chromium
from ..support.png import without_filters
from .test_demo import OUTAGE, Demo, fill_cart, log_in, run

FIGURES = Path(__file__).parents[2] / "docs" / "figures"
LARGEST = 250_000
WIDE = {"width": 1280, "height": 900}
PHONE = {"width": 375, "height": 812}


def wide(page: Page, path: Path) -> None:
    """All of the proofs, after they were run."""
    fill_cart(page)
    log_in(page, "Ann")
    run(page, "clicks")
    run(page, "logout")
    run(page, "outage", OUTAGE)
    expect(page.locator("#faults-result")).to_contain_text("The same visitor")
    shown = page.locator(".cards").bounding_box()
    assert shown is not None
    height = shown["y"] + shown["height"] + page.evaluate("scrollY") + 24
    area = {"x": 0, "y": 0, "width": WIDE["width"], "height": height}
    page.mouse.move(0, 0)
    page.evaluate("document.activeElement.blur()")
    page.screenshot(path=path, clip=area, full_page=True)


def phone(page: Page, path: Path) -> None:
    """The first proof on a phone."""
    run(page, "clicks")
    page.evaluate("document.activeElement.blur()")
    page.locator("li.proof").first.scroll_into_view_if_needed()
    page.evaluate("document.querySelector('li.proof').scrollIntoView()")
    page.evaluate("scrollBy(0, -16)")
    page.screenshot(path=path)


def take(chromium: Chromium, url: str) -> int:
    """Take all pictures; return the exit status."""
    for name, size, draw in (("demo", WIDE, wide), ("demo-phone", PHONE, phone)):
        page = chromium.new_context(viewport=size, color_scheme="light").new_page()
        page.goto(url)
        path = FIGURES / f"{name}.png"
        draw(page, path)
        path.write_bytes(without_filters(path.read_bytes()))
        length = path.stat().st_size
        print(f"{path.name}: {length // 1000} kB")
        if length > LARGEST:
            print(f"{path.name} is larger than {LARGEST} bytes", file=sys.stderr)
            return 1
    return 0


def main() -> int:
    chromium, demo = Chromium(), Demo()
    try:
        return chromium.run(take, chromium, demo.url)
    finally:
        demo.terminate()
        chromium.close()


if __name__ == "__main__":
    sys.exit(main())
