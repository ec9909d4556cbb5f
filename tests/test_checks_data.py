"""The exercises of notebooks 01 and 02: right answers pass, plausible wrong ones get the hint that belongs to them."""

from collections.abc import Callable
from typing import Any

import pytest

from course_lib import checks
from course_lib.batches import IGNORE, make_example
from course_lib.checks import Verdict
from course_lib.poems import Poem
from course_lib.roles import WRITE_A_POEM, example_segments
from course_lib.tokenizer import CharacterTokenizer

Answer = Any
Check = Callable[[Answer], Verdict]
EXERCISES: list[Check] = [
    checks.end_mark,
    checks.segments,
    checks.regular,
    checks.labels,
    checks.shift,
    checks.padded,
]
FUNCTIONS = EXERCISES[1:]
NAMES = [check.__name__ for check in EXERCISES]


# --- right answers --------------------------------------------------------------------------------


def by_loop(prompt: list[int], response: list[int], end: int) -> list[int]:
    labels = list(prompt)
    for place in range(len(prompt)):
        labels[place] = -100
    return [*labels, *response, end]


def pad_in_place(ids: list[int], labels: list[int], width: int, pad: int) -> tuple[list[int], list[int]]:
    while len(ids) < width:
        ids.append(pad)
        labels.append(-100)
    return ids, labels


RIGHT: list[tuple[Check, Answer]] = [
    (checks.end_mark, "<EOS>"),
    (
        checks.segments,
        lambda title, text: [("<INS>", WRITE_A_POEM), ("<INP>", title), ("<RES>", text), ("<EOS>", "")],
    ),
    (checks.segments, lambda title, text: example_segments(Poem(title, "", tuple(text.split("\n"))))),
    (checks.regular, lambda lines: len(lines) % 2 == 0 and {len(line) for line in lines} in ({5}, {7})),
    (
        checks.regular,
        lambda lines: any(lines and len(lines) % 2 == 0 and all(len(x) == n for x in lines) for n in (5, 7)),
    ),
    (checks.labels, lambda prompt, response, end: [-100] * len(prompt) + response + [end]),
    (checks.labels, by_loop),
    (checks.shift, lambda labels: [*labels[1:], -100]),
    (
        checks.padded,
        lambda ids, labels, width, pad: (
            ids + [pad] * (width - len(ids)),
            labels + [-100] * (width - len(ids)),
        ),
    ),
    (checks.padded, pad_in_place),
]


@pytest.mark.parametrize(("check", "answer"), RIGHT, ids=lambda value: getattr(value, "__name__", ""))
def test_right(check: Check, answer: Answer) -> None:
    assert check(answer).state == "right", check(answer)


def test_every_exercise_has_a_right_answer_here() -> None:
    assert {check.__name__ for check, _ in RIGHT} == set(NAMES)


# --- wrong answers --------------------------------------------------------------------------------


def segments_of(*segments: tuple[str, str]) -> Answer:
    """An answer that fills {title} and {text} into fixed segments."""
    return lambda title, text: [(mark, part.format(title=title, text=text)) for mark, part in segments]


INS, INP, RES, EOS = ("<INS>", WRITE_A_POEM), ("<INP>", "{title}"), ("<RES>", "{text}"), ("<EOS>", "")


def fill(width: int, ids: list[int]) -> int:
    return width - len(ids)


def masked_by_value(ids: list[int], labels: list[int], width: int, pad: int) -> tuple[list[int], list[int]]:
    """What comes of pad = end mark: all of them masked, the true one too."""
    ids = ids + [pad] * fill(width, ids)
    labels = labels + [pad] * (width - len(labels))
    return ids, [IGNORE if label in (pad, 2) else label for label in labels]


