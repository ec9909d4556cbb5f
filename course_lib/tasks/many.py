"""Many instructions, one row each: its wordings, the examples that poems make, the check of an answer.

The last wording of each is never taught: it shows whether a model understands a request, or recites.
"""

from collections.abc import Iterable
from dataclasses import replace
from random import Random
from typing import Any, get_args

from course_lib.instructions import OLD_STYLE, POEM, Exchange, Given, Instruction, Kind, cached_scan
from course_lib.poems import Poem
from course_lib.prosody import LINE_END, han, is_level, is_well_formed, level_groups, opposed, rhyme_rows, split_lines

POEM_WORDINGS = (
    POEM.wording,
    "請以此題作一首詩",
    "以此爲題，請寫詩一首",
    "給你一個題目，請作詩",
    "這個題目，請你寫成一首詩",
)


def verse_form(text: str) -> str:
    """五言絕句 and so on for faultless regulated verse, 古體詩 for verse that is certainly not, "" if it is unclear.

    A poem in a form of regulated verse with a few faults of tone is unclear. So is a text that is not couplets.
    """
    if not is_well_formed(text):
        return ""
    scansion = cached_scan(text)
    if scansion.rhymes and scansion.regulated:
        return scansion.form.name
    faulty = len({fault.line for fault in scansion.faults})
    return OLD_STYLE.label if scansion.form.name == "other" or 2 * faulty >= len(scansion.lines) else ""


def named_form(name: str, label: str) -> Instruction:
    """The instruction to write in one form of regulated verse."""
    wordings = tuple(wording.replace("詩", label) for wording in POEM_WORDINGS)

    def fits(poem: Poem) -> bool:
        scansion = cached_scan(poem.text)
        return scansion.form.name == label and scansion.rhymes and scansion.regulated

    return Instruction(name, label, wordings, fits, share=2.5)


def is_mixed(poem: Poem) -> bool:
    """Whether a poem has at least four lines, and they differ in length (雜言), as in songs."""
    return len(poem.lines) >= 4 and len({len(line) for line in poem.lines}) > 1


def rhyme_of(poem: Poem) -> str:
    """The last character of the name of the poem's rhyme group, 東 for 上平聲一東; "" if it does not rhyme."""
    scansion = cached_scan(poem.text)
    return scansion.rhyme.group[-1] if scansion.rhymes and scansion.rhyme.group else ""


def rhyme_names() -> str:
    """The last characters of the names of all level-tone groups: 東冬江…"""
    return "".join(name[-1] for name, *_ in rhyme_rows("pingshui.txt") if is_level(name))


def rhymes_as_asked(exchange: Exchange) -> bool:
    """Whether every even line ends in a character of the group that was asked for."""
    words = [line[-1] for line in split_lines(exchange.answer)[1::2]]
    return bool(words) and all(any(g[-1] == exchange.argument for g in level_groups(word)) for word in words)


def heads(text: str) -> str:
    """The first characters of the lines of a poem."""
    return "".join(line[0] for line in split_lines(text))


def acrostic(poem: Poem, random: Random) -> Exchange:
    """The poem as an acrostic of its first characters. Every third time, they stand in place of the title too."""
    first = heads(poem.text)
    return Exchange(first if random.random() < 1 / 3 else poem.title, poem.text, first)


def beginning(poem: Poem, random: Random) -> Exchange:
    """The first line or the first couplet of the poem, without the last mark, and the rest of the poem."""
    ends = [mark.end() for mark in LINE_END.finditer(poem.text)]  # of the lines, with their marks
    end = ends[random.choice((0, 1))]
    return Exchange(poem.text[: end - 1], poem.text[end:].lstrip("\n"))


def is_rest(exchange: Exchange) -> bool:
    """Whether the beginning and the answer together are one well-formed poem of at least four lines."""
    given = exchange.given.rstrip("，。")
    mark = "，" if len(split_lines(given)) % 2 else "。\n"
    whole = f"{given}{mark}{exchange.answer}"
    return is_well_formed(whole) and len(split_lines(whole)) >= 4


def parallel_couplets(poem: Poem) -> list[tuple[str, str]]:
    """The couplets of a poem whose two lines have opposite tones and share no character."""
    couplets = zip(poem.lines[::2], poem.lines[1::2], strict=False)
    return [(a, b) for a, b in couplets if len(a) == len(b) and opposed(a, b) and not set(a) & set(b)]


def couplet(poem: Poem, random: Random) -> Exchange:
    """The two lines of one couplet of the poem."""
    return Exchange(*random.choice(parallel_couplets(poem)))


def is_second_line(exchange: Exchange) -> bool:
    """Whether the answer is as long as the line given, has opposite tones, and shares no character with it."""
    above, below = exchange.given, exchange.answer
    return len(above) == len(han(below)) == len(below) and opposed(above, below) and not set(above) & set(below)


def is_title(exchange: Exchange) -> bool:
    """Whether the answer is a short title of Chinese characters, and no line of the poem."""
    title = exchange.answer
    return 0 < len(han(title)) == len(title) <= LONGEST_TITLE and title not in split_lines(exchange.given)


