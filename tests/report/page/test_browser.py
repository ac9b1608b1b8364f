"""Pages in a real browser: nothing is asked of anyone, nothing sticks out, everything can be read and operated."""

import base64
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from fedsec.report.figures import ALWAYS_BLACK, ALWAYS_WHITE
from fedsec.report.page import (
    Code,
    DataTable,
    Drawing,
    Folded,
    Heading,
    ImageGrid,
    Page,
    PageSection,
    Paragraph,
    Photo,
    render,
)
from fedsec.report.page.parts import TableCell, TableColumn
from fedsec.report.page.svg import inline_svg
from fedsec.runs import run
from fedsec.runs.executor import InProcess

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from selenium.webdriver import Chrome

HOSTILE = "<script>hacked=1</script><img src=x onerror=hacked=2>'\"& ש🙈"
LONG = "x" * 300
PNG = base64.b64decode("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNgAAAAAgABSK+kcQAAAABJRU5ErkJggg==")
LIGHT, DARK = "light", "dark"
PHONE = 360


def drawing(panels: int) -> "Figure":
    """Curves, grays, a white marker's face and letters on colors, side by side."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(3 * panels, 2.5))
    for axes in figure.subplots(1, panels, squeeze=False).flat:
        axes.plot([1, 2], [3, 4], marker="o", markerfacecolor="white", label="mean")
        axes.grid(color="0.9")
        axes.set_title("no attack", color="0.3")
        axes.imshow([[0.0, 1.0]], extent=(1, 2, 3, 4), cmap="gray")
        axes.text(1.1, 3.5, "dark", color=ALWAYS_WHITE)
        axes.text(1.6, 3.5, "bright", color=ALWAYS_BLACK)
    return figure


def every_part() -> Page:
    """A page with every kind of part, of usual and of hostile texts."""
    numbers = [("b", 10.0), ("a10", 9.0), ("", None), ("a9", 100.0)]
    table = DataTable(
        [TableColumn("name"), TableColumn("percent", numeric=True)],
        [
            [TableCell(name, tone="good"), TableCell(f"{value} ±", "" if value is None else value, "bad", "remark")]
            for name, value in numbers
        ],
        "A table",
    )
    columns = [TableColumn("rule"), *(TableColumn(f"label_flip(fraction=0.{i})", numeric=True) for i in range(12))]
    wide = DataTable(
        columns,
        [[TableCell(f"row{i}"), *(TableCell(f"{i}.{j}") for j in range(12))] for i in range(30)],
        "A wide one",
    )
    hostile = DataTable(
        [TableColumn(HOSTILE), TableColumn(LONG)],
        [[TableCell(HOSTILE), TableCell(LONG, 1.0, remark=LONG)], [TableCell(LONG), TableCell("2", 2.0)]],
        HOSTILE,
    )
    usual = [
        *(Paragraph(f"Some {tone} news.", tone) for tone in ("plain", "good", "bad", "note")),
        table,
        wide,
        Heading("Pictures"),
        Drawing(inline_svg(drawing(1), "one"), "a picture", "Small."),
        Drawing(inline_svg(drawing(4), "four"), "four pictures", "Wide."),
        Photo(PNG, "a dot", "A dot."),
        ImageGrid([("best", [Photo(PNG, f"digit {i}", "12.3 dB") for i in range(9)])], "Digits."),
        Code("fedsec run quickstart\n  --indented", "The command"),
        Folded("More", [Paragraph("unfolded"), Folded("Deeper", [Code("a: 1\n" * 90, copied=False)])]),
    ]
    strange = [
        Paragraph(HOSTILE + " \u202efrom right to left\u202c"),
        Paragraph(LONG, "bad"),
        hostile,
        Heading(LONG),
        Code(HOSTILE + LONG, LONG),
        Folded(LONG, [Photo(PNG, HOSTILE, LONG), ImageGrid([(LONG, [Photo(PNG, HOSTILE, LONG)])], HOSTILE)]),
    ]
    return Page(
        HOSTILE, HOSTILE + LONG, [PageSection("usual", "Usual", usual), PageSection("strange", HOSTILE, strange)]
    )


def small_run(folder: Path) -> str:
    """The page that a run leaves whose author named things badly."""
    federation = {"rounds": 2, "local": {"steps": 1, "batch_size": 10}}
    attack = {"name": "label_flip", "fraction": 0.4, "label": HOSTILE}
    scenario = {
        "name": "small",
        "description": HOSTILE + LONG,
        "dataset": {"name": "digits", "train_size": 60},
        "partition": {"name": "iid", "clients": 5},
        "model": "logistic",
        "federation": federation,
        "matrix": {"attack": ["none", attack], "defense": ["mean", "median"]},
        "expect": [{"attack": "none", "defense": "mean", "accuracy": ">= 1.0"}],
    }
    return (run(scenario, out=folder, executor=InProcess()).root / "report.html").read_text(encoding="utf-8")


@dataclass
class Opened:
    """A page in a browser."""

    browser: "Chrome"
    path: Path

    def open(self, width: int = 1280, theme: str = LIGHT, media: str = "", scripts: bool = True) -> "Opened":
        """Load it anew, on a screen of this width."""
        size = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 500}
        wishes = {"prefers-color-scheme": theme, "prefers-reduced-motion": "reduce"}  # scrolling takes no time
        features = [{"name": name, "value": value} for name, value in wishes.items()]
        self.command("Emulation.setDeviceMetricsOverride", **size)
        self.command("Emulation.setEmulatedMedia", media=media, features=features)
        self.command("Emulation.setScriptExecutionDisabled", value=not scripts)
        self.browser.get(self.path.as_uri())
        return self

    def command(self, name: str, **arguments: Any) -> Any:
        """One of the DevTools protocol."""
        return self.browser.execute_cdp_cmd(name, arguments)

    def do(self, script: str, *arguments: Any) -> Any:
        """What a script returns."""
        return self.browser.execute_script(script, *arguments)

    def all(self, selector: str, expression: str) -> list[Any]:
        """An expression of `element`, of each that a selector selects."""
        return list(
            self.do(f"return [...document.querySelectorAll(arguments[0])].map(element => {expression})", selector)
        )

    def unfold(self) -> "Opened":
        """Open all that is folded."""
        self.do("document.querySelectorAll('details').forEach(details => { details.open = true })")
        return self


@pytest.fixture(scope="module")
def parts(browser: "Chrome", tmp_path_factory: pytest.TempPathFactory) -> Opened:
    """A page of every part."""
    path = tmp_path_factory.mktemp("parts") / "page.html"
    path.write_text(render(every_part()), encoding="utf-8")
    return Opened(browser, path)


@pytest.fixture(scope="module")
def of_run(browser: "Chrome", tmp_path_factory: pytest.TempPathFactory) -> Opened:
    """A run's page."""
    folder = tmp_path_factory.mktemp("run")
    path = folder / "page.html"
    path.write_text(small_run(folder), encoding="utf-8")
    return Opened(browser, path)


