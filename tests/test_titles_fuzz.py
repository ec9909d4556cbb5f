"""Ten thousand hostile titles: no exception, no control character, no special token, and always a sentence."""

import functools
import random
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from course_lib import paths
from course_lib.prosody import han
from course_lib.titles import MAX_TITLE, read_title
from course_lib.tokenizer import CharacterTokenizer

CHINESE = "春夜喜雨云后里余范谷为為爲群羣説⻄⼭〇々﨑﨎\uf900龘《》、，。 \u3000"
MARKUP = ["<EOS>", "＜res＞", "<E<EOS>OS>", "<|im_end|>", "<script>", "\x1b[31m", "\x1b]0;x\x07"]
CODES = "\r\0\x9b\u202e\u200d\ufe0f\U000e0100\u0301\ud800\udfff\U0002ffff\U0010ffff\ufdfa㍿𝔘🌙"
PARTS = [*CHINESE, *MARKUP, *CODES]
TITLES = st.lists(st.sampled_from(PARTS) | st.characters(), max_size=70).map("".join)


@functools.cache
def shipped() -> CharacterTokenizer:
    """Cached, not a fixture: Hypothesis asks for it ten thousand times."""
    loaded = CharacterTokenizer.load(paths.BASE / "tokenizer.json")
    loaded.add_role_tokens()
    return loaded


def check(typed: str) -> None:
    tokenizer = shipped()
    found = read_title(typed, tokenizer)
    assert found.refused <= bool(found.notes)
    assert not {unicodedata.category(c) for c in found.message + found.title} & {"Cc", "Cf", "Cs", "Zl", "Zp"}
    assert len(found.message) < 500
    assert len(found.title) <= MAX_TITLE
    assert han(found.title) or found.refused
    assert set(found.title) - set(han(found.title)) <= set("《》、 々〻") | {chr(c) for c in range(0xFA0E, 0xFA2A)}
    assert tokenizer.special_tokens.keys() & set(tokenizer.encode(found.title)) <= {tokenizer.unk_id}
    if found.title:
        if han(found.title) != han(typed):
            assert found.notes or any("\uf900" <= c <= "\ufaff" or "\u2e80" <= c < "\u3400" for c in typed)
        again = read_title(found.title, tokenizer)
        assert again.title == found.title


@given(TITLES)
def test_a_hostile_title_does_no_harm(typed: str) -> None:
    check(typed)


@pytest.mark.slow
def test_ten_thousand_hostile_titles_do_no_harm() -> None:
    chance = random.Random(0)
    for _ in range(10_000):
        parts = [chance.choice([chance.choice(PARTS), chr(chance.randrange(0x110000))]) for _ in range(40)]
        check("".join(parts[: chance.randrange(40)]))


@pytest.mark.parametrize("part", ["春", "<EOS>", "\x1b", "々", "春々", "\u0301", "春\u0301"])
def test_a_very_long_title_is_read_soon(part: str) -> None:
    check(part * 100_000)
