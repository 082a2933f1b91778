"""The demo in a real browser: what its page claims is what happens."""

from __future__ import annotations

import json
import os
import re
import sys
import time
from base64 import b64decode
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import unquote

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import BrowserContext, Locator, Page, expect

from ..support.processes import Process, find_server, free_port

ROOT = Path(__file__).parents[2]
PATIENCE = 20_000
OUTAGE = 45_000
PROOFS = ["run-clicks", "run-logout", "run-outage", "run-ending"]

pytestmark = [pytest.mark.browser, pytest.mark.integration]

expect.set_options(timeout=PATIENCE)


class Demo(Process):
    """The demo, started with ``options``."""

    def __init__(self, *options: str) -> None:
        port = free_port()
        command = [sys.executable, "-m", "demo", f"--port={port}", *options]
        super().__init__(command, port, cwd=ROOT)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/"


@pytest.fixture(scope="module")
def demo() -> Iterator[Demo]:
    """The demo with a memcached of its own, and two processes."""
    find_server("memcached")
    demo = Demo()
    yield demo
    demo.terminate()


@pytest.fixture(scope="module")
def embedded() -> Iterator[Demo]:
    """The demo over the embedded store."""
    demo = Demo("--store=memory://")
    yield demo
    demo.terminate()


@pytest.fixture
def visit(demo: Demo, console) -> Callable[[Page], Page]:
    """Opens the demo's first page."""

    def visit(page: Page) -> Page:
        page.goto(demo.url)
        return page

    return visit


def run(page: Page, proof: str, timeout: float = PATIENCE) -> Locator:
    """Press a proof's button; return its card when its strip is there."""
    page.click(f"#run-{proof}")
    card = page.locator("li.proof", has=page.locator(f"#run-{proof}"))
    expect(card.locator(".strip h3")).to_be_visible(timeout=timeout)
    expect(page.locator(f"#run-{proof}")).not_to_have_attribute("aria-disabled", "true")
    return card


def log_in(page: Page, name: str) -> None:
    page.fill("#login-name", name)
    page.click("#login-here")
    expect(page.locator("#account-title")).to_have_text(f"{name}, you are logged in")
    expect(page.locator("#shop-strip .responded")).to_have_count(2)


def fill_cart(page: Page) -> None:
    page.click("#add-notebook")
    expect(page.locator("#cart")).to_contain_text("Notebook")
    expect(page.locator("#shop-strip .responded")).to_have_count(2)


def fingerprint(page: Page) -> str:
    return page.locator("#session .fingerprint").inner_text()


def process_of(page: Page) -> int:
    return int(page.locator("#process strong").inner_text())


def assert_fits(page: Page) -> None:
    assert page.evaluate("document.documentElement.scrollWidth") <= page.evaluate(
        "document.documentElement.clientWidth"
    )


def findings(page: Page) -> list[str]:
    """What axe-core finds, of all its rules."""
    # Between two colors of a button there is none that has to be read.
    page.evaluate("Promise.allSettled(document.getAnimations().map(a => a.finished))")
    results = Axe().run(page, options={"resultTypes": ["violations"]})
    return [
        f"{each['id']}: {node['html'][:200]}"
        for each in results.response["violations"]
        for node in each["nodes"]
    ]


# What the first screen says.


def test_the_first_screen_says_what_it_is_and_has_the_proofs(page, visit):
    """It has one sentence, three proofs with buttons, and the place of the sessions."""
    visit(page)
    expect(page.locator("h1")).to_have_text("Sessions for Tornado, kept in memcached")
    expect(page.locator(".lead")).to_contain_text("keeps your visitors’ sessions")
    expect(page.locator("li.proof")).to_have_count(3)
    for proof in PROOFS:
        expect(page.locator(f"#{proof}")).to_be_enabled()
        expect(page.locator(f"#{proof}")).to_be_in_viewport()
    said = page.locator("#process")
    expect(said).to_contain_text("kept in a memcached that this demo started")
    expect(said).to_contain_text("one of 2")


