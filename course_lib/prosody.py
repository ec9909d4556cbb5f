"""How a classical poem sounds: its form, its rhyme (韻), its tones (平仄). Pure functions on text.

    scan("白日依山盡，黃河入海流。\n欲窮千里目，更上一層樓。")

gives a `Scansion`: the lines, the tone of every character, the rhyme words and their group, and the place of
every fault. Readings are those of the rhyme book 平水韻 (`assets/rhymes/README.md`), 106 groups of characters:
the sounds of Tang times, or nearly, which today's pronunciation has left behind. The rules are those of
regulated verse (近體詩) as 王力 sets them out in 《詩詞格律》 (1962), chapter 2, and in 《漢語詩律學》 (1958).

Where a character has readings of both tones, or none that we know, it is never counted as a fault. So a poem
may pass that a reader would object to; the other way about is rarer.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from itertools import pairwise
from pathlib import Path

from course_lib.poems import ASSETS, is_well_formed, split_lines

# --- readings -------------------------------------------------------------------------------------


class Tone(StrEnum):
    """What a character may be in verse. Oblique (仄) is what is not level (平): rising, departing, entering."""

    level = "平"
    oblique = "仄"
    either = "平仄"  # it has readings of both kinds, as 看 (to look) has
    unknown = "？"

    def fits(self, wanted: Tone) -> bool:
        """Whether the character may be read with the tone `wanted`, level or oblique."""
        return self == wanted or self in (Tone.either, Tone.unknown)

    def is_sure(self) -> bool:
        """Whether it is level or oblique, and nothing else."""
        return self in (Tone.level, Tone.oblique)


@cache
def readings() -> dict[str, tuple[str, ...]]:
    """Every character we have a reading of → the names of its rhyme groups, such as 下平聲十一尤.

    Three files: the rhyme book, readings that it lacks, and other ways to write its characters.
    """
    folder = ASSETS / "rhymes"
    table: dict[str, tuple[str, ...]] = {}
    for file in ("pingshui.txt", "additions.txt"):
        for group, characters in _rows(folder / file):
            for character in characters:
                table[character] = (*table.get(character, ()), group)
    for standard, variants in _rows(folder / "variants.txt"):
        table |= dict.fromkeys(variants, table[standard])
    return table


def _rows(path: Path) -> list[list[str]]:
    return [line.split() for line in path.read_text(encoding="utf-8").splitlines()]


def is_level(group: str) -> bool:
    """Whether a rhyme group is one of the thirty of level tone."""
    return "平聲" in group


def tone(character: str) -> Tone:
    """The tone of one character."""
    kinds = {is_level(group) for group in readings().get(character, ())}
    if len(kinds) != 1:
        return Tone.either if kinds else Tone.unknown
    return Tone.level if kinds.pop() else Tone.oblique


def level_groups(character: str) -> set[str]:
    """The level-tone groups a character may rhyme in."""
    return {group for group in readings().get(character, ()) if is_level(group)}


# --- form -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Form:
    """The outward shape: characters in each line (None if they differ, or are not 5 or 7), and lines."""

    characters: int | None
    lines: int

    @property
    def name(self) -> str:
        """五言絕句 (four lines), 七言律詩 (eight), 五言排律 (ten or more, in couplets) and so on, or "other".

        It says nothing of sound: 靜夜思 has the form of a 絕句, and is an ancient-style poem (古絕).
        """
        if self.characters is None or self.lines % 2 or self.lines in (0, 2, 6):
            return "other"
        kind = {4: "絕句", 8: "律詩"}.get(self.lines, "排律")
        return f"{'五' if self.characters == 5 else '七'}言{kind}"


def form(lines: Sequence[str]) -> Form:
    """The form of a poem, from its lines."""
    lengths = {len(line) for line in lines}
    return Form(lengths.pop() if lengths in ({5}, {7}) else None, len(lines))


# --- rhyme ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Fault:
    """A rule broken, and where: line and character, both counted from 0."""

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
    ADHESION: "粘: the second character of a couplet has the tone of the one before it, at the end of the last couplet",
    THREE_LEVEL: "三平尾: no line ends in three level tones",
}


@dataclass(frozen=True, slots=True)
class Rhyme:
    """What the even lines end in. `group` is the level-tone group most of them share, None without any."""

    group: str | None
    words: tuple[tuple[int, str], ...]  # (line, character); the first line is here only if it joins
    faults: tuple[Fault, ...]


def rhyme(lines: Sequence[str]) -> Rhyme:
    """The rhyme of a poem (《詩詞格律》 chapter 2, section 1: 律詩 rhyme in level tones, in one group throughout).

    The first line may join; then its word counts as well. A word that nobody knows a reading of is no fault.
    """
    words = [(i, line[-1]) for i, line in enumerate(lines) if i % 2]
    votes = Counter(group for _, word in words for group in sorted(level_groups(word)))
    group = votes.most_common(1)[0][0] if votes else None
    if lines and group in level_groups(lines[0][-1]):
        words.insert(0, (0, lines[0][-1]))
    known = [(i, word) for i, word in words if word in readings()]
    faults = [Fault(RHYME, i, len(lines[i]) - 1) for i, word in known if group not in level_groups(word)]
    seen = Counter[str]()
    for i, word in words:
        if seen[word]:
            faults.append(Fault(REPEATED, i, len(lines[i]) - 1))
        seen[word] += 1
    return Rhyme(group, tuple(words), tuple(faults))


# --- tones ----------------------------------------------------------------------------------------

Tones = tuple[Tone, ...]
LICENCE = (Tone.level, Tone.level, Tone.oblique, Tone.level, Tone.oblique)


def tones(line: str) -> Tones:
    """The tone of each character of a line."""
    return tuple(map(tone, line))


def alternates(line: Tones) -> bool:
    """Whether a line of 5 or 7 characters alternates in its characters 2, 4 (and 6)."""
    return len(line) in (5, 7) and not clashes(line)


def clashes(line: Tones) -> list[int]:
    """Where a line does not alternate: the positions, 3 and 5 counted from 0, that clash with the one before.

    「一三五不論，二四六分明」, the rule of thumb goes: characters 1, 3 and 5 are free, or nearly; 2, 4 and 6 count.
    What may be of either tone is passed over: then 6 must be as 2 is.
    """
    sure = [i for i in range(1, len(line) - 1, 2) if line[i].is_sure()]
    return [i for before, i in pairwise(sure) if (line[i] == line[before]) != ((i - before) % 4 == 0)]


def is_licensed(line: Tones) -> bool:
    """Whether a line ends in 平平仄平仄 where 平平平仄仄 is expected.

    It does not alternate, and is no fault: 王力 calls it a pattern in its own right (特定的一種平仄格式), which
    Tang poets used about as freely as the other.
    """
    return len(line) in (5, 7) and all(t.fits(wanted) for t, wanted in zip(line[-5:], LICENCE, strict=True))


def tone_faults(lines: Sequence[Tones]) -> list[Fault]:
    """Every fault against the tone rules of regulated verse (《詩詞格律》 chapter 2, section 2), in reading order.

    Opposition and adhesion are judged by each line's second character, as 王力 defines 粘; if tones alternate,
    the fourth and the sixth follow.
    """
    faults = []
    for i, line in enumerate(lines):
        licensed = len(line) - 2 if is_licensed(line) else None
        faults += [Fault(ALTERNATION, i, at) for at in clashes(line) if at != licensed]
    seconds = [line[1] if len(line) > 1 else Tone.unknown for line in lines]
    for i, (above, below) in enumerate(pairwise(seconds), start=1):
        rule, kept = (OPPOSITION, above != below) if i % 2 else (ADHESION, above == below)
        if above.is_sure() and below.is_sure() and not kept:
            faults.append(Fault(rule, i, 1))
    faults += [Fault(THREE_LEVEL, i, len(t) - 3) for i, t in enumerate(lines) if t[-3:] == (Tone.level,) * 3]
    return sorted(faults, key=lambda fault: (fault.line, fault.position))


# --- a whole poem ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Scansion:
    """What can be heard in a poem."""

    lines: tuple[str, ...]
    form: Form
    tones: tuple[Tones, ...]
    rhyme: Rhyme
    tone_faults: tuple[Fault, ...]

    @property
    def faults(self) -> tuple[Fault, ...]:
        """All of them, rhyme first."""
        return self.rhyme.faults + self.tone_faults

    @property
    def rhymes(self) -> bool:
        """Whether two even lines or more rhyme, all in one level-tone group, and no rhyme word comes twice."""
        known = [i for i, word in self.rhyme.words if i % 2 and word in readings()]
        return len(known) > 1 and not self.rhyme.faults

    @property
    def alternating(self) -> int:
        """How many lines alternate."""
        return sum(map(alternates, self.tones))

    @property
    def regulated(self) -> bool:
        """Whether it has the form of regulated verse and no fault in its tones. Rhyme is asked for separately."""
        return self.form.name != "other" and not self.tone_faults


def scan(text: str) -> Scansion:
    """Everything above, of a poem's text with its punctuation."""
    lines = split_lines(text)
    heard = tuple(map(tones, lines))
    return Scansion(lines, form(lines), heard, rhyme(lines), tuple(tone_faults(heard)))


Score = tuple[bool, bool, float, float]


def score(text: str, ended: bool, log_likelihood: float) -> Score:
    """How a poem ranks among others on its title; the greater tuple is the better poem.

    First that it is whole (the model ended it, and it is well formed), then that it rhymes and no line comes
    twice, then the share of its lines without a fault in their tones, then what the model thinks of it:
    `log_likelihood`, a character's on average.
    """
    heard = scan(text)
    faulty = {fault.line for fault in heard.tone_faults}
    distinct = len(set(heard.lines)) == len(heard.lines)
    share = 1 - len(faulty) / max(len(heard.lines), 1)
    return ended and is_well_formed(text), heard.rhymes and distinct, share, log_likelihood
