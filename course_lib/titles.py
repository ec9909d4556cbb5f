"""Turns what a person typed into the title that the model reads, with notes on what was changed.

    read_title("静夜思🌙", tokenizer)        ReadTitle("靜夜思", ("Left out: 🌙 …", "Read as 靜夜思: …"))

All poems of the course are in Traditional characters. Many Simplified characters stand for several Traditional ones:
云 is 雲 (cloud) or 云 (to say). OpenCC's tables say what a character may stand for. Its phrases are modern, so the
training poems decide instead: the likeliest title has the pairs of neighbours that they have most often. The same
choice turns the forms of Taiwan, Hong Kong and Japan into those of the poems.
"""

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from functools import cache, lru_cache
from hashlib import sha256
from math import log
from operator import itemgetter
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from opencc import OpenCC

from course_lib import paths
from course_lib.language import is_chinese, say, sentences
from course_lib.poems import load_poems, poem_file
from course_lib.prosody import HAN, han
from course_lib.roles import END, ROLE_TOKENS
from course_lib.tokenizer import PAD, UNK, CharacterTokenizer

MAX_TITLE = 60  # characters; the longest title of a test poem has 56, and the context must also hold the poem

# Pairs that OpenCC does not have: a character, and the one to read for it. The first rows are radicals (Unicode,
# EquivalentUnifiedIdeograph.txt), the last rows old printings.
PAIRS = (
    "⺒巳⺓幺⺝月⺟母⺠民⺩王⺬示⻁虎⻄西⻅见⻆角⻉贝⻋车⻑長⻓长⻔门⻗雨⻘青⻙韦⻛风⻜飞⻝食"
    "⻢马⻣骨⻤鬼⻥鱼⻦鸟⻧卤⻨麦⻩黄⻪黾⻫斉⻬齐⻭歯⻮齿⻯竜⻰龙⻱龜⻲亀⻳龟〇零﨑崎"
    "靑青淸清眞真鄕鄉卽即旣既吿告隂陰髙高靣面囬回囘回卋世丗世秊年亊事葢蓋厯歷邉邊竒奇甞嘗䕶護㑹會觧解"
    "凴憑裵裴斈學聮聯寳寶蘓蘇巗巖鼔鼓槗橋桒桑椉乘焭煢旾春昬昏𤣥玄𥙷補辤辭闗關賔賓畵畫緫總廵巡"
)
SAME = dict(zip(PAIRS[::2], PAIRS[1::2], strict=True))
AGAIN = re.compile(rf"([{HAN}])[々〻]+")  # these marks repeat the character before them

SPECIAL_TOKEN = re.compile("|".join(map(re.escape, (*ROLE_TOKENS, END, PAD, UNK))), re.IGNORECASE)
SEPARATORS = set("《》、 ")
STOPS = re.compile(r"[,.，。]+")  # become spaces, as in the corpus
NOT_IN_A_TITLE = re.compile(rf"[^{HAN}\ufa0e-\ufa29{PAIRS}々〻《》、 ]+")
INVISIBLE = {"Cf", "Mn", "Me", "Cc"}  # Unicode categories (joiners, accents, control codes) left out without a note

STORED = "usage.npz"  # the file of the counts; `python scripts/count_usage.py` writes it

# Chosen on the titles of the validation poems.
TITLE_WEIGHT = 4  # a title counts as often, because titles are what is read here
SMOOTHING = 400  # a pair of neighbours counts as if each character had this many others after it
PENALTY = 3.0  # nats that another character must win if the title is Traditional
PENALTY_EITHER = 2.0  # and if it may be either
OFFERED = 4.0  # nats that another character may lose, and is still named, if it would be the whole title
RARE = 20  # a character is Simplified alone if the poems have its counterpart this many times as often


class ReadTitle(NamedTuple):
    """The title for the model, or "" if it is refused. `notes` are sentences for the person who typed it."""

    title: str
    notes: tuple[str, ...] = ()

    @property
    def refused(self) -> bool:
        """Whether the title cannot be used; the notes say why."""
        return not self.title

    @property
    def message(self) -> str:
        """The notes as one text; "" if there are none."""
        return sentences(*self.notes)