@pytest.fixture(params=["parts", "of_run"])
def page(request: pytest.FixtureRequest) -> Opened:
    """Either."""
    return request.getfixturevalue(request.param)


def test_nothing_is_wrong_and_nobody_is_asked(page: Opened) -> None:
    for kind in ("browser", "performance"):
        page.browser.get_log(kind)  # of earlier tests
    page.open().unfold()
    page.do("window.scrollTo(0, document.body.scrollHeight)")
    assert page.browser.get_log("browser") == []
    events = [json.loads(entry["message"])["message"] for entry in page.browser.get_log("performance")]
    asked = [event["params"] for event in events if event["method"] == "Network.requestWillBeSent"]
    # Not what the browser's own pages ask for, that it may still be loading.
    urls = [request["request"]["url"] for request in asked if not request["documentURL"].startswith("chrome:")]
    assert urls[0] == page.path.as_uri()
    assert {url.split(":")[0] for url in urls} <= {"file", "data"}


def test_hostile_names_are_letters(page: Opened) -> None:
    page.open().unfold()
    assert page.do("return window.hacked") is None
    assert page.all("script", "element.parentElement.localName") == ["head"]
    assert HOSTILE in page.do("return document.body.textContent")


def test_an_injected_script_would_not_run(parts: Opened) -> None:
    parts.open()
    parts.browser.get_log("browser")
    parts.do(
        "document.body.append(document.createElement('script')); document.body.lastChild.textContent = 'hacked = 3'"
    )
    assert parts.do("return window.hacked") is None
    parts.do(
        "const script = document.createElement('script'); script.text = 'hacked = 3'; document.body.append(script)"
    )
    assert parts.do("return window.hacked") is None
    assert any("Content Security Policy" in entry["message"] for entry in parts.browser.get_log("browser"))


