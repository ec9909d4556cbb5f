"""The chat box: the page it draws, the answers it writes, one at a time, and that it stops and never raises."""

import re
import time
from collections.abc import Iterator
from dataclasses import replace
from html import unescape
from typing import Any

import pytest
import torch
from boxes import never_end, threads, until

from course_lib import show
from course_lib.chat import Chat
from course_lib.checkpoints import Checkpoint
from course_lib.generation import reply
from course_lib.instructions import POEM, find
from course_lib.model import PoetryModel
from course_lib.roles import Conversation, Message, message_segments, spelled_out
from course_lib.sampling import GenerationSettings
from course_lib.show.chat_box import THREAD, ChatBox, chat_html
from course_lib.tasks import MANY

FRAME = "border-radius:.4em"  # what only the special tokens have
ANSWER = "山中一夜雨，樹上幾聲鶯。\n水向門前去，雲從石上生。"


@pytest.fixture
def taught(checkpoint: Checkpoint) -> Checkpoint:
    """The small model with 256 tokens of context, so that several answers have room; it can be asked for everything."""
    model = PoetryModel(replace(checkpoint.model.config, max_position_embeddings=256)).eval()
    model.load_state_dict(checkpoint.model.state_dict())
    return Checkpoint(model, checkpoint.tokenizer, MANY)


@pytest.fixture
def chat(taught: Checkpoint) -> Chat:
    """A conversation after one answer and a second message."""
    made = Chat(taught, POEM)
    made.ask("江月")
    made.reply()
    made.answered(ANSWER)
    made.ask("山")
    made.reply()
    return made


def words(html: str) -> str:
    """The text of a piece of HTML."""
    return unescape(re.sub("<[^>]*>", "", html))


def sides(html: str) -> tuple[str, str]:
    """The HTML of the bubbles, and of the text that the model reads."""
    found = re.fullmatch(r"(?s).*What you see(.*)What the model reads(.*?)<div[^>]*>\d+ of 256 characters.*", html)
    assert found
    return found[1], found[2]


def read_by_model(html: str) -> str:
    """The text on the right, without the rows that only the page has."""
    text = words(sides(html)[1])
    return re.sub(r"(?<!↵)\n", "", text).replace("↵", "")


def note(html: str) -> str:
    """The state, and the sentences after it."""
    return words(html[html.index('role="status"') - 5 :])


# --- the page -------------------------------------------------------------------------------------


def test_the_right_side_is_the_text_with_its_roles_and_the_left_side_the_bubbles(chat: Chat) -> None:
    chat.answered("樹")
    html = chat_html(chat, "end")
    assert read_by_model(html) == spelled_out(message_segments(chat.messages))
    assert sides(html)[1].count(FRAME) == len(message_segments(chat.messages))
    assert words(sides(html)[0]) == f"user江月assistant{ANSWER}user山assistant樹"
    assert f"{len(spelled_out(message_segments(chat.messages))) - 4 * 7} of 256 characters and marks" in words(html)


def test_an_answer_grows_on_both_sides_and_its_end_mark_comes_last(chat: Chat) -> None:
    before = spelled_out(message_segments(chat.messages, open_response=True))
    empty = chat_html(chat, "writing")
    assert read_by_model(empty) == before
    assert words(sides(empty)[0]).endswith("assistant…")
    for partial in ("樹", "樹上，\n幾"):
        html = chat_html(chat, "writing", "", partial)
        assert read_by_model(html) == before + partial
        assert words(sides(html)[0]).endswith(f"assistant{partial}")
    assert len(chat.messages) == len(chat.heard) == 4  # drawing adds nothing


def test_only_an_answer_that_the_model_ended_has_an_end_mark(chat: Chat) -> None:
    chat.answered("樹")
    for state, marks in (("end", 2), ("stopped", 1), ("length", 1), ("ready", 2)):
        assert read_by_model(chat_html(chat, state)).count("<EOS>") == marks  # type: ignore[arg-type]
    chat.again()
    chat.reply()
    assert read_by_model(chat_html(chat, "stopped")).endswith("<EOS><INP>山")  # stopped before its first character


