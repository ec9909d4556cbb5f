"""Scansion against the handbooks: famous poems, famous exceptions, and the corpus as a whole."""

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from course_lib import prosody
from course_lib.poems import Poem, load_poems
from course_lib.prosody import (
    RULES,
    Fault,
    Score,
    Tone,
    form,
    han,
    is_well_formed,
    opposed,
    readings,
    rhyme,
    rhyme_rows,
    scan,
    score,
    tone,
    tones,
)

STORKS = "白日依山盡，黃河入海流。\n欲窮千里目，更上一層樓。"  # 王之渙 登鸛雀樓
RAIN = "好雨知時節，當春乃發生。\n隨風潛入夜，潤物細無聲。\n野徑雲俱黑，江船火獨明。\n曉看紅濕處，花重錦官城。"
HEIGHTS = (
    "風急天高猿嘯哀，渚清沙白鳥飛迴。\n無邊落木蕭蕭下，不盡長江滾滾來。\n"
    "萬里悲秋常作客，百年多病獨登臺。\n艱難苦恨繁霜鬢，潦倒新停濁酒杯。"
)  # 杜甫 登高
MOONLIT = "今夜鄜州月，閨中只獨看。\n遙憐小兒女，未解憶長安。\n香霧雲鬟濕，清輝玉臂寒。\n何時倚虛幌，雙照淚痕乾。"
QINGMING = "清明時節雨紛紛，路上行人欲斷魂。\n借問酒家何處有，牧童遙指杏花村。"
WEICHENG = "渭城朝雨浥輕塵，客舍青青柳色新。\n勸君更盡一杯酒，西出陽關無故人。"
CRANE = (
    "昔人已乘黃鶴去，此地空餘黃鶴樓。\n黃鶴一去不復返，白雲千載空悠悠。\n"
    "晴川歷歷漢陽樹，芳草萋萋鸚鵡洲。\n日暮鄉關何處是，煙波江上使人愁。"
)
NIGHT = "牀前看月光，疑是地上霜。\n舉頭望山月，低頭思故鄉。"
HOEING = "鋤禾日當午，汗滴禾下土。\n誰知盤中餐，粒粒皆辛苦。"
DAWN = "春眠不覺曉，處處聞啼鳥。\n夜來風雨聲，花落知多少。"


def broken(text: str) -> dict[str, list[tuple[int, int]]]:
    """Rule → places of its faults, lines and characters counted from 1 as in a handbook."""
    found: dict[str, list[tuple[int, int]]] = {}
    for fault in scan(text).faults:
        found.setdefault(fault.rule, []).append((fault.line + 1, fault.position + 1))
    return found


# --- characters -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("character", "expected", "groups"),
    [
        ("東", "平", {"上平聲一東"}),
        ("月", "仄", {"入聲六月"}),
        ("白", "仄", {"入聲十一陌"}),  # level in Mandarin, oblique in Tang
        ("看", "平仄", {"上平聲十四寒", "去聲十五翰"}),
        ("先", "平仄", {"下平聲一先", "去聲十七霰"}),  # the source's list leaves out the group's own name
        ("牀", "平", {"下平聲七陽"}),  # written 床 in the book
        ("啼", "平", {"上平聲八齊"}),  # in neither form in the source's list
        ("A", "？", set()),
        ("，", "？", set()),
    ],
)
def test_readings(character: str, expected: str, groups: set[str]) -> None:
    assert tone(character) == expected
    assert set(readings().get(character, ())) == groups


def test_either_and_unknown_fit_both_tones() -> None:
    for wanted in (Tone.level, Tone.oblique):
        assert [t for t in Tone if t.fits(wanted)] == [t for t in Tone if t == wanted or not t.is_sure()]


def test_the_rhyme_book_is_whole() -> None:
    rows = rhyme_rows("pingshui.txt")
    assert len(rows) == 106
    assert sum(prosody.is_level(name) for name, _ in rows) == 30
    count = Counter(name[:2] for name, _ in rows)
    assert count == {"上平": 15, "下平": 15, "上聲": 29, "去聲": 30, "入聲": 17}
    assert all(characters == han(characters) and len(set(characters)) == len(characters) for _, characters in rows)


