"""The title box: the page it draws, the poems it writes, one at a time, and that it stops and never raises."""

import re
import threading
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from itertools import groupby, product
from pathlib import Path
from typing import Any

import pytest
from boxes import never_end, threads, until

from course_lib import paths, show
from course_lib.checkpoints import Checkpoint
from course_lib.evaluation.novelty import training_index
from course_lib.generation import WrittenPoem, iter_poems, write
from course_lib.instructions import OLD_STYLE, POEM
from course_lib.sampling import GenerationSettings
from course_lib.show.annotate import LEGEND, nearest_note
from course_lib.show.title_box import LONGEST, STATES, THREAD, State, TitleBox, poem_html

TEXT = "好雨知時節，當春乃發生。\n隨風潛入夜，潤物細無聲。"


class Page(HTMLParser):
    """The elements of a page, each with its style and its text. Ruby text is only in `signs`."""

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


def test_a_poem_is_set_in_columns_from_right_to_left_title_first() -> None:
    page = Page(poem_html("春夜喜雨", TEXT, "end"))
    assert page.columns == ["春夜喜雨", "好雨知時節，當春乃發生。", "隨風潛入夜，潤物細無聲。"]
    assert any("row-reverse wrap" in style for _, style, _ in page.all)


def test_a_row_too_long_for_a_column_continues_in_the_next() -> None:
    page = Page(poem_html("題" * 20, "一" * (2 * LONGEST + 1), "length"))
    assert [len(column) for column in page.columns] == [LONGEST, 2, LONGEST, LONGEST, 1]


def test_an_empty_row_stays_a_gap() -> None:
    assert Page(poem_html("題", "一，\n\n二。\n", "stopped")).columns == ["題", "一，", "", "二。"]


def test_columns_are_reserved_while_writing_so_that_the_page_does_not_move() -> None:
    assert Page(poem_html("題", "", "choosing")).columns == ["題"] + [""] * 4
    assert Page(poem_html("題", "", "writing")).columns == ["題"] + [""] * 4
    assert Page(poem_html("題", "一，\n二", "writing")).columns == ["題", "一，", "二", "", ""]


def test_every_state_is_told_in_words() -> None:
    pages = {state: Page(poem_html("題", TEXT, state, "A note.")).text for state in STATES}
    assert len(set(pages.values())) == len(STATES)
    assert "Finished. The model ended the poem itself, after 24 characters. A note." in pages["end"]
    assert "Cut off. The limit was reached after 24 characters" in pages["length"]
    assert "Stopped. You stopped the poem after 24 characters." in pages["stopped"]
    assert "Writing. The best poem will appear here." in pages["choosing"]
    assert "Writing. 24 characters so far." in pages["writing"]
    assert "Refused. A note." in pages["refused"]
    assert "1 character so far" in poem_html("題", "一\n", "writing")


def test_only_a_poem_that_the_model_ended_gets_the_seal() -> None:
    assert [state for state in STATES if "完" in poem_html("題", TEXT, state)] == ["end"]


def test_a_finished_poem_has_tone_signs_and_a_sentence_on_its_sound() -> None:
    pages = {state: Page(poem_html("春夜喜雨", TEXT, state, origin="Nearest: none.")) for state in STATES}
    assert {state: page.signs for state, page in pages.items() if page.signs} == {"end": "●●○○●◐○●●△○○◐●●●●●○△"}
    assert (
        "Well formed: 五言絕句, 4 lines of 5 characters. Rhymes in the group of 庚; no tone faults."
        in pages["end"].text
    )
    assert LEGEND in pages["end"].text
    assert "Nearest: none." in pages["end"].text
    assert "framed" not in pages["stopped"].text


def test_the_form_of_a_finished_poem_is_judged() -> None:
    text = Page(poem_html("手機", "好雨知時節，當春乃發生。\n\n無邊落木蕭蕭下，不盡長江滾滾來。", "end")).text
    assert "Not well formed: the lines have 5 or 7 characters." in text
    assert "no tone faults" not in text


@pytest.mark.parametrize(
    ("where", "state"),
    [*product(("title", "text", "note"), ("refused", "end")), ("origin", "end")],
)
def test_typed_text_never_becomes_html(where: str, state: State) -> None:
    parts = {"title": "", "text": "", "note": "", "origin": ""} | {where: "<script>\"&'</script>"}
    html = poem_html(parts["title"], parts["text"], state, parts["note"], parts["origin"])
    assert "<script" not in html
    assert "<script>\"&'</script>" in Page(html).text.replace("\n", "")


