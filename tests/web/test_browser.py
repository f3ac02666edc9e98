"""The page of `undiffuse serve` as people use it: in a real browser, at a desk and on a phone."""

from __future__ import annotations

import csv
import os
import shutil
import signal
import socket
import wave
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import copied
from serving import TOKEN, Serving, serve

import undiffuse as ud

AXE = (Path(__file__).parent / "axe" / "axe.min.js").read_text(encoding="utf-8")
WIDTHS = (1280, 390)
PATIENCE = float(os.environ.get("UNDIFFUSE_PATIENCE", "60")) * 1000  # ms, on a busy machine
ODD = "50% <b>, o'r #1?"  # a name that a folder can have
HOSTILE = "<img src=x onerror=\"document.title='hit'\">"
HOSTILE_REPORT = """<!doctype html><title>report</title><h1>A report</h1>
<img src="http://127.0.0.1:PORT/outside.png"><script>top.document.title = "hit"; alert(1);
fetch("/api/v1/runs");</script><form action="/api/v1/runs" method="post"></form>"""


@dataclass
class Visit:
    """A page of one width, and what went wrong in it."""

    page: Any
    base: str
    width: int
    trouble: list[str] = field(default_factory=list)

    def go(self, path: str, waits_for: str) -> None:
        address = f"{self.base}/#/{path}"
        if self.page.url == address:
            self.page.reload()
        else:
            self.page.goto(address)
        self.page.wait_for_selector("main:not([aria-busy])")
        self.page.wait_for_selector(waits_for)

    def drag(self, places: list[tuple[float, float]]) -> None:
        """Draw a line: with the mouse at a desk, with a finger on a phone."""
        if self.width == WIDTHS[0]:
            mouse = self.page.mouse
            mouse.move(*places[0])
            mouse.down()
            for place in places[1:]:
                mouse.move(*place)
            mouse.up()
            return
        finger = self.page.context.new_cdp_session(self.page)
        kinds = ["touchStart", *["touchMove"] * (len(places) - 1)]
        for kind, (x, y) in zip(kinds, places, strict=True):
            touch = {"type": kind, "touchPoints": [{"x": x, "y": y}]}
            finger.send("Input.dispatchTouchEvent", touch)
        finger.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
        finger.detach()

    def drop(self, path: Path) -> None:
        """Drag a file or a folder of the machine into the page, and let it go there."""
        box = self.page.locator(".drop").bounding_box()
        mouse = self.page.context.new_cdp_session(self.page)
        at = {"x": box["x"] + box["width"] / 2, "y": box["y"] + box["height"] / 2}
        data = {"items": [], "files": [str(path)], "dragOperationsMask": 1}
        for kind in ("dragEnter", "dragOver", "drop"):
            mouse.send("Input.dispatchDragEvent", {"type": kind, **at, "data": data})
        mouse.detach()

    def see(self, what: str) -> Any:
        return self.page.wait_for_selector(what)

    def texts(self, what: str) -> list[str]:
        return self.page.eval_on_selector_all(what, "all => all.map(one => one.textContent)")

    def whole(self, *, scheme: str = "light") -> None:
        """Hold the page to what holds for every page: nothing is wrong, wide, or hard to read."""
        assert not self.trouble
        self.page.emulate_media(color_scheme=scheme)
        needed = self.page.evaluate("document.scrollingElement.scrollWidth")
        assert needed <= self.width
        if not self.page.evaluate("'axe' in window"):
            self.page.evaluate(AXE)
        found = self.page.evaluate("axe.run(document, {resultTypes: ['violations']})")
        bad = [
            (one["id"], [node["html"][:200] for node in one["nodes"][:3]])
            for one in found["violations"]
            if one["impact"] in ("serious", "critical")
        ]
        assert not bad
        self.page.emulate_media(color_scheme="light")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table whose names and cells are markup, and folders of pictures and of recordings."""
    from PIL import Image

    place, rng = tmp_path_factory.mktemp("own"), np.random.default_rng(2)
    with (place / "own.csv").open("w", newline="", encoding="utf-8") as stream:
        cells = [[f"{x:.2f}", (HOSTILE, "plain")[i % 2]] for i, x in enumerate(rng.normal(size=60))]
        csv.writer(stream).writerows([["length", HOSTILE], *cells])
    (place / "pictures").mkdir()
    for i, pixels in enumerate(rng.integers(0, 256, (30, 8, 8)).astype(np.uint8)):
        Image.fromarray(pixels).save(place / "pictures" / f"{i}.png")
    (place / "pictures" / ".DS_Store").write_bytes(b"litter")
    (place / "pictures" / "about.txt").write_text("how they were made")
    torn = np.full((8, 8, 2), 255, np.uint8)
    torn[4:, :4, 1] = 0
    Image.fromarray(torn, "LA").save(place / "torn.png")
    (place / "tones").mkdir()
    for i, sound in enumerate(rng.integers(-9000, 9000, (24, 256)).astype("<i2")):
        with wave.open(str(place / "tones" / f"{i}.wav"), "wb") as file:
            file.setparams((1, 2, 8000, 0, "NONE", ""))
            file.writeframes(sound.tobytes())
    return place


@pytest.fixture(scope="module")
def outside() -> Iterator[socket.socket]:
    """Where a hostile report tries to reach."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(0.5)
        yield listening


