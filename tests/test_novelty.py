"""Spans and lines shared with training poems, against counting by hand and by brute force."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from course_lib.evaluation.novelty import PoemIndex, SharedSpan, distinct_2
from course_lib.poems import Poem, load_poems
from course_lib.prosody import han

MOON = Poem("靜夜思", "李白", ("牀前看月光，疑是地上霜。", "舉頭望山月，低頭思故鄉。"))
HILLS = Poem("山居秋暝", "王維", ("空山新雨後，天氣晚來秋。", "明月松間照，清泉石上流。"))
STORKS = Poem("登鸛雀樓", "王之渙", ("白日依山盡，黃河入海流。",))


@pytest.fixture(scope="module")
def index() -> PoemIndex:
    return PoemIndex([MOON, HILLS, STORKS])


def test_the_longest_span_decides(index: PoemIndex) -> None:
    found = index.nearest("君看明月松間好，我望山月低頭思，天氣晚，黃河入")
    assert found.poem == MOON
    assert found.longest == 6  # across the end of a line: 望山月低頭思
    assert found.spans == (SharedSpan("望山月低頭思", 8, 12),)


def test_of_equally_long_spans_the_poem_that_shares_more_is_nearest(index: PoemIndex) -> None:
    """Although 靜夜思, which shares a span of the same length, comes first."""
    found = index.nearest("望山月下來，空山新月出。晚來秋色好，")
    assert found.poem == HILLS
    assert found.spans == (SharedSpan("空山新", 5, 0), SharedSpan("晚來秋", 10, 7))
    assert found.longest == 3


@pytest.mark.parametrize("text", ["", "月", "黃河", "，。", "春眠不覺曉", "海流牀前"])
def test_texts_with_nothing_in_common_share_no_span(index: PoemIndex, text: str) -> None:
    """海流 ends one poem and 牀前 begins another: no span crosses the border."""
    found = index.nearest(text)
    assert (found.poem, found.spans, found.longest) == (None, (), 0)


def test_copied_lines_have_five_characters_or_more(index: PoemIndex) -> None:
    assert index.copied("明月松間照，黃河入海流。白日依山，明月松間照月。") == ["明月松間照", "黃河入海流"]
    assert PoemIndex([Poem("", "", ("君不見，黃河之水天上來。",))]).copied("君不見，黃河之水天上來。") == [
        "黃河之水天上來"
    ]


def test_strange_characters_are_in_no_poem(index: PoemIndex) -> None:
    own = MOON.couplets[0]
    assert index.strange(own) == set()
    assert index.strange(f"{own}烟、A \n𠀋") == {"烟", "𠀋"}
    assert PoemIndex([]).strange("月") == {"月"}


def test_characters_beyond_16_bits_are_not_taken_for_others() -> None:
    """Three characters in a row are one number: 21 bits for each, or these two would be the same."""
    assert PoemIndex([Poem("", "", ("一丂月",))]).nearest("\U00024e00一月").poem is None


def test_an_empty_index_has_no_nearest_poem() -> None:
    assert PoemIndex([]).nearest("白日依山盡").poem is None


def longest_by_hand(text: str, poems: list[Poem]) -> int:
    characters = han(text)
    others = [han(poem.text) for poem in poems]
    lengths = [
        j - i
        for i in range(len(characters))
        for j in range(i + 3, len(characters) + 1)
        if any(characters[i:j] in other for other in others)
    ]
    return max(lengths, default=0)


@given(
    st.lists(st.text(alphabet="山水月\U00020000", max_size=14), max_size=6),
    st.text(alphabet="山水月\U00020000，", max_size=14),
)
def test_spans_agree_with_brute_force(texts: list[str], text: str) -> None:
    """With three characters, and one beyond 16 bits, nearly everything is shared, many times over."""
    poems = [Poem(str(i), "", (text,)) for i, text in enumerate(texts)]
    found = PoemIndex(poems).nearest(text)
    assert found.longest == longest_by_hand(text, poems)
    for span in found.spans:
        assert found.poem is not None
        assert han(text)[span.start :].startswith(span.characters)
        assert han(found.poem.text)[span.start_in_poem :].startswith(span.characters)
        assert len(span.characters) >= 3


def test_held_out_poems_agree_with_brute_force() -> None:
    poems = load_poems("validation")[:100]
    index = PoemIndex(poems)
    for poem in load_poems("test")[:10]:
        assert index.nearest(poem.text).longest == longest_by_hand(poem.text, poems)
    for poem in random.Random(0).sample(poems, 20):
        assert index.nearest(poem.text).longest == len(han(poem.text)) or len(han(poem.text)) < 3


def test_distinct_2_counts_pairs_within_lines() -> None:
    assert distinct_2(["山山山，山水。"]) == 2 / 3  # 山山 山山 山水; no pair crosses a mark
    assert distinct_2(["山水", "山水"]) == 1 / 2
    assert distinct_2(["", "山"]) == 0
