import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from ghosttrack.report.first import ORACLE, leader
from ghosttrack.report.tables import with_interval
from tests.browser.conftest import Site
from tests.report import materials

KINDS = ("report", "live", "dashboard", "comparison")
WIDTHS = (400, 800, 1280, 1920)
SHOTS = os.environ.get("GHOSTTRACK_SHOTS")
FIRST_PIXELS = 6000
OPEN_ALL = "for (const box of document.querySelectorAll('details')) box.open = true"


@contextmanager
def opened(browser: Any, path: Path, width: int = 1280, scheme: str = "light") -> Iterator[Any]:
    """Open a page; a fault of its script is one of the test."""
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    faults: list[str] = []
    page.on("pageerror", lambda fault: faults.append(str(fault)))
    page.on("request", lambda one: faults.append(one.url) if "http" in one.url[:4] else None)
    page.goto(path.as_uri())
    if path.stem in ("report", "page", "live"):
        page.wait_for_selector("#viewer-stage .answer")
    yield page
    assert not faults
    page.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_cut_at_any_width(browser: Any, site: Site, kind: str, width: int, scheme: str):
    with opened(browser, site.pages[kind], width, scheme) as page:
        height = page.evaluate("document.documentElement.scrollHeight")
        if SHOTS:
            page.screenshot(path=Path(SHOTS) / f"{kind}-{width}-{scheme}.png", full_page=True)
        page.evaluate(OPEN_ALL)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        if kind == "report" and width >= 1280:
            assert height <= FIRST_PIXELS


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("kind", KINDS)
def test_axe_finds_nothing_serious(browser: Any, site: Site, kind: str, scheme: str):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe is missing")
    with opened(browser, site.pages[kind], scheme=scheme) as page:
        page.evaluate(OPEN_ALL)
        found = axe.Axe().run(page).response["violations"]
    assert not [(one["id"], one["nodes"][0]["html"]) for one in found
                if one["impact"] in ("serious", "critical")]  # fmt: skip


def test_the_report_shows_the_numbers_of_the_evaluation(browser: Any, site: Site):
    rows = {row["detector"]: row for row in site.found["rows"] if row["subset"] == "all"}
    with opened(browser, site.pages["report"]) as page:
        claim, first = page.inner_text(".verdict"), page.inner_text(".numbers")
        page.evaluate(OPEN_ALL)
        lines = page.locator("#detectors table tr").all()[1:]
        cells = [line.locator("td").all_inner_texts()[:2] for line in lines]
    assert {name.split("\n")[0]: area for name, area in cells} == {
        name: with_interval(row["auroc"], row["auroc_ci"]) for name, row in rows.items()
    }
    said = next(name for name in sorted(rows, key=len, reverse=True) if claim.startswith(name))
    assert f"{rows[said]['auroc']:.3f}" in first
    if not site.is_real:
        assert said == leader(materials.evaluation())


def test_dots_of_pictures_say_what_they_are(browser: Any, site: Site):
    rows = {row["detector"]: row for row in site.found["rows"] if row["subset"] == "all"}
    with opened(browser, site.pages["report"]) as page:
        dots = page.locator(".first .over circle")
        said = []
        for at in range(dots.count()):
            page.keyboard.press("ArrowRight") if at else dots.first.focus()
            said.append(page.inner_text(".first .tip"))
        for one in said:
            row = rows[one.split(": AUROC")[0]]
            assert with_interval(row["auroc"], row["auroc_ci"]) in one
        drawn = {name for name, row in rows.items() if row["auroc"] is not None}
        assert {one.split(": AUROC")[0] for one in said} == drawn - {ORACLE}
        page.evaluate(OPEN_ALL)
        page.locator("#pairs .over circle").first.hover()
        assert "minus" in page.inner_text("#pairs .tip")


def test_answers_are_filtered_searched_and_stepped_through(browser: Any, site: Site):
    with opened(browser, site.pages["report"]) as page:
        assert "flagged" in page.inner_text("#viewer-stage .answer")
        buttons = page.locator("#viewer-list button")
        whole = buttons.count()
        page.select_option("#viewer-choice", index=1)
        assert 0 < buttons.count() <= whole
        page.select_option("#viewer-choice", "")
        asked = buttons.nth(1).inner_text()
        buttons.nth(0).focus()
        page.keyboard.press("ArrowDown")
        assert page.locator("#viewer-list [aria-pressed=true]").inner_text() == asked
        page.fill("#viewer-search", "no answer has such words")
        assert buttons.count() == 0
        assert page.inner_text("#viewer-count").startswith("0 of")


