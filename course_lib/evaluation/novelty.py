"""Is the poem the model's own? `PoemIndex` finds what a text shares with the poems that the model learned from.

A *shared span* is three or more Chinese characters in a row that stand in both texts. Punctuation and line ends do
not count.
"""

from collections.abc import Iterable, Sequence
from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from course_lib.poems import Poem, load_poems
from course_lib.prosody import han, split_lines

SHORTEST = 3  # characters of a span; three fit into one 64-bit number
BITS = 21  # for each character: no Unicode code point needs more
LINE = 5  # a shorter line, such as 君不見, is a common phrase and not a copy


class SharedSpan(NamedTuple):
    """Characters that two texts share, and where they start in each. Only Chinese characters are counted."""

    characters: str
    start: int
    start_in_poem: int


class Nearest(NamedTuple):
    """The poem nearest to a text, None if no poem shares a span with it, and the spans in the order of the text."""

    poem: Poem | None
    spans: tuple[SharedSpan, ...]

    @property
    def longest(self) -> int:
        """The number of characters in the longest span; 0 if there is none."""
        return max((len(span.characters) for span in self.spans), default=0)


class PoemIndex:
    """Finds the lines and spans that a text shares with `poems`.

    The index holds every three characters in a row as a number. The numbers are sorted, so bisection finds all their
    places: a suffix array cut off at three (Manber and Myers 1990). Indexing 54,000 poems takes about a second.
    """

    def __init__(self, poems: Sequence[Poem]) -> None:
        self.poems = poems
        texts = [han(poem.text) for poem in poems]
        self._starts = np.cumsum([0] + [len(text) + 1 for text in texts])
        self._characters = set().union(*texts)
        self._lines = {line for poem in poems for line in poem.lines if len(line) >= LINE}
        keys = trigram_keys("\0".join(texts))  # no text contains \0, so no span crosses from one poem to the next
        self._places = np.argsort(keys, kind="stable")
        self._keys = keys[self._places]

    def strange(self, text: str) -> set[str]:
        """The Chinese characters of `text` that no poem in the index has: rare ones, or variants such as 烟."""
        return set(han(text)) - self._characters

    def copied(self, text: str) -> list[str]:
        """The lines of `text`, of five characters or more, that are also a line of a poem in the index."""
        return [line for line in split_lines(text) if line in self._lines]

    def nearest(self, text: str) -> Nearest:
        """The poem that shares the longest span; of several, the one that shares most characters, then the first."""
        characters = han(text)
        keys = trigram_keys(characters)
        low = np.searchsorted(self._keys, keys)
        high = np.searchsorted(self._keys, keys, side="right")
        starts = np.repeat(np.arange(len(keys)), high - low)
        if not len(starts):
            return Nearest(None, ())
        places = np.concatenate([self._places[a:b] for a, b in zip(low, high, strict=True)])
        # Three characters that begin one place later in the text and in the poem prolong a span. Sort them together.
        order = np.lexsort((starts, places - starts))
        starts, places = starts[order], places[order]
        first = np.flatnonzero((np.diff(starts, prepend=-2) != 1) | (np.diff(places, prepend=-2) != 1))
        starts, places, lengths = starts[first], places[first], np.diff(first, append=len(starts)) + SHORTEST - 1
        owners = np.searchsorted(self._starts, places, side="right") - 1
        candidates = set(owners[lengths == lengths.max()].tolist())
        best = min(candidates, key=lambda poem: (-lengths[owners == poem].sum(), poem))
        own = np.stack((starts, places - self._starts[best], lengths), axis=1)[owners == best]
        spans = (SharedSpan(characters[start : start + n], start, place) for start, place, n in sorted(own.tolist()))
        return Nearest(self.poems[best], tuple(spans))


def trigram_keys(text: str) -> NDArray[np.int64]:
    """Every three characters in a row as one number: (len(text) - 2,), empty for a shorter text."""
    codes = np.frombuffer(text.encode("utf-32-le"), dtype=np.uint32).astype(np.int64)
    if len(codes) < SHORTEST:
        return np.empty(0, np.int64)
    windows = np.lib.stride_tricks.sliding_window_view(codes, SHORTEST)
    return windows @ (1 << (BITS * np.arange(SHORTEST)))


@cache
def training_index() -> PoemIndex:
    """The index of the Tang training poems. The poems are in the repository, so every machine finds the same spans."""
    return PoemIndex(load_poems("train"))


def distinct_2(texts: Iterable[str]) -> float:
    """The share of different pairs among all pairs of neighbours in a line (distinct-2, Li et al. 2016); 0 if none.

    The share falls as texts get longer, so compare texts of similar length.
    """
    pairs = [line[i : i + 2] for text in texts for line in split_lines(text) for i in range(len(line) - 1)]
    return len(set(pairs)) / max(len(pairs), 1)
