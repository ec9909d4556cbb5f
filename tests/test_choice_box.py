"""The choice box: the page it draws, the poems it writes, and the choices it keeps."""

import re
from collections.abc import Iterator
from dataclasses import replace
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from boxes import never_end, threads

from course_lib import show
from course_lib.checkpoints import Checkpoint
from course_lib.generation import iter_poems
from course_lib.instructions import POEM
from course_lib.poems import load_poems
from course_lib.roles import Message
from course_lib.show.choice_box import BUTTONS, CANDIDATES, THREAD, ChoiceBox, choice_html
from course_lib.tasks import Pair, read_pairs

TITLES = ["山雨", "江月", "夜雨"]
LEFT, RIGHT, NEITHER = BUTTONS[1:]
POEMS = ["好雨知時節，當春乃發生。", "春眠不覺曉，處處聞啼鳥。"]


def words(html: str) -> str:
    """The text of a piece of HTML, without the signs of the tones."""
    return unescape(re.sub("<rt.*?</rt>|<[^>]*>", "", html))


def asked(title: str) -> list[Message]:
    return [Message(role="system", content=POEM.wording), Message(role="user", content=title)]


# --- the page -------------------------------------------------------------------------------------


def test_the_two_poems_stand_beside_each_other_with_their_signs_and_the_state_below() -> None:
    html = choice_html("春夜喜雨", POEMS, "end", "Which?")
    text = words(html)
    places = [text.index(part) for part in ("Left春夜喜雨", POEMS[0], "Right春夜喜雨", POEMS[1], "● Finished. Which?")]
    assert places == sorted(places)
    assert "auto-fit" in html
    assert html.count("<ruby") == 20


def test_without_poems_the_page_has_the_state_alone() -> None:
    assert words(choice_html("", (), "refused", "Why.")) == "✗ Refused. Why."


@pytest.mark.parametrize("part", [0, 1, 3])
def test_typed_text_never_becomes_html(part: int) -> None:
    parts: list[Any] = ["", [], "end", ""]
    typed = "<script>\"&'</script>"
    parts[part] = [typed, typed] if part == 1 else typed
    parts[1] = parts[1] or POEMS
    html = choice_html(*parts)
    assert "<script" not in html
    assert typed in words(html)


# --- the widget -----------------------------------------------------------------------------------


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "choices.jsonl"


@pytest.fixture
def box(checkpoint: Checkpoint, file: Path) -> Iterator[ChoiceBox]:
    made = ChoiceBox(checkpoint, file, TITLES)
    yield made
    made.wait()
    assert not threads(THREAD), "a thread was left behind"


def press(box: ChoiceBox, name: str) -> None:
    """Press a button, and wait for the poems."""
    box.buttons[name].click()
    box.wait()


def state(box: ChoiceBox) -> str:
    """The state, and the sentences after it."""
    return words(box.page.value[box.page.value.index('role="status"') - 5 :])


def flat(text: str) -> str:
    return text.replace("\n", "")


def drawn(box: ChoiceBox) -> str:
    """The page as text, in which the left poem stands before the right one."""
    return flat(words(box.page.value).replace("\xa0", ""))


def told(count: int) -> str:
    return f"{count} choice{'' if count == 1 else 's'}"


def expected(checkpoint: Checkpoint, title: str, round_: int) -> list[str]:
    """The two poems that the box shows in this round, in the order of their seeds."""
    seeds = range(CANDIDATES * round_, CANDIDATES * (round_ + 1))
    written = iter_poems(checkpoint, [title] * CANDIDATES, seeds=seeds)
    return list(dict.fromkeys(poem.text for poem in written if poem.reason == "end"))[:2]


def test_a_choice_is_a_pair_in_the_file_and_the_next_title_follows(
    box: ChoiceBox, checkpoint: Checkpoint, file: Path
) -> None:
    assert (box.title.value, box.count) == ("山雨", 0)
    assert state(box).startswith("○ Ready. Press Write")
    press(box, "Write")
    for round_, (title, button) in enumerate(zip(TITLES, (LEFT, RIGHT, LEFT), strict=True)):
        assert box.title.value == title
        two = sorted(expected(checkpoint, title, round_), key=lambda text: drawn(box).index(flat(text)))
        assert state(box) == f"● Finished. Which of the two is better? {told(round_)} in choices.jsonl."
        press(box, button)
        chosen, rejected = two if button == LEFT else reversed(two)
        assert read_pairs(file)[-1] == Pair(asked(title), chosen, rejected)
    assert box.count == len(read_pairs(file)) == 3
    assert "The title is blank" in state(box)  # no titles are left
    assert state(box).endswith("3 choices in choices.jsonl.")


