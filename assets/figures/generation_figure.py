"""Draws the figure of notebook 05 as SVG: how each next character is chosen.

    python assets/figures/generation_figure.py

The heights of the bars are a sketch, not a measurement; notebook 05 plots the real ones.
"""

from __future__ import annotations

from make_figures import FAINT, GREY, INK, JADE, MONO, PALE_RED, QUIET, RED, SERIF, Drawing, draw_all

FAVOURITES = (("時", 74), ("春", 46), ("雲", 30), ("風", 17), ("夜", 10), ("竹", 6), ("一", 4))  # a sketch
KEPT = 4  # of these are in the nucleus


def generation() -> Drawing:
    """A ring: prompt, model, probabilities, one character drawn, and back. The end mark leads out."""
    d = Drawing(
        1000,
        360,
        "How a poem is written",
        "A loop. The model reads the prompt and the characters written so far. It gives every character of its "
        "vocabulary a score. Temperature and top-p turn the scores into probabilities. One character is drawn, shown "
        "in the title box, and appended to what the model reads next. The end mark leaves the loop.",
    )
    _heading(d, 28, "1  read", "the prompt and the text so far")
    _draw_prompt(d, 28, 90)
    _heading(d, 300, "2  score", "a logit for every character")
    d.box(300, 90, 168, 150, radius=10)
    d.text(384, 158, "the model", size=18, bold=True, anchor="middle")
    d.text(384, 186, "model(input_ids)", font=MONO, size=14, fill=JADE, anchor="middle")
    _heading(d, 516, "3  shape", "by temperature and top-p")
    _draw_bars(d, 516, 90)
    _heading(d, 792, "4  draw", "with the seed")
    d.box(792, 90, 88, 150, fill=PALE_RED, stroke=RED, radius=10)
    d.text(836, 182, "時", font=SERIF, size=48, fill=RED, anchor="middle")
    for start, end in ((252, 292), (468, 508), (744, 784)):
        d.path(f"M{start} 165 H{end}", width=2.2, arrow=True)
    d.path("M836 240 V284 q0 14 -14 14 H154 q-14 0 -14 -14 V250", width=2.2, arrow=True)
    d.text(488, 322, "show it, append it, and read again", size=16, fill=QUIET, anchor="middle", italic=True)
    d.path("M880 165 H910", stroke=RED, width=2.2, arrow=True)
    d.text(954, 161, "<EOS>", font=MONO, size=14, fill=RED, anchor="middle")
    d.text(954, 182, "the end", size=15, anchor="middle", bold=True)
    return d


def _heading(d: Drawing, x: float, name: str, what: str) -> None:
    d.text(x, 46, name, size=18, bold=True)
    d.text(x, 70, what, size=13.5, fill=QUIET)


def _draw_prompt(d: Drawing, x: float, y: float) -> None:
    d.box(x, y, 224, 150, radius=10)
    rows = (("<INS>", "請用以下題目寫一首詩", GREY), ("<INP>", "春夜喜雨", GREY), ("<RES>", "好雨知", INK))
    for i, (mark, text, fill) in enumerate(rows):
        d.text(x + 12, y + 40 + 42 * i, mark, font=MONO, size=12.5, fill=QUIET)
        d.text(x + 60, y + 40 + 42 * i, text, font=SERIF, size=15 if i == 0 else 20, fill=fill)


def _draw_bars(d: Drawing, x: float, y: float) -> None:
    d.box(x, y, 228, 150, radius=10)
    for i, (character, height) in enumerate(FAVOURITES):
        at, kept = x + 14 + 29 * i, i < KEPT
        fill, stroke = (PALE_RED, RED) if kept else (FAINT, GREY)
        d.box(at, y + 116 - height, 21, height, fill=fill, stroke=stroke, radius=2, dashed=not kept)
        d.text(at + 10.5, y + 137, character, font=SERIF, size=16, fill=INK if kept else GREY, anchor="middle")
    cut = x + 14 + 29 * KEPT - 4
    d.path(f"M{cut:g} {y + 20:g} V{y + 140:g}", stroke=QUIET, dashed=True)
    d.text(cut - 8, y + 32, "kept", size=13, fill=RED, anchor="end")
    d.text(cut + 8, y + 32, "never drawn", size=13, fill=QUIET)


if __name__ == "__main__":
    draw_all(generation)
