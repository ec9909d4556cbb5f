"""The exercises of notebooks 01 and 02: what an example looks like, and which of its tokens are learned."""

from collections.abc import Iterator
from typing import Any

from course_lib.batches import IGNORE
from course_lib.checks.verdict import call, exercise
from course_lib.instructions import POEM
from course_lib.roles import END, INPUT, INSTRUCTION, RESPONSE


@exercise("the end mark is one token of its own, and it stands only where a poem is over.")
def end_mark(answer: Any) -> Iterator[str]:
    """The token that follows a finished poem."""
    if answer == END:
        return
    if not isinstance(answer, str):
        yield "the answer is a token in quotation marks, like those that open the other segments"
    if answer in (INSTRUCTION, INPUT, RESPONSE):
        yield "this token opens a segment; which one says that the poem is over?"
    if not answer.strip("\n"):
        yield "a newline follows every couplet, not only the last one"
    yield "look at the last segment of the list: what is its token?"


@exercise("there are four segments, each a token and a text, and the last token is one that nobody can type.")
def segments(function: Any) -> Iterator[str]:
    """A title and a text as the four segments of an example."""
    for title, text in (("江雪", "千山鳥飛絕，萬逕人蹤滅。\n孤舟蓑笠翁，獨釣寒江雪。"), ("<RES>", "春。")):
        found = [tuple(segment) for segment in call(function, title, text)]
        tokens = [segment[0] for segment in found]
        texts = [segment[-1] for segment in found]
        if END not in tokens:
            yield "the end mark needs a segment of its own; without it the model never learns to stop"
        if tokens != [INSTRUCTION, INPUT, RESPONSE, END]:
            yield f"the tokens must be <INS>, <INP>, <RES>, <EOS>, in this order; yours are {', '.join(tokens)}"
        if texts[-1]:
            yield "nothing follows the end mark: its text is empty"
        if texts[1] != title or texts[2] != text:
            yield "the input is the title alone and the response is the poem alone, both unchanged"
        if texts[0] != POEM.wording:
            yield f"the instruction is always the same sentence, word for word: {POEM.wording}"


@exercise("you counted the lines and the characters of every line. The course checks the model's poems in this way.")
def regular(function: Any) -> Iterator[str]:
    """Whether the lines of a poem are even in number and all have five, or all seven, characters."""
    five, six, seven = "空山不見人", "春水碧於天上", "孤帆遠影碧空盡"
    cases = [
        ((five,) * 4, True, "four lines of five characters are regular"),
        ((seven,) * 8, True, "eight lines of seven characters are regular"),
        ((five, five, five, six), False, "look at every line, not only at the first"),
        ((five, seven) * 2, False, "all lines must have the same length"),
        ((five,) * 5, False, "an odd number of lines is not regular: the last line has no partner"),
        ((six,) * 4, False, "six characters in a line is neither five nor seven"),
        ((), False, "a poem without lines is not regular"),
    ]
    yield from (hint for lines, expected, hint in cases if bool(call(function, lines)) is not expected)


@exercise("the response and its end mark are learned; the prompt is only read.")
def labels(function: Any) -> Iterator[str]:
    """The labels of prompt, response and end mark."""
    for prompt, response, end in (([90, 5, 6, 91], [7, 8, 9, 7], 2), ([90, 91], [5], 3)):
        found = [int(label) for label in call(function, list(prompt), list(response), end)]
        ids = [*prompt, *response, end]
        expected = [IGNORE] * len(prompt) + ids[len(prompt) :]
        if found == expected:
            continue
        left, right = expected[1:], [IGNORE, *expected]
        if found in (left, [*left, IGNORE], right, right[:-1]):
            yield "each label has the same place as its token; the shift by one happens later, in the loss"
        if len(found) != len(ids):
            yield f"prompt, response and end mark have {len(ids)} tokens together; you returned {len(found)} labels"
        if any(label != IGNORE for label in found[: len(prompt)]):
            yield f"the prompt is not learned: which label does the loss ignore? You returned {found}"
        if found[-1] != end:
            yield "the end mark is learned, like the characters of the poem"
        yield f"for the prompt {prompt}, the response {response} and the end mark {end} you returned {found}"


@exercise("each place has the token that follows it, and nothing is predicted at the last place.")
def shift(function: Any) -> Iterator[str]:
    """The labels moved one place to the left."""
    for given in ([IGNORE, IGNORE, 7, 8, 2], [5, 6, 2]):
        found = [int(target) for target in call(function, list(given))]
        if found == [*given[1:], IGNORE]:
            continue
        if len(found) != len(given):
            yield "return as many targets as labels: which value stands at the last place, where nothing follows?"
        if found == [IGNORE, *given[:-1]]:
            yield "this is a shift to the right: each token would have to predict the token before it"
        if found[:-1] == given[1:]:
            yield f"no token follows the last one, so {found[-1]} cannot be its target"
        yield f"for the labels {given} you returned {found}; which token follows the one at 0, at 1, …?"


@exercise("padding fills the row and is not learned, but the real end mark still is.")
def padded(function: Any) -> Iterator[str]:
    """An example filled up to a width: its ids and its labels."""
    ids, given, end = [90, 7, 8, 2], [IGNORE, 7, 8, 2], 2
    for width, pad in ((7, 0), (4, 0), (6, 1)):
        found_ids, found_labels = (list(map(int, row)) for row in call(function, ids.copy(), given.copy(), width, pad))
        fill = width - len(ids)
        if len(found_ids) != width or len(found_labels) != width:
            yield f"both lists must have {width} values; yours have {len(found_ids)} and {len(found_labels)}"
        if fill and found_ids[len(ids) :] == [end] * fill:
            yield "you filled the row with end marks, so it ends more than once; use pad_id"
        if end not in found_labels:
            yield "the real end mark must stay a label: mask places, not values"
        if found_ids != ids + [pad] * fill:
            yield f"the ids come first and unchanged, then pad_id; yours are {found_ids}"
        if found_labels != given + [IGNORE] * fill:
            yield f"padding is not learned, and the other labels stay unchanged; yours are {found_labels}"
