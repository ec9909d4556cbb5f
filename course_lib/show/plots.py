"""The plots of the notebooks: loss curves, and several evaluations in one figure.

Nothing here uses `pyplot`, so no figure stays open and none is shown twice.
"""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import PIL.Image
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import get_font_names
from matplotlib.text import Text
from matplotlib.ticker import MaxNLocator, PercentFormatter

from course_lib.batches import ceil_div
from course_lib.evaluation.metrics import METRICS, Evaluation
from course_lib.evaluation.pairs import PairFigures
from course_lib.evaluation.title_fit import OTHERS
from course_lib.language import say
from course_lib.losses import Loss
from course_lib.training import StepReport

BLUE, VERMILION = "#0072b2", "#d55e00"  # colour-blind readers can tell them apart (Okabe & Ito 2008)
COLOURS = 64  # in a stored picture: this takes a third of the bytes that all colours take
POINTS = 250  # of one curve: more points would not be seen
SHARES = ("ended", "well_formed", "rhymes", "alternating", "regulated", "own_title_wins", "copies_a_line")
STYLES = ((VERMILION, "s"), (BLUE, "o"), ("#000000", "D"), ("#777777", "v"), ("#009e73", "^"))
CHINESE_FONTS = ("Noto Sans CJK SC", "Noto Sans CJK JP", "PingFang SC", "Heiti SC", "Microsoft YaHei", "SimHei")
APART, SPREAD = 0.22, 0.6  # of the height of a row: the most between two dots, and for the dots of all evaluations


@cache
def chinese_font() -> str:
    """The first of `CHINESE_FONTS` that matplotlib finds on this machine; "" if there is none."""
    return next((font for font in CHINESE_FONTS if font in get_font_names()), "")


def caption(english: str) -> str:
    """A text of a figure in the reader's language; English without a Chinese font, which would leave empty boxes."""
    return say(english) if chinese_font() else english


@dataclass(frozen=True, slots=True, repr=False)
class Picture:
    """A matplotlib figure that a notebook displays as a small PNG."""

    figure: Figure

    def _repr_png_(self) -> bytes:
        if chinese := chinese_font():
            for text in self.figure.findobj(Text):
                text.set_fontfamily(["sans-serif", chinese])  # the second has what the first lacks
        canvas: Any = FigureCanvasAgg(self.figure)
        canvas.draw()
        image = PIL.Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")
        file = io.BytesIO()
        image.quantize(COLOURS, dither=PIL.Image.Dither.NONE).save(file, format="png")
        return file.getvalue()

    def __repr__(self) -> str:  # the notebook stores it beside the PNG, so it never changes
        return "<Picture>"


def loss_figure(reports: Sequence[StepReport], before: Loss | None = None) -> Picture:
    """The losses of a run against its steps: training and evaluation, response and whole sequence.

    `before` is the evaluation before the first step. A long run is drawn as means of neighbouring steps.
    """
    figure = Figure(figsize=(7.2, 3.6), dpi=100, layout="constrained")
    axes = figure.add_subplot()
    steps, train = thinned(reports)
    evaluations = [(0, before), *((report.step, report.evaluation) for report in reports)]
    evaluated = [(step, loss) for step, loss in evaluations if loss]
    kinds = (  # in the order of Loss's fields
        (caption("train, response"), caption("evaluation, response"), BLUE, "-o"),
        (caption("train, whole sequence"), caption("evaluation, whole sequence"), VERMILION, "--s"),
    )
    for part, (trained, judged, colour, style) in enumerate(kinds):
        if train:  # the legend must not name a curve without points
            values = [loss[part] for loss in train]
            axes.plot(steps, values, label=trained, color=colour, alpha=0.45, lw=1)
        if evaluated:
            points = [(step, loss[part]) for step, loss in evaluated]
            axes.plot(*zip(*points, strict=True), style, label=judged, color=colour, lw=2, ms=4.5)
    axes.set(xlabel=caption("step"), ylabel=caption("loss, nats per token"))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    if axes.lines:
        figure.legend(loc="outside upper center", ncols=2, frameon=False, fontsize="medium")
    return Picture(figure)


def thinned(reports: Sequence[StepReport]) -> tuple[list[float], list[Loss]]:
    """At most `POINTS` steps and training losses. Each is the mean of as many neighbours as necessary."""
    width = ceil_div(len(reports), POINTS) or 1
    groups = [reports[i : i + width] for i in range(0, len(reports), width)]
    steps = [sum(report.step for report in group) / len(group) for group in groups]
    losses = [Loss(*np.mean([report.loss for report in group], axis=0).tolist()) for group in groups]
    return steps, losses