def test_the_embedded_store_is_called_so(page, embedded):
    """Over the embedded store the page says so, and why two proofs are off."""
    page.goto(embedded.url)
    expect(page.locator("h1")).to_have_text("Server-side sessions for Tornado")
    expect(page.locator("#process")).to_contain_text("in the memory of this process")
    expect(page.locator("footer")).not_to_contain_text("memcached.")
    for proof, reason in (("run-outage", "no-pause"), ("run-ending", "no-end")):
        expect(page.locator(f"#{proof}")).to_be_disabled()
        expect(page.locator(f"#{proof}")).to_have_attribute("aria-describedby", reason)
        expect(page.locator(f"#{reason}")).to_contain_text("memory")
    run(page, "clicks")
    expect(page.locator("#clicks-library .big")).to_have_text("50 of 50")
    run(page, "logout")
    expect(page.locator("#logout-library .big")).to_have_text("stays out")
    expect(page.locator("#logout-naive .big")).to_have_text("comes back")


def test_the_panel_says_how_long_the_session_lives(page, console):
    """The panel has the timeout that the demo was started with, in plain words."""
    demo = Demo("--store=memory://", "--idle-timeout=7200")
    try:
        page.goto(demo.url)
        fill_cart(page)
        panel = page.locator("#session")
        expect(panel).to_contain_text("at least 2 hours after your last visit")
        expect(panel).to_contain_text(re.compile(r"If you stay away, it ends\s+in 2 h"))
    finally:
        demo.terminate()


def test_without_scripts_the_shop_works(new_context, visit):
    """Without JavaScript the cart fills, and the page says that the proofs need it."""
    page = visit(new_context(java_script_enabled=False).new_page())
    expect(page.locator("noscript p")).to_be_visible()
    expect(page.locator("#run-clicks")).to_be_disabled()
    page.click("#add-notebook")
    expect(page.locator("#cart")).to_contain_text("Notebook")
    expect(page.locator("#flashes")).to_contain_text("Notebook: in your cart.")


def test_the_policy_lets_nothing_else_in(page, demo):
    """The page loads its own files only, and no other page can frame it."""
    answer = page.goto(demo.url)
    policy = answer.headers["content-security-policy"]
    assert "default-src 'self';" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert answer.headers["cache-control"] == "no-store"


# The proofs.


def test_fifty_clicks_are_counted_by_one_side_only(page, visit):
    """This library counts 50 of 50 clicks, and get-modify-set counts fewer."""
    visit(page)
    card = run(page, "clicks")
    expect(page.locator("#clicks-library .big")).to_have_text("50 of 50")
    lost = page.locator("#clicks-naive .big").inner_text()
    assert 0 < int(lost.split()[0]) < 50
    expect(page.locator("#clicks-library .dots .on")).to_have_count(50)
    result = page.locator("#clicks-result")
    expect(result).to_contain_text("This library: 50 of 50. Get–modify–set:")
    strip = card.locator(".strip")
    expect(strip).to_contain_text("50 requests, served by 2 processes: ")
    expect(strip).to_contain_text("50 × cas stored")
    expect(strip).to_contain_text("50 × get hit, 50 × set.")
    lines = strip.locator(".strip-line")
    expect(lines).to_have_count(2)
    steps = r"(\w+ (\w+ )?\d+\.\d ms)+then answered 200 \d+\.\d ms"
    for line in lines.all():
        assert re.fullmatch(steps, line.locator("ol").text_content().replace("  ", " "))


def test_a_logout_is_final_on_one_side_only(page, visit):
    """After a slow request this library's user is logged out, and the other is not."""
    visit(page)
    card = run(page, "logout")
    expect(page.locator("#logout-library .big")).to_have_text("stays out")
    expect(page.locator("#logout-naive .big")).to_have_text("comes back")
    expect(page.locator("#logout-result")).to_contain_text("Ada stays logged out")
    expect(card.locator(".strip-line")).to_have_count(6)
    slow = card.locator(".strip-line", has_text="Get–modify–set: the slow request")
    expect(slow).to_contain_text("set")


def test_a_slow_request_that_comes_late_is_sent_again(page, visit):
    """If the slow request arrives after the logout, the proof is run once more."""
    visit(page)
    late = []

    def hold(route):
        late.append(route)
        if len(late) > 1:
            route.continue_()

    def let_go(response):
        if response.url.endswith("/proof/naive/logout") and len(late) == 1:
            late[0].continue_()

    page.route("**/proof/naive/slow", hold)
    page.on("response", let_go)
    run(page, "logout")
    expect(page.locator("#logout-naive .big")).to_have_text("comes back")
    assert len(late) == 2