SETTINGS = GenerationSettings(temperature=1.3, top_p=0.9, seed=5)


def best_of(checkpoint: Checkpoint, candidates: int) -> WrittenPoem:
    """The poem that the library chooses."""
    return next(iter_poems(checkpoint, ["山雨"], SETTINGS, candidates=candidates))


# --- the widget -----------------------------------------------------------------------------------


@pytest.fixture
def box(checkpoint: Checkpoint) -> Iterator[TitleBox]:
    made = TitleBox(checkpoint, pace=0.001)
    made.title.value = "山雨"
    yield made
    made.stop()
    made.wait(60)
    assert not threads(THREAD), "a thread was left behind"


@pytest.fixture
def slow(checkpoint: Checkpoint, box: TitleBox) -> TitleBox:
    """A box whose model never draws the end mark, ten seconds a character: there is always time to stop it."""
    never_end(checkpoint)
    box.pace = 10
    return box


def state(box: TitleBox) -> str:
    found = re.search(r'role="status"[^>]*><b>. (\w+)', box.page.value)
    assert found
    return found[1]


def resting(box: TitleBox) -> bool:
    return box.stop_button.disabled


def final_page(text: str, reason: State | None, note: str = "") -> str:
    assert reason
    origin = nearest_note(training_index().nearest(text)) if reason == "end" else ""
    return poem_html("山雨", text, reason, note, origin)


def test_the_poem_is_that_of_write_with_the_settings_of_the_fields(box: TitleBox, checkpoint: Checkpoint) -> None:
    assert (state(box), resting(box)) == ("Ready", True)
    box.temperature.value, box.top_p.value, box.seed.value = 1.3, 0.6, 5
    box.write_button.click()
    box.wait()
    stream = write(checkpoint, "山雨", GenerationSettings(temperature=1.3, top_p=0.6, seed=5))
    list(stream)
    assert box.page.value == final_page(stream.text, stream.reason)
    assert resting(box)


def test_the_best_of_several_is_shown_and_said_to_be_that(box: TitleBox, checkpoint: Checkpoint) -> None:
    box.temperature.value, box.top_p.value, box.seed.value, box.best_of.value = 1.3, 0.9, 5, 3
    box.write()
    box.wait()
    best = best_of(checkpoint, 3)
    assert box.page.value == final_page(best.text, best.reason, "Best of 3 poems, by form, rhyme and tones.")
    assert resting(box)


def test_characters_appear_one_by_one_on_the_page(box: TitleBox, checkpoint: Checkpoint) -> None:
    pages: list[str] = []
    box.page.observe(lambda change: pages.append(change.new), "value")
    box.write()
    box.wait()
    stream = write(checkpoint, "山雨")
    text = "".join(stream)
    shown = [poem_html("山雨", text[:n], "writing") for n in range(len(text) + 1)]
    if stream.reason == "end":
        shown.append(poem_html("山雨", text, "end"))  # and then with its nearest poem
    assert pages[:-1] == [page for page, _ in groupby(shown)]  # a newline alone does not change the page
    assert len(pages) > 5


def test_the_enter_key_writes(box: TitleBox) -> None:
    box.title._handle_custom_msg({"event": "submit"}, [])  # the page sends this when Enter is pressed
    box.wait()
    assert state(box) in ("Finished", "Cut")


def test_stop_ends_the_poem_at_once_and_another_can_be_written(slow: TitleBox) -> None:
    for _ in range(2):
        slow.write_button.click()
        until(lambda: re.search(r"[1-9]\d* characters? so far", slow.page.value))
        assert not slow.stop_button.disabled
        slow.stop_button.click()
        slow.wait(9)  # less than the pace: Stop does not wait for the next character
        assert state(slow) == "Stopped"
        assert "You stopped the poem after 1 character." in slow.page.value
        assert resting(slow)


def test_stop_ends_the_writing_of_several_poems(box: TitleBox) -> None:
    box.best_of.value = 16
    pages: list[str] = []

    def stop_at_once(change: Any) -> None:
        pages.append(change.new)
        box.stop()

    box.page.observe(stop_at_once, "value")
    box.write()
    box.wait(60)
    assert [Page(page).columns[1:] for page in pages] == [[""] * 4, []]  # no poem was chosen
    assert "Stopped. You stopped the poem after 0 characters." in Page(pages[-1]).text
    assert resting(box)


