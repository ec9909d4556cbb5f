"""Poems, masks and tables as HTML, for the notebooks.

Pure functions: text goes in, escaped HTML comes out; `IPython.display.HTML` shows it. Styles are inline, and
each piece brings its own paper, so that it reads alike on light and dark pages and needs no style sheet.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape

from course_lib.batches import IGNORE
from course_lib.poems import Poem
from course_lib.roles import END, Message
from course_lib.tokenizer import PAD, UNK, CharacterTokenizer

PAPER, CARD, RULE = "#faf6ec", "#fffdf8", "#ddd3bd"
INK, GREY, RED = "#1f1d1a", "#756d5d", "#b3261e"
QUIET = "#665f50"  # small print
SERIF = "'Noto Serif CJK TC','Noto Serif TC','Songti TC','PMingLiU',serif"
SANS = "system-ui,'Noto Sans CJK TC','PingFang TC','Microsoft JhengHei',sans-serif"
MONO = "ui-monospace,'DejaVu Sans Mono',monospace"


def panel(inner: str) -> str:
    """HTML on a sheet of paper."""
    paper = f"background:{PAPER};color:{INK};border:1px solid {RULE};border-radius:8px"
    box = "display:inline-block;max-width:100%;overflow-x:auto;padding:.7em 1.1em;margin:.3em 0"
    return f'<div style="{paper};{box}">{inner}</div>'


def small(text: str) -> str:
    """Small print."""
    return f'<div style="color:{QUIET};font:.85em {SANS};margin-top:.5em">{escape(text)}</div>'


# --- verse ----------------------------------------------------------------------------------------


def poem(poem: Poem, gloss: str = "") -> str:
    """A poem of the corpus, set as verse; see `verse`."""
    return verse(poem.title, poem.text, author=poem.author, gloss=gloss)


def verse(title: str, text: str, *, author: str = "", gloss: str = "") -> str:
    """A text set as verse, one row of `text` a row; an empty row stays a gap.

    `gloss` is in English: a row for the title, then one for each row of the text.

    Raises:
        ValueError: the gloss has not one row more than the text.
    """
    rows = text.split("\n")
    english = [row.strip() for row in gloss.strip().split("\n")] if gloss.strip() else []
    if english and len(english) != len(rows) + 1:
        raise ValueError(f"{len(english)} rows of gloss for a title and {len(rows)} rows of verse")
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


def plain(text: str) -> str:
    """A text as a base model reads it, each newline drawn as ↵."""
    rows = escape(text).replace("\n", f'<span style="color:{RED}">↵</span>\n')
    return panel(f'<div lang="zh-Hant" style="font:1.15em/1.6 {SERIF};white-space:pre-wrap">{rows}</div>')


# --- tokens ---------------------------------------------------------------------------------------


def tokens(tokenizer: CharacterTokenizer, ids: Iterable[int]) -> list[str]:
    """Each id as the text it stands for, control tokens by their marks."""
    return [tokenizer.decode([i], show_controls=True) for i in ids]


def colour(token: str, label: int) -> str:
    """Grey if the token is not learned, red if it is the end mark, ink if it is anything else."""
    return GREY if label == IGNORE else RED if token == END else INK


def mask(tokens: Sequence[str], labels: Sequence[int]) -> str:
    """Tokens coloured by what is learned, each above its label; a new row where the text has one.

    Raises:
        ValueError: there are not as many labels as tokens.
    """
    if len(tokens) != len(labels):
        raise ValueError(f"{len(tokens)} tokens and {len(labels)} labels")
    rows: list[list[str]] = [[]]
    for token, label in zip(tokens, labels, strict=True):
        opens = len(token) > 1 and token not in (END, PAD, UNK)  # a role: it begins a row
        if opens and rows[-1]:
            rows.append([])
        rows[-1].append(_token(token, label))
        if token == "\n":
            rows.append([])
    style = "white-space:nowrap;line-height:1.15;margin:.15em 0"
    drawn = "".join(f'<div style="{style}">{"".join(row)}</div>' for row in rows if row)
    learned = sum(label != IGNORE for label in labels)
    return panel(
        drawn
        + small(f"grey: read only, label {IGNORE} · ink: learned · red: the end mark, learned")
        + small(f"{learned} of {len(labels)} tokens are learned")
    )


def _token(token: str, label: int) -> str:
    shown = "↵" if token == "\n" else "␣" if token == " " else token
    weight = "normal" if label == IGNORE else "bold"
    font = f"{weight} 1.25em {SERIF}" if len(token) == 1 else f"{weight} .85em {MONO}"
    box = "display:inline-block;min-width:2.5em;padding:0 .15em;box-sizing:border-box"
    above = f'<span style="font:{font}">{escape(shown)}</span>'
    below = f'<span style="font:.68em {MONO}">{label}</span>'
    style = f"{box};text-align:center;vertical-align:bottom;color:{colour(token, label)}"
    return f'<span style="{style}">{above}<br/>{below}</span>'


# --- tables and the like --------------------------------------------------------------------------


def table(header: Sequence[object], rows: Iterable[Sequence[object]]) -> str:
    """A table. Numbers stand to the right, whole ones with a comma at the thousands.

    Raises:
        ValueError: a row is longer or shorter than the header.
    """
    cell = f"background:{PAPER};color:{INK};border:0;padding:.25em .8em;vertical-align:top"
    top = f"{cell};border-bottom:1px solid {INK};font-weight:bold;text-align:left"
    head = "".join(f'<th style="{top}">{escape(str(name))}</th>' for name in header)
    body = ""
    for row in rows:
        if len(row) != len(header):
            raise ValueError(f"a row of {len(row)} cells under a header of {len(header)}: {row}")
        body += f"<tr>{''.join(_cell(value, cell) for value in row)}</tr>"
    style = f"border-collapse:collapse;border:0;margin:0;font:1em/1.5 {SANS}"
    return panel(f'<table style="{style}"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>')


def _cell(value: object, style: str) -> str:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    text = f"{value:,}" if number else str(value)
    side = "right" if number else "left"
    own = f"{style};border-bottom:1px solid {RULE};text-align:{side};white-space:pre-line"
    return f'<td style="{own}">{escape(text)}</td>'


def columns(panels: Mapping[str, str]) -> str:
    """HTML pieces side by side, each under its caption; on a narrow page below each other."""
    caption = f"font:bold .9em {SANS};margin-bottom:.2em"
    drawn = "".join(f'<div><div style="{caption}">{escape(name)}</div>{inner}</div>' for name, inner in panels.items())
    return f'<div style="display:flex;flex-wrap:wrap;gap:1.5em;align-items:flex-start">{drawn}</div>'


def chat(messages: Sequence[Message], gloss: Sequence[str] = ()) -> str:
    """A conversation as a chat window shows it: the system message is not seen. One gloss for each message.

    Raises:
        ValueError: there is not one gloss for each message.
    """
    english = list(gloss) or [""] * len(messages)
    if len(english) != len(messages):
        raise ValueError(f"{len(english)} glosses for {len(messages)} messages")
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
