"""Several evaluations in one picture: each share a dot, each interval a line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from course_lib.evaluation.metrics import MEASURES, Evaluation
from course_lib.evaluation.title_fit import OTHERS
from course_lib.show.live_plot import BLUE, VERMILION

SHARES = ("ended", "well_formed", "rhymes", "alternating", "regulated", "own_title_wins", "copies_a_line")
STYLES = ((VERMILION, "s"), (BLUE, "o"), ("#000000", "D"), ("#777777", "v"), ("#009e73", "^"))
APART = 0.22  # between the dots of one measure, of 1 between two measures


def comparison_figure(columns: Mapping[str, Evaluation], names: Sequence[str] = SHARES) -> Figure:
    """The shares of these names, in per cent, each evaluation in a colour and a mark of its own.

    A line is the 95 % interval. What an evaluation does not have is left out. The dotted line is chance: how often
    the own title would win if the poem had nothing to do with it.

    Raises:
        ValueError: there are no evaluations, more than can be told apart, or one of the names is not a share.
    """
    if not 0 < len(columns) <= len(STYLES):
        raise ValueError(f"{len(columns)} evaluations; 1 to {len(STYLES)} can be told apart in one picture")
    if wrong := [name for name in names if name not in MEASURES or MEASURES[name].unit != "%"]:
        raise ValueError(f"no share named {', '.join(wrong)}: choose from {', '.join(SHARES)}")
    figure = Figure(figsize=(7.2, 1.2 + 0.5 * len(names)), dpi=100, layout="constrained")
    axes = figure.add_subplot()
    middle = (len(columns) - 1) / 2
    for place, ((name, evaluation), (colour, mark)) in enumerate(zip(columns.items(), STYLES, strict=False)):
        own = [(row, evaluation.figures[share]) for row, share in enumerate(names) if share in evaluation.figures]
        rows = [row + (place - middle) * APART for row, _ in own]
        style: dict[str, Any] = {"color": colour, "marker": mark, "markersize": 5.5, "linestyle": "none"}
        axes.plot([100 * found.value for _, found in own], rows, label=name, **style)
        for row, (_, found) in zip(rows, own, strict=True):
            low, high = found.interval or (found.value, found.value)
            axes.hlines(row, 100 * low, 100 * high, color=colour, lw=1.8)
    if "own_title_wins" in names:
        row = names.index("own_title_wins")
        axes.vlines(100 / (1 + OTHERS), row - 0.45, row + 0.45, color="#555555", linestyle=":", lw=1.5)
    axes.set_yticks(range(len(names)), [MEASURES[name].label for name in names])
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set_xlim(-2, 102)
    axes.xaxis.set_major_formatter(PercentFormatter())
    axes.set_xlabel("share of poems (lines alternate: of lines), with its 95 % interval")
    axes.grid(axis="x", alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside upper center", ncols=len(columns), frameon=False, fontsize="medium")
    return figure