def test_images_load(page: Opened) -> None:
    page.open().unfold()
    loaded = page.do(
        "return Promise.all([...document.images].map(i => i.decode().then(() => i.naturalWidth, () => 0)))"
    )
    assert all(width > 0 for width in loaded)


@pytest.mark.parametrize("width", [PHONE, 768, 1280])
def test_nothing_sticks_out(page: Opened, width: int) -> None:
    page.open(width).unfold()
    assert page.do("return document.documentElement.scrollWidth") <= width
    sticking = """
        const inside = element => element.closest("svg, thead, tbody") || element.parentElement.closest(".scroll, pre")
        return [...document.body.querySelectorAll("*")].filter(element => !inside(element)).filter(element => {
            const box = element.getBoundingClientRect()
            return box.width > 1 && (box.right > innerWidth + 0.5 || box.left < -0.5)
        }).map(element => element.outerHTML.slice(0, 200))
    """
    assert page.do(sticking) == []


@pytest.mark.parametrize("theme", [LIGHT, DARK])
def test_letters_stand_out_from_their_ground(page: Opened, theme: str) -> None:
    page.open(theme=theme).unfold()
    assert page.do("return getComputedStyle(document.documentElement).colorScheme") == "light dark"
    paper, faint = page.do(CONTRAST)
    assert (sum(paper) > 600) == (theme == LIGHT)
    assert faint == []


CONTRAST = """
    const pixel = Object.assign(document.createElement("canvas"), { width: 1, height: 1 })
        .getContext("2d", { willReadFrequently: true })
    const over = (ground, color) => {  // as it looks, whatever notation it is written in
        pixel.globalAlpha = 1
        for (const layer of [`rgb(${ground})`, color]) { pixel.fillStyle = layer; pixel.fillRect(0, 0, 1, 1) }
        return [...pixel.getImageData(0, 0, 1, 1).data.slice(0, 3)]
    }
    const groundOf = element => element === null ? [255, 255, 255]
        : over(groundOf(element.parentElement), getComputedStyle(element).backgroundColor)
    const light = color => color.map(c => c / 255).map(c => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
        .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0)
    const contrast = (a, b) => (Math.max(light(a), light(b)) + 0.05) / (Math.min(light(a), light(b)) + 0.05)
    const faint = []
    for (const element of document.body.querySelectorAll("*")) {
        const shown = [...element.childNodes].some(node => node.nodeType === 3 && node.data.trim())
        if (!shown || element.checkVisibility && !element.checkVisibility()) continue
        const style = getComputedStyle(element), ground = groundOf(element)
        const color = element.closest("svg") ? style.fill : style.color
        if (["rgb(1, 1, 1)", "rgb(254, 254, 254)"].includes(color)) continue  // on a picture's own colors
        const ratio = contrast(over(ground, color), ground)
        if (ratio < 4.5) faint.push([element.outerHTML.slice(0, 120), color, ground, ratio])
    }
    return [groundOf(document.body), faint]
"""


