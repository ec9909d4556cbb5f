"""A poem with the tone of each character beside it, and two poems with the characters they share.

The signs are those of Chinese handbooks of verse (《欽定詞譜》, 1715): ○ level, ● oblique, ◐ either, and △ for a rhyme
word. They are HTML ruby: a browser sets them below a row of characters, or to the right of a column.
"""

from collections.abc import Callable, Iterable
from html import escape
from typing import NamedTuple

from course_lib.evaluation.novelty import SHORTEST, Nearest
from course_lib.language import is_chinese, say
from course_lib.prosody import RULES, Scansion, Tone, han, is_well_formed, level_groups, scan
from course_lib.show.html import INK, PAPER, QUIET, RED, SANS, SERIF, UNCOPIED, Html, columns, panel, small, stack
from course_lib.titles import simplified

SIGNS = {Tone.level: "○", Tone.oblique: "●", Tone.either: "◐", Tone.unknown: "？"}
RHYME_WORD = "△"
LEGEND = "○ level 平 · ● oblique 仄 · ◐ either · ？ unknown · △ rhyme 韻 · framed: a fault"
SHARED = "#ffd966"  # the background of characters that two poems share


class ToneSign(NamedTuple):
    """The sign of one character, and the rules of `prosody.RULES` that are broken at it."""

    sign: str
    broken: tuple[str, ...] = ()


def tone_signs(text: str, scansion: Scansion) -> dict[int, ToneSign]:
    """The sign of each character of verse, by its index in `text`; `scansion` is `prosody.scan(text)`."""
    signs = {}
    rhyme = scansion.rhyme
    rhyming = {line for line, word in rhyme.words if rhyme.group in level_groups(word)}
    end = 0
    for number, (line, tones) in enumerate(zip(scansion.lines, scansion.tones, strict=True)):
        start = text.index(line, end)
        end = start + len(line)
        for position, tone in enumerate(tones):
            rhymes = number in rhyming and start + position == end - 1
            broken = [fault.rule for fault in scansion.faults if (fault.line, fault.position) == (number, position)]
            signs[start + position] = ToneSign(RHYME_WORD if rhymes else SIGNS[tone], tuple(broken))
    return signs


def signed_rows(text: str, scansion: Scansion, script: Callable[[str], str] = str) -> list[list[str]]:
    """Each row of `text` as a list of its characters in HTML, each character of verse with its sign.

    `script` is `titles.simplified` to show Simplified characters. The signs are always those of `text`.
    """
    pieces = list(map(escape, script(text)))
    for index, (sign, broken) in tone_signs(text, scansion).items():
        below = f'<rt style="font:.5em {SANS};color:{RED if broken else QUIET};{UNCOPIED}">{sign}</rt>'
        frame = f' style="outline:1px solid {RED}" title="{escape(say(", ").join(map(say, broken)))}"' if broken else ""
        pieces[index] = f"<ruby{frame}>{pieces[index]}{below}</ruby>"
    rows: list[list[str]] = []
    for row in text.split("\n"):
        rows.append(pieces[: len(row)])
        del pieces[: len(row) + 1]
    return rows


def scanned(title: str, text: str, author: str = "") -> Html:
    """A poem in rows, with the sign of each character below it. Faults are framed, and listed below the poem."""
    scansion = scan(text)
    by = f' <span style="color:{QUIET};font-size:.7em">{escape(author)}</span>' if author else ""
    heading = f'<div style="font:bold 1.15em/1.5 {SERIF}">{escape(title)}{by}</div>'
    rows = "".join(f"<div>{''.join(row) or '&#160;'}</div>" for row in signed_rows(text, scansion))
    style = f"font:1.2em/2.3 {SERIF};letter-spacing:.03em;ruby-position:under"
    faults: dict[str, list[str]] = {}  # each rule with its places
    for rule, line, position in scansion.faults:
        place = say("line {line}, {character}", line=line + 1, character=scansion.lines[line][position])
        faults.setdefault(rule, [say(RULES[rule])]).append(place)
    notes = "".join(map(small, [say(LEGEND), sound(scansion), *map(" · ".join, faults.values())]))
    below = f'<div style="width:0;min-width:100%">{notes}</div>'  # no wider than the poem: two fit side by side
    return panel(f'<div lang="zh-Hant" style="min-width:18em">{heading}<div style="{style}">{rows}</div></div>{below}')