def test_the_pace_slows_the_poem_that_is_shown_and_not_the_writing_of_several(slow: TitleBox) -> None:
    slow.best_of.value = 2
    slow.write()
    until(lambda: "1 character so far" in slow.page.value)  # after 40 steps or more, which take no ten seconds each
    slow.stop()
    slow.wait(60)
    assert state(slow) == "Stopped"


def test_a_title_entered_while_a_poem_is_written_is_written_next(slow: TitleBox) -> None:
    slow.write()
    until(lambda: "1 character so far" in slow.page.value)
    for title in ("江月", "夜雨", "江月"):  # the last one counts
        slow.title.value = title
        slow.title._handle_custom_msg({"event": "submit"}, [])
    until(lambda: Page(slow.page.value).columns[0] == "江月" and "1 character so far" in slow.page.value)
    assert len(threads(THREAD)) == 1
    slow.stop()
    slow.wait(9)
    assert (state(slow), resting(slow)) == ("Stopped", True)
    assert Page(slow.page.value).columns[0] == "江月"


def test_stop_is_for_the_next_poem_too(slow: TitleBox) -> None:
    slow.write()
    until(lambda: "1 character so far" in slow.page.value)
    slow.title.value = "江月"
    slow.write()
    slow.stop()
    slow.wait(9)
    assert Page(slow.page.value).columns[0] in ("山雨", "江月")  # it may have begun
    assert (state(slow), resting(slow), threads(THREAD)) == ("Stopped", True, [])


def test_a_poem_can_be_written_again_after_it_was_stopped(slow: TitleBox) -> None:
    slow.write()
    until(lambda: "1 character so far" in slow.page.value)
    slow.stop()
    slow.write()  # at once, and for the same poem
    until(lambda: "1 character so far" in slow.page.value and not slow.stop_button.disabled)
    slow.stop()
    slow.wait(9)
    assert resting(slow)


def test_another_writes_with_the_next_seed_and_shows_it(box: TitleBox, checkpoint: Checkpoint) -> None:
    box.temperature.value = 1.3
    for seed in (1, 2):
        box.another_button.click()
        box.wait()
        stream = write(checkpoint, "山雨", GenerationSettings(temperature=1.3, seed=seed))
        list(stream)
        assert box.seed.value == seed
        assert box.page.value == final_page(stream.text, stream.reason)


def test_another_does_not_wait_for_the_poem_that_is_written(slow: TitleBox) -> None:
    slow.write()
    until(lambda: "1 character so far" in slow.page.value)
    pages: list[str] = []
    slow.page.observe(lambda change: pages.append(change.new), "value")
    slow.another()
    until(lambda: pages and "1 character so far" in pages[-1])
    assert slow.seed.value == 1
    assert len(threads(THREAD)) == 1


def test_ten_quick_clicks_write_one_poem_and_leave_no_thread_behind(slow: TitleBox) -> None:
    for _ in range(10):
        slow.write_button.click()
    clickers = [threading.Thread(target=slow.write) for _ in range(10)]  # and ten at the same time
    for clicker in clickers:
        clicker.start()
    for clicker in clickers:
        clicker.join()
    assert len(threads(THREAD)) == 1
    until(lambda: state(slow) == "Writing")
    slow.stop()
    slow.wait(60)
    assert not threads(THREAD)


@pytest.mark.parametrize(
    ("typed", "reason"),
    [
        ("  ", "The title is blank."),
        ("山" * 61, "This title has 61 characters"),
        ("spring", "There is no Chinese character"),
        ("<RES>", "&lt;RES&gt; has no effect in a title"),
        ("<script>", "There is no Chinese character"),
    ],
)
def test_a_title_is_refused_with_the_reason(box: TitleBox, typed: str, reason: str) -> None:
    box.title.value = typed
    box.write()
    box.wait(60)
    assert state(box) == "Refused"
    assert reason in box.page.value
    assert resting(box)
    assert not threads(THREAD)
    box.title.value = "山雨"
    box.write()
    box.wait(60)
    assert state(box) in ("Finished", "Cut")


def test_the_page_says_what_was_changed_in_a_title(box: TitleBox) -> None:
    box.title.value = "山<EOS>雨"
    box.write()
    box.wait(60)
    assert Page(box.page.value).columns[0] == "山雨"
    assert "Left out: &lt;EOS&gt;" in box.page.value


