"""The poems on disk, in three splits.

    assets/poems/tang-train.jsonl.xz        every model may learn from these
    assets/poems/tang-validation.jsonl.xz   1,000 poems, used to choose between models
    assets/poems/tang-test.jsonl.xz         1,000 poems, used to judge the chosen model
    song-train.jsonl.xz (in the cache)      Song poems, an addition to pretraining

`scripts/build_corpus.py` cleans and splits them; `assets/poems/README.md` describes how.
"""

import json
import lzma
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from course_lib import paths
from course_lib.files import replacing
from course_lib.language import say
from course_lib.prosody import split_lines

Split = Literal["train", "validation", "test"]
Dynasty = Literal["tang", "song"]

DEMO_TITLE = "春夜喜雨"


@dataclass(frozen=True, slots=True)
class Poem:
    """One poem. `couplets` are its rows with their punctuation: `("好雨知時節，當春乃發生。", …)`.

    `number` is its place in a series ("二"), or "". It is not part of the title.
    """

    title: str
    author: str
    couplets: tuple[str, ...]
    number: str = ""
    dynasty: Dynasty = "tang"

    @property
    def text(self) -> str:
        """The poem without its title: one couplet a row, no newline at the end."""
        return "\n".join(self.couplets)

    @property
    def lines(self) -> tuple[str, ...]:
        """The lines (句) without punctuation: 好雨知時節 / 當春乃發生 / …"""
        return split_lines(self.text)


def load_poems(split: Split, dynasty: Dynasty = "tang") -> list[Poem]:
    """All poems of one split, in the order of the source. `python scripts/build_corpus.py` makes the Song poems.

    Raises ValueError if there is no such split or dynasty, or if the file is damaged. Raises FileNotFoundError if the
    file is missing; the message says how to get it.
    """
    path = poem_file(split, dynasty)
    cure = "run `python scripts/build_corpus.py`" if dynasty == "song" else "it belongs to the repository"
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: {cure}")
    try:
        jsonl = lzma.decompress(path.read_bytes()).decode().rstrip("\n")
        rows = json.loads("[" + jsonl.replace("\n", ",") + "]")  # one call for all lines; 50,000 calls are slow
        return [Poem(title, author, tuple(text.split("\n")), number, dynasty) for title, number, author, text in rows]
    except Exception as error:  # of decompressing, of decoding, or because a row has another form
        raise ValueError(f"{path} is damaged ({error}): {cure}") from error


def save_poems(poems: Iterable[Poem], path: Path) -> None:
    """Write poems as xz-compressed JSON lines, one `[title, number, author, text]` for each poem."""
    rows = ([p.title, p.number, p.author, p.text] for p in poems)
    jsonl = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    with replacing(path.parent, path.name) as new:
        (new / path.name).write_bytes(lzma.compress(jsonl.encode(), preset=9))


def poem_file(split: Split, dynasty: Dynasty = "tang") -> Path:
    """The file that holds the poems of one split. Song has a training split only.

    Raises ValueError if there is no such split.
    """
    if (split, dynasty) == ("train", "song"):
        return paths.cache_folder() / "song-train.jsonl.xz"
    if dynasty == "tang" and split in ("train", "validation", "test"):
        return paths.ASSETS / "poems" / f"tang-{split}.jsonl.xz"
    n = {"it": split, "of": dynasty}
    raise ValueError(say("no split {it!r} of {of!r} poems: tang has train, validation and test, song has train", **n))
