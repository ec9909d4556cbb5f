"""The loss curves: what is drawn, how often, and what is left when a loop ends in any way."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator

import matplotlib.pyplot as plt
import PIL.Image
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

from course_lib.losses import Loss
from course_lib.show import live_plot
from course_lib.show.live_plot import LivePlot, loss_figure, png, read_log, thinned
from course_lib.training import StepReport


def report(step: int, *, evaluated: bool = False, offset: float = 0.0) -> StepReport:
    loss = Loss(4 + math.exp(-step) + 0.3 * math.sin(7 * step) + offset, 5 + math.exp(-step) + offset)
    return StepReport(
        step=step,
        epoch=0,
        figures=(*loss, 1.0),
        learning_rate=1e-3,
        tokens_seen=1000 * step,
        tokens_per_second=3000.0,
        seconds=0.3 * step,
        evaluation=Loss(loss.response + 0.1, loss.whole + 0.1) if evaluated else None,
    )


def run(steps: int, every: int = 10) -> list[StepReport]:
    return [report(step, evaluated=step % every == 0) for step in range(1, steps + 1)]


Curves = dict[str, tuple[list[float], list[float]]]


def curves_of(figure: Figure) -> Curves:
    (axes,) = figure.axes
    return {line.get_label(): (list(line.get_xdata()), list(line.get_ydata())) for line in axes.lines}


def curves(reports: list[StepReport], before: Loss | None = None) -> Curves:
    return curves_of(loss_figure(reports, before))


class Screen:
    """Stands in for the notebook: every picture that was shown, by handle."""

    def __init__(self) -> None:
        self.handles: list[list[bytes]] = []

    def display(self, image: object, *, display_id: bool) -> Screen.Handle:
        assert display_id
        self.handles.append([image.data])
        return Screen.Handle(self.handles[-1])

    class Handle:
        def __init__(self, shown: list[bytes]) -> None:
            self.shown = shown

        def update(self, image: object) -> None:
            self.shown.append(image.data)


def drawn(reports: list[StepReport]) -> bytes:
    """What a picture of these reports holds, without the time it takes to paint it."""
    return repr(curves(reports)).encode()


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> Screen:
    screen = Screen()
    monkeypatch.setattr(live_plot, "display", screen.display)
    monkeypatch.setattr(live_plot, "png", lambda figure: repr(curves_of(figure)).encode())
    return screen


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [100.0]
    monkeypatch.setattr(live_plot.time, "monotonic", lambda: now[0])
    return now


# --- the figure -----------------------------------------------------------------------------------


def test_four_curves_show_the_losses_of_the_reports() -> None:
    reports = run(20)
    assert curves(reports) == {
        "train, response": (list(range(1, 21)), [r.loss.response for r in reports]),
        "train, whole sequence": (list(range(1, 21)), [r.loss.whole for r in reports]),
        "evaluation, response": ([10, 20], [reports[9].evaluation.response, reports[19].evaluation.response]),
        "evaluation, whole sequence": ([10, 20], [reports[9].evaluation.whole, reports[19].evaluation.whole]),
    }


def test_the_evaluation_before_the_first_step_stands_at_zero() -> None:
    found = curves(run(10), Loss(7.0, 8.0))
    assert found["evaluation, response"][0] == [0, 10]
    assert found["evaluation, response"][1][0] == 7.0
    assert found["evaluation, whole sequence"][1][0] == 8.0


def test_nothing_is_named_that_is_not_drawn() -> None:
    assert curves([]) == {}
    assert loss_figure([]).legends == []
    assert set(curves([report(1)])) == {"train, response", "train, whole sequence"}


def test_the_curves_differ_without_their_colours() -> None:
    (axes,) = loss_figure(run(20)).axes
    evaluated = [line for line in axes.lines if line.get_label().startswith("evaluation")]
    assert len({(line.get_linestyle(), line.get_marker()) for line in evaluated}) == 2
    assert len({line.get_linewidth() for line in axes.lines}) == 2  # train is thin, evaluation bold


def test_all_text_in_the_picture_is_ascii() -> None:
    figure = loss_figure(run(20))
    figure.canvas.draw()  # tick labels exist from now on
    texts = {text.get_text() for text in figure.findobj(Text)}
    assert {"step", "loss, nats per token", "train, response"} <= texts
    assert all(text.replace("\N{MINUS SIGN}", "-").isascii() for text in texts)


def test_a_long_run_is_drawn_as_means_of_neighbours() -> None:
    reports = run(1000)
    steps, losses = thinned(reports, points=250)
    assert len(steps) == len(losses) == 250
    assert steps[0] == 2.5
    assert losses[0].response == pytest.approx(sum(r.loss.response for r in reports[:4]) / 4)
    assert losses[-1].whole == pytest.approx(sum(r.loss.whole for r in reports[-4:]) / 4)
    assert thinned(reports[:250], points=250)[1] == [r.loss for r in reports[:250]]
    assert thinned([]) == ([], [])


@pytest.mark.parametrize("steps", [40, 5000])
def test_the_picture_is_small(steps: int) -> None:
    data = png(loss_figure(run(steps), Loss(5.5, 6.0)))
    assert len(data) < 60_000
    picture = PIL.Image.open(io.BytesIO(data))
    assert picture.format == "PNG"
    assert picture.width >= 700


def test_no_figure_stays_open() -> None:
    png(loss_figure(run(5)))
    assert plt.get_fignums() == []


# --- the plot that moves --------------------------------------------------------------------------


def test_reports_come_through_unchanged_and_one_picture_is_updated(screen: Screen, clock: list[float]) -> None:
    reports = run(5)
    assert list(LivePlot().watch(reports)) == reports
    assert len(screen.handles) == 1
    assert screen.handles[0][-1] == drawn(reports)


def test_it_draws_at_most_every_so_many_seconds(screen: Screen, clock: list[float]) -> None:
    plot = LivePlot(every=0.3)
    for one in plot.watch(run(20)):  # 0.1 s a step: pictures at the start, after 3, 6, 9 … steps, and at the end
        clock[0] += 0.1 + 1e-9
        assert len(screen.handles[0]) <= 1 + one.step / 3
    assert len(screen.handles[0]) == 1 + 6 + 1


@pytest.mark.parametrize("leave", ["break", "error", "interrupt"])
def test_the_last_state_is_drawn_however_the_loop_is_left(screen: Screen, clock: list[float], leave: str) -> None:
    plot, reports = LivePlot(), run(9)

    def train() -> Iterator[StepReport]:
        yield from reports[:7]
        raise {"error": RuntimeError, "interrupt": KeyboardInterrupt}[leave]

    def loop() -> None:
        for one in plot.watch(train()):
            if leave == "break" and one.step == 7:
                break

    if leave == "break":
        loop()
    else:
        with pytest.raises((RuntimeError, KeyboardInterrupt)):
            loop()
    assert screen.handles == [[drawn([]), drawn(reports[:7])]]


def test_a_second_loop_draws_on_in_a_picture_of_its_own(screen: Screen, clock: list[float]) -> None:
    plot, reports = LivePlot(), run(8)
    list(plot.watch(reports[:3]))
    list(plot.watch(reports[3:]))
    assert len(screen.handles) == 2
    assert screen.handles[1][0] == drawn(reports[:3])
    assert screen.handles[1][-1] == drawn(reports)


def test_a_step_that_is_taken_again_replaces_the_old_one(screen: Screen, clock: list[float]) -> None:
    plot = LivePlot(run(6))
    plot.add(report(4, offset=1.0))
    assert plot.reports == [*run(3), report(4, offset=1.0)]


def test_add_alone_is_enough(screen: Screen, clock: list[float]) -> None:
    plot = LivePlot()
    plot.add(report(1))
    assert screen.handles == [[drawn([report(1)])]]


# --- the log --------------------------------------------------------------------------------------


def test_the_log_gives_the_reports_back(tmp_path) -> None:
    reports = run(12)
    log = tmp_path / "log.jsonl"
    log.write_text("".join(one.as_json() + "\n" for one in reports))
    assert read_log(log) == reports
    assert isinstance(read_log(log)[9].evaluation, Loss)


def test_no_log_no_reports(tmp_path) -> None:
    assert read_log(tmp_path / "log.jsonl") == []


@pytest.mark.parametrize("line", ['{"step": 1', '{"step": 1}', "[]", '{"step": 1, "loss": 3, "evaluation": null}'])
def test_a_damaged_log_says_where(tmp_path, line: str) -> None:
    log = tmp_path / "log.jsonl"
    log.write_text(f"{report(1).as_json()}\n{line}\n")
    with pytest.raises(ValueError, match=r"log\.jsonl, line 2: not the report of a step"):
        read_log(log)
