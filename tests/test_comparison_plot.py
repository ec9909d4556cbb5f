"""The picture of several evaluations: every dot and every line where its figure is, and nothing that is not there."""

import io

import PIL.Image
import pytest

from course_lib.evaluation.metrics import MEASURES, Evaluation, Figure
from course_lib.show.live_plot import png
from course_lib.show.plots import SHARES, STYLES, comparison_figure

COLUMNS = {
    "base": Evaluation({"ended": Figure(0.0, (0.0, 0.0)), "rhymes": Figure(0.45, (0.38, 0.52))}, 200),
    "fine-tuned": Evaluation({"ended": Figure(1.0, (0.98, 1.0)), "rhymes": Figure(0.6, (0.53, 0.66))}, 200),
    "real poems": Evaluation({"rhymes": Figure(0.75)}, 200),
}


def test_each_share_is_a_dot_at_its_value_in_the_row_of_its_measure():
    (axes,) = comparison_figure(COLUMNS, ("ended", "rhymes")).axes
    dots = {
        line.get_label(): [(round(x, 6), round(y)) for x, y in zip(line.get_xdata(), line.get_ydata(), strict=True)]
        for line in axes.lines
    }
    assert dots == {"base": [(0, 0), (45, 1)], "fine-tuned": [(100, 0), (60, 1)], "real poems": [(75, 1)]}
    assert [label.get_text() for label in axes.get_yticklabels()] == ["ends by itself", "rhymes"]
    low, high = axes.get_ylim()
    assert low > high  # the first measure is on top, as in the table


def test_each_interval_is_a_line_through_its_dot():
    (axes,) = comparison_figure(COLUMNS, ("rhymes",)).axes
    drawn = [tuple(round(x, 6) for x in line.get_segments()[0][:, 0]) for line in axes.collections]
    assert drawn == [(38, 52), (53, 66), (75, 75)]
    heights = {round(line.get_segments()[0][0, 1], 6) for line in axes.collections}
    assert len(heights) == 3  # none hides another


def test_chance_is_drawn_where_titles_are_compared_and_nowhere_else():
    def chances(names: tuple[str, ...]) -> list[float]:
        (axes,) = comparison_figure({"a": Evaluation({}, 1)}, names).axes
        return [round(float(line.get_segments()[0][0, 0]), 6) for line in axes.collections]

    assert chances(("rhymes", "own_title_wins")) == [6.25]
    assert chances(("rhymes",)) == []


def test_evaluations_differ_by_more_than_colour():
    (axes,) = comparison_figure(COLUMNS).axes
    assert len({line.get_marker() for line in axes.lines}) == len(COLUMNS)
    assert len({line.get_color() for line in axes.lines}) == len(COLUMNS)
    assert len({colour for colour, _ in STYLES}) == len({mark for _, mark in STYLES}) == len(STYLES)


def test_labels_are_in_characters_that_every_font_has():
    (axes,) = comparison_figure(COLUMNS).axes
    texts = [label.get_text() for label in axes.get_yticklabels()] + [axes.get_xlabel()]
    assert all(text.isascii() for text in texts)
    assert all(MEASURES[name].unit == "%" for name in SHARES)


def test_the_picture_is_a_png_of_the_width_of_a_page():
    picture = PIL.Image.open(io.BytesIO(png(comparison_figure(COLUMNS))))
    assert (picture.format, picture.width) == ("PNG", 720)


@pytest.mark.parametrize(
    ("columns", "names", "says"),
    [
        ({}, SHARES, "0 evaluations; 1 to 5"),
        ({str(i): Evaluation({}, 1) for i in range(6)}, SHARES, "6 evaluations"),
        (COLUMNS, ("rhymes", "response_loss", "beauty"), "no share named response_loss, beauty: choose from ended"),
    ],
)
def test_what_cannot_be_drawn(columns, names, says):
    with pytest.raises(ValueError, match=says):
        comparison_figure(columns, names)
