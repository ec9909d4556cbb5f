"""*Check yourself*: each function takes a learner's answer and says how it stands.

    >>> from course_lib import checks
    >>> checks.end_mark(...)
    not attempted: put your answer in place of the three dots

An answer is *not attempted* (still `...`), *wrong* (with a hint that does not give it away), *right*, or it
*raised* an error of its own. The exercises stand in the notebooks, in the order they stand here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import wraps
from html import escape
from typing import Any, Literal

import torch

from course_lib.batches import IGNORE
from course_lib.losses import next_tokens
from course_lib.roles import END, INPUT, INSTRUCTION, RESPONSE, WRITE_A_POEM

State = Literal["not attempted", "wrong", "right", "raised"]
COLOURS: dict[State, str] = {
    "not attempted": "#777777",
    "wrong": "#b35900",
    "right": "#1b7f4d",
    "raised": "#b35900",
}
SIGNS: dict[State, str] = {"not attempted": "○", "wrong": "✗", "right": "✓", "raised": "!"}


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a check says of an answer: a state, and a sentence."""

    state: State
    message: str

    def __repr__(self) -> str:
        return f"{self.state}: {self.message}"

    def _repr_html_(self) -> str:
        style = f"border-left:4px solid {COLOURS[self.state]};padding:.2em .8em"
        return f'<div style="{style}"><b>{SIGNS[self.state]} {self.state}</b>: {escape(self.message)}</div>'


class NotAttempted(Exception):
    """The learner's function still returns the three dots."""


def exercise(judge: Callable[[Any], str | None]) -> Callable[[Any], Verdict]:
    """Make a check of `judge`, which returns a hint for a wrong answer and None for a right one.

    The first line of the judge's docstring is what a learner reads who was right.
    """

    @wraps(judge)
    def check(answer: Any) -> Verdict:
        try:
            if answer is ...:
                raise NotAttempted
            hint = judge(answer)
        except NotAttempted:
            return Verdict("not attempted", "put your answer in place of the three dots")
        except Exception as error:  # whatever a learner's code may raise
            return Verdict("raised", f"{type(error).__name__}: {error}")
        right = (judge.__doc__ or "").strip().partition("\n")[0]
        return Verdict("right", right) if hint is None else Verdict("wrong", hint)

    return check


def call(function: Callable[..., Any], *args: Any) -> Any:
    """The result of a learner's function.

    Raises:
        NotAttempted: it returns the three dots, or nothing at all.
    """
    result = function(*args)
    if result is ... or result is None:
        raise NotAttempted
    return result


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


# --- notebook 03: the pretrained checkpoint -------------------------------------------------------


@exercise
def layer_parameters(function: Any) -> str | None:
    """four square matrices, three of the MLP and two norms: the layers are most of what the model is."""
    for size, inner in ((256, 704), (8, 20)):
        found = int(call(function, size, inner))
        attention, mlp, norms = 4 * size * size, 3 * size * inner, 2 * size
        if found == attention + mlp + norms:
            continue
        if found == attention + mlp:
            return "the two norms have a weight for each channel: few, but they are parameters too"
        if found == 3 * size * size + mlp + norms:
            return "besides query, key and value there is a matrix that leads out of attention"
        if found == attention + 2 * size * inner + norms:
            return "this MLP has a gate: how many of the layer's names above begin with mlp?"
        return f"for hidden size {size} and inner size {inner} you gave {found:,}; go through the names above"
    return None


@exercise
def grown_embedding(function: Any) -> str | None:
    """the old rows are where they were, so every old id means what it meant, and the new ones are their mean."""
    for old in (torch.tensor([[1.0, 5.0, 0.0], [3.0, -1.0, 6.0]]), torch.arange(15.0).view(5, 3) ** 2):
        found, mean = call(function, old.clone(), 2), old.mean(dim=0)
        if tuple(found.shape) != (len(old) + 2, 3):
            return f"2 rows more than {tuple(old.shape)} are {(len(old) + 2, 3)}; yours are {tuple(found.shape)}"
        if torch.allclose(found[2:], old) and not torch.allclose(found[: len(old)], old):
            return "the new rows stand before the old ones: every old id now points at another character"
        if not torch.allclose(found[: len(old)], old):
            return "the old rows must stay as they are: they are what the base model has learned"
        if not torch.allclose(found[len(old) :], mean.expand(2, -1)):
            return "each new row is to be the mean over all old rows, channel by channel"
    return None


