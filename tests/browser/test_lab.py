"""The title box of notebook 5 and the plot of notebook 4, in a real JupyterLab."""

import base64
import re
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
from pages import LOOKS, Box, Notebook, window
from PIL import Image, ImageColor, ImageSequence
from playwright.sync_api import Browser, expect

from course_lib.poems import DEMO_TITLE
from course_lib.show.html import RED
from course_lib.show.title_box import THREAD

pytestmark = pytest.mark.slow
WRITERS = f"sum(t.name == {THREAD!r} for t in __import__('threading').enumerate())"


@pytest.fixture(scope="module")
def notebook(browser: Browser, lab: str) -> Iterator[Notebook]:
    """Notebook 5 after all its cells were run."""
    with window(browser) as page:
        opened = Notebook(page, lab, "notebooks/05_generate.ipynb")
        opened.command("notebook:run-all-cells")
        yield opened


@pytest.fixture
def box(notebook: Notebook) -> Iterator[Box]:
    """The title box, at rest, in a window of the usual width."""
    made = Box(notebook.cell("box = show.title_box"))
    notebook.ask_kernel("setattr(box.page, 'value', show.poem_html('', '', 'ready'))")
    made.says("Ready")  # not the page that the last test left
    yield made
    notebook.page.set_viewport_size({"width": 1280, "height": 900})
    notebook.ask_kernel("setattr(box, 'pace', 0.05)")
    made.rest()


@pytest.fixture
def slow(notebook: Notebook, box: Box) -> Box:
    """A box so slow that any machine has time to press Stop before the poem is finished."""
    notebook.ask_kernel("setattr(box, 'pace', 0.5)")
    return box


# --- the title box --------------------------------------------------------------------------------


def test_all_cells_run_without_a_traceback_or_a_warning(notebook: Notebook) -> None:
    notebook.cell("read_until")  # the last one: cells far from it are not drawn
    assert notebook.troubles() == []
    assert notebook.ask_kernel("folder == paths.OWN") == "False"


def test_jupyterlab_asks_the_learner_nothing(notebook: Notebook) -> None:
    assert notebook.page.locator(".Toastify__toast, .jp-Dialog").all_inner_texts() == []


def test_a_poem_arrives_character_by_character(notebook: Notebook, box: Box) -> None:
    box.within.evaluate(
        f"""e => {{ {LOOKS}; window.seen = [];
           const columns = () => [...e.querySelectorAll("[style*=vertical-rl]")];
           const look = () => window.seen.push(columns().slice(1).map(unmarked).join(""));
           new MutationObserver(look).observe(e, {{childList: true, subtree: true}}); }}"""
    )
    box.put(DEMO_TITLE)
    box.says("Finished")
    text = "".join(box.poem()[1:])
    seen = notebook.page.evaluate("[...new Set(window.seen)]")
    assert [text.startswith(part) for part in seen] == [True] * len(seen)
    assert len(seen) > len(text) / 2
    below = Box(notebook.cell("characters = list(poem)"))  # the same poem, written without the box
    assert below.poem() == [DEMO_TITLE, *box.poem()[1:]]


@pytest.mark.usefixtures("glyphs")
def test_a_poem_stands_upright_from_right_to_left_in_the_middle(box: Box) -> None:
    box.put(DEMO_TITLE)
    box.says("Finished")
    paper = box.paper.bounding_box()
    columns = [column.bounding_box() for column in box.columns.all()]
    assert all(column["height"] > 4 * column["width"] for column in columns)
    assert [column["x"] for column in columns] == sorted((column["x"] for column in columns), reverse=True)
    assert len({column["y"] for column in columns}) == 1
    right = paper["x"] + paper["width"] - columns[0]["x"] - columns[0]["width"]
    left = columns[-1]["x"] - paper["x"]
    assert abs(right - left) < paper["width"] / 8


def test_a_finished_poem_is_marked_and_its_nearest_kin_named(box: Box) -> None:
    box.put(DEMO_TITLE)
    box.says("Finished")
    characters = len("".join(box.poem()[1:]))
    assert 0 < box.paper.locator("rt").count() < characters  # punctuation has none
    box.paper.get_by_text(re.compile("Nearest Tang training poem: 《.+》 by|No Tang training poem")).wait_for()
    assert box.paper.get_by_text("○ level 平").is_visible()


def test_stop_ends_the_next_poem_in_the_middle(slow: Box) -> None:
    for title in ("江雪", "山居"):
        slow.write.wait_for()
        slow.put(title)
        slow.says(r"Writing.* [3-9] characters so far")
        slow.stop.click()
        slow.says(r"You stopped the poem after \d+ characters\.")
        text = "".join(slow.poem()[1:])
        assert 3 <= len(text) < 20
        assert slow.poem()[0] == title
        slow.rest()


