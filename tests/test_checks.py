"""The exercises: right answers pass, and each plausible wrong answer gets the hint that belongs to it."""

import math
import statistics
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from course_lib import checks
from course_lib.batches import IGNORE, make_example
from course_lib.checks.verdict import Verdict
from course_lib.instructions import POEM
from course_lib.poems import Poem
from course_lib.roles import example_segments
from course_lib.tokenizer import CharacterTokenizer

Groups = dict[str, set[str]]
Pair = tuple[list[int], list[int]]

# --- answers that need more than a line -----------------------------------------------------------


def segments_of(*segments: tuple[str, str]) -> Callable[[str, str], list[tuple[str, str]]]:
    """An answer that fills {title} and {text} into fixed segments."""
    return lambda title, text: [(token, part.format(title=title, text=text)) for token, part in segments]


INS, INP, RES, EOS = ("<INS>", POEM.wording), ("<INP>", "{title}"), ("<RES>", "{text}"), ("<EOS>", "")


def labels_by_loop(prompt: list[int], response: list[int], end: int) -> list[int]:
    labels = list(prompt)
    for place in range(len(prompt)):
        labels[place] = -100
    return [*labels, *response, end]


def pad_in_place(ids: list[int], labels: list[int], width: int, pad: int) -> Pair:
    while len(ids) < width:
        ids.append(pad)
        labels.append(-100)
    return ids, labels


def padded_with(ids: list[int], labels: list[int], width: int, id_: int, label: int) -> Pair:
    fill = width - len(ids)
    return ids + [id_] * fill, labels + [label] * fill


def masked_by_value(ids: list[int], labels: list[int], width: int, pad: int) -> Pair:
    """What happens if the end mark is also the padding: every end mark is masked, the real one too."""
    ids, labels = padded_with(ids, labels, width, pad, pad)
    return ids, [IGNORE if label in (pad, 2) else label for label in labels]


