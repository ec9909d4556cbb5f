"""The exercises: right answers of every make pass, and each plausible wrong answer gets the hint that belongs to it.

One table for each exercise, notebook by notebook. A table has right answers, and wrong answers with words of the hint.
"""

import difflib
import functools
import inspect
import itertools
import json
import linecache
import math
import re
import statistics
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import pairwise, takewhile
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from course_lib import checks, paths
from course_lib.batches import IGNORE, make_example
from course_lib.checkpoints import Checkpoint, load_checkpoint, save_checkpoint
from course_lib.checks.verdict import Verdict
from course_lib.evaluation import bootstrap_mean, training_index
from course_lib.generation import WrittenPoem, iter_poems, write
from course_lib.instructions import POEM, Instruction
from course_lib.model import ModelConfig, PoetryModel
from course_lib.poems import DEMO_TITLE, Poem
from course_lib.prosody import is_well_formed, split_lines
from course_lib.roles import example_segments, pretraining_text, prompt_segments
from course_lib.sampling import GenerationSettings
from course_lib.tokenizer import CharacterTokenizer


class Table(NamedTuple):
    """The answers to one exercise, by what is special about them."""

    right: dict[str, Any]
    wrong: dict[str, tuple[Any, str]]  # an answer, and words of its hint


TABLES: dict[str, Table] = {}

# --- notebook 1: a layout of one's own ------------------------------------------------------------

TABLES["layout"] = Table(
    right={
        "the end mark, as text": lambda poem: f"{poem.title}\n{poem.text}<EOS>\n",
        "a sign on a row of its own": lambda poem: f"{poem.title}\n{poem.text}\n※\n",
        "two empty rows": lambda poem: f"{poem.title}\n{poem.text}\n\n\n",
        "two words in brackets": lambda poem: f"題：{poem.title}\n詩：{poem.text}（詩完）",
        "no punctuation": lambda poem: "\n".join([poem.title, *poem.lines, "end", ""]),
        "joined and replaced": lambda poem: "|".join((poem.title, *poem.couplets)).replace("。|", "。 ") + "|||",
        "the title last": lambda poem: poem.text + "\n—— " + poem.title + " ##\n",
    },
    wrong={
        "the pretraining text": (pretraining_text, "1,001 poems have it 1,002 times"),
        "one row after the other": (lambda poem: f"{poem.title}\n{poem.text}\n", "use a sign of your own"),
        "nothing at the end": (lambda poem: f"{poem.title}\n{poem.text}", "end in different ways"),
        "a full stop more": (lambda poem: f"{poem.title}。{poem.text}。\n", "use a sign of your own"),
        "a character of the poems": (lambda poem: f"{poem.title}\n{poem.text}月", "use a sign of your own"),
        "the sign opens a poem, too": (lambda poem: f"###{poem.title}\n{poem.text}###", "use a sign of your own"),
        "the sign stands before the poem": (lambda poem: f"※{poem.title}\n{poem.text}", "end in different ways"),
        "no title": (lambda poem: f"{poem.text}<EOS>", "is missing"),
        "only the first couplet": (lambda poem: f"{poem.title}\n{poem.couplets[0]}<EOS>", "is missing"),
        "a list of rows": (lambda poem: [poem.title, *poem.lines, "<EOS>"], "another kind of value"),
    },
)

# --- notebook 1: windows that hold more than one text ---------------------------------------------


def mixed_by_owner(texts: list[str], size: int) -> int:
    owner = [number for number, text in enumerate(texts) for _ in text]
    return sum(len(set(owner[i : i + size])) > 1 for i in range(0, len(owner), size))