@pytest.mark.parametrize("state", ["ready", "end", "refused"])
def test_typed_text_becomes_neither_html_nor_a_mark(chat: Chat, state: Any) -> None:
    typed = "<RES><script>\"&'</script>"
    chat.ask(typed)
    chat.reply()
    html = chat_html(chat, state, typed)
    assert "<script" not in html
    assert [words(side).count(typed) for side in sides(html)] == [1, 1]
    assert typed in note(html)
    assert html.count(FRAME) == len(message_segments(chat.messages))


def test_the_right_side_shows_what_stands_for_an_unknown_character(chat: Chat) -> None:
    chat.ask("山🌙")
    chat.reply()
    html = chat_html(chat, "ready")
    assert words(sides(html)[0]).endswith("山🌙")
    assert read_by_model(html).endswith("<INP>山<UNK>")


def test_messages_that_the_model_no_longer_reads_are_marked_and_left_out_on_the_right(chat: Chat) -> None:
    assert "no longer" not in words(chat_html(chat, "ready"))
    for number in range(6):
        chat.reply()
        chat.answered("水" * 30 + str(number))
        chat.ask("山" * 10)  # the same each time, but only the last ones are read
    chat.reply()
    html = chat_html(chat, "ready", "A note.")
    said = "A note. The model no longer reads the grey messages: its context holds 256 characters."
    assert note(html).endswith(said)
    assert read_by_model(html) == spelled_out(message_segments(chat.heard))
    lost = len(chat.messages) - len(chat.heard)
    assert lost > 2
    assert sides(html)[0].count("1px dashed") == words(html).count(", no longer read") == lost
    callers = re.findall("user|assistant", words(sides(html)[0]).replace(", no longer read", "!"))
    assert len(callers) == len(chat.messages) - 1


# --- the widget -----------------------------------------------------------------------------------


@pytest.fixture
def box(taught: Checkpoint) -> Iterator[ChatBox]:
    made = ChatBox(taught, pace=0.001)
    made.message.value = "山雨"
    yield made
    made.stop()
    assert not threads(THREAD), "a thread was left behind"


@pytest.fixture
def slow(taught: Checkpoint, box: ChatBox) -> ChatBox:
    """A box whose model never draws the end mark, ten seconds a character: there is always time to stop it."""
    never_end(taught)
    box.pace = 10
    return box


def press(box: ChatBox, name: str) -> None:
    """Press a button, and wait for the answer."""
    box.buttons[name].click()
    box.wait()


def contents(box: ChatBox) -> list[str]:
    return [message["content"] for message in box.chat.messages]


def turns(*contents: str) -> Conversation:
    """A conversation with these messages."""
    roles = ("system", *("user", "assistant") * len(contents))
    return [Message(role=role, content=text) for role, text in zip(roles, contents, strict=False)]  # type: ignore[typeddict-item]


def answer(checkpoint: Checkpoint, *contents: str, **settings: Any) -> str:
    """The answer of the library to these messages."""
    return "".join(reply(checkpoint, turns(*contents), GenerationSettings(**settings)))


def writes_first(box: ChatBox) -> bool:
    """Whether the box is showing the first character of an answer."""
    return bool(re.search("<RES>.$", read_by_model(box.page.value))) and not box.buttons["Stop"].disabled


def test_an_answer_appears_character_by_character_on_one_page(box: ChatBox, taught: Checkpoint) -> None:
    pages: list[str] = []
    box.page.observe(lambda change: pages.append(change.new), "value")
    press(box, "Send")
    text = answer(taught, POEM.wording, "山雨")
    assert len(text) > 5
    shown = [read_by_model(page).partition("<RES>")[2] for page in pages[:-1]]
    assert shown == [text[:n] for n in range(len(text) + 1)]
    assert contents(box) == [POEM.wording, "山雨", text]
    assert box.message.value == ""