def test_additions_and_variants_add() -> None:
    """A variant is not in the book and stands for a character that is; no reading is given twice."""
    book = {name: set(characters) for name, characters in rhyme_rows("pingshui.txt")}
    listed = set().union(*book.values())
    added = set()
    for name, characters in rhyme_rows("additions.txt"):
        assert not book[name] & set(characters)
        added |= set(characters)
    seen = Counter[str]()
    for standard, variants in rhyme_rows("variants.txt"):
        assert standard in listed | added
        assert not set(variants) & (listed | added)
        seen.update(variants)
    assert set(seen.values()) == {1}
    assert all(len(set(groups)) == len(groups) for groups in readings().values())


# --- couplets -------------------------------------------------------------------------------------

FIVE = "好雨知時節，當春乃發生。\n隨風潛入夜，潤物細無聲。"
SEVEN = "兩個黃鸝鳴翠柳，一行白鷺上青天。\n窗含西嶺千秋雪，門泊東吳萬里船。"


@pytest.mark.parametrize("text", [FIVE, SEVEN, FIVE + "\n", FIVE.replace("\n", ""), FIVE.partition("\n")[0]])
def test_well_formed(text: str) -> None:
    assert is_well_formed(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n",
        "春夜喜雨",
        FIVE.partition("，")[0] + "。",  # one line
        FIVE + "\n野徑雲俱黑，",  # an odd number of lines
        FIVE + "\n野徑雲俱黑。",
        FIVE[:-1],  # no mark at the end
        FIVE.replace("，", "。"),
        FIVE.replace("。", "，"),
        FIVE.replace("節，", "節、"),
        FIVE.replace("生。", "生？"),
        FIVE.replace("好雨", "雨"),  # four characters
        FIVE.replace("好雨", "好好雨"),
        f"{FIVE}\n{SEVEN}",  # five, then seven
        "好雨知時節，一行白鷺上青天。",
        FIVE.replace("好", "A"),
        FIVE.replace("好", "1"),
        FIVE.replace("知", "\n"),  # a row that begins within a line
        FIVE.replace("，", "，\n"),
        FIVE.replace("\n", "\n\n"),
        FIVE + "<",
    ],
)
def test_ill_formed(text: str) -> None:
    assert not is_well_formed(text)


@given(st.integers(1, 8), st.sampled_from([4, 5, 6, 7, 8]), st.integers(0, 10**6))
def test_only_lines_of_five_or_seven_are_well_formed(couplets: int, length: int, seed: int) -> None:
    draw = random.Random(seed)
    lines = ["".join(chr(draw.randint(0x4E00, 0x9FA5)) for _ in range(length)) for _ in range(2 * couplets)]
    rows = [f"{first}，{second}。" for first, second in zip(lines[::2], lines[1::2], strict=True)]
    assert is_well_formed("\n".join(rows)) == (length in (5, 7))


def test_well_formed_agrees_with_the_lines_of_real_poems() -> None:
    """A second definition: `Poem.lines` are even in number and all of 5 or of 7, and the marks are ，and 。in turn."""
    count = 0
    for poem in load_poems("test"):
        lines = poem.lines
        even = len(lines) % 2 == 0 and {len(line) for line in lines} in ({5}, {7})
        marks = [c for c in poem.text if c in "，。？！；：、"]
        expected = even and marks == ["，", "。"] * (len(lines) // 2)
        assert is_well_formed(poem.text) == expected, poem
        count += expected
    assert 500 < count < 1000  # most poems, but not all


# --- famous poems ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "name", "group", "words"),
    [
        (STORKS, "五言絕句", "下平聲十一尤", "流樓"),
        (RAIN, "五言律詩", "下平聲八庚", "生聲明城"),
        (HEIGHTS, "七言律詩", "上平聲十灰", "哀迴來臺杯"),  # the first line joins
        (MOONLIT, "五言律詩", "上平聲十四寒", "看安寒乾"),  # two lines end in 平平仄平仄
        (QINGMING, "七言絕句", "上平聲十三元", "魂村"),  # the first line's 紛 is of 文, a neighbour: it does not join
    ],
)
def test_regular_poems(text: str, name: str, group: str, words: str) -> None:
    scansion = scan(text)
    assert scansion.form.name == name
    assert scansion.rhyme.group == group
    assert "".join(word for _, word in scansion.rhyme.words) == words
    assert scansion.faults == ()
    assert scansion.rhymes
    assert scansion.regulated