def comparison_figure(columns: Mapping[str, Evaluation], names: Sequence[str] = SHARES) -> Picture:
    """The metrics `names` of several evaluations, in per cent, each with its 95 % interval as a line.

    Every evaluation has its own colour and marker. The dotted line is chance: how often the own title would win if
    title and poem had nothing in common. Raises ValueError if there are no evaluations or more than five, or if one of
    `names` is not the name of a share.
    """
    if not 0 < len(columns) <= len(STYLES):
        raise ValueError(f"{len(columns)} evaluations: one figure shows 1 to {len(STYLES)}")
    if wrong := [name for name in names if name not in METRICS or METRICS[name].unit != "%"]:
        raise ValueError(f"no share is named {', '.join(wrong)}. Choose from {', '.join(SHARES)}")
    figure = Figure(figsize=(7.2, 1.2 + 0.5 * len(names)), dpi=100, layout="constrained")
    axes = figure.add_subplot()
    for number, ((label, evaluation), (colour, marker)) in enumerate(zip(columns.items(), STYLES, strict=False)):
        offset = (number - (len(columns) - 1) / 2) * min(APART, SPREAD / len(columns))
        found = evaluation.estimates
        dots = {row + offset: found[name] for row, name in enumerate(names) if name in found}
        values = [100 * estimate.value for estimate in dots.values()]
        axes.plot(values, list(dots), label=label, color=colour, marker=marker, markersize=5.5, linestyle="none")
        for row, estimate in dots.items():
            low, high = estimate.interval or (estimate.value, estimate.value)
            axes.hlines(row, 100 * low, 100 * high, color=colour, lw=1.8)
    if "own_title_wins" in names:
        row = names.index("own_title_wins")
        axes.vlines(100 / (1 + OTHERS), row - 0.45, row + 0.45, "#555555", ":", label=caption("chance"), lw=1.5)
    for row in range(1, len(names), 2):
        axes.axhspan(row - 0.5, row + 0.5, color="#f3f3f3", zorder=0)
    axes.set_yticks(range(len(names)), [f"  {caption(METRICS[name].label)}" for name in names])  # a margin
    axes.set(xlim=(-2, 102), ylim=(len(names) - 0.5, -0.5))
    axes.xaxis.set_major_formatter(PercentFormatter())
    axes.set_xlabel(caption("share of poems, lines or bigrams, with its 95 % interval"))
    axes.grid(axis="x", alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside upper center", ncols=4, frameon=False, fontsize="medium")
    return Picture(figure)


def preference_figure(rows: Sequence[tuple[int, PairFigures]]) -> Picture:
    """What a model learned from pairs, against its steps: `rows` are steps with what `measure_pairs` gives.

    On the left are the margin and the two gains, in nats. On the right are the accuracy, in per cent, and below it the
    distance from the reference, in nats per token.
    """
    figure = Figure(figsize=(7.2, 3.4), dpi=100, layout="constrained")
    nats, accuracy, distance = figure.subplot_mosaic("NA;ND", width_ratios=(3, 2)).values()
    steps = [step for step, _ in rows]
    curves = {
        caption("gain of the chosen answers"): (nats, "chosen", 1, BLUE, "-o"),
        caption("gain of the rejected answers"): (nats, "rejected", 1, VERMILION, "--s"),
        caption("margin"): (nats, "margin", 1, "#000000", ":D"),
        "accuracy": (accuracy, "accuracy", 100, "#000000", "-"),
        "distance": (distance, "distance", 1, "#000000", "-"),
    }
    for label, (axes, name, unit, colour, style) in curves.items():
        values = [unit * getattr(figures, name) for _, figures in rows]
        axes.plot(steps, values, style, label=label, color=colour, lw=2, ms=4.5)
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    nats.set(xlabel=caption("step"), ylabel=caption("nats"))
    nats.axhline(0, color="#777777", lw=1)
    accuracy.axhline(50, color="#777777", lw=1.5, linestyle=":")  # a coin
    accuracy.set(ylabel=caption("accuracy, %"), ylim=(0, 102))
    distance.set(xlabel=caption("step"), ylabel=caption("distance,\nnats per token"), ylim=(0, None))
    figure.legend(handles=nats.lines[:3], loc="outside upper center", ncols=3, frameon=False, fontsize="medium")
    return Picture(figure)