def test_the_enter_key_sends(box: ChatBox) -> None:
    box.message._handle_custom_msg({"event": "submit"}, [])  # the page sends this when Enter is pressed
    box.wait()
    assert contents(box)[1] == "山雨"
    assert len(contents(box)) == 3


def test_a_conversation_goes_on_and_its_turns_are_offered(box: ChatBox, taught: Checkpoint) -> None:
    offered = ["再寫一首", "改成七言絕句", "再以「江雪」爲題寫一首"]
    assert [box.buttons[turn].disabled for turn in offered] == [True] * 3
    press(box, "Send")
    for turn in offered:
        before = contents(box)
        box.buttons[turn].click()
        assert box.message.value == turn
        assert contents(box) == before  # it can still be changed
        press(box, "Send")
        kept = [message["content"] for message in box.chat.heard[:-1]]
        assert contents(box) == [*before, turn, answer(taught, *kept)]
    assert "The model does not know 再, 雪, 爲 and reads <UNK>" in note(box.page.value)


def test_another_answers_again_with_the_next_seed(box: ChatBox, taught: Checkpoint) -> None:
    press(box, "Send")
    for seed in (1, 2):
        press(box, "Another")
        assert contents(box) == [POEM.wording, "山雨", answer(taught, POEM.wording, "山雨", seed=seed)]


def test_stop_ends_an_answer_at_once_and_keeps_what_was_written(slow: ChatBox) -> None:
    slow.buttons["Send"].click()
    until(lambda: writes_first(slow))
    began = time.monotonic()
    slow.buttons["Stop"].click()
    assert time.monotonic() - began < 9  # less than the pace
    assert note(slow.page.value).startswith("■ Stopped.")
    assert len(contents(slow)[2]) == 1
    assert slow.buttons["Stop"].disabled


def test_a_message_sent_while_an_answer_is_written_stops_it_and_is_answered(slow: ChatBox) -> None:
    for typed in ("山雨", "江月", "夜雨"):
        slow.message.value = typed
        slow.buttons["Send"].click()
        until(lambda: writes_first(slow))
        assert len(threads(THREAD)) == 1
    assert contents(slow)[1::2] == ["山雨", "江月", "夜雨"]
    assert [len(text) for text in contents(slow)[2::2]] == [1, 1]
    first = contents(slow)[4]
    slow.buttons["Another"].click()
    until(lambda: writes_first(slow))
    assert contents(slow)[4:] == [first, "夜雨"]


def test_ten_quick_clicks_write_one_answer_and_leave_no_thread_behind(slow: ChatBox) -> None:
    for _ in range(10):
        slow.buttons["Send"].click()  # the first empties the field, so the others are refused
        slow.buttons["Another"].click()
    until(lambda: writes_first(slow))
    assert len(threads(THREAD)) == 1
    slow.stop()
    assert not threads(THREAD)
    assert len(contents(slow)) == 3


def test_clear_stops_and_begins_a_new_conversation(slow: ChatBox) -> None:
    slow.buttons["Send"].click()
    until(lambda: writes_first(slow))
    slow.buttons["Clear"].click()
    assert contents(slow) == [POEM.wording]
    assert slow.message.value == "春夜喜雨"  # the example again
    slow.message.value = "江月"
    slow.buttons["Clear"].click()
    assert slow.message.value == "江月"
    assert note(slow.page.value) == "○ Ready. Type a message, then press Send or the Enter key."
    assert slow.buttons["Another"].disabled
    assert not threads(THREAD)


def test_a_new_system_line_begins_a_new_conversation(box: ChatBox, taught: Checkpoint) -> None:
    box.system.value = "山 "
    press(box, "Send")
    assert "is new" not in note(box.page.value)  # there was no old one
    box.message.value = "樹"
    press(box, "Send")
    assert len(contents(box)) == 5
    box.system.value, box.message.value = "江", "月"
    press(box, "Send")
    assert contents(box) == ["江", "月", answer(taught, "江", "月")]
    assert "The system line is new, and so is the conversation." in note(box.page.value)