@pytest.mark.parametrize(
    ("text", "faults"),
    [
        (WEICHENG, {"adhesion": [(3, 2)]}),  # 折腰體, the textbook case of 失粘
        (NIGHT, {"alternation": [(2, 4), (3, 4)], "opposition": [(4, 2)], "adhesion": [(3, 2)]}),  # 古絕
        (CRANE, {"alternation": [(1, 6), (3, 4), (3, 6)]}),  # 空悠悠 is three level tones, but 空 has two readings
        (HOEING, {"rhyme": [(2, 5), (4, 5)]}),  # rhymes in the oblique group 麌, as ancient-style verse may
        (DAWN, {"rhyme": [(2, 5), (4, 5)]}),
    ],
)
def test_famous_exceptions(text: str, faults: dict[str, list[tuple[int, int]]]) -> None:
    found = broken(text)
    assert {rule: found.get(rule, []) for rule in faults} == faults
    if "rhyme" not in faults:
        assert found.keys() == faults.keys()
    assert scan(text).rhymes == ("rhyme" not in faults)


def test_tones_of_a_poem_by_hand() -> None:
    """登鸛雀樓 as the handbooks scan it; 更 and 上 have two readings."""
    lines = scan(STORKS).tones
    marks = ["".join({"平仄": "中"}.get(t, t) for t in line) for line in lines]
    assert marks[:3] == ["仄仄平平仄", "平平仄仄平", "仄平平仄仄"]
    assert marks[3][2:] == "仄平平"


# --- single rules ---------------------------------------------------------------------------------

LEVEL, OBLIQUE = "東", "月"


def faults_of(*patterns: str) -> list[Fault]:
    """Tone faults of lines written in 平 and 仄."""
    return prosody.tone_faults([tones(p.replace("平", LEVEL).replace("仄", OBLIQUE)) for p in patterns])


@pytest.mark.parametrize(
    ("pattern", "alternates", "faults"),
    [
        ("平平平仄仄", True, []),
        ("仄平仄仄平", True, []),
        ("平平仄平仄", False, []),  # the licence
        ("仄平仄平仄", False, [("alternation", 3)]),  # its third-last character but two must be level
        ("平平仄平平", False, [("alternation", 3)]),
        ("仄仄平平平", True, [("three level tones", 2)]),
        ("仄仄平仄仄", False, [("alternation", 3)]),
        ("仄仄平平仄仄平", True, []),
        ("仄仄平平仄平仄", False, []),
        ("平平平平仄平仄", False, [("alternation", 3)]),  # the licence excuses character 6 alone
        ("平平平平仄仄平", False, [("alternation", 3)]),
        ("平平仄仄平仄平", False, [("alternation", 5)]),
        ("平平仄仄平平平", True, [("three level tones", 4)]),
        ("平平仄看平仄平", False, [("alternation", 5)]),  # character 4 may be either, 6 may not
        ("平平仄看平平仄", True, []),
        ("平看仄平平平仄", False, [("alternation", 5)]),
        ("仄平仄仄平平仄平仄", False, [("alternation", 7)]),  # the licence is for lines of 5 or 7
    ],
)
def test_lines(pattern: str, alternates: bool, faults: list[tuple[str, int]]) -> None:
    assert [(f.rule, f.position) for f in faults_of(pattern)] == faults
    assert prosody.alternates(tones(pattern.replace("平", LEVEL).replace("仄", OBLIQUE))) == alternates