@pytest.mark.parametrize("width", [1280, 375])
def test_a_message_is_in_sight(page, visit, width):
    """What the shop says can be seen, from a button far down and after a logout."""
    page.set_viewport_size({"width": width, "height": 780})
    visit(page)
    flash = page.locator("#flashes .flash")
    page.click("#add-stamp")
    expect(flash).to_be_in_viewport(ratio=1)
    log_in(page, "Ann")
    page.click("#logout button")
    expect(flash).to_contain_text("You are logged out.")
    expect(flash).to_be_in_viewport(ratio=1)


def test_memcached_away_logs_nobody_out(page, visit, console):
    """While memcached is away there is a 503; then visitor, login and cart are back."""
    console.allow("status of 503")
    visit(page)
    fill_cart(page)
    log_in(page, "Grace")
    before = fingerprint(page)
    page.click("#run-outage")
    expect(page.locator("#faults-result")).to_contain_text("does not answer for ten")
    page.click("#add-pencil")
    flash = page.locator("#flashes .error")
    expect(flash).to_contain_text("503: We cannot reach your session right now")
    expect(page.locator("#account-title")).to_contain_text("Grace")
    result = page.locator("#faults-result")
    expect(result).to_contain_text("The same visitor: Ada", timeout=OUTAGE)
    expect(result).to_contain_text("got a 503")
    expect(page.locator("#faults-timeline .bad")).not_to_have_count(0)
    expect(page.locator("#faults-strip")).to_contain_text("unavailable")
    assert findings(page) == []
    page.reload()
    expect(page.locator("#account-title")).to_have_text("Grace, you are logged in")
    expect(page.locator("#cart")).to_contain_text("Notebook")
    assert fingerprint(page) == before


def test_an_ended_process_ends_no_session(page, visit, console):
    """When a process is killed, the other one answers the same visitor."""
    console.allow("ERR_CONNECTION_RESET|ERR_EMPTY_RESPONSE|status of 409")
    visit(page)
    fill_cart(page)
    log_in(page, "Grace")
    before = fingerprint(page)
    run(page, "ending")
    result = page.locator("#faults-result")
    expect(result).to_contain_text("The same visitor: Ada, logged in, 3 things")
    found = re.match(
        r"Process (\d+) was killed, and process (\d+) goes", result.inner_text()
    )
    killed, other = map(int, found.groups())
    assert killed != other
    with pytest.raises(ProcessLookupError):
        os.kill(killed, 0)
    page.reload()
    expect(page.locator("#account-title")).to_have_text("Grace, you are logged in")
    expect(page.locator("#cart")).to_contain_text("Notebook")
    assert fingerprint(page) == before
    assert process_of(page) != killed
    # Then there are two again, of which the demo will end one.
    deadline = time.monotonic() + 20
    while True:
        page.click("#run-ending")
        text = page.locator("#faults-result")
        expect(text).not_to_be_empty()
        expect(page.locator("#run-ending")).not_to_have_attribute(
            "aria-disabled", "true"
        )
        if "was killed" in text.inner_text():
            break
        assert "still starting" in text.inner_text()
        assert time.monotonic() < deadline


def test_the_demo_does_only_what_its_own_page_asks_for(page, visit):
    """Without the page's token no proof begins, and memcached is not stopped."""
    visit(page)
    for path in ("proof/pause", "proof/end-process", "proof/library/begin"):
        assert page.request.post(page.url + path).status == 403


# Who the visitor is.


def test_a_login_changes_the_fingerprint_and_keeps_the_cart(page, visit):
    """A login shows the fingerprints before and after, and never the id."""
    visit(page)
    fill_cart(page)
    before = fingerprint(page)
    log_in(page, "Ann")
    after = fingerprint(page)
    assert re.fullmatch("[A-Z]{4}", before)
    assert after != before
    change = page.locator("#fingerprint-change")
    expect(change).to_contain_text(before)
    expect(change).to_contain_text(after)
    expect(page.locator("#cart")).to_contain_text("Notebook")
    strip = page.locator("#shop-strip")
    expect(strip).to_contain_text("POST /login")
    expect(strip).to_contain_text("add stored")
    (cookie,) = (each for each in page.context.cookies() if each["name"] == "session")
    session_id = b64decode(unquote(cookie["value"]).split("|")[4].split(":")[1])
    assert session_id.decode() not in page.content()


