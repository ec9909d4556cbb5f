"""The exercises of notebook 06: does it rhyme, is it copied, and how sure are we?"""

import random
from collections.abc import Iterator
from typing import Any

from course_lib.checks.verdict import call, exercise

# Each word with its level-tone groups; each group is one character. 雪 and 月 are in none.
GROUPS = {"聲": "庚", "明": "庚", "光": "陽", "花": "麻", "涯": "麻佳支", "家": "麻", "柴": "佳", "雪": "", "月": ""}


@exercise("one group must hold all words, and a word does not rhyme with itself.")
def rhyming(function: Any) -> Iterator[str]:
    """Whether words rhyme, given the rhyme groups of each."""
    cases = [
        ("聲明", True, "聲 and 明 are both in 庚, so they rhyme"),
        ("花涯家", True, "涯 has several groups; one that it shares with all others is enough"),
        ("聲光", False, "聲 is in 庚 and 光 in 陽: no group holds both"),
        ("聲明光", False, "look at every word, not only at the first two"),
        ("花涯柴", False, "each word shares a group with the one before it, but does one group hold all three?"),
        ("聲明聲", False, "聲 comes twice, and a word does not rhyme with itself"),
        ("雪月", False, "neither word is in a level-tone group, so they share none and do not rhyme"),
        ("聲", False, "a single word has nothing to rhyme with"),
    ]
    for words, expected, hint in cases:
        groups = {word: set(own) for word, own in GROUPS.items()}
        if bool(call(function, list(words), groups)) is not expected:
            yield f"{words}: {hint}"


@exercise("only characters in a row count. Two texts may use the same characters without copying.")
def longest_run(function: Any) -> Iterator[str]:
    """The number of characters in a row that two texts share."""
    cases = [
        ("春夜", "春夜", 2, "the two are the same, so all of it is shared"),
        ("春夜喜雨", "江夜喜山", 2, "夜喜 stands in both"),
        ("喜雨春", "江上喜雨", 2, "a run may begin at another place in the other text"),
        ("好雨知時節", "雨好時知節", 1, "the same characters in another order are not a run"),
        ("明月松間照", "明山月水松", 1, "a run has no gaps: in the second text 明, 月 and 松 are apart"),
        ("夜雨夜雨聲", "聞夜雨聲", 3, "夜雨 at the first place does not go on, but 夜雨聲 at a later place does"),
        ("山水", "花月", 0, "nothing is shared"),
    ]
    for text, other, expected, hint in cases:
        found = call(function, text, other)
        if found != expected or isinstance(found, bool):
            yield f"{text} and {other} share {expected} in a row, you returned {found}: {hint}"


@exercise("95 of 100 means lie between the two. Other titles would most likely give a mean in this range.")
def interval(function: Any) -> Iterator[str]:
    """The low and the high end of the middle 95 % of some means."""
    for means in ([float(i) for i in range(2000)], [(i / 100) ** 3 for i in range(2000)]):
        shuffled = means.copy()
        random.Random(0).shuffle(shuffled)
        low, high = (float(end) for end in call(function, shuffled))
        below = sum(mean < low for mean in means) / len(means)
        above = sum(mean > high for mean in means) / len(means)
        outside = f"{below:.1%} of the means lie below {low:g}, and {above:.1%} above {high:g}"
        if low > high:
            yield f"the low end comes first; yours are {low:g} and {high:g}"
        if (low, high) == (means[0], means[-1]):
            yield "these are the smallest and the largest mean, so no mean lies outside"
        if abs(below - 0.05) < 0.003 and abs(above - 0.05) < 0.003:
            yield f"{outside}; that leaves 10 % outside, 5 % at each end"
        if abs(below - 0.025) > 0.003 or abs(above - 0.025) > 0.003:
            yield f"{outside}; with 95 % in the middle, how much is left at each end? Did you sort the means?"
