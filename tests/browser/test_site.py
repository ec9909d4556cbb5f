"""The site to read, as `make site` builds it and a plain file server shows it."""

import json
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from html import unescape
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from itertools import chain
from pathlib import Path
from typing import Literal
from urllib.parse import unquote, urljoin, urlsplit

import pytest
from pages import LOOKS, window
from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.slow

# One page of each kind.
KINDS = [
    "index.html",
    "zh.html",
    "notebooks/08_preferences.html",
    "notebooks/zh/05_generate.html",
    "docs/glossary.html",
    "docs/glossary.zh-CN.html",
    "reference/commands/write.html",
    "search.zh-CN.html?q=损失掩码",
]
SCHEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")
WIDTHS = (1280, 800, 390)
HERE = "http://127.0.0.1"
LINK = re.compile(r"<(\w+)\b[^>]*?\s(href|src)=\"([^\"]*)\"")
LABEL = re.compile(r"(?:(?:aria-label|title|placeholder)=\"|<title>)([^<\"]+)")
ANCHOR = re.compile(r"\sid=\"([^\"]+)\"")


@pytest.fixture(scope="module")
def site(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the site. Its build fails at the first warning of Sphinx."""
    out = tmp_path_factory.mktemp("site") / "built"
    asked = [sys.executable, "scripts/build_site.py", "--out", str(out)]
    done = subprocess.run(asked, cwd=repository, capture_output=True, text=True, encoding="utf-8", check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return out


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[str, str]:
    """Each page of the site -> its HTML. The page that writes poems is not one of them."""
    found = {path.relative_to(site).as_posix(): path.read_text("utf-8") for path in site.rglob("*.html")}
    return {name: html for name, html in found.items() if not name.startswith("poem/")}


class Quiet(SimpleHTTPRequestHandler):
    """A plain file server."""

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def address(site: Path) -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(site))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"{HERE}:{server.server_port}/"
        server.shutdown()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A window. A request to another host, an error on the page and a missing file fail the test."""
    with window(browser) as opened:
        faults: list[str] = []
        opened.route(lambda url: not url.startswith(HERE), lambda route: route.abort())
        opened.on("request", lambda asked: None if asked.url.startswith(HERE) else faults.append(asked.url))
        opened.on("pageerror", lambda error: faults.append(str(error)))
        opened.on("response", lambda answer: None if answer.ok else faults.append(f"{answer.status} {answer.url}"))
        yield opened
        assert faults == []


# --- the files ------------------------------------------------------------------------------------


def test_every_link_within_the_site_leads_to_a_page_and_a_place_on_it(site: Path, pages: dict[str, str]) -> None:
    anchors = {name: {*map(unescape, ANCHOR.findall(html)), ""} for name, html in pages.items()}
    dead = set()
    for name, html in pages.items():
        for _, _, written in LINK.findall(html):
            target = urlsplit(urljoin(f"{HERE}/{name}", unescape(written)))
            if target.netloc != urlsplit(HERE).netloc:
                continue
            file = unquote(target.path).lstrip("/")
            file += "index.html" * (not file or file.endswith("/"))
            if not (site / file).is_file() or unquote(target.fragment) not in anchors.get(file, {""}):
                dead.add(f"{name}: {written}")
    assert not dead


def test_no_page_names_a_file_of_another_host(site: Path, pages: dict[str, str]) -> None:
    shown = [(name, *link) for name, html in pages.items() for link in LINK.findall(html) if link[0] != "a"]
    assert {name for name, *_ in shown} == set(pages)
    assert [(name, written) for name, _, _, written in shown if urlsplit(written).scheme not in ("", "data")] == []
    styles = "".join(path.read_text("utf-8") for path in site.glob("_static/**/*.css"))
    assert re.findall(r"(?:url\(|@import)\s*[\"']?(?:https?:)?//[^)]*", styles) == []


def test_all_notebooks_are_there_with_their_outputs(repository: Path, pages: dict[str, str]) -> None:
    editions = [sorted((repository / "notebooks" / folder).glob("*.ipynb")) for folder in (".", "zh")]
    assert len(editions[0]) == len(editions[1]) >= 8
    for path in chain(*editions):
        html = pages[path.relative_to(repository).with_suffix(".html").as_posix()]
        cells = json.loads(path.read_text("utf-8"))["cells"]
        assert html.count('class="cell_output ') == sum(bool(cell.get("outputs")) for cell in cells)
        assert html.count('class="cell_input ') == sum(c["cell_type"] == "code" for c in cells) - 1  # without set-up
    assert "好雨知時節，當春乃發生。" in pages["notebooks/01_data_formatting.html"]
    assert "好雨知時節，當春乃發生。" in pages["notebooks/zh/01_data_formatting.html"]


def test_the_reference_describes_every_module(repository: Path, pages: dict[str, str]) -> None:
    described = {name for html in pages.values() for name in re.findall(r'id="module-(course_lib[\w.]*)"', html)}
    there = {path.relative_to(repository).with_suffix("") for path in (repository / "course_lib").rglob("*.py")}
    assert described == {".".join(path.parts).removesuffix(".__init__") for path in there}
    assert 'id="course_lib.poems.load_poems"' in pages["reference/poems.html"]
    assert re.search(r"<strong>ValueError</strong>|>ValueError<", pages["reference/generation.html"])
    write = pages["reference/commands/write.html"]
    assert 'id="course_lib.commands.write.write"' in write
    assert "typer.models" not in write


def is_chinese(name: str) -> bool:
    return name == "zh.html" or "/zh/" in name or ".zh-CN." in name


def test_a_page_in_chinese_says_so(pages: dict[str, str]) -> None:
    for name, html in pages.items():
        chinese = is_chinese(name)
        assert ('lang="zh-CN"' in html[:200]) == chinese, name
        assert ("本页内容" in html) == (chinese and not name.startswith("search")), name
        assert not (chinese and "On this page" in html), name
        captions = re.findall('class="caption-text">(.*?)<', html)
        if chinese:
            assert captions == ["中文版", "英文版", "参考（英文）", "安装（英文）"]
        else:
            assert captions == ["The course", "中文版", "Reference", "Set up"]


def test_the_labels_around_a_chinese_page_are_chinese(pages: dict[str, str]) -> None:
    """What a screen reader says of them, and what is shown while the mouse rests on them."""
    for name in filter(is_chinese, pages):
        assert "Link to this heading" not in pages[name]
        before, _, rest = pages[name].partition("<article")
        labels = LABEL.findall(before + rest.partition("</article>")[2])
        assert len(labels) > 10
        assert [label for label in labels if not re.search("[一-鿿]", label)] == [], name


def test_a_step_forward_or_back_or_home_stays_in_the_language(pages: dict[str, str]) -> None:
    for name, html in pages.items():
        steps = re.findall(r'class="(?:next-page|prev-page|sidebar-brand)" href="([^"]*)"', html)
        assert steps, name
        assert {is_chinese(urljoin(name, step).replace("#", name)) for step in steps} == {is_chinese(name)}, name


def test_the_page_that_writes_poems_is_linked_only_if_it_is_there(site: Path, pages: dict[str, str]) -> None:
    assert ('href="poem/"' in pages["index.html"]) == (site / "poem" / "index.html").is_file()


# --- in a browser ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", KINDS)
def test_a_page_can_be_read_at_every_width_by_day_and_by_night(
    page: Page, address: str, pictures: Path, name: str
) -> None:
    page.goto(address + name)
    for scheme in SCHEMES:
        page.emulate_media(color_scheme=scheme)
        for width in WIDTHS:
            page.set_viewport_size({"width": width, "height": 900})
            assert page.evaluate("document.documentElement.scrollWidth") <= width
            shot = f"site-{name.partition('.html')[0].replace('/', '-')}-{width}-{scheme}.png"
            page.screenshot(path=pictures / shot)
        assert page.locator("article").evaluate(f"e => {{ {LOOKS}; return pale(e); }}") == []


def test_on_a_phone_the_words_of_a_figure_can_be_read_and_paper_is_not_cut(page: Page, address: str) -> None:
    page.set_viewport_size({"width": 390, "height": 900})
    page.goto(f"{address}notebooks/06_evaluate.html")
    figures = page.locator("article img").evaluate_all("all => all.map(one => one.getBoundingClientRect().width)")
    assert len(figures) >= 2
    assert min(figures) > 500  # it scrolls within its own place
    edge = page.locator("article").evaluate("article => article.getBoundingClientRect().right")
    sheets = page.locator(".cell_output .output > div[style*='border-radius']")
    assert sheets.count() > 5
    assert max(sheets.evaluate_all("all => all.map(one => one.getBoundingClientRect().right)")) <= edge
    assert page.locator("article thead").first.is_hidden()  # the first table has no head


def test_a_poem_stands_in_columns_and_a_formula_is_drawn(page: Page, address: str) -> None:
    page.goto(f"{address}notebooks/05_generate.html")
    column = page.locator('[style*="vertical-rl"]').first
    assert column.evaluate("e => getComputedStyle(e).writingMode") == "vertical-rl"
    box = column.bounding_box()
    assert box
    assert box["height"] > 2 * box["width"]
    assert page.locator("article rt").count() > 20  # a sign for each tone
    page.goto(f"{address}notebooks/08_preferences.html")
    formula = page.locator("math mfrac").first.bounding_box()
    assert formula
    assert formula["height"] > 20


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ("损失掩码", "2 · 谁在说话"),
        ("押韵", "6 · 写得好不好"),
        ("韵", "5 · 输入题目，得到一首诗"),
        ("loss mask", "2 · Who is speaking"),
        ("load_poems", "course_lib.poems.load_poems"),
    ],
)
def test_the_search_finds_words_of_both_languages(page: Page, address: str, asked: str, expected: str) -> None:
    page.goto(f"{address}search.html?q={asked}")
    page.locator("#search-results a", has_text=expected).first.wait_for()


def test_the_search_of_a_chinese_page_answers_in_chinese(page: Page, address: str) -> None:
    page.goto(f"{address}notebooks/zh/01_data_formatting.html")
    page.get_by_role("textbox", name="搜索").fill("损失掩码")
    page.keyboard.press("Enter")
    page.get_by_role("heading", name="搜索结果").wait_for()
    page.locator(".search-summary", has_text="搜索完成").wait_for()
    assert re.findall("[A-Za-z]{3,}", page.locator("#search-results").inner_text().split("\n\n")[0]) == []
    page.goto(f"{address}search.zh-CN.html?q=")
    page.locator("#search-results", has_text="请在搜索框里输入要找的词。").wait_for()
    page.goto(f"{address}search.zh-CN.html?q=齉齾爩")
    page.locator(".search-summary", has_text="没有找到。请换一个词试试。").wait_for()
