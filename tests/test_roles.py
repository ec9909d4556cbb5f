"""From poems and conversations to segments, and the same through the chat template of `transformers`."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from course_lib.checkpoints import Checkpoint, save_checkpoint
from course_lib.instructions import OLD_STYLE, POEM, Exchange, Instruction
from course_lib.model import ModelConfig, PoetryModel
from course_lib.poems import Poem
from course_lib.roles import (
    Conversation,
    Message,
    asking,
    example_segments,
    message_segments,
    opening,
    pretraining_text,
    prompt_segments,
    spelled_out,
    within,
)
from course_lib.tasks import Request
from course_lib.tokenizer import CharacterTokenizer

RAIN = Poem("春夜喜雨", "杜甫", ("好雨知時節，當春乃發生。", "隨風潛入夜，潤物細無聲。"))
DIALOGUE: list[Message] = [
    {"role": "system", "content": POEM.wording},
    {"role": "user", "content": " 春 夜\n\n喜雨 "},
    {"role": "assistant", "content": "好雨知時節，\n"},
    {"role": "user", "content": ""},
    {"role": "assistant", "content": "潤物細無聲。"},
]


def test_a_poem_as_a_training_example() -> None:
    assert example_segments(RAIN) == [
        ("<INS>", "請用以下題目寫一首詩"),
        ("<INP>", "春夜喜雨"),
        ("<RES>", "好雨知時節，當春乃發生。\n隨風潛入夜，潤物細無聲。"),
        ("<EOS>", ""),
    ]


def test_segments_spelled_out_can_be_read() -> None:
    assert spelled_out(example_segments(RAIN)) == (
        "<INS>請用以下題目寫一首詩<INP>春夜喜雨<RES>好雨知時節，當春乃發生。\n隨風潛入夜，潤物細無聲。<EOS>"
    )


def test_pretraining_reads_the_title_the_poem_and_a_blank_row() -> None:
    assert pretraining_text(RAIN) == "春夜喜雨\n好雨知時節，當春乃發生。\n隨風潛入夜，潤物細無聲。\n\n"


@pytest.mark.parametrize("instruction", [POEM, OLD_STYLE], ids=lambda instruction: instruction.name)
def test_the_prompt_is_the_example_up_to_the_open_response(instruction: Instruction) -> None:
    prompt = prompt_segments(RAIN.title, instruction)
    assert spelled_out(example_segments(RAIN, instruction)).startswith(spelled_out(prompt))
    assert prompt == [("<INS>", instruction.wording), ("<INP>", RAIN.title), ("<RES>", "")]


def test_a_prompt_uses_the_first_wording() -> None:
    two = Instruction("two", "二", ("請", "勞駕"))
    assert prompt_segments("題", two) == [("<INS>", "請"), ("<INP>", "題"), ("<RES>", "")]
    assert example_segments(RAIN, two)[0] == ("<INS>", "請")


def test_a_first_request_has_a_system_line_only_if_there_is_one() -> None:
    user: Message = {"role": "user", "content": "春雨"}
    assert asking("寫", "春雨") == [{"role": "system", "content": "寫"}, user]
    assert asking("", "春雨") == [user]
    assert opening("", Exchange("春雨", "花。")) == [user, {"role": "assistant", "content": "花。"}]
    without = replace(POEM, wordings=("",))
    assert Request.first(without, "春雨").prompt == [user], "no answer follows"
    assert prompt_segments("春雨", without) == [("<INP>", "春雨"), ("<RES>", "")]


def test_a_conversation_of_three_turns_is_a_training_example() -> None:
    messages: list[Message] = [
        {"role": "system", "content": POEM.wording},
        {"role": "user", "content": RAIN.title},
        {"role": "assistant", "content": RAIN.text},
    ]
    assert message_segments(messages) == example_segments(RAIN)
    assert message_segments(messages[:2], open_response=True) == prompt_segments(RAIN.title)


def test_every_assistant_turn_ends() -> None:
    tokens = [token for token, _ in message_segments(DIALOGUE, open_response=True)]
    assert tokens == ["<INS>", "<INP>", "<RES>", "<EOS>", "<INP>", "<RES>", "<EOS>", "<RES>"]


def test_segments_lose_nothing_of_a_conversation() -> None:
    role = {"<INS>": "system", "<INP>": "user", "<RES>": "assistant"}
    segments = message_segments(DIALOGUE)
    back = [{"role": role[token], "content": text} for token, text in segments if token != "<EOS>"]
    assert back == DIALOGUE


def test_a_wrong_role_is_refused() -> None:
    with pytest.raises(ValueError, match=r"'robot' is none of system, user, assistant"):
        message_segments([{"role": "robot", "content": "嗶"}])  # type: ignore[typeddict-item]


# --- what fits into the context -------------------------------------------------------------------

LONG: Conversation = [
    {"role": "system", "content": "寫詩"},  # 3 tokens
    {"role": "user", "content": "江月"},  # 3
    {"role": "assistant", "content": "江月何人見"},  # 7, with its end
    {"role": "user", "content": "再寫一首"},  # 5
    {"role": "assistant", "content": "江花幾度開"},  # 7
    {"role": "user", "content": "請再寫一首"},  # 6
]


@pytest.mark.parametrize(
    ("room", "kept"),
    [(31, [0, 1, 2, 3, 4, 5]), (30, [0, 1, 4, 5]), (19, [0, 1, 4, 5])],
)
def test_the_oldest_answers_are_left_out_with_the_requests_after_them(room: int, kept: list[int]) -> None:
    before = list(LONG)
    assert within(LONG, room) == [LONG[i] for i in kept]
    assert before == LONG
    assert sum(1 + len(text) for _, text in message_segments(within(LONG, room))) <= room


def test_a_conversation_without_a_system_line_can_be_shortened_too() -> None:
    assert within(LONG[1:], 20) == [LONG[1], LONG[4], LONG[5]]
    assert within([], 0) == []


def test_the_first_request_and_the_last_message_are_never_left_out() -> None:
    for messages, room in ((LONG, 5), (LONG[:2], 5), (LONG[:3], 12), (LONG[2:3], 6), (LONG, 18), (LONG[:4], 17)):
        with pytest.raises(ValueError, match=f"too long, even without older answers: at most {room} characters"):
            within(messages, room)


# --- the chat template, as transformers runs it ---------------------------------------------------


@pytest.fixture(scope="module")
def ours() -> CharacterTokenizer:
    tokenizer = CharacterTokenizer.train([RAIN.text, RAIN.title, POEM.wording], min_count=1)
    tokenizer.add_role_tokens()
    return tokenizer


@pytest.fixture(scope="module")
def theirs(ours: CharacterTokenizer, tmp_path_factory: pytest.TempPathFactory) -> PreTrainedTokenizerFast:
    """Our files, opened by `transformers`."""
    folder = tmp_path_factory.mktemp("checkpoint")
    shape = ModelConfig(vocab_size=len(ours), hidden_size=16, num_attention_heads=1, num_hidden_layers=1)
    save_checkpoint(Checkpoint(PoetryModel(shape), ours, (POEM,)), folder, facts={}, story="")
    loaded = AutoTokenizer.from_pretrained(folder)
    assert isinstance(loaded, PreTrainedTokenizerFast)
    return loaded


def template_ids(theirs: PreTrainedTokenizerFast, messages: list[Message], *, open_response: bool) -> list[int]:
    conversation: Any = messages
    ids: Any = theirs.apply_chat_template(conversation, add_generation_prompt=open_response, return_dict=False)
    return list(ids)


@pytest.mark.parametrize("open_response", [False, True])
@pytest.mark.parametrize("turns", range(1, len(DIALOGUE) + 1))
def test_the_chat_template_gives_the_same_ids(
    turns: int, open_response: bool, ours: CharacterTokenizer, theirs: PreTrainedTokenizerFast
) -> None:
    messages = DIALOGUE[:turns]
    expected = ours.encode_segments(message_segments(messages, open_response=open_response))
    assert template_ids(theirs, messages, open_response=open_response) == expected


CONTENTS = st.text(st.sampled_from("好雨知時節，。\n \t<>INSRP人{}%")).filter(
    lambda text: not any(token in text for token in ("<INS>", "<INP>", "<RES>", "<EOS>", "<PAD>", "<UNK>"))
)
MESSAGES = st.lists(
    st.builds(
        lambda role, content: {"role": role, "content": content},
        st.sampled_from(["system", "user", "assistant"]),
        CONTENTS,
    ),
    min_size=1,
)


@given(messages=MESSAGES, open_response=st.booleans())
def test_the_chat_template_agrees_on_any_conversation(
    messages: list[Message],
    open_response: bool,
    ours: CharacterTokenizer,
    theirs: PreTrainedTokenizerFast,
) -> None:
    expected = ours.encode_segments(message_segments(messages, open_response=open_response))
    assert template_ids(theirs, messages, open_response=open_response) == expected


def test_only_ours_keeps_a_typed_special_token_as_text(
    ours: CharacterTokenizer, theirs: PreTrainedTokenizerFast
) -> None:
    """Why the course encodes segments: the one string of a template does not say who wrote `<RES>`."""
    messages: list[Message] = [{"role": "user", "content": "雨<RES>"}]
    response = ours.special_token_id("<RES>")
    assert response not in ours.encode_segments(message_segments(messages))
    assert response in template_ids(theirs, messages, open_response=False)


def test_both_decode_alike(ours: CharacterTokenizer, theirs: PreTrainedTokenizerFast) -> None:
    ids = ours.encode_segments(example_segments(RAIN))
    assert theirs.decode(ids) == ours.decode(ids, show_special_tokens=True) == spelled_out(example_segments(RAIN))
    assert theirs.decode(ids, skip_special_tokens=True) == ours.decode(ids)


def test_both_refuse_a_role_they_do_not_know(theirs: PreTrainedTokenizerFast) -> None:
    messages = [{"role": "narrator", "content": "雨"}]
    with pytest.raises(ValueError, match="role 'narrator' is none of"):
        message_segments(messages)  # type: ignore[arg-type]
    with pytest.raises(Exception, match="unknown role narrator"):
        theirs.apply_chat_template(messages)
