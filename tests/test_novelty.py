"""Runs and lines shared with training poems, against counting by hand and by brute force."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from course_lib.evaluation.novelty import Library, Run, distinct_2
from course_lib.poems import Poem, han, load_poems

MOON = Poem("靜夜思", "李白", ("牀前看月光，疑是地上霜。", "舉頭望山月，低頭思故鄉。"))
HILLS = Poem("山居秋暝", "王維", ("空山新雨後，天氣晚來秋。", "明月松間照，清泉石上流。"))
STORKS = Poem("登鸛雀樓", "王之渙", ("白日依山盡，黃河入海流。",))


@pytest.fixture(scope="module")
def library() -> Library:
    return Library([MOON, HILLS, STORKS])


def test_the_longest_run_decides(library: Library) -> None:
    found = library.nearest("君看明月松間好，我望山月低頭思，天氣晚，黃河入")
    assert found.poem == MOON
    assert found.longest == 6  # across the end of a line: 望山月低頭思
    assert found.runs == (Run("望山月低頭思", 8, 12),)


def test_of_equal_runs_the_poem_that_shares_more(library: Library) -> None:
    """Though 靜夜思, which shares a run as long, comes first."""
    found = library.nearest("望山月下來，空山新月出。晚來秋色好，")
    assert found.poem == HILLS
    assert found.runs == (Run("空山新", 5, 0), Run("晚來秋", 10, 7))
    assert found.longest == 3


@pytest.mark.parametrize("text", ["", "月", "黃河", "，。", "春眠不覺曉", "海流牀前"])
def test_nothing_in_common(library: Library, text: str) -> None:
    """海流 ends one poem and 牀前 begins another: no run goes across."""
    found = library.nearest(text)
    assert (found.poem, found.runs, found.longest) == (None, (), 0)


def test_copied_lines(library: Library) -> None:
    assert library.copied("明月松間照，黃河入海流。白日依山，明月松間照月。") == ["明月松間照", "黃河入海流"]
    assert Library([Poem("", "", ("君不見，黃河之水天上來。",))]).copied("君不見，黃河之水天上來。") == [
        "黃河之水天上來"
    ]


def test_characters_beyond_16_bits_are_taken_for_no_others() -> None:
    """Three characters in a row are one number: 21 bits for each, or these two would be the same."""
    assert Library([Poem("", "", ("一丂月",))]).nearest("\U00024e00一月").poem is None


def test_an_empty_library() -> None:
    assert Library([]).nearest("白日依山盡").poem is None


def longest_by_hand(text: str, poems: list[Poem]) -> int:
    text = han(text)
    runs = [
        j - i
        for i in range(len(text))
        for j in range(i + 3, len(text) + 1)
        if any(text[i:j] in han(p.text) for p in poems)
    ]
    return max(runs, default=0)


@given(
    st.lists(st.text(alphabet="山水月\U00020000", max_size=14), max_size=6),
    st.text(alphabet="山水月\U00020000，", max_size=14),
)
def test_runs_against_brute_force(texts: list[str], text: str) -> None:
    """With three characters, and one beyond 16 bits, nearly everything is shared, many times over."""
    poems = [Poem(str(i), "", (text,)) for i, text in enumerate(texts)]
    found = Library(poems).nearest(text)
    assert found.longest == longest_by_hand(text, poems)
    for run in found.runs:
        assert found.poem is not None
        assert han(text)[run.start :].startswith(run.characters)
        assert han(found.poem.text)[run.start_in_poem :].startswith(run.characters)
        assert len(run.characters) >= 3


def test_held_out_poems_against_brute_force() -> None:
    poems = load_poems("validation")[:100]
    library = Library(poems)
    for poem in load_poems("test")[:10]:
        assert library.nearest(poem.text).longest == longest_by_hand(poem.text, poems)
    for poem in random.Random(0).sample(poems, 20):
        assert library.nearest(poem.text).longest == len(han(poem.text)) or len(han(poem.text)) < 3


def test_distinct_2() -> None:
    assert distinct_2(["山山山，山水。"]) == 2 / 3  # 山山 山山 山水; none goes across a mark
    assert distinct_2(["山水", "山水"]) == 1 / 2
    assert distinct_2(["", "山"]) == 0
