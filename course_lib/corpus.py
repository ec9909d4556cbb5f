"""How `assets/poems/` is made from the source. Only maintainers need it.

    fetch ─► read ─► clean ─► drop duplicates ─► split by hash ─► drop near-duplicates of what was held out

Each rule counts the records it changes or drops. `build` writes the counts beside the poems, and
`assets/poems/README.md` states them.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import subprocess
import tarfile
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

from course_lib.poems import DEMO_TITLE, ROW_END, Dynasty, Poem, cache_folder, han, poem_file, save_poems

PACKAGE = "chinese-poetry@2.0.1"
INTEGRITY = "sha512-KtYARvV7CWNtax0na9+Jn6PlhGgSoid7PWyDzXI4KsCEm2odZcqEQyval5koaLygZnM/EQ3lfJ//25K8p3uHNg=="
HELD_OUT = 1_000  # poems in the validation split, and as many in the test split

BRACKETS = {"（": "）", "(": ")", "〔": "〕", "〖": "〗", "【": "】", "[": "]", "〈": "〉"}
LOST = re.compile(r"[□○●◎{}⿰-⿿\ue000-\uf8ff…=|/]")  # a character the source could not print
RESTORED = re.compile(r"\[([^\[\]一二三四五六七八九十○\d])\]")  # "[蛾]眉": an editor's reading, kept
NOTE_ROW = re.compile(r"(出處|附注|按|詩題)：.*", re.DOTALL)
QUOTES = re.compile(r"[「」『』《》“”‘’\s·-]")
MARKS = "，。？！；：、"
REPEATED_MARKS = re.compile(rf"([{MARKS}])[{MARKS}]+")
SERIES = re.compile(r"\s+其?([一二三四五六七八九十百○〇]+)$")
MIN_CHARACTERS = 4  # also drops bodies that read 空, 佚, 闕 or 缺: the source's words for "no text here"

Record = dict[str, Any]  # one poem in the source: its "title", "author", "paragraphs", and more not used here
Counts = Counter[str]


# --- from the source's JSON to clean poems --------------------------------------------------------


def fetch(folder: Path) -> Path:
    """`npm pack` the source into `folder` and return the archive, its integrity verified.

    Raises:
        RuntimeError: npm failed, or the archive is not the one this course was made from.
    """
    folder.mkdir(parents=True, exist_ok=True)
    archive = folder / (PACKAGE.replace("@", "-") + ".tgz")
    if not archive.is_file():
        try:
            done = subprocess.run(["npm", "pack", PACKAGE], cwd=folder, capture_output=True, text=True, check=False)
        except FileNotFoundError:
            raise RuntimeError("npm is not installed: the source comes as an npm package") from None
        if done.returncode:
            raise RuntimeError(f"npm pack {PACKAGE} failed: {done.stderr.strip()}")
    digest = base64.b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode()
    if f"sha512-{digest}" != INTEGRITY:
        raise RuntimeError(f"{archive} has integrity sha512-{digest}, expected {INTEGRITY}: delete it, try again")
    return archive


def read_source(archive: Path, dynasty: Dynasty) -> Iterator[Record]:
    """The raw records of one dynasty, in the order of the source's numbering."""
    name = re.compile(rf"package/dist/quantangshi/poet\.{dynasty}\.(\d+)\.json")
    with tarfile.open(archive) as tar:
        members = [(int(found[1]), m) for m in tar.getmembers() if (found := name.fullmatch(m.name))]
        for _, member in sorted(members, key=lambda pair: pair[0]):
            file = tar.extractfile(member)
            assert file is not None  # a regular file, since its name matched
            yield from json.load(file)


def keep_restored(text: str) -> str:
    """`text` with single bracketed characters freed: "[蛾]眉" is an editor's reading, part of the poem."""
    return RESTORED.sub(r"\1", text)


