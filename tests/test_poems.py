"""The poems that are shipped: their sizes, their splits, their README; and how they are read and written."""

import hashlib
import json
import lzma
import re
import time
from collections import defaultdict
from collections.abc import Callable
from difflib import SequenceMatcher
from pathlib import Path

import pytest

from course_lib import paths
from course_lib.poems import DEMO_TITLE, Poem, load_poems, poem_file, save_poems
from course_lib.prosody import han, split_lines

DEMO_TEXT = "好雨知時節，當春乃發生。\n隨風潛入夜，潤物細無聲。\n野徑雲俱黑，江船火獨明。\n曉看紅濕處，花重錦官城。"


@pytest.fixture(scope="module")
def train() -> list[Poem]:
    return load_poems("train")


@pytest.fixture(scope="module")
def validation() -> list[Poem]:
    return load_poems("validation")


@pytest.fixture(scope="module")
def test() -> list[Poem]:
    return load_poems("test")


@pytest.fixture(scope="module")
def song() -> list[Poem]:
    if not poem_file("train", "song").is_file():
        pytest.skip("the Song poems are not in the cache: `python scripts/build_corpus.py` writes them there")
    return load_poems("train", "song")


@pytest.fixture(scope="module")
def folder(repository: Path) -> Path:
    return repository / "assets" / "poems"


# --- a poem ---------------------------------------------------------------------------------------


def test_a_poem_has_couplets_a_text_and_lines() -> None:
    poem = Poem("題", "某人", ("春眠不覺曉，處處聞啼鳥。", "夜來：風雨聲？"))
    assert poem.text == "春眠不覺曉，處處聞啼鳥。\n夜來：風雨聲？"
    assert poem.lines == ("春眠不覺曉", "處處聞啼鳥", "夜來", "風雨聲")
    assert split_lines("") == ()
    assert han("春，眠。\n𠀀 a") == "春眠𠀀"


def test_what_is_saved_is_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Order, numbers, characters beyond the first 65,536, and what other programs take for a line's end."""
    saved = [
        Poem("乙", "某人", ("春眠不覺曉，", "處處聞啼鳥。"), "二"),
        Poem("甲", '引"號', ("𠀀\u2028\x85春。",)),
    ]
    monkeypatch.setattr(paths, "ASSETS", tmp_path)
    save_poems(saved, poem_file("test"))
    assert load_poems("test") == saved
    save_poems([], poem_file("test"))
    assert load_poems("test") == []


def test_an_unknown_split_is_refused() -> None:
    with pytest.raises(ValueError, match=r"no split 'dev' of 'tang' poems: tang has train, validation and test"):
        load_poems("dev")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"'yuan'"):
        load_poems("train", "yuan")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"'test' of 'song'.*song has train$"):
        load_poems("test", "song")


