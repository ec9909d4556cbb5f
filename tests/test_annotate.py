"""Poems with tone signs: each sign beside its character, each fault framed and listed, shared spans highlighted."""

from collections.abc import Callable
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from course_lib.evaluation.novelty import Nearest, PoemIndex
from course_lib.poems import Poem
from course_lib.prosody import ALTERNATION, REPEATED, RULES, scan
from course_lib.show.annotate import (
    LEGEND,
    RHYME_WORD,
    SIGNS,
    nearest_note,
    scanned,
    shape,
    side_by_side,
    signed_rows,
    sound,
    tone_signs,
)
from course_lib.show.html import Html

STORK_TOWER = "白日依山盡，黃河入海流。\n欲窮千里目，更上一層樓。"  # 王之渙, regular
TWICE = "白日依山盡，黃河入海流。\n欲窮千里目，更上海西流。"
NASTY = '<script>alert("&amp;")</script>'


def page(html: str) -> ElementTree.Element:
    """The HTML as a tree; markup that is not closed raises."""
    return ElementTree.fromstring(f"<page>{html}</page>")


def signs(text: str) -> str:
    found = tone_signs(text, scan(text))
    return "".join(found[i].sign if i in found else c for i, c in enumerate(text))


def test_each_character_of_verse_has_its_sign_and_punctuation_has_none() -> None:
    assert signs(STORK_TOWER) == "●●○○●，○○●●△。\n●○○●●，◐●●○△。"


def test_a_rhyme_word_is_marked_only_where_it_rhymes() -> None:
    assert signs("白日依山盡，黃河入海流。\n欲窮千里目，更上一層山。").count(RHYME_WORD) == 1
    assert signs(STORK_TOWER).count(RHYME_WORD) == 2


def test_a_line_that_comes_twice_has_its_signs_twice() -> None:
    assert signs("白日依山盡，白日依山盡，\n黃河入海流，入海流。") == "●●○○●，●●○○●，\n○○●●○，●●△。"


def test_every_fault_is_at_its_character() -> None:
    broken = {TWICE[place]: sign.broken for place, sign in tone_signs(TWICE, scan(TWICE)).items() if sign.broken}
    assert broken == {"流": (REPEATED,)}
    assert [i for i, sign in tone_signs(TWICE, scan(TWICE)).items() if sign.broken] == [len(TWICE) - 2]


def test_a_scanned_poem_shows_signs_below_its_characters_and_lists_its_faults() -> None:
    drawn = page(scanned("登鸛雀樓", TWICE, "王之渙"))
    pairs = ["".join(ruby.itertext()) for ruby in drawn.iter("ruby")]
    assert pairs[:5] == ["白●", "日●", "依○", "山○", "盡●"]
    assert len(pairs) == 20
    framed = [ruby for ruby in drawn.iter("ruby") if "outline" in ruby.get("style", "")]
    assert [(ruby.text, ruby.get("title")) for ruby in framed] == [("流", REPEATED)]
    said = " ".join(drawn.itertext())
    assert f"{RULES[REPEATED]} · line 4, 流" in said
    assert LEGEND in said
    assert "王之渙" in said


def test_a_rule_is_written_once_with_all_its_places() -> None:
    text = "白日依水盡，黃河入月流。\n欲窮千山目，更上一層樓。"
    assert [fault.rule for fault in scan(text).faults] == [ALTERNATION] * 2
    notes = [note.text for note in page(scanned("登鸛雀樓", text)).iter("div") if note.text]
    assert [note for note in notes if RULES[ALTERNATION] in note] == [f"{RULES[ALTERNATION]} · line 1, 水 · line 3, 山"]


def test_what_stands_below_a_poem_does_not_widen_it() -> None:
    """Two poems with long notes fit side by side."""
    *_, notes = [div for div in page(scanned("登鸛雀樓", TWICE)).iter("div") if "width:0" in div.get("style", "")]
    assert "min-width:100%" in notes.get("style", "")
    assert LEGEND in "".join(notes.itertext())
    assert RULES[REPEATED] in "".join(notes.itertext())


def test_a_poem_without_a_fault_has_no_frame() -> None:
    drawn = scanned("登鸛雀樓", STORK_TOWER)
    assert "outline" not in drawn
    assert "Rhymes in the group of 尤; no tone faults." in "".join(page(drawn).itertext())