def test_letters_on_colors_of_a_picture_stay_as_they_are(parts: Opened) -> None:
    def fills() -> list[str]:
        return parts.all("svg text", "element.textContent.trim() + ' ' + getComputedStyle(element).fill")

    light, dark = (parts.open(theme=theme) and fills() for theme in (LIGHT, DARK))
    same = {text.split(" ", 1)[0] for text in set(light) & set(dark)}
    assert same == {"dark", "bright"}


def test_the_theme_is_the_readers_choice(parts: Opened) -> None:
    def ground() -> str:
        return str(parts.do("return getComputedStyle(document.body).backgroundColor"))

    parts.open(theme=DARK)
    dark, button = ground(), parts.browser.find_element("css selector", ".masthead button")
    assert button.text == "Light theme"
    button.click()
    light = ground()
    assert light != dark
    assert button.text == "Dark theme"
    parts.open(theme=DARK)
    assert ground() == light, "remembered"
    parts.do("localStorage.clear()")
    parts.open(theme=DARK)
    assert ground() == dark


def column(page: Opened, number: int) -> list[str]:
    return page.all(
        f"#usual .table:nth-of-type(1) tbody tr > :nth-child({number})", "element.firstChild?.textContent.trim() ?? ''"
    )


@pytest.mark.parametrize("by_keyboard", [False, True], ids=["click", "keyboard"])
def test_tables_sort(parts: Opened, by_keyboard: bool) -> None:
    from selenium.webdriver.common.keys import Keys

    parts.open()
    name, percent = parts.browser.find_elements("css selector", "#usual .table:nth-of-type(1) thead button")
    press: Callable[[Any], None] = (
        (lambda button: button.send_keys(Keys.ENTER)) if by_keyboard else (lambda button: button.click())
    )
    given = column(parts, 1)
    press(percent)
    assert column(parts, 2) == ["9.0 ±", "10.0 ±", "100.0 ±", "None ±"]
    press(percent)
    assert column(parts, 2) == ["100.0 ±", "10.0 ±", "9.0 ±", "None ±"], "what is missing stays last"
    assert parts.all("#usual .table:nth-of-type(1) th[scope=col]", "element.ariaSort") == [None, "descending"]
    press(percent)
    assert column(parts, 1) == given
    press(name)
    assert column(parts, 1) == ["a9", "a10", "b", ""]
    assert parts.all("#usual .table:nth-of-type(1) th[scope=col]", "element.ariaSort") == ["ascending", None]


def test_long_tables_can_be_searched(parts: Opened) -> None:
    from selenium.webdriver.common.keys import Keys

    parts.open()
    (search,) = parts.browser.find_elements("css selector", "input[type=search]")
    search.send_keys("ROW2 .1")
    shown = parts.all(".long tbody tr:not([hidden]) th", "element.textContent")
    assert shown == ["row2", *(f"row{i}" for i in range(20, 30))]
    assert parts.all("output", "element.textContent") == ["11 of 30 rows"]
    search.send_keys(Keys.BACKSPACE * 7)
    assert len(parts.all(".long tbody tr:not([hidden])", "1")) == 30


def test_regions_that_scroll_say_so(parts: Opened) -> None:
    def hints() -> dict[str, bool]:
        shown = "[element.textContent.slice(0, 8), !element.querySelector('.hint').hidden]"
        return dict(parts.all("#usual figure:has(.hint)", shown))

    parts.open(PHONE)


def test_code_is_copied_letter_by_letter(parts: Opened) -> None:
    parts.open()
    parts.command("Browser.grantPermissions", permissions=["clipboardReadWrite", "clipboardSanitizedWrite"])
    button, *others = parts.browser.find_elements("css selector", "#usual .code button")
    assert not others, "the other is not for copying"
    button.click()
    read = "const done = arguments[0]; navigator.clipboard.readText().then(done, error => done(String(error)))"
    assert parts.browser.execute_async_script(read) == "fedsec run quickstart\n  --indented"
    assert button.text == "Copied"