def test_a_second_window_is_listed_and_can_be_logged_out(
    page, new_context, visit, console
):
    """Another browser is listed, until this one logs out everywhere else."""
    console.allow("status of 409")
    visit(page)
    log_in(page, "Twice")
    other = visit(new_context().new_page())
    log_in(other, "Twice")
    expect(other.locator(".devices li")).to_have_count(2)
    page.reload()
    expect(page.locator(".devices li")).to_have_count(2)
    expect(page.locator(".devices .tag")).to_have_text("this window")
    before = fingerprint(page)
    page.click("#end-others")
    expect(page.locator(".devices li")).to_have_count(1)
    assert fingerprint(page) != before
    expect(page.locator("#fingerprint-change")).to_contain_text(before)
    other.click("#add-notebook")
    expect(other.locator("#login-name")).to_be_visible()
    expect(other.locator("#flashes")).to_contain_text("ended elsewhere")
    other.click("#begin-anew")
    expect(other.locator("#session")).to_contain_text("There is none yet.")
    fill_cart(other)


def test_one_device_can_be_logged_out(page, new_context, visit):
    """The button beside a device logs out that one."""
    visit(page)
    log_in(page, "Once")
    other = visit(new_context().new_page())
    log_in(other, "Once")
    page.reload()
    page.locator(".devices button").click()
    expect(page.locator(".devices li")).to_have_count(1)
    expect(page.locator("#flashes")).to_contain_text("That device is logged out.")
    other.reload()
    expect(other.locator("#login-name")).to_be_visible()


def test_a_second_window_has_cookies_of_its_own(page, visit):
    """The link opens the demo under the other name of this machine, logged out."""
    visit(page)
    log_in(page, "Two")
    with page.expect_popup() as opened:
        page.click("#second-window")
    second = opened.value
    expect(second.locator("#name")).to_have_value("Two")
    assert second.url.startswith("http://localhost:")
    second.click("main button")
    expect(second.locator(".devices li")).to_have_count(2)
    # This window sees it when it gets the focus again.
    page.evaluate("dispatchEvent(new Event('focus'))")
    expect(page.locator(".devices li")).to_have_count(2)


def test_going_back_after_a_logout_shows_nothing(page, visit):
    """After a logout, the back button shows no page of the visitor."""
    visit(page)
    fill_cart(page)
    log_in(page, "Private")
    page.click("text=Orders")
    expect(page.locator("h1")).to_have_text("Your orders")
    page.click("#logout button")
    expect(page.locator("#flashes")).to_contain_text("You are logged out.")
    page.go_back()
    expect(page.locator("h1")).to_have_text("Log in")
    page.go_back()
    expect(page.locator("#login-name")).to_be_visible()
    expect(page.locator("body")).not_to_contain_text("Private")
    expect(page.locator("#cart")).to_contain_text("Nothing in it yet.")


# What the shop says.


def test_the_logout_message_goes_when_shopping_goes_on(page, visit):
    """The line says that the visitor is logged out until the next click, no longer."""
    visit(page)
    log_in(page, "Leaving")
    page.click("#logout button")
    expect(page.locator("#flashes")).to_contain_text("You are logged out.")
    fill_cart(page)
    expect(page.locator("#flashes")).not_to_contain_text("logged out")
    page.reload()
    expect(page.locator("#flashes")).not_to_contain_text("logged out")


def test_a_slow_request_tells_what_became_of_its_change(page, new_context, visit):
    """It says that all is kept, or that the session was ended while it ran."""
    visit(page)
    log_in(page, "Slow")
    page.click("#slow")
    page.click("#add-pencil")
    expect(page.locator("#cart")).to_contain_text("Pencil")
    expect(page.locator("#flashes")).to_contain_text("all your changes are kept")
    expect(page.locator("#cart")).to_contain_text("Pencil")
    other = visit(new_context().new_page())
    log_in(other, "Slow")
    page.click("#slow")
    expect(page.locator("#flashes")).to_contain_text("is under way")
    other.click("#end-others")
    expect(other.locator(".devices li")).to_have_count(1)
    expect(page.locator("#flashes")).to_contain_text("changed nothing")
    expect(page.locator("#login-name")).to_be_visible()


def test_one_of_each_tells_how_many_requests_there_were(page, visit):
    """It says six requests when there were six, and that one began the session."""
    visit(page)
    sent: list[str] = []
    page.on("request", lambda request: sent.append(request.url))
    for said in (
        "1 request began your session, then 5 ran at the same time. All 6",
        "6 requests ran at the same time. All 6",
    ):
        sent.clear()
        page.click("#add-all")
        expect(page.locator("#flashes")).to_contain_text(said)
        expect(page.locator("#shop-strip .responded")).to_have_count(6)
        assert sum(url.endswith("/cart/add") for url in sent) == 6
    expect(page.locator(".quantity")).to_have_text(["2"] * 6)


