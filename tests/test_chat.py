"""A conversation with a model: what is read of what was typed, which answer comes, and what is forgotten."""

from dataclasses import replace

import pytest

from course_lib.chat import Chat
from course_lib.checkpoints import Checkpoint
from course_lib.generation import reply, room_in
from course_lib.instructions import POEM, find
from course_lib.roles import Conversation, within
from course_lib.sampling import GenerationSettings
from course_lib.tasks import MANY


@pytest.fixture
def chat(checkpoint: Checkpoint) -> Chat:
    """A conversation that has not begun, with a model that can be asked for everything."""
    return Chat(replace(checkpoint, instructions=MANY), POEM)


def contents(messages: Conversation) -> list[str]:
    return [message["content"] for message in messages]


def asked(chat: Chat, name: str) -> Chat:
    return Chat(chat.checkpoint, find(name, MANY))


def test_the_first_message_is_read_as_a_title_and_later_ones_as_they_are(chat: Chat) -> None:
    assert "Left out: x" in chat.ask("江x月")
    chat.answered("水向門前去")
    chat.ask("  山<RES>雨x ")
    assert contents(chat.messages) == [POEM.wording, "江月", "水向門前去", "山<RES>雨x"]
    assert [message["role"] for message in chat.messages] == ["system", "user", "assistant", "user"]


def test_other_instructions_take_the_first_message_as_it_is_but_give_a_poem_its_rows_again(chat: Chat) -> None:
    typed = " 山中一夜雨，樹上幾聲鶯。水向門前去，雲從石上生。"
    for name, read in (("couplet", typed.strip("。 ")), ("title", typed.strip().replace("。水", "。\n水"))):
        other = asked(chat, name)
        other.ask(typed)
        assert contents(other.messages)[1:] == [read]
    again = asked(chat, "title")
    again.ask(typed.replace("。水", "。\n水"))
    assert again.messages == other.messages


@pytest.mark.parametrize("name", ["poem", "couplet", "title"])
def test_a_blank_message_is_refused_and_not_added(chat: Chat, name: str) -> None:
    other = asked(chat, name)
    with pytest.raises(ValueError, match="is blank"):
        other.ask(" \n")
    other.ask("江月")
    with pytest.raises(ValueError, match="is blank"):
        other.ask("")
    assert contents(other.messages)[1:] == ["江月"]


def test_unknown_characters_are_named_once_those_of_the_system_line_at_first(chat: Chat) -> None:
    assert chat.ask("江龘") == "The model does not know 龘 and reads <UNK> (an unknown character) instead."
    other = Chat(chat.checkpoint, POEM, "請寫龘", 0)
    assert (
        other.ask("江月")
        == "In the system line: The model does not know 龘 and reads <UNK> (an unknown character) instead."
    )
    other.answered("水")
    assert other.ask("山") == ""
    assert "does not know 🌙, 貓 " in other.ask("🌙貓")
    line = Chat(chat.checkpoint, find("couplet", MANY), "龘")
    told = line.ask("貓")
    assert "The model does not know 貓 and" in told
    assert "In the system line: The model does not know 龘 and" in told


def test_the_answer_is_that_of_the_library_for_the_seed(chat: Chat) -> None:
    chat.ask("江月")
    for seed in (0, 1, 2):
        assert chat.seed == seed
        text = "".join(chat.reply())
        assert text == "".join(reply(chat.checkpoint, chat.messages, GenerationSettings(seed=seed)))
        chat.answered(text)
        assert contents(chat.messages)[2:] == [text]
        chat.again()
    assert contents(chat.messages) == [POEM.wording, "江月"]


def test_nothing_can_be_answered_again_before_a_message(chat: Chat) -> None:
    with pytest.raises(ValueError, match="no message to answer"):
        chat.again()
    assert chat.seed == 0


