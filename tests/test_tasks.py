"""Each of many instructions: the example that a poem makes obeys its check, and a damaged answer does not."""

import json
from collections.abc import Callable
from dataclasses import replace
from itertools import islice
from random import Random

import pytest

from course_lib.instructions import ALL, Exchange, Instruction
from course_lib.poems import Poem, load_poems
from course_lib.prosody import is_well_formed, level_groups, readings, split_lines
from course_lib.tasks.many import MANY, from_rows, heads, parallel_couplets, rhyme_of, to_rows, verse_form
from course_lib.tokenizer import CharacterTokenizer

TOWER = Poem("登鸛雀樓", "王之渙", ("白日依山盡，黃河入海流。", "欲窮千里目，更上一層樓。"))
BAIDI = Poem("早發白帝城", "李白", ("朝辭白帝彩雲間，千里江陵一日還。", "兩岸猿聲啼不住，輕舟已過萬重山。"))
MOON = Poem("靜夜思", "李白", ("牀前看月光，疑是地上霜。", "舉頭望山月，低頭思故鄉。"))  # many faults of tone
RAIN = (
    *("好雨知時節，當春乃發生。", "隨風潛入夜，潤物細無聲。"),
    *("野徑雲俱黑，江船火獨明。", "曉看紅濕處，花重錦官城。"),
)
NAMED = {row.name: row for row in MANY}
ASKED = [row for row in MANY if row.kind != "turn"]
SAMPLE = 30  # poems for each row

Damage = Callable[[Exchange], str]  # an exchange that obeys → an answer that does not


@pytest.fixture(scope="module")
def real() -> list[Poem]:
    """The well-formed validation poems whose characters all have a reading, then those with mixed lines."""
    poems = load_poems("validation")
    known = [p for p in poems if is_well_formed(p.text) and set("".join(p.lines)) <= readings().keys()]
    return known + [p for p in poems if NAMED["mixed"].can_use(p)]


def examples(row: Instruction, real: list[Poem]) -> list[Exchange]:
    """What the first poems that fit the row make of it."""
    random = Random(0)
    return [row.exchange(poem, random) for poem in islice(filter(row.can_use, real), SAMPLE)]


@pytest.mark.parametrize("row", ASKED, ids=lambda row: row.name)
def test_the_example_that_a_real_poem_makes_obeys(row: Instruction, real: list[Poem]) -> None:
    found = examples(row, real)
    assert len(found) == SAMPLE
    for exchange in found:
        assert row.obeyed(exchange), exchange


def other_rhyme(exchange: Exchange) -> str:
    """The answer with a last character of another rhyme group."""
    used = set().union(*(level_groups(line[-1]) for line in split_lines(exchange.answer)))
    other = next(word for word in "東山眉" if not level_groups(word) & used)
    return f"{exchange.answer[:-2]}{other}。"


def other_head(exchange: Exchange) -> str:
    """The answer with another first character in its second line."""
    first, _, rest = exchange.answer.partition("，")
    return f"{first}，{'不' if rest[0] != '不' else '無'}{rest[1:]}"


ILL_FORMED: list[Damage] = [
    lambda e: e.answer[1:],  # a line is too short
    lambda e: e.answer.replace("，", "", 1),
    lambda e: e.answer[:-1],  # the last mark is missing
    lambda e: e.answer[:-4],
]
OTHER_FORM: list[Damage] = [lambda _: BAIDI.text, lambda _: "\n".join(RAIN), lambda _: TOWER.text, lambda _: MOON.text]
DAMAGES: dict[str, list[Damage]] = {
    "poem": ILL_FORMED,
    "old-style": [*ILL_FORMED, *OTHER_FORM[:3]],  # the fourth is old-style verse
    "mixed": [*OTHER_FORM, lambda e: e.answer.split("，")[0], lambda _: ""],
    "quatrain-5": [*ILL_FORMED, other_rhyme, OTHER_FORM[0], OTHER_FORM[1], OTHER_FORM[3]],
    "quatrain-7": [*ILL_FORMED, other_rhyme, *OTHER_FORM[1:]],
    "regulated-5": [*ILL_FORMED, other_rhyme, OTHER_FORM[0], *OTHER_FORM[2:]],
    "regulated-7": [*ILL_FORMED, other_rhyme, *OTHER_FORM],
    "rhyme": [other_rhyme, lambda e: e.answer.split("，")[0], lambda _: ""],
    "acrostic": [other_head, lambda e: e.answer.rpartition("，")[0], lambda _: ""],
    "continue": [*ILL_FORMED, lambda e: e.given, lambda _: ""],
    "couplet": [
        lambda e: e.answer[1:],
        lambda e: f"{e.answer}。",
        lambda e: e.given[0] + e.answer[1:],  # the lines share a character, whose tone does not matter
        lambda _: "",
    ],
    "title": [lambda e: split_lines(e.given)[0], lambda e: f"{e.answer}。", lambda e: e.answer * 13, lambda _: ""],
    "name-form": [
        lambda e: "七言律詩" if e.answer != "七言律詩" else "古體詩",
        lambda e: f"{e.answer}。",
        lambda _: "",
    ],
    "punctuate": [*ILL_FORMED, lambda e: e.given, lambda e: e.answer[1] + e.answer[0] + e.answer[2:]],
}


@pytest.mark.parametrize("row", ASKED, ids=lambda row: row.name)
def test_a_damaged_answer_does_not_obey(row: Instruction, real: list[Poem]) -> None:
    for number, damage in enumerate(DAMAGES[row.name]):
        for exchange in examples(row, real):
            if (damaged := damage(exchange)) != exchange.answer:  # two characters that change places may be the same
                assert not row.obeyed(exchange._replace(answer=damaged)), (number, exchange, damaged)


