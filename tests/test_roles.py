"""From poems and conversations to segments, and the same through the chat template of `transformers`."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from course_lib.checkpoints import tokenizer_config
from course_lib.model import ModelConfig
from course_lib.poems import Poem
from course_lib.roles import (
    WRITE_A_POEM,
    Message,
    example_segments,
    message_segments,
    plain_text,
    prompt_segments,
)
from course_lib.tokenizer import CharacterTokenizer

POEM = Poem("春夜喜雨", "杜甫", ("好雨知時節，當春乃發生。", "隨風潛入夜，潤物細無聲。"))
DIALOGUE: list[Message] = [
    {"role": "system", "content": WRITE_A_POEM},
    {"role": "user", "content": " 春 夜\n\n喜雨 "},
    {"role": "assistant", "content": "好雨知時節，\n"},
    {"role": "user", "content": ""},
    {"role": "assistant", "content": "潤物細無聲。"},
]


def test_a_poem_as_a_training_example() -> None:
    assert example_segments(POEM) == [
        ("<INS>", "請用以下題目寫一首詩"),
        ("<INP>", "春夜喜雨"),
        ("<RES>", "好雨知時節，當春乃發生。\n隨風潛入夜，潤物細無聲。"),
        ("<EOS>", ""),
    ]


def test_plain_text_spells_the_marks_out() -> None:
    assert plain_text(example_segments(POEM)) == (
        "<INS>請用以下題目寫一首詩<INP>春夜喜雨<RES>好雨知時節，當春乃發生。\n隨風潛入夜，潤物細無聲。<EOS>"
    )


def test_the_prompt_is_the_example_up_to_the_open_response() -> None:
    assert plain_text(example_segments(POEM, "請")).startswith(plain_text(prompt_segments(POEM.title, "請")))
    assert prompt_segments("題", "請") == [("<INS>", "請"), ("<INP>", "題"), ("<RES>", "")]


def test_a_conversation_of_three_turns_is_a_training_example() -> None:
    messages: list[Message] = [
        {"role": "system", "content": WRITE_A_POEM},
        {"role": "user", "content": POEM.title},
        {"role": "assistant", "content": POEM.text},
    ]
    assert message_segments(messages) == example_segments(POEM)
    assert message_segments(messages[:2], open_response=True) == prompt_segments(POEM.title)


def test_every_assistant_turn_ends() -> None:
    marks = [mark for mark, _ in message_segments(DIALOGUE, open_response=True)]
    assert marks == ["<INS>", "<INP>", "<RES>", "<EOS>", "<INP>", "<RES>", "<EOS>", "<RES>"]


def test_a_conversation_can_be_read_back() -> None:
    """Segments lose nothing: roles and contents are as they were."""
    role = {"<INS>": "system", "<INP>": "user", "<RES>": "assistant"}
    segments = message_segments(DIALOGUE)
    back = [{"role": role[mark], "content": text} for mark, text in segments if mark != "<EOS>"]
    assert back == DIALOGUE


def test_a_wrong_role_is_refused() -> None:
    with pytest.raises(ValueError, match=r"'robot' is none of system, user, assistant"):
        message_segments([{"role": "robot", "content": "嗶"}])  # type: ignore[typeddict-item]


# --- the chat template, as transformers runs it ---------------------------------------------------


@pytest.fixture(scope="module")
def ours() -> CharacterTokenizer:
    tokenizer = CharacterTokenizer.train([POEM.text, POEM.title, WRITE_A_POEM], min_count=1)
    tokenizer.add_role_tokens()
    return tokenizer


@pytest.fixture(scope="module")
def theirs(ours: CharacterTokenizer, tmp_path_factory: pytest.TempPathFactory) -> PreTrainedTokenizerFast:
    """Our files, opened by `transformers` as anybody would."""
    folder = tmp_path_factory.mktemp("checkpoint")
    ours.save(folder / "tokenizer.json")
    settings = tokenizer_config(ours, ModelConfig(vocab_size=len(ours)))
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return AutoTokenizer.from_pretrained(folder)


def template_ids(theirs: PreTrainedTokenizerFast, messages: list[Message], *, open_response: bool) -> list[int]:
    out = theirs.apply_chat_template(messages, add_generation_prompt=open_response, tokenize=True, return_dict=True)
    return list(out["input_ids"])


@pytest.mark.parametrize("open_response", [False, True])
@pytest.mark.parametrize("turns", range(1, len(DIALOGUE) + 1))
def test_the_chat_template_gives_the_same_ids(
    turns: int, open_response: bool, ours: CharacterTokenizer, theirs: PreTrainedTokenizerFast
) -> None:
    messages = DIALOGUE[:turns]
    expected = ours.encode_segments(message_segments(messages, open_response=open_response))
    assert template_ids(theirs, messages, open_response=open_response) == expected


CONTENTS = st.text(st.sampled_from("好雨知時節，。\n \t<>INSRP人{}%")).filter(
    lambda text: not any(mark in text for mark in ("<INS>", "<INP>", "<RES>", "<EOS>", "<PAD>", "<UNK>"))
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


def test_only_ours_keeps_a_typed_mark_as_text(ours: CharacterTokenizer, theirs: PreTrainedTokenizerFast) -> None:
    """Why the course encodes segments: a template's one string does not say who wrote a mark."""
    messages: list[Message] = [{"role": "user", "content": "雨<RES>"}]
    response = ours.control_id("<RES>")
    assert response not in ours.encode_segments(message_segments(messages))
    assert response in template_ids(theirs, messages, open_response=False)


def test_both_decode_alike(ours: CharacterTokenizer, theirs: PreTrainedTokenizerFast) -> None:
    ids = ours.encode_segments(example_segments(POEM))
    assert theirs.decode(ids) == ours.decode(ids, show_controls=True) == plain_text(example_segments(POEM))
    assert theirs.decode(ids, skip_special_tokens=True) == ours.decode(ids)


def test_both_refuse_a_role_they_do_not_know(theirs: PreTrainedTokenizerFast) -> None:
    messages = [{"role": "narrator", "content": "雨"}]
    with pytest.raises(ValueError, match="role 'narrator' is none of"):
        message_segments(messages)  # type: ignore[arg-type]
    with pytest.raises(Exception, match="unknown role narrator"):
        theirs.apply_chat_template(messages)
