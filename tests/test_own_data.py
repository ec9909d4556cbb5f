"""Conversations from a file of your own: what is read, what is refused, what there is to know about them."""

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from course_lib.instructions import OLD_STYLE, POEM, answered_by, find
from course_lib.poems import Poem
from course_lib.roles import Conversation, example_segments, message_segments, prompt_segments
from course_lib.tasks.own_data import marked, read_conversations, survey, taught_by
from course_lib.tokenizer import CharacterTokenizer


def message(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


TALK = [message("system", "答話"), message("user", "江月"), message("assistant", "見。")]
ROW = json.dumps({"messages": TALK}, ensure_ascii=False)
ALPACA = {"instruction": "寫", "input": "江", "output": "花。"}


def file_of(folder: Path, *lines: str) -> Path:
    path = folder / "mine.jsonl"
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def read(folder: Path, *rows: Any) -> list[Conversation]:
    return read_conversations(file_of(folder, *(json.dumps(row, ensure_ascii=False) for row in rows)))


def talk_of(*pairs: tuple[str, str]) -> Conversation:
    return [{"role": role, "content": content} for role, content in pairs]  # type: ignore[typeddict-item]


# --- the two forms --------------------------------------------------------------------------------


def test_both_forms_are_read(tmp_path: Path) -> None:
    without_input, empty_input = {"instruction": "寫", "output": "花。"}, {**ALPACA, "input": ""}
    assert read(tmp_path, {"messages": TALK}, ALPACA, without_input, empty_input, {**ALPACA, "input": None}) == [
        TALK,
        talk_of(("system", "寫"), ("user", "江"), ("assistant", "花。")),
        *[talk_of(("user", "寫"), ("assistant", "花。"))] * 3,
    ]


def test_every_text_of_a_line_must_be_valid(tmp_path: Path) -> None:
    for name in ("instruction", "input", "output"):
        with pytest.raises(ValueError, match=r"line 1: .*surrogates not allowed"):
            read_conversations(file_of(tmp_path, json.dumps({**ALPACA, name: "\ud800"})))


def test_what_a_line_has_besides_is_left_out(tmp_path: Path) -> None:
    more = {"id": 3, "messages": [{**each, "name": "x", "weight": 1} for each in TALK]}
    assert read(tmp_path, more, {**ALPACA, "text": "…"})[0] == TALK


def test_roles_may_come_in_any_order_as_long_as_the_assistant_ends(tmp_path: Path) -> None:
    long = [message("assistant", "江"), message("user", "月"), message("system", "答"), message("assistant", "")]
    assert read(tmp_path, {"messages": long}) == [long]


def test_blank_lines_a_mark_at_the_start_and_the_line_ends_of_windows_do_no_harm(tmp_path: Path) -> None:
    path = tmp_path / "mine.jsonl"
    path.write_bytes(f"\ufeff\r\n{ROW}\r\n   \r\n\r\n{ROW}".encode())
    assert read_conversations(path) == [TALK, TALK]


@pytest.mark.parametrize("character", ["\u2028", "\u2029", "\x85"])
def test_a_line_ends_only_where_a_json_line_ends(tmp_path: Path, character: str) -> None:
    """JSON allows these characters in a text, and Python's `splitlines` would cut the line there."""
    talk = [message("user", f"江{character}月"), message("assistant", "見。")]
    assert read(tmp_path, {"messages": talk}, ALPACA)[0] == talk


# --- refusals -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ("{", "this is not JSON: see character 2"),
        ("春夜喜雨", "this is not JSON: see character 1"),
        ("[" * 100_000, "recursion"),
        ("[]", 'a line has "messages" (a list), or "instruction", "output" and perhaps "input" (texts)'),
        ('{"instruction": "a\\ud800", "output": "江"}', "surrogates not allowed"),
        ('"messages"', 'a line has "messages" (a list), or'),
        ('{"messages": "江"}', 'a line has "messages" (a list), or'),
        ('{"instruction": "寫"}', 'a line has "messages" (a list), or'),
        ('{"instruction": "寫", "output": ["花"]}', 'a line has "messages" (a list), or'),
        ('{"instruction": "寫", "input": 5, "output": "花"}', 'a line has "messages" (a list), or'),
        ('{"messages": ["江"]}', 'a message has a "role" and a "content", which is text'),
        ('{"messages": [{"role": "user"}]}', 'a message has a "role" and a "content", which is text'),
        ('{"messages": [{"role": "assistant", "content": null}]}', 'a message has a "role" and a "content"'),
        ('{"messages": [{"role": "robot", "content": "嗶"}]}', "role 'robot' is none of system, user, assistant"),
        ('{"messages": [{"role": 1, "content": "嗶"}]}', "role 1 is none of system, user, assistant"),
        ('{"messages": []}', "the assistant says nothing, so there is nothing to learn"),
        ('{"messages": [{"role": "user", "content": "江"}]}', "the assistant says nothing"),
        ('{"messages": [{"role": "assistant", "content": ""}]}', "the assistant says nothing"),
        ('{"instruction": "寫", "output": ""}', "the assistant says nothing"),
        (
            '{"messages": [{"role": "assistant", "content": "江"}, {"role": "user", "content": "月"}]}',
            "the last message is the user's; it must be the assistant's",
        ),
    ],
)
def test_a_line_that_cannot_be_learned_is_named(tmp_path: Path, wrong: str, says: str) -> None:
    path = file_of(tmp_path, ROW, "", ROW, wrong, ROW)
    with pytest.raises(ValueError, match=r"mine\.jsonl, line 4: ") as refused:
        read_conversations(path)
    assert says in str(refused.value)


