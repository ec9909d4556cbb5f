"""The sentences that a learner meets, in English or in Simplified Chinese.

    say("{count} characters", count=24)        "24 characters" or "24 字"

English stands in the code. The Chinese of each sentence stands in assets/chinese.json. The variable COURSE_LANG chooses
the language: "zh" and "zh_CN.UTF-8" are Chinese. If it is not set, Chinese is chosen in the folder notebooks/zh.
"""

import json
import os
from contextlib import suppress
from functools import cache
from math import isnan
from pathlib import Path
from typing import cast

from course_lib import paths


def is_chinese() -> bool:
    """Whether the reader's language is Chinese. It is asked at each call, so it can change at any time."""
    if chosen := os.environ.get("COURSE_LANG"):
        return chosen.lower().startswith("zh")
    with suppress(OSError):  # the folder was deleted
        return Path.cwd().parts[-2:] == ("notebooks", "zh")
    return False


@cache
def chinese() -> dict[str, str]:
    """The Chinese of each English sentence. It belongs to the code, so it stays where other assets are moved away."""
    return cast(dict[str, str], json.loads((paths.HOME / "assets" / "chinese.json").read_text("utf-8")))


def say(english: str, **values: object) -> str:
    """The sentence in the reader's language, with {values} filled in. One without a translation stays English."""
    return (chinese().get(english, english) if is_chinese() else english).format(**values)


def sentences(*parts: str) -> str:
    """The parts that are not empty, one after the other. Only in English is there a space between them."""
    return ("" if is_chinese() else " ").join(filter(None, parts))


def check_range(name: str, value: float, low: float, high: float = 10**9, *, positive: bool = False) -> None:
    """Raises ValueError if a setting is below `low` or above `high`, or 0 if `positive`. The message names it."""
    n = {"name": name, "value": value, "low": low, "high": high}
    if positive and value <= 0:
        raise ValueError(say("{name} is {value}, must be above 0", **n))
    if value < low:
        raise ValueError(say("{name} is {value}, must be at least {low}", **n))
    if value > high:
        raise ValueError(say("{name} is {value}, must be at most {high}", **n))
    if isnan(value):
        raise ValueError(say("{name} is {value}, must be a finite number", **n))


def printable(text: str) -> str:
    """The text with code points for control characters, which a terminal would obey; white space becomes spaces."""
    return "".join(c if c.isprintable() or c == "\n" else " " if c.isspace() else f"U+{ord(c):04X}" for c in text)