def test_what_is_asked_for_later_is_at_least_well_formed() -> None:
    later = [NAMED["another"], NAMED["another-form"].about("五言絕句"), NAMED["next-title"].about("江月")]
    assert all(row.obeyed(Exchange("", TOWER.text)) for row in later)
    assert not any(row.obeyed(Exchange("", TOWER.text[:-1])) for row in later)


# --- what the rows are made of --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "form"),
    [
        (TOWER.text, "五言絕句"),
        (BAIDI.text, "七言絕句"),
        ("\n".join(RAIN), "五言律詩"),
        (MOON.text, "古體詩"),
        (TOWER.text.replace("層", "丈"), ""),  # one fault of tone, in one of four lines
        ("江月何人見，江花幾度開。", "古體詩"),  # one couplet has no form of regulated verse
        ("\n".join(RAIN[:3]), "古體詩"),
        ("江月何人見", ""),
        ("", ""),
    ],
)
def test_the_form_of_a_text_is_named_where_it_is_clear(text: str, form: str) -> None:
    assert verse_form(text) == form


def test_the_rhyme_of_a_poem_is_the_name_of_its_group() -> None:
    assert [rhyme_of(poem) for poem in (TOWER, BAIDI, MOON)] == ["尤", "刪", "陽"]
    assert rhyme_of(Poem("春曉", "孟浩然", ("春眠不覺曉，處處聞啼鳥。", "夜來風雨聲，花落知多少。"))) == ""  # oblique


def test_the_heads_of_lines() -> None:
    assert heads(TOWER.text) == "白黃欲更"
    assert heads("") == ""


def test_an_acrostic_is_sometimes_given_in_place_of_the_title() -> None:
    random = Random(0)
    made = [NAMED["acrostic"].exchange(TOWER, random) for _ in range(300)]
    assert {e.argument for e in made} == {"白黃欲更"}
    assert 70 < [e.given for e in made].count("白黃欲更") < 130
    assert {e.given for e in made} == {"白黃欲更", TOWER.title}


def test_a_beginning_is_one_line_or_two_without_the_last_mark() -> None:
    random = Random(0)
    made = {NAMED["continue"].exchange(TOWER, random) for _ in range(20)}
    assert made == {
        Exchange("白日依山盡", "黃河入海流。\n欲窮千里目，更上一層樓。"),
        Exchange("白日依山盡，黃河入海流", "欲窮千里目，更上一層樓。"),
    }
    assert not NAMED["continue"].obeyed(Exchange("白日依山盡", "黃河入海流。"))  # one couplet is no poem
    assert NAMED["continue"].obeyed(Exchange("白日依山盡，黃河入海流。", TOWER.couplets[1]))  # a person types the mark


def test_a_beginning_ends_with_a_line_where_a_row_has_one_line() -> None:
    odd = Poem("", "", ("夫子何爲者？", "栖栖一代中。地猶鄹氏邑，宅即魯王宮。"))
    made = {NAMED["continue"].exchange(odd, Random(seed)).given for seed in range(20)}
    assert made == {"夫子何爲者", "夫子何爲者？\n栖栖一代中"}


def test_a_couplet_has_opposite_tones_and_no_shared_character() -> None:
    shared = Poem("", "", ("白日依山盡，黃河入山流。", *TOWER.couplets))
    assert parallel_couplets(shared) == [("白日依山盡", "黃河入海流"), ("欲窮千里目", "更上一層樓")]
    assert parallel_couplets(Poem("", "", ("白日依山盡，更上一層樓。",))) == []
    assert not NAMED["couplet"].obeyed(Exchange("白日依山盡", "更上一層樓"))  # characters 2 and 4 sound alike


def test_poems_that_are_too_long_or_too_short_are_no_examples() -> None:
    single, long = Poem("江月", "", ("江月何人見，江花幾度開。",)), Poem("江月", "", RAIN * 2)
    fitting = {row.name for row in ASKED if row.can_use(single)}
    assert fitting == {"poem", "old-style", "title", "name-form", "punctuate"}
    assert not {"acrostic", "title", "punctuate"} & {row.name for row in ASKED if row.can_use(long)}
    assert not NAMED["title"].can_use(Poem("江月・二", "", TOWER.couplets))  # a mark in the title
    assert not NAMED["title"].can_use(Poem("江" * 13, "", TOWER.couplets))


# --- wordings, and the file -----------------------------------------------------------------------


def test_every_row_has_wordings_of_its_own_that_the_model_can_read(shipped_tokenizer: CharacterTokenizer) -> None:
    wordings = [wording for row in MANY for wording in row.wordings]
    assert len(set(wordings)) == len(wordings)
    assert shipped_tokenizer.unk_id not in shipped_tokenizer.encode("".join(wordings))
    for row in MANY:
        assert len(row.wordings) == 5
        assert {wording.count("{}") for wording in row.wordings} in ({0}, {1})
        assert row.wordings[-1] not in row.taught_wordings
    assert len({row.name for row in MANY}) == len({row.label for row in MANY}) == len(MANY)
    assert [(row.name, row.wording) for row in MANY[:2]] == [(row.name, row.wording) for row in ALL]


def test_all_rows_survive_a_file_with_their_checks(real: list[Poem]) -> None:
    text = json.dumps(to_rows(MANY), ensure_ascii=False)
    read = from_rows(json.loads(text))
    for row, original in zip(read, MANY, strict=True):
        assert replace(row, share=original.share) == original  # how often it was taught is not for the reader
        assert [row.can_use(poem) for poem in real[:50]] == [original.can_use(poem) for poem in real[:50]]
