"""Training conversations: what is asked, who answers, and what is never taught."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import replace
from typing import Literal, NamedTuple

import pytest

from course_lib.instructions import ALL, OLD_STYLE, POEM, Exchange, Instruction
from course_lib.poems import Poem, load_poems
from course_lib.prosody import is_well_formed, readings, scan
from course_lib.roles import Conversation, plain_conversations
from course_lib.tasks import FORMS, MANY, lottery, verse_form
from course_lib.tasks.lottery import SCENES, mixed_conversations
from course_lib.tasks.many import is_mixed

TOWER = Poem("登鸛雀樓", "王之渙", ("白日依山盡，黃河入海流。", "欲窮千里目，更上一層樓。"))
FARMERS = Poem("憫農", "李紳", ("鋤禾日當午，汗滴禾下土。", "誰知盤中飧，粒粒皆辛苦。"))
NAMED = {row.name: row for row in MANY}


@pytest.fixture(scope="module", autouse=True)
def _whole_wordings() -> Iterator[None]:
    """Leave the wordings whole, so that they can be recognized; one test is about those that lose characters."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lottery, "WITH_SLIPS", 0.0)
        yield


@pytest.fixture(scope="module")
def real() -> list[Poem]:
    """The validation poems whose characters all have a reading, with a few that are not well formed."""
    return [p for p in load_poems("validation") if set("".join(p.lines)) <= readings().keys()]


@pytest.fixture(scope="module")
def crowded(real: list[Poem]) -> list[Poem]:
    """The same poems on twenty titles, so that each title has poems of all forms."""
    return [
        replace(poem, title=f"題{'江月山雨花鳥春秋風雲日夜天水石木竹門樓客'[i % 20]}") for i, poem in enumerate(real)
    ]


@pytest.fixture(scope="module")
def mixed(real: list[Poem]) -> list[Conversation]:
    return mixed_conversations(real, MANY)


@pytest.fixture(scope="module")
def long(crowded: list[Poem]) -> list[Conversation]:
    return mixed_conversations(crowded, MANY)


# --- each poem under one instruction --------------------------------------------------------------


def test_each_poem_answers_the_last_instruction_that_it_fits() -> None:
    first, second, again = plain_conversations([TOWER, FARMERS, TOWER], ALL)
    assert first == [
        {"role": "system", "content": POEM.wording},
        {"role": "user", "content": "登鸛雀樓"},
        {"role": "assistant", "content": TOWER.text},
    ]
    assert [message["content"] for message in second] == [OLD_STYLE.wording, "憫農", FARMERS.text]
    assert again is first
    with pytest.raises(ValueError, match="登鸛雀樓 answers none of these instructions"):
        plain_conversations([TOWER], [OLD_STYLE])


# --- what the lot draws ---------------------------------------------------------------------------


class Asked(NamedTuple):
    """What a system line of training asks for."""

    scene: str
    sentence: Instruction
    clause: Instruction | None
    argument: str


def understood(system: str) -> Asked:
    """The request in a system line. Fails unless it is made of wordings that are taught: all but the last of a row."""
    for row in MANY:
        for wording in row.taught_wordings if row.kind == "sentence" else ():
            if found := re.fullmatch(rf"({'|'.join(SCENES)})?{wording}(，.*)?", system):
                scene, rest = found.groups()
                for clause in (NAMED["rhyme"], NAMED["acrostic"]):
                    for form in clause.taught_wordings:
                        if rest and (argument := re.fullmatch(form.replace("{}", "(.+)"), rest)):
                            return Asked(scene or "", row, clause, argument[1])
                if not rest:
                    return Asked(scene or "", row, None, "")
    raise AssertionError(f"no wording that is taught: {system}")


def turns(talk: Conversation) -> Iterator[tuple[str, str, str, str]]:
    """The later turns: the row that is asked for, its argument, the answer before, and the answer."""
    for i in range(3, len(talk), 2):
        request, answer = talk[i : i + 2]
        assert (request["role"], answer["role"]) == ("user", "assistant")
        (found,) = [
            (row.name, *match.groups(""))
            for row in MANY
            for wording in (row.taught_wordings if row.kind == "turn" else ())
            if (match := re.fullmatch(wording.replace("{}", "(.+)"), request["content"]))
        ]
        name, argument = (*found, "")[:2]
        yield name, argument, talk[i - 1]["content"], answer["content"]


def test_every_request_is_obeyed_and_has_a_wording_that_is_taught(mixed: list[Conversation]) -> None:
    for system, given, answer, *_ in mixed:
        assert [each["role"] for each in (system, given, answer)] == ["system", "user", "assistant"]
        asked = understood(system["content"])
        exchange = Exchange(given["content"], answer["content"], asked.argument)
        assert asked.sentence.obeyed(exchange), (asked, exchange)
        assert asked.clause is None or asked.clause.obeyed(exchange), (asked, exchange)


def test_every_row_every_taught_wording_and_every_scene_is_drawn(
    mixed: list[Conversation], long: list[Conversation]
) -> None:
    asked = [understood(talk[0]["content"]) for talk in mixed]
    drawn = {row.name for each in asked for row in (each.sentence, each.clause) if row}
    drawn |= {name for talk in long for name, *_ in turns(talk)}
    assert drawn == NAMED.keys()
    lines = "\n".join(m["content"] for talk in (*mixed, *long) for m in talk if m["role"] != "assistant")
    for row in MANY:
        for wording in row.taught_wordings:
            assert all(part in lines for part in wording.split("{}")), wording
    scenes = [each.scene for each in asked if each.scene]
    assert set(scenes) == set(SCENES)
    assert 0.15 < len(scenes) / len(mixed) < 0.25


