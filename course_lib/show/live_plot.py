"""Loss curves that move while the loop runs, and stay behind as one picture.

    plot = LivePlot()
    for report in plot.watch(trainer):
        ...

The figure is drawn on a canvas of its own, never by `pyplot`: no figure stays open, and none is shown twice.
"""

from __future__ import annotations

import io
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
from IPython.display import Image, display
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from course_lib.losses import Loss
from course_lib.training import StepReport

BLUE, VERMILION = "#0072b2", "#d55e00"  # told apart by every kind of eye (Okabe & Ito 2008)
POINTS = 250  # a curve of more points is a smear on the page, and a bigger picture


def loss_figure(reports: Sequence[StepReport], before: Loss | None = None) -> Figure:
    """The losses of a run: train and evaluation, on the response and over the whole sequence.

    `before` is the evaluation before the first step. A long run is drawn as the means of neighbouring steps.
    """
    figure = Figure(figsize=(7.2, 3.6), dpi=100, layout="constrained")
    axes = figure.add_subplot()
    steps, train = thinned(reports)
    evaluated = [(0, before)] if before is not None else []
    evaluated += [(r.step, r.evaluation) for r in reports if r.evaluation is not None]
    kinds = (("response", BLUE, "-", "o"), ("whole sequence", VERMILION, "--", "s"))
    for part, (name, colour, dash, mark) in enumerate(kinds):  # in the order of Loss's fields
        thin = {"color": colour, "alpha": 0.45, "lw": 1}
        bold = {"color": colour, "linestyle": dash, "marker": mark, "lw": 2, "ms": 4.5}
        _line(axes, steps, [loss[part] for loss in train], f"train, {name}", **thin)
        at = [step for step, _ in evaluated]
        _line(axes, at, [loss[part] for _, loss in evaluated], f"evaluation, {name}", **bold)
    axes.set_xlabel("step")
    axes.set_ylabel("loss, nats per token")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    if axes.lines:
        figure.legend(loc="outside upper center", ncols=2, frameon=False, fontsize="medium")
    return figure


def _line(axes: Axes, steps: Sequence[float], values: Sequence[float], label: str, **style: Any) -> None:
    """A curve, or nothing at all: a legend does not name what is not there."""
    if values:
        axes.plot(steps, values, label=label, **style)


def thinned(reports: Sequence[StepReport], points: int = POINTS) -> tuple[list[float], list[Loss]]:
    """Steps and train losses, at most `points` of each: the means of as many neighbours as that takes."""
    width = -(-len(reports) // points) or 1
    groups = [reports[i : i + width] for i in range(0, len(reports), width)]
    steps = [sum(r.step for r in group) / len(group) for group in groups]
    losses = [
        Loss(sum(r.loss.response for r in group) / len(group), sum(r.loss.whole for r in group) / len(group))
        for group in groups
    ]
    return steps, losses


def png(figure: Figure) -> bytes:
    """The figure as a PNG file of 64 colours, a third of the size of one with all of them."""
    canvas: Any = FigureCanvasAgg(figure)
    canvas.draw()
    picture = PIL.Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")
    file = io.BytesIO()
    picture.quantize(64, dither=PIL.Image.Dither.NONE).save(file, format="png")
    return file.getvalue()


class LivePlot:
    """One picture under a cell, drawn anew while reports come in, at most every `every` seconds.

    The last state is always drawn: also when the loop is left early or the kernel interrupted. A second loop
    draws on; a report of a step that was there already, because a run was taken up again, replaces it.
    """

    def __init__(self, reports: Iterable[StepReport] = (), *, before: Loss | None = None, every: float = 0.3) -> None:
        self.reports: list[StepReport] = []
        self.before, self.every = before, every
        self._handle: Any = None
        self._drawn_at = -float("inf")
        for report in reports:
            self._take(report)

    def watch(self, reports: Iterable[StepReport]) -> Iterator[StepReport]:
        """Iterate over `reports`, drawing as they come, in a picture of this cell's own."""
        self._handle = None
        self.draw()
        try:
            for report in reports:
                self.add(report)
                yield report
        finally:
            self.draw()

    def add(self, report: StepReport) -> None:
        """Take one report, and draw if the last picture is old enough."""
        self._take(report)
        if time.monotonic() - self._drawn_at >= self.every:
            self.draw()

    def draw(self) -> None:
        """Draw what there is, now; the first time in a cell this puts the picture there."""
        image = Image(data=png(loss_figure(self.reports, self.before)), format="png")
        if self._handle is None:
            self._handle = display(image, display_id=True)
        else:
            self._handle.update(image)
        self._drawn_at = time.monotonic()

    def _take(self, report: StepReport) -> None:
        while self.reports and self.reports[-1].step >= report.step:
            self.reports.pop()
        self.reports.append(report)


def read_log(path: Path) -> list[StepReport]:
    """The reports in a run's `log.jsonl`; none if there is no such file.

    Raises:
        ValueError: a line is not a report.
    """
    reports = []
    for number, line in enumerate(path.read_text().splitlines() if path.is_file() else (), start=1):
        try:
            reports.append(StepReport.from_json(line))
        except (ValueError, TypeError, KeyError) as error:
            raise ValueError(f"{path}, line {number}: not the report of a step ({error})") from error
    return reports
