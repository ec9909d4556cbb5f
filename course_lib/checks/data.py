"""The exercises of notebooks 01 and 02: what an example looks like, and which of its tokens are learned."""

from collections.abc import Iterator
from itertools import takewhile

from course_lib.batches import IGNORE
from course_lib.checks.verdict import Answer, Judged, exercise, number
from course_lib.instructions import POEM
from course_lib.language import say, sentences
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
            yield say("the title and all lines must be in the text; {part} is missing", part=missing[0])
        texts.append(text)
    endings = takewhile(lambda signs: len(set(signs)) == 1, zip(*(text[::-1] for text in texts), strict=False))
    sign = "".join(signs[0] for signs in endings)[::-1]
    strung = "".join(texts)
    if not sign:
        yield say("your texts end in different ways; put the same sign of your own behind each poem")
    n = {"sign": repr(sign), "poems": len(poems), "times": strung.count(sign), "length": len(strung) // len(poems)}
    if n["times"] != n["poems"]:
        yield say("each text ends in {sign}, but {poems:,} poems have it {times:,} times: use a sign of your own", **n)
    told = say("{sign} stands behind each of {poems:,} poems, about every {length} characters.", **n)
    raise Judged("right", sentences(told, say("A model that reads this can learn where a poem ends.")))


@exercise("a window is mixed if it holds characters of two poems or more, wherever the cuts fall.")
def mixed_windows(answer: Answer) -> Iterator[str]:
    """How many windows hold characters of more than one text, if the texts are strung and cut."""
    cases = [
        (["春眠不覺", "處處"], 4, 0, say("the cut falls exactly between the texts, so no window holds both")),
        (["春眠不覺曉", "處處聞啼"], 4, 1, say("the second window ends the first text and begins the second")),
        (["千山", "萬逕", "孤舟"], 8, 1, say("one window holds all three texts, and it is not full")),
        (["春", "春", "春春"], 2, 1, say("two texts with the same characters are still two texts")),
        (["千山鳥飛絕萬逕人蹤滅", "孤"], 3, 1, say("a long text fills several windows alone")),
        (["千山", "萬逕", "孤舟"], 3, 2, say("the first window begins a second text, the second one a third")),
    ]
    for texts, size, expected, hint in cases:
        if (found := number(answer(texts.copy(), size))) != expected:
            n = {"texts": texts, "size": size, "n": expected, "found": found, "hint": hint}
            yield say("{texts} in windows of {size}: {n} hold more than one text, not {found:g}: {hint}", **n)


@exercise("there are four segments, each a token and a text, and the last token is one that nobody can type.")
def segments(answer: Answer) -> Iterator[str]:
    """A title and a text as the four segments of an example."""
    for title, text in (("江雪", "千山鳥飛絕，萬逕人蹤滅。\n孤舟蓑笠翁，獨釣寒江雪。"), ("<RES>", "春。")):
        found = answer(title, text)
        if isinstance(found, str) or not all(isinstance(each, list) and len(each) == 2 for each in found):
            yield say("return a list of segments; each is a pair of a token and a text")
        tokens, texts = [token for token, _ in found], [part for _, part in found]
        if END not in tokens:
            yield say("the end mark needs a segment of its own; without it the model never learns to stop")
        if tokens != [INSTRUCTION, INPUT, RESPONSE, END]:
            yield say("the tokens must be <INS>, <INP>, <RES>, <EOS>, in this order; yours are {tokens}", tokens=tokens)
        if texts[3] != "":
            yield say("nothing follows the end mark: its text is empty")
        if texts[1] != title or texts[2] != text:
            yield say("the input is the title alone and the response is the poem alone, both unchanged")
        if texts[0] != POEM.wording:
            yield say("the instruction is always the same sentence, word for word: {wording}", wording=POEM.wording)


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
            yield say("each label has the same place as its token; the shift by one happens later, in the loss")
        if len(found) != len(expected):
            lengths = {"tokens": len(expected), "found": len(found)}
            yield say("prompt, response and end mark have {tokens} tokens; you returned {found} labels", **lengths)
        if any(label != IGNORE for label in found[: len(prompt)]):
            yield say("the prompt is not learned: which label does the loss ignore? You returned {found}", found=found)
        if found[-1] != end:
            yield say("the end mark is learned, like the characters of the poem")
        if IGNORE in found[len(prompt) :]:
            yield say("a character of the response is learned even if the title has it, too: mask places, not values")
        n = {"prompt": prompt, "response": response, "end": end, "found": found}
        yield say("for the prompt {prompt}, the response {response} and the end mark {end} you returned {found}", **n)


@exercise("padding fills the row and is not learned, but the real end mark still is.")
def padded(answer: Answer) -> Iterator[str]:
    """An example filled up to a width: its ids and its labels."""
    ids, given, end = [90, 7, 8, 2], [IGNORE, 7, 8, 2], 2
    for width, pad in ((7, 0), (4, 0), (6, 1), (6, 7)):
        found_ids, found_labels = answer(ids.copy(), given.copy(), width, pad)
        fill = width - len(ids)
        if len(found_ids) != width or len(found_labels) != width:
            n = {"width": width, "ids": len(found_ids), "labels": len(found_labels)}
            yield say("both lists must have {width} values; yours have {ids} and {labels}", **n)
        if fill and found_ids[len(ids) :] == [end] * fill:
            yield say("you filled the row with end marks, so it ends more than once; use pad_id")
        if not {*given[1:]} <= {*found_labels}:
            case = {"pad": pad, "given": given, "found": found_labels}
            yield say("with pad_id {pad}, the labels {given} became {found}: mask places, not values", **case)
        if found_ids != ids + [pad] * fill:
            yield say("the ids come first and unchanged, then pad_id; yours are {ids}", ids=found_ids)
        if found_labels != given + [IGNORE] * fill:
            yield say("padding is not learned, and the other labels stay unchanged; yours: {it}", it=found_labels)