def read_title(typed: str, tokenizer: CharacterTokenizer) -> ReadTitle:
    """The title that `typed` stands for. Never raises: a text that cannot be a title gives a refused one."""
    text = " ".join(unicodedata.normalize("NFKC", typed).split())
    if not visible(text):
        return ReadTitle("", (say("The title is blank. Type a few Chinese characters, such as 春夜喜雨."),))
    special_tokens = SPECIAL_TOKEN.findall(text)
    text = STOPS.sub(" ", SPECIAL_TOKEN.sub("", text))
    left_out = special_tokens + ["".join(filter(visible, run)) for run in NOT_IN_A_TITLE.findall(text)]
    text = " ".join(NOT_IN_A_TITLE.sub("", text).split())
    notes = []
    if special_tokens:
        notes.append(say("A special token such as {one} has no effect in a title.", one=special_tokens[0]))
    if not set(text) - SEPARATORS:
        why = say(
            "There is no Chinese character in this title, and the model reads only those. Try 春雨 (spring rain)."
        )
        return ReadTitle("", (*notes, why))
    if len(text) > MAX_TITLE:
        n = {"count": len(text), "most": MAX_TITLE}
        why = say("This title has {count} characters; {most} is the most, so that the poem has room.", **n)
        return ReadTitle("", (why, say("Please shorten it.")))
    if any(left_out):
        notes.append(say("Left out: {them} (the model reads Chinese characters only).", them=listed(left_out)))
    title, remark = to_traditional(text, tokenizer)
    notes += filter(None, [remark])
    characters = [c for c in title if c not in SEPARATORS]
    strange = [c for c in characters if tokenizer.encode(c) == [tokenizer.unk_id]]
    if strange == characters:
        why = say("The model does not know {them}: too few of its poems have it.", them=listed(strange))
        return ReadTitle("", (why, say("Please try another title.")))
    return ReadTitle(title, (*notes, *unknown_notes(title, tokenizer)))


def read_given(typed: str, given: str, tokenizer: CharacterTokenizer) -> ReadTitle:
    """What a model reads for a typed title, line, poem or later message, and notes on what was changed.

    `given` is that of the instruction. A "text" is taken as it is.
    """
    if given == "title":
        return read_title(typed, tokenizer)
    text, remark = (typed.strip(), "") if given == "text" else to_traditional(typed.strip(), tokenizer)
    if given == "line":
        text = text.rstrip("，。")  # lines are taught without the last mark
    if not visible(text):
        return ReadTitle("", (say("The message is blank."),))
    if given == "poem":  # it may be typed in one row, but each couplet has its own
        text = text.replace("。\n", "。").replace("。", "。\n").strip()
    return ReadTitle(text, (*([remark] if remark else []), *unknown_notes(text, tokenizer)))


def to_traditional(title: str, tokenizer: CharacterTokenizer) -> tuple[str, str]:
    """A title in the characters of the poems, and a remark if it was changed, or may be Simplified.

    A title with a character of Traditional printing alone is Traditional: only its odd characters are changed. A title
    like 游子吟 may be either. Then the poems must prefer another reading; if they only allow it, the remark names it.
    """
    simplified, printed = counterparts(vocabulary(tokenizer))
    typed = re.sub(r"[^\S\n]+", " ", title)  # the model may know no other space
    title = AGAIN.sub(lambda found: found[1] * len(found[0]), "".join(SAME.get(c, c) for c in typed))

    def is_simplified(character: str) -> bool:
        """Whether a character exists in Simplified printing alone."""
        return RARE * frequency(character) < max(map(frequency, simplified.get(character, "")), default=0)

    def reading(as_simplified: bool, penalty: float) -> str:
        options = []
        for c in title:
            odd = is_simplified(c)
            others = printed.get(c, "") + (simplified.get(c, "") if odd or as_simplified else "")
            options.append(({} if odd else {c: 0.0}) | dict.fromkeys(others, penalty))
        return likeliest(options)

    if converter("t2s").convert(title) != title:  # one character at least is Traditional
        title = reading(False, PENALTY)
    elif any(map(is_simplified, title)):
        meant = reading(True, 0)
        return meant, say("Read as {title}: you typed Simplified, the poems are in Traditional.", title=meant)
    elif any(c in simplified or c in printed for c in title):
        likely = reading(True, PENALTY_EITHER)
        meant = reading(True, 0 if len(title) > 1 else -OFFERED)
        if likely == title != meant:
            return title, say("Kept as typed. If you meant {title}, type or copy that.", title=meant)
        title = likely
    changed = [pair for pair in zip(typed, title, strict=True) if pair[0] != pair[1]]
    if not changed:
        return title, ""
    old, new = map(listed, zip(*changed, strict=True))
    return title, say("Read as {title}: the poems have {new} here, not {old}.", title=title, new=new, old=old)


converter = cache(OpenCC)  # by its name, such as "t2s"; the first call reads its dictionaries


def simplified(text: str) -> str:
    """The text in Simplified characters, one for each of its own. Phrases decide: 乾 is 干, but not in 乾坤."""
    return converter("t2s").convert(text)


@lru_cache(maxsize=4)
def vocabulary(tokenizer: CharacterTokenizer) -> str:
    """The Chinese characters that a tokenizer knows, in the order of their code points."""
    return "".join(sorted(token for token in tokenizer.backend.get_vocab() if token == han(token)))