def test_opposition_and_adhesion() -> None:
    first, second = "平平平仄仄", "仄仄仄平平"
    assert faults_of(first, second, "仄仄平平仄", "平平仄仄平", first, second) == []
    assert faults_of(first, "平平仄仄平") == [Fault("opposition", 1, 1)]
    assert faults_of(first, second, first, second) == [Fault("adhesion", 2, 1)]


@pytest.mark.parametrize(
    ("above", "below", "expected"),
    [
        ("白日依山盡", "黃河入海流", True),
        ("白日依山盡", "更上一層樓", False),
        ("風急天高猿嘯哀", "渚清沙白鳥飛迴", True),
        ("平平平平平仄平", "平仄平仄平平平", True),
        ("平平平平平仄平", "平仄平仄平仄平", False),  # only character 6
        ("平平平平平", "平仄平平平", False),  # only character 4
        ("平平平平平", "仄仄平仄仄", True),  # characters 1, 3 and 5 are free
        ("平囗平看平", "平平平平平", True),  # no reading, or two
    ],
)
def test_two_lines_are_opposed_at_every_second_character(above: str, below: str, expected: bool) -> None:
    assert opposed(above, below) == opposed(below, above) == expected


def test_characters_of_two_tones_or_none_are_no_fault() -> None:
    for character in "看囗":
        assert not tone(character).is_sure()
        lines = tuple(tones(character * 5) for _ in range(4))
        assert prosody.tone_faults(lines) == []


def test_rhyme_words() -> None:

    def lines(words: str) -> list[str]:
        """Lines that end in 月, and after each a line that ends in one of the words."""
        return [line for word in words for line in ("月月月月月", "東東東東" + word)]

    assert rhyme(lines("流樓秋")).faults == ()
    assert rhyme(lines("流樓流")).faults == (Fault("repeated rhyme word", 5, 4),)
    assert rhyme(lines("流東秋")).faults == (Fault("rhyme", 3, 4),)
    assert rhyme(lines("流囗秋")).faults == ()
    assert rhyme(lines("流看寒")).group == "上平聲十四寒"  # two of three
    assert rhyme(lines("月雪")).group is None
    joined = rhyme(["東東東東樓", *lines("流樓")[1:]])
    assert joined.faults == (Fault("repeated rhyme word", 3, 4),)
    assert rhyme([]).faults == ()


@pytest.mark.parametrize(
    ("text", "rhymes"),
    [
        ("", False),
        ("白日依山盡", False),
        ("白日依山盡，黃河入海流。", False),  # one rhyme word rhymes with nothing
        ("白日依山流，黃河入海樓。", False),
        ("白日依山盡，黃河入海囗。欲窮千里目，更上一層樓。", False),  # no telling
        ("白日依山盡，黃河入海囗。欲窮千里目，更上一層樓。欲窮千里目，更上一層流。", True),
    ],
)
def test_what_is_too_little_to_rhyme(text: str, rhymes: bool) -> None:
    assert scan(text).rhymes == rhymes


@pytest.mark.parametrize(
    ("characters", "lines", "name"),
    [
        (5, 4, "五言絕句"),
        (7, 4, "七言絕句"),
        (5, 8, "五言律詩"),
        (7, 8, "七言律詩"),
        (5, 10, "五言排律"),
        (7, 40, "七言排律"),
        (5, 6, "other"),
        (5, 2, "other"),
        (5, 0, "other"),
        (5, 5, "other"),
        (5, 9, "other"),
        (6, 4, "other"),
        (4, 8, "other"),
    ],
)
def test_forms(characters: int, lines: int, name: str) -> None:
    assert form(["月" * characters] * lines).name == name


def test_a_form_needs_lines_of_one_length() -> None:
    assert form(["月" * 5] * 3 + ["月" * 7]).name == "other"
    mixed = scan("白日依山盡，黃河入海流。兩個黃鸝鳴翠柳，更上一層樓。")
    assert not mixed.regulated
    assert mixed.form.characters is None