@pytest.fixture(scope="module")
def serving(
    trained: Path, data: Path, outside: socket.socket, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Serving]:
    place = tmp_path_factory.mktemp("browser")
    runs = copied(trained, place)
    for width in WIDTHS:
        shutil.copytree(runs / "other", runs / f"gone-{width}")
    shutil.copytree(runs / "rows", runs / ODD)
    tones: Any = {"steps": 2, "samples": 0, "device": "cpu", "precision": "float32"}
    ud.edm(width=8, multipliers=[1], blocks=1).fit(
        ud.load(data / "tones"), out=runs / "tones", **tones
    )
    hostile = HOSTILE_REPORT.replace("PORT", str(outside.getsockname()[1]))
    (runs / "other" / "report.html").write_text(hostile, encoding="utf-8")
    started = serve(runs, place / "out", "--data", trained / "data")
    yield started
    started.end(signal.SIGINT)


@pytest.fixture(scope="module", params=WIDTHS)
def visit(request: pytest.FixtureRequest, browser: Any, serving: Serving) -> Iterator[Visit]:
    size = {"width": request.param, "height": 900}
    touch = {"has_touch": True, "is_mobile": True} if request.param == WIDTHS[1] else {}
    context = browser.new_context(viewport=size, reduced_motion="reduce", **touch)
    page = context.new_page()
    page.set_default_timeout(PATIENCE)
    found = Visit(page, serving.base, request.param)
    page.on("request", lambda one: _own(found, one.url))
    page.on(
        "console", lambda one: one.type in {"error", "warning"} and found.trouble.append(one.text)
    )
    page.on("pageerror", lambda error: found.trouble.append(str(error)))
    page.on("dialog", lambda dialog: (found.trouble.append("dialog"), dialog.dismiss()))
    page.goto(f"{serving.base}/?token={TOKEN}")
    yield found
    context.close()


def _own(visit: Visit, url: str) -> None:
    if not url.startswith((visit.base, "data:", "blob:")):
        visit.trouble.append(f"asks for {url}")


def test_the_token_is_not_kept_in_the_address(visit: Visit) -> None:
    visit.see(".card")
    assert "token" not in visit.page.url
    assert TOKEN not in visit.page.evaluate("document.cookie")


def test_runs_are_filtered_sorted_and_deleted(visit: Visit) -> None:
    visit.go("", ".card")
    names = visit.texts(".card h2")
    assert {"rows", "other", "table", "images"} <= set(names)
    visit.page.select_option("select >> nth=1", "name")
    assert visit.texts(".card h2") == sorted(names)
    visit.page.fill("input[type=search]", "table.csv")
    assert visit.texts(".card h2") == ["table"]
    visit.page.fill("input[type=search]", "no such run")
    visit.page.click("text=Show all")
    gone = f"gone-{visit.width}"
    for answer, left in (("Keep it", True), ("Delete it", False)):
        visit.page.click(f"button[aria-label='Delete {gone}']")
        visit.page.click(f"dialog >> text={answer}")
        visit.page.wait_for_selector("dialog", state="detached")
        if not left:
            visit.page.wait_for_selector(f"[data-name={gone}]", state="detached")
        assert (gone in visit.texts(".card h2")) == left
    visit.whole()
    visit.whole(scheme="dark")


