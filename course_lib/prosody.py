"""How a classical poem sounds: its form, its rhyme (韻), its tones (平仄). Pure functions on text.

    scan("白日依山盡，黃河入海流。\\n欲窮千里目，更上一層樓。")

gives a `Scansion`: lines, tones, rhyme words, and the place of each fault. Readings come from the rhyme book 平水韻
(`assets/rhymes/README.md`): 106 groups of characters that sounded alike, nearly as in Tang times. The rules are those
of regulated verse (近體詩), after 王力, 《詩詞格律》 (1962), chapter 2, and 《漢語詩律學》 (1958). A character
with readings of both tones, or with none, is never a fault. So a faulty poem may pass, but a correct one rarely fails.
"""

import re
from collections import Counter
from collections.abc import Sequence
from enum import StrEnum
from functools import cache
from itertools import pairwise
from typing import NamedTuple

from course_lib import paths

HAN = r"\u3400-\u9fff\U00020000-\U0003ffff"  # the Chinese characters, as a range in a regular expression
NOT_HAN = re.compile(rf"[^{HAN}]")
LINE_END = re.compile(r"[，。？！；：]")


def split_lines(text: str) -> tuple[str, ...]:
    """The lines (句) of a poem's text, without punctuation and newlines."""
    return tuple(line for part in LINE_END.split(text) if (line := part.strip()))


def han(text: str) -> str:
    """The Chinese characters of `text`, and nothing else."""
    return NOT_HAN.sub("", text)


class Tone(StrEnum):
    """The tone of a character in verse: level (平), or oblique (仄), which is rising, departing or entering."""

    level = "平"
    oblique = "仄"
    either = "平仄"  # it has readings of both kinds, as 看 (to look) has
    unknown = "？"

    def fits(self, wanted: "Tone") -> bool:
        """Whether the character may be read with the tone `wanted`, level or oblique."""
        return self in (wanted, Tone.either, Tone.unknown)

    def is_sure(self) -> bool:
        """Whether the character is certainly level, or certainly oblique."""
        return self in (Tone.level, Tone.oblique)


def rhyme_rows(file: str) -> list[list[str]]:
    """The lines of a file in `assets/rhymes`, split at spaces."""
    return [line.split() for line in (paths.ASSETS / "rhymes" / file).read_text(encoding="utf-8").splitlines()]


@cache
def readings() -> dict[str, tuple[str, ...]]:
    """Each character with a known reading → the names of its rhyme groups, such as 下平聲十一尤."""
    table: dict[str, tuple[str, ...]] = {}
    for file in ("pingshui.txt", "additions.txt"):  # the rhyme book, and readings that it lacks
        for group, characters in rhyme_rows(file):
            for character in characters:
                table[character] = (*table.get(character, ()), group)
    for standard, variants in rhyme_rows("variants.txt"):
        table |= dict.fromkeys(variants, table[standard])
    return table


def is_level(group: str) -> bool:
    """Whether a rhyme group is one of the thirty with level tone."""
    return "平聲" in group


def level_groups(character: str) -> set[str]:
    """The level-tone groups in which a character may rhyme."""
    return {group for group in readings().get(character, ()) if is_level(group)}


def tone(character: str) -> Tone:
    """The tone of one character."""
    kinds = {is_level(group) for group in readings().get(character, ())}
    if len(kinds) != 1:
        return Tone.either if kinds else Tone.unknown
    return Tone.level if kinds.pop() else Tone.oblique


COUPLETS = [re.compile(rf"(?:[{HAN}]{{{n}}}，[{HAN}]{{{n}}}。\n?)+") for n in (5, 7)]


def is_well_formed(text: str) -> bool:
    """Whether the text is couplets like 好雨知時節，當春乃發生。, with 5 characters in each line, or 7 in each."""
    return any(couplets.fullmatch(text.strip()) for couplets in COUPLETS)


class Form(NamedTuple):
    """Characters in a line (None unless all lines have 5 or all have 7), and the number of lines."""

    characters: int | None
    lines: int

    @property
    def name(self) -> str:
        """五言絕句 (four lines), 七言律詩 (eight), 五言排律 (ten or more), …, or "other". Tones do not matter."""
        if self.characters is None or self.lines % 2 or self.lines in (0, 2, 6):
            return "other"
        kind = {4: "絕句", 8: "律詩"}.get(self.lines, "排律")
        return f"{'五' if self.characters == 5 else '七'}言{kind}"


def form(lines: Sequence[str]) -> Form:
    """The form of a poem, from its lines."""
    lengths = {len(line) for line in lines}
    return Form(lengths.pop() if lengths in ({5}, {7}) else None, len(lines))


class Fault(NamedTuple):
    """A broken rule, and where: line and character, both counted from 0."""

    rule: str
    line: int
    position: int


RHYME, REPEATED = "rhyme", "repeated rhyme word"
ALTERNATION, OPPOSITION, ADHESION, THREE_LEVEL = "alternation", "opposition", "adhesion", "three level tones"

RULES = {
    RHYME: "押韻: the even lines end in characters of one level-tone rhyme group",
    REPEATED: "重韻: no rhyme word is used twice",
    ALTERNATION: "平仄: within a line the tones of characters 2, 4 (and 6) alternate",
    OPPOSITION: "對: the second characters of a couplet's two lines have opposite tones",
    ADHESION: "粘: the second character of a couplet has the same tone as the second character of the line before it",
    THREE_LEVEL: "三平尾: no line ends in three level tones",
}


class Rhyme(NamedTuple):
    """The rhyme words of a poem. `group` is the level-tone group that most of them share, or None."""

    group: str | None
    words: tuple[tuple[int, str], ...]  # (line, character); the first line is here only if it joins
    faults: tuple[Fault, ...]


