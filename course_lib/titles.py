"""What somebody typed → the title a model is given, and what was done to it, in sentences.

    read_title("静夜思🌙", tokenizer)        ReadTitle("靜夜思", ("Left out: 🌙 …", "Read as 靜夜思: …"))

Every poem of the course is printed in Traditional characters, so a Simplified title is converted. OpenCC's
conversion is meant for Simplified text alone: of 故老云 ("the old men say") it would make 雲, clouds. It is
applied only where a character shows that the title is Simplified.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from course_lib.poems import han
from course_lib.roles import END, ROLE_MARKS
from course_lib.tokenizer import PAD, UNK, CharacterTokenizer

if TYPE_CHECKING:
    from opencc import OpenCC

MAX_TITLE = 60  # characters; the longest title of a test poem has 56, and the poem needs room in the context

# Characters that the conversion would change, and that Traditional printing has as well: each stands in the
# Tang training poems five times or more, and at least a twentieth as often as what it would become.
IN_BOTH = (
    "丑个么于云亘余兖党准几凭凶占却台吁吃后咤咨咸唇夸姹尸岳峰干床征恒悮挂撑斗朴杠栖毶沄洼涌游"
    "溆灾熏猪猫疴皂眦确秘笋筑粤緼耻肴脉脚膻苧范荆莅葱藴蘖虬虱蜡蝎衮袜跖踪蹰辟迹郁醖采里雇鞲麽"
)

MARK = re.compile("|".join(map(re.escape, (*ROLE_MARKS, END, PAD, UNK))), re.IGNORECASE)
STOPS = re.compile(r"[,.，。]+")  # spaces instead, as in the corpus
NOT_IN_A_TITLE = re.compile(r"[^\u3400-\u9fff\U00020000-\U0003ffff《》、 ]")
INVISIBLE = {"Cf", "Mn", "Me", "Cc"}  # joiners, variation selectors and the like: not worth a word


@dataclass(frozen=True, slots=True)
class ReadTitle:
    """A title as the model will get it, "" if it is refused; `notes` are sentences for whoever typed it."""

    title: str
    notes: tuple[str, ...] = ()

    @property
    def refused(self) -> bool:
        """Whether there is nothing to write on; the notes say why."""
        return not self.title

    @property
    def message(self) -> str:
        """The notes as one text, "" if the title is used as it was typed."""
        return " ".join(self.notes)


def read_title(typed: str, tokenizer: CharacterTokenizer) -> ReadTitle:
    """Make a title of whatever was typed. Nothing is raised: one that cannot be used comes back refused."""
    text = " ".join(unicodedata.normalize("NFKC", typed).split())
    if not visible(text):
        return ReadTitle("", ("The title is blank. Type a few Chinese characters: 春夜喜雨, for instance.",))
    title, marks, others = leave_out(text)
    notes: tuple[str, ...] = ()
    if marks:
        notes = (
            f"A mark such as {marks[0]} is plain text when typed into a title: "
            "it can neither end the poem nor change who speaks.",
        )
    if not han(title):
        reason = "There is no Chinese character in this title, and the model reads nothing else."
        return ReadTitle("", (*notes, reason, "Try 春雨 (spring rain)."))
    if len(title) > MAX_TITLE:
        reason = f"This title has {len(title)} characters; {MAX_TITLE} is the most, to leave the poem room."
        return ReadTitle("", (reason, "Please shorten it."))
    if marks or others:
        notes += (f"Left out: {listed([*marks, *others])} (the model reads Chinese characters only).",)
    title, more = to_traditional(title, tokenizer)
    strange = [c for c in title if is_unknown(c, tokenizer)]
    if len(strange) == len(han(title)):
        reason = f"The model knows nothing of {listed(strange)}: too few of its poems have it."
        return ReadTitle("", (reason, "Please try another title."))
    if strange:
        more += (f"The model does not know {listed(strange)} and reads {UNK} (some character) in its place.",)
    return ReadTitle(title, (*notes, *more))


def leave_out(text: str) -> tuple[str, list[str], list[str]]:
    """`text` as a title, and what it has that no title has: control marks, and other characters."""
    marks = MARK.findall(text)
    text = STOPS.sub(" ", MARK.sub("", text))
    others = [c for c in NOT_IN_A_TITLE.findall(text) if visible(c)]
    return " ".join(NOT_IN_A_TITLE.sub("", text).split()), marks, others


# --- Simplified and Traditional -------------------------------------------------------------------


@cache
def converter(name: str) -> OpenCC:
    """OpenCC's conversion of that name; its dictionaries are read at the first call."""
    from opencc import OpenCC

    return OpenCC(name)


def is_simplified(character: str) -> bool:
    """Whether a character belongs to Simplified printing alone."""
    return character not in IN_BOTH and converter("s2t").convert(character) != character


def to_traditional(title: str, tokenizer: CharacterTokenizer) -> tuple[str, tuple[str, ...]]:
    """A title in Traditional characters, and what is to be said about it: nothing, if it was so already.

    A title like 白云 is both, "white clouds" in Simplified and "said in vain" in Traditional characters: it
    is kept, and the other reading named.
    """
    converted = converter("s2t").convert(title)
    if len(converted) == len(title):  # 荆 would become 荊, a form that none of the poems is printed with
        pairs = zip(title, converted, strict=True)
        converted = "".join(old if is_unknown(new, tokenizer) else new for old, new in pairs)
    if any(map(is_simplified, title)):
        return converted, (f"Read as {converted}: you typed Simplified, the poems are in Traditional.",)
    if converted != title and converter("t2s").convert(title) == title:
        return title, (f"Kept as typed. If you meant {converted}, type it so, in Traditional characters.",)
    return title, ()


# --- small helpers --------------------------------------------------------------------------------


def visible(text: str) -> bool:
    """Whether anything of `text` can be seen."""
    return any(not c.isspace() and unicodedata.category(c) not in INVISIBLE for c in text)


def is_unknown(character: str, tokenizer: CharacterTokenizer) -> bool:
    """Whether the vocabulary lacks a character."""
    return tokenizer.encode(character) == [tokenizer.unk_id]


def listed(found: Iterable[str], most: int = 8) -> str:
    """What was found, each once, in order; code points for what cannot be shown."""
    names = [c if c.isprintable() else f"U+{ord(c):04X}" for c in dict.fromkeys(found)]
    return " ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