def test_everything_is_there_without_scripts(parts: Opened) -> None:
    parts.open(scripts=False)
    source = parts.browser.page_source
    parts.open()
    body = source[source.index("<body") :]
    assert not re.search(r"<(button|input)", body)
    assert "unfolded" in body


def test_a_page_is_printed_whole(page: Opened) -> None:
    page.open(media="print", width=700)
    assert set(page.all("nav, .hint, .filter, button.tool", "getComputedStyle(element).display")) == {"none"}
    assert page.all("details > :not(summary)", "element.getBoundingClientRect().height > 0").count(False) == 0
    assert page.all(".scroll", "element.scrollWidth - element.clientWidth > 1").count(True) == 0
    page.open(theme=DARK)
    pdf = base64.b64decode(page.command("Page.printToPDF", printBackground=True)["data"])
    sections = len(page.all("main > section", "1"))
    assert len(re.findall(rb"/Type\s*/Page\b", pdf)) >= sections


STRUCTURE = """
    const problems = []
    const check = (selector, rule, fits) => document.querySelectorAll(selector).forEach(element => {
        if (!fits(element)) problems.push([rule, element.outerHTML.slice(0, 150)])
    })
    const named = element => Boolean((element.getAttribute("aria-label")
        ?? document.getElementById(element.getAttribute("aria-labelledby"))?.textContent ?? element.textContent).trim())
    const ids = [...document.querySelectorAll("[id]")].map(element => element.id)
    check("[id]", "ids are unique", element => ids.filter(id => id === element.id).length === 1)
    check("a[href]", "links lead somewhere", link => ids.includes(decodeURIComponent(link.hash.slice(1))))
    check("table, [role=region], [role=img], [role=group], nav, button, a", "has a name", named)
    check("section", "is named by its heading", section => section.ariaLabelledByElements?.[0]?.localName === "h2")
    check("img", "has a description", image => image.alt.trim())
    check("svg", "is described from outside", svg => svg.ariaHidden === "true" && svg.closest("[role=img]"))
    check("thead th", "heads a column", cell => cell.scope === "col")
    check("tbody th", "heads a row", cell => cell.scope === "row")
    check("input", "is labelled", input => input.labels.length)
    check("[onclick], [onload], [onerror]", "has no handler within", () => false)
    const levels = [...document.querySelectorAll("h1, h2, h3, h4")].map(heading => Number(heading.localName[1]))
    levels.forEach((level, i) => { if (level > (levels[i - 1] ?? 0) + 1) problems.push(["headings in order", levels]) })
    const count = name => document.querySelectorAll(`body > ${name}`).length
    const landmarks = ["header", "nav", "main", "footer"].map(count)
    if (document.documentElement.lang !== "en") problems.push(["language"])
    if (levels.filter(level => level === 1).length !== 1) problems.push(["one title"])
    if (String(landmarks) !== "1,1,1,1") problems.push(["landmarks"])
    return problems
"""


def test_the_structure_can_be_heard(page: Opened) -> None:
    page.open().unfold()
    assert page.do(STRUCTURE) == []


def test_the_keyboard_reaches_everything_and_is_seen(parts: Opened) -> None:
    from selenium.webdriver import ActionChains
    from selenium.webdriver.common.keys import Keys

    parts.open()
    stops = []
    for _ in range(14):
        ActionChains(parts.browser, duration=0).send_keys(Keys.TAB).perform()
        stops.append(
            parts.do(
                "const e = document.activeElement, box = e.getBoundingClientRect();"
                "return [e.className || e.localName, getComputedStyle(e).outlineStyle, box.width > 1 && box.bottom > 0]"
            )
        )
    assert stops[0][0] == "skip"
    assert {name for name, _, _ in stops} >= {"skip", "tool", "a", "button"}
    assert all(outline == "solid" and seen for _, outline, seen in stops)