@pytest.mark.parametrize(
    ("typed", "sentence"),
    [
        ("   ", "Refused. The title is blank. Type a few Chinese characters, such as 春夜喜雨."),
        ("長" * 61, "Refused. This title has 61 characters; 60 is the most, so that the poem has room."),
        ("<script>alert(1)</script>", "Refused. There is no Chinese character in this title"),
        ("<RES>", "Refused. A special token such as <RES> has no effect in a title"),
    ],
    ids=["blank", "over-long", "script", "mark"],
)
def test_a_title_that_cannot_be_used_is_refused_in_a_sentence(box: Box, typed: str, sentence: str) -> None:
    box.put(typed)
    box.says(re.escape(sentence))
    assert box.poem() == []
    box.rest()


def test_what_is_left_out_of_a_title_is_shown_and_never_becomes_html(box: Box) -> None:
    box.put("春<EOS>夜<img src=x onerror=alert(1)>")
    assert "Left out: <EOS>, <img, src=x, onerror=alert(1)> (the" in box.says("Finished|Cut off")
    assert box.poem()[0] == "春夜"
    assert box.within.locator("img, script").count() == 0


def test_the_best_of_several_is_announced_while_it_is_written_and_can_be_stopped(notebook: Notebook, box: Box) -> None:
    box.best_of.fill("4")
    box.put(DEMO_TITLE)
    box.says("The best poem will appear here")
    box.says("Finished.* Best of 4 poems, by form, rhyme and tones.")
    best = box.poem()
    chosen = "next(iter_poems(checkpoint, [DEMO_TITLE], candidates=4)).text"
    assert notebook.ask_kernel(chosen) == repr("\n".join(best[1:]))
    box.best_of.fill("16")
    box.put(DEMO_TITLE)
    box.says("The best poem will appear here")
    box.stop.click()
    box.says("Stopped")
    box.rest()
    box.best_of.fill("1")


def test_a_poem_of_another_kind_can_be_asked_for(notebook: Notebook, box: Box) -> None:
    box.instruction.select_option("old-style 古體詩")
    box.put(DEMO_TITLE)
    box.says("Finished|Cut off")
    written = "''.join(write(checkpoint, DEMO_TITLE, instruction=checkpoint.instruction('old-style')))"
    assert notebook.ask_kernel(written) == repr("\n".join(box.poem()[1:]))
    box.instruction.select_option("poem 詩")


def test_ten_quick_clicks_leave_one_poem_being_written_and_no_thread_behind(notebook: Notebook, slow: Box) -> None:
    slow.title.fill("江雪")
    slow.write.evaluate("button => { for (let i = 0; i < 10; i++) button.click(); }")
    slow.says("so far")
    assert notebook.ask_kernel(WRITERS) == "1"
    slow.stop.click()
    slow.says("Stopped")
    slow.rest()
    assert notebook.ask_kernel("(box.wait(), " + WRITERS + ")[1]") == "0"


def test_every_control_is_reached_and_worked_by_keyboard(notebook: Notebook, box: Box) -> None:
    press = notebook.page.keyboard.press
    box.title.focus()
    sliders = box.within.get_by_role("slider")
    controls = (
        box.write,
        box.another,
        box.instruction,
        box.seed,
        box.best_of,
        box.temperature,
        sliders.first,
        box.top_p,
        sliders.last,
    )
    for control in controls:  # Stop is off as long as nothing is written
        press("Tab")
        assert control.evaluate("e => e === document.activeElement")
    box.seed.focus()
    press("ArrowUp")
    box.temperature.focus()
    press("ArrowDown")
    press("Tab")
    expect(sliders.first).to_have_attribute("aria-valuetext", "0.75")
    sliders.last.focus()
    press("ArrowLeft")
    press("Tab")
    expect(box.top_p).to_have_value("0.85")
    assert notebook.ask_kernel("(box.seed.value, box.temperature.value, box.top_p.value)") == "(1, 0.75, 0.85)"
    box.write.focus()
    press("Enter")
    box.says("so far")
    box.stop.focus()
    press("Enter")
    box.says("Stopped|Finished")
    box.seed.fill("0")
    box.temperature.fill("0.8")
    box.top_p.fill("0.95")


@pytest.mark.parametrize("width", [1280, 800])
def test_nothing_is_clipped_or_pale(notebook: Notebook, box: Box, width: int) -> None:
    notebook.page.set_viewport_size({"width": width, "height": 900})
    box.put(DEMO_TITLE)
    box.says("Finished")
    wide = ["title write another stop", "instruction seed best_of", "temperature top_p"]  # beside the file browser
    assert box.rows() == wide or width < 1280
    for theme in ("Dark", "Light"):
        notebook.command("apputils:change-theme", theme=f"JupyterLab {theme}")
        notebook.page.locator(f"[data-jp-theme-name='JupyterLab {theme}']").wait_for(state="attached")
        assert box.clipped() == []
        assert box.pale() == []