def test_a_run_of_an_odd_name_is_opened(visit: Visit) -> None:
    visit.go("", ".card")
    visit.page.get_by_role("link", name=ODD, exact=True).click()
    visit.see(".tabs")
    assert visit.texts("h1") == [ODD]
    visit.page.click(".tabs a >> nth=1")
    visit.see("form.tools")
    assert visit.texts("h1") == [ODD]
    assert not visit.trouble


def test_a_question_does_not_outlive_its_page(visit: Visit) -> None:
    visit.go("", ".card")
    visit.page.click("button[aria-label='Delete rows']")
    visit.see("dialog")
    visit.page.evaluate("location.hash = '#/how'")
    visit.see("canvas.toy")
    assert visit.page.query_selector("dialog") is None


def test_runs_are_compared(visit: Visit) -> None:
    visit.go("", ".card")
    compare = visit.page.locator("a.button", has_text="Compare")
    assert compare.get_attribute("href") is None
    for name in ("rows", ODD):
        visit.page.get_by_label(f"Compare {name}", exact=True).check()
    compare.click()
    visit.see("h1:has-text('Comparison')")
    assert visit.texts("ul.plain a") == ["rows", ODD]
    visit.whole()
    if visit.width == WIDTHS[0]:  # once is enough
        visit.page.fill("form input", "16")
        with visit.page.expect_response("**/comparisons/*") as page:
            visit.page.click("button.primary")
        assert page.value.status == 200
        assert "50% &lt;b&gt;" in page.value.text()
        assert visit.page.get_attribute("iframe.report", "sandbox") == ""
        visit.whole()
    for name in ("rows", ODD):
        visit.go("", ".card")
        visit.page.get_by_label(f"Compare {name}", exact=True).uncheck()


def test_files_and_folders_are_dropped(visit: Visit, data: Path) -> None:
    visit.go("new", ".drop")
    visit.drop(data / "pictures")
    visit.see(".panel img.picture")
    assert visit.texts(".panel h3") == ["pictures"]
    assert visit.texts(".works .notice") == [
        "Left out, as files of other kinds: pictures/about.txt."
    ]
    visit.drop(data / "own.csv")
    visit.see(".panel .column")
    assert visit.texts(".works .notice") == []
    visit.drop(data / "pictures" / "about.txt")
    visit.see(".notice.bad >> text=ends in none of these")
    visit.trouble.clear()  # a refusal is an error in the console
    visit.drop(data / "tones")
    visit.see(".panel >> text=recordings")
    visit.see(".panel img.picture")
    visit.whole()


def test_what_was_chosen_last_is_what_is_trained_on(visit: Visit) -> None:
    first, held = "**/sources/info?builtin=digits", []
    visit.go("new", ".drop")
    visit.page.route(first, lambda route: held.append(route))
    for name in ("digits", "moons"):
        visit.page.get_by_role("button", name=name, exact=True).click()
    visit.see(".panel h3")
    with visit.page.expect_response(first) as late:
        held[0].continue_()
    late.value.finished()
    visit.page.unroute(first)
    assert visit.texts(".panel h3") == ["moons"]
    assert visit.page.input_value("input[required]") == "moons"


