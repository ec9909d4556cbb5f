"""One token for each character, and no special token from typed text."""

import string
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from course_lib import paths
from course_lib.instructions import Instruction
from course_lib.poems import Poem, load_poems
from course_lib.roles import END, ROLE_TOKENS, example_segments
from course_lib.tokenizer import ALWAYS_KNOWN, BASE_TOKENS, PAD, UNK, CharacterTokenizer

TEXTS = ["天天天\n地地", "天天天，人人", "天天天地地地地"]
# What is known after five sightings, the most frequent first, then by code point. 天 is there 9 times. The
# newline, 地 and ， have 6: 地 in the texts, the others 1 there and the 5 given. 人 was seen twice: unknown.
EXPECTED_START = ["<PAD>", "<UNK>", "<EOS>", "天", "\n", "地", "，", " ", "!", '"', "#"]


def small(*, roles: bool = False) -> CharacterTokenizer:
    tokenizer = CharacterTokenizer.train(TEXTS)
    if roles:
        tokenizer.add_role_tokens()
    return tokenizer


PLAIN, WITH_ROLES = small(), small(roles=True)  # for tests that change neither


@pytest.fixture(scope="module")
def corpus() -> list[Poem]:
    return load_poems("train") + load_poems("validation") + load_poems("test")


@pytest.fixture(scope="module")
def shipped() -> CharacterTokenizer:
    """The base checkpoint's tokenizer."""
    return CharacterTokenizer.load(paths.BASE / "tokenizer.json")


# --- the vocabulary -------------------------------------------------------------------------------


def test_the_vocabulary_is_in_order_of_frequency() -> None:
    start = [PLAIN.decode([i], show_special_tokens=True) for i in range(len(EXPECTED_START))]
    assert start == EXPECTED_START
    assert len(PLAIN) == 3 + 2 + len(ALWAYS_KNOWN)


def test_exact_ids_of_a_hand_written_example() -> None:
    assert PLAIN.encode("天地，人\n天") == [3, 5, 6, 1, 4, 3]
    assert PLAIN.decode([3, 5, 6, 1, 4, 3]) == "天地，<UNK>\n天"
    assert PLAIN.encode("") == []


def test_pad_unknown_and_end_are_three_ids() -> None:
    assert (PLAIN.pad_id, PLAIN.unk_id, PLAIN.eos_id) == (0, 1, 2)
    assert PLAIN.special_tokens == {0: PAD, 1: UNK, 2: END}


def test_a_newline_is_one_token_of_its_own() -> None:
    assert len(PLAIN.encode("\n")) == 1
    assert len(PLAIN.encode("\n\n")) == 2
    assert PLAIN.encode("\n") != PLAIN.encode(" ")


def test_min_count_decides_what_is_known() -> None:
    tokenizer = CharacterTokenizer.train(TEXTS, min_count=2)
    assert tokenizer.unk_id not in tokenizer.encode("天地人")
    assert CharacterTokenizer.train([], min_count=5).encode("天") == [1]


def test_whatever_is_typed_on_a_keyboard_is_known() -> None:
    assert UNK not in PLAIN.decode(PLAIN.encode(string.printable[:95] + "\n，。？！；：、「」"))


# --- typed text stays text ------------------------------------------------------------------------


@pytest.mark.parametrize("tokenizer", [PLAIN, WITH_ROLES], ids=["base", "with roles"])
@pytest.mark.parametrize("token", [*BASE_TOKENS, *ROLE_TOKENS])
def test_a_typed_special_token_is_five_characters(token: str, tokenizer: CharacterTokenizer) -> None:
    ids = tokenizer.encode(token)
    assert [tokenizer.decode([i]) for i in ids] == list(token)
    assert len(ids) == 5
    assert not set(ids) & tokenizer.special_tokens.keys()


def test_a_title_that_is_a_special_token_stays_a_title() -> None:
    poem = Poem("<RES>天", "某人", ("天地<EOS>，天。",))
    ids = WITH_ROLES.encode_segments(example_segments(poem, Instruction("x", "x", ("<INP>",))))
    ins, inp, res = (WITH_ROLES.special_token_id(token) for token in ROLE_TOKENS)
    assert [i for i in ids if i in WITH_ROLES.special_tokens] == [ins, inp, res, WITH_ROLES.eos_id]
    assert WITH_ROLES.decode(ids) == "<INP>" + "<RES>天" + "天地<EOS>，天。"
    assert WITH_ROLES.decode(ids, show_special_tokens=True) == "<INS><INP><INP><RES>天<RES>天地<EOS>，天。<EOS>"


def reading_all_as_text(tokenizer: CharacterTokenizer) -> Tokenizer:
    """The same `tokenizer.json` in the `tokenizers` library, set to read typed special tokens as text."""
    library = Tokenizer.from_str(tokenizer.backend.to_str())
    library.encode_special_tokens = True
    return library


ORACLES = [(tokenizer, reading_all_as_text(tokenizer)) for tokenizer in (PLAIN, WITH_ROLES)]


PIECES = st.one_of(st.sampled_from([*BASE_TOKENS, *ROLE_TOKENS, *"天地<>\n\r "]), st.text(max_size=4))


@given(st.lists(PIECES).map("".join))
@example("<<EOS>>\n<RES>")
@example("e\u0301 \U0001f469\u200d\U0001f680 \r\n\x00\ufeff")
def test_no_text_makes_a_special_token_and_known_text_is_decoded_unchanged(text: str) -> None:
    for tokenizer, library in ORACLES:
        ids = tokenizer.encode(text)
        assert len(ids) == len(text)
        assert set(ids) & tokenizer.special_tokens.keys() <= {tokenizer.unk_id}
        assert ids == library.encode(text, add_special_tokens=False).ids
        shown = "".join(UNK if i == tokenizer.unk_id else c for i, c in zip(ids, text, strict=True))
        assert tokenizer.decode(ids) == shown
        if tokenizer.unk_id not in ids:
            assert tokenizer.decode(ids) == text


