"""The live plot: how often it draws, and what it shows however a loop ends."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from test_plots import Curves, curves, report, reports

from course_lib.show.live_plot import LivePlot
from course_lib.show.plots import Picture, loss_figure
from course_lib.training import StepReport


class Screen:
    """Stands in for the notebook: the curves of every picture shown, in a list for each cell."""

    def __init__(self) -> None:
        self.cells: list[list[Curves]] = []
        self.now = 100.0  # the clock, in seconds

    def display(self, picture: Picture, *, display_id: bool) -> Screen:
        assert display_id
        self.cells.append([])
        self.update(picture)
        return self

    def update(self, picture: Picture) -> None:
        self.cells[-1].append(curves(picture.figure))

    def plot(self, reports: list[StepReport] | None = None) -> LivePlot:
        return LivePlot(reports or [], display=self.display, clock=lambda: self.now)


def drawn(reports: list[StepReport]) -> Curves:
    return curves(loss_figure(reports).figure)


@pytest.fixture
def screen() -> Screen:
    return Screen()


def test_reports_come_through_unchanged_and_one_picture_is_updated(screen: Screen) -> None:
    run = reports(5)
    assert list(screen.plot().watch(run)) == run
    assert len(screen.cells) == 1
    assert screen.cells[0][-1] == drawn(run)


def test_it_draws_at_most_every_so_many_seconds(screen: Screen) -> None:
    for one in screen.plot().watch(reports(20)):  # 0.1 s a step: drawn at the start, every 3 steps, and at the end
        screen.now += 0.1 + 1e-9
        assert len(screen.cells[0]) <= 1 + one.step / 3
    assert len(screen.cells[0]) == 1 + 6 + 1


@pytest.mark.parametrize("leave", ["break", "error", "interrupt"])
def test_the_last_state_is_drawn_however_the_loop_is_left(screen: Screen, leave: str) -> None:
    run = reports(9)

    def train() -> Iterator[StepReport]:
        yield from run[:7]
        raise {"error": RuntimeError, "interrupt": KeyboardInterrupt}[leave]

    def loop() -> None:
        for one in screen.plot().watch(train()):
            if leave == "break" and one.step == 7:
                break

    if leave == "break":
        loop()
    else:
        with pytest.raises((RuntimeError, KeyboardInterrupt)):
            loop()
    assert screen.cells == [[drawn([]), drawn(run[:7])]]


def test_a_second_loop_continues_the_curves_in_a_new_plot(screen: Screen) -> None:
    plot, run = screen.plot(), reports(8)
    list(plot.watch(run[:3]))
    list(plot.watch(run[3:]))
    assert len(screen.cells) == 2
    assert screen.cells[1][0] == drawn(run[:3])
    assert screen.cells[1][-1] == drawn(run)


def test_a_step_that_is_taken_again_replaces_the_old_one(screen: Screen) -> None:
    again = report(4, offset=1.0)
    assert list(screen.plot(reports(6)).watch([again])) == [again]
    assert screen.cells[0][0] == drawn(reports(6))
    assert screen.cells[0][-1] == drawn([*reports(3), again])