@exercise
def choices(function: Any) -> str | None:
    """nats are natural logarithms: a loss of L is as unsure as a fair draw from exp(L) characters."""
    for count in (1, 10, 50):
        found, loss = float(call(function, math.log(count))), math.log(count)
        if math.isclose(found, count, rel_tol=1e-3):
            continue
        if math.isclose(found, 2**loss, rel_tol=1e-3):
            return "2 to the power of the loss would be right for bits; these losses are in nats"
        if math.isclose(found, math.exp(-loss), rel_tol=1e-3):
            return "this is the probability of the right character; of how many equal ones is it one?"
        return f"a fair draw from {count} characters has a loss of log({count}) = {loss:.3f}; you gave {found:.3f}"
    return None


# --- notebook 04: fine-tuning ---------------------------------------------------------------------


@exercise
def response_loss(function: Any) -> str | None:
    """a loss at t belongs to the token at t + 1, so the labels move one place before they choose."""
    labels = torch.tensor([[IGNORE, IGNORE, 7, 8, 2], [IGNORE, 5, 2, IGNORE, IGNORE]])
    losses = torch.tensor([[9.0, 1.0, 2.0, 4.0, 0.0], [3.0, 5.0, 9.0, 9.0, 0.0]])
    found = float(call(function, losses.clone(), labels.clone()))
    learned = next_tokens(labels) != IGNORE
    if math.isclose(found, losses[learned].mean().item(), rel_tol=1e-5):
        return None
    if math.isclose(found, losses[labels != IGNORE].mean().item(), rel_tol=1e-5):
        return "the loss at t is that of predicting the token at t + 1: whose label decides whether it counts?"
    if math.isclose(found, losses.mean().item(), rel_tol=1e-5):
        return "this is the mean of everything, the prompt and the padding included"
    if math.isclose(found, (losses * learned).mean().item(), rel_tol=1e-5):
        return "you summed the right losses; divide by how many they are, not by all places"
    return f"the mean over the learned tokens is not {found:.3f}; which five losses belong to 7, 8, 2, 5 and 2?"


@exercise
def diluted_loss(function: Any) -> str | None:
    """the free tokens cost nothing but are counted: the mean falls, and no poem is better for it."""
    for loss, learned, free in ((4.4, 48, 16), (3.0, 10, 30)):
        found, expected = float(call(function, loss, learned, free)), loss * learned / (learned + free)
        if math.isclose(found, expected, rel_tol=1e-3):
            continue
        if math.isclose(found, loss, rel_tol=1e-3):
            return "the poem's tokens still cost what they cost, but the mean is now taken over more tokens"
        if math.isclose(found, loss / 2, rel_tol=1e-3):
            return "the mean of two means is right only if there are as many tokens of either kind"
        return f"{learned} tokens at {loss} and {free} at 0: you gave {found:.3f} for their mean"
    return None


@exercise
def clipped(function: Any) -> str | None:
    """one factor for all of them: the step keeps its direction, and only a long one is shortened."""
    for values, largest in (([3.0, 4.0], 1.0), ([0.3, 0.4], 1.0), ([6.0, -8.0, 0.0], 5.0)):
        gradient = torch.tensor(values)
        found, norm = call(function, gradient.clone(), largest), gradient.norm().item()
        if torch.allclose(found, gradient * min(1.0, largest / norm), atol=1e-4):
            continue
        if torch.allclose(found, gradient.clamp(-largest, largest), atol=1e-4):
            return "clipping each number by itself turns the step in another direction: scale them all alike"
        if torch.allclose(found, gradient * largest / norm, atol=1e-4):
            return "a gradient that is short already is to stay as it is"
        return f"{values} has a norm of {norm:g}; clipped to {largest:g} you gave {found.tolist()}"
    return None