def test_a_track_tells_its_latents_and_what_stays_of_it(browser: Any, site: Site):
    with opened(browser, site.pages["report"]) as page:
        page.select_option("#viewer-order", "index")
        page.locator("#viewer-list button").nth(0).click()
        page.wait_for_timeout(200)
        page.locator(".track").nth(0).focus()
        assert "latent" in page.inner_text(".told")
        if not site.is_real:
            assert "ball club" in page.inner_text(".told")
        page.select_option("#viewer-beside", "renamed")
        page.wait_for_selector(".two .answer >> nth=1")
        assert "under other names" in page.inner_text(".two .legend >> nth=1")
        page.select_option("#viewer-beside", "pinned")
        page.locator("#viewer-list button").nth(1).click()
        page.wait_for_timeout(200)
        assert page.locator(".two .answer").count() == 2


def test_statistics_are_searched_and_sorted(browser: Any, site: Site):
    with opened(browser, site.pages["report"]) as page:
        assert not page.locator("#statistics-table").is_visible()
        page.click("#statistics > summary")
        rows = page.locator("#statistics-table tr:visible")
        whole = rows.count()
        name = rows.nth(1).locator("td").nth(0).inner_text().split("\n")[0]
        page.fill("#statistics input", name)
        assert 2 <= rows.count() < whole
        page.fill("#statistics input", "")
        page.click("#statistics-table th:nth-child(6) button")
        values = page.locator("#statistics-table tr td:nth-child(6)").all_inner_texts()
        numbers = [float(value.split()[0]) for value in values if value[0].isdigit()]
        assert numbers == sorted(numbers, reverse=True)


def test_a_link_opens_its_section_and_printing_opens_all(browser: Any, site: Site):
    with opened(browser, site.pages["report"]) as page:
        page.click(".questions a[href='#canaries']")
        page.wait_for_function("document.getElementById('canaries').open")
        page.evaluate("dispatchEvent(new Event('beforeprint'))")
        assert page.locator("details:not([open])").count() == 0


def test_paper_cuts_nothing(browser: Any, site: Site):
    with opened(browser, site.pages["report"], 720) as page:
        page.emulate_media(media="print")
        page.evaluate("dispatchEvent(new Event('beforeprint'))")
        assert page.evaluate("document.documentElement.scrollWidth") <= 720
        if SHOTS:
            page.pdf(path=Path(SHOTS) / "report.pdf", format="A4")


def test_tokens_tell_their_risk_and_every_section_its_picture(browser: Any, site: Site):
    with opened(browser, site.pages["report"]) as page:
        page.evaluate(OPEN_ALL)
        assert "risk so far" in page.inner_text(".tokens")
        for section in ("detectors", "pairs", "curves", "tracks", "bank"):
            assert page.locator(f"#{section} figure img").count(), section


def test_chosen_runs_stand_side_by_side(browser: Any, site: Site):
    with opened(browser, site.pages["dashboard"]) as page:
        rows = page.locator("table.comparable").nth(0).locator("tr")
        for row in (1, 2):
            rows.nth(row).locator("td").nth(2).click()
        beside = page.locator("[aria-label='rows side by side']").nth(0)
        names = [rows.nth(row).locator("td").nth(0).inner_text() for row in (1, 2)]
        heads = beside.locator("tr").nth(0).locator("th").all_inner_texts()[1:]
        assert [one.strip() for one in heads] == [one.strip() for one in names]
        rows.nth(1).locator("input").press("Space")
        assert beside.locator("table").count() == 0


def test_a_report_is_small_and_opens_fast(browser: Any, site: Site):
    path = site.pages["report"]
    assert path.stat().st_size < 15e6
    with opened(browser, path) as page:
        started = time.perf_counter()
        page.reload()
        page.wait_for_selector("#viewer-stage .answer")
        assert time.perf_counter() - started < 2
