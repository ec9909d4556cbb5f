"""Draws the figures of notebooks 01 to 04 as SVG. The figures of 05 and 06 have their own scripts in this folder.

    python assets/figures/make_figures.py

The English figures are drawn in this folder, the Chinese ones in zh/. Each figure has its own background, so it looks
the same on light and dark pages. Text stays text. All numbers are read from the counts of the corpus and from the base
checkpoint: run this again when those change.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from html import escape
from pathlib import Path

from course_lib import checkpoints, paths
from course_lib.checkpoints import CONFIG, SUMS, TOKENIZER, TOKENIZER_CONFIG, WEIGHTS, load_checkpoint
from course_lib.language import is_chinese, say
from course_lib.tokenizer import CharacterTokenizer

HERE = Path(__file__).resolve().parent
PAPER, CARD, RULE = "#faf6ec", "#fffdf8", "#d8ccb2"
INK, QUIET, GREY, RED, JADE = "#1f1d1a", "#665f50", "#756d5d", "#b3261e", "#2f6657"
FAINT, PALE_RED, PALE_JADE = "#ebe3d1", "#f3d9d3", "#dbe8e1"
SERIF = "'Noto Serif CJK TC','Noto Serif TC','Songti TC','PMingLiU',Georgia,serif"
SANS = "'Noto Sans','Helvetica Neue',Arial,'Noto Sans CJK TC','PingFang TC','Microsoft JhengHei',sans-serif"
SIMPLIFIED = "'Noto Sans','Helvetica Neue',Arial,'Noto Sans CJK SC','PingFang SC','Microsoft YaHei',sans-serif"
MONO = "'DejaVu Sans Mono',Menlo,Consolas,'Noto Sans Mono CJK TC',monospace"


class Drawing:
    """A sheet of paper with shapes on it. Its title, its description and its texts are in the reader's language."""

    def __init__(self, width: int, height: int, title: str, description: str) -> None:
        self.size, self.title, self.description = (width, height), say(title), say(description)
        self.shapes: list[str] = []

    def box(
        self,
        x: float,
        y: float,
        width: float,
        height: float,
        *,
        fill: str = CARD,
        stroke: str = RULE,
        radius: float = 8,
        dashed: bool = False,
    ) -> None:
        """A rectangle with round corners."""
        dash = ' stroke-dasharray="5 4"' if dashed else ""
        self.shapes.append(
            f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="{radius:g}" '
            f'fill="{fill}" stroke="{stroke}"{dash}/>'
        )

    def text(
        self,
        x: float,
        y: float,
        text: str,
        *,
        size: float = 15,
        fill: str = INK,
        font: str = SANS,
        anchor: str = "start",
        bold: bool = False,
        italic: bool = False,
    ) -> None:
        """A line of text. `y` is its base line; `anchor` is start, middle or end. Code stays English."""
        if is_chinese() and font != MONO:
            text, font, italic = say(text), SIMPLIFIED if font == SANS else font, False
        style = (' font-weight="bold"' if bold else "") + (' font-style="italic"' if italic else "")
        self.shapes.append(
            f'<text x="{x:g}" y="{y:g}" font-size="{size:g}" fill="{fill}" font-family="{font}" '
            f'text-anchor="{anchor}"{style} xml:space="preserve">{escape(text)}</text>'
        )

    def gloss(self, x: float, y: float, text: str) -> None:
        """An English translation, for readers who do not read Chinese."""
        self.text(x, y, "" if is_chinese() else text, size=13.5, fill=QUIET, italic=True)

    def column(self, x: float, y: float, text: str, *, size: float = 18, fill: str = INK) -> None:
        """Chinese characters from top to bottom, centred on `x`."""
        for i, character in enumerate(text):
            self.text(x, y + i * size * 1.12, character, size=size, fill=fill, font=SERIF, anchor="middle")

    def path(self, d: str, *, stroke: str = INK, width: float = 1.6, arrow: bool = False, dashed: bool = False) -> None:
        """A line along `d`, in SVG's path language."""
        tip = f' marker-end="url(#tip-{stroke[1:]})"' if arrow else ""
        dash = ' stroke-dasharray="5 4"' if dashed else ""
        self.shapes.append(
            f'<path d="{d}" fill="none" stroke="{stroke}" stroke-width="{width:g}" '
            f'stroke-linecap="round" stroke-linejoin="round"{dash}{tip}/>'
        )

    def save(self, path: Path) -> None:
        """Write the drawing as SVG."""
        width, height = self.size
        tips = "".join(
            f'<marker id="tip-{colour[1:]}" viewBox="0 0 10 10" refX="8.5" refY="5" markerWidth="7" '
            f'markerHeight="7" orient="auto"><path d="M0 0.8 L10 5 L0 9.2 z" fill="{colour}"/></marker>'
            for colour in (INK, QUIET, RED, JADE)
        )
        sheet = f'x="1" y="1" width="{width - 2}" height="{height - 2}" rx="14"'
        paper = f'<rect {sheet} fill="{PAPER}" stroke="{RULE}"/>'
        svg = (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" '
            f'height="{height}" role="img" aria-labelledby="title description">\n'
            f'<title id="title">{escape(self.title)}</title>\n'
            f'<desc id="description">{escape(self.description)}</desc>\n'
            f"<defs>{tips}</defs>\n{paper}\n" + "\n".join(self.shapes) + "\n</svg>\n"
        )
        path.parent.mkdir(exist_ok=True)
        path.write_text(svg, encoding="utf-8")