@lru_cache(maxsize=4)
def counterparts(known: str) -> tuple[dict[str, str], dict[str, str]]:
    """What a character may stand for, among the `known` ones: in Simplified, and in other printing."""

    def table(*conversions: str) -> dict[str, str]:
        found: dict[str, str] = {}
        for name in conversions:
            for c, form in zip(known, converter(name).convert("\n".join(known)).split("\n"), strict=True):
                if form != c:
                    found[form] = found.get(form, "") + c
        return found

    return table("t2s"), table("t2tw", "t2hk", "t2jp")


class Usage(NamedTuple):
    """How often the training poems have each code point, and each pair of neighbours of which one has a rival."""

    characters: NDArray[Any]
    pairs: NDArray[Any]  # each pair as one number, in ascending order
    counts: NDArray[Any]
    total: int  # the sum of `characters`


def count_usage() -> Usage:
    """The counts of the training poems. Takes a second.

    A character has a rival if both may stand for the same one. Other pairs never decide between two titles.
    """
    rows = (row for poem in load_poems("train") for row in (*[poem.title] * TITLE_WEIGHT, *poem.couplets))
    codes = np.frombuffer("\n".join(["", *rows, ""]).encode("utf-32-le"), np.uint32).astype(np.int64)
    characters = np.bincount(codes, minlength=0x110000)
    tables = counterparts(han("".join(map(chr, characters.nonzero()[0]))))
    groups = (form + others for table in tables for form, others in table.items())
    rivals = {ord(c) for group in groups if sum(characters[ord(c)] > 0 for c in group) > 1 for c in group}
    pairs, counts = np.unique(codes[:-1] << 32 | codes[1:], return_counts=True)
    kept = np.isin(pairs >> 32, [*rivals]) | np.isin(pairs & 0xFFFFFFFF, [*rivals])
    return Usage(characters, pairs[kept], counts[kept], len(codes))


@cache
def usage(_: Path) -> Usage:
    """The stored counts if they are of these poems, or new ones.

    The argument is the folder of the poems. It only serves as the key of the cache: each folder is counted once.
    """
    with suppress(Exception), np.load(poem_file("train").with_name(STORED)) as stored:  # it may be missing or damaged
        if stored["poems"] == checksum():
            return Usage(*(stored[name] for name in Usage._fields))
    return count_usage()


def checksum() -> str:
    """The SHA-256 of the file of the training poems."""
    return sha256(poem_file("train").read_bytes()).hexdigest()


def frequency(character: str) -> int:
    """How often the training poems have a character."""
    return int(usage(paths.ASSETS).characters[ord(character)])


def log_probability(before: str, character: str) -> float:
    """How likely a character is after another one in the training poems, in nats."""
    known = usage(paths.ASSETS)
    pair = ord(before) << 32 | ord(character)
    place = np.searchsorted(known.pairs, pair)
    together = known.counts[place] if place < len(known.pairs) and known.pairs[place] == pair else 0
    expected = (frequency(character) + 0.5) / known.total
    return log((together + SMOOTHING * expected) / (frequency(before) + SMOOTHING))


def likeliest(options: Sequence[Mapping[str, float]]) -> str:
    """The likeliest title of one option for each place, each option with its penalty in nats (Viterbi 1967)."""
    best = [("\n", 0.0)]  # the best title that ends in each option
    for here in [*options, {"\n": 0.0}]:
        steps = ([(t + c, p + log_probability(t[-1], c) - less) for t, p in best] for c, less in here.items())
        best = [max(step, key=itemgetter(1)) for step in steps]
    return best[0][0].strip("\n")


def visible(text: str) -> bool:
    """Whether `text` has a visible character."""
    return any(not c.isspace() and unicodedata.category(c) not in INVISIBLE for c in text)


def unknown_notes(text: str, tokenizer: CharacterTokenizer) -> list[str]:
    """A sentence on the characters that the model does not know, if there are any."""
    unknown = listed(c for c in text if c not in SEPARATORS and tokenizer.encode(c) == [tokenizer.unk_id])
    said = say("The model does not know {them} and reads <UNK> (an unknown character) instead.", them=unknown)
    return [said] if unknown else []


def listed(found: Iterable[str], most: int = 8) -> str:
    """The strings as one text, each once; a character that cannot be printed is shown as its code point."""
    names = ["".join(c if c.isprintable() else f"U+{ord(c):04X}" for c in one) for one in dict.fromkeys(found) if one]
    shown = ("、" if is_chinese() else ", ").join(name if len(name) <= 20 else f"{name[:20]}…" for name in names[:most])
    return say("{names} and {count} more", names=shown, count=len(names) - most) if len(names) > most else shown