def strip_brackets(text: str) -> str:
    """`text` without bracketed notes, nested ones included; brackets that do not pair raise ValueError."""
    kept: list[str] = []
    waiting: list[str] = []  # the closing brackets still to come, innermost last
    for character in text:
        if waiting and character == waiting[-1]:
            waiting.pop()
        elif character in BRACKETS:
            waiting.append(BRACKETS[character])
        elif character in BRACKETS.values():
            raise ValueError(f"{character} closes nothing")
        elif not waiting:
            kept.append(character)
    if waiting:
        raise ValueError(f"{waiting[-1]} is missing")
    return "".join(kept)


def part_number(title: str) -> tuple[str, str]:
    """A title and its number in a series: "秋思三首 其二" is ("秋思三首", "二"); without one, (title, "")."""
    found = SERIES.search(title.rstrip())
    return (title.rstrip()[: found.start()], found[1]) if found else (title, "")


def tidy_title(title: str) -> str:
    """A title whose full stops, commas, zeros and white space have become single spaces."""
    return " ".join(re.sub(r"[。，○]+", " ", title).split())


def clean(record: Record, dynasty: Dynasty, counts: Counts | None = None) -> Poem | str:
    """A clean poem, or the reason in a few words why the record is not one.

    In `counts` each rule that changed the record goes up by one.
    """
    counts = Counter() if counts is None else counts

    def apply(rule: str, edit: Callable[[str], str], *texts: str) -> list[str]:
        edited = [edit(text) for text in texts]
        counts[rule] += edited != list(texts)
        return edited

    texts = [record["title"], record["author"], "".join(record["paragraphs"])]
    texts = apply("Unicode normalised", lambda text: unicodedata.normalize("NFC", text), *texts)
    texts = apply("restored characters kept", keep_restored, *texts)
    try:
        title, author, body = apply("bracketed notes removed", strip_brackets, *texts)
    except ValueError:
        return "unbalanced brackets"
    title, number = part_number(title)
    counts["series number parted from title"] += bool(number)
    (title,) = apply("title punctuation turned to spaces", tidy_title, title)
    (body,) = apply("notes after the poem cut", lambda text: NOTE_ROW.sub("", text), body)
    (body,) = apply("quotation marks and spaces removed", lambda text: QUOTES.sub("", text), body)
    (body,) = apply("repeated marks joined", lambda text: REPEATED_MARKS.sub(r"\1", text).lstrip(MARKS), body)
    if not title:
        return "empty title"
    if len(han(body)) < MIN_CHARACTERS or title == "存目":
        return "empty body"
    if LOST.search(title + body):
        return "lost characters"
    if re.search(r"[\x00-\x1f!-~]", title + body):
        return "digits or Latin letters left"
    couplets = tuple(row for row in ROW_END.split(body) if row)
    return Poem(title, author or "佚名", couplets, number, dynasty)


def clean_all(records: Iterable[Record], dynasty: Dynasty, seen: set[str]) -> tuple[list[Poem], Counts]:
    """Clean poems whose text is not yet in `seen` (which grows), and how many records each rule touched."""
    kept: list[Poem] = []
    counts: Counts = Counter()
    for record in records:
        counts["records read"] += 1
        counts["characters read"] += len(han("".join(record["paragraphs"])))
        poem = clean(record, dynasty, counts)
        if isinstance(poem, str):
            counts[poem] += 1
        elif han(poem.text) in seen:
            counts["exact duplicates"] += 1
        else:
            seen.add(han(poem.text))
            kept.append(poem)
    counts["poems kept"] = len(kept)
    counts["characters kept"] = sum(len(han(p.text)) for p in kept)
    return kept, counts


# --- the split ------------------------------------------------------------------------------------


def digest(poem: Poem) -> str:
    """A hash of the poem's Chinese characters alone: punctuation and title do not move it."""
    return hashlib.sha256(han(poem.text).encode()).hexdigest()


def hold_out(poems: list[Poem]) -> tuple[list[Poem], list[Poem]]:
    """1,000 test and 1,000 validation poems.

    Test takes the lowest hashes and the demo poem, validation the highest, so when poems are added
    later a few change place with training, and none ever crosses from one held-out split to the other.
    A poem too close to a test poem does not become a validation poem.
    """
    ranked = sorted(poems, key=digest)
    demo = next(p for p in ranked if (p.title, p.author) == (DEMO_TITLE, "杜甫"))
    test = [demo, *(p for p in ranked if p is not demo)][:HELD_OUT]
    candidates = ranked[: -2 * HELD_OUT : -1]
    too_close = near_duplicates(test, candidates)
    return test, [p for i, p in enumerate(candidates) if i not in too_close][:HELD_OUT]