def draw_all(*drawings: Callable[[], Drawing]) -> None:
    """Draw each figure in English beside this script and in Chinese in zh/. The name of its function is its name."""
    for language, folder in (("en", HERE), ("zh", HERE / "zh")):
        os.environ["COURSE_LANG"] = language
        for drawing in drawings:
            drawing().save(folder / f"{drawing.__name__}.svg")


# --- 01: from poem to poem ------------------------------------------------------------------------


def data_way() -> Drawing:
    """Eight modules, from the poems on disk to the poem on the screen."""
    poems = json.loads((paths.ASSETS / "poems" / "counts.json").read_text())["tang"]["training poems"]
    tokenizer = CharacterTokenizer.load(paths.BASE / TOKENIZER)
    d = Drawing(
        1000,
        500,
        "From the poems on disk to a poem on the screen",
        "Eight modules from left to right in two rows: poems, roles, tokenizer, batches; then training, "
        "checkpoints, generation and the title box.",
    )
    stops = [
        ("poems", "01", say("{count:,} to learn from", count=poems)),
        ("roles", "01, 02", "which part is which"),
        ("tokenizer", "02", "a number for each token"),
        ("batches", "02", "rows to learn from"),
        ("training", "04", "predict, compare, adjust"),
        ("checkpoints", "03", "the model on disk"),
        ("generation", "05", "one character at a time"),
        ("title_box", "05", "title in, poem out"),
    ]
    corners = [(28 + 244 * (i % 4), 28 + 246 * (i // 4)) for i in range(8)]
    for (name, notebook, what), (x, y) in zip(stops, corners, strict=True):
        d.box(x, y, 212, 158)
        d.text(x + 2, y + 182, name, font=MONO, size=16, bold=True)
        d.text(x + 210, y + 182, notebook, size=13, fill=JADE, anchor="end", bold=True)
        d.text(x + 2, y + 203, what, size=14, fill=QUIET)
    for x, y in corners[:3] + corners[4:7]:
        d.path(f"M{x + 216} {y + 79} h22", arrow=True)
    back = "M976 107 q12 0 12 12 V249 q0 10 -10 10 H20 q-8 0 -8 10 V341 q0 12 12 12"
    d.path(back, stroke=QUIET, arrow=True)
    _draw_poem(d, *corners[0])
    _draw_segments(d, *corners[1])
    _draw_ids(d, *corners[2], tokenizer)
    _draw_rows(d, *corners[3])
    _draw_curve(d, *corners[4])
    _draw_folder(d, *corners[5])
    _draw_choice(d, *corners[6])
    _draw_title_box(d, *corners[7])
    return d


def _draw_poem(d: Drawing, x: float, y: float) -> None:
    d.column(x + 178, y + 34, "春夜喜雨", size=19, fill=RED)
    for i, line in enumerate(("好雨知時節", "當春乃發生", "隨風潛入夜", "潤物細無聲")):
        d.column(x + 140 - 36 * i, y + 34, line, size=20)


def _draw_segments(d: Drawing, x: float, y: float) -> None:
    rows = [
        ("<INS>", "請用以下題目寫一首詩", GREY),
        ("<INP>", "春夜喜雨", GREY),
        ("<RES>", "好雨知時節，…", INK),
        ("<EOS>", "", RED),
    ]
    for i, (mark, text, fill) in enumerate(rows):
        at = y + 38 + 34 * i
        d.text(x + 12, at, mark, font=MONO, size=13, fill=RED if mark == "<EOS>" else JADE, bold=True)
        d.text(x + 62, at, text, font=SERIF, size=14 if i == 0 else 17, fill=fill)


def _draw_ids(d: Drawing, x: float, y: float, tokenizer: CharacterTokenizer) -> None:
    for i, character in enumerate("好雨知時"):
        at = x + 33 + 48.5 * i
        d.text(at, y + 50, character, font=SERIF, size=24, anchor="middle")
        d.path(f"M{at:g} {y + 64:g} v28", stroke=QUIET, arrow=True)
        d.box(at - 22, y + 100, 44, 30, fill=PALE_JADE, stroke=JADE, radius=5)
        number = str(tokenizer.encode(character)[0])
        d.text(at, y + 120, number, font=MONO, size=14, anchor="middle")


def _draw_rows(d: Drawing, x: float, y: float) -> None:
    rows = (
        "gggiiiiieggggiiie",
        "ggiiiiiiiiiiieppp",
        "gggiiiieggiiiiiep",
        "ggggiiiiiiiiieppp",
        "ggiiieggiieggiiie",
    )
    fills = {"g": "#c9c0ab", "i": INK, "e": RED, "p": PAPER}
    for r, row in enumerate(rows):
        for c, kind in enumerate(row):
            d.box(x + 13 + 11 * c, y + 16 + 21 * r, 9, 16, fill=fills[kind], stroke=RULE, radius=2)
    for i, (kind, name) in enumerate((("g", "read"), ("i", "learned"), ("e", "end"))):
        at = x + 14 + (0, 56, 132)[i]
        d.box(at, y + 132, 10, 12, fill=fills[kind], stroke=RULE, radius=2)
        d.text(at + 15, y + 143, name, size=13, fill=QUIET)


def _draw_curve(d: Drawing, x: float, y: float) -> None:
    d.path(f"M{x + 34} {y + 18} V{y + 130} H{x + 194}", stroke=QUIET)
    falling = f"M{x + 38} {y + 34} C{x + 58} {y + 92} {x + 100} {y + 104} {x + 190} {y + 112}"
    d.path(falling, stroke=RED, width=3)
    d.text(x + 44, y + 28, "loss", size=13, fill=QUIET)
    d.text(x + 194, y + 148, "steps", size=13, fill=QUIET, anchor="end")


def _draw_folder(d: Drawing, x: float, y: float) -> None:
    top = f"M{x + 18} {y + 42} v-12 q0 -6 6 -6 h48 l12 14 h104 q6 0 6 6 v86 q0 6 -6 6 h-164 q-6 0 -6 -6 z"
    d.shapes.append(f'<path d="{top}" fill="{FAINT}" stroke="{QUIET}" stroke-width="1.4"/>')
    for i, name in enumerate((WEIGHTS, CONFIG, TOKENIZER)):
        d.text(x + 30, y + 70 + 26 * i, name, font=MONO, size=14)


def _draw_choice(d: Drawing, x: float, y: float) -> None:
    for i, character in enumerate("好雨知"):
        d.text(x + 28 + 30 * i, y + 86, character, font=SERIF, size=25, anchor="middle")
    d.box(x + 104, y + 18, 38, 122, fill=PALE_RED, stroke=RED, radius=6)
    for i, (character, share) in enumerate((("時", 54), ("春", 28), ("我", 18), ("天", 10))):
        at = y + 42 + 29 * i
        d.text(x + 123, at, character, font=SERIF, size=19, anchor="middle", fill=INK if i == 0 else GREY)
        d.box(x + 147, at - 13, share, 13, fill=RED if i == 0 else "#c9c0ab", stroke="none", radius=2)


def _draw_title_box(d: Drawing, x: float, y: float) -> None:
    d.box(x + 12, y + 14, 112, 32, fill="#ffffff", stroke=QUIET, radius=4)
    d.text(x + 22, y + 36, "春夜喜雨", font=SERIF, size=17)
    d.box(x + 132, y + 14, 66, 32, fill=JADE, stroke=JADE, radius=4)
    d.text(x + 165, y + 35, "Write", size=15, fill="#ffffff", anchor="middle", bold=True)
    for i, line in enumerate(("好雨知時節", "當春乃發生", "隨風")):
        d.column(x + 176 - 34 * i, y + 70, line, size=17)


# --- 02: roles ------------------------------------------------------------------------------------


def roles() -> Drawing:
    """One conversation in three forms: as a chat window shows it, as it is sent, and as the model reads it."""
    d = Drawing(
        1000,
        462,
        "One conversation in three forms",
        "Left, a chat window with the turns of user and assistant; the system's sentence is not shown. "
        "Middle, the list of messages that is sent, system first. Right, the one text that the model reads. A mark "
        "opens each turn, and the model continues after the last mark.",
    )
    for x, width, heading, below in (
        (28, 272, "what you see", "a chat window"),
        (336, 308, "what is sent", "the whole list of messages, each time"),
        (680, 292, "what the model reads", "one text; the model continues it"),
    ):
        d.text(x, 44, heading, size=19, bold=True)
        d.text(x, 67, below, size=14.5, fill=QUIET)
        d.box(x, 84, width, 350)
    d.path("M304 259 h26", arrow=True)
    d.path("M648 259 h26", arrow=True)
    _draw_window(d)
    _draw_messages(d)
    _draw_marked(d)
    return d


def _draw_window(d: Drawing) -> None:
    d.box(44, 100, 240, 34, fill=PAPER, dashed=True)
    d.text(164, 122, "system: not shown", size=14, fill=QUIET, anchor="middle", italic=True)
    for x, y, width, text, gloss, fill in (
        (92, 148, 192, "這幾天夜裡睡不著。", "These nights I lie awake.", PALE_JADE),
        (44, 222, 166, "聽起來你很累。", "You sound very tired.", "#ffffff"),
        (92, 296, 192, "我怕自己做得不好。", "I fear I do not do well.", PALE_JADE),
    ):
        d.box(x, y, width, 62, fill=fill, radius=14)
        d.text(x + 16, y + 27, text, font=SERIF, size=17)
        d.gloss(x + 16, y + 49, gloss)
    d.box(44, 380, 240, 38, fill="#ffffff", stroke=QUIET, radius=19)
    d.text(60, 404, "…", size=18, fill=QUIET)
    d.path("M262 392 l12 7 l-12 7 l3 -7 z", stroke=JADE, width=2)


def _draw_messages(d: Drawing) -> None:
    turns = [
        ("system", "你是一位溫和的輔導員。", "You are a gentle counsellor."),
        ("user", "這幾天夜裡睡不著。", ""),
        ("assistant", "聽起來你很累。", ""),
        ("user", "我怕自己做得不好。", ""),
    ]
    y = 100
    for role, content, gloss in turns:
        height = 90 if gloss else 68
        d.box(350, y, 280, height, fill=FAINT if gloss else "#ffffff", radius=6)
        d.text(364, y + 27, "role", font=MONO, size=13.5, fill=QUIET)
        d.text(438, y + 27, role, font=MONO, size=14.5, bold=True, fill=JADE)
        d.text(364, y + 53, "content", font=MONO, size=13.5, fill=QUIET)
        d.text(438, y + 53, content, font=SERIF, size=16.5)
        d.gloss(438, y + 76, gloss)
        y += height + 8


def _draw_marked(d: Drawing) -> None:
    rows = [
        ("[system]", "你是一位溫和的輔導員。"),
        ("[user]", "這幾天夜裡睡不著。"),
        ("[assistant]", "聽起來你很累。"),
        ("[user]", "我怕自己做得不好。"),
        ("[assistant]", ""),
    ]
    for i, (mark, text) in enumerate(rows):
        y = 124 + 66 * i
        d.text(698, y, mark, font=MONO, size=15, bold=True, fill=RED if i == 4 else JADE)
        d.text(698, y + 27, text, font=SERIF, size=18)
    d.box(699, 398, 11, 20, fill=RED, stroke=RED, radius=1)
    d.text(720, 414, "the model writes here", size=14.5, fill=RED, italic=True)


# --- 02: the mask ---------------------------------------------------------------------------------


def mask() -> Drawing:
    """The tokens that are read, the labels that are learned, and the shift by one that gives the targets."""
    d = Drawing(
        1000,
        372,
        "The mask and the shift by one",
        "Three rows of cells. First the tokens that are read: instruction and title in grey, the poem in black, the "
        "end mark in red. Then the labels at the same places: minus 100 below every grey cell. Then the targets: the "
        "labels moved one place to the left, so the response token predicts the first character of the poem.",
    )
    prompt = ["<INS>", "請", "…", "詩", "<INP>", "春", "夜", "喜", "雨", "<RES>"]
    answer = ["好", "雨", "…", "城", "。", "<EOS>"]
    wide = {"<INS>", "<INP>", "<RES>", "<EOS>"}
    xs, x = [], 154.0
    for token in prompt + answer:
        width = 63 if token in wide else 40
        xs.append((x, width))
        x += width + 5
    labels = ["-100"] * len(prompt) + answer
    targets = [*labels[1:], "-100"]
    rows = (
        (62, "input_ids", "read", prompt + answer),
        (158, "labels", "same places", labels),
        (274, "targets", "what comes next", targets),
    )
    for y, name, what, tokens in rows:
        d.text(24, y + 22, name, font=MONO, size=16, bold=True)
        d.text(24, y + 43, what, size=14, fill=QUIET)
        for i, (token, (at, width)) in enumerate(zip(tokens, xs, strict=True)):
            read = token == "-100" or (name == "input_ids" and i < len(prompt))
            _draw_cell(d, at, y, width, token, read)
    for i in range(len(prompt), len(xs)):
        (at, width), (before, room) = xs[i], xs[i - 1]
        colour = RED if i == len(xs) - 1 else INK
        d.path(f"M{at + width / 2:g} 211 L{before + room / 2 + 2:g} 268", stroke=colour, arrow=True)
    first, last = xs[0][0], xs[len(prompt) - 1]
    d.path(f"M{first:g} 50 v-8 H{last[0] + last[1]:g} v8", stroke=QUIET)
    d.text((first + last[0] + last[1]) / 2, 32, "the prompt: read only", size=15, fill=QUIET, anchor="middle")
    begin, end = xs[len(prompt)][0], xs[-1]
    d.path(f"M{begin:g} 50 v-8 H{end[0] + end[1]:g} v8", stroke=INK)
    middle = (begin + end[0] + end[1]) / 2
    d.text(middle, 32, "the response: learned", size=15, anchor="middle", bold=True)
    note = "the loss moves the labels one place to the left"
    d.text(last[0] - 12, 246, note, size=15, fill=QUIET, anchor="end", italic=True)
    d.text(154, 350, "-100: the loss skips this place", size=14.5, fill=QUIET)
    return d


def _draw_cell(d: Drawing, x: float, y: float, width: float, token: str, read: bool) -> None:
    end = token == "<EOS>"
    fill, stroke = (FAINT, RULE) if read else (PALE_RED, RED) if end else ("#ffffff", INK)
    d.box(x, y, width, 50, fill=fill, stroke=stroke, radius=5)
    ink = GREY if read else RED if end else INK
    mono = len(token) > 1
    d.text(
        x + width / 2,
        y + (31 if mono else 34),
        token,
        font=MONO if mono else SERIF,
        size=24 if not mono else 14 if width > 50 else 12,
        fill=ink,
        anchor="middle",
        bold=end,
    )


# --- 03: the checkpoint ---------------------------------------------------------------------------


def checkpoint() -> Drawing:
    """The files of a checkpoint folder, and the parameters by part."""
    model = load_checkpoint(paths.BASE).model
    config, weights = model.config, dict(model.named_parameters())

    def count(*parts: str) -> int:
        return sum(w.numel() for name, w in weights.items() if any(part in name for part in parts))

    shape = {"layers": config.num_hidden_layers, "heads": config.num_attention_heads, "width": config.intermediate_size}
    table = say("{count:,} tokens × {size} numbers", count=config.vocab_size, size=config.hidden_size)
    attention = say("{layers} layers, {heads} heads each: reads earlier tokens", **shape)
    parts = [
        ("embedding", table, count("embed_tokens"), RED),
        ("attention", attention, count("self_attn"), JADE),
        ("MLP", say("{layers} layers, {width} wide: works on each token", **shape), count("mlp"), INK),
        ("norms", "a scale for each channel", count("norm"), GREY),
    ]
    total = sum(w.numel() for w in weights.values())
    assert total == sum(number for _, _, number, _ in parts)
    d = Drawing(
        1000,
        416,
        "What is in a checkpoint",
        say(
            "Left, the folder with its files: weights, configuration, tokenizer and its settings, model card, "
            "checksums. Right, the {count:,} parameters by part: {parts}.",
            count=total,
            parts=say(", ").join(f"{say(name)} {number:,}" for name, _, number, _ in parts),
        ),
    )
    top = "M28 74 v-24 q0 -10 10 -10 h104 l20 24 h270 q10 0 10 10 v294 q0 10 -10 10 h-394 q-10 0 -10 -10 z"
    d.shapes.append(f'<path d="{top}" fill="{FAINT}" stroke="{QUIET}" stroke-width="1.4"/>')
    d.text(48, 66, "base/", font=MONO, size=17, bold=True)
    files = [
        (WEIGHTS, "every number the model has learned", RED),
        (CONFIG, "its shape: layers, heads, widths", INK),
        (TOKENIZER, "which character has which number", INK),
        (TOKENIZER_CONFIG, "special tokens; later, the chat template", INK),
        (checkpoints.CARD, "its data, its training, its results", INK),
        (SUMS, "checksums, to find a damaged file", INK),
    ]
    for i, (name, what, colour) in enumerate(files):
        y = 89 + 47 * i
        d.box(44, y, 382, 41, stroke=colour if colour == RED else RULE, radius=5)
        d.text(56, y + 18, name, font=MONO, size=14.5, bold=True, fill=colour)
        d.text(56, y + 35, what, size=13.5, fill=QUIET)
    d.path("M430 109 C462 109 452 54 482 54", stroke=RED, arrow=True)
    d.text(492, 60, say("{count:,} parameters", count=total), size=20, bold=True)
    d.text(492, 84, "16 bits each on disk, 32 in memory", size=14.5, fill=QUIET)
    longest = max(number for _, _, number, _ in parts)
    for i, (name, what, number, colour) in enumerate(parts):
        y = 112 + 74 * i
        d.text(492, y + 16, name, size=16, bold=True)
        d.text(972, y + 16, f"{number:,}", size=16, anchor="end")
        d.text(592, y + 16, what, size=14, fill=QUIET)
        d.box(492, y + 27, 480, 20, fill=FAINT, stroke="none", radius=4)
        d.box(492, y + 27, max(2.0, 480 * number / longest), 20, fill=colour, stroke="none", radius=2)
    return d


# --- 04: the loop ---------------------------------------------------------------------------------


def loop() -> Drawing:
    """The five parts of a training step, in a ring, and what the loop reports."""
    d = Drawing(
        1000,
        470,
        "The training loop",
        "A ring of five parts: take a batch, predict the next tokens, compare them with the labels, look back to see "
        "how each weight changes the loss, move the weights a little; then the next batch. Each step reports the loss "
        "to the plot. From time to time the model is evaluated on poems held out, writes a poem, and is saved.",
    )
    steps = [
        (229, 30, "1  take a batch", "rows of titles and poems", "batch"),
        (430, 180, "2  predict", "probabilities of the next token", "logits = model(input_ids)"),
        (392, 342, "3  compare", "with the labels, response only", "loss = cross_entropy(…)"),
        (66, 342, "4  look back", "how weights change the loss", "loss.backward()"),
        (28, 180, "5  adjust", "a small step for every weight", "optimizer.step()"),
    ]
    for x, y, name, what, code in steps:
        d.box(x, y, 250, 98, radius=10)
        d.text(x + 16, y + 29, name, size=18, bold=True)
        d.text(x + 16, y + 54, what, size=14.5, fill=QUIET)
        d.text(x + 16, y + 81, code, font=MONO, size=14.5, fill=JADE)
    for curve in (
        "M485 79 Q548 92 555 172",
        "M557 284 Q556 312 540 334",
        "M386 391 H324",
        "M168 336 Q152 314 151 286",
        "M153 174 Q160 92 221 79",
    ):
        d.path(curve, width=2.2, arrow=True)
    d.text(354, 238, "again", size=22, anchor="middle", italic=True, fill=QUIET, font=SERIF)
    d.path("M646 391 H690 q12 0 12 -12 V140 q0 -12 12 -12", stroke=RED, arrow=True)
    d.text(722, 62, "each step", size=14.5, fill=QUIET, italic=True)
    d.box(722, 74, 250, 108, stroke=RED)
    d.path("M744 92 V164 H952", stroke=QUIET)
    d.path("M748 98 C764 136 800 146 948 154", stroke=RED, width=3)
    d.text(942, 112, "the loss, live", size=15, anchor="end")
    d.text(722, 220, "from time to time", size=14.5, fill=QUIET, italic=True)
    chores = (
        ("evaluate", "on poems held out"),
        ("write 春夜喜雨", "to read it, not only to count"),
        ("save", "to continue later"),
    )
    for i, (name, what) in enumerate(chores):
        y = 232 + 62 * i
        d.box(722, y, 250, 54)
        d.text(738, y + 23, name, size=16, bold=True, font=SANS)
        d.text(738, y + 43, what, size=14, fill=QUIET)
    d.text(722, 440, "after break the model stays as it is", size=14.5, fill=QUIET, italic=True)
    return d


if __name__ == "__main__":
    draw_all(data_way, roles, mask, checkpoint, loop)