def test_the_sound_of_a_poem_is_a_sentence() -> None:
    assert sound(scan(TWICE)) == "Does not rhyme throughout; no tone faults."
    assert sound(scan("")) == "Does not rhyme throughout."
    assert sound(scan("白日依山盡，黃河入海流。\n欲窮千山目，更上一層樓。")).endswith("; 1 tone fault.")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (STORK_TOWER, "Well formed: 五言絕句, 4 lines of 5 characters."),
        (
            "\n".join([STORK_TOWER, STORK_TOWER, "白日依山盡，黃河入海流。"]),
            "Well formed: 五言排律, 10 lines of 5 characters.",
        ),
        ("白日依山盡，黃河入海流。", "Well formed: 2 lines of 5 characters."),
        (STORK_TOWER.replace("\n", "\n\n"), "Not well formed: a row is not a couplet such as 好雨知時節，當春乃發生。"),
        ("白日依山盡。\n黃河入海流。", "Not well formed: a row is not a couplet such as 好雨知時節，當春乃發生。"),
        ("白日依山盡，黃河流。\n欲窮千山萬里目。", "Not well formed: the lines have 3 or 5 or 7 characters."),
        ("", "Not well formed: the lines have no characters."),
    ],
)
def test_the_shape_of_a_poem_is_a_sentence(text: str, said: str) -> None:
    assert shape(text, scan(text)) == said


def test_every_sign_is_in_the_legend_and_none_of_them_is_copied() -> None:
    assert all(sign in LEGEND for sign in (RHYME_WORD, *SIGNS.values()))
    marks = list(page(scanned("登鸛雀樓", STORK_TOWER)).iter("rt"))
    assert len(marks) == 20
    assert all("user-select:none" in mark.get("style", "") for mark in marks)


INDEX = PoemIndex(
    [Poem("登鸛雀樓", "王之渙", tuple(STORK_TOWER.split("\n"))), Poem("無名", "", ("江月何人見，江花幾度開。",))]
)


def highlighted(html: str) -> list[str]:
    return ["".join(mark.itertext()) for mark in page(html).iter("mark")]


def test_what_two_poems_share_is_highlighted_in_both() -> None:
    text = "春日依山盡，黃河入夜來。"
    drawn = side_by_side("春", text, INDEX.nearest(text))
    assert "".join(highlighted(drawn)) == "日依山盡黃河入" * 2
    assert (
        "Nearest Tang training poem: 《登鸛雀樓》 by 王之渙. It shares 7 characters in a row: 日依山盡黃河入." in drawn
    )


def test_a_poem_that_shares_nothing_gets_a_sentence_that_says_so() -> None:
    nearest = INDEX.nearest("山中相送罷，日暮掩柴扉。")
    assert nearest == Nearest(None, ())
    assert highlighted(side_by_side("山中", "山中相送罷，日暮掩柴扉。", nearest)) == []
    assert nearest_note(nearest) == "No Tang training poem shares 3 characters in a row with it."


def test_a_poem_without_a_poet_is_by_an_unknown_one() -> None:
    assert "《無名》 by an unknown poet" in nearest_note(INDEX.nearest("江月何人見"))


@pytest.mark.parametrize("draw", [scanned, lambda title, text: side_by_side(title, text, INDEX.nearest(text))])
@given(text=st.text(st.sampled_from("白日依山，。\n <>&\"'a"), max_size=40))
def test_any_text_is_drawn_whole_and_escaped(draw: Callable[[str, str], Html], text: str) -> None:
    drawn = page(draw(NASTY, text))
    assert NASTY in "".join(drawn.itertext())
    assert not list(drawn.iter("script"))


@given(text=st.text(st.sampled_from("白日依山，。！\n 　<a"), max_size=40))
def test_rows_hold_every_character_once(text: str) -> None:
    found = ["".join(next(page(character).itertext()) for character in row) for row in signed_rows(text, scan(text))]
    assert "\n".join(found) == text
    assert {sign.sign for sign in tone_signs(text, scan(text)).values()} <= {RHYME_WORD, *SIGNS.values()}
