"""The page as a person uses it: in a real browser, in Airflow's UI, on real parts."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from itertools import product
from typing import Literal

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, FrameLocator, Page, expect, sync_playwright

from nightbatch.postgres.store import open_store
from nightbatch_local.stack import Stack
from nightbatch_local.stack.environment import PROJECT
from tests.acceptance.nights.steps import end_of, sql, turnaround

# Nothing of the browser's own may go out: only what the page asks for, and that is loopback.
QUIET = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
SCREENSHOTS = PROJECT / "var" / "screenshots"
SECONDS = 1_000


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if found is None:
        words = "There is no Chromium here, and no right to install it: nothing was clicked. `make chromium` as root mends it."
        (pytest.fail if os.environ.get("NIGHTBATCH_CHROMIUM") == "required" else pytest.skip)(words)
    expect.set_options(timeout=60 * SECONDS)
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=found, args=[*QUIET])
        yield launched
        launched.close()


@pytest.fixture
def page(browser: Browser, stack: Stack) -> Iterator[Page]:
    """Logged in to Airflow as its admin; whatever the browser complains of fails the test."""
    page = log_in(browser, stack, "admin")
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    yield page
    page.context.close()
    assert complaints == []


def log_in(browser: Browser, stack: Stack, user: str) -> Page:
    page = browser.new_context(viewport={"width": 1280, "height": 900}).new_page()
    page.set_default_timeout(60 * SECONDS)
    page.goto(f"{stack.api_url}/auth/login")
    page.fill("input[name=username]", user)
    page.fill("input[name=password]", stack.password(user))
    page.press("input[name=password]", "Enter")
    page.wait_for_url(f"{stack.api_url}/")
    return page


def opened(page: Page, stack: Stack) -> FrameLocator:
    """The page within Airflow's navigation."""
    page.goto(f"{stack.api_url}/plugin/nightbatch")
    frame = page.frame_locator("iframe[title=nightbatch]")
    frame.locator("#saved-total").wait_for()
    return frame


def test_from_the_first_job_to_its_savings(page: Page, stack: Stack) -> None:
    """The SQL that an empty page shows is inserted, a run is started, and its progress is watched until the money is in.

    The provider ends its batches once the page was seen to wait for them, however slow the machine is.
    """
    turnaround(stack, 3600)
    frame = opened(page, stack)
    first = frame.locator("#first-sql").inner_text()
    sql(stack, first)
    sql(stack, first.replace("'openai'", "'gemini'"))
    page.reload()
    frame.get_by_role("button", name="Estimate").click()
    expect(frame.locator("#estimate")).to_contain_text("2 jobs for")
    frame.get_by_role("button", name="Run now").click()
    expect(frame.locator("#state")).to_contain_text("Started manual__")
    expect(frame.locator("#state")).to_be_in_viewport()  # the button stands far below the page's head
    expect(frame.locator("#night-words")).to_contain_text("0 of 2 jobs are back", timeout=240 * SECONDS)
    expect(frame.locator(".batch.submitted")).to_have_count(2, timeout=240 * SECONDS)
    turnaround(stack, 1)
    expect(frame.locator("#night-words")).to_contain_text("2 of 2 jobs are back", timeout=240 * SECONDS)
    expect(frame.locator(".batch.loaded")).to_have_count(2)
    ((saved,),) = sql(stack, "SELECT sum(savings_usd) FROM nightbatch_report.savings_daily")
    expect(frame.locator("#saved-total")).to_have_text(f"${saved:.4f}")
    expect(frame.locator("#first-sql")).to_have_count(0)


def test_an_alert_is_acknowledged_and_a_batch_is_cancelled_by_keyboard(page: Page, stack: Stack) -> None:
    turnaround(stack, 3600)
    sql(stack, "INSERT INTO nightbatch.job (job_type, provider, input) VALUES ('hook_generation', 'openai', %s)",
        ['{"product": "Coffee", "audience": "people who wait"}'])  # fmt: skip
    with open_store(stack.dsn) as store:
        store.raise_alert("budget_reached", "1", "The budget 1 is reached.")
    run_id = stack.trigger("nightbatch")
    frame = opened(page, stack)
    frame.get_by_role("button", name="Acknowledge budget reached").click()
    expect(frame.locator(".seen")).to_contain_text("Seen by admin")
    cancel = frame.get_by_role("button", name="Cancel batch")
    cancel.wait_for(timeout=240 * SECONDS)
    cancel.focus()
    page.keyboard.press("Enter")
    expect(frame.locator("#ask-price")).to_contain_text("All of it would cost about")
    page.keyboard.press("Escape")
    expect(cancel).to_be_focused()
    assert sql(stack, "SELECT count(*) FROM nightbatch.decision") == [(0,)]
    page.keyboard.press("Enter")
    expect(frame.locator("#why")).to_be_focused()
    page.keyboard.press("Enter")
    expect(frame.locator("#ask-error")).to_contain_text("Say why")
    page.keyboard.type("nobody needs it any more")
    page.keyboard.press("Enter")
    expect(frame.locator("#state")).to_contain_text("is cancelled by the next run of nightbatch_recover")
    expect(frame.locator("#night-words ~ ul")).to_contain_text("Its cancellation was asked for")
    assert sql(stack, "SELECT choice, decided_by, reason FROM nightbatch.decision") == [
        ("cancel", "admin", "nobody needs it any more")
    ]
    stack.wait_for_run("nightbatch_recover", stack.trigger("nightbatch_recover"), 240)
    assert end_of(stack, run_id) == "success"


def test_anybody_can_read_it(page: Page, stack: Stack) -> None:
    """Light and dark, wide and narrow, after one login: that takes longer than all of it."""
    schemes: tuple[Literal["light", "dark"], ...] = ("light", "dark")
    for scheme, width in product(schemes, (1280, 400)):
        page.emulate_media(color_scheme=scheme)
        page.set_viewport_size({"width": width, "height": 900})
        page.goto(f"{stack.api_url}/batch/dashboard")
        page.locator("#saved-total").wait_for()
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        page.screenshot(path=SCREENSHOTS / f"dashboard-{scheme}-{width}.png", full_page=True)
        assert page.evaluate("document.documentElement.scrollWidth") <= width, (scheme, width)
        violations = Axe().run(page).response["violations"]
        found = [rule["id"] for rule in violations if rule["impact"] in ("serious", "critical")]
        assert found == [], (scheme, width)


def test_it_takes_its_colours_from_airflow(page: Page, stack: Stack) -> None:
    frame = opened(page, stack)
    for theme in ("dark", "light"):
        page.evaluate("theme => { document.documentElement.className = theme }", theme)
        expect(frame.locator(f"html[data-theme={theme}]")).to_have_count(1)


def test_who_may_only_read_is_offered_no_button(browser: Browser, stack: Stack) -> None:
    page = log_in(browser, stack, "viewer")
    try:
        frame = opened(page, stack)
        expect(frame.locator("main button")).to_have_count(0)
        expect(frame.get_by_text("Those who may run the Dag can ask for it here.")).to_be_visible()
    finally:
        page.context.close()
