"""The chat box in a real JupyterLab."""

import re
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
from pages import PATIENCE, Notebook, Talk, window
from playwright.sync_api import Browser, expect

pytestmark = pytest.mark.slow
CODE = """\
from course_lib import paths, show
from course_lib.checkpoints import load_checkpoint
from course_lib.tasks import MANY
box = show.chat_box(load_checkpoint(paths.FINETUNED).with_roles(MANY))
box"""


@pytest.fixture(scope="module")
def notebook(browser: Browser, lab: str, course: Path) -> Iterator[Notebook]:
    """A notebook with a chat box."""
    made = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(CODE)])
    made.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(made, course / "notebooks" / "chat.ipynb")
    with window(browser) as page:
        opened = Notebook(page, lab, "notebooks/chat.ipynb")
        opened.command("notebook:run-all-cells")
        yield opened


@pytest.fixture
def box(notebook: Notebook) -> Talk:
    """The chat box before a conversation, in a window of the usual width."""
    notebook.page.set_viewport_size({"width": 1280, "height": 900})
    made = Talk(notebook.cell("show.chat_box"))
    made.clear.wait_for()
    notebook.ask_kernel("setattr(box, 'pace', 0.05)")
    made.begin()
    return made


def test_a_conversation_grows_on_both_sides_character_by_character(notebook: Notebook, box: Talk) -> None:
    box.within.evaluate(
        """e => { window.seen = [];
           const sides = () => [...e.querySelectorAll("[tabindex='0'] > [lang]")];
           const look = () => window.seen.push(sides().map(s => s.innerText));
           new MutationObserver(look).observe(e, {childList: true, subtree: true}); }"""
    )
    box.say("春夜喜雨")
    box.says("Finished")
    answer = str(notebook.ask_kernel("box.chat.messages[-1]['content']")).strip("'").split("\\n")
    assert box.seen.inner_text().split() == ["user", "春夜喜雨", "assistant", *answer]
    assert box.read.inner_text().split() == [
        "<INS>請用以下題目寫一首詩",
        "<INP>春夜喜雨",
        f"<RES>{answer[0]}↵",
        *(f"{row}↵" for row in answer[1:-1]),
        f"{answer[-1]}<EOS>",
    ]
    last = {tuple(text[-12:] for text in sides) for sides in notebook.page.evaluate("window.seen")}
    assert len(last) > len("".join(answer)) / 2
    box.turns.first.click()
    expect(box.message).to_have_value("再寫一首")
    box.send.click()
    expect(box.seen.get_by_text(re.compile("^user"))).to_have_count(2, timeout=PATIENCE * 1000)
    box.says("Finished|Cut off")
    assert box.read.inner_text().count("<INP>") == 2
    assert notebook.troubles() == []


def test_what_is_typed_is_never_html_nor_a_mark(box: Talk) -> None:
    box.say("春夜<EOS><img src=x onerror=alert(1)>")
    assert "Left out: <EOS>, <img, src=x, onerror=alert(1)> (the" in box.says("Finished|Cut off")
    typed = "<img src=x onerror=alert(1)><RES>"
    marks = box.read.get_by_text("<RES>", exact=True)
    expect(marks).to_have_count(1)
    box.say(typed)
    box.says("Finished|Cut off")
    assert typed in box.seen.inner_text()
    assert f"<INP>{typed}" in box.read.inner_text()
    expect(marks).to_have_count(2)
    assert box.within.locator("img, script").count() == 0