@given(st.text(alphabet="東月看囗，。？！；\nA1", max_size=80))
def test_any_text_can_be_scanned(text: str) -> None:
    found = scan(text)
    for fault in found.faults:
        assert fault.rule in RULES
        assert found.lines[fault.line][fault.position]
    assert 0 <= found.alternating <= len(found.lines)


# --- ranking --------------------------------------------------------------------------------------


def test_the_better_poem_scores_higher() -> None:
    best = score(RAIN, True, -3.0)
    worse = [
        score(RAIN, True, -3.1),
        score(RAIN.replace("看", "月"), True, -1.0),  # a fault in its tones
        score(RAIN.replace("城", "樓"), True, -1.0),  # does not rhyme
        score("\n".join([*RAIN.split("\n")[:3], RAIN.split("\n")[0]]), True, -1.0),  # a couplet twice
        score(RAIN.replace("野徑雲俱黑", "好雨知時節"), True, -1.0),  # a line twice, and nothing else wrong
        score(RAIN[:-1], True, -1.0),  # ill formed
        score(RAIN, False, -1.0),  # cut off
        score("", True, 0.0),
    ]
    assert all(best > other for other in worse)
    assert worse[1] > worse[2] > worse[5]
    assert best == Score(complete=True, rhymes=True, faultless_share=1.0, log_likelihood=-3.0)
    assert worse[1] == Score(complete=True, rhymes=True, faultless_share=7 / 8, log_likelihood=-1.0)
    assert scan(RAIN.replace("野徑雲俱黑", "好雨知時節")).faults == ()


# --- the corpus -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def regular() -> dict[int, list[Poem]]:
    """Held-out Tang poems of four and of eight lines, all of 5 or all of 7 characters."""
    poems = [*load_poems("validation"), *load_poems("test")]
    return {n: [p for p in poems if len(p.lines) == n and form(p.lines).name != "other"] for n in (4, 8)}


def shuffled(poem: Poem, chance: random.Random) -> str:
    """The poem's characters in any order, its punctuation where it was."""
    characters = iter(chance.sample(han(poem.text), len(han(poem.text))))
    return "".join(next(characters) if han(c) else c for c in poem.text)


@pytest.mark.parametrize(("lines", "least"), [(4, 0.85), (8, 0.87)])
def test_real_poems_rhyme_and_alternate(regular: dict[int, list[Poem]], lines: int, least: float) -> None:
    """Another scorer, on 1,000 Tang poems: 91.4 % of four lines and 86.7 % of eight rhyme, 94 % of lines alternate."""
    found = [scan(p.text) for p in regular[lines]]
    assert len(found) > 400
    assert least < sum(s.rhymes for s in found) / len(found) < 0.95
    assert 0.92 < sum(s.alternating for s in found) / (lines * len(found)) < 0.96
    assert 0.6 < sum(s.regulated for s in found) / len(found) < 0.9


def test_shuffled_characters_do_not(regular: dict[int, list[Poem]]) -> None:
    chance = random.Random(0)
    for lines, poems in regular.items():
        found = [scan(shuffled(p, chance)) for p in poems]
        assert sum(s.rhymes for s in found) / len(found) < 0.03
        assert sum(s.alternating for s in found) / (lines * len(found)) < 0.65
        assert sum(s.regulated for s in found) / len(found) < 0.06


def test_nearly_every_character_has_a_reading() -> None:
    poems = [*load_poems("validation"), *load_poems("test")]
    count = Counter(tone(c) for p in poems for c in han(p.text))
    assert count[Tone.unknown] / count.total() < 0.002
    ends = Counter(tone(p.lines[i][-1]) for p in poems for i in range(1, len(p.lines), 2))
    assert ends[Tone.unknown] / ends.total() < 0.004


def test_well_formed_is_a_form(regular: dict[int, list[Poem]]) -> None:
    assert all(form(p.lines).name != "other" for p in regular[8] if is_well_formed(p.text))
