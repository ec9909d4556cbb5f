"""Which instruction a poem answers, how one is chosen, and how they are written to a file."""

import json
import re

import pytest

from course_lib.instructions import ALL, OLD_STYLE, POEM, Exchange, Instruction, answered_by, choices, find, joined
from course_lib.poems import Poem, load_poems
from course_lib.prosody import scan
from course_lib.tasks import MANY, from_rows, to_rows

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


# --- arguments and clauses ------------------------------------------------------------------------

TOWER = "白日依山盡，黃河入海流。\n欲窮千里目，更上一層樓。"
NAMED = {row.name: row for row in MANY}


def test_the_last_wording_is_kept_for_the_test_unless_it_is_the_only_one() -> None:
    three = Instruction("three", "三", ("一", "二", "三"))
    assert (three.wording, three.taught_wordings) == ("一", ("一", "二"))
    assert POEM.taught_wordings == POEM.wordings == (POEM.wording,)


def test_an_answer_obeys_if_it_is_a_poem_that_fits_or_if_the_check_says_so() -> None:
    assert POEM.obeyed(Exchange("登鸛雀樓", TOWER))
    assert not POEM.obeyed(Exchange("登鸛雀樓", TOWER[:-1]))
    assert not OLD_STYLE.obeyed(Exchange("登鸛雀樓", TOWER))
    assert SPRING.obeyed(Exchange("", TOWER.replace("海", "春")))
    assert not SPRING.obeyed(Exchange("春", TOWER))  # the title does not count
    short = Instruction("short", "短", ("請",), check=lambda exchange: len(exchange.answer) < len(exchange.given))
    assert [short.obeyed(Exchange("江月", answer)) for answer in ("江", "江月")] == [True, False]


def test_an_argument_stands_in_every_wording_and_in_the_check() -> None:
    rhyme = NAMED["rhyme"].about("尤")
    assert (rhyme.name, rhyme.label) == ("rhyme=尤", "押韻「尤」")
    assert rhyme.wordings == ("，押「尤」韻", "，用「尤」韻", "，韻腳用「尤」部", "，要押「尤」字韻", "，限「尤」韻")
    assert rhyme.obeyed(Exchange("", TOWER))
    assert not NAMED["rhyme"].about("東").obeyed(Exchange("", TOWER, "尤"))  # the exchange cannot say otherwise
    assert POEM.about("") is POEM
    with pytest.raises(ValueError, match=r"^instruction poem takes no argument: poem$"):
        POEM.about("東")
    with pytest.raises(ValueError, match=r"^instruction rhyme takes an argument: rhyme=…$"):
        NAMED["rhyme"].about("")


def test_clauses_join_a_sentence_in_its_first_and_last_wording() -> None:
    form, rhyme, heads = NAMED["quatrain-5"], NAMED["rhyme"].about("尤"), NAMED["acrostic"].about("白黃欲更")
    whole = joined(form, [rhyme, heads])
    assert whole.name == "quatrain-5,rhyme=尤,acrostic=白黃欲更"
    assert whole.label == "五言絕句，押韻「尤」，藏頭「白黃欲更」"
    assert whole.wordings == (
        "請用以下題目寫一首五言絕句，押「尤」韻，以「白黃欲更」藏頭",
        "這個題目，請你寫成一首五言絕句，限「尤」韻，首字依次是「白黃欲更」",
    )
    assert whole.obeyed(Exchange("", TOWER))
    for other in (
        joined(NAMED["quatrain-7"], [rhyme, heads]),
        joined(form, [NAMED["rhyme"].about("東"), heads]),
        joined(form, [rhyme, NAMED["acrostic"].about("白黃更欲")]),
    ):
        assert not other.obeyed(Exchange("", TOWER)), other.name
    assert joined(form, []) is form


def test_only_clauses_join_and_only_a_sentence_about_a_title() -> None:
    rhyme = NAMED["rhyme"].about("尤")
    for sentence, clause in (
        (NAMED["title"], rhyme),
        (NAMED["continue"], rhyme),
        (rhyme, rhyme),
        (POEM, OLD_STYLE),
        (POEM, NAMED["another"]),
    ):
        with pytest.raises(
            ValueError, match=f"^{sentence.name}, {clause.name}: only clauses can be added, and only to poems on titles"
        ):
            joined(sentence, [clause])