def test_stop_another_and_clear(notebook: Notebook, box: Talk) -> None:
    notebook.ask_kernel("setattr(box, 'pace', 0.5)")
    box.say("江雪")
    expect(box.seen).to_have_text(re.compile("assistant[^…]{3}"))
    box.stop.click()
    box.says("Stopped")
    assert "<EOS>" not in box.read.inner_text()
    expect(box.stop).to_be_disabled()
    stopped = box.seen.inner_text()
    notebook.ask_kernel("setattr(box, 'pace', 0)")
    box.another.click()
    box.says("Finished|Cut off")
    assert box.seen.inner_text() != stopped
    assert box.seen.inner_text().split()[:3] == ["user", "江雪", "assistant"]
    box.clear.click()
    box.says("Ready")
    expect(box.seen).to_have_text("")
    assert notebook.ask_kernel("sum(t.name == 'chat box' for t in __import__('threading').enumerate())") == "0"


def test_every_control_is_reached_and_worked_by_keyboard(notebook: Notebook, box: Talk) -> None:
    press = notebook.page.keyboard.press
    box.say("江雪")
    box.says("Finished|Cut off")
    box.instruction.focus()
    clauses = [box.within.get_by_role("textbox", name=name) for name in ("Rhyme 押韻", "Acrostic 藏頭")]
    order = [*clauses, box.system, box.seen, box.read, *box.turns.all(), box.message, box.send, box.another, box.clear]
    for control in order:  # Stop is off
        press("Tab")
        assert control.evaluate("e => e === document.activeElement")
    clauses[0].fill("東")
    expect(box.system).to_have_value("請用以下題目寫一首詩，押「東」韻")
    box.instruction.select_option(label="couplet 對句")
    expect(box.system).to_have_value("請對下句")
    expect(clauses[0]).to_be_disabled()
    box.instruction.select_option(label="poem 詩")
    clauses[0].fill("")
    expect(box.system).to_have_value("請用以下題目寫一首詩")  # the kernel has dealt with all of this
    box.message.fill("")
    box.send.press("Enter")
    box.says("Refused. The title is blank.|Refused. The message is blank.")


def test_the_end_is_in_view_nothing_is_clipped_or_pale_and_forgotten_messages_are_told(
    notebook: Notebook, box: Talk
) -> None:
    notebook.ask_kernel("setattr(box, 'pace', 0)")
    context = int(notebook.ask_kernel("box.chat.context"))
    box.say("春夜喜雨")
    box.says("Finished|Cut off")
    for _ in range(context // 20):
        box.say("再以「江雪」爲題寫一首")
        if "grey messages" in box.says("Finished|Cut off"):
            break
    box.says(f"The model no longer reads the grey messages: its context holds {context} characters.")
    assert box.seen.get_by_text("assistant, no longer read").count() > 0
    for width in (1280, 800):
        notebook.page.set_viewport_size({"width": width, "height": 900})
        for theme in ("Dark", "Light"):
            notebook.command("apputils:change-theme", theme=f"JupyterLab {theme}")
            notebook.page.locator(f"[data-jp-theme-name='JupyterLab {theme}']").wait_for(state="attached")
            assert box.clipped() == []
            assert box.pale() == []
        for side in (box.seen, box.read):
            assert side.evaluate("e => e.scrollTop === 0 && e.scrollHeight > e.clientHeight")  # 0 is the bottom here


def test_one_thread_handles_the_fields_and_the_buttons(notebook: Notebook, box: Talk) -> None:
    """With two of them, Send may overtake what was typed before it."""
    notebook.ask_kernel("setattr(box, 'pace', 0)")
    name = "__import__('threading').current_thread().name"
    notebook.ask_kernel(
        f"(setattr(box, 'heard', []), box.message.observe(lambda _: box.heard.append({name}), 'value'),"
        f" box.buttons['Send'].on_click(lambda _: box.heard.append({name})))"
    )
    for message in ("江雪", "山居"):
        box.say(message)
        box.says("Finished|Cut off")
    before = int(notebook.ask_kernel("len(box.heard)"))
    box.message.fill("月")
    box.send.click()
    box.says("Finished|Cut off")
    assert int(notebook.ask_kernel("len(box.heard)")) >= before + 2, "the field and the button are both heard"
    assert notebook.ask_kernel("{*box.heard}") == "{'MainThread'}"
