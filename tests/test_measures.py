"""What is said of texts, against counting by hand."""

import pytest
from by_hand import FIVE

from course_lib.evaluation.measures import measure_poems, passes, share_obeyed, shuffled
from course_lib.evaluation.metrics import Estimate
from course_lib.evaluation.novelty import PoemIndex
from course_lib.generation import Reason, WrittenPoem
from course_lib.instructions import OLD_STYLE, POEM, Instruction
from course_lib.poems import Poem
from course_lib.prosody import alternates, han, tones

INDEX = PoemIndex([Poem("春望", "杜甫", ("國破山河在，城春草木深。",))])


def values(estimates: dict[str, Estimate]) -> dict[str, float]:
    return {name: estimate.value for name, estimate in estimates.items()}


def test_texts_are_judged_as_counting_by_hand_says() -> None:
    texts = [
        WrittenPoem(FIVE, "end"),  # rhymes, without fault
        WrittenPoem(FIVE.replace("無聲", "無光"), "end"),  # does not rhyme
        WrittenPoem("國破山河在，城春草木深。\n國破山河在，城春草木新。", "end"),  # a line twice, two lines copied
        WrittenPoem(FIVE + "\n\n春望\n國破山河在，", "length"),  # a base model's: the rest is not judged
    ]
    stopped = [*texts[:-1], WrittenPoem(FIVE + "\n\n", "stopped")]
    assert measure_poems(stopped, INDEX) == measure_poems(texts, INDEX)
    found = values(measure_poems(texts, INDEX))
    assert found.pop("longest_run") == 10 / 4
    assert found.pop("alternating") == 1
    assert found == {
        "ended": 0.75,
        "well_formed": 1,
        "repeats_a_line": 0.25,
        "strange": found["strange"],
        "rhymes": 0.5,
        "rhymes_in_form": 0.5,
        "alternating_in_form": 1.0,
        "regulated": 0.75,
        "copies_a_line": 0.25,
        "distinct_2": found["distinct_2"],
    }


@pytest.mark.parametrize(
    ("text", "reason", "ended", "well_formed"),
    [
        (FIVE, "end", 1, 1),
        (FIVE[:-1], "end", 1, 0),
        (FIVE[:-1], "length", 0, 0),  # cut off in its first poem
        (FIVE, "length", 0, 1),
        (f"{FIVE}\n\n", "stopped", 0, 1),
        (f"{FIVE}\n\n春望\n國破", "length", 0, 1),
        (f"{FIVE[:-1]}\n\n{FIVE}", "length", 0, 0),
    ],
)
def test_the_end_is_judged_once_and_the_form_on_the_first_poem(
    text: str, reason: Reason, ended: int, well_formed: int
) -> None:
    found = values(measure_poems([WrittenPoem(text, reason)], INDEX))
    assert (found["ended"], found["well_formed"]) == (ended, well_formed)


def test_a_text_is_strange_if_one_of_its_characters_is_in_no_poem_of_the_index() -> None:
    line = INDEX.poems[0].couplets[0]
    texts = [line, line.replace(line[0], "烟"), line.replace("，", " ")]
    assert values(measure_poems([WrittenPoem(text, "end") for text in texts], INDEX))["strange"] == 1 / 3


def test_some_metrics_look_only_at_poems_of_four_or_eight_lines() -> None:
    """Four lines; two lines, one of which does not alternate; four lines, one of them too short to alternate."""
    two = "好雨知月節，當春乃發生。"
    assert not alternates(tones(two[:5]))
    texts = [WrittenPoem(t, "end") for t in (FIVE, two, FIVE.replace("好雨", "雨"))]
    found = values(measure_poems(texts, INDEX))
    assert (found["rhymes"], found["rhymes_in_form"]) == (2 / 3, 1)
    assert (found["alternating"], found["alternating_in_form"]) == (8 / 10, 1)


def test_an_empty_text_is_judged_too() -> None:
    found = values(measure_poems([WrittenPoem("", "length")], INDEX))
    assert found["rhymes"] == found["ended"] == found["longest_run"] == 0
    assert "alternating" not in found


# --- one poem -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "fails"),
    [
        (FIVE, set()),
        (FIVE[:-1], {"well formed"}),
        (FIVE.replace("無聲", "無光"), {"rhymes"}),
        (FIVE.replace("隨風", "隨雨"), {"tones without fault"}),
        ("國破山河在，城邊草木深。\n白頭搔更短，渾欲不勝簪。", {"no line copied"}),
    ],
)
def test_one_poem_passes_or_fails_as_many_are_judged(text: str, fails: set[str]) -> None:
    found = passes(text, INDEX)
    assert {question for question, passed in found.items() if not passed} == fails
    assert len(found) == 5


def test_a_line_that_comes_twice_fails() -> None:
    assert not passes(f"{FIVE}\n{FIVE}", INDEX)["no line comes twice"]


# --- obedience ------------------------------------------------------------------------------------


def test_a_text_obeys_if_it_is_whole_and_fits() -> None:
    unrhymed = FIVE.replace("無聲", "無光")  # old-style verse
    texts = [
        WrittenPoem(unrhymed, "end"),
        WrittenPoem(unrhymed, "length"),  # not ended
        WrittenPoem(unrhymed[:-1], "end"),  # not well formed
        WrittenPoem(FIVE, "end"),  # regulated verse
    ]
    assert values(share_obeyed(["春夜喜雨"] * 4, texts, OLD_STYLE)) == {"obeys": 0.25}


def test_an_instruction_sees_the_title_and_the_whole_text() -> None:
    names_its_title = Instruction("named", "題", ("寫題",), fits=lambda poem: poem.title in poem.text)
    texts = [WrittenPoem(FIVE, "end")] * 2
    assert values(share_obeyed(["春夜", "無聲"], texts, names_its_title)) == {"obeys": 0.5}
    whole_text = Instruction("whole", "全", ("寫",), fits=lambda poem: poem.text == FIVE)
    assert values(share_obeyed(["春夜"], texts[:1], whole_text)) == {"obeys": 1}


def test_an_instruction_that_every_poem_fits_is_not_measured() -> None:
    assert share_obeyed(["春夜喜雨"], [WrittenPoem(FIVE, "end")], POEM) == {}


# --- shuffled poems -------------------------------------------------------------------------------


def test_shuffled_poems_have_the_same_characters_and_punctuation(poems: list[Poem]) -> None:
    for poem in poems:
        text = shuffled(poem).text
        assert sorted(text) == sorted(poem.text)
        assert [i for i, c in enumerate(text) if not han(c)] == [i for i, c in enumerate(poem.text) if not han(c)]
        assert text != poem.text
        assert shuffled(poem) == shuffled(poem) != shuffled(poem, seed=1)
