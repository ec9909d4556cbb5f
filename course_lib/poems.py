"""The poems on disk, and the three splits of them.

    assets/poems/tang-train.jsonl.xz        what every model may read
    assets/poems/tang-validation.jsonl.xz   1,000 poems that choose between models
    assets/poems/tang-test.jsonl.xz         1,000 poems that judge the chosen one

How they were cleaned and split is told in `assets/poems/README.md` and done by `course_lib.corpus`.
"""

from __future__ import annotations

import json
import lzma
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Split = Literal["train", "validation", "test"]
Dynasty = Literal["tang", "song"]

PACKAGE = Path(__file__).resolve().parent
# A package that was installed carries its assets within; in a clone they lie beside it.
HOME = PACKAGE if (PACKAGE / "assets").is_dir() else PACKAGE.parent
ASSETS = Path(os.environ.get("COURSE_LIB_ASSETS") or HOME / "assets")
DEMO_TITLE = "春夜喜雨"

ROW_END = re.compile(r"(?<=[。？！；])")
LINE_END = re.compile(r"[，。？！；：]")
HAN = r"\u3400-\u9fff\U00020000-\U0003ffff"
NOT_HAN = re.compile(rf"[^{HAN}]")
COUPLETS = {n: re.compile(rf"(?:[{HAN}]{{{n}}}，[{HAN}]{{{n}}}。\n?)+") for n in (5, 7)}


@dataclass(frozen=True, slots=True)
class Poem:
    """One poem.

    `couplets` are the rows a reader sees, punctuation included: `("好雨知時節，當春乃發生。", …)`.
    `number` is its place in a series ("二"), kept apart from the title, or "".
    """

    title: str
    author: str
    couplets: tuple[str, ...]
    number: str = ""
    dynasty: Dynasty = "tang"

    @property
    def text(self) -> str:
        """The poem without its title, one couplet a row, no newline at the end."""
        return "\n".join(self.couplets)

    @property
    def lines(self) -> tuple[str, ...]:
        """The lines (句) without punctuation: 好雨知時節 / 當春乃發生 / …"""
        return split_lines(self.text)


def split_lines(text: str) -> tuple[str, ...]:
    """The lines (句) of a poem's text, punctuation and newlines dropped."""
    return tuple(line for part in LINE_END.split(text) if (line := part.strip()))


def han(text: str) -> str:
    """The Chinese characters of `text` alone: what two printings of one poem have in common."""
    return NOT_HAN.sub("", text)


def is_well_formed(text: str) -> bool:
    """Whether all lines have 5 characters, or all 7, in pairs, ，after the first and 。after the second.

    A new row may begin after a couplet, nowhere else.
    """
    return any(couplets.fullmatch(text.strip()) for couplets in COUPLETS.values())


def load_poems(split: Split, dynasty: Dynasty = "tang") -> list[Poem]:
    """All poems of one split, in the order of the source.

    Tang poems lie in the repository. Song poems, used for pretraining only, are written to the cache
    by `python -m course_lib corpus`.

    Raises:
        ValueError: the split or the dynasty has another name, or the file is damaged.
        FileNotFoundError: the file is not there; the message says how to get it.
    """
    path = poem_file(split, dynasty)
    cure = "run `python -m course_lib corpus`" if dynasty == "song" else "it belongs to the repository"
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: {cure}")
    try:
        jsonl = lzma.decompress(path.read_bytes()).decode().rstrip("\n")
        rows = json.loads("[" + jsonl.replace("\n", ",") + "]")  # one call to the parser: 50,000 are slow
    except (lzma.LZMAError, ValueError) as error:
        raise ValueError(f"{path} is damaged ({error}): {cure}") from error
    return [Poem(title, author, tuple(text.split("\n")), number, dynasty) for title, number, author, text in rows]


def save_poems(poems: Iterable[Poem], path: Path) -> None:
    """Write poems as xz-compressed JSON lines, `[title, number, author, text]` each."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with lzma.open(path, "wt", encoding="utf-8", preset=9) as file:
        for p in poems:
            print(json.dumps([p.title, p.number, p.author, p.text], ensure_ascii=False), file=file)


def poem_file(split: Split, dynasty: Dynasty = "tang") -> Path:
    """Where the poems of a split lie. Song has a training split only.

    Raises:
        ValueError: there is no such split.
    """
    if (split, dynasty) == ("train", "song"):
        return cache_folder() / "song-train.jsonl.xz"
    if dynasty == "tang" and split in ("train", "validation", "test"):
        return ASSETS / "poems" / f"tang-{split}.jsonl.xz"
    raise ValueError(
        f"no split {split!r} of {dynasty!r} poems: tang has 'train', 'validation' and 'test', song has 'train' alone"
    )


def cache_folder() -> Path:
    """Where files live that are too big for the repository; `COURSE_LIB_CACHE` moves it."""
    from platformdirs import user_cache_path

    return Path(os.environ.get("COURSE_LIB_CACHE") or user_cache_path("course_lib"))
