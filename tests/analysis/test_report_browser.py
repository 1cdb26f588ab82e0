"""The report's page in headless Chromium: it draws, sorts, selects, opens records, fits a phone, and is silent."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.report_pages import made_up
from playwright.sync_api import Page, sync_playwright

from lora2.analysis.html.page import write_page

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
PATIENCE = 120_000  # ms; a shared machine may be slow
PHONE, DESK = {"width": 390, "height": 844}, {"width": 1280, "height": 900}
TABLE = "#table1 table"

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here: apt-get install chromium")


@pytest.fixture(scope="module")
def visit(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Page, list[str]]]:
    """The opened page, and everything it says or asks for."""
    results = made_up(tmp_path_factory.mktemp("results"))
    write_page(results, results / "report.html")
    with sync_playwright() as playwright, playwright.chromium.launch(executable_path=CHROMIUM) as browser:
        page = browser.new_page(viewport=DESK, color_scheme="light")
        page.set_default_timeout(PATIENCE)
        heard: list[str] = []
        page.on("console", lambda message: heard.append(f"console {message.type}: {message.text}"))
        page.on("pageerror", lambda error: heard.append(f"error: {error}"))
        page.on("request", lambda request: heard.append(f"request: {request.url}"))
        page.goto((results / "report.html").as_uri())
        yield page, heard


@pytest.fixture
def page(visit: tuple[Page, list[str]]) -> Iterator[Page]:
    """The page with its charts drawn; whatever the test does, the page must not say or fetch anything."""
    page, heard = visit
    page.wait_for_function("() => document.querySelectorAll('#bench svg.marks').length == 1")  # the last to be drawn
    yield page
    said = [each for each in heard if not each.startswith(("request: file://", "request: data:"))]
    assert said == []
    assert {each for each in heard if each.startswith("request: file://")} == {f"request: {page.url.partition('#')[0]}"}


def test_every_chart_is_drawn(page: Page) -> None:
    counts = {
        name: page.locator(f"figure[data-chart={name}] svg.marks").count() for name in ("figure3", "curves", "cost")
    }
    assert counts == {"figure3": 2, "curves": 1, "cost": 1}
    assert page.locator("figure[data-chart=figure3] svg text", has_text="Attn.Output").count() == 2
    assert page.evaluate("window.planted") is None


def column(page: Page, number: int) -> list[str]:
    return page.locator(f"{TABLE} tbody tr > :nth-child({number})").evaluate_all(
        "cells => cells.map(c => c.dataset.sort)"
    )


def test_a_table_sorts_by_mouse_and_by_keyboard(page: Page) -> None:
    heads = page.locator(f"{TABLE} thead th")
    number = 1 + [text.split()[0] for text in heads.all_inner_texts()].index("MRPC")
    head, button = heads.nth(number - 1), heads.nth(number - 1).locator("button")
    before = column(page, number)
    known = sorted(float(value) for value in before if value is not None)
    assert len(before) > len(known) == 12

    button.click()
    assert head.get_attribute("aria-sort") == "descending"
    assert [float(value) for value in column(page, number)[:12]] == known[::-1]
    button.focus()
    page.keyboard.press("Enter")
    assert head.get_attribute("aria-sort") == "ascending"
    assert [float(value) for value in column(page, number)[:12]] == known
    assert set(column(page, number)[12:]) == {None}  # what is missing stays last
    page.keyboard.press("Space")
    assert head.get_attribute("aria-sort") is None
    assert column(page, number) == before


def test_the_selector_changes_the_figure(page: Page) -> None:
    figure = page.locator("figure[data-chart=figure3]")
    figure.locator("select").focus()
    page.keyboard.type("MNLI")
    page.wait_for_function("() => document.querySelectorAll('figure[data-chart=figure3] svg.marks').length == 1")
    assert figure.locator(".caption:visible").count() == 1  # no place is left for what did not run
    page.keyboard.press("ArrowUp")  # back to MRPC; letters would be added to those just typed
    page.wait_for_function("() => document.querySelectorAll('figure[data-chart=figure3] svg.marks').length == 2")
    paper, ours = figure.locator(".caption").all_inner_texts()
    assert paper.startswith("MRPC: the paper")
    assert "Pearson 1.00" in ours
    labels = [plot.locator("svg .role-mark text").all_inner_texts() for plot in figure.locator(".plot").all()]
    assert labels[0] == labels[1]
    assert len(labels[0]) == 72


def test_a_number_opens_its_record(page: Page) -> None:
    link = page.locator(f"{TABLE} .ours a").first
    target = page.locator(str(link.get_attribute("href")))
    assert not target.locator("table").is_visible()
    link.focus()
    page.keyboard.press("Enter")
    target.locator("table").wait_for(state="visible")
    record = str(target.locator("thead a").first.get_attribute("href"))
    assert (
        Path(page.url.removeprefix("file://").partition("#")[0]).with_name("runs").joinpath(Path(record).name).exists()
    )


def test_a_phone_needs_no_sideways_scrolling(page: Page) -> None:
    page.set_viewport_size(PHONE)
    assert page.evaluate("document.documentElement.scrollWidth") == PHONE["width"]
    box = page.locator("#table1 .scroll")
    assert box.evaluate("box => box.scrollWidth > box.clientWidth")
    page.wait_for_function("() => document.querySelector('#curves svg.marks').clientWidth <= 390")
    page.set_viewport_size(DESK)


def test_dark_follows_the_system_and_then_the_reader(page: Page) -> None:
    paper, axis = "getComputedStyle(document.body).backgroundColor", "#curves svg .role-axis-label text"
    light = (page.evaluate(paper), page.locator(axis).first.get_attribute("fill"))
    page.emulate_media(color_scheme="dark")
    page.wait_for_function(
        "light => document.querySelector('#curves svg .role-axis-label text')?.getAttribute('fill') != light",
        arg=light[1],
    )
    dark = (page.evaluate(paper), page.locator(axis).first.get_attribute("fill"))
    assert dark[0] != light[0]
    page.get_by_role("button", name="Switch to the light theme").click()
    assert page.evaluate(paper) == light[0]
    page.get_by_role("button", name="Switch to the dark theme").click()
    assert page.evaluate(paper) == dark[0]


def test_the_first_key_offers_to_skip_to_the_results(page: Page) -> None:
    page.goto(page.url.partition("#")[0])
    page.keyboard.press("Tab")
    focused = page.locator(":focus")
    assert focused.inner_text() == "Skip to the results"
    assert focused.bounding_box()["x"] >= 0  # type: ignore[index]  # it is seen
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"


def test_no_place_of_a_chart_is_left_empty(page: Page) -> None:
    seen = page.locator(".canvas:visible")
    assert seen.count() == page.locator(".canvas:visible svg.marks").count() > 0


def test_a_phone_is_told_of_columns_out_of_sight_until_they_are_seen(page: Page) -> None:
    page.set_viewport_size(PHONE)
    hint, box = page.locator("#table1 .hint").first, page.locator("#table1 .scroll").first
    hint.wait_for(state="visible")
    assert "swipe" in hint.inner_text()
    page.wait_for_function("() => document.querySelector('#table1 .scroll').classList.contains('cut')")
    box.evaluate("box => box.scrollTo({ left: box.scrollWidth })")
    page.wait_for_function("() => !document.querySelector('#table1 .scroll').classList.contains('cut')")
    page.set_viewport_size({"width": 2400, "height": 900})
    hint.wait_for(state="hidden")
    page.set_viewport_size(DESK)


def test_a_method_has_the_same_colour_in_a_table_and_in_the_charts(page: Page) -> None:
    table = page.locator("#table1 .ours .mark").last.evaluate("mark => getComputedStyle(mark).fill")  # LoRA² k=8
    for chart in ("curves", "cost"):
        entries = page.locator(f"#{chart} .role-legend-symbol path").evaluate_all(
            "paths => paths.map(path => path.getAttribute('fill'))"
        )
        assert table in entries
