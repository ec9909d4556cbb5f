"""Is the poem the model's own? What a text shares with the poems that the model learned from.

    PoemIndex(load_poems("train")).nearest(text)   the poem that shares the longest span with the text, and the spans

A *shared span* is three or more Chinese characters in a row that stand in both texts. Punctuation and line ends do
not count.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from course_lib.poems import Poem, load_poems
from course_lib.prosody import han, split_lines

SHORTEST = 3  # characters of a span; three fit into one 64-bit number
BITS = 21  # for each character: no Unicode code point needs more
LINE = 5  # a shorter line, such as 君不見, is a common phrase and not a copy

Integers = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class SharedSpan:
    """Characters that two texts share, and where they start in each. Only Chinese characters are counted."""

    characters: str
    start: int
    start_in_poem: int


@dataclass(frozen=True, slots=True)
class Nearest:
    """The poem nearest to a text, and the spans they share, in the order of the text.

    The poem is None if no poem shares a span with the text.
    """

    poem: Poem | None
    spans: tuple[SharedSpan, ...]

    @property
    def longest(self) -> int:
        """The number of characters in the longest span; 0 if there is none."""
        return max((len(span.characters) for span in self.spans), default=0)


class PoemIndex:
    """Finds the lines and spans that a text shares with `poems`.

    The index holds every three characters in a row as a number, sorted, so bisection finds all their places: a suffix
    array cut off at three (Manber and Myers 1990). Indexing 54,000 poems takes about a second.
    """

    def __init__(self, poems: Sequence[Poem]) -> None:
        self.poems = poems
        texts = [han(poem.text) for poem in poems]
        self._starts = np.cumsum([0] + [len(text) + 1 for text in texts])
        self._lines = {line for poem in poems for line in poem.lines if len(line) >= LINE}
        keys = trigram_keys("\0".join(texts))  # no text contains \0, so no span crosses from one poem to the next
        self._places = np.argsort(keys, kind="stable")
        self._keys = keys[self._places]

    def copied(self, text: str) -> list[str]:
        """The lines of `text`, of five characters or more, that are also a line of a poem in the index."""
        return [line for line in split_lines(text) if line in self._lines]

    def nearest(self, text: str) -> Nearest:
        """The poem that shares the longest span; of several, the one with most shared characters, then the first."""
        characters = han(text)
        starts, places, lengths = self._shared(characters)
        if not len(starts):
            return Nearest(None, ())
        owners = np.searchsorted(self._starts, places, side="right") - 1
        candidates = set(owners[lengths == lengths.max()].tolist())
        best = min(candidates, key=lambda poem: (-lengths[owners == poem].sum(), poem))
        found = zip(starts.tolist(), places.tolist(), lengths.tolist(), owners.tolist(), strict=True)
        first = int(self._starts[best])
        spans = [SharedSpan(characters[s : s + n], s, place - first) for s, place, n, owner in found if owner == best]
        return Nearest(self.poems[best], tuple(sorted(spans, key=lambda span: (span.start, span.start_in_poem))))

    def _shared(self, characters: str) -> tuple[Integers, Integers, Integers]:
        """All shared spans, in three arrays: start in the text, start in the joined poems, length."""
        keys = trigram_keys(characters)
        low = np.searchsorted(self._keys, keys)
        high = np.searchsorted(self._keys, keys, side="right")
        starts = np.repeat(np.arange(len(keys)), high - low)
        if not len(starts):
            return starts, starts, starts
        places = np.concatenate([self._places[a:b] for a, b in zip(low, high, strict=True)])
        # Equal characters that follow each other in the text and in the poem alike form one span. Sort them together.
        order = np.lexsort((starts, places - starts))
        starts = starts[order]
        places = places[order]
        is_first = np.concatenate(([True], (np.diff(starts) != 1) | (np.diff(places) != 1)))
        is_last = np.append(is_first[1:], True)
        return starts[is_first], places[is_first], starts[is_last] - starts[is_first] + SHORTEST


def trigram_keys(text: str) -> Integers:
    """Every three characters in a row as one number: (len(text) - 2,), empty for a shorter text."""
    codes = np.frombuffer(text.encode("utf-32-le"), dtype=np.uint32).astype(np.int64)
    if len(codes) < SHORTEST:
        return np.empty(0, np.int64)
    windows = np.lib.stride_tricks.sliding_window_view(codes, SHORTEST)
    return windows @ (1 << (BITS * np.arange(SHORTEST)))


@cache
def training_index() -> PoemIndex:
    """The index of the Tang training poems. They lie in the repository, so every machine finds the same spans."""
    return PoemIndex(load_poems("train"))


def distinct_2(texts: Iterable[str]) -> float:
    """The share of different pairs among all pairs of neighbouring characters (distinct-2, Li et al. 2016).

    Pairs are counted within lines; the result is 0 if there are none. The share falls as texts get longer, so compare
    texts of similar length.
    """
    pairs = [line[i : i + 2] for text in texts for line in split_lines(text) for i in range(len(line) - 1)]
    return len(set(pairs)) / max(len(pairs), 1)
