"""A figure, how sure we are of it, and all figures of a checkpoint in a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

RESAMPLES = 2000


@dataclass(frozen=True, slots=True)
class Figure:
    """A share or a mean, and where it lies with 95 % confidence; None where that cannot be said."""

    value: float
    interval: tuple[float, float] | None = None


def mean_figure(
    numerators: Sequence[float], denominators: Sequence[float] | None = None, seed: int = 0
) -> Figure | None:
    """The ratio of two sums over texts, a plain mean without denominators, with its percentile-bootstrap interval.

    The texts are drawn anew, with replacement, as many as there are, 2,000 times. None if the denominators are all 0.
    """
    above = np.asarray(numerators, dtype=np.float64)
    below = np.ones_like(above) if denominators is None else np.asarray(denominators, dtype=np.float64)
    if not below.sum():
        return None
    drawn = np.random.default_rng(seed).multinomial(len(above), np.full(len(above), 1 / len(above)), RESAMPLES)
    with np.errstate(invalid="ignore"):  # a resample without a single line of verse
        ratios = (drawn @ above) / (drawn @ below)
    low, high = np.nanpercentile(ratios, (2.5, 97.5))
    return Figure(float(above.sum() / below.sum()), (float(low), float(high)))


def known(figures: Mapping[str, Figure | None]) -> dict[str, Figure]:
    """Those of the figures that there are."""
    return {name: figure for name, figure in figures.items() if figure}


# --- the figures of a checkpoint ------------------------------------------------------------------


class Measure(NamedTuple):
    """How a figure is called in a table, what it is in, and the question that it helps to answer."""

    label: str
    unit: str
    question: str


FOLLOWS, SOUNDS, LISTENS, OWN_WORK, LOSS = "Follows", "Sounds", "Listens", "Own work", "Loss"

MEASURES = {
    "ended": Measure("ends by itself", "%", FOLLOWS),
    "well_formed": Measure("well formed", "%", FOLLOWS),
    "repeats_a_line": Measure("repeats a line", "%", FOLLOWS),
    "rhymes": Measure("rhymes", "%", SOUNDS),
    "rhymes_in_form": Measure("… of those with 4 or 8 lines", "%", SOUNDS),
    "alternating": Measure("lines alternate", "%", SOUNDS),
    "alternating_in_form": Measure("… of those with 4 or 8 lines", "%", SOUNDS),
    "regulated": Measure("tones without fault", "%", SOUNDS),
    "own_title_gain": Measure("own title, gain", "nats/char.", LISTENS),
    "own_title_wins": Measure("own title wins, of 16", "%", LISTENS),
    "longest_run": Measure("longest shared run", "characters", OWN_WORK),
    "copies_a_line": Measure("copies a line", "%", OWN_WORK),
    "distinct_2": Measure("distinct pairs", "%", OWN_WORK),
    "response_loss": Measure("response", "nats/char.", LOSS),
    "whole_loss": Measure("whole sequence", "nats/char.", LOSS),
    "plain_text_loss": Measure("plain text", "nats/char.", LOSS),
}


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The figures by their names in `MEASURES`; what does not apply is not there."""

    figures: Mapping[str, Figure]
    titles: int  # texts that were judged
    poems: int = 0  # poems that the losses are means over

    def __getitem__(self, name: str) -> float:
        return self.figures[name].value

    def as_dict(self) -> dict[str, Any]:
        """The figures by name, rounded to what is worth reading, None where one does not apply; and their intervals."""
        found = {name: self.figures.get(name) for name in MEASURES}
        intervals = {n: [round(x, 4) for x in f.interval] for n, f in found.items() if f and f.interval}
        values = {name: round(figure.value, 4) if figure else None for name, figure in found.items()}
        return {"titles": self.titles, "poems": self.poems, **values, "intervals": intervals}

    def table(self) -> str:
        """The figures, one a row, for reading."""
        return side_by_side({"": self})


def side_by_side(columns: Mapping[str, Evaluation]) -> str:
    """Several evaluations as a table of text; see `table_rows`."""
    rows = [["", "", *columns], *table_rows(columns)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join(line for line in lines if line)


def table_rows(columns: Mapping[str, Evaluation], only: str | None = None) -> list[list[str]]:
    """A row for each figure: its question, where that is another than the row above's; its label; its cells.

    What applies to none of the evaluations is left out, and with `only` what belongs to other questions.
    """
    rows: list[list[str]] = []
    asked = ""
    for name, (label, unit, question) in MEASURES.items():
        cells = [cell(evaluation.figures.get(name), unit) for evaluation in columns.values()]
        if any(cells) and only in (None, question):
            rows.append(["" if question == asked else question, f"{label} ({unit})", *cells])
            asked = question
    return rows


def cell(figure: Figure | None, unit: str) -> str:
    """A figure in a table: 98.5 [96.0, 99.5]."""
    if figure is None:
        return ""
    times, digits = (100, 1) if unit == "%" else (1, 2 if unit == "characters" else 3)
    value, *interval = (f"{times * x:.{digits}f}" for x in (figure.value, *(figure.interval or ())))
    return f"{value} [{', '.join(interval)}]" if interval else value
