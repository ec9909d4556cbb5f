"""Draws the figure of notebook 06 as SVG: from many poems to a share, and how sure the share is.

    python assets/figures/evaluation_figure.py

The shares and intervals on the right are a sketch, not a measurement; notebook 06 plots the real ones.
"""

from __future__ import annotations

from make_figures import FAINT, GREY, INK, JADE, PALE_JADE, PALE_RED, QUIET, RED, Drawing, draw_all

from course_lib.language import say

QUESTIONS = (
    ("Does it follow?", "it ends, and has the form", "rules"),
    ("Does it sound?", "rhymes and tones", "rhyme book"),
    ("Is it its own?", "or copied from another?", "training poems"),
    ("Does it listen?", "its own title, of sixteen", "the model"),
    ("Was it expected?", "the loss, in nats", "the model"),
)
RANGES = (("base", 46, 58, 70, GREY), ("fine-tuned", 92, 104, 116, RED), ("real", 112, 127, 142, INK))  # a sketch


def evaluation() -> Drawing:
    """Four steps: write on unseen titles, ask each poem five questions, count, and say how sure the count is."""
    d = Drawing(
        1000,
        404,
        "How a model is judged",
        "Four steps from left to right. Poems are written on titles that the model has never seen. Each poem is asked "
        "five questions: does it follow, does it sound, is it its own, does it listen to its title, was it expected? "
        "Rules, a rhyme book and the training poems answer three of them; the model itself answers two. The answers "
        "are counted. The last step draws each share with its interval, for base model, fine-tuned model and real "
        "poems.",
    )
    _heading(d, 28, "1  write", "on unseen titles")
    for i in (2, 1, 0):
        d.box(28 + 9 * i, 96 + 9 * i, 150, 216, radius=8)
    _draw_poem(d, 28, 96)
    _heading(d, 256, "2  ask", "every poem, the same five questions")
    for i, (question, what, who) in enumerate(QUESTIONS):
        y = 92 + 58 * i
        asks_model = who == "the model"
        d.box(256, y, 330, 50, radius=6)
        d.text(270, y + 21, question, size=15.5, bold=True)
        d.text(270, y + 40, what, size=13.5, fill=QUIET)
        fill, stroke = (PALE_JADE, JADE) if asks_model else (FAINT, GREY)
        d.box(468, y + 12, 108, 26, fill=fill, stroke=stroke, radius=13)
        d.text(522, y + 30, who, size=13, anchor="middle", fill=JADE if asks_model else INK)
    _heading(d, 652, "3  count", "yes or no")
    _draw_count(d, 652, 92)
    _heading(d, 812, "4  estimate", "how sure is the share?")
    _draw_ranges(d, 812, 92)
    for start, end in ((204, 248), (592, 644), (768, 804)):
        d.path(f"M{start} 230 H{end}", width=2.2, arrow=True)
    return d


def _heading(d: Drawing, x: float, name: str, what: str) -> None:
    d.text(x, 46, name, size=18, bold=True)
    d.text(x, 70, what, size=13.5, fill=QUIET)


def _draw_poem(d: Drawing, x: float, y: float) -> None:
    d.column(x + 124, y + 40, "春夜喜雨", size=19, fill=RED)
    for i, line in enumerate(("好雨知時節", "當春乃發生", "隨風潛入夜")):
        d.column(x + 90 - 32 * i, y + 40, line, size=20)
    d.text(x + 75, y + 196, "and many more", size=13, fill=QUIET, anchor="middle", italic=True)


def _draw_count(d: Drawing, x: float, y: float) -> None:
    d.box(x, y, 110, 282, radius=8)
    answers = "yynyyyynyyyyynyyynyy"
    for i, answer in enumerate(answers):
        fill, stroke = (RED, RED) if answer == "y" else (PALE_RED, RED)
        d.box(x + 15 + 22 * (i % 4), y + 20 + 30 * (i // 4), 16, 16, fill=fill, stroke=stroke, radius=8)
    share = say("{right} of {total}", right=answers.count("y"), total=len(answers))
    d.text(x + 55, y + 212, share, size=20, bold=True, anchor="middle")
    d.text(x + 55, y + 238, "a share, or", size=13.5, fill=QUIET, anchor="middle")
    d.text(x + 55, y + 257, "a mean", size=13.5, fill=QUIET, anchor="middle")


def _draw_ranges(d: Drawing, x: float, y: float) -> None:
    d.box(x, y, 160, 282, radius=8)
    for i, (name, low, middle, high, colour) in enumerate(RANGES):
        at = y + 58 + 72 * i
        d.text(x + 14, at - 18, name, size=14.5, bold=True, fill=colour)
        d.path(f"M{x + low} {at} H{x + high}", stroke=colour, width=3)
        d.path(f"M{x + low} {at - 6} v12 M{x + high} {at - 6} v12", stroke=colour, width=2)
        d.shapes.append(f'<circle cx="{x + middle}" cy="{at}" r="6" fill="{colour}"/>')
    d.path(f"M{x + 14} {y + 246} H{x + 146}", stroke=QUIET)
    d.text(x + 14, y + 267, "0 %", size=13, fill=QUIET)
    d.text(x + 146, y + 267, "100 %", size=13, fill=QUIET, anchor="end")


if __name__ == "__main__":
    draw_all(evaluation)