# --- role tokens ----------------------------------------------------------------------------------


def test_role_ids_come_after_all_others() -> None:
    tokenizer = small()
    before = len(tokenizer)
    assert not tokenizer.has_roles
    assert tokenizer.add_role_tokens() == [before, before + 1, before + 2]
    assert tokenizer.has_roles
    assert len(tokenizer) == before + 3
    assert tokenizer.add_role_tokens() == [before, before + 1, before + 2]  # again: nothing happens
    assert len(tokenizer) == before + 3
    assert tokenizer.encode("天地，人\n天") == [3, 5, 6, 1, 4, 3]  # the characters keep their ids


def test_any_keyword_can_be_a_special_token() -> None:
    tokenizer = small()
    (question,) = tokenizer.add_role_tokens(["[user]"])
    assert tokenizer.encode_segments([("[user]", "天[user]")]) == [question, 3, *tokenizer.encode("[user]")]
    assert question not in tokenizer.encode("[user]")


def test_a_known_character_cannot_be_a_special_token() -> None:
    """Otherwise, typing it would give the special token."""
    tokenizer = small()
    with pytest.raises(ValueError, match=r"'天' is a character of this vocabulary"):
        tokenizer.add_role_tokens(["[user]", "天"])
    assert tokenizer.special_tokens == PLAIN.special_tokens
    assert tokenizer.decode(tokenizer.encode("天")) == "天"


def test_without_role_tokens_a_role_is_an_error() -> None:
    with pytest.raises(KeyError, match=r"'<INS>'.*add_role_tokens"):
        PLAIN.encode_segments([("<INS>", "天")])


def test_segments_give_exact_ids() -> None:
    n = len(PLAIN)
    segments = [("<INS>", "天"), ("<INP>", "地地"), ("<RES>", "天，\n"), ("<EOS>", "")]
    assert WITH_ROLES.encode_segments(segments) == [n, 3, n + 1, 5, 5, n + 2, 3, 6, 4, 2]


def test_decode_hides_special_tokens_unless_asked() -> None:
    ids = [0, 3, 1, 2]
    assert PLAIN.decode(ids) == "天<UNK>"
    assert PLAIN.decode(ids, show_special_tokens=True) == "<PAD>天<UNK><EOS>"


@pytest.mark.parametrize("wrong", [-100, -1, len(PLAIN), 10**6])
def test_an_id_outside_the_vocabulary_is_named(wrong: int) -> None:
    with pytest.raises(KeyError, match=rf"id {wrong} is not in this vocabulary"):
        PLAIN.decode([3, wrong])


@pytest.mark.parametrize("roles", [False, True])
def test_a_saved_tokenizer_is_the_same_when_loaded(roles: bool, tmp_path: Path) -> None:
    tokenizer = small(roles=roles)
    tokenizer.save(tmp_path / "tokenizer.json")
    for same in (CharacterTokenizer.load(tmp_path / "tokenizer.json"), tokenizer.copy()):
        assert same.special_tokens == tokenizer.special_tokens
        assert len(same) == len(tokenizer)
        assert same.has_roles is roles
        for text in ("天地，人\n天", "<EOS>", "<RES>"):
            assert same.encode(text) == tokenizer.encode(text)


def test_a_copy_is_independent() -> None:
    tokenizer = small()
    tokenizer.copy().add_role_tokens()
    assert not tokenizer.has_roles


# --- on the corpus --------------------------------------------------------------------------------


def round_trips(tokenizer: CharacterTokenizer, texts: list[str]) -> int:
    """Assert that each text is decoded unchanged but for unknown characters. Returns how many were unknown."""
    vocabulary = tokenizer.backend.get_vocab()
    unknown = 0
    for text in texts:
        ids = tokenizer.encode(text)
        count = ids.count(tokenizer.unk_id)
        unknown += count
        expected = "".join(c if c in vocabulary else UNK for c in text) if count else text
        assert tokenizer.decode(ids) == expected
    return unknown


@pytest.mark.slow
def test_every_poem_and_title_round_trips(shipped: CharacterTokenizer, corpus: list[Poem]) -> None:
    round_trips(shipped, [p.text for p in corpus])
    round_trips(shipped, [p.title for p in corpus])


def test_every_poem_round_trips_without_unknowns_if_all_characters_are_known(corpus: list[Poem]) -> None:
    sample = [p.text for p in corpus[::10]]
    tokenizer = CharacterTokenizer.train(sample, min_count=1)
    assert round_trips(tokenizer, sample) == 0


def test_few_characters_of_the_test_poems_are_unknown(shipped: CharacterTokenizer) -> None:
    texts = [p.text for p in load_poems("test")]
    unknown = round_trips(shipped, texts)
    characters = sum(map(len, texts))
    print(f"unknown in test poems: {unknown} of {characters:,} characters, {unknown / characters:.3%}")
    assert 0 < unknown < characters / 1_000  # none would mean that the vocabulary was made from the test poems too


def test_the_shipped_vocabulary(shipped: CharacterTokenizer) -> None:
    assert 8_500 < len(shipped) < 9_500
    assert (shipped.pad_id, shipped.unk_id, shipped.eos_id) == (0, 1, 2)
    assert not shipped.has_roles  # adding them is a lesson of the course
    assert shipped.unk_id not in shipped.encode("請用以下題目寫一首詩\n春夜喜雨<EOS>")
