"""The plots: every curve, dot and interval at its value, and nothing drawn that the data does not have."""

from __future__ import annotations

import io
import json
import math

import matplotlib.pyplot as plt
import numpy as np
import PIL.Image
import pytest
from IPython.core.formatters import DisplayFormatter
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.text import Text

from course_lib.evaluation.metrics import METRICS, Estimate, Evaluation
from course_lib.evaluation.pairs import PairFigures
from course_lib.losses import Loss
from course_lib.show.plots import (
    SHARES,
    STYLES,
    Picture,
    comparison_figure,
    loss_figure,
    preference_figure,
    thinned,
)
from course_lib.training import StepReport


def report(step: int, *, evaluated: bool = False, offset: float = 0.0) -> StepReport:
    loss = Loss(4 + math.exp(-step) + 0.3 * math.sin(7 * step) + offset, 5 + math.exp(-step) + offset)
    evaluation = {"response": loss.response + 0.1, "whole": loss.whole + 0.1} if evaluated else None
    row = {"step": step, "epoch": 0, "loss": loss._asdict(), "grad_norm": 1.0, "learning_rate": 1e-3}
    row |= {"tokens_seen": 1000 * step, "tokens_per_second": 3000.0, "seconds": 0.3 * step, "evaluation": evaluation}
    return StepReport.from_json(json.dumps(row))


def reports(steps: int, every: int = 10) -> list[StepReport]:
    return [report(step, evaluated=step % every == 0) for step in range(1, steps + 1)]


Curves = dict[str, tuple[list[float], ...]]


def curves(figure: Figure) -> Curves:
    (axes,) = figure.axes
    return {str(line.get_label()): tuple(np.asarray(line.get_data()).tolist()) for line in axes.lines}


def as_png(picture: Picture) -> bytes:
    data, _ = DisplayFormatter().format(picture)
    assert data["text/plain"] == "<Picture>"  # what a notebook stores beside the picture never changes
    return data["image/png"]


# --- the losses of a run --------------------------------------------------------------------------


def test_four_curves_show_the_losses_of_the_reports() -> None:
    run = reports(20)
    evaluations = [one.evaluation for one in run if one.evaluation]
    assert curves(loss_figure(run).figure) == {
        "train, response": (list(range(1, 21)), [one.loss.response for one in run]),
        "train, whole sequence": (list(range(1, 21)), [one.loss.whole for one in run]),
        "evaluation, response": ([10, 20], [evaluation.response for evaluation in evaluations]),
        "evaluation, whole sequence": ([10, 20], [evaluation.whole for evaluation in evaluations]),
    }


def test_the_evaluation_before_the_first_step_is_drawn_at_step_0() -> None:
    found = curves(loss_figure(reports(10), Loss(7.0, 8.0)).figure)
    assert found["evaluation, response"][0] == [0, 10]
    assert found["evaluation, response"][1][0] == 7.0
    assert found["evaluation, whole sequence"][1][0] == 8.0


def test_the_legend_names_only_what_is_drawn() -> None:
    empty = loss_figure([]).figure
    assert curves(empty) == {}
    assert empty.legends == []
    assert set(curves(loss_figure([report(1)]).figure)) == {"train, response", "train, whole sequence"}


def test_the_curves_differ_without_their_colours() -> None:
    (axes,) = loss_figure(reports(20)).figure.axes
    evaluated = [line for line in axes.lines if str(line.get_label()).startswith("evaluation")]
    assert len({(line.get_linestyle(), line.get_marker()) for line in evaluated}) == 2
    assert len({line.get_linewidth() for line in axes.lines}) == 2  # train is thin, evaluation bold


def test_all_text_in_the_loss_figure_is_ascii() -> None:
    figure = loss_figure(reports(20)).figure
    figure.canvas.draw()  # it makes the tick labels
    texts = {text.get_text() for text in figure.findobj(Text)}
    assert {"step", "loss, nats per token", "train, response"} <= texts
    assert all(text.replace("\N{MINUS SIGN}", "-").isascii() for text in texts)


def test_a_long_run_is_drawn_as_means_of_neighbours() -> None:
    run = reports(1000)
    steps, losses = thinned(run)
    assert len(steps) == len(losses) == 250
    assert steps[0] == 2.5
    assert losses[0].response == pytest.approx(sum(one.loss.response for one in run[:4]) / 4)
    assert losses[-1].whole == pytest.approx(sum(one.loss.whole for one in run[-4:]) / 4)
    assert thinned(run[:250])[1] == [one.loss for one in run[:250]]
    assert thinned([]) == ([], [])