def test_a_model_without_a_system_line_is_asked_without_one(checkpoint: Checkpoint, file: Path) -> None:
    own = replace(checkpoint, instructions=(replace(POEM, wordings=("",)),))
    box = ChoiceBox(own, file, TITLES)
    press(box, "Write")
    press(box, LEFT)
    assert read_pairs(file)[0].prompt == asked("山雨")[1:]
    assert ChoiceBox(own, file, TITLES).title.value == "江月", "the first title is in the file"


def test_neither_keeps_nothing_and_goes_on(box: ChoiceBox, checkpoint: Checkpoint, file: Path) -> None:
    press(box, "Write")
    press(box, NEITHER)
    assert not file.exists()
    assert box.title.value == "江月"
    assert all(flat(text) in drawn(box) for text in expected(checkpoint, "江月", 1))
    assert state(box).endswith("0 choices in choices.jsonl.")


def test_which_poem_is_on_the_left_is_drawn_by_lot(checkpoint: Checkpoint, file: Path) -> None:
    first_is_left = []
    box = ChoiceBox(checkpoint, file, ["山雨"] * 12)
    press(box, "Write")
    for round_ in range(12):
        places = [drawn(box).index(flat(text)) for text in expected(checkpoint, "山雨", round_)]
        first_is_left.append(places[0] < places[1])
        press(box, NEITHER)
    assert 0 < sum(first_is_left) < 12


def test_before_there_are_poems_a_choice_does_nothing(box: ChoiceBox, file: Path) -> None:
    for name in BUTTONS[1:]:
        press(box, name)
    assert not file.exists()
    assert state(box).startswith("○ Ready.")
    assert not threads(THREAD)


@pytest.mark.parametrize(("typed", "why"), [("  ", "The title is blank."), ("spring", "no Chinese character")])
def test_a_refused_title_cannot_be_chosen_and_is_not_kept(box: ChoiceBox, file: Path, typed: str, why: str) -> None:
    press(box, "Write")
    box.title.value = typed
    press(box, "Write")
    assert state(box).startswith("✗ Refused.")
    assert why in state(box)
    press(box, LEFT)
    assert not file.exists()
    assert box.title.value == typed  # still there to be mended


def test_the_enter_key_writes_on_a_title_of_ones_own(box: ChoiceBox, file: Path) -> None:
    box.title.value = "夜山"
    box.title._handle_custom_msg({"event": "submit"}, [])  # the page sends this when Enter is pressed
    box.wait()
    press(box, LEFT)
    assert [pair.prompt[-1]["content"] for pair in read_pairs(file)] == ["夜山"]
    assert box.title.value == "江月"


def test_another_box_goes_on_with_the_same_file(box: ChoiceBox, checkpoint: Checkpoint, file: Path) -> None:
    press(box, "Write")
    press(box, LEFT)
    other = ChoiceBox(checkpoint, str(file), TITLES)
    assert (other.count, other.title.value) == (1, "江月")
    press(other, "Write")
    assert all(flat(text) in drawn(other) for text in expected(checkpoint, "江月", 1))


def test_a_file_of_something_else_is_refused(checkpoint: Checkpoint, file: Path) -> None:
    file.write_text("{}\n", "utf-8")
    with pytest.raises(ValueError, match=r"choices.jsonl, line 1: "):
        ChoiceBox(checkpoint, file, TITLES)


def test_the_usual_titles_are_those_of_training_poems(checkpoint: Checkpoint, file: Path) -> None:
    first = ChoiceBox(checkpoint, file).title.value
    assert first in {poem.title for poem in load_poems("train")}
    assert first != load_poems("train")[0].title


def test_a_model_that_ends_no_poem_is_a_sentence_in_the_box(box: ChoiceBox, checkpoint: Checkpoint, file: Path) -> None:
    never_end(checkpoint)
    press(box, "Write")
    assert state(box).startswith("✗ Failed. The model did not end two different poems.")
    press(box, RIGHT)
    assert not file.exists()


def test_a_failure_is_a_sentence_in_the_box(box: ChoiceBox, file: Path) -> None:
    press(box, "Write")
    file.mkdir()  # nothing can be written there
    press(box, LEFT)
    assert state(box).startswith("✗ Failed. OSError: ")
    assert state(box).endswith("0 choices in choices.jsonl.")


def test_every_control_has_a_name_and_only_core_widgets_are_used(checkpoint: Checkpoint, file: Path) -> None:
    box = show.choice_box(checkpoint, file, TITLES)
    inner = [widget for child in box.children for widget in getattr(child, "children", (child,))]
    assert [widget.description for widget in inner if widget is not box.page] == ["Title", *BUTTONS]
    assert {widget._model_name for widget in inner} == {"TextModel", "ButtonModel", "HTMLModel"}
    assert repr(box) == "Run this cell in Jupyter (Shift+Enter), and the box appears here."
    assert len(repr(box)) <= 110  # ipywidgets cuts a longer one