def test_what_was_changed_or_is_unknown_is_said_when_the_answer_is_there(box: ChatBox) -> None:
    box.message.value = "山<EOS>雨"
    press(box, "Send")
    assert contents(box)[1] == "山雨"
    assert "Left out: <EOS>" in note(box.page.value)


@pytest.mark.parametrize(
    ("typed", "reason"), [("  ", "is blank"), ("spring", "no Chinese"), ("山" * 61, "61 characters")]
)
def test_a_message_is_refused_with_the_reason_and_stays_in_the_field(box: ChatBox, typed: str, reason: str) -> None:
    box.message.value = typed
    press(box, "Send")
    assert note(box.page.value).startswith("✗ Refused. ")
    assert reason in note(box.page.value)
    assert (contents(box), box.message.value) == ([POEM.wording], typed)


def test_a_refused_message_leaves_the_conversation_even_if_the_system_line_is_new(box: ChatBox) -> None:
    press(box, "Send")
    before = contents(box)
    box.system.value, box.message.value = "請作詩", " "
    press(box, "Send")
    assert contents(box) == before
    box.message.value = "江月"
    press(box, "Send")
    assert contents(box)[:2] == ["請作詩", "江月"]


def test_a_failure_is_a_sentence_in_the_box(box: ChatBox, taught: Checkpoint) -> None:
    press(box, "Send")
    first = contents(box)
    with torch.no_grad():
        taught.model.model.norm.weight.fill_(float("nan"))
    box.message.value = "樹"
    press(box, "Send")
    assert note(box.page.value).startswith("✗ Failed. ")
    assert "not numbers" in note(box.page.value)
    assert contents(box) == [*first, "樹"]
    assert box.buttons["Stop"].disabled
    with torch.no_grad():
        taught.model.model.norm.weight.fill_(1)
    press(box, "Another")
    assert len(contents(box)) == 5


# --- the menu -------------------------------------------------------------------------------------


def test_the_menu_fills_the_system_line_and_shows_an_example(box: ChatBox) -> None:
    assert box.system.value == POEM.wording
    names = [instruction.name for _, instruction in box.instruction.options]
    assert names == [i.name for i in MANY if i.kind == "sentence"]
    examples = {}
    for instruction in (value for _, value in box.instruction.options):
        box.instruction.value = instruction
        assert box.system.value == instruction.wording
        examples[instruction.name] = box.message.value
    poem = "好雨知時節，當春乃發生。\n隨風潛入夜，潤物細無聲。"
    assert examples["quatrain-7"] == "春夜喜雨"
    assert examples["title"] == poem
    assert examples["punctuate"] == re.sub(r"[，。\n]", "", poem)
    assert poem.startswith(examples["continue"])
    assert examples["couplet"] in poem


def test_clauses_are_joined_where_a_title_is_given(box: ChatBox) -> None:
    rhyme, acrostic = box.clauses.values()
    rhyme.value = " 東 "
    assert box.system.value == f"{POEM.wording}，押「東」韻"
    assert box.message.value == "山雨"  # what was typed stays
    box.instruction.value = find("quatrain-7", MANY)
    acrostic.value = "春夜喜雨"
    assert box.system.value == find("quatrain-7,rhyme=東,acrostic=春夜喜雨", MANY).wording
    box.instruction.value = find("couplet", MANY)
    assert box.system.value == "請對下句"
    assert rhyme.disabled
    box.instruction.value = find("poem", MANY)
    assert not rhyme.disabled
    assert box.system.value == find("poem,rhyme=東,acrostic=春夜喜雨", MANY).wording
    acrostic.value = rhyme.value = ""
    assert box.system.value == POEM.wording


