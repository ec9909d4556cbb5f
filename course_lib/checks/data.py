"""The exercises of notebooks 01 and 02: what an example looks like, and what of it is learned."""

from __future__ import annotations

from typing import Any

from course_lib.batches import IGNORE
from course_lib.checks.verdict import call, exercise
from course_lib.roles import END, INPUT, INSTRUCTION, RESPONSE, WRITE_A_POEM

# --- notebook 01: data formatting -----------------------------------------------------------------


@exercise
def end_mark(answer: Any) -> str | None:
    """the end mark is one token of its own, and it stands nowhere but where a poem is over."""
    if answer == END:
        return None
    if not isinstance(answer, str):
        return "the answer is a mark in quotation marks, like those that open the other segments"
    if answer in (INSTRUCTION, INPUT, RESPONSE):
        return "this mark opens a turn; which one says that everything is over?"
    if not answer.strip("\n"):
        return "a new row follows every couplet, not only the last one"
    return "look at the last segment of the list: what is its mark?"


@exercise
def segments(function: Any) -> str | None:
    """four segments, each a mark and a text, and the poem ends with a mark that nobody can type."""
    for title, text in (("江雪", "千山鳥飛絕，萬逕人蹤滅。\n孤舟蓑笠翁，獨釣寒江雪。"), ("<RES>", "春。")):
        found = [tuple(segment) for segment in call(function, title, text)]
        marks, texts = [segment[0] for segment in found], [segment[-1] for segment in found]
        if END not in marks:
            return "without the end mark as a segment of its own the model never learns to stop"
        if marks != [INSTRUCTION, INPUT, RESPONSE, END]:
            return f"the marks are to be <INS>, <INP>, <RES>, <EOS> in this order; not {', '.join(marks)}"
        if texts[-1]:
            return "nothing comes after the end mark: its text is empty"
        if texts[1] != title or texts[2] != text:
            return "the title alone is the input, the poem alone the response, both as they were given"
        if texts[0] != WRITE_A_POEM:
            return "the instruction is the fixed sentence WRITE_A_POEM, word for word"
    return None


@exercise
def regular(function: Any) -> str | None:
    """every line counted, and the lines counted too: this is how the course will judge a model's poems."""
    five, six, seven = "空山不見人", "春水碧於天上", "孤帆遠影碧空盡"
    cases = [
        ((five,) * 4, True, "four lines of five characters are regular"),
        ((seven,) * 8, True, "eight lines of seven characters are regular"),
        ((five, five, five, six), False, "look at every line, not only at the first"),
        ((five, seven) * 2, False, "all lines must be of the same length"),
        ((five,) * 5, False, "an odd number of lines leaves one without its partner"),
        ((six,) * 4, False, "six characters a line is neither five nor seven"),
        ((), False, "a poem without lines is not regular"),
    ]
    wrong = (hint for lines, expected, hint in cases if bool(call(function, lines)) is not expected)
    return next(wrong, None)


# --- notebook 02: role tokens ---------------------------------------------------------------------


@exercise
def labels(function: Any) -> str | None:
    """the response and its end mark are learned, each at its own place; the prompt is read only."""
    for prompt, response, end in (([90, 5, 6, 91], [7, 8, 9, 7], 2), ([90, 91], [5], 3)):
        found = [int(label) for label in call(function, list(prompt), list(response), end)]
        ids = [*prompt, *response, end]
        expected = [IGNORE] * len(prompt) + ids[len(prompt) :]
        if found == expected:
            continue
        left, right = expected[1:], [IGNORE, *expected]
        if found in (left, [*left, IGNORE], right, right[:-1]):
            return "labels stand where their tokens stand; the shift by one comes later, in the loss"
        if len(found) != len(ids):
            return f"prompt, response and end mark are {len(ids)} tokens; your labels are {len(found)}"
        if any(label != IGNORE for label in found[: len(prompt)]):
            return f"the prompt is given, not learned: which label does the loss ignore? Yours are {found}"
        if found[-1] != end:
            return "the end mark is to be learned like any character of the poem"
        return f"for the prompt {prompt}, the response {response} and the end {end} you gave {found}"
    return None


@exercise
def shift(function: Any) -> str | None:
    """at each place stands what comes next, and after the last token there is nothing to predict."""
    for given in ([IGNORE, IGNORE, 7, 8, 2], [5, 6, 2]):
        found = [int(target) for target in call(function, list(given))]
        if found == [*given[1:], IGNORE]:
            continue
        if len(found) != len(given):
            return "as many targets as labels: what stands at the last place, where nothing follows?"
        if found == [IGNORE, *given[:-1]]:
            return "this is a shift to the right: each token would be asked for the one before it"
        if found[:-1] == given[1:]:
            return f"the last token has no next one; {found[-1]} is not what follows it"
        return f"for the labels {given} you gave {found}; what comes after the token at 0, at 1, …?"
    return None


@exercise
def padded(function: Any) -> str | None:
    """padding fills the row and is never learned, and the one true end mark still is."""
    ids, labels_, end = [90, 7, 8, 2], [IGNORE, 7, 8, 2], 2
    for width, pad in ((7, 0), (4, 0), (6, 1)):
        found_ids, found_labels = (
            [int(value) for value in row] for row in call(function, list(ids), list(labels_), width, pad)
        )
        fill = width - len(ids)
        if len(found_ids) != width or len(found_labels) != width:
            return f"both rows are to be {width} long; yours are {len(found_ids)} and {len(found_labels)}"
        if fill and found_ids[len(ids) :] == [end] * fill:
            return "you padded with the end mark: the row now ends more than once. Use pad_id"
        if found_labels.count(end) == 0:
            return "the true end mark is to stay among the labels: mask by place, not by value"
        if found_ids != ids + [pad] * fill:
            return f"the tokens come first and unchanged, then pad_id; yours are {found_ids}"
        if found_labels != labels_ + [IGNORE] * fill:
            return f"padding is not learned, everything else is as before; your labels are {found_labels}"
    return None