def test_some_wordings_lose_characters_but_none_of_the_label(real: list[Poem], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lottery, "WITH_SLIPS", 0.5)
    wordings = {wording: row.label for row in FORMS for wording in row.taught_wordings}
    lines = [talk[0]["content"].rpartition("。")[2] for talk in mixed_conversations(real, FORMS)]
    slipped = [line for line in lines if line not in wordings]
    assert 0.3 < len(slipped) / len(lines) < 0.55  # some are lucky
    for line in slipped:
        assert any(label in line and is_left_of(line, wording) for wording, label in wordings.items())
    spoken = [m["content"] for talk in mixed_conversations(real, MANY) for m in talk if m["role"] != "assistant"]
    for row in MANY:
        pattern = re.compile(row.wordings[-1].replace("{}", ".+"))
        assert not any(pattern.search(line) for line in spoken), row.name


def is_left_of(line: str, wording: str) -> bool:
    """Whether the line is the wording without some of its characters."""
    rest = iter(wording)
    return all(character in rest for character in line)


def test_no_conversation_has_a_wording_that_is_kept_for_the_test(
    mixed: list[Conversation], long: list[Conversation]
) -> None:
    """Read as plain text, without the grammar above."""
    lines = [message["content"] for talk in (*mixed, *long) for message in talk if message["role"] != "assistant"]
    for row in MANY:
        pattern = re.compile(row.wordings[-1].replace("{}", ".+"))
        assert not any(pattern.search(line) for line in lines), row.name
    rhyme, acrostic = ({line for line in lines if re.search(named, line)} for named in ("「.」", "「.{4,}」"))
    assert len(rhyme) > 50 < len(acrostic)
    assert not rhyme & acrostic  # they are joined only in the test


def test_only_the_poems_that_are_given_are_read(real: list[Poem]) -> None:
    given = real[100:400]
    read = "\n\n".join(f"{poem.title}\n{poem.text}" for poem in given)
    names = {verse_form(poem.text) for poem in given}
    for talk in mixed_conversations(given, MANY):
        for message in talk[2::2]:
            assert message["content"] in names or message["content"] in read


def test_each_poem_of_couplets_or_of_mixed_lines_begins_one_conversation_in_its_place(
    real: list[Poem], mixed: list[Conversation]
) -> None:
    usable = [poem for poem in real if is_well_formed(poem.text) or is_mixed(poem)]
    assert 0 < sum(map(is_mixed, usable)) < len(usable) < len(real)
    for poem, talk in zip(usable, mixed, strict=True):
        asked = understood(talk[0]["content"])
        if asked.sentence.given == "title":
            assert talk[2]["content"] == poem.text
            assert talk[1]["content"] in (poem.title, asked.argument)
            assert is_mixed(poem) == (asked.sentence.name == "mixed")


def test_a_later_poem_is_on_the_title_and_in_the_form_that_were_asked_for(
    crowded: list[Poem], long: list[Conversation]
) -> None:
    titles: dict[str, set[str]] = defaultdict(set)  # text → its titles
    for poem in crowded:
        titles[poem.text].add(poem.title)
    for talk in long:
        title = talk[1]["content"]
        for name, argument, before, answer in turns(talk):
            form, form_before = verse_form(answer), verse_form(before)
            assert form
            assert (argument == form != form_before) if name == "another-form" else form == form_before
            assert answer != before or name == "next-title"
            title = argument if name == "next-title" else title
            assert title in titles[answer]
    seen = Counter(name for talk in long for name, *_ in turns(talk))
    assert min(seen[name] for name in ("another", "another-form", "next-title")) > 20


def test_a_general_request_is_answered_by_regulated_verse_if_old_style_has_its_own(mixed: list[Conversation]) -> None:
    plain = [talk for talk in mixed if understood(talk[0]["content"]).sentence.name == "poem"]
    assert plain
    assert all(scan(talk[2]["content"]).rhymes and scan(talk[2]["content"]).regulated for talk in plain)
    ((_, _, answer),) = mixed_conversations([FARMERS], [POEM])
    assert answer["content"] == FARMERS.text


def test_what_is_not_taught_is_not_drawn(real: list[Poem]) -> None:
    few = mixed_conversations(real[:300], ALL)
    assert {talk[0]["content"].rpartition("。")[2] for talk in few} == {POEM.wording, OLD_STYLE.wording}
    assert {len(talk) for talk in few} == {3}
    assert 0 < len(mixed_conversations(real[:300], FORMS)) < len(few)  # some poems fit no row


def test_the_seed_decides_all_draws(real: list[Poem], mixed: list[Conversation]) -> None:
    assert mixed_conversations(real, MANY, 0) == mixed
    first, other = (mixed_conversations(real[:300], MANY, seed) for seed in (0, 1))
    assert sum(talk == another for talk, another in zip(first, other, strict=True)) < 30


@pytest.mark.parametrize("kind", ["clause", "turn"])
def test_a_clause_or_a_turn_that_would_never_be_drawn_is_refused(kind: Literal["clause", "turn"]) -> None:
    own = Instruction("without", "不用", ("，不用「{}」字",), kind=kind)
    with pytest.raises(ValueError, match=r"^without: only sentences can be added"):
        mixed_conversations([TOWER], (*MANY, own))
