"""The title box: the page it draws, and that one poem is written at a time, stops, and never raises."""

import re
import threading
import time
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from itertools import groupby, product, repeat

import pytest

from course_lib.checkpoints import Checkpoint
from course_lib.evaluation.novelty import training_library
from course_lib.generation import GenerationSettings, Writing, write
from course_lib.show import title_box as module
from course_lib.show.annotate import nearest_told
from course_lib.show.title_box import LONGEST, STATES, State, TitleBox, poem_html, title_box

TEXT = "好雨知時節，當春乃發生。\n隨風潛入夜，潤物細無聲。"


class Page(HTMLParser):
    """The elements of a page: for each, its style and the text in it; what is ruby stands in `signs` alone."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[list[str]] = []
        self.all: list[list[str]] = []
        self.text = self.signs = ""
        self.feed(html)
        assert not self.open, "an element is not closed"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.open.append([tag, dict(attrs).get("style") or "", ""])
        self.all.append(self.open[-1])

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop()[0] == tag

    def handle_data(self, data: str) -> None:
        tags = [tag for tag, *_ in self.open]
        if "rt" in tags:
            self.signs += data
            return
        self.open[tags.index("ruby") - 1 if "ruby" in tags else -1][2] += data
        self.text += data

    @property
    def columns(self) -> list[str]:
        return [text for _, style, text in self.all if "writing-mode:vertical-rl" in style]


# --- the page -------------------------------------------------------------------------------------


def test_a_poem_stands_in_columns_from_right_to_left_title_first() -> None:
    page = Page(poem_html("春夜喜雨", TEXT, "end"))
    assert page.columns == ["春夜喜雨", "好雨知時節，當春乃發生。", "隨風潛入夜，潤物細無聲。"]
    assert any("row-reverse wrap" in style for _, style, _ in page.all)


def test_a_row_too_long_for_a_column_goes_on_in_the_next() -> None:
    page = Page(poem_html("題" * 20, "一" * (2 * LONGEST + 1), "length"))
    assert [len(column) for column in page.columns] == [LONGEST, 2, LONGEST, LONGEST, 1]


def test_an_empty_row_stays_a_gap() -> None:
    assert Page(poem_html("題", "一，\n\n二。\n", "stopped")).columns == ["題", "一，", "", "二。"]


def test_room_is_kept_while_writing_so_that_the_page_stands_still() -> None:
    assert Page(poem_html("題", "", "writing")).columns == ["題"] + [""] * 4
    assert Page(poem_html("題", "一，\n二", "writing")).columns == ["題", "一，", "二", "", ""]


def test_every_state_is_told_in_words() -> None:
    pages = {state: Page(poem_html("題", TEXT, state, "A note.")).text for state in STATES}
    assert len(set(pages.values())) == len(STATES)
    assert "Finished. The model ended the poem itself, after 24 characters. A note." in pages["end"]
    assert "Cut off. The limit was reached after 24 characters" in pages["length"]
    assert "Stopped by you, after 24 characters." in pages["stopped"]
    assert "Writing. 24 characters so far." in pages["writing"]
    assert "Refused. A note." in pages["refused"]
    assert "1 character so far" in poem_html("題", "一\n", "writing")


def test_only_a_poem_that_ended_itself_gets_the_seal() -> None:
    assert [state for state in STATES if "完" in poem_html("題", TEXT, state)] == ["end"]


def test_a_finished_poem_has_its_tones_and_rhymes_marked_and_its_sound_told() -> None:
    pages = {state: Page(poem_html("春夜喜雨", TEXT, state, origin="Nearest: none.")) for state in STATES}
    assert {state: page.signs for state, page in pages.items() if page.signs} == {"end": "●●○○●◐○●●△○○◐●●●●●○△"}
    assert "Rhymes in the group of 庚; no faults of tone. ○ level" in pages["end"].text
    assert "Nearest: none." in pages["end"].text
    assert "framed" not in pages["stopped"].text


@pytest.mark.parametrize(
    ("where", "state"),
    [*product(("title", "text", "note"), ("refused", "end")), ("origin", "end")],
)
def test_nothing_typed_becomes_html(where: str, state: State) -> None:
    parts = {"title": "", "text": "", "note": "", "origin": ""} | {where: "<script>\"&'</script>"}
    html = poem_html(parts["title"], parts["text"], state, parts["note"], parts["origin"])
    assert "<script" not in html
    assert "<script>\"&'</script>" in Page(html).text.replace("\n", "")


# --- the widget -----------------------------------------------------------------------------------


@pytest.fixture
def box(checkpoint: Checkpoint) -> Iterator[TitleBox]:
    made = TitleBox(checkpoint, pace=0.001)
    made.typed.value = "山雨"
    yield made
    made.stop()
    made.wait(60)
    assert not writers(), "a thread was left behind"


def writers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == module.THREAD]


def until(condition: Callable[[], object]) -> None:
    """Wait for it, on however slow a machine."""
    for _ in range(6000):
        if condition():
            return
        time.sleep(0.01)
    raise AssertionError("it never came to pass")


def state(box: TitleBox) -> str:
    found = re.search(r'role="status"[^>]*><b>. (\w+)', box.page.value)
    assert found
    return found[1]


def resting(box: TitleBox) -> bool:
    return not box.write_button.disabled and box.stop_button.disabled


def origin(writing: Writing) -> str:
    return nearest_told(training_library().nearest(writing.text)) if writing.reason == "end" else ""


def test_the_poem_is_that_of_write_with_the_settings_of_the_fields(box: TitleBox, checkpoint: Checkpoint) -> None:
    assert (state(box), resting(box)) == ("Ready", True)
    box.temperature.value, box.top_p.value, box.seed.value = 1.3, 0.6, 5
    box.write_button.click()
    box.wait()
    writing = write(checkpoint, "山雨", GenerationSettings(1.3, 0.6, seed=5))
    list(writing)
    assert box.page.value == poem_html("山雨", writing.text, writing.reason or "ready", origin=origin(writing))
    assert resting(box)


def test_characters_appear_one_by_one_through_the_page(box: TitleBox, checkpoint: Checkpoint) -> None:
    pages: list[str] = []
    box.page.observe(lambda change: pages.append(change.new), "value")
    box.write()
    box.wait()
    writing = write(checkpoint, "山雨")
    text = "".join(writing)
    shown = [poem_html("山雨", text[:n], "writing") for n in range(len(text) + 1)]
    if writing.reason == "end":
        shown.append(poem_html("山雨", text, "end"))  # and then the poem nearest to it
    assert pages[:-1] == [page for page, _ in groupby(shown)]  # a newline alone does not change the page
    assert len(pages) > 5


def test_the_enter_key_writes(box: TitleBox) -> None:
    box.typed._handle_custom_msg({"event": "submit"}, [])  # what the page sends when Enter is pressed
    box.wait()
    assert state(box) in ("Finished", "Cut")


@pytest.fixture
def endless(checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch) -> list[Writing]:
    """Poems become endless, so that no machine is too slow to stop one; those begun are listed."""
    begun: list[Writing] = []
    (mountain,) = checkpoint.tokenizer.encode("山")

    def write_on(*_: object) -> Writing:
        begun.append(Writing(repeat([(0, mountain)]), checkpoint.tokenizer))
        return begun[-1]

    monkeypatch.setattr(module, "write", write_on)
    return begun


def test_stop_ends_the_poem_and_another_can_be_written(box: TitleBox, endless: list[Writing]) -> None:
    for _ in range(2):
        box.write_button.click()
        until(lambda: re.search(r"[1-9]\d* characters? so far", box.page.value))
        assert box.write_button.disabled
        assert not box.stop_button.disabled
        box.stop_button.click()
        box.wait(60)
        assert state(box) == "Stopped"
        assert f"by you, after {len(endless[-1].text)} character" in box.page.value
        assert resting(box)
    assert len(endless) == 2


def test_ten_quick_clicks_leave_one_generation_running_and_no_thread_behind(
    box: TitleBox, endless: list[Writing]
) -> None:
    for _ in range(10):
        box.write_button.click()
    clickers = [threading.Thread(target=box.write) for _ in range(10)]  # and ten at the very same time
    for clicker in clickers:
        clicker.start()
    for clicker in clickers:
        clicker.join()
    assert len(endless) == len(writers()) == 1
    until(lambda: state(box) == "Writing")
    box.stop()
    box.wait(60)
    assert not writers()


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("  ", "The title is blank."),
        ("山" * 61, "This title has 61 characters"),
        ("spring", "There is no Chinese character"),
        ("<RES>", "A mark such as &lt;RES&gt; is plain text"),
        ("<script>", "There is no Chinese character"),
    ],
)
def test_a_title_is_refused_with_the_reason(box: TitleBox, typed: str, said: str) -> None:
    box.typed.value = typed
    box.write()
    assert state(box) == "Refused"
    assert said in box.page.value
    assert resting(box)
    assert not writers()
    box.typed.value = "山雨"
    box.write()
    box.wait(60)
    assert state(box) in ("Finished", "Cut")


def test_a_title_is_written_on_as_it_was_read_and_what_was_done_to_it_is_said(
    box: TitleBox, checkpoint: Checkpoint
) -> None:
    box.typed.value = "山<EOS>雨"
    box.write()
    box.wait(60)
    assert "".join(write(checkpoint, "山雨")).split("\n")[0][:5] in "".join(Page(box.page.value).columns)
    assert "山雨" in Page(box.page.value).columns
    assert "Left out: &lt;EOS&gt;" in box.page.value


def test_a_failure_while_writing_is_a_sentence_in_the_box(box: TitleBox, monkeypatch: pytest.MonkeyPatch) -> None:
    box.typed.value = "山" * 60  # more than this small model's context holds
    box.write()
    box.wait(60)
    assert state(box) == "Failed"
    assert "ValueError: a prompt of 73 tokens" in box.page.value
    assert resting(box)
    monkeypatch.setattr(module, "write", lambda *_: 1 / 0)
    box.write()
    assert "ZeroDivisionError: division by zero" in box.page.value
    monkeypatch.undo()
    box.typed.value = "山雨"
    box.write()
    box.wait(60)
    assert state(box) in ("Finished", "Cut")


def test_slider_and_number_move_together(box: TitleBox) -> None:
    for pair in box.children[0].children[1].children[:2]:
        field, slider = pair.children
        slider.value = 0.1 + 0.2
        assert field.value == 0.3
        field.value = 0.7
        assert slider.value == 0.7


def test_every_control_has_a_label_and_the_page_without_a_kernel_a_sentence(checkpoint: Checkpoint) -> None:
    box = title_box(checkpoint)
    controls = (box.typed, box.temperature, box.top_p, box.seed, box.write_button, box.stop_button)
    assert [c.description for c in controls] == ["Title", "Temperature", "Top-p", "Seed", "Write", "Stop"]
    assert repr(box).startswith("The title box")
    assert len(repr(box)) <= 110  # ipywidgets cuts a longer one


def test_only_core_widgets_are_used(checkpoint: Checkpoint) -> None:
    pending, seen = [title_box(checkpoint)], set()
    while pending:
        widget = pending.pop()
        seen.add(widget._model_name)
        pending += getattr(widget, "children", ())
    core = {"VBoxModel", "HBoxModel", "TextModel", "BoundedFloatTextModel", "FloatSliderModel", "IntTextModel"}
    core |= {"ButtonModel", "HTMLModel"}
    assert seen == core
