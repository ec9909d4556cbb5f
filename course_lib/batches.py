"""Ids to tensors: which tokens are learned, and how rows of unequal length share a batch.

`labels` stand at the same places as `input_ids`, with `IGNORE` where nothing is learned. The shift by one place (the
token at t is predicted at t - 1) happens once, in `course_lib.losses.next_tokens`.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol, Self

import numpy as np
import torch
from torch import Tensor

from course_lib.instructions import POEM, Instruction, answered_by
from course_lib.poems import Poem
from course_lib.roles import END, RESPONSE, Segment, example_segments, pretraining_text, prompt_segments, spelled_out
from course_lib.tokenizer import CharacterTokenizer

IGNORE = -100  # the label that PyTorch's cross entropy skips
Seed = int | None  # decides the order of each epoch; None: every epoch keeps the order of the data, for evaluation


class Batch(NamedTuple):
    """`B` rows of `T` tokens. Each tensor is (B, T)."""

    input_ids: Tensor  # int64
    labels: Tensor  # int64
    attention_mask: Tensor  # bool: False on padding
    position_ids: Tensor | None = None  # int64: they count from 0 in each example; None: each row is one text


class Example(NamedTuple):
    """One text to learn from: its ids, and as many labels."""

    input_ids: list[int]
    labels: list[int]


class Batches(Protocol):
    """A data set cut into batches of `batch_size` rows."""

    batch_size: int
    seed: Seed

    def __len__(self) -> int:
        """The number of batches in an epoch; all epochs have the same."""

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """The batches of one epoch, beginning with number `start`."""


def ceil_div(a: int, b: int) -> int:
    """a / b, rounded up."""
    return (a + b - 1) // b


def epoch_order(count: int, seed: Seed, epoch: int) -> Sequence[int]:
    """The numbers 0 to `count` - 1 in the order of this epoch; with `seed=None` they always ascend."""
    return range(count) if seed is None else np.random.default_rng((seed, epoch)).permutation(count).tolist()


def pad(rows: Sequence[Sequence[int] | np.ndarray], shape: tuple[int, int], value: int) -> Tensor:
    """Rows of unequal length as one tensor of `shape` (B, T); `value` fills the rest, and rows that are missing."""
    padded = torch.full(shape, value)
    for row, numbers in enumerate(rows):
        padded[row, : len(numbers)] = torch.as_tensor(numbers)
    return padded


class PlainTextBatches:
    """Poems joined end to end and cut into windows of `context` tokens, for pretraining.

    Each window begins with the last token of the one before it, so an epoch predicts each token exactly once.
    Each epoch joins the poems in a new order. Padding fills the last batch. Raises ValueError if there are no poems.
    """

    def __init__(
        self, poems: Sequence[Poem], tokenizer: CharacterTokenizer, *, context: int, batch_size: int, seed: Seed = 0
    ) -> None:
        if not poems:
            raise ValueError("there are no poems to make batches of")
        self.batch_size = batch_size
        self.seed = seed
        self.shape = (batch_size, context)
        self.pad_id = tokenizer.pad_id
        self.poems = [np.asarray(tokenizer.encode(pretraining_text(p)), dtype=np.uint16) for p in poems]
        self.windows = ceil_div(sum(map(len, self.poems)) - 1, context - 1)

    def __len__(self) -> int:
        return ceil_div(self.windows, self.batch_size)

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """The batches of one epoch, (batch_size, context) each; their labels are the ids."""
        text = np.concatenate([self.poems[i] for i in epoch_order(len(self.poems), self.seed, epoch)])
        context = self.shape[1]
        for first in range(start * self.batch_size, self.windows, self.batch_size):
            windows = range(first, min(first + self.batch_size, self.windows))
            rows = [text[w * (context - 1) :][:context].astype(np.int64) for w in windows]
            input_ids = pad(rows, self.shape, self.pad_id)
            yield Batch(input_ids, pad(rows, self.shape, IGNORE), input_ids != self.pad_id)


def make_example(tokenizer: CharacterTokenizer, segments: Sequence[Segment], context: int) -> Example:
    """The ids of the segments, with labels only on the responses and their end tokens.

    Ids beyond `context` are cut off, and the end token with them: a poem that was cut has not ended.
    Raises ValueError if nothing is left to learn: there is no response, or the prompt fills the context.
    """
    input_ids: list[int] = []
    labels: list[int] = []
    for token, text in segments:
        ids = tokenizer.encode_segments([(token, text)])
        unlearned = {RESPONSE: 1, END: 0}.get(token, len(ids))  # how many ids at the start have no label
        input_ids += ids
        labels += [IGNORE] * unlearned + ids[unlearned:]
    if all(label == IGNORE for label in labels[:context]):
        raise ValueError(f"nothing to learn within {context} tokens: {spelled_out(segments):.60}")
    return Example(input_ids[:context], labels[:context])


def pack(lengths: Sequence[int], width: int) -> list[list[int]]:
    """Which examples share a row of `width` tokens: each goes to the row with the least room that is enough.

    Long examples are placed first, which leaves little padding (best-fit decreasing, Johnson 1974).
    Raises ValueError if an example is longer than a row.
    """
    rows: list[list[int]] = []
    with_room: list[list[int]] = [[] for _ in range(width + 1)]  # room left -> rows
    for i in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        if lengths[i] > width:
            raise ValueError(f"example {i} has {lengths[i]} tokens, but a row has {width}")
        room = next((r for r in range(lengths[i], width + 1) if with_room[r]), None)
        if room is None:
            room = width
            with_room[room].append(len(rows))
            rows.append([])
        row = with_room[room].pop()
        rows[row].append(i)
        with_room[room - lengths[i]].append(row)
    return rows


class InstructionBatches:
    """Examples packed into rows of `context` tokens with little padding. Examples do not see each other.

    Raises ValueError if there are no examples, or if one is longer than the context.
    """

    def __init__(
        self, examples: Sequence[Example], *, pad_id: int, context: int, batch_size: int, seed: Seed = 0
    ) -> None:
        if not examples:
            raise ValueError("no examples to make batches of")
        self.batch_size = batch_size
        self.seed = seed
        self.shape = (batch_size, context)
        self.pad_id = pad_id
        self.examples = examples
        self.rows = pack([len(e.input_ids) for e in examples], context)

    @classmethod
    def from_poems(
        cls,
        poems: Sequence[Poem],
        tokenizer: CharacterTokenizer,
        *,
        instructions: Sequence[Instruction] = (POEM,),
        context: int,
        batch_size: int,
        seed: Seed = 0,
    ) -> Self:
        """The poems as answers to `instructions`, each to the last one that it fits.

        Leaves out poems whose prompt fills the context. Raises ValueError if none is left, or one fits no instruction.
        """
        prepared: dict[Poem, Example] = {}  # a poem that comes several times is prepared once
        for poem in dict.fromkeys(poems):
            instruction = answered_by(poem, instructions)
            prompt = tokenizer.encode_segments(prompt_segments(poem.title, instruction))
            if len(prompt) < context:
                prepared[poem] = make_example(tokenizer, example_segments(poem, instruction), context)
        examples = [prepared[poem] for poem in poems if poem in prepared]
        return cls(examples, pad_id=tokenizer.pad_id, context=context, batch_size=batch_size, seed=seed)

    def __len__(self) -> int:
        return ceil_div(len(self.rows), self.batch_size)

    @property
    def padding(self) -> float:
        """The share of padding among all tokens of an epoch."""
        return 1 - sum(len(e.input_ids) for e in self.examples) / (len(self.rows) * self.shape[1])

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """The batches of one epoch, (batch_size, context) each."""
        order = epoch_order(len(self.rows), self.seed, epoch)
        for first in range(start * self.batch_size, len(order), self.batch_size):
            rows = [[self.examples[i] for i in self.rows[row]] for row in order[first : first + self.batch_size]]
            input_ids = pad([[i for e in row for i in e.input_ids] for row in rows], self.shape, self.pad_id)
            labels = pad([[i for e in row for i in e.labels] for row in rows], self.shape, IGNORE)
            positions = pad([[i for e in row for i in range(len(e.input_ids))] for row in rows], self.shape, 0)
            yield Batch(input_ids, labels, input_ids != self.pad_id, positions)