# --- notebook 05: generation ----------------------------------------------------------------------


@exercise
def sharpened(function: Any) -> str | None:
    """dividing the scores by a temperature below 1 spreads them out, so the likeliest gains still more."""
    for logits, temperature in (([2.0, 1.0, 0.0], 0.5), ([0.0, 3.0], 2.0), ([1.0, 1.0, -1.0, 0.5], 1.0)):
        found = [float(p) for p in call(function, list(logits), temperature)]
        if len(found) != len(logits):
            return f"{len(logits)} scores give {len(logits)} probabilities; yours are {len(found)}"
        if abs(sum(found) - 1) > 1e-4:
            return f"probabilities sum to 1; yours to {sum(found):.3f}. Which comes first, division or softmax?"
        if _close(found, _softmax(logits, temperature)):
            continue
        if _close(found, _softmax(logits, 1 / temperature)):
            return "a low temperature is to make the likeliest character likelier; yours does the opposite"
        if _close(found, _softmax(logits, 1.0)):
            return "your probabilities are the same at every temperature"
        return f"for the scores {logits} at temperature {temperature} you gave {[round(p, 3) for p in found]}"
    return None


def _softmax(logits: list[float], temperature: float) -> list[float]:
    weights = [math.exp(logit / temperature) for logit in logits]
    return [weight / sum(weights) for weight in weights]


def _close(found: list[float], expected: list[float]) -> bool:
    return all(math.isclose(f, e, abs_tol=1e-4) for f, e in zip(found, expected, strict=True))


@exercise
def nucleus_size(function: Any) -> str | None:
    """the likeliest are kept until together they reach top-p, so one is always kept."""
    cases = [
        ([0.5, 0.25, 0.125, 0.125], 0.6, 2),
        ([0.5, 0.25, 0.125, 0.125], 0.5, 1),
        ([0.5, 0.25, 0.125, 0.125], 1.0, 4),
        ([0.75, 0.25], 0.1, 1),
    ]
    for ranked, top_p, expected in cases:
        found = int(call(function, list(ranked), top_p))
        if found == expected:
            continue
        given = f"of {ranked} with top-p {top_p} you keep {found}"
        if found == 0:
            return f"{given}: then there is nothing to draw from. The one that passes top-p is kept as well"
        if found == expected - 1:
            return f"{given}, which is {sum(ranked[:found])} in all: top-p is not reached yet"
        if found == expected + 1:
            return f"{given}, but {expected} had reached top-p already"
        return f"{given}: add them up from the left; after how many is top-p reached?"
    return None


@exercise
def read_until(function: Any) -> str | None:
    """whoever reads a model has two ways out, and only the first is the model's own."""
    cases = [
        ([7, 8, 9, 2, 5, 5], 10, ([7, 8, 9], "end")),
        ([7, 8, 9, 7, 8, 9], 4, ([7, 8, 9, 7], "length")),
        ([2, 7], 3, ([], "end")),
        ([7, 8, 2], 3, ([7, 8], "end")),
    ]
    for tokens, limit, (kept, reason) in cases:
        drawn: list[int] = []
        ids, why = call(function, _drawing(tokens, drawn), 2, limit)
        given = f"for the tokens {tokens}, the end mark 2 and a limit of {limit}"
        if list(ids) == [*kept, 2] and reason == "end":
            return f"{given} you kept the end mark; it is a signal to the reader, not a part of the poem"
        if list(ids) != kept:
            return f"{given} the poem is {kept}; yours is {list(ids)}"
        if why != reason:
            return f"{given} the reason is {reason!r}; you say {why!r}"
        if len(drawn) > limit:
            return f"{given} you drew {len(drawn)} tokens: stop drawing when there are enough"
    return None


def _drawing(tokens: list[int], drawn: list[int]) -> Iterator[int]:
    for token in tokens:
        drawn.append(token)
        yield token
