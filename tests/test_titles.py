"""Titles: what is converted, what is left out, what is refused, and that test titles stay as they are."""

import functools
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opencc import OpenCC

from course_lib import paths
from course_lib.poems import load_poems
from course_lib.prosody import han
from course_lib.titles import IN_BOTH, MAX_TITLE, ReadTitle, is_simplified, read_title
from course_lib.tokenizer import CharacterTokenizer


@functools.cache
def shipped() -> CharacterTokenizer:
    """Cached, not a fixture: Hypothesis asks for it hundreds of times."""
    return CharacterTokenizer.load(paths.BASE / "tokenizer.json")


def read(typed: str) -> ReadTitle:
    return read_title(typed, shipped())


# --- Simplified and Traditional -------------------------------------------------------------------


@pytest.mark.parametrize("title", ["春夜喜雨", "登高", "江雪", "題西林壁", "送靈武范司空", "兵要望江南 占獸第二十"])
def test_a_traditional_title_is_used_as_it_is_without_a_word(title: str) -> None:
    assert read(title) == ReadTitle(title)


@pytest.mark.parametrize(
    ("simplified", "traditional"),
    [
        ("静夜思", "靜夜思"),
        ("望庐山瀑布", "望廬山瀑布"),
        ("黄鹤楼", "黃鶴樓"),  # 黄 is in the vocabulary as well: some Song poems are printed with it
        ("秋怀", "秋懷"),
        ("登岳阳楼", "登岳陽樓"),
        ("后宫词", "後宮詞"),
        ("荆州怀古", "荆州懷古"),  # not 荊, which no poem is printed with
    ],
)
def test_a_simplified_title_is_converted_and_the_user_told(simplified: str, traditional: str) -> None:
    found = read(simplified)
    assert found.title == traditional
    assert found.message == f"Read as {traditional}: you typed Simplified, the poems are in Traditional."


def test_a_title_that_is_both_is_kept_and_the_other_reading_named() -> None:
    assert read("白云") == ReadTitle("白云", ("Kept as typed. If you meant 白雲, type it in Traditional characters.",))
    assert read("荆山") == ReadTitle("荆山")  # its other form, 荊, is in no poem


def test_no_test_title_is_changed() -> None:
    titles = [p.title for p in load_poems("test")]
    assert [t for t in titles if read(t).title != t] == []
    # What the conversion alone, without a look at the title, would have done.
    convert = OpenCC("s2t").convert
    assert sum(convert(t) != t for t in titles) > 40
    assert sum(bool(read(t).notes) for t in titles) <= 10


def test_test_titles_typed_in_simplified_are_converted_back() -> None:
    titles = [p.title for p in load_poems("test")]
    simplify = OpenCC("t2s").convert
    back = [read(simplify(t)).title for t in titles]
    assert sum(map(str.__eq__, titles, back)) >= 930


@pytest.mark.slow
def test_the_characters_in_both_printings_are_those_of_the_poems() -> None:
    counts = Counter[str]()
    for poem in load_poems("train"):
        counts.update(poem.title + poem.text)
    convert = OpenCC("s2t").convert
    become = {c: convert(c) for c in counts}
    both = [c for c, to in become.items() if to != c and counts[c] >= 5 and 20 * counts[c] >= counts[to]]
    assert sorted(both) == sorted(IN_BOTH)
    assert not any(map(is_simplified, "云后里干好雨"))
    assert all(map(is_simplified, "乐发听体"))


# --- what is left out -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("typed", "title", "said"),
    [
        ("春🌙", "春", "Left out: 🌙 ("),
        ("春👩\u200d👧夜", "春夜", "Left out: 👩 👧 ("),
        ("spring 春 rain", "春", "Left out: s p r i n g a ("),
        ("春abcdefghijk", "春", "Left out: a b c d e f g h and 3 more ("),
        ("春\ud800", "春", "Left out: U+D800 ("),
        ("春夜<EOS>喜雨", "春夜喜雨", "Left out: <EOS> ("),
        ("＜res＞春", "春", "Left out: <res> ("),
    ],
)
def test_what_the_model_cannot_read_is_left_out_and_named(typed: str, title: str, said: str) -> None:
    found = read(typed)
    assert found.title == title
    assert said in found.message
    assert not found.refused


def test_a_special_token_is_explained() -> None:
    assert "A special token such as <EOS> is plain text" in read("春<EOS>").message
    assert "A special token such as <RES> is plain text" in read("<RES>").message
    assert "special token" not in read("春<b>").message


@pytest.mark.parametrize(
    ("typed", "title"),
    [
        ("  春　夜\t\n喜雨 ", "春 夜 喜雨"),
        ("春，夜。雨", "春 夜 雨"),  # as in the corpus
        ("\u200b春\ufe0f\x00", "春"),
        ("⼭中", "山中"),  # a radical that looks like the character
        ("\uf900中", "豈中"),  # a compatibility form
        ("讀《詩》、《書》", "讀《詩》、《書》"),
    ],
)
def test_spelling_is_tidied_in_silence(typed: str, title: str) -> None:
    assert read(typed) == ReadTitle(title)


def test_an_unknown_character_is_named_and_kept() -> None:
    found = read("春龘")
    assert found.title == "春龘"
    assert found.message == "The model does not know 龘 and reads <UNK> (an unknown character) instead."


# --- what is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("", "The title is blank."),
        (" \u3000\n", "The title is blank."),
        ("\u200b\x00", "The title is blank."),
        ("spring rain", "There is no Chinese character"),
        ("🌙", "There is no Chinese character"),
        ("\ud800", "There is no Chinese character"),
        ("<RES>", "There is no Chinese character"),
        ("<script>alert(1)</script>", "There is no Chinese character"),
        ("《》、", "There is no Chinese character"),
        ("a" * 10_000, "There is no Chinese character"),
        ("龘", "The model does not know 龘"),
        ("長" * (MAX_TITLE + 1), "This title has 61 characters; 60 is the most"),
    ],
)
def test_what_cannot_be_a_title_is_refused_with_the_reason(typed: str, said: str) -> None:
    found = read(typed)
    assert found.refused
    assert found.title == ""
    assert said in found.message
    assert len(found.message) < 250


def test_the_longest_title_allowed_is_used() -> None:
    assert read("長" * MAX_TITLE) == ReadTitle("長" * MAX_TITLE)
    assert read("長" * MAX_TITLE + "x" * 500).title == "長" * MAX_TITLE
    assert max(len(p.title) for p in load_poems("test")) <= MAX_TITLE


@given(st.text(st.characters(), max_size=80))
def test_nothing_typed_raises_and_something_is_always_said_of_a_change(typed: str) -> None:
    found = read(typed)
    assert found.refused <= bool(found.notes)
    assert len(found.title) <= MAX_TITLE
    assert han(found.title) or found.refused
    if han(found.title) != han(typed) and found.title:
        assert found.notes or any("\uf900" <= c <= "\ufaff" or "\u2e80" <= c < "\u3400" for c in typed)
    if found.title:
        assert read(found.title).title == found.title
