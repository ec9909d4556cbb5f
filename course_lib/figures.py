"""A figure, and how sure we are of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

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