def test_a_missing_file_is_named_with_the_cure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COURSE_LIB_CACHE", str(tmp_path))
    monkeypatch.setattr(paths, "ASSETS", tmp_path)
    with pytest.raises(FileNotFoundError, match=r"song-train.*python scripts/build_corpus.py"):
        load_poems("train", "song")
    with pytest.raises(FileNotFoundError, match=r"tang-test.*belongs to the repository"):
        load_poems("test")


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda content: content[: len(content) // 2], id="truncated"),
        pytest.param(lambda content: b"version https://git-lfs", id="a pointer in its place"),
        pytest.param(lambda content: lzma.compress(b"[1, 2"), id="not JSON"),
    ],
)
def test_a_damaged_file_is_named(
    damage: Callable[[bytes], bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = poem_file("test").read_bytes()
    monkeypatch.setattr(paths, "ASSETS", tmp_path)
    poem_file("test").parent.mkdir()
    poem_file("test").write_bytes(damage(content))
    with pytest.raises(ValueError, match=r"tang-test.jsonl.xz is damaged"):
        load_poems("test")


# --- the shipped files ----------------------------------------------------------------------------


def test_the_files_are_small_and_load_fast(folder: Path) -> None:
    assert sum(file.stat().st_size for file in folder.iterdir()) <= 6_000_000
    start = time.process_time()  # other programs do not count: on a quiet machine this is the time one waits
    load_poems("train")
    seconds = time.process_time() - start
    print(f"load_poems('train'): {seconds:.2f} s")
    assert seconds < 3, "a second is promised; three leave room for a slow machine"


def test_the_checksums_hold(folder: Path) -> None:
    rows = [row.split() for row in (folder / "SHA256SUMS").read_text().splitlines()]
    assert {name for _, name in rows} == {
        "counts.json",
        "variants.txt",
        "tang-train.jsonl.xz",
        "tang-validation.jsonl.xz",
        "tang-test.jsonl.xz",
    }
    for digest, name in rows:
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest, name


def test_the_demo_poem_is_a_test_poem(train: list[Poem], validation: list[Poem], test: list[Poem]) -> None:
    found = [p for p in test if p.title == DEMO_TITLE and p.author == "杜甫"]
    assert [p.text for p in found] == [DEMO_TEXT]
    assert not [p for p in train + validation if (p.title, p.author) == (DEMO_TITLE, "杜甫")]
    assert not [p for p in train + validation if "好雨知時節" in p.text]


def test_every_shipped_poem_is_clean(train: list[Poem], validation: list[Poem], test: list[Poem]) -> None:
    """Only Chinese characters and seven marks, one couplet a row; the README owns up to Ｂ ［ ］ besides."""
    allowed = re.compile(r"[\u3400-\u9fff\U00020000-\U0003ffff，。？！；：、\nＢ［］]+")
    for poem in train + validation + test:
        assert allowed.fullmatch(poem.text), poem
        assert poem.title == poem.title.strip() != "", poem
        assert poem.author, poem
        assert len(han(poem.text)) >= 4, poem
        assert all(couplet[-1] in "。？！；" for couplet in poem.couplets[:-1]), poem
        assert not re.search(r"[，。？！；：、]\n?[，。？！；：、]", poem.text), poem


def test_no_poem_is_in_two_splits(train: list[Poem], validation: list[Poem], test: list[Poem]) -> None:
    texts = [{han(p.text) for p in split} for split in (train, validation, test)]
    assert [len(t) for t in texts] == [len(train), 1_000, 1_000]  # nor twice in one
    assert len(set.union(*texts)) == len(train) + 2_000


@pytest.mark.slow
def test_no_held_out_poem_is_in_song(song: list[Poem], validation: list[Poem], test: list[Poem]) -> None:
    assert not {han(p.text) for p in song} & {han(p.text) for p in validation + test}


# --- near-duplicates, found by another method than the one that dropped them ----------------------------


def differ_little(a: str, b: str) -> bool:
    """Whether two lines are variants of each other, character against character."""
    allowed = 0 if len(a) < 4 else 1 if len(a) < 6 else 2
    return len(a) == len(b) and sum(x != y for x, y in zip(a, b, strict=True)) <= allowed


def lines_shared(a: Poem, b: Poem) -> float:
    """The part of the one poem's lines that the other has, in whichever of the two it is larger."""
    ours = sum(any(differ_little(x, y) for y in b.lines) for x in a.lines) / len(a.lines)
    theirs = sum(any(differ_little(x, y) for y in a.lines) for x in b.lines) / len(b.lines)
    return max(ours, theirs)


def characters_shared(a: Poem, b: Poem) -> float:
    """The part of the shorter poem found in the other, in the same order, in runs of two and more."""
    blocks = SequenceMatcher(None, han(a.text), han(b.text), autojunk=False).get_matching_blocks()
    return sum(block.size for block in blocks if block.size > 1) / min(len(han(a.text)), len(han(b.text)))


def relatives(held_out: list[Poem], others: list[Poem]) -> list[tuple[Poem, Poem]]:
    """All pairs with half of the lines or 60 % of the characters in common.

    Compared are the pairs that share a line or any run of four characters.
    """
    pieces = defaultdict(set)
    for i, poem in enumerate(held_out):
        for piece in pieces_of(poem):
            pieces[piece].add(i)
    known = pieces.keys()
    pairs = [(held_out[i], poem) for poem in others for i in set().union(*(pieces[x] for x in pieces_of(poem) & known))]
    return [(a, b) for a, b in pairs if lines_shared(a, b) >= 0.5 or characters_shared(a, b) >= 0.6]


def pieces_of(poem: Poem) -> set[str]:
    text = han(poem.text)
    return {text[i : i + 4] for i in range(len(text) - 3)} | set(poem.lines)


DEMO = Poem(DEMO_TITLE, "杜甫", tuple(DEMO_TEXT.split("\n")))
OTHER = ("空山新雨後，天氣晚來秋。", "明月松間照，清泉石上流。", "竹喧歸浣女，蓮動下漁舟。")


@pytest.mark.parametrize(
    ("couplets", "related"),
    [
        pytest.param(DEMO.couplets, True, id="itself"),
        pytest.param(tuple(c[:2] + "甲" + c[3:] for c in DEMO.couplets), True, id="variants"),
        pytest.param(DEMO.couplets[:2] + OTHER, True, id="half of the held-out poem"),
        pytest.param((*DEMO.couplets[:1], OTHER[0]), True, id="half of the other poem"),
        pytest.param(("好雨知，時節當春。", "乃發生隨，風潛入夜潤。", "物細無聲，野徑。"), True, id="cut elsewhere"),
        pytest.param((DEMO.couplets[0], *OTHER), False, id="a quarter"),
        pytest.param(OTHER, False, id="another poem"),
    ],
)
def test_the_other_method_sees_planted_relatives(couplets: tuple[str, ...], related: bool) -> None:
    assert bool(relatives([DEMO], [Poem("題", "某人", couplets)])) is related


@pytest.mark.slow
def test_no_relative_of_a_held_out_poem_is_in_training(
    train: list[Poem], validation: list[Poem], test: list[Poem]
) -> None:
    assert relatives(validation + test, train) == []


def test_no_relative_of_a_test_poem_is_in_validation(validation: list[Poem], test: list[Poem]) -> None:
    assert relatives(test, validation) == []


@pytest.mark.slow
def test_no_relative_of_a_held_out_poem_is_in_song(song: list[Poem], validation: list[Poem], test: list[Poem]) -> None:
    assert relatives(validation + test, song) == []


# --- the README says what is so -------------------------------------------------------------------

EDITS = {
    "Unicode normalised",
    "restored characters kept",
    "bracketed notes removed",
    "series number parted from title",
    "title punctuation turned to spaces",
    "names cleaned",
    "variants replaced",
    "notes after the poem cut",
    "quotation marks and spaces removed",
    "repeated marks joined",
}
TOTALS = {"records read", "poems kept", "test poems", "validation poems", "training poems"}


def test_the_counts_add_up(folder: Path, train: list[Poem]) -> None:
    counts = json.loads((folder / "counts.json").read_text())
    for dynasty in counts.values():
        characters = {rule for rule in dynasty if "characters" in rule and rule.split()[1] in ("read", "kept")}
        losses = dynasty.keys() - EDITS - TOTALS - characters - {"training characters"}
        losses |= {"lost characters"}
        held_out = dynasty.get("test poems", 0) + dynasty.get("validation poems", 0)
        lost = sum(dynasty[rule] for rule in losses)
        assert dynasty["records read"] - lost - held_out == dynasty["training poems"]
        too_close = dynasty["near-duplicates of held-out poems"]
        repeated = dynasty["duplicates without their variants"]
        assert dynasty["poems kept"] == dynasty["training poems"] + held_out + too_close + repeated
    assert counts["tang"]["training poems"] == len(train)
    assert counts["tang"]["training characters"] == sum(len(han(p.text)) for p in train)
    assert (counts["tang"]["test poems"], counts["tang"]["validation poems"]) == (1_000, 1_000)


def test_the_readme_states_the_counts(folder: Path) -> None:
    counts = json.loads((folder / "counts.json").read_text())
    cells = re.findall(r"^\| (.+?) \|(?:.*\|)? ([\d,]+) \| ([\d,]+) \|$", (folder / "README.md").read_text(), re.M)
    stated = {rule: (int(tang.replace(",", "")), int(song.replace(",", ""))) for rule, tang, song in cells}
    rules = counts["tang"].keys() | counts["song"].keys()
    assert stated == {rule: (counts["tang"].get(rule, 0), counts["song"].get(rule, 0)) for rule in rules}


@pytest.mark.slow
def test_the_readme_states_the_checksum_of_song(folder: Path, song: list[Poem]) -> None:
    digest = hashlib.sha256(poem_file("train", "song").read_bytes()).hexdigest()
    assert digest in (folder / "README.md").read_text()


def well_formed(poem: Poem) -> bool:
    lengths = {len(line) for line in poem.lines}
    return lengths in ({5}, {7}) and len(poem.lines) % 2 == 0


IMPERFECTIONS: dict[str, Callable[[Poem], object]] = {
    "are even in number of lines": well_formed,
    "have one couplet only": lambda p: len(p.couplets) == 1,
    "have a single line": lambda p: len(p.lines) == 1,
    "are titled 句": lambda p: p.title in ("句", "又句"),
    "have a title that is a bare numeral": lambda p: re.fullmatch("其?[一二三四五六七八九十百○〇 ]+", p.title),
    "end their title in 第二": lambda p: re.search("第[一二三四五六七八九十]+$", p.title),
    "have 《 left": lambda p: "《" in p.title,
    "have a line of more than 12": lambda p: max(map(len, p.lines)) > 12,
    "have no mark at the end": lambda p: p.text[-1] not in "。？！；",
    "have 、 or □": lambda p: re.search("[、□]", p.author),
}


def test_the_readme_states_what_is_imperfect(
    folder: Path, train: list[Poem], validation: list[Poem], test: list[Poem]
) -> None:
    readme = (folder / "README.md").read_text()
    poems = train + validation + test
    assert f"of all {len(poems):,} Tang poems" in readme
    for start, holds in IMPERFECTIONS.items():
        stated = re.search(rf"^\| {re.escape(start)}.* \| ([\d,]+) \|$", readme, re.M)
        assert stated, start
        assert int(stated[1].replace(",", "")) == sum(bool(holds(p)) for p in poems), start
