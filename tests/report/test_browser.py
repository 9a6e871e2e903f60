"""The pages in a real browser: drawn, quiet, offline, deaf to hostile text, at home on a phone and on paper."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import pytest

from tests.report import toy
from vallis.core.figures import Figure
from vallis.core.types import Array, Claim, Estimate, Failed, NotApplicable, Note, Result, Source, Verdict
from vallis.report.csv_figure import to_csv
from vallis.report.page import write_examination
from vallis.report.study_page import write_study

sync_api = pytest.importorskip("playwright.sync_api", reason="the Python package playwright is not installed")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium on the PATH: Debian's package is called chromium")

QUIET = ("--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update")
FLAGS = ("--no-sandbox", "--disable-gpu", "--disable-sync", *QUIET)


class Hostile:
    """A measurement whose every text would rather be a program."""

    version: ClassVar[int] = 1
    sources: ClassVar[tuple[Source, ...]] = (
        Source(title=toy.HOSTILE, authors=toy.HOSTILE, year=2026, url="javascript:window.pwned=1"),
        Source(title=toy.HOSTILE, authors=toy.HOSTILE, year=2026, url=f'https://x.org/"{toy.HOSTILE}'.replace(" ", "")),
    )
    __doc__ = f"{toy.HOSTILE}\n\nDefinition: {toy.HOSTILE}\nSays little when: ``{toy.HOSTILE}``\nCost: {toy.HOSTILE}"

    def figures(self, result: Result) -> tuple[Figure, ...]:
        words = replace(toy.images().marks[0], x=[toy.HOSTILE] * 8)
        flat = replace(toy.heatmap(), x=replace(toy.heatmap().x, label=toy.HOSTILE), title=toy.HOSTILE)
        return (toy.hostile_figure(), replace(toy.images(), marks=(words,)), flat)

    def reading(self, result: Result) -> str:
        return toy.HOSTILE


def hostile_results() -> list[tuple[Any, Any]]:
    note = Note(code=toy.HOSTILE, text=toy.HOSTILE)
    estimate = Estimate(value=1.0, stderr=0.1, unit=toy.HOSTILE, method=toy.HOSTILE)
    array = Array(data=toy.GRID, dims=(toy.HOSTILE,), unit=toy.HOSTILE, coords={toy.HOSTILE: toy.GRID})
    names = {"__module__": toy.HOSTILE, "__qualname__": toy.HOSTILE, "__doc__": Hostile.__doc__}
    named = dataclass(frozen=True)(type("Hostile", (Hostile,), names))
    result = Result(values={toy.HOSTILE: estimate, f"{toy.HOSTILE}2": array}, notes=(note,))
    failed = Failed(error=toy.HOSTILE, message=toy.HOSTILE)
    return [(named(), result), (named(), NotApplicable(note=note)), (named(), failed)]


def hostile_facts() -> dict[str, Any]:
    return {**toy.FACTS, "problem": toy.HOSTILE, "model": toy.HOSTILE, "digest": toy.HOSTILE, toy.HOSTILE: toy.HOSTILE}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("pages")
    write_examination(out / "plain", toy.FACTS, toy.measured(), vallis_version="0.1.0")
    every = type("Every", (toy.Margins,), {"figures": lambda self, result: tuple(toy.figures())})
    write_examination(out / "every", toy.FACTS, [(every(), Result(values={}))], vallis_version="0.1.0")
    write_examination(out / "hostile", hostile_facts(), hostile_results(), vallis_version=toy.HOSTILE)
    write_study(out / "study", toy.ToyStudy(), "laptop", toy.claims(), toy.rows(), [toy.bars()], {"networks": 9})
    claim, verdict = (
        Claim(id=toy.HOSTILE, says=toy.HOSTILE, where=toy.HOSTILE, test=lambda rows: verdict),
        Verdict(verdict="holds"),
    )
    rows = [replace(row, tags={toy.HOSTILE: toy.HOSTILE}, measurement=toy.HOSTILE) for row in toy.rows()]
    paper = replace(toy.LI, title=toy.HOSTILE, authors=toy.HOSTILE, url="javascript:window.pwned=1")
    study = type("Study", (), {"version": 1, "source": paper})()
    write_study(
        out / "hostile_study",
        study,
        toy.HOSTILE,
        [(claim, verdict)],
        rows,
        [toy.hostile_figure()],
        {toy.HOSTILE: toy.HOSTILE},
    )
    return out


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        yield launched
        launched.close()


class Visit:
    """A page that was opened and has drawn everything, and what happened meanwhile."""

    def __init__(self, browser: Any, path: Path, **context: Any) -> None:
        self.errors: list[str] = []
        self.requests: list[str] = []
        self.context = browser.new_context(**{"viewport": {"width": 1200, "height": 900}, **context})
        self.page = self.context.new_page()
        self.page.on("console", lambda said: self.errors.append(said.text) if said.type == "error" else None)
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(path.as_uri())
        self.settle()

    def __enter__(self) -> Visit:
        return self

    def __exit__(self, *_: object) -> None:
        self.context.close()

    def settle(self) -> None:
        """Waits until nothing is being drawn (wait_for_function would break the page's own policy)."""
        self.page.wait_for_timeout(200)
        self.page.wait_for_selector("html[data-ready=yes]", timeout=120_000)

    def evaluate(self, code: str) -> Any:
        return self.page.evaluate(code)


PAGES = (
    "plain/report.html",
    "every/report.html",
    "study/study.html",
    "hostile/report.html",
    "hostile_study/study.html",
)


@pytest.mark.parametrize("path", PAGES)
def test_every_figure_is_drawn_without_an_error_or_a_request(browser: Any, folder: Path, path: str) -> None:
    with Visit(browser, folder / path) as visit:
        assert visit.errors == []
        network = [url for url in visit.requests if not url.startswith(("data:", "blob:"))]
        assert network == [(folder / path).as_uri()]
        plots = visit.page.locator("[data-plot]")
        assert plots.count() > 0
        for number in range(plots.count()):
            plot = plots.nth(number)
            assert plot.get_attribute("data-drawn") == "yes"
            marks = ".trace path, .trace text, .bars path, .hm image, .heatmaplayer image, .gl-container canvas"
            assert plot.locator(marks).count() > 0, f"figure {number} is empty"
            box = plot.bounding_box()
            assert box["height"] > 200
        assert visit.page.locator("figure .still").count() == plots.count()


@pytest.mark.parametrize("path", ["hostile/report.html", "hostile_study/study.html"])
def test_hostile_text_is_text(browser: Any, folder: Path, path: str) -> None:
    with Visit(browser, folder / path) as visit:
        for button in visit.page.locator("button[data-do=reset]").all():
            button.click()
        for box in (plot.bounding_box() for plot in visit.page.locator("[data-plot]").all()):
            visit.page.mouse.move(
                box["x"] + box["width"] / 3, box["y"] + box["height"] / 2
            )  # hover labels are text too
        visit.page.locator("#theme").click()
        visit.settle()
        assert visit.evaluate("typeof window.pwned") == "undefined"
        assert visit.evaluate("document.querySelectorAll('img:not(.still), iframe, object, embed').length") == 0
        assert visit.evaluate("document.scripts.length") == 4
        assert visit.evaluate("[...document.links].filter(a => !/^(https?|file):/.test(a.href)).length") == 0
        assert (
            visit.evaluate(
                "[...document.querySelectorAll('*')].some(e => [...e.attributes].some(a => /^on/.test(a.name)))"
            )
            is False
        )
        assert visit.errors == []
        shown = visit.page.locator("main").inner_text()
        assert toy.HOSTILE in shown
        drawn = visit.evaluate("[...document.querySelectorAll('.plot text')].map(t => t.textContent).join(' ')")
        assert "</script><script>" in drawn, "plotly shows the letters of a label, whatever they look like"


@pytest.mark.parametrize("path", ["hostile/report.html", "study/study.html", "hostile_study/study.html"])
def test_no_page_scrolls_sideways(browser: Any, folder: Path, path: str) -> None:
    with Visit(browser, folder / path, viewport={"width": 1200, "height": 800}) as visit:
        for width in (360, 390, 768, 1024, 1400, 2200):
            visit.page.set_viewport_size({"width": width, "height": 800})
            visit.settle()
            check_width(visit, width)


def test_a_phone_shows_it_all(browser: Any, folder: Path) -> None:
    phone = {"viewport": {"width": 360, "height": 740}, "is_mobile": True, "has_touch": True}
    with Visit(browser, folder / "plain/report.html", **phone) as visit:
        check_width(visit, 360)
        assert visit.evaluate("innerWidth") == 360
        drag = "document.getElementById('plot-0').layout.dragmode"
        assert visit.evaluate(drag) is False, "a finger that scrolls past must not zoom"
        visit.page.locator("button[aria-controls=plot-0][data-do=zoom]").tap()
        visit.settle()
        assert visit.evaluate(drag) == "zoom"


def check_width(visit: Visit, width: int) -> None:
    assert visit.evaluate("document.documentElement.scrollWidth") <= width
    for box in (plot.bounding_box() for plot in visit.page.locator("[data-plot]").all()):
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= width + 0.5


def test_hovering_shows_the_number_with_its_error_bar(browser: Any, folder: Path) -> None:
    with Visit(browser, folder / "study/study.html") as visit:
        bar = visit.page.locator("#plot-0 .bars .point").nth(3)
        bar.scroll_into_view_if_needed()
        box = bar.bounding_box()
        visit.page.mouse.move(box["x"] + box["width"] / 2, box["y"] + 4)
        visit.page.wait_for_selector("#plot-0 .hovertext")
        shown = visit.page.locator("#plot-0 .hovertext").text_content()
        assert "labels true labels" in shown
        assert "accuracy 0.972 ± 0.004" in shown
        assert "%{" not in shown


def paper_colour(visit: Visit) -> str:
    return str(visit.evaluate("getComputedStyle(document.body).backgroundColor"))


def test_the_theme_follows_the_system_and_then_the_keyboard(browser: Any, folder: Path) -> None:
    with Visit(browser, folder / "study/study.html", color_scheme="dark") as visit:
        tick = "document.querySelector('.xtick text').style.fill"
        dark, dark_ink = paper_colour(visit), visit.evaluate(tick)
        button = visit.page.locator("#theme")
        assert button.get_attribute("aria-label") == "Switch to the light theme"
        button.focus()
        visit.page.keyboard.press("Enter")
        visit.settle()
        assert paper_colour(visit) != dark
        assert visit.evaluate(tick) != dark_ink, "the figures change with the page"
        assert button.get_attribute("aria-label") == "Switch to the dark theme"
        assert visit.errors == []


def test_what_was_zoomed_stays_zoomed_in_the_other_theme_until_it_is_reset(browser: Any, folder: Path) -> None:
    with Visit(browser, folder / "study/study.html") as visit:
        drag(visit, "#plot-0 .nsewdrag", (0.2, 0.2), (0.7, 0.6))
        ranged = "document.getElementById('plot-0').layout.yaxis.range.map(y => y.toFixed(2)).join()"
        zoomed = visit.evaluate(ranged)
        visit.page.locator("#theme").click()
        visit.settle()
        assert visit.evaluate(ranged) == zoomed
        visit.page.locator("button[aria-controls=plot-0][data-do=reset]").click()
        visit.settle()
        assert visit.evaluate(ranged) != zoomed


BEGINS = {"svg": b"<svg", "png": b"\x89PNG", "csv": b"mark,label,x,y,z,low,high,error\n"}


def test_a_figure_saves_itself_and_a_surface_can_be_turned(browser: Any, folder: Path) -> None:
    with Visit(browser, folder / "plain/report.html") as visit:
        for number, file in enumerate(
            ("training_curves.svg", "hessian_spectrum.csv", "", "", "loss_surface_linear.png")
        ):
            what = file.rpartition(".")[2]
            if file:
                with visit.page.expect_download() as download:
                    visit.page.locator(f"button[aria-controls=plot-{number}][data-do={what}]").click()
                assert download.value.suggested_filename == file
                assert Path(download.value.path()).read_bytes().startswith(BEGINS[what])
        eye = "JSON.stringify(document.getElementById('plot-4').layout.scene.camera.eye)"
        before = visit.evaluate(eye)
        drag(visit, "#plot-4", (0.5, 0.5), (0.7, 0.5))
        assert visit.evaluate(eye) != before
        assert visit.errors == []


def test_the_page_writes_out_the_csv_byte_for_byte(browser: Any, folder: Path) -> None:
    with Visit(browser, folder / "every/report.html") as visit:
        for number, figure in list(enumerate(toy.figures()))[2::3]:  # a browser saves ten files of a page, no more
            with visit.page.expect_download() as download:
                visit.page.locator(f"button[aria-controls=plot-{number}][data-do=csv]").click()
            assert Path(download.value.path()).read_bytes() == to_csv(figure).encode()


def drag(visit: Visit, selector: str, start: tuple[float, float], stop: tuple[float, float]) -> None:
    visit.page.locator(selector).scroll_into_view_if_needed()
    box = visit.page.locator(selector).bounding_box()
    places = [(box["x"] + across * box["width"], box["y"] + down * box["height"]) for across, down in (start, stop)]
    visit.page.mouse.move(*places[0])
    visit.page.mouse.down()
    visit.page.mouse.move(*places[1], steps=5)
    visit.page.mouse.up()
    visit.settle()


def test_without_webgl_a_surface_is_drawn_flat(browser: Any, folder: Path) -> None:
    context = browser.new_context()
    page = context.new_page()
    page.add_init_script(
        "const get = HTMLCanvasElement.prototype.getContext;"
        "HTMLCanvasElement.prototype.getContext = function (kind, ...rest) {"
        " return /webgl/.test(kind) ? null : get.call(this, kind, ...rest); };"
    )
    page.goto((folder / "plain/report.html").as_uri())
    page.wait_for_selector("html[data-ready=yes]", timeout=120_000)
    assert page.locator("#plot-4 .heatmaplayer image").count() == 1
    page.goto((folder / "every/report.html").as_uri())
    page.wait_for_selector("html[data-ready=yes]", timeout=120_000)
    beside = page.locator("[data-plot]").count() - 2
    assert page.locator(f"#plot-{beside} .heatmaplayer image").count() == 2, "one beside the other"
    context.close()


@pytest.mark.parametrize("path", ["plain/report.html", "study/study.html"])
def test_it_prints_light_with_every_figure(browser: Any, folder: Path, path: str) -> None:
    with Visit(browser, folder / path, color_scheme="dark") as visit:
        pdf = visit.page.pdf(format="A4", print_background=True)
        assert pdf.startswith(b"%PDF")
        assert len(re.findall(rb"/Type\s*/Page\b", pdf)) >= 2
        visit.page.emulate_media(media="print")
        assert paper_colour(visit) == "rgb(255, 255, 255)"
        for number in range(visit.page.locator("[data-plot]").count()):
            assert not visit.page.locator("[data-plot]").nth(number).is_visible()
            still = visit.page.locator("figure .still").nth(number)
            assert still.is_visible()
            assert still.evaluate("image => image.naturalWidth") > 300
        assert not visit.page.locator("#theme").is_visible()


def test_without_scripts_everything_but_the_pictures_is_there(browser: Any, folder: Path) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto((folder / "plain/report.html").as_uri())
    assert page.get_by_role("heading", level=1).inner_text() == "mlp on digits"
    assert page.get_by_text("The figure needs JavaScript").first.is_visible()
    assert not page.locator(".tools").first.is_visible()
    context.close()


def test_a_keyboard_reaches_the_report_at_once(browser: Any, folder: Path) -> None:
    with Visit(browser, folder / "study/study.html") as visit:
        visit.page.keyboard.press("Tab")
        assert visit.evaluate("document.activeElement.textContent") == "Skip to the report"
        visit.page.keyboard.press("Enter")
        assert visit.evaluate("document.activeElement.id") == "top"