def test_a_saved_notebook_opens_again_without_a_broken_widget(browser: Browser, lab: str, course: Path) -> None:
    path = course / "notebooks" / "saved.ipynb"
    saved = nbformat.read(course / "notebooks" / "05_generate.ipynb", as_version=4)
    code = "from course_lib import checkpoints, paths, show\n"
    code += "show.title_box(checkpoints.load_checkpoint(paths.FINETUNED))"
    saved.cells = [nbformat.v4.new_code_cell(code)]
    nbformat.write(saved, path)
    with window(browser) as page:
        notebook = Notebook(page, lab, "notebooks/saved.ipynb")
        notebook.command("notebook:run-all-cells")
        Box(notebook.cell("title_box")).says("Ready")
        notebook.command("docmanager:save")
        assert '"execution_count": 1' in path.read_text()
        notebook.script("await current.context.sessionContext.shutdown()")
    with window(browser) as page:
        cell = Notebook(page, lab, "notebooks/saved.ipynb").cell("title_box")
        cell.get_by_text("Run this cell in Jupyter (Shift+Enter), and the box appears here.").wait_for()
        assert "Error" not in cell.inner_text()


# --- the plot -------------------------------------------------------------------------------------


def test_the_plot_moves_while_the_model_learns(browser: Browser, lab: str) -> None:
    with window(browser) as page:
        notebook = Notebook(page, lab, "notebooks/04_finetune.ipynb")
        cell = notebook.cell("plot.watch")
        notebook.command("notebook:clear-all-cell-outputs")
        cell.evaluate(
            """e => { window.drawn = new Set(); const look = () => e.innerText.includes("[*]") &&
               e.querySelectorAll("img").forEach(image => window.drawn.add(image.src));
               new MutationObserver(look).observe(e, {childList: true, subtree: true, attributes: true}); }"""
        )
        notebook.run_through("plot.watch")
        assert not (troubles := notebook.troubles()), "\n".join(troubles)
        assert page.evaluate("window.drawn.size") > 3
        assert cell.locator("img").count() == 1


# --- the README's pictures ------------------------------------------------------------------------


@pytest.mark.usefixtures("glyphs")
def test_picture_of_the_title_box(slow: Box, pictures: Path) -> None:
    """In the README the poem appears, and stops; in notebook 5 it is there."""
    slow.best_of.fill("8")  # the picture shows the poem of the README, and says that it was chosen
    slow.put(DEMO_TITLE)
    slow.title.blur()
    slow.film(pictures / "title_box.gif", "Nearest Tang training poem")
    expect(slow.whole.get_by_text("Finished")).to_be_visible()
    expect(slow.whole.get_by_text("Best of 8 poems")).to_be_visible()
    slow.whole.screenshot(path=pictures / "title_box.png")
    with Image.open(pictures / "title_box.gif") as film:
        frames = [frame.convert("RGB") for frame in ImageSequence.Iterator(film)]
        assert len(frames) > len("".join(slow.poem())) / 2
        assert bytes(ImageColor.getrgb(RED)) in frames[-1].tobytes()  # the seal
        assert film.size == Image.open(pictures / "title_box.png").size


@pytest.mark.usefixtures("glyphs")
def test_picture_of_the_title_box_in_chinese(browser: Browser, lab: str, pictures: Path) -> None:
    with window(browser) as page:
        page.set_viewport_size({"width": 1280, "height": 1200})  # room for the box below its cell
        notebook = Notebook(page, lab, "notebooks/zh/05_generate.ipynb")
        cell = notebook.run_through("box = show.title_box")
        box = Box(cell)
        box.says("准备好了")
        notebook.ask_kernel("setattr(box, 'pace', 0.5)")
        cell.get_by_role("spinbutton", name="候选首数").fill("8")
        title = cell.get_by_role("textbox", name="题目")
        title.press("Enter")
        title.blur()
        box.film(pictures / "title_box_zh.gif", "最接近的训练诗")
        assert re.findall("[A-Za-z]{2,}", box.whole.inner_text()) == ["Top"]
        box.whole.screenshot(path=pictures / "title_box_zh.png")


def test_picture_of_the_plot_as_notebook_4_was_saved(browser: Browser, lab: str, pictures: Path) -> None:
    with window(browser) as page:
        (plot,) = Notebook(page, lab, "notebooks/04_finetune.ipynb").cell("plot.watch").locator("img").all()
        head, _, data = (plot.get_attribute("src") or "").partition("base64,")
        assert "image/png" in head
        (pictures / "loss_plot.png").write_bytes(base64.b64decode(data))
