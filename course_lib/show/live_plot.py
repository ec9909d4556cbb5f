"""Loss curves that are redrawn while a run goes on: `for report in LivePlot().watch(trainer): ...`."""

import math
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from IPython.display import display

from course_lib.losses import Loss
from course_lib.show.plots import loss_figure
from course_lib.training import StepReport


@dataclass
class LivePlot:
    """One plot below a cell, redrawn while reports arrive, at most once in `every` seconds.

    The last state is always drawn, also after a `break` or an interrupt. A second loop continues the curves. `before`
    is the evaluation before the first step. `display` and `clock` can be replaced in tests.
    """

    reports: list[StepReport] = field(default_factory=list)
    before: Loss | None = None
    every: float = 0.3
    display: Callable[..., Any] = display
    clock: Callable[[], float] = time.monotonic
    _handle: Any = None  # of the plot in the current cell
    _drawn_at: float = -math.inf

    def __post_init__(self) -> None:
        self.reports = list(self.reports)

    def watch(self, reports: Iterable[StepReport]) -> Iterator[StepReport]:
        """Yield each report, and show all reports so far in a new plot below the current cell."""
        self._handle = None
        self.draw()
        try:
            for report in reports:
                while self.reports and self.reports[-1].step >= report.step:
                    self.reports.pop()  # a resumed run takes some steps again
                self.reports.append(report)
                if self.clock() - self._drawn_at >= self.every:
                    self.draw()
                yield report
        finally:
            self.draw()

    def draw(self) -> None:
        """Draw all reports now. The first call in a cell shows the plot; later calls update it."""
        picture = loss_figure(self.reports, self.before)
        if self._handle is None:
            self._handle = self.display(picture, display_id=True)
        else:
            self._handle.update(picture)
        self._drawn_at = self.clock()
