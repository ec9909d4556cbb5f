"""Poems, masks, tables and conversations as HTML, for the notebooks.

Each function returns `Html`, which a notebook displays when it ends a cell. All text is escaped. Styles are inline
and every piece has its own background, so it looks the same on light and dark pages.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape

from course_lib.batches import IGNORE
from course_lib.poems import Poem
from course_lib.roles import END, ROLE_TOKENS, Message
from course_lib.tokenizer import CharacterTokenizer

PAPER, CARD, RULE = "#faf6ec", "#fffdf8", "#ddd3bd"
INK, GREY, RED = "#1f1d1a", "#756d5d", "#b3261e"
QUIET = "#665f50"  # small print
SERIF = "'Noto Serif CJK TC','Noto Serif TC','Songti TC','PMingLiU',serif"
SANS = "system-ui,'Noto Sans CJK TC','PingFang TC','Microsoft JhengHei',sans-serif"
MONO = "ui-monospace,'DejaVu Sans Mono',monospace"


class Html(str):
    """A piece of HTML. A notebook displays it; everything else treats it as a string."""

    __slots__ = ()

    def _repr_html_(self) -> str:
        return str(self)

    def __repr__(self) -> str:  # stored in the notebook beside the HTML, so it is short and never changes
        return "<Html>"


def panel(inner: str) -> Html:
    """`inner`, which is HTML, on a sheet of paper."""
    paper = f"background:{PAPER};color:{INK};border:1px solid {RULE};border-radius:8px"
    box = "display:inline-block;max-width:100%;overflow-x:auto;padding:.7em 1.1em;margin:.3em 0"
    return Html(f'<div style="{paper};{box}">{inner}</div>')


def small(text: str) -> Html:
    """A text in small print."""
    return Html(f'<div style="color:{QUIET};font:.85em {SANS};margin-top:.5em">{escape(text)}</div>')


def stack(*pieces: str) -> Html:
    """Pieces of HTML below each other. A plain string is escaped and becomes a paragraph."""
    return Html("".join(f"<div>{_as_html(piece)}</div>" for piece in pieces))


def columns(pieces: Mapping[str, str]) -> Html:
    """Pieces of HTML side by side, each below its caption. On a narrow page they wrap."""
    caption = f"font:bold .9em {SANS};margin-bottom:.2em"
    drawn = "".join(
        f'<div><div style="{caption}">{escape(name)}</div>{_as_html(piece)}</div>' for name, piece in pieces.items()
    )
    return Html(f'<div style="display:flex;flex-wrap:wrap;gap:1.5em;align-items:flex-start">{drawn}</div>')


def _as_html(piece: str) -> Html:
    return piece if isinstance(piece, Html) else Html(f"<p>{escape(piece)}</p>")


# --- verse ----------------------------------------------------------------------------------------


def poem(poem: Poem, gloss: str = "") -> Html:
    """A poem of the corpus as verse; `gloss` is explained at `verse`."""
    return verse(poem.title, poem.text, author=poem.author, gloss=gloss)


def verse(title: str, text: str, *, author: str = "", gloss: str = "") -> Html:
    """A text as verse, row by row. An empty row stays as a gap.

    `gloss` is the English translation: one row for the title, then one for each row of the text.

    Raises:
        ValueError: the gloss has the wrong number of rows.
    """
    rows = text.split("\n")
    english = [row.strip() for row in gloss.strip().split("\n")] if gloss.strip() else []
    if english and len(english) != len(rows) + 1:
        raise ValueError(f"the gloss has {len(english)} rows; the title and the verse have {len(rows) + 1}")
    by = f' <span style="color:{QUIET};font-size:.8em">{escape(author)}</span>' if author else ""
    heading = f'<span style="font-size:1.15em;font-weight:bold">{escape(title)}</span>{by}'
    lines = [heading, *(escape(row) or "&#160;" for row in rows)]
    translations = english or [""] * len(lines)
    body = "".join(_verse_row(*pair) for pair in zip(lines, translations, strict=True))
    return panel(f'<table style="border-collapse:collapse;border:0;margin:0">{body}</table>')


def _verse_row(line: str, english: str) -> str:
    cell = f"background:{PAPER};border:0;text-align:left;vertical-align:baseline;padding:.18em 0"
    upright = f"{cell};color:{INK};font:1.25em/1.5 {SERIF};white-space:nowrap"
    chinese = f'<td lang="zh-Hant" style="{upright}">{line}</td>'
    if not english:
        return f"<tr>{chinese}</tr>"
    slanted = f"{cell};padding-left:1.8em;color:{QUIET};font:italic 1em/1.5 Georgia,serif"
    return f'<tr>{chinese}<td style="{slanted}">{escape(english)}</td></tr>'


def plain(text: str) -> Html:
    """A text as a base model reads it. Each newline is shown as ↵."""
    rows = escape(text).replace("\n", f'<span style="color:{RED}">↵</span>\n')
    return panel(f'<div lang="zh-Hant" style="font:1.15em/1.6 {SERIF};white-space:pre-wrap">{rows}</div>')


# --- tokens ---------------------------------------------------------------------------------------


def tokens(tokenizer: CharacterTokenizer, ids: Iterable[int]) -> list[str]:
    """Each id as text; special tokens are spelled out, as in <RES>."""
    return [tokenizer.decode([i], show_special_tokens=True) for i in ids]


def mask(tokens: Sequence[str], labels: Sequence[int]) -> Html:
    """Each token above its label, coloured by whether it is learned. Roles and newlines begin a new row.

    Raises:
        ValueError: the numbers of tokens and labels differ.
    """
    if len(tokens) != len(labels):
        raise ValueError(f"{len(tokens)} tokens and {len(labels)} labels")
    rows: list[list[str]] = [[]]
    for token, label in zip(tokens, labels, strict=True):
        if token in ROLE_TOKENS and rows[-1]:
            rows.append([])
        rows[-1].append(_token(token, label))
        if token == "\n":
            rows.append([])
    style = "white-space:nowrap;line-height:1.15;margin:.15em 0"
    drawn = "".join(f'<div style="{style}">{"".join(row)}</div>' for row in rows if row)
    learned = sum(label != IGNORE for label in labels)
    return panel(
        drawn
        + small(f"grey: read only, label {IGNORE} · black: learned · red: the end mark, learned")
        + small(f"{learned} of {len(labels)} tokens are learned")
    )


def _token(token: str, label: int) -> str:
    colour = GREY if label == IGNORE else RED if token == END else INK
    shown = "↵" if token == "\n" else "␣" if token == " " else token
    weight = "normal" if label == IGNORE else "bold"
    font = f"{weight} 1.25em {SERIF}" if len(token) == 1 else f"{weight} .85em {MONO}"
    box = "display:inline-block;min-width:2.5em;padding:0 .15em;box-sizing:border-box"
    above = f'<span style="font:{font}">{escape(shown)}</span>'
    below = f'<span style="font:.68em {MONO}">{label}</span>'
    style = f"{box};text-align:center;vertical-align:bottom;color:{colour}"
    return f'<span style="{style}">{above}<br/>{below}</span>'


# --- tables and conversations ---------------------------------------------------------------------


def table(header: Sequence[object], rows: Iterable[Sequence[object]]) -> Html:
    """A table. Numbers are aligned to the right, with commas between thousands.

    Raises:
        ValueError: a row and the header differ in length.
    """
    cell = f"background:{PAPER};color:{INK};border:0;padding:.25em .8em;vertical-align:top"
    top = f"{cell};border-bottom:1px solid {INK};font-weight:bold;text-align:left"
    head = "".join(f'<th style="{top}">{escape(str(name))}</th>' for name in header)
    body = ""
    for row in rows:
        if len(row) != len(header):
            raise ValueError(f"a row has {len(row)} cells, the header has {len(header)}: {row}")
        body += f"<tr>{''.join(_cell(value, cell) for value in row)}</tr>"
    style = f"border-collapse:collapse;border:0;margin:0;font:1em/1.5 {SANS}"
    return panel(f'<table style="{style}"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>')


def _cell(value: object, style: str) -> str:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    text = f"{value:,}" if number else str(value)
    side = "right" if number else "left"
    own = f"{style};border-bottom:1px solid {RULE};text-align:{side};white-space:pre-line"
    return f'<td style="{own}">{escape(text)}</td>'


def chat(messages: Sequence[Message], gloss: Sequence[str] = ()) -> Html:
    """A conversation as a chat window shows it, without the system message.

    `gloss` has one English translation for each message.

    Raises:
        ValueError: the numbers of translations and messages differ.
    """
    english = list(gloss) or [""] * len(messages)
    if len(english) != len(messages):
        raise ValueError(f"{len(english)} translations for {len(messages)} messages")
    pairs = zip(messages, english, strict=True)
    seen = "".join(_bubble(message, note) for message, note in pairs if message["role"] != "system")
    return panel(f'<div style="width:30em;max-width:100%">{seen}</div>')


def _bubble(message: Message, note: str) -> str:
    user = message["role"] == "user"
    side, paper = ("right", "#dfe9e4") if user else ("left", CARD)
    box = f"display:inline-block;max-width:85%;background:{paper};border:1px solid {RULE};border-radius:12px"
    text = f'<div lang="zh-Hant" style="font:1.1em/1.5 {SERIF}">{escape(message["content"])}</div>'
    slanted = f"font:italic .9em Georgia,serif;color:{QUIET}"
    english = f'<div style="{slanted}">{escape(note)}</div>' if note else ""
    bubble = f'<div style="{box};padding:.45em .9em;text-align:left">{text}{english}</div>'
    return f'<div style="text-align:{side};margin:.45em 0">{bubble}</div>'
