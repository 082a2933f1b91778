"""The browser of these tests does what other tests trust it to."""

from __future__ import annotations

import asyncio

import pytest

pytestmark = pytest.mark.browser

SCRIPT = "data:text/html,<script>{}</script>"


def test_options_reach_the_page(new_context):
    """A context has the size, the colors and the motion that it is told."""
    context = new_context(
        viewport={"width": 320, "height": 640},
        color_scheme="dark",
        reduced_motion="reduce",
    )
    page = context.new_page()
    assert page.evaluate("innerWidth") == 320
    for query in ("(prefers-color-scheme: dark)", "(prefers-reduced-motion: reduce)"):
        assert page.evaluate("q => matchMedia(q).matches", query), query


@pytest.mark.parametrize(
    "wrong", ["console.error('it is wrong')", "throw new Error('it is wrong')"]
)
def test_errors_of_pages_are_found(page, console, contexts, wrong):
    """An error of a page is found, and one that is expected is not."""
    page.goto(SCRIPT.format(wrong))
    assert ["it is wrong" in error for error in console.unexpected(contexts)] == [True]
    console.allow("is wrong")
    assert console.unexpected(contexts) == []


@pytest.mark.gen_test
async def test_other_tests_have_their_loop(chromium):
    """A test with a loop of its own runs while Chromium does."""
    await asyncio.sleep(0)