@pytest.mark.parametrize("steps", [40, 5000])
def test_the_loss_figure_is_a_small_png(steps: int) -> None:
    data = as_png(loss_figure(reports(steps), Loss(5.5, 6.0)))
    assert len(data) < 60_000
    picture = PIL.Image.open(io.BytesIO(data))
    assert picture.format == "PNG"
    assert picture.width >= 700
    assert len(picture.getcolors() or []) <= 64


def test_no_figure_stays_open() -> None:
    as_png(loss_figure(reports(5)))
    assert plt.get_fignums() == []


# --- evaluations compared -------------------------------------------------------------------------

COLUMNS = {
    "base": Evaluation({"ended": Estimate(0.0, (0.0, 0.0)), "rhymes": Estimate(0.45, (0.38, 0.52))}, 200),
    "fine-tuned": Evaluation({"ended": Estimate(1.0, (0.98, 1.0)), "rhymes": Estimate(0.6, (0.53, 0.66))}, 200),
    "real poems": Evaluation({"rhymes": Estimate(0.75)}, 200),
}


def segments(axes: Axes) -> list[list[list[float]]]:
    """The start and the end, each (x, y), of every straight line that is not a curve."""
    collections = [one for one in axes.collections if isinstance(one, LineCollection)]
    assert len(collections) == len(axes.collections)
    return [segment.round(6).tolist() for one in collections for segment in np.asarray(one.get_segments())]


def test_each_share_is_a_dot_at_its_value_in_the_row_of_its_metric() -> None:
    figure = comparison_figure(COLUMNS, ("ended", "rhymes")).figure
    (axes,) = figure.axes
    dots = {
        name: [(round(x, 6), round(y)) for x, y in zip(*line, strict=True)] for name, line in curves(figure).items()
    }
    assert dots == {"base": [(0, 0), (45, 1)], "fine-tuned": [(100, 0), (60, 1)], "real poems": [(75, 1)]}
    assert [label.get_text() for label in axes.get_yticklabels()] == ["  ends by itself", "  rhymes"]
    low, high = axes.get_ylim()
    assert low > high  # the first metric is on top, as in the table


def test_each_interval_is_a_line_through_its_dot() -> None:
    (axes,) = comparison_figure(COLUMNS, ("rhymes",)).figure.axes
    lines = segments(axes)
    assert [(start[0], end[0]) for start, end in lines] == [(38, 52), (53, 66), (75, 75)]
    assert all(start[1] == end[1] for start, end in lines)
    assert len({start[1] for start, _ in lines}) == 3  # no line hides another


def test_chance_is_drawn_where_titles_are_compared_and_nowhere_else() -> None:
    def chances(names: tuple[str, ...]) -> list[float]:
        (axes,) = comparison_figure({"a": Evaluation({}, 1)}, names).figure.axes
        return [start[0] for start, _ in segments(axes)]

    assert chances(("rhymes", "own_title_wins")) == [6.25]
    assert chances(("rhymes",)) == []


def test_the_legend_names_the_dotted_line_where_there_is_one() -> None:
    def named(names: tuple[str, ...]) -> list[str]:
        (legend,) = comparison_figure({"a": Evaluation(dict.fromkeys(names, Estimate(0.5)), 1)}, names).figure.legends
        return [text.get_text() for text in legend.get_texts()]

    assert named(("rhymes", "own_title_wins")) == ["a", "chance"]
    assert named(("rhymes",)) == ["a"]


@pytest.mark.parametrize("count", range(1, len(STYLES) + 1))
def test_the_dots_of_a_row_stay_in_its_middle_and_every_second_row_is_shaded(count: int) -> None:
    names = ("ended", "rhymes", "regulated", "strange")
    columns = {str(i): Evaluation(dict.fromkeys(names, Estimate(0.5, (0.4, 0.6))), 1) for i in range(count)}
    (axes,) = comparison_figure(columns, names).figure.axes
    places = [start[1] for start, _ in segments(axes)]
    assert len({*places}) == 4 * count
    assert max(abs(place - round(place)) for place in places) <= 0.3
    shaded = [patch.get_extents().transformed(axes.transData.inverted()) for patch in axes.patches]
    assert [sorted((round(box.y0, 6), round(box.y1, 6))) for box in shaded] == [[0.5, 1.5], [2.5, 3.5]]