LONGEST_TITLE = 12
FORM_OF = {"quatrain-5": "五言絕句", "quatrain-7": "七言絕句", "regulated-5": "五言律詩", "regulated-7": "七言律詩"}
FORMS = tuple(named_form(name, label) for name, label in FORM_OF.items())
MANY = (
    replace(POEM, wordings=POEM_WORDINGS, share=3),
    replace(OLD_STYLE, wordings=tuple(w.replace("詩", OLD_STYLE.label) for w in POEM_WORDINGS), share=2),
    Instruction(
        "mixed",
        "雜言詩",
        tuple(w.replace("詩", "雜言詩") for w in POEM_WORDINGS),
        is_mixed,
        check=lambda exchange: is_mixed(Poem("", "", (exchange.answer,))),
        share=2,
    ),
    *FORMS,
    Instruction(
        "rhyme",
        "押韻",
        ("，押「{}」韻", "，用「{}」韻", "，韻腳用「{}」部", "，要押「{}」字韻", "，限「{}」韻"),
        lambda poem: rhymes_as_asked(Exchange("", poem.text, rhyme_of(poem))),
        lambda poem, _: Exchange(poem.title, poem.text, rhyme_of(poem)),
        rhymes_as_asked,
        kind="clause",
        arguments=rhyme_names,
    ),
    Instruction(
        "acrostic",
        "藏頭",
        ("，以「{}」藏頭", "，每句的首字依次爲「{}」", "，藏頭是「{}」", "，各句首字連成「{}」", "，首字依次是「{}」"),
        lambda poem: len(poem.lines) in (4, 8),
        acrostic,
        lambda exchange: heads(exchange.answer) == exchange.argument,
        kind="clause",
    ),
    Instruction(
        "continue",
        "續寫",
        (
            "請把這首詩續完",
            "以下是詩的開頭，請續寫",
            "請接着往下寫",
            "這是開頭，請寫完這首詩",
            "這首詩還沒寫完，請續寫",
        ),
        lambda poem: len(poem.lines) >= 4,
        beginning,
        is_rest,
        given="line",
    ),
    Instruction(
        "couplet",
        "對句",
        ("請對下句", "以下是上句，請寫出下句", "請給這一句配上下句", "這是上句，請對一句", "上句如此，請寫下句"),
        lambda poem: bool(parallel_couplets(poem)),
        couplet,
        is_second_line,
        given="line",
    ),
    Instruction(
        "title",
        "擬題",
        (
            "請給這首詩擬一個題目",
            "這首詩該用甚麼題目",
            "請爲以下的詩命題",
            "這首詩缺題目，請補上",
            "請給以下的詩起一個題目",
        ),
        lambda poem: len(poem.title) <= LONGEST_TITLE and len(poem.lines) <= 8 and poem.title == han(poem.title),
        lambda poem, _: Exchange(poem.text, poem.title),
        is_title,
        given="poem",
        one_answer=True,
        share=0.7,
    ),
    Instruction(
        "name-form",
        "辨體",
        ("這首詩是甚麼體裁", "請說出這首詩的詩體", "以下的詩屬於甚麼體裁", "這是甚麼詩體", "請說出以下的詩的體裁"),
        lambda poem: bool(verse_form(poem.text)),
        lambda poem, _: Exchange(poem.text, verse_form(poem.text)),
        lambda exchange: exchange.answer == verse_form(exchange.given),
        given="poem",
        one_answer=True,
        share=0.8,
    ),
    Instruction(
        "punctuate",
        "標點",
        ("請爲這首詩加上標點", "請給以下的詩斷句", "請加標點", "以下的詩沒有標點，請斷句", "這首詩沒有標點，請加上"),
        lambda poem: len(poem.lines) <= 8,
        lambda poem, _: Exchange(han(poem.text), poem.text),
        lambda exchange: han(exchange.answer) == exchange.given and is_well_formed(exchange.answer),
        given="poem",
        one_answer=True,
        share=1.5,
    ),
    Instruction(
        "another", "再來一首", ("再寫一首", "請再寫一首", "同題再作一首", "再來一首", "請再來一首"), kind="turn"
    ),
    Instruction(
        "another-form", "換體", ("改成{}", "請改寫成{}", "換成一首{}", "這次寫{}", "請改成一首{}"), kind="turn"
    ),
    Instruction(
        "next-title",
        "換題",
        ("再以「{}」爲題寫一首", "下一首的題目是「{}」", "題目換成「{}」", "下一首寫「{}」", "請以「{}」爲題再寫一首"),
        kind="turn",
    ),
)


def to_rows(instructions: Iterable[Instruction]) -> list[dict[str, Any]]:
    """The instructions as JSON values, for `instructions.json`. Functions and usual values are left out."""
    usual = {"given": "title", "kind": "sentence", "one_answer": False}
    return [
        {"name": i.name, "label": i.label, "wordings": list(i.wordings)}
        | {key: getattr(i, key) for key, value in usual.items() if getattr(i, key) != value}
        for i in instructions
    ]


def from_rows(rows: Any) -> tuple[Instruction, ...]:
    """The instructions of an `instructions.json`. A name of `MANY` means that instruction, in these wordings.

    Raises ValueError if the rows do not have the form that `to_rows` gives them.
    """
    known = {i.name: i for i in MANY}
    taught = []
    for row in rows if isinstance(rows, list) else [rows]:
        match row:
            case {"name": str(name), "label": str(label), "wordings": [str(), *others] as wordings, **rest} if (
                all(isinstance(wording, str) for wording in others)
                and rest.get("given", "title") in get_args(Given)
                and rest.get("kind", "sentence") in get_args(Kind)
                and isinstance(rest.get("one_answer", False), bool)
            ):
                own: dict[str, Any] = {key: rest[key] for key in ("given", "kind", "one_answer") if key in rest}
                like = known.get(name) or Instruction(name, label, ("",), **own)
                taught.append(replace(like, label=label, wordings=tuple(wordings)))
            case _:
                raise ValueError(f"an instruction has a name, a label and a list of wordings; this one is {row!r}")
    return tuple(taught)