def test_a_table_is_shown_and_trained_on_as_one_looks_on(
    visit: Visit, data: Path, serving: Serving
) -> None:
    if visit.width == WIDTHS[0]:
        files, kept, sees = data / "own.csv", "own", ".column"
    else:
        files, kept, sees = data / "pictures", "pictures", "img.picture"
    visit.go("new", ".drop")
    assert visit.page.is_disabled("button.primary")
    chooser = 0 if files.is_file() else 1
    visit.page.set_input_files(f"input[type=file] >> nth={chooser}", files)
    visit.see(f".panel {sees}")
    if files.is_file():
        assert HOSTILE in visit.texts(".column h4")
        assert set(visit.texts(".shares .name")) == {HOSTILE, "plain"}
    assert visit.page.input_value("input[required]") == kept
    visit.page.select_option("form select >> nth=1", "steps")
    steps = "3" if files.is_file() else "1000000"
    visit.page.fill("input[type=number][min='1'] >> nth=0", steps)
    visit.page.click("summary")
    visit.page.get_by_label("width", exact=True).fill("8")
    visit.whole()
    visit.page.click("text=Start training")
    visit.see("h1 >> text=" + kept)
    if files.is_dir():
        steps = stopped_resumed_and_extended(visit)
    visit.see(".pill.finished")  # the page learns of the end by itself
    visit.see(".chart img.picture")
    visit.page.reload()
    visit.see(".pill.finished")
    visit.see(".facts")
    assert f"{int(steps):,} of {int(steps):,}" in visit.texts(".facts")[0]
    visit.whole()


def stopped_resumed_and_extended(visit: Visit) -> str:
    """Stop a training, resume it, stop it again, extend it; returns its steps in all."""
    page, asked = visit.page, []
    page.on("request", lambda one: one.url.endswith("/events") and asked.append(one.url))
    visit.see(".pill.training")
    visit.see(r".facts dd >> text=/^[1-9][\d,]* of 1,000,000/")
    for hidden in ("true", "false"):  # a tab that nobody sees lets go of its stream
        page.evaluate(
            f"Object.defineProperty(document, 'hidden', {{value: {hidden}, configurable: true}})"
        )
        page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    page.wait_for_timeout(100)
    assert len(asked) == 1
    page.click("button:has-text('Stop')")
    visit.see(".pill.stopped")
    visit.whole()
    page.click("button:has-text('Resume')")
    visit.see(".pill.training")
    page.click("button:has-text('Stop')")
    visit.see(".pill.stopped")
    done = int(visit.texts(".facts dd")[0].split()[0].replace(",", ""))
    assert done > 0
    page.click("summary:has-text('Train for longer')")
    page.fill("input[aria-label='How long in all']", str(done))
    page.click("text=Extend")
    visit.see(".notice.bad >> text=ask for more")
    visit.trouble.clear()  # a refusal is an error in the console
    page.fill("input[aria-label='How long in all']", str(done + 2))
    page.click("text=Extend")
    return str(done + 2)


@pytest.mark.parametrize("name", ["images", "table", "rows"])
def test_samples_are_drawn_opened_and_downloaded(visit: Visit, name: str, tmp_path: Path) -> None:
    visit.go(f"run/{name}/samples", "form.tools")
    visit.page.fill("form input >> nth=0", "4")
    visit.page.click("text=Draw")
    opens = {"images": ".tiles button"}.get(name, "td button")
    visit.see(opens)
    assert len(visit.page.query_selector_all(opens)) == 4
    visit.whole()
    if name == "rows" and visit.width == WIDTHS[0]:
        with visit.page.expect_download() as download:
            visit.page.click("text=Download")
        download.value.save_as(tmp_path / "rows.npy")
        assert np.load(tmp_path / "rows.npy").shape == (4, 3)
    visit.page.click(f"{opens} >> nth=1")
    visit.see("dialog >> text=Its path from noise")
    visit.see("dialog >> text=Nearest training row")
    visit.see("dialog >> h3:has-text('Log-likelihood')")
    slider = visit.page.locator("dialog input[type=range]")
    slider.focus()
    visit.page.keyboard.press("Home")
    assert "1 of" in slider.get_attribute("aria-valuetext")
    visit.whole()
    visit.page.keyboard.press("Escape")
    visit.page.wait_for_selector("dialog", state="detached")


