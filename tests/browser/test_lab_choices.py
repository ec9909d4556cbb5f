"""The choice box in a real JupyterLab."""

import re
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
from pages import Box, Notebook, window
from playwright.sync_api import Browser, Locator, expect

from course_lib.tasks import read_pairs

pytestmark = pytest.mark.slow
CODE = """\
from course_lib import paths, show
from course_lib.checkpoints import load_checkpoint
box = show.choice_box(load_checkpoint(paths.FINETUNED), "choices.jsonl", ["江雪", "山居", "春曉", "瀑布", "荷花"])
box"""


class Choice(Box):  # type: ignore[misc]  # mypy does not see `pages`
    """The choice box, found as a screen reader finds it."""

    def __init__(self, within: Locator) -> None:
        super().__init__(within)
        self.field = within.get_by_role("textbox", name="Title", exact=True)
        names = ("Left is better", "Right is better", "Neither")
        self.left, self.right, self.neither = (within.get_by_role("button", name=name, exact=True) for name in names)

    def poems(self) -> list[str]:
        """The two poems on the page, left and right, without title and signs."""
        rows = self.within.locator("[lang]").all()
        return [re.sub(r"[○●◐△？\s]", "", row.inner_text()) for row in rows]


@pytest.fixture(scope="module")
def notebook(browser: Browser, lab: str, course: Path) -> Iterator[Notebook]:
    """A notebook with a choice box."""
    made = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(CODE)])
    made.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(made, course / "notebooks" / "choice.ipynb")
    with window(browser) as page:
        opened = Notebook(page, lab, "notebooks/choice.ipynb")
        opened.command("notebook:run-all-cells")
        yield opened


@pytest.fixture
def box(notebook: Notebook) -> Choice:
    """The choice box, in a window of the usual width."""
    notebook.page.set_viewport_size({"width": 1280, "height": 900})
    made = Choice(notebook.cell("show.choice_box"))
    made.left.wait_for()
    return made


def test_a_choice_is_made_by_keyboard_alone_and_kept(notebook: Notebook, box: Choice, course: Path) -> None:
    press = notebook.page.keyboard.press
    box.says("Ready")
    box.title.press("Enter")
    box.says("Which of the two is better. 0 choices")
    left, right = box.poems()
    press("Tab")
    for control in (box.write, box.left):
        assert control.evaluate("e => e === document.activeElement")
        press("Tab")
    assert box.right.evaluate("e => e === document.activeElement")
    press("Enter")
    box.says("Which of the two is better. 1 choice in choices.jsonl")
    (pair,) = read_pairs(course / "notebooks" / "choices.jsonl")
    assert ["".join(text.split()) for text in (pair.chosen, pair.rejected)] == [right, left]
    assert pair.prompt[-1]["content"] == "江雪"
    expect(box.field).to_have_value("山居")
    assert box.right.evaluate("e => e === document.activeElement")  # for the next choice
    press("Tab")
    press("Space")  # neither
    expect(box.field).to_have_value("春曉")
    box.says("Which of the two is better. 1 choice in")
    assert notebook.troubles() == []


def test_a_refused_title_is_told_and_nothing_is_kept(notebook: Notebook, box: Choice) -> None:
    kept = notebook.ask_kernel("box.count")
    box.put("<img src=x onerror=alert(1)>")
    box.says("Refused")
    box.left.click()
    assert notebook.ask_kernel("box.count") == kept
    assert box.within.locator("img, script").count() == 0
    box.put("江月")
    box.says("Which of the two is better")


@pytest.mark.usefixtures("glyphs")
def test_the_poems_stand_side_by_side_or_below_each_other_and_nothing_is_clipped_or_pale(
    notebook: Notebook, box: Choice, pictures: Path
) -> None:
    box.put("瀑布")
    box.says("Which of the two is better")
    for width in (1280, 800):
        notebook.page.set_viewport_size({"width": width, "height": 900})
        for theme in ("Dark", "Light"):
            notebook.command("apputils:change-theme", theme=f"JupyterLab {theme}")
            notebook.page.locator(f"[data-jp-theme-name='JupyterLab {theme}']").wait_for(state="attached")
            assert box.clipped() == []
            assert box.pale() == []
        notebook.page.screenshot(path=pictures / f"choice_box_{width}.png")
        places = [side.bounding_box() for side in box.within.locator("[lang]").all()]
        assert all(places)
        is_beside = abs(places[0]["y"] - places[1]["y"]) < 5
        assert is_beside == (width == 1280)