def sound(scansion: Scansion) -> str:
    """One sentence on the rhyme and the tones of a poem."""
    group = (scansion.rhyme.group or "")[-1:]
    rhymes = say("Rhymes in the group of {group}", group=group) if scansion.rhymes else say("Does not rhyme throughout")
    count = len(scansion.tone_faults)
    if count > 1:
        return say("{rhymes}; {count} tone faults.", rhymes=rhymes, count=count)
    if count:
        return say("{rhymes}; 1 tone fault.", rhymes=rhymes)
    if scansion.form.characters is None:  # the tone rules are for lines of one length
        return say("{rhymes}.", rhymes=rhymes)
    return say("{rhymes}; no tone faults.", rhymes=rhymes)


def shape(text: str, scansion: Scansion) -> str:
    """One sentence on the form of a poem; `scansion` is `prosody.scan(text)`."""
    form = scansion.form
    if is_well_formed(text):
        name = simplified(form.name) if is_chinese() else form.name
        n = {"form": name, "lines": form.lines, "count": form.characters}
        if form.name == "other":
            return say("Well formed: {lines} lines of {count} characters.", **n)
        return say("Well formed: {form}, {lines} lines of {count} characters.", **n)
    if form.characters:
        return say("Not well formed: a row is not a couplet such as 好雨知時節，當春乃發生。")
    lengths = say(" or ").join(str(length) for length in sorted({len(line) for line in scansion.lines}))
    return say("Not well formed: the lines have {lengths} characters.", lengths=lengths or say("no"))


def nearest_note(nearest: Nearest) -> str:
    """One sentence on the nearest training poem: its title, its poet, and the longest span it shares."""
    if nearest.poem is None:
        return say("No Tang training poem shares {count} characters in a row with it.", count=SHORTEST)
    longest = max((span.characters for span in nearest.spans), key=len)
    poem = {"title": nearest.poem.title, "author": nearest.poem.author or say("an unknown poet")}
    it = {"n": len(longest), "span": longest, **poem}
    return say("Nearest Tang training poem: 《{title}》 by {author}. It shares {n} characters in a row: {span}.", **it)


def side_by_side(title: str, text: str, nearest: Nearest) -> Html:
    """A text beside its nearest training poem. The characters they share are highlighted in both."""
    poem = nearest.poem
    sides = {say("written"): _highlighted(title, text, [(span.start, len(span.characters)) for span in nearest.spans])}
    if poem:
        spans = [(span.start_in_poem, len(span.characters)) for span in nearest.spans]
        sides[say("nearest training poem")] = _highlighted(f"{poem.title}  {poem.author}", poem.text, spans)
    return stack(columns(sides), panel(small(nearest_note(nearest))))


def _highlighted(title: str, text: str, spans: Iterable[tuple[int, int]]) -> Html:
    """Verse with these spans highlighted; each is a start and a length, in Chinese characters."""
    pieces = [escape(character).replace("\n", "<br/>") for character in text]
    places = [index for index, character in enumerate(text) if han(character)]
    style = f"background:{SHARED};color:{INK};text-decoration:underline"
    for index in {place for start, length in spans for place in places[start : start + length]}:
        pieces[index] = f'<mark style="{style}">{pieces[index]}</mark>'
    drawn = "".join(pieces)
    heading = f'<div style="font-weight:bold">{escape(title)}</div>'
    return panel(f'<div lang="zh-Hant" style="font:1.25em/1.6 {SERIF};background:{PAPER}">{heading}{drawn}</div>')