def grow(embedding: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    return torch.cat((embedding, rows))


def sharpened(logits: list[float], temperature: float) -> list[float]:
    weights = [math.exp(logit / temperature) for logit in logits]
    return [weight / sum(weights) for weight in weights]


def nucleus_size(ranked: list[float], top_p: float) -> int:
    together = 0.0
    for size, p in enumerate(ranked, start=1):
        together += p
        if together >= top_p:
            return size
    return len(ranked)


def read_until(tokens: Iterable[int], end_id: int, limit: int) -> tuple[list[int], str]:
    ids: list[int] = []
    for token in tokens:
        if token == end_id:
            return ids, "end"
        ids.append(token)
        if len(ids) == limit:
            break
    return ids, "length"


def end_mark_kept(tokens: Iterable[int], end_id: int, limit: int) -> tuple[list[int], str]:
    ids, reason = read_until(tokens, end_id, limit)
    return ([*ids, end_id], reason) if reason == "end" else (ids, reason)


def rhyming(words: list[str], groups: Groups) -> bool:
    shared = set.intersection(*(groups[word] for word in words))
    return len(words) > 1 and bool(shared) and len(set(words)) == len(words)


def rhyming_with_the_next(words: list[str], groups: Groups) -> bool:
    pairs = list(pairwise(words))
    return bool(pairs) and len(set(words)) == len(words) and all(groups[a] & groups[b] for a, b in pairs)


def same_groups(words: list[str], groups: Groups) -> bool:
    return len(words) > 1 and len(set(words)) == len(words) and all(groups[w] == groups[words[0]] for w in words)


def echo_allowed(words: list[str], groups: Groups) -> bool:
    return len(words) > 1 and bool(set.intersection(*(groups[word] for word in words)))


def one_word_is_enough(words: list[str], groups: Groups) -> bool:
    return bool(set.intersection(*(groups[word] for word in words))) and len(set(words)) == len(words)


def no_group_in_common(words: list[str], groups: Groups) -> bool:
    """Two words without a group have the same groups, so this answer says that they rhyme."""
    return rhyming(words, groups) or (len(words) > 1 and not any(groups[word] for word in words))


def longest_run(text: str, other: str) -> int:
    runs = [text[i:j] for i in range(len(text)) for j in range(i + 1, len(text) + 1)]
    return max((len(run) for run in runs if run in other), default=0)


def run_with_gaps(text: str, other: str) -> int:
    """The longest common subsequence."""
    best = [[0] * (len(other) + 1) for _ in range(len(text) + 1)]
    for i, a in enumerate(text):
        for j, b in enumerate(other):
            best[i + 1][j + 1] = best[i][j] + 1 if a == b else max(best[i][j + 1], best[i + 1][j])
    return best[-1][-1]


def run_at_the_same_place(text: str, other: str) -> int:
    longest = run = 0
    for a, b in zip(text, other, strict=False):
        run = run + 1 if a == b else 0
        longest = max(longest, run)
    return longest


def run_without_looking_back(text: str, other: str) -> int:
    """It goes on behind the first run that fits, and misses a longer one that begins within it."""
    longest = at = 0
    while at < len(text):
        length = 0
        while at + length < len(text) and text[at : at + length + 1] in other:
            length += 1
        longest, at = max(longest, length), at + length + 1
    return longest


def interval(means: Sequence[float]) -> tuple[float, float]:
    ranked = sorted(means)
    return ranked[round(0.025 * len(ranked))], ranked[round(0.975 * len(ranked)) - 1]


def ten_percent_outside(means: Sequence[float]) -> tuple[float, float]:
    ranked = sorted(means)
    return ranked[round(0.05 * len(ranked))], ranked[round(0.95 * len(ranked)) - 1]


def interval_not_sorted(means: Sequence[float]) -> tuple[float, float]:
    low, high = means[round(0.025 * len(means))], means[round(0.975 * len(means)) - 1]
    return min(low, high), max(low, high)


def two_deviations(means: Sequence[float]) -> tuple[float, float]:
    """Right for a normal distribution, wrong for these means."""
    middle, deviation = statistics.mean(means), statistics.stdev(means)
    return middle - 1.96 * deviation, middle + 1.96 * deviation


# --- the tables -----------------------------------------------------------------------------------

RIGHT: dict[str, list[Any]] = {
    "end_mark": ["<EOS>"],
    "segments": [
        segments_of(INS, INP, RES, EOS),
        lambda title, text: example_segments(Poem(title, "", tuple(text.split("\n")))),
    ],
    "regular": [
        lambda lines: len(lines) % 2 == 0 and {len(line) for line in lines} in ({5}, {7}),
        lambda lines: any(lines and len(lines) % 2 == 0 and all(len(x) == n for x in lines) for n in (5, 7)),
    ],
    "labels": [lambda prompt, response, end: [-100] * len(prompt) + response + [end], labels_by_loop],
    "shift": [lambda labels: [*labels[1:], -100]],
    "padded": [lambda i, x, w, p: padded_with(i, x, w, p, -100), pad_in_place],
    "layer_parameters": [lambda size, inner: 4 * size**2 + 3 * size * inner + 2 * size],
    "grown_embedding": [
        lambda old, count: grow(old, old.mean(dim=0).expand(count, -1)),
        lambda old, count: torch.vstack([old, *[old.mean(0, keepdim=True)] * count]),
    ],
    "choices": [lambda loss: 2.718281828**loss],
    "response_loss": [
        lambda losses, labels: losses[:, :-1][labels[:, 1:] != -100].mean(),
        lambda losses, labels: losses[F.pad(labels, (0, 1), value=-100)[:, 1:] != -100].mean().item(),
    ],
    "diluted_loss": [lambda loss, learned, free: loss * learned / (learned + free)],
    "clipped": [
        lambda gradient, largest: gradient * min(1, largest / gradient.norm()),
        lambda gradient, largest: gradient * (largest / gradient.norm()).clamp(max=1),
    ],
    "sharpened": [sharpened],
    "nucleus_size": [nucleus_size],
    "read_until": [read_until],
    "rhyming": [rhyming],
    "longest_run": [longest_run],
    "interval": [interval, lambda means: np.percentile(means, [2.5, 97.5])],
}

WRONG: dict[str, list[tuple[Any, str]]] = {
    "end_mark": [
        ("\n", "follows every couplet"),
        ("<RES>", "opens a segment"),
        ("<PAD>", "last segment"),
        ("。", "last segment"),
        (2, "quotation marks"),
    ],
    "segments": [
        (segments_of(INS, INP, RES), "never learns to stop"),
        (segments_of(INS, INP, ("<RES>", "{text}<EOS>")), "segment of its own"),
        (segments_of(INP, INS, RES, EOS), "in this order"),
        (segments_of(INS, ("<INP>", "{text}"), ("<RES>", "{title}"), EOS), "title alone"),
        (segments_of(INS, INP, ("<RES>", "{title}\n{text}"), EOS), "title alone"),
        (segments_of(INS, INP, ("<RES>", ""), ("<EOS>", "{text}")), "its text is empty"),
        (segments_of(("<INS>", "寫詩"), INP, RES, EOS), "word for word"),
    ],
    "regular": [
        (lambda lines: len(lines) % 2 == 0 and bool(lines) and len(lines[0]) in (5, 7), "every line"),
        (lambda lines: len(lines) % 2 == 0 and all(len(x) in (5, 7) for x in lines), "same length"),
        (lambda lines: {len(line) for line in lines} in ({5}, {7}), "odd number"),
        (lambda lines: len(lines) % 2 == 0 and len({len(x) for x in lines}) == 1, "six characters"),
        (lambda lines: len(lines) % 2 == 0 and all(len(x) == 5 for x in lines), "lines of seven"),
    ],
    "labels": [
        (lambda p, r, e: [*(p + r + [e])[1:], -100], "is not learned"),
        (lambda p, r, e: [-100] * (len(p) - 1) + r + [e, -100], "the shift by one happens later"),
        (lambda p, r, e: [-100] * (len(p) + 1) + r, "the shift by one happens later"),
        (lambda p, r, e: p + r + [e], "is not learned"),
        (lambda p, r, e: [0] * len(p) + r + [e], "is not learned"),
        (lambda p, r, e: [-100] * len(p) + r + [-100], "end mark is learned"),
        (lambda p, r, e: [-100] * len(p) + r, "you returned 8 labels"),
        (lambda p, r, e: [*r, e], "you returned 5 labels"),
        (lambda p, r, e: [-100] * len(p) + r[::-1] + [e], "for the prompt"),
    ],
    "shift": [
        (lambda labels: labels, "which token follows"),
        (lambda labels: [-100, *labels[:-1]], "shift to the right"),
        (lambda labels: labels[1:] + labels[:1], "no token follows the last one"),
        (lambda labels: labels[1:], "as many targets"),
        (lambda labels: [*labels[1:], 0], "no token follows the last one"),
    ],
    "padded": [
        (lambda i, x, w, p: padded_with(i, x, w, i[-1], -100), "filled the row with end marks"),
        (lambda i, x, w, p: padded_with(i, x, w, p, p), "padding is not learned"),
        (lambda i, x, w, p: ([p] * (w - len(i)) + i, [-100] * (w - len(i)) + x), "come first"),
        (masked_by_value, "mask places, not values"),
        (lambda i, x, w, p: (padded_with(i, x, w, p, p)[0], x), "both lists"),
        (lambda i, x, w, p: (i, x), "both lists"),
    ],
    "layer_parameters": [
        (lambda size, inner: 4 * size**2 + 3 * size * inner, "norms"),
        (lambda size, inner: 3 * size**2 + 3 * size * inner + 2 * size, "leads out of attention"),
        (lambda size, inner: 4 * size**2 + 2 * size * inner + 2 * size, "gate"),
        (lambda size, inner: 4 * 256**2 + 3 * 256 * 704 + 2 * 256, "hidden size 8"),
        (lambda size, inner: 0, "you returned 0"),
    ],
    "grown_embedding": [
        (lambda old, count: grow(old, torch.zeros(count, 3)), "mean over all old rows"),
        (lambda old, count: grow(old.mean(dim=0).expand(count, -1), old), "before the old ones"),
        (lambda old, count: grow(old, old.mean(dim=0)[None]), "2 rows more"),
        (lambda old, count: grow(old, old.mean().expand(count, 3)), "channel by channel"),
        (lambda old, count: old.mean(dim=0).expand(len(old) + count, -1), "must stay"),
    ],
    "choices": [
        (lambda loss: 2**loss, "bits"),
        (lambda loss: 2.718281828**-loss, "probability"),
        (lambda loss: loss, "fair draw"),
    ],
    "response_loss": [
        (lambda losses, labels: losses[labels != -100].mean(), "whose label decides"),
        (lambda losses, labels: losses.mean(), "the prompt and the padding"),
        (lambda losses, labels: (losses[:, :-1] * (labels[:, 1:] != -100)).sum() / losses.numel(), "divide by"),
        (lambda losses, labels: losses.sum(), "which five losses"),
    ],
    "diluted_loss": [
        (lambda loss, learned, free: loss, "over more tokens"),
        (lambda loss, learned, free: (loss + 0) / 2, "mean of the two means"),
        (lambda loss, learned, free: loss * free / (learned + free), "you returned"),
    ],
    "clipped": [
        (lambda gradient, largest: gradient.clamp(-largest, largest), "another direction"),
        (lambda gradient, largest: gradient / gradient.norm() * largest, "short already"),
        (lambda gradient, largest: gradient, "clipped to 1"),
    ],
    "sharpened": [
        (lambda logits, t: [p / t for p in sharpened(logits, 1)], "sum to 1"),
        (lambda logits, t: sharpened([x * t for x in logits], 1), "does the opposite"),
        (lambda logits, t: sharpened(logits, 1), "same at every temperature"),
        (lambda logits, t: sharpened([x - t for x in logits], 1), "same at every temperature"),
        (lambda logits, t: sharpened([x / (t + 0.1) for x in logits], 1), "you returned"),
        (lambda logits, t: sharpened(logits, t)[:1], "3 probabilities"),
    ],
    "nucleus_size": [
        (lambda ranked, p: sum(sum(ranked[: i + 1]) <= p for i in range(len(ranked))), "does not reach top-p yet"),
        (lambda ranked, p: sum(sum(ranked[:i]) <= p for i in range(len(ranked))), "reach top-p already"),
        (lambda ranked, p: sum(x > p for x in ranked), "nothing is left to draw from"),
        (lambda ranked, p: 4, "add them up"),
    ],
    "read_until": [
        (end_mark_kept, "you kept the end mark"),
        (lambda tokens, end, limit: (read_until(tokens, end, limit)[0], "end"), "the reason is 'length'"),
        (lambda tokens, end, limit: read_until(list(tokens), end, limit), "you drew 6 tokens"),
        (lambda tokens, end, limit: ([t for t in tokens if t != end], "end"), "the poem is"),
    ],
    "rhyming": [
        (rhyming_with_the_next, "花涯柴"),
        (same_groups, "one that it shares with all others"),
        (echo_allowed, "comes twice"),
        (one_word_is_enough, "a single word"),
        (no_group_in_common, "do not rhyme"),
        (lambda words, groups: bool(groups[words[0]] & groups[words[1]]), "聲明光"),
        (lambda words, groups: True, "聲光"),
        (lambda words, groups: False, "聲明"),
    ],
    "longest_run": [
        (run_with_gaps, "not a run"),
        (run_at_the_same_place, "another place"),
        (run_without_looking_back, "at a later place"),
        (lambda text, other: len(set(text) & set(other)), "another order"),
        (lambda text, other: text in other, "you returned True"),
    ],
    "interval": [
        (ten_percent_outside, "leaves 10 % outside"),
        (lambda means: (min(means), max(means)), "no mean lies outside"),
        (lambda means: (min(means), interval(means)[1]), "0.0% of the means lie below"),
        (lambda means: (interval(means)[0], max(means)), "0.0% above"),
        (interval_not_sorted, "Did you sort the means?"),
        (two_deviations, "left at each end"),
        (lambda means: interval(means)[::-1], "low end comes first"),
    ],
}

NAMES = sorted(RIGHT)
FUNCTIONS = [name for name in NAMES if name != "end_mark"]  # the exercises whose answer is a function


def verdict_on(name: str, answer: Any) -> Verdict:
    check: Callable[[Any], Verdict] = getattr(checks, name)
    return check(answer)


# --- the verdicts ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "answer"), [(name, answer) for name in NAMES for answer in RIGHT[name]])
def test_a_right_answer_is_right(name: str, answer: Any) -> None:
    verdict = verdict_on(name, answer)
    assert verdict.state == "right", verdict
    assert verdict.message.endswith(".")


@pytest.mark.parametrize(("name", "answer", "hint"), [(name, *wrong) for name in NAMES for wrong in WRONG[name]])
def test_a_wrong_answer_gets_the_hint_it_needs(name: str, answer: Any, hint: str) -> None:
    verdict = verdict_on(name, answer)
    assert verdict.state == "wrong", verdict
    assert hint in verdict.message


def test_every_exercise_has_a_right_answer_and_two_plausible_wrong_ones() -> None:
    assert RIGHT.keys() == WRONG.keys() == set(checks.__all__) - {"Verdict"}
    assert all(RIGHT.values())
    assert all(len(wrong) >= 2 for wrong in WRONG.values())


@pytest.mark.parametrize("name", NAMES)
def test_three_dots_are_not_attempted(name: str) -> None:
    assert verdict_on(name, ...).state == "not attempted"


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("result", [..., None], ids=["dots", "nothing"])
def test_a_function_that_returns_the_dots_or_nothing_is_not_attempted(name: str, result: object) -> None:
    assert verdict_on(name, lambda *_: result).state == "not attempted"


@pytest.mark.parametrize("name", FUNCTIONS)
def test_an_error_in_the_learners_code_is_named(name: str) -> None:
    def broken(*_: object) -> object:
        raise LookupError("no such poem")

    assert verdict_on(name, broken) == Verdict("raised", "LookupError: no such poem")


@pytest.mark.parametrize("name", FUNCTIONS)
def test_an_answer_that_is_no_function_raises(name: str) -> None:
    assert verdict_on(name, "<EOS>").state == "raised"


def test_a_verdict_reads_as_text_and_escapes_its_html() -> None:
    verdict = Verdict("wrong", "<RES> & more")
    assert repr(verdict) == "wrong: <RES> & more"
    assert "&lt;RES&gt; &amp; more" in verdict._repr_html_()


# --- the checks and the library agree -------------------------------------------------------------


@pytest.mark.parametrize("answer", RIGHT["labels"])
def test_the_right_labels_are_those_of_make_example(answer: Callable[[list[int], list[int], int], list[int]]) -> None:
    tokenizer = CharacterTokenizer.train(["春雨花開。" + POEM.wording], min_count=1)
    tokenizer.add_role_tokens()
    example = make_example(tokenizer, example_segments(Poem("春雨", "", ("花開。",))), context=64)
    start = example.input_ids.index(tokenizer.special_token_id("<RES>")) + 1
    prompt, response = example.input_ids[:start], example.input_ids[start:-1]
    assert answer(prompt, response, tokenizer.eos_id) == example.labels