def line_keys(line: str) -> Iterator[str]:
    """Keys: two lines share one if at most 1 of 4 or 5 characters differs, or 2 of 6 or more."""
    blanks = 0 if len(line) < 4 else 1 if len(line) < 6 else 2
    for places in combinations(range(len(line)), blanks):
        yield "".join("*" if i in places else c for i, c in enumerate(line))


def trigrams(poem: Poem) -> set[str]:
    """Every run of three Chinese characters, across line breaks."""
    text = han(poem.text)
    return {text[i : i + 3] for i in range(len(text) - 2)}


def near_duplicates(held_out: list[Poem], poems: list[Poem]) -> set[int]:
    """Indices of `poems` that are variants of a held-out poem.

    Such a poem shares with it half of the lines of either one (two lines being the same if one or two
    characters differ: a variant reading), or a third of the runs of three characters of the shorter one,
    which finds a poem whose lines were cut elsewhere.
    """
    by_line: dict[str, set[tuple[int, int]]] = defaultdict(set)
    by_trigram: dict[str, list[int]] = defaultdict(list)
    grams = [trigrams(p) for p in held_out]
    for i, held in enumerate(held_out):
        for j, line in enumerate(held.lines):
            for key in line_keys(line):
                by_line[key].add((i, j))
        for gram in grams[i]:
            by_trigram[gram].append(i)

    found = set()
    for n, poem in enumerate(poems):
        theirs: dict[int, set[int]] = defaultdict(set)  # held-out poem -> which of its lines recur here
        ours: Counter[int] = Counter()  # held-out poem -> how many lines here come from it
        for line in poem.lines:
            hits = {hit for key in line_keys(line) for hit in by_line.get(key, ())}
            ours.update({i for i, _ in hits})
            for i, j in hits:
                theirs[i].add(j)
        mine = trigrams(poem)
        shared = Counter(i for gram in mine for i in by_trigram.get(gram, ()))
        if (
            any(2 * len(js) >= len(held_out[i].lines) for i, js in theirs.items())
            or any(2 * count >= len(poem.lines) for count in ours.values())
            or any(3 * count >= min(len(mine), len(grams[i])) for i, count in shared.items())
        ):
            found.add(n)
    return found


def build() -> dict[Dynasty, Counts]:
    """Fetch, clean, split and write everything; the counts per dynasty come back.

    Tang goes to `assets/poems/` together with the counts, Song to the cache. See `fetch` for what it raises.
    """
    archive = fetch(cache_folder())
    seen: set[str] = set()
    tang, tang_counts = clean_all(read_source(archive, "tang"), "tang", seen)
    song, song_counts = clean_all(read_source(archive, "song"), "song", seen)
    test, validation = hold_out(tang)
    save_poems(test, poem_file("test"))
    save_poems(validation, poem_file("validation"))
    tang_counts["test poems"], tang_counts["validation poems"] = len(test), len(validation)
    held_out = {digest(p) for p in test + validation}
    built: dict[Dynasty, Counts] = {"tang": tang_counts, "song": song_counts}
    for poems, (dynasty, counts) in zip((tang, song), built.items(), strict=True):
        others = [p for p in poems if digest(p) not in held_out]
        dropped = near_duplicates(test + validation, others)
        train = [p for i, p in enumerate(others) if i not in dropped]
        counts["near-duplicates of held-out poems"] = len(dropped)
        counts["training poems"] = len(train)
        counts["training characters"] = sum(len(han(p.text)) for p in train)
        save_poems(train, poem_file("train", dynasty))
    counts_file = poem_file("test").with_name("counts.json")
    counts_file.write_text(json.dumps(built, indent=1) + "\n", encoding="utf-8")
    return built