WRONG: list[tuple[Check, Answer, str]] = [
    (checks.end_mark, "\n", "follows every couplet"),
    (checks.end_mark, "<RES>", "opens a turn"),
    (checks.end_mark, "<PAD>", "last segment"),
    (checks.end_mark, "。", "last segment"),
    (checks.end_mark, 2, "quotation marks"),
    (checks.segments, segments_of(INS, INP, RES), "never learns to stop"),
    (checks.segments, segments_of(INS, INP, ("<RES>", "{text}<EOS>")), "segment of its own"),
    (checks.segments, segments_of(INP, INS, RES, EOS), "in this order"),
    (checks.segments, segments_of(INS, ("<INP>", "{text}"), ("<RES>", "{title}"), EOS), "title alone"),
    (checks.segments, segments_of(INS, INP, ("<RES>", "{title}\n{text}"), EOS), "title alone"),
    (checks.segments, segments_of(INS, INP, ("<RES>", ""), ("<EOS>", "{text}")), "its text is empty"),
    (checks.segments, segments_of(("<INS>", "寫詩"), INP, RES, EOS), "word for word"),
    (checks.regular, lambda lines: len(lines) % 2 == 0 and bool(lines) and len(lines[0]) in (5, 7), "every line"),
    (checks.regular, lambda lines: len(lines) % 2 == 0 and all(len(x) in (5, 7) for x in lines), "same length"),
    (checks.regular, lambda lines: {len(line) for line in lines} in ({5}, {7}), "odd number"),
    (checks.regular, lambda lines: len(lines) % 2 == 0 and len({len(x) for x in lines}) == 1, "six characters"),
    (checks.regular, lambda lines: len(lines) % 2 == 0 and all(len(x) == 5 for x in lines), "lines of seven"),
    (checks.labels, lambda p, r, e: [*(p + r + [e])[1:], -100], "is given, not learned"),
    (checks.labels, lambda p, r, e: [-100] * (len(p) - 1) + r + [e, -100], "shift by one comes later"),
    (checks.labels, lambda p, r, e: [-100] * (len(p) + 1) + r, "shift by one comes later"),
    (checks.labels, lambda p, r, e: p + r + [e], "is given, not learned"),
    (checks.labels, lambda p, r, e: [0] * len(p) + r + [e], "is given, not learned"),
    (checks.labels, lambda p, r, e: [-100] * len(p) + r + [-100], "end mark is to be learned"),
    (checks.labels, lambda p, r, e: [-100] * len(p) + r, "your labels are"),
    (checks.labels, lambda p, r, e: [*r, e], "your labels are"),
    (checks.labels, lambda p, r, e: [-100] * len(p) + r[::-1] + [e], "for the prompt"),
    (checks.shift, lambda labels: labels, "what comes after the token"),
    (checks.shift, lambda labels: [-100, *labels[:-1]], "shift to the right"),
    (checks.shift, lambda labels: labels[1:] + labels[:1], "has no next one"),
    (checks.shift, lambda labels: labels[1:], "as many targets"),
    (checks.shift, lambda labels: [*labels[1:], 0], "has no next one"),
    (checks.padded, lambda i, x, w, p: (i + [i[-1]] * fill(w, i), x + [-100] * fill(w, i)), "padded with the end"),
    (checks.padded, lambda i, x, w, p: (i + [p] * fill(w, i), x + [p] * fill(w, i)), "padding is not learned"),
    (checks.padded, lambda i, x, w, p: ([p] * fill(w, i) + i, [-100] * fill(w, i) + x), "come first"),
    (checks.padded, masked_by_value, "by place, not by value"),
    (checks.padded, lambda i, x, w, p: (i + [p] * fill(w, i), x), "both rows"),
    (checks.padded, lambda i, x, w, p: (i, x), "both rows"),
]


@pytest.mark.parametrize(("check", "answer", "hint"), WRONG, ids=lambda value: getattr(value, "__name__", ""))
def test_wrong(check: Check, answer: Answer, hint: str) -> None:
    verdict = check(answer)
    assert verdict.state == "wrong", verdict
    assert hint in verdict.message


def test_every_exercise_has_two_wrong_answers_here() -> None:
    for name in NAMES:
        assert sum(check.__name__ == name for check, _, _ in WRONG) >= 2, name


# --- not attempted, raised ------------------------------------------------------------------------


@pytest.mark.parametrize("check", EXERCISES, ids=NAMES)
def test_three_dots_are_not_attempted(check: Check) -> None:
    assert check(...).state == "not attempted"


@pytest.mark.parametrize("check", FUNCTIONS, ids=NAMES[1:])
@pytest.mark.parametrize("result", [..., None], ids=["dots", "nothing"])
def test_a_function_that_returns_the_dots_or_nothing_is_not_attempted(check: Check, result: object) -> None:
    assert check(lambda *_: result).state == "not attempted"


@pytest.mark.parametrize("check", FUNCTIONS, ids=NAMES[1:])
def test_an_error_of_the_learners_own_is_named(check: Check) -> None:
    def broken(*_: object) -> object:
        raise LookupError("no such poem")

    assert check(broken) == Verdict("raised", "LookupError: no such poem")


@pytest.mark.parametrize("check", FUNCTIONS, ids=NAMES[1:])
def test_something_that_cannot_be_called_raises(check: Check) -> None:
    assert check("<EOS>").state == "raised"


# --- the checks and the library agree -------------------------------------------------------------


def test_the_labels_asked_for_are_those_of_make_example() -> None:
    tokenizer = CharacterTokenizer.train(["春雨花開。" + WRITE_A_POEM], min_count=1)
    tokenizer.add_role_tokens()
    segments = example_segments(Poem("春雨", "", ("花開。",)))
    example = make_example(tokenizer, segments, context=64)
    start = example.input_ids.index(tokenizer.control_id("<RES>")) + 1

    prompt, response = example.input_ids[:start], example.input_ids[start:-1]
    right = [answer for check, answer in RIGHT if check is checks.labels]
    assert len(right) == 2
    for answer in right:
        assert answer(prompt, response, tokenizer.eos_id) == example.labels


def test_a_verdict_reads_as_text_and_escapes_its_html() -> None:
    verdict = Verdict("wrong", "<RES> & more")
    assert repr(verdict) == "wrong: <RES> & more"
    assert "&lt;RES&gt; &amp; more" in verdict._repr_html_()
