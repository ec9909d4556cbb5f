"""The metrics of a checkpoint, how sure we are of each, and tables of them.

Most metrics are means over poems, with a 95 % interval from the bootstrap (Efron 1979): the range in which the metric
would probably lie for another sample of titles. If the intervals of two checkpoints overlap widely, both may be
equally good.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple
from unicodedata import east_asian_width

import numpy as np
from numpy.typing import ArrayLike

from course_lib.language import say


class Estimate(NamedTuple):
    """A share or a mean, with its 95 % interval; the interval is None if the bootstrap does not apply."""

    value: float
    interval: tuple[float, float] | None = None


def bootstrap_mean(numerators: ArrayLike, denominators: ArrayLike | None = None) -> Estimate | None:
    """The mean of (N,) numbers, or the ratio of two sums over N texts, with its percentile-bootstrap interval.

    The bootstrap draws N texts with replacement, 2,000 times, and computes the mean of each sample. Returns None if
    there are no numbers, or if all denominators are 0.
    """
    above = np.asarray(numerators, dtype=np.float64)
    below = np.ones_like(above) if denominators is None else np.asarray(denominators, dtype=np.float64)
    if not below.sum():
        return None
    times_drawn = np.random.default_rng(0).multinomial(len(above), np.full(len(above), 1 / len(above)), 2000)
    with np.errstate(invalid="ignore"):  # a sample may have no line of verse at all: 0 / 0
        means = (times_drawn @ above) / (times_drawn @ below)
    low, high = np.nanpercentile(means, (2.5, 97.5))
    return Estimate(float(above.sum() / below.sum()), (float(low), float(high)))


def without_none(estimates: Mapping[str, Estimate | None]) -> dict[str, Estimate]:
    """The estimates that are not None."""
    return {name: estimate for name, estimate in estimates.items() if estimate}


class Metric(NamedTuple):
    """The label of a metric in a table, its unit, and the question that it helps to answer."""

    label: str
    unit: str
    question: str


METRICS = {
    "ended": Metric("ends by itself", "%", "Follows"),
    "well_formed": Metric("well formed", "%", "Follows"),
    "repeats_a_line": Metric("repeats a line", "%", "Follows"),
    "strange": Metric("has a character of no Tang training poem", "%", "Follows"),
    "obeys": Metric("obeys the instruction", "%", "Follows"),
    "rhymes": Metric("rhymes", "%", "Sounds"),
    "rhymes_in_form": Metric("… of those with 4 or 8 lines", "%", "Sounds"),
    "alternating": Metric("lines alternate", "%", "Sounds"),
    "alternating_in_form": Metric("… of those with 4 or 8 lines", "%", "Sounds"),
    "regulated": Metric("tones without fault", "%", "Sounds"),
    "own_title_gain": Metric("own title, lead", "nats/char.", "Listens"),
    "own_title_wins": Metric("own title wins, of 16", "%", "Listens"),
    "longest_run": Metric("longest shared run", "characters", "Own work"),
    "copies_a_line": Metric("copies a line", "%", "Own work"),
    "distinct_2": Metric("distinct bigrams", "%", "Own work"),
    "response_loss": Metric("response", "nats/char.", "Loss"),
    "whole_loss": Metric("whole sequence", "nats/char.", "Loss"),
    "plain_text_loss": Metric("plain text", "nats/char.", "Loss"),
}


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Estimates by their names in `METRICS`, of `titles` texts; the losses are those on `poems` poems.

    A metric that does not apply is missing.
    """

    estimates: Mapping[str, Estimate]
    titles: int
    poems: int = 0

    def __getitem__(self, name: str) -> float:
        return self.estimates[name].value

    def as_dict(self) -> dict[str, Any]:
        """All metrics by name, to four digits, and their intervals; None for a missing metric."""
        estimates = {name: self.estimates.get(name) for name in METRICS}
        values = {name: round(estimate.value, 4) if estimate else None for name, estimate in estimates.items()}
        intervals = {n: [round(x, 4) for x in e.interval] for n, e in estimates.items() if e and e.interval}
        return {"titles": self.titles, "poems": self.poems, **values, "intervals": intervals}

    def table(self) -> str:
        """The metrics as text, one a line."""
        return text_table({"": self})


def text_table(columns: Mapping[str, Evaluation]) -> str:
    """Several evaluations as one table of text, a column for each; see `table_rows`."""
    return aligned([["", "", *columns], *table_rows(columns)])


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """The rows of a table as text, each column as wide as its longest cell; empty rows are left out."""
    widths = [max(map(places, column)) for column in zip(*rows, strict=True)]
    cells = ([text + " " * (width - places(text)) for text, width in zip(row, widths, strict=True)] for row in rows)
    lines = ["  ".join(row).rstrip() for row in cells]
    return "\n".join(line for line in lines if line)


def places(text: str) -> int:
    """How many places a text takes in a row of a terminal: a Chinese character takes two."""
    return sum(1 + (east_asian_width(character) in "WF") for character in text)


def table_rows(columns: Mapping[str, Evaluation], only: str | None = None) -> list[list[str]]:
    """A row for each metric: its question ("" if the row above has the same), its label, a cell for each evaluation.

    Metrics that no evaluation has are left out. `only` keeps the metrics of one question.
    """
    rows: list[list[str]] = []
    question_above = ""
    for name, (label, unit, question) in METRICS.items():
        cells = [cell(evaluation.estimates.get(name), unit) for evaluation in columns.values()]
        if any(cells) and only in (None, question):
            heading = "" if question == question_above else say(question)
            rows.append([heading, f"{say(label)} ({say(unit)})", *cells])
            question_above = question
    return rows


def cell(estimate: Estimate | None, unit: str) -> str:
    """An estimate as a table shows it: "98.5 [96, 99.5]"; "" for None."""
    if estimate is None:
        return ""
    factor, digits = {"%": (100, 1), "characters": (1, 2)}.get(unit, (1, 3))
    shown = [f"{factor * x:.{digits}f}".removesuffix(".0") for x in (estimate.value, *(estimate.interval or ()))]
    return f"{shown[0]} [{', '.join(shown[1:])}]" if estimate.interval else shown[0]