def test_the_likeliest_characters_are_taken_where_one_answer_is_right_and_only_for_the_first_message(
    chat: Chat,
) -> None:
    other = asked(chat, "name-form")
    other.ask("江月何人見")
    greedy = GenerationSettings(temperature=0)
    assert "".join(other.reply()) == "".join(reply(chat.checkpoint, other.messages, greedy))
    other.answered("江")
    other.ask("山")
    assert "".join(other.reply()) == "".join(reply(chat.checkpoint, other.messages, GenerationSettings()))


def test_a_message_without_an_answer_is_replaced(chat: Chat) -> None:
    chat.ask("江月")
    chat.answered("")  # stopped before the first character
    chat.ask("山雨x")
    assert contents(chat.messages) == [POEM.wording, "山雨"]  # so it is still read as a title


def test_the_system_line_can_be_another(chat: Chat) -> None:
    assert contents(Chat(chat.checkpoint, POEM, " 請寫一首詩 ").messages) == ["請寫一首詩"]
    assert contents(Chat(chat.checkpoint, POEM, "").messages) == [""]


def test_a_system_line_may_be_simplified(chat: Chat) -> None:
    talk = Chat(chat.checkpoint, POEM, "请用以下题目写一首诗")
    assert contents(talk.messages) == [POEM.wording]
    assert (
        talk.ask("江月")
        == f"In the system line: Read as {POEM.wording}: you typed Simplified, the poems are in Traditional."
    )
    talk.answered("水")
    assert talk.ask("山") == ""
    own = Chat(chat.checkpoint, replace(POEM, given="text"), "请用以下题目写一首诗")
    assert contents(own.messages) == ["请用以下题目写一首诗"]


def test_the_oldest_answers_are_forgotten_and_what_was_heard_is_what_was_read(chat: Chat) -> None:
    chat.ask("江月")
    for number in range(4):
        chat.reply()
        assert chat.heard == within(chat.messages, room_in(chat.checkpoint))
        chat.answered("山中一夜雨"[number] * 10)
        chat.ask("山")
    assert len(chat.messages) == 10
    answers = [message for message in chat.heard if message["role"] == "assistant"]
    assert contents(answers) == ["中" * 10, "一" * 10, "夜" * 10][-len(answers) :]
    assert all(any(message is other for other in chat.messages) for message in chat.heard)


def test_a_message_that_is_too_long_is_refused_and_not_added(chat: Chat) -> None:
    line = asked(chat, "couplet")  # a title is refused for its length first
    room = room_in(line.checkpoint)
    longest = "山" * (room - len(line.system) - 2)  # there are two marks
    with pytest.raises(ValueError, match=f"at most {room} characters"):
        line.ask(longest + "山")
    line.ask(longest)
    line.reply()
    line.answered("水")
    with pytest.raises(ValueError, match=f"too long, even without older answers: at most {room} characters"):
        line.ask("山")
    assert len(line.messages) == 3


def test_messages_to_a_model_of_ones_own_data_are_not_read_as_titles(chat: Chat) -> None:
    own = replace(chat.instruction, given="text")
    talk = Chat(chat.checkpoint, own)
    talk.ask(" 1+1=？請說。 ")
    talk.answered("2")
    talk.ask("再写一首")
    assert contents(talk.messages)[1:] == ["1+1=？請說。", "2", "再写一首"]


def test_the_wording_of_an_instruction_of_ones_own_is_read_as_it_was_taught(chat: Chat) -> None:
    own = replace(POEM, wordings=("请用以下题目写一首诗",))
    for system in (None, own.wording):
        talk = Chat(chat.checkpoint, own, system)
        assert contents(talk.messages) == ["请用以下题目写一首诗"]
        assert "Read as" not in talk.ask("江月")


def test_a_line_or_a_later_message_may_be_simplified(chat: Chat) -> None:
    other = asked(chat, "couplet")
    assert "you typed Simplified" in other.ask("云从石上来，")
    assert contents(other.messages)[1:] == ["雲從石上來"]
    other.answered("山")
    other.ask("再写一首")
    assert contents(other.messages)[-1] == "再寫一首"