# For everybody.


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_no_barrier(new_context, visit, demo, console, scheme):
    """axe-core has no finding on any page, before and after the proofs."""
    console.allow("status of 404")
    page = visit(new_context(color_scheme=scheme).new_page())
    assert findings(page) == []
    run(page, "clicks")
    run(page, "logout")
    fill_cart(page)
    log_in(page, "Ann")
    assert findings(page) == []
    for path in ("login", "orders", "nothing-here"):
        page.goto(demo.url + path)
        assert findings(page) == [], path


def test_the_embedded_demo_has_no_barrier(page, embedded):
    """axe-core has no finding on the page with the disabled buttons."""
    page.goto(embedded.url)
    assert findings(page) == []


def test_the_page_of_an_outage_has_no_barrier(new_context, console):
    """The 503 page says what to do, fits a phone, and axe-core has no finding."""
    console.allow("status of 503")
    demo = Demo(f"--store=memcached://127.0.0.1:{free_port()}")
    try:
        page = new_context(viewport={"width": 320, "height": 640}).new_page()
        page.goto(demo.url + "login")
        page.fill("#name", "Ann")
        with page.expect_navigation() as left:
            page.click("main button")
        assert left.value.status == 503
        expect(page.locator("h1")).to_have_text(
            "We cannot reach your session right now"
        )
        assert_fits(page)
        assert findings(page) == []
    finally:
        demo.terminate()


@pytest.mark.parametrize("width", [320, 375])
def test_a_phone_shows_all_without_scrolling_sideways(new_context, visit, demo, width):
    """Nothing is wider than a phone, before and after the proofs, in no page."""
    context: BrowserContext = new_context(viewport={"width": width, "height": 640})
    page = visit(context.new_page())
    assert_fits(page)
    run(page, "clicks")
    run(page, "logout")
    page.click("#add-all")
    expect(page.locator("#flashes")).to_contain_text("All 6")
    log_in(page, "A name of forty characters, and no less.")
    assert_fits(page)
    for path in ("login", "orders"):
        page.goto(demo.url + path)
        assert_fits(page)


def test_the_keyboard_reaches_everything_and_keeps_its_place(page, visit):
    """Tab reaches each control in turn, and an action leaves the focus where it was."""
    visit(page)
    fill_cart(page)
    page.focus(".skip")
    reached = []
    for _ in range(60):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.id"))
    wanted = [*PROOFS, "login-name", "login-here", "add-all", "add-notebook"]
    wanted += ["less-notebook", "regenerate", "slow"]
    assert [each for each in reached if each in wanted][: len(wanted)] == wanted

    def focused() -> str:
        return page.evaluate("document.activeElement.id")

    for control in ("more-notebook", "regenerate"):
        page.focus(f"#{control}")
        page.keyboard.press("Enter")
        expect(page.locator("#shop-strip .responded")).to_have_count(2)
        assert focused() == control
    page.focus("#run-clicks")
    page.keyboard.press("Enter")
    expect(page.locator("#clicks-strip h3")).to_be_visible()
    assert focused() == "run-clicks"
    # The line of the cart is gone, and its button with it.
    for count in ("1", None):
        page.focus("#less-notebook")
        page.keyboard.press("Enter")
        if count is None:
            expect(page.locator("#cart")).to_contain_text("Nothing in it yet.")
        else:
            expect(page.locator(".quantity")).to_have_text(count)
    expect(page.locator("#cart-title")).to_be_focused()
    page.focus("#login-name")
    page.keyboard.type("Keys")
    page.keyboard.press("Enter")
    expect(page.locator("#account-title")).to_be_focused()


def test_results_are_read_out(page, visit):
    """What changes without a new page is in live regions, which stay."""
    visit(page)
    regions = ["flashes", "clicks-result", "logout-result", "faults-result"]
    for region in regions:
        expect(page.locator(f"#{region}")).to_have_attribute("role", "status")
    page.evaluate(
        f"window.kept = {json.dumps(regions)}.map(i => document.getElementById(i))"
    )
    fill_cart(page)
    run(page, "clicks")
    assert page.evaluate("kept.every((element) => element.isConnected)")