def test_several_instructions_are_found_by_names_labels_and_arguments() -> None:
    expected = "請用以下題目寫一首七言絕句，押「東」韻，以「春夜喜雨」藏頭"
    for asked in (
        "quatrain-7,rhyme=東,acrostic=春夜喜雨",
        "七言絕句，押韻=東，藏頭=春夜喜雨",
        " quatrain-7 , 押韻=東, acrostic=春夜喜雨 ",
    ):
        assert find(asked, MANY).wording == expected
    assert find("rhyme=東", MANY).wording == "請用以下題目寫一首詩，押「東」韻"  # joined to the first instruction
    assert find("title", MANY) is NAMED["title"]


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ("", "there is no instruction ''; choose one of: poem"),
        ("quatrain-7,sonnet", "there is no instruction 'sonnet'"),
        ("another", "there is no instruction 'another'"),  # it is said later, in a conversation
        ("再來一首", "there is no instruction '再來一首'"),
        ("rhyme", "instruction rhyme takes an argument: rhyme=…"),
        ("rhyme=", "instruction rhyme takes an argument: rhyme=…"),
        ("poem=東", "instruction poem takes no argument: poem"),
        ("rhyme=dog", "rhyme cannot be 'dog'. Choose from 東冬江支微魚虞齊佳灰真文元寒刪先蕭肴豪歌麻陽"),
        ("rhyme=東冬", "rhyme cannot be '東冬'. Choose from 東冬江支微"),
        ("rhyme=春", "rhyme cannot be '春'. Choose from 東冬江支微"),  # it is in the group 真
        ("rhyme=董", "rhyme cannot be '董'"),  # no level tone
        ("acrostic=abcd", "'abcd' may hold Chinese characters only, such as 春夏秋冬."),
        ("acrostic=春 夏", "'春 夏' may hold Chinese characters only"),
        ("title,rhyme=東", "title, rhyme=東: only clauses can be added, and only to poems on titles"),
        ("quatrain-7,quatrain-5", "quatrain-7, quatrain-5: only clauses can be added, and only to poems on titles"),
        ("rhyme=東,quatrain-5", "poem, rhyme=東, quatrain-5: only clauses can be added, and only to poems on titles"),
    ],
)
def test_what_cannot_be_asked_is_refused(asked: str, says: str) -> None:
    with pytest.raises(ValueError, match="^" + re.escape(says)):
        find(asked, MANY)


def test_the_arguments_of_a_row_do_not_depend_on_its_name() -> None:
    own = Instruction("rhyme", "韻腳字", ("，韻腳用「{}」",), kind="clause")
    assert own.about("風").wording == "，韻腳用「風」"


def test_the_choices_name_arguments_and_no_turns() -> None:
    offered = choices(MANY)
    assert offered.startswith("poem (詩), old-style (古體詩), mixed (雜言詩), quatrain-5 (五言絕句), ")
    assert "rhyme=… (押韻), acrostic=… (藏頭), continue (續寫)" in offered
    assert "another" not in offered


# --- the file -------------------------------------------------------------------------------------


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


def test_instructions_that_were_stored_equal_those_of_the_library() -> None:
    """A share says only how often a row is taught, and a wording is no pattern of `str.format`."""
    assert from_rows(to_rows(MANY)) == MANY
    own = (Instruction("own-1", "1: 答話", ("答話",), given="text"),)
    assert from_rows(to_rows(own)) == own
    with pytest.raises(ValueError, match="a name, a label and a list of wordings"):
        from_rows([{**to_rows(own)[0], "given": "novel"}])
    clause = (Instruction("without", "不用", ("，不用「{}」字", "，避開「{}」"), kind="clause", one_answer=True),)
    assert from_rows(to_rows(clause)) == clause
    with pytest.raises(ValueError, match="a name, a label and a list of wordings"):
        from_rows([{**to_rows(own)[0], "kind": "song"}])
    with pytest.raises(ValueError, match="a name, a label and a list of wordings"):
        from_rows([{**to_rows(own)[0], "one_answer": "no"}])
    (odd,) = from_rows([{"name": "rhyme", "label": "x", "wordings": ["，{}{y}"]}])
    assert odd.about("東").wording == "，東{y}"