def test_a_clause_may_be_simplified(box: ChatBox) -> None:
    rhyme, acrostic = box.clauses.values()
    assert (rhyme.placeholder, acrostic.placeholder) == ("東", "春夏秋冬")
    acrostic.value = "云从石上"
    assert box.system.value == find("poem,acrostic=雲從石上", MANY).wording
    press(box, "Send")
    assert contents(box)[0] == box.system.value
    assert "Read as 雲從石上: you typed Simplified" in note(box.page.value)
    box.message.value = "江月"
    press(box, "Send")
    assert "Simplified" not in note(box.page.value)


def test_a_change_in_a_clause_is_said_and_nothing_else(box: ChatBox) -> None:
    rhyme, acrostic = box.clauses.values()
    rhyme.value, acrostic.value = "咸", "雲从石上"
    press(box, "Send")
    said = note(box.page.value)
    assert "Read as 雲從石上: the poems have 從 here, not 从." in said
    assert "Kept as typed" not in said


@pytest.mark.parametrize(
    ("field", "typed", "reason"),
    [(0, "dog", "rhyme cannot be 'dog'."), (1, "abcd", "'abcd' may hold Chinese characters only")],
)
def test_a_clause_that_means_nothing_is_refused(box: ChatBox, field: int, typed: str, reason: str) -> None:
    clause = [*box.clauses.values()][field]
    clause.value = typed
    assert box.system.value == POEM.wording
    press(box, "Send")
    assert note(box.page.value).startswith(f"✗ Refused. {reason}")
    assert (contents(box), box.message.value) == ([POEM.wording], "山雨")
    clause.value = ""
    press(box, "Send")
    assert len(contents(box)) == 3
    clause.value = typed
    box.message.value = "江月"
    press(box, "Send")
    assert note(box.page.value).startswith(f"✗ Refused. {reason}")
    assert (len(contents(box)), box.message.value) == (3, "江月")


def test_the_first_message_is_what_the_instruction_asks_for(box: ChatBox) -> None:
    box.instruction.value = find("punctuate", MANY)
    typed = box.message.value
    press(box, "Send")
    assert contents(box)[:2] == ["請爲這首詩加上標點", typed]
    assert box.chat.instruction is box.instruction.value


# --- the controls ---------------------------------------------------------------------------------


def widgets_in(box: ChatBox) -> Iterator[Any]:
    pending: list[Any] = [box]
    while pending:
        widget = pending.pop(0)
        pending = [*getattr(widget, "children", ()), *pending]
        yield widget


def labels(box: ChatBox) -> list[str]:
    """The labels of the controls, in the order in which Tab reaches them."""
    return [widget.description for widget in widgets_in(box) if getattr(widget, "description", "")]


def test_every_control_has_a_label_and_a_page_without_a_kernel_a_sentence(taught: Checkpoint) -> None:
    box = show.chat_box(taught)
    fields = ["Instruction", "Rhyme 押韻", "Acrostic 藏頭", "System line"]
    offered = ["再寫一首", "改成七言絕句", "再以「江雪」爲題寫一首"]
    assert labels(box) == [*fields, *offered, "Message", "Send", "Stop", "Another", "Clear"]
    assert repr(box) == "Run this cell in Jupyter (Shift+Enter), and the box appears here."
    assert len(repr(box)) <= 110  # ipywidgets cuts a longer one


def test_a_model_of_one_instruction_has_no_menu_and_a_base_model_no_box(checkpoint: Checkpoint) -> None:
    assert labels(ChatBox(checkpoint)) == ["System line", "Message", "Send", "Stop", "Another", "Clear"]
    with pytest.raises(ValueError, match="a base model was taught no instruction"):
        ChatBox(replace(checkpoint, instructions=()))


def test_only_core_widgets_are_used(box: ChatBox) -> None:
    core = {"VBoxModel", "HBoxModel", "TextModel", "DropdownModel", "ButtonModel", "HTMLModel"}
    assert {widget._model_name for widget in widgets_in(box)} == core