def test_a_failure_is_a_sentence_in_the_box(box: TitleBox, checkpoint: Checkpoint) -> None:
    box.title.value = "山" * 60  # more than this small model's context holds
    box.write()
    box.wait(60)
    assert state(box) == "Failed"
    assert "ValueError: a prompt of 73 tokens" in box.page.value
    assert resting(box)
    box.title.value = "山雨"
    box.write()
    box.wait(60)
    assert state(box) in ("Finished", "Cut")


def test_a_failure_before_the_first_character_is_a_sentence_too(checkpoint: Checkpoint) -> None:
    broken = TitleBox(replace(checkpoint, tokenizer=None))  # type: ignore[arg-type]
    broken.write()
    broken.wait(60)
    assert state(broken) == "Failed"
    assert "AttributeError: " in broken.page.value
    assert resting(broken)


def test_a_failure_does_not_show_where_the_files_are(
    box: TitleBox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paths, "ASSETS", tmp_path)
    box.title.value = "云"  # to read it, the poems must be counted
    box.write()
    box.wait(60)
    assert state(box) == "Failed"
    assert "FileNotFoundError: assets/poems/tang-train.jsonl.xz is missing" in box.page.value
    assert str(tmp_path) not in box.page.value


# --- the instruction menu -------------------------------------------------------------------------


def test_the_menu_of_instructions_shows_what_the_checkpoint_was_taught(checkpoint: Checkpoint) -> None:
    taught = replace(checkpoint, instructions=(POEM, OLD_STYLE))
    box = TitleBox(taught, pace=0)
    assert [name for name, _ in box.instruction.options] == ["poem 詩", "old-style 古體詩"]
    assert box.instruction in list(widgets_in(box))
    box.title.value, box.instruction.value = "山雨", OLD_STYLE
    for candidates in (1, 3):
        box.best_of.value = candidates
        box.write()
        box.wait()
        poem = next(iter_poems(taught, ["山雨"], instruction=OLD_STYLE, candidates=candidates))
        note = "Best of 3 poems, by form, rhyme and tones." if candidates > 1 else ""
        assert box.page.value == final_page(poem.text, poem.reason, note)


@pytest.mark.parametrize("instructions", [(), (POEM,)], ids=["none", "one"])
def test_the_menu_is_hidden_where_there_is_nothing_to_choose(checkpoint: Checkpoint, instructions: Any) -> None:
    box = TitleBox(replace(checkpoint, instructions=instructions), pace=0)
    assert box.instruction not in list(widgets_in(box))
    box.title.value = "山雨"
    box.write()
    box.wait()
    assert state(box) in ("Finished", "Cut")


# --- the controls ---------------------------------------------------------------------------------


def widgets_in(box: TitleBox) -> Iterator[Any]:
    pending: list[Any] = [box]
    while pending:
        widget = pending.pop()
        yield widget
        pending += getattr(widget, "children", ())


def test_slider_and_number_move_together(box: TitleBox) -> None:
    for field in (box.temperature, box.top_p):
        (pair,) = (w for w in widgets_in(box) if field in getattr(w, "children", ()))
        _, slider = pair.children
        slider.value = 0.1 + 0.2
        assert field.value == 0.3
        field.value = 0.7
        assert slider.value == 0.7


def test_every_control_has_a_label_and_a_page_without_a_kernel_a_sentence(checkpoint: Checkpoint) -> None:
    box = show.title_box(replace(checkpoint, instructions=(POEM, OLD_STYLE)))
    labels = ["Title", "Write", "Another", "Stop", "Instruction", "Seed", "Best of", "Temperature", "Top-p"]
    found = [getattr(widget, "description", "") for widget in widgets_in(box)]
    assert sorted(filter(None, found)) == sorted(labels)
    assert repr(box) == "Run this cell in Jupyter (Shift+Enter), and the box appears here."
    assert len(repr(box)) <= 110  # ipywidgets cuts a longer one


def test_only_core_widgets_are_used(checkpoint: Checkpoint) -> None:
    box = TitleBox(replace(checkpoint, instructions=(POEM, OLD_STYLE)))
    core = {"VBoxModel", "HBoxModel", "TextModel", "BoundedFloatTextModel", "FloatSliderModel", "IntTextModel"}
    core |= {"BoundedIntTextModel", "DropdownModel", "ButtonModel", "HTMLModel"}
    assert {widget._model_name for widget in widgets_in(box)} == core