def rhyme(lines: Sequence[str]) -> Rhyme:
    """The rhyme of a poem (《詩詞格律》 chapter 2, section 1: 律詩 rhyme in level tones, in one group throughout).

    The first line may join; then its last word counts too. A word without a known reading is no fault.
    """
    words = [(i, line[-1]) for i, line in enumerate(lines) if i % 2]
    votes = Counter(group for _, word in words for group in sorted(level_groups(word)))
    group = votes.most_common(1)[0][0] if votes else None
    if lines and group in level_groups(lines[0][-1]):
        words.insert(0, (0, lines[0][-1]))
    known = [(i, word) for i, word in words if word in readings()]
    faults = [Fault(RHYME, i, len(lines[i]) - 1) for i, word in known if group not in level_groups(word)]
    first = {word: i for i, word in reversed(words)}  # the first line that ends in the word
    faults += [Fault(REPEATED, i, len(lines[i]) - 1) for i, word in words if i != first[word]]
    return Rhyme(group, tuple(words), tuple(faults))


def opposed(above: str, below: str) -> bool:
    """Whether characters 2, 4 (and 6) of two lines have opposite tones (對), where both tones are sure."""
    pairs = zip(tones(above)[1:-1:2], tones(below)[1:-1:2], strict=False)
    return all(a != b for a, b in pairs if a.is_sure() and b.is_sure())


Tones = tuple[Tone, ...]
LICENCE = tuple(map(Tone, "平平仄平仄"))  # 王力 allows this end of a line, although it does not alternate


def tones(line: str) -> Tones:
    """The tone of each character of a line."""
    return tuple(map(tone, line))


def clashes(line: Tones) -> list[int]:
    """The positions, counted from 0, at which a line fails to alternate: 3, 5, or both.

    Only characters 2, 4 and 6 count, and of these only those whose tone is sure. Neighbours must differ. If 4 is not
    sure, 2 and 6 must be equal.
    """
    sure = [i for i in range(1, len(line) - 1, 2) if line[i].is_sure()]
    return [i for before, i in pairwise(sure) if (line[i] == line[before]) == (i - before == 2)]


def alternates(line: Tones) -> bool:
    """Whether a line has 5 or 7 characters, and characters 2, 4 (and 6) alternate."""
    return len(line) in (5, 7) and not clashes(line)


def tone_faults(lines: Sequence[Tones]) -> list[Fault]:
    """The faults against the tone rules of regulated verse (《詩詞格律》 chapter 2, section 2), in reading order.

    Opposition and adhesion compare only second characters, as 王力 defines 粘; the others follow by alternation.
    """
    faults = []
    for i, line in enumerate(lines):
        is_licensed = len(line) in (5, 7) and all(map(Tone.fits, line[-5:], LICENCE))
        excused = len(line) - 2 if is_licensed else None
        faults += [Fault(ALTERNATION, i, at) for at in clashes(line) if at != excused]
    seconds = [line[1] if len(line) > 1 else Tone.unknown for line in lines]
    for i, (above, below) in enumerate(pairwise(seconds), start=1):
        rule, kept = (OPPOSITION, above != below) if i % 2 else (ADHESION, above == below)
        if above.is_sure() and below.is_sure() and not kept:
            faults.append(Fault(rule, i, 1))
    faults += [Fault(THREE_LEVEL, i, len(t) - 3) for i, t in enumerate(lines) if t[-3:] == (Tone.level,) * 3]
    return sorted(faults, key=lambda fault: (fault.line, fault.position))


class Scansion(NamedTuple):
    """All that the functions above find in a poem."""

    lines: tuple[str, ...]
    form: Form
    tones: tuple[Tones, ...]
    rhyme: Rhyme
    tone_faults: tuple[Fault, ...]

    @property
    def faults(self) -> tuple[Fault, ...]:
        """All faults, those of rhyme first."""
        return self.rhyme.faults + self.tone_faults

    @property
    def rhymes(self) -> bool:
        """Whether at least two even lines rhyme, all in one level-tone group, and no rhyme word is repeated."""
        known = [i for i, word in self.rhyme.words if i % 2 and word in readings()]
        return len(known) > 1 and not self.rhyme.faults

    @property
    def alternating(self) -> int:
        """How many lines alternate."""
        return sum(map(alternates, self.tones))

    @property
    def regulated(self) -> bool:
        """Whether the poem has a form of regulated verse and no tone fault. Rhyme is a separate question."""
        return self.form.name != "other" and not self.tone_faults


def scan(text: str) -> Scansion:
    """The scansion of a poem, from its text with punctuation."""
    lines = split_lines(text)
    toned = tuple(map(tones, lines))
    return Scansion(lines, form(lines), toned, rhyme(lines), tuple(tone_faults(toned)))


class Score(NamedTuple):
    """How good a poem is, among poems on one title: the greater tuple is the better poem."""

    complete: bool  # the model ended it, and it is well formed
    rhymes: bool  # it rhymes, and no line comes twice
    faultless_share: float  # the share of lines without a tone fault
    log_likelihood: float  # according to the model, in nats per token


def score(text: str, ended: bool, log_likelihood: float) -> Score:
    """The score of a poem. `ended` says whether the model ended it by itself."""
    scansion = scan(text)
    lines = scansion.lines
    rhymes = scansion.rhymes and len(set(lines)) == len(lines)
    faulty = {fault.line for fault in scansion.tone_faults}
    return Score(ended and is_well_formed(text), rhymes, 1 - len(faulty) / max(len(lines), 1), log_likelihood)