def test_an_image_is_completed_where_it_was_painted_over(visit: Visit, data: Path) -> None:
    visit.go("run/images/complete", "canvas.mask")
    visit.drop(data / "torn.png")  # what is transparent in it is to be drawn already
    visit.see("output:has-text('25 % is drawn anew')")
    visit.page.click("text=A held-out row")
    visit.see("output:has-text('0 % is drawn anew') >> text=/^0 %/")
    visit.page.click("button.primary")
    visit.see(".notice >> text=paint over")
    box = visit.page.locator("canvas.mask").bounding_box()
    shares = ((0.1, 0.1), (0.3, 0.1), (0.6, 0.1), (0.9, 0.1))
    visit.drag([(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in shares])
    assert "12 %" in visit.texts("output")[0] or "13 %" in visit.texts("output")[0]
    visit.page.focus("canvas.mask")
    for key in ("ArrowDown", "ArrowDown", "ArrowDown", "Space"):
        visit.page.keyboard.press(key)
    assert "14 %" in visit.texts("output")[0]  # nine of 64
    visit.page.fill("form input >> nth=0", "2")
    visit.page.click("button.primary")
    visit.see(".tiles img")
    assert len(visit.page.query_selector_all(".tiles img")) == 2
    visit.whole()


def test_recordings_are_drawn_played_and_completed(visit: Visit) -> None:
    visit.go("run/tones/samples", "form.tools")
    visit.page.fill("form input >> nth=0", "2")
    visit.page.click("text=Draw")
    visit.see(".waves audio")
    visit.whole()
    plays = """async (one) => { await one.play(); while (one.currentTime === 0 && !one.ended)
        await new Promise((resolve) => setTimeout(resolve, 5)); return one.duration; }"""
    assert visit.page.eval_on_selector(".waves audio", plays) == pytest.approx(256 / 8000)
    visit.go("run/tones/complete", ".wave .shade")
    for label, keys in (("Keep from", ["End"]), ("to", ["Home", "PageUp", "PageUp"])):
        visit.page.focus(f"input[type=range][aria-label='{label}']")
        for key in keys:
            visit.page.keyboard.press(key)
    told = visit.texts("output")[0]
    low, high = (float(told.split()[i]) for i in (0, 3))
    assert 0 < low < high
    assert high == pytest.approx(256 / 8000, abs=0.005)
    visit.page.fill("form input >> nth=0", "2")
    visit.page.click("button.primary")
    visit.see("h3:has-text('Completions')")
    assert len(visit.page.query_selector_all(".waves audio")) == 2
    visit.whole()


def test_empty_numbers_of_a_vector_are_drawn(visit: Visit) -> None:
    visit.go("run/rows/complete", ".options input")
    kept = visit.page.input_value(".options input >> nth=1")
    visit.page.fill(".options input >> nth=0", "")
    visit.page.fill("form input >> nth=0", "3")
    visit.page.click("button.primary")
    visit.see("h3:has-text('Completions')")
    cells = visit.texts("tbody td:nth-child(2)")
    assert [float(cell) for cell in cells] == [pytest.approx(float(kept), rel=1e-4)] * 3
    visit.whole()


def test_empty_cells_are_filled(visit: Visit) -> None:
    visit.go("run/table/complete", ".options input")
    visit.page.click("button.primary")
    visit.see(".notice >> text=No cell is empty")
    visit.page.fill(".options input >> nth=0", "")
    visit.page.fill(".options input >> nth=1", "")
    kind = visit.page.input_value(".options input >> nth=0")
    assert kind == ""
    visit.page.click("button.primary")
    visit.see("h3:has-text('Eight of the rows')")
    assert len(visit.page.query_selector_all(".column")) == 2
    visit.whole()


@pytest.mark.parametrize(
    ("name", "files", "shows"),
    [("images", "pictures", "canvas.heat"), ("rows", "rows.npy", ".shares")],
)
def test_rows_are_scored_and_explained(
    visit: Visit, trained: Path, tmp_path: Path, name: str, files: str, shows: str
) -> None:
    source = trained / "data" / files
    if source.is_dir():
        for file in sorted((source / "a").iterdir())[:3]:
            shutil.copy(file, tmp_path / file.name)
        chosen: Any = sorted(tmp_path.iterdir())
    else:
        np.save(tmp_path / "few.npy", np.load(source)[:6])
        chosen = tmp_path / "few.npy"
    visit.go(f"run/{name}/scores", ".drop")
    visit.page.fill("form input", "0.2")
    visit.page.set_input_files("input[type=file] >> nth=0", chosen)
    visit.see("td button")
    values = [float(text.split("±")[0].replace(",", ""))
              for text in visit.texts("tbody td:nth-child(3)")]  # fmt: skip
    assert values == sorted(values)
    assert len(values) == (3 if source.is_dir() else 6)
    visit.whole()
    visit.page.click("td button >> nth=0")
    visit.see(f"dialog {shows}")
    visit.whole()
    visit.page.keyboard.press("Escape")


def test_a_report_is_made(visit: Visit) -> None:
    if visit.width != WIDTHS[1]:
        pytest.skip("once is enough")
    visit.go("run/rows/report", "h2:has-text('No report yet')")
    visit.whole()
    visit.page.fill("form input", "16")
    with visit.page.expect_response("**/runs/rows/report*") as report:
        visit.page.click("text=Make the report")
    assert report.value.status == 200
    assert 'id="quality.' in report.value.text()
    assert visit.page.get_attribute("iframe.report", "sandbox") == ""


def test_a_hostile_report_does_nothing(visit: Visit, outside: socket.socket) -> None:
    with visit.page.expect_response("**/runs/other/report*") as report:
        visit.go("run/other/report", "iframe.report")
    assert "top.document.title" in report.value.text()
    assert report.value.headers["content-security-policy"].startswith("sandbox;")
    assert visit.page.get_attribute("iframe.report", "sandbox") == ""
    with pytest.raises(TimeoutError):
        outside.accept()
    assert "hit" not in visit.page.title()
    assert "dialog" not in visit.trouble
    visit.trouble.clear()  # what the policy refused stands in the console


def test_how_it_works_moves_by_mouse_and_by_keyboard(visit: Visit) -> None:
    visit.go("how", "canvas.toy")
    before = visit.texts("[data-value=alpha]")
    visit.page.focus("input[type=range]")
    visit.page.keyboard.press("End")
    assert visit.texts("[data-value=sigma]") == ["σ = 1.00"]
    assert visit.texts("[data-value=alpha]") != before
    visit.page.focus("canvas.toy")
    visit.page.keyboard.press("ArrowLeft")
    assert "x_t = (-0.1, 0)" in " ".join(visit.texts("p"))
    for name in ("euler_maruyama", "ddim"):
        visit.page.select_option("select >> nth=2", name)
    visit.page.select_option("select >> nth=1", "linear")
    visit.whole()
    visit.whole(scheme="dark")


def test_colours_are_switched_and_kept(visit: Visit) -> None:
    def ground() -> int:
        found = visit.page.evaluate("getComputedStyle(document.body).backgroundColor")
        return int(found.split("(")[1].split(",")[0])

    visit.go("", ".card")
    assert ground() > 200
    visit.page.click("#theme")
    visit.page.click("#theme")
    assert ground() < 60
    visit.page.reload()
    visit.see(".card")
    assert ground() < 60
    visit.whole()
    visit.page.click("#theme")


def test_it_prints_without_its_controls(visit: Visit) -> None:
    visit.go("run/images/training", ".plot canvas")
    visit.page.emulate_media(media="print")
    assert not visit.page.is_visible("header")
    assert not visit.page.is_visible(".tabs")
    assert visit.page.is_visible(".facts")
    visit.page.evaluate("document.documentElement.dataset.theme = 'dark'")  # paper is light
    ink = visit.page.evaluate("getComputedStyle(document.querySelector('.facts')).color")
    assert int(ink.split("(")[1].split(",")[0]) < 60
    visit.page.evaluate("delete document.documentElement.dataset.theme")
    visit.page.emulate_media(media="screen")


def test_what_is_not_there_is_said(visit: Visit) -> None:
    visit.page.goto(f"{visit.base}/#/run/none/samples")
    visit.see(".notice.bad")
    assert "none of this name" in visit.texts(".notice.bad")[0]
    visit.trouble.clear()  # 404 is an error in the console
    visit.go("nowhere", "text=There is no such page")
    visit.whole()
