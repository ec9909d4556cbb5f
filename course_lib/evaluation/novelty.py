"""Is it the model's own? What a text has in common with the poems the model learned from.

    Library(load_poems("train")).nearest(text)  →  the poem that shares the longest run of characters, and the runs

A *run* is a row of three Chinese characters or more that stands in both, line ends and punctuation not counted.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from course_lib.poems import Poem, han, load_poems, split_lines

SHORTEST = 3  # characters of a run; three fit into one 64-bit number
BITS = 21  # for each of them: Unicode has no more
LINE = 5  # shorter lines (君不見) are anybody's

Integers = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Run:
    """Characters that two texts share, and where they begin in each, counted in Chinese characters alone."""

    characters: str
    start: int
    start_in_poem: int


@dataclass(frozen=True, slots=True)
class Nearest:
    """The poem nearest to a text, None if it shares no run with any, and the runs in the order of the text."""

    poem: Poem | None
    runs: tuple[Run, ...]

    @property
    def longest(self) -> int:
        """The characters of the longest run; 0 without any."""
        return max((len(run.characters) for run in self.runs), default=0)


class Library:
    """Poems that can be searched for runs and lines: an index of every three characters in a row.

    The index is one array of numbers, sorted, so that all places of three given characters are found by bisection
    (a suffix array cut off at three; Manber and Myers 1990). 54,000 poems take about a second.
    """

    def __init__(self, poems: Sequence[Poem]) -> None:
        self.poems = poems
        texts = [han(poem.text) for poem in poems]
        self.text = "\0".join(texts)
        self.starts = np.cumsum([0] + [len(text) + 1 for text in texts])
        self.lines = {line for poem in poems for line in poem.lines if len(line) >= LINE}
        keys = keys_of(self.text)
        self.order = np.argsort(keys, kind="stable")
        self.keys = keys[self.order]

    def copied(self, text: str) -> list[str]:
        """The lines of `text`, of five characters or more, that are lines of a poem here."""
        return [line for line in split_lines(text) if line in self.lines]

    def nearest(self, text: str) -> Nearest:
        """The poem with the longest run in common; of several, the one that shares most, then the first."""
        written = han(text)
        here, there = self._places(keys_of(written))
        if not len(here):
            return Nearest(None, ())
        # Places that go on, in the text and in a poem alike, lie on one diagonal, each one further than the last.
        order = np.lexsort((here, there - here))
        here, there = here[order], there[order]
        breaks = np.flatnonzero((np.diff(here) != 1) | (np.diff(there) != 1)) + 1
        first, last = np.concatenate(([0], breaks)), np.concatenate((breaks, [len(here)])) - 1
        start, found, length = here[first], there[first], here[last] - here[first] + SHORTEST
        owner = np.searchsorted(self.starts, found, side="right") - 1
        best = min(set(owner[length == length.max()].tolist()), key=lambda i: (-length[owner == i].sum(), i))
        runs = [
            Run(written[s : s + n], s, f - int(self.starts[best]))
            for s, f, n in zip(start.tolist(), found.tolist(), length.tolist(), strict=True)
            if self.starts[best] <= f < self.starts[best + 1]
        ]
        return Nearest(self.poems[best], tuple(sorted(runs, key=lambda run: (run.start, run.start_in_poem))))

    def _places(self, keys: Integers) -> tuple[Integers, Integers]:
        """Where three characters of the text stand in the library: pairs of places, as two arrays."""
        low, high = np.searchsorted(self.keys, keys), np.searchsorted(self.keys, keys, side="right")
        here = np.repeat(np.arange(len(keys)), high - low)
        there = [self.order[a:b] for a, b in zip(low, high, strict=True)]
        return here, np.concatenate(there) if there else np.empty(0, np.int64)


def keys_of(text: str) -> Integers:
    """Every three characters in a row as one number."""
    codes = np.frombuffer(text.encode("utf-32-le"), dtype=np.uint32).astype(np.int64)
    if len(codes) < SHORTEST:
        return np.empty(0, np.int64)
    windows = np.lib.stride_tricks.sliding_window_view(codes, SHORTEST)
    return windows @ (1 << (BITS * np.arange(SHORTEST)))


@cache
def training_library() -> Library:
    """The Tang training poems, which lie in the repository: so that every machine finds the same."""
    return Library(load_poems("train"))


def distinct_2(texts: Iterable[str]) -> float:
    """distinct-2 (Li et al. 2016): different pairs of neighbouring characters, of all pairs; 0 without any.

    Pairs are counted within lines. More text has a lower share, so compare texts of about equal length.
    """
    pairs = [line[i : i + 2] for text in texts for line in split_lines(text) for i in range(len(line) - 1)]
    return len(set(pairs)) / max(len(pairs), 1)
