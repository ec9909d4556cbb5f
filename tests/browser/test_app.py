"""The page that `make app` serves: the title box on one tab, the chat box on the other."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from pages import Box, Talk, serving, window
from playwright.sync_api import Browser, Page, expect

from course_lib.poems import DEMO_TITLE
from course_lib.prosody import han

pytestmark = pytest.mark.slow


WAITING = """() => {
  const place = document.createElement("div");
  place.className = "lm-Widget lm-Panel jp-OutputArea-output";  // as Voilà makes it
  document.body.append(place);
  place.textContent = "Loading widget...";
  const shown = [getComputedStyle(place).fontSize, getComputedStyle(place, "::after").content];
  place.remove();
  return shown;
}"""


@pytest.fixture(scope="module")
def app(chromium: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of the page. There is a place for each test: who closes the page keeps the place for two minutes."""
    with serving("app", "--Places.places=12", folder=tmp_path_factory.mktemp("app")) as address:
        yield address


@pytest.fixture
def page(browser: Browser, app: str) -> Iterator[Page]:
    with window(browser) as opened:
        opened.goto(app)
        yield opened


@pytest.fixture
def box(page: Page) -> Box:
    """The title box, on the tab that a visitor sees first."""
    return Box(page.locator(".widget-tab-contents > .widget-vbox").first)


@pytest.fixture
def talk(page: Page) -> Talk:
    """The chat box, on the tab that the visitor has chosen."""
    page.get_by_role("tab", name="A conversation").click()
    return Talk(page.locator(".widget-tab-contents > .widget-vbox").last)


def test_a_visitor_gets_a_poem_and_can_stop_one(page: Page, box: Box) -> None:
    box.says("Ready")
    assert page.title() == "Type a title, get a poem"
    assert page.get_by_text("import").count() == 0
    assert page.get_by_text("Reload it to go on.").is_visible()
    box.put("<RES>")
    box.says("<RES> has no effect in a title")
    box.put(DEMO_TITLE)
    box.says("so far")
    box.stop.click()
    box.says("Stopped|Finished")
    box.rest()
    box.put(DEMO_TITLE)
    box.says(r"Writing.* [1-9]\d* characters? so far")
    box.says("Finished")
    assert box.poem()[0] == DEMO_TITLE
    assert len(box.poem()) > 2


def test_a_copied_poem_has_no_signs(page: Page, box: Box) -> None:
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    box.put(DEMO_TITLE)
    box.says("Finished")
    assert box.paper.locator("rt").count() == len(han("".join(box.poem()[1:])))
    assert box.copied().splitlines() == box.poem()
    assert set(box.copied()) - set(han(box.copied())) == set("，。\n")


def test_a_title_entered_meanwhile_is_written_at_once(box: Box) -> None:
    box.put("江雪")
    box.says(r"Writing.* [1-9] characters? so far")
    box.put("明月")
    box.says("Finished")
    assert box.poem()[0] == "明月"


def test_another_poem_has_the_next_seed(box: Box) -> None:
    box.put(DEMO_TITLE)
    box.says("Finished")
    first = box.poem()
    box.another.click()
    box.says("Writing")
    box.says("Finished")
    expect(box.seed).to_have_value("1")
    assert box.poem()[0] == first[0]
    assert box.poem() != first


WIDE = ["title write another stop", "instruction seed best_of", "temperature top_p"]
NARROW = ["title", "write another stop", "instruction", "seed best_of", "temperature", "top_p"]


@pytest.mark.parametrize(("width", "rows"), [(1280, WIDE), (800, WIDE), (390, NARROW)])
def test_it_fits_any_window(page: Page, box: Box, width: int, rows: list[str]) -> None:
    page.set_viewport_size({"width": width, "height": 800})
    box.says("Ready")
    box.put(DEMO_TITLE)
    box.says("Finished")
    assert box.clipped() == []
    assert box.pale() == []
    assert box.rows() == rows
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_on_a_phone_the_state_is_on_the_first_screen(page: Page, box: Box) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    box.says("Ready")
    place = box.within.get_by_role("status").bounding_box()
    assert place is not None
    assert 0 <= place["y"] <= 844 - place["height"]
    assert page.evaluate("scrollY") == 0


def test_on_a_phone_the_message_field_is_on_the_first_screen(page: Page, talk: Talk) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    place = talk.message.bounding_box()
    assert place is not None
    assert 0 <= place["y"] <= 844 - place["height"]
    assert page.evaluate("scrollY") == 0
    page.set_viewport_size({"width": 1280, "height": 900})
    paper = talk.seen.bounding_box()
    assert paper is not None
    assert paper["height"] > 280  # 22 em


def test_each_tab_keeps_what_is_on_it(page: Page, box: Box, talk: Talk) -> None:
    tabs = page.get_by_role("tab")
    assert tabs.all_inner_texts() == ["A poem", "A conversation"]
    expect(box.title).to_be_hidden()
    talk.say("江雪")
    talk.says("Finished")
    talk.say("再寫一首")
    talk.says("Finished|Cut off")
    read = talk.read.inner_text()
    assert read.count("<RES>") == 2
    tabs.first.click()
    expect(talk.message).to_be_hidden()
    box.put(DEMO_TITLE)
    box.says("Finished")
    assert box.poem()[0] == DEMO_TITLE
    tabs.last.click()
    assert talk.read.inner_text() == read


def test_a_conversation_fits_any_window(page: Page, talk: Talk) -> None:
    talk.say(DEMO_TITLE)
    talk.says("Finished")
    for width in (1280, 800, 390):
        page.set_viewport_size({"width": width, "height": 800})
        assert talk.clipped() == []
        assert talk.pale() == []
        assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_a_chinese_reader_meets_no_english_word(browser: Browser, tmp_path: Path) -> None:
    """There are two places: one for the kernel of the pool, which may not be ready yet when the visitor comes."""
    with serving("app", "--Places.places=2", folder=tmp_path, COURSE_LANG="zh") as address, window(browser) as page:
        page.goto(address)
        for name in ("对话", "写诗"):
            page.get_by_role("tab", name=name).click()
            words = re.findall("[A-Za-z]{2,}", page.locator("body").inner_text())
            assert {*words} <= {"Top", "INS", "INP", "RES", "EOS"}
        assert page.title() == "输入题目，得到一首诗"
        assert page.evaluate(WAITING) == ["0px", '"正在载入模型……"']
        for _ in range(3):  # until both places are taken
            page.goto(address)
            if page.title() != "输入题目，得到一首诗":
                break
        assert page.locator("h1").inner_text() == "503: 现在人满了。请过一两分钟，再刷新这一页。"