def test_evaluations_differ_by_more_than_colour() -> None:
    (axes,) = comparison_figure(COLUMNS).figure.axes
    assert len({line.get_marker() for line in axes.lines}) == len(COLUMNS)
    assert len({line.get_color() for line in axes.lines}) == len(COLUMNS)
    assert len({colour for colour, _ in STYLES}) == len({mark for _, mark in STYLES}) == len(STYLES)


def test_labels_are_in_characters_that_every_font_has() -> None:
    (axes,) = comparison_figure(COLUMNS).figure.axes
    texts = [label.get_text() for label in axes.get_yticklabels()] + [axes.get_xlabel()]
    assert all(text.isascii() for text in texts)
    assert all(METRICS[name].unit == "%" for name in SHARES)


def test_the_picture_is_a_png_of_the_width_of_a_page() -> None:
    picture = PIL.Image.open(io.BytesIO(as_png(comparison_figure(COLUMNS))))
    assert (picture.format, picture.width) == ("PNG", 720)


@pytest.mark.parametrize(
    ("columns", "names", "message"),
    [
        ({}, SHARES, "0 evaluations: one figure shows 1 to 5"),
        ({str(i): Evaluation({}, 1) for i in range(6)}, SHARES, "6 evaluations"),
        (COLUMNS, ("rhymes", "response_loss", "beauty"), "no share is named response_loss, beauty. Choose from ended"),
    ],
)
def test_what_cannot_be_drawn_is_refused(columns: dict[str, Evaluation], names: tuple[str, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        comparison_figure(columns, names)


# --- pairs ----------------------------------------------------------------------------------------

PAIR_ROWS = [
    (0, PairFigures(0.0, 0.0, 0.0, 0.0, 0.0)),
    (4, PairFigures(0.75, 3.5, 1.5, -2.0, 0.125)),
    (8, PairFigures(0.875, 5.0, -0.5, -5.5, 0.25)),
]


def test_margin_and_gains_accuracy_and_distance_are_each_at_their_values() -> None:
    found = {}
    for axes in preference_figure(PAIR_ROWS).figure.axes:
        for line in axes.lines:
            if not str(line.get_label()).startswith("_"):  # the line at 0 has no name
                found[str(line.get_label())] = (axes.get_ylabel(), *np.asarray(line.get_data()).tolist())
    assert found == {
        "gain of the chosen answers": ("nats", [0, 4, 8], [0.0, 1.5, -0.5]),
        "gain of the rejected answers": ("nats", [0, 4, 8], [0.0, -2.0, -5.5]),
        "margin": ("nats", [0, 4, 8], [0.0, 3.5, 5.0]),
        "accuracy": ("accuracy, %", [0, 4, 8], [0.0, 75.0, 87.5]),
        "distance": ("distance,\nnats per token", [0, 4, 8], [0.0, 0.125, 0.25]),
    }


def test_the_accuracy_of_a_coin_is_a_dotted_line() -> None:
    dotted = {
        axes.get_ylabel(): [
            float(np.asarray(line.get_ydata())[0]) for line in axes.lines if line.get_linestyle() == ":"
        ]
        for axes in preference_figure(PAIR_ROWS).figure.axes[1:]
    }
    assert dotted == {"accuracy, %": [50], "distance,\nnats per token": []}


def test_the_legend_names_the_three_curves_that_share_their_axes() -> None:
    figure = preference_figure(PAIR_ROWS).figure
    (legend,) = figure.legends
    names = ["gain of the chosen answers", "gain of the rejected answers", "margin"]
    assert [text.get_text() for text in legend.get_texts()] == names
    curves_of = [line for line in figure.axes[0].lines if line.get_label() in names]
    assert len({(line.get_linestyle(), line.get_marker()) for line in curves_of}) == 3  # also without colours


@pytest.mark.parametrize("count", [0, 1, 3])
def test_the_figure_of_pairs_is_a_small_png_from_its_first_row_on(count: int) -> None:
    data = as_png(preference_figure(PAIR_ROWS[:count]))
    assert len(data) < 60_000
    assert PIL.Image.open(io.BytesIO(data)).width >= 700
