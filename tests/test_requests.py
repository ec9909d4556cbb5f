"""Requests without an answer: what is asked, what the answer must be, and what is never asked."""

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

import pytest

from course_lib.instructions import POEM
from course_lib.poems import Poem, load_poems
from course_lib.roles import length_of, message_segments
from course_lib.tasks import MANY, Request, lottery, mixed_conversations, requests, verse_form
from course_lib.tasks.lottery import SCENES

TOWER = Poem("登鸛雀樓", "王之渙", ("白日依山盡，黃河入海流。", "欲窮千里目，更上一層樓。"))
LUTE = Poem("竹里館", "王維", ("獨坐幽篁裏，彈琴復長嘯。", "深林人不知，明月來相照。"))  # an oblique rhyme
LONG = Poem("長韻", "", TOWER.couplets * 9)
NAMED = {row.name: row for row in MANY}


@pytest.fixture(scope="module")
def asked() -> Iterator[list[Request]]:
    """Three hundred requests in whole wordings."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lottery, "WITH_SLIPS", 0.0)
        yield requests(MANY, load_poems("validation")[:300], plain=0.3)


def test_an_answer_must_obey_and_repeat_no_line_of_the_one_before() -> None:
    first = Request.first(NAMED["quatrain-5"], "江月")
    assert first.prompt[0]["content"] == NAMED["quatrain-5"].wording
    assert first.obeyed(TOWER.text)
    assert not first.obeyed(LUTE.text)
    later = first.then(TOWER.text, "改成古體詩", NAMED["old-style"])
    assert [message["role"] for message in later.prompt] == ["system", "user", "assistant", "user"]
    assert len(first.prompt) == 2, "the first request stays as it was"
    assert later.obeyed(LUTE.text)
    again = first.then(TOWER.text, "再寫一首", NAMED["quatrain-5"])
    assert not again.obeyed(TOWER.text)
    assert not first.then(f"江月何人見，江花幾度開。\n{TOWER.couplets[1]}", "", NAMED["quatrain-5"]).obeyed(TOWER.text)
    assert first.then(LUTE.text, "再寫一首", NAMED["quatrain-5"]).obeyed(TOWER.text)


def test_all_that_was_taught_is_asked_and_the_share_of_plain_requests_is_as_wanted(asked: list[Request]) -> None:
    names = Counter(part.partition("=")[0] for request in asked for part in request.instruction.name.split(","))
    assert set(names) == {row.name for row in MANY if row.kind != "turn"}
    assert {row.name for row in MANY if row.kind == "turn"} == {
        name
        for request in asked
        if request.before
        for name in ("another", "another-form", "next-title")
        if any(
            re.fullmatch(wording.replace("{}", ".+"), request.prompt[-1]["content"]) for wording in NAMED[name].wordings
        )
    }
    poems = [poem for poem in load_poems("validation")[:100] if len(poem.lines) <= 16]
    plain = requests(MANY, poems, plain=1)
    assert {request.instruction for request in plain} == {MANY[0]}
    assert [request.given for request in plain] == [poem.title for poem in poems]


def test_what_training_holds_out_is_never_asked(asked: list[Request]) -> None:
    for request in asked:
        clauses = request.instruction.name.split(",")[1:]
        assert len(clauses) <= 1, "no two clauses were joined in training"
        said = "".join(message["content"] for message in request.prompt if message["role"] == "system")
        later = request.prompt[-1]["content"] if request.before else ""
        for row in MANY:
            pattern = re.compile(re.escape(row.wordings[-1]).replace(r"\{\}", ".+"))
            assert not pattern.fullmatch(later)
            assert not (row.kind == "clause" and pattern.search(said))
            assert not (row.kind == "sentence" and pattern.fullmatch(said.rpartition("。")[2].partition("，押")[0]))


def test_an_acrostic_has_as_many_characters_as_its_form_has_lines(asked: list[Request]) -> None:
    """Else nobody could obey."""
    lines = {"quatrain-5": 4, "quatrain-7": 4, "regulated-5": 8, "regulated-7": 8}
    seen = 0
    for request in asked:
        form, _, heads = request.instruction.name.partition(",acrostic=")
        if heads and form in lines:
            assert len(heads) == lines[form]
            seen += 1
    assert seen > 5


def test_a_second_turn_follows_a_poem_that_obeys_the_first(asked: list[Request]) -> None:
    seconds = [request for request in asked if request.before]
    assert len(seconds) > 10
    for request in seconds:
        first = request.prompt[0]["content"]
        assert verse_form(request.before) in first
        wanted = request.instruction.label
        assert wanted in first or wanted in request.prompt[-1]["content"]


def test_a_request_for_another_title_is_about_that_title(asked: list[Request]) -> None:
    others = [request for request in asked if "「" in request.prompt[-1]["content"] and request.before]
    assert others
    for request in others:
        assert f"「{request.given}」" in request.prompt[-1]["content"]


def test_a_request_may_lose_the_word_for_rhyme(monkeypatch: pytest.MonkeyPatch) -> None:
    """So a request in other words, 限「東」韻, is less strange to a model."""
    monkeypatch.setattr(lottery, "WITH_SLIPS", 1.0)
    poems = load_poems("validation")[:300]
    asked = [request.prompt[0]["content"] for request in requests(MANY, poems, plain=0)]
    trained = [talk[0]["content"] for talk in mixed_conversations(poems, MANY)]
    for lines in (asked, trained):
        assert any("」字" in said and "押" not in said for said in lines)
        assert any("押" in said and "」字" in said for said in lines)  # 要押「東」字韻


def test_a_request_keeps_each_label_that_its_wording_contains(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lottery, "WITH_SLIPS", 1.0)
    drawn = lottery.Lottery(load_poems("validation")[:9], MANY, seed=0)
    changed = 0
    holding = [(i, wording) for i in MANY for wording in i.taught_wordings if i.label in wording]
    assert len(holding) > 30
    for instruction, wording in holding:
        said = {drawn.worded(replace(instruction, wordings=(wording,)), "春") for _ in range(20)}
        assert all(instruction.label in each for each in said)
        changed += len(said) > 1
    assert changed > 25


def test_a_few_poems_of_one_form_are_enough() -> None:
    few = [poem for poem in load_poems("validation") if verse_form(poem.text) == "五言絕句"][:2]
    assert len([requests(MANY, few, plain=0, seed=seed) for seed in range(60)]) == 60


def test_the_same_seed_asks_the_same_and_long_poems_are_left_out() -> None:
    poems = load_poems("validation")[:60]
    drawn = [requests(MANY, [LONG, *poems], seed=seed) for seed in (0, 0, 1)]
    first, again, other = ([request.prompt for request in each] for each in drawn)
    assert first == again != other
    assert len(first) == sum(len(poem.lines) <= 16 for poem in poems)
    assert max(length_of(message_segments(prompt, open_response=True)) for prompt in first) < 200
    assert any(prompt[0]["content"].startswith(SCENES) for prompt in first)


def test_a_model_that_was_taught_one_instruction_is_asked_for_nothing_else() -> None:
    only = requests([POEM], load_poems("validation")[:30], plain=0)
    assert {request.instruction for request in only} == {POEM}
    assert not any(request.before for request in only)
