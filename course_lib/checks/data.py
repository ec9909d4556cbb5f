"""The exercises of notebooks 01 and 02: what an example looks like, and which of its tokens are learned."""

from collections.abc import Iterator
from itertools import takewhile

from course_lib.batches import IGNORE
from course_lib.checks.verdict import Answer, Judged, exercise, number
from course_lib.instructions import POEM
from course_lib.poems import Poem, load_poems
from course_lib.roles import END, INPUT, INSTRUCTION, RESPONSE

STANZAS = Poem("江南曲", "", ("春水碧於天，畫船聽雨眠。", "", "壚邊人似月，皓腕凝霜雪。"))  # an empty row between them


@exercise("one sign marks the end of each poem, and it stands nowhere else.")
def layout(answer: Answer) -> Iterator[str]:
    """Poems in a layout of one's own: is their end marked, and nothing else?"""
    poems = [STANZAS, *load_poems("validation")]
    texts = []
    for poem in poems:
        text = answer(poem)
        if missing := [part for part in (poem.title, *poem.lines) if part not in text]:
            yield f"the title and all lines must be in the text; {missing[0]} is missing"
        texts.append(text)
    endings = takewhile(lambda signs: len(set(signs)) == 1, zip(*(text[::-1] for text in texts), strict=False))
    sign = "".join(signs[0] for signs in endings)[::-1]
    strung = "".join(texts)
    if not sign:
        yield "your texts end in different ways; put the same sign of your own behind each poem"
    if (times := strung.count(sign)) != len(poems):
        yield f"each text ends in {sign!r}, but {len(poems):,} poems have it {times:,} times: use a sign of your own"
    told = f"{sign!r} stands behind each of {len(poems):,} poems, about every {len(strung) // len(poems)} characters"
    raise Judged("right", f"{told}. A model that reads this can learn where a poem ends.")


@exercise("a window is mixed if it holds characters of two poems or more, wherever the cuts fall.")
def mixed_windows(answer: Answer) -> Iterator[str]:
    """How many windows hold characters of more than one text, if the texts are strung and cut."""
    cases = [
        (["春眠不覺", "處處"], 4, 0, "the cut falls exactly between the texts, so no window holds both"),
        (["春眠不覺曉", "處處聞啼"], 4, 1, "the second window ends the first text and begins the second"),
        (["千山", "萬逕", "孤舟"], 8, 1, "one window holds all three texts, and it is not full"),
        (["春", "春", "春春"], 2, 1, "two texts with the same characters are still two texts"),
        (["千山鳥飛絕萬逕人蹤滅", "孤"], 3, 1, "a long text fills several windows alone"),
        (["千山", "萬逕", "孤舟"], 3, 2, "the first window begins a second text, the second window begins a third"),
    ]
    for texts, size, expected, hint in cases:
        if (found := number(answer(texts.copy(), size))) != expected:
            yield f"{texts} in windows of {size}: {expected} hold more than one text, you returned {found:g}: {hint}"


@exercise("there are four segments, each a token and a text, and the last token is one that nobody can type.")
def segments(answer: Answer) -> Iterator[str]:
    """A title and a text as the four segments of an example."""
    for title, text in (("江雪", "千山鳥飛絕，萬逕人蹤滅。\n孤舟蓑笠翁，獨釣寒江雪。"), ("<RES>", "春。")):
        found = answer(title, text)
        if isinstance(found, str) or not all(isinstance(each, list) and len(each) == 2 for each in found):
            yield "return a list of segments; each is a pair of a token and a text"
        tokens, texts = [token for token, _ in found], [part for _, part in found]
        if END not in tokens:
            yield "the end mark needs a segment of its own; without it the model never learns to stop"
        if tokens != [INSTRUCTION, INPUT, RESPONSE, END]:
            yield f"the tokens must be <INS>, <INP>, <RES>, <EOS>, in this order; yours are {tokens}"
        if texts[3] != "":
            yield "nothing follows the end mark: its text is empty"
        if texts[1] != title or texts[2] != text:
            yield "the input is the title alone and the response is the poem alone, both unchanged"
        if texts[0] != POEM.wording:
            yield f"the instruction is always the same sentence, word for word: {POEM.wording}"


@exercise("the response and its end mark are learned; the prompt is only read.")
def labels(answer: Answer) -> Iterator[str]:
    """The labels of prompt, response and end mark."""
    for prompt, response, end in (([90, 5, 6, 91], [7, 8], 2), ([90, 91], [5], 3), ([90, 8, 91], [8, 5, 8, 9], 2)):
        found = answer(prompt.copy(), response.copy(), end)
        expected = [IGNORE] * len(prompt) + [*response, end]
        if found == expected:
            continue
        left, right = expected[1:], [IGNORE, *expected]
        if found in (left, [*left, IGNORE], right, right[:-1]):
            yield "each label has the same place as its token; the shift by one happens later, in the loss"
        if len(found) != len(expected):
            yield f"prompt, response and end mark have {len(expected)} tokens; you returned {len(found)} labels"
        if any(label != IGNORE for label in found[: len(prompt)]):
            yield f"the prompt is not learned: which label does the loss ignore? You returned {found}"
        if found[-1] != end:
            yield "the end mark is learned, like the characters of the poem"
        if IGNORE in found[len(prompt) :]:
            yield "a character of the response is learned even if the title has it, too: mask places, not values"
        yield f"for the prompt {prompt}, the response {response} and the end mark {end} you returned {found}"


@exercise("padding fills the row and is not learned, but the real end mark still is.")
def padded(answer: Answer) -> Iterator[str]:
    """An example filled up to a width: its ids and its labels."""
    ids, given, end = [90, 7, 8, 2], [IGNORE, 7, 8, 2], 2
    for width, pad in ((7, 0), (4, 0), (6, 1)):
        found_ids, found_labels = answer(ids.copy(), given.copy(), width, pad)
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
