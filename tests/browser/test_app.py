"""The title box alone, as `make app` serves it."""

from collections.abc import Iterator

import pytest
from pages import Box, serving, window
from playwright.sync_api import Browser, Page

from course_lib.poems import DEMO_TITLE

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def app(chromium: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of the page."""
    with serving("app", folder=tmp_path_factory.mktemp("app")) as address:
        yield address


@pytest.fixture
def page(browser: Browser, app: str) -> Iterator[Page]:
    with window(browser) as opened:
        opened.goto(app)
        yield opened


def test_a_visitor_gets_a_poem_and_can_stop_one(page: Page) -> None:
    box = Box(page.locator("body"))
    box.says("Ready")
    assert page.title() == "Type a title, get a poem"
    assert page.get_by_text("import").count() == 0
    box.put("<RES>")
    box.says("<RES> is plain text")
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


@pytest.mark.parametrize("width", [1280, 800, 400])
def test_it_fits_any_window(page: Page, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 800})
    box = Box(page.locator("body"))
    box.says("Ready")
    box.put(DEMO_TITLE)
    box.says("Finished")
    assert box.clipped() == []
    assert box.pale() == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
