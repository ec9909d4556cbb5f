"""Poems, masks, tables and conversations as `Html`, which a notebook displays when it ends a cell.

All text is escaped. Every piece has inline styles and its own background, for light and dark pages alike.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from html import escape
from itertools import zip_longest

from course_lib.batches import IGNORE
from course_lib.language import say
from course_lib.poems import Poem
from course_lib.roles import END, ROLE_TOKENS, Message
from course_lib.tokenizer import CharacterTokenizer

PAPER, RULE = "#faf6ec", "#ddd3bd"
INK, GREY, RED = "#1f1d1a", "#756d5d", "#b3261e"
QUIET = "#665f50"  # small print
SERIF = "'Noto Serif CJK TC','Noto Serif TC','Songti TC','PMingLiU',serif"
SANS = "system-ui,'Noto Sans CJK SC','PingFang SC','Microsoft YaHei',sans-serif"
MONO = "ui-monospace,'DejaVu Sans Mono',monospace"
UNCOPIED = "-webkit-user-select:none;user-select:none"  # for signs beside a text: who copies the text gets no signs
SHEET = f"background:{PAPER};color:{INK};border:1px solid {RULE};border-radius:8px"


class Html(str):
    """A piece of HTML. A notebook displays it; everything else treats it as a string."""

    def _repr_html_(self) -> str:
        return str(self)

    def __repr__(self) -> str:  # the notebook stores it beside the HTML, so it is short and never changes
        return "<Html>"


def lang(script: Callable[[str], str]) -> str:
    """The HTML attribute for verse in a script: Traditional for `str`, else Simplified."""
    return 'lang="zh-Hant"' if script is str else 'lang="zh-Hans"'


def serif(script: Callable[[str], str]) -> str:
    """The fonts for verse in a script. For Simplified, the browser chooses by the language."""
    return SERIF if script is str else "serif"


def panel(inner: str) -> Html:
    """`inner`, which is HTML, on a sheet of paper."""
    box = "display:inline-block;max-width:100%;overflow-x:auto;padding:.7em 1.1em;margin:.3em 0"
    return Html(f'<div style="{SHEET};{box}">{inner}</div>')


def small(text: str) -> Html:
    """A text in small print."""
    return Html(f'<div style="color:{QUIET};font:.85em {SANS};margin-top:.5em">{escape(text)}</div>')


def stack(*pieces: str) -> Html:
    """Pieces of HTML below each other. A plain string is escaped and becomes a paragraph."""
    return Html("".join(f"<div>{_as_html(piece)}</div>" for piece in pieces))


def columns(pieces: Mapping[str, str]) -> Html:
    """Pieces of HTML side by side, each below its caption. On a narrow page they wrap."""
    style = f"font:bold .9em {SANS};margin-bottom:.2em"
    captions = {name: f'<div style="{style}">{escape(name)}</div>' for name in pieces}
    drawn = "".join(f"<div>{captions[name]}{_as_html(piece)}</div>" for name, piece in pieces.items())
    return Html(f'<div style="display:flex;flex-wrap:wrap;gap:1.5em;align-items:flex-start">{drawn}</div>')


def _as_html(piece: str) -> Html:
    return piece if isinstance(piece, Html) else Html(f"<p>{escape(piece)}</p>")


def poem(poem: Poem, gloss: str = "") -> Html:
    """A poem of the corpus as verse; `gloss` is explained at `verse`."""
    return verse(poem.title, poem.text, author=poem.author, gloss=gloss)


def verse(title: str, text: str, *, author: str = "", gloss: str = "") -> Html:
    """A text as verse, row by row. An empty row stays as a gap.

    `gloss` is the English translation: one row for the title, then one for each row of the text. Raises ValueError if
    the gloss has the wrong number of rows.
    """
    rows = text.split("\n")
    english = [row.strip() for row in gloss.strip().splitlines()]
    if english and len(english) != len(rows) + 1:
        raise ValueError(f"the gloss has {len(english)} rows; the title and the verse have {len(rows) + 1}")
    by = f' <span style="color:{QUIET};font-size:.8em">{escape(author)}</span>' if author else ""
    heading = f'<span style="font-size:1.15em;font-weight:bold">{escape(title)}</span>{by}'
    cell = f"background:{PAPER};border:0;text-align:left;vertical-align:baseline;padding:.18em 0"
    upright = f"{cell};color:{INK};font:1.25em/1.5 {SERIF};white-space:nowrap"
    slanted = f"{cell};padding-left:1.8em;color:{QUIET};font:italic 1em/1.5 Georgia,serif"
    body = ""
    lines = [heading, *(escape(row) or "&#160;" for row in rows)]
    for line, translation in zip_longest(lines, english, fillvalue=""):
        beside = f'<td style="{slanted}">{escape(translation)}</td>' if translation else ""
        body += f'<tr><td lang="zh-Hant" style="{upright}">{line}</td>{beside}</tr>'
    return panel(f'<table style="border-collapse:collapse;border:0;margin:0">{body}</table>')


def plain(text: str) -> Html:
    """A text as a base model reads it. Each newline is shown as ↵."""
    rows = escape(text).replace("\n", f'<span style="color:{RED}">↵</span>\n')
    return panel(f'<div lang="zh-Hant" style="font:1.15em/1.6 {SERIF};white-space:pre-wrap">{rows}</div>')


def tokens(tokenizer: CharacterTokenizer, ids: Iterable[int]) -> list[str]:
    """Each id as text; special tokens are spelled out, as in <RES>."""
    return [tokenizer.decode([i], show_special_tokens=True) for i in ids]


def mask(tokens: Sequence[str], labels: Sequence[int]) -> Html:
    """Each token above its label, coloured by whether it is learned. Roles and newlines begin a new row.

    Raises ValueError if the numbers of tokens and labels differ.
    """
    if len(tokens) != len(labels):
        raise ValueError(f"{len(tokens)} tokens and {len(labels)} labels")
    rows = [""]
    for token, label in zip(tokens, labels, strict=True):
        if token in ROLE_TOKENS:
            rows.append("")
        rows[-1] += _token(token, label)
        if token == "\n":
            rows.append("")
    style = "white-space:nowrap;line-height:1.15;margin:.15em 0"
    drawn = "".join(f'<div style="{style}">{row}</div>' for row in rows if row)
    learned = sum(label != IGNORE for label in labels)
    legend = say("grey: read only, label {number} · black: learned · red: the end mark, learned", number=IGNORE)
    count = say("{learned} of {count} tokens are learned", learned=learned, count=len(labels))
    return panel(drawn + small(legend) + small(count))


def _token(token: str, label: int) -> str:
    colour = GREY if label == IGNORE else RED if token == END else INK
    shown = "↵" if token == "\n" else "␣" if token == " " else token
    weight = "normal" if label == IGNORE else "bold"
    font = f"{weight} 1.25em {SERIF}" if len(token) == 1 else f"{weight} .85em {MONO}"
    box = "display:inline-block;min-width:2.5em;padding:0 .15em;box-sizing:border-box;text-align:center"
    above = f'<span style="font:{font}">{escape(shown)}</span>'
    below = f'<span style="font:.68em {MONO}">{label}</span>'
    return f'<span style="{box};vertical-align:bottom;color:{colour}">{above}<br/>{below}</span>'


def table(header: Sequence[object], rows: Iterable[Sequence[object]]) -> Html:
    """A table. Numbers are aligned to the right, with commas between thousands. No row ends within "[87, 97]".

    Raises ValueError if a row and the header differ in length.
    """
    cell = f"background:{PAPER};color:{INK};border:0;padding:.25em .8em;vertical-align:top"
    top = f"{cell};border-bottom:1px solid {INK};font-weight:bold;text-align:left"
    head = "".join(f'<th style="{top}">{escape(str(name))}</th>' for name in header)
    body = ""
    for row in rows:
        if len(row) != len(header):
            raise ValueError(f"a row has {len(row)} cells, the header has {len(header)}: {row}")
        body += "<tr>"
        for value in row:
            number = isinstance(value, int | float) and not isinstance(value, bool)
            own = f"border-bottom:1px solid {RULE};text-align:{'right' if number else 'left'};white-space:pre-line"
            text = f"{value:,}" if number else re.sub(r"(?<=\d), (?=-?[\d.]+\])", ",\u00a0", str(value))
            body += f'<td style="{cell};{own}">{escape(text)}</td>'
        body += "</tr>"
    style = f"border-collapse:collapse;border:0;margin:0;font:1em/1.5 {SANS}"
    return panel(f'<table style="{style}"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>')


def chat(messages: Sequence[Message], gloss: Sequence[str] = ()) -> Html:
    """A conversation as a chat window shows it, without the system message.

    `gloss` has one English translation for each message. Raises ValueError if the numbers of translations and messages
    differ.
    """
    if gloss and len(gloss) != len(messages):
        raise ValueError(f"{len(gloss)} translations for {len(messages)} messages")
    upright, slanted = f"font:1.1em/1.5 {SERIF};white-space:pre-line", f"font:italic .9em Georgia,serif;color:{QUIET}"
    bubbles = ""
    for message, english in zip(messages, gloss or [""] * len(messages), strict=True):
        if message["role"] == "system":
            continue
        side, paper = ("right", "#dfe9e4") if message["role"] == "user" else ("left", "#fffdf8")
        box = f"display:inline-block;max-width:85%;background:{paper};border:1px solid {RULE};border-radius:12px"
        text = f'<div lang="zh-Hant" style="{upright}">{escape(message["content"])}</div>'
        below = f'<div style="{slanted}">{escape(english)}</div>' if english else ""
        bubble = f'<div style="{box};padding:.45em .9em;text-align:left">{text}{below}</div>'
        bubbles += f'<div style="text-align:{side};margin:.45em 0">{bubble}</div>'
    return panel(f'<div style="width:30em;max-width:100%">{bubbles}</div>')