def mixed_by_boundary(texts: list[str], size: int) -> int:
    boundaries = itertools.accumulate(len(text) for text in texts[:-1])
    return len({end // size for end in boundaries if end % size})


def mixed_one_by_one(texts: list[str], size: int) -> int:
    found: set[int] = set()
    place = 0
    for number, text in enumerate(texts):
        for offset in range(len(text)):
            if number and not offset and place % size:
                found.add(place // size)
            place += 1
    return len(found)


def mixed_by_array(texts: list[str], size: int) -> Any:
    owner = np.repeat(np.arange(len(texts)), [len(text) for text in texts])
    pieces = np.array_split(owner, range(size, len(owner), size))
    return np.sum([piece[0] != piece[-1] for piece in pieces])


def mixed_by_tensor(texts: list[str], size: int) -> Tensor:
    owner = torch.tensor([number for number, text in enumerate(texts) for _ in text])
    return torch.stack([piece.unique().numel() > torch.tensor(1) for piece in owner.split(size)]).sum()


def mixed_by_eating(texts: list[str], size: int) -> float:
    mixed = 0.0
    owner = "".join(chr(number) * len(text) for number, text in enumerate(texts))
    while owner:
        window, owner = owner[:size], owner[size:]
        mixed += window != window[0] * len(window)
    return mixed


def mixed_by_text(texts: list[str], size: int) -> int:
    owner = [text for text in texts for _ in text]
    return sum(len(set(owner[i : i + size])) > 1 for i in range(0, len(owner), size))


def mixed_full_only(texts: list[str], size: int) -> int:
    owner = [number for number, text in enumerate(texts) for _ in text]
    return sum(len(set(owner[i : i + size])) > 1 for i in range(0, len(owner) - size + 1, size))


def mixed_sliding(texts: list[str], size: int) -> int:
    owner = [number for number, text in enumerate(texts) for _ in text]
    return sum(len(set(owner[i : i + size])) > 1 for i in range(len(owner)))


TABLES["mixed_windows"] = Table(
    right={
        "owners": mixed_by_owner,
        "boundaries": mixed_by_boundary,
        "one by one": mixed_one_by_one,
        "numpy": mixed_by_array,
        "torch": mixed_by_tensor,
        "a float": mixed_by_eating,
    },
    wrong={
        "every boundary": (lambda texts, size: len(texts) - 1, "exactly between the texts"),
        "every boundary within a window": (
            lambda texts, size: sum(end % size > 0 for end in itertools.accumulate(map(len, texts[:-1]))),
            "all three texts",
        ),
        "no window that is not full": (mixed_full_only, "it is not full"),
        "windows that slide": (mixed_sliding, "exactly between the texts"),
        "texts by what they say": (mixed_by_text, "still two texts"),
        "all windows": (lambda texts, size: math.ceil(len("".join(texts)) / size), "exactly between the texts"),
        "long texts": (lambda texts, size: sum(len(t) > size for t in texts), "all three texts"),
        "the windows themselves": (lambda texts, size: ["".join(texts)[:size]], "another kind of value"),
    },
)

# --- notebook 1: segments -------------------------------------------------------------------------


def segments_of(*segments: tuple[str, str]) -> Callable[[str, str], list[tuple[str, str]]]:
    """An answer that fills {title} and {text} into fixed segments."""
    return lambda title, text: [(token, part.format(title=title, text=text)) for token, part in segments]


INS, INP, RES, EOS = ("<INS>", POEM.wording), ("<INP>", "{title}"), ("<RES>", "{text}"), ("<EOS>", "")


def segments_one_by_one(title: str, text: str) -> Iterator[list[str]]:
    yield ["<INS>", POEM.wording]
    yield ["<INP>", title]
    yield ["<RES>", text]
    yield ["<EOS>", ""]


TABLES["segments"] = Table(
    right={
        "a list of pairs": segments_of(INS, INP, RES, EOS),
        "the library's": lambda title, text: example_segments(Poem(title, "", tuple(text.split("\n")))),
        "a generator": segments_one_by_one,
        "a tuple": lambda title, text: tuple(segments_of(INS, INP, RES, EOS)(title, text)),
        "zip": lambda title, text: zip(
            ("<INS>", "<INP>", "<RES>", "<EOS>"), (POEM.wording, title, text, ""), strict=True
        ),
        "the items of a dictionary": lambda title, text: dict(segments_of(INS, INP, RES, EOS)(title, text)).items(),
        "an array": lambda title, text: np.array(segments_of(INS, INP, RES, EOS)(title, text)),
        "prompt and answer": lambda title, text: [*prompt_segments(title)[:2], ("<RES>", text), ("<EOS>", "")],
    },
    wrong={
        "no end mark": (segments_of(INS, INP, RES), "never learns to stop"),
        "the end mark as text": (segments_of(INS, INP, ("<RES>", "{text}<EOS>")), "segment of its own"),
        "the title first": (segments_of(INP, INS, RES, EOS), "in this order"),
        "title and text exchanged": (segments_of(INS, ("<INP>", "{text}"), ("<RES>", "{title}"), EOS), "title alone"),
        "the title in the response": (segments_of(INS, INP, ("<RES>", "{title}\n{text}"), EOS), "title alone"),
        "the poem after the end": (segments_of(INS, INP, ("<RES>", ""), ("<EOS>", "{text}")), "its text is empty"),
        "a newline after the end": (segments_of(INS, INP, RES, ("<EOS>", "\n")), "its text is empty"),
        "None after the end": (lambda t, x: [*segments_of(INS, INP, RES)(t, x), ("<EOS>", None)], "its text is empty"),
        "another sentence": (segments_of(("<INS>", "寫詩"), INP, RES, EOS), "word for word"),
        "no newlines in the poem": (lambda t, x: segments_of(INS, INP, RES, EOS)(t, x.replace("\n", "")), "unchanged"),
        "one string": (lambda title, text: f"<INS>{POEM.wording}<INP>{title}<RES>{text}<EOS>", "a list of segments"),
        "a dictionary": (lambda title, text: dict(segments_of(INS, INP, RES, EOS)(title, text)), "a list of segments"),
        "one flat list": (
            lambda title, text: ["<INS>", POEM.wording, "<INP>", title, "<RES>", text, "<EOS>", ""],
            "a list of segments",
        ),
        "two end marks": (segments_of(INS, INP, RES, EOS, EOS), "in this order"),
    },
)

# --- notebook 2: the mask -------------------------------------------------------------------------


def labels_by_loop(prompt: list[int], response: list[int], end: int) -> list[int]:
    labels = list(prompt)
    for place in range(len(prompt)):
        labels[place] = -100
    return [*labels, *response, end]


def labels_in_place(prompt: list[int], response: list[int], end: int) -> list[int]:
    prompt[:] = [-100] * len(prompt)
    prompt += response
    prompt.append(end)
    return prompt


def labels_by_tensor(prompt: list[int], response: list[int], end: int) -> Tensor:
    labels = torch.tensor(prompt + response + [end])
    labels[: len(prompt)] = -100
    return labels


def labels_by_array(prompt: list[int], response: list[int], end: int) -> Any:
    ids = np.array(prompt + response + [end])
    return np.where(np.arange(len(ids)) < len(prompt), -100, ids)


TABLES["labels"] = Table(
    right={
        "lists": lambda prompt, response, end: [-100] * len(prompt) + response + [end],
        "a loop": labels_by_loop,
        "in place": labels_in_place,
        "a tuple": lambda prompt, response, end: (*(-100 for _ in prompt), *response, end),
        "a generator": lambda prompt, response, end: (
            i for part in ([-100] * len(prompt), response, [end]) for i in part
        ),
        "numpy": labels_by_array,
        "a tensor": labels_by_tensor,
        "a float64 tensor": lambda p, r, e: labels_by_tensor(p, r, e).double(),
        "a list of tensors": lambda p, r, e: list(labels_by_tensor(p, r, e)),
    },
    wrong={
        "shifted": (lambda p, r, e: [*(p + r + [e])[1:], -100], "is not learned"),
        "shifted to the left": (
            lambda p, r, e: [-100] * (len(p) - 1) + r + [e, -100],
            "the shift by one happens later",
        ),
        "shifted to the right": (lambda p, r, e: [-100] * (len(p) + 1) + r, "the shift by one happens later"),
        "all learned": (lambda p, r, e: p + r + [e], "is not learned"),
        "zeros": (lambda p, r, e: [0] * len(p) + r + [e], "is not learned"),
        "the end masked": (lambda p, r, e: [-100] * len(p) + r + [-100], "end mark is learned"),
        "no end": (lambda p, r, e: [-100] * len(p) + r, "you returned 6 labels"),
        "no prompt": (lambda p, r, e: [*r, e], "you returned 3 labels"),
        "as many as the response": (lambda p, r, e: [-100] * len(r) + r + [e], "you returned 5 labels"),
        "from the first value of the response": (
            lambda p, r, e: [-100] * (n := (p + r).index(r[0])) + (p + r)[n:] + [e],
            "is not learned",
        ),
        "backwards": (lambda p, r, e: [-100] * len(p) + r[::-1] + [e], "for the prompt"),
        "masked by value": (lambda p, r, e: [-100 if x in p else x for x in p + r + [e]], "mask places"),
        "each character once": (lambda p, r, e: [-100] * len(p) + list(dict.fromkeys(r)) + [e], "you returned"),
        "the end mark is 2": (lambda p, r, e: [-100] * len(p) + r + [2], "end mark is learned"),
        "<RES> is learned": (lambda p, r, e: [-100] * (len(p) - 1) + p[-1:] + r + [e], "is not learned"),
        "half a number": (lambda p, r, e: [-100] * len(p) + [i + 0.5 for i in r] + [e], "for the prompt"),
        "dots in the list": (lambda p, r, e: [..., *r, e], "labels"),
        "a list in a list": (lambda p, r, e: [[-100] * len(p) + r + [e]], "labels"),
    },
)

# --- notebook 2: padding --------------------------------------------------------------------------

Pair = tuple[list[int], list[int]]


def padded_with(ids: list[int], labels: list[int], width: int, id_: int, label: int) -> Pair:
    fill = width - len(ids)
    return ids + [id_] * fill, labels + [label] * fill


def pad_in_place(ids: list[int], labels: list[int], width: int, pad: int) -> Pair:
    while len(ids) < width:
        ids.append(pad)
        labels.append(-100)
    return ids, labels


def pad_by_torch(ids: list[int], labels: list[int], width: int, pad: int) -> tuple[Tensor, ...]:
    fill = (0, width - len(ids))
    return F.pad(torch.tensor(ids), fill, value=pad), F.pad(torch.tensor(labels), fill, value=-100)


def pad_by_numpy(ids: list[int], labels: list[int], width: int, pad: int) -> Any:
    rows = np.array([[pad], [-100]]).repeat(width, axis=1)
    rows[:, : len(ids)] = ids, labels
    return rows


def masked_by_value(ids: list[int], labels: list[int], width: int, pad: int) -> Pair:
    """What happens if the end mark is also the padding: every end mark is masked, the real one too."""
    ids, labels = padded_with(ids, labels, width, pad, pad)
    return ids, [IGNORE if label in (pad, 2) else label for label in labels]


TABLES["padded"] = Table(
    right={
        "lists": lambda i, x, w, p: padded_with(i, x, w, p, -100),
        "in place": pad_in_place,
        "torch": pad_by_torch,
        "numpy": pad_by_numpy,
        "a list of two": lambda i, x, w, p: list(padded_with(i, x, w, p, -100)),
        "unpacked": lambda i, x, w, p: ((*i, *[p] * (w - len(i))), (*x, *[-100] * (w - len(x)))),
        "generators": lambda i, x, w, p: (
            itertools.islice(itertools.chain(row, itertools.repeat(fill)), w) for row, fill in ((i, p), (x, -100))
        ),
    },
    wrong={
        "end marks": (lambda i, x, w, p: padded_with(i, x, w, i[-1], -100), "filled the row with end marks"),
        "padding learned": (lambda i, x, w, p: padded_with(i, x, w, p, p), "padding is not learned"),
        "on the left": (lambda i, x, w, p: ([p] * (w - len(i)) + i, [-100] * (w - len(i)) + x), "come first"),
        "masked by value": (masked_by_value, "mask places, not values"),
        "masked where it is pad_id": (
            lambda i, x, w, p: (
                padded_with(i, x, w, p, p)[0],
                [-100 if v == p else v for v in [*x, *[p] * (w - len(x))]],
            ),
            "with pad_id 7",
        ),
        "labels not filled": (lambda i, x, w, p: (padded_with(i, x, w, p, p)[0], x), "both lists"),
        "nothing filled": (lambda i, x, w, p: (i, x), "both lists"),
        "one too many": (lambda i, x, w, p: padded_with(i, x, w + 1, p, -100), "both lists"),
        "ids of -100": (lambda i, x, w, p: padded_with(i, x, w, -100, -100), "come first and unchanged"),
        "padding is 0": (lambda i, x, w, p: padded_with(i, x, w, 0, -100), "come first and unchanged"),
        "all learned": (lambda i, x, w, p: padded_with(i, i, w, p, -100), "the other labels stay unchanged"),
        "labels of zeros": (lambda i, x, w, p: padded_with(i, x, w, p, 0), "padding is not learned"),
        "labels first": (lambda i, x, w, p: padded_with(i, x, w, p, -100)[::-1], "come first and unchanged"),
        "the ids alone": (lambda i, x, w, p: padded_with(i, x, w, p, -100)[0], "another kind of value"),
    },
)

# --- notebook 2: three keywords of one's own ------------------------------------------------------


@functools.cache
def base_tokenizer() -> CharacterTokenizer:
    return CharacterTokenizer.load(paths.BASE / "tokenizer.json")


def with_keywords(words: Sequence[str]) -> CharacterTokenizer:
    tokenizer = base_tokenizer().copy()
    tokenizer.add_role_tokens(words)
    return tokenizer


def keywords_in_segments(words: list[str], wording: str, title: str) -> tuple[CharacterTokenizer, list[int]]:
    tokenizer = with_keywords(words)
    instruction, given, response = words
    return tokenizer, tokenizer.encode_segments([(instruction, wording), (given, title), (response, "")])


def keywords_by_id(words: list[str], wording: str, title: str) -> tuple[CharacterTokenizer, list[int]]:
    tokenizer = base_tokenizer().copy()
    instruction, given, response = tokenizer.add_role_tokens(words)
    return tokenizer, [instruction, *tokenizer.encode(wording), given, *tokenizer.encode(title), response]


def keywords_renamed(words: list[str], wording: str, title: str) -> tuple[CharacterTokenizer, list[int]]:
    tokenizer = with_keywords(words)
    renamed = dict(zip(("<INS>", "<INP>", "<RES>"), words, strict=True))
    return tokenizer, tokenizer.encode_segments((renamed[role], text) for role, text in prompt_segments(title))


def keywords_typed(words: list[str], wording: str, title: str) -> tuple[CharacterTokenizer, list[int]]:
    return with_keywords(words), base_tokenizer().encode(f"{words[0]}{wording}{words[1]}{title}{words[2]}")


def keywords_after_roles(words: list[str], wording: str, title: str) -> tuple[CharacterTokenizer, list[int]]:
    tokenizer = with_keywords(("<INS>", "<INP>", "<RES>", *words))
    return tokenizer, tokenizer.encode_segments([(words[0], wording), (words[1], title), (words[2], "")])


def keywords_as(order: str) -> Callable[[list[str], str, str], tuple[CharacterTokenizer, list[int]]]:
    """Prompts of segments in another order: 1 t is the second keyword with the title."""

    def answer(words: list[str], wording: str, title: str) -> tuple[CharacterTokenizer, list[int]]:
        texts = {"i": wording, "t": title, "-": ""}
        segments = [(words[int(word)], texts[text]) for word, text in zip(*[iter(order.split())] * 2, strict=True)]
        tokenizer = with_keywords(words)
        return tokenizer, tokenizer.encode_segments(segments)

    return answer


TABLES["keywords"] = Table(
    right={
        "segments": keywords_in_segments,
        "ids": keywords_by_id,
        "renamed": keywords_renamed,
        "a tensor": lambda words, wording, title: (
            with_keywords(words),
            torch.tensor(keywords_by_id(words, wording, title)[1]),
        ),
        "a list with an array": lambda words, wording, title: [
            with_keywords(words),
            np.array(keywords_by_id(words, wording, title)[1]),
        ],
        "one by one": lambda words, wording, title: (
            with_keywords(words),
            (
                i
                for word, text in zip(words, (wording, title, ""), strict=True)
                for i in with_keywords(words).encode_segments([(word, text)])
            ),
        ),
    },
    wrong={
        "typed": (keywords_typed, "each keyword must be one id"),
        "the course's keywords": (
            lambda words, wording, title: keywords_in_segments(["<INS>", "<INP>", "<RES>"], wording, title),
            "no special token [導演]",
        ),
        "no keywords": (lambda words, wording, title: (base_tokenizer(), [5, 6]), "no special token [導演]"),
        "after the course's keywords": (keywords_after_roles, "no role tokens yet"),
        "the title first": (keywords_as("1 t 0 i 2 -"), "your prompt reads"),
        "keywords exchanged": (keywords_as("1 i 0 t 2 -"), "your prompt reads"),
        "no response": (keywords_as("0 i 1 t"), "it should read"),
        "no instruction": (keywords_as("1 t 2 -"), "it should read"),
        "the title twice": (keywords_as("0 i 1 t 2 t"), "it should read"),
        "the ids alone": (
            lambda words, wording, title: keywords_in_segments(words, wording, title)[1],
            "another kind of value",
        ),
        "the tokenizer alone": (lambda words, wording, title: with_keywords(words), "another kind of value"),
    },
)

# --- notebook 3: the parameters of a layer --------------------------------------------------------


def layer_by_shapes(size: int, inner: int) -> int:
    shapes = [(size, size)] * 4 + [(inner, size)] * 3 + [(size,)] * 2
    return sum(math.prod(shape) for shape in shapes)


def layer_by_loop(size: int, inner: int) -> int:
    total = 0
    for rows, columns in ((size, 4 * size), (3 * inner, size), (2, size)):
        total += rows * columns
    return total


TABLES["layer_parameters"] = Table(
    right={
        "a formula": lambda size, inner: 4 * size**2 + 3 * size * inner + 2 * size,
        "shapes": layer_by_shapes,
        "a loop": layer_by_loop,
        "a float": lambda size, inner: size * (4.0 * size + 3.0 * inner + 2.0),
        "numpy": lambda size, inner: np.dot([4 * size, 3 * inner, 2], [size] * 3),
        "a tensor": lambda size, inner: torch.tensor([4 * size * size, 3 * size * inner, 2 * size]).sum(),
        "a list of one": lambda size, inner: [layer_by_shapes(size, inner)],
    },
    wrong={
        "no norms": (lambda size, inner: 4 * size**2 + 3 * size * inner, "norms"),
        "no o_proj": (lambda size, inner: 3 * size**2 + 3 * size * inner + 2 * size, "leads out of attention"),
        "no gate": (lambda size, inner: 4 * size**2 + 2 * size * inner + 2 * size, "gate"),
        "this model's number": (lambda size, inner: 4 * 256**2 + 3 * 256 * 704 + 2 * 256, "hidden size 8"),
        "one norm": (lambda size, inner: 4 * size**2 + 3 * size * inner + size, "go through the names"),
        "biases": (lambda size, inner: layer_by_shapes(size, inner) + 4 * size, "go through the names"),
        "inner is size": (lambda size, inner: 7 * size**2 + 2 * size, "go through the names"),
        "zero": (lambda size, inner: 0, "you returned 0"),
        "text": (lambda size, inner: f"{layer_by_shapes(size, inner)}", "another kind of value"),
        "the parts": (lambda size, inner: (4 * size**2, 3 * size * inner, 2 * size), "another kind of value"),
    },
)

# --- notebook 3: a larger embedding ---------------------------------------------------------------


def grow(embedding: Tensor, rows: Tensor) -> Tensor:
    return torch.cat((embedding, rows))


def grown_by_module(embedding: Tensor, count: int) -> Tensor:
    module = nn.Embedding(len(embedding) + count, embedding.shape[1])
    with torch.no_grad():
        module.weight[: len(embedding)] = embedding
        module.weight[len(embedding) :] = embedding.mean(dim=0)
    return module.weight


def grown_by_hand(embedding: Tensor, count: int) -> list[list[float]]:
    rows = embedding.tolist()
    return rows + [[sum(column) / len(rows) for column in zip(*rows, strict=True)]] * count


TABLES["grown_embedding"] = Table(
    right={
        "cat": lambda old, count: grow(old, old.mean(dim=0).expand(count, -1)),
        "vstack": lambda old, count: torch.vstack([old, *[old.mean(0, keepdim=True)] * count]),
        "lists": grown_by_hand,
        "a tuple of tuples": lambda old, count: tuple(map(tuple, grown_by_hand(old, count))),
        "numpy": lambda old, count: np.vstack([old.numpy(), np.tile(old.numpy().mean(0), (count, 1))]),
        "float64": lambda old, count: grow(old.double(), old.double().mean(dim=0).expand(count, -1)),
        "the weight of a module": grown_by_module,
        "a list of tensors": lambda old, count: [*old, *[old.mean(dim=0)] * count],
    },
    wrong={
        "zeros": (lambda old, count: grow(old, torch.zeros(count, old.shape[1])), "mean over all old rows"),
        "before the old rows": (
            lambda old, count: grow(old.mean(dim=0).expand(count, -1), old),
            "before the old ones",
        ),
        "one row": (lambda old, count: grow(old, old.mean(dim=0)[None]), "3 rows more"),
        "one mean of all": (lambda old, count: grow(old, old.mean().expand(count, old.shape[1])), "channel by channel"),
        "all rows new": (lambda old, count: old.mean(dim=0).expand(len(old) + count, -1), "must stay"),
        "random": (lambda old, count: grow(old, torch.randn(count, old.shape[1])), "mean over all old rows"),
        "the last row again": (lambda old, count: grow(old, old[-1:].expand(count, -1)), "mean over all old rows"),
        "the sum": (lambda old, count: grow(old, old.sum(dim=0).expand(count, -1)), "mean over all old rows"),
        "the median": (lambda old, count: grow(old, old.median(dim=0).values.expand(count, -1)), "mean over all"),
        "the mean of what is there": (
            lambda old, count: grow(old, torch.stack([old[: i + 1].mean(dim=0) for i in range(count)])),
            "mean over all old rows",
        ),
        "the mean of the first rows": (
            lambda old, count: grow(old, old[:count].mean(dim=0).expand(count, -1)),
            "mean over all old rows",
        ),
        "two rows, whatever is asked": (lambda old, count: grow(old, old.mean(dim=0).expand(2, -1)), "3 rows more"),
        "the new rows alone": (lambda old, count: old.mean(dim=0).expand(count, -1), "rows more"),
        "nothing": (lambda old, count: old, "3 rows more"),
        "a module": (lambda old, count: nn.Embedding(len(old) + count, old.shape[1]), "another kind of value"),
    },
)

# --- notebook 3: all tokens equally likely --------------------------------------------------------

EVEN = math.log(9082)


def evened(change: Callable[[PoetryModel], object], predicted: Any = EVEN) -> Callable[[PoetryModel], Any]:
    """An answer that changes the model without a gradient, and predicts a loss."""

    def answer(model: PoetryModel) -> Any:
        with torch.no_grad():
            change(model)
        return predicted

    return answer


def last_norm(model: PoetryModel) -> Tensor:
    return model.model.norm.weight


def embedding(model: PoetryModel) -> Tensor:
    return model.model.embed_tokens.weight


def replace_norm(model: PoetryModel) -> None:
    model.load_state_dict(model.state_dict() | {"model.norm.weight": torch.zeros(256)})


def new_norm(model: PoetryModel) -> float:
    model.model.norm.weight = nn.Parameter(torch.zeros_like(last_norm(model)))
    return -math.log(1 / model.config.vocab_size)


TABLES["even_odds"] = Table(
    right={
        "the last norm": evened(lambda model: last_norm(model).zero_()),
        "the embedding": evened(lambda model: embedding(model).zero_(), torch.tensor(EVEN)),
        "all rows alike": evened(lambda model: embedding(model).copy_(embedding(model).mean(0)), np.float64(EVEN)),
        "multiplied": evened(lambda model: last_norm(model).mul_(0), 9.114),
        "a dictionary of weights": evened(replace_norm),
        "a new parameter": new_norm,
        "nn.init": evened(lambda model: nn.init.zeros_(model.model.norm.weight), [EVEN]),
        "without no_grad": lambda model: last_norm(model).data.fill_(0).sum() + EVEN,
    },
    wrong={
        "nothing": (lambda model: EVEN, "you changed 0"),
        "a copy": (lambda model: (torch.zeros_like(last_norm(model)), EVEN)[1], "you changed 0"),
        "all weights": (evened(lambda model: [p.zero_() for p in model.parameters()]), "change one array"),
        "the norms of a layer": (
            evened(lambda model: [n.weight.zero_() for n in model.modules() if isinstance(n, nn.RMSNorm)]),
            "change one array",
        ),
        "the first norm": (
            evened(lambda model: model.get_parameter("model.layers.0.input_layernorm.weight").zero_()),
            "still likelier",
        ),
        "the last norm of ones": (evened(lambda model: last_norm(model).fill_(1)), "still likelier"),
        "doubled": (evened(lambda model: last_norm(model).mul_(2)), "still likelier"),
        "one row": (evened(lambda model: embedding(model)[0].zero_()), "still likelier"),
        "not a number": (evened(lambda model: last_norm(model).fill_(math.nan)), "still likelier"),
        "no loss": (evened(lambda model: last_norm(model).zero_(), 0), "natural logarithm"),
        "bits": (evened(lambda model: last_norm(model).zero_(), math.log2(9082)), "natural logarithm"),
        "the tokens": (evened(lambda model: last_norm(model).zero_(), 9082), "natural logarithm"),
        "with the role tokens": (evened(lambda model: last_norm(model).zero_(), math.log(9085)), "not 9.11438"),
        "the probability": (evened(lambda model: last_norm(model).zero_(), 1 / 9082), "natural logarithm"),
        "its negative": (evened(lambda model: last_norm(model).zero_(), -EVEN), "natural logarithm"),
        "the hidden size": (evened(lambda model: last_norm(model).zero_(), math.log(256)), "natural logarithm"),
        "infinite": (evened(lambda model: last_norm(model).zero_(), math.inf), "natural logarithm"),
        "the model": (lambda model: model, "another kind of value"),
    },
)

# --- notebook 4: the loss on the response ---------------------------------------------------------


def response_loss_by_loop(losses: Tensor, labels: Tensor) -> float:
    learned = []
    for row, marks in zip(losses.tolist(), labels.tolist(), strict=True):
        learned += [loss for loss, label in zip(row, marks[1:], strict=False) if label != -100]
    return sum(learned) / len(learned)


def response_loss_by_numpy(losses: Tensor, labels: Tensor) -> Any:
    return np.average(losses.numpy()[:, :-1], weights=labels.numpy()[:, 1:] != -100)


TABLES["response_loss"] = Table(
    right={
        "a mask": lambda losses, labels: losses[:, :-1][labels[:, 1:] != -100].mean(),
        "padded": lambda losses, labels: losses[F.pad(labels, (0, 1), value=-100)[:, 1:] != -100].mean().item(),
        "a loop": response_loss_by_loop,
        "numpy": response_loss_by_numpy,
        "float64": lambda losses, labels: losses.double()[:, :-1][labels[:, 1:] != -100].mean(),
        "a product": lambda losses, labels: (
            (losses[:, :-1] * (labels[:, 1:] != -100)).sum() / (labels[:, 1:] >= 0).sum()
        ),
        "masked_select": lambda losses, labels: losses[:, :-1].masked_select(labels[:, 1:].ne(-100)).mean()[None],
        "statistics": lambda losses, labels: statistics.mean(losses[:, :-1][labels[:, 1:] != -100].tolist()),
    },
    wrong={
        "not shifted": (lambda losses, labels: losses[labels != -100].mean(), "whose label decides"),
        "all places": (lambda losses, labels: losses.mean(), "the prompt and the padding"),
        "divided by all places": (
            lambda losses, labels: (losses[:, :-1] * (labels[:, 1:] != -100)).sum() / losses.numel(),
            "divide by",
        ),
        "a sum": (lambda losses, labels: losses.sum(), "which five losses"),
        "rolled across rows": (lambda losses, labels: losses[torch.roll(labels, -1) != -100].mean(), "first label"),
        "rolled in rows": (lambda losses, labels: losses[torch.roll(labels, -1, 1) != -100].mean(), "first label"),
        "shifted across rows": (
            lambda losses, labels: losses.flatten()[:-1][labels.flatten()[1:] != -100].mean(),
            "first label",
        ),
        "shifted to the right": (
            lambda losses, labels: losses[:, 1:][labels[:, :-1] != -100].mean(),
            "which five losses",
        ),
        "the mean of the rows": (
            lambda losses, labels: sum(x[:-1][y[1:] != -100].mean() for x, y in zip(losses, labels, strict=True)) / 2,
            "which five losses",
        ),
        "the median": (lambda losses, labels: losses[:, :-1][labels[:, 1:] != -100].median(), "which five losses"),
        "the sum of the right ones": (lambda losses, labels: losses[:, :-1][labels[:, 1:] != -100].sum(), "which five"),
        "the losses themselves": (lambda losses, labels: losses[:, :-1][labels[:, 1:] != -100], "another kind"),
        "no number": (lambda losses, labels: math.nan, "is not nan"),
    },
)

# --- notebook 4: a diluted loss -------------------------------------------------------------------

TABLES["diluted_loss"] = Table(
    right={
        "a formula": lambda loss, learned, free: loss * learned / (learned + free),
        "a list": lambda loss, learned, free: statistics.mean([loss] * learned + [0] * free),
        "numpy": lambda loss, learned, free: np.average([loss, 0], weights=[learned, free]),
        "a tensor": lambda loss, learned, free: torch.tensor([loss] * learned + [0.0] * free).mean(),
        "a share": lambda loss, learned, free: loss * (1 - free / (learned + free)),
        "a division": lambda loss, learned, free: loss / (1 + free / learned),
        "float32": lambda loss, learned, free: np.float32(loss * learned) / np.float32(learned + free),
    },
    wrong={
        "the same loss": (lambda loss, learned, free: loss, "over more tokens"),
        "the mean of the means": (lambda loss, learned, free: (loss + 0) / 2, "mean of the two means"),
        "the share of the free": (lambda loss, learned, free: loss * free / (learned + free), "you returned"),
        "the sum": (lambda loss, learned, free: loss * learned, "you returned"),
        "divided by the free": (lambda loss, learned, free: loss * learned / max(free, 1), "you returned"),
        "a higher loss": (lambda loss, learned, free: loss * (learned + free) / learned, "you returned"),
        "a fixed share": (lambda loss, learned, free: 0.75 * loss, "you returned"),
        "rounded": (lambda loss, learned, free: round(loss * learned / (learned + free)), "you returned"),
        "less a share": (lambda loss, learned, free: loss - free / (learned + free), "you returned"),
    },
)

# --- notebook 4: poems of one couplet -------------------------------------------------------------


def first_couplets(poems: list[Poem]) -> list[Poem]:
    return [replace(poem, couplets=poem.couplets[:1]) for poem in poems]


def couplets_by_loop(poems: list[Poem]) -> list[Poem]:
    short = poems.copy()
    for place, poem in enumerate(poems):
        short[place] = Poem(poem.title, poem.author, (poem.couplets[0],))
    return short


TABLES["one_couplet"] = Table(
    right={
        "replace": first_couplets,
        "a loop": couplets_by_loop,
        "the last couplet": lambda poems: [replace(poem, couplets=poem.couplets[-1:]) for poem in poems],
        "a generator": lambda poems: (replace(p, couplets=(p.text.split("\n")[0],)) for p in poems),
        "an array": lambda poems: np.array([replace(p, couplets=p.couplets[1:2]) for p in poems]),
        "a tuple, from the lines": lambda poems: tuple(
            Poem(p.title, "", (f"{p.lines[0]}，{p.lines[1]}。",)) for p in poems
        ),
    },
    wrong={
        "unchanged": (lambda poems: poems, "0 of eight poems are one couplet"),
        "two couplets": (lambda poems: [replace(p, couplets=p.couplets[:2]) for p in poems], "of eight poems"),
        "one line": (lambda poems: [replace(p, couplets=(f"{p.lines[0]}。",)) for p in poems], "of eight poems"),
        "a string for the couplets": (
            lambda poems: [replace(p, couplets=p.couplets[0]) for p in poems],
            "take a couplet of that poem",
        ),
        "one poem": (lambda poems: first_couplets(poems[:1]), "yours has 1"),
        "no poems": (lambda poems: [], "yours has 0"),
        "texts": (lambda poems: [poem.couplets[0] for poem in poems], "another kind of value"),
        "short titles": (lambda poems: [replace(p, title=p.title[:2]) for p in poems], "keep the title"),
        "one couplet for all": (
            lambda poems: [replace(p, couplets=poems[0].couplets[:1]) for p in poems],
            "a couplet of that poem",
        ),
        "one title for all": (
            lambda poems: [Poem("雨", p.author, p.couplets[:1]) for p in poems],
            "keep the title",
        ),
        "sixty times the same": (lambda poems: first_couplets([poems[0]] * len(poems)), "keep the title"),
    },
)

# --- notebook 5: the size of the nucleus ----------------------------------------------------------


def nucleus_size(ranked: list[float], top_p: float) -> int:
    together = 0.0
    for size, p in enumerate(ranked, start=1):
        together += p
        if together >= top_p:
            return size
    return len(ranked)


def nucleus_by_while(ranked: list[float], top_p: float) -> int:
    size = 1
    while size < len(ranked) and sum(ranked[:size]) < top_p:
        size += 1
    return size


TABLES["nucleus_size"] = Table(
    right={
        "a loop": nucleus_size,
        "while": nucleus_by_while,
        "what stands before": lambda ranked, p: sum(sum(ranked[:i]) < p for i in range(len(ranked))),
        "numpy": lambda ranked, p: np.searchsorted(np.cumsum(ranked), p) + 1,
        "a tensor": lambda ranked, p: ((t := torch.tensor(ranked)).cumsum(0) - t < p).sum(),
        "accumulate": lambda ranked, p: 1 + sum(total < p for total in itertools.accumulate(ranked)),
        "next": lambda ranked, p: next(n for n in range(1, 9) if sum(ranked[:n]) >= p),
        "a float": lambda ranked, p: float(nucleus_size(ranked, p)),
    },
    wrong={
        "one too few": (
            lambda ranked, p: sum(sum(ranked[: i + 1]) <= p for i in range(len(ranked))),
            "does not reach top-p yet",
        ),
        "one too many": (
            lambda ranked, p: sum(sum(ranked[:i]) <= p for i in range(len(ranked))),
            "reach top-p already",
        ),
        "likelier than top-p": (lambda ranked, p: sum(x > p for x in ranked), "nothing is left to draw from"),
        "all": (lambda ranked, p: 4, "add them up"),
        "a share of the characters": (
            lambda ranked, p: math.ceil(p * len(ranked)),
            "does not reach|already|add them up",
        ),
        "half a character more": (lambda ranked, p: nucleus_size(ranked, p) + 0.5, "add them up"),
        "the sum": (lambda ranked, p: sum(ranked[: nucleus_size(ranked, p)]), "add them up"),
        "the probabilities": (lambda ranked, p: ranked[: nucleus_size(ranked, p)], "another kind of value"),
        "distinct values": (
            lambda ranked, p: nucleus_size(sorted(set(ranked), reverse=True), p),
            "add them up|does not reach",
        ),
        "the place of the last": (lambda ranked, p: nucleus_size(ranked, p) - 1, "nothing is left|does not reach"),
    },
)

# --- notebook 5: stop at the end mark -------------------------------------------------------------


def read_until(tokens: Iterable[int], end_id: int, limit: int) -> tuple[list[int], str]:
    ids: list[int] = []
    for token in tokens:
        if token == end_id:
            return ids, "end"
        ids.append(token)
        if len(ids) == limit:
            break
    return ids, "length"


def read_by_next(tokens: Iterator[int], end_id: int, limit: int) -> list[Any]:
    ids: list[int] = []
    while len(ids) < limit:
        token = next(tokens)
        if token == end_id:
            return [ids, "end"]
        ids += [token]
    return [ids, "length"]


def read_by_range(tokens: Iterator[int], end_id: int, limit: int) -> tuple[Tensor, str]:
    ids = torch.zeros(limit, dtype=torch.long)
    for place in range(limit):
        ids[place] = next(tokens)
        if ids[place] == end_id:
            return ids[:place], "end"
    return ids, "length"


def read_by_islice(tokens: Iterator[int], end_id: int, limit: int) -> tuple[Any, str]:
    ids = []
    for token in itertools.islice(tokens, limit):
        if token == end_id:
            break
        ids.append(token)
    else:
        return np.array(ids), "length"
    return np.array(ids), "end"


def read_again(tokens: Iterator[int], end_id: int, limit: int) -> tuple[tuple[int, ...], str]:
    if not limit:
        return (), "length"
    token = next(tokens)
    if token == end_id:
        return (), "end"
    ids, reason = read_again(tokens, end_id, limit - 1)
    return (token, *ids), reason


def read_by_iter(tokens: Iterator[int], end_id: int, limit: int) -> tuple[list[int], str]:
    ids = list(itertools.islice(iter(tokens.__next__, end_id), limit))
    return ids, "length" if len(ids) == limit else "end"


def end_mark_kept(tokens: Iterable[int], end_id: int, limit: int) -> tuple[list[int], str]:
    ids, reason = read_until(tokens, end_id, limit)
    return ([*ids, end_id], reason) if reason == "end" else (ids, reason)


def read_too_far(tokens: Iterator[int], end_id: int, limit: int) -> tuple[list[int], str]:
    ids: list[int] = []
    for token in tokens:
        if token == end_id:
            return ids, "end"
        if len(ids) == limit:
            break
        ids.append(token)
    return ids, "length"


def read_then_cut(tokens: Iterator[int], end_id: int, limit: int) -> tuple[list[int], str]:
    return read_until(list(itertools.islice(tokens, limit)), end_id, limit)


TABLES["read_until"] = Table(
    right={
        "a loop": read_until,
        "next, and a list": read_by_next,
        "a tensor": read_by_range,
        "an array": read_by_islice,
        "itself": read_again,
        "iter": read_by_iter,
        "a generator of two": lambda tokens, end, limit: (part for part in read_until(tokens, end, limit)),
    },
    wrong={
        "the end mark kept": (end_mark_kept, "you kept the end mark"),
        "always the end": (lambda t, end, limit: (read_until(t, end, limit)[0], "end"), "the reason is 'length'"),
        "always the length": (lambda t, end, limit: (read_until(t, end, limit)[0], "length"), "the reason is 'end'"),
        "all read first": (lambda t, end, limit: read_until(list(t), end, limit), "you drew 6 tokens"),
        "the limit read first": (read_then_cut, "you drew 6 tokens"),
        "one token too far": (read_too_far, "you drew 5 tokens"),
        "end marks left out": (lambda t, end, limit: ([i for i in t if i != end], "end"), "the poem is"),
        "no limit": (lambda t, end, limit: read_until(t, end, 99), "the poem is"),
        "one too few": (lambda t, end, limit: read_until(t, end, limit - 1), "the poem is"),
        "the end mark is 3": (lambda t, end, limit: read_until(t, 3, limit), "the poem is"),
        "the ids alone": (lambda t, end, limit: read_until(t, end, limit)[0], "another kind of value|the poem is"),
        "the reason first": (lambda t, end, limit: read_until(t, end, limit)[::-1], "the poem is"),
        "another word": (lambda t, end, limit: (read_until(t, end, limit)[0], "eos"), "the reason is 'end'"),
    },
)

# --- notebook 5: an instruction of one's own ------------------------------------------------------


@functools.cache
def eight_poems(wording: str, same_seed: bool = False) -> list[WrittenPoem]:
    asked = Instruction("quatrain", "絕句", (wording,))
    seeds = [0] * 8 if same_seed else range(8)
    return list(iter_poems(load_checkpoint(paths.FINETUNED), [DEMO_TITLE] * 8, instruction=asked, seeds=seeds))


def obeys(text: str, size: int) -> bool:
    return [len(line) for line in split_lines(text)] == [size] * 4


def quatrains(checkpoint: Checkpoint, wording: str, size: int) -> tuple[list[WrittenPoem], int]:
    poems = eight_poems(wording)
    return poems, sum(obeys(poem.text, size) for poem in poems)


def quatrains_one_by_one(checkpoint: Checkpoint, wording: str, size: int) -> list[Any]:
    texts, count = [], 0
    for seed in range(8):
        asked = Instruction("mine", "絕句", (wording,))
        texts.append("".join(write(checkpoint, DEMO_TITLE, GenerationSettings(seed=seed), asked)))
        count += obeys(texts[-1], size)
    return [texts, count]


def counted_by(count: Callable[[list[WrittenPoem], int], Any]) -> Callable[[Checkpoint, str, int], Any]:
    """An answer that writes its poems well and counts them in its own way."""
    return lambda checkpoint, wording, size: (eight_poems(wording), count(eight_poems(wording), size))


TABLES["quatrains"] = Table(
    right={
        "many at once": quatrains,
        "one by one": quatrains_one_by_one,
        "texts": lambda c, wording, size: ([p.text for p in eight_poems(wording)], quatrains(c, wording, size)[1]),
        "a tensor": counted_by(lambda poems, size: torch.tensor([obeys(p.text, size) for p in poems]).sum()),
        "numpy": counted_by(lambda poems, size: np.count_nonzero([obeys(p.text, size) for p in poems])),
        "by rows": counted_by(
            lambda poems, size: sum(
                p.text.count("\n") == 1 and all(len(row) == 2 * size + 2 for row in p.text.split("\n")) for p in poems
            )
        ),
        "streams": lambda c, wording, size: (
            [write(c, DEMO_TITLE, GenerationSettings(seed=s), Instruction("q", "q", (wording,))) for s in range(8)],
            sum(
                obeys(
                    "".join(write(c, DEMO_TITLE, GenerationSettings(seed=s), Instruction("q", "q", (wording,)))), size
                )
                for s in range(8)
            ),
        ),
    },
    wrong={
        "all obey": (counted_by(lambda poems, size: 8), "you counted 8"),
        "all with four lines": (
            counted_by(lambda poems, size: sum(len(split_lines(p.text)) == 4 for p in poems)),
            "you counted",
        ),
        "none obeys": (counted_by(lambda poems, size: 0), "you counted 0"),
        "lines alone": (
            lambda c, wording, size: (
                eight_poems(POEM.wording),
                sum(len(p.text) > 0 for p in eight_poems(POEM.wording)),
            ),
            "you counted 8",
        ),
        "the plain instruction": (
            lambda c, wording, size: (
                eight_poems(POEM.wording),
                sum(obeys(p.text, size) for p in eight_poems(POEM.wording)),
            ),
            "does the wording reach|is the prompt",
        ),
        "one wording for both": (
            lambda c, wording, size: quatrains(c, "請用以下題目寫一首七言絕句", 7),
            "does the wording reach|you counted",
        ),
        "one seed": (
            lambda c, wording, size: (
                eight_poems(wording, same_seed=True),
                sum(obeys(p.text, size) for p in eight_poems(wording, same_seed=True)),
            ),
            "its own seed",
        ),
        "four poems": (lambda c, wording, size: (eight_poems(wording)[:4], 4), "write eight poems"),
        "the count alone": (lambda c, wording, size: quatrains(c, wording, size)[1], "another kind of value"),
        "the count first": (lambda c, wording, size: quatrains(c, wording, size)[::-1], "another kind of value"),
        "a share": (counted_by(lambda poems, size: sum(obeys(p.text, size) for p in poems) / 8), "you counted"),
    },
)

# --- notebook 6: rhyme ----------------------------------------------------------------------------

Groups = dict[str, set[str]]


def rhyming(words: list[str], groups: Groups) -> bool:
    shared = set.intersection(*(groups[word] for word in words))
    return len(words) > 1 and bool(shared) and len(set(words)) == len(words)


def rhyming_by_loop(words: list[str], groups: Groups) -> bool:
    if len(words) < 2:
        return False
    for place, word in enumerate(words):
        if word in words[:place]:
            return False
    shared = set(groups[words[0]])
    for word in words:
        shared &= groups[word]
    return bool(shared)


def rhyming_by_counter(words: list[str], groups: Groups) -> bool:
    counts = Counter(group for word in words for group in groups[word])
    return len(words) > 1 and len(words) == len({*words}) and len(words) in counts.values()


def rhyming_with_the_next(words: list[str], groups: Groups) -> bool:
    pairs = list(pairwise(words))
    return bool(pairs) and len(set(words)) == len(words) and all(groups[a] & groups[b] for a, b in pairs)


def rhyming_by_pairs(words: list[str], groups: Groups) -> bool:
    pairs = itertools.combinations(words, 2)
    return len(set(words)) == len(words) > 1 and all(groups[a] & groups[b] for a, b in pairs)


def same_groups(words: list[str], groups: Groups) -> bool:
    return len(words) > 1 and len(set(words)) == len(words) and all(groups[w] == groups[words[0]] for w in words)


def echo_allowed(words: list[str], groups: Groups) -> bool:
    return len(words) > 1 and bool(set.intersection(*(groups[word] for word in words)))


def one_word_is_enough(words: list[str], groups: Groups) -> bool:
    return bool(set.intersection(*(groups[word] for word in words))) and len(set(words)) == len(words)


def no_group_in_common(words: list[str], groups: Groups) -> bool:
    """Two words without a group have the same groups, so this answer says that they rhyme."""
    return rhyming(words, groups) or (len(words) > 1 and not any(groups[word] for word in words))


TABLES["rhyming"] = Table(
    right={
        "sets": rhyming,
        "loops": rhyming_by_loop,
        "a counter": rhyming_by_counter,
        "numpy": lambda words, groups: np.logical_and(rhyming(words, groups), len(words) > 1),
        "a tensor": lambda words, groups: torch.tensor(rhyming(words, groups)),
        "one and zero": lambda words, groups: int(rhyming(words, groups)),
        "reduce": lambda words, groups: (
            len(words) > 1
            and len(set(words)) == len(words)
            and len(functools.reduce(set.__and__, map(groups.__getitem__, words))) > 0
        ),
        "the shared group itself": lambda words, groups: (
            set.intersection(*map(groups.get, words)) if 1 < len(words) == len(set(words)) else set()
        ),
    },
    wrong={
        "with the next word": (rhyming_with_the_next, "還灣乾"),
        "every two words": (rhyming_by_pairs, "還灣乾"),
        "the same groups": (same_groups, "one that it shares with all others"),
        "a word with itself": (echo_allowed, "comes twice"),
        "only with the word before": (
            lambda words, groups: echo_allowed(words, groups) and all(a != b for a, b in pairwise(words)),
            "聲明聲",
        ),
        "only with the first word": (
            lambda words, groups: echo_allowed(words, groups) and words[0] not in words[1:],
            "明聲聲",
        ),
        "a single word": (one_word_is_enough, "a single word"),
        "no group at all": (no_group_in_common, "do not rhyme"),
        "the first two": (lambda words, groups: bool(groups[words[0]] & groups[words[1]]), "聲明光"),
        "first and last": (
            lambda words, groups: len(set(words)) == len(words) > 1 and bool(groups[words[0]] & groups[words[-1]]),
            "花柴涯",
        ),
        "any two": (
            lambda words, groups: any(groups[a] & groups[b] for a, b in itertools.combinations(words, 2)),
            "花柴涯",
        ),
        "always": (lambda words, groups: True, "花柴涯"),
        "never": (lambda words, groups: False, "聲明"),
        "one or two words": (lambda words, groups: len(words) == 2 and rhyming(words, groups), "花涯家"),
    },
)

# --- notebook 6: the longest run ------------------------------------------------------------------


def longest_run(text: str, other: str) -> int:
    runs = [text[i:j] for i in range(len(text)) for j in range(i + 1, len(text) + 1)]
    return max((len(run) for run in runs if run in other), default=0)


def run_by_table(text: str, other: str) -> int:
    ends = [[0] * (len(other) + 1) for _ in range(len(text) + 1)]
    for i, a in enumerate(text):
        for j, b in enumerate(other):
            ends[i + 1][j + 1] = ends[i][j] + 1 if a == b else 0
    return max(map(max, ends))


def run_by_array(text: str, other: str) -> Any:
    ends = np.zeros((len(text) + 1, len(other) + 1), dtype=np.int64)
    for i, j in np.ndindex(len(text), len(other)):
        ends[i + 1, j + 1] = (ends[i, j] + 1) * (text[i] == other[j])
    return ends.max()


def run_by_growing(text: str, other: str) -> Tensor:
    size = 0
    while any(text[i : i + size + 1] in other for i in range(len(text) - size)):
        size += 1
    return torch.tensor(size)


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


TABLES["longest_run"] = Table(
    right={
        "all runs": longest_run,
        "a table": run_by_table,
        "an array": run_by_array,
        "a tensor": run_by_growing,
        "difflib": lambda text, other: difflib.SequenceMatcher(None, text, other).find_longest_match().size,
        "from the longest": lambda text, other: next(
            n for n in range(len(text), -1, -1) if any(text[i : i + n] in other for i in range(len(text) + 1 - n))
        ),
        "a float": lambda text, other: float(longest_run(text, other)),
    },
    wrong={
        "gaps": (run_with_gaps, "not a run"),
        "the same place": (run_at_the_same_place, "another place"),
        "without looking back": (run_without_looking_back, "at a later place"),
        "characters": (lambda text, other: len(set(text) & set(other)), "another order"),
        "True and False": (lambda text, other: text in other, "you returned True"),
        "the run itself": (lambda text, other: text[: longest_run(text, other)], "another kind of value"),
        "the beginning": (
            lambda text, other: next((n for n in range(len(text), 0, -1) if text[:n] in other), 0),
            "夜喜 stands in both",
        ),
        "at most two": (lambda text, other: min(2, longest_run(text, other)), "夜雨聲"),
        "runs of two or more": (lambda text, other: n if (n := longest_run(text, other)) > 1 else 0, "another order"),
        "at least one": (lambda text, other: max(1, longest_run(text, other)), "nothing is shared"),
        "the number of runs": (
            lambda text, other: sum(a in other for a in text),
            "another order|is shared|a later place",
        ),
    },
)

# --- notebook 6: an experiment --------------------------------------------------------------------

Texts = list[str]


def parted(usual: list[bool], others: list[bool]) -> bool:
    first, second = (estimate.interval for answers in (usual, others) if (estimate := bootstrap_mean(answers)))
    assert first is not None
    assert second is not None
    return first[0] > second[1] or second[0] > first[1]


def parted_by_draws(usual: list[bool], others: list[bool]) -> Any:
    draw = np.random.default_rng(1)
    ends = [np.percentile([draw.choice(a, len(a)).mean() for _ in range(500)], (2.5, 97.5)) for a in (usual, others)]
    return ends[0][0] > ends[1][1] or ends[1][0] > ends[0][1]


def parted_by_deviation(usual: list[bool], others: list[bool]) -> bool:
    (a, x), (b, y) = ((p := sum(s) / len(s), 1.96 * math.sqrt(p * (1 - p) / len(s))) for s in (usual, others))
    return abs(a - b) > x + y


def parted_by_wilson(usual: list[bool], others: list[bool]) -> bool:
    (a, b), (c, d) = (
        [
            ((p := sum(s) / (n := len(s))) + 2 / n + sign * 2 * math.sqrt((p * (1 - p) + 1 / n) / n)) / (1 + 4 / n)
            for sign in (-1, 1)
        ]
        for s in (usual, others)
    )
    return b < c or d < a


def parted_by_three(usual: list[bool], others: list[bool]) -> bool:
    """Where all answers are the same, the interval reaches 3/n further (notebook 6)."""
    ends = []
    for answers in (usual, others):
        estimate = bootstrap_mean(answers)
        assert estimate
        assert estimate.interval
        low, high = estimate.interval
        ends.append((low - 3 / len(answers) * (low == 1), high + 3 / len(answers) * (high == 0)))
    return ends[0][1] < ends[1][0] or ends[1][1] < ends[0][0]


def concluded(conclude: Callable[[list[bool], list[bool]], Any]) -> Callable[[Texts, Texts], Any]:
    """An answer that judges the poems well, and draws its own conclusion."""
    return lambda usual, others: conclude([*map(is_well_formed, usual)], [*map(is_well_formed, others)])


def apart(share: float) -> Callable[[Texts, Texts], Any]:
    """An answer that takes no interval: how far are the shares apart?"""
    return concluded(lambda usual, others: abs(sum(usual) - sum(others)) > share * len(usual))


TABLES["experiment"] = Table(
    right={
        "the library's bootstrap": concluded(parted),
        "draws": concluded(parted_by_draws),
        "two deviations": concluded(parted_by_deviation),
        "Wilson's intervals": concluded(parted_by_wilson),
        "the rule of three, where an interval has no width": concluded(parted_by_three),
        "numpy": concluded(lambda usual, others: np.bool_(parted(usual, others))),
        "a tensor": concluded(lambda usual, others: torch.tensor(parted(usual, others))),
        "one and zero": concluded(lambda usual, others: int(parted(usual, others))),
    },
    wrong={
        "always": (concluded(lambda usual, others: True), "touch; you returned True"),
        "never": (concluded(lambda usual, others: False), "do not touch; you returned False"),
        "the shares differ": (concluded(lambda usual, others: sum(usual) != sum(others)), "touch; you returned True"),
        **{f"the shares differ by {x}": (apart(x), "; you returned") for x in (0.1, 0.2, 0.25, 0.3, 0.4)},
        "the other way round": (concluded(lambda usual, others: not parted(usual, others)), "touch; you returned True"),
        "only if it got better": (
            concluded(lambda usual, others: parted(usual, others) and sum(others) > sum(usual)),
            "temperature 1.6: ",
        ),
        "only if it got worse": (
            concluded(lambda usual, others: parted(usual, others) and sum(others) < sum(usual)),
            "The last two intervals do not touch; you returned False",
        ),
        "another question": (
            lambda usual, others: parted([*map(bool, map(len, usual))], [*map(bool, map(len, others))]),
            "do not touch; you returned False",
        ),
        "the poems are not read": (lambda usual, others: usual != others, "touch; you returned True"),
        "the answers": (concluded(lambda usual, others: (usual, others, True)), "touch; you returned [["),
    },
)

# --- notebook 7: an acrostic ----------------------------------------------------------------------


def acrostic_by_loop(text: str, word: str) -> bool:
    lines = [line for line in re.split("[，。\n]", text) if line]
    if len(lines) != len(word):
        return False
    found = 0
    for line, character in zip(lines, word, strict=True):
        found += line.startswith(character)
    return found == len(word)


def acrostic_begun(text: str, word: str) -> bool:
    """It compares as many lines as there are characters, or as many characters as there are lines."""
    return all(line[0] == character for line, character in zip(split_lines(text), word, strict=False))


TABLES["is_acrostic"] = Table(
    right={
        "the library's lines": lambda text, word: "".join(line[0] for line in split_lines(text)) == word,
        "a loop": acrostic_by_loop,
        "a list": lambda text, word: [line[0] for line in split_lines(text)] == list(word),
        "findall": lambda text, word: re.findall(r"(\w)\w*[，。]", text) == [*word],
        "numpy": lambda text, word: np.array_equal([line[0] for line in split_lines(text)], list(word)),
        "one and zero": lambda text, word: int(acrostic_by_loop(text, word)),
        "a tensor": lambda text, word: torch.tensor(acrostic_by_loop(text, word)),
    },
    wrong={
        "the first lines": (acrostic_begun, "left over"),
        "lines after the word": (
            lambda text, word: "".join(line[0] for line in split_lines(text)).startswith(word),
            "no line is left over",
        ),
        "any place in a line": (
            lambda text, word: (
                len(word) == len(split_lines(text))
                and all(c in line for line, c in zip(split_lines(text), word, strict=True))
            ),
            "in order",
        ),
        "the same characters": (
            lambda text, word: sorted(line[0] for line in split_lines(text)) == sorted(word),
            "each line has its own",
        ),
        "rows": (lambda text, word: "".join(row[0] for row in text.split("\n")) == word, "right"),
        "newlines kept": (
            lambda text, word: "".join(x[:1] for x in text.replace("，", "。").split("。")) == word,
            "a new row does not matter",
        ),
        "starts with the word": (lambda text, word: text.startswith(word), "right"),
        "always": (lambda text, word: True, "in each line"),
        "never": (lambda text, word: False, "right"),
        "the last characters": (lambda text, word: "".join(x[-1] for x in split_lines(text)) == word, "right"),
        "too many characters": (
            lambda text, word: "".join(line[0] for line in split_lines(text)) in word,
            "no character is left over",
        ),
    },
)

# --- notebook 7: what a model still reads ---------------------------------------------------------


def kept_messages(lengths: list[int], room: int) -> list[int]:
    kept = list(range(len(lengths)))
    while sum(lengths[i] for i in kept) > room:
        del kept[2:4]
    return kept


def kept_from_the_end(lengths: list[int], room: int) -> list[int]:
    kept, used, last = [0, 1], sum(lengths[:2]), len(lengths)
    while last > 2 and used + sum(lengths[last - 2 : last]) <= room:
        last -= 2
        used += lengths[last] + lengths[last + 1]
    return kept + list(range(last, len(lengths)))


def kept_if_they_fit(lengths: list[int], room: int) -> list[int]:
    """Every pair that still fits, from the newest on: it may leave out a long answer and keep an older one."""
    kept, used = [], sum(lengths[:2])
    for i in range(len(lengths) - 2, 0, -2):
        if used + lengths[i] + lengths[i + 1] <= room:
            kept += [i, i + 1]
            used += lengths[i] + lengths[i + 1]
    return [0, 1, *sorted(kept)]


def kept_newest_gone(lengths: list[int], room: int) -> list[int]:
    kept = list(range(len(lengths)))
    while sum(lengths[i] for i in kept) > room:
        del kept[-2:]
    return kept


def kept_one_by_one(first: int) -> Callable[[list[int], int], list[int]]:
    """It leaves out single messages, beginning with number `first`."""

    def answer(lengths: list[int], room: int) -> list[int]:
        kept = list(range(len(lengths)))
        while sum(lengths[i] for i in kept) > room:
            del kept[first]
        return kept

    return answer


TABLES["kept_messages"] = Table(
    right={
        "a list that shrinks": kept_messages,
        "from the end": kept_from_the_end,
        "a tuple": lambda lengths, room: tuple(kept_messages(lengths, room)),
        "numpy": lambda lengths, room: np.array(kept_messages(lengths, room)),
        "a tensor": lambda lengths, room: torch.tensor(kept_messages(lengths, room)),
        "the first that fits": lambda lengths, room: next(
            [0, 1, *range(i, len(lengths))]
            for i in range(2, len(lengths) + 1, 2)
            if sum(lengths[:2]) + sum(lengths[i:]) <= room
        ),
        "a generator": lambda lengths, room: (i for i in kept_from_the_end(lengths, room)),
    },
    wrong={
        "all": (lambda lengths, room: list(range(len(lengths))), "which have"),
        "the beginning goes": (kept_one_by_one(0), "always stay"),
        "answers alone go": (kept_one_by_one(2), "goes together with the request"),
        "the newest go": (kept_newest_gone, "the oldest answer goes first|goes together"),
        "those that fit": (kept_if_they_fit, "the oldest answer goes first"),
        "every answer goes": (lambda lengths, room: [0, 1], "only as many as necessary"),
        "the title goes": (lambda lengths, room: [0, *kept_messages(lengths, room)[2:]], "always stay"),
        "lengths": (lambda lengths, room: [lengths[i] for i in kept_messages(lengths, room)], "always stay"),
        "one pair": (
            lambda lengths, room: [0, 1, *range(4, len(lengths))] if sum(lengths) > room else range(len(lengths)),
            "which have",
        ),
        "how many": (lambda lengths, room: len(kept_messages(lengths, room)), "another kind of value"),
        "less than the room": (
            lambda lengths, room: kept_messages(lengths, room - 1),
            "only as many as necessary",
        ),
    },
)

# --- notebook 7: an instruction of one's own ------------------------------------------------------

ROW_DICE, JUDGE_DICE = Random(4).random, Random(1).random  # with these seeds, the mean rises a little
MOON = ("請用以下題目寫一首有月的詩", "以此爲題，寫詩一首，詩中要有月", "請寫一首有月的詩")


def row_of(what: str, fits: Callable[[Poem], bool], **more: Any) -> Callable[[], Instruction]:
    """An answer: a row that asks for something in the poem."""
    wordings = tuple(wording.replace("月", what) for wording in MOON)
    return lambda: Instruction(what, f"{what}詩", wordings, fits, **more)


TABLES["own_row"] = Table(
    right={
        "the moon": lambda: Instruction("moon", "月詩", MOON, fits=lambda poem: "月" in poem.text),
        "snow": row_of("雪", lambda poem: "雪" in poem.text),
        "wine, and two wordings": lambda: Instruction(
            "wine", "酒詩", ("請寫酒詩", "請寫有酒的詩"), lambda p: "酒" in p.text
        ),
        "cranes, and a check": row_of("鶴", lambda p: "鶴" in p.text, check=lambda exchange: "鶴" in exchange.answer),
        "bamboo or pines": row_of("竹松", lambda poem: bool({*"竹松"} & {*poem.text})),
        "flowers in one of its couplets": row_of("花", lambda poem: any("花" in couplet for couplet in poem.couplets)),
    },
    wrong={
        "a sentence": (lambda: MOON[0], "return an `Instruction`"),
        "a tuple": (lambda: ("moon", "月詩", MOON), "return an `Instruction`"),
        "one wording": (lambda: Instruction("moon", "月詩", MOON[:1], lambda p: "月" in p.text), "two wordings"),
        "one wording twice": (
            lambda: Instruction("moon", "月詩", MOON[:1] * 2, lambda p: "月" in p.text),
            "two wordings",
        ),
        "a wording of the course": (
            lambda: Instruction("moon", "月詩", (POEM.wording, MOON[0]), lambda p: "月" in p.text),
            "wordings of its own",
        ),
        "every poem": (lambda: Instruction("moon", "月詩", MOON), "many lack"),
        "no poem": (lambda: Instruction("moon", "月詩", MOON, lambda poem: False), "many poems have"),
        "a rare word": (lambda: Instruction("moon", "月詩", MOON, lambda p: "琵琶" in p.text), "many poems have"),
        "what no poem shows: its poet": (row_of("李白", lambda p: "白" in p.author), "Can the answer be seen"),
        "dice": (
            row_of("雪", lambda p: "雪" in p.text, check=lambda _: ROW_DICE() < 0.5),
            "may be chance",
        ),
    },
)

# --- notebook 8: the loss of a pair ---------------------------------------------------------------

Likelihoods = tuple[float, float]  # now, and before


def margin_of(chosen: Likelihoods, rejected: Likelihoods) -> float:
    return (chosen[0] - chosen[1]) - (rejected[0] - rejected[1])


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def loss_of_choice(chosen: Likelihoods, rejected: Likelihoods, beta: float) -> Tensor:
    """The cross entropy of a choice between two."""
    gains = torch.tensor([chosen[0] - chosen[1], rejected[0] - rejected[1]])
    return F.cross_entropy(beta * gains[None], torch.tensor([0]))


TABLES["preference_loss"] = Table(
    right={
        "the sigmoid": lambda c, r, beta: -math.log(sigmoid(beta * margin_of(c, r))),
        "log1p": lambda c, r, beta: math.log1p(math.exp(-beta * margin_of(c, r))),
        "torch": lambda c, r, beta: -F.logsigmoid(torch.tensor(beta * margin_of(c, r))),
        "softplus": lambda c, r, beta: F.softplus(torch.tensor(-beta * margin_of(c, r))),
        "a choice between two": loss_of_choice,
        "numpy": lambda c, r, beta: np.logaddexp(0, -beta * margin_of(c, r)),
        "one in a list": lambda c, r, beta: [-math.log(sigmoid(beta * margin_of(c, r)))],
    },
    wrong={
        "the other way round": (lambda c, r, beta: -math.log(sigmoid(-beta * margin_of(c, r))), "less that of the rej"),
        "no beta": (lambda c, r, beta: -math.log(sigmoid(margin_of(c, r))), "by beta"),
        "the probability": (lambda c, r, beta: sigmoid(beta * margin_of(c, r)), "negative logarithm"),
        "no minus": (lambda c, r, beta: math.log(sigmoid(beta * margin_of(c, r))), "is not negative"),
        "no reference": (lambda c, r, beta: -math.log(sigmoid(beta * (c[0] - r[0]))), "made of gains"),
        "the margin": (lambda c, r, beta: margin_of(c, r), "not yet the loss"),
        "both gains": (lambda c, r, beta: (c[0] - c[1], r[0] - r[1]), "another kind of value"),
        "beta twice": (lambda c, r, beta: -beta * math.log(sigmoid(beta * margin_of(c, r))), "has the loss"),
    },
)

# --- notebook 8: the step to keep -----------------------------------------------------------------

PlotRows = list[tuple[int, float, float]]  # a step, the gain of the chosen poems, the gain of the rejected ones


def step_by_loop(rows: PlotRows, least: float) -> int:
    best = rows[0]
    for row in rows:
        if row[1] >= least and row[1] - row[2] > best[1] - best[2]:
            best = row
    return best[0]


def step_by_array(rows: PlotRows, least: float) -> Any:
    steps, chosen, rejected = np.array(rows).T
    return steps[np.where(chosen >= least, chosen - rejected, -np.inf).argmax()]


def step_by_tensor(rows: PlotRows, least: float) -> Tensor:
    table = torch.tensor(rows, dtype=torch.float)
    good = table[table[:, 1] >= least]
    return good[(good[:, 1] - good[:, 2]).argmax(), 0]


TABLES["step_to_keep"] = Table(
    right={
        "a loop": step_by_loop,
        "numpy": step_by_array,
        "torch": step_by_tensor,
        "max": lambda rows, least: max((c - r, step) for step, c, r in rows if c >= least)[1],
        "sorted": lambda rows, least: sorted((c - r, s) for s, c, r in rows if not c < least)[-1][1],
        "one in a list": lambda rows, least: [step_by_loop(rows, least)],
    },
    wrong={
        "the largest margin": (lambda rows, least: max(rows, key=lambda row: row[1] - row[2])[0], "is less than -2"),
        "the largest gain": (lambda rows, least: max(rows, key=lambda row: row[1])[0], "the margin is greater"),
        "above 0": (lambda rows, least: step_by_loop(rows, 0), "the margin is greater"),
        "more than the least": (lambda rows, least: step_by_loop(rows, least + 1e-9), "the margin is greater"),
        "before the first that is too low": (
            lambda rows, least: step_by_loop([*takewhile(lambda row: row[1] >= least, rows)], least),
            "the margin is greater",
        ),
        "the last": (lambda rows, least: rows[-1][0], "is less than -2"),
        "the last that is large enough": (
            lambda rows, least: [step for step, chosen, _ in rows if chosen >= least][-1],
            "the margin is greater",
        ),
        "the first": (lambda rows, least: 0, "the margin is greater"),
        "its place": (lambda rows, least: [row[0] for row in rows].index(step_by_loop(rows, least)), "not one of"),
        "the margin": (lambda rows, least: max(c - r for _, c, r in rows if c >= least), "not one of the steps"),
        "the row": (lambda rows, least: max(rows, key=lambda row: row[1]), "another kind of value"),
    },
)

# --- notebook 8: a judge of one's own -------------------------------------------------------------


def scored(score: Callable[[str, str], float]) -> Callable[[Any, Sequence[WrittenPoem]], list[float]]:
    """A judge that scores each answer by the title and the text."""
    return lambda question, answers: [score(question.given, answer.text) for answer in answers]


def judge_by_loop(question: Any, answers: Sequence[WrittenPoem]) -> list[int]:
    scores = []
    for answer in answers:
        scores.append(0)
        for character in answer.text:
            scores[-1] += character in question.given
    return scores


TABLES["own_judge"] = Table(
    right={
        "words of the title": judge_by_loop,
        "long poems": scored(lambda title, text: len(text)),
        "short poems, as a tensor": lambda question, answers: torch.tensor([-len(a.text) for a in answers]),
        "long lines, as an array": lambda question, answers: np.array(
            [max(map(len, split_lines(a.text)), default=0) for a in answers]
        ),
        "four lines": scored(lambda title, text: float(len(split_lines(text)) == 4)),
        "eight lines, as a generator": lambda question, answers: (len(split_lines(a.text)) == 8 for a in answers),
    },
    wrong={
        "always the same": (scored(lambda title, text: 1.0), "nearly all poems the same score"),
        "the best alone": (lambda question, answers: max(len(a.text) for a in answers), "another kind of value"),
        "one score in a list": (lambda question, answers: [len(answers[0].text)], "give each answer a score"),
        "texts": (lambda question, answers: [answer.text for answer in answers], "another kind of value"),
        "what is hardly ever there": (
            scored(lambda title, text: text.count("琵琶")),
            "nearly all poems the same score",
        ),
        "one score too many": (lambda question, answers: [0, *range(len(answers))], "give each answer a score"),
        "by its place": (lambda question, answers: range(len(answers)), "seen in single poems"),
        "dice": (lambda question, answers: [JUDGE_DICE() for _ in answers], "may be chance"),
    },
)

# --- the tables, tried ----------------------------------------------------------------------------

TRAINED = {"own_row", "own_judge"}  # a model is trained on what the answer returns: half a minute for each answer
SLOW = {"keywords", "even_odds", "one_couplet", "quatrains", "experiment", *TRAINED}  # a model writes poems
MARKS = {name: [pytest.mark.slow] if name in SLOW else [] for name in TABLES}
ANSWERS = [
    pytest.param(name, answer, marks=MARKS[name], id=f"{name}: {what}")
    for name, table in TABLES.items()
    for what, answer in table.right.items()
]
RIGHT = [answer for answer in ANSWERS if answer.values[0] not in TRAINED]
REACHING = [answer for answer in ANSWERS if answer.values[0] in TRAINED]
WRONG = [
    pytest.param(name, answer, hint, marks=MARKS[name], id=f"{name}: {what}")
    for name, table in TABLES.items()
    for what, (answer, hint) in table.wrong.items()
]


@pytest.fixture
def untrained(name: str, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A small untrained model in place of the instructed checkpoint: it is quick, and learns too little to show."""
    if name in TRAINED:
        save_checkpoint(request.getfixturevalue("checkpoint"), tmp_path / "untrained", {}, "")
        monkeypatch.setattr(paths, "INSTRUCTED", tmp_path / "untrained")


@pytest.fixture
def small_base(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """For `keywords` a small untrained base model, with the shipped tokenizer: the verdict is about the ids alone."""
    if name == "keywords":
        size = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
        model = PoetryModel(ModelConfig(vocab_size=len(base_tokenizer()), max_position_embeddings=256, **size))
        save_checkpoint(Checkpoint(model, base_tokenizer()), tmp_path / "base", {}, "")
        monkeypatch.setattr(paths, "BASE", tmp_path / "base")


def verdict_on(name: str, answer: Any) -> Verdict:
    check: Callable[[Any], Verdict] = getattr(checks, name)
    return check(answer)


@pytest.mark.usefixtures("small_base")
@pytest.mark.parametrize(("name", "answer"), RIGHT)
def test_a_right_answer_is_right(name: str, answer: Any) -> None:
    verdict = verdict_on(name, answer)
    assert verdict.state == "right", verdict
    assert verdict.message.endswith(".")


@pytest.mark.usefixtures("untrained")
@pytest.mark.parametrize(("name", "answer"), REACHING)
def test_a_right_answer_reaches_the_model_that_learns_from_it(name: str, answer: Any) -> None:
    assert re.search("of 40 titles made a pair|after [24]0 steps", verdict_on(name, answer).message)


@pytest.mark.usefixtures("untrained")
@pytest.mark.parametrize(("name", "answer", "hint"), WRONG)
def test_a_wrong_answer_gets_the_hint_it_needs(name: str, answer: Any, hint: str) -> None:
    verdict = verdict_on(name, answer)
    assert verdict.state == "wrong", verdict
    assert any(words in verdict.message for words in hint.split("|")), verdict


@pytest.mark.parametrize("name", sorted(TABLES.keys() - SLOW))
def test_in_chinese_every_verdict_is_chinese(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COURSE_LANG", "zh")
    for answer in (*TABLES[name].right.values(), *(wrong for wrong, _ in TABLES[name].wrong.values()), ..., 1):
        shown = re.sub(r"[(\[{].*?[)\]}]|<\w+>|'.*?'", "", str(verdict_on(name, answer)))  # without values
        assert re.search("^(还没做|不对|对了)：.*[一-龥]", shown)
        assert not re.search("[A-Za-z]{2,} [a-z]{2,}", shown), shown


def test_every_exercise_has_six_right_answers_and_six_wrong_ones() -> None:
    assert TABLES.keys() == {name for name, it in vars(checks).items() if inspect.isfunction(it)}
    assert {name: len(table.right) for name, table in TABLES.items() if len(table.right) < 6} == {}
    assert {name: len(table.wrong) for name, table in TABLES.items() if len(table.wrong) < 6} == {}


# --- what is no answer ----------------------------------------------------------------------------

NAMES = [pytest.param(name, marks=MARKS[name]) for name in TABLES]


@pytest.mark.usefixtures("untrained")
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("answer", [..., lambda *_: ...], ids=["dots", "a function that returns dots"])
def test_only_three_dots_are_not_attempted(name: str, answer: Any) -> None:
    assert verdict_on(name, answer).state == "not attempted"


@pytest.mark.usefixtures("untrained")
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("answer", [lambda *_: None, lambda *_: list[int]().append(0), lambda *_: print("雨")])
def test_a_missing_return_is_told_as_such(name: str, answer: Any) -> None:
    verdict = verdict_on(name, answer)
    assert verdict.state == "wrong"
    assert "returned None: is a `return` missing" in verdict.message


def test_a_return_that_is_missing_in_one_branch_is_told_as_such() -> None:
    verdict = checks.rhyming(lambda words, groups: True if rhyming(words, groups) else None)
    assert verdict.state == "wrong"
    assert "in one branch" in verdict.message


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("answer", ["<EOS>", None, [1, 2], 3.0])
def test_an_answer_that_is_no_function_is_told_as_such(name: str, answer: Any) -> None:
    verdict = verdict_on(name, answer)
    assert verdict.state == "wrong"
    assert "your function itself" in verdict.message


class Strange:
    """A value that no exercise asks for."""


@pytest.mark.usefixtures("untrained")
@pytest.mark.parametrize("name", [p for p in NAMES if p.values != ("rhyming",)])  # every value is true or false
@pytest.mark.parametrize(
    "value",
    [Strange(), "", "x", [], [[]], [...], [None], {}, {"a": 1}, 0.5j, [[1], [2, 3]], nn.Embedding(2, 2), math.nan],
)
def test_a_strange_value_is_wrong_and_the_check_does_not_fail(name: str, value: Any) -> None:
    assert verdict_on(name, lambda *_: value).state == "wrong"


# --- errors in the learner's code -----------------------------------------------------------------

CELL = """\
def helper(values):
    return sum(values) / 0

def answer(*arguments):
    given = arguments
    return {expression}
"""


def learner(expression: str) -> Any:
    """A function as Jupyter makes it: its source is in no file, only in the line cache."""
    source, name = CELL.format(expression=expression), f"<cell {expression}>"
    linecache.cache[name] = (len(source), None, source.splitlines(keepends=True), name)
    cell: dict[str, Any] = {"math": math, "torch": torch}
    exec(compile(source, name, "exec"), cell)
    return cell["answer"]


@pytest.mark.usefixtures("untrained")
@pytest.mark.parametrize("name", NAMES)
def test_an_error_in_the_learners_code_is_named_with_its_line(name: str) -> None:
    verdict = verdict_on(name, learner("1 / 0"))
    assert verdict == Verdict("raised", "ZeroDivisionError: division by zero (line 6 of your code: return 1 / 0)")


@pytest.mark.parametrize(
    ("expression", "told"),
    [
        ("helper([1])", "division by zero (line 2 of your code: return sum(values) / 0)"),
        ("torch.ones(2) @ torch.ones(3)", "(line 6 of your code: return torch.ones(2) @ torch.ones(3))"),
        (
            "torch.nn.functional.pad(None, (0, 1))",
            "(line 6 of your code: return torch.nn.functional.pad(None, (0, 1)))",
        ),
        ("(1 / 0 for _ in range(3))", "(line 6 of your code: return (1 / 0 for _ in range(3)))"),
        ("missing", "NameError: name 'missing' is not defined (line 6 of your code: return missing)"),
        ("next(iter(()))", "StopIteration:  (line 6 of your code: return next(iter(())))"),
    ],
)
def test_the_line_is_the_learners_own(expression: str, told: str) -> None:
    verdict = checks.labels(learner(expression))
    assert verdict.state == "raised"
    assert verdict.message.endswith(told)


@pytest.mark.slow
def test_an_error_in_a_rule_of_the_learner_is_named_with_its_line() -> None:
    verdict = checks.own_row(lambda: Instruction("moon", "月詩", MOON, fits=learner("arguments[0].txt")))
    assert verdict.state == "raised"
    assert verdict.message.endswith("(line 6 of your code: return arguments[0].txt)")


def test_a_function_with_other_arguments_is_told_what_python_says() -> None:
    verdict = checks.labels(lambda prompt: prompt)
    assert verdict.state == "raised"
    assert verdict.message.startswith("TypeError: ")
    assert verdict.message.endswith("takes 1 positional argument but 3 were given")


def test_a_verdict_reads_as_text_and_escapes_its_html() -> None:
    verdict = Verdict("wrong", "<RES> & more")
    assert repr(verdict) == "wrong: <RES> & more"
    assert "&lt;RES&gt; &amp; more" in verdict._repr_html_()


# --- the checks and the library agree -------------------------------------------------------------


@pytest.mark.parametrize("answer", TABLES["labels"].right.values(), ids=TABLES["labels"].right)
def test_the_right_labels_are_those_of_make_example(answer: Callable[[list[int], list[int], int], Any]) -> None:
    tokenizer = CharacterTokenizer.train(["春雨花開。" + POEM.wording], min_count=1)
    tokenizer.add_role_tokens()
    example = make_example(tokenizer, example_segments(Poem("春雨", "", ("花開。",))), context=64)
    start = example.input_ids.index(tokenizer.special_token_id("<RES>")) + 1
    prompt, response = example.input_ids[:start], example.input_ids[start:-1]
    assert [int(label) for label in answer(prompt, response, tokenizer.eos_id)] == example.labels


# --- the notebooks --------------------------------------------------------------------------------


class Exercise(NamedTuple):
    """An exercise as it stands in a notebook."""

    imports: str  # the first cell of the notebook that imports from the library
    cell: str  # the learner's, with three dots
    solution: str


def exercises() -> dict[str, Exercise]:
    """The exercises of all notebooks, by the name of their check."""
    found = {}
    for path in sorted(Path(__file__).resolve().parent.parent.glob("notebooks/*.ipynb")):
        cells = [(c["cell_type"], "".join(c["source"])) for c in json.loads(path.read_text("utf-8"))["cells"]]
        imports = next(source for kind, source in cells if kind == "code" and "from course_lib import" in source)
        for (_, cell), (_, below) in pairwise(cells):
            name = re.search(r"^checks\.(\w+)\(\w+\)$", cell, re.MULTILINE)
            solution = re.search(r"<summary>Solution</summary>\n\n```python\n(.*?)```", below, re.DOTALL)
            if name and solution:
                found[name[1]] = Exercise(imports, cell, solution[1])
    return found


EXERCISES = exercises()


def test_every_check_belongs_to_an_exercise_with_a_solution() -> None:
    assert EXERCISES.keys() == TABLES.keys()


def run(exercise: Exercise, code: str) -> Verdict:
    """The verdict that the last line of the learner's cell gives, after `code`."""
    there: dict[str, Any] = {}
    if "index)" in code:  # what the notebook has made before
        there["index"] = training_index()
    if "tokenizer" in code:
        there["tokenizer"] = base_tokenizer()
    *_, check = exercise.cell.strip().split("\n")
    exec(f"{exercise.imports}\n{code}\nverdict = {check}", there)
    verdict: Verdict = there["verdict"]
    return verdict


@pytest.mark.parametrize("name", NAMES)
def test_the_solution_in_the_notebook_is_right(name: str) -> None:
    verdict = run(EXERCISES[name], EXERCISES[name].solution)
    assert verdict.state == "right", verdict


@pytest.mark.usefixtures("untrained")
@pytest.mark.parametrize("name", NAMES)
def test_the_cell_as_it_stands_in_the_notebook_is_not_attempted(name: str) -> None:
    assert run(EXERCISES[name], EXERCISES[name].cell).state == "not attempted"
