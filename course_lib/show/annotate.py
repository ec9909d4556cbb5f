"""A poem with what can be heard in it written beside its characters, and with what it shares with another poem.

The signs are those of Chinese handbooks of verse (《欽定詞譜》, 1715): ○ level, ● oblique, ◐ either, and △ for a rhyme
word. They are set as ruby, which browsers place beneath a row of characters and to the right of a column.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from html import escape

from course_lib.evaluation.novelty import SHORTEST, Nearest
from course_lib.poems import han, split_lines
from course_lib.prosody import RULES, Scansion, Tone, level_groups, scan, tone
from course_lib.show.html import INK, PAPER, QUIET, RED, SANS, SERIF, columns, panel, small

SIGNS = {Tone.level: "○", Tone.oblique: "●", Tone.either: "◐", Tone.unknown: "？"}
RHYME_WORD = "△"
LEGEND = "○ level 平 · ● oblique 仄 · ◐ either · △ rhyme 韻 · framed: a fault"
SHARED = "#ffd966"  # behind characters that two poems share


# --- tones and rhymes -----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Mark:
    """What stands beside a character: a sign, and the rules of `prosody.RULES` that it breaks."""

    sign: str
    broken: tuple[str, ...] = ()


def marks(text: str) -> dict[int, Mark]:
    """The mark of each character of verse, by its place in `text`; punctuation and newlines have none."""
    heard, at, found = scan(text), 0, {}
    rhyming = {line for line, word in heard.rhyme.words if heard.rhyme.group in level_groups(word)}
    for number, line in enumerate(split_lines(text)):
        at = text.index(line, at)
        for position, character in enumerate(line):
            rhymes = number in rhyming and position == len(line) - 1
            broken = [fault.rule for fault in heard.faults if (fault.line, fault.position) == (number, position)]
            found[at + position] = Mark(RHYME_WORD if rhymes else SIGNS[tone(character)], tuple(broken))
        at += len(line)
    return found


def marked_rows(text: str) -> list[list[str]]:
    """Each row of `text` as a list of its characters, in HTML, those of verse with their marks."""
    rows: list[list[str]] = [[]]
    found = marks(text)
    for place, character in enumerate(text):
        if character == "\n":
            rows.append([])
        elif mark := found.get(place):
            rows[-1].append(_marked(character, mark))
        else:
            rows[-1].append(escape(character))
    return rows


def _marked(character: str, mark: Mark) -> str:
    sign = f'<rt style="font:.5em {SANS};color:{RED if mark.broken else QUIET}">{mark.sign}</rt>'
    frame = f' style="outline:1px solid {RED}" title="{escape("; ".join(mark.broken))}"' if mark.broken else ""
    return f"<ruby{frame}>{escape(character)}{sign}</ruby>"


def scanned(title: str, text: str, author: str = "") -> str:
    """A poem in rows, the sign of each character beneath it, every fault framed and told below."""
    by = f' <span style="color:{QUIET};font-size:.7em">{escape(author)}</span>' if author else ""
    rows = "".join(f"<div>{''.join(row) or '&#160;'}</div>" for row in marked_rows(text))
    style = f"font:1.35em/2.2 {SERIF};letter-spacing:.12em;ruby-position:under"
    heading = f'<div style="font:bold 1.15em/1.5 {SERIF}">{escape(title)}{by}</div>'
    told = "".join(map(small, [LEGEND, sound(scan(text)), *faults_told(scan(text))]))
    return panel(f'<div lang="zh-Hant">{heading}<div style="{style}">{rows}</div></div>{told}')


def sound(heard: Scansion) -> str:
    """How a poem sounds, in a sentence."""
    group = (heard.rhyme.group or "")[-1:]
    rhymes = f"Rhymes in the group of {group}" if heard.rhymes else "Does not rhyme throughout"
    count = len(heard.tone_faults)
    return f"{rhymes}; {count or 'no'} fault{'' if count == 1 else 's'} of tone."


def faults_told(heard: Scansion) -> list[str]:
    """Every fault of a poem as a sentence: where it is, and which rule it breaks."""
    return [
        f"line {fault.line + 1}, character {fault.position + 1}, {heard.lines[fault.line][fault.position]} · "
        f"{RULES[fault.rule]}"
        for fault in heard.faults
    ]


# --- what two poems share -------------------------------------------------------------------------


def nearest_told(nearest: Nearest) -> str:
    """The nearest training poem as a sentence: whose it is, and the longest run that it shares."""
    if nearest.poem is None:
        return f"No Tang training poem shares {SHORTEST} characters in a row with it."
    longest = max(nearest.runs, key=lambda run: len(run.characters)).characters
    whose = f"《{nearest.poem.title}》 by {nearest.poem.author or 'an unknown poet'}"
    return f"Nearest Tang training poem: {whose}, which shares {len(longest)} characters in a row, {longest}."


def side_by_side(title: str, text: str, nearest: Nearest) -> str:
    """A text beside the poem nearest to it, the runs of characters they share highlighted in both."""
    mine = [range(run.start, run.start + len(run.characters)) for run in nearest.runs]
    sides = {"written": _highlighted(title, text, mine)}
    if nearest.poem:
        theirs = [range(run.start_in_poem, run.start_in_poem + len(run.characters)) for run in nearest.runs]
        heading = f"{nearest.poem.title}  {nearest.poem.author}"
        sides["nearest training poem"] = _highlighted(heading, nearest.poem.text, theirs)
    return columns(sides) + panel(small(nearest_told(nearest)))


def _highlighted(title: str, text: str, runs: Iterable[range]) -> str:
    """Verse, the characters of these runs highlighted; runs count Chinese characters alone."""
    shared, count, drawn = {place for run in runs for place in run}, 0, ""
    style = f"background:{SHARED};color:{INK};text-decoration:underline"
    for character in text:
        own = escape(character).replace("\n", "<br/>")
        if han(character):
            own = f'<mark style="{style}">{own}</mark>' if count in shared else own
            count += 1
        drawn += own
    heading = f'<div style="font-weight:bold">{escape(title)}</div>'
    return panel(f'<div lang="zh-Hant" style="font:1.25em/1.6 {SERIF};background:{PAPER}">{heading}{drawn}</div>')
