"""Which instruction a poem answers, how one is chosen, and how they are written to a file."""

import json

import pytest

from course_lib.instructions import ALL, OLD_STYLE, POEM, Instruction, answered_by, find, from_rows, to_rows
from course_lib.poems import Poem, load_poems
from course_lib.prosody import scan

RAIN = (
    "好雨知時節，當春乃發生。",
    "隨風潛入夜，潤物細無聲。",
    "野徑雲俱黑，江船火獨明。",
    "曉看紅濕處，花重錦官城。",
)
REGULATED = Poem("春夜喜雨", "杜甫", RAIN)
OBLIQUE_RHYME = Poem("春曉", "孟浩然", ("春眠不覺曉，處處聞啼鳥。", "夜來風雨聲，花落知多少。"))
TONE_FAULTS = Poem("靜夜思", "李白", ("牀前看月光，疑是地上霜。", "舉頭望山月，低頭思故鄉。"))
SHORT = Poem("江月", "試筆", ("江月何人見，江花幾度開。",))  # one couplet has no form and no rhyme

SPRING = Instruction("spring", "春詩", ("請寫一首春詩", "請寫春天"), fits=lambda poem: "春" in poem.text)


def test_the_sentences_of_the_course() -> None:
    assert POEM.wording == "請用以下題目寫一首詩"
    assert OLD_STYLE.wording == "請用以下題目寫一首古體詩"
    assert SPRING.wording == "請寫一首春詩"
    assert ALL == (POEM, OLD_STYLE)


@pytest.mark.parametrize(
    ("poem", "expected"),
    [(REGULATED, POEM), (OBLIQUE_RHYME, OLD_STYLE), (TONE_FAULTS, OLD_STYLE), (SHORT, OLD_STYLE)],
    ids=lambda value: value.title if isinstance(value, Poem) else value.name,
)
def test_old_style_is_what_breaks_the_rules_of_regulated_verse(poem: Poem, expected: Instruction) -> None:
    assert answered_by(poem, ALL) == expected
    assert answered_by(poem, [POEM]) == POEM


def test_the_last_instruction_that_fits_is_the_one() -> None:
    assert answered_by(OBLIQUE_RHYME, [POEM, OLD_STYLE, SPRING]) == SPRING
    assert answered_by(OBLIQUE_RHYME, [POEM, SPRING, OLD_STYLE]) == OLD_STYLE
    assert answered_by(TONE_FAULTS, [POEM, SPRING]) == POEM


def test_a_poem_that_fits_none_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"春夜喜雨 answers none of .*old-style \(古體詩\); add 'poem'"):
        answered_by(REGULATED, [OLD_STYLE])
    with pytest.raises(ValueError, match="answers none"):
        answered_by(REGULATED, [])


def test_about_six_poems_in_ten_are_regulated_verse() -> None:
    poems = load_poems("test")
    plain = [p for p in poems if answered_by(p, ALL) == POEM]
    assert 0.5 < len(plain) / len(poems) < 0.7
    assert all(scan(p.text).rhymes and scan(p.text).regulated for p in plain)


def test_an_instruction_is_found_by_name_or_label() -> None:
    assert find("old-style", ALL) == find("古體詩", ALL) == OLD_STYLE
    assert find("poem", ALL) == find("詩", ALL) == POEM
    with pytest.raises(ValueError, match=r"no instruction 'sonnet'; choose one of: poem \(詩\), old-style \(古體詩\)"):
        find("sonnet", ALL)
    with pytest.raises(ValueError, match=r"no instruction 'old-style'; choose one of: poem \(詩\)$"):
        find("old-style", [POEM])


def test_instructions_survive_a_file() -> None:
    text = json.dumps(to_rows(ALL), ensure_ascii=False)
    assert from_rows(json.loads(text)) == ALL  # with what they fit
    assert json.loads(text)[1] == {"name": "old-style", "label": "古體詩", "wordings": ["請用以下題目寫一首古體詩"]}
    assert from_rows([]) == ()


def test_an_instruction_of_somebody_else_fits_every_poem() -> None:
    (read,) = from_rows(to_rows([SPRING]))
    assert (read.name, read.label, read.wordings, read.fits) == ("spring", "春詩", ("請寫一首春詩", "請寫春天"), None)
    assert answered_by(TONE_FAULTS, [POEM, read]) == read


@pytest.mark.parametrize(
    "wrong",
    [
        None,
        {"name": "poem", "wordings": ["請"]},
        ["poem"],
        [{"name": "poem", "label": "詩"}],
        [{"name": "poem", "label": "詩", "wordings": []}],
        [{"name": "poem", "label": "詩", "wordings": ["請寫", 5]}],
        [{"name": "poem", "label": "詩", "wordings": "請寫"}],
        [{"name": 1, "label": "詩", "wordings": ["請"]}],
    ],
)
def test_other_rows_are_refused(wrong: object) -> None:
    with pytest.raises(ValueError, match="an instruction has a name, a label and a list of wordings; this one is"):
        from_rows(wrong)
