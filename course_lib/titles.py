"""Turns what a person typed into the title that the model reads, with notes on what was changed.

    read_title("静夜思🌙", tokenizer)        ReadTitle("靜夜思", ("Left out: 🌙 …", "Read as 靜夜思: …"))

All poems of the course are in Traditional characters, so a Simplified title is converted. OpenCC's conversion expects
Simplified text: it would turn 故老云 ("the old men say") into 故老雲, with a cloud. So a title is converted only if one
of its characters exists in Simplified printing alone.
"""

import re
import unicodedata
from collections.abc import Iterable
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

from course_lib.prosody import HAN, han
from course_lib.roles import END, ROLE_TOKENS
from course_lib.tokenizer import PAD, UNK, CharacterTokenizer

if TYPE_CHECKING:
    from opencc import OpenCC

MAX_TITLE = 60  # characters; the longest title of a test poem has 56, and the context must also hold the poem

# Characters that the conversion would change although Traditional printing has them too. Each occurs in the Tang
# training poems five times or more, and at least a twentieth as often as the character it would become.
IN_BOTH = (
    "丑个么于云亘余兖党准几凭凶占却台吁吃后咤咨咸唇夸姹尸岳峰干床征恒悮挂撑斗朴杠栖毶沄洼涌游"
    "溆灾熏猪猫疴皂眦确秘笋筑粤緼耻肴脉脚膻苧范荆莅葱藴蘖虬虱蜡蝎衮袜跖踪蹰辟迹郁醖采里雇鞲麽"
)

SPECIAL_TOKEN = re.compile("|".join(map(re.escape, (*ROLE_TOKENS, END, PAD, UNK))), re.IGNORECASE)
STOPS = re.compile(r"[,.，。]+")  # become spaces, as in the corpus
NOT_IN_A_TITLE = re.compile(rf"[^{HAN}《》、 ]")
INVISIBLE = {"Cf", "Mn", "Me", "Cc"}  # Unicode categories (joiners, accents, control codes) left out without a note


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
        return " ".join(self.notes)


def read_title(typed: str, tokenizer: CharacterTokenizer) -> ReadTitle:
    """The title that `typed` stands for. Never raises: a text that cannot be a title gives a refused one."""
    text = " ".join(unicodedata.normalize("NFKC", typed).split())
    if not visible(text):
        return ReadTitle("", ("The title is blank. Type a few Chinese characters, such as 春夜喜雨.",))
    special_tokens = SPECIAL_TOKEN.findall(text)
    text = STOPS.sub(" ", SPECIAL_TOKEN.sub("", text))
    left_out = special_tokens + [c for c in NOT_IN_A_TITLE.findall(text) if visible(c)]
    title = " ".join(NOT_IN_A_TITLE.sub("", text).split())
    notes = []
    if special_tokens:
        notes.append(f"A special token such as {special_tokens[0]} is plain text in a title: it has no effect.")
    if not han(title):
        reason = "There is no Chinese character in this title, and the model reads only those. Try 春雨 (spring rain)."
        return ReadTitle("", (*notes, reason))
    if len(title) > MAX_TITLE:
        reason = f"This title has {len(title)} characters; {MAX_TITLE} is the most, so that the poem has room."
        return ReadTitle("", (reason, "Please shorten it."))
    if left_out:
        notes.append(f"Left out: {listed(left_out)} (the model reads Chinese characters only).")
    title, remark = to_traditional(title, tokenizer)
    if remark:
        notes.append(remark)
    strange = [c for c in title if is_unknown(c, tokenizer)]
    if len(strange) == len(han(title)):
        reason = f"The model does not know {listed(strange)}: too few of its poems have it."
        return ReadTitle("", (reason, "Please try another title."))
    if strange:
        notes.append(f"The model does not know {listed(strange)} and reads {UNK} (an unknown character) instead.")
    return ReadTitle(title, tuple(notes))


@cache
def converter(name: str) -> "OpenCC":
    """The OpenCC conversion of this name. The first call reads its dictionaries."""
    from opencc import OpenCC

    return OpenCC(name)


def is_simplified(character: str) -> bool:
    """Whether a character exists in Simplified printing alone."""
    return character not in IN_BOTH and converter("s2t").convert(character) != character


def to_traditional(title: str, tokenizer: CharacterTokenizer) -> tuple[str, str]:
    """A title in Traditional characters, and a remark about it; the remark is "" if there is nothing to say.

    A title like 白云 may be both: "white clouds" in Simplified, "said in vain" in Traditional characters.
    Such a title is kept, and the remark names the other reading.
    """
    converted = converter("s2t").convert(title)
    if len(converted) == len(title):  # do not turn 荆 into 荊, which is in none of the poems
        pairs = zip(title, converted, strict=True)
        converted = "".join(old if is_unknown(new, tokenizer) else new for old, new in pairs)
    if any(map(is_simplified, title)):
        return converted, f"Read as {converted}: you typed Simplified, the poems are in Traditional."
    if converted != title and converter("t2s").convert(title) == title:
        return title, f"Kept as typed. If you meant {converted}, type it in Traditional characters."
    return title, ""


def visible(text: str) -> bool:
    """Whether `text` has a visible character."""
    return any(not c.isspace() and unicodedata.category(c) not in INVISIBLE for c in text)


def is_unknown(character: str, tokenizer: CharacterTokenizer) -> bool:
    """Whether the vocabulary lacks a character."""
    return tokenizer.encode(character) == [tokenizer.unk_id]


def listed(found: Iterable[str], most: int = 8) -> str:
    """The strings as one text, each once; a character that cannot be printed is shown as its code point."""
    names = [c if c.isprintable() else f"U+{ord(c):04X}" for c in dict.fromkeys(found)]
    return " ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
