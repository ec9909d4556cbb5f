"""The exercises of notebook 06: does it rhyme, is it copied, and how sure are we?"""

from __future__ import annotations

import random
from typing import Any

from course_lib.checks.verdict import call, exercise

GROUPS = {
    "生": {"庚"},
    "聲": {"庚"},
    "明": {"庚"},
    "光": {"陽"},
    "花": {"麻"},
    "涯": {"麻", "佳", "支"},
    "家": {"麻"},
    "柴": {"佳"},
    "雪": set[str](),  # it is in no level-tone group
    "月": set[str](),
}


@exercise
def rhyming(function: Any) -> str | None:
    """one group must hold them all, and a word that comes back is not a rhyme but an echo."""
    cases = [
        ("聲明", True, "聲 and 明 are both in 庚, and that is a rhyme"),
        ("花涯家", True, "涯 has several groups, as some characters do; one that it shares with all others is enough"),
        ("聲光", False, "聲 is in 庚 and 光 in 陽: no group holds both"),
        ("聲明光", False, "look at every word, not only at the first two"),
        ("花涯柴", False, "each word shares a group with the one before it, but is there one that holds all three?"),
        ("聲明聲", False, "聲 comes twice, and a word does not rhyme with itself"),
        ("雪月", False, "neither word is in a level-tone group: having none in common is no rhyme"),
        ("聲", False, "a single word has nothing to rhyme with"),
    ]
    wrong = (f"{words}: {hint}" for words, right, hint in cases if _answer(function, words) is not right)
    return next(wrong, None)


def _answer(function: Any, words: str) -> bool:
    return bool(call(function, list(words), {word: set(groups) for word, groups in GROUPS.items()}))


@exercise
def longest_run(function: Any) -> str | None:
    """characters in a row, wherever they begin: words that only occur in both are the language, not a copy."""
    cases = [
        ("春夜", "春夜", 2, "the two are the same, so all of it is shared"),
        ("春夜喜雨", "江夜喜山", 2, "夜喜 stands in both"),
        ("喜雨春", "江上喜雨", 2, "a run may begin at another place in the other text"),
        ("好雨知時節", "雨好時知節", 1, "the same characters in another order are no run"),
        ("明月松間照", "明山月水松", 1, "a run has no gaps: in the second text 明, 月 and 松 are apart"),
        ("夜雨夜雨聲", "聞夜雨聲", 3, "a run that breaks off early may go on when it begins later"),
        ("山水", "花月", 0, "nothing is shared"),
    ]
    for text, other, expected, hint in cases:
        found = call(function, text, other)
        if found != expected or isinstance(found, bool):
            return f"{text} and {other} share {expected} in a row, you say {found}: {hint}"
    return None


@exercise
def interval(function: Any) -> str | None:
    """95 of 100 means lie between the two: what other titles would most likely have shown."""
    for means in ([float(i) for i in range(2000)], [(i / 100) ** 3 for i in range(2000)]):
        drawn = means.copy()
        random.Random(0).shuffle(drawn)
        low, high = (float(end) for end in call(function, drawn))
        below, above = sum(mean < low for mean in means) / 2000, sum(mean > high for mean in means) / 2000
        told = f"{below:.1%} of the means lie below {low:g}, and {above:.1%} above {high:g}"
        if low > high:
            return f"the low end comes first; yours are {low:g} and {high:g}"
        if (low, high) == (means[0], means[-1]):
            return "these are the least and the largest of all means, so nothing at all lies outside"
        if abs(below - 0.05) < 0.003 and abs(above - 0.05) < 0.003:
            return f"{told}: that leaves 10 % outside, 5 % at each end"
        if abs(below - 0.025) > 0.003 or abs(above - 0.025) > 0.003:
            return f"{told}; of 95 % in the middle, how much is left over at each end? Did you sort them?"
    return None