def test_a_file_without_conversations_is_refused(tmp_path: Path) -> None:
    for lines in ((), ("", "  ")):
        with pytest.raises(ValueError, match=r"mine\.jsonl: no conversation is in it"):
            read_conversations(file_of(tmp_path, *lines))


def test_a_file_in_another_encoding_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine.jsonl").write_bytes(ROW.encode("gb18030"))
    with pytest.raises(ValueError, match=r"mine\.jsonl: not a text file in UTF-8 \('utf-8' codec"):
        read_conversations(tmp_path / "mine.jsonl")


# --- what they teach ------------------------------------------------------------------------------


def test_the_system_lines_are_the_instructions_the_most_frequent_first() -> None:
    rows = [(POEM.wording,), ("答話",), ("答話",), (OLD_STYLE.wording,), (OLD_STYLE.wording,), (OLD_STYLE.wording,)]
    taught = taught_by([talk_of(("system", line), ("assistant", "江")) for (line,) in rows])
    assert [row.wordings for row in taught] == [(OLD_STYLE.wording,), ("答話",), (POEM.wording,)]
    assert [row.name for row in taught] == ["own-1", "own-2", "poem"]
    assert taught[2] == POEM
    assert (taught[1].label, taught[1].given) == ("2: 答話", "text")
    regulated = Poem("登鸛雀樓", "", ("白日依山盡，黃河入海流。", "欲窮千里目，更上一層樓。"))
    assert answered_by(regulated, taught[:1]) == taught[0], "any poem can measure a model of one's own data"
    braces = talk_of(("system", "{}"), ("assistant", "江"))
    assert [row.wording for row in taught_by([braces, talk_of(("system", "答話"), ("assistant", "江"))])] == ["答話"]
    with pytest.raises(ValueError, match=r"every system line has \{\} in it"):
        taught_by([braces])


def test_a_file_without_system_lines_teaches_the_empty_instruction() -> None:
    """Then the prompt has no system line either."""
    (taught,) = taught_by([talk_of(("user", "寫"), ("assistant", "花。"))])
    assert (taught.name, taught.wordings) == ("own-1", ("",))
    assert prompt_segments("江月", taught) == [("<INP>", "江月"), ("<RES>", "")]
    assert example_segments(Poem("江月", "", ("花。",)), taught)[0] == ("<INP>", "江月")
    assert message_segments(talk_of(("system", ""), ("user", "江月"))) == [("<INP>", "江月")]


def test_at_most_ten_lines_are_kept_and_labels_are_short() -> None:
    lines = [f"第{number}種很長很長很長的指令" for number in range(12)]
    taught = taught_by([talk_of(("system", line), ("assistant", "江")) for line in [*lines, lines[11]]])
    assert [row.wording for row in taught] == [lines[11], *lines[:9]]
    assert len({row.name for row in taught}) == 10
    assert {row.label.partition(": ")[2] for row in taught} == {line[:12] for line in [lines[11], *lines[:9]]}
    assert len({row.label for row in taught}) == 10


@pytest.mark.parametrize("line", ["你是唐詩專家，請回答", "a,b", "甲=乙", "Answer like a poet", "", "，你好"])
def test_a_label_chooses_its_instruction(line: str) -> None:
    taught = taught_by([talk_of(("system", line), ("assistant", "江"))])
    assert find(taught[0].label, taught).wording == line


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text() | st.sampled_from(["system", "user", "assistant"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["messages", "role", "content", "instruction", "input", "output"]), inner)
    ),
    max_leaves=12,
)


@given(st.binary() | st.lists(JSON.map(json.dumps), max_size=3).map(lambda lines: "\n".join(lines).encode()))
def test_any_file_gives_conversations_or_one_line_that_names_it(content: bytes) -> None:
    talks: list[Conversation] = []
    said = ""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "mine.jsonl"
        path.write_bytes(content)
        try:
            talks = read_conversations(path)
        except ValueError as error:
            said = str(error)
    assert bool(talks) != bool(said)
    assert all(talk[-1]["role"] == "assistant" for talk in talks)
    assert not said or (said.startswith(str(path)) and "\n" not in said)


# --- what there is to know ------------------------------------------------------------------------


def test_a_survey_counts_as_the_model_reads(tokenizer: CharacterTokenizer) -> None:
    short = talk_of(("user", "江"), ("assistant", "月"))  # three special tokens, two characters
    long = talk_of(("system", "☃山"), ("user", "☃"), ("assistant", "雨" * 9 + "☂"))
    found = survey([short, long, long, short, short], tokenizer, context=16)
    assert found.lengths == [5, 17, 17, 5, 5]
    assert len(tokenizer.encode_segments([("<INP>", "江"), ("<RES>", "月"), ("<EOS>", "")])) == 5
    assert found.cut == [2, 3]
    assert survey([short, long], tokenizer, context=17).cut == []
    assert found.unread == []
    assert survey([short, long], tokenizer, context=6).unread == [2]  # five tokens of the prompt, and the role
    assert found.repeated == [3, 4, 5]
    assert found.unknown == {"☃": 4, "☂": 2}


def test_typed_special_tokens_are_characters_of_the_text(tokenizer: CharacterTokenizer) -> None:
    found = survey([talk_of(("user", "<EOS>"), ("assistant", "月"))], tokenizer, context=64)
    assert found.lengths == [9]
    assert found.unknown == {}


def test_what_is_learned_is_marked() -> None:
    talk = talk_of(("system", "答話"), ("user", "江"), ("assistant", "月。"), ("user", "又"), ("assistant", "花。"))
    assert marked(talk) == "<INS>答話<INP>江<RES>【月。<EOS>】<INP>又<RES>【花。<EOS>】"
